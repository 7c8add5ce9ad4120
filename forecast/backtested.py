"""What a backtest found: its forecasts as a table, scores by window and over all, lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_COLUMNS = (("scaled", "mse"), ("scaled", "mae"), ("original", "mae"), ("original", "rmse"), ("original", "mase"))
_SEEN = {
    "training": "in training",  # of the model; some of what is forecast was
    "fit": "at the fit",  # chose the epoch, set the intervals or was the test
    "no": "",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Backtest:
    """Forecasts from past cutoffs beside what came.

    `table` has `unique_id, cutoff, ds, y, yhat`, `yhat_lo_80, yhat_hi_80` … for each level and one column a baseline,
    in the frame library that was given (polars for a path); `document` is what `--json` prints; `run` the MLflow run.
    """

    run: str
    table: Any
    document: Mapping[str, Any]

    @property
    def scores(self) -> Mapping[str, Any]:
        """Errors over all windows by forecaster, `scaled` and `original` as in a fit's document."""
        found: Mapping[str, Any] = self.document["scores"]
        return found

    def text(self) -> str:
        """Give a line a window for the model, then all forecasters over all windows, the best of a column marked."""
        told, model = self.document, self.document["model"]
        how = {None: "a stored model", False: "fitted once", True: "fitted anew at each cutoff"}[told["refit"]]
        lines = [
            f"{model} on {told['data']['source']}: {len(told['windows'])} windows of {told['horizon']} steps, "
            f"one every {told['step']}, {how}",
            "",
        ]
        cutoffs = [window["cutoff"] for window in told["windows"]]
        names = list(told["scores"])
        width = max(map(len, ("over all windows", *cutoffs, *names)))
        seen = any(window["seen"] != "no" for window in told["windows"])
        lines.append(f"{'':<{width}}{'scaled':>12}{'':>12}{'original units':>36}")
        head = "".join(f"{name:>12}" for _, name in _COLUMNS)
        lines.append(f"{'cutoff':<{width}}{head}{'   seen' if seen else ''}".rstrip())
        for window in told["windows"]:
            cells = _cells(window["scores"][model], {})
            note = f"  {_SEEN[window['seen']]}" if seen else ""
            lines.append(f"{window['cutoff']:<{width}}{cells}{note}".rstrip())
        lines += ["", f"{'over all windows':<{width}}{head}".rstrip()]
        best = _best(list(told["scores"].values()))
        lines += [f"{name:<{width}}{_cells(told['scores'][name], best)}".rstrip() for name in names]
        lines.append("* best of its column")
        if told["coverage"]:
            shares = (f"{level} % covered {_percent(share)}" for level, share in told["coverage"].items())
            lines.append(f"intervals: {', '.join(shares)}")
        if any(window["seen"] in ("training", "unknown") for window in told["windows"]):
            lines.append("Windows seen in training say nothing about forecasts of the future.")
        lines.append(f"run {told['run']}, {told['seconds']:.0f} s")
        return "\n".join(lines)


def _cells(scores: Mapping[str, Any], best: Mapping[Any, float]) -> str:
    cells = ""
    for part, metric in _COLUMNS:
        value = scores[part][metric]
        text = "–" if value is None else f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
        cells += f"{text + ('*' if value is not None and value == best.get((part, metric)) else ' '):>12}"
    return cells


def _best(scores: Sequence[Mapping[str, Any]]) -> dict[Any, float]:
    found = {}
    for part, metric in _COLUMNS:
        values = [score[part][metric] for score in scores if score[part][metric] is not None]
        if values:
            found[part, metric] = min(values)
    return found


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
