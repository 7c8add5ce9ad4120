"""What the commands print: progress and logs on standard error, results on standard output."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .gate import HIGHER

_SERIES = (
    ("scaled", "mse"),
    ("scaled", "mae"),
    ("original", "mae"),
    ("original", "rmse"),
    ("original", "mase"),
    ("original", "smape"),
)
_NODES = ("auc", "ap")
_LINKS = ("mrr", "hits@10", "ap", "auc")


class Progress:
    """Says on standard error what was understood and what is being done; stages in passing on a terminal only."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def understood(self, facts: Mapping[str, Any]) -> None:
        _UNDERSTOOD[facts["kind"]](facts)
        ends = "; ".join(
            f"{part} {size:,}" if isinstance(size, int) else f"{part} {' to '.join(size)}"
            for part, size in facts["split"].items()
        )
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
        if "labelled" in document:
            counts = document["labelled"]["test"]
            echo(f"test, {counts['labels']:,} labels, {counts['positives']:,} of them 1")
            _show_scores(_NODES, {who: [scores[name] for name in _NODES] for who, scores in found.items()})
        elif document["data"]["kind"] == "events":
            count, ranked = document["events"]["test"], document["candidates"]
            listed = "listed " if document["listed"] else ""
            echo(f"test, {count:,} events, each ranked among {ranked:,} {listed}destinations")
            _show_scores(_LINKS, {who: [scores[name] for name in _LINKS] for who, scores in found.items()})
        elif document["data"]["kind"] == "graphs":
            _graphs_scored(document)
        else:
            echo(f"test, {document['windows']['test']:,} windows{'scaled':>15}{'':>11}{'original units':>28}")
            values = {who: [scores[part][name] for part, name in _SERIES] for who, scores in found.items()}
            _show_scores([name for _, name in _SERIES], values)
            _show_steps(document)
            if "search" in document:
                _show_search(document)
        if coverage := document.get("coverage"):
            echo("intervals: " + ", ".join(f"{level} % covered {share:.1%}" for level, share in coverage.items()))
        if cut := document.get("cut_short"):
            echo(f"cut short by the time limit: {'; '.join(cut)}")
        echo(f"run {document['run']}, {document['seconds']['total']:.0f} s, report {document['report']}")


def _series_understood(facts: Mapping[str, Any]) -> None:
    span = " to ".join(facts["span"])
    log(f"{facts['source']}: {facts['rows']:,} rows, {facts['layout']} series, step {facts['freq']}, {span}")
    some = facts["forecasts"]
    names = ", ".join(some[:8]) + (", …" if len(some) > 8 else "")
    log(f"{facts['series']:,} series × {facts['variates']:,} variates; to forecast: {names or 'the series'}")
    if graph := facts.get("graph"):
        log(_graph(graph))
    log(f"looks back {facts['lookback']} steps, forecasts {facts['horizon']}")


def _graph(told: Mapping[str, Any]) -> str:
    edges = f"{told['edges']:,} edges, those that run back among them"
    if told["source"] == "none":
        return "graph: no edges"
    if told["source"] == "correlation":
        return f"graph: {edges}, between variates that correlate most in the training part; --edges gives others"
    if told["source"] == "distance":
        return f"graph: {edges}, between the nearest variates by latitude and longitude; --edges gives others"
    return f"graph: {edges}, {'with' if told['weights'] else 'without'} weights, of {told['source']}"


def _events_understood(facts: Mapping[str, Any]) -> None:
    columns = facts["columns"]
    log(f"{facts['source']}: {facts['events']:,} events, {' to '.join(facts['span'])}")
    apart = "two kinds of nodes" if facts["bipartite"] else "one kind of nodes"
    log(f"{facts['sources']:,} sources, {facts['destinations']:,} destinations, {apart}, {facts['pairs']:,} pairs")
    read = f"source {columns['src']}, destination {columns['dst']}, time {columns['time']}"
    log(f"columns: {read}, label {columns['label'] or 'none'}, {len(columns['features'])} features")
    if some := facts.get("labelled"):
        log(
            "labels: "
            + ", ".join(f"{part} {one['labels']:,} ({one['positives']:,} are 1)" for part, one in some.items())
        )


def _graphs_understood(facts: Mapping[str, Any]) -> None:
    log(f"{facts['source']}: {facts['graphs']:,} graphs, {facts['nodes']:,} nodes, {facts['edges']:,} edges")
    names = ", ".join(facts["targets"][:8]) + (", …" if len(facts["targets"]) > 8 else "")
    log(f"{facts['task'].replace('_', ' ')}: {names}")
    (columns, kind), (edge_columns, edge_kind) = facts["node_features"], facts["edge_features"]
    log(f"features: {columns} a node, read as {kind}; {edge_columns} an edge, read as {edge_kind}")


_UNDERSTOOD = {"series": _series_understood, "events": _events_understood, "graphs": _graphs_understood}


def tell_ledger(facts: Mapping[str, Any]) -> None:
    """Say every repair and warning."""
    for repair in facts["repairs"]:
        log(f"repair   {repair['kind']}: {repair['count']:,}, first {repair['first']}: {repair['detail']}")
    for caution in facts["warnings"]:
        log(f"warning  {caution['kind']}: {caution['column']} {caution['value']} ({caution['count']:,})")


