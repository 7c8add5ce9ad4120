"""PATTERN and CLUSTER, made anew: graphs of random communities whose nodes are to be told apart.

Dwivedi et al. 2020, "Benchmarking Graph Neural Networks", arXiv:2003.00982; the recipe is that of its notebooks, with
the probabilities of the published sets. Draws depend on the seed and the number of graphs alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .graph_store import GraphStore

SMALLEST, LARGEST = 5, 35  # sizes of communities, the second excluded
CELLS = 2**22  # pairs of nodes that are drawn at once
PATTERN_NODES = 20


def pattern(graphs: int, seed: int, patterns: int = 100) -> GraphStore:
    """PATTERN: which nodes are of the planted pattern? Targets (N,) of 0 and 1, one-hot features (N, 3).

    Five communities (0.5 within, 0.35 between) and 20 nodes that are joined to each other and to all others with 0.5.
    Graph g holds pattern g % `patterns`, whose inner edges and features are the same each time. The published sets are
    14,000 graphs of 100 patterns, cut after 10,000 and 12,000.
    """
    draw = np.random.default_rng(seed)
    inner = np.triu(draw.random((patterns, PATTERN_NODES, PATTERN_NODES)) < 0.5, 1)
    inner |= inner.transpose(0, 2, 1)
    worn = draw.integers(3, size=(patterns, PATTERN_NODES))
    chance = np.full((6, 6), 0.35)
    np.fill_diagonal(chance, 0.5)
    chance[5] = chance[:, 5] = 0.5  # to the pattern
    parts = []
    for first, sizes in _chunks(draw, graphs, 5):
        held = np.arange(first, first + len(sizes)) % patterns
        blocks, place = _shuffled(draw, np.column_stack((sizes, np.full(len(sizes), PATTERN_NODES))))
        joined = _joined(draw, blocks, chance)
        planted = blocks == 5
        graph, row, column = np.nonzero(planted[:, :, None] & planted[:, None, :])
        joined[graph, row, column] = inner[held[graph], place[graph, row], place[graph, column]]
        kinds = np.where(planted, worn[held[:, None], np.where(planted, place, 0)], draw.integers(3, size=blocks.shape))
        parts.append(_listed(joined, blocks, kinds, planted))
    return _store(parts, 3)


def cluster(graphs: int, seed: int) -> GraphStore:
    """CLUSTER: which community is a node of? Targets (N,) of 0 … 5, one-hot features (N, 7).

    Six communities (0.55 within, 0.25 between). One node of each shows its community r as feature r + 1; all others
    have feature 0. The published sets are 12,000 graphs, cut after 10,000 and 11,000.
    """
    draw = np.random.default_rng(seed)
    chance = np.full((6, 6), 0.25)
    np.fill_diagonal(chance, 0.55)
    parts = []
    for _, sizes in _chunks(draw, graphs, 6):
        blocks, place = _shuffled(draw, sizes)
        # Places within a community are random, so the first is a random node of it.
        kinds = np.where(place == 0, blocks + 1, 0)
        parts.append(_listed(_joined(draw, blocks, chance), blocks, kinds, blocks))
    return _store(parts, 7)


class Part(NamedTuple):
    """A few graphs: kinds and targets of their nodes, edges within each graph, and how many of both."""

    kinds: np.ndarray
    targets: np.ndarray
    edges: np.ndarray
    node_counts: np.ndarray
    edge_counts: np.ndarray


def _chunks(draw: np.random.Generator, graphs: int, communities: int) -> Iterator[tuple[int, np.ndarray]]:
    """Sizes of communities (g, communities) of a few graphs at a time, and the number of the first."""
    sizes = draw.integers(SMALLEST, LARGEST, size=(graphs, communities))
    step = max(1, CELLS // (LARGEST * (communities + 1)) ** 2)
    for first in range(0, graphs, step):
        yield first, sizes[first : first + step]


def _shuffled(draw: np.random.Generator, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The community of each node (g, n), in random order, -1 behind the last node; and its place in the community."""
    ends = sizes.cumsum(axis=1)
    number = np.broadcast_to(np.arange(ends.max()), (len(sizes), ends.max()))
    blocks = (number[:, :, None] >= ends[:, None, :]).sum(axis=2)
    inside = blocks < sizes.shape[1]
    block = np.where(inside, blocks, 0)
    place = number - np.take_along_axis(ends - sizes, block, axis=1)
    order = np.where(inside, draw.random(number.shape), 2.0).argsort(axis=1)
    blocks, place = np.where(inside, blocks, -1), np.where(inside, place, -1)
    return np.take_along_axis(blocks, order, axis=1), np.take_along_axis(place, order, axis=1)


def _joined(draw: np.random.Generator, blocks: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Which nodes are joined, (g, n, n), symmetric and without self-loops, with the chance of their communities."""
    inside = blocks >= 0
    drawn = draw.random((*blocks.shape, blocks.shape[1]), dtype=np.float32)
    joined = drawn < chance.astype(np.float32)[blocks[:, :, None], blocks[:, None, :]]
    joined = np.triu(joined & inside[:, :, None] & inside[:, None, :], 1)
    return joined | joined.transpose(0, 2, 1)


def _listed(joined: np.ndarray, blocks: np.ndarray, kinds: np.ndarray, targets: np.ndarray) -> Part:
    """Padded graphs, (g, n, n) and (g, n), without the padding."""
    inside = blocks >= 0
    _, source, target = np.nonzero(joined)
    edges = np.stack((source, target)).astype(np.int32)
    return Part(kinds[inside], targets[inside], edges, inside.sum(axis=1), joined.sum(axis=(1, 2)))


def _store(parts: list[Part], kinds: int) -> GraphStore:
    """The graphs of all parts; features are one-hot of `kinds`."""
    codes, targets, edges, node_counts, edge_counts = (np.concatenate(one, axis=-1) for one in zip(*parts, strict=True))
    return GraphStore.of(np.eye(kinds, dtype=np.float32)[codes], edges, node_counts, edge_counts, None, targets)
