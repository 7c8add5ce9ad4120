"""A comparison: what it runs and what it finds done, whose numbers it shows, and what it refuses before training."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import mlflow
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

import forecast
from forecast import leaderboard, tracking
from forecast.cells import Cell, entries_of, planned, sources_of, whole_numbers
from forecast.cli import main
from forecast.comparison import Comparison
from forecast.config import published_scores
from forecast.errors import UsageError

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300).select("date", "HUFL", "OT")
MODEL = {"name": "itransformer", "d_model": 8, "d_ff": 8, "heads": 2, "layers": 1}
TRAIN = {"epochs": 2, "epoch_batches": [1, 4]}
TINY = [f"model.{key}={value}" for key, value in MODEL.items() if key != "name"]
TINY += ["train.epochs=2", "train.epoch_batches=[1,4]"]
PAPER = {4: {"mse": 0.5, "mae": 0.25}}


@pytest.fixture(autouse=True)
def small(client: mlflow.MlflowClient) -> None:
    """A small table in the working directory."""
    TABLE.write_csv("small.csv")


@pytest.fixture(scope="module")
def compared(address: str) -> Comparison:
    """Two models at two horizons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(address.removeprefix("sqlite:///")).parent)
        patch.setenv("MLFLOW_TRACKING_URI", address)
        TABLE.write_csv("small.csv")
        return compare()


def compare(models: Any = "linear,itransformer", horizon: Any = (4, 6), seeds: Any = 1, **given: Any) -> Comparison:
    return forecast.compare(
        "small.csv", models, **{"horizon": horizon, "lookback": 24, "seeds": seeds, "settings": TINY, **given}
    )


