"""register: put the model of a run through the gate and into the registry."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from . import tracking, versions
from .bundle import checksums, open_folder, self_test
from .config import from_dict
from .errors import DataError, ForecastError, GateError, UsageError
from .fitted import Fitted
from .gate import Decision, decide
from .prepare import Read, fit_scaler, prepare, read
from .scoring import METRICS, Scores, score
from .versions import Version


def register(run: Any = None, *, name: str, force: bool = False) -> Version:
    """Gate a run (a `Run`, a run id, or None for the best finished one) and register its model as `name`.

    Raises GateError when it does not beat the best baseline; an unbeaten champion keeps its alias, and the version says
    so. The data of the run are read again only to re-score a present champion, and must be unchanged.
    """
    run_id = getattr(run, "id", run)
    if run_id is None:
        run_id = tracking.best_run("mse")
    stored = tracking.stored_run(run_id)
    model_id = tracking.model_of_run(run_id)
    config = from_dict(yaml.safe_load(tracking.run_text(run_id, "config.yaml")))
    document = json.loads(tracking.run_text(run_id, "fit.json"))
    fitted = open_folder(versions.fetch(f"models:/{model_id}"))
    metric = config.track.metric
    errors = {who: _number(found[METRICS[metric]][metric]) for who, found in document["scores"].items()}

    def again() -> Read:
        found = read(config, stored.data.tags["data.source"])
        if found.fingerprint != stored.data.tags["data.sha256"]:
            raise DataError(
                f"{stored.data.tags['data.source']} has changed since run {run_id}.",
                f"Fit again with --register {name}.",
            )
        return found

    return _admit(run_id, model_id, fitted, errors, again, name, metric, force)


def _number(stored: float | None) -> float:
    return float("nan") if stored is None else stored  # JSON has no NaN


def admit(
    run_id: str,
    model_id: str,
    fitted: Fitted,
    found: Read,
    data: Any,
    scores: Mapping[str, Scores],
    name: str,
    *,
    force: bool = False,
) -> Version:
    """Gate a model that was just fitted on `data`; as `register`, but nothing needs to be read back from the store."""
    metric = found.config.track.metric
    errors = {who: score.metric(metric) for who, score in scores.items()}
    return _admit(run_id, model_id, fitted, errors, lambda: read(found.config, data), name, metric, force)


def _admit(
    run_id: str,
    model_id: str,
    fitted: Fitted,
    errors: Mapping[str, float],
    again: Any,
    name: str,
    metric: str,
    force: bool,
) -> Version:
    baselines = {who: error for who, error in errors.items() if who != fitted.name}
    with versions.registry_lock():
        champion, rescored, obstacle = versions.champion(name), None, ""
        if champion is not None and versions.model_of(champion) == model_id:
            return versions.as_registered(champion)  # the alias was set last: nothing is missing
        if champion is not None:
            try:
                rescored = rescore(open_folder(versions.fetch(f"models:/{name}/{champion.version}")), again(), metric)
            except ForecastError as error:
                if not force and not isinstance(error, UsageError):
                    raise
                obstacle = error.message
        decision = decide(errors[fitted.name], baselines, rescored, metric, obstacle=obstacle, force=force)
        if decision.verdict == "refused":
            raise GateError(
                f"Not registered as {name}: run {run_id} {decision.reason}.",
                "Train longer or try another model; --force registers it all the same.",
            )
        return _store(run_id, model_id, fitted, errors, name, metric, decision, rescored)


def _store(
    run_id: str,
    model_id: str,
    fitted: Fitted,
    errors: Mapping[str, float],
    name: str,
    metric: str,
    decision: Decision,
    champion: float | None,
) -> Version:
    folder = versions.fetch(f"models:/{model_id}")
    self_test(folder, fitted)
    baselines = {who: error for who, error in errors.items() if who != fitted.name}
    best = min(baselines, key=baselines.__getitem__)
    tags = {
        "metric": metric,
        "score": f"{errors[fitted.name]:.6g}",
        "baseline": best,
        "baseline_score": f"{baselines[best]:.6g}",
        "champion_score": "" if champion is None else f"{champion:.6g}",
        "data_sha256": str(fitted.facts["fingerprint"]),
        "forced": str(decision.forced).lower(),
        "run": run_id,
        "sha256": json.dumps(checksums(folder)),
    }
    return versions.add(name, model_id, decision, tags)


def rescore(champion: Any, found: Read, metric: str) -> float:
    """Give the champion's error on the candidate's test windows, on the candidate's scaled axis.

    Raises UsageError when the champion forecasts another step or horizon, or looks further back than the windows go.
    """
    step, horizon = found.frame.frequency.alias, found.config.data.horizon
    if (champion.schema.freq, champion.shape.horizon) != (step, horizon):
        raise UsageError(
            f"forecasts {champion.shape.horizon} steps of {champion.schema.freq}, not {horizon} of {step}",
            "Register under another name, or use --force.",
        )
    names, targets = tuple(str(name) for name in found.frame.names), found.frame.schema.targets
    if names[:targets] != tuple(champion.variates[: champion.shape.targets]):
        raise UsageError("forecasts other columns", "Register under another name, or use --force.")
    if not champion.network.any_variates and names != tuple(champion.variates):
        raise UsageError("takes other columns", "Register under another name, or use --force.")
    if tuple(getattr(champion.schema, "known", ())) != found.frame.schema.known:
        raise UsageError("takes other known-future columns", "Register under another name, or use --force.")
    if tuple(getattr(champion, "features", ())) != found.features:
        raise UsageError("takes other static features", "Register under another name, or use --force.")
    own = fit_scaler(found)
    prepared = prepare(found, champion)
    scores = score(champion.network, prepared.test, prepared.scaler, prepared.naive_error, reference=own)
    return scores.metric(metric)
