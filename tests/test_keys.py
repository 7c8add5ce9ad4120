"""Several columns that tell the series apart: found by content, joined, stored with the model, and given back."""

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecast.data.frame import SeriesFrame, fingerprint, frame_series, understand
from forecast.data.keys import joined
from forecast.data.table import read
from forecast.errors import DataError, UsageError
from forecast.fitted import Fitted
from forecast.fitting import fit

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
STORES, ITEMS = ("north", "south", "east"), (7, 8)


def sales(rows: int = 60) -> pl.DataFrame:
    """Six series that neither store nor item tells apart; item is a whole number, as sales are."""
    draw = np.random.default_rng(0)
    days = np.datetime64("2024-01-01", "D") + np.arange(rows)
    parts = [
        pl.DataFrame({"day": days, "sold": draw.integers(0, 1000, rows)}).with_columns(
            shop=pl.lit(store), code=pl.lit(item, pl.Int32), country=pl.lit("here" if store == "north" else "there")
        )
        for store, item in product(STORES, ITEMS)
    ]
    return pl.concat(parts)


def framed(data: pl.DataFrame, **named: str) -> tuple[SeriesFrame, list[str]]:
    table = read(data)
    frame = frame_series(table, understand(table, **named))  # type: ignore[arg-type]
    return frame, [f"{repair.first}: {repair.detail}" for repair in table.ledger.repairs]


def test_the_fewest_columns_that_tell_the_series_apart_are_the_id() -> None:
    frame, repairs = framed(sales())
    assert set(frame.schema.keys) == {"shop", "code"}
    assert frame.schema.values == ("sold",)
    assert frame.values.shape == (60, 6)
    assert len(repairs) == 1
    assert "country: text, the same in all rows of a series" in repairs[0]


@pytest.mark.parametrize("order", [False, True])
def test_named_keys_give_the_frame_of_ids_joined_by_hand(order: bool) -> None:
    data = sales().sample(fraction=1, shuffle=order, seed=1)
    named, _ = framed(data.drop("country"), id_col="shop,code")
    by_hand, _ = framed(data.select("day", "sold", unique_id=pl.col("shop") + "/" + pl.col("code").cast(pl.String)))
    assert named.names.to_list() == by_hand.names.to_list()
    np.testing.assert_array_equal(named.values, by_hand.values)


def test_a_sure_id_that_repeats_its_times_is_completed_by_a_second_column() -> None:
    frame, _ = framed(sales().rename({"code": "item_id"}).drop("country"))
    assert set(frame.schema.keys) == {"shop", "item_id"}


def test_a_value_that_never_repeats_is_no_part_of_an_id() -> None:
    data = sales().drop("country").with_columns(sold=pl.int_range(pl.len()))
    assert set(framed(data)[0].schema.keys) == {"shop", "code"}
    with pytest.raises(DataError, match="no columns tell the series apart"):
        framed(data.drop("code"))


def test_keys_that_read_the_same_once_joined_are_refused() -> None:
    days = np.datetime64("2024-01-01", "D") + np.arange(9)
    parts = [pl.DataFrame({"day": days}).with_columns(a=pl.lit(a), b=pl.lit(b), y=1.0) for a, b in PAIRS]
    with pytest.raises(DataError, match='both "x/y/z" once joined'):
        joined(read(pl.concat(parts)), ("a", "b"))


PAIRS = (("x/y", "z"), ("x", "y/z"))


def test_a_missing_part_of_an_id_is_named_with_its_row() -> None:
    data = sales().with_columns(shop=pl.when(pl.int_range(pl.len()) == 17).then(None).otherwise(pl.col("shop")))
    with pytest.raises(DataError, match=r'row 17: the id in column "shop" is missing'):
        framed(data, id_col="shop,code")


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UsageError, match='no column "shp"'):
        framed(sales(), id_col="shp,code")


def test_a_schema_without_keys_keeps_its_fingerprint() -> None:
    # Written down before schemas could have keys: stored runs must find their data again.
    data = pl.DataFrame({"ds": np.datetime64("2024-01-01", "D") + np.arange(6), "y": [1.0, 2, 3, 4, 5, 6.5]})
    assert fingerprint(framed(data)[0]) == "a6fcb4b5d173e230b72190ea3f18a065e6a7b47414742ce1395313a65d8425d9"


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("ragged", [False, True])
def test_forecasts_have_the_keys_back_in_their_types(
    targets: int, ragged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = sales().drop("country").with_columns(pl.col("shop").cast(pl.Categorical))
    if targets == 2:
        data = data.with_columns(other=pl.col("sold") * 2.0 + 1)
    if ragged:
        data = data.filter((pl.col("day") > pl.date(2024, 1, 9)) | (pl.col("code") == 7))
    run = fit(data, "linear", horizon=3, lookback=7, id_col="shop,code")
    run.fitted.save(tmp_path / "model")
    future = Fitted.load(tmp_path / "model").predict(data)
    assert future.columns == ["unique_id", "ds", "yhat", "shop", "code"]
    assert (future.schema["shop"], future.schema["code"]) == (data.schema["shop"], pl.Int32)
    assert future.height == 6 * 3 * targets
    parts = future["shop"].cast(pl.String) + "/" + future["code"].cast(pl.String)
    assert (future["unique_id"].str.split("/").list.head(2).list.join("/") == parts).all()
    ready = data.select(pl.exclude("shop", "code"), pl.concat_str("shop", "code", separator="/").alias("shop/code"))
    assert run.fitted.predict(ready).equals(future.select("unique_id", "ds", "yhat"))


def test_tourism_regions_and_purposes_are_304_series() -> None:
    path = SHARED / "real_csv" / "aus_tourism_quarters.csv"
    if not path.exists():
        pytest.skip("needs ../shared/data/real_csv/aus_tourism_quarters.csv")
    for named in (None, "Region,State,Purpose"):
        table = read(path)
        frame = frame_series(table, understand(table, id_col=named))
        assert (len(frame.keys), frame.values.shape) == (304, (304 * 80, 1))
        assert not np.isnan(frame.values).any()
        assert frame.schema.values == ("Trips",)
