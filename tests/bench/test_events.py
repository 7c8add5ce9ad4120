"""Speed and memory of event stores: neighbours against a loop, and growth with the events. Run with `make bench`."""

import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from graphs import pair_rules
from graphs.evaluation import rank_links
from graphs.events import EventStore, stretches
from graphs.history import PairHistory
from graphs.negatives import historical_negatives
from graphs.neighbors import NeighborIndex

ROOT = Path(__file__).parents[2]
WIKIPEDIA = ROOT.parent / "shared" / "data" / "temporal_graphs" / "wikipedia.parquet"
MEMORY = 80  # bytes an event that an index of both ends keeps, as its docstring says; 8 a node and the columns apart
pytestmark = pytest.mark.bench


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


def wikipedia() -> EventStore:
    if not WIKIPEDIA.exists():
        pytest.skip("needs ../shared/data/temporal_graphs/wikipedia.parquet")
    table = pl.read_parquet(WIKIPEDIA)
    return EventStore.of(table["src"].to_numpy(), table["dst"].to_numpy(), table["t"].to_numpy())


def generated(events: int) -> EventStore:
    """As many events as asked for, ten a source, with popular destinations and repeated pairs."""
    draw = np.random.default_rng(0)
    src = draw.integers(events // 10, size=events)
    dst = events // 10 + (draw.pareto(1.0, size=events) * 10).astype(np.int64) % (events // 50)
    return EventStore.of(src, dst, np.sort(draw.integers(events * 4, size=events)))


def all_neighbours(index: NeighborIndex, k: int, size: int) -> None:
    """The neighbours of both ends of every event, batch by batch."""
    for first in range(0, len(index.store), size):
        part = index.store[first : first + size]
        cut = index.store.before(part.time)
        index.recent_at(torch.cat((part.src, part.dst)), torch.cat((cut, cut)), k)


class NodeByNode:
    """The same with a list a node and a search a query, as published loaders do it."""

    def __init__(self, store: EventStore) -> None:
        lists: list[list[tuple[int, int, int]]] = [[] for _ in range(store.nodes)]
        rows = zip(store.src.tolist(), store.dst.tolist(), store.time.tolist(), strict=True)
        for event, (src, dst, when) in enumerate(rows):
            lists[src].append((dst, event, when))
            lists[dst].append((src, event, when))
        self.columns = [np.array(one, dtype=np.int64).reshape(-1, 3).T for one in lists]

    def recent(self, nodes: list[int], times: list[int], k: int) -> np.ndarray:
        found = np.zeros((3, len(nodes), k), dtype=np.int64)
        for place, (node, when) in enumerate(zip(nodes, times, strict=True)):
            columns = self.columns[node]
            end = bisect_left(columns[2], when)
            some = columns[:, max(0, end - k) : end]
            if some.shape[1]:
                found[:, place, k - some.shape[1] :] = some
        return found


def test_neighbours_of_wikipedia_are_found_at_12_million_events_a_second_and_ten_times_a_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = wikipedia()
    index, slow = NeighborIndex(store), NodeByNode(store)
    nodes, times = torch.cat((store.src, store.dst)).tolist(), torch.cat((store.time, store.time)).tolist()
    rates, ratios = [], []
    for _ in range(5):
        loop = spent(lambda: slow.recent(nodes, times, 5))
        ours = spent(lambda: all_neighbours(index, 5, 10_000))
        rates.append(len(store) / ours / 1e6)
        ratios.append(loop / ours)
    rate, ratio = max(rates), statistics.median(ratios)
    with capsys.disabled():
        print(f"\n  5 neighbours of both ends of an event: {rate:.2f} million events/s at best, target ≥ 1.2", end="")
        print(f"; {ratio:.1f} × a loop over nodes, target ≥ 10", end="")
    found = index.recent(torch.tensor(nodes), torch.tensor(times), 5)
    expected = slow.recent(nodes, times, 5)
    assert np.array_equal(found.times.numpy(), expected[2])
    assert np.array_equal(np.where(found.events >= 0, found.nodes, 0), expected[0])
    assert ratio >= 10
    assert rate >= 1.2


def test_time_grows_linearly_with_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [500_000, 1_000_000, 2_000_000]
    stages: dict[str, list[float]] = {}
    for size in sizes:
        made: list[EventStore] = []
        stages.setdefault("store", []).append(spent(lambda made=made, size=size: made.append(generated(size))) / size)
        store = made[0]
        index: list[NeighborIndex] = []
        history: list[PairHistory] = []
        parts = list(stretches(store, len(store) * 9 // 10, len(store)))
        pool = store.dst.unique()
        stages.setdefault("indices", []).append(
            spent(lambda i=index, h=history, s=store: (i.append(NeighborIndex(s)), h.append(PairHistory(s)))) / size
        )
        stages.setdefault("neighbours", []).append(spent(lambda i=index: all_neighbours(i[0], 10, 2_000)) / size)
        rule = pair_rules.pair_recency(history[0])
        stages.setdefault("a batch of 200 against 1 past pair each", []).append(
            spent(
                lambda h=history, p=pool, parts=parts, rule=rule: rank_links(
                    rule, (historical_negatives(h[0], part, p, 1, 0) for part in parts)
                )
            )
            / len(parts)
            * 1000
        )
    with capsys.disabled():
        for stage, cost in stages.items():
            unit = ("ms", 1.0) if "batch" in stage else ("µs an event", 1e6)
            shown = ", ".join(f"{value * unit[1]:.2f}" for value in cost)
            print(f"\n  {stage}: {shown} {unit[0]} at 0.5, 1 and 2 million events", end="")
    for stage, cost in stages.items():
        # A search has its logarithm, and what leaves the cache costs more; quadratic would be 4.
        assert cost[-1] <= 1.9 * cost[0], stage


PEAK = """
import sys
import torch
sys.path.insert(0, sys.argv[2])
from tests.bench.test_events import all_neighbours, generated
from graphs.neighbors import NeighborIndex
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
torch.set_num_threads(1)
store = generated(int(sys.argv[1]))
index = NeighborIndex(store)
all_neighbours(index, 10, 2_000)
kept = sum(t.numel() * t.element_size() for t in (index._rows, index.entries.keys, index.entries.event))
print(peak(), kept)
"""


def test_an_index_of_two_million_events_keeps_80_bytes_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    def run(events: int) -> tuple[int, int]:
        command = [sys.executable, "-c", PEAK, str(events), str(ROOT)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peak, kept = done.stdout.split()
        return int(peak), int(kept)

    small, large = run(100_000), run(2_000_000)
    kept, peak = large[1] / 2e6, (large[0] - small[0]) / 1.9e6
    with capsys.disabled():
        print(
            f"\n  2 million events: {kept:.0f} bytes an event kept by an index, {peak:.0f} at the peak of all", end=""
        )
    assert kept <= MEMORY + 1
    assert peak <= 600
