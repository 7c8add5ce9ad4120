"""What can go wrong, each kind with its exit code.

A message says what is wrong and where, with the offending value; the hint says what to do next, often the
command to type. Raise at the border (reading, configuring, loading); inside, trust the types.
"""


class ForecastError(Exception):
    """An error that a user can act on. Exit code 1 is for a run that went wrong for no fault of its input."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ForecastError):
    """A wrong option, model name or configuration key."""

    exit_code = 2


class DataError(ForecastError):
    """The data cannot be read or does not fit what was asked."""

    exit_code = 3


class NoRowsError(DataError):
    """A table has columns and no row, which is nothing wrong where what happened since is asked for."""


class GateError(ForecastError):
    """The model did not earn its place in the registry."""

    exit_code = 4


class ArtifactError(ForecastError):
    """A model, an artefact or the tracking store is missing, damaged or unusable."""

    exit_code = 5


def own(error: Exception) -> Exception:
    """Give the error of this package that `error` means, when it comes from the code stored with a model."""
    name = type(error).__name__
    if isinstance(error, ForecastError) or not type(error).__module__.startswith("forecast_rt_"):
        return error
    kind = globals().get(name)
    return kind(error.args[0], getattr(error, "hint", "")) if isinstance(kind, type) else error
