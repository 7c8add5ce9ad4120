"""Informer, beyond equality with the authors' code: sampling, calendar, variants, missing values, settings."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from forecast.config import flags, resolve
from forecast.data.calendar import mark_codes, mark_names, mark_scale
from forecast.data.windows import Window, WindowShape
from forecast.errors import UsageError
from forecast.models import Informer, InformerConfig, load_reference_weights
from forecast.models.layers.embed import CalendarTables, waves
from forecast.models.layers.prob_attention import (
    FullHeads,
    HeadedAttention,
    ProbHeads,
    TopQueries,
    draw_keys,
    sparse_count,
)

ROOT = Path(__file__).parents[1]
SHAPE = WindowShape(lookback=24, horizon=12, variates=5, targets=5, time_features=4)
TOY = {"d_model": 16, "d_ff": 24, "heads": 4, "factor": 1}
VARIANTS = {
    "prob": {},
    "full": {"attention": "full"},
    "no-distil": {"distil": False, "mix": False},
    "stack": {"stack": (3, 2, 1)},
    "autoformer": {"variant": "autoformer"},
    "autoformer-stack": {"variant": "autoformer", "stack": (2, 1)},
    "fixed": {"embed": "fixed"},
    "learned": {"embed": "learned"},
    "deep": {"layers": 4, "decoder_layers": 2, "activation": "relu"},
    "whole-start": {"start_token": 24},
    "no-start": {"start_token": 0},
}
every_variant = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)


def small(shape: WindowShape = SHAPE, **settings: object) -> Informer:
    torch.manual_seed(1)
    return Informer(shape, InformerConfig(**{**TOY, **settings}))  # type: ignore[arg-type]


def noise(shape: WindowShape = SHAPE, batch: int = 4, seen: float = 1.0) -> Window:
    """Random values, each seen with probability `seen`, at consecutive hours."""
    draw = torch.Generator().manual_seed(7)
    mask = torch.rand(batch, shape.lookback, shape.variates, generator=draw) < seen
    past = torch.randn(mask.shape, generator=draw).masked_fill(~mask, 0.0)
    times = np.arange(shape.lookback + shape.horizon) * 3_600_000_000 + np.arange(batch)[:, None] * 10**14
    time = features(times.ravel(), mark_names("h")[: shape.time_features]).unflatten(0, times.shape)
    return Window.of(past, mask, time[:, : shape.lookback], time[:, shape.lookback :])


def features(times: np.ndarray, names: tuple[str, ...]) -> Tensor:
    """The scaled calendar features of microseconds UTC, as windows have them."""
    return torch.from_numpy(mark_codes(times, names)) / torch.from_numpy(mark_scale(names)) - 0.5


def double(window: Window) -> Window:
    return Window(*(part.double() if part.is_floating_point() else part for part in window))


def close(one: Tensor, other: Tensor, relative: float) -> bool:
    return bool((one - other).abs().max() <= relative * other.abs().max())


def tops(net: nn.Module) -> list[TopQueries]:
    return [part for part in net.modules() if isinstance(part, TopQueries)]


def heads_of(queries: int, keys: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    query, key, value = (torch.randn(batch, 3, n, 8, dtype=torch.float64) for n in (queries, keys, keys))
    return query, key, value


# ProbSparse attention


@pytest.mark.parametrize(
    ("factor", "length", "count"), [(5, 96, 25), (5, 1, 1), (1, 2, 1), (5, 8, 8), (3, 48, 12), (5, 720, 35)]
)
def test_so_many_positions_are_looked_at(factor: int, length: int, count: int) -> None:
    assert sparse_count(factor, length) == count


@pytest.mark.parametrize("causal", [False, True])
def test_prob_attention_equals_a_loop_over_windows_heads_and_queries(causal: bool) -> None:
    query, key, value = heads_of(21, 21)
    attention = ProbHeads(21, 21, factor=2, seed=3, causal=causal).eval()
    sample, count = attention.top.sample, sparse_count(2, 21)
    expected = torch.empty_like(query)
    for b in range(2):
        for a in range(3):
            q, k, v = query[b, a], key[b, a], value[b, a]
            measures = []
            for i in range(21):
                scores = torch.stack([q[i] @ k[j] for j in sample[i]])
                measures.append((scores.max() - scores.sum() / 21).item())
            chosen = sorted(range(21), key=measures.__getitem__)[-count:]
            for i in range(21):
                last = i + 1 if causal else 21
                shares = (k[:last] @ q[i] / math.sqrt(8)).softmax(0)
                lazy = v[:last].sum(0) if causal else v.mean(0)
                expected[b, a, i] = shares @ v[:last] if i in chosen else lazy
    assert close(attention(query, key, value), expected, 1e-14)


@pytest.mark.parametrize(("queries", "keys", "causal"), [(17, 17, True), (17, 17, False), (11, 30, False)])
def test_prob_attention_with_every_query_selected_is_full_attention(queries: int, keys: int, causal: bool) -> None:
    query, key, value = heads_of(queries, keys)
    prob = ProbHeads(queries, keys, factor=30, seed=0, causal=causal).eval()
    assert close(prob(query, key, value), FullHeads(0.0, causal=causal)(query, key, value), 1e-14)


def test_attention_mixes_by_the_shares_it_shows() -> None:
    query, key, value = heads_of(20, 20)
    for attention in (ProbHeads(20, 20, factor=2, seed=0, causal=False).eval(), FullHeads(0.1, causal=False).eval()):
        shares = attention.weights(query, key)
        assert torch.allclose(shares.sum(3), torch.ones(2, 3, 20, dtype=torch.float64))
        assert close(attention(query, key, value), shares @ value, 1e-14)


def test_causal_attention_does_not_look_ahead_unless_heads_are_mixed() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 12, 16)
    for mix in (False, True):
        attention = HeadedAttention(16, 4, FullHeads(0.0, causal=True), mix=mix)
        other = torch.cat((tokens[:, :6], tokens[:, 6:] + 1), dim=1)
        assert torch.allclose(attention(tokens, tokens)[:, :6], attention(other, other)[:, :6], atol=1e-6) != mix


def test_prob_attention_makes_no_tensor_of_queries_times_keys() -> None:
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, (tuple, list)) else [made]:
                self.size = max(self.size, tensor.numel() if isinstance(tensor, Tensor) else 0)
            return made

    length, count = 2048, sparse_count(5, 2048)
    attention = ProbHeads(length, length, factor=5, seed=0, causal=False)
    query = torch.randn(1, 1, length, 4, requires_grad=True)
    with Largest() as largest:
        attention(query, query, query).sum().backward()
    assert largest.size <= count * length < length * length / 50


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40])
def test_drawn_keys_are_even_and_no_two_queries_or_seeds_draw_alike(seed: int) -> None:
    drawn = draw_keys(96, 50, 25, seed)
    counts = torch.bincount(drawn.flatten(), minlength=50)
    assert len(counts) == 50
    # 2,400 draws: 48 of each key, with a deviation of 7 if drawn at random.
    assert 48 - 5 * 7 < counts.min() <= counts.max() < 48 + 5 * 7
    assert len(drawn.unique(dim=0)) == 96
    assert (drawn == draw_keys(96, 50, 25, seed + 1)).float().mean() < 0.1


def test_drawn_keys_stay_the_same_in_every_version() -> None:
    assert draw_keys(2, 1000, 4, 2023).tolist() == [[327, 670, 294, 371], [407, 390, 916, 212]]


# Sampling in the network


def test_the_same_input_gives_the_same_forecast_whatever_torch_has_drawn() -> None:
    net, window = small().eval(), noise()
    forecast = net(window)
    torch.rand(100)
    assert torch.equal(net(window), forecast)
    assert torch.equal(small().eval()(window), forecast)


def test_another_sampling_seed_selects_other_queries() -> None:
    window = noise()
    one, other = (small(sampling_seed=seed).eval().selected_queries(window) for seed in (1, 2))
    assert len(one) == 3
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_samples_anew_and_repeats_from_the_same_seed() -> None:
    net, window = small(dropout=0.0).train(), noise()

    def selected(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([chosen.flatten() for chosen in net.selected_queries(window)])

    assert torch.equal(selected(1), selected(1))
    assert not torch.equal(selected(1), selected(2))


@pytest.mark.parametrize("encoders", [{"layers": 3}, {"stack": (2, 1)}])
def test_layers_draw_samples_of_their_own(encoders: dict[str, object]) -> None:
    net = small(variant="autoformer", distil=False, start_token=12, decoder_layers=2, **encoders)
    samples = [part.sample for part in tops(net)]
    assert len(samples) == 7  # of the encoder 3, of each decoder layer 2
    for number, one in enumerate(samples):
        assert all(one.shape != other.shape or not torch.equal(one, other) for other in samples[:number])


def test_samples_are_not_stored_and_do_not_move_the_initial_weights() -> None:
    prob, full = small().state_dict(), small(attention="full").state_dict()
    assert prob.keys() == full.keys()
    assert all(torch.equal(prob[name], full[name]) for name in prob)


def test_every_query_selected_forecasts_as_full_attention_does() -> None:
    window = double(noise())
    prob, full = small(factor=24).double().eval(), small(attention="full").double().eval()
    assert close(prob(window), full(window), 1e-13)


# The network


@every_variant
@pytest.mark.parametrize("targets", [5, 2])
def test_forecast_covers_horizon_and_targets_and_gradients_are_finite(
    settings: dict[str, object], targets: int
) -> None:
    net, window = small(dataclasses.replace(SHAPE, targets=targets), **settings).train(), noise(seen=0.8)
    forecast = net(window)
    assert forecast.shape == (4, 12, targets)
    forecast.square().sum().backward()
    for name, weight in net.named_parameters():
        if not weight.requires_grad:
            assert settings == {"embed": "fixed"}, name
            continue
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@every_variant
def test_windows_of_a_batch_do_not_meet(settings: dict[str, object]) -> None:
    net, window = small(**settings).double().eval(), double(noise(batch=5, seen=0.9))
    alone = torch.cat([net(Window(*(part[b : b + 1] for part in window))) for b in range(5)])
    assert close(alone, net(window), 1e-12)


@every_variant
def test_double_precision_agrees_with_single(settings: dict[str, object]) -> None:
    window = noise()
    single, twice = small(**settings).eval(), small(**settings).double().eval()
    for one, other in zip(single.selected_queries(window), twice.selected_queries(double(window)), strict=True):
        assert torch.equal(one, other)
    assert close(single(window).double(), twice(double(window)), 3e-6)


def test_time_of_past_and_future_is_used() -> None:
    net, window = small().eval(), noise()
    forecast = net(window)
    assert not torch.allclose(net(window._replace(past_time=-window.past_time)), forecast)
    assert not torch.allclose(net(window._replace(future_time=-window.future_time)), forecast)


def test_input_is_left_as_it_was() -> None:
    window = noise(seen=0.8)
    before = [tensor.clone() for tensor in window]
    small()(window)
    assert all(torch.equal(tensor, kept) for tensor, kept in zip(window, before, strict=True))


def test_decoder_begins_with_the_last_steps_of_the_window() -> None:
    net, window = small(start_token=7, dropout=0.0), noise()
    given: list[Tensor] = []
    net.decoder_embed.register_forward_pre_hook(lambda module, inputs: given.extend(inputs))
    net(window)
    values, time = given
    assert torch.equal(values, torch.cat((window.past[:, -7:], torch.zeros(4, 12, 5)), dim=1))
    assert torch.equal(time, torch.cat((window.past_time[:, -7:], window.future_time), dim=1))


def test_each_encoder_of_a_stack_sees_half_of_what_the_one_before_sees() -> None:
    encoder = small(stack=(1, 1, 1)).eval().encoder
    tokens = torch.randn(2, 24, 16)
    out = encoder(tokens).split((24, 12, 6), dim=1)
    for first, moved in ((0, [True, False, False]), (12, [True, True, False]), (18, [True, True, True])):
        other = tokens.clone()
        other[:, first] += 1
        parts = encoder(other).split((24, 12, 6), dim=1)
        assert [not torch.equal(one, part) for one, part in zip(out, parts, strict=True)] == moved


def test_half_of_the_window_is_the_start_token_where_none_is_set() -> None:
    assert [small(dataclasses.replace(SHAPE, lookback=n)).start_token for n in (24, 13, 1)] == [12, 7, 1]


def test_attention_maps_halve_with_each_distilling() -> None:
    maps = small(layers=3).eval().attention_maps(noise(seen=0.8))
    assert [tuple(shares.shape) for shares in maps] == [(4, 4, 24, 24), (4, 4, 12, 12), (4, 4, 6, 6)]
    for shares in maps:
        assert torch.allclose(shares.sum(3), torch.ones(shares.shape[:3]))
    stacked = small(stack=(2, 1)).eval().attention_maps(noise())
    assert [shares.shape[3] for shares in stacked] == [24, 12, 12]


def test_selected_queries_have_the_rows_that_are_not_even() -> None:
    net, window = small(layers=1).eval(), noise()
    chosen, shares = net.selected_queries(window)[0], net.attention_maps(window)[0]
    uneven = (shares - 1 / 24).abs().amax(3) > 1e-7  # (B, A, Q)
    assert torch.equal(uneven.nonzero()[:, 2].view_as(chosen), chosen)


def test_selected_queries_leave_no_hook_behind() -> None:
    net = small().eval()
    net.selected_queries(noise())
    assert all(not part._forward_hooks for part in net.modules())
    assert small(attention="full").eval().selected_queries(noise()) == []


def test_bf16_training_pass_has_finite_gradients() -> None:
    for settings in ({}, {"attention": "full"}, {"variant": "autoformer"}):
        net = small(**settings).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = (net(noise()) - 1).square().mean()
        loss.backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())


def test_network_overfits_one_batch() -> None:
    net, window = small(dropout=0.0, layers=1).train(), noise()
    answer = torch.randn(4, 12, 5, generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(200):
        loss = (net(window) - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-20:]) < 0.1 * losses[0]


def test_seed_draws_the_initial_weights_of_the_authors_layers() -> None:
    torch.manual_seed(1)
    drawn: list[nn.Module] = []
    for _ in range(2):
        convolution = nn.Conv1d(5, 16, 3)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        drawn += [convolution, nn.Linear(4, 16)]
    for attentions in (1, 1):
        drawn += [nn.Linear(16, 16) for _ in range(4 * attentions)] + [nn.Conv1d(16, 24, 1), nn.Conv1d(24, 16, 1)]
    drawn.append(nn.Conv1d(16, 16, 3))
    drawn += [nn.Linear(16, 16) for _ in range(8)] + [nn.Conv1d(16, 24, 1), nn.Conv1d(24, 16, 1), nn.Linear(16, 5)]
    own = [part for part in small().modules() if isinstance(part, (nn.Linear, nn.Conv1d))]
    assert len(own) == len(drawn)
    for here, there in zip(own, drawn, strict=True):
        assert torch.equal(here.weight.flatten(), there.weight.flatten())  # type: ignore[operator, arg-type]
        assert torch.equal(here.bias, there.bias)  # type: ignore[arg-type]


def test_authors_weights_load_with_their_tables_of_positions() -> None:
    path = ROOT / "tests" / "golden" / "informer" / "prob_embed_fixed_t.safetensors"
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(("param.", "buffer."))]  # noqa: SIM118 (not a dict)
        weights = {name.partition(".")[2]: file.get_tensor(name) for name in names}
    table = waves(5000, 32)[None]
    weights |= {f"{part}_embedding.position_embedding.pe": table for part in ("enc", "dec")}
    net = Informer(WindowShape(48, 24, 7, 7, 5), InformerConfig(d_model=32, d_ff=64, heads=4, factor=3, embed="fixed"))
    hours = net.embed.time.tables["hour"].rows.weight  # type: ignore[union-attr, index]
    before = hours.clone()
    load_reference_weights(net, weights)
    assert torch.allclose(hours, before, atol=1e-6)  # their fixed tables are those that are made here
    assert torch.equal(net.project.bias, weights["projection.bias"])


# The later copy


def test_autoformer_variant_has_its_four_differences() -> None:
    shape = WindowShape(96, 24, 7, 7, 4)
    original, later = small(shape), small(shape, variant="autoformer")
    assert (original.encoder.steps, later.encoder.steps) == (48, 49)
    for net, bias in ((original, True), (later, False)):
        embeddings = [net.embed, net.decoder_embed]
        assert all((part.value.bias is not None) == bias for part in embeddings)
        assert all((part.time.bias is not None) == bias for part in embeddings)  # type: ignore[union-attr]
        layer = net.decoder.layers[0]
        assert layer.self_attention.mix == bias
        assert isinstance(layer.cross_attention.inner, FullHeads if bias else ProbHeads)
        assert not layer.cross_attention.inner.causal
        assert net.encoder.attention_maps(torch.randn(2, 96, 16))[1].shape[3] == net.encoder.steps
    assert len(tops(later)) == len(tops(original)) + 1


@pytest.mark.parametrize(("length", "expected"), [(96, 49), (49, 26), (7, 5), (2, 2)])
def test_autoformer_variant_distils_to_so_many_steps(length: int, expected: int) -> None:
    net = small(WindowShape(length, 4, 1, 1, 0), variant="autoformer").eval()
    assert net.encoder.steps == expected
    assert net.encoder(torch.randn(2, length, 16)).shape == (2, expected, 16)


# Calendar


@pytest.mark.parametrize("freq", ["D", "h", "15min", "s"])
def test_calendar_codes_are_those_of_the_dates(freq: str) -> None:
    days = np.arange("2023-01-01", "2025-01-01", dtype="M8[D]")  # a common year and a leap year
    seconds = (np.arange(len(days)) * 7919) % 86_400 if freq != "D" else np.zeros(len(days), dtype=int)
    times = days.astype("M8[us]").astype(np.int64) + seconds * 1_000_000
    names = mark_names(freq)
    codes = CalendarTables(len(names), 8, fixed=True).codes(features(times, names)[None])
    months = days.astype("M8[M]")
    assert codes["month"][0].tolist() == (months.astype(int) % 12 + 1).tolist()
    assert codes["day"][0].tolist() == ((days - months.astype("M8[D]")).astype(int) + 1).tolist()
    assert codes["weekday"][0].tolist() == ((days.astype(int) + 3) % 7).tolist()
    assert codes["hour"][0].tolist() == (seconds // 3600).tolist()
    assert ("minute" in codes) == (freq in ("15min", "s"))
    if "minute" in codes:
        assert codes["minute"][0].tolist() == (seconds % 3600 // 900).tolist()


@pytest.mark.parametrize("embed", ["fixed", "learned"])
@pytest.mark.parametrize("time_features", [0, 1, 2, 7])
def test_tables_are_refused_where_the_calendar_lacks_their_fields(embed: str, time_features: int) -> None:
    with pytest.raises(UsageError) as caught:
        small(dataclasses.replace(SHAPE, time_features=time_features), embed=embed)
    assert f'"{embed}" needs' in caught.value.message
    assert f"{time_features} time features" in caught.value.message
    assert "model.embed=timeF" in caught.value.hint


@pytest.mark.parametrize("width", [8, 7])
def test_position_table_holds_sines_and_cosines(width: int) -> None:
    table = waves(6, width)
    for row in range(6):
        for column in range(width):
            angle = row / 10_000 ** ((column - column % 2) / width)
            assert table[row, column].item() == pytest.approx([math.sin, math.cos][column % 2](angle), abs=1e-6)


# Settings


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"d_model": 30}, "model.d_model 30 is not a multiple of model.heads 8"),
        ({"d_model": 0}, "model.d_model is 0"),
        ({"d_ff": -1}, "model.d_ff is -1"),
        ({"heads": 0}, "model.heads is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"decoder_layers": 0}, "model.decoder_layers is 0"),
        ({"factor": 0}, "model.factor is 0"),
        ({"stack": (3, 0)}, "model.stack is 3, 0"),
        ({"start_token": -1}, "model.start_token is -1"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"activation": "swish"}, 'model.activation "swish"'),
        ({"attention": "sparse"}, 'model.attention "sparse"'),
        ({"embed": "timef"}, 'model.embed "timef"'),
        ({"variant": "2020"}, 'model.variant "2020"'),
    ],
)
def test_settings_that_cannot_be_built_are_refused_by_name(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        InformerConfig(**settings)  # type: ignore[arg-type]
    assert told in caught.value.message
    assert caught.value.hint.startswith("Set model.")


@pytest.mark.parametrize(
    ("lookback", "settings", "told", "hint"),
    [
        (24, {"start_token": 25}, "model.start_token 25 is longer than data.lookback 24", "model.start_token=24"),
        (3, {"stack": (1, 1, 1)}, "data.lookback 3 cannot be halved for 3 encoders", "at least 4"),
        (1, {"variant": "autoformer"}, "on 1 step cannot be distilled", "model.distil=false"),
    ],
)
def test_settings_that_do_not_fit_the_window_are_refused(
    lookback: int, settings: dict[str, object], told: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        small(dataclasses.replace(SHAPE, lookback=lookback), **settings)
    assert told in caught.value.message
    assert hint in caught.value.hint


def test_stack_read_from_json_equals_the_stack_that_was_written() -> None:
    config = InformerConfig(stack=(3, 2, 1))
    assert InformerConfig(**{**dataclasses.asdict(config), "stack": [3, 2, 1]}) == config


@pytest.mark.parametrize("lookback", [1, 2, 3])
@pytest.mark.parametrize("name", ["prob", "full", "no-distil", "deep", "learned", "no-start"])
def test_shortest_windows_work(name: str, lookback: int) -> None:
    shape = dataclasses.replace(SHAPE, lookback=lookback, horizon=1)
    assert small(shape, **VARIANTS[name]).eval()(noise(shape)).isfinite().all()


# Published settings: horizon: lookback/start token, encoder+decoder layers, factor, MSE/MAE

PUBLISHED = {
    "etth1": """24: 48/48 2+1 3 0.577/0.549; 48: 96/48 2+1 5 0.685/0.625; 168: 168/168 2+1 5 0.931/0.752;
        336: 168/168 2+1 5 1.128/0.873; 720: 336/336 2+1 5 1.215/0.896""",
    "etth2": """24: 48/48 2+1 5 0.720/0.665; 48: 96/96 2+1 5 1.457/1.001; 168: 336/336 3+2 5 3.489/1.515;
        336: 336/168 3+2 5 2.723/1.340; 720: 720/336 3+2 5 3.467/1.473""",
    "ettm1": """24: 672/96 2+1 5 0.323/0.369; 48: 96/48 2+1 5 0.494/0.503; 96: 384/384 2+1 5 0.678/0.614;
        288: 672/288 2+1 5 1.056/0.786; 672: 672/384 2+1 5 1.192/0.926""",
    "wth": """24: 168/168 3+2 5 0.335/0.381; 48: 96/96 2+1 5 0.395/0.459; 168: 336/168 3+2 5 0.608/0.567;
        336: 720/168 3+2 5 0.702/0.620; 720: 720/336 3+2 5 0.831/0.731""",
    "etth1-univariate": """24: 720/168 2+1 5 0.098/0.247; 48: 720/168 2+1 5 0.158/0.319; 168: 720/336 2+1 5 0.183/0.346;
        336: 720/336 2+1 5 0.222/0.387; 720: 720/336 2+1 5 0.269/0.435""",
    "etth2-univariate": """24: 48/48 2+1 3 0.093/0.240; 48: 96/96 2+1 5 0.155/0.314; 168: 336/336 2+1 5 0.232/0.389;
        336: 336/168 3+2 5 0.263/0.417; 720: 336/336 3+2 5 0.277/0.431""",
    "ettm1-univariate": """24: 96/48 2+1 5 0.030/0.137; 48: 96/48 2+1 5 0.069/0.203; 96: 384/384 2+1 5 0.194/0.372;
        288: 384/384 2+1 5 0.401/0.554; 672: 384/384 2+1 5 0.512/0.644""",
    "wth-univariate": """24: 720/168 2+1 5 0.117/0.251; 48: 720/168 2+1 5 0.178/0.318; 168: 168/168 3+2 5 0.266/0.398;
        336: 336/336 3+2 5 0.297/0.416; 720: 720/336 3+2 5 0.359/0.466""",
    "etth1-lookback96": """96: 96/48 2+1 5 0.865/0.713; 192: 96/48 2+1 5 1.008/0.792;
        336: 96/48 2+1 5 1.107/0.809; 720: 96/48 2+1 5 1.181/0.865""",
    "etth2-lookback96": """96: 96/48 2+1 5 3.755/1.525; 192: 96/48 2+1 5 5.602/1.931;
        336: 96/48 2+1 5 4.721/1.835; 720: 96/48 2+1 5 3.647/1.625""",
    "ettm1-lookback96": """96: 96/48 2+1 5 0.672/0.571; 192: 96/48 2+1 5 0.795/0.669;
        336: 96/48 2+1 5 1.212/0.871; 720: 96/48 2+1 5 1.166/0.823""",
    "ettm2": """96: 96/48 2+1 5 0.365/0.453; 192: 96/48 2+1 5 0.533/0.563;
        336: 96/48 2+1 5 1.363/0.887; 720: 96/48 2+1 5 3.379/1.338""",
    "ecl": """96: 96/48 2+1 5 0.274/0.368; 192: 96/48 2+1 5 0.296/0.386;
        336: 96/48 2+1 5 0.300/0.394; 720: 96/48 2+1 5 0.373/0.439""",
    "traffic": """96: 96/48 2+1 5 0.719/0.391; 192: 96/48 2+1 5 0.696/0.379;
        336: 96/48 2+1 5 0.777/0.420; 720: 96/48 2+1 5 0.864/0.472""",
    "weather": """96: 96/48 2+1 5 0.300/0.384; 192: 96/48 2+1 5 0.598/0.544;
        336: 96/48 2+1 5 0.578/0.523; 720: 96/48 2+1 5 1.059/0.741""",
    "exchange": """96: 96/48 2+1 5 0.847/0.752; 192: 96/48 2+1 5 1.204/0.895;
        336: 96/48 2+1 5 1.672/1.036; 720: 96/48 2+1 5 2.478/1.310""",
    "ili": """24: 36/18 2+1 5 5.764/1.677; 36: 36/18 2+1 5 4.755/1.467;
        48: 36/18 2+1 5 4.763/1.469; 60: 36/18 2+1 5 5.264/1.564""",
}
LATER = ("autoformer", False)  # variant and mix of what later papers measured


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "informer").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_settings_are_those_of_the_scripts_and_build_a_network(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    rows = []
    for horizon, scores in content["published"].items():
        config = resolve(file=path, flags=flags(horizon=horizon))
        model, lookback = config.model, config.data.lookback
        assert lookback is not None
        rows.append(
            f"{horizon}: {lookback}/{model.start_token} {model.layers}+{model.decoder_layers} {model.factor} "
            f"{scores['mse']:.3f}/{scores['mae']:.3f}"
        )
        narrow = dataclasses.replace(model, d_model=8, d_ff=8)
        assert Informer(WindowShape(lookback, horizon, 7, 7, 4), narrow).start_token == model.start_token
        authors = InformerConfig(factor=model.factor, layers=model.layers, decoder_layers=model.decoder_layers)
        if path.stem.removesuffix("-univariate") not in ("etth1", "etth2", "ettm1", "wth"):
            authors = dataclasses.replace(authors, variant=LATER[0], mix=LATER[1])
        assert model == dataclasses.replace(authors, start_token=model.start_token)
        train = config.train
        assert (train.epochs, train.patience, train.batch_size, train.learning_rate) == (6, 3, 32, 1e-4)
        assert (train.schedule, train.epoch_batches, train.averaging) == ("halving", None, 0)
        assert (config.data.dataset, config.data.marks) == (path.stem.partition("-")[0], "h")
        target = "WetBulbCelsius" if config.data.dataset == "wth" else "OT"
        assert config.data.variates == ((target,) if path.stem.endswith("-univariate") else ())
    assert rows == [" ".join(row.split()) for row in PUBLISHED[path.stem].split(";")]
    assert list(content["horizons"]) == list(content["published"])


def test_every_published_table_has_its_settings() -> None:
    assert {path.stem for path in (ROOT / "configs" / "informer").glob("*.yaml")} == PUBLISHED.keys()
