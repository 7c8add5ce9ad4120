"""Windows tile a frame exactly, each equal to the naive slice, and cost no copy of the data."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.calendar import mark_names
from forecast.data.frame import SeriesFrame
from forecast.data.windows import WindowBuffer, WindowDataset, origins
from forecast.prepare import Prepared

Frames = Callable[..., SeriesFrame]
Windows = Callable[..., WindowDataset]

HOURLY = mark_names("h")


def random_values(rows: int, variates: int, missing: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, variates))
    return np.where(draw.random(values.shape) < missing, np.nan, values)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    lookback=st.integers(1, 8),
    horizon=st.integers(1, 8),
    variates=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.3]),
    batch_size=st.integers(1, 40),
)
def test_windows_tile_every_series_and_each_equals_the_naive_slice(
    make_frame: Frames,
    make_windows: Windows,
    lengths: list[int],
    lookback: int,
    horizon: int,
    variates: int,
    missing: float,
    batch_size: int,
) -> None:
    values = random_values(sum(lengths), variates, missing).astype(np.float32)
    targets = max(1, variates - 1)
    data = make_windows(make_frame(values, lengths, targets=targets), lookback, horizon)

    expected = []
    first = 0
    for series, length in enumerate(lengths):
        rows = values[first : first + length]
        for at in range(length - lookback - horizon + 1):
            known, answer = rows[at : at + lookback], rows[at + lookback : at + lookback + horizon, :targets]
            expected.append((known, answer, series, first + at + lookback - 1))
        first += length
    assert len(data) == len(expected) == sum(max(0, n - lookback - horizon + 1) for n in lengths)
    if not expected:
        return
    examples = list(data.batches(batch_size))
    assert all(len(example.origin) == batch_size for example in examples[:-1])
    past, seen = (torch.cat([getattr(e.window, part) for e in examples]).numpy() for part in ("past", "seen"))
    answers, answered = (torch.cat([getattr(e.target, part) for e in examples]).numpy() for part in ("values", "seen"))
    known = np.stack([row[0] for row in expected])
    answer = np.stack([row[1] for row in expected])
    np.testing.assert_array_equal(past, np.nan_to_num(known))
    np.testing.assert_array_equal(seen, ~np.isnan(known))
    np.testing.assert_array_equal(answers, np.nan_to_num(answer))
    np.testing.assert_array_equal(answered, ~np.isnan(answer))
    assert torch.cat([e.series for e in examples]).tolist() == [row[2] for row in expected]
    assert torch.cat([e.origin for e in examples]).tolist() == [row[3] for row in expected]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_origins_forecast_only_inside_their_part_and_look_back_only_inside_their_series(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    lookback, horizon = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    parts, expected = [], []
    for start, end in pairwise(offsets):
        a, b = sorted(data.draw(st.tuples(st.integers(start, end), st.integers(start, end))))
        parts.append((a, b))
        expected += [o for o in range(start, end) if o - lookback + 1 >= start and a <= o + 1 and o + horizon < b]
    found = origins(torch.from_numpy(offsets), torch.tensor(parts), lookback, horizon)
    assert found.tolist() == expected


def test_windows_take_numbers_in_any_order(make_frame: Frames, make_windows: Windows) -> None:
    data = make_windows(make_frame(random_values(40, 2, 0.1)), 5, 3)
    some = data[torch.tensor([7, 0, 7, 32])]
    every = data[torch.arange(len(data))]
    assert torch.equal(some.window.past, every.window.past[[7, 0, 7, 32]])
    assert torch.equal(some.target.values, every.target.values[[7, 0, 7, 32]])


def test_calendar_features_equal_the_papers_formula(make_frame: Frames, make_windows: Windows) -> None:
    begin = datetime(2020, 12, 30, 20, tzinfo=UTC)  # a leap year ends inside: day 366 is 0.5
    frame = make_frame(np.zeros((60, 1)), start=int(begin.timestamp() * 1_000_000))
    data = make_windows(frame, 10, 4, HOURLY)
    window = data[torch.arange(len(data))].window
    features = torch.cat([window.past_time, window.future_time], dim=1).numpy()
    for number in range(len(data)):
        times = [begin + timedelta(hours=number + step) for step in range(14)]
        formula = [
            (t.hour / 23 - 0.5, t.weekday() / 6 - 0.5, (t.day - 1) / 30 - 0.5, (t.timetuple().tm_yday - 1) / 365 - 0.5)
            for t in times
        ]
        np.testing.assert_allclose(features[number], formula, atol=1e-6)
    assert features.max() == 0.5


def test_calendar_of_each_series_starts_with_that_series(make_frame: Frames, make_windows: Windows) -> None:
    data = make_windows(make_frame(np.zeros((40, 1)), [25, 15]), 4, 2, HOURLY)
    hours = torch.cat([e.window.past_time[:, 0, 0] for e in data.batches(7)])
    assert torch.allclose(hours, torch.tensor([*range(20), *range(10)]).remainder(24) / 23 - 0.5)


def test_windows_keep_no_copy_of_the_data(make_frame: Frames, make_windows: Windows) -> None:
    frame = make_frame(random_values(50, 2, 0.0))
    data = make_windows(frame, 5, 3)
    assert data.buffer.values.data_ptr() == frame.values.ctypes.data
    assert data.buffer.seen is None
    frame.values[:] = 7.0
    assert (data[torch.arange(len(data))].window.past == 7.0).all()
    for other in (data.with_lookback(2), data.thinned(3)):
        assert other.buffer is data.buffer


def test_published_windows_of_etth1(etth1: Prepared) -> None:
    assert [len(part) for part in (etth1.train, etth1.validation, etth1.test)] == [8449, 2785, 2785]
    first_answers = [int(part.origins[0]) + 1 for part in (etth1.train, etth1.validation, etth1.test)]
    last_answers = [int(part.origins[-1]) + 96 for part in (etth1.train, etth1.validation, etth1.test)]
    assert first_answers == [96, 8640, 11520]
    assert last_answers == [8639, 11519, 14399]
    assert etth1.shape.time_features == 4


@pytest.mark.parametrize("turned", ["values", "codes"])
def test_buffer_that_is_not_row_major_is_refused(turned: str) -> None:
    parts = {"values": torch.zeros(10, 3), "codes": torch.zeros(10, 2, dtype=torch.int16)}
    parts[turned] = parts[turned].T.contiguous().T
    with pytest.raises(ValueError, match="row-major"):
        WindowBuffer(
            seen=None,
            divisor=torch.ones(2),
            offsets=torch.tensor([0, 10]),
            known=torch.zeros(10, 0),
            static=torch.zeros(1, 1, 0),
            **parts,
        )


def test_longer_lookback_keeps_the_forecasts_that_it_fits_before(make_frame: Frames, make_windows: Windows) -> None:
    data = make_windows(make_frame(random_values(60, 1, 0.0), [40, 20]), 4, 3)
    wider = data.with_lookback(10)
    starts = data.buffer.offsets[:-1][torch.searchsorted(data.buffer.offsets, data.origins, right=True) - 1]
    assert wider.origins.tolist() == [int(o) for o, s in zip(data.origins, starts, strict=True) if o - s >= 9]
    assert (wider.lookback, wider.horizon) == (10, 3)
    narrow, wide = data.with_lookback(2)[torch.arange(5) + 6], wider[torch.arange(5)]
    assert torch.equal(narrow.target.values, wide.target.values)
    assert torch.equal(narrow.window.past, wide.window.past[:, -2:])


def empty_buffer(size: int) -> WindowBuffer:
    """`size` rows of one variate that is always 0."""
    codes, divisor = torch.zeros(size, 0, dtype=torch.int16), torch.ones(0)
    covariates = torch.zeros(size, 0), torch.zeros(1, 1, 0)
    return WindowBuffer(torch.zeros(size, 1), None, codes, divisor, torch.tensor([0, size]), *covariates)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), most=st.integers(2, 300))
def test_thinned_windows_are_distinct_evenly_spaced_and_hold_both_ends(size: int, most: int) -> None:
    kept = WindowDataset(empty_buffer(size), torch.arange(size), 1, 1, 1).thinned(most).origins
    assert len(kept) == min(most, size)
    assert kept[0] == 0 and kept[-1] == size - 1
    if len(kept) > 1:
        steps = kept.diff()
        assert steps.min() >= 1 and steps.max() - steps.min() <= 1


def test_thinning_finds_the_last_of_more_windows_than_float32_can_count() -> None:
    size = 2**24 + 4  # the last number, 2^24 + 3, is no float32: it would round up to a window that is not there
    many = WindowDataset(empty_buffer(1), torch.arange(size), 1, 1, 1)
    assert many.thinned(5).origins[[0, -1]].tolist() == [0, size - 1]
