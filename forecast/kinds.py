"""The kinds of data that are fitted: each is one module with the functions of `Kind`, found by the task of a model."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from .errors import UsageError
from .registry import HOMES

if TYPE_CHECKING:
    import polars as pl

    from .config import RunConfig
    from .explained import Explained
    from .tracking import TrackedRun


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


class Clock(Protocol):
    """Takes the time of the stages."""

    def lap(self, stage: str) -> None: ...
    @property
    def seconds(self) -> dict[str, float]: ...


class Read(Protocol):
    """Data that were read and checked, and the configuration with everything filled in that they decide."""

    @property
    def config(self) -> "RunConfig": ...
    @property
    def facts(self) -> Mapping[str, Any]: ...  # the parts `data` and `split` of a fit's document
    @property
    def fingerprint(self) -> str: ...


class Stored(Protocol):
    """A trained model with all that a forecast needs, as a folder of JSON and safetensors."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...  # of the registry
    @property
    def facts(self) -> Mapping[str, Any]: ...
    @property
    def options(self) -> Mapping[str, Any]: ...  # of `predict` that MLflow may pass, with their defaults
    def save(self, folder: Any) -> None: ...
    def predict(self, data: Any, **options: Any) -> Any: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a fit: the model, the scores of all, and what is told about it."""

    fitted: Any  # Stored
    scores: Mapping[str, Any]  # by forecaster, the model first
    metrics: Mapping[str, float]  # by flat name, for tracking
    document: dict[str, Any]  # what `--json` prints, but for the report and the registration
    html: str  # the report
    headline: str


@dataclass(frozen=True)
class Sample:
    """Made-up input that a stored model is tried on, the options, and how far its numbers may be off (absolute)."""

    table: "pl.DataFrame"
    options: Mapping[str, Any]
    tolerance: float


class Kind(Protocol):
    """The functions of the module of a kind."""

    def read(self, config: "RunConfig", source: Any, /) -> Any:
        """Read and check the data; nothing heavy is imported. Raises DataError and UsageError."""

    def require_buildable(self, found: Any, /) -> None:
        """Raise UsageError where the network cannot be built for these data."""

    def carry_out(self, found: Any, run: "TrackedRun", progress: Progress, clock: Clock, /) -> Outcome:
        """Train and score the model beside the baselines."""

    def judged(self, document: Mapping[str, Any], metric: str, /) -> dict[str, float]:
        """Give the test values of `metric` by forecaster from a fit's document: the model's and the baselines'."""

    def rescore(self, champion: Any, found: Any, metric: str, /) -> float:
        """Give the value of a stored model on the same test part. Raises UsageError where the two do not compare."""

    def sample(self, fitted: Any, /) -> Sample:
        """Make up what a stored model is tried on."""

    def explainer(self) -> Callable[..., "Explained"]:
        """Give the function that explains a stored model's answers for data: (fitted, data, told, options by name).

        Raises UsageError where models of this kind cannot be explained.
        """


def not_explained(what: str) -> NoReturn:
    """Raise the UsageError of kinds whose answers, about `what`, cannot be explained."""
    raise UsageError(
        f"Explanations are of models of series and of graphs with labels, not of {what}.",
        "Score its events with forecast predict, or compare it with the baselines of its report.",
    )


def kind_of(task: str) -> Kind:
    """Give the module of the kind of data that models of `task` are fitted to."""
    place = f"{HOMES[task]}.story" if task in HOMES else ".series"
    return cast(Kind, importlib.import_module(place, __package__))
