"""Runs and their models in MLflow (registered versions are in `versions.py`; no other module imports it).

Where: `MLFLOW_TRACKING_URI`, else `mlflow.db` and `mlruns/` in the working directory, MLflow's own defaults.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

# Read by MLflow when it is imported; what a user has set wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}.items():
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402
import mlflow.pyfunc  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, RunStatus  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import ParamSchema, ParamSpec  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from . import bundle  # noqa: E402
from .errors import ArtifactError, UsageError  # noqa: E402
from .kinds import Stored  # noqa: E402

_own_uri: str | None = None  # the store of a working directory that this process last opened
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page opens on training runs, not on chats
PARENT = "mlflow.parentRunId"  # its tag of a child run
_MODEL = "forecaster"  # name of the model inside a run


def open_store() -> mlflow.MlflowClient:
    """Point MLflow at the store, creating a local one safely; raises ArtifactError when it cannot be used."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # else with the traceback of what is raised
    global _own_uri
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given if given and given != _own_uri else f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    try:
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///")).absolute()
            _ensure_database(database)
        mlflow.set_tracking_uri(uri)
        # MLflow writes it into the environment, where the next fit, perhaps in another folder, must not take it for
        # the user's.
        _own_uri = None if uri == given else uri
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    except (MlflowException, OSError, sqlite3.Error, SQLAlchemyError) as error:
        first = str(error).strip().splitlines()[0]
        raise ArtifactError(
            f"The tracking store {uri} cannot be used: {first}",
            "Set MLFLOW_TRACKING_URI to a store that works, or move the damaged file away and fit again.",
        ) from None
    return client


