"""Positions of nodes in their graphs: return probabilities of random walks, and eigenvectors of the Laplacian.

Computed once for all graphs of a store. Graphs of one size are stacked, so no graph is padded, and what a graph gets
does not depend on the others; memory is bounded by `CELLS`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .graph_batch import GraphError
from .graph_store import GraphStore, rows_of

CELLS = 2**20  # of the square matrices that are worked on at once


def with_walks(store: GraphStore, steps: Sequence[int]) -> GraphStore:
    """The store with `walks` (N, K): the chance to be back at the node after each of the K `steps` (RWSE).

    `((D⁻¹A)^k)[i, i]`, D the number of edges that leave a node, repeated ones counted; a node that none leaves has 0.
    Dwivedi et al. 2022, arXiv:2110.07875, section 3.1. Raises `GraphError` for steps that are not above 0.
    """
    if not len(steps) or min(steps) < 1:
        raise GraphError(f"Steps {list(steps)} are no numbers of steps.", "Give numbers from 1, as range(1, 17).")
    walks = torch.zeros(len(store.nodes), len(steps))
    for rows, row, column, size in _stacks(store):
        graphs = len(rows) // size
        leaving = torch.bincount(row, minlength=graphs * size)
        walk = torch.sparse_coo_tensor(
            torch.stack((row, row // size * size + column)),
            1 / leaving[row].double(),
            (graphs * size, graphs * size),
            check_invariants=False,
        ).coalesce()
        walks[rows] = _returns(walk, graphs, size, max(steps))[:, torch.tensor(steps) - 1].float()
    return store.with_statistics(walks=walks)


def _returns(walk: Tensor, graphs: int, size: int, longest: int) -> Tensor:
    """The diagonals of the powers 1 … `longest` of a block-diagonal matrix, (G·n, longest)."""
    power = torch.eye(size, dtype=torch.float64).repeat(graphs, 1)  # (G·n, n)
    found: list[Tensor] = []
    while len(found) < longest:
        # Going k steps and then k or k + 1 steps: half the powers do.
        there = power.view(graphs, size, size)
        power = walk @ power
        back = power.view(graphs, size, size).transpose(1, 2)
        found.append((there * back).sum(dim=2))
        found.append((power.view(graphs, size, size) * back).sum(dim=2))
    return torch.stack(found[:longest], dim=2).flatten(0, 1)


def with_eigenvectors(store: GraphStore, count: int) -> GraphStore:
    """The store with `eigenvectors` and `eigenvalues` (N, M) of the M = `count` smallest eigenvalues (LapPE).

    Of the Laplacian D - A of the undirected graph without self-loops, each edge once; zero eigenvalues included,
    vectors of length 1 over their graph, NaN where a graph has fewer nodes. A vector's sign is arbitrary, as is the
    choice of vectors where an eigenvalue repeats. Dwivedi et al. 2020, arXiv:2003.00982, appendix. Raises
    `GraphError` for a count that is not above 0.
    """
    if count < 1:
        raise GraphError(f"{count} is no number of eigenvectors.", "Give a number from 1.")
    vectors = torch.full((len(store.nodes), count), torch.nan)
    values = vectors.clone()
    for rows, row, column, size in _stacks(store):
        graphs = len(rows) // size
        joined = torch.zeros(graphs * size, size, dtype=torch.float64)
        joined[row, column] = 1
        joined[row // size * size + column, row % size] = 1
        blocks = joined.view(graphs, size, size)
        blocks.diagonal(dim1=1, dim2=2).zero_()
        found = torch.linalg.eigh(torch.diag_embed(blocks.sum(dim=2)) - blocks)
        kept = min(count, size)
        vectors[rows, :kept] = found.eigenvectors[:, :, :kept].flatten(0, 1).float()
        smallest = found.eigenvalues[:, :kept].clamp(min=0).float()
        values[rows, :kept] = torch.repeat_interleave(smallest, size, dim=0)
    return store.with_statistics(eigenvectors=vectors, eigenvalues=values)


def _stacks(store: GraphStore) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Graphs of one size after another: the rows of their nodes in the store, their edges and the size.

    Edges are given by the place of the source among these rows, and the number of the target in its graph.
    """
    order = torch.argsort(store.sizes, stable=True)
    distinct, counts = torch.unique_consecutive(store.sizes[order], return_counts=True)
    for size, same in zip(distinct.tolist(), order.split(counts.tolist()), strict=True):
        for graphs in same.split(max(1, CELLS // size**2)):
            pairs, links = rows_of(store.edge_offsets, graphs)
            first = torch.repeat_interleave(torch.arange(len(graphs)) * size, links.diff())
            source, target = store.edges[:, pairs].long()
            yield rows_of(store.node_offsets, graphs)[0], first + source, target, size
