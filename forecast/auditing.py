"""audit: shows that nothing after a forecast's origin reaches it, by changing all of that."""

from collections.abc import Callable, Mapping
from typing import Any

from .audited import Audit
from .data import table
from .errors import UsageError, own
from .links.audit import audit_links
from .prediction import opened
from .series_audit import audit_series

_AUDITS: Mapping[str, Callable[..., Audit]] = {"series": audit_series, "links": audit_links}  # by the task of the model


def audit(
    model: Any,
    data: Any,
    *,
    origins: int = 8,
    seed: int = 0,
    static: Any = None,
    told: Callable[[str], None] | None = None,
) -> Audit:
    """Change everything after `origins` days of `data` in several ways and compare the forecasts bit by bit.

    `model` is what `forecast.predict` takes, `data` a path, polars or pandas with answers: series, or a stream of
    events. The days are drawn from `seed`, one from each of as many equal parts of the data. The statistics that a
    model of series scales by are compared with those of its training part where the data hold it. `static` gives
    static features of series that the model was not trained on; `told` is called with what is being done.

    Gives an `Audit`: `clean`, `document()`, `text()`, and the first leak as a GateError in `error`; it is not raised.
    Raises DataError for data that are too short or do not fit the model, UsageError for a wrong number, ArtifactError
    for a model that cannot be used.
    """
    if origins < 1:
        raise UsageError(f"{origins} origins: an audit needs at least 1.", "E.g. --origins 8.")
    fitted = opened(model)
    try:
        task = getattr(fitted, "task", "series")  # models that were stored before it was told are of series
        if task not in _AUDITS:
            raise UsageError(
                f"{fitted.name} of {task} cannot be audited: that is for series and for links.",
                "Score it on later data: forecast predict.",
            )
        check = _AUDITS[task]
        read = table.read(data, fitted.schema.decimal if hasattr(fitted, "schema") else None)
        return check(fitted, read, origins, seed, static, told or (lambda text: None))
    except Exception as error:
        raise own(error) from error.__cause__
