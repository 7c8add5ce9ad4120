"""predict: a stored model and what is known give what comes next."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bundle import open_folder
from .errors import UsageError, own


def predict(
    model: Any,
    data: Any,
    *,
    horizon: int | None = None,
    levels: Sequence[int] = (),
    wide: bool = False,
    future: Any = None,
    static: Any = None,
    history: Any = None,
    top_k: int | None = None,
    told: Callable[[Mapping[str, Any]], None] | None = None,
) -> Any:
    """Forecast from `data` (path, polars or pandas) with a stored model, in the frame library that was given.

    `model` is anything MLflow resolves (`models:/demand@champion`, `runs:/…`), a local model folder, or a fitted `Run`.

    A model of series gives the steps after the end of `data`, in its units: `unique_id, ds, yhat` and `yhat_lo_80,
    yhat_hi_80` … for each level. `future` (a table) has the rows of known-future covariates after the end of `data`,
    `static` the features of series that the model was not trained on. A model of links scores the queries of `data`,
    or ranks the `top_k` destinations of each; `history` has the events since its training.

    `told` is called with what was read: `source`, `rows`, `repairs`, `warnings`, `unseen` …, and the `span` of the
    forecast; a model stored before this was added does not tell. Raises ArtifactError for a model that cannot be used,
    UsageError for an option that it does not have, DataError for data that do not fit it.
    """
    fitted = model if hasattr(model, "predict") else open_folder(locate(model))
    options = {
        "horizon": horizon,
        "levels": tuple(levels) or None,
        "wide": wide or None,
        "future": future,
        "static": static,
        "history": history,
        "top_k": top_k,
    }
    given = {name: value for name, value in options.items() if value is not None}
    known = require_options(getattr(fitted, "fitted", fitted).predict, given, "forecasts")
    if told is not None and "told" in known:
        given["told"] = told
    try:
        return fitted.predict(data, **given)
    except Exception as error:
        raise own(error) from error.__cause__


def require_options(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> Collection[str]:
    """Raise UsageError for an option that the function does not take; give the names of those that it does."""
    known = inspect.signature(function).parameters
    for name in given:
        if name not in known:
            raise UsageError(f"--{name.replace('_', '-')} is not an option of this model's {what}.", "Leave it out.")
    return known


def opened(model: Any) -> Any:
    """Give the fitted model behind what `predict` takes; raises ArtifactError for one that cannot be used."""
    fitted = getattr(model, "fitted", model)
    return fitted if hasattr(fitted, "network") else open_folder(locate(model))


def task_of(fitted: Any) -> str:
    """The task of a fitted model; the first ones that were stored, all of series, do not tell."""
    return str(getattr(fitted, "task", "series"))


def opened_of_series(model: Any) -> Any:
    """As `opened`, for what is done with series alone; raises UsageError for a model of another kind of data."""
    fitted = opened(model)
    if task_of(fitted) != "series":
        raise UsageError(
            f"{fitted.name} is a model of {fitted.task}, and this command takes series.",
            "Its scores on later data are in the report of its fit; forecast predict answers for new data.",
        )
    return fitted


def locate(model: str | os.PathLike[str]) -> Path:
    """Give the folder of a stored model; MLflow is imported only for an address that it must resolve."""
    text = os.fspath(model)
    if not text.startswith(("models:", "runs:", "mlflow-artifacts:")) and "://" not in text:
        return Path(text)
    from .versions import fetch

    return fetch(text)