def _ensure_database(database: Path) -> None:
    """Create a missing SQLite store under a lock and another name, then rename it.

    MLflow creates tables in place: two first users at once, or one kill, would leave a store that never opens again.
    """
    import fcntl  # not on Windows, where a tracking server is the way

    if database.exists() and database.stat().st_size:
        return
    with open(lock_of(database), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when this process dies
        if database.exists() and database.stat().st_size:
            return
        for stale in database.parent.glob(f".{database.name}.*.tmp*"):
            stale.unlink(missing_ok=True)
        beside = database.with_name(f".{database.name}.{os.getpid()}.tmp")
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{beside}", (database.parent / "mlruns").as_uri()).engine.dispose()
        with contextlib.closing(sqlite3.connect(beside)) as connection:
            connection.execute("pragma journal_mode=wal")
        os.rename(beside, database)


def lock_of(database: Path) -> Path:
    """Give the file that processes lock to create a local store or to change its registry."""
    return database.with_name(f".{database.name}.lock")


class _Termination:
    """Turns SIGTERM into SystemExit, so that a run is closed as killed; within a write to the store only behind it.

    A write that is broken off can leave its connection open, and with it the database locked for all that follows.
    """

    def __init__(self) -> None:
        self.writing = self.asked = False

    def __call__(self, *_: object) -> None:
        self.asked = True
        if not self.writing:
            self.exit()

    def exit(self) -> None:
        self.asked = False  # another run may follow in this process
        sys.exit(128 + signal.SIGTERM)

    @contextlib.contextmanager
    def behind(self) -> Iterator[None]:
        """Put a termination off until the block has ended."""
        outer, self.writing = self.writing, True
        try:
            yield
        finally:
            self.writing = outer
        if self.asked and not outer:
            self.exit()


_termination = _Termination()


class TrackedRun:
    """One MLflow run that is being written."""

    def __init__(self, client: mlflow.MlflowClient, run: mlflow.entities.Run) -> None:
        self.client, self.id = client, run.info.run_id
        place = urlparse(run.info.artifact_uri)
        self._folder = Path(url2pathname(place.path)) if place.scheme in ("", "file") else None
        self._scratch = tempfile.TemporaryDirectory(prefix="forecast-")

    @property
    def checkpoint(self) -> Path:
        """The file that training resumes from: inside a local store, else a scratch file that is uploaded."""
        folder = (self._folder or Path(self._scratch.name)) / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "last.ckpt"

    def fetch_checkpoint(self) -> None:
        """Bring back the checkpoint of a run that is resumed, where the store is not local."""
        if self._folder is None and any(f.path == "checkpoint" for f in self.client.list_artifacts(self.id)):
            self.client.download_artifacts(self.id, "checkpoint", self._scratch.name)

    @_termination.behind()
    def params(self, values: Mapping[str, Any]) -> None:
        mlflow.log_params({key: str(value)[:6000] for key, value in values.items()})

    @_termination.behind()
    def dataset(self, source: str, fingerprint: str, rows: int) -> None:
        """Say what the run was trained on; the digest is ours, of every value."""
        given = Dataset(
            name=Path(source).name,
            digest=fingerprint[:16],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps({"num_rows": rows}),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.id, [DatasetInput(given, tags)])

    @_termination.behind()
    def metrics(self, values: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log finite values only: MLflow reads NaN back as 0, the best of all errors."""
        finite = {metric_name(key): value for key, value in values.items() if math.isfinite(value)}
        mlflow.log_metrics(finite, step=step, model_id=model_id)

    @_termination.behind()
    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, and its checkpoint where the store is not local."""
        self.metrics(values, number)
        if self._folder is None and self.checkpoint.exists():
            self.client.log_artifact(self.id, str(self.checkpoint), "checkpoint")

    @_termination.behind()
    def text(self, name: str, content: str) -> str:
        """Store a text; give where it is."""
        mlflow.log_text(content, name)
        return str(self._folder / name) if self._folder else f"runs:/{self.id}/{name}"

    def kept(self, name: str) -> str | None:
        """A text that this run stored before it was resumed; None where it had not got that far."""
        if any(found.path == name for found in self.client.list_artifacts(self.id)):
            return run_text(self.id, name)
        return None

    @_termination.behind()
    def tags(self, values: Mapping[str, str]) -> None:
        mlflow.set_tags(dict(values))

    @_termination.behind()
    def model(self, fitted: Stored) -> str:
        """Store the self-contained model of this run; give its model id."""
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            # MLflow wants an input example, which would be stored: training data do not belong into a model.
            warnings.filterwarnings("ignore", message=".*input example")
            built = bundle.build(fitted, Path(scratch))
            params = ParamSchema([_param(name, default) for name, default in fitted.options.items()])
            info = mlflow.pyfunc.log_model(
                name=_MODEL,
                python_model=str(built.entry),
                code_paths=[str(built.code)],
                artifacts={"fitted": str(built.fitted)},
                model_config=dict(built.config),
                # Parameters only: a typed input would refuse integer values, integer ids and time zones.
                signature=ModelSignature(params=params) if len(params) else None,
                pip_requirements=built.requirements,
            )
        return str(info.model_id)

    def close(self) -> None:
        """Remove what only a resume would need."""
        if self._folder is not None:
            shutil.rmtree(self._folder / "checkpoint", ignore_errors=True)

    def leave(self) -> None:
        """Remove the scratch files."""
        self._scratch.cleanup()


@contextlib.contextmanager
def tracked(experiment: str, name: str, tags: Mapping[str, str], resume: str | None = None) -> Iterator[TrackedRun]:
    """Open a run: the one that `mlflow run` started, the one to resume, else a new one (nested in an active one)."""
    client = open_store()
    _mark_dead_runs(client, experiment)
    nested = mlflow.active_run() is not None
    if resume is not None:
        run = mlflow.start_run(run_id=resume, nested=nested)
    else:
        run = mlflow.start_run(experiment_id=_experiment(client, experiment), run_name=name, nested=nested)
    tracked_run = TrackedRun(client, run)
    tracked_run.tags(  # in one request: a run that can be found dead can also be resumed
        {
            **tags,
            "forecast.host": socket.gethostname(),
            "forecast.pid": str(os.getpid()),
            "forecast.pid_start": _started(),
        }
    )
    if resume is not None:
        tracked_run.fetch_checkpoint()
    status = "FAILED"
    try:
        with _terminated_as_exit():
            yield tracked_run
        status = "FINISHED"
        tracked_run.close()
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        tracked_run.leave()
        mlflow.end_run(status)


@contextlib.contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """Close a run as killed on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _termination)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None  # a server decides for itself
        uri = mlflow.get_tracking_uri()
        if uri.startswith("sqlite:///"):
            location = (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlruns").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UsageError(f"Experiment {name!r} was deleted.", f"Restore it or choose another: --experiment {name}-2.")
    return str(found.experiment_id)


def _mark_dead_runs(client: mlflow.MlflowClient, experiment: str) -> None:
    """Close as killed the runs of this host whose process is gone; they can still be resumed."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return
    here = f"tags.`forecast.host` = '{socket.gethostname()}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([found.experiment_id], here):
        pid = int(run.data.tags["forecast.pid"])
        if _started(pid) != run.data.tags.get("forecast.pid_start"):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _started(pid: int | None = None) -> str:
    """Give when a process started, as its kernel counts; "" for a dead one, or where that cannot be asked."""
    try:
        return Path(f"/proc/{pid or os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def stored_run(run_id: str) -> mlflow.entities.Run:
    """Find a run; raises ArtifactError naming it when it is not in the store."""
    client = open_store()
    try:
        return client.get_run(run_id)
    except MlflowException:
        raise ArtifactError(
            f"There is no run {run_id!r} in {mlflow.get_tracking_uri()}.", "See `forecast ui` for the runs."
        ) from None


def fits(model: str, fingerprint: str, params: Mapping[str, Any]) -> list[mlflow.entities.Run]:
    """Give the fits of a model on these data with these parameters, whatever their end, the latest first."""
    client = open_store()
    wanted = {
        "tags.`forecast.kind`": "fit",
        "tags.`forecast.model`": model,
        "tags.`data.sha256`": fingerprint,
        **{f"params.`{name}`": value for name, value in params.items()},
    }
    return list(
        client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()],
            " and ".join(f"{name} = '{value}'" for name, value in wanted.items()),
            order_by=["attributes.start_time DESC"],
        )
    )


def comparison(experiment: str, asked: str) -> str | None:
    """Give the run of the comparison that was asked for, by the hash in its tag; None where there is none yet.

    Raises UsageError when a process of this host is at it.
    """
    client = open_store()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    wanted = f"tags.`forecast.kind` = 'compare' and tags.`forecast.asked` = '{asked}'"
    runs = client.search_runs([found.experiment_id], wanted, order_by=["attributes.start_time DESC"], max_results=1)
    if not runs:
        return None
    tags, run_id = runs[0].data.tags, str(runs[0].info.run_id)
    if runs[0].info.status == "RUNNING" and tags.get("forecast.host") == socket.gethostname():
        started = _started(int(tags["forecast.pid"]))
        if started and started == tags["forecast.pid_start"]:
            raise UsageError(
                f"Process {tags['forecast.pid']} is at this comparison (run {run_id}).",
                "Wait for its end; the same command then shows the table.",
            )
    return run_id


def adopt(run_id: str, parent: str) -> None:
    """Make a run a child of `parent`, unless it has a parent."""
    client = open_store()
    if PARENT not in client.get_run(run_id).data.tags:
        client.set_tag(run_id, PARENT, parent)


def newest_fit() -> str:
    """Give the finished fit that began last; raises ArtifactError when there is none."""
    newest = _finished_fits("attributes.start_time DESC")
    if newest is None:
        raise ArtifactError("There is no finished fit to register.", "Run `forecast fit DATA --model NAME` first.")
    return str(newest.info.run_id)


def best_run(metric: str, higher: bool = False) -> str:
    """Give the finished run with the best `metric` on test, of those on the data of the newest: values on other data do
    not compare.

    Raises ArtifactError when there is none.
    """
    data = open_store().get_run(newest_fit()).data.tags.get("data.sha256")
    same = "" if data is None else f" and tags.`data.sha256` = '{data}'"
    best = _finished_fits(f"metrics.`test.{metric_name(metric)}` {'DESC' if higher else 'ASC'}", same)
    assert best is not None
    return str(best.info.run_id)


def _finished_fits(order: str, condition: str = "") -> mlflow.entities.Run | None:
    """Give the first of the finished fits in an order, None where there is none."""
    client = open_store()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    fits = f"attributes.status = 'FINISHED' and tags.`forecast.kind` = 'fit'{condition}"
    runs = client.search_runs(experiments, fits, order_by=[order], max_results=1)
    return runs[0] if runs else None


def metric_name(metric: str) -> str:
    """Spell a metric as MLflow takes it: `hits@10` is `hits_at_10` there."""
    return metric.replace("@", "_at_")


def _param(name: str, default: Any) -> ParamSpec:
    """Describe an option of a forecast to MLflow by its default."""
    if isinstance(default, (list, tuple)):
        return ParamSpec(name, "long", list(default), shape=(-1,))
    kind = {bool: "boolean", int: "long", float: "double", str: "string"}[type(default)]
    return ParamSpec(name, kind, default)


def run_text(run_id: str, name: str) -> str:
    """Read a text artefact of a run."""
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{run_id}/{name}"))
    except (MlflowException, OSError):
        raise ArtifactError(
            f"Run {run_id} has no {name}: it did not get that far.", "Resume it: forecast fit --resume RUN."
        ) from None


def model_of_run(run_id: str) -> str:
    """Give the id of the finished model of a run; a half-written one does not count."""
    client = open_store()
    run = client.get_run(run_id)
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    ready = [m.model_id for m in models if m.name == _MODEL and m.status == LoggedModelStatus.READY]
    if not ready:
        raise ArtifactError(f"Run {run_id} holds no finished model.", f"Resume it: forecast fit --resume {run_id}.")
    return str(ready[0])
