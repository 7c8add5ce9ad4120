"""What the commands print: progress and logs on standard error, results on standard output."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SERIES = (
    ("scaled", "mse"),
    ("scaled", "mae"),
    ("original", "mae"),
    ("original", "rmse"),
    ("original", "mase"),
    ("original", "smape"),
)
_LINKS = ("mrr", "hits@10", "ap", "auc")


class Progress:
    """Says on standard error what was understood and what is being done; stages in passing on a terminal only."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def understood(self, facts: Mapping[str, Any]) -> None:
        _UNDERSTOOD[facts["kind"]](facts)
        ends = "; ".join(f"{part} {' to '.join(span)}" for part, span in facts["split"].items())
        log(f"split by {facts['split_by']}: {ends}")
        tell_ledger(facts)

    def stage(self, text: str) -> None:
        log(f"{text} …")

    def cell(self, text: str) -> None:
        log(text)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        if not self.live:  # a terminal has a bar
            validation = next(f"{name} {value:.4g}" for name, value in values.items() if name.startswith("val"))
            log(f"epoch {number}: training {values['train_loss']:.4g}, {validation}")

    def scored(self, document: Mapping[str, Any]) -> None:
        found = document["scores"]
        echo("")
        if document["data"]["kind"] == "events":
            count, ranked = document["events"]["test"], document["candidates"]
            echo(f"test, {count:,} events, each ranked among {ranked:,} destinations")
            _show_scores(_LINKS, {who: [scores[name] for name in _LINKS] for who, scores in found.items()}, max)
        else:
            echo(f"test, {document['windows']['test']:,} windows{'scaled':>15}{'':>11}{'original units':>28}")
            values = {who: [scores[part][name] for part, name in _SERIES] for who, scores in found.items()}
            _show_scores([name for _, name in _SERIES], values, min)
        if coverage := document.get("coverage"):
            echo("intervals: " + ", ".join(f"{level} % covered {share:.1%}" for level, share in coverage.items()))
        echo(f"run {document['run']}, {document['seconds']['total']:.0f} s, report {document['report']}")


def _series_understood(facts: Mapping[str, Any]) -> None:
    span = " to ".join(facts["span"])
    log(f"{facts['source']}: {facts['rows']:,} rows, {facts['layout']} series, step {facts['freq']}, {span}")
    some = facts["forecasts"]
    names = ", ".join(some[:8]) + (", …" if len(some) > 8 else "")
    log(f"{facts['series']:,} series × {facts['variates']:,} variates; to forecast: {names or 'the series'}")
    log(f"looks back {facts['lookback']} steps, forecasts {facts['horizon']}")


def _events_understood(facts: Mapping[str, Any]) -> None:
    columns = facts["columns"]
    log(f"{facts['source']}: {facts['events']:,} events, {' to '.join(facts['span'])}")
    apart = "two kinds of nodes" if facts["bipartite"] else "one kind of nodes"
    log(f"{facts['sources']:,} sources, {facts['destinations']:,} destinations, {apart}, {facts['pairs']:,} pairs")
    read = f"source {columns['src']}, destination {columns['dst']}, time {columns['time']}"
    log(f"columns: {read}, label {columns['label'] or 'none'}, {len(columns['features'])} features")


_UNDERSTOOD = {"series": _series_understood, "events": _events_understood}


def tell_ledger(facts: Mapping[str, Any]) -> None:
    """Say every repair and warning."""
    for repair in facts["repairs"]:
        log(f"repair   {repair['kind']}: {repair['count']:,}, first {repair['first']}: {repair['detail']}")
    for caution in facts["warnings"]:
        log(f"warning  {caution['kind']}: {caution['column']} {caution['value']} ({caution['count']:,})")


def _show_scores(heads: Sequence[str], values: Mapping[str, list[float | None]], best_of: Callable[..., Any]) -> None:
    """Print one table, the model first: its values under the heads, the best of each column marked."""
    best = [
        best_of((v for v in column if v is not None), default=None) for column in zip(*values.values(), strict=True)
    ]
    name = max(18, 2 + max(map(len, values)))
    echo(f"{'':<{name}}" + "".join(f"{head:>12}" for head in heads))
    for who, row in values.items():
        texts = ["–" if v is None else f"{v:.3f}" if abs(v) < 1000 else f"{v:,.0f}" for v in row]
        marks = ["*" if v is not None and v == top else " " for v, top in zip(row, best, strict=True)]
        echo(f"{who:<{name}}" + "".join(f"{text + mark:>12}" for text, mark in zip(texts, marks, strict=True)))
    echo("* best of its column")


def width() -> int:
    """Give the width of the terminal, within reason; 80 elsewhere."""
    return max(60, min(shutil.get_terminal_size().columns, 120)) if sys.stdout.isatty() else 80


def echo(text: str) -> None:
    """Print a result."""
    print(text)


def log(text: str) -> None:
    """Print what is not a result."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print the one document of `--json`."""
    print(json.dumps(document, indent=1, ensure_ascii=False))
