"""Scaling: the statistics are those of the training rows, nothing divides by zero, and scaling can be undone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data import scale
from forecast.data.frame import SeriesFrame
from forecast.data.scale import Scaler
from forecast.prepare import Prepared

Frames = Callable[..., SeriesFrame]


def draw_values(rows: int, variates: int, missing: float = 0.2) -> np.ndarray:
    draw = np.random.default_rng(rows * 31 + variates)
    values = draw.normal(
        loc=draw.normal(scale=50, size=variates), scale=draw.gamma(2.0, size=variates), size=(rows, variates)
    )
    return np.where(draw.random(values.shape) < missing, np.nan, values).astype(np.float32)


def expected(rows: np.ndarray) -> tuple[float, float]:
    """NumPy's mean and population deviation of the seen training values of one series and variate."""
    rows = rows[~np.isnan(rows)].astype(np.float64)
    if not len(rows):
        return 0.0, 1.0
    return rows.mean(), rows.std() if rows.std() > 1e-6 * abs(rows.mean()) else 1.0


@settings(max_examples=60, deadline=None)
@given(data=st.data(), block=st.sampled_from([1, 3, 7, 50, 4_000_000]))
def test_statistics_equal_numpy_on_training_rows_only(make_frame: Frames, data: st.DataObject, block: int) -> None:
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    variates = data.draw(st.integers(1, 3))
    train = [data.draw(st.integers(0, length)) for length in lengths]
    values = draw_values(sum(lengths), variates)
    frame = make_frame(values, lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "_BLOCK", block)  # series then lie across the borders of the blocks
        scaler = Scaler.fit(frame, frame.offsets[:-1] + train)
    assert scaler.mean.shape == scaler.std.shape == (len(lengths), variates)
    for series, first in enumerate(frame.offsets[:-1]):
        for variate in range(variates):
            mean, std = expected(values[first : first + train[series], variate])
            np.testing.assert_allclose(scaler.mean[series, variate], mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(scaler.std[series, variate], std, rtol=1e-7)


def test_rows_after_the_training_part_change_nothing(make_frame: Frames) -> None:
    values = draw_values(90, 2)
    before = Scaler.fit(make_frame(values, [50, 40]), np.array([30, 75]))
    for wrong in (1e9, np.nan):
        changed = values.copy()
        changed[30:50], changed[75:] = wrong, wrong
        after = Scaler.fit(make_frame(changed, [50, 40]), np.array([30, 75]))
        np.testing.assert_array_equal(before.mean, after.mean)
        np.testing.assert_array_equal(before.std, after.std)
    changed = values.copy()
    changed[74, 0] = 1e6
    assert Scaler.fit(make_frame(changed, [50, 40]), np.array([30, 75])).mean[1, 0] != before.mean[1, 0]


@pytest.mark.parametrize("block", [4, 4_000_000])
def test_inverting_what_was_scaled_gives_it_back(
    make_frame: Frames, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(scale, "_BLOCK", block)
    values = draw_values(60, 3)
    frame = make_frame(values, [25, 35])
    scaler = Scaler.fit(frame, np.array([20, 50]))
    scaled = scaler.apply_(frame).values
    assert abs(np.nanmean(scaled[:20], axis=0)).max() < 1e-5
    np.testing.assert_allclose(np.nanstd(scaled[25:50], axis=0), 1.0, rtol=1e-5)
    for series, rows in enumerate((slice(0, 25), slice(25, 60))):
        back = scaler.invert(scaled[None, rows].astype(np.float64), np.array([series]))[0]
        np.testing.assert_allclose(back, values[rows], rtol=1e-5, atol=1e-4)
    targets = scaler.invert(scaled[None, :25, :2].astype(np.float64), np.array([0]))
    assert targets.shape == (1, 25, 2)


def test_scaling_works_in_the_frames_own_memory(make_frame: Frames) -> None:
    frame = make_frame(draw_values(30, 2))
    memory = frame.values
    scaled = Scaler.fit(frame, frame.offsets[1:]).apply_(frame)
    assert scaled.values is memory
    assert abs(np.nanmean(memory)) < 1e-5


@pytest.mark.parametrize("level", [0.0, 5.0, 0.1, 123456.7, -1e-3])
def test_constant_columns_are_only_shifted(make_frame: Frames, level: float) -> None:
    frame = make_frame(np.full((1000, 1), level))
    frame.values[500:] += 2.0
    scaler = Scaler.fit(frame, np.array([500]))
    assert scaler.std[0, 0] == 1.0
    scaled = scaler.apply_(frame).values
    assert np.abs(scaled[:500]).max() < 1e-6 * max(1, abs(level))
    np.testing.assert_allclose(scaled[500:], 2.0, rtol=1e-2)


def test_a_column_that_only_rounding_makes_vary_counts_as_constant(make_frame: Frames) -> None:
    frame = make_frame(np.full((100, 1), 123456.7))
    frame.values[::2] = np.nextafter(frame.values[::2], np.float32(np.inf))
    assert Scaler.fit(frame, np.array([100])).std[0, 0] == 1.0


def test_columns_without_a_training_value_are_left_as_they_are(make_frame: Frames) -> None:
    values = draw_values(40, 2, missing=0.0)
    values[:20, 1] = np.nan
    frame = make_frame(values)
    scaler = Scaler.fit(frame, np.array([20]))
    assert (scaler.mean[0, 1], scaler.std[0, 1]) == (0.0, 1.0)
    np.testing.assert_array_equal(scaler.apply_(replace(frame, values=values.copy())).values[:, 1], values[:, 1])


def test_etth1_statistics_are_those_of_the_published_training_rows(etth1: Prepared) -> None:
    path = __file__.rpartition("tests")[0] + "datasets/ETTh1.csv"
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 8), max_rows=8640).astype(np.float32)
    np.testing.assert_allclose(etth1.scaler.mean[0], table.astype(np.float64).mean(0), rtol=1e-9)
    np.testing.assert_allclose(etth1.scaler.std[0], table.astype(np.float64).std(0), rtol=1e-9)
