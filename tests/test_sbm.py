"""Generated PATTERN and CLUSTER have the sizes, chances and plants of the recipe (specification, property 19)."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from graphs import sbm
from graphs.graph_store import GraphStore


@cache
def many(name: str) -> GraphStore:
    return sbm.pattern(500, seed=1, patterns=50) if name == "pattern" else sbm.cluster(500, seed=1)


def ends(store: GraphStore) -> tuple[Tensor, Tensor]:
    """Sources and targets of all edges, counted through the store."""
    source, target = store.batch(range(len(store))).edges
    return source, target


def graph_of(store: GraphStore) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(store)), store.sizes)


@pytest.mark.parametrize(("name", "nodes", "edges"), [("pattern", 117.5, 5891), ("cluster", 117, 4289)])
def test_sizes_are_those_of_the_recipe(name: str, nodes: float, edges: float) -> None:
    store = many(name)
    assert abs(float(store.sizes.double().mean()) - nodes) < 4
    assert abs(float(store.edge_offsets.diff().double().mean()) / edges - 1) < 0.05


@pytest.mark.parametrize("name", ["pattern", "cluster"])
def test_edges_go_both_ways_once_and_never_back_to_their_node(name: str) -> None:
    store = many(name)[:100]
    source, target = ends(store)
    count = len(store.nodes)
    there, back = source * count + target, target * count + source
    assert (source != target).all() and len(there.unique()) == len(there)
    assert torch.equal(there.sort().values, back.sort().values)


def shares(store: GraphStore, classes: int) -> Tensor:
    """How many of the pairs of nodes of two classes are joined, (classes, classes)."""
    labels, graph = store.targets.long(), graph_of(store)
    source, target = ends(store)
    joined = torch.bincount(labels[source] * classes + labels[target], minlength=classes**2).view(classes, classes)
    sizes = torch.bincount(graph * classes + labels, minlength=len(store) * classes).view(-1, classes).double()
    return joined / (sizes.T @ sizes - torch.diag(sizes.sum(0)))


def test_communities_of_cluster_are_joined_with_their_chances() -> None:
    found = shares(many("cluster"), 6)
    assert (found.diag() - 0.55).abs().max() < 0.01
    assert (found[~torch.eye(6, dtype=torch.bool)] - 0.25).abs().max() < 0.01


def test_one_node_of_each_community_of_cluster_shows_it() -> None:
    store = many("cluster")
    kinds, labels, graph = store.nodes.argmax(1), store.targets.long(), graph_of(store)
    assert torch.equal(store.nodes.sum(1), torch.ones(len(store.nodes)))
    shown = kinds > 0
    assert torch.equal(kinds[shown] - 1, labels[shown])
    assert torch.equal((graph * 6 + labels)[shown].sort().values, torch.arange(6 * len(store)))
    sizes = torch.bincount(graph * 6 + labels)
    assert sizes.min() >= 5 and sizes.max() <= 34
    place = torch.arange(len(graph)) - store.node_offsets[graph]
    assert abs(float((place / (store.sizes[graph] - 1))[shown].mean()) - 0.5) < 0.03  # nodes were shuffled


def test_the_pattern_is_joined_with_its_chance_and_has_twenty_nodes() -> None:
    store = many("pattern")
    found = shares(store, 2)
    assert abs(found[0, 1] - 0.5) < 0.01 and abs(found[1, 1] - 0.5) < 0.02
    assert 0.35 < found[0, 0] < 0.40  # some pairs of the background are of one community
    assert torch.equal(torch.bincount(graph_of(store)[store.targets == 1]), torch.full((500,), 20))
    assert (store.nodes.mean(0) - 1 / 3).abs().max() < 0.01


def planted(store: GraphStore, graph: int) -> list[tuple[int, int]]:
    """The pattern of a graph, up to the order of its nodes: how many of it each joins, and the kind of each."""
    one = store[graph : graph + 1]
    inner = (one.targets == 1).numpy()
    joined = np.zeros((len(inner), len(inner)), dtype=int)
    joined[tuple(one.edges.numpy())] = 1
    degrees = joined[inner][:, inner].sum(1)
    return sorted(zip(degrees.tolist(), one.nodes[inner].argmax(1).tolist(), strict=True))


def test_each_pattern_comes_again() -> None:
    store = many("pattern")
    assert planted(store, 3) == planted(store, 53) == planted(store, 453)
    assert planted(store, 3) != planted(store, 4)
    assert store.sizes[3] != store.sizes[53] or store.sizes[3] != store.sizes[453]


@pytest.mark.parametrize("make", [sbm.pattern, sbm.cluster])
def test_a_seed_gives_the_same_graphs_and_another_gives_others(make: type[GraphStore]) -> None:
    one, again, other = make(6, 3), make(6, 3), make(6, 4)
    assert all(torch.equal(vars(one)[name], vars(again)[name]) for name in vars(one))
    assert not torch.equal(one.sizes, other.sizes)
