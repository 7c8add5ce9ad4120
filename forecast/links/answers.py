"""Answers to queries about links: each from the events strictly before its time, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graphs.events import EventStore, LinkBatch
from graphs.todyformer import Encoding, History, Todyformer, TodyformerEncoder, View

from .directory import Directory

_PAIRS_AT_ONCE = 1024  # pairs scored together; the decoder makes a (width, width) matrix of each
_SCORES_AT_ONCE = 2**20  # scores of rankings that are kept until the first of each query are taken


@dataclass(frozen=True, eq=False)
class Past:
    """The events that queries look back on, without features; those of the last events; and the nodes of all."""

    store: EventStore
    features: Tensor  # (w, F), of the last w events
    directory: Directory

    def view(self, history: History, time: Tensor) -> View:
        """What is seen of the events strictly before `time`, with their features."""
        view = history.until(time)
        first = len(self.features) - len(self.store)  # row 0 of the store in `features`
        rows = slice(first + view.graph.start, first + view.graph.cut)
        return view._replace(graph=view.graph._replace(event_features=self.features[rows]))


class Ranker:
    """A network as a rule on batches of a stream: in eval mode, on the events strictly before the batch's moment."""

    def __init__(self, network: Todyformer, history: History) -> None:
        self.network, self.history = network.eval(), history

    @torch.inference_mode()
    def __call__(self, batch: LinkBatch) -> Tensor:
        """The scores of the batch's candidates, (B, 1 + N)."""
        # The first event behind a cut is the earliest of its batch, also for a piece that begins later.
        view = self.history.until(self.history.store.time[batch.cut])
        scores: Tensor = self.network(view, batch)
        return scores


class Ranked(NamedTuple):
    """The best destinations of some queries: R rows."""

    query: np.ndarray  # (R,) int64
    rank: np.ndarray  # (R,) int64, from 1
    place: np.ndarray  # (R,) int64 in `Group.ids`
    score: np.ndarray  # (R,) float32


class Group:
    """Queries that look back on the same events, whose window is encoded once."""

    def __init__(self, view: View, encoding: Encoding, directory: Directory, cut: int) -> None:
        self.view, self.encoding = view, encoding
        # Whom only an event showed that these queries may not see is a stranger to them.
        self.known = directory.stranger + 1 + int(np.searchsorted(directory.shown, cut))
        self.stranger = directory.stranger
        candidates = directory.destinations.filter(pl.col("node") < self.known)
        self.ids = candidates["id"]
        self.candidates = torch.from_numpy(candidates["node"].to_numpy().copy())

    def pairs(self, network: Todyformer, src: np.ndarray, dst: np.ndarray, time: Tensor) -> np.ndarray:
        """The scores of pairs of nodes: (R,) float32."""
        u, v = self.nodes(src), self.nodes(dst)
        parts = [
            network.score(self.view, self.encoding, u[rows], v[rows, None], time[rows])[:, 0]
            for rows in _slices(len(u), _PAIRS_AT_ONCE)
        ]
        return torch.cat(parts).numpy()

    def best(self, network: Todyformer, src: np.ndarray, time: Tensor, count: int) -> Ranked:
        """The `count` best destinations of each query, of equal scores the one with the smaller place first."""
        u, count = self.nodes(src), min(count, len(self.candidates))
        parts = []
        for rows in _slices(len(u), max(1, _SCORES_AT_ONCE // len(self.candidates))):
            scores = network.score(self.view, self.encoding, u[rows], self.candidates[None], time[rows])
            least = scores.topk(count, dim=1).values[:, -1:]
            found = scores >= least  # more than `count` where scores are equal
            row, column = (axis.numpy() for axis in found.nonzero(as_tuple=True))
            score = scores[found].numpy()
            order = np.lexsort((column, -score, row))
            row, column, score = row[order], column[order], score[order]
            rank = np.arange(1, len(row) + 1) - np.searchsorted(row, row)
            kept = rank <= count
            parts.append(Ranked(row[kept] + rows.start, rank[kept], column[kept], score[kept]))
        return Ranked(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def nodes(self, nodes: np.ndarray) -> Tensor:
        """Nodes of the directory as these queries know them."""
        return torch.from_numpy(np.where(nodes < self.known, nodes, self.stranger))


def groups(encoder: TodyformerEncoder, past: Past, times: Tensor) -> Iterator[tuple[np.ndarray, Group]]:
    """The queries at `times` (R,) by what they may see: their rows (r,) int64 and the group that answers them.

    All queries behind the last event are one group.
    """
    history = History(past.store, encoder.config)
    cuts, number = torch.unique(past.store.before(times), return_inverse=True)
    order = torch.argsort(number, stable=True)
    for cut, rows in zip(cuts.tolist(), order.split(torch.bincount(number).tolist()), strict=True):
        view = past.view(history, times[rows].min())
        yield rows.numpy(), Group(view, encoder(view.graph), past.directory, cut)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, length)) for first in range(0, length, size))
