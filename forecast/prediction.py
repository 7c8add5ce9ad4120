"""predict: a stored model and the recent past give the real future."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bundle import open_folder
from .errors import own


def predict(
    model: Any,
    data: Any,
    *,
    horizon: int | None = None,
    levels: Sequence[int] = (),
    wide: bool = False,
    future: Any = None,
    static: Any = None,
    told: Callable[[Mapping[str, Any]], None] | None = None,
) -> Any:
    """Forecast the steps after the end of `data` (path, polars or pandas) in its units.

    `model` is anything MLflow resolves (`models:/demand@champion`, `runs:/…`), a local model folder, or a fitted `Run`.
    Gives `unique_id, ds, yhat` and `yhat_lo_80, yhat_hi_80` … for each level in the frame library that was given,
    polars for a path. `future` (a table) has the rows of known-future covariates after the end of `data`, `static` the
    features of series that the model was not trained on. `told` is called with what was read: `source`, `rows`,
    `series`, `repairs`, `warnings`, `unseen`; and `span`, of the forecast. A model stored before this
    was added does not tell.

    Raises ArtifactError for a model that cannot be used, DataError for data that do not fit it.
    """
    fitted = model if hasattr(model, "predict") else open_folder(locate(model))
    try:
        options = {"future": future, "static": static}
        given = {name: table for name, table in options.items() if table is not None}  # older models know neither
        if told is not None and "told" in inspect.signature(getattr(fitted, "fitted", fitted).predict).parameters:
            given["told"] = told
        return fitted.predict(data, horizon=horizon, levels=tuple(levels), wide=wide, **given)
    except Exception as error:
        raise own(error) from error.__cause__


def locate(model: str | os.PathLike[str]) -> Path:
    """Give the folder of a stored model; MLflow is imported only for an address that it must resolve."""
    text = os.fspath(model)
    if not text.startswith(("models:", "runs:", "mlflow-artifacts:")) and "://" not in text:
        return Path(text)
    from .versions import fetch

    return fetch(text)
