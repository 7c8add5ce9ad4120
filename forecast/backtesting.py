"""backtest: forecasts from past cutoffs by what was known there, scored beside the baselines.

At each cutoff every forecaster reads a table that ends there, as a batch job on that day would have; so does every fit.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .backtest_plan import Plan, plan_fits, plan_stored
from .backtested import Backtest
from .comparison import OfCell, Progress, Silent
from .config import DataConfig, RunConfig
from .data import table
from .data.frame import fingerprint
from .errors import UsageError, own
from .prepare import prepare, read, span
from .registry import BASELINES, MODELS

if TYPE_CHECKING:
    import polars as pl

    from .scoring import Scores
    from .tracking import TrackedRun


def backtest(
    data: Any = None,
    model: Any = None,
    *,
    windows: int = 5,
    step: int | None = None,
    refit: bool = False,
    horizon: int | None = None,
    levels: Sequence[int] = (80, 95),
    static: Any = None,
    config: Any = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Backtest:
    """Forecast `windows` times from the past of `data`, the last time up to its end, and score what came.

    `model` is a name, fitted on the rows before the first cutoff, with `refit` anew on those before each; or a stored
    model (`models:/demand@champion`, a folder, a `Run`), which is not trained: its windows are told apart by whether
    its fit had seen them. Cutoffs lie `step` rows apart (default a horizon) in each series, counted from its own end,
    or on the last measured row before. A series with fewer rows than the lookback at a cutoff is not scored there.
    `config`, `settings` and `options` are those of `fit`, `static` and `levels` those of `predict`.

    Scaled errors and MASE refer to the rows before the first cutoff. Fits are children of one MLflow run, which keeps
    the table and the document; they end with the model that they would have on that day. Raises UsageError, DataError,
    ArtifactError.
    """
    progress = progress or Silent()
    began = time.perf_counter()
    for name, number in (("windows", windows), ("step", step)):
        if number is not None and number < 1:
            raise UsageError(f"--{name} {number}: it must be at least 1.", f"E.g. --{name} 5.")
    given = {**options, "config": config, "settings": settings, "refit": refit}
    try:
        if model is None and config is None:
            raise UsageError("No model was named.", "Add --model itransformer, or a stored model.")
        if model is None or (isinstance(model, str) and not _is_stored(model)):
            options = {**options, "horizon": horizon, "static": static, "levels": tuple(levels)}
            plan = plan_fits(data, model, windows, step, config, settings, options)
        elif needless := [name for name, value in given.items() if value and name != "experiment"]:
            raise UsageError(
                f"{needless[0]} is for a model that is fitted; {_words(model)} is a stored one.",
                "Leave it out, or name a model: --model itransformer.",
            )
        else:
            from .prediction import opened_of_series

            track = {"levels": tuple(levels), "experiment": options.get("experiment")}
            plan = plan_stored(data, opened_of_series(model), windows, step, horizon, static, track)
        return _tracked(plan, _words(model), refit, tuple(levels), static, progress, began)
    except Exception as error:
        raise own(error) from error.__cause__


def _is_stored(model: str) -> bool:
    """Whether a text is an address or a folder and no name."""
    return model not in MODELS and (":" in model or "/" in model or Path(model).exists())


def _words(model: Any) -> str:
    return model if isinstance(model, str) else str(getattr(getattr(model, "fitted", model), "name", model))


def _tracked(
    plan: Plan, asked: str, refit: bool, levels: tuple[int, ...], static: Any, progress: Progress, began: float
) -> Backtest:
    """Forecast window by window in a run of its own."""
    import polars as pl

    from . import tracking
    from .backtest_scores import Judge
    from .summary import flat

    name = plan.config.name if plan.model is None else str(plan.model.name)
    tags = {
        "forecast.kind": "backtest",
        "forecast.model": name,
        "data.source": plan.read.origin,
        "data.sha256": fingerprint(plan.frame),
    }
    title = f"backtest-{name}-{Path(plan.read.origin).name.partition('.')[0]}"
    judge, told, tables = Judge(plan, name, levels), [], []
    child: str | None = None
    forecasters: dict[str, Any] = {}
    with tracking.tracked(plan.config.track.experiment, title, tags) as run:
        lengths = {"windows": len(plan.origins), "step": plan.step, "horizon": plan.horizon, "lookback": plan.lookback}
        run.params({"model": asked, **lengths, "refit": refit, "levels": ",".join(map(str, levels))})
        for number, cutoff in enumerate(plan.cutoffs):
            words, known = plan.spoken(number), plan.rows.until(cutoff)
            progress.cell(f"window {number + 1} of {len(plan.origins)}: up to {words}")
            if number == 0 or refit:
                child, forecasters = _forecasters(plan, name, known, run, progress)
            scores, coverage, rows = judge.window(
                number,
                {
                    who: _forecast(one, plan, known, levels if who == name else (), static)
                    for who, one in forecasters.items()
                },
            )
            tables.append(rows)
            told.append(
                {
                    "cutoff": words,
                    "series": int((plan.origins[number] >= 0).sum()),
                    "seen": plan.seen(number),
                    "run": child,
                    "scores": _plain(scores),
                    "coverage": coverage,
                }
            )
            run.metrics({f"window.{key}": value for key, value in flat(scores).items()}, step=number + 1)
        overall = judge.overall()
        run.metrics(flat(overall))
        found = pl.concat(tables)
        document = {
            "run": run.id,
            "model": name,
            "data": _about(plan),
            **{key: lengths[key] for key in ("horizon", "lookback", "step")},
            "refit": None if plan.model is not None else refit,
            "windows": told,
            "scores": _plain(overall),
            "coverage": judge.coverage(),
            "seconds": round(time.perf_counter() - began, 3),
        }
        run.text("backtest.csv", found.write_csv())
        run.text("backtest.json", json.dumps(document, indent=1, ensure_ascii=False))
    return Backtest(run.id, table.to_library(found, plan.read.library), document)


def _forecasters(
    plan: Plan, name: str, known: "pl.DataFrame", run: "TrackedRun", progress: Progress
) -> tuple[str | None, dict[str, Any]]:
    """Give the run of the fit, where there is one, and the model beside the baselines, from the known rows alone."""
    from .fitting import fit
    from .series import as_fitted, solved_baseline

    child, model = None, plan.model
    if model is None:
        quiet = None if isinstance(progress, Silent) else OfCell(progress)
        done = fit(known, name, settings=_settings(plan.config), progress=quiet)
        child, model = done.id, done.fitted
        run.client.set_tag(child, "forecast.kind", "backtest-fit")  # `register` alone takes the best ordinary fit
    progress.stage("solving the baselines")
    prepared = prepare(read(plan.config, known))
    return child, {name: model} | {
        who: as_fitted(solved_baseline(who, prepared), prepared) for who in BASELINES if who != name
    }


def _settings(config: RunConfig) -> list[str]:
    """Give a configuration as settings of a fit, `section.key=value`."""
    content, usual = config.to_dict(), asdict(DataConfig())
    del content["model"]["name"]
    content["data"] = {key: value for key, value in content["data"].items() if value != usual[key]}
    return [f"{part}.{key}={json.dumps(value)}" for part, values in content.items() for key, value in values.items()]


def _forecast(fitted: Any, plan: Plan, known: "pl.DataFrame", levels: tuple[int, ...], static: Any) -> "pl.DataFrame":
    features = getattr(fitted, "features", None)  # older models have none, and take no such table
    given = {"static": static} if static is not None and features else {}
    found: pl.DataFrame = fitted.predict(known, horizon=plan.horizon, levels=levels, **given)
    return found


def _about(plan: Plan) -> dict[str, Any]:
    frame = plan.frame
    return {
        "source": plan.read.origin,
        "rows": plan.read.rows,
        "series": len(frame.keys),
        "variates": len(frame.names),
        "freq": frame.frequency.alias,
        "span": span(frame, np.stack([frame.offsets[:-1], frame.offsets[1:]], axis=1)),
        **plan.read.ledger.to_dict(),
    }


def _plain(scores: Mapping[str, "Scores"]) -> dict[str, Any]:
    from .scoring import finite

    return {who: {"scaled": finite(one.scaled), "original": finite(one.original)} for who, one in scores.items()}
