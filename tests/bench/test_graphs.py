"""Speed of graph stores: batches against PyG's, and statistics against a graph at a time. Run with `make bench`."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from forecast.data.graph_table import read_graphs
from graphs.graph_store import GraphStore
from graphs.positions import with_walks
from graphs.sensor_graph import SensorGraph

MOLHIV = Path(__file__).parents[2].parent / "shared" / "data" / "graphs" / "molhiv.parquet"
GRAPHS, SIZE, ROUNDS = 8192, 64, 7
pytestmark = [
    pytest.mark.bench,
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of one run."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.fixture(scope="module")
def molecules() -> GraphStore:
    if not MOLHIV.exists():
        pytest.skip("needs ../shared/data/graphs/molhiv.parquet")
    return read_graphs(MOLHIV).store[:GRAPHS]


def test_64_graphs_are_batched_three_times_as_fast_as_by_pyg(
    molecules: GraphStore, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch_geometric.data import Batch

    data = molecules.to_data()
    order = np.random.default_rng(0).permutation(GRAPHS).reshape(-1, SIZE)[:40]

    def ours() -> None:
        for graphs in order:
            batch = molecules.batch(graphs)
            assert len(batch.graph) == len(batch.nodes)
            molecules.targets_of(graphs)

    def theirs() -> None:
        for graphs in order.tolist():
            Batch.from_data_list([data[graph] for graph in graphs])

    ours(), theirs()
    times = [(spent(ours), spent(theirs)) for _ in range(ROUNDS)]
    ratio = statistics.median(other / own for own, other in times)
    with capsys.disabled():
        own, other = (1e3 * min(column) / len(order) for column in zip(*times, strict=True))
        print(f"\n64 molhiv graphs: {own:.2f} ms a batch, PyG {other:.2f} ms, {ratio:.1f} × (target ≥ 3)", end="")
    assert ratio >= 3


def test_walks_of_all_graphs_at_once_take_a_fifth_of_a_graph_at_a_time(
    molecules: GraphStore, capsys: pytest.CaptureFixture[str]
) -> None:
    some = molecules[:1000]
    together = min(spent(lambda: with_walks(some, range(1, 17))) for _ in range(3))
    alone = spent(lambda: [with_walks(some[graph : graph + 1], range(1, 17)) for graph in range(len(some))])
    with capsys.disabled():
        print(
            f"\n16 walks: {1e6 * together / len(some):.0f} µs a graph, alone {1e6 * alone / len(some):.0f} µs", end=""
        )
    assert together <= alone / 5


def test_windows_cost_a_tenth_once_their_batch_size_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edges = np.random.default_rng(0).integers(207, size=(2, 1515))
    graph, windows = SensorGraph.of(207, edges, np.ones(1515)), torch.randn(16, 207, 24)
    first = spent(lambda: [SensorGraph(**vars(graph) | {"_repeated": {}}).batch(windows) for _ in range(20)]) / 20
    later = spent(lambda: [graph.batch(windows) for _ in range(200)]) / 200
    with capsys.disabled():
        print(f"\n16 windows of 207 sensors: {1e6 * later:.0f} µs, the first {1e6 * first:.0f} µs", end="")
    assert later <= first / 10
