"""Covariates: their future reaches every network, none of it is missing in silence, static features are looked up."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import forecast
from forecast.cli import main
from forecast.config import flags, resolve
from forecast.data.windows import Window, WindowShape
from forecast.errors import DataError, UsageError
from forecast.fitted import Fitted
from forecast.fitting import Run
from forecast.models.naive import Naive, NaiveConfig
from forecast.prepare import Prepared, prepare, read
from forecast.registry import BASELINES, MODELS, build, config_class, find
from forecast.scoring import score
from forecast.series import as_fitted, solved_baseline
from forecast.training import train

# Series with covariates are forecast one by one, which leaves nothing for a graph between them.
SERIES = [name for name, spec in MODELS.items() if spec.task == "series" and not spec.on_graph]
TRAINED = [name for name in SERIES if name not in BASELINES]
TINY = {"d_model": 16, "d_ff": 16, "heads": 2, "layers": 1}
LOOKBACK, HORIZON, ROWS = 12, 4, 400
TIMES = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(ROWS)]


def sales(rows: int = ROWS, ids: Sequence[str] = ("a", "b"), seed: int = 0) -> pl.DataFrame:
    """Sales that a promotion lifts on the same hour; promotions come at random, so only their plan tells them."""
    draw = np.random.default_rng(seed)
    parts = []
    for number, key in enumerate(ids):
        promo = (draw.random(rows) < 0.3).astype(float)
        y = 10 * (number + 1) + 5 * promo + 0.1 * draw.standard_normal(rows)
        parts.append(pl.DataFrame({"unique_id": key, "ds": TIMES[:rows], "y": y, "promo": promo}))
    return pl.concat(parts)


def split_at(table: pl.DataFrame, rows: int, horizon: int = HORIZON) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first `rows` rows of each series, and the plan of the `horizon` rows after them."""
    past = table.filter(pl.col("ds") < TIMES[rows])
    plan = table.filter(pl.col("ds").is_between(TIMES[rows], TIMES[rows + horizon - 1])).drop("y")
    return past, plan


def settings_of(name: str) -> list[str]:
    fields = config_class(find(name)).__dataclass_fields__
    return [f"model.{key}={value}" for key, value in TINY.items() if key in fields]


def prepared(table: Any, name: str, **options: Any) -> Prepared:
    given = {"lookback": LOOKBACK, "horizon": HORIZON, "known_future": ("promo",), "marks": "none", **options}
    return prepare(read(resolve(name, settings=settings_of(name), flags=flags(**given)), table))


def model_of(table: Any, name: str = "itransformer", **options: Any) -> Fitted:
    """A model with random weights, made without tracking."""
    made = prepared(table, name, **options)
    if name in BASELINES:
        return as_fitted(solved_baseline(name, made), made)
    torch.manual_seed(0)
    return as_fitted(build(find(name), made.shape, made.read.config.model, made.read.graph).eval(), made)


# What a fit takes from the table


def test_known_column_is_no_variate_and_stands_in_every_window_over_lookback_and_horizon() -> None:
    table = sales(ids=("a",))
    made = prepared(table, "itransformer")
    assert made.shape == WindowShape(LOOKBACK, HORIZON, 1, 1, 0, known=1)
    window, _, _, origin = made.test[torch.tensor([0, 5])]
    assert window.known.shape == (2, LOOKBACK + HORIZON, 1)
    mean, std = made.scaler.known[:, 0]
    for number, row in enumerate(origin.tolist()):
        expected = table["promo"].to_numpy()[row - LOOKBACK + 1 : row + HORIZON + 1]
        np.testing.assert_allclose(window.known[number, :, 0].numpy() * std + mean, expected, atol=1e-6)