def fits(client: mlflow.MlflowClient) -> set[str]:
    """Every fit in the store, whatever became of it."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id for run in client.search_runs(experiments, "tags.`forecast.kind` = 'fit'")}


def setting(name: str, published: Mapping[int, Any] | None = None, **sections: Mapping[str, Any]) -> str:
    """Write a configuration of a tiny iTransformer."""
    content = {"data": {"lookback": 24, "horizon": 4}, "model": MODEL, "train": TRAIN}
    for part, values in sections.items():
        content[part] = {**content[part], **values}
    Path(name).write_text(yaml.safe_dump({**content, "published": published}), encoding="utf-8")
    return name


def plan(data: Any, models: str, *, published: bool = False, settings: Any = (), **axes: Any) -> list[Cell]:
    given = {key: whole_numbers(key, axes.get(key)) for key in ("horizon", "lookback", "seed")}
    return planned(sources_of(data), entries_of(models), given, published, settings, {})


class Recorder:
    """Keeps what a comparison says; `stop` ends it as Ctrl-C would, after so many epochs."""

    def __init__(self, stop: int | None = None) -> None:
        self.told: list[str] = []
        self.stop, self.epochs = stop, 0

    def understood(self, facts: Mapping[str, Any]) -> None:
        self.told.append(facts["source"])

    def stage(self, text: str) -> None:
        self.told.append(text)

    def cell(self, text: str) -> None:
        self.told.append(text)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self.epochs += 1
        if self.epochs == self.stop:
            raise KeyboardInterrupt

    def scored(self, document: Mapping[str, Any]) -> None:
        raise AssertionError("the table of a single fit has no place in a comparison")


def test_table_holds_the_numbers_of_each_cells_own_run(compared: Comparison) -> None:
    rows = compared.table.filter(pl.col("run").is_not_null())
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        document = json.loads(tracking.run_text(row["run"], "fit.json"))
        scores = document["scores"][row["model"]]
        assert (row["mse_scaled"], row["mae_scaled"]) == (scores["scaled"]["mse"], scores["scaled"]["mae"])
        assert {name: row[name] for name in ("mae", "rmse", "mase", "smape")} == scores["original"]
        assert (row["horizon"], row["lookback"]) == (document["horizon"], document["lookback"])
        assert row["seconds"] == document["seconds"]["total"]
        stored = yaml.safe_load(tracking.run_text(row["run"], "config.yaml"))
        assert row["seed"] == stored["train"]["seed"]


def test_baselines_stand_once_a_horizon_and_one_that_competes_stands_among_the_models(compared: Comparison) -> None:
    rest = compared.table.filter(pl.col("run").is_null())
    assert rest.select("model", "horizon").rows() == [
        ("naive", 4), ("seasonal-naive", 4), ("naive", 6), ("seasonal-naive", 6),
    ]  # fmt: skip
    document = json.loads(tracking.run_text(compared.table["run"][0], "fit.json"))
    assert rest["mse_scaled"][0] == document["scores"]["naive"]["scaled"]["mse"]
    assert [row["model"] for row in compared.document["tables"][0]["rows"]] == [
        "itransformer", "linear", "naive", "seasonal-naive",
    ]  # fmt: skip


def test_parent_is_finished_and_holds_its_cells_as_children(compared: Comparison, client: mlflow.MlflowClient) -> None:
    parent = client.get_run(compared.run)
    assert (parent.info.status, parent.data.tags["forecast.kind"]) == ("FINISHED", "compare")
    assert parent.data.params["models"] == "linear,itransformer"
    assert (parent.data.params["horizons"], parent.data.params["seeds"]) == ("4,6", "1")
    runs = compared.table["run"].drop_nulls().to_list()
    assert len(set(runs)) == 4
    for run in map(client.get_run, runs):
        assert (run.info.status, run.data.tags["mlflow.parentRunId"]) == ("FINISHED", compared.run)
    assert parent.data.params["data.sha256"] == client.get_run(runs[0]).data.tags["data.sha256"]
    row = compared.document["tables"][1]["rows"][0]
    assert parent.data.metrics["itransformer.mse"] == row["scaled"]["mse"]
    assert {point.step for point in client.get_metric_history(compared.run, "itransformer.mse")} == {4, 6}
    stored = pl.read_csv(tracking.run_text(compared.run, "leaderboard.csv").encode(), schema=compared.table.schema)
    assert_frame_equal(stored, compared.table)
    assert json.loads(tracking.run_text(compared.run, "comparison.json")) == compared.document
    assert tracking.run_text(compared.run, "leaderboard.html") == compared.report


def test_same_command_again_runs_nothing_and_gives_the_same_table(
    compared: Comparison, client: mlflow.MlflowClient
) -> None:
    before, recorder = fits(client), Recorder()
    again = compare(device="cpu", progress=recorder)  # what computes it decides nothing
    assert fits(client) == before
    assert again.run == compared.run
    assert client.get_run(again.run).info.status == "FINISHED"
    assert_frame_equal(again.table, compared.table)
    done = [text for text in recorder.told if "already done, run" in text]
    assert done[0] == (
        "cell 1 of 4: linear on small.csv, horizon 4, lookback 24, seed 1; already done, run "
        + compared.table["run"][0]
    )
    assert len(done) == 4


def test_plain_fit_counts_as_done_and_becomes_a_child_but_children_of_others_stay(
    compared: Comparison, client: mlflow.MlflowClient
) -> None:
    alone = forecast.fit(
        "small.csv", "naive", lookback=24, horizon=4, seed=1, settings=TINY[-2:], experiment="elsewhere"
    )
    before = fits(client)
    found = compare("naive,itransformer", 4)
    assert fits(client) == before
    own, others = found.table["run"][0], found.table["run"][1]
    assert own == alone.id
    assert client.get_run(own).data.tags["mlflow.parentRunId"] == found.run != compared.run
    assert others in compared.table["run"].to_list()
    assert client.get_run(others).data.tags["mlflow.parentRunId"] == compared.run


@pytest.mark.parametrize("change", ["a setting", "a value of the data"])
def test_what_was_fitted_otherwise_is_not_taken(change: str, compared: Comparison, client: mlflow.MlflowClient) -> None:
    before, settings = fits(client), TINY[-2:]
    if change == "a setting":
        settings = [*settings, "model.ridge=0.5"]
    else:
        changed = pl.when(pl.int_range(300) == 250).then(1.0).otherwise("OT").alias("OT")
        TABLE.with_columns(changed).write_csv("small.csv")
    found = compare("linear", 4, settings=settings)
    assert fits(client) - before == set(found.table["run"].drop_nulls())
    assert found.run != compared.run


def test_interrupted_comparison_goes_on_with_the_cell_it_was_at_and_averages_over_its_seeds(
    client: mlflow.MlflowClient,
) -> None:
    before = fits(client)
    with pytest.raises(KeyboardInterrupt):
        compare("itransformer", 5, (1, 2), progress=Recorder(stop=3))  # the first epoch of the second seed
    first, second = sorted(fits(client) - before, key=lambda run: client.get_run(run).info.start_time)
    assert [client.get_run(run).info.status for run in (first, second)] == ["FINISHED", "KILLED"]
    parent = client.get_run(first).data.tags["mlflow.parentRunId"]
    assert client.get_run(parent).info.status == "KILLED"
    recorder = Recorder()
    found = compare("itransformer", 5, (1, 2), progress=recorder)
    assert found.run == parent
    assert found.table["run"].drop_nulls().to_list() == [first, second]
    assert fits(client) - before == {first, second}
    assert [client.get_run(run).info.status for run in (first, second, parent)] == ["FINISHED"] * 3
    assert any(text.endswith(f"goes on, run {second}") for text in recorder.told)
    errors = [json.loads(tracking.run_text(run, "fit.json"))["scores"]["itransformer"] for run in (first, second)]
    errors = [scores["scaled"]["mse"] for scores in errors]
    row = found.document["tables"][0]["rows"][0]
    assert row["seeds"] == [1, 2] and errors[0] != errors[1]
    assert row["scaled"]["mse"] == pytest.approx(sum(errors) / 2)
    assert row["deviation"]["scaled"]["mse"] == pytest.approx(statistics.stdev(errors))
    shown = leaderboard.text(found.document)
    assert f"{row['scaled']['mse']:.3f}  ±{row['deviation']['scaled']['mse']:.3f}" in shown.replace("*", " ")
    assert "mean ± standard deviation over seeds 1, 2" in shown


def test_comparison_that_a_living_process_is_at_is_left_alone(client: mlflow.MlflowClient) -> None:
    parent = compare("naive", 4, settings=TINY[-2:]).run
    client.set_terminated(parent, "RUNNING")  # its tags name this process
    with pytest.raises(UsageError, match="is at this comparison"):
        compare("naive", 4, settings=TINY[-2:])
    client.set_terminated(parent, "FINISHED")


def test_settings_of_one_model_compete_as_files_beside_published_scores(client: mlflow.MlflowClient) -> None:
    files = [setting("wide.yaml", PAPER), setting("narrow.yaml", {6: PAPER[4]}, model={"d_ff": 4})]
    found = forecast.compare(TABLE, files, seeds=1, published=True)
    table = found.document["tables"][0]
    wide, narrow = table["rows"][:2]
    assert [wide["model"], narrow["model"]] == ["itransformer(wide)", "itransformer(narrow)"]
    assert wide["published"] == PAPER[4]
    assert wide["difference"]["mse"] == pytest.approx(100 * (wide["scaled"]["mse"] / 0.5 - 1))
    assert wide["difference"]["mae"] == pytest.approx(100 * (wide["scaled"]["mae"] / 0.25 - 1))
    assert narrow["published"] is None  # its paper has another horizon
    assert found.table["mse_published"].to_list()[:2] == [0.5, None]
    assert found.table["settings"].to_list()[:2] == files
    lines = leaderboard.text(found.document).splitlines()
    line = next(line for line in lines if line.startswith("itransformer(wide)"))
    assert "0.500" in line and "0.250" in line
    assert f"{wide['difference']['mse']:+.1f} %".replace("-", "−") in line
    assert lines[2].split() == ["scaled", "original", "published", "difference"]
    assert "published" not in leaderboard.text(forecast.compare(TABLE, files, seeds=1).document)


def test_published_gives_a_name_the_setting_of_its_paper_where_it_lists_the_horizon() -> None:
    cells = plan("etth1", "itransformer,linear", published=True, horizon=(96, 100))
    paper = published_scores("itransformer/etth1")
    assert [cell.settings for cell in cells] == ["itransformer/etth1", "defaults", "defaults", "defaults"]
    assert [cell.published for cell in cells] == [paper[96], None, None, None]
    assert cells[0].published == {"mse": 0.386, "mae": 0.405}
    assert cells[0].config.model.d_model == 256
    assert cells[0].config.data.lookback == 96
    other = plan("etth1", "itransformer", published=True, horizon=96, lookback=48)[0]
    assert (other.settings, other.published) == ("itransformer/etth1", None)  # their score is of lookback 96
    assert plan("etth1", "itransformer", horizon=96)[0].settings == "defaults"
    made = plan("etth1", "informer", published=True, horizon=96, lookback=96)[0]
    assert made.settings == "informer/etth1-lookback96"  # made for this lookback: goes before the paper's own
    assert made.published == published_scores(made.settings)[96]


def test_setting_of_a_model_goes_to_the_models_that_have_it() -> None:
    cells = plan(TABLE, "itransformer,linear", horizon=4, lookback=24, settings=["model.d_ff=4", "model.ridge=0.5"])
    assert (cells[0].config.model.d_ff, cells[1].config.model.ridge) == (4, 0.5)


def test_several_data_sets_give_a_table_each() -> None:
    TABLE.with_columns(pl.col("OT") * 2 + pl.int_range(300)).write_csv("other.csv")
    found = forecast.compare("small.csv, other.csv", "naive", horizon=4, lookback=24, seeds=1, settings=TINY[-2:])
    assert [table["data"] for table in found.document["tables"]] == ["small.csv", "other.csv"]
    assert found.table.filter(model="naive")["mse_scaled"].n_unique() == 2


def test_failed_cell_is_reported_and_hides_no_other(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    setting("wild.yaml", train={"learning_rate": 1e30, "epochs": 3})
    asked = ["compare", "small.csv", "--models", "wild.yaml,naive", "--horizon", "4", "--lookback", "24"]
    asked += ["--seeds", "1", "--set", TINY[-2], "--set", TINY[-1]]
    assert main([*asked, "-o", "table.csv"]) == 1
    out, err = capsys.readouterr()
    reason = next(line for line in out.splitlines() if line.startswith("failed: itransformer(wild) on small.csv"))
    assert "epoch" in reason
    assert "cell 1 of 2 failed" in err
    table = pl.read_csv("table.csv")
    assert table.row(0, named=True)["mse_scaled"] is None
    assert table.row(0, named=True)["error"] in reason
    assert table.row(1, named=True)["mse_scaled"] > 0
    assert main([*asked, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == 1
    assert document["cells"][0]["error"].keys() == {"code", "message", "hint"}
    assert client.get_run(document["run"]).info.status == "FINISHED"
    assert document["cells"][1]["run"] == table.row(1, named=True)["run"]
    assert main([*asked, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 2
    assert {path.name for path in Path().iterdir()} == {"small.csv", "wild.yaml", "table.csv"}


def test_data_that_change_meanwhile_fail_their_cell() -> None:
    class Meddler(Recorder):
        def cell(self, text: str) -> None:
            TABLE.with_columns(pl.col("OT") + 1).write_csv("small.csv")

    found = forecast.compare("small.csv", "naive", horizon=7, lookback=24, progress=Meddler())
    assert [cell["error"]["code"] for cell in found.failures] == [3]
    assert "has changed" in found.failures[0]["error"]["message"]


def test_command_prints_the_tables_and_writes_the_cells(
    compared: Comparison, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "small.csv", "--models", "linear,itransformer", "--horizon", "4,6", "--lookback", "24"]
    asked += ["--seeds", "1", *(word for text in TINY for word in ("--set", text))]
    before = fits(client)
    assert main([*asked, "-o", "table.parquet"]) == 0
    out, err = capsys.readouterr()
    assert fits(client) == before
    assert err.splitlines()[0].startswith("small.csv: 300 rows")
    tables = out.split("\n\n")
    assert [table.strip().splitlines()[0] for table in tables] == [
        f"small.csv, horizon {table['horizon']}, {table['rows'][0]['windows']} test windows"
        for table in compared.document["tables"]
    ]
    for text, table in zip(tables, compared.document["tables"], strict=True):
        best = min(table["rows"], key=lambda row: row["scaled"]["mse"])
        line = next(line for line in text.splitlines() if line.startswith(f"{best['model']} "))
        assert f" {best['scaled']['mse']:.3f}*" in line
        worst = max(table["rows"], key=lambda row: row["scaled"]["mse"])
        assert f" {worst['scaled']['mse']:.3f}*" not in text
    assert_frame_equal(pl.read_parquet("table.parquet"), compared.table)
    assert main([*asked, "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["cells"] == compared.document["cells"]
    assert main([*asked, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_page_stands_alone_and_escapes_what_it_shows(compared: Comparison) -> None:
    assert all(word not in compared.report for word in ("<script", "src=", "//", "@import"))
    assert compared.report.count('<svg class="plot"') == 1
    nasty = '<b>"&'
    tables = [{**table, "data": nasty} for table in compared.document["tables"]]
    page = leaderboard.page({**compared.document, "tables": tables}, f"forecast compare {nasty}")
    assert nasty not in page
    assert escape(f"{nasty}, horizon 4") in page


# The call, what the first line must name, what the second must tell.
WRONG_CALLS = {
    "no models": ([], "No models", "--models"),
    "an unknown model": (["--models", "linear,itransfomer"], "'itransfomer'", "itransformer"),
    "an unknown file": (["--models", "itransformer/etth9"], "itransformer/etth9", "itransformer/etth1"),
    "a model named twice": (["--models", "linear,naive,linear"], "linear", "once"),
    "files with one row": (["--models", "a.yaml,more/a.yaml"], "itransformer(a)", "different names"),
    "a horizon that is no number": (["--models", "linear", "--horizon", "4,six"], "--horizon 4,six", "96,192"),
    "a lookback of nothing": (["--models", "linear", "--lookback", "0"], "data.lookback is 0", "positive"),
    "seeds that are no numbers": (["--models", "linear", "--seeds", "a"], "--seeds a", "--seeds"),
    "a setting that no model has": (
        ["--models", "linear,itransformer", "--set", "model.d_fff=4"],
        "model.d_fff is a setting of none of linear, itransformer",
        "model.d_ff",
    ),
    "a setting that the network refuses": (
        ["--models", "linear,itransformer", "--set", "model.heads=3"],
        "heads",
        "model.",
    ),
    "a setting that does not fit the windows": (
        ["--models", "linear,informer", "--set", "model.start_token=48", "--lookback", "24", "--horizon", "4"],
        "model.start_token 48 is longer than data.lookback 24",
        "24",
    ),
    "other test windows": (
        ["--models", "linear,split.yaml", "--lookback", "24", "--horizon", "4"],
        "not scored alike",
        "data.split",
    ),
    "a model of links": (["--models", "linear,todyformer"], "todyformer learns links", "fit DATA --model todyformer"),
    "a table to an unknown format": (["--models", "linear", "-o", "table.txt"], "table.txt", ".parquet"),
    "a table over the data": (["--models", "linear", "-o", "small.csv"], "small.csv", "-o"),
}


@pytest.mark.parametrize("wrong", WRONG_CALLS)
def test_wrong_call_is_refused_in_two_lines_before_anything_is_tracked(
    wrong: str, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more").mkdir()
    for name in ("a.yaml", "more/a.yaml"):
        setting(name)
    setting("split.yaml", data={"split": [0.6, 0.2, 0.2]})
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    before = {run.info.run_id for run in client.search_runs(experiments)}
    given, thing, step = WRONG_CALLS[wrong]
    assert main(["compare", "small.csv", *given, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, hint = err.rstrip("\n").split("\n")
    assert thing in what
    assert step in hint
    assert {run.info.run_id for run in client.search_runs(experiments)} == before


def test_standard_input_and_missing_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-", "--models", "linear"]) == 2
    assert "read once" in capsys.readouterr().err
    assert main(["compare", "--models", "linear"]) == 2
    assert "No data" in capsys.readouterr().err
    assert main(["compare", "small.csv,small.csv", "--models", "linear"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert main(["compare", "small.csv,gone.csv", "--models", "linear"]) == 3
    assert "gone.csv" in capsys.readouterr().err


def test_usage_error_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom forecast.cli import main\ncode = main(['compare', 'small.csv', '--models', 'linaer'])\n"
        "heavy = [name for name in ('torch', 'lightning', 'mlflow', 'pandas') if name in sys.modules]\n"
        "raise SystemExit(str(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr


def test_published_section_of_another_form_is_refused() -> None:
    setting("odd.yaml", {4: 0.5})
    with pytest.raises(UsageError, match="published must hold mse"):
        published_scores("odd.yaml")


def test_paper_that_prints_no_absolute_error_is_compared_by_the_squared_alone() -> None:
    scores = {"scaled": {"mse": 0.4, "mae": 0.5}, "original": {"mae": 1.0, "rmse": 2.0, "mase": 3.0}}
    cell = {"data": "a.csv", "horizon": 4, "lookback": 24, "model": "tsm2", "baseline": False, "seed": 1, "windows": 9}
    rest = {"published": {"mse": 0.5}, "run": "r", "seconds": 1.0, "error": None, "settings": "a.yaml"}
    tables = leaderboard.tables([{**cell, **rest, **scores}])
    assert tables[0]["rows"][0]["difference"] == {"mse": pytest.approx(-20), "mae": None}
    document = {"run": "r", "tables": tables, "cells": [], "seconds": 1.0, "report": "page.html"}
    line = leaderboard.text(document).splitlines()[4]
    assert line.split() == ["tsm2", "0.400*", "0.500*", "1.000*", "0.500", "–", "−20.0", "%", "–", "1.0"]


def test_errors_at_single_steps_stand_below_the_table_and_in_the_page() -> None:
    scores = {"scaled": {"mse": 0.4, "mae": 0.5}, "original": {"mae": 1.0, "rmse": 2.0, "mase": 3.0}}
    rest = {"published": None, "run": "r", "seconds": 1.0, "error": None, "settings": "", "windows": 9, "lookback": 24}
    cells = [
        {
            **{"data": "a.csv", "horizon": 4, "model": model, "baseline": model == "naive", "seed": seed},
            **{**rest, **scores, "steps": {"3": {"mae": mae, "mape": None}, "12": {"mae": 2 * mae, "mape": 9.0}}},
        }
        for model, seed, mae in (("darts-gt", 1, 1.0), ("darts-gt", 2, 3.0), ("naive", None, 2.5))
    ]
    tables = leaderboard.tables(cells)
    assert tables[0]["rows"][0]["steps"] == {"3": {"mae": 2.0, "mape": None}, "12": {"mae": 4.0, "mape": 9.0}}
    document = {"run": "r", "tables": tables, "cells": cells, "seconds": 1.0, "report": "page.html"}
    lines = leaderboard.text(document).splitlines()
    at = lines.index("original units, MAPE in per cent")
    assert [line.split() for line in lines[at + 1 : at + 5]] == [
        ["step", "3", "step", "12"],
        ["mae", "mape", "mae", "mape"],
        ["darts-gt", "2.000*", "–", "4.000*", "9.000*"],
        ["naive", "2.500", "–", "5.000", "9.000*"],
    ]
    told = {**document, "models": ["darts-gt"], "data": []}
    page = leaderboard.page(told, "forecast compare")
    assert "<th>MAE at step 12</th>" in page
    assert '<td class="best"><b>4.000</b></td>' in page
