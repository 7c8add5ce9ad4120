"""Temporal graphs, usable without `forecast`: event stores, what came before a time, baselines, networks."""

from .events import EventError, EventStore, LinkBatch
from .history import PairHistory
from .neighbors import NeighborIndex

__all__ = ["EventError", "EventStore", "LinkBatch", "NeighborIndex", "PairHistory"]
