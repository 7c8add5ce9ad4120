"""The selective scan and the Mamba block, beyond equality with the authors' code (tests/test_golden_series.py)."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forecast.models.layers import native_scan, ssm
from forecast.models.layers.ssm import MambaBlock, MambaState, scan_path, scan_reference, selective_scan
from tests.parity import check

SCAN_FILES = sorted((Path(__file__).parent / "golden" / "selective_scan").glob("*.safetensors"))
built = pytest.mark.skipif(not native_scan.available(), reason="the native scan was not built: no C compiler")

FORMS = ("constant", "varying", "grouped")


def scan_inputs(
    batch: int = 3,
    channels: int = 8,
    states: int = 4,
    steps: int = 12,
    *,
    b: str = "varying",
    c: str = "varying",
    optional: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    shapes = {
        "constant": (channels, states),
        "varying": (batch, states, steps),
        "grouped": (batch, 2 if channels % 2 == 0 else 1, states, steps),
    }
    made = {
        "u": noise(batch, channels, steps),
        "delta": noise(batch, channels, steps),
        "A": -noise(channels, states).exp(),
        "B": noise(*shapes[b]),
        "C": noise(*shapes[c]),
    }
    if optional:
        made |= {
            "D": noise(channels),
            "z": noise(batch, channels, steps),
            "delta_bias": noise(channels),
            "initial_state": noise(batch, channels, states),
        }
    return {name: tensor.requires_grad_() for name, tensor in made.items()}


def run(scan: Any, inputs: dict[str, Tensor], soft: bool = True) -> dict[str, Tensor]:
    """Output, last state, and the gradients of a loss in which both take part."""
    out, last = scan(**inputs, delta_softplus=soft, return_last_state=True)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    gradients = torch.autograd.grad((out * weights).sum() + last.square().sum(), list(inputs.values()))
    return {"out": out, "last": last} | dict(zip(inputs, gradients, strict=True))


def equal(one: dict[str, Tensor], other: dict[str, Tensor], relative: float) -> bool:
    return one.keys() == other.keys() and all(
        a.shape == b.shape and (a - b).abs().max() <= relative * (1e-30 + b.abs().max())
        for a, b in ((one[name], other[name]) for name in one)
    )


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.integers(1, 6),
    states=st.integers(1, 5),
    steps=st.integers(1, 20),
    b=st.sampled_from(FORMS),
    c=st.sampled_from(FORMS),
    optional=st.booleans(),
    soft=st.booleans(),
    block=st.sampled_from([1, 64, 300, 1 << 18]),
)
def test_fast_scan_equals_the_plain_one_however_it_is_cut(
    batch: int, channels: int, states: int, steps: int, b: str, c: str, optional: bool, soft: bool, block: int
) -> None:
    inputs = scan_inputs(batch, channels, states, steps, b=b, c=c, optional=optional)
    if not soft:  # steps backwards in time grow without bound
        for name in {"delta", "delta_bias"} & inputs.keys():
            inputs[name] = inputs[name].detach().abs().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssm, "_BLOCK_VALUES", {"cpu": block})
        patch.setattr(ssm, "_STEPS", 3)
        assert equal(run(selective_scan, inputs, soft), run(scan_reference, inputs, soft), 1e-10)


def test_fast_scan_passes_the_gradient_check() -> None:
    inputs = scan_inputs(2, 4, 3, 5, b="grouped")

    def scan(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(inputs, tensors, strict=True))
        out, last = selective_scan(**named, delta_softplus=True, return_last_state=True)
        return out, last

    assert torch.autograd.gradcheck(scan, tuple(inputs.values()))


def test_two_halves_chained_by_the_state_equal_the_whole() -> None:
    inputs = {name: tensor.detach() for name, tensor in scan_inputs(steps=13).items()}
    parts = ({}, {})
    for name, tensor in inputs.items():
        moves = name in ("u", "delta", "B", "C", "z")
        for part, steps in zip(parts, (slice(0, 6), slice(6, 13)), strict=True):
            part[name] = tensor[..., steps] if moves else tensor
    whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    first, state = selective_scan(**parts[0], delta_softplus=True, return_last_state=True)
    second, end = selective_scan(**parts[1] | {"initial_state": state}, delta_softplus=True, return_last_state=True)
    assert torch.allclose(torch.cat((first, second), dim=2), whole, rtol=0, atol=1e-12)
    assert torch.allclose(end, last, rtol=0, atol=1e-12)


def test_a_step_is_not_seen_by_the_steps_before_it() -> None:
    inputs = {name: tensor.detach() for name, tensor in scan_inputs().items()}
    before = selective_scan(**inputs, delta_softplus=True)
    for name in ("u", "delta", "z", "B", "C"):
        changed = inputs[name].clone()
        changed[..., 7:] += 1e3
        after = selective_scan(**inputs | {name: changed}, delta_softplus=True)
        assert torch.equal(after[..., :7], before[..., :7]), name
        assert not torch.equal(after[..., 7:], before[..., 7:]), name


def test_items_of_a_batch_do_not_meet() -> None:
    inputs = {name: tensor.detach() for name, tensor in scan_inputs(batch=5).items()}
    whole = selective_scan(**inputs, delta_softplus=True)
    for item in range(5):
        alone = {n: t[item : item + 1] if n not in ("A", "D", "delta_bias") else t for n, t in inputs.items()}
        assert torch.allclose(selective_scan(**alone, delta_softplus=True), whole[item : item + 1], atol=1e-13)


def test_layout_of_the_memory_does_not_matter() -> None:
    inputs = scan_inputs(dtype=torch.float32)
    turned = {
        name: tensor.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
        if name in ("u", "delta", "z", "B", "C")
        else tensor
        for name, tensor in inputs.items()
    }
    assert equal(run(selective_scan, turned), run(selective_scan, inputs), 1e-6)


def test_inputs_are_left_as_they_were() -> None:
    inputs = scan_inputs()
    before = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    run(selective_scan, inputs)
    assert all(torch.equal(inputs[name], tensor) for name, tensor in before.items())


def test_scan_computes_in_float32_under_bf16_and_gives_what_it_was_given() -> None:
    inputs = {name: tensor.detach() for name, tensor in scan_inputs(dtype=torch.float32).items()}
    exact = selective_scan(**inputs, delta_softplus=True)
    half = {
        name: tensor.bfloat16() if name in ("u", "delta", "B", "C", "z") else tensor for name, tensor in inputs.items()
    }
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(selective_scan(**inputs, delta_softplus=True), exact)
        out, last = selective_scan(**half, delta_softplus=True, return_last_state=True)
    assert (out.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    same = selective_scan(**{name: tensor.float() for name, tensor in half.items()}, delta_softplus=True)
    assert torch.equal(out, same.bfloat16())


def test_what_is_kept_for_backward_is_far_less_than_the_states() -> None:
    inputs = scan_inputs(8, 64, 16, 64, dtype=torch.float32)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(**inputs, delta_softplus=True)
    given = sum(tensor.untyped_storage().nbytes() for tensor in inputs.values())
    states = 4 * 8 * 64 * 16 * 64
    assert sum(kept.values()) <= states / 8 + 2 * given + 4096  # copies of the inputs, time first, at the most


def test_the_path_that_runs_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan_path() == ("native" if native_scan.available() else "torch")
    monkeypatch.setattr(ssm, "_NATIVE", False)
    assert scan_path() == "torch"


@pytest.mark.parametrize("path", SCAN_FILES, ids=lambda path: path.stem)
def test_torch_path_equals_the_authors_code_where_the_native_one_is_built(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", False)
    result = check(path)
    assert result.passed, str(result)


@built
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([1, 2, 7, 16, 130]),
    states=st.integers(1, 5),
    steps=st.integers(1, 40),
    b=st.sampled_from(FORMS),
    optional=st.booleans(),
    soft=st.booleans(),
)
def test_native_scan_equals_the_plain_one(
    batch: int, channels: int, states: int, steps: int, b: str, optional: bool, soft: bool
) -> None:
    inputs = scan_inputs(batch, channels, states, steps, b=b, optional=optional, dtype=torch.float32)
    if not soft:
        for name in inputs.keys() & {"delta", "delta_bias"}:  # steps back in time let states and rounding grow
            inputs[name] = inputs[name].detach().abs().requires_grad_()
    exact = run(scan_reference, {name: t.detach().double().requires_grad_() for name, t in inputs.items()}, soft)
    made, plain = run(selective_scan, inputs, soft), run(scan_reference, inputs, soft)
    for name, reference in exact.items():
        # Gradients of a bias are sums that may cancel: no worse than the plain scan in float32.
        allowed = 5e-6 * reference.abs().max() + 4 * (plain[name] - reference).abs().max()
        assert (made[name] - reference).abs().max() <= allowed, name


@built
def test_native_scan_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = scan_inputs(5, 12, 3, 30, dtype=torch.float32)
    alone = run(selective_scan, inputs)
    monkeypatch.setattr(native_scan, "_WORTH_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = run(selective_scan, inputs)
    assert all(torch.equal(shared[name], tensor) for name, tensor in alone.items())


@pytest.mark.parametrize("native", [pytest.param(True, marks=built), False])
@pytest.mark.parametrize("name", ["u", "delta", "B"])
def test_what_is_not_a_number_stays_so_from_its_step_on(
    monkeypatch: pytest.MonkeyPatch, native: bool, name: str
) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", native)
    inputs = {key: tensor.detach() for key, tensor in scan_inputs(dtype=torch.float32).items()}
    inputs[name][..., 5] = torch.nan
    out = selective_scan(**inputs, delta_softplus=True)
    assert out[..., :5].isfinite().all()
    assert out[..., 5:].isnan().all()


@built
def test_native_decay_is_0_and_1_and_infinite_where_it_must_be() -> None:
    rates = torch.tensor([-200.0, -88.0, -0.0, 88.0, 200.0])
    _, last = selective_scan(
        torch.zeros(1, 5, 1),
        torch.ones(1, 5, 1),
        rates[:, None],
        torch.zeros(1, 1, 1),
        torch.zeros(1, 1, 1),
        initial_state=torch.ones(1, 5, 1),
        return_last_state=True,
    )
    assert torch.allclose(last[0, :, 0], rates.exp(), rtol=1e-6, atol=1e-37)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_scan_of_the_cpu() -> None:
    inputs = scan_inputs(steps=100)
    there = {name: tensor.detach().to("cuda").requires_grad_() for name, tensor in inputs.items()}
    made = {name: tensor.cpu() for name, tensor in run(selective_scan, there).items()}
    assert equal(made, run(scan_reference, inputs), 1e-10)


def block(**sizes: Any) -> MambaBlock:
    torch.manual_seed(2)
    return MambaBlock(**{"d_model": 12, "d_state": 4} | sizes).double()


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_block_gives_the_same_step_by_step(width: int, length: int) -> None:
    net, x = block(d_conv=width), torch.randn(2, length, 12, dtype=torch.float64)
    state, outputs = net.start(2), []
    for step in x.unbind(1):
        out, state = net.step(step, state)
        outputs.append(out)
    assert torch.allclose(torch.stack(outputs, dim=1), net(x), rtol=0, atol=1e-13)


def test_a_step_leaves_the_state_it_was_given_alone() -> None:
    net, x = block(), torch.randn(2, 12, dtype=torch.float64)
    _, state = net.step(x, net.start(2))
    kept = MambaState(*(part.clone() for part in state))
    net.step(x, state)
    assert torch.equal(state.recent, kept.recent)
    assert torch.equal(state.scan, kept.scan)


def test_block_is_causal() -> None:
    net, x = block(), torch.randn(2, 9, 12, dtype=torch.float64)
    changed = x.clone()
    changed[:, 5:] += 1.0
    before, after = net(x), net(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_convolution_is_that_of_torch() -> None:
    net, x = block(d_conv=3), torch.randn(2, 9, 12, dtype=torch.float64)
    inputs, gate = net.in_proj(x).chunk(2, dim=2)
    mixed = torch.nn.functional.conv1d(
        inputs.transpose(1, 2), net.conv1d.weight, net.conv1d.bias, padding=2, groups=net.conv1d.groups
    )[..., :9]
    u = torch.nn.functional.silu(mixed)  # (B, d_inner, L)
    dt, b, c = net.x_proj(u.transpose(1, 2)).split((net.rank, 4, 4), dim=2)
    scanned = scan_reference(
        u,
        (dt @ net.dt_proj.weight.T).transpose(1, 2),
        -net.A_log.exp(),
        b.transpose(1, 2),
        c.transpose(1, 2),
        net.D,
        gate.transpose(1, 2),
        net.dt_proj.bias,
        delta_softplus=True,
    )
    assert torch.allclose(net(x), net.out_proj(scanned.transpose(1, 2)), rtol=0, atol=1e-13)


def test_block_starts_as_the_paper_says() -> None:
    net = block(d_model=64, d_state=5)
    assert net.rank == 4
    assert torch.allclose(net.A_log.exp(), torch.arange(1.0, 6).double().expand(128, 5))
    assert (net.D == 1).all()
    dt = torch.nn.functional.softplus(net.dt_proj.bias)
    assert 1e-3 * (1 - 1e-5) <= dt.min() < 3e-3
    assert 3e-2 < dt.max() <= 1e-1 * (1 + 1e-5)
    assert dt.log().mean().item() == pytest.approx((math.log(1e-3) + math.log(1e-1)) / 2, abs=0.5)
    assert 0.4 < net.dt_proj.weight.abs().max() <= 0.5  # one over the root of the rank


@pytest.mark.parametrize(("d_model", "rank"), [(16, 1), (17, 2), (40, 3), (1, 1)])
def test_rank_is_a_sixteenth_of_the_width_rounded_up(d_model: int, rank: int) -> None:
    assert block(d_model=d_model).rank == rank
    assert block(d_model=d_model, dt_rank=7).dt_proj.weight.shape == (2 * d_model, 7)
