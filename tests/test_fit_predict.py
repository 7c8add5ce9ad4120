"""The main flow: a fit, and forecasts of the real future that come back in the types and library they were given."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

import forecast
from forecast import fitted as inference
from forecast.cli import main
from forecast.config import flags, resolve
from forecast.errors import ArtifactError, DataError, UsageError
from forecast.fitted import Fitted
from forecast.fitting import Run
from forecast.prediction import locate
from forecast.prepare import prepare, read
from forecast.registry import MODELS, config_class, find, network_class
from forecast.series import as_fitted

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300)
LOOKBACK, HORIZON = 24, 6
SMALL = ("model.d_model=16", "model.d_ff=16", "model.heads=2", "model.layers=1")
ON_GRAPH = ("model.width=16", "model.architecture=GINE")
TINY = (*SMALL, "train.epochs=1")
VARIATES = TABLE.columns[1:]
LAST = TABLE["date"][-1]
M4 = ROOT.parent / "shared" / "data" / "many_series" / "m4_hourly.parquet"


pytestmark = pytest.mark.usefixtures("desk")


@pytest.fixture(scope="module")
def run(store: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        return forecast.fit(TABLE, "itransformer", lookback=LOOKBACK, horizon=HORIZON, settings=TINY)


@pytest.fixture(scope="module")
def served(run: Run) -> mlflow.pyfunc.PyFuncModel:
    """The stored model as MLflow alone opens it."""
    return mlflow.pyfunc.load_model(f"runs:/{run.id}/forecaster")


def model_of(table: Any, name: str = "itransformer", **options: Any) -> Fitted:
    """A model with random weights, made without tracking: what `predict` does with tables does not hang on training."""
    settings = TINY if name == "itransformer" else ()
    given = flags(**{"lookback": LOOKBACK, "horizon": HORIZON, **options})
    prepared = prepare(read(resolve(name, settings=settings, flags=given), table))
    torch.manual_seed(0)
    return as_fitted(network_class(find(name))(prepared.shape, prepared.read.config.model).eval(), prepared)


def long(ids: Sequence[Any], first: Sequence[int] = (0, 0, 0), last: Sequence[int] = (200, 200, 200)) -> pl.DataFrame:
    """Three variates of ETTh1 below each other as series `ids`, each from row `first` to row `last`."""
    parts = [
        TABLE[a:b].select(pl.lit(key).alias("unique_id"), ds="date", y=name)
        for key, name, a, b in zip(ids, ("HUFL", "MUFL", "OT"), first, last, strict=True)
    ]
    return pl.concat(parts)


def numbers(frame: Any) -> np.ndarray:
    """The forecast columns of a long result."""
    return frame[[name for name in frame.columns if name.startswith("yhat")]].to_numpy()


# One forecast, many ways to ask for it


def test_command_python_call_run_and_pyfunc_give_the_same_numbers(
    run: Run, served: mlflow.pyfunc.PyFuncModel, desk: Path
) -> None:
    address, levels = f"runs:/{run.id}/forecaster", (80, 95)
    TABLE.write_parquet("data.parquet")
    assert main(["predict", address, "data.parquet", "-o", "out.parquet", "--levels", "80,95", "--quiet"]) == 0
    expected = pl.read_parquet("out.parquet")
    assert expected.shape == (len(VARIATES) * HORIZON, 7)
    params = {"levels": list(levels)}
    for way, found in {
        "path": forecast.predict(address, "data.parquet", levels=levels),
        "polars": forecast.predict(address, TABLE, levels=levels),
        "run": run.predict(TABLE, levels=levels),
        "folder": forecast.predict(str(locate(address)), TABLE, levels=levels),
        "pandas": pl.from_pandas(forecast.predict(address, TABLE.to_pandas(), levels=levels)),
        "pyfunc with pandas": pl.from_pandas(served.predict(TABLE.to_pandas(), params=params)),
        "pyfunc with polars": served.predict(TABLE, params=params),
    }.items():
        assert np.array_equal(numbers(found), numbers(expected)), way
        assert found["unique_id"].to_list() == expected["unique_id"].to_list(), way


def test_pyfunc_takes_horizon_and_wide_as_parameters(run: Run, served: mlflow.pyfunc.PyFuncModel) -> None:
    found = served.predict(TABLE, params={"horizon": 2, "wide": True})
    assert_frame_equal(found, run.predict(TABLE, horizon=2, wide=True))


def test_forecast_starts_one_step_after_the_data(run: Run) -> None:
    found = run.predict(TABLE)
    assert found["ds"].to_list() == [LAST + timedelta(hours=step + 1) for step in range(HORIZON)] * len(VARIATES)
    assert found["unique_id"].to_list() == [name for name in VARIATES for _ in range(HORIZON)]
    assert not np.isnan(numbers(found)).any()


def test_levels_become_columns_that_nest_around_the_forecast(run: Run) -> None:
    found = run.predict(TABLE, levels=(80, 95))
    names = ["yhat", "yhat_lo_80", "yhat_hi_80", "yhat_lo_95", "yhat_hi_95"]
    assert found.columns == ["unique_id", "ds", *names]
    yhat, low, high, lower, higher = numbers(found).T
    assert (lower <= low).all() and (low < yhat).all() and (yhat < high).all() and (high <= higher).all()


def test_shorter_horizon_is_a_slice_of_the_whole(run: Run) -> None:
    whole = run.predict(TABLE, levels=(80,))
    part = run.predict(TABLE, levels=(80,), horizon=2)
    assert_frame_equal(part, whole.filter(pl.col("ds") <= LAST + timedelta(hours=2)))


def test_longer_horizon_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="1 to 6 steps"):
        run.predict(TABLE, horizon=7)


def test_only_the_lookback_decides_the_forecast(run: Run) -> None:
    assert_frame_equal(run.predict(TABLE[-LOOKBACK:]), run.predict(TABLE))
    moved = TABLE.with_columns(pl.when(pl.int_range(300) == 300 - LOOKBACK).then(99.0).otherwise("OT").alias("OT"))
    assert not np.allclose(numbers(run.predict(moved)), numbers(run.predict(TABLE)))


def test_row_order_does_not_matter(run: Run) -> None:
    assert_frame_equal(run.predict(TABLE.sample(fraction=1, shuffle=True, seed=1)), run.predict(TABLE))
    table = long("abc")
    model = model_of(table)
    assert_frame_equal(model.predict(table.sample(fraction=1, shuffle=True, seed=1)), model.predict(table))


def test_batch_size_and_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    table = long("abc", first=(0, 5, 9))
    model = model_of(table)
    assert model.schema.layout == "channels"
    expected = numbers(model.predict(table))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        monkeypatch.setattr(inference, "_BATCH", 1)
        found = numbers(model.predict(table))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# Output


def test_wide_output_holds_the_numbers_of_the_long_one(run: Run) -> None:
    table = long("abc")
    for model, given, axis, names in ((run, TABLE, "date", VARIATES), (model_of(table), table, "ds", list("abc"))):
        found = model.predict(given, wide=True, levels=(80,))
        assert found.columns == [axis, *(f"{name}{part}" for part in ("", "_lo_80", "_hi_80") for name in names)]
        expected = model.predict(given, levels=(80,))
        for name in names:
            of_one = expected.filter(pl.col("unique_id") == name)
            assert found[name].to_list() == of_one["yhat"].to_list()
            assert found[f"{name}_hi_80"].to_list() == of_one["yhat_hi_80"].to_list()


def test_series_on_different_axes_cannot_be_written_wide() -> None:
    table = long("abc", last=(200, 190, 200))
    with pytest.raises(UsageError, match="wide"):
        model_of(table).predict(table, wide=True)


def test_csv_and_parquet_hold_the_same_forecast(run: Run, desk: Path) -> None:
    address = f"runs:/{run.id}/forecaster"
    TABLE.write_csv("data.csv")
    for name in ("out.csv", "out.parquet"):
        assert main(["predict", address, "data.csv", "-o", name, "--levels", "80", "--quiet"]) == 0
    csv, parquet = pl.read_csv("out.csv", try_parse_dates=True), pl.read_parquet("out.parquet")
    assert csv.columns == ["unique_id", "ds", "yhat", "yhat_lo_80", "yhat_hi_80"]
    assert csv["ds"][0] == LAST + timedelta(hours=1)
    assert np.array_equal(numbers(csv), numbers(parquet))
    # The output of one job can be the input of the next: wide files are tables of the same columns.
    assert main(["predict", address, "data.csv", "-o", "wide.csv", "--wide", "--quiet"]) == 0
    assert pl.read_csv("wide.csv").columns == TABLE.columns


def test_frames_come_back_in_the_library_given(run: Run, desk: Path) -> None:
    TABLE.write_csv("data.csv")
    assert isinstance(run.predict(TABLE), pl.DataFrame)
    assert isinstance(run.predict(TABLE.lazy()), pl.DataFrame)
    assert isinstance(run.predict("data.csv"), pl.DataFrame)
    assert isinstance(run.predict(TABLE.to_pandas()), pd.DataFrame)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    name: str, run: Run, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource", reason="no limits on file sizes here")
    TABLE.write_parquet("data.parquet")
    (desk / name).write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    address = str(locate(f"runs:/{run.id}/forecaster"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # what a full disk does
        code = main(["predict", address, "data.parquet", "-o", name])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    what, _ = capsys.readouterr().err.rstrip("\n").split("\n")
    assert name in what
    assert (desk / name).read_text() == "old"
    assert sorted(path.name for path in desk.iterdir()) == sorted(["data.parquet", name])


def test_write_killed_midway_leaves_the_old_file(desk: Path) -> None:
    (desk / "out.csv").write_text("old")
    code = (
        "import os, signal, polars\nfrom forecast.data import table\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "table.write(polars.DataFrame({'a': [1]}), 'out.csv')"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert (desk / "out.csv").read_text() == "old"
    left = [path.name for path in desk.iterdir() if path.name != "out.csv"]
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)  # no job reads these


# Types of ids and times

IDS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "integers": lambda table: table.with_columns(pl.col("unique_id").replace_strict({"a": 7, "b": 30, "c": 100})),
    "text": lambda table: table,
    "categories": lambda table: table.with_columns(pl.col("unique_id").cast(pl.Categorical)),
    "an enum": lambda table: table.with_columns(pl.col("unique_id").cast(pl.Enum(["c", "b", "a"]))),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("aligned", [True, False], ids=["panel", "channels"])
def test_ids_come_back_in_their_type(kind: str, aligned: bool) -> None:
    plain = long("abc", last=(200, 200, 200) if aligned else (200, 190, 180))
    table = IDS[kind](plain)
    model = model_of(table)
    assert model.schema.layout == ("panel" if aligned else "channels")
    found = model.predict(table)
    assert found["unique_id"].dtype == table["unique_id"].dtype
    assert set(found["unique_id"]) == set(table["unique_id"])
    in_pandas = model.predict(table.to_pandas())
    if kind == "integers":
        assert in_pandas["unique_id"].dtype == np.int64
    expected = model_of(plain).predict(plain)
    by_value = {
        float(np.float32(frame["yhat"][0])): str(frame["unique_id"][0]) for frame in expected.partition_by("unique_id")
    }
    for frame in found.partition_by("unique_id"):  # each series keeps its own forecast whatever the order of ids
        asked = by_value[float(np.float32(frame["yhat"][0]))]
        assert str(frame["unique_id"][0]) == {"a": "7", "b": "30", "c": "100"}.get(asked, asked) or kind != "integers"


HOURS = 240  # from Friday 22 March 2024, over the change to summer time in Berlin on 31 March, 02:00
TIMES: dict[str, tuple[pl.Series, Any]] = {
    "UTC": (
        pl.datetime_range(
            datetime(2024, 3, 22), interval="1h", end=datetime(2024, 3, 31, 23), time_zone="UTC", eager=True
        ),
        "2024-04-01 00:00:00+00:00",
    ),
    "Berlin, hours": (
        pl.datetime_range(
            datetime(2024, 3, 21, 2), interval="1h", end=datetime(2024, 3, 31, 1), eager=True
        ).dt.replace_time_zone("Europe/Berlin"),
        "2024-03-31 03:00:00+02:00",
    ),
    "Berlin, days": (
        pl.datetime_range(
            datetime(2023, 8, 3), interval="1d", end=datetime(2024, 3, 29), eager=True
        ).dt.replace_time_zone("Europe/Berlin"),
        "2024-03-30 00:00:00+01:00",
    ),
    "ISO strings": (
        pl.datetime_range(datetime(2024, 3, 22), interval="1h", end=datetime(2024, 3, 31, 23), eager=True).dt.strftime(
            "%Y-%m-%dT%H:%M:%S"
        ),
        "2024-04-01T00:00:00",
    ),
    "dates": (pl.date_range(date(2023, 8, 3), date(2024, 3, 29), eager=True), "2024-03-30"),
    "nanoseconds": (
        pl.datetime_range(
            datetime(2024, 3, 22), interval="1h", end=datetime(2024, 3, 31, 23), time_unit="ns", eager=True
        ),
        "2024-04-01 00:00:00",
    ),
    "milliseconds": (
        pl.datetime_range(
            datetime(2024, 3, 22), interval="1h", end=datetime(2024, 3, 31, 23), time_unit="ms", eager=True
        ),
        "2024-04-01 00:00:00",
    ),
    "integers": (pl.int_range(HOURS, eager=True), "240"),
    "months": (pl.date_range(date(2004, 4, 1), date(2024, 3, 1), "1mo", eager=True), "2024-04-01"),
    "month ends": (
        pl.date_range(date(2004, 4, 1), date(2024, 3, 1), "1mo", eager=True).dt.month_end(),
        "2024-04-30",
    ),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_come_back_in_their_type_one_step_on(kind: str) -> None:
    times, first = TIMES[kind]
    table = pl.DataFrame({"ds": times[-HOURS:], "y": TABLE["OT"][:HOURS]})
    model = model_of(table)
    found = model.predict(table)
    assert found["ds"].dtype == times.dtype
    assert str(found["ds"][0]) == first
    every = table["ds"].extend(found["ds"]) if times.dtype != pl.String else None
    if kind == "Berlin, days":  # midnights, on both sides of the change
        assert set(every.dt.hour()) == {0}
    elif kind == "Berlin, hours":
        assert set(every.diff().drop_nulls()) == {timedelta(hours=1)}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_pandas_times_come_back_in_their_unit_and_zone(unit: str, zone: str | None) -> None:
    times = pd.date_range("2024-03-25", periods=200, freq="h", unit=unit, tz=zone)
    table = pd.DataFrame({"ds": times, "y": TABLE["OT"][:200].to_numpy()})
    found = model_of(table).predict(table)
    assert found["ds"].iloc[0] == times[-1] + pd.Timedelta(hours=1)
    assert str(getattr(found["ds"].dt, "tz", None)) == str(zone)
    assert found["ds"].dt.unit == ("ms" if unit == "s" else unit)  # polars, in between, has no seconds


TYPED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "integer values": lambda table: table.assign(y=table["y"].round().astype("int64")),
    "nullable integer values": lambda table: table.assign(y=table["y"].round().astype("Int64")),
    "integer ids": lambda table: table.assign(unique_id=table["unique_id"].map(ord)),
    "categories as ids": lambda table: table.assign(unique_id=table["unique_id"].astype("category")),
    "times in UTC": lambda table: table.assign(ds=table["ds"].dt.tz_localize("UTC")),
    "times in Berlin": lambda table: table.assign(ds=table["ds"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")),
    "ISO strings": lambda table: table.assign(ds=table["ds"].dt.strftime("%Y-%m-%d %H:%M:%S")),
    "times in seconds": lambda table: table.assign(ds=table["ds"].astype("datetime64[s]")),
    "times in nanoseconds": lambda table: table.assign(ds=table["ds"].astype("datetime64[ns]")),
    "further columns": lambda table: table.assign(note="x", price=1.5),
}


@pytest.fixture(scope="module")
def long_run(store: Path) -> tuple[Run, mlflow.pyfunc.PyFuncModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        run = forecast.fit(long("abc"), "linear", lookback=LOOKBACK, horizon=HORIZON)
        return run, mlflow.pyfunc.load_model(f"runs:/{run.id}/forecaster")


@pytest.mark.parametrize("kind", TYPED)
def test_pyfunc_takes_the_types_that_predict_takes(kind: str, long_run: tuple[Run, mlflow.pyfunc.PyFuncModel]) -> None:
    run, served = long_run
    table = TYPED[kind](long("abc").to_pandas())
    found = served.predict(table)
    pd.testing.assert_frame_equal(found, run.predict(table))
    assert len(found) == 3 * HORIZON
    if "values" not in kind and "ids" not in kind:  # ids that differ from the trained ones are new series
        assert np.array_equal(numbers(found), numbers(run.predict(long("abc"))))


# Series that differ from the trained ones


def test_unaligned_series_are_each_forecast_after_their_own_end() -> None:
    table = long("abc", first=(0, 10, 20), last=(200, 190, 180))
    found = model_of(table).predict(table)
    ends = {key: frame["ds"].min() for (key,), frame in found.group_by("unique_id")}
    assert ends == {"a": TABLE["date"][200], "b": TABLE["date"][190], "c": TABLE["date"][180]}


def test_unaligned_series_are_forecast_alone_as_together() -> None:
    table = long("abc", first=(0, 10, 20))
    model = model_of(table)
    together = model.predict(table, levels=(80,))
    for key in "abc":
        alone = model.predict(table.filter(pl.col("unique_id") == key), levels=(80,))
        assert_frame_equal(alone, together.filter(pl.col("unique_id") == key), rel_tol=1e-5)


def test_unseen_id_is_scaled_by_its_own_values() -> None:
    table = long("abc", first=(0, 10, 20))
    model = model_of(table)
    other = table.filter(pl.col("unique_id") == "a").with_columns(pl.lit("new").alias("unique_id"))
    found = numbers(model.predict(other, levels=(80,)))
    times_ten = numbers(model.predict(other.with_columns(pl.col("y") * 10), levels=(80,)))
    np.testing.assert_allclose(times_ten, 10 * found, rtol=1e-4)
    assert (found[:, 1] < found[:, 0]).all()


def test_unseen_id_joins_a_panel() -> None:
    table = long("abc")
    new = table.filter(pl.col("unique_id") == "b").with_columns(pl.lit("new").alias("unique_id"))
    found = model_of(table).predict(pl.concat([table, new]), levels=(80,))
    assert found["unique_id"].unique(maintain_order=True).to_list() == ["a", "b", "c", "new"]
    assert np.isfinite(numbers(found)).all()


def test_series_of_a_panel_may_be_missing_or_end_early() -> None:
    table = long("abc")
    model = model_of(table)
    found = model.predict(table.filter(pl.col("unique_id") != "b"))
    assert found["unique_id"].unique().sort().to_list() == ["a", "c"]
    early = long("abc", last=(200, 195, 200))
    found = model.predict(early)
    assert set(found["ds"].unique()) == {TABLE["date"][200 + step] for step in range(HORIZON)}
    assert np.isfinite(numbers(found)).all()


@pytest.mark.parametrize("rows", [1, 2, LOOKBACK - 1])
def test_series_shorter_than_the_lookback_is_forecast(rows: int, run: Run) -> None:
    found = run.predict(TABLE[:rows])
    assert found["ds"][0] == TABLE["date"][rows]
    assert np.isfinite(numbers(found)).all()


def test_missing_values_at_the_end_are_part_of_the_past(run: Run) -> None:
    holes = TABLE.with_columns(pl.when(pl.int_range(300) < 295).then("OT").alias("OT"))
    found = run.predict(holes)
    assert found["ds"][0] == LAST + timedelta(hours=1)
    assert np.isfinite(numbers(found)).all()
    assert not np.array_equal(numbers(found), numbers(run.predict(TABLE)))
    nothing = run.predict(TABLE.with_columns(pl.lit(None, dtype=pl.Float64).alias("OT")))
    assert np.isfinite(numbers(nothing)).all()


def test_fewer_variates_than_trained_are_forecast(run: Run) -> None:
    found = run.predict(TABLE.drop("MULL", "OT"))
    assert found["unique_id"].unique(maintain_order=True).to_list() == [n for n in VARIATES if n not in ("MULL", "OT")]
    assert np.isfinite(numbers(found)).all()


def test_more_variates_than_trained_are_forecast(run: Run) -> None:
    more = TABLE.with_columns((TABLE["OT"] * 100 + 5).alias("NEW"))
    found = run.predict(more, levels=(80,))
    assert found["unique_id"].unique(maintain_order=True).to_list() == [*VARIATES, "NEW"]
    assert np.isfinite(numbers(found)).all()
    of_new = numbers(found.filter(pl.col("unique_id") == "NEW"))
    low, high = more["NEW"].min(), more["NEW"].max()
    assert (of_new[:, 0] > low - (high - low)).all() and (of_new[:, 0] < high + (high - low)).all()


def test_columns_left_out_at_the_fit_stay_left_out() -> None:
    model = model_of(TABLE, target=("OT",), variates=("HUFL",))
    assert model.predict(TABLE)["unique_id"].unique().to_list() == ["OT"]
    assert_frame_equal(model.predict(TABLE), model.predict(TABLE.select("date", "OT", "HUFL")))


def test_order_of_the_columns_does_not_matter(run: Run) -> None:
    assert_frame_equal(run.predict(TABLE.select(reversed(TABLE.columns))), run.predict(TABLE))


def test_table_without_the_time_or_any_trained_column_is_refused(run: Run) -> None:
    with pytest.raises(DataError, match="date"):
        run.predict(TABLE.drop("date"))
    with pytest.raises(DataError, match="trained columns"):
        run.predict(TABLE.select("date", pl.col("OT").alias("other")))


@pytest.mark.skipif(not M4.exists(), reason="the shared data are not here")
def test_hourly_series_of_m4_are_forecast_with_their_own_ids() -> None:
    every = pl.read_parquet(M4)
    names = every.columns
    ids = every[names[0]].unique(maintain_order=True)[:5]
    table = every.filter(pl.col(names[0]).is_in(ids.to_list()))
    found = model_of(table, "linear").predict(table, levels=(80,))
    assert found["unique_id"].dtype == table[names[0]].dtype
    assert set(found["unique_id"]) == set(ids)
    assert len(found) == 5 * HORIZON
    assert np.isfinite(numbers(found)).all()


def test_airline_passengers_are_forecast_for_1961(desk: Path) -> None:
    run = forecast.fit("airpassengers", "seasonal-naive", lookback=24, horizon=12)
    given = pl.read_csv(ROOT / "datasets" / "AirPassengers.csv")
    found = run.predict(given)
    assert found["ds"].cast(pl.String).str.head(7).to_list() == [f"1961-{month:02}" for month in range(1, 13)]
    np.testing.assert_allclose(numbers(found)[:, 0], given.to_series(-1)[-12:].to_numpy(), rtol=1e-5)


# Interrupted fits

RESUMABLE = (*SMALL, "train.epochs=5", "train.patience=5")


@pytest.fixture(scope="module")
def unbroken(store: Path) -> dict[str, torch.Tensor]:
    """Weights of a fit with the settings of the interrupted ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        run = forecast.fit(TABLE, "itransformer", lookback=LOOKBACK, horizon=HORIZON, settings=RESUMABLE)
        return weights(run.id)


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_file(locate(f"runs:/{run}/forecaster") / "artifacts" / "fitted" / "model.safetensors")


