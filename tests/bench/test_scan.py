"""The selective scan against the plain loop, mambapy and the fused kernel that the targets come from. `make bench`.

Forward and backward, in milliseconds: arms take turns in one process, CPU time of one thread counts, and the median of
the rounds is the figure. mambapy is timed where it can be imported (`pip download mambapy`, unpacked anywhere on
PYTHONPATH); this project does not need it. Where the loop takes minutes, its time at another shape stands for it.
"""

import functools
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from forecast.models.layers import native_scan, ssm
from forecast.models.layers.ssm import scan_reference, selective_scan

pytestmark = pytest.mark.bench
MAMBAPY = importlib.util.find_spec("mambapy") is not None
SECONDS = 6.0  # for the rounds of one shape, at least two that count
LOOPED = (32, 21, 256, 2)  # the shape of the loop beside shapes that are too large for it


class Anchor(NamedTuple):
    """Milliseconds of others, measured together on another machine: only their ratios travel."""

    fused: float  # a kernel for CPUs
    loop: float | None  # step by step, as the authors' plain scan; None where it takes minutes


# Batch, length, channels, states.
ANCHORS: Mapping[tuple[int, int, int, int], Anchor] = {
    (32, 7, 256, 2): Anchor(0.73, 5.7),
    (32, 21, 256, 2): Anchor(2.0, 23.0),
    (32, 137, 256, 2): Anchor(22.0, 654.0),
    (32, 137, 256, 16): Anchor(42.0, 10426.0),
    (32, 321, 256, 16): Anchor(104.0, None),
    (32, 862, 256, 2): Anchor(150.0, None),
    (8, 96, 128, 16): Anchor(3.6, None),
    (8, 512, 128, 16): Anchor(22.0, None),
    (8, 2048, 128, 16): Anchor(81.0, None),
}


class Inputs(NamedTuple):
    """What a Mamba block gives its scan: arrays (B, L, ·), and constants of each channel."""

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    z: Tensor
    A: Tensor
    D: Tensor
    bias: Tensor

    @classmethod
    def drawn(cls, batch: int, length: int, channels: int, states: int) -> "Inputs":
        draw = torch.Generator().manual_seed(0)
        widths = (channels, channels, states, states, channels)
        arrays = [torch.randn(batch, length, width, generator=draw) for width in widths]
        rates = -torch.arange(1.0, states + 1).repeat(channels, 1)
        steps = torch.empty(channels).uniform_(-7.0, -2.0, generator=draw)  # softplus makes them 0.001 to 0.1
        return cls(*(given.requires_grad_() for given in (*arrays, rates, torch.ones(channels), steps)))


Scan = Callable[[Inputs], Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_num_threads(before)


def ours(scan: Callable[..., Tensor], given: Inputs) -> Tensor:
    u, delta, B, C, z = (array.transpose(1, 2) for array in given[:5])  # noqa: N806
    return scan(u, delta, given.A, B, C, given.D, z, given.bias, delta_softplus=True)


def theirs(given: Inputs) -> Tensor:
    from mambapy.mamba import MambaBlock

    dt = softplus(given.delta + given.bias)
    read = MambaBlock.selective_scan(None, given.u, dt, given.A, given.B, given.C, given.D)  # (B, L, channels)
    return read * silu(given.z)


def round_of(scan: Scan, given: Inputs) -> float:
    """CPU milliseconds of one pass forward and backward."""
    for tensor in given:
        tensor.grad = None
    start = time.thread_time()
    out = scan(given)
    out.backward(torch.ones_like(out))
    return (time.thread_time() - start) * 1e3


@pytest.mark.parametrize("shape", ANCHORS, ids=lambda shape: "x".join(map(str, shape)))
def test_scan_is_twice_as_fast_as_mambapy_and_native_near_the_fused_kernel(
    shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, looped = Inputs.drawn(*shape), LOOPED if ANCHORS[shape].loop is None else shape
    fast: Scan = functools.partial(ours, selective_scan)
    arms: dict[str, tuple[Scan, Inputs]] = {"torch": (fast, given)}
    if native_scan.available():
        arms["native"] = (fast, given)
    arms["loop"] = (functools.partial(ours, scan_reference), given if looped == shape else Inputs.drawn(*looped))
    if MAMBAPY:
        arms["mambapy"] = (theirs, given)

    spent: dict[str, list[float]] = {name: [] for name in arms}
    begun = None
    while begun is None or len(spent["torch"]) < 3 or time.perf_counter() - begun < SECONDS:
        for name, arm in arms.items():
            monkeypatch.setattr(ssm, "_NATIVE", name == "native")
            spent[name].append(round_of(*arm))
        begun = begun or time.perf_counter()  # the first round warms up
    took = {name: statistics.median(rounds[1:]) for name, rounds in spent.items()}

    ratios: list[tuple[str, float, float]] = []
    if MAMBAPY:
        ratios.append(("torch / mambapy", took["torch"] / took["mambapy"], 0.5))
    if "native" in took:
        target = 1.5 * ANCHORS[shape].fused / (ANCHORS[looped].loop or math.nan)
        ratios.append(("native / loop", took["native"] / took["loop"], target))
    told = ", ".join(f"{name} {milliseconds:.4g}" for name, milliseconds in took.items())
    told += "" if looped == shape else f", the loop of {looped}"
    judged = "; ".join(f"{name} {ratio:.3f}, target ≤ {target:.3f}" for name, ratio, target in ratios)
    absent = "" if MAMBAPY else "; mambapy cannot be imported"
    absent += "" if "native" in took else "; the native path was not built"
    with capsys.disabled():
        print(f"\n  scan of {shape}, ms: {told}; {judged}{absent}", end="")
    assert [name for name, ratio, target in ratios if ratio > target] == []
