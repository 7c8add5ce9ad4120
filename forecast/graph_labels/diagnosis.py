"""doctor on graphs: what graphs are in a table, what is to be told of them, and which fit to run next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import table
from ..data.graph_table import GraphTable
from ..diagnosis_text import fit_command
from ..errors import UsageError
from . import diagnosis_page, diagnosis_text
from .features import edge_kind, node_kind

_NAMED = 20  # targets whose facts are in the document


@dataclass(frozen=True)
class GraphDiagnosis:
    """What `forecast doctor` found in a table of graphs: `document` is what its `--json` prints."""

    document: Mapping[str, Any]
    graphs: GraphTable

    @property
    def html(self) -> str:
        """The page: no scripts, no requests."""
        return diagnosis_page.render(self)

    def text(self, width: int = 80) -> str:
        """Give the page as lines of text of at most `width` characters, the command to run aside."""
        return diagnosis_text.text(self, width)

    def fix(self, path: str | Path) -> int:
        """Graphs have no clean copy: raises UsageError."""
        raise UsageError("There is no clean copy of a table of graphs.", f"Leave out --fix {path}.")

    def save(self, path: str | Path) -> None:
        """Write the HTML page; the path holds the old file or the whole new one."""
        with table.replacing(Path(path)) as file:
            file.write(self.html.encode())

    @property
    def sizes(self) -> dict[str, np.ndarray]:
        """Nodes and edges of each graph, (G,) each."""
        store = self.graphs.store
        return {"nodes": store.node_offsets.diff().numpy(), "edges": store.edge_offsets.diff().numpy()}


def diagnose(source: Any, found: GraphTable, settings: Sequence[str], options: Mapping[str, Any]) -> GraphDiagnosis:
    """Describe graphs that were read; `source`, `settings` and `options` are as given, for the command to run next."""
    store, task = found.store, found.task
    assert task is not None
    ends = store.edges
    connected = torch.zeros(len(store.nodes), dtype=torch.bool)
    first = torch.repeat_interleave(store.node_offsets[:-1], store.edge_offsets.diff())
    connected[(ends + first).flatten()] = True
    document = {
        "kind": "graphs",
        "rows": len(store),
        "graphs": len(store),
        "nodes": len(store.nodes),
        "edges": int(ends.shape[1]),
        "isolated_nodes": int((~connected).sum()),
        "self_loops": int((ends[0] == ends[1]).sum()),
        "node_features": {"columns": store.nodes.shape[1], "read_as": node_kind(store.nodes)},
        "edge_features": {"columns": store.edge_features.shape[1], "read_as": edge_kind(store.edge_features)},
        "task": task.name,
        "metric": task.metric,
        "targets": _targets(found)[:_NAMED],
        "missing_targets": round(float(store.targets.isnan().double().mean()), 4),
        "split": found.split_col,
        "parts": {part: len(rows) for part, rows in found.parts.items()},
        **found.ledger.to_dict(),
        "suggest": {"model": "darts-gt", "command": fit_command(source, "darts-gt", settings, options, "graphs")},
    }
    return GraphDiagnosis(document, found)


def _targets(found: GraphTable) -> list[dict[str, Any]]:
    """Of each target: how many are known, and the share of ones, the counts of classes, or the range."""
    task = found.task
    assert task is not None
    told = []
    columns = found.store.targets[None] if task.of_nodes else found.store.targets.T
    for name, column in zip(found.targets, columns, strict=True):
        known = column[~column.isnan()]
        facts: dict[str, Any] = {"name": name, "known": len(known)}
        if task.name == "graph_regression":
            facts["range"] = [float(known.min()), float(known.max())] if len(known) else None
        elif task.name in ("graph_binary", "graph_multilabel"):
            facts["ones"] = round(float(known.mean()), 4) if len(known) else None
        else:
            facts["classes"] = torch.bincount(known.long()).tolist()
        told.append(facts)
    return told