class Watch:
    """Progress of a fit that lets `act` loose in a thread once its run has a checkpoint newer than the start."""

    def __init__(self, store: Path, act: Callable[[], None]) -> None:
        self.store, self.act, self.known = store, act, checkpoints(store)

    def understood(self, facts: Any) -> None: ...
    def epoch(self, number: int, values: Any) -> None: ...
    def scored(self, document: Any) -> None: ...
    def stage(self, text: str) -> None:
        if text.startswith("training"):
            threading.Thread(target=self._wait).start()

    def _wait(self) -> None:
        while not checkpoints(self.store) - self.known:
            time.sleep(0.005)
        self.act()


def checkpoints(store: Path) -> set[Path]:
    return set(store.glob("mlruns/*/artifacts/checkpoint/last.ckpt"))


def resume_and_compare(checkpoint: Path, unbroken: dict[str, torch.Tensor]) -> None:
    """Resume the run of `checkpoint`, which must end as if nothing had happened."""
    run = checkpoint.parents[2].name
    with pytest.raises(ArtifactError, match="cannot be resolved"):  # nothing half-written is picked up
        forecast.predict(f"runs:/{run}/forecaster", TABLE)
    assert main(["fit", "--resume", run, "--quiet"]) == 0
    resumed = weights(run)
    assert resumed.keys() == unbroken.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(resumed[name], tensor), name
    assert mlflow.MlflowClient().get_run(run).info.status == "FINISHED"
    assert not checkpoint.exists()
    with pytest.raises(UsageError, match="is finished"):
        forecast.fit(resume=run)


