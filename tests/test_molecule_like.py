"""Molecule-like graphs are trees with rings of five and six, and their targets can be counted."""

import networkx as nx
import numpy as np
import pytest
import torch

from graphs import molecule_like as ml
from graphs.graph_store import GraphStore


@pytest.fixture(scope="module")
def store() -> GraphStore:
    return ml.molecule_like(300, seed=1, train=200)


def as_networkx(store: GraphStore, number: int) -> nx.Graph:
    one = store[number : number + 1]
    graph = nx.Graph()
    graph.add_nodes_from((node, {"atom": int(atom)}) for node, atom in enumerate(one.nodes[:, 0]))
    for (source, target), bond in zip(one.edges.T.tolist(), one.edge_features[:, 0].tolist(), strict=True):
        assert graph.get_edge_data(source, target, {"bond": bond})["bond"] == bond
        graph.add_edge(source, target, bond=bond)
    return graph


def test_graphs_are_connected_with_few_rings_and_bonds(store: GraphStore) -> None:
    rings = []
    for number in range(len(store)):
        graph = as_networkx(store, number)
        nodes, links = graph.number_of_nodes(), graph.number_of_edges()
        assert 10 <= nodes <= 30 and nx.is_connected(graph) and max(dict(graph.degree).values()) <= 4
        assert 2 * links == store[number : number + 1].edges.shape[1]  # both directions, each once
        rings.append(links - nodes + 1)
        shortest = nx.girth(graph)
        assert shortest in (5, 6) if rings[-1] == 1 else shortest >= 5
    assert set(rings) == {0, 1, 2, 3}


def test_codes_are_within_their_tables_and_skewed(store: GraphStore) -> None:
    for codes, kinds in ((store.nodes, 28), (store.edge_features, 3)):
        counts = torch.bincount(codes[:, 0], minlength=kinds)
        assert len(counts) == kinds and counts[0] > 2 * counts[-1]


def test_the_target_counts_rings_and_double_bonds_of_the_pair(store: GraphStore) -> None:
    counted = []
    for number in range(len(store)):
        graph = as_networkx(store, number)
        rings = graph.number_of_edges() - graph.number_of_nodes() + 1
        atoms = nx.get_node_attributes(graph, "atom")
        pairs = sum(bond == 1 and {atoms[a], atoms[b]} == set(ml.PAIR) for a, b, bond in graph.edges(data="bond"))
        counted.append(0.5 * rings + pairs)
    targets = store.targets[:, 0].numpy()
    slope, intercept = np.polyfit(counted, targets, 1)
    rest = targets - slope * np.array(counted) - intercept
    assert rest.std() / slope == pytest.approx(0.1, abs=0.02) and np.corrcoef(counted, targets)[0, 1] > 0.95
    assert targets[:200].mean() == pytest.approx(0, abs=1e-5) and targets[:200].std() == pytest.approx(1, abs=1e-5)


def test_a_seed_gives_the_same_graphs_and_another_gives_others() -> None:
    one, again, other = (ml.molecule_like(5, seed) for seed in (3, 3, 4))
    assert all(torch.equal(vars(one)[name], vars(again)[name]) for name in vars(one))
    assert not torch.equal(one.sizes, other.sizes)
