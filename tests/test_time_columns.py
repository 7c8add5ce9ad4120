"""Times told in several columns or by the names of columns, in local clocks, or at no regular step."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from forecast.data.frame import SeriesFrame, frame_series, understand
from forecast.data.schema import Schema, share_on_step
from forecast.data.table import Table, read
from forecast.errors import DataError, UsageError

HOURS = pd.date_range("2004-03-10 18:00", periods=400, freq="h")
MONTHS = pd.date_range("1990-01-01", periods=48, freq="MS")


def wave(count: int) -> np.ndarray:
    values: np.ndarray = np.round(np.sin(np.arange(count)) + np.arange(count) / 100, 3)
    return values


def framed(source: object, **options: object) -> tuple[SeriesFrame, Table, Schema]:
    table = read(source)  # type: ignore[arg-type]
    schema = understand(table, **options)  # type: ignore[arg-type]
    return frame_series(table, schema), table, schema


def plain(times: pd.DatetimeIndex, values: np.ndarray) -> SeriesFrame:
    """The frame of one column of times and one of values."""
    return framed(pl.DataFrame({"ds": times.to_numpy().astype("M8[us]"), "y": values}))[0]


def same(frame: SeriesFrame, other: SeriesFrame) -> bool:
    """Whether two frames hold the same values at the same times."""
    return (
        np.array_equal(frame.start, other.start)
        and frame.frequency == other.frequency
        and np.array_equal(frame.values, other.values, equal_nan=True)
    )


def kinds(table: Table) -> list[tuple[str, int]]:
    return [(repair.kind, repair.count) for repair in table.ledger.repairs]


IN_PARTS: dict[str, tuple[dict[str, object], pd.DatetimeIndex]] = {
    "date;clock": ({"Date": HOURS.strftime("%d/%m/%Y"), "Time": HOURS.strftime("%H.%M.%S")}, HOURS),
    "date;clock am": ({"date": HOURS.strftime("%Y-%m-%d"), "at": HOURS.strftime("%I:%M %p")}, HOURS),
    "date;hour": ({"Datum": HOURS.strftime("%d.%m.%y"), "hour": HOURS.hour}, HOURS),
    "date;hhmm": ({"Date": HOURS.strftime("%Y%m%d").astype(int), "Time": HOURS.hour * 100}, HOURS),
    "date;hour;minute": ({"day": HOURS.strftime("%Y-%m-%d"), "hour": HOURS.hour, "minute": HOURS.minute}, HOURS),
    "year;month;day;hour": ({"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour}, HOURS),
    "month;year": ({"Month": MONTHS.strftime("%B"), "Year": MONTHS.year}, MONTHS),
    "year;month": ({"yr": MONTHS.year, "mon": MONTHS.month}, MONTHS),
    "year;quarter": (
        {"Year": MONTHS[::3].year, "Quarter": [f"Q{quarter}" for quarter in MONTHS[::3].quarter]},
        MONTHS[::3],
    ),
    "year;week": (
        {"year": [2020] * 53 + [2021] * 20, "week": [*range(1, 54), *range(1, 21)]},
        pd.date_range("2019-12-30", periods=73, freq="W-MON"),
    ),
    "year;day of year": ({"year": HOURS[::24].year, "doy": HOURS[::24].day_of_year}, HOURS[::24].normalize()),
}


@pytest.mark.parametrize("case", IN_PARTS)
def test_columns_that_tell_the_time_together_are_joined_and_that_is_stored(case: str, tmp_path: Path) -> None:
    parts, times = IN_PARTS[case]
    values = wave(len(times))
    path = tmp_path / "parts.csv"
    pl.DataFrame({name: list(column) for name, column in parts.items()} | {"y": values}).write_csv(path)  # type: ignore[call-overload]
    frame, table, schema = framed(str(path))
    assert same(frame, plain(times, values))
    assert kinds(table) == [("dates-joined", len(times))]
    assert set(schema.time_parts) == set(parts) and schema.time == "ds"
    assert share_on_step(table, schema) == 1.0
    short = tmp_path / "recent.csv"
    pl.read_csv(path).tail(20).write_csv(short)
    recent = read(str(short))
    assert same(frame_series(recent, schema), plain(times[-20:], values[-20:]))
    assert kinds(recent) == [("dates-joined", min(20, len(times)))]
    with pytest.raises(DataError, match="a part of the time"):
        frame_series(read(pl.DataFrame({next(iter(parts)): [1], "y": [1.0]})), schema)


def test_columns_of_the_time_can_be_named() -> None:
    table = pl.DataFrame({"a": ["2020-01-01"] * 24, "b": [f"{hour:02d}:00" for hour in range(24)], "y": wave(24)})
    assert framed(table, time_col="a,b")[2].time_parts == ("a", "b")
    with pytest.raises(UsageError, match='no column "c"'):
        framed(table, time_col="a,c")
    with pytest.raises(UsageError, match='"y" tells no part of a time'):
        framed(table, time_col="a,y")


def test_hours_1_to_24_end_at_midnight_of_the_next_day_and_hour_25_is_refused() -> None:
    table = pl.DataFrame({"Date": [f"2020-01-{day:02d}" for day in range(1, 11) for _ in range(24)]})
    table = table.with_columns(pl.Series("Hour", [*range(1, 25)] * 10), pl.Series("y", wave(240)))
    frame, read_table, _ = framed(table)
    assert same(frame, plain(pd.date_range("2020-01-01 01:00", periods=240, freq="h"), wave(240)))
    assert "hour 24 is 00:00 of the next day" in read_table.ledger.repairs[0].detail
    wrong = table.with_columns(pl.when(pl.int_range(240) == 23).then(25).otherwise("Hour").alias("Hour"))
    with pytest.raises(DataError, match='row 23: "25" in column "Hour" is no hour from 0 to 24'):
        framed(wrong)


def test_a_day_that_does_not_exist_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="row 3: there is no day 2021-02-29"):
        framed(pl.DataFrame({"year": [2021] * 4, "month": [2] * 4, "day": [26, 27, 28, 29], "y": [1.0, 2, 3, 4]}))


def test_a_time_of_day_beside_complete_times_is_no_part_of_them() -> None:
    days = [str(day.date()) for day in HOURS[::24]]
    sunrise = pl.DataFrame({"date": days, "sunrise": [f"0{5 + i % 2}:{i:02d}" for i in range(17)], "y": wave(17)})
    assert framed(sunrise)[2].time == "date"
    panel = pl.concat([sunrise.with_columns(pl.lit(store).alias("store")) for store in ("0012", "0013", "0014")])
    assert framed(panel)[2].time == "date"
    assert framed(panel.drop("sunrise"))[2].time_parts == ()


def test_numbers_that_tell_a_part_of_the_time_again_are_no_values() -> None:
    hours = pd.date_range("2004-02-10 18:00", periods=900, freq="h")
    utc = [f"{hour:%Y-%m-%dT%H:%M:%SZ}" for hour in hours]
    local = hours.tz_localize("UTC").tz_convert("Australia/Melbourne")
    table = pl.DataFrame({"at": utc, "Time": list(local.hour), "month": list(hours.month), "Count": wave(900)})
    _, read_table, schema = framed(table)
    assert schema.values == ("Count",)
    assert kinds(read_table) == [("column-dropped", 1), ("column-dropped", 1)]
    assert framed(table, target=["Count"], variates=["Time"])[2].values == ("Count", "Time")


def spread(values: np.ndarray, names: list[str], beside: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(beside).hstack(pl.DataFrame(values, schema=names, orient="row"))


SHORT = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DAYS = pd.date_range("2020-01-22", periods=20)
SPREAD: dict[str, tuple[pl.DataFrame, pd.DatetimeIndex, str]] = {
    "years": (
        spread(wave(20).reshape(2, 10), [str(year) for year in range(1990, 2000)], {"country": ["A", "B"]}),
        pd.date_range("1990-01-01", periods=10, freq="YS"),
        "time",
    ),
    "years of R": (
        spread(wave(20).reshape(2, 10), [f"X{year}" for year in range(1990, 2000)], {"country": ["A", "B"]}),
        pd.date_range("1990-01-01", periods=10, freq="YS"),
        "time",
    ),
    "months": (
        spread(wave(96).reshape(2, 48), [f"{month:%b-%y}" for month in MONTHS], {"item": ["A", "B"]}),
        MONTHS,
        "time",
    ),
    "days": (
        spread(wave(40).reshape(2, 20), [f"{d.month}/{d.day}/{d:%y}" for d in DAYS], {"place": ["A", "B"]}),
        DAYS,
        "time",
    ),
    "months of a year": (spread(wave(48).reshape(4, 12), SHORT, {"Year": [1990, 1991, 1992, 1993]}), MONTHS, "month"),
    "quarters of a year": (
        spread(wave(16).reshape(4, 4), ["Q1", "Q2", "Q3", "Q4"], {"Year": [1990, 1991, 1992, 1993]}),
        MONTHS[::3],
        "quarter",
    ),
    "years of a month": (
        spread(wave(48).reshape(4, 12).T, ["1990", "1991", "1992", "1993"], {"Month": [m.upper() for m in SHORT]}),
        MONTHS,
        "year",
    ),
    "hours of a day": (
        spread(
            wave(240).reshape(10, 24), [f"H{hour}" for hour in range(1, 25)], {"Date": [str(d) for d in DAYS.date[:10]]}
        ),
        pd.date_range("2020-01-22 01:00", periods=240, freq="h"),
        "hour",
    ),
    "clocks of a day": (
        spread(
            wave(480).reshape(10, 48),
            [f"{step // 2:02d}:{step % 2 * 30:02d}" for step in range(48)],
            {"Date": [f"{d:%d/%m/%Y}" for d in DAYS[:10]]},
        ),
        pd.date_range("2020-01-22", periods=480, freq="30min"),
        "clock",
    ),
}


@pytest.mark.parametrize("case", SPREAD)
def test_times_spread_over_columns_become_one_row_each(case: str) -> None:
    given, times, tells = SPREAD[case]
    frame, table, schema = framed(given)
    first = frame.values[: len(times), :1] if frame.schema.layout != "panel" else frame.values[:, :1]
    assert np.array_equal(first, plain(times, wave(len(times))).values)
    assert frame.start[0] == times[0].value // 1000
    assert len(frame.values) == len(times)
    assert schema.spread == tells and kinds(table) == [("reshaped", len(given.columns) - 1)]
    again = frame_series(read(given), schema)
    assert same(again, frame)
    with pytest.raises(DataError, match="no columns are times by their names"):
        frame_series(read(pl.DataFrame({"z": [1.0, 2.0]})), schema)


def test_numbers_beside_columns_of_times_are_left_out_and_unseen_ends_cut() -> None:
    given, *_ = SPREAD["years"]
    given = given.with_columns(pl.Series("Lat", [1.5, 2.5]), pl.lit(None, pl.Float64).alias("1999"))
    frame, table, _ = framed(given)
    assert frame.values.shape == (9, 2)
    assert ("column-dropped", 1) in kinds(table)


def test_names_of_days_that_can_be_read_both_ways_are_refused() -> None:
    given = spread(wave(6).reshape(2, 3), ["1/1/20", "1/2/20", "1/3/20"], {"place": ["A", "B"]})
    with pytest.raises(DataError, match="1/2/20 can be 1 February or 2 January"):
        framed(given)
    assert framed(given, dates="month-first")[2].freq == "D"
    assert framed(given, dates="day-first")[2].freq == "MS"


def test_columns_named_like_years_beside_a_time_are_variates() -> None:
    given = pl.DataFrame({"ds": [str(day.date()) for day in DAYS], **{str(n): wave(20) + n for n in range(2001, 2005)}})
    assert framed(given)[2].values == ("2001", "2002", "2003", "2004")


CLOCKS = {
    "Europe/Berlin": ("h", "2019-01-01", "2020-12-31", 4),
    "America/Chicago": ("30min", "2019-01-01", "2020-12-31", 8),
    "Australia/Sydney": ("h", "2019-01-01", "2020-12-31", 4),
    "Europe/London": ("15min", "2020-10-01", "2020-11-10", 4),
}


@pytest.mark.parametrize("zone", CLOCKS)
def test_an_hour_told_twice_and_one_never_told_are_a_clock_change(zone: str) -> None:
    freq, first, last, count = CLOCKS[zone]
    told = pd.date_range(first, last, freq=freq, tz=zone).tz_localize(None)
    frame, table, _ = framed(pl.DataFrame({"t": told.to_numpy().astype("M8[us]"), "y": np.arange(len(told)) * 1.0}))
    assert kinds(table) == [("clock-change", count)]
    assert len(frame.values) == len(pd.date_range(first, last, freq=freq))
    twice = pd.Series(np.arange(len(told)), told).groupby(level=0).mean().reindex(pd.date_range(first, last, freq=freq))
    np.testing.assert_allclose(frame.values[:, 0], twice.to_numpy(), rtol=1e-6)


def test_other_gaps_and_repeats_are_no_clock_changes() -> None:
    every = pd.date_range("2020-01-01", "2020-12-31", freq="h")
    kept = every[:1].append(every[1:-1][np.random.default_rng(0).random(len(every) - 2) > 0.05]).append(every[-1:])
    table = framed(pl.DataFrame({"t": kept.to_numpy().astype("M8[us]"), "y": wave(len(kept))}))[1]
    assert kinds(table) == [("gap-filled", len(every) - len(kept))]


def test_midnight_written_at_the_end_of_its_day_is_moved_and_noted() -> None:
    times = pd.date_range("2020-01-01 01:00", periods=240, freq="h")
    told = [time - pd.Timedelta("1D") if time.hour == 0 else time for time in times]
    table = pl.DataFrame({"t": np.array(told, "M8[us]"), "y": wave(240)})
    frame, read_table, schema = framed(table)
    assert same(frame, plain(times, wave(240)))
    assert kinds(read_table) == [("dates-joined", 10)]
    recent = table.tail(30)
    assert same(frame_series(read(recent), schema), plain(times[-30:], wave(240)[-30:]))
    moved = table.sample(fraction=1.0, shuffle=True, seed=0)
    assert "dates-joined" not in dict(kinds(framed(moved)[1]))


def test_a_midnight_that_stands_below_23_00_in_a_table_out_of_order_is_not_moved() -> None:
    times = np.datetime64("2020-01-01", "h") + np.roll(np.arange(24), 12)
    frame, read_table, _ = framed(pl.DataFrame({"t": times.astype("M8[us]"), "y": np.arange(24.0)}))
    assert kinds(read_table)[0][0] == "sorted"
    assert frame.start[0] == 1_577_836_800_000_000 and len(frame.values) == 24


def test_irregular_times_are_refused_with_the_share_or_resampled_as_asked() -> None:
    seconds = np.cumsum(np.random.default_rng(0).integers(1, 900, 2000))
    times = (np.datetime64("2020-01-01", "s") + seconds).astype("M8[us]")
    table = pl.DataFrame({"t": times, "y": wave(2000)})
    with pytest.raises(DataError, match="the times are irregular, the most usual step makes up") as caught:
        framed(table)
    assert "--resample 15min" in caught.value.hint
    frame, read_table, schema = framed(table, resample="h")
    hourly = pd.Series(wave(2000), pd.DatetimeIndex(times)).resample("h").mean()
    np.testing.assert_allclose(frame.values[:, 0], hourly.to_numpy(), rtol=1e-5)
    assert (schema.freq, schema.resample) == ("h", True)
    assert kinds(read_table) == [("reshaped", 2000)]
    recent = table.filter(pl.col("t") >= pl.lit(hourly.index[-5].to_pydatetime()))
    assert np.array_equal(frame_series(read(recent), schema).values, frame.values[-5:])


def test_a_schema_of_before_says_what_it_said() -> None:
    schema = Schema("wide", None, "ds", ("y",), 1, "h")
    frame = frame_series(read(pl.DataFrame({"ds": HOURS.to_numpy().astype("M8[us]"), "y": wave(400)})), schema)
    assert frame.schema == schema
