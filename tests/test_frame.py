"""Framing: columns are found, series come out sorted and regular, and every change is in the ledger."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.calendar import times_at
from forecast.data.frame import SeriesFrame, columns_present, fingerprint, frame_series, understand
from forecast.data.schema import Schema
from forecast.data.table import Repair, Table, read
from forecast.data.times import restore
from forecast.errors import DataError, UsageError

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def hours(count: int, start: str = "2020-01-01") -> pl.Series:
    return pl.Series("ds", pd.date_range(start, periods=count, freq="h").as_unit("us").to_numpy())


def waves(rows: int = 48, variates: int = 3) -> pl.DataFrame:
    t = np.arange(rows)
    return pl.DataFrame([hours(rows), *(pl.Series(f"v{i}", np.sin(t * (i + 1)) + i) for i in range(variates))])


def long(lengths: dict[str, int]) -> pl.DataFrame:
    parts = [
        pl.DataFrame([pl.Series("unique_id", [key] * n), hours(n), pl.Series("y", np.arange(n) * 1.0 + i)])
        for i, (key, n) in enumerate(lengths.items())
    ]
    return pl.concat(parts)


def framed(source: object, *, strict: bool = False, **options: object) -> tuple[SeriesFrame, Table]:
    table = read(source)  # type: ignore[arg-type]
    return frame_series(table, understand(table, **options), strict=strict), table  # type: ignore[arg-type]


def refused(source: object, kind: type[DataError] | type[UsageError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        framed(source, **options)  # type: ignore[arg-type]
    assert caught.value.hint and "\n" not in caught.value.message + caught.value.hint
    return caught.value.message + " / " + caught.value.hint


def saved(folder: Path, content: str) -> str:
    path = folder / "sales.csv"
    path.write_text(content)
    return str(path)


def kinds(table: Table) -> list[tuple[str, int]]:
    return [(repair.kind, repair.count) for repair in table.ledger.repairs]


def span(frame: SeriesFrame) -> tuple[object, object]:
    ends = times_at(frame.start, np.diff(frame.offsets) - 1, frame.frequency, frame.time_type.zone)
    return restore(frame.start, frame.time_type)[0], restore(ends, frame.time_type)[0]


# Understanding


def test_a_wide_table_gives_a_variate_a_column() -> None:
    frame, table = framed(waves())
    assert frame.schema == Schema("wide", None, "ds", ("v0", "v1", "v2"), 3, "h")
    assert np.array_equal(frame.values, waves().drop("ds").to_numpy().astype(np.float32))
    assert frame.values.flags.c_contiguous and frame.values.dtype == np.float32
    assert frame.keys.to_list() == [""] and frame.offsets.tolist() == [0, 48]
    assert table.ledger.repairs == ()


def test_targets_come_first() -> None:
    frame, _ = framed(waves(), target=("v2",))
    assert frame.names.to_list() == ["v2", "v0", "v1"] and frame.schema.targets == 1
    named, _ = framed(waves().rename({"v1": "y"}))
    assert named.names.to_list() == ["y", "v0", "v2"] and named.schema.targets == 1
    chosen, _ = framed(waves(), target=("v1",), variates=("v0",))
    assert chosen.names.to_list() == ["v1", "v0"]


@pytest.mark.parametrize(
    "names", [("unique_id", "ds", "y"), ("item_id", "timestamp", "target"), ("Series", "Date", "value")]
)
def test_the_columns_of_a_long_table_are_found_by_name(names: tuple[str, str, str]) -> None:
    frame, _ = framed(long({"b": 5, "a": 7}).rename(dict(zip(("unique_id", "ds", "y"), names, strict=True))))
    assert (frame.schema.id, frame.schema.time, frame.schema.values) == (names[0], names[1], (names[2],))


def test_an_id_is_found_by_content_where_times_repeat() -> None:
    frame, _ = framed(long({"b": 5, "a": 7}).rename({"unique_id": "what", "ds": "when", "y": "much"}))
    assert (frame.schema.id, frame.schema.time) == ("what", "when")


def test_the_finer_of_two_time_columns_is_the_time_and_equal_ones_are_refused() -> None:
    both = waves().rename({"ds": "from"}).with_columns(day=pl.col("from").dt.date())
    frame, table = framed(both)
    assert frame.schema.time == "from"
    assert [r.first for r in table.ledger.repairs] == ["day"]
    said = refused(waves().rename({"ds": "from"}).with_columns(to=pl.col("from").dt.offset_by("1h")))
    assert '"from" and "to" can be the time' in said and "--time-col" in said


def test_without_a_time_the_rows_are_the_steps_and_a_caution_says_so() -> None:
    frame, table = framed(waves().drop("ds"))
    assert frame.schema.time is None and frame.schema.freq == "1" and frame.start.tolist() == [0]
    assert [c.kind for c in table.ledger.cautions] == ["irregular"]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    for option in ({"id_col": "v9"}, {"time_col": "v9"}, {"target": ("v9",)}, {"variates": ("v9",)}):
        assert "Did you mean" in refused(waves(), UsageError, **option)


def test_text_columns_are_left_out_and_noted(tmp_path: Path) -> None:
    _, table = framed(saved(tmp_path, "ds,y,sky\n2020-01-01,1,blue\n2020-01-02,2,grey\n2020-01-03,3,2\n"))
    assert kinds(table) == [("column-dropped", 1)]
    assert [(c.kind, c.column, c.value) for c in table.ledger.cautions] == [("text-column", "sky", "blue")]


def test_text_in_a_column_of_numbers_is_refused_with_line_and_value(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7}" for i in range(4000)]
    rows[3000] = "3000,n/k"
    said = refused(saved(tmp_path, "t,y\n" + "\n".join(rows)))
    assert 'sales.csv, line 3002: "n/k" in column "y" is not a number' in said


def test_text_among_numbers_with_decimal_commas_is_refused(tmp_path: Path) -> None:
    assert 'line 4: "x" in column "y"' in refused(saved(tmp_path, "t;y\n1;1,5\n2;2,5\n3;x\n4;3,5\n"))


def test_truth_values_unnamed_row_numbers_and_empty_columns_are_left_out() -> None:
    extra = waves().with_columns(
        pl.Series("", range(48)), flag=pl.Series([True, False] * 24), empty=pl.lit(None, pl.Float64)
    )
    frame, table = framed(extra)
    assert frame.names.to_list() == ["v0", "v1", "v2"]
    assert {r.first for r in table.ledger.repairs} == {"", "flag", "empty"}
    asked, _ = framed(extra, variates=("v0", "flag"))
    assert asked.values[:4, 1].tolist() == [1, 0, 1, 0]


def test_a_constant_column_is_noted_and_a_constant_target_refused() -> None:
    _, table = framed(waves().with_columns(still=pl.lit(4.0)))
    assert [(c.kind, c.column, c.value, c.count) for c in table.ledger.cautions] == [
        ("constant-column", "still", "4.0", 48)
    ]
    assert "cannot be forecast" in refused(waves().select("ds", still=pl.lit(4.0)))
    assert "cannot be forecast" in refused(waves().with_columns(still=pl.lit(4)), target=("still",))
    late = waves(3000, 1).with_columns(v0=pl.when(pl.int_range(pl.len()) < 2500).then(0.0).otherwise(1.0))
    assert framed(late)[1].ledger.cautions == ()


def test_repeated_times_without_an_id_are_refused_when_many() -> None:
    keys = long({"a": 6, "b": 6}).with_columns(shop=pl.lit("s"), unique_id=pl.lit("k")).rename({"unique_id": "key"})
    assert "no columns tell the series apart" in refused(keys)


def test_a_single_row_is_refused_for_its_lack_of_a_step() -> None:
    assert "no series has two rows" in refused(waves(1))


def test_a_frequency_that_does_not_fit_the_axis_is_refused() -> None:
    assert "does not fit" in refused(waves(), UsageError, freq="1")
    assert "does not fit" in refused(waves().with_columns(ds=pl.int_range(48)), UsageError, freq="h")
    assert "not a frequency" in refused(waves(), UsageError, freq="hourli")


# Framing


def test_unsorted_rows_are_sorted_and_counted_from_the_file(tmp_path: Path) -> None:
    rows = ["2020-01-01,1", "2020-01-03,3", "2020-01-02,2", "2020-01-05,5", "2020-01-04,4"]
    frame, table = framed(saved(tmp_path, "ds,y\n" + "\n".join(rows)))
    assert frame.values.ravel().tolist() == [1, 2, 3, 4, 5]
    assert table.ledger.repairs == (Repair("sorted", 2, "line 4, 2020-01-02", "rows were put in order of time"),)


def test_repeated_times_become_the_mean_of_their_seen_values() -> None:
    source = pl.DataFrame(
        {
            "ds": [0, 1, 2, 2, 2, 3, 3, 4, 5, 6],
            "y": [0.0, 1, 4, None, 8, None, None, 4, 5, 6],
            "z": [0.0, 1, 2, 3, 4, 5, None, 6, 7, 8],
        }
    )
    frame, table = framed(source)
    merged = np.array([[0, 0], [1, 1], [6, 3], [np.nan, 5], [4, 6], [5, 7], [6, 8]], np.float32)
    np.testing.assert_array_equal(frame.values, merged)
    assert kinds(table) == [("duplicates-merged", 3)]
    assert table.ledger.repairs[0].first == "row 3, 2"


def test_gaps_become_missing_rows() -> None:
    frame, table = framed(waves(8, 1).filter(~pl.int_range(8).is_in([3, 4, 6])))
    assert np.flatnonzero(np.isnan(frame.values)).tolist() == [3, 4, 6]
    assert kinds(table) == [("gap-filled", 3)]
    assert table.ledger.repairs[0].first == "2020-01-01 03:00:00"


def test_days_in_a_zone_with_clock_changes_have_no_gaps() -> None:
    days = pd.date_range("2021-03-20", periods=20, freq="D", tz="America/New_York")
    frame, table = framed(pd.DataFrame({"y": np.arange(20.0)}, index=days), strict=True)
    assert (frame.schema.freq, frame.values.shape, table.ledger.repairs) == ("D", (20, 1), ())
    assert span(frame) == (days[0].to_pydatetime(), days[-1].to_pydatetime())
    months = pd.date_range("2021-01-31", periods=20, freq="ME", tz="America/New_York")
    assert framed(pd.DataFrame({"y": np.arange(20.0)}, index=months))[0].schema.freq == "ME"


def test_gaps_larger_than_the_data_are_refused() -> None:
    apart = waves(200, 1).filter((pl.int_range(200) < 10) | (pl.int_range(200) > 190))
    assert "181 rows are missing" in refused(apart)


def test_a_time_off_the_grid_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = [f"2020-01-01 {h:02}:00,{h}" for h in range(24)]
    rows[7] = "2020-01-01 07:07,7"
    said = refused(saved(tmp_path, "ds,y\n" + "\n".join(rows)))
    assert "sales.csv, line 9: 2020-01-01 07:07 is not a whole number of steps (h)" in said


def test_strict_refuses_what_would_be_repaired() -> None:
    ordered = waves(10, 1)
    framed(ordered, strict=True)
    for source, word in (
        (ordered.reverse(), "sorted"),
        (pl.concat([ordered, ordered.tail(1)]), "duplicates-merged"),
        (ordered.filter(pl.int_range(10) != 4), "gap-filled"),
    ):
        with pytest.raises(DataError) as caught:
            framed(source, strict=True)
        assert word in caught.value.message and "--strict" in caught.value.hint


def test_infinite_values_are_refused_with_their_row() -> None:
    for value in (float("inf"), 1e300):
        source = waves(5, 2).with_columns(v1=pl.Series([0, 1, value, 3, 4], dtype=pl.Float64))
        assert f'row 2: {value} in column "v1"' in refused(source)


def test_aligned_ids_are_a_panel_and_others_channels() -> None:
    panel, _ = framed(long({"b": 6, "a": 6}))
    assert panel.schema.layout == "panel" and panel.schema.targets == 2
    assert panel.names.to_list() == ["a", "b"] and panel.keys.to_list() == [""]
    assert panel.values[:, 1].tolist() == [0, 1, 2, 3, 4, 5] and panel.values[:, 0].tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    channels, _ = framed(long({"b": 6, "a": 4}))
    assert channels.schema.layout == "channels" and channels.schema.targets == 1
    assert channels.keys.to_list() == ["a", "b"] and channels.offsets.tolist() == [0, 4, 10]
    assert channels.values.ravel().tolist() == [1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    covariate, _ = framed(long({"b": 6, "a": 6}).with_columns(x=pl.col("y") * 2))
    assert covariate.schema.layout == "channels" and covariate.schema.targets == 1


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Int64, pl.String, pl.Categorical])
def test_ids_keep_their_type(dtype: pl.DataType) -> None:
    source = long({"12": 6, "7": 4}).with_columns(pl.col("unique_id").cast(pl.String).cast(dtype))
    frame, _ = framed(source)
    assert frame.keys.dtype == dtype
    assert frame.keys.to_list() == ([7, 12] if dtype in (pl.Int32, pl.Int64) else ["12", "7"])


def test_a_single_series_with_an_id_keeps_its_key() -> None:
    frame, _ = framed(long({"only": 6}))
    assert frame.schema.layout == "channels" and frame.keys.to_list() == ["only"]


def test_a_missing_id_is_refused() -> None:
    source = long({"a": 4, "b": 4}).with_columns(unique_id=pl.Series(["a"] * 5 + [None] * 3))
    assert 'row 5: the id in column "unique_id" is missing' in refused(source)


def test_more_ids_than_steps_are_series_of_their_own() -> None:
    assert framed(long({f"s{number}": 6 for number in range(6)}))[0].schema.layout == "panel"
    assert framed(long({f"s{number}": 6 for number in range(7)}))[0].schema.layout == "channels"


def test_a_stored_panel_stays_one_and_ends_at_the_last_time_of_any() -> None:
    panel, _ = framed(long({"a": 6, "b": 6}))
    shorter = pl.concat([long({"a": 6}), long({"b": 5}).tail(3)])
    frame = frame_series(read(shorter), panel.schema)
    assert frame.schema.layout == "panel" and frame.values.shape == (6, 2)
    assert np.flatnonzero(np.isnan(frame.values[:, 1])).tolist() == [0, 1, 5]


def test_stored_channels_stay_channels() -> None:
    schema = framed(long({"a": 6, "b": 4}))[0].schema
    assert frame_series(read(long({"a": 6, "b": 6})), schema).schema.layout == "channels"


def test_absent_columns_are_refused_by_name() -> None:
    schema = framed(waves())[0].schema
    for name in ("ds", "v1"):
        with pytest.raises(DataError, match=f'no column "{name}"'):
            frame_series(read(waves().drop(name)), schema)


def test_present_absent_and_new_variates_are_told_apart() -> None:
    schema = framed(waves())[0].schema
    table = read(waves(48, 5).drop("v1"))
    assert columns_present(table, schema) == (("v0", "v2"), ("v1",), ("v3", "v4"))
    frame = frame_series(table, dataclasses.replace(schema, values=("v0", "v2", "v3", "v4"), targets=4))
    assert frame.values.shape == (48, 4)
    one_target = framed(waves(), target=("v1",))[0].schema
    with pytest.raises(DataError, match='no column "v1"'):
        columns_present(table, one_target)
    with pytest.raises(DataError, match='no column "ds"'):
        columns_present(read(waves().drop("ds")), schema)


def test_a_bad_cell_at_prediction_is_refused_with_its_line(tmp_path: Path) -> None:
    schema = framed(saved(tmp_path, "t,y\n1,2\n2,3\n3,5\n"))[0].schema
    with pytest.raises(DataError, match='line 3: "x" in column "y"'):
        frame_series(read(saved(tmp_path, "t,y\n1,2\n2,x\n3,5\n")), schema)


def test_the_reading_of_dates_is_stored_for_later_files(tmp_path: Path) -> None:
    days = "\n".join(f"{d:02}/03/2021,{d % 4}" for d in range(1, 32))
    schema = framed(saved(tmp_path, "ds,y\n" + days))[0].schema
    assert schema.dates == "day-first"
    few = frame_series(read(saved(tmp_path, "ds,y\n01/04/2021,1\n02/04/2021,2\n")), schema)
    assert restore(few.start, few.time_type).to_list() == ["01/04/2021"]


def test_whether_pandas_or_polars_or_a_file_holds_a_table_changes_nothing(tmp_path: Path) -> None:
    source = long({"b": 6, "a": 4})
    source.write_csv(tmp_path / "a.csv")
    source.write_parquet(tmp_path / "a.parquet")
    for other in (
        source.to_pandas(),
        source.to_pandas().set_index("ds"),
        tmp_path / "a.csv",
        tmp_path / "a.parquet",
    ):
        frame, _ = framed(other)
        assert frame.keys.to_list() == ["a", "b"] and frame.start.tolist() == framed(source)[0].start.tolist()
        assert np.array_equal(frame.values, framed(source)[0].values)


def test_blocks_do_not_change_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = framed(waves(50, 7).reverse())[0].values
    monkeypatch.setattr("forecast.data.frame.BLOCK", 8 * 50 * 2)
    assert np.array_equal(framed(waves(50, 7).reverse())[0].values, whole)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_row_order_does_not_change_a_frame(data: st.DataObject) -> None:
    lengths = data.draw(st.dictionaries(st.sampled_from("abcde"), st.integers(2, 9), min_size=1))
    source = long(lengths).with_columns(x=pl.col("y") ** 2)
    extra = data.draw(st.lists(st.integers(0, source.height - 1), max_size=3, unique=True))
    source = pl.concat([source, source[extra].with_columns(pl.col("y") + 1)])
    order = data.draw(st.permutations(range(source.height)))
    one, other = framed(source)[0], framed(source[order])[0]
    assert one.keys.to_list() == other.keys.to_list() and one.offsets.tolist() == other.offsets.tolist()
    np.testing.assert_array_equal(one.values, other.values)
    assert fingerprint(one) == fingerprint(other)


def test_the_fingerprint_sees_every_part_of_a_frame() -> None:
    frame, _ = framed(waves())
    moved = frame.values.copy()
    moved[7, 1] += 1e-3
    others = [
        dataclasses.replace(frame, values=moved),
        dataclasses.replace(frame, start=frame.start + 1),
        dataclasses.replace(frame, names=pl.Series(["a", "b", "c"])),
        dataclasses.replace(frame, keys=pl.Series(["x"])),
        dataclasses.replace(frame, schema=dataclasses.replace(frame.schema, targets=1)),
    ]
    assert len({fingerprint(f) for f in (frame, *others)}) == 6
    assert fingerprint(framed(waves())[0]) == fingerprint(frame)


# Real files

FACTS: dict[str, tuple[object, ...]] = {
    # file: layout, freq, series, shape, first time, last time of the first series, repairs
    "ltsf/ETTh1.csv": ("wide", "h", 1, (17420, 7), "2016-07-01 00:00:00", "2018-06-26 19:00:00", []),
    "ltsf/weather.parquet": (
        *("wide", "10min", 1, (52704, 21), "2020-01-01 00:10:00", "2021-01-01 00:00:00"),
        [("duplicates-merged", 1), ("gap-filled", 9)],
    ),
    "real_csv/AirPassengers.csv": ("wide", "MS", 1, (144, 1), "1949-01", "1960-12", []),
    "real_csv/PJMW_hourly.csv": (
        *("wide", "h", 1, (143232, 1), "2002-04-01 01:00:00", "2018-08-03 00:00:00"),
        [("sorted", 5951), ("clock-change", 33), ("gap-filled", 1)],
    ),
    "real_csv/peyton_manning.csv": (
        "wide",
        "D",
        1,
        (2964, 1),
        "2007-12-10",
        "2016-01-20",
        [("gap-filled", 59)],
    ),
    "real_csv/stocks_long.csv": ("channels", "MS", 5, (560, 1), "Jan 1 2000", "Mar 1 2010", []),
    "real_csv/vic_elec.csv": (
        *("wide", "30min", 1, (52608, 2), "2011-12-31T13:00:00Z", "2014-12-31T12:30:00Z"),
        [("column-dropped", 1), ("column-dropped", 1)],
    ),
    "many_series/m4_hourly.parquet": (
        *("channels", "h", 414, (373372, 1), "2015-07-01 12:00:00", "2015-08-01 15:00:00"),
        [("column-dropped", 1)],
    ),
    "many_series/m3_monthly.parquet": (
        *("channels", "MS", 1428, (167562, 1), "1990-01-01 00:00:00", "1995-08-01 00:00:00"),
        [("column-dropped", 1)],
    ),
    "many_series/m3_other.parquet": ("channels", "1", 174, (13325, 1), "1", "104", [("column-dropped", 1)]),
    "many_series/hospital.parquet": (
        *("channels", "MS", 767, (64428, 1), "2000-01-01 00:00:00", "2006-12-01 00:00:00"),
        [],
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_real_files_give_their_known_facts(name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"needs ../shared/data/{name}")
    frame, table = framed(SHARED / name)
    first, last = span(frame)
    found = (
        frame.schema.layout,
        frame.schema.freq,
        len(frame.keys),
        frame.values.shape,
        str(first),
        str(last),
    )
    assert (*found, kinds(table)) == FACTS[name]


# Read in parts


@pytest.mark.parametrize("part", [1, 2, 5, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_reading_in_parts_gives_the_same_frame(part: int, shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = long({"b": 7, "a": 6, "c": 5}).filter(pl.int_range(18) != 9)
    if shuffled:
        data = data.sample(fraction=1, shuffle=True, seed=2)
    whole, _ = framed(data)
    for module in ("axis", "frame"):
        monkeypatch.setattr(f"forecast.data.{module}.PART", part)
    parted, _ = framed(data)
    assert fingerprint(parted) == fingerprint(whole)


@pytest.mark.parametrize(
    ("every", "frequency"), [("1h", "h"), ("15m", "15min"), ("7d", "W-WED"), ("1d", "D"), ("30d", "30D"), ("1mo", "MS")]
)
@pytest.mark.parametrize("gap", [False, True])
def test_a_step_told_by_two_rows_a_series_is_the_step_of_all(
    every: str, frequency: str, gap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2022, 1, 1), every, eager=True).head(20)
    parts = [pl.DataFrame({"unique_id": key, "ds": days.tail(rows), "y": 0.5}) for key, rows in LENGTHS.items()]
    data = pl.concat(parts).with_columns(pl.col("y") + pl.int_range(pl.len()))
    data = data.filter(pl.int_range(pl.len()) != 11) if gap else data
    inferred = understand(read(data)).freq
    monkeypatch.setattr("forecast.data.axis.PART", 1)
    assert understand(read(data)).freq == inferred == frequency


LENGTHS = {"a": 20, "b": 1, "c": 9, "d": 2}


def test_a_column_that_settles_its_own_reading_is_read_once() -> None:
    days = pl.datetime_range(pl.datetime(2021, 1, 1), pl.datetime(2021, 3, 1), "1d", eager=True)
    table = read(pl.DataFrame({"ds": days.dt.strftime("%d/%m/%Y"), "y": np.arange(60.0)}))
    schema = understand(table)
    frame_series(table, schema)
    assert schema.dates == "day-first"
    assert len({id(axis) for key, axis in table.cache.items() if key[0] == "axis"}) == 1
