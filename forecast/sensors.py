"""The graph that the variates of a table are on: from a file of edges, or from what the training part tells."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import RunConfig
from .data.edges import read_edges
from .data.frame import SeriesFrame
from .data.table import Ledger
from .errors import DataError, UsageError

if TYPE_CHECKING:
    from graphs.sensor_graph import SensorGraph

NEIGHBOURS = 8  # of each sensor, where no edges are given


def sensor_graph(
    edges: Any, frame: SeriesFrame, train_end: int, ledger: Ledger, origin: str
) -> tuple["SensorGraph", Mapping[str, Any]]:
    """Give the graph of the variates of `frame`, and what is told of it; repairs of the edges go into `ledger`.

    `edges` is a table of them. Where it is None, each variate has edges from the 8 that it correlates with most over
    the rows before `train_end`. Raises DataError for series that share no time axis, and for edges that do not fit.
    """
    if len(frame.keys) > 1 or frame.values.shape[1] < 2:
        shown = f"{len(frame.keys):,} series" if len(frame.keys) > 1 else "one variate"
        why = "that do not share one time axis" if len(frame.keys) > 1 else "alone"
        raise DataError(
            f"{origin}: {shown} {why}: no graph of sensors.",
            "Give series of the same times, two or more, or use another model.",
        )
    names = [str(name) for name in frame.names]
    if edges is None:
        from graphs.sensor_graph import SensorGraph, nearest_by_correlation

        graph = SensorGraph.of(len(names), *nearest_by_correlation(frame.values[:train_end], NEIGHBOURS))
        return graph, _told("correlation", graph, None)
    graph, table = read_edges(edges, names)
    for repair in table.ledger.repairs:
        ledger.repair(repair.kind, repair.count, f"{Path(table.origin).name}, {repair.first}", repair.detail)
    return graph, _told(table.origin, graph, _digest(graph))


def _told(source: str, graph: "SensorGraph", digest: str | None) -> dict[str, Any]:
    """Give where the graph is from, the edges with those that run back, and a hash of what was read."""
    return {
        "source": source,
        "sensors": graph.sensors,
        "edges": int(graph.edges.shape[1]),
        "weights": graph.edge_features.shape[1] > 0,
        "sha256": digest,
    }


def _digest(graph: "SensorGraph") -> str:
    parts = (np.ascontiguousarray(part.numpy()).tobytes() for part in (graph.edges, graph.edge_features))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def with_named_operators(config: RunConfig) -> RunConfig:
    """Put the operators in place of a file that holds them, or of "random"; a search is left to be done.

    Raises UsageError for a file that cannot be read, or is not what a search wrote.
    """
    import torch

    from graphs.architecture import random_operators

    from .models.darts_gt_search import RANDOM, SEARCH

    model = config.model
    if model.operators is not None or model.architecture == SEARCH:
        return config
    if model.architecture == RANDOM:
        draw = torch.Generator().manual_seed(config.train.seed)
        operators = random_operators(model.candidates, model.layers, draw)
    else:
        operators = _operators_of(Path(model.architecture))
        layers = config.settings.get("layers", len(operators))
        if layers != len(operators):
            raise UsageError(
                f"model.architecture: {model.architecture} holds {len(operators)} operators; model.layers is {layers}.",
                f"Set model.layers={len(operators)}, or leave it out.",
            )
    settings = {**config.settings, "architecture": list(operators), "layers": len(operators)}
    return dataclasses.replace(config, settings=settings)


def _operators_of(path: Path) -> tuple[str, ...]:
    from graphs.architecture import Architecture
    from graphs.graph_batch import GraphError

    try:
        return Architecture.from_json(path.read_text(encoding="utf-8")).operators
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"model.architecture: {path} cannot be read: {error}.", "Give the architecture.json of a run."
        ) from None
    except GraphError as error:
        raise UsageError(f"model.architecture: {path}: {error.message}", error.hint) from None
