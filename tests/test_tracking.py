"""Runs in MLflow: what a run holds, how it ends, and a local store that survives first users and kills."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import polars as pl
import pytest
import yaml
from mlflow.entities import LoggedModelStatus

import forecast
from forecast import tracking
from forecast.config import from_dict
from forecast.errors import ArtifactError, UsageError
from forecast.fitting import Run

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300)
SMALL = ("model.d_model=16", "model.d_ff=16", "model.heads=2", "model.layers=1", "train.epochs=2")
LENGTHS = {"lookback": 24, "horizon": 6}
OPEN = "from forecast.tracking import open_store, _experiment\nclient = open_store()\n"


pytestmark = pytest.mark.usefixtures("client")


@pytest.fixture(scope="module")
def run(address: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(address.removeprefix("sqlite:///")).parent)  # MLflow puts experiments made elsewhere there
        patch.setenv("MLFLOW_TRACKING_URI", address)
        return forecast.fit(TABLE, "itransformer", **LENGTHS, settings=SMALL)


def small_fit(**options: object) -> Run:
    return forecast.fit(TABLE, "linear", **LENGTHS, **options)


def test_run_holds_settings_scores_and_tags(run: Run, client: mlflow.MlflowClient) -> None:
    stored = client.get_run(run.id)
    assert stored.info.status == "FINISHED"
    params, metrics, tags = stored.data.params, stored.data.metrics, stored.data.tags
    assert (params["data.horizon"], params["model.d_model"], params["train.epochs"]) == ("6", "16", "2")
    assert metrics["test.mse"] == run.scores["itransformer"].scaled["mse"]
    assert metrics["linear.mae"] == run.scores["linear"].original["mae"]
    assert 0 < metrics["test.coverage_80"] <= 1
    assert tags["forecast.kind"] == "fit"
    assert tags["forecast.model"] == "itransformer"
    assert len(tags["data.sha256"]) == 64
    assert tags["data.rows"] == "300"


def test_run_holds_metrics_of_every_epoch(run: Run, client: mlflow.MlflowClient) -> None:
    for name in ("train_loss", "val_mse", "learning_rate"):
        history = client.get_metric_history(run.id, name)
        assert [point.step for point in history] == [1, 2], name
        assert all(point.value > 0 for point in history)


def test_run_holds_config_document_report_and_a_ready_model(run: Run, client: mlflow.MlflowClient) -> None:
    names = {file.path for file in client.list_artifacts(run.id)}
    assert names == {"config.yaml", "fit.json", "report.html"}  # no checkpoint is left
    config = from_dict(yaml.safe_load(tracking.run_text(run.id, "config.yaml")))
    assert (config.name, config.data.horizon, config.model.d_model) == ("itransformer", 6, 16)
    document = json.loads(tracking.run_text(run.id, "fit.json"))
    assert document["scores"] == run.document["scores"]
    assert run.id in tracking.run_text(run.id, "report.html")
    model = client.get_logged_model(tracking.model_of_run(run.id))
    assert model.status == LoggedModelStatus.READY
    assert model.source_run_id == run.id


def test_equal_data_have_equal_fingerprints_and_other_data_another(run: Run, client: mlflow.MlflowClient) -> None:
    def fingerprint(table: pl.DataFrame) -> str:
        found = forecast.fit(table, "naive", **LENGTHS)
        return client.get_run(found.id).data.tags["data.sha256"]

    assert fingerprint(TABLE) == client.get_run(run.id).data.tags["data.sha256"]
    changed = TABLE.with_columns(pl.when(pl.int_range(300) == 250).then(1.0).otherwise("OT").alias("OT"))
    assert fingerprint(changed) != fingerprint(TABLE)


def test_fit_joins_the_run_that_mlflow_run_started(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = client.create_run(client.create_experiment("a project")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", started)
    assert small_fit(experiment="a project").id == started
    assert client.get_run(started).info.status == "FINISHED"


def test_fit_nests_under_an_active_run_and_leaves_it_active(client: mlflow.MlflowClient) -> None:
    with mlflow.start_run(experiment_id=client.create_experiment("search")) as parent:
        child = small_fit(experiment="search")
        assert mlflow.active_run().info.run_id == parent.info.run_id
    assert client.get_run(child.id).data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_values_that_are_not_finite_are_not_logged(client: mlflow.MlflowClient) -> None:
    with tracking.tracked("forecast", "odd", {}) as odd:
        odd.metrics({"nan": float("nan"), "infinite": float("inf"), "finite": 1.5})
    assert client.get_run(odd.id).data.metrics == {"finite": 1.5}


@pytest.mark.parametrize(
    ("reason", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_run_that_ends_early_says_how(reason: type[BaseException], status: str, client: mlflow.MlflowClient) -> None:
    with pytest.raises(reason), tracking.tracked("forecast", "early", {}) as early:
        raise reason
    assert client.get_run(early.id).info.status == status
    assert mlflow.active_run() is None


def test_next_fit_marks_dead_runs_of_this_host_killed_and_no_others(client: mlflow.MlflowClient) -> None:
    gone = subprocess.Popen(["true"])
    start = tracking._started(gone.pid)
    gone.wait()
    experiment = client.create_experiment("crowd")

    def running(host: str, pid: int, pid_start: str) -> str:
        tags = {"forecast.host": host, "forecast.pid": str(pid), "forecast.pid_start": pid_start}
        return client.create_run(experiment, tags=tags).info.run_id

    here = socket.gethostname()
    dead = running(here, gone.pid, start)
    reused = running(here, os.getpid(), "1")  # the number of a dead process, now that of another
    alive = running(here, os.getpid(), tracking._started())
    elsewhere = running("another-host", gone.pid, start)
    stranger = client.create_run(experiment).info.run_id
    small_fit(experiment="crowd")
    status = {run: client.get_run(run).info.status for run in (dead, reused, alive, elsewhere, stranger)}
    assert [status[dead], status[reused]] == ["KILLED", "KILLED"]
    assert [status[alive], status[elsewhere], status[stranger]] == ["RUNNING", "RUNNING", "RUNNING"]


def test_best_run_is_the_finished_fit_with_the_smallest_error(run: Run, client: mlflow.MlflowClient) -> None:
    worse = small_fit()
    unscored = client.create_run("0", tags={"forecast.kind": "fit"}).info.run_id
    client.set_terminated(unscored)
    failed = client.create_run("0", tags={"forecast.kind": "fit"}).info.run_id
    client.log_metric(failed, "test.mse", 1e-9)
    client.set_terminated(failed, "FAILED")
    foreign = client.create_run("0").info.run_id
    client.log_metric(foreign, "test.mse", 1e-9)
    client.set_terminated(foreign)
    errors = {fit.id: fit.scores[fit.fitted.name].scaled["mse"] for fit in (run, worse)}
    best = tracking.best_run("mse")
    assert best not in (unscored, failed, foreign)
    assert client.get_run(best).data.metrics["test.mse"] <= min(errors.values())


def test_best_run_is_one_on_the_data_of_the_newest(client: mlflow.MlflowClient) -> None:
    ids = []
    for data, error in (("a", 1e-8), ("b", 1e-6), ("b", 1e-7)):
        ids.append(client.create_run("0", tags={"forecast.kind": "fit", "data.sha256": data}).info.run_id)
        client.log_metric(ids[-1], "test.mse", error)
        client.set_terminated(ids[-1])
        time.sleep(0.01)  # the order of runs is told by milliseconds
    assert tracking.best_run("mse") == ids[2]
    for one in ids:
        client.delete_run(one)


def test_half_written_model_does_not_count(client: mlflow.MlflowClient) -> None:
    with tracking.tracked("forecast", "half", {}) as half:
        client.create_logged_model(client.get_run(half.id).info.experiment_id, "forecaster", half.id)
    with pytest.raises(ArtifactError, match="no finished model"):
        tracking.model_of_run(half.id)


def test_deleted_experiment_is_refused(client: mlflow.MlflowClient) -> None:
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UsageError, match="deleted"):
        small_fit(experiment="gone")


def test_kill_during_creation_leaves_a_store_that_the_next_fit_completes_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    child = subprocess.Popen([sys.executable, "-c", OPEN])
    while child.poll() is None and not list(tmp_path.glob(".mlflow.db.*.tmp")):
        time.sleep(0.002)
    time.sleep(0.1)  # some tables are there
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    done = small_fit()
    written = {path.name for path in tmp_path.iterdir()}
    assert written - {"mlflow.db-wal", "mlflow.db-shm"} == {"mlflow.db", "mlruns", ".mlflow.db.lock"}
    own = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert own.get_run(done.id).info.artifact_uri == f"{(tmp_path / 'mlruns').as_uri()}/{done.id}/artifacts"


@pytest.mark.slow
def test_four_processes_that_create_the_store_at_once_all_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    code = OPEN + "run = client.create_run(_experiment(client, 'crowd'))\nclient.log_metric(run.info.run_id, 'a', 1.0)"
    children = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0], told
    client = tracking.open_store()
    assert len(client.search_runs([client.get_experiment_by_name("crowd").experiment_id])) == 4


def test_a_termination_waits_for_the_end_of_a_write() -> None:
    termination, done = tracking._Termination(), []
    with pytest.raises(SystemExit) as stopped, termination.behind():
        with termination.behind():
            termination(signal.SIGTERM, None)
            done.append("inner")
        done.append("outer")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert done == ["inner", "outer"]
    with pytest.raises(SystemExit):
        termination(signal.SIGTERM, None)
