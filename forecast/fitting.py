"""fit: the whole training story, from a table to a tracked, scored and (if asked) registered model."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import RunConfig, flags, from_dict, resolve
from .errors import ArtifactError, DataError, UsageError
from .kinds import Progress, Silent, kind_of

if TYPE_CHECKING:
    from .versions import Version


@dataclass(frozen=True)
class Run:
    """A finished fit: its MLflow run, the scores of model and baselines on test, and the fitted model."""

    id: str
    scores: Mapping[str, Any]
    fitted: Any
    document: Mapping[str, Any]  # what `--json` prints
    report: str  # the HTML report
    registered: "Version | None" = None

    def predict(self, data: Any, **options: Any) -> Any:
        """Forecast from `data` without a registry; options as in `forecast.predict`."""
        return self.fitted.predict(data, **options)


def fit(
    data: Any = None,
    model: str | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    settings: Sequence[str] = (),
    register: str | None = None,
    force: bool = False,
    resume: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Train `model` on `data` (path, polars, pandas or a catalogued name), score it beside the baselines, track it.

    `config` is a YAML file, `settings` are `section.key=value` strings, further options any key of the sections data,
    train and track (`horizon=24`). `resume` continues a run that was killed. `register` gates and registers the model.
    Returns a `Run`. Raises ForecastError and its children.
    """
    progress = progress or Silent()
    clock = _Clock()
    if resume is not None:
        resolved, data, fingerprint = _interrupted(resume, data)
    else:
        resolved = resolve(model, file=os.fspath(config) if config else None, settings=settings, flags=flags(**options))
        fingerprint = None
    kind = kind_of(resolved.task)
    found = kind.read(resolved, data)
    if fingerprint not in (None, found.fingerprint):
        raise DataError(
            f"{found.facts['source']} is not the data that run {resume} began with.",
            "Give that file, or start a new fit without --resume.",
        )
    resolved = found.config
    _ = resolved.model  # its settings are checked before anything is shown, trained or tracked
    clock.lap("read")
    progress.understood(found.facts)

    progress.stage("loading libraries")
    import torch

    from . import summary, tracking

    torch.set_flush_denormal(True)  # a denormal operand can make a product a hundred times slower
    kind.require_buildable(found)  # before anything is tracked
    source = found.facts["source"]
    tags = {
        "forecast.kind": "fit",
        "forecast.model": resolved.name,
        "data.source": _absolute(source),
        "data.sha256": found.fingerprint,
        "data.rows": str(found.facts["rows"]),
    }
    with tracking.tracked(resolved.track.experiment, f"{resolved.name}-{_stem(source)}", tags, resume) as run:
        if resume is None:
            run.text("config.yaml", resolved.to_yaml())
            run.params(summary.flat(resolved.to_dict()))
            run.dataset(tags["data.source"], found.fingerprint, found.facts["rows"])
        outcome = kind.carry_out(found, run, progress, clock)
        model_id = run.model(outcome.fitted)
        run.metrics(outcome.metrics, model_id=model_id)
        document = {**outcome.document, "report": run.text("report.html", outcome.html)}
        run.tags({"mlflow.note.content": outcome.headline})
        run.text("fit.json", json.dumps(document, indent=1, ensure_ascii=False))

    progress.scored(document)
    version = None
    if register is not None:
        from .registration import admit

        progress.stage(f"registering {register}")
        version = admit(run.id, model_id, outcome.fitted, found, data, document, register, force=force)
    clock.lap("register")
    document = {
        **document,
        "registered": dataclasses.asdict(version) if version else None,
        "seconds": clock.seconds,
    }
    return Run(run.id, outcome.scores, outcome.fitted, document, outcome.html, version)


def _interrupted(run_id: str, data: Any) -> tuple[RunConfig, Any, str]:
    """Find the configuration, data and fingerprint of the run to resume; raises UsageError for a finished one."""
    import yaml

    from . import tracking

    run = tracking.stored_run(run_id)
    if run.info.lifecycle_stage != "active":
        raise ArtifactError(f"Run {run_id} was deleted.", "Restore it, or start a new fit.")
    if run.info.status == "FINISHED":
        raise UsageError(f"Run {run_id} is finished.", f"Register it: forecast register {run_id} --name NAME.")
    config = from_dict(yaml.safe_load(tracking.run_text(run_id, "config.yaml")))
    tags = run.data.tags
    return config, tags["data.source"] if data is None else data, tags["data.sha256"]


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage], self._last = now - self._last, now

    @property
    def seconds(self) -> dict[str, float]:
        return {stage: round(spent, 3) for stage, spent in {**self._laps, "total": self._last - self._start}.items()}


def _stem(source: str) -> str:
    return Path(source).name.partition(".")[0] or "frame"


def _absolute(source: str) -> str:
    return str(Path(source).absolute()) if Path(source).exists() else source
