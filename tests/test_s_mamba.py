"""S-Mamba, beyond equality with the authors' code: order, sizes, missing values, precision, settings."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from forecast.config import resolve
from forecast.data.windows import Window, WindowShape
from forecast.errors import ArtifactError, UsageError
from forecast.models import SMamba, SMambaConfig, load_reference_weights

ROOT = Path(__file__).parents[1]
SHAPE = WindowShape(lookback=24, horizon=12, variates=5, targets=5, time_features=3)
SETTINGS = sorted((ROOT / "configs" / "s-mamba").glob("*.yaml"))

# One value, or one a horizon: layers; width; states; rate; batch; epochs; use_norm; MSE/MAE a horizon.
PAPER = {
    "etth1": "2; 256; 2; 7e-5 7e-5 5e-5 5e-5; 32; 10; 1; .386/.405 .443/.437 .489/.468 .502/.489",
    "etth2": "2; 256; 2; 4e-5 4e-5 3e-5 7e-5; 32; 10; 1; .296/.348 .376/.396 .424/.431 .426/.444",
    "ettm1": "2; 256 128 128 128; 2; 5e-5; 32; 10; 1; .333/.368 .376/.390 .408/.413 .475/.448",
    "ettm2": "2; 256 128 128 128; 2; 5e-5 5e-5 3e-5 5e-5; 32; 10; 1; .179/.263 .250/.309 .312/.349 .411/.406",
    "exchange": "2; 128; 32; 1e-4 1e-4 5e-5 5e-5; 16 32 32 32; 10; 1; .086/.207 .182/.304 .332/.418 .867/.703",
    "weather": "3; 512; 2; 5e-5; 32; 5; 1; .165/.210 .214/.252 .274/.297 .350/.345",
    "solar": "2; 512; 32; 1e-4; 32; 10; 1; .205/.244 .237/.270 .258/.288 .260/.288",
    "ecl": "3; 512; 16 32 32 32; 1e-3 5e-4 5e-4 5e-4; 16; 5; 1; .139/.235 .159/.255 .176/.272 .204/.298",
    "traffic": "4; 512; 32; 1e-3 1e-3 2e-3 8e-4; 16; 10; 1; .382/.261 .396/.267 .417/.276 .460/.300",
    "pems03": "4 4 5 4; 512; 32; 1e-3 1e-3 1e-4 15e-4; 32; 5 10 10 10; 1; .065/.169 .087/.196 .133/.243 .201/.305",
    "pems04": "4; 1024; 32; 3e-4; 32; 10; 0; .076/.180 .084/.193 .115/.224 .137/.248",
    "pems07": "2 2 4 4; 512; 32; 7e-4 7e-4 5e-4 5e-4; 16 32 16 16; 10; 0; .063/.159 .081/.183 .093/.192 .117/.217",
    "pems08": "2 2 4 4; 512 512 256 256; 32; 1e-3 7e-4 1e-3 1e-3; 32 32 16 16; 10; 1; "
    ".076/.178 .104/.209 .167/.228 .245/.280",
}


def small(shape: WindowShape = SHAPE, *, dropout: float = 0.1, use_norm: bool = True) -> SMamba:
    torch.manual_seed(1)
    return SMamba(shape, SMambaConfig(d_model=16, d_ff=24, d_state=4, dropout=dropout, use_norm=use_norm))


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


def test_order_of_variates_is_part_of_the_model() -> None:
    net, window = small().double().eval(), double(waves(seen=0.8))
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = net(window._replace(past=window.past[..., order], seen=window.seen[..., order]))
    assert not close(moved, net(window)[..., order], 1e-3)


def test_each_direction_reaches_every_other_variate() -> None:
    net, window = small(use_norm=False).double().eval(), double(waves())
    for source in range(5):
        past = window.past.clone()
        past[..., source] += 1.0
        moved = (net(window._replace(past=past)) - net(window)).abs().amax((0, 1))
        assert (moved > 1e-6).all(), source


@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize("seen", [1.0, 0.8])
def test_gradient_reaches_every_weight(use_norm: bool, seen: float) -> None:
    net = small(use_norm=use_norm).train()
    net(waves(seen=seen)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("variates", [1, 3, 5, 70])
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


def test_level_of_a_variate_passes_through_to_its_forecast() -> None:
    net, window = small().double().eval(), double(waves())
    level = torch.tensor([0.0, 100.0, -7.0, 3.0, 0.5], dtype=torch.float64)
    raised = net(window._replace(past=window.past + level))
    assert torch.allclose(raised, net(window) + level, rtol=0, atol=1e-10)


def test_double_precision_agrees_with_single_and_bf16_comes_near() -> None:
    window = waves(seen=0.9)
    single, twice = small().eval()(window), small().double().eval()(double(window))
    assert twice.dtype == torch.float64
    assert close(single.double(), twice, 3e-6)
    with torch.autocast("cpu", torch.bfloat16):
        half = small().eval()(window)
    assert close(half.double(), twice, 3e-2)


def test_dropout_is_for_training_only_and_spares_the_scans() -> None:
    net, window = small(dropout=0.3), waves()
    assert not torch.equal(net.train()(window), net.train()(window))
    assert torch.equal(net.eval()(window), net(window))
    layer, tokens = net.layers[0].train(), torch.randn(2, 6, 16)
    assert torch.equal(layer.forwards(tokens), layer.forwards(tokens))


def test_published_etth1_network_has_the_authors_number_of_weights() -> None:
    net = SMamba(WindowShape(96, 96, 7, 7, 4), SMambaConfig(d_model=256, d_ff=256, d_state=2))
    assert sum(weight.numel() for weight in net.parameters()) == 1_145_696


def test_network_overfits_one_batch() -> None:
    whole = waves(WindowShape(36, 12, 5, 5, 3))
    window = Window.of(whole.past[:, :24], whole.seen[:, :24], whole.past_time[:, :24], whole.future_time)
    answer = whole.past[:, 24:]
    net = small(dropout=0.0).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = (net(window) - answer).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def authors_checkpoint() -> tuple[SMamba, dict[str, Tensor]]:
    """The network of a reference file, and its weights with the ones that the authors' code makes and never uses."""
    with safe_open(ROOT / "tests/golden/s_mamba/norm_marks.safetensors", framework="pt") as file:
        size = json.loads(file.metadata()["meta"])["config"]
        weights = {k.removeprefix("param."): file.get_tensor(k) for k in file.keys() if k.startswith("param.")}  # noqa: SIM118
    for layer in range(2):
        for name in ("man.A_log", "man.in_proj.weight", "man2.D", "a.query_projection.weight"):
            weights[f"encoder.attn_layers.{layer}.{name}"] = torch.randn(11, 11)
    config = SMambaConfig(d_model=size["d_model"], d_ff=size["d_ff"], d_state=size["d_state"])
    return SMamba(WindowShape(48, 24, 7, 7, 4), config), weights


