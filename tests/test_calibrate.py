"""Intervals: widths are the conformal order statistics of validation residuals, and cover what they promise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from forecast.calibrate import LEVELS, Calibration, calibrate
from forecast.data.frame import SeriesFrame
from forecast.data.windows import Window, WindowDataset
from forecast.errors import UsageError

Frames = Callable[..., SeriesFrame]
Windows = Callable[..., WindowDataset]


def middle(horizon: int, targets: int) -> Callable[[Window], Tensor]:
    """Forecasts 0 throughout, so that the residuals are the values."""
    return lambda window: torch.zeros(len(window.past), horizon, targets)


@pytest.mark.parametrize("rows", [8, 25, 103, 400])
def test_widths_are_the_conformal_order_statistics(make_frame: Frames, make_windows: Windows, rows: int) -> None:
    draw = np.random.default_rng(rows)
    values = draw.normal(size=(rows, 3))
    values[draw.random(values.shape) < 0.15] = np.nan
    data = make_windows(make_frame(values, targets=2), 3, 4)
    found = calibrate(middle(4, 2), data, batch_size=10)
    assert found.levels == LEVELS
    answers = np.stack([values[row + 3 : row + 7, :2] for row in range(rows - 6)])  # (N, H, V_out)

    def statistic(residuals: np.ndarray, level: int) -> float:
        ordered = sorted(abs(residuals[~np.isnan(residuals)]))
        rank = math.ceil((len(ordered) + 1) * level / 100)
        return ordered[min(rank, len(ordered)) - 1]

    for number, level in enumerate(LEVELS):
        for step in range(4):
            for variate in range(2):
                expected = statistic(answers[:, step, variate], level)
                assert found.widths[number, step, variate] == pytest.approx(expected, rel=1e-6)
            assert found.pooled[number, step] == pytest.approx(statistic(answers[:, step].ravel(), level), rel=1e-6)


def test_coverage_of_exchangeable_residuals_is_at_least_nominal(make_frame: Frames, make_windows: Windows) -> None:
    # 59 residuals a variate: expected coverage is ceil(60 level) / 60, which for 80 and 95 is the level itself.
    draw, variates = np.random.default_rng(0), 400
    past, future = draw.standard_t(4, size=(60, variates)), draw.standard_t(4, size=(500, variates))
    found = calibrate(middle(1, variates), make_windows(make_frame(past), 1, 1), 64)
    for level in (80, 90, 95):
        inside = (abs(future) <= found.half_width(level, np.arange(variates))).mean(axis=0)
        error = 3 * inside.std() / math.sqrt(variates)
        assert level / 100 - error <= inside.mean() <= level / 100 + 1 / 60 + error


def test_widths_grow_with_the_level() -> None:
    draw = np.random.default_rng(1)
    widths = np.sort(abs(draw.normal(size=(len(LEVELS), 3, 2))), axis=0)
    calibration = Calibration(LEVELS, widths, widths.mean(2))
    every = np.stack([calibration.half_width(level, np.arange(2)) for level in range(50, 100)])
    assert (np.diff(every, axis=0) >= 0).all()


def test_widths_between_levels_are_interpolated() -> None:
    widths = np.arange(8.0)[:, None, None] ** 2 * np.array([1.0, 10.0])
    calibration = Calibration(LEVELS, np.broadcast_to(widths, (8, 3, 2)), np.zeros((8, 3)))
    at = {level: calibration.half_width(level, np.arange(2))[0] for level in (80, 84, 90, 96)}
    np.testing.assert_allclose(at[80], [9, 90])
    np.testing.assert_allclose(at[84], [9 + 0.4 * 7, 90 + 0.4 * 70])
    np.testing.assert_allclose(at[90], [16, 160])
    np.testing.assert_allclose(at[96], [25 + 11 / 3, 250 + 110 / 3])


def test_unseen_variates_get_the_pooled_width() -> None:
    widths = np.ones((8, 3, 2)) * np.array([1.0, 2.0])
    calibration = Calibration(LEVELS, widths, np.full((8, 3), 7.0))
    found = calibration.half_width(90, np.array([-1, 1, -1, 0]))
    np.testing.assert_array_equal(found, np.tile([7.0, 2.0, 7.0, 1.0], (3, 1)))


@pytest.mark.parametrize("level", [0, 49, 100, 120])
def test_levels_that_were_not_calibrated_are_refused(level: int) -> None:
    calibration = Calibration(LEVELS, np.ones((8, 1, 1)), np.ones((8, 1)))
    with pytest.raises(UsageError, match=f"Level {level} is outside") as refused:
        calibration.half_width(level, np.array([0]))
    assert "50 to 99" in refused.value.hint


def test_a_variate_never_seen_in_validation_gets_the_widest_residual(make_frame: Frames, make_windows: Windows) -> None:
    values = np.random.default_rng(3).normal(size=(40, 2))
    values[:, 1] = np.nan
    found = calibrate(middle(2, 2), make_windows(make_frame(values), 2, 2), 16)
    assert (found.widths[..., 1] == found.widths[-1, :, 0].max()).all()
    values[:, 0] = np.nan
    nothing = calibrate(middle(2, 2), make_windows(make_frame(values), 2, 2), 16)
    assert (nothing.widths == 0).all() and (nothing.pooled == 0).all()
