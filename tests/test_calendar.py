"""Times, steps and calendar marks: read exactly, moved exactly, given back as they came."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.calendar import (
    DAY,
    HOUR,
    MINUTE,
    Frequency,
    floor_to,
    infer,
    mark_codes,
    mark_names,
    mark_scale,
    off_grid,
    parse,
    positions,
    seasons,
    times_at,
)
from forecast.data.times import TimeType, parse_times, restore
from forecast.data.week import write_alias
from forecast.errors import DataError, UsageError

MOMENT = TimeType(pl.Datetime("us"))
ALIASES = (
    "s",
    "30s",
    "min",
    "15min",
    "h",
    "2h",
    "D",
    "W",
    "W-MON",
    "MS",
    "ME",
    "QS",
    "QE",
    "YS",
    "YE",
    "2MS",
    "1",
    "5",
)


def where(row: int) -> str:
    return f"sales.csv, line {row + 2}"


def micros(*times: str) -> np.ndarray:
    return np.array(times, "M8[us]").astype(np.int64)


def one(times: np.ndarray) -> np.ndarray:
    return np.array([0, len(times)])


@pytest.mark.parametrize(
    ("written", "moments"),
    [
        (["2020-01-31", "2020-02-01"], ["2020-01-31", "2020-02-01"]),
        (["2020-01-31 05:00", "2020-01-31 06:00"], ["2020-01-31T05", "2020-01-31T06"]),
        (["2020-01-31T05:00:09", "2020-01-31T05:00:10"], ["2020-01-31T05:00:09", "2020-01-31T05:00:10"]),
        (
            ["2020-01-31 05:00:09.250", "2020-01-31 05:00:09.500"],
            ["2020-01-31T05:00:09.25", "2020-01-31T05:00:09.5"],
        ),
        (["2020-01-31T05:00:00Z", "2020-01-31T06:00:00Z"], ["2020-01-31T05", "2020-01-31T06"]),
        (["2020-01-31T05:00:00+01:00", "2020-01-31T06:00:00+01:00"], ["2020-01-31T04", "2020-01-31T05"]),
        (["2020-01-31 05:00-0500", "2020-01-31 06:00-0500"], ["2020-01-31T10", "2020-01-31T11"]),
        (["1949-01", "1949-02"], ["1949-01-01", "1949-02-01"]),
        (["2020/01/31", "2020/02/01"], ["2020-01-31", "2020-02-01"]),
        (["31.01.2020", "01.02.2020"], ["2020-01-31", "2020-02-01"]),
        (["31.1.2020 5:00", "1.2.2020 6:00"], ["2020-01-31T05", "2020-02-01T06"]),
        (["31/01/2020", "01/02/2020"], ["2020-01-31", "2020-02-01"]),
        (["01/31/2020", "02/01/2020"], ["2020-01-31", "2020-02-01"]),
        (["1/31/2020 5:30 PM", "2/1/2020 6:30 AM"], ["2020-01-31T17:30", "2020-02-01T06:30"]),
        (["Jan 1 2000", "Feb 10 2000"], ["2000-01-01", "2000-02-10"]),
        (["January 1, 2000", "May 10, 2000"], ["2000-01-01", "2000-05-10"]),
        (["1-Jan-2000", "10-Feb-2000"], ["2000-01-01", "2000-02-10"]),
        (["1998 Q1", "1998 Q4"], ["1998-01-01", "1998-10-01"]),
        (["1998-Q2", "1998-Q3"], ["1998-04-01", "1998-07-01"]),
    ],
)
def test_text_is_read_as_times_and_given_back_as_written(written: list[str], moments: list[str]) -> None:
    times, time_type = parse_times(pl.Series("ds", written), where)
    assert times.dtype == np.int64 and times.tolist() == micros(*moments).tolist()
    assert restore(times, time_type).to_list() == written


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([1, 2, 3], dtype=pl.Int32),
        pl.Series([1990, 1991], dtype=pl.Int64),
        pl.Series([199011, 199012], dtype=pl.Int64),
        pl.Series([20200131, 20200201], dtype=pl.Int64),
        pl.Series([0, 86_400_000]).cast(pl.Datetime("ms")),
        pl.Series([0, 86_400_000]).cast(pl.Datetime("ms")).cast(pl.Datetime("ns")),
        pl.Series([0, 86_400_000]).cast(pl.Datetime("ms", "Europe/Berlin")),
        pl.Series([0, 1]).cast(pl.Date),
    ],
    ids=str,
)
def test_times_come_back_in_the_type_they_were_given(column: pl.Series) -> None:
    times, time_type = parse_times(column, where)
    back = restore(times, time_type, column.name)
    assert back.dtype == column.dtype and back.to_list() == column.to_list()


def test_integers_are_steps_unless_they_are_years_or_dates() -> None:
    def steps(*values: int, keep: bool = False) -> bool:
        return parse_times(pl.Series(values), where, steps=keep)[1].steps

    assert steps(1, 2, 3) and steps(0, 5000) and steps(1990, 1991, keep=True) and steps(202013, 202014)
    assert not (steps(1990, 1991) or steps(20200131, 20200201))
    assert parse_times(pl.Series([1990]), where)[0].tolist() == micros("1990-01-01").tolist()


def test_one_line_decides_between_day_first_and_month_first_for_the_whole_column() -> None:
    times, time_type = parse_times(pl.Series("ds", ["03/04/2021", "13/04/2021"]), where)
    assert times.tolist() == micros("2021-04-03", "2021-04-13").tolist()
    assert time_type.format == "%d/%m/%Y"


def test_dates_that_can_be_read_both_ways_are_refused_with_both_readings() -> None:
    column = pl.Series("ds", ["04/04/2021", "03/04/2021"])
    with pytest.raises(DataError) as caught:
        parse_times(column, where)
    assert caught.value.message == (
        "sales.csv, line 3: 03/04/2021 can be 3 April or 4 March, and no other line decides."
    )
    assert "--dates day-first" in caught.value.hint
    assert parse_times(column, where, "day-first")[0].tolist() == micros("2021-04-04", "2021-04-03").tolist()
    assert parse_times(column, where, "month-first")[0].tolist() == micros("2021-04-04", "2021-03-04").tolist()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pl.Series("ds", ["2020-01-01"] * 500 + ["soon"]), 'line 502: "soon" in column "ds"'),
        (pl.Series("ds", ["2020-01-01", "2020-02-30"]), 'line 3: "2020-02-30"'),
        (pl.Series("ds", ["2020-01-01", None]), 'line 3: the time in column "ds" is missing'),
        (pl.Series("ds", ["soon", "later"]), 'line 2: "soon"'),
        (pl.Series("ds", ["2020-01-01", "0020-01-02"]), 'line 3: "0020-01-02"'),
        (pl.Series("ds", ["2020-01-01"] * 500 + ["0000-01-02"]), 'line 502: "0000-01-02"'),
        (pl.Series("ds", [0, 2**61]), "line 3: the time"),
        (pl.Series("ds", [0, 2**60]).cast(pl.Datetime("us")), "line 3: the time"),
        (pl.Series("ds", [1.5, 2.0]), "line 2: 1.5"),
        (pl.Series("ds", [[1], [2]]), "holds no times"),
    ],
)
def test_an_unreadable_time_is_named(column: pl.Series, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_times(column, where)
    assert said in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("alias", "unit", "count"),
    [
        ("h", "us", HOUR),
        ("H", "us", HOUR),
        ("15min", "us", 15 * MINUTE),
        ("15T", "us", 15 * MINUTE),
        ("30s", "us", 30_000_000),
        ("D", "us", DAY),
        ("W", "us", 7 * DAY),
        ("W-MON", "us", 7 * DAY),
        ("MS", "month", 1),
        ("M", "month", 1),
        ("QS", "month", 3),
        ("QE-NOV", "month", 3),
        ("YS", "month", 12),
        ("A", "month", 12),
        ("1", "step", 1),
    ],
)
def test_aliases_of_pandas_are_understood(alias: str, unit: str, count: int) -> None:
    frequency = parse(alias)
    assert (frequency.unit, frequency.count) == (unit, count)
    assert parse(frequency.alias) == frequency


@pytest.mark.parametrize("alias", ["", "hourly!", "0h", "x", "D-MON", "W-JAN", "-1", "h15"])
def test_other_words_are_no_frequency(alias: str) -> None:
    with pytest.raises(UsageError, match="not a frequency"):
        parse(alias)


CLOCKS = ("s", "30s", "min", "15min", "h", "6h", "D", "2D", "W-TUE", "2W-TUE")
CALENDAR = ("MS", "ME", "2MS", "QS", "QE", "QS-FEB", "QE-NOV", "YS", "YE", "YS-APR", "YE-JUN", "2YS")


@pytest.mark.parametrize("alias", (*CLOCKS, *CALENDAR))
def test_the_step_that_pandas_would_give_is_found(alias: str) -> None:
    times = pd.date_range("2019-12-01", periods=40, freq=alias).as_unit("us").asi8
    frequency, share = infer(times, one(times), MOMENT)
    assert (frequency.alias, share) == (alias, 1.0)
    assert times_at(times[0], np.arange(40), frequency).tolist() == times.tolist()


def test_the_step_is_found_over_gaps_and_series() -> None:
    hours = np.arange(100)
    times = np.concatenate([hours[hours != 50], hours[::2] + 7]) * HOUR
    frequency, share = infer(times, np.array([0, 99, 149]), MOMENT)
    assert frequency.alias == "h"
    assert share == pytest.approx(97 / 147)


def test_integer_steps_are_found() -> None:
    steps = TimeType(pl.Int64())
    assert infer(np.array([1, 2, 4, 5]), np.array([0, 4]), steps)[0] == Frequency("1", "step", 1)
    assert infer(np.array([0, 10, 20]), np.array([0, 3]), steps)[0] == Frequency("10", "step", 10)


def test_days_of_a_zone_with_clock_changes_are_days() -> None:
    days = pd.date_range("2021-03-20", periods=20, freq="D", tz="Europe/Berlin").as_unit("us")
    times, zone = days.asi8, "Europe/Berlin"
    frequency, share = infer(times, one(times), TimeType(pl.Datetime("us", zone), zone=zone))
    assert (frequency.alias, share) == ("D", 1.0)
    assert positions(times, times[0], frequency, zone).tolist() == list(range(20))
    assert times_at(times[0], np.arange(20), frequency, zone).tolist() == times.tolist()
    assert not off_grid(times, times[0], frequency, zone).any()


def test_a_day_that_begins_late_is_still_reached() -> None:
    zone = "America/Sao_Paulo"  # on 4 November 2018 clocks went from 00:00 to 01:00
    start = pd.Timestamp("2018-11-03", tz=zone).value // 1000
    reached = times_at(start, np.arange(3), parse("D"), zone)
    assert restore(reached, TimeType(pl.Datetime("us", zone), zone=zone)).dt.hour().to_list() == [0, 1, 0]


def test_irregular_times_and_single_rows_are_refused() -> None:
    irregular = np.cumsum(np.random.default_rng(0).integers(1, 10**9, 100))
    with pytest.raises(DataError) as caught:
        infer(irregular, one(irregular), MOMENT)
    assert "irregular" in caught.value.message and "--freq" in caught.value.hint
    with pytest.raises(DataError, match="no series has two rows"):
        infer(np.array([0, 1]), np.array([0, 1, 2]), MOMENT)


@given(
    alias=st.sampled_from(ALIASES),
    start=st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")),
    steps=st.lists(st.integers(-500, 500), min_size=1, max_size=20),
)
def test_positions_undo_times_at(alias: str, start: object, steps: list[int]) -> None:
    frequency = parse(alias)
    begin = int(np.datetime64(start, "us").astype(np.int64))  # type: ignore[call-overload]
    if frequency.unit == "month" and not frequency.end:
        begin = int(np.datetime64(np.datetime64(begin, "us"), "M").astype("M8[us]").astype(np.int64))
    if frequency.end:
        begin = int((np.datetime64(np.datetime64(begin, "us"), "M") + 1).astype("M8[us]").astype(np.int64)) - DAY
    times = times_at(begin, np.array(steps), frequency)
    assert positions(times, begin, frequency).tolist() == steps
    assert not off_grid(times, begin, frequency).any()
    assert off_grid(times + 1, begin, frequency).all() == (frequency.count > 1 or frequency.unit == "month")


def test_month_arithmetic_is_that_of_pandas() -> None:
    starts = micros("2019-12-31", "2020-02-29")
    reached = times_at(starts[:, None], np.arange(24), parse("ME"))
    for row, start in zip(reached, ("2019-12-31", "2020-02-29"), strict=True):
        assert row.tolist() == pd.date_range(start, periods=24, freq="ME").as_unit("us").asi8.tolist()


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        ("s", ("second", "minute", "hour", "weekday", "day", "yearday")),
        ("15min", ("minute", "hour", "weekday", "day", "yearday")),
        ("h", ("hour", "weekday", "day", "yearday")),
        ("2h", ("hour", "weekday", "day", "yearday")),
        ("D", ("weekday", "day", "yearday")),
        ("B", ("weekday", "day", "yearday")),
        ("W-TUE", ("day", "week")),
        ("MS", ("month",)),
        ("QE", ("month",)),
        ("YS", ()),
        ("1", ()),
    ],
)
def test_marks_are_those_of_the_published_embeddings(alias: str, names: tuple[str, ...]) -> None:
    assert mark_names(alias) == names


EVERY = ("second", "minute", "hour", "weekday", "day", "yearday", "month", "week")


@given(st.lists(st.datetimes(pd.Timestamp("1600-01-01"), pd.Timestamp("2400-01-01")), min_size=1, max_size=30))
def test_marks_follow_their_formulas_and_stay_within_a_half(moments: list[pd.Timestamp]) -> None:
    features = mark_codes(np.array(moments, "M8[us]").astype(np.int64), EVERY) / mark_scale(EVERY) - 0.5
    assert features.min() >= -0.5 and features.max() <= 0.5
    for row, t in zip(features, moments, strict=True):
        yearday, week = t.timetuple().tm_yday, t.isocalendar().week
        formulas = [t.second / 59, t.minute / 59, t.hour / 23, t.weekday() / 6, (t.day - 1) / 30]
        formulas += [(yearday - 1) / 365, (t.month - 1) / 11, (week - 1) / 52]
        np.testing.assert_allclose(row, np.array(formulas) - 0.5, atol=1e-6)


def test_marks_tell_local_time_and_do_not_depend_on_the_chunk() -> None:
    times = np.arange(600_000) * HOUR
    codes = mark_codes(times, EVERY)
    assert codes.dtype == np.int16 and codes.shape == (600_000, 8)
    assert np.array_equal(codes[300_000:300_010], mark_codes(times[300_000:300_010], EVERY))
    assert mark_codes(micros("2021-07-01T12:00"), ("hour",), "Europe/Berlin").tolist() == [[14]]
    assert mark_codes(times, ()).shape == (600_000, 0)


@pytest.mark.parametrize(
    ("alias", "periods"),
    [
        ("h", (24, 168)),
        ("30min", (48, 336)),
        ("15min", (96, 672)),
        ("10min", (144,)),
        ("5min", (288,)),
        ("D", (7, 365)),
        ("W-SUN", (52,)),
        ("MS", (12,)),
        ("QS", (4,)),
        ("YS", ()),
        ("1", ()),
    ],
)
def test_seasons_are_the_usual_periods(alias: str, periods: tuple[int, ...]) -> None:
    assert seasons(parse(alias)) == periods


# Calendars that repeat every week


def weekly(start: str, periods: int, freq: str, days: range, hours: range = range(24)) -> np.ndarray:
    every = pd.date_range(start, periods=periods, freq=freq)
    kept = every[every.day_of_week.isin(list(days)) & every.hour.isin(list(hours))]
    times: np.ndarray = kept.as_unit("us").asi8
    return times


WEEKS = {
    "B": weekly("2020-01-01", 400, "D", range(5)),
    "D@MON-SAT": weekly("2020-01-01", 400, "D", range(6)),
    "h@MON-SUN/09:00-17:00": weekly("2020-01-01", 2000, "h", range(7), range(9, 18)),
    "h@MON-FRI/08:00-11:00": weekly("2020-01-01", 2000, "h", range(5), range(8, 12)),
    "30min@MON-FRI/09:00-15:30": weekly("2020-01-01", 4000, "30min", range(5), range(9, 16)),
}


@pytest.mark.parametrize("alias", WEEKS)
def test_part_of_a_week_that_never_occurs_is_no_gap(alias: str) -> None:
    times = WEEKS[alias]
    frequency, share = infer(times, one(times), MOMENT)
    assert (frequency.alias, share) == (alias, 1.0)
    assert parse(alias) == frequency
    assert positions(times, times[0], frequency).tolist() == list(range(len(times)))
    fewer = np.delete(times, [30, 31, 77])  # holidays
    again, share = infer(fewer, one(fewer), MOMENT)
    assert again == frequency and share < 1
    assert positions(fewer, times[0], again).tolist() == np.delete(np.arange(len(times)), [30, 31, 77]).tolist()


def test_days_that_close_at_16_00_are_business_days_of_that_hour() -> None:
    times = pd.bdate_range("2021-03-01 16:00", periods=60).as_unit("us").asi8
    frequency, _ = infer(times, one(times), MOMENT)
    assert frequency.alias == "B"
    ahead = times_at(times[-1], np.arange(1, 4), frequency).astype("M8[us]")
    assert ahead.tolist() == pd.bdate_range("2021-05-24 16:00", periods=3).to_pydatetime().tolist()


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin"])
def test_opening_hours_of_a_zone_follow_its_clocks(zone: str) -> None:
    hours = pd.date_range("2021-01-04", "2021-12-31", freq="h", tz=zone)
    times = hours[(hours.hour >= 9) & (hours.hour < 17) & (hours.day_of_week < 5)].as_unit("us").asi8
    frequency, share = infer(times, one(times), TimeType(pl.Datetime("us", zone), zone=zone))
    assert (frequency.alias, share) == ("h@MON-FRI/09:00-16:00", 1.0)
    assert times_at(times[0], np.arange(len(times)), frequency, zone).tolist() == times.tolist()
    assert not off_grid(times, times[0], frequency, zone).any()


@pytest.mark.parametrize(("days", "freq"), [(400, "D"), (90, "h")])
def test_gaps_at_random_make_no_calendar(days: int, freq: str) -> None:
    every = pd.date_range("2020-01-01", periods=days if freq == "D" else days * 24, freq=freq).as_unit("us").asi8
    for seed in range(20):
        times = every[np.random.default_rng(seed).random(len(every)) > 0.3]
        assert infer(times, one(times), MOMENT)[0].alias == freq


@settings(deadline=None, max_examples=50)
@given(
    alias=st.sampled_from(list(WEEKS)),
    first=st.integers(0, 200),
    steps=st.lists(st.integers(-3000, 3000), min_size=1, max_size=20),
)
def test_positions_undo_times_at_in_a_weekly_calendar(alias: str, first: int, steps: list[int]) -> None:
    frequency, begin = parse(alias), int(WEEKS[alias][first])
    times = times_at(begin, np.array(steps), frequency)
    assert positions(times, begin, frequency).tolist() == steps
    assert not off_grid(times, begin, frequency).any()
    assert off_grid(times + 1, begin, frequency).all()


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 7 * 24 - 1), min_size=1, max_size=150), st.sampled_from([1, 24]))
def test_any_weekly_calendar_is_written_as_an_alias_and_read_again(hours: set[int], size: int) -> None:
    slots = tuple(sorted({hour // size * size * HOUR for hour in hours}))
    frequency = parse(write_alias(slots, size * HOUR))
    assert (frequency.slots, frequency.count) == (slots, size * HOUR)


@pytest.mark.parametrize("alias", ["h@", "h@MON", "D@MON/09:00", "h@MON-FRI/9-17", "h@FOO/09:00", "0h@MON/09:00", "2B"])
def test_other_words_are_no_weekly_calendar(alias: str) -> None:
    with pytest.raises(UsageError, match="not a frequency"):
        parse(alias)


def test_seasons_of_a_weekly_calendar_count_its_own_steps() -> None:
    assert seasons(parse("B")) == (5, 261)
    assert seasons(parse("h@MON-FRI/09:00-16:00")) == (8, 40)
    assert seasons(parse("h@MON-FRI/09:00-16:00,SAT/10:00-12:00")) == (43,)


@settings(deadline=None, max_examples=50)
@given(
    alias=st.sampled_from(("15min", "h", "D", "W-MON", "W-THU", "MS", "QS", "YS", "QS-FEB", "5")),
    moments=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=20),
)
def test_the_start_of_a_step_is_at_or_before_a_time_and_the_next_one_after(alias: str, moments: list[int]) -> None:
    frequency, times = parse(alias), np.array(moments) * 1_000_000
    begun = floor_to(times, frequency)
    assert (begun <= times).all() and (times < times_at(begun, 1, frequency)).all()
    assert np.array_equal(floor_to(begun, frequency), begun)
    assert not off_grid(begun, begun[0], frequency).any()
    if frequency.unit == "us" and alias.startswith("W"):
        assert (begun.astype("M8[us]").astype("M8[D]").astype(int) % 7 == {"MON": 4, "THU": 0}[alias[2:]]).all()


def test_steps_without_a_start_cannot_be_resampled_to() -> None:
    for alias in ("ME", "B"):
        with pytest.raises(UsageError, match="cannot be resampled"):
            floor_to(np.arange(3), parse(alias))
