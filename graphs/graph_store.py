"""The graph store: many graphs as a few columns, batched without touching a graph at a time.

Edges are directed and numbered within their graph; an undirected edge is stored both ways. Repeated edges, self-loops
and graphs without edges are kept as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .graph_batch import GraphBatch, GraphError

if TYPE_CHECKING:
    from torch_geometric.data import Data


class GraphFaultError(GraphError):
    """A graph of many that cannot be used: `graph` is its number, `fault` what is wrong with it."""

    def __init__(self, graph: int, fault: str, hint: str) -> None:
        super().__init__(f"Graph {graph}: {fault}", hint)
        self.graph = graph
        self.fault = fault


@dataclass(frozen=True, eq=False)
class GraphStore:
    """G graphs of N nodes and E directed edges in all, one after the other.

    Made by `GraphStore.of`, which checks; the plain constructor trusts its columns. Targets of graphs are (G, T),
    targets of nodes (N,). A slice is a view of the same memory. Whole numbers stay in the type they came in and are
    widened batch by batch.
    """

    nodes: Tensor  # (N, C) float32, or codes of any whole type
    edges: Tensor  # (2, E) int32: source, target, counted within the graph
    edge_features: Tensor  # (E, F) float32, or codes of any whole type; F may be 0
    node_offsets: Tensor  # (G + 1,) int64: the first node of each graph, then N
    edge_offsets: Tensor  # (G + 1,) int64: the first edge of each graph, then E
    targets: Tensor  # (G, T) or (N,) float32, NaN where there is none; T may be 0
    walks: Tensor  # (N, K) float32: `positions.with_walks`; K is 0 before
    eigenvectors: Tensor  # (N, M) float32: `positions.with_eigenvectors`; M is 0 before
    eigenvalues: Tensor  # (N, M) float32

    @classmethod
    def of(
        cls,
        nodes: Any,
        edges: Any,
        node_counts: Any,
        edge_counts: Any,
        edge_features: Any = None,
        targets: Any = None,
    ) -> "GraphStore":
        """A checked store of the given columns, tensors or arrays, graph after graph.

        `nodes` (N, C) or (N,), `edges` (2, E) counted within their graph, `node_counts` and `edge_counts` (G,),
        `edge_features` (E, F) or (E,), `targets` (G, T), or (N,) for labels of nodes. Raises `GraphError` for columns
        that do not fit the counts, and `GraphFaultError` for a graph without nodes, an edge to a node that its graph
        does not have, features that are not finite and targets that are infinite.
        """
        node_offsets, edge_offsets = _offsets(node_counts, "node"), _offsets(edge_counts, "edge")
        count = len(node_offsets) - 1
        if len(edge_offsets) - 1 != count:
            raise GraphError(
                f"There are counts of nodes for {count} graphs and of edges for {len(edge_offsets) - 1}.",
                "Give one of each for every graph, 0 edges where there are none.",
            )
        _refuse(node_offsets.diff() == 0, "it has no nodes.", "Leave the graph out.")
        total, links = int(node_offsets[-1]), int(edge_offsets[-1])
        own = {"nodes": _features(nodes, total, "nodes"), "edge_features": _features(edge_features, links, "edges")}
        for name, offsets in (("nodes", node_offsets), ("edge_features", edge_offsets)):
            told = "node" if name == "nodes" else "edge"
            bad = ~torch.isfinite(own[name]).all(dim=1)
            _refuse(bad, f"a feature of {told} {{}} is not finite.", "Fill it in, or leave the graph out.", offsets)
        return cls(
            **own,
            edges=_edges(edges, node_offsets, edge_offsets),
            node_offsets=node_offsets,
            edge_offsets=edge_offsets,
            targets=_targets(targets, node_offsets),
            walks=torch.zeros(total, 0),
            eigenvectors=torch.zeros(total, 0),
            eigenvalues=torch.zeros(total, 0),
        )

    def __len__(self) -> int:
        return len(self.node_offsets) - 1

    @property
    def of_nodes(self) -> bool:
        """Whether each node has a target of its own."""
        return self.targets.dim() == 1

    @property
    def sizes(self) -> Tensor:
        """The number of nodes of each graph, (G,) int64."""
        return self.node_offsets.diff()

    def __getitem__(self, graphs: slice) -> "GraphStore":
        """The graphs of a slice without a step, as a view; only offsets are new."""
        if graphs.step not in (None, 1):
            raise GraphError(f"A step of {graphs.step} is no stretch of graphs.", "Use select for other choices.")
        first, end, _ = graphs.indices(len(self))
        end = max(first, end)
        starts, links = self.node_offsets[first : end + 1], self.edge_offsets[first : end + 1]
        rows, pairs = slice(int(starts[0]), int(starts[-1])), slice(int(links[0]), int(links[-1]))
        return GraphStore(
            self.nodes[rows],
            self.edges[:, pairs],
            self.edge_features[pairs],
            starts - starts[0],
            links - links[0],
            self.targets[rows if self.of_nodes else slice(first, end)],
            self.walks[rows],
            self.eigenvectors[rows],
            self.eigenvalues[rows],
        )

    def select(self, graphs: Any) -> "GraphStore":
        """A store of the graphs with these numbers, in this order; a number may come twice."""
        graphs = self._numbers(graphs)
        rows, starts = rows_of(self.node_offsets, graphs)
        pairs, links = rows_of(self.edge_offsets, graphs)
        return GraphStore(
            self.nodes[rows],
            self.edges[:, pairs],
            self.edge_features[pairs],
            starts,
            links,
            self.targets[rows if self.of_nodes else graphs],
            self.walks[rows],
            self.eigenvectors[rows],
            self.eigenvalues[rows],
        )

    def batch(self, graphs: Any) -> GraphBatch:
        """The graphs with these numbers (B,), in this order, as one batch; codes are int64 there."""
        chosen = self.select(graphs)
        shift = torch.repeat_interleave(chosen.node_offsets[:-1], chosen.edge_offsets.diff())
        return GraphBatch(
            _wide(chosen.nodes),
            chosen.edges + shift,
            _wide(chosen.edge_features),
            chosen.node_offsets,
            chosen.walks,
            chosen.eigenvectors,
            chosen.eigenvalues,
        )

    def targets_of(self, graphs: Any) -> Tensor:
        """The targets of these graphs, (B, T), or of their nodes in the order of `batch`, (n,)."""
        graphs = self._numbers(graphs)
        return self.targets[rows_of(self.node_offsets, graphs)[0] if self.of_nodes else graphs]

    def _numbers(self, graphs: Any) -> Tensor:
        numbers = torch.as_tensor(graphs, dtype=torch.int64).reshape(-1)
        bad = (numbers < 0) | (numbers >= len(self))
        if bool(bad.any()):
            raise GraphError(
                f"There is no graph {int(numbers[bad][0])}; the store has {len(self)}.", "Count graphs from 0."
            )
        return numbers

    @classmethod
    def from_data(cls, graphs: "Sequence[Data]") -> "GraphStore":
        """A store of PyG's `x`, `edge_index`, and of `edge_attr`, `y` where there are any.

        `y` is of nodes where it is (n,) in every graph of n nodes, else of graphs. Raises `GraphError` as `of` does,
        and for graphs that differ in what they have or how wide it is.
        """
        if not len(graphs):
            raise GraphError("The list holds no graph.", "Give at least one.")
        x, edges = _column(graphs, "x"), _column(graphs, "edge_index")
        attributes, y = _column(graphs, "edge_attr"), _column(graphs, "y")
        for name, column in (("x", x), ("edge_index", edges)):
            if not column:
                raise GraphFaultError(0, f"it has no {name}.", f"Give every graph its {name}.")
        sizes = [len(one) for one in x]
        of_nodes = max(sizes) > 1 and all(
            one.dim() == 1 and len(one) == size for one, size in zip(y, sizes, strict=False)
        )
        return cls.of(
            _joined([_rowwise(one) for one in x], "x"),
            torch.cat(edges, dim=1),
            sizes,
            [one.shape[1] for one in edges],
            _joined([_rowwise(one) for one in attributes], "edge_attr") if attributes else None,
            _joined([one if of_nodes else one.reshape(1, -1) for one in y], "y") if y else None,
        )

    def to_data(self) -> "list[Data]":
        """The graphs as PyG's `Data`: `x`, `edge_index`, and `edge_attr`, `y` where there are any."""
        from torch_geometric.data import Data

        sizes, links = self.sizes.tolist(), self.edge_offsets.diff().tolist()
        columns: dict[str, Sequence[Tensor]] = {
            "x": _wide(self.nodes).split(sizes),
            "edge_index": self.edges.long().split(links, dim=1),
        }
        if self.edge_features.shape[1]:
            columns["edge_attr"] = _wide(self.edge_features).split(links)
        if self.of_nodes:
            columns["y"] = self.targets.split(sizes)
        elif self.targets.shape[1]:
            columns["y"] = self.targets.split(1)
        return [Data(**dict(zip(columns, one, strict=True))) for one in zip(*columns.values(), strict=True)]

    def with_statistics(self, **columns: Tensor) -> "GraphStore":
        """The same graphs with other `walks`, or `eigenvectors` and `eigenvalues`, of one row a node."""
        return replace(self, **columns)


