"""Short series, missing values and the limit of repairs: said, padded on request, refused; never in silence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecast.config import resolve
from forecast.data.frame import SeriesFrame, frame_series, understand
from forecast.data.scale import Scaler
from forecast.data.table import Table
from forecast.data.table import read as read_table
from forecast.errors import DataError, UsageError
from forecast.prepare import Read, prepare, read

DAY = np.datetime64("2024-01-01", "D")


def long(lengths: dict[str, int], scale: dict[str, float] | None = None) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.concat(
        pl.DataFrame(
            {
                "unique_id": key,
                "ds": DAY + np.arange(rows),
                "y": (scale or {}).get(key, 1.0) * (5 + draw.normal(size=rows)),
            }
        )
        for key, rows in lengths.items()
    )


def resolved(data: pl.DataFrame, *settings: str, **flags: object) -> Read:
    return read(resolve("linear", settings=settings, flags={"data": {"lookback": 10, "horizon": 5, **flags}}), data)


LENGTHS = {"a": 100, "b": 14, "c": 18, "d": 90, "e": 9}


def test_series_without_any_window_are_counted_in_the_ledger() -> None:
    facts = resolved(long(LENGTHS)).facts
    dropped = [repair for repair in facts["repairs"] if repair["kind"] == "series-dropped"]
    assert [(repair["count"], repair["first"]) for repair in dropped] == [(2, '"b"')]
    assert dropped[0]["detail"] == "too short for a window of lookback 10 + horizon 5 in any part"
    short = [caution for caution in facts["warnings"] if caution["kind"] == "short-series"]
    assert [(caution["count"], caution["value"]) for caution in short] == [
        (1, '"c": no window to learn from, scored all the same')
    ]


def test_strict_refuses_to_leave_a_series_out() -> None:
    with pytest.raises(DataError, match="series-dropped"):
        resolved(long(LENGTHS), strict=True)


def test_padded_series_have_windows_in_every_part_and_their_own_values() -> None:
    found = resolved(long(LENGTHS), "data.short_series=pad")
    assert not [repair for repair in found.facts["repairs"] if repair["kind"] == "series-dropped"]
    filled = [repair for repair in found.facts["repairs"] if repair["kind"] == "gap-filled"]
    lengths = np.diff(found.frame.offsets)
    added = lengths - np.array(list(LENGTHS.values()))
    assert [(repair["count"], repair["first"]) for repair in filled] == [(added.sum(), '"b"')]
    assert (added[[0, 3]] == 0).all()
    given = long(LENGTHS)
    for number, key in enumerate(LENGTHS):
        rows = found.frame.values[found.frame.offsets[number] : found.frame.offsets[number + 1], 0]
        assert np.isnan(rows[: added[number]]).all()
        own = given.filter(pl.col("unique_id") == key)
        np.testing.assert_array_equal(rows[added[number] :], own["y"].to_numpy().astype(np.float32))
        first = found.frame.start[number] + int(added[number]) * 86_400_000_000
        assert np.datetime64(int(first), "us") == DAY
    prepared = prepare(found)
    for part in (prepared.train, prepared.validation, prepared.test):
        assert set(part[np_index(len(part))].series.tolist()) == set(range(5))
    example = prepared.train[np_index(len(prepared.train))]
    padded = ~example.window.seen
    assert padded.any()
    assert (example.window.past[padded] == 0).all()


def np_index(count: int) -> "object":
    import torch

    return torch.arange(count)


def test_a_series_without_training_rows_is_scaled_by_what_stands_before_its_first_forecast() -> None:
    scale = {"c": 1000.0}
    found = resolved(long(LENGTHS, scale))
    assert found.split.train_end[2] < found.frame.offsets[2] + 10
    changed = long(LENGTHS, scale).with_columns(
        pl.when((pl.col("unique_id") == "c") & (pl.col("ds") >= DAY + 10)).then(1e9).otherwise("y").alias("y")
    )
    before, after = prepare(found).scaler, prepare(resolved(changed)).scaler
    first = long(LENGTHS, scale).filter(unique_id="c")["y"].head(10).cast(pl.Float32).cast(pl.Float64)
    assert before.mean[2, 0] == pytest.approx(first.mean())
    assert before.std[2, 0] == pytest.approx(first.std(ddof=0))
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


def test_a_series_that_tells_no_spread_takes_that_of_the_others(make_frame: Callable[..., SeriesFrame]) -> None:
    values = np.concatenate([[0.0, 6.0] * 5, [7.0] * 10, [0.0, 2.0] * 5, [np.nan] * 5])[:, None]
    frame = make_frame(values, [10, 10, 10, 5])
    scaler = Scaler.fit(frame, frame.offsets[1:], pooled=True)
    unit = np.sqrt((3.0**2 + 1.0**2) / 2)
    np.testing.assert_allclose(scaler.std[:, 0], [3, unit, 1, unit])
    np.testing.assert_allclose(scaler.mean[:, 0], [3, 7, 1, (30 + 70 + 10) / 30])
    alone = make_frame(np.full((10, 1), 7.0))
    assert Scaler.fit(alone, np.array([10]), pooled=True).std[0, 0] == 1.0


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_part_in_which_nothing_was_seen_is_refused(part: str) -> None:
    data = long({"a": 100})
    rows = {"training": (0, 70), "validation": (70, 80), "test": (80, 100)}[part]
    inside = pl.int_range(pl.len()).is_between(*rows, closed="left")
    with pytest.raises(DataError, match=f"every value to forecast in the {part} part is missing"):
        resolved(data.with_columns(pl.when(~inside).then("y").alias("y")))


# Limit of repairs


def refused(data: pl.DataFrame, limit: float | None = None) -> str:
    table = read_table(data)
    settings = {} if limit is None else {"max_repaired": limit}
    with pytest.raises(DataError) as error:
        frame_series(table, understand(table, **settings))
    return f"{error.value.message} / {error.value.hint}"


def framed(data: pl.DataFrame, limit: float) -> tuple[SeriesFrame, Table]:
    table = read_table(data)
    return frame_series(table, understand(table, max_repaired=limit)), table


def test_gaps_above_the_limit_are_refused_with_their_share_and_what_to_type() -> None:
    data = long({"": 100}).filter((pl.int_range(pl.len()) < 20) | (pl.int_range(pl.len()) >= 80)).drop("unique_id")
    frame, table = framed(data, 0.6)
    assert len(frame.values) == 100
    assert [(repair.kind, repair.count) for repair in table.ledger.repairs] == [("gap-filled", 60)]
    said = refused(data)
    assert "60 rows are missing, of 40 given; that is 60%, and at most 50% are repaired." in said
    assert said.endswith("--set data.max_repaired=0.6")


def test_duplicates_above_the_limit_are_refused() -> None:
    data = long({"a": 30, "b": 30}).with_columns(pl.col("y") + 1)
    twice = pl.concat([data] * 3)
    assert "120 of 180 rows repeat the id and time of another row; that is 67%" in refused(twice)
    assert len(framed(twice, 0.67)[0].values) == 30
    assert "30 of 90 rows repeat" in refused(pl.concat([data, data.head(30)]), 0.3)


def test_the_limit_is_stored_and_applied_when_a_forecast_is_made() -> None:
    data = long({"": 60}).drop("unique_id")
    strict = framed(data, 0.05)[0].schema
    holed = read_table(data.filter(pl.int_range(pl.len()) % 10 != 5))
    with pytest.raises(DataError, match="at most 5% are repaired"):
        frame_series(holed, strict)


def test_missing_marks_above_the_limit_are_refused_with_their_column(tmp_path: Path) -> None:
    data, kept = long({"": 60}).drop("unique_id"), pl.int_range(pl.len()) % 5 < 2
    dashes = data.with_columns(pl.when(kept).then("y").cast(pl.String).fill_null("-"))
    dashes.write_csv(tmp_path / "dashes.csv")
    table = read_table(tmp_path / "dashes.csv")
    with pytest.raises(DataError, match=r'"y" 36 of 60 values are marks .* that is 60%, and at most 50% are repaired'):
        frame_series(table, understand(table))
    frame = frame_series(table, understand(table, max_repaired=0.6))
    assert np.isnan(frame.values).sum() == 36
    assert "36 of 60 values are marks" in refused(dashes, 0.3)


def test_cells_left_empty_are_no_repair() -> None:
    data = long({"": 60}).drop("unique_id").with_columns(pl.when(pl.int_range(pl.len()) % 5 < 2).then("y").alias("y"))
    assert np.isnan(framed(data, 0.0)[0].values).sum() == 36


def test_a_limit_that_is_no_share_is_refused() -> None:
    with pytest.raises(UsageError, match=r"max_repaired is 1\.0"):
        resolve("linear", settings=["data.max_repaired=1.0"])
