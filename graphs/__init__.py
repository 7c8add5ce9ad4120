"""Graphs, usable without `forecast`: streams of events over time, many small graphs, sensors in one fixed graph.

Each name is resolved on first use, so that who needs one kind of graph does not load the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .events import EventError, EventStore, LinkBatch
    from .graph_batch import GraphBatch, GraphError
    from .graph_store import GraphStore
    from .history import PairHistory
    from .neighbors import NeighborIndex
    from .sensor_graph import SensorGraph

_HOME = {
    **dict.fromkeys(("EventError", "EventStore", "LinkBatch"), "events"),
    **dict.fromkeys(("GraphBatch", "GraphError"), "graph_batch"),
    "GraphStore": "graph_store",
    "PairHistory": "history",
    "NeighborIndex": "neighbors",
    "SensorGraph": "sensor_graph",
}
__all__ = [
    "EventError",
    "EventStore",
    "GraphBatch",
    "GraphError",
    "GraphStore",
    "LinkBatch",
    "NeighborIndex",
    "PairHistory",
    "SensorGraph",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
