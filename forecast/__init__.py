"""Forecasting of time series and graphs: from a file to a tracked, registered model and its batch forecasts.

Importing this package loads none of torch, lightning, mlflow or pandas; each name is resolved on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audited import Audit
    from .auditing import audit
    from .backtested import Backtest
    from .backtesting import backtest
    from .comparison import Comparison, compare
    from .diagnosis import Diagnosis, doctor
    from .errors import ArtifactError, DataError, ForecastError, GateError, UsageError
    from .explanation import explain
    from .fitting import Run, fit
    from .prediction import predict
    from .registration import register

__version__ = "0.1.0"

_HOME = {
    "fit": "fitting",
    "Run": "fitting",
    "predict": "prediction",
    "explain": "explanation",
    "audit": "auditing",
    "backtest": "backtesting",
    "Backtest": "backtested",
    "Audit": "audited",
    "compare": "comparison",
    "Comparison": "comparison",
    "register": "registration",
    "doctor": "diagnosis",
    "Diagnosis": "diagnosis",
    **dict.fromkeys(("ForecastError", "UsageError", "DataError", "GateError", "ArtifactError"), "errors"),
}
__all__ = [
    "ArtifactError",
    "Audit",
    "Backtest",
    "Comparison",
    "DataError",
    "Diagnosis",
    "ForecastError",
    "GateError",
    "Run",
    "UsageError",
    "audit",
    "backtest",
    "compare",
    "doctor",
    "explain",
    "fit",
    "predict",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
