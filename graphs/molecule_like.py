"""Graphs that look like molecules, made from a seed, with a value that follows from their structure.

A stand-in for molecular regression sets that cannot be had: trees with a few rings, atoms and bonds of skewed kinds.
"""

import numpy as np

from .graph_store import GraphStore

SMALLEST, LARGEST = 10, 30  # nodes of a graph, both included
DEGREE = 4  # most bonds of an atom
RINGS = 3  # most rings of a graph
ATOMS = 0.7 ** np.arange(28)  # shares of the kinds, before they are made to add up
BONDS = np.array([0.75, 0.2, 0.05])  # single, double, triple
PAIR = (1, 2)  # kinds of atoms that count where a double bond joins them


def molecule_like(graphs: int, seed: int, train: int | None = None) -> GraphStore:
    """Graphs with codes of atoms (N, 1) below 28 and of bonds (E, 1) below 3, both directions, targets (G, 1).

    The target is half the number of rings of 5 or 6 that were closed, and the number of double bonds between atoms of
    the two kinds of `PAIR`, and noise of deviation 0.1; standardised by the first `train` graphs (default: all).
    """
    draw = np.random.default_rng(seed)
    sizes = draw.integers(SMALLEST, LARGEST + 1, size=graphs)
    joined = _trees(draw, sizes)
    rings = _close_rings(draw, joined)
    atoms = draw.choice(len(ATOMS), size=(graphs, LARGEST), p=ATOMS / ATOMS.sum())
    graph, one, other = np.nonzero(np.triu(joined))
    bonds = draw.choice(len(BONDS), size=len(graph), p=BONDS)
    ends = np.sort(np.stack((atoms[graph, one], atoms[graph, other])), axis=0)
    counted = (ends[0] == PAIR[0]) & (ends[1] == PAIR[1]) & (bonds == 1)
    target = 0.5 * rings + np.bincount(graph[counted], minlength=graphs) + 0.1 * draw.normal(size=graphs)
    known = target[:train]
    both = np.stack((np.stack((one, other), axis=1).ravel(), np.stack((other, one), axis=1).ravel()))
    return GraphStore.of(
        atoms[np.arange(LARGEST) < sizes[:, None]][:, None],
        both,
        sizes,
        2 * np.bincount(graph, minlength=graphs),
        bonds.repeat(2)[:, None],
        ((target - known.mean()) / known.std())[:, None],
    )


def _trees(draw: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
    """Which nodes are joined, (G, n, n): each but the first to a random earlier one that has room."""
    graphs = np.arange(len(sizes))
    joined = np.zeros((len(sizes), LARGEST, LARGEST), dtype=bool)
    degree = np.zeros((len(sizes), LARGEST), dtype=np.int64)
    for node in range(1, LARGEST):
        room = degree[:, :node] < DEGREE
        parent = np.where(room, draw.random(room.shape), -1).argmax(axis=1)
        here = graphs[node < sizes]
        joined[here, node, parent[here]] = joined[here, parent[here], node] = True
        degree[here, node] += 1
        degree[here, parent[here]] += 1
    return joined


def _close_rings(draw: np.random.Generator, joined: np.ndarray) -> np.ndarray:
    """Join, in place, up to `RINGS` random pairs a graph that are 4 or 5 bonds apart; how many were, (G,)."""
    wanted = draw.integers(RINGS + 1, size=len(joined))
    closed = np.zeros(len(joined), dtype=np.int64)
    for turn in range(RINGS):
        free = joined.sum(axis=2) < DEGREE
        apart = _within(joined, 5) & ~_within(joined, 3) & free[:, :, None] & free[:, None, :]
        apart &= (turn < wanted)[:, None, None]
        chosen = np.where(apart, draw.random(apart.shape), -1).reshape(len(joined), -1).argmax(axis=1)
        here = np.flatnonzero(apart.any(axis=(1, 2)))
        one, other = np.divmod(chosen[here], LARGEST)
        joined[here, one, other] = joined[here, other, one] = True
        closed[here] += 1
    return closed


def _within(joined: np.ndarray, steps: int) -> np.ndarray:
    """Which nodes are at most so many bonds apart, (G, n, n); a node is so of itself."""
    step = (joined | np.eye(LARGEST, dtype=bool)).astype(np.float32)
    reached = step
    for _ in range(steps - 1):
        reached = np.minimum(reached @ step, 1)
    return reached > 0
