"""Graphs, usable without `forecast`: streams of events over time, many small graphs, sensors in one fixed graph."""

from .events import EventError, EventStore, LinkBatch
from .graph_batch import GraphBatch, GraphError
from .graph_store import GraphStore
from .history import PairHistory
from .neighbors import NeighborIndex
from .sensor_graph import SensorGraph

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
