"""TSM2, which has no authors' code to compare with: what the paper's text and the choices beside it imply."""

import copy
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from forecast.config import resolve
from forecast.data.windows import Window, WindowShape
from forecast.errors import UsageError
from forecast.models import TSM2, TSM2Config
from forecast.models.layers.mixers import BatchNorm, SelectiveMixer, WindowNorm
from forecast.models.layers.ssm import SelectiveChain
from forecast.models.tsm2 import MambaMixer

SHAPE = WindowShape(lookback=48, horizon=12, variates=5, targets=5, time_features=3)
RICH = WindowShape(lookback=48, horizon=12, variates=5, targets=5, time_features=3, known=4, static=2)
SETTINGS = sorted((Path(__file__).parents[1] / "configs" / "tsm2").glob("*.yaml"))

# Table 5, whose footnote calls it preliminary: test MSE at horizons 96, 192, 336 and 720, lookback 512.
TABLE_5 = {
    "etth1": (0.375, 0.398, 0.419, 0.422),
    "etth2": (0.253, 0.334, 0.347, 0.401),
    "ettm1": (0.322, 0.349, 0.366, 0.407),
    "ettm2": (0.173, 0.230, 0.279, 0.388),
    "ecl": (0.142, 0.153, 0.175, 0.209),
    "exchange": (0.163, 0.229, 0.383, 0.999),
    "traffic": (0.396, 0.408, 0.427, 0.449),
    "weather": (0.161, 0.208, 0.252, 0.337),
}


def small(shape: WindowShape = SHAPE, **settings: object) -> TSM2:
    torch.manual_seed(1)
    return TSM2(shape, TSM2Config(**settings))  # type: ignore[arg-type]


def exact(shape: WindowShape = SHAPE, **settings: object) -> TSM2:
    return small(shape, **settings).double().eval()


def waves(shape: WindowShape = SHAPE, batch: int = 4, seen: float = 1.0) -> Window:
    """Noisy waves of a period and level of their own; each step is seen with probability `seen`."""
    draw = torch.Generator().manual_seed(7)
    steps = torch.arange(shape.lookback)[None, :, None]
    period = 3 + 20 * torch.rand(batch, 1, shape.variates, generator=draw)
    level = 2 * torch.randn(batch, 1, shape.variates, generator=draw)
    noise = 0.1 * torch.randn(batch, shape.lookback, shape.variates, generator=draw)
    mask = torch.rand(batch, shape.lookback, shape.variates, generator=draw) < seen
    length = shape.lookback + shape.horizon
    time = torch.rand(batch, length, shape.time_features, generator=draw) - 0.5
    return Window(
        (level + torch.sin(2 * torch.pi * steps / period) + noise).masked_fill(~mask, 0.0),
        mask,
        time[:, : shape.lookback],
        time[:, shape.lookback :],
        torch.randn(batch, length, shape.known, generator=draw),
        torch.randn(batch, shape.variates, shape.static, generator=draw),
    )


def double(window: Window) -> Window:
    return Window(*(part.double() if part.is_floating_point() else part for part in window))


