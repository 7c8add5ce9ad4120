"""The graph that the variates of a table are on: from a file of edges, or from what the training part tells."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import DataConfig, RunConfig
from .data.covariates import Feature
from .data.edges import read_edges
from .data.frame import SeriesFrame
from .data.table import Ledger
from .errors import DataError, UsageError

if TYPE_CHECKING:
    from graphs.sensor_graph import SensorGraph

_PLACES = (("latitude", "longitude"), ("lat", "lon"), ("lat", "lng"), ("lat", "long"))  # columns, in degrees


def sensor_graph(
    data: DataConfig, frame: SeriesFrame, features: Sequence[Feature], train_end: int, ledger: Ledger, origin: str
) -> tuple["SensorGraph", Mapping[str, Any]]:
    """Give the graph of the variates of `frame`, and what is told of it; repairs of the edges go into `ledger`.

    `data.edges` is a table of them. Without one each variate has edges from its nearest, as `data.graph` says: by
    correlation over the rows before `train_end`, or by the places among the static `features`. Raises DataError for
    series that share no time axis, for edges that do not fit and places that are none, UsageError for settings that do
    not go together.
    """
    if len(frame.keys) > 1 or frame.values.shape[1] < 2:
        shown = f"{len(frame.keys):,} series" if len(frame.keys) > 1 else "one variate"
        why = "that do not share one time axis" if len(frame.keys) > 1 else "alone"
        raise DataError(
            f"{origin}: {shown} {why}: no graph of sensors.",
            "Give series of the same times, two or more, or use another model.",
        )
    names = [str(name) for name in frame.names]
    if data.edges is None:
        return _nearest(data, frame, features, train_end)
    if data.graph != "correlation":
        raise UsageError(
            f"The graph is given by {data.edges} and by data.graph={data.graph}.", "Leave one of the two out."
        )
    graph, table = read_edges(data.edges, names)
    for repair in table.ledger.repairs:
        ledger.repair(repair.kind, repair.count, f"{Path(table.origin).name}, {repair.first}", repair.detail)
    return graph, _told(table.origin, graph, _digest(graph))


def _nearest(
    data: DataConfig, frame: SeriesFrame, features: Sequence[Feature], train_end: int
) -> tuple["SensorGraph", Mapping[str, Any]]:
    """Give the graph of nearest variates, and what is told of it."""
    from graphs.sensor_graph import SensorGraph, great_circle, nearest_by_correlation, nearest_by_distance

    if data.neighbours < 1:
        raise UsageError(f"data.neighbours is {data.neighbours}; it must be at least 1.", "Set data.neighbours=8.")
    sensors = frame.values.shape[1]
    if data.graph == "none":
        nothing = SensorGraph.of(sensors, np.zeros((2, 0), np.int64), np.zeros(0, np.float32))
        return nothing, _told("none", nothing, None)
    if data.graph == "distance":
        places = _places(data, frame, features)
        found = SensorGraph.of(sensors, *nearest_by_distance(great_circle(*places), data.neighbours))
        return found, _told("distance", found, _digest(found))
    found = SensorGraph.of(sensors, *nearest_by_correlation(frame.values[:train_end], data.neighbours))
    return found, _told("correlation", found, None)


def _places(data: DataConfig, frame: SeriesFrame, features: Sequence[Feature]) -> tuple[np.ndarray, np.ndarray]:
    """Give latitude and longitude of each variate, (V,) in degrees.

    Raises UsageError where nothing tells them, and DataError for what is no place on earth.
    """
    at = {feature.column.strip().lower(): number for number, feature in enumerate(features) if not feature.category}
    pair = next((pair for pair in _PLACES if at.keys() >= set(pair)), None)
    if pair is None:
        what = "--static is not given" if data.static is None else f"{data.static} has no such columns"
        raise UsageError(
            f"data.graph=distance needs the latitude and longitude of each variate: {what}.",
            "Give --static FILE with a row for each variate: its name, latitude, longitude.",
        )
    # The frame holds features standardised.
    places = [frame.static[0, :, at[name]] * features[at[name]].std + features[at[name]].mean for name in pair]
    for name, values, most in zip(pair, places, (90.0, 180.0), strict=True):
        beyond = np.abs(values) > most + 1e-3
        if beyond.any():
            variate = int(beyond.argmax())
            raise DataError(
                f'{data.static}: {name} of "{frame.names[variate]}" is {values[variate]:g}; degrees go to {most:g}.',
                "Give degrees, or set data.graph=correlation.",
            )
    return places[0], places[1]


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