def test_fit_killed_in_training_resumes_to_the_weights_of_an_unbroken_one(
    unbroken: dict[str, torch.Tensor], store: Path, desk: Path
) -> None:
    TABLE.write_parquet("data.parquet")
    command = [sys.executable, "-m", "forecast", "fit", "data.parquet", "--model", "itransformer", "--quiet"]
    command += ["--lookback", str(LOOKBACK), "--horizon", str(HORIZON)]
    known, found = checkpoints(store), set[Path]()
    child = subprocess.Popen([*command, *(part for setting in RESUMABLE for part in ("--set", setting))])
    while child.poll() is None and not found:
        time.sleep(0.01)
        found = checkpoints(store) - known
    child.kill()
    assert child.wait() == -signal.SIGKILL, "the fit ended before it could be killed"
    (checkpoint,) = found
    assert mlflow.MlflowClient().get_run(checkpoint.parents[2].name).info.status == "RUNNING"  # nobody hears a SIGKILL
    resume_and_compare(checkpoint, unbroken)


def test_sigterm_in_training_marks_the_run_killed_and_it_resumes(
    unbroken: dict[str, torch.Tensor], store: Path, desk: Path
) -> None:
    TABLE.write_parquet("data.parquet")
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # should the signal come too late
    watch = Watch(store, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as stopped:
            forecast.fit(
                "data.parquet", "itransformer", lookback=LOOKBACK, horizon=HORIZON, settings=RESUMABLE, progress=watch
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
    (checkpoint,) = checkpoints(store) - watch.known
    assert mlflow.MlflowClient().get_run(checkpoint.parents[2].name).info.status == "KILLED"
    resume_and_compare(checkpoint, unbroken)


def test_resume_with_other_data_is_refused(store: Path, desk: Path) -> None:
    client = mlflow.MlflowClient()
    interrupted: list[str] = []

    class InterruptionError(Exception):
        """Not one of ours."""

    class Stop:
        def understood(self, facts: Any) -> None: ...
        def scored(self, document: Any) -> None: ...
        def stage(self, text: str) -> None:
            if text.startswith("training"):
                interrupted.append(mlflow.active_run().info.run_id)
                raise InterruptionError

    with pytest.raises(InterruptionError):
        forecast.fit(TABLE, "linear", lookback=LOOKBACK, horizon=HORIZON, progress=Stop())
    (run,) = interrupted
    assert client.get_run(run).info.status == "FAILED"
    with pytest.raises(DataError, match=run):
        forecast.fit(TABLE[1:], resume=run)
    assert forecast.fit(TABLE, resume=run).id == run
    assert client.get_run(run).info.status == "FINISHED"
    assert os.listdir(desk) == []


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.task == "series"])
def test_every_model_fits_is_tracked_and_forecasts_alike_with_the_code_stored_beside_it(name: str) -> None:
    fields = config_class(find(name)).__dataclass_fields__
    small = [pair for pair in (*SMALL, *ON_GRAPH) if pair.partition("=")[0].removeprefix("model.") in fields]
    settings = [*small, "train.epochs=1", "train.epoch_batches=[2,2]"]
    fitted = forecast.fit(TABLE, name, lookback=LOOKBACK, horizon=HORIZON, settings=settings)
    # Up to rounding: a fast kernel may run here that a stored model does without.
    stored = forecast.predict(f"runs:/{fitted.id}/forecaster", TABLE)
    np.testing.assert_allclose(numbers(stored), numbers(fitted.predict(TABLE)), rtol=1e-4, atol=1e-5)