def test_covariates_are_scaled_by_training_rows_of_all_series() -> None:
    table = sales()
    made = prepared(table, "itransformer", split=(0.5, 0.25, 0.25))
    training = table.filter(pl.col("ds") < TIMES[ROWS // 2])["promo"].to_numpy()
    np.testing.assert_allclose(made.scaler.known[:, 0], [training.mean(), training.std()], rtol=1e-6)
    loud = table.with_columns(promo=pl.when(pl.col("ds") >= TIMES[ROWS // 2]).then(1e6).otherwise("promo"))
    np.testing.assert_array_equal(
        prepared(loud, "itransformer", split=(0.5, 0.25, 0.25)).scaler.known, made.scaler.known
    )


def test_rows_that_only_plan_the_future_change_nothing_at_a_fit() -> None:
    past, plan = split_at(sales(), 300)
    config = resolve("linear", flags=flags(lookback=LOOKBACK, horizon=HORIZON, known_future=("promo",)))
    with_plan = pl.concat([past, plan], how="diagonal")
    assert read(config, with_plan).fingerprint == read(config, past).fingerprint


def test_covariates_are_part_of_the_fingerprint() -> None:
    table = sales()
    config = resolve("linear", flags=flags(lookback=LOOKBACK, horizon=HORIZON, known_future=("promo",)))
    other = table.with_columns(promo=1 - pl.col("promo"))
    assert read(config, table).fingerprint != read(config, other).fingerprint


def test_missing_covariates_of_the_past_read_as_the_mean_and_are_told() -> None:
    table = sales(ids=("a",)).with_columns(promo=pl.when(pl.col("ds") == TIMES[7]).then(None).otherwise("promo"))
    made = prepared(table, "itransformer")
    assert made.train.buffer.known[7].item() == 0.0
    assert [(w["kind"], w["column"], w["count"]) for w in made.read.facts["warnings"]] == [
        ("missing-covariate", "promo", 1)
    ]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"known_future": ("prmo",)}, UsageError, 'no column "prmo"'),
        ({"known_future": ("y",), "target": ("y",)}, UsageError, '"y" cannot be known in advance'),
        ({"known_future": ("kind",)}, DataError, "not a number"),
    ],
)
def test_a_column_that_cannot_be_a_covariate_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        prepared(sales().with_columns(kind=pl.lit("autumn sale")), "linear", **options)


# What a forecast needs


@pytest.mark.parametrize("name", SERIES)
def test_plan_beside_the_past_or_behind_it_gives_the_same_forecast(name: str) -> None:
    past, plan = split_at(sales(), 300)
    fitted = model_of(past, name)
    beside = fitted.predict(past, future=plan)
    assert beside["ds"].unique().sort().to_list() == TIMES[300:304]
    assert_frame_equal(fitted.predict(pl.concat([past, plan], how="diagonal")), beside)
    shuffled = fitted.predict(past.sample(fraction=1.0, shuffle=True, seed=1), future=plan.reverse())
    assert_frame_equal(shuffled, beside)


@pytest.mark.parametrize("name", TRAINED)
def test_the_plan_changes_the_forecast_of_every_network(name: str) -> None:
    past, plan = split_at(sales(), 300)
    fitted = model_of(past, name)
    one, other = (fitted.predict(past, future=plan.with_columns(promo=pl.lit(value))) for value in (0.0, 1.0))
    assert (one["yhat"] - other["yhat"]).abs().max() > 1e-6  # type: ignore[operator]


def test_series_that_end_at_different_times_have_plans_of_their_own() -> None:
    table = sales()
    early = table.filter((pl.col("unique_id") == "b") | (pl.col("ds") < TIMES[200]))
    past = early.filter(pl.col("ds") < TIMES[300])
    plans = pl.concat(
        [
            split_at(table.filter(pl.col("unique_id") == "a"), 200)[1],
            split_at(table.filter(pl.col("unique_id") == "b"), 300)[1],
        ]
    )
    fitted = model_of(past)
    together = fitted.predict(past, future=plans)
    for key, row in (("a", 200), ("b", 300)):
        mine = pl.col("unique_id") == key
        assert together.filter(mine)["ds"].to_list() == TIMES[row : row + HORIZON]
        alone = fitted.predict(past.filter(mine), future=plans.filter(mine))
        assert_frame_equal(together.filter(mine), alone, abs_tol=1e-5)


def test_missing_rows_of_the_plan_are_refused_by_id_and_time() -> None:
    past, plan = split_at(sales(), 300)
    fitted = model_of(past)
    holed = plan.filter(~((pl.col("unique_id") == "b") & (pl.col("ds") == TIMES[302])))
    with pytest.raises(DataError, match=r"1 value of known-future columns.*'?b'?.*2024-01-13 14:00") as found:
        fitted.predict(past, future=holed)
    assert "--future" in found.value.hint
    with pytest.raises(DataError, match="8 values"):
        fitted.predict(past)
    empty = plan.with_columns(promo=pl.when(pl.col("ds") == TIMES[303]).then(None).otherwise("promo"))
    with pytest.raises(DataError, match="2 values"):
        fitted.predict(past, future=empty)


def test_a_plan_of_another_kind_is_refused() -> None:
    past, plan = split_at(sales(), 300)
    with pytest.raises(UsageError, match="knows no covariate"):
        model_of(past.drop("promo"), known_future=()).predict(past, future=plan)
    fitted = model_of(past)
    with pytest.raises(DataError, match='no column "promo"'):
        fitted.predict(past, future=plan.drop("promo"))
    with pytest.raises(DataError, match='column "unique_id" holds'):
        fitted.predict(past, future=plan.with_columns(unique_id=pl.lit(3)))


@pytest.mark.parametrize("name", TRAINED)
def test_training_with_the_plan_foresees_what_the_past_cannot(name: str) -> None:
    table = sales(rows=360, ids=("a",))
    errors = []
    for known in (("promo",), ()):
        made = prepared(table if known else table.drop("promo"), name, known_future=known)
        config = made.read.config
        torch.manual_seed(0)
        network = build(find(name), made.shape, config.model, made.read.graph)
        chosen = resolve(
            name,
            flags={
                "train": {
                    "epochs": 4,
                    "epoch_batches": (40, 40),
                    "learning_rate": 1e-2,
                    "averaging": 0.9,
                    "device": "cpu",
                }
            },
        ).train
        train(network, made.train, made.validation, chosen)
        errors.append(score(network.eval(), made.test, made.scaler, made.naive_error).scaled["mse"])
    assert errors[0] < 0.35 * errors[1]


# Static features


STORES = pl.DataFrame({"unique_id": ["b", "a", "c"], "size": [3.0, 1.0, 9.0], "kind": ["city", "village", "city"]})


def test_static_features_follow_their_series_scaled_and_by_category(tmp_path: Path) -> None:
    path = tmp_path / "stores.csv"
    STORES.write_csv(path)
    made = prepared(sales(), "tsm2", static=str(path))
    assert made.shape.static == 3
    assert [(f.column, f.category) for f in made.read.features] == [
        ("size", None),
        ("kind", "city"),
        ("kind", "village"),
    ]
    window, _, series, _ = made.train[torch.tensor([0, len(made.train) - 1])]
    assert series.tolist() == [0, 1]
    np.testing.assert_allclose(window.static[:, 0].numpy(), [[-1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def test_static_features_of_ids_that_are_variates_stand_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "stores.parquet"
    STORES.write_parquet(path)
    made = prepared(sales().drop("promo"), "tsm2", known_future=(), static=str(path))
    assert (made.shape.variates, made.shape.static) == (2, 3)
    assert made.train[torch.tensor([0])].window.static.shape == (1, 2, 3)


def test_series_without_stored_static_features_needs_a_table_of_them(tmp_path: Path) -> None:
    path = tmp_path / "stores.csv"
    STORES.write_csv(path)
    table = sales(ids=("a", "b", "c"))
    known = table.filter(pl.col("unique_id") != "c")
    fitted = model_of(known, "tsm2", static=str(path))
    past, plan = split_at(table, 300)
    with pytest.raises(DataError, match=r"no static features of 'c'") as found:
        fitted.predict(past, future=plan)
    assert "--static" in found.value.hint
    given = fitted.predict(past, future=plan, static=STORES)
    trained = pl.col("unique_id") != "c"
    stored = fitted.predict(past.filter(trained), future=plan.filter(trained))
    assert_frame_equal(given.filter(trained), stored, abs_tol=1e-5)
    swapped = STORES.with_columns(unique_id=pl.Series(["a", "b", "c"]))
    assert (fitted.predict(past, future=plan, static=swapped)["yhat"] - given["yhat"]).abs().max() > 1e-7  # type: ignore[operator]


def test_bad_tables_of_static_features_are_refused(tmp_path: Path) -> None:
    for table, words in (
        (STORES.filter(pl.col("unique_id") != "b"), '"b" has no row'),
        (pl.concat([STORES, STORES[:1]]), "more than one row"),
        (STORES.with_columns(size=pl.Series([None, 1.0, 2.0])), '"size" of .*b.* is no number'),
    ):
        path = tmp_path / "stores.parquet"
        table.write_parquet(path)
        with pytest.raises(DataError, match=words):
            prepared(sales(), "tsm2", static=str(path))


# The whole way


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(autouse=True)
def tracked(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{desk / 'mlflow.db'}")


@pytest.fixture(scope="module")
def run(desk: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{desk / 'mlflow.db'}")
        STORES.write_csv("stores.csv")
        return forecast.fit(
            split_at(sales(), 300)[0], "tsm2", lookback=LOOKBACK, horizon=HORIZON, known_future=["promo"],
            static="stores.csv", settings=[*settings_of("tsm2"), "train.epochs=1"], register="sales", force=True,
        )  # fmt: skip


def test_registered_model_forecasts_the_same_by_every_way(run: Run, desk: Path) -> None:
    past, plan = split_at(sales(), 300)
    past.write_csv("past.csv")
    plan.write_csv("plan.csv")
    assert main(["predict", "models:/sales@champion", "past.csv", "--future", "plan.csv", "-o", "out.parquet"]) == 0
    expected = run.predict(past, future=plan)
    written = pl.read_parquet("out.parquet")
    np.testing.assert_allclose(written["yhat"], expected["yhat"], rtol=1e-4)
    served = mlflow.pyfunc.load_model("models:/sales@champion")
    both = pl.concat([past, plan], how="diagonal").to_pandas()
    np.testing.assert_allclose(served.predict(both)["yhat"], expected["yhat"], rtol=1e-4)


def test_missing_plan_exits_with_3_and_names_the_rows(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    split_at(sales(), 300)[0].write_csv("past.csv")
    assert main(["predict", "models:/sales@champion", "past.csv", "-o", "out.csv"]) == 3
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "2024-01-13T12:00" in lines[0] and "promo" in lines[0]
    assert "--future" in lines[1]


def test_baselines_take_no_notice_of_covariates(make_network: Callable[..., torch.nn.Module]) -> None:
    naive = Naive(WindowShape(3, 2, 1, 1, 0, known=2), NaiveConfig())
    past = torch.arange(3.0)[None, :, None]
    window = Window(past, past > -1, past[..., :0], past[:, :2, :0], torch.ones(1, 5, 2), torch.ones(1, 1, 0))
    assert naive(window).flatten().tolist() == [2.0, 2.0]


def test_features_that_never_change_are_refused_by_models_that_do_not_read_them(tmp_path: Path) -> None:
    """Of several models that are compared those that read them get them."""
    STORES.write_csv(tmp_path / "stores.csv")
    flags = {"data": {"static": str(tmp_path / "stores.csv")}}
    for name in ("itransformer", "informer", "s-mamba", "naive"):
        with pytest.raises(UsageError, match=f"{name} takes no static features: it cannot use --static") as found:
            resolve(name, flags=flags)
        assert "--model tsm2" in found.value.hint
    assert resolve("tsm2", flags=flags).data.static and resolve("darts-gt", flags=flags).data.static
    for key in ("graph=distance", "neighbours=3"):
        with pytest.raises(UsageError, match=f"tsm2 takes no graph: it cannot use data.{key.partition('=')[0]}"):
            resolve("tsm2", settings=[f"data.{key}"])


def test_a_row_of_the_plan_that_is_off_the_steps_is_told_of_the_plan(tmp_path: Path) -> None:
    past, plan = split_at(sales(), ROWS - HORIZON)
    past.write_csv(tmp_path / "past.csv")
    shifted = plan.with_columns(
        ds=pl.when(pl.int_range(pl.len()) == 2).then(pl.col("ds").dt.offset_by("7m")).otherwise("ds")
    )
    shifted.write_csv(tmp_path / "plan.csv")
    with pytest.raises(DataError, match=r"plan\.csv, line 4: .* is not a whole number of steps"):
        model_of(past).predict(tmp_path / "past.csv", future=tmp_path / "plan.csv")
