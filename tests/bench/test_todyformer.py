"""Speed and memory of Todyformer: ranking against encoding, preparing against training, growth with the events.

Run with `make bench`. Ratios of CPU time of one thread, of runs in turn, the median of five.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from graphs.events import EventStore, LinkBatch, split_at_quantiles, stretches
from graphs.link_heads import softmax_loss
from graphs.negatives import AllDestinations, random_negatives
from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig
from tests.bench.test_events import ROOT, generated, one_thread, spent, wikipedia  # noqa: F401

pytestmark = pytest.mark.bench


def network(store: EventStore, training: int) -> Todyformer:
    """The default network, not trained: its work is the same."""
    torch.manual_seed(0)
    config = TodyformerConfig()
    net = Todyformer(GraphShape.of(store[:training], config.window), config)
    net.encoder.input.introduce(store[:training])
    return net


def training(net: Todyformer, history: History, pool: torch.Tensor) -> Callable[[int], None]:
    """A training step on the batch of 200 events that begins at a position: window, negatives, gradients, update."""
    optimiser = torch.optim.Adam(net.parameters())

    def step(first: int) -> None:
        part = next(stretches(history.store, first, first + 200))
        batch = random_negatives(history.store, part, pool, 40, 0)
        loss = softmax_loss(net(history.until(batch.time[0]), batch), torch.ones(batch.negatives.shape))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


@torch.no_grad()
def ranking(net: Todyformer, history: History, batch: LinkBatch, pool: torch.Tensor) -> tuple[float, float]:
    """How long scoring takes, and all that ranking a batch needs but the encoding, as multiples of the encoding."""
    view = history.until(batch.time[0])
    encoding = net.encoder(view.graph)
    encode = spent(lambda: net.encoder(view.graph))
    score = spent(lambda: net.score(view, encoding, batch.src, pool[None], batch.time))
    both = spent(lambda: net(view, batch))
    return score / encode, (both - encode) / encode


def test_ranking_all_pages_of_wikipedia_takes_at_most_twice_the_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    store = wikipedia()
    first, second = split_at_quantiles(store)
    net, pool = network(store, first).eval(), torch.unique(store.dst)
    history, everyone = History(store, net.config), AllDestinations(store, pool)
    parts = list(stretches(store, first, second))[20:25]
    score, whole = zip(*[ranking(net, history, everyone(part), pool) for part in parts], strict=True)
    with capsys.disabled():
        print(f"\n  200 × 1,000 candidates: {statistics.median(score):.2f} × the encoding of 4,096 events", end="")
        print(f", {statistics.median(whole):.2f} with all that a batch of ranking needs; target ≤ 2", end="")
    assert statistics.median(whole) <= 2


def test_preparing_a_window_takes_at_most_a_tenth_of_a_training_step(capsys: pytest.CaptureFixture[str]) -> None:
    store = wikipedia()
    first, _ = split_at_quantiles(store)
    net = network(store, first).train()
    history = History(store, net.config)
    step, shares, seconds = training(net, history, torch.unique(store.dst)), [], []
    step(10_000)
    for begin in range(20_000, 45_000, 5_000):
        window = spent(lambda begin=begin: history.until(store.time[begin]))
        seconds.append(spent(lambda begin=begin: step(begin)))
        shares.append(window / seconds[-1])
    with capsys.disabled():
        print(f"\n  a window of 4,096 events: {statistics.median(shares):.1%} of a training step", end="")
        print(f" of {statistics.median(seconds) * 1000:.0f} ms; target ≤ 10 %", end="")
    assert statistics.median(shares) <= 0.1


def test_an_epoch_grows_linearly_with_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    """Index and batches, 20 of them measured at each size, evenly spread: the others are as these."""
    sizes, epochs = (500_000, 1_000_000, 2_000_000), []
    for size in sizes:
        store = generated(size)
        net, made = network(store, size).train(), []
        index = spent(lambda store=store, net=net, made=made: made.append(History(store, net.config)))
        step = training(net, made[0], torch.unique(store.dst))
        step(size // 2)
        begins = range(size // 20, size - 200, size // 21)
        batches = spent(lambda step=step, begins=begins: [step(begin) for begin in begins]) / len(begins)
        epochs.append(index + batches * size / 200)
    costs = [epoch / size for epoch, size in zip(epochs, sizes, strict=True)]
    with capsys.disabled():
        shown = ", ".join(f"{cost * 1e6:.0f}" for cost in costs)
        print(f"\n  an epoch: {shown} µs an event at 0.5, 1 and 2 million events", end="")
    assert costs[-1] <= 1.9 * costs[0]  # quadratic would be 4


PEAK = """
import sys
import torch
sys.path.insert(0, sys.argv[2])
from tests.bench.test_events import generated
from tests.bench.test_todyformer import network, training
from graphs.todyformer import History
torch.set_num_threads(1)
store = generated(int(sys.argv[1]))
net = network(store, len(store))
step = training(net, History(store, net.config), torch.unique(store.dst))
for begin in (len(store) // 2, len(store) - 200):
    step(begin)
print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024)
"""


def test_training_on_two_million_events_takes_a_kilobyte_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    def peak(events: int) -> int:
        command = [sys.executable, "-c", PEAK, str(events), str(ROOT)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    small, large = peak(100_000), peak(2_000_000)
    each = (large - small) / 1.9e6
    with capsys.disabled():
        print(
            f"\n  training on 2 million events: {large / 2**20:.0f} MiB at the peak, {each:.0f} bytes an event", end=""
        )
    assert each <= 1024
