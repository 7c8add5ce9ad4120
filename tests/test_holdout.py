"""Published hold-outs: the marked rows are the test, one window a series, and known scores come out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forecast
from forecast.config import resolve
from forecast.errors import DataError, UsageError
from forecast.models.naive import SeasonalNaive, SeasonalNaiveConfig
from forecast.prepare import Read, prepare, read
from forecast.scoring import score

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "many_series"


def walks(lengths: tuple[int, ...] = (60, 45, 50), held: int = 6, **columns: pl.Expr) -> pl.DataFrame:
    """Monthly series of these lengths that end together, the last `held` months of each marked."""
    draw, parts = np.random.default_rng(0), []
    months = np.datetime64("2000-01") + np.arange(max(lengths))
    for number, length in enumerate(lengths):
        ds = months[-length:].astype("datetime64[D]")
        y = 50 + draw.normal(size=length).cumsum()
        parts.append(
            pl.DataFrame({"unique_id": f"s{number}", "ds": ds, "y": y, "is_test": np.arange(length) >= length - held})
        )
    return pl.concat(parts).with_columns(**columns)


def resolved(data: pl.DataFrame, *settings: str, **flags: object) -> Read:
    return read(resolve("linear", settings=settings, flags={"data": flags}), data)


def test_the_test_part_is_the_marked_rows_and_validation_as_many_before() -> None:
    found = resolved(walks())
    assert found.facts["split_by"] == "is_test"
    assert found.config.data.horizon == 6
    ends = found.frame.offsets[1:]
    np.testing.assert_array_equal(found.split.test, np.stack([ends - 6, ends], axis=1))
    np.testing.assert_array_equal(found.split.validation, np.stack([ends - 12, ends - 6], axis=1))
    assert "is_test" not in found.frame.schema.values
    prepared = prepare(found)
    assert (len(prepared.validation), len(prepared.test)) == (3, 3)
    np.testing.assert_array_equal(prepared.test.origins.numpy(), ends - 7)


@pytest.mark.parametrize("shuffled", [False, True])
def test_words_of_three_parts_are_followed_whatever_the_order_of_rows(shuffled: bool) -> None:
    left = pl.int_range(pl.len(), 0, -1).over("unique_id")
    words = pl.when(left <= 6).then(pl.lit("Test")).when(left <= 16).then(pl.lit("valid")).otherwise(pl.lit("train"))
    data = walks(split=words).drop("is_test")
    found = resolved(data.sample(fraction=1, shuffle=True, seed=3) if shuffled else data, horizon=6)
    assert found.facts["split_by"] == "split"
    ends = found.frame.offsets[1:]
    np.testing.assert_array_equal(found.split.validation, np.stack([ends - 16, ends - 6], axis=1))


@pytest.mark.parametrize("name", ["fold", "split"])
def test_numbered_folds_are_no_hold_out(name: str) -> None:
    data = walks().drop("is_test").with_columns((pl.int_range(pl.len()) % 2).alias(name))
    assert resolved(data, horizon=6).facts["split_by"] == "shares"


def test_a_hold_out_that_is_not_the_end_is_refused_with_its_row_unless_it_is_not_to_count() -> None:
    data = walks(is_test=pl.int_range(pl.len()) % 5 == 3)
    with pytest.raises(DataError, match=r'row 4: by column "is_test" a row of training \("s0", 2000-05-01\) follows'):
        resolved(data, horizon=6)
    assert resolved(data, "data.split_col=none", horizon=6).facts["split_by"] == "shares"


def test_a_named_column_must_tell_train_from_test() -> None:
    with pytest.raises(DataError, match='"unique_id" does not tell train from test'):
        resolved(walks(), split_col="unique_id")
    with pytest.raises(UsageError, match='no column "part"'):
        resolved(walks(), split_col="part")


def test_a_long_hold_out_is_forecast_with_the_usual_horizon_over_every_window() -> None:
    found = resolved(walks((400, 300), held=100))
    assert found.config.data.horizon == 12
    assert len(prepare(found).test) == 2 * (100 - 12 + 1)


def lengths_of(rows: list[int], **flags: object) -> tuple[Read, np.ndarray]:
    """What is chosen for monthly series of these lengths, and how many training windows each has."""
    found = resolved(walks(tuple(rows)), **flags)
    return found, training_windows(found)


def training_windows(found: Read) -> np.ndarray:
    prepared = prepare(found)
    series = np.searchsorted(found.frame.offsets, prepared.train.origins.numpy(), side="right") - 1
    return np.bincount(series, minlength=len(found.frame.keys))


def test_a_few_long_series_do_not_take_the_training_windows_from_the_others() -> None:
    found, windows = lengths_of([400] * 3 + [45] * 40)
    assert (windows > 0).all()
    assert found.config.data.lookback == 24  # 45 rows less the test and the validation part and a horizon are 27
    assert lengths_of([400] * 3)[0].config.data.lookback == 48


def test_a_few_short_series_do_not_shorten_what_all_look_back() -> None:
    found, windows = lengths_of([120] * 40 + [30, 20])
    assert found.config.data.lookback == 48
    assert (windows > 0).sum() == 40
    # Newborn series, which no lookback gives a window, have no say however many they are.
    assert lengths_of([120] * 20 + [15] * 20)[0].config.data.lookback == 48


def test_a_season_is_not_given_up_for_short_series() -> None:
    found, windows = lengths_of([120] * 10 + [28] * 10)  # these have 16 - 6 rows to look back
    assert found.config.data.lookback == 12
    assert (windows > 0).sum() == 10


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(20, 200), min_size=1, max_size=30).filter(lambda rows: max(rows) >= 40))
def test_half_of_all_training_windows_remain_whatever_the_lengths(rows: list[int]) -> None:
    longest, windows = lengths_of(rows)[1], lengths_of(rows, lookback=1)[1]
    assert 2 * longest.sum() >= windows.sum()
    assert longest.sum() > 0


@pytest.mark.parametrize(("name", "without"), [("m3_monthly", 0), ("m3_quarterly", 70), ("tourism_monthly", 1)])
def test_nearly_all_series_of_the_competitions_are_learned_from(name: str, without: int) -> None:
    path = SHARED / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs ../shared/data/many_series/{name}.parquet")
    found = read(resolve("linear"), path)
    hopeless = (found.split.train_end - found.frame.offsets[:-1] <= found.config.data.horizon).sum()
    windows = training_windows(found)
    assert (windows == 0).sum() == without
    assert ((windows == 0).sum() - hopeless) <= 0.05 * len(windows)


def test_series_on_one_axis_that_hold_out_different_times_are_refused() -> None:
    left = pl.int_range(pl.len(), 0, -1).over("unique_id")
    data = walks((60, 60), is_test=left <= pl.when(pl.col("unique_id") == "s0").then(6).otherwise(8))
    with pytest.raises(DataError, match="hold out different times"):
        resolved(data)


@pytest.mark.parametrize("lengths", [(60, 45, 50), (60, 60)], ids=["long", "panel"])
def test_the_clean_table_keeps_the_hold_out(lengths: tuple[int, ...], tmp_path: Path) -> None:
    data = walks(lengths).filter(~pl.int_range(pl.len()).over("unique_id").is_in([3, 57]))  # 57 is in a test part
    spoilt = pl.concat([data[20:], data[:20], data[5:6]])
    before = resolved(spoilt)
    forecast.doctor(spoilt).fix(tmp_path / "clean.csv")
    after = read(resolve("linear"), tmp_path / "clean.csv")
    assert after.facts["repairs"] == []
    assert after.facts["split_by"] == before.facts["split_by"] == "is_test"
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(after.split, part), getattr(before.split, part))


def test_scaling_and_the_divisor_of_mase_do_not_see_the_hold_out() -> None:
    prepared = [
        prepare(resolved(walks(y=pl.when("is_test").then(value).otherwise(pl.col("y"))))) for value in (1e6, -3.0)
    ]
    for part in ("mean", "std"):
        np.testing.assert_array_equal(*(getattr(one.scaler, part) for one in prepared))
    np.testing.assert_array_equal(*(one.naive_error for one in prepared))


@pytest.mark.parametrize(
    ("name", "season", "published"),
    [
        ("m4_hourly", 24, {"smape": 13.912, "mase": 1.193}),
        ("tourism_monthly", 12, {"mase": 1.63}),
        ("m3_monthly", 12, {"mase": 1.146}),
    ],
)
def test_seasonal_naive_has_its_published_errors(name: str, season: int, published: dict[str, float]) -> None:
    path = SHARED / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs ../shared/data/many_series/{name}.parquet")
    prepared = prepare(read(resolve("seasonal-naive"), path))
    shape = replace(prepared.shape, lookback=max(prepared.shape.lookback, season))
    naive = SeasonalNaive(shape, SeasonalNaiveConfig(season=season))
    found = score(naive, prepared.test.with_lookback(shape.lookback), prepared.scaler, prepared.naive_error)
    assert found.windows == len(prepared.read.frame.keys)
    for metric, value in published.items():
        assert round(found.metric(metric), len(str(value).partition(".")[2])) == value
