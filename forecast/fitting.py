"""fit: the whole training story, from a table to a tracked, scored and (if asked) registered model."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .config import RunConfig, flags, from_dict, resolve
from .errors import ArtifactError, DataError, UsageError
from .prepare import Prepared, prepare, read, require_buildable, window_shape
from .registry import BASELINES, config_class, find, network_class

if TYPE_CHECKING:
    import torch

    from .fitted import Fitted
    from .scoring import Scores
    from .tracking import TrackedRun
    from .versions import Version


class Progress(Protocol):
    """What a caller may show while a fit runs."""

    def understood(self, facts: Mapping[str, Any]) -> None: ...
    def stage(self, text: str) -> None: ...
    def epoch(self, number: int, values: Mapping[str, float]) -> None: ...
    def scored(self, document: Mapping[str, Any]) -> None: ...


class Silent:
    """Shows nothing."""

    def understood(self, facts: Mapping[str, Any]) -> None:
        """Called once the data are read and checked."""

    def stage(self, text: str) -> None:
        """Called as each stage begins."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Called after each epoch, with its losses."""

    def scored(self, document: Mapping[str, Any]) -> None:
        """Called with the document of the finished run, before its model is registered."""


@dataclass(frozen=True)
class Run:
    """A finished fit: its MLflow run, the scores of model and baselines on test, and the fitted model."""

    id: str
    scores: Mapping[str, "Scores"]
    fitted: "Fitted"
    document: Mapping[str, Any]  # what `--json` prints
    report: str  # the HTML report
    registered: "Version | None" = None

    def predict(self, data: Any, **options: Any) -> Any:
        """Forecast the future of `data` without a registry; options as in `forecast.predict`."""
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
    found = read(resolved, data)
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

    from . import report, scoring, summary, tracking

    torch.set_flush_denormal(True)  # a denormal operand can make a product a hundred times slower
    require_buildable(resolved, window_shape(found))  # before anything is tracked
    spec = find(resolved.name)
    name = f"{spec.name}-{_stem(found.facts['source'])}"
    tags = {
        "forecast.kind": "fit",
        "forecast.model": spec.name,
        "data.source": _absolute(found.facts["source"]),
        "data.sha256": found.fingerprint,
        "data.rows": str(found.facts["rows"]),
    }
    with tracking.tracked(resolved.track.experiment, name, tags, resume) as run:
        if resume is None:
            run.text("config.yaml", resolved.to_yaml())
            run.params(summary.flat(resolved.to_dict()))
            run.dataset(tags["data.source"], found.fingerprint, found.facts["rows"])
        prepared = prepare(found)
        progress.stage("scoring the baselines")
        networks = {name: _baseline(name, prepared) for name in BASELINES}
        progress.stage(f"training {spec.name}, run {run.id}")
        clock.lap("baselines")
        network, curve, best_epoch = _trained(spec.name, networks, prepared, run, progress)
        clock.lap("train")

        progress.stage("scoring")
        fitted = _fitted(network, prepared)
        scores = {}
        for name, forecaster in {spec.name: network, **networks}.items():
            scores[name] = scoring.score(
                scoring.on_device(forecaster),
                prepared.test.with_lookback(forecaster.shape.lookback),
                prepared.scaler,
                prepared.naive_error,
                calibration=fitted.calibration if forecaster is network else None,
                levels=resolved.track.levels,
            )
        network.cpu()
        model_id = run.model(fitted)
        run.metrics(summary.flat(scores), model_id=model_id)
        clock.lap("score")
        document = summary.document(run.id, prepared, scores, best_epoch, clock.seconds)
        page = summary.page(prepared, scores, {**networks, spec.name: network}, fitted, curve, document)
        html = report.render(page)
        document["report"] = run.text("report.html", html)
        run.tags({"mlflow.note.content": report.verdict(page).headline})
        run.text("fit.json", json.dumps(document, indent=1, ensure_ascii=False))

    progress.scored(document)
    version = None
    if register is not None:
        from .registration import admit

        progress.stage(f"registering {register}")
        version = admit(run.id, model_id, fitted, found, data, scores, register, force=force)
    clock.lap("register")
    document = {
        **document,
        "registered": dataclasses.asdict(version) if version else None,
        "seconds": clock.seconds,
    }
    return Run(run.id, scores, fitted, document, html, version)


def _trained(
    name: str, networks: Mapping[str, Any], prepared: Prepared, run: "TrackedRun", progress: Progress
) -> tuple[Any, list[tuple[int, float, float]], int]:
    """Give the network of `name` with its best weights, the training curve, and the epoch that was best."""
    import torch

    from .models.layers.ssm import SelectiveChain, scan_note
    from .training import train

    config = prepared.read.config
    if name in networks:
        return networks[name], [], 0
    torch.manual_seed(config.train.seed)
    network = network_class(find(name))(prepared.shape, config.model)
    if any(isinstance(part, SelectiveChain) for part in network.modules()):
        on_cuda = config.train.device != "cpu" and torch.cuda.is_available()
        progress.stage(scan_note("cuda" if on_cuda else "cpu"))

    def told(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, values)
        progress.epoch(number, values)

    curve, best = train(
        network,
        prepared.train,
        prepared.validation,
        config.train,
        checkpoint=run.checkpoint,
        on_epoch=told,
        bar=not isinstance(progress, Silent),
    )
    return network.eval(), curve, best


def _baseline(name: str, prepared: Prepared) -> "torch.nn.Module":
    """Build and solve one baseline on the training windows; a season longer than the lookback widens its window."""
    spec = find(name)
    shape, settings = prepared.shape, config_class(spec)()
    if name == prepared.read.config.name:
        settings = prepared.read.config.model
    if name == "seasonal-naive":
        parts = (prepared.validation, prepared.test)
        season = settings.season or prepared.season
        if any(len(part.with_lookback(season)) < len(part) for part in parts):
            if settings.season:
                raise UsageError(
                    f"A season of {season} steps does not fit before the first forecast of every series.",
                    "Choose a shorter model.season, or leave it out.",
                )
            season = 1
        settings = dataclasses.replace(settings, season=season)
        shape = dataclasses.replace(shape, lookback=max(shape.lookback, season))
    network = network_class(spec)(shape, settings)
    network.solve(prepared.train.thinned(max(1, 1_000_000 // shape.targets)).batches(64))
    return network


def _fitted(network: Any, prepared: Prepared) -> "Fitted":
    from .calibrate import calibrate
    from .fitted import Fitted
    from .scoring import on_device

    config, frame = prepared.read.config, prepared.read.frame
    calibration = calibrate(on_device(network), prepared.validation.with_lookback(network.shape.lookback), 64)
    return Fitted(
        name=config.name,
        config=network.config,
        shape=network.shape,
        schema=frame.schema,
        marks=prepared.read.marks,
        keys=tuple(str(key) for key in frame.keys),
        variates=tuple(str(name) for name in frame.names),
        scaler=prepared.scaler,
        calibration=calibration,
        network=network,
        facts={
            "fingerprint": prepared.read.fingerprint,
            "span": prepared.read.facts["span"],
            "trained_on": prepared.read.facts["split"]["train"],
            "left_out": prepared.read.facts["left_out"],
        },
        features=prepared.read.features,
        static=np.concatenate(frame.static),
    )


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
