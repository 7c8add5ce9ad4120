"""Nothing that is known only after a forecast is made reaches it: neither through training nor through the window."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from forecast.calibrate import calibrate
from forecast.data.windows import Example, Window, WindowDataset
from forecast.prepare import Prepared
from forecast.registry import BASELINES, MODELS
from forecast.series import solved_baseline
from forecast.training import train

SERIES = [name for name, spec in MODELS.items() if spec.task == "series"]
WRONG = [1e9, np.nan]
VALIDATION, TEST, ROWS = 260, 330, 400  # first rows of the parts
Small = Callable[..., Prepared]
Networks = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def accept_parts_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is all NaN is refused, as it has no score; here it is what inputs and weights must not follow."""
    monkeypatch.setattr("forecast.prepare._any_seen", lambda frame, first, end: True)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    path = Path(__file__).parents[1] / "datasets/ETTh1.csv"
    return pl.read_csv(path, n_rows=ROWS).drop("date").to_numpy()[:, :3]


@pytest.fixture(scope="module")
def honest(make_small: Small, values: np.ndarray) -> Prepared:
    return make_small(values)


def spoilt(values: np.ndarray, first: int, wrong: float) -> np.ndarray:
    changed = values.copy()
    changed[first:] = wrong
    return changed


def learnt(name: str, prepared: Prepared, make_network: Networks) -> nn.Module:
    """The model as a fit would train it, for one short epoch."""
    if name in BASELINES:
        return solved_baseline(name, prepared).eval()
    network = make_network(name, prepared.shape)
    settings = replace(prepared.read.config.train, epochs=1, epoch_batches=None, device="cpu")
    train(network, prepared.train, prepared.validation, settings)
    return network.eval()


@pytest.fixture(scope="module")
def models(honest: Prepared, make_network: Networks) -> dict[str, nn.Module]:
    return {name: learnt(name, honest, make_network) for name in SERIES}


def tensors(examples: Example) -> list[Tensor]:
    return [*examples.window, *examples.target, examples.series, examples.origin]


def equal_windows(one: WindowDataset, other: WindowDataset) -> bool:
    pairs = zip(one.batches(50), other.batches(50), strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(tensors(x), tensors(y), strict=True))


def moves(
    forecaster: Callable[[Window], Tensor], honest: Prepared, make_small: Small, values: np.ndarray, wrong: float
) -> bool:
    """Whether any forecast or any input of it differs once every value after its origin is `wrong`."""
    test = honest.test.with_lookback(honest.test.lookback)
    for number in (0, len(test) // 2, len(test) - 1):
        origin = int(test.origins[number])
        changed = make_small(spoilt(values, origin + 1, wrong)).test
        index = torch.tensor([number])
        before, after = test[index].window, changed[index].window
        assert changed.origins[number] == origin
        if not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            return True
        with torch.no_grad():
            if not torch.equal(forecaster(before), forecaster(after)):
                return True
    return False


@pytest.mark.parametrize("wrong", WRONG)
def test_values_after_training_do_not_move_what_is_taken_from_the_training_part(
    make_small: Small, honest: Prepared, values: np.ndarray, wrong: float
) -> None:
    changed = make_small(spoilt(values, VALIDATION, wrong))
    np.testing.assert_array_equal(changed.scaler.mean, honest.scaler.mean)
    np.testing.assert_array_equal(changed.scaler.std, honest.scaler.std)
    np.testing.assert_array_equal(changed.naive_error, honest.naive_error)
    assert changed.season == honest.season == 24
    assert len(honest.train) == VALIDATION - 24 - 12 + 1
    assert equal_windows(changed.train, honest.train)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", BASELINES)
def test_values_after_training_do_not_move_the_solved_baselines(
    make_small: Small, make_network: Networks, models: dict[str, nn.Module], values: np.ndarray, name: str, wrong: float
) -> None:
    changed = learnt(name, make_small(spoilt(values, VALIDATION, wrong)), make_network)
    weights, others = models[name].state_dict(), changed.state_dict()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert vars(changed).get("season") == vars(models[name]).get("season")


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", SERIES)
def test_the_test_part_does_not_move_trained_weights_nor_their_intervals(
    make_small: Small,
    make_network: Networks,
    models: dict[str, nn.Module],
    honest: Prepared,
    values: np.ndarray,
    name: str,
    wrong: float,
) -> None:
    prepared = make_small(spoilt(values, TEST, wrong))
    assert equal_windows(prepared.validation, honest.validation)
    changed = learnt(name, prepared, make_network)
    weights, others = models[name].state_dict(), changed.state_dict()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    one, other = calibrate(models[name], honest.validation, 64), calibrate(changed, prepared.validation, 64)
    np.testing.assert_array_equal(one.widths, other.widths)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", SERIES)
def test_values_after_the_origin_move_neither_inputs_nor_forecasts(
    make_small: Small, models: dict[str, nn.Module], honest: Prepared, values: np.ndarray, name: str, wrong: float
) -> None:
    assert not moves(models[name], honest, make_small, values, wrong)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_forecaster_that_reads_behind_its_window_is_caught(
    make_small: Small, honest: Prepared, values: np.ndarray, wrong: float
) -> None:
    def leaky(window: Window) -> Tensor:
        """Reads the answers, which lie behind the lookback in the memory of the batch."""
        batch, lookback, variates = window.past.shape
        whole = window.past.as_strided((batch, lookback + 12, variates), window.past.stride())
        return whole[:, lookback:]

    first = honest.test[torch.arange(3)]
    assert torch.equal(leaky(first.window), first.target.values)  # it does cheat
    assert moves(leaky, honest, make_small, values, wrong)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_scaler_fitted_on_every_row_would_be_caught(
    make_small: Small, honest: Prepared, values: np.ndarray, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forecast.data.scale import Scaler

    fit = Scaler.fit.__func__
    monkeypatch.setattr(
        Scaler, "fit", classmethod(lambda cls, frame, train_end, **how: fit(cls, frame, frame.offsets[1:], **how))
    )
    assert moves(lambda window: window.past, make_small(values), make_small, values, wrong)


def test_forecasts_follow_the_values_before_the_origin(models: dict[str, nn.Module], honest: Prepared) -> None:
    window = honest.test[torch.tensor([5])].window
    other = window._replace(past=window.past + torch.linspace(0.5, 1, 24)[:, None])
    for name, model in models.items():
        with torch.no_grad():
            assert not torch.equal(model(window), model(other)), name
