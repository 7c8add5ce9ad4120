"""The selective scan and the Mamba block, beyond equality with the authors' code (tests/test_golden_series.py)."""

import importlib
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu, softplus

from forecast.data.windows import Window, WindowShape
from forecast.models import SMamba, SMambaConfig, s_mamba
from forecast.models.layers import native_scan, ssm, torch_scan
from forecast.models.layers.ssm import MambaBlock, MambaState, scan_note, scan_path, scan_reference, selective_scan
from tests.parity import check

ROOT = Path(__file__).parents[1]
SCAN_FILES = sorted((ROOT / "tests" / "golden" / "selective_scan").glob("*.safetensors"))
built = pytest.mark.skipif(not native_scan.available(), reason="the native scan was not built: no C compiler")
either_path = pytest.mark.parametrize("native", [pytest.param(True, marks=built), False], ids=["native", "torch"])

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


def forward_in_time(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with positive step sizes, for scans without softplus: others let states and rounding grow."""
    return inputs | {
        name: inputs[name].detach().abs().requires_grad_() for name in inputs.keys() & {"delta", "delta_bias"}
    }


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
    inputs = inputs if soft else forward_in_time(inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_scan, "_BLOCK_VALUES", {"cpu": block})
        patch.setattr(torch_scan, "_STEPS", 3)
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


@either_path
@pytest.mark.parametrize(
    "order", [(2, 0, 1), (0, 2, 1), (1, 2, 0)], ids=["time first", "items first", "channels first"]
)
def test_layout_of_the_memory_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, native: bool, order: tuple[int, ...]
) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", native)
    inputs = scan_inputs(dtype=torch.float32)
    back = tuple(order.index(axis) for axis in range(3))

    def turned(given: Tensor) -> Tensor:
        wide = given.detach().permute(order).repeat(1, 1, 2)  # rows lie apart too, as parts of a split do
        return wide[..., : given.shape[order[2]]].permute(back).requires_grad_()

    moved = {name: turned(t) if name in ("u", "delta", "z", "B", "C") else t for name, t in inputs.items()}
    assert equal(run(selective_scan, moved), run(selective_scan, inputs), 1e-6)


@either_path
def test_output_and_last_state_each_have_gradients_alone(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", native)
    inputs = scan_inputs(dtype=torch.float32)

    def gradients(scan: Any, which: int) -> dict[str, Tensor]:
        result = scan(**inputs, delta_softplus=True, return_last_state=True)[which]
        found = torch.autograd.grad(result.square().sum(), list(inputs.values()), materialize_grads=True)
        return dict(zip(inputs, found, strict=True))

    for which in (0, 1):
        assert equal(gradients(selective_scan, which), gradients(scan_reference, which), 2e-5)


def test_inputs_are_left_as_they_were() -> None:
    inputs = scan_inputs()
    before = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    run(selective_scan, inputs)
    assert all(torch.equal(inputs[name], tensor) for name, tensor in before.items())


@either_path
def test_scan_computes_in_float32_under_bf16_and_gives_what_it_was_given(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", native)
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


@either_path
def test_at_most_150_mib_are_kept_for_the_backward_pass_of_a_large_scan(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(ssm, "_NATIVE", native)
    inputs = scan_inputs(32, 256, 16, 137, dtype=torch.float32)  # whose states alone are 68 MiB, and as many decays
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(**inputs, delta_softplus=True)
    given = sum(tensor.untyped_storage().nbytes() for tensor in inputs.values())
    assert given <= sum(kept.values()) <= min(150 << 20, given + (68 << 20) / 4)


def test_the_path_that_runs_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan_path() == ("native" if native_scan.available() else "torch")
    monkeypatch.setattr(ssm, "_NATIVE", False)
    assert scan_path() == "torch"
    assert "C compiler" in scan_note()
    monkeypatch.setattr(ssm, "_NATIVE", True)
    assert scan_note() == "selective scan: native"
    monkeypatch.setattr(ssm, "_cuda_kernel", lambda: None)
    assert (scan_path("cuda"), scan_path("mps")) == ("torch", "torch")
    assert "mamba_ssm" in scan_note("cuda")
    monkeypatch.setattr(ssm, "_cuda_kernel", lambda: scan_reference)
    assert scan_note("cuda") == "selective scan: mamba_ssm"


@built
def test_kernel_of_another_version_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native_scan._load() is not None
    monkeypatch.setattr(native_scan, "_INTERFACE", -1)
    assert native_scan._load() is None


@pytest.mark.parametrize("optional", [True, False])
def test_the_authors_kernel_is_given_what_it_reads(monkeypatch: pytest.MonkeyPatch, optional: bool) -> None:
    monkeypatch.setattr(ssm, "_cuda_kernel", lambda: scan_reference)  # of the same signature, on any device
    monkeypatch.setattr(ssm, "_cuda_kernel_takes", lambda u, A: True)  # noqa: N803
    inputs = {name: tensor.detach() for name, tensor in scan_inputs(optional=optional, dtype=torch.float32).items()}
    inputs.pop("initial_state", None)
    by_kernel, by_reference = (scan(**inputs, delta_softplus=True) for scan in (selective_scan, scan_reference))
    assert torch.equal(by_kernel, by_reference)
    monkeypatch.setattr(ssm, "_by_cuda_kernel", None)  # not called where it lacks something
    selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    selective_scan(**inputs, delta_softplus=True, initial_state=torch.zeros(3, 8, 4))


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
    steps=st.integers(1, 80),
    b=st.sampled_from(FORMS),
    optional=st.booleans(),
    soft=st.booleans(),
)
@example(2, 130, 3, 70, "varying", True, True)  # more than one block of channels, and of steps
@example(2, 260, 3, 70, "grouped", False, False)
def test_native_scan_equals_the_plain_one(
    batch: int, channels: int, states: int, steps: int, b: str, optional: bool, soft: bool
) -> None:
    inputs = scan_inputs(batch, channels, states, steps, b=b, optional=optional, dtype=torch.float32)
    inputs = inputs if soft else forward_in_time(inputs)
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


@either_path
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
@pytest.mark.parametrize("name", ["delta", "z"])
def test_native_softplus_and_gate_are_those_of_torch_at_every_size(name: str) -> None:
    # One step from a state of 0: softplus(delta) silu(z) is read, and each channel is a case of its own.
    values = torch.cat((torch.linspace(-87, 87, 4001), torch.tensor([0.0, -0.0, 20.0, -20.0, 1e-30, -1e-30])))
    plain = {"delta": torch.full_like(values, 0.5), "z": torch.full_like(values, 0.5)} | {name: values}
    ones = torch.ones(1, len(values), 1)

    def gated(given: dict[str, Tensor], scan: Any) -> tuple[Tensor, ...]:
        delta, z = (given[key].clone().requires_grad_() for key in ("delta", "z"))
        out = scan(delta, z)
        return out.detach(), *torch.autograd.grad(out.sum(), (delta, z))

    def scanned(delta: Tensor, z: Tensor) -> Tensor:
        columns = {"delta": delta[None, :, None], "z": z[None, :, None]}
        return selective_scan(ones, A=-ones[0], B=ones[:, :1], C=ones[:, :1], **columns, delta_softplus=True)[0, :, 0]

    def plainly(delta: Tensor, z: Tensor) -> Tensor:
        return softplus(delta) * silu(z)

    exact = gated({key: tensor.double() for key, tensor in plain.items()}, plainly)
    for one, other in zip(gated(plain, scanned), exact, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-6, atol=1e-37)


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


# Graphs


def window(batch: int, variates: int) -> Window:
    draw = torch.Generator().manual_seed(batch)
    past, seen = (torch.rand(batch, 24, variates, generator=draw) for _ in range(2))
    time = torch.rand(batch, 36, 3, generator=draw) - 0.5
    return Window.of(past.masked_fill(seen > 0.9, 0.0), seen <= 0.9, time[:, :24], time[:, 24:])


def s_mamba_network(layers: int = 1) -> SMamba:
    torch.manual_seed(1)
    return SMamba(WindowShape(24, 12, 5, 5, 3), SMambaConfig(d_model=16, d_ff=24, d_state=4, layers=layers))


def test_compiled_block_has_the_outputs_and_gradients_of_the_eager_one() -> None:
    net, x = block().float(), torch.randn(2, 9, 12)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)

    def run_through(module: Any) -> list[Tensor]:
        net.zero_grad()
        out = module(x)
        out.square().sum().backward()
        return [out.detach(), *(weight.grad for weight in net.parameters())]

    for one, other in zip(run_through(compiled), run_through(net), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


def test_compiled_scan_gives_every_gradient_of_the_eager_one() -> None:
    inputs = scan_inputs(b="grouped")
    assert equal(
        run(torch.compile(selective_scan, backend="aot_eager", fullgraph=True), inputs),
        run(selective_scan, inputs),
        1e-12,
    )


def test_copies_of_the_package_in_one_process_each_have_their_own_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "forecast", tmp_path / "vendored_copy", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    path = tmp_path / "vendored_copy" / "models" / "layers" / "torch_scan.py"
    text = path.read_text(encoding="utf-8")
    assert "return out, last, kept\n" in text
    path.write_text(text.replace("return out, last, kept\n", "return out + 1000, last, kept\n"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    try:
        other = importlib.import_module("vendored_copy.models.layers.ssm")
        assert other.scan_path() == "torch"  # stored models hold no compiled code
        inputs = {name: tensor.detach() for name, tensor in scan_inputs(dtype=torch.float32).items()}
        for compile_it in (lambda scan: scan, lambda scan: torch.compile(scan, backend="eager")):
            here, there = (
                compile_it(scan)(**inputs, delta_softplus=True) for scan in (selective_scan, other.selective_scan)
            )
            assert torch.allclose(there, here + 1000, rtol=0, atol=1e-3)
    finally:
        for name in set(sys.modules) - known:
            if name.startswith("vendored_copy"):
                del sys.modules[name]


# Memory of S-Mamba


def test_layers_that_are_computed_twice_have_the_gradients_of_those_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, given = s_mamba_network(layers=2).train(), window(4, 5)

    def gradients(kept: int) -> tuple[int, list[Tensor]]:
        monkeypatch.setattr(s_mamba, "_KEPT_TOKENS", kept)
        saved = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        net.zero_grad()
        torch.manual_seed(3)  # of dropout
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forecast = net(given)
        forecast.square().sum().backward()
        return saved, [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]

    (much, plain), (little, again) = gradients(1 << 30), gradients(0)
    assert little < much / 3
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
