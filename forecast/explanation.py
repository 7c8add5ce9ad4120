"""explain: what the answers of a stored model rest on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import UsageError, own
from .kinds import kind_of
from .prediction import opened, require_options, task_of

if TYPE_CHECKING:
    from .explained import Explained
    from .heads import Ranking


def explain(
    model: Any,
    data: Any,
    *,
    windows: int | None = None,
    repeats: int | None = None,
    graphs: int | None = None,
    ranking: "Ranking | None" = None,
    seed: int | None = None,
    static: Any = None,
    told: Callable[[str], None] | None = None,
) -> "Explained":
    """Measure what the answers of `model` (what `forecast.predict` takes) rest on for `data` (path, polars or pandas).

    Of a model of series: how much its error rises when one input is exchanged between windows, by target and by step,
    and where its attention goes; of darts-gt also what its heads do. `data` needs known answers for at least two
    windows. `windows` of them are used, evenly spaced, after the training part where it has any such: 200, fewer where
    many variates would make that long. Each of `repeats` (5, or 2 of many inputs) draws other exchanges from `seed`
    (0). `static` gives static features of series that the model was not trained on.

    Of a model of graphs with labels: how much its error rises without each head, and which nodes the heads that help
    look at, for `graphs` (200) evenly spaced ones; where `data` have no labels, how far the answers move. `ranking`
    says how nodes rank by attention: "robust", the default, by what they are given, "reference" as the authors' code
    does it, which in sparse attention is by what they give.

    `told` is called with what is being done. Raises DataError for data that are too short or do not fit the model,
    UsageError for a wrong number, an option that does not belong to the model, and a kind of model that cannot be
    explained, ArtifactError for a model that cannot be used.
    """
    fitted = opened(model)
    explained = kind_of(task_of(fitted)).explainer()
    options = {
        "windows": windows,
        "repeats": repeats,
        "graphs": graphs,
        "ranking": ranking,
        "seed": seed,
        "static": static,
    }
    given = {name: value for name, value in options.items() if value is not None}
    require_options(explained, given, "explanations")
    if ranking not in (None, "robust", "reference"):
        raise UsageError(f"There is no ranking {ranking!r}.", "Choose robust or reference.")
    try:
        return explained(fitted, data, told or (lambda text: None), **given)
    except Exception as error:
        raise own(error) from error.__cause__
