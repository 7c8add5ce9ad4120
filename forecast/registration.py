"""register: put the model of a run through the gate and into the registry."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from . import tracking, versions
from .bundle import checksums, kind_of_folder, open_folder, self_test
from .config import from_dict
from .errors import DataError, ForecastError, GateError, UsageError
from .gate import HIGHER, best_of, decide
from .kinds import Kind, Read, Stored, kind_of
from .versions import Version


def register(run: Any = None, *, name: str, force: bool = False) -> Version:
    """Gate a run (a `Run`, a run id, or None for the best finished one) and register its model as `name`.

    Raises GateError when it does not beat the best baseline; an unbeaten champion keeps its alias, and the version says
    so. The data of the run are read again only to re-score a present champion, and must be unchanged.
    """
    run_id = getattr(run, "id", run)
    if run_id is None:
        metric = from_dict(yaml.safe_load(tracking.run_text(tracking.newest_fit(), "config.yaml"))).track.metric
        run_id = tracking.best_run(metric, metric in HIGHER)
    stored = tracking.stored_run(run_id)
    model_id = tracking.model_of_run(run_id)
    config = from_dict(yaml.safe_load(tracking.run_text(run_id, "config.yaml")))
    document = json.loads(tracking.run_text(run_id, "fit.json"))
    fitted = open_folder(versions.fetch(f"models:/{model_id}"))
    kind = kind_of(config.task)

    def again() -> Read:
        found: Read = kind.read(config, stored.data.tags["data.source"])
        if found.fingerprint != stored.data.tags["data.sha256"]:
            raise DataError(
                f"{stored.data.tags['data.source']} has changed since run {run_id}.",
                f"Fit again with --register {name}.",
            )
        return found

    return _admit(kind, run_id, model_id, fitted, document, again, name, config.track.metric, force)


def admit(
    run_id: str,
    model_id: str,
    fitted: Stored,
    found: Read,
    data: Any,
    document: Mapping[str, Any],
    name: str,
    *,
    force: bool = False,
) -> Version:
    """Gate a model that was just fitted on `data`; as `register`, but nothing needs to be read back from the store."""
    kind, config = kind_of(found.config.task), found.config
    return _admit(
        kind, run_id, model_id, fitted, document, lambda: kind.read(config, data), name, config.track.metric, force
    )


def _admit(
    kind: Kind,
    run_id: str,
    model_id: str,
    fitted: Stored,
    document: Mapping[str, Any],
    again: Callable[[], Read],
    name: str,
    metric: str,
    force: bool,
) -> Version:
    values = kind.judged(document, metric)
    baselines = {who: value for who, value in values.items() if who != fitted.name}
    with versions.registry_lock():
        champion, rescored, obstacle = versions.champion(name), None, ""
        if champion is not None and versions.model_of(champion) == model_id:
            return versions.as_registered(champion)  # the alias was set last: nothing is missing
        if champion is not None:
            try:
                rescored = _rescored(kind, name, champion.version, again, metric)
            except ForecastError as error:
                if not force and not isinstance(error, UsageError):
                    raise
                obstacle = error.message
        decision = decide(values[fitted.name], baselines, rescored, metric, obstacle=obstacle, force=force)
        if decision.verdict == "refused":
            hint = "Train longer or try another model"
            if math.isnan(values[fitted.name]):
                hint = "Give a test part that has answers of every class, or choose another track.metric"
            raise GateError(
                f"Not registered as {name}: run {run_id}: {decision.reason}.",
                f"{hint}; --force registers it all the same.",
            )
        folder = versions.fetch(f"models:/{model_id}")
        self_test(folder, fitted, kind.sample(fitted))
        best = best_of(baselines, metric)
        tags = {
            "metric": metric,
            "score": f"{values[fitted.name]:.6g}",
            "baseline": best,
            "baseline_score": f"{baselines[best]:.6g}",
            "champion_score": "" if rescored is None else f"{rescored:.6g}",
            "data_sha256": str(fitted.facts["fingerprint"]),
            "forced": str(decision.forced).lower(),
            "run": run_id,
            "sha256": json.dumps(checksums(folder)),
        }
        return versions.add(name, model_id, decision, tags)


def _rescored(kind: Kind, name: str, version: str, again: Callable[[], Read], metric: str) -> float:
    """Give the value of the present champion on the candidate's test part; raises UsageError if it has none there."""
    folder = versions.fetch(f"models:/{name}/{version}")
    found = again()
    if kind_of_folder(folder) != found.config.task:
        raise UsageError(f"forecasts {kind_of_folder(folder)}", "Register under another name, or use --force.")
    return kind.rescore(open_folder(folder), found, metric)
