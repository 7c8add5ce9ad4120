"""The page of a fit on events: one self-contained HTML file with its scores, rankings, repairs and settings.

The module knows plain values only, nothing of networks, stores or tracking.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import figures
from ..figures import Look
from ..report import Verdict, aligned, card, escaped, facts, ledger, legend, legend_key, recipe, shell, table
from .settings import CONTROL

_NAMES = {"mrr": "MRR", "ap": "AP", "auc": "AUC", "hits@10": "Hits@10"}
_SEEN = {
    "batch": "the first event of a batch",
    "query": "each event; encoders see what came before the first event of its batch",
}
_TOLERANCE = 0.05  # by which shares may miss before the page says so


@dataclass(frozen=True)
class Report:
    """All that the page shows; of every metric, more is better."""

    title: str
    model: str
    facts: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]  # method -> metric -> value on test: the model, its control, the rules
    validation: Mapping[str, float]  # method -> MRR on validation
    metric: str  # the one that decides
    events: int  # of the test part
    within: Mapping[str, tuple[np.ndarray, np.ndarray]]  # method -> ranks, and the share of events that reach each
    over_time: Mapping[str, tuple[np.ndarray, np.ndarray]]  # method -> times and MRR
    groups: Mapping[str, tuple[int, Mapping[str, float]]]  # group of events -> how many, and method -> MRR
    reliability: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # share given, share right, events, by bin
    curve: Sequence[tuple[int, float, float]]  # epoch, training loss, validation MRR
    best_epoch: int
    repairs: Sequence[Mapping[str, object]]
    cautions: Sequence[Mapping[str, object]]
    config: str  # YAML
    command: str
    listed: bool  # whether the data say whom each event is ranked among
    cut: str  # "batch": what came before the first event of a batch is seen; "query": before each event

    @property
    def control(self) -> str | None:
        """The same decoder without the encoder, where it was trained."""
        name = f"{self.model}{CONTROL}"
        return name if name in self.scores else None


def verdict(report: Report) -> Verdict:
    """The model against the best of the simple rules on the deciding metric, in words."""
    values = {name: scores[report.metric] for name, scores in report.scores.items() if name != report.control}
    mine = values.pop(report.model)
    rival = max(values, key=values.__getitem__)
    theirs, name = values[rival], _NAMES[report.metric]
    pair = aligned([mine, theirs])
    numbers = f"{name} {pair[0]} against {pair[1]} on {report.events:,} test events."
    percent = 100 * (mine / theirs - 1) if theirs > 0 else math.inf
    if abs(percent) < 0.05:
        return Verdict("even", f"{report.model} does no better than the best rule, {rival}: {numbers}", rival)
    word = "better" if percent > 0 else "worse"
    return Verdict(word, f"{report.model} is {abs(percent):.1f}% {word} than the best rule, {rival}: {numbers}", rival)


def render(report: Report) -> str:
    """The whole page as HTML text: no scripts, no requests; the same report gives the same text."""
    outcome = verdict(report)
    shown = [report.model, *([report.control] if report.control else []), outcome.rival]
    looks = figures.looks(report.model, shown)
    sections = {
        "Scores on the test part": _score_table(report),
        "Rankings": _rankings(report, shown, looks),
        "Who is ranked well": _group_table(report, shown),
        "Do the shares hold?": _shares(report),
        "Training": _training(report),
        "Data": facts(report.facts),
        "Repairs": ledger(report.repairs, "None: the data was used as it was read."),
        "Cautions": ledger(report.cautions, "None."),
        "To do it again": recipe(report.command, report.config),
    }
    return shell(report.title, outcome.word, outcome.headline, _second_line(report, outcome), sections)


def _second_line(report: Report, outcome: Verdict) -> str:
    words = []
    if outcome.word != "better":
        words.append("The rule costs nothing to train, so this model has not earned its place.")
    if report.control:
        mine, control = (report.scores[name][report.metric] for name in (report.model, report.control))
        pair = aligned([control, mine])
        words.append(
            f"Without its encoder the same decoder reaches {_NAMES[report.metric]} {pair[0]}: "
            + ("the encoder adds to that." if mine > control else "the encoder adds nothing here.")
        )
    return f"<p>{escaped(' '.join(words))}</p>" if words else ""


def _score_table(report: Report) -> str:
    metrics = list(next(iter(report.scores.values())))
    columns = [[scores[metric] for scores in report.scores.values()] for metric in metrics]
    columns.append([report.validation[name] for name in report.scores])
    cells: list[list[str]] = [[] for _ in report.scores]
    for values in columns:
        best = max(values)
        for row, value, text in zip(cells, values, aligned(values), strict=True):
            row.append(f'<td class="best"><b>{text}</b></td>' if value == best else f"<td>{text}</td>")
    tags = {metric: '<span class="tag">decides</span>' if metric == report.metric else "" for metric in metrics}
    head = "".join(f"<th>{_NAMES[metric]}{tags[metric]}</th>" for metric in metrics)
    rows = (
        f'<tr{" class=model" * (name == report.model)}><th class="name" scope="row">{escaped(name)}</th>'
        f"{''.join(row)}</tr>\n"
        for name, row in zip(report.scores, cells, strict=True)
    )
    note = "Higher is better throughout; the tinted bold value is the best of its column. MRR and hits rank each event "
    note += "among the destinations listed for it" if report.listed else "among all destinations but its true ones"
    note += (
        ", AP and AUC tell it from one of these drawn at random. All methods rank the same events and see what came "
    )
    note += f"strictly before {_SEEN[report.cut]}."
    return table(f"<tr><th>method</th>{head}<th>MRR, validation</th></tr>", rows) + f'<p class="note">{note}</p>\n'


def _rankings(report: Report, shown: Sequence[str], looks: Mapping[str, Look]) -> str:
    keys = legend([legend_key(name, looks[name]) for name in shown])
    within = {name: report.within[name] for name in shown}
    over_time = {name: report.over_time[name] for name in shown}
    drawings = (
        (
            "Events among the first k",
            figures.lines_figure(
                "within",
                "Share of events ranked within k",
                within,
                looks,
                "k, logarithmic",
                "share of events",
                log=True,
            ),
        ),
        ("MRR over time", figures.lines_figure("time", "MRR over the test part", over_time, looks, "", "MRR")),
    )
    cards = "".join(card(f"<b>{caption}</b>", keys, drawing) for caption, drawing in drawings)
    return f'<div class="grid">\n{cards}</div>\n'


def _group_table(report: Report, shown: Sequence[str]) -> str:
    rows = []
    for name, (events, values) in report.groups.items():
        numbers = aligned([values[who] for who in shown])
        best = max(values[who] for who in shown)
        cells = "".join(
            f'<td class="best"><b>{text}</b></td>' if values[who] == best else f"<td>{text}</td>"
            for who, text in zip(shown, numbers, strict=True)
        )
        share = f"{100 * events / report.events:.1f}%"
        rows.append(f'<tr><th class="name" scope="row">{escaped(name)}</th><td>{share}</td>{cells}</tr>\n')
    head = "".join(f"<th>{escaped(who)}</th>" for who in shown)
    note = "MRR on the test part, by what node or pair had done strictly before each event."
    return table(f"<tr><th>events whose</th><th>share</th>{head}</tr>", rows) + f'<p class="note">{note}</p>\n'


def _shares(report: Report) -> str:
    if report.reliability is None:
        return ""
    given, right, events = report.reliability
    off = float(np.average(np.abs(given - right), weights=events))
    mean = float(np.average(given - right, weights=events))
    if off <= _TOLERANCE:
        words = f"They do: on average they are {100 * off:.1f} points off."
    else:
        way = "too high" if mean > 0 else "too low"
        words = (
            f"On average they are {100 * off:.1f} points off, mostly {way}: read scores as an order, not as chances."
        )
    look = {report.model: figures.MODEL}
    drawing = figures.lines_figure(
        "shares",
        "Share right by share given",
        {report.model: (given, right)},
        look,
        "share given",
        "right",
        diagonal=True,
    )
    keys = legend([legend_key(report.model, figures.MODEL)])
    caption = "<b>The first of each ranking: how often right, by its share in a softmax</b>"
    return f'<p>{escaped(words)}</p>\n<div class="grid">\n{card(caption, keys, drawing)}</div>\n'


def _training(report: Report) -> str:
    epochs, loss, mrr = (np.array(column, dtype=float) for column in zip(*report.curve, strict=True))
    cards = []
    for key, caption, values, look in (
        ("loss", "Training loss", loss, figures.TRAINING),
        ("mrr", "Validation MRR", mrr, figures.MODEL),
    ):
        lines = {caption: (epochs, values)}
        drawing = figures.lines_figure(key, caption, lines, {caption: look}, "epoch", "", kept=report.best_epoch)
        note = f"kept: epoch {report.best_epoch} of {len(report.curve)}"
        cards.append(card(f'<b>{caption}</b> <span class="note">{note}</span>', "", drawing))
    return f'<div class="grid">\n{"".join(cards)}</div>\n'
