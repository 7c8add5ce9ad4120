"""The graph store: batches are what the graphs are, conversions lose nothing, faults name their graph."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphs.graph_batch import GraphError
from graphs.graph_store import GraphFaultError, GraphStore

Graph = tuple[int, list[tuple[int, int]]]  # nodes and edges


@st.composite
def graphs(draw: st.DrawFn) -> list[Graph]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    return [(n, draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=8))) for n in sizes]


def stored(some: list[Graph], *, of_nodes: bool = False) -> GraphStore:
    """A store in which every node, edge and target has a number of its own."""
    sizes, links = [n for n, _ in some], [len(edges) for _, edges in some]
    edges = np.array([pair for _, one in some for pair in one], dtype=np.int16).reshape(-1, 2).T
    count = sum(sizes)
    targets = np.arange(count) + 0.5 if of_nodes else np.arange(2.0 * len(some)).reshape(-1, 2)
    store = GraphStore.of(np.arange(count, dtype=np.int16), edges, sizes, links, np.arange(sum(links)) * 1.0, targets)
    marks = torch.arange(count, dtype=torch.float32)[:, None]
    return store.with_statistics(walks=marks, eigenvectors=-marks, eigenvalues=10 * marks)


def columns(store: GraphStore) -> list[Tensor]:
    return list(vars(store).values())


def same(one: GraphStore, other: GraphStore) -> bool:
    return all(map(torch.equal, columns(one), columns(other)))


# Batches


@settings(deadline=None, max_examples=60)
@given(graphs(), st.data())
def test_a_batch_is_its_graphs_one_after_the_other(some: list[Graph], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(some) - 1), max_size=6))
    store = stored(some)
    batch = store.batch(chosen)
    starts = np.cumsum([0, *(n for n, _ in some)])
    links = np.cumsum([0, *(len(edges) for _, edges in some)])
    nodes = [number for g in chosen for number in range(starts[g], starts[g + 1])]
    assert batch.nodes.tolist() == [[number] for number in nodes] and batch.nodes.dtype == torch.int64
    assert batch.walks.flatten().tolist() == nodes
    assert batch.eigenvectors.flatten().tolist() == [-number for number in nodes]
    assert batch.eigenvalues.flatten().tolist() == [10 * number for number in nodes]
    assert batch.edge_features.flatten().tolist() == [e for g in chosen for e in range(links[g], links[g + 1])]
    first, wanted = 0, []
    for g in chosen:
        wanted += [(first + a, first + b) for a, b in some[g][1]]
        first += some[g][0]
    assert batch.edges.T.tolist() == [list(pair) for pair in wanted] and batch.edges.dtype == torch.int64
    assert batch.graph.tolist() == [place for place, g in enumerate(chosen) for _ in range(some[g][0])]
    assert batch.offsets.tolist() == [0, *np.cumsum([some[g][0] for g in chosen])]
    assert store.targets_of(chosen).tolist() == [[2 * g, 2 * g + 1] for g in chosen]
    assert stored(some, of_nodes=True).targets_of(chosen).tolist() == [number + 0.5 for number in nodes]


@settings(deadline=None, max_examples=30)
@given(graphs(), st.integers(-7, 7), st.integers(-7, 7), st.booleans())
def test_a_slice_is_a_view_of_what_selecting_copies(some: list[Graph], a: int, b: int, of_nodes: bool) -> None:
    store = stored(some, of_nodes=of_nodes)
    view, copy = store[a:b], store.select(range(len(some))[a:b])
    assert same(view, copy)
    for name in ("nodes", "edges", "edge_features", "targets", "walks"):
        assert getattr(view, name).untyped_storage().data_ptr() == getattr(store, name).untyped_storage().data_ptr()


def test_selecting_from_a_selection_selects() -> None:
    store = stored([(2, [(0, 1)]), (1, []), (3, [(2, 0), (1, 1)])])
    assert same(store.select([2, 0, 2]).select([1, 2]), store.select([0, 2]))


def test_a_graph_that_is_not_there_cannot_be_asked_for() -> None:
    store = stored([(2, []), (1, [])])
    for asked in ([2], [0, -1]):
        with pytest.raises(GraphError, match=r"no graph (2|-1); the store has 2"):
            store.batch(asked)
    with pytest.raises(GraphError, match="step of 2"):
        store[::2]


# Conversion


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("of_nodes", [False, True])
def test_graphs_of_pyg_go_there_and_back_and_batch_alike(of_nodes: bool) -> None:
    from torch_geometric.data import Batch  # costs seconds that the other tests need not wait for

    store = stored([(2, [(0, 1)]), (1, []), (3, [(2, 0), (1, 1)])], of_nodes=of_nodes)
    data = store.to_data()
    back = GraphStore.from_data(data)
    assert same(back, GraphStore(**{**vars(store), "nodes": store.nodes.long(), **empty_statistics(store)}))
    theirs, own = Batch.from_data_list([data[2], data[0]]), store.batch([2, 0])
    assert torch.equal(theirs.x, own.nodes) and torch.equal(theirs.edge_index, own.edges)
    assert torch.equal(theirs.edge_attr, own.edge_features) and torch.equal(theirs.batch, own.graph)
    assert torch.equal(theirs.y, store.targets_of([2, 0]))


def empty_statistics(store: GraphStore) -> dict[str, Tensor]:
    return {name: torch.zeros(len(store.nodes), 0) for name in ("walks", "eigenvectors", "eigenvalues")}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_graphs_of_pyg_that_do_not_belong_together_are_refused() -> None:
    from torch_geometric.data import Data

    def one(width: int = 2, **more: Any) -> Data:
        return Data(x=torch.zeros(3, width), edge_index=torch.tensor([[0, 1], [1, 2]]), **more)

    for data, told in (
        ([one(), one(3)], "Graph 1: its x is 3 × 3, that of graph 0 3 × 2"),
        ([one(y=torch.tensor([1.0])), one()], "Graph 1: it has no y, as others have"),
        ([Data(edge_index=torch.zeros(2, 0, dtype=torch.int64))], "Graph 0: it has no x"),
        ([], "holds no graph"),
    ):
        with pytest.raises(GraphError, match=told):
            GraphStore.from_data(data)


# Faults


GOOD: dict[str, Any] = {
    "nodes": np.zeros((5, 2), dtype=np.float32),
    "edges": np.array([[0, 1, 2], [1, 0, 0]]),
    "node_counts": [2, 3],
    "edge_counts": [1, 2],
    "edge_features": np.ones((3, 1)),
    "targets": np.ones((2, 1)),
}


def with_value(name: str, place: tuple[int, ...], value: float) -> dict[str, Any]:
    column = np.array(GOOD[name], copy=True)
    column[place] = value
    return {name: column}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_value("edges", (1, 2), 3), "Graph 1: edge 1 joins node 3; the nodes are 0 … 2"),
        (with_value("edges", (0, 0), -1), "Graph 0: edge 0 joins node -1; the nodes are 0 … 1"),
        ({"node_counts": [5, 0]}, "Graph 1: it has no nodes"),
        ({"node_counts": [6, -1]}, "Graph 1: its number of nodes is below 0"),
        ({"node_counts": [5]}, "counts of nodes for 1 graphs and of edges for 2"),
        ({"node_counts": [2, 4]}, r"Features of nodes have shape \(5, 2\); the graphs have 6 nodes"),
        ({"edge_counts": [1, 1]}, r"Features of edges have shape \(3, 1\); the graphs have 2 edges"),
        ({"edges": np.zeros((2, 4), dtype=int)}, r"Edges have shape \(2, 4\); the graphs have 3 edges"),
        ({"edges": np.zeros((2, 3))}, "Edges are float64, not whole numbers"),
        (with_value("nodes", (3, 1), np.nan), "Graph 1: a feature of node 1 is not finite"),
        (with_value("edge_features", (0, 0), np.inf), "Graph 0: a feature of edge 0 is not finite"),
        (with_value("targets", (1, 0), np.inf), "Graph 1: its target is infinite"),
        ({"targets": np.array([0, 0, 0, np.inf, 0])}, "Graph 1: the target of node 1 is infinite"),
        ({"targets": np.ones((5, 1))}, r"Targets have shape \(5, 1\); there are 2 graphs with 5 nodes"),
        ({"nodes": np.array([["a"]] * 5)}, "Column nodes of type <U1 is not numeric"),
    ],
)
def test_a_fault_is_told_with_its_graph(change: dict[str, Any], told: str) -> None:
    GraphStore.of(**GOOD)
    with pytest.raises(GraphError, match=told) as caught:
        GraphStore.of(**{**GOOD, **change})
    assert caught.value.hint and isinstance(caught.value, GraphFaultError) == told.startswith("Graph")


def test_a_missing_target_is_kept_and_graphs_without_edges_are_graphs() -> None:
    store = GraphStore.of(np.zeros((3, 1)), np.zeros((2, 0), dtype=int), [1, 2], [0, 0], targets=[[np.nan], [1.0]])
    assert torch.isnan(store.targets_of([0])).all() and store.batch([1, 0]).edges.shape == (2, 0)
    assert store.batch([1, 0]).edge_features.shape == (0, 0)