def test_authors_checkpoint_loads_without_the_weights_they_never_use() -> None:
    net, weights = authors_checkpoint()
    assert load_reference_weights(net, weights) is net
    assert torch.equal(net.layers[1].backwards.A_log, weights["encoder.attn_layers.1.attention_r.A_log"])
    assert torch.equal(net.layers[0].forwards.conv1d.weight, weights["encoder.attn_layers.0.attention.conv1d.weight"])


@pytest.mark.parametrize("name", ["encoder.attn_layers.0.man3.D", "encoder.man.D", "man.D", "encoder.attn_layers.0.b"])
def test_other_weights_that_are_left_over_are_refused(name: str) -> None:
    net, weights = authors_checkpoint()
    weights[name] = torch.zeros(11)
    with pytest.raises(ArtifactError, match="left over"):
        load_reference_weights(net, weights)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"d_model": 0}, "model.d_model is 0"),
        ({"d_ff": -1}, "model.d_ff is -1"),
        ({"d_state": 0}, "model.d_state is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"activation": "swish"}, 'model.activation "swish"'),
    ],
)
def test_settings_that_cannot_be_built_are_refused_by_name(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        SMambaConfig(**settings)  # type: ignore[arg-type]
    assert told in caught.value.message
    assert caught.value.hint.startswith("Set model.")


def test_published_settings_exist_for_every_set_of_the_paper() -> None:
    assert {path.stem for path in SETTINGS} == set(PAPER)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_and_scores_are_those_of_the_paper(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    horizons = [12, 24, 48, 96] if path.stem.startswith("pems") else [96, 192, 336, 720]
    assert list(content["horizons"]) == list(content["published"]) == horizons
    assert content["data"]["dataset"] == path.stem
    fields = [field.split() for field in PAPER[path.stem].split(";")]
    for number, horizon in enumerate(horizons):
        layers, width, states, rate, batch, epochs, norm, scores = (
            field[number] if len(field) > 1 else field[0] for field in fields
        )
        config = resolve(file=path, flags={"data": {"horizon": horizon}})
        assert (config.name, config.data.lookback, config.data.horizon) == ("s-mamba", 96, horizon)
        assert config.model == SMambaConfig(
            d_model=int(width), d_ff=int(width), d_state=int(states), layers=int(layers), use_norm=norm == "1"
        )
        train = config.train
        assert (train.learning_rate, train.batch_size, train.epochs) == (float(rate), int(batch), int(epochs))
        assert (train.schedule, train.averaging, train.epoch_batches) == ("halving", 0, None)
        assert (train.patience, train.seed, train.loss) == (3, 2023, "mse")
        mse, mae = scores.split("/")
        assert content["published"][horizon] == {"mse": float(mse), "mae": float(mae)}


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_use_the_calendar_that_the_authors_used(path: Path) -> None:
    without = path.stem == "solar" or path.stem.startswith("pems")
    assert yaml.safe_load(path.read_text())["data"]["marks"] == ("none" if without else "h")
