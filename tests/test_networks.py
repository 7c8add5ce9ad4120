"""One contract that every model of the registry keeps, whatever the shape of its data."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forecast.calibrate import LEVELS, Calibration
from forecast.data.frame import SeriesFrame
from forecast.data.scale import Scaler
from forecast.data.windows import Example, Target, Window, WindowShape
from forecast.fitted import Fitted
from forecast.registry import MODELS, config_class

SERIES = [name for name, spec in MODELS.items() if spec.task == "series"]
SHAPES = {
    "usual": WindowShape(24, 12, 3, 3, 4),
    "one-variate": WindowShape(24, 12, 1, 1, 0),
    "one-step": WindowShape(24, 1, 3, 3, 4),
    "horizon-longer-than-lookback": WindowShape(8, 30, 2, 2, 1),
    "odd-lookback": WindowShape(13, 7, 3, 3, 4),
    "some-targets": WindowShape(24, 12, 5, 2, 0),
    "covariates": WindowShape(24, 12, 3, 3, 4, known=2, static=3),
    "smallest": WindowShape(1, 1, 1, 1, 0),
}
Networks = Callable[..., nn.Module]

every_model = pytest.mark.parametrize("name", SERIES)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def batch(shape: WindowShape, size: int = 6, missing: float = 0.0, seed: int = 3) -> Example:
    """Noise of which the share `missing` is unseen."""
    draw = torch.Generator().manual_seed(seed)
    length = shape.lookback + shape.horizon
    values = torch.randn(size, length, shape.variates, generator=draw)
    seen = torch.rand(values.shape, generator=draw) >= missing
    values = values.masked_fill(~seen, 0.0)
    time = torch.rand(size, length, shape.time_features, generator=draw) - 0.5
    known = torch.randn(size, length, shape.known, generator=draw)
    static = torch.randn(1, shape.variates, shape.static, generator=draw).expand(size, -1, -1)
    at = shape.lookback
    return Example(
        Window(values[:, :at], seen[:, :at], time[:, :at], time[:, at:], known, static),
        Target(values[:, at:, : shape.targets], seen[:, at:, : shape.targets]),
        torch.zeros(size, dtype=torch.int64),
        torch.arange(size),
    )


def ready(make_network: Networks, name: str, shape: WindowShape) -> nn.Module:
    """A toy network in eval mode; one that is solved instead of trained has been."""
    settings = {"season": min(5, shape.lookback)} if "season" in config_class(MODELS[name]).__dataclass_fields__ else {}
    network = make_network(name, shape, **settings)
    if hasattr(network, "solve"):
        network.solve([batch(shape, 40, seed=seed) for seed in (1, 2)])
    return network.eval()


@every_model
def test_a_network_keeps_the_shape_and_settings_it_was_built_with(make_network: Networks, name: str) -> None:
    network = make_network(name, SHAPES["usual"])
    assert network.shape == SHAPES["usual"]
    assert isinstance(network.config, config_class(MODELS[name]))
    assert isinstance(network.any_variates, bool)


@every_model
@every_shape
@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_forecast_is_finite_float32_of_every_target_over_the_horizon(
    make_network: Networks, name: str, shape: WindowShape, missing: float
) -> None:
    with torch.no_grad():
        forecast = ready(make_network, name, shape)(batch(shape, missing=missing).window)
    assert forecast.shape == (6, shape.horizon, shape.targets)
    assert forecast.dtype == torch.float32
    assert torch.isfinite(forecast).all()


@every_model
@every_shape
def test_forecast_of_constant_series_is_finite(make_network: Networks, name: str, shape: WindowShape) -> None:
    window = batch(shape).window
    for value in (0.0, 3.0, -1e6):
        with torch.no_grad():
            forecast = ready(make_network, name, shape)(window._replace(past=torch.full_like(window.past, value)))
        assert torch.isfinite(forecast).all()


@every_model
@every_shape
@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_gradients_reach_every_parameter_and_are_finite(
    make_network: Networks, name: str, shape: WindowShape, missing: float
) -> None:
    network = ready(make_network, name, shape).train()
    parameters = dict(network.named_parameters())
    if not parameters:
        assert MODELS[name].baseline
        return
    example = batch(shape, missing=missing)
    (network(example.window) - example.target.values).square().mean().backward()
    for key, parameter in parameters.items():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize("value", [1e9, -3.0, torch.inf, torch.nan])
@pytest.mark.parametrize("name", [name for name in SERIES if not MODELS[name].baseline])
def test_values_at_unseen_steps_change_neither_forecast_nor_gradient(
    make_network: Networks, name: str, value: float, use_norm: bool
) -> None:
    takes = "use_norm" in config_class(MODELS[name]).__dataclass_fields__
    if not (use_norm or takes):
        pytest.skip(f"{name} does not standardise its windows")
    network = make_network(name, SHAPES["usual"], **({"use_norm": use_norm} if takes else {})).eval()
    window = batch(SHAPES["usual"], missing=0.3).window

    def run(past: Tensor) -> tuple[Tensor, Tensor]:
        past = past.clone().requires_grad_()
        forecast = network(window._replace(past=past))
        (gradient,) = torch.autograd.grad(forecast.square().sum(), past)
        return forecast, gradient

    forecast, gradient = run(window.past)
    spoilt_forecast, spoilt_gradient = run(window.past.masked_fill(~window.seen, value))
    assert torch.equal(spoilt_forecast, forecast)
    assert torch.equal(spoilt_gradient, gradient)
    assert (gradient[~window.seen] == 0).all()


@every_model
@every_shape
def test_a_forecast_does_not_depend_on_its_batch(make_network: Networks, name: str, shape: WindowShape) -> None:
    network, window = ready(make_network, name, shape), batch(shape, missing=0.2).window
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    with torch.no_grad():
        forecast = network(window)
        turned = network(Window(*(part[order] for part in window)))
        alone = torch.cat([network(Window(*(part[number : number + 1] for part in window))) for number in range(6)])
    # Kernels add up in another order for another number of rows: a few float32 steps, no more.
    assert torch.allclose(turned, forecast[order], atol=1e-5)
    assert torch.allclose(alone, forecast, atol=1e-5)


@every_model
def test_evaluation_is_deterministic_and_leaves_its_input_alone(make_network: Networks, name: str) -> None:
    shape = SHAPES["usual"]
    network, window = ready(make_network, name, shape), batch(shape, missing=0.2).window
    given = copy.deepcopy(window)
    with torch.no_grad():
        torch.manual_seed(1)
        first = network(window)
        torch.manual_seed(2)
        second = network(window)
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(window, given, strict=True))


@every_model
def test_the_same_seed_builds_the_same_network(make_network: Networks, name: str) -> None:
    one, other = (make_network(name, SHAPES["usual"]).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def stored(
    make_frame: Callable[..., SeriesFrame], make_network: Networks, name: str, shape: WindowShape, folder: Path
) -> tuple[Fitted, Fitted]:
    """A fitted model, and what comes back of it from a folder."""
    network = ready(make_network, name, shape)
    frame = make_frame(np.zeros((4, shape.variates)), targets=shape.targets)
    draw = np.random.default_rng(0)
    fitted = Fitted(
        name=name,
        config=network.config,
        shape=shape,
        schema=frame.schema,
        marks=("hour", "weekday", "day", "yearday")[: shape.time_features],
        keys=("",),
        variates=frame.schema.values,
        scaler=Scaler(draw.normal(size=(1, shape.variates)), draw.gamma(2.0, size=(1, shape.variates))),
        calibration=Calibration(
            LEVELS,
            draw.random((len(LEVELS), shape.horizon, shape.targets)).astype(np.float32),
            draw.random((len(LEVELS), shape.horizon)).astype(np.float32),
        ),
        network=network,
        facts={"fingerprint": "ab", "span": ["2020-01-01", "2020-02-01"]},
        graph=getattr(network, "graph", None),
    )
    fitted.save(folder)
    return fitted, Fitted.load(folder)


@every_model
@every_shape
def test_a_model_comes_back_from_its_folder_bit_for_bit(
    make_frame: Callable[..., SeriesFrame], make_network: Networks, tmp_path: Path, name: str, shape: WindowShape
) -> None:
    fitted, loaded = stored(make_frame, make_network, name, shape, tmp_path / "model")
    window = batch(shape, missing=0.2).window
    with torch.no_grad():
        assert torch.equal(loaded.network(window), fitted.network(window))
    assert not loaded.network.training
    for field in ("name", "config", "shape", "schema", "marks", "keys", "variates", "facts"):
        assert getattr(loaded, field) == getattr(fitted, field), field
    for part, arrays in (("scaler", ("mean", "std")), ("calibration", ("widths", "pooled"))):
        for array in arrays:
            one, other = getattr(getattr(fitted, part), array), getattr(getattr(loaded, part), array)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]


@every_model
def test_any_number_of_variates_is_taken_where_a_model_says_so(make_network: Networks, name: str) -> None:
    shape = SHAPES["usual"]
    network = ready(make_network, name, shape)
    if not getattr(network, "any_variates", False):
        pytest.skip(f"{name} has a fixed number of variates")
    wide = batch(WindowShape(24, 12, 7, 7, 4), missing=0.2).window
    with torch.no_grad():
        assert network(wide).shape == (6, 12, 7)


@every_model
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_forecast_of_the_cpu(make_network: Networks, name: str) -> None:
    shape = SHAPES["usual"]
    network, window = ready(make_network, name, shape), batch(shape, missing=0.2).window
    with torch.no_grad():
        here: Tensor = network(window)
        there = network.to("cuda")(Window(*(part.to("cuda") for part in window)))
    assert torch.allclose(there.cpu(), here, atol=1e-4)
