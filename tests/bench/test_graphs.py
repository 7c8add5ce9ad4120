"""Speed of graphs: batches against PyG's, positions, heads taken out, and training steps. Run with `make bench`."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from forecast import training
from forecast.config import resolve
from forecast.data.graph_table import read_graphs
from forecast.graph_labels import kept_positions, learning, story
from forecast.graph_labels.features import Features
from forecast.graph_labels.fitted import Reader
from forecast.prepare import prepare, read
from forecast.registry import build, find
from forecast.tasks.series import decayed, masked_loss
from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.graph_store import GraphStore
from graphs.head_removal import remove_heads
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


def test_positions_of_molecules_are_computed_at_2000_a_second_and_read_where_they_are_kept(
    molecules: GraphStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = []
    for kind, count in (("rwse", 16), ("lappe", 16)):
        plain = Features("linear", 9, (), (0.0,) * 9, (1.0,) * 9)
        reader = Reader(plain, plain, kind, count)
        alone = spent(lambda reader=reader: reader.with_positions(molecules))
        kept_positions.with_kept_positions(molecules, reader)
        again = spent(lambda reader=reader: kept_positions.with_kept_positions(molecules, reader))
        said.append((kind, GRAPHS / alone, GRAPHS / again))
    with capsys.disabled():
        for kind, computed, kept in said:
            print(f"\n{kind}: {computed:,.0f} molecules/s (target ≥ 2,000), {kept:,.0f}/s where kept", end="")
    assert all(computed >= 2000 for _, computed, _ in said) and all(kept > computed for _, computed, kept in said)


@pytest.mark.parametrize(("graphs", "most"), [(1, 5.0), (64, 11.0)])
def test_heads_are_taken_out_in_a_few_forward_passes(
    molecules: GraphStore, graphs: int, most: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 4 layers of 4 heads: 5 passes for a molecule, as 1 + layers · heads / 4.

    Of many, 11, by count: 1, and for each head the layers that are not before it.
    """
    torch.manual_seed(0)
    config = DartsGTConfig(layers=4, node_features="atom", edge_features="bond", positions="rwse")
    network = DartsGT(GraphDataShape(9, 1, edge_features=3, walks=16), config).eval()
    walked = with_walks(molecules, range(1, 17))
    batches = [walked.batch(range(at, at + graphs)) for at in range(0, 12 * graphs, graphs)]
    passes, removals = [], []
    with torch.no_grad():
        for batch in batches:
            passes.append(spent(lambda batch=batch: network(batch)))
            removals.append(spent(lambda batch=batch: remove_heads(network, batch)))
    ratio = statistics.median(removals) / statistics.median(passes)
    with capsys.disabled():
        each = f"{1e3 * statistics.median(removals) / graphs:.1f} ms a molecule"
        print(f"\nall 16 heads of {graphs} at once: {ratio:.1f} forward passes (target ≤ {most:.0f}), {each}", end="")
    assert ratio <= most


def steps_of(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """CPU seconds between the ends of consecutive training steps of one epoch."""
    ends: list[float] = []

    class Ends(L.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.process_time())

    inner = L.Trainer

    def with_ends(**options: object) -> L.Trainer:
        return inner(**{**options, "callbacks": [*options["callbacks"], Ends()]})  # type: ignore[misc]

    with monkeypatch.context() as patch:
        patch.setattr(training.L, "Trainer", with_ends)
        work()
    return list(np.diff(ends))


def bare(
    network: nn.Module, optimizer: torch.optim.Optimizer, losses: Iterator[Callable[[], Tensor]], clip: float | None
) -> list[float]:
    """CPU seconds of steps that are written out."""
    network.train()
    times = []
    for loss in losses:
        start = time.process_time()
        value = loss()
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        times.append(time.process_time() - start)
    return times


def compared(
    framed: Callable[[], list[float]], plain: Callable[[], list[float]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    framed(), plain()
    ours, theirs = [], []
    for _ in range(4):
        ours += framed()
        theirs += plain()
    own, other = statistics.median(ours), statistics.median(theirs)
    with capsys.disabled():
        print(
            f"\ntraining step of {name}: {own / other:.3f} × a bare loop ({1e3 * other:.1f} ms), target ≤ 1.15", end=""
        )
    assert own <= 1.15 * other


def test_a_training_step_on_graphs_costs_little_more_than_a_bare_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not MOLHIV.exists():
        pytest.skip("needs ../shared/data/graphs/molhiv.parquet")
    settings = ["model.architecture=GINE", "train.epochs=1", "train.device=cpu"]
    found = story.read(resolve("darts-gt", settings=settings), pl.read_parquet(MOLHIV, n_rows=1500).drop("split"))
    prepared, config = found.prepared, found.config
    data = prepared.examples("train")

    def plain() -> list[float]:
        network = DartsGT(prepared.shape, config.model.network())
        adam = torch.optim.AdamW(decayed(network, 1e-5), lr=1e-3)

        def loss(index: Tensor) -> Tensor:
            example = data[index]
            return prepared.task.loss(network(example.batch), example.targets)

        order = torch.randperm(len(data)).split(config.train.batch_size)[:-1]
        return bare(network, adam, iter([lambda index=index: loss(index) for index in order]), config.train.clip)

    def framed() -> list[float]:
        return steps_of(lambda: learning.learn(prepared, config.model, config.train), monkeypatch)

    compared(framed, plain, "darts-gt on molecules", capsys)


SENSORS = Path(__file__).parents[2].parent / "shared" / "data" / "spatiotemporal"


def sensors(*settings: str) -> Any:
    if not (SENSORS / "metr_la_week1.parquet").exists():
        pytest.skip("needs ../shared/data/spatiotemporal/metr_la_week1.parquet")
    flags = {
        "data": {"lookback": 12, "horizon": 12, "edges": str(SENSORS / "metr_la_edges.parquet")},
        "train": {"device": "cpu", "epochs": 1},
    }
    found = read(resolve("darts-gt", settings=settings, flags=flags), SENSORS / "metr_la_week1.parquet")
    return prepare(found)


def test_a_training_step_on_sensors_costs_little_more_than_a_bare_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sensors("model.architecture=GINE", "train.epoch_batches=[8,8]")
    config = made.read.config
    data, few = made.train, made.validation.thinned(16)

    def plain() -> list[float]:
        network = build(find("darts-gt", "series"), made.shape, config.model, made.read.graph)
        adam = torch.optim.AdamW(decayed(network, 1e-4), lr=2e-3, fused=True)

        def loss(index: Tensor) -> Tensor:
            example = data[index]
            return masked_loss("mae", network(example.window), example.target)

        order = torch.randperm(len(data)).split(config.train.batch_size)[:8]
        return bare(network, adam, iter([lambda index=index: loss(index) for index in order]), None)

    def framed() -> list[float]:
        network = build(find("darts-gt", "series"), made.shape, config.model, made.read.graph)
        return steps_of(lambda: training.train(network, data, few, config.train), monkeypatch)

    compared(framed, plain, "darts-gt on 16 windows of 207 sensors", capsys)
