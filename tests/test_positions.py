"""Positional statistics: the authors' values, closed forms, and that a graph's statistics are its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphs import positions
from graphs.degrees import with_degree_profile
from graphs.graph_batch import GraphError
from graphs.graph_store import GraphStore
from graphs.positions import with_eigenvectors, with_walks
from tests.parity import check

GOLDEN = Path(__file__).parent / "golden" / "graphs"
Pairs = list[tuple[int, int]]


def store_of(*graphs: tuple[int, Pairs]) -> GraphStore:
    edges = np.array([pair for _, one in graphs for pair in one], dtype=int).reshape(-1, 2).T
    sizes = [n for n, _ in graphs]
    return GraphStore.of(np.zeros((sum(sizes), 1)), edges, sizes, [len(one) for _, one in graphs])


def both_ways(pairs: Pairs) -> Pairs:
    return pairs + [(b, a) for a, b in pairs]


def cycle(n: int) -> tuple[int, Pairs]:
    return n, both_ways([(i, (i + 1) % n) for i in range(n)])


def random_graph(n: int, seed: int) -> tuple[int, Pairs]:
    """Directed, with self-loops and repeated edges."""
    return n, [tuple(pair) for pair in np.random.default_rng(seed).integers(n, size=(3 * n, 2)).tolist()]


def plain_walks(n: int, pairs: Pairs, steps: int) -> Tensor:
    """Return probabilities by matrix powers, in double precision."""
    a = np.zeros((n, n))
    for source, target in pairs:
        a[source, target] += 1
    degree = a.sum(1, keepdims=True)
    p = np.divide(a, degree, out=np.zeros_like(a), where=degree > 0)
    return torch.tensor(np.stack([np.diag(np.linalg.matrix_power(p, k)) for k in range(1, steps + 1)], 1)).float()


def test_statistics_of_the_authors_code() -> None:
    result = check(GOLDEN / "posenc_stats.safetensors")
    assert result.passed, str(result)


def test_eigenvectors_of_another_space_do_not_pass_for_the_authors(tmp_path: Path) -> None:
    with safe_open(GOLDEN / "posenc_stats.safetensors", framework="pt") as file:
        meta, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    vectors = tensors["output.cycle7.eigvecs"]
    assert not torch.equal(vectors[:, [2, 1]], vectors[:, [1, 2]])
    for order, passes in (([0, 2, 1, 3, 4, 5, 6, 7, 8, 9], True), ([0, 3, 2, 1, 4, 5, 6, 7, 8, 9], False)):
        tensors["output.cycle7.eigvecs"] = vectors[:, order].contiguous()
        save_file(tensors, tmp_path / "changed.safetensors", metadata=meta)
        assert check(tmp_path / "changed.safetensors").passed == passes


# Random walks (specification, property 16)


def test_walks_equal_the_powers_of_the_transition_matrix() -> None:
    graphs = [random_graph(n, n) for n in (1, 2, 5, 5, 9, 14)]
    walks = with_walks(store_of(*graphs), range(1, 12)).walks
    assert torch.allclose(walks, torch.cat([plain_walks(n, pairs, 11) for n, pairs in graphs]), atol=1e-7)
    assert ((walks >= 0) & (walks <= 1)).all() and (walks > 0).any()


def test_only_the_steps_asked_for_are_kept_in_their_order() -> None:
    store = store_of(random_graph(8, 1))
    assert torch.equal(with_walks(store, [5, 2]).walks, with_walks(store, range(1, 6)).walks[:, [4, 1]])


def test_one_step_returns_over_self_loops_only() -> None:
    n, pairs = random_graph(9, 3)
    loops = torch.tensor([any((a, b) == (i, i) for a, b in pairs) for i in range(n)])
    assert torch.equal(with_walks(store_of((n, pairs)), [1]).walks[:, 0] > 0, loops)
    assert loops.any() and not loops.all()


def test_on_a_bipartite_graph_odd_walks_do_not_return() -> None:
    pairs = [(i, j) for i in range(3) for j in range(3, 7) if (i + j) % 3]
    walks = with_walks(store_of((7, both_ways(pairs))), range(1, 17)).walks
    assert (walks[:, 0::2] == 0).all() and (walks[:, 1::2] > 0).all()


def test_a_node_without_edges_has_no_walks_and_a_cycle_returns_in_two_steps_half_the_time() -> None:
    walks = with_walks(store_of((1, []), cycle(7), (3, [(0, 1), (1, 0)])), range(1, 8)).walks
    assert (walks[0] == 0).all() and (walks[10] == 0).all()
    assert torch.allclose(walks[1:8, 1], torch.full((7,), 0.5))
    assert (walks[1:8, 6] > 0).all() and (walks[1:8, [0, 2, 4]] == 0).all()


# Eigenvectors (specification, property 17)


def plain_laplacian(n: int, pairs: Pairs) -> Tensor:
    a = torch.zeros(n, n, dtype=torch.float64)
    for source, target in pairs:
        if source != target:
            a[source, target] = a[target, source] = 1
    return torch.diag(a.sum(1)) - a


def test_eigenvectors_are_those_of_the_undirected_graph() -> None:
    graphs = [random_graph(n, n) for n in (2, 5, 5, 9, 14)]
    store = with_eigenvectors(store_of(*graphs), 6)
    for number, (n, pairs) in enumerate(graphs):
        rows = slice(*store.node_offsets[number : number + 2].tolist())
        vectors, values = store.eigenvectors[rows].double(), store.eigenvalues[rows].double()
        kept = min(n, 6)
        assert torch.isnan(vectors[:, kept:]).all() and torch.isnan(values[:, kept:]).all()
        vectors, values = vectors[:, :kept], values[:, :kept]
        assert (values == values[0]).all() and (values >= 0).all() and (values[0].diff() >= 0).all()
        laplacian = plain_laplacian(n, pairs)
        assert torch.allclose(laplacian @ vectors, vectors * values, atol=1e-5)
        assert torch.allclose(vectors.T @ vectors, torch.eye(kept, dtype=torch.float64), atol=1e-5)
        assert torch.allclose(values[0], torch.linalg.eigvalsh(laplacian)[:kept].clamp(min=0), atol=1e-5)


def test_eigenvalues_of_a_cycle_are_known_and_each_part_has_a_zero() -> None:
    two_parts = (7, both_ways([(0, 1), (1, 2), (3, 4)]))  # and two nodes alone: four parts
    store = with_eigenvectors(store_of(cycle(7), two_parts), 7)
    wanted = np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(7) / 7))
    assert np.allclose(store.eigenvalues[0], wanted, atol=1e-6)
    assert (store.eigenvalues[7] < 1e-6).sum() == 4


# Both


@pytest.mark.parametrize("cells", [1, 100, 2**20])
def test_what_a_graph_gets_does_not_depend_on_the_others(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [random_graph(n, seed) for seed, n in enumerate((4, 6, 4, 1, 6, 6, 3))]
    alone = [with_eigenvectors(with_walks(store_of(graph), range(1, 9)), 5) for graph in graphs]
    monkeypatch.setattr(positions, "CELLS", cells)
    together = with_eigenvectors(with_walks(store_of(*graphs), range(1, 9)), 5)
    for name in ("walks", "eigenvectors", "eigenvalues"):
        joined = torch.cat([getattr(one, name) for one in alone])
        assert torch.equal(getattr(together, name).nan_to_num(9), joined.nan_to_num(9)), name


def test_statistics_go_into_the_batch() -> None:
    store = with_eigenvectors(with_walks(store_of(cycle(5), cycle(3)), [2, 3]), 2)
    batch = store.batch([1, 0])
    assert torch.equal(batch.walks, store.walks[[5, 6, 7, 0, 1, 2, 3, 4]])
    assert batch.eigenvectors.shape == batch.eigenvalues.shape == (8, 2)


def test_steps_and_counts_below_one_are_refused() -> None:
    store = store_of(cycle(3))
    for steps in ([], [0, 1]):
        with pytest.raises(GraphError, match="no numbers of steps"):
            with_walks(store, steps)
    with pytest.raises(GraphError, match="no number of eigenvectors"):
        with_eigenvectors(store, 0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_the_degree_profile_is_that_of_pyg() -> None:
    from torch_geometric.transforms import LocalDegreeProfile  # costs seconds that the other tests need not wait for

    store = store_of(random_graph(9, 3), (3, []), cycle(5), random_graph(4, 1))
    profiles = with_degree_profile(store).nodes
    for number, data in enumerate(store.to_data()):
        data.num_nodes, data.x = len(data.x), None
        rows = slice(*store.node_offsets[number : number + 2].tolist())
        assert torch.allclose(profiles[rows], LocalDegreeProfile()(data).x, atol=1e-5)
    assert profiles[9:12].abs().sum() == 0 and (profiles[12:17] == torch.tensor([2.0, 2, 2, 2, 0])).all()