def tell_read(facts: Mapping[str, Any]) -> None:
    """Say what was read to forecast from, its ledger, and what the model has not met."""
    if "series" in facts:
        log(f"{facts['source']}: {facts['rows']:,} rows, {facts['series']:,} series")
        meaning = "not met at the fit, scaled by their own values"
    elif "graphs" in facts:
        log(f"{facts['source']}: {facts['graphs']:,} graphs, {facts['nodes']:,} nodes")
        meaning = ""
    else:
        log(f"{facts['source']}: {facts['rows']:,} queries, {facts['events']:,} events since the fit")
        meaning = "nodes without a past, scored as such"
    tell_ledger(facts)
    if some := facts["unseen"]:
        log(f"unseen   {len(some):,} {meaning}: {', '.join(some[:8])}{', …' if len(some) > 8 else ''}")


def show_model(described: Mapping[str, Any]) -> None:
    """Describe a stored model from what its `model.json` says."""
    shape, settings = described["shape"], dict(described["model"])
    name = settings.pop("name")
    if described.get("task", "series") == "series":
        columns, variates = described["schema"], described["variates"]
        echo(f"{name}: {shape['lookback']} → {shape['horizon']} steps of {columns['freq']}")
        echo(f"columns   time {columns['time']}, id {columns['id']}, layout {columns['layout']}")
        echo(f"variates  {len(variates)}: {', '.join(variates[:12])}")
    elif described["task"] == "graphs":
        targets, reader = described["targets"], described["reader"]
        echo(f"{name}: {targets['task']['name'].replace('_', ' ')}")
        echo(f"targets   {', '.join(targets['names'][:12])}")
        kinds = (f"{reader[part]['columns']} of {part}, read as {reader[part]['kind']}" for part in ("nodes", "edges"))
        echo("features  " + "; ".join(kinds))
    else:
        what = "states" if described["task"] == "nodes" else "links"
        echo(f"{name}: {what} of {shape['nodes']:,} nodes, {shape['edge_features']:,} features an event")
        echo("columns   " + ", ".join(f"{end} {column}" for end, column in described["ends"].items()))
    echo("settings  " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    for key, value in described["facts"].items():
        echo(f"{key}  {value}")


def _show_scores(heads: Sequence[str], values: Mapping[str, list[float | None]]) -> None:
    """Print one table, the model first: its values under the metrics, the best of each column marked."""
    best = [
        (max if head in HIGHER else min)((v for v in column if v is not None), default=None)
        for head, column in zip(heads, zip(*values.values(), strict=True), strict=True)
    ]
    name = max(18, 2 + max(map(len, values)))
    echo(f"{'':<{name}}" + "".join(f"{head:>12}" for head in heads))
    for who, row in values.items():
        texts = ["–" if v is None else f"{v:.3f}" if abs(v) < 1000 else f"{v:,.0f}" for v in row]
        marks = ["*" if v is not None and v == top else " " for v, top in zip(row, best, strict=True)]
        echo(f"{who:<{name}}" + "".join(f"{text + mark:>12}" for text, mark in zip(texts, marks, strict=True)))
    echo("* best of its column")


def _show_steps(document: Mapping[str, Any]) -> None:
    """Print the errors at single steps, where they were measured."""
    found = {**document["scores"], **document.get("controls", {})}
    steps = next(iter(found.values())).get("steps", {})
    for step in steps:
        echo(f"\nstep {step}, original units, mape in per cent")
        _show_scores(list(steps[step]), {who: list(one["steps"][step].values()) for who, one in found.items()})


def _graphs_scored(document: Mapping[str, Any]) -> None:
    """Print the scores of the test part, and what the search found."""
    found = document["scores"]
    graphs = document["split"]["test"]
    echo(f"test, {graphs:,} graph{'' if graphs == 1 else 's'}, judged by {document['metric']}")
    names = list(found[document["model"]])
    groups = {"": found}
    if "search" in document:
        groups["controls"] = {document["model"]: found[document["model"]], **document["controls"]}
    for group, scores in groups.items():
        if group:
            _show_found(document["search"])
        _show_scores(names, {who: list(one.values()) for who, one in scores.items()})


def _show_search(document: Mapping[str, Any]) -> None:
    """Print what a search found, how sure it was, and how one operator in every layer does instead."""
    _show_found(document["search"])
    own = {document["model"]: document["scores"][document["model"]], **document["controls"]}
    values = {who: [scores[part][name] for part, name in _SERIES] for who, scores in own.items()}
    _show_scores([name for _, name in _SERIES], values)


def _show_found(found: Mapping[str, Any]) -> None:
    """Print what a search found, and how sure it was."""
    epochs = found["epochs"]
    echo(f"\nsearched in {epochs} epoch{'' if epochs == 1 else 's'}: {', '.join(found['operators'])}")
    for layer, (row, verdict) in enumerate(zip(found["probabilities"], found["verdicts"], strict=True), start=1):
        shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(found["candidates"], row, strict=True))
        echo(f"  layer {layer}: {shares}; {verdict}")
    echo("\ncontrols: the same operator in every layer, trained alike")


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
