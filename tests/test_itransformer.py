"""iTransformer, beyond equality with the authors' code: sizes, missing values, order, precision, settings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forecast.data.windows import Window, WindowShape
from forecast.errors import UsageError
from forecast.models import ITransformer, ITransformerConfig
from forecast.models.itransformer import standardise
from forecast.models.layers.attention import FullAttention

SHAPE = WindowShape(lookback=24, horizon=12, variates=5, targets=5, time_features=3)
ROOT = Path(__file__).parents[1]


def small(shape: WindowShape = SHAPE, *, dropout: float = 0.1, use_norm: bool = True) -> ITransformer:
    torch.manual_seed(1)
    return ITransformer(shape, ITransformerConfig(d_model=16, d_ff=24, heads=4, dropout=dropout, use_norm=use_norm))


def waves(shape: WindowShape = SHAPE, batch: int = 4, seen: float = 1.0) -> Window:
    """Noisy waves of a period and level of their own; each step is seen with probability `seen`."""
    draw = torch.Generator().manual_seed(7)
    steps = torch.arange(shape.lookback)[None, :, None]
    period = 3 + 20 * torch.rand(batch, 1, shape.variates, generator=draw)
    level = 2 * torch.randn(batch, 1, shape.variates, generator=draw)
    noise = 0.1 * torch.randn(batch, shape.lookback, shape.variates, generator=draw)
    mask = torch.rand(batch, shape.lookback, shape.variates, generator=draw) < seen
    past = (level + torch.sin(2 * torch.pi * steps / period) + noise).masked_fill(~mask, 0.0)
    past_time = torch.rand(batch, shape.lookback, shape.time_features, generator=draw) - 0.5
    future_time = torch.rand(batch, shape.horizon, shape.time_features, generator=draw) - 0.5
    return Window.of(past, mask, past_time, future_time)


def double(window: Window) -> Window:
    return Window(*(part.double() if part.is_floating_point() else part for part in window))


def close(one: Tensor, other: Tensor, relative: float) -> bool:
    return bool((one - other).abs().max() <= relative * other.abs().max())


@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        WindowShape(24, 12, 1, 1, 0),
        WindowShape(24, 1, 5, 5, 3),
        WindowShape(8, 50, 5, 5, 3),
        WindowShape(13, 7, 3, 3, 1),
        WindowShape(1, 1, 1, 1, 0),
        WindowShape(24, 12, 5, 2, 3),
    ],
)
def test_forecast_covers_horizon_and_targets(shape: WindowShape, use_norm: bool) -> None:
    forecast = small(shape, use_norm=use_norm)(waves(shape))
    assert forecast.shape == (4, shape.horizon, shape.targets)
    assert forecast.dtype == torch.float32
    assert forecast.isfinite().all()


@pytest.mark.parametrize("use_norm", [True, False])
def test_gradient_reaches_every_weight(use_norm: bool) -> None:
    net = small(use_norm=use_norm).train()
    net(waves(seen=0.8)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # Softmax ignores what is added to all keys alike: the gradient of that bias is rounding noise.
        if not name.endswith("key.bias"):
            assert weight.grad.abs().max() > 0, name


def test_order_of_variates_does_not_matter() -> None:
    net, window = small().double().eval(), double(waves(seen=0.8))
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = window._replace(past=window.past[..., order], seen=window.seen[..., order])
    assert close(net(moved), net(window)[..., order], 1e-13)


@pytest.mark.parametrize("variates", [1, 3, 5, 11])
def test_network_forecasts_as_many_variates_as_it_is_given(variates: int) -> None:
    window = waves(WindowShape(24, 12, variates, variates, 3))
    assert small().eval()(window).shape == (4, 12, variates)


@pytest.mark.parametrize("variates", [1, 2, 3, 9])
def test_network_with_covariates_forecasts_its_targets_whatever_follows(variates: int) -> None:
    window = waves(WindowShape(24, 12, variates, variates, 3))
    some, all_of_them = small(WindowShape(24, 12, 5, 2, 3)).eval(), small().eval()
    assert torch.equal(some(window), all_of_them(window)[..., :2])


def test_past_time_is_used_and_future_time_is_not() -> None:
    net, window = small().eval(), waves()
    forecast = net(window)
    assert not torch.allclose(net(window._replace(past_time=-window.past_time)), forecast)
    assert torch.equal(net(window._replace(future_time=window.future_time + 1e9)), forecast)


def test_statistics_are_those_of_the_seen_steps() -> None:
    window = double(waves(seen=0.6))
    scaled, mean, deviation = standardise(window.past, window.seen)
    for b in range(4):
        for v in range(5):
            steps = window.past[b, window.seen[b, :, v], v].numpy()
            assert mean[b, 0, v].item() == pytest.approx(steps.mean(), rel=1e-12)
            assert deviation[b, 0, v].item() == pytest.approx(np.sqrt(steps.var() + 1e-5), rel=1e-12)
    assert (scaled[~window.seen] == 0).all()
    restored = (scaled * deviation + mean)[window.seen]
    assert torch.allclose(restored, window.past[window.seen], rtol=1e-12, atol=1e-12)


def test_unseen_or_constant_variate_gives_a_finite_forecast_and_gradient() -> None:
    window = waves()
    window.seen[:, :, 1] = False
    window.past[:, :, 3] = 4.5
    past = window.past.requires_grad_()
    forecast = small().eval()(window)
    forecast.square().sum().backward()
    assert forecast.isfinite().all()
    assert past.grad is not None
    assert past.grad.isfinite().all()
    assert (forecast[..., 1].abs() < 0.1).all()  # mean 0, smallest deviation
    assert ((forecast[..., 3] - 4.5).abs() < 0.1).all()


def test_level_of_a_variate_passes_through_to_its_forecast() -> None:
    net, window = small().double().eval(), double(waves())
    level = torch.tensor([0.0, 100.0, -7.0, 3.0, 0.5], dtype=torch.float64)
    raised = net(window._replace(past=window.past + level))
    assert torch.allclose(raised, net(window) + level, rtol=0, atol=1e-10)


def test_double_precision_agrees_with_single() -> None:
    window = waves(seen=0.9)
    single, twice = small().eval()(window), small().double().eval()(double(window))
    assert twice.dtype == torch.float64
    assert close(single.double(), twice, 3e-6)


def test_windows_of_a_batch_do_not_meet() -> None:
    net, window = small().eval(), waves(batch=6, seen=0.9)
    forecast = net(window)
    order = torch.tensor([5, 2, 0, 3, 1, 4])
    assert close(net(Window(*(tensor[order] for tensor in window))), forecast[order], 1e-6)
    alone = torch.cat([net(Window(*(tensor[b : b + 1] for tensor in window))) for b in range(6)])
    assert close(alone, forecast, 1e-6)


def test_eval_is_deterministic_and_dropout_is_for_training_only() -> None:
    net, window = small(dropout=0.3), waves()
    assert not torch.equal(net.train()(window), net.train()(window))
    forecast = net.eval()(window)
    assert torch.equal(net(window), forecast)
    assert close(small(dropout=0.0).train()(window), forecast, 1e-6)


def test_input_is_left_as_it_was() -> None:
    window = waves(seen=0.8)
    before = [tensor.clone() for tensor in window]
    small()(window)
    assert all(torch.equal(tensor, kept) for tensor, kept in zip(window, before, strict=True))


def test_attention_maps_cover_variates_and_time_features() -> None:
    net, window = small().eval(), waves(seen=0.8)
    maps = net.attention_maps(window)
    assert [tuple(shares.shape) for shares in maps] == [(4, 4, 8, 8)] * 2
    for shares in maps:
        assert (shares >= 0).all()
        assert torch.allclose(shares.sum(-1), torch.ones(4, 4, 8))


def test_fused_attention_mixes_by_the_shares_it_shows() -> None:
    torch.manual_seed(3)
    attention = FullAttention(d_model=12, heads=3, dropout=0.1).double().eval()
    queries = torch.randn(2, 5, 12, dtype=torch.float64)
    context = torch.randn(2, 7, 12, dtype=torch.float64)
    values = attention.value(context).reshape(2, 7, 3, 4)
    mixed = torch.einsum("baqc,bcad->bqad", attention.weights(queries, context), values).reshape(2, 5, 12)
    assert close(attention(queries, context), attention.out(mixed), 1e-14)


def test_attention_drops_shares_in_training() -> None:
    torch.manual_seed(3)
    attention = FullAttention(d_model=12, heads=3, dropout=0.5)
    tokens = torch.randn(2, 7, 12)
    assert not torch.equal(attention.train()(tokens, tokens), attention(tokens, tokens))
    assert torch.equal(attention.eval()(tokens, tokens), attention(tokens, tokens))


def test_seed_draws_the_initial_weights_of_the_authors_layers() -> None:
    torch.manual_seed(1)
    embed = nn.Linear(24, 16)
    blocks = [[*(nn.Linear(16, 16) for _ in range(4)), nn.Conv1d(16, 24, 1), nn.Conv1d(24, 16, 1)] for _ in range(2)]
    project = nn.Linear(16, 12)
    net = small()
    assert torch.equal(net.embed.weight, embed.weight)
    for layer, block in zip(net.layers, blocks, strict=True):
        own = [layer.attention.query, layer.attention.key, layer.attention.value, layer.attention.out]
        for here, there in zip([*own, layer.expand, layer.contract], block, strict=True):
            assert torch.equal(here.weight.flatten(), there.weight.flatten())
            assert torch.equal(here.bias, there.bias)
    assert torch.equal(net.project.bias, project.bias)


def test_published_etth1_network_has_the_authors_number_of_weights() -> None:
    net = ITransformer(WindowShape(96, 96, 7, 7, 4), ITransformerConfig(d_model=256, d_ff=256))
    assert sum(weight.numel() for weight in net.parameters()) == 841_568


def test_network_overfits_one_batch() -> None:
    whole = waves(WindowShape(36, 12, 5, 5, 3))
    window = Window.of(whole.past[:, :24], whole.seen[:, :24], whole.past_time[:, :24], whole.future_time)
    answer = whole.past[:, 24:]
    net = small(dropout=0.0).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(300):
        loss = (net(window) - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"d_model": 30}, "model.d_model 30 is not a multiple of model.heads 8"),
        ({"d_model": 0}, "model.d_model is 0"),
        ({"d_ff": -1}, "model.d_ff is -1"),
        ({"heads": 0}, "model.heads is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"dropout": -0.1}, "model.dropout is -0.1"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"activation": "swish"}, 'model.activation "swish"'),
    ],
)
def test_settings_that_cannot_be_built_are_refused_by_name(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        ITransformerConfig(**settings)  # type: ignore[arg-type]
    assert told in caught.value.message
    assert caught.value.hint.startswith("Set model.")


def test_importing_the_models_package_loads_no_torch() -> None:
    lines = "import sys, forecast.models as m; assert 'ITransformer' in dir(m); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_models_package_says_which_name_it_lacks() -> None:
    import forecast.models

    with pytest.raises(AttributeError, match="Prophet"):
        _ = forecast.models.Prophet
