"""A stored model beside a new candidate: the candidate's events under the model's ids, and queries to try it on."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..data.ticks import give_ticks
from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from graphs.events import EventStore

    from ..data.events import EventTable
    from .stream import Stream

_YEAR = 400 * 86_400_000_000  # more than a year, in microseconds
_TRIED = 20  # queries of the self-test


def as_known(champion: "Stream", directed: bool, events: "EventTable") -> tuple["EventStore", "Tensor"]:
    """The events as the `champion` numbers their nodes, and its number for each of theirs, (N,).

    Nodes that it does not know are new ones to it. Raises UsageError where the events are of another form than its own.
    """
    import torch

    from graphs.events import EventStore

    from .directory import Directory

    if champion.nodes.bipartite != events.nodes.bipartite or directed != events.directed:
        raise UsageError("reads another kind of graph", "Register under another name, or use --force.")
    if tuple(champion.ends.features) != events.columns.features:
        raise UsageError("takes other features", "Register under another name, or use --force.")
    if champion.time_type.steps != events.time_type.steps:
        raise UsageError("tells time in another way", "Register under another name, or use --force.")
    known, nodes, store = Directory.of(champion.nodes), events.nodes, events.store
    number = known.source_nodes(nodes.sources)
    if nodes.destinations is not None:
        number = np.concatenate([number, known.destination_nodes(nodes.destinations)])
    new = number == known.stranger
    number[new] = len(known) + np.arange(new.sum())
    to_champion = torch.from_numpy(number)
    renamed = EventStore.of(
        to_champion[store.src],
        to_champion[store.dst],
        store.time,
        store.features,
        nodes=len(known) + int(new.sum()),
    )
    return renamed, to_champion


def made_up(stream: "Stream") -> pl.DataFrame:
    """Queries between known nodes, soon after the last event: source, destination, time."""
    generator = np.random.default_rng(0)
    nodes, time = stream.nodes, stream.past.time[-1].item()
    others = nodes.sources if nodes.destinations is None else nodes.destinations
    step = np.arange(1, _TRIED + 1)
    times: np.ndarray
    if isinstance(time, float):
        times = time * (1 + step / 1000) + step  # also where the column is float32
    else:
        times = time + step * (1 if stream.time_type.steps else _YEAR)  # also where the column has years only
    return pl.DataFrame(
        {
            stream.ends.src: nodes.sources.gather(generator.integers(len(nodes.sources), size=_TRIED)),
            stream.ends.dst: others.gather(generator.integers(len(others), size=_TRIED)),
            stream.ends.time: give_ticks(times, stream.time_type),
        }
    )