def rows_of(offsets: Tensor, graphs: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the chosen graphs, graph after graph, and their offsets there."""
    starts = offsets[graphs]
    counts = offsets[graphs + 1] - starts
    new = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    total = int(new[-1])
    return torch.arange(total) + torch.repeat_interleave(starts - new[:-1], counts, output_size=total), new


def _wide(features: Tensor) -> Tensor:
    return features if features.is_floating_point() else features.long()


# Checks


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        kind = getattr(values, "dtype", type(values).__name__)
        raise GraphError(f"Column {name} of type {kind} is not numeric.", "Give numbers.") from error


def _offsets(counts: Any, name: str) -> Tensor:
    tensor = _tensor(counts, f"{name}_counts").reshape(-1).long()
    _refuse(tensor < 0, f"its number of {name}s is below 0.", "Give counts from 0.")
    return torch.cat((tensor.new_zeros(1), tensor.cumsum(0)))


def _features(values: Any, rows: int, name: str) -> Tensor:
    if values is None:
        return torch.zeros(rows, 0)
    tensor = _tensor(values, name)
    if tensor.dim() not in (1, 2) or len(tensor) != rows:
        raise GraphError(
            f"Features of {name} have shape {tuple(tensor.shape)}; the graphs have {rows} {name}.",
            f"Give one row for each of the {name}.",
        )
    tensor = tensor.reshape(rows, -1) if rows else tensor.reshape(0, tensor.shape[1] if tensor.dim() == 2 else 1)
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8)
    return tensor.float() if tensor.is_floating_point() else tensor


def _edges(values: Any, node_offsets: Tensor, edge_offsets: Tensor) -> Tensor:
    tensor = _tensor(values, "edges")
    if tensor.dim() != 2 or tensor.shape != (2, int(edge_offsets[-1])):
        raise GraphError(
            f"Edges have shape {tuple(tensor.shape)}; the graphs have {int(edge_offsets[-1])} edges.",
            "Give two rows: the sources, then the targets.",
        )
    if tensor.numel() and (tensor.is_floating_point() or tensor.dtype == torch.bool):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise GraphError(f"Edges are {kind}, not whole numbers.", "Number the nodes of each graph from 0.")
    tensor = tensor.long()
    sizes = torch.repeat_interleave(node_offsets.diff(), edge_offsets.diff())
    outside = (tensor < 0) | (tensor >= sizes)
    if bool(outside.any()):
        edge = int(outside.any(dim=0).nonzero()[0])
        graph = _graph_of(edge, edge_offsets)
        node = int(tensor[:, edge][outside[:, edge]][0])
        raise GraphFaultError(
            graph,
            f"edge {edge - int(edge_offsets[graph])} joins node {node}; the nodes are 0 … {int(sizes[edge]) - 1}.",
            "Number the nodes of each graph from 0.",
        )
    return tensor.int()


def _targets(values: Any, node_offsets: Tensor) -> Tensor:
    graphs, nodes = len(node_offsets) - 1, int(node_offsets[-1])
    if values is None:
        return torch.zeros(graphs, 0)
    tensor = _tensor(values, "targets").float()
    of_nodes = tensor.dim() == 1
    if tensor.dim() not in (1, 2) or len(tensor) != (nodes if of_nodes else graphs):
        raise GraphError(
            f"Targets have shape {tuple(tensor.shape)}; there are {graphs} graphs with {nodes} nodes.",
            "Give (G, T) for graphs, or (N,) for nodes, NaN where there is none.",
        )
    hint = "Give a number, or NaN where there is none."
    if of_nodes:
        _refuse(torch.isinf(tensor), "the target of node {} is infinite.", hint, node_offsets)
    else:
        _refuse(torch.isinf(tensor).any(dim=1), "its target is infinite.", hint)
    return tensor


def _graph_of(row: int, offsets: Tensor) -> int:
    return int(torch.searchsorted(offsets, row, right=True)) - 1


def _refuse(bad: Tensor, fault: str, hint: str, offsets: Tensor | None = None) -> None:
    """Raise for the first bad row: of a graph, or with `offsets` of a node or edge, whose number goes into `fault`."""
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        graph = row if offsets is None else _graph_of(row, offsets)
        raise GraphFaultError(graph, fault if offsets is None else fault.format(row - int(offsets[graph])), hint)


def _column(graphs: "Sequence[Data]", name: str) -> list[Tensor]:
    """What all graphs have under a name; empty where none has it."""
    found = [getattr(one, name, None) for one in graphs]
    absent = [graph for graph, one in enumerate(found) if one is None]
    if absent and len(absent) < len(found):
        raise GraphFaultError(absent[0], f"it has no {name}, as others have.", f"Give every graph its {name}, or none.")
    return [torch.as_tensor(one) for one in found if one is not None]


def _rowwise(values: Tensor) -> Tensor:
    return values[:, None] if values.dim() == 1 else values.flatten(1)


def _joined(parts: list[Tensor], name: str) -> Tensor:
    shape = parts[0].shape[1:]
    other = next((graph for graph, part in enumerate(parts) if part.shape[1:] != shape), None)
    if other is not None:
        own, first = (" × ".join(map(str, parts[graph].shape)) for graph in (other, 0))
        raise GraphFaultError(other, f"its {name} is {own}, that of graph 0 {first}.", "Give all graphs one width.")
    return torch.cat(parts)
