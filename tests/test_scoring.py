"""Scores: each equals a NumPy line over every window, whatever the batch size; missing answers carry no weight."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from forecast.calibrate import Calibration
from forecast.data.frame import SeriesFrame
from forecast.data.scale import Scaler
from forecast.data.windows import Window, WindowDataset
from forecast.models.naive import Naive, NaiveConfig
from forecast.prepare import Prepared
from forecast.scoring import Scores, best_season, score, seasonal_error

Frames = Callable[..., SeriesFrame]
Windows = Callable[..., WindowDataset]

LENGTHS, LOOKBACK, HORIZON, TARGETS = [40, 27], 6, 4, 2
SCALER = Scaler(np.array([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]]), np.array([[2.0, 0.5, 1.0], [10.0, 1.0, 1.0]]))
NAIVE_ERROR = np.array([[0.5, 0.0], [2.0, 4.0]])  # 0: that variate takes no part in MASE
WIDTHS = np.stack([np.full((HORIZON, TARGETS), width) for width in (0.4, 1.3)])
CALIBRATION = Calibration((80, 95), WIDTHS, WIDTHS[..., 0])


def damped(window: Window) -> Tensor:
    """A forecaster that differs by window, step and variate."""
    steps = torch.linspace(0.2, 1.0, HORIZON)[:, None]
    return window.past[:, -1:, :TARGETS] * steps - window.past[:, :1, :TARGETS] * 0.3


@pytest.fixture(params=[0.0, 0.2], ids=["complete", "missing"])
def data(request: pytest.FixtureRequest, make_frame: Frames, make_windows: Windows) -> WindowDataset:
    draw = np.random.default_rng(5)
    values = draw.normal(size=(sum(LENGTHS), 3))
    values[draw.random(values.shape) < request.param] = np.nan
    return make_windows(make_frame(values, LENGTHS, targets=TARGETS), LOOKBACK, HORIZON)


def scored(data: WindowDataset, batch_size: int = 64) -> Scores:
    return score(damped, data, SCALER, NAIVE_ERROR, batch_size=batch_size, calibration=CALIBRATION, levels=(80, 95))


def test_scores_equal_a_numpy_line(data: WindowDataset) -> None:
    every = data[torch.arange(len(data))]
    seen, series = every.target.seen.numpy(), every.series.numpy()
    error = (damped(every.window) - every.target.values).double().numpy()
    units = error * SCALER.std[series][:, None, :TARGETS]
    answer, forecast = (
        SCALER.invert(one.double().numpy(), series) for one in (every.target.values, damped(every.window))
    )
    naive = np.broadcast_to(NAIVE_ERROR[series][:, None], error.shape)
    scores = scored(data)

    assert scores.windows == len(data) == 31 + 18
    assert scores.scaled == pytest.approx({"mse": (error[seen] ** 2).mean(), "mae": abs(error[seen]).mean()}, rel=1e-12)
    usable = seen & (naive > 0)
    original = {
        "mae": abs(units[seen]).mean(),
        "rmse": (units[seen] ** 2).mean() ** 0.5,
        "mase": (abs(error[usable]) / naive[usable]).mean(),
        "smape": (200 * abs(units) / (abs(answer) + abs(forecast)))[seen].mean(),
    }
    assert scores.original == pytest.approx(original, rel=1e-12)
    inside = {80: (abs(error[seen]) <= 0.4).mean(), 95: (abs(error[seen]) <= 1.3).mean()}
    assert scores.coverage == pytest.approx(inside, rel=1e-12)
    masked = np.where(seen, error, np.nan)
    np.testing.assert_allclose(scores.by_step, np.nanmean(masked**2, axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        scores.by_variate, np.nanmean(abs(np.where(seen, units, np.nan)), axis=(0, 1)), rtol=1e-12
    )
    assert [scores.metric(name) for name in ("mse", "mae", "rmse", "mase", "smape")] == [
        scores.scaled["mse"],
        *(scores.original[name] for name in ("mae", "rmse", "mase", "smape")),
    ]


def test_a_zero_that_was_forecast_as_zero_is_no_error_of_smape(make_frame: Frames, make_windows: Windows) -> None:
    data = make_windows(make_frame(np.zeros((8, 1))), 4, 2)
    scores = score(lambda window: torch.zeros(len(window.past), 2, 1), data, Scaler(*np.array([[[0.0]], [[1.0]]])), ONE)
    assert scores.original["smape"] == 0.0


ONE = np.ones((1, 1))


@pytest.mark.parametrize("batch_size", [1, 7, 48, 49, 1000])
def test_scores_do_not_depend_on_the_batch_size(data: WindowDataset, batch_size: int) -> None:
    one, other = scored(data), scored(data, batch_size)
    assert one.windows == other.windows
    for part in ("scaled", "original", "coverage"):
        assert getattr(other, part) == pytest.approx(getattr(one, part), rel=1e-12)
    np.testing.assert_allclose(one.by_step, other.by_step, rtol=1e-12)


def test_every_window_is_scored_once_the_last_batch_too(data: WindowDataset) -> None:
    sizes: list[int] = []

    def counting(window: Window) -> Tensor:
        sizes.append(len(window.past))
        return damped(window)

    score(counting, data, SCALER, NAIVE_ERROR, batch_size=32)
    assert sizes == [32, 17]


def test_missing_answers_carry_no_weight(make_frame: Frames, make_windows: Windows) -> None:
    values = np.random.default_rng(2).normal(size=(30, 3))
    values[22:25, 0] = np.nan
    data = make_windows(make_frame(values, targets=TARGETS), LOOKBACK, HORIZON)
    before = score(damped, data, SCALER, NAIVE_ERROR)

    def wild(window: Window) -> Tensor:
        """Differs from `damped` only where the answer is missing."""
        forecast = damped(window)
        numbers = torch.arange(len(window.past))[:, None] + LOOKBACK + torch.arange(HORIZON)  # row of each answer
        forecast[..., 0] = torch.where((numbers >= 22) & (numbers < 25), 1e9, forecast[..., 0])
        return forecast

    after = score(wild, data, SCALER, NAIVE_ERROR)
    assert (after.scaled, after.original) == (before.scaled, before.original)
    np.testing.assert_array_equal(after.by_variate, before.by_variate)


def test_scaled_errors_refer_to_the_reference_scaler(make_frame: Frames, make_windows: Windows) -> None:
    data = make_windows(make_frame(np.random.default_rng(2).normal(size=(30, 2))), LOOKBACK, HORIZON)
    scaler = Scaler(np.zeros((1, 2)), np.full((1, 2), 6.0))
    plain = score(damped, data, scaler, np.ones((1, 2)))
    other = score(damped, data, scaler, np.ones((1, 2)), reference=Scaler(np.zeros((1, 2)), np.full((1, 2), 3.0)))
    assert other.scaled["mse"] == pytest.approx(4 * plain.scaled["mse"])
    assert other.scaled["mae"] == pytest.approx(2 * plain.scaled["mae"])
    assert other.original == plain.original


def test_without_a_single_seen_answer_scores_are_nan(make_frame: Frames, make_windows: Windows) -> None:
    values = np.zeros((12, 2))
    values[6:] = np.nan
    scores = score(damped, make_windows(make_frame(values), LOOKBACK, 4), SCALER, NAIVE_ERROR)
    # Only the first origins are left: their answers are all missing.
    assert np.isnan([*scores.scaled.values(), *scores.original.values(), *scores.by_step, *scores.by_variate]).all()


def test_repeating_the_last_value_gives_the_published_scores_on_etth1(etth1: Prepared) -> None:
    naive = Naive(etth1.shape, NaiveConfig())
    scores = score(naive, etth1.test, etth1.scaler, etth1.naive_error)
    assert (round(scores.scaled["mse"], 3), round(scores.scaled["mae"], 3)) == (1.294, 0.713)
    assert scores.windows == 2785


@pytest.mark.parametrize("season", [1, 5, 24])
def test_seasonal_error_equals_a_loop_over_the_training_rows(
    make_frame: Frames, make_windows: Windows, season: int
) -> None:
    draw = np.random.default_rng(3)
    values = draw.normal(size=(90, 2)).astype(np.float32)
    values[draw.random(values.shape) < 0.1] = np.nan
    frame = make_frame(values, [50, 10, 30])
    buffer = make_windows(frame, 3, 1).buffer
    train_end = np.array([35, 56, 90])
    expected = np.zeros((3, 2))
    for series in range(3):
        rows = values[frame.offsets[series] : train_end[series]].astype(np.float64)
        for variate in range(2):
            pairs = [abs(rows[t, variate] - rows[t - season, variate]) for t in range(season, len(rows))]
            pairs = [pair for pair in pairs if not np.isnan(pair)]
            expected[series, variate] = np.mean(pairs) if pairs else 0.0
    found = seasonal_error(buffer, train_end, season)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    frame.values[35:50], frame.values[56:60] = 1e9, 1e9
    np.testing.assert_array_equal(seasonal_error(buffer, train_end, season), found)


def test_season_of_hourly_load_is_a_day(etth1: Prepared) -> None:
    assert etth1.season == 24
    assert best_season(etth1.train, (168, 24)) == 24


def test_season_is_found_in_short_windows_of_a_long_cycle(make_frame: Frames, make_windows: Windows) -> None:
    week = np.random.default_rng(4).normal(size=168)
    values = np.tile(week, 8)[:, None] + 0.1 * np.random.default_rng(5).normal(size=(168 * 8, 1))
    assert best_season(make_windows(make_frame(values), 12, 6), (24, 168)) == 168


@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_has_no_season(make_frame: Frames, make_windows: Windows, seed: int) -> None:
    walk = np.random.default_rng(seed).normal(size=(900, 2)).cumsum(axis=0)
    assert best_season(make_windows(make_frame(walk), 48, 12), (24, 168)) == 1


def test_season_longer_than_most_training_windows_reach_back_is_not_considered(
    make_frame: Frames, make_windows: Windows
) -> None:
    cycle = np.tile(np.random.default_rng(6).normal(size=50), 2)[:80, None]
    data = make_windows(make_frame(cycle), 10, 5)
    assert best_season(data, (50,)) == 1
    assert best_season(data, (50, 25)) in (1, 25)
    assert best_season(data, ()) == 1
