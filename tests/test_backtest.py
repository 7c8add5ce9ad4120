"""Backtests: each forecast is what its model says of the rows up to its cutoff, and scores are plain arithmetic."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import forecast
from forecast import tracking
from forecast.backtested import Backtest
from forecast.cli import main
from forecast.config import resolve
from forecast.errors import DataError, UsageError
from forecast.fitted import Fitted
from forecast.prepare import prepare, read
from forecast.series import as_fitted, solved_baseline

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300).select("date", "HUFL", "OT")
LOOKBACK, HORIZON = 24, 6
TINY = ("model.d_model=8", "model.d_ff=8", "model.heads=2", "model.layers=1", "train.epochs=1")
FORECASTS = ("yhat", "yhat_lo_80", "yhat_hi_80", "naive", "seasonal-naive", "linear")

pytestmark = pytest.mark.usefixtures("desk")


def stored(data: Any, name: str = "linear", **options: Any) -> Fitted:
    """A fitted model without a run."""
    chosen = {"lookback": LOOKBACK, "horizon": HORIZON, **options}
    prepared = prepare(read(resolve(name, flags={"data": chosen}), data))
    return as_fitted(solved_baseline(name, prepared), prepared)


def cutoffs(found: Backtest) -> list[Any]:
    return found.table["cutoff"].unique().sort().to_list()


def shops(lengths: tuple[int, ...] = (300, 240, 270)) -> pl.DataFrame:
    """Long rows of real series that end at different times; ids are numbers."""
    columns = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300)
    return pl.concat(
        pl.DataFrame(
            {"shop": [number] * length, "ds": columns["date"][:length], "y": columns.to_series(number)[:length]}
        )
        for number, length in enumerate(lengths, start=1)
    )


def fitting(data: Any, model: str, **options: Any) -> Backtest:
    return forecast.backtest(data, model, lookback=LOOKBACK, horizon=HORIZON, levels=(80,), settings=TINY, **options)


@pytest.fixture(scope="module")
def place(store: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        yield


@pytest.fixture(scope="module")
def refitted(place: None) -> Backtest:
    """A tiny network, fitted anew at each of two cutoffs."""
    return fitting(TABLE, "itransformer", windows=2, step=10, refit=True)


@pytest.fixture(scope="module")
def once(place: None) -> Backtest:
    """A tiny network, fitted before the first of three cutoffs."""
    return fitting(TABLE, "itransformer", windows=3)


# What is forecast


def test_forecasts_of_a_stored_model_are_what_it_says_of_the_rows_up_to_each_cutoff() -> None:
    model = stored(TABLE[:200])
    found = forecast.backtest(TABLE, model, windows=4, step=9, levels=(80,))
    assert cutoffs(found) == [TABLE["date"][299 - HORIZON - 9 * back] for back in (3, 2, 1, 0)]
    for cutoff in cutoffs(found):
        rows = found.table.filter(pl.col("cutoff") == cutoff)
        alone = model.predict(TABLE.filter(pl.col("date") <= cutoff), levels=(80,))
        assert_frame_equal(rows.select(alone.columns), alone, check_exact=True)
        answers = TABLE.filter(pl.col("date") > cutoff)[:HORIZON]
        assert rows["ds"].to_list() == answers["date"].to_list() * 2
        np.testing.assert_array_equal(
            rows["y"].to_numpy(), answers.select("HUFL", "OT").to_numpy().T.reshape(-1).astype(np.float32)
        )


def spoilt(cutoff: Any) -> pl.DataFrame:
    late = pl.col("date") > cutoff
    return TABLE.with_columns(
        pl.when(late).then(1e6 * pl.col("OT") + 3).otherwise(pl.col(name)).alias(name) for name in ("HUFL", "OT")
    )


def same(cutoff: Any, honest: Backtest, other: Backtest) -> None:
    """Forecasts, intervals and baselines from cutoffs up to there are the same to the last bit."""
    columns = ["unique_id", "cutoff", "ds", *(name for name in FORECASTS if name in honest.table.columns)]
    one, two = (run.table.filter(pl.col("cutoff") <= cutoff).select(columns) for run in (honest, other))
    assert len(one) == 2 * HORIZON * (cutoffs(honest).index(cutoff) + 1)
    assert_frame_equal(one, two, check_exact=True)


def test_nothing_after_a_cutoff_reaches_its_forecast_when_fitted_anew(refitted: Backtest) -> None:
    cutoff = cutoffs(refitted)[0]
    same(cutoff, refitted, fitting(spoilt(cutoff)[:-10], "itransformer", windows=1, refit=True))


@pytest.mark.slow
def test_nothing_after_a_cutoff_reaches_its_forecast_when_fitted_once(once: Backtest) -> None:
    same(cutoffs(once)[1], once, fitting(spoilt(cutoffs(once)[1]), "itransformer", windows=3))


def test_nothing_after_a_cutoff_reaches_the_forecast_of_a_stored_model() -> None:
    model = stored(TABLE[:200])
    honest = forecast.backtest(TABLE, model, windows=4, levels=(80,))
    cutoff = cutoffs(honest)[1]
    same(cutoff, honest, forecast.backtest(spoilt(cutoff), model, windows=4, levels=(80,)))


def test_refit_learns_from_the_rows_up_to_each_cutoff_and_no_others(
    refitted: Backtest, client: mlflow.MlflowClient
) -> None:
    runs = [window["run"] for window in refitted.document["windows"]]
    assert len(set(runs)) == 2
    for run, cutoff in zip(runs, cutoffs(refitted), strict=True):
        document = json.loads(tracking.run_text(run, "fit.json"))
        assert document["data"]["span"][1] == cutoff.isoformat()
        assert document["data"]["rows"] == len(TABLE.filter(pl.col("date") <= cutoff))
        tags = client.get_run(run).data.tags
        assert (tags["mlflow.parentRunId"], tags["forecast.kind"]) == (refitted.run, "backtest-fit")
        model = forecast.prediction.opened(f"runs:/{run}/forecaster")
        rows = refitted.table.filter(pl.col("cutoff") == cutoff)
        alone = model.predict(TABLE.filter(pl.col("date") <= cutoff), levels=(80,))
        np.testing.assert_allclose(rows["yhat"].to_numpy(), alone["yhat"].to_numpy(), rtol=1e-6)


def test_without_refit_one_fit_serves_all_windows(once: Backtest) -> None:
    assert len({window["run"] for window in once.document["windows"]}) == 1
    document = json.loads(tracking.run_text(once.document["windows"][0]["run"], "fit.json"))
    assert document["data"]["span"][1] == cutoffs(once)[0].isoformat()
    assert document["windows"]["test"] == 1  # its own test part is one horizon: the windows are the test


def test_series_are_cut_from_their_own_ends_and_ids_keep_their_type() -> None:
    table = shops()
    found = forecast.backtest(table.to_pandas(), stored(table[:700]), windows=2)
    assert isinstance(found.table, pd.DataFrame)
    rows = pl.from_pandas(found.table)
    assert rows["unique_id"].dtype.is_integer()
    for shop, end in zip((1, 2, 3), (300, 240, 270), strict=True):
        times = table.filter(pl.col("shop") == shop)["ds"]
        own = rows.filter(pl.col("unique_id") == shop)
        assert own["cutoff"].unique().sort().to_list() == [times[end - 1 - 2 * HORIZON], times[end - 1 - HORIZON]]
        assert own["ds"].to_list() == times[-2 * HORIZON :].to_list()


def test_series_without_a_lookback_at_a_cutoff_is_not_scored_there() -> None:
    table = shops((300, 33))  # the second has room for one window of 24 + 6 alone
    found = forecast.backtest(table, stored(table, id_col="shop"), windows=2)
    assert [window["series"] for window in found.document["windows"]] == [1, 2]


def test_cutoff_on_a_missing_row_moves_to_the_last_measured_one_before() -> None:
    gaps = TABLE.filter(~pl.col("date").is_in(TABLE["date"][291:294].implode()))
    found = forecast.backtest(gaps, stored(TABLE), windows=1)
    assert cutoffs(found) == [TABLE["date"][290]]
    assert found.table["y"].to_list()[:3] == [None, None, None]


def test_known_covariates_keep_their_later_rows_and_other_columns_do_not() -> None:
    table = TABLE.with_columns(promo=pl.Series(np.arange(300) % 7 == 0).cast(pl.Int8))
    model = stored(table, target=("OT",), variates=("HUFL",), known_future=("promo",))
    found = forecast.backtest(table, model, windows=2)
    cutoff = cutoffs(found)[0]
    late = pl.col("date") > cutoff
    blank = table.with_columns(pl.when(late).then(None).otherwise(pl.col(c)).alias(c) for c in ("HUFL", "OT"))
    alone = model.predict(blank)
    rows = found.table.filter(pl.col("cutoff") == cutoff)
    assert rows["yhat"].to_list() == alone["yhat"].to_list()


@pytest.mark.slow
def test_published_data_are_cut_by_window_and_not_by_their_borders() -> None:
    found = forecast.backtest("etth1", "naive", windows=2, horizon=24, lookback=24)
    assert found.document["data"]["rows"] == 17420
    assert [window["cutoff"] for window in found.document["windows"]] == ["2018-06-24 19:00:00", "2018-06-25 19:00:00"]


# Scores


def test_scores_are_those_of_plain_arithmetic_on_the_table(refitted: Backtest) -> None:
    values = TABLE.select("HUFL", "OT").to_numpy().astype(np.float32).astype(np.float64)
    before = values[: 299 - HORIZON - 10 + 1]  # the rows up to the first cutoff
    std = before.std(axis=0)
    naive = np.abs(before[24:] - before[:-24]).mean(axis=0)  # the season of hours
    rows = refitted.table.with_columns(variate=pl.col("unique_id").replace_strict({"HUFL": 0, "OT": 1}))
    windows = [*refitted.document["windows"], refitted.document]
    for number, window in enumerate(windows):
        part = rows if number == 2 else rows.filter(pl.col("cutoff") == cutoffs(refitted)[number])
        which = part["variate"].to_numpy()
        for who, column in (("itransformer", "yhat"), ("naive", "naive"), ("linear", "linear")):
            error = part[column].to_numpy() - part["y"].to_numpy()
            scores = window["scores"][who]
            assert scores["scaled"]["mse"] == pytest.approx(((error / std[which]) ** 2).mean(), rel=1e-6)
            assert scores["scaled"]["mae"] == pytest.approx(np.abs(error / std[which]).mean(), rel=1e-6)
            assert scores["original"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
            assert scores["original"]["rmse"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-6)
            assert scores["original"]["mase"] == pytest.approx((np.abs(error) / naive[which]).mean(), rel=1e-6)
        inside = (part["yhat_lo_80"] <= part["y"]) & (part["y"] <= part["yhat_hi_80"])
        assert window["coverage"] == {"80": pytest.approx(inside.mean())}


def test_naive_column_repeats_the_value_at_the_cutoff(refitted: Backtest) -> None:
    for cutoff in cutoffs(refitted):
        last = TABLE.row(by_predicate=pl.col("date") == cutoff, named=True)
        rows = refitted.table.filter(pl.col("cutoff") == cutoff)
        for name in ("HUFL", "OT"):
            assert rows.filter(pl.col("unique_id") == name)["naive"].to_list() == pytest.approx([last[name]] * HORIZON)


def test_windows_that_a_stored_model_was_trained_on_are_told_apart() -> None:
    model = stored(TABLE[:200])  # trained on 140 rows, saw 200
    found = forecast.backtest(TABLE, model, windows=9, step=20)
    ends = [299 - HORIZON - 20 * back for back in range(8, -1, -1)]
    expected = ["training" if end < 139 else "fit" if end < 199 else "no" for end in ends]
    assert [window["seen"] for window in found.document["windows"]] == expected
    assert {"training", "fit", "no"} == set(expected) == set(found.table["seen"])
    assert "in training" in found.text() and "say nothing about forecasts of the future" in found.text()


def test_series_that_end_at_different_times_leave_open_what_a_fit_had_seen() -> None:
    table = shops((300, 150, 270))  # the second was not trained on after its row 105, the first was until 210
    found = forecast.backtest(table, stored(table), windows=1)
    assert found.document["windows"][0]["seen"] == "unknown"
    assert "unknown" in found.text()


# Tracking


def test_run_keeps_the_table_the_document_and_the_scores(refitted: Backtest, client: mlflow.MlflowClient) -> None:
    run = client.get_run(refitted.run)
    assert (run.info.status, run.data.tags["forecast.kind"]) == ("FINISHED", "backtest")
    assert json.loads(tracking.run_text(refitted.run, "backtest.json")) == refitted.document
    kept = pl.read_csv(tracking.run_text(refitted.run, "backtest.csv").encode(), try_parse_dates=True)
    assert_frame_equal(kept, refitted.table, check_dtypes=False)
    assert run.data.metrics["test.mse"] == refitted.scores["itransformer"]["scaled"]["mse"]
    history = client.get_metric_history(refitted.run, "window.test.mse")
    assert [point.value for point in history] == [
        window["scores"]["itransformer"]["scaled"]["mse"] for window in refitted.document["windows"]
    ]


# Errors and the command line


def test_what_cannot_be_done_is_refused_before_anything_is_tracked(client: mlflow.MlflowClient) -> None:
    model = stored(TABLE[:200])
    before = len(client.search_runs([e.experiment_id for e in client.search_experiments()]))
    with pytest.raises(DataError, match=r"50 windows of 6 steps.* need 324 rows; the longest series has 300") as error:
        forecast.backtest(TABLE, "linear", windows=50, horizon=6, lookback=24)
    assert "--windows" in error.value.hint
    with pytest.raises(DataError, match="up to the first cutoff"):
        forecast.backtest(TABLE, "linear", windows=45, horizon=6, lookback=24)
    for wrong in ({"refit": True}, {"lookback": 48}, {"settings": TINY}):
        with pytest.raises(UsageError, match="is for a model that is fitted"):
            forecast.backtest(TABLE, model, **wrong)
    with pytest.raises(UsageError, match="forecasts 1 to 6 steps"):
        forecast.backtest(TABLE, model, horizon=7)
    with pytest.raises(UsageError, match="Level 20"):
        forecast.backtest(TABLE, model, levels=(20,))
    with pytest.raises(UsageError, match="There is no model called 'itransformr'"):
        forecast.backtest(TABLE, "itransformr")
    with pytest.raises(UsageError, match="darts-gt learns graphs here"):
        forecast.backtest(TABLE, "darts-gt", settings=["data.kind=graphs"])
    with pytest.raises(UsageError, match="--step 0"):
        forecast.backtest(TABLE, model, step=0)
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == before


def test_command_writes_the_table_and_prints_one_document(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(TABLE[:200]).save(desk / "model")
    TABLE.write_csv("data.csv")
    command = ["backtest", "data.csv", "--model", "model", "--windows", "2", "--levels", "90"]
    assert main([*command, "-o", "out.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    table = pl.read_csv("out.csv")
    assert table.columns == [
        "unique_id", "cutoff", "ds", "y", "yhat", "yhat_lo_90", "yhat_hi_90", "naive", "seasonal-naive", "seen",
    ]  # fmt: skip
    assert document["output"] == "out.csv" and document["refit"] is None
    assert len(table) == 2 * 2 * HORIZON
    assert main([*command, "--step", "3"]) == 0
    out = capsys.readouterr().out
    assert "linear on data.csv: 2 windows of 6 steps, one every 3, a stored model" in out and "over all windows" in out
    assert main([*command, "--refit"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert main([*command, "-o", "data.csv"]) == 2