def grid(*shape: int, seed: int = 5) -> Tensor:
    """Tokens of float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixer(*, bidirectional: bool, seed: int = 2) -> SelectiveMixer:
    torch.manual_seed(seed)
    return SelectiveMixer(6, 4, 4, 2, bidirectional=bidirectional).double()


def stack(patches: int = 5, variates: int = 4, layers: int = 3, **settings: object) -> MambaMixer:
    torch.manual_seed(4)
    config = TSM2Config(d_state=4, dropout=0.0, **settings)  # type: ignore[arg-type]
    return MambaMixer(patches, variates, 6, layers, config).double()


def close(one: Tensor, other: Tensor, relative: float) -> bool:
    return bool((one - other).abs().max() <= relative * other.abs().max())


def skips(net: nn.Module) -> list[nn.Parameter]:
    """The weights of every weighted sum but the last."""
    return [weight for key, weight in net.named_parameters() if ".skips." in key]


# Shapes and sizes


@pytest.mark.parametrize(("known", "static"), [(0, 0), (3, 0), (0, 2), (3, 2)])
@pytest.mark.parametrize("variates", [1, 2, 7])
@pytest.mark.parametrize(("lookback", "patches"), [(1, 1), (5, 1), (16, 1), (17, 2), (96, 11), (97, 12), (512, 63)])
def test_forecast_covers_the_horizon_from_a_lookback_of_any_length(
    lookback: int, patches: int, variates: int, known: int, static: int
) -> None:
    shape = WindowShape(lookback, 9, variates, variates, 0, known, static)
    net = small(shape).eval()
    with torch.no_grad():
        forecast = net(waves(shape, batch=2))
    assert forecast.shape == (2, 9, variates)
    assert forecast.isfinite().all()
    assert net.patches.count == patches
    assert net.project.in_features == (1 + (known > 0) + (static > 0)) * patches * 16


@pytest.mark.parametrize(("lookback", "patch_len", "stride"), [(20, 6, 6), (21, 6, 4), (24, 24, 24), (7, 1, 1)])
def test_patches_end_at_the_origin_and_continue_the_first_value_to_the_left(
    lookback: int, patch_len: int, stride: int
) -> None:
    patches = small(WindowShape(lookback, 3, 2, 2, 0), patch_len=patch_len, stride=stride).patches
    read: list[Tensor] = []
    patches.project.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    series = torch.arange(1.0, lookback + 1)[:, None, None].expand(-1, 2, 3)
    patches(series)
    for number, patch in enumerate(reversed(read[0][:, 1, 2].tolist())):
        last = lookback - number * stride
        assert patch == [max(1.0, last - patch_len + 1 + step) for step in range(patch_len)]
    assert lookback - len(read[0]) * stride <= patch_len - stride  # nothing of the series is left out
    assert read[0].shape[0] == 1 or lookback - (len(read[0]) - 1) * stride > 0  # no patch of padding alone


@pytest.mark.parametrize(
    ("d_model", "d_state", "layers", "patch", "total"),
    [
        (16, 8, 2, (16, 8), 30_094),
        (16, 16, 2, (16, 8), 34_702),
        (32, 16, 2, (16, 8), 82_350),
        (32, 16, 3, (16, 8), 106_107),
        (64, 16, 2, (8, 8), 222_510),
    ],
)
def test_number_of_weights_is_that_of_the_formula_whatever_the_variates(
    d_model: int, d_state: int, layers: int, patch: tuple[int, int], total: int
) -> None:
    for variates in (1, 7):
        for final in (True, False):
            net = small(
                WindowShape(96, 96, variates, variates, 4),
                d_model=d_model,
                d_state=d_state,
                layers=layers,
                patch_len=patch[0],
                stride=patch[1],
                final_average=final,
            )
            assert sum(weight.numel() for weight in net.parameters()) == total + (2 * (layers + 1) if final else 0)


def test_default_mixers_have_the_sizes_of_the_specification() -> None:
    net = small(WindowShape(96, 96, 7, 7, 0))
    sizes = [
        sum(weight.numel() for weight in mixing[0].mixer.parameters())
        for mixing in (net.mixer.token_mixing, net.mixer.channel_mixing)
    ]
    assert sizes == [2_592, 3_648]


@pytest.mark.parametrize("layers", range(1, 7))
def test_weighted_sums_have_the_number_of_weights_that_the_paper_counts(layers: int) -> None:
    net = stack(layers=layers)
    assert sum(weight.numel() for weight in skips(net)) == layers * (2 * layers + 3)
    final = net.final_skips
    assert final is not None
    assert final.token.numel() + final.channel.numel() == 2 * (layers + 1)
    assert stack(layers=layers, final_average=False).final_skips is None


@pytest.mark.parametrize("variates", [1, 3, 5, 9])
def test_network_forecasts_as_many_variates_as_it_is_given(variates: int) -> None:
    net = small()
    assert net.any_variates
    assert net.eval()(waves(WindowShape(48, 12, variates, variates, 3))).shape == (4, 12, variates)


@pytest.mark.parametrize("settings", [{"channel_mixer": "mlp"}, {"revin_affine": True}])
def test_settings_that_tie_weights_to_the_variates_say_so(settings: dict[str, object]) -> None:
    assert not small(**settings).any_variates


def test_network_built_for_some_targets_forecasts_the_first_variates() -> None:
    some, all_of_them = exact(WindowShape(48, 12, 5, 2, 3)), exact()
    window = double(waves())
    assert close(some(window), all_of_them(window)[..., :2], 1e-12)


# The scan and the mixers


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_chain_is_the_convolution_and_the_recurrence_of_the_equations(length: int) -> None:
    torch.manual_seed(2)
    width, states, taps, rank = 6, 4, 4, 2
    chain = SelectiveChain(width, states, taps, rank).double()
    inputs, gate = grid(length, 3, width), grid(length, 3, width, seed=6)
    decay, state, expected = -chain.A_log.exp(), torch.zeros(3, width, states, dtype=torch.float64), []
    for step in range(length):
        mixed = chain.conv1d.bias.clone()
        for lag in range(min(taps, step + 1)):
            mixed = mixed + chain.conv1d.weight[:, 0, taps - 1 - lag] * inputs[step - lag]
        x = silu(mixed)  # (B, width)
        p, into, out_of = chain.x_proj(x).split((rank, states, states), dim=1)
        dt = softplus(p @ chain.dt_proj.weight.T + chain.dt_proj.bias)
        state = torch.exp(dt[..., None] * decay) * state + (dt * x)[..., None] * into[:, None]
        expected.append(((state * out_of[:, None]).sum(2) + chain.D * x) * silu(gate[step]))
    assert (chain(inputs, gate) - torch.stack(expected)).abs().max() < 1e-10


def test_scans_start_as_mambas() -> None:
    net = small(d_model=20, d_state=8)
    chains = [module for module in net.modules() if isinstance(module, SelectiveChain)]
    assert len(chains) == 2 * 3
    for chain in chains:
        assert torch.allclose(-chain.A_log.exp(), -torch.arange(1.0, 9).expand(40, 8))
        assert (chain.D == 1).all()
        dt = softplus(chain.dt_proj.bias)
        assert ((dt > 0.99e-3) & (dt < 1.01e-1)).all()
        assert dt.max() > 3 * dt.min()
        assert chain.rank == 2  # 20 / 16, rounded up
        assert chain.dt_proj.weight.abs().max() <= 2**-0.5


@pytest.mark.parametrize("at", [0, 4, 8])
def test_time_mixer_does_not_look_ahead(at: int) -> None:
    tokens = grid(9, 2, 3, 6)
    changed = tokens.clone()
    changed[at] += 1
    one_way, both_ways = mixer(bidirectional=False), mixer(bidirectional=True)
    before, after = one_way(tokens), one_way(changed)
    assert torch.equal(before[:at], after[:at])
    assert (before[at] != after[at]).all()
    before, after = both_ways(tokens), both_ways(changed)
    assert all((before[step] != after[step]).any() for step in range(9))


@pytest.mark.parametrize("channel_mixer", ["s6", "s6_uni"])
def test_variates_read_each_other_both_ways_or_in_the_order_of_columns(channel_mixer: str) -> None:
    net = stack(patches=1, variates=6, layers=1, channel_mixer=channel_mixer, norm="none")
    mix = net.channel_mixing[0].mixer
    jacobian = torch.autograd.functional.jacobian(mix, grid(6, 1, 1, 6))  # (6, 1, 1, D, 6, 1, 1, D)
    reads = jacobian.abs().sum((1, 2, 3, 5, 6, 7)) > 0
    assert torch.equal(reads, torch.ones(6, 6, dtype=torch.bool).tril(5 if channel_mixer == "s6" else 0))


def test_reversed_variates_are_the_same_with_both_directions_exchanged() -> None:
    net, tokens = mixer(bidirectional=True), grid(7, 2, 3, 6)
    exchanged = copy.deepcopy(net)
    assert net.backwards is not None
    exchanged.forwards, exchanged.backwards = copy.deepcopy(net.backwards), copy.deepcopy(net.forwards)
    assert close(net(tokens.flip(0)), exchanged(tokens).flip(0), 1e-14)
    assert not close(net(tokens.flip(0)), net(tokens).flip(0), 1e-2)
    net.backwards.load_state_dict(net.forwards.state_dict())
    assert close(net(tokens.flip(0)), net(tokens).flip(0), 1e-14)


def test_gate_belongs_to_the_token_it_gates_in_both_directions() -> None:
    net, tokens = mixer(bidirectional=True), grid(7, 2, 3, 6)
    inner = net.in_proj.out_features // 2
    inputs, gate = net.in_proj(tokens.flatten(1, 2)).split(inner, dim=2)
    open_gate = torch.full_like(gate, 40.0)  # SiLU(40) is 40 in float64
    assert net.backwards is not None
    read = (net.forwards(inputs, open_gate) + net.backwards(inputs.flip(0), open_gate).flip(0)) / 40
    expected = net.out_proj(read * silu(gate)).unflatten(1, (2, 3))
    assert close(net(tokens), expected, 1e-13)


def test_sums_in_the_scan_are_not_rounded_under_autocast() -> None:
    """With no decay and one input, what is read grows by as much each step: bfloat16 would stop after some 256."""
    torch.manual_seed(0)
    chain = SelectiveChain(4, 2, 1, 1)
    with torch.no_grad():
        chain.A_log.fill_(-30.0)
        chain.D.zero_()
    inputs, gate = torch.ones(2000, 1, 4), torch.ones(2000, 1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        read = chain(inputs, gate).float()
    assert chain.A_log.dtype == chain.D.dtype == torch.float32
    assert torch.allclose(read[1999] / read[999], torch.full((1, 4), 2.0), rtol=0.02)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_scan_of_large_inputs_over_2000_tokens_stays_finite(bidirectional: bool) -> None:
    torch.manual_seed(0)
    net = SelectiveMixer(6, 4, 4, 2, bidirectional=bidirectional)
    tokens = (1e3 * torch.randn(2000, 1, 2, 6)).requires_grad_()
    out = net(tokens)
    out.square().mean().backward()
    assert out.isfinite().all()
    for gradient in (tokens.grad, *(weight.grad for weight in net.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


# Norms


def test_window_norm_is_a_group_norm_of_one_group() -> None:
    norm, tokens = WindowNorm(6).double(), grid(5, 4, 3, 6)
    with torch.no_grad():
        norm.weight.copy_(grid(6))
        norm.bias.copy_(grid(6, seed=6))
    group = nn.GroupNorm(1, 6).double()
    group.load_state_dict(norm.state_dict())
    assert close(norm(tokens), group(tokens.permute(2, 3, 0, 1)).permute(2, 3, 0, 1), 1e-13)


def test_batch_norm_is_over_tokens_and_windows_of_each_feature() -> None:
    out = BatchNorm(6).double()(3 + 2 * grid(5, 4, 3, 6))
    assert out.mean((0, 1, 2)).abs().max() < 1e-12
    assert close(out.var((0, 1, 2), correction=0), torch.ones(6, dtype=torch.float64), 1e-5)


# Weighted sums


@pytest.mark.parametrize("learned", [True, False])
def test_weighted_sums_start_as_chosen(learned: bool) -> None:
    def start(how: str) -> list[list[list[float]]]:
        net = stack(layers=2, skip_init=how, learn_skips=learned)
        assert len(skips(net)) == (8 if learned else 0)
        sums = [net.token_mixing[0], net.channel_mixing[0], net.token_mixing[1], net.channel_mixing[1]]
        return [[part.skips.token.tolist(), part.skips.channel.tolist()] for part in sums]

    half = 0.5
    assert start("residual") == [
        [[half], [half]],
        [[half, 1], [half]],
        [[half, 1], [half, 1]],
        [[half, 1, 1], [half, 1]],
    ]
    assert start("chain") == [[[0], [1]], [[0, 1], [0]], [[0, 0], [0, 1]], [[0, 0, 1], [0, 0]]]
    for number, (token, channel) in enumerate(start("average")):
        assert token + channel == pytest.approx([1 / (number + 2)] * (number + 2))


@pytest.mark.parametrize("norm", ["2d", "token"])
def test_network_starts_as_a_residual_stack(norm: str) -> None:
    net, window = small(layers=3, dropout=0.0, norm=norm), waves()
    past = window.past.transpose(1, 2)  # (B, V, L)
    mean, deviation = past.mean(2, keepdim=True), (past.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    patches = ((past - mean) / deviation).unfold(2, 16, 8)  # (B, V, N, P): 48 steps need no padding
    r = net.patches.project(patches) + net.patches.position  # (B, V, N, D)

    def normed(r: Tensor, affine: nn.Module) -> Tensor:
        axes = (1, 2, 3) if norm == "2d" else (3,)
        centred = r - r.mean(axes, keepdim=True)
        scaled = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        return scaled * affine.weight + affine.bias

    for over_time, over_variates in zip(net.mixer.token_mixing, net.mixer.channel_mixing, strict=True):
        r = r + over_time.mixer(normed(r, over_time.norm).permute(2, 1, 0, 3)).permute(2, 1, 0, 3)
        r = r + over_variates.mixer(normed(r, over_variates.norm).permute(1, 2, 0, 3)).permute(2, 0, 1, 3)
    expected = net.project(normed(r, net.mixer.norm).flatten(2)) * deviation + mean
    # Float32 sums in another order: a trial gave 3e-7.
    assert (net(window) - expected.transpose(1, 2)).abs().max() < 2e-6


@pytest.mark.parametrize("final_average", [True, False])
def test_chain_start_is_the_plain_composition_of_the_mixers(final_average: bool) -> None:
    net = stack(skip_init="chain", norm="none", final_average=final_average)
    expected = tokens = grid(5, 4, 2, 6)
    for over_time, over_variates in zip(net.token_mixing, net.channel_mixing, strict=True):
        expected = over_variates.mixer(over_time.mixer(expected).transpose(0, 1)).transpose(0, 1)
    assert close(net(tokens), expected, 1e-13)


@torch.no_grad()
def test_weights_of_the_newest_token_output_alone_compose_the_time_mixers() -> None:
    net = stack(channel_mixer="none", norm="none")
    assert net.final_skips is not None
    for weights in (*(mixing.skips for mixing in net.token_mixing), net.final_skips):
        weights.token.zero_()
        weights.token[-1] = 1
        weights.channel.zero_()
    expected = tokens = grid(5, 4, 2, 6)
    for mixing in net.token_mixing:
        expected = mixing.mixer(expected)
    assert close(net(tokens), expected, 1e-13)


@torch.no_grad()
def test_silent_mixers_leave_the_head_the_encoded_input() -> None:
    net, window = exact(), double(waves())
    for mixing in (*net.mixer.token_mixing, *net.mixer.channel_mixing):
        mixing.mixer.out_proj.weight.zero_()
    seen: list[Tensor] = []
    net.patches.register_forward_hook(lambda _, given, out: seen.append(out))
    net.project.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(window)
    encoded, head = seen
    assert close(head, net.mixer.norm(encoded).permute(2, 1, 0, 3).flatten(2), 1e-13)


def test_every_weight_of_the_sums_matters() -> None:
    net, tokens = stack(layers=2), grid(5, 4, 2, 6)
    before = net(tokens)
    assert net.final_skips is not None
    weights = [*skips(net), net.final_skips.token, net.final_skips.channel]
    # The first sum holds the input alone, and a norm follows: scale does not matter there.
    for weight in weights[2:]:
        for number in range(len(weight)):
            changed = weight.detach().clone()
            changed[number] += 0.3
            kept, weight.data = weight.data, changed
            assert not close(net(tokens), before, 1e-4)
            weight.data = kept
    assert torch.equal(net(tokens), before)


def test_fixed_weights_of_the_sums_are_saved_but_not_learnt() -> None:
    net = small(learn_skips=False)
    assert not [key for key, _ in net.named_parameters() if "skips" in key]
    assert len([key for key in net.state_dict() if "skips" in key]) == 10


# What variates and windows know of each other


def test_order_of_variates_matters() -> None:
    net, window = exact(), double(waves())
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = window._replace(past=window.past[..., order], seen=window.seen[..., order])
    assert not close(net(moved), net(window)[..., order], 1e-4)
    alone = exact(channel_mixer="none")
    assert close(alone(moved), alone(window)[..., order], 1e-12)


def test_variates_meet_in_the_channel_mixer_alone() -> None:
    def reads(net: TSM2) -> Tensor:
        """Which forecast (row) has a gradient of which past (column)."""
        window = double(waves(batch=1))
        jacobian = torch.autograd.functional.jacobian(
            lambda past: net(window._replace(past=past)).square().sum((0, 1)), window.past
        )  # (V, 1, L, V)
        return jacobian.abs().sum((1, 2)) > 0

    everything = torch.ones(5, 5, dtype=torch.bool)
    assert torch.equal(reads(exact(channel_mixer="none", norm="token")), torch.eye(5, dtype=torch.bool))
    assert torch.equal(reads(exact(norm="token")), everything)
    assert torch.equal(reads(exact(norm="token", channel_mixer="s6_uni")), everything.tril())


@pytest.mark.parametrize("training", [True, False])
def test_windows_of_a_batch_do_not_meet(training: bool) -> None:
    net, window = exact(RICH, dropout=0.0).train(training), double(waves(RICH, seen=0.9))
    spoilt = Window(*(torch.cat((part[:1], part[1:].flip(1))) for part in window))
    assert close(net(spoilt)[:1], net(window)[:1], 1e-13)
    assert not close(net(spoilt)[1:], net(window)[1:], 1e-2)


# Scale, missing values, short windows


@pytest.mark.parametrize("settings", [{}, {"revin_affine": True}])
def test_forecast_follows_scale_and_level_of_each_variate(settings: dict[str, object]) -> None:
    net, window = exact(**settings), double(waves())
    if net.scale is not None and net.shift is not None:
        with torch.no_grad():
            net.scale.copy_(1 + 0.3 * grid(5))
            net.shift.copy_(grid(5, seed=6))
    scale, level = grid(5).exp(), 10 * grid(5, seed=6)
    moved = net(window._replace(past=scale * window.past + level))
    # Not exact: 1e-5 is added to the variances.
    assert torch.allclose(moved, scale * net(window) + level, rtol=1e-4, atol=1e-4)


def test_scale_and_shift_of_variates_start_without_effect_and_are_undone() -> None:
    plain, affine, window = exact(), exact(revin_affine=True), double(waves())
    assert affine.scale is not None
    assert affine.shift is not None
    assert close(affine(window), plain(window), 1e-14)
    with torch.no_grad():
        affine.scale.fill_(2.0)
        affine.shift.fill_(-0.7)
    assert not close(affine(window), plain(window), 1e-3)
    with torch.no_grad():
        affine.project.weight.zero_()
        affine.project.bias.fill_(2.0 * 1.5 - 0.7)  # one and a half deviations above the mean, scaled and shifted
    mean, variance = window.past.mean(1, keepdim=True), window.past.var(1, correction=0, keepdim=True)
    expected = (mean + 1.5 * (variance + 1e-5).sqrt()).expand(-1, 12, -1)
    assert close(affine(window), expected, 1e-12)


@pytest.mark.parametrize("value", [0.0, 4.5, -300.0])
def test_constant_series_stay_where_they_are(value: float) -> None:
    net, window = exact(), double(waves())
    window.past[:, :, 3] = value
    head: list[Tensor] = []
    net.project.register_forward_hook(lambda _, given, out: head.append(out))
    forecast = net(window)
    assert forecast.isfinite().all()
    bound = math.sqrt(1e-5) * head[0][:, 3].abs().max() + 1e-9
    assert (forecast[..., 3] - value).abs().max() <= bound
    window.past[:] = value
    assert (net(window) - value).abs().max() <= math.sqrt(1e-5) * head[1].abs().max() + 1e-9


def test_forecast_from_a_single_step_is_that_step() -> None:
    shape = WindowShape(1, 4, 3, 3, 0)
    window = double(waves(shape))
    assert (exact(shape)(window) - window.past).abs().max() < 0.02


# Covariates


def test_every_step_of_known_covariates_and_static_features_move_the_forecast() -> None:
    net, window = exact(RICH, calendar=True), double(waves(RICH))
    parts = [part.requires_grad_() for part in (window.known, window.past_time, window.future_time, window.static)]
    gradients = torch.autograd.grad(net(window).square().sum(), parts)
    for gradient in gradients:
        assert (gradient != 0).all()


def test_every_patch_of_known_covariates_is_read_even_where_nothing_is_mixed() -> None:
    net, window = exact(RICH, norm="none"), double(waves(RICH))
    assert net.known is not None
    with torch.no_grad():
        for mixing in (*net.known.mixer.token_mixing, *net.known.mixer.channel_mixing):
            mixing.mixer.out_proj.weight.zero_()
    known = window.known.unsqueeze(1).requires_grad_()
    (gradient,) = torch.autograd.grad(net.known(known).square().sum(), known)
    assert (gradient != 0).all()


def test_calendar_is_read_only_where_it_is_asked_for() -> None:
    window = waves()
    other = window._replace(past_time=window.past_time.flip(0), future_time=window.future_time.flip(0))
    plain, reader = small().eval(), small(calendar=True).eval()
    assert torch.equal(plain(window), plain(other))
    assert plain.known is None
    assert not close(reader(window), reader(other), 1e-3)


def test_tokens_of_the_past_do_not_read_covariates() -> None:
    net, window = exact(RICH, norm="token"), double(waves(RICH))
    outputs: list[Tensor] = []
    for mixing in (*net.mixer.token_mixing, *net.mixer.channel_mixing):
        mixing.register_forward_hook(lambda _, given, out: outputs.append(out))
    net(window)
    net(window._replace(known=window.known + 1))
    net(window._replace(static=window.static + 1))
    once, past = outputs[:4], net.patches.count
    assert len(outputs) == 12
    for number, out in enumerate(outputs[4:]):
        before = once[number % 4]
        assert close(out[:past], before[:past], 1e-13)
        assert not close(out[past:], before[past:], 1e-4)
    for number in range(4):  # known covariates come before static features
        assert close(outputs[8 + number][: 2 * past], once[number][: 2 * past], 1e-13)


def test_covariates_of_all_variates_are_the_same_for_each() -> None:
    net, window = exact(RICH), double(waves(RICH))
    known, static = window.known.unsqueeze(1), window.static[:, :1]
    shared = net.forecast(window.past, window.seen, known, static)
    each = net.forecast(window.past, window.seen, known.expand(-1, 5, -1, -1), static.expand(-1, 5, -1))
    assert close(each, shared, 1e-13)
    assert close(net(window._replace(static=static)), shared, 1e-13)


def test_covariates_of_one_variate_reach_the_others() -> None:
    net, window = exact(RICH, norm="token"), double(waves(RICH))
    known, static = window.known.unsqueeze(1).repeat(1, 5, 1, 1), window.static
    before = net.forecast(window.past, window.seen, known, static)
    other_known, other_static = known.clone(), static.clone()
    other_known[:, 2] += 1
    other_static[:, 2] += 1
    for after in (
        net.forecast(window.past, window.seen, other_known, static),
        net.forecast(window.past, window.seen, known, other_static),
    ):
        moved = (after - before).abs().amax((0, 1))
        assert (moved > 0).all()
        assert moved.argmax() == 2


# Training


def test_gradient_reaches_every_weight() -> None:
    net = small(RICH, calendar=True, revin_affine=True, patch_len=8).train()
    net(waves(RICH, seen=0.8)).square().sum().backward()
    # A norm follows the first sum, which holds the input twice: the two weights only scale it.
    scales = ("token_mixing.0.skips.token", "token_mixing.0.skips.channel")
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        if not name.endswith(scales):
            assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "settings",
    [
        {"channel_mixer": "mlp", "learn_skips": False},  # TSM2-MLP of Table 7
        {"channel_mixer": "s6_uni", "token_mixer": "linear"},  # Mamba + Linear Time of Table 7
        {"channel_mixer": "none", "norm": "token", "skip_init": "chain"},
        {"norm": "batch2d", "time_bidirectional": True, "final_average": False},
        {"norm": "none", "skip_init": "average", "pos_embed": False, "use_norm": False},
        {"expand": 1, "d_conv": 1, "d_state": 1, "layers": 1, "d_model": 3, "d_aux": 2},
    ],
)
def test_every_variant_trains_all_of_its_weights(settings: dict[str, object]) -> None:
    net, window = small(RICH, **settings).train(), waves(RICH)
    net(window).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())
    forecast = net.eval()(window)
    assert forecast.shape == (4, 12, 5)
    assert forecast.isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"channel_mixer": "mlp"},
        {"channel_mixer": "s6_uni"},
        {"channel_mixer": "none"},
        {"token_mixer": "linear"},
        {"time_bidirectional": True},
        {"norm": "token"},
        {"norm": "batch2d"},
        {"norm": "none"},
        {"skip_init": "chain"},
        {"final_average": False},
        {"pos_embed": False},
        {"use_norm": False},
        {"stride": 16},
        {"d_conv": 2},
    ],
    ids=str,
)
def test_every_setting_changes_the_forecast(change: dict[str, object]) -> None:
    window = waves()
    assert not torch.allclose(small(**change).eval()(window), small().eval()(window), atol=1e-3)


@pytest.mark.parametrize("shape", [SHAPE, RICH], ids=["alone", "covariates"])
def test_network_overfits_one_batch(shape: WindowShape) -> None:
    window = waves(shape)
    window = window._replace(past=window.past[:, :36], seen=window.seen[:, :36])
    if shape.known:
        window = window._replace(known=window.known[:, :48])
    answer = waves(shape).past[:, 36:]
    short = WindowShape(36, 12, 5, 5, 3, shape.known, shape.static)
    net = small(short, dropout=0.0).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (net(window) - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


def delayed(batch: int, draw: torch.Generator) -> tuple[Window, Tensor]:
    """Two sines of one wandering phase, the second 12 steps later and under noise, and what follows of it."""
    rate = 0.25 + 0.3 * torch.randn(batch, 12, generator=draw).repeat_interleave(6, dim=1).cumsum(1).mul(0.3).sin()
    phase = 6.3 * torch.rand(batch, 1, generator=draw) + rate.cumsum(1)  # (B, 72)
    leader, follower = torch.sin(phase[:, 12:]), torch.sin(phase[:, :-12])  # (B, 60)
    follower = follower + 0.3 * torch.randn(batch, 60, generator=draw)
    past = torch.stack((leader[:, :48], follower[:, :48]), dim=2)
    empty = torch.empty(batch, 60, 0)
    return Window.of(past, torch.ones_like(past, dtype=torch.bool), empty[:, :48], empty[:, 48:]), follower[:, 48:]


def test_mixing_variates_pays_where_one_follows_another() -> None:
    def error(channel_mixer: str) -> float:
        net = small(WindowShape(48, 12, 2, 2, 0), channel_mixer=channel_mixer, layers=1, dropout=0.0)
        optimiser, draw = torch.optim.Adam(net.parameters(), lr=1e-2), torch.Generator().manual_seed(3)
        for _ in range(60):
            window, answer = delayed(32, draw)
            loss = (net(window)[..., 1] - answer).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        window, answer = delayed(500, torch.Generator().manual_seed(4))
        with torch.no_grad():
            return (net.eval()(window)[..., 1] - answer).square().mean().item()

    mixed, alone = error("s6"), error("none")
    assert mixed < 0.6 * alone  # a trial gave 0.32; the noise alone has 0.09


# Saving, precision, settings


def test_weights_come_back_bit_for_bit_and_a_seed_draws_the_same(tmp_path: Path) -> None:
    net, window = small(RICH).eval(), waves(RICH)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    loaded = TSM2(RICH, TSM2Config()).eval()
    assert not torch.equal(loaded(window), net(window))
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(loaded(window), net(window))
    assert torch.equal(small(RICH).eval()(window), net(window))


def test_eval_is_deterministic_and_dropout_is_for_training_only() -> None:
    net, window = small(dropout=0.3), waves()
    assert not torch.equal(net.train()(window), net.train()(window))
    forecast = net.eval()(window)
    assert torch.equal(net(window), forecast)
    assert close(small(dropout=0.0).train()(window), forecast, 1e-6)


def test_double_precision_agrees_with_single() -> None:
    window = waves(RICH, seen=0.9)
    single, twice = small(RICH).eval()(window), exact(RICH)(double(window))
    assert twice.dtype == torch.float64
    assert close(single.double(), twice, 5e-6)


def test_bfloat16_agrees_roughly_and_keeps_the_weights() -> None:
    net, window = small(RICH, calendar=True).eval(), waves(RICH)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(window)
        rough.square().mean().backward()
    assert close(rough.float(), net(window), 0.05)
    assert all(weight.dtype == weight.grad.dtype == torch.float32 for weight in net.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"d_model": 0}, "model.d_model is 0"),
        ({"d_state": -1}, "model.d_state is -1"),
        ({"expand": 0}, "model.expand is 0"),
        ({"d_conv": 0}, "model.d_conv is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"d_aux": 0}, "model.d_aux is 0"),
        ({"patch_len": 0}, "model.patch_len is 0"),
        ({"stride": 0}, "model.stride is 0"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"dropout": -0.1}, "model.dropout is -0.1"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"norm": "layer"}, 'model.norm "layer"'),
        ({"skip_init": "zero"}, 'model.skip_init "zero"'),
        ({"token_mixer": "mlp"}, 'model.token_mixer "mlp"'),
        ({"channel_mixer": "linear"}, 'model.channel_mixer "linear"'),
        ({"token_mixer": "linear", "time_bidirectional": True}, "model.time_bidirectional"),
        ({"channel_mixer": "none", "final_average": False}, "model.final_average is off"),
        ({"use_norm": False, "revin_affine": True}, "model.use_norm is off"),
    ],
)
def test_settings_that_cannot_be_built_are_refused_by_name(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        TSM2Config(**settings)  # type: ignore[arg-type]
    assert told in caught.value.message
    assert caught.value.hint.startswith("Set model.")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"patch_len": 49}, "model.patch_len 49 is longer than data.lookback 48"),
        ({"patch_len": 8, "stride": 9}, "model.stride 9 is longer than a patch of 8 steps"),
        ({"stride": 17}, "model.stride 17 is longer than a patch of 16 steps"),
    ],
)
def test_patches_that_do_not_fit_are_refused_when_the_network_is_built(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        small(**settings)
    assert told in caught.value.message
    assert caught.value.hint.startswith("Set model.")


def test_settings_exist_for_every_set_of_the_paper_at_both_lookbacks() -> None:
    assert {path.stem for path in SETTINGS} == {*TABLE_5, *(f"{name}-lookback96" for name in TABLE_5), "ili"}


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_fit_their_windows_and_scores_are_those_of_the_paper(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    name, _, variant = path.stem.partition("-")
    lookback = 36 if name == "ili" else 96 if variant else 512
    assert content["data"]["dataset"] == name
    assert list(content["horizons"]) == ([24, 36, 48, 60] if name == "ili" else [96, 192, 336, 720])
    if lookback == 512:
        assert content["published"] == {
            horizon: {"mse": mse} for horizon, mse in zip(content["horizons"], TABLE_5[name], strict=True)
        }
        assert "preliminary" in path.read_text().partition("data:")[0]
    else:
        assert "published" not in content
    for horizon in content["horizons"]:
        config = resolve(file=path, flags={"data": {"horizon": horizon}})
        assert (config.name, config.data.lookback, config.data.horizon) == ("tsm2", lookback, horizon)
        TSM2(WindowShape(lookback, horizon, 3, 3, 0), config.model)
