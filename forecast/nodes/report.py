"""The page of a fit on node states: one self-contained HTML file with its scores, calibration, repairs and settings.

The module knows plain values only, nothing of networks, stores or tracking.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import figures
from ..report import Verdict, aligned, card, escaped, facts, ledger, legend, legend_key, recipe, shell, table
from .settings import CONTROL

_NAMES = {"auc": "AUC", "ap": "AP"}


@dataclass(frozen=True)
class Report:
    """All that the page shows; of every metric, more is better."""

    title: str
    model: str
    facts: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]  # method -> metric -> value on test: the model, its control, the rules
    validation: Mapping[str, float]  # method -> the deciding metric on validation
    metric: str  # the one that decides
    labels: int  # of the test part
    positives: int  # of these
    calibration: tuple[np.ndarray, np.ndarray, np.ndarray]  # mean probability, share that is 1, labels, by bin
    curve: Sequence[tuple[int, float, float]]  # epoch, training loss, validation AUC
    best_epoch: int
    repairs: Sequence[Mapping[str, object]]
    cautions: Sequence[Mapping[str, object]]
    config: str  # YAML
    command: str

    @property
    def control(self) -> str | None:
        """The same head without the encoder, where it was trained."""
        name = f"{self.model}{CONTROL}"
        return name if name in self.scores else None


def verdict(report: Report) -> Verdict:
    """The model against the best of the simple rules on the deciding metric, in words."""
    values = {name: scores[report.metric] for name, scores in report.scores.items() if name != report.control}
    mine = values.pop(report.model)
    rival = max(values, key=values.__getitem__)
    theirs, name = values[rival], _NAMES[report.metric]
    pair = aligned([mine, theirs])
    numbers = f"{name} {pair[0]} against {pair[1]} on {report.labels:,} test labels, {report.positives:,} of them 1."
    percent = 100 * (mine / theirs - 1) if theirs > 0 else math.inf
    if abs(percent) < 0.05:
        return Verdict("even", f"{report.model} does no better than the best rule, {rival}: {numbers}", rival)
    word = "better" if percent > 0 else "worse"
    return Verdict(word, f"{report.model} is {abs(percent):.1f}% {word} than the best rule, {rival}: {numbers}", rival)


def render(report: Report) -> str:
    """The whole page as HTML text: no scripts, no requests; the same report gives the same text."""
    outcome = verdict(report)
    sections = {
        "Scores on the test part": _score_table(report),
        "Do the probabilities hold?": _calibration(report),
        "Training of the head": _training(report),
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
            f"Without its encoder the same head reaches {_NAMES[report.metric]} {pair[0]}: "
            + ("the encoder adds to that." if mine > control else "the encoder adds nothing here.")
        )
    return f"<p>{escaped(' '.join(words))}</p>" if words else ""


def _score_table(report: Report) -> str:
    columns = [[scores[metric] for scores in report.scores.values()] for metric in _NAMES]
    columns.append([report.validation[name] for name in report.scores])
    cells: list[list[str]] = [[] for _ in report.scores]
    for values in columns:
        best = max(values)
        for row, value, text in zip(cells, values, aligned(values), strict=True):
            row.append(f'<td class="best"><b>{text}</b></td>' if value == best else f"<td>{text}</td>")
    tags = {metric: '<span class="tag">decides</span>' if metric == report.metric else "" for metric in _NAMES}
    head = "".join(f"<th>{name}{tags[metric]}</th>" for metric, name in _NAMES.items())
    rows = (
        f'<tr{" class=model" * (name == report.model)}><th class="name" scope="row">{escaped(name)}</th>'
        f"{''.join(row)}</tr>\n"
        for name, row in zip(report.scores, cells, strict=True)
    )
    note = (
        "Higher is better throughout; the tinted bold value is the best of its column. AUC is the share of pairs of a "
    )
    note += "label 1 and a label 0 that are told in the right order, 0.5 by chance; AP of a guess is the share of 1s, "
    note += (
        f"{report.positives / report.labels:.3g}. All methods see what came strictly before the first event of a batch."
    )
    heads = f"<tr><th>method</th>{head}<th>{_NAMES[report.metric]}, validation</th></tr>"
    return table(heads, rows) + f'<p class="note">{escaped(note)}</p>\n'


def _calibration(report: Report) -> str:
    given, right, labels = report.calibration
    told, there = float(np.average(given, weights=labels)), float(np.average(right, weights=labels))
    words = f"On average {100 * told:.3g}% was told, and {100 * there:.3g}% of the labels are 1."
    drawing = figures.lines_figure(
        "probabilities",
        "Share of 1s by probability",
        {report.model: (given, right)},
        {report.model: figures.MODEL},
        "probability told",
        "share of 1s",
        diagonal=True,
    )
    keys = legend([legend_key(report.model, figures.MODEL)])
    caption = "<b>Test labels in ten bins by probability: how often they are 1</b>"
    return f'<p>{escaped(words)}</p>\n<div class="grid">\n{card(caption, keys, drawing)}</div>\n'


def _training(report: Report) -> str:
    epochs, loss, auc = (np.array(column, dtype=float) for column in zip(*report.curve, strict=True))
    cards = []
    for key, caption, values, look in (
        ("loss", "Training loss", loss, figures.TRAINING),
        ("auc", "Validation AUC", auc, figures.MODEL),
    ):
        lines = {caption: (epochs, values)}
        drawing = figures.lines_figure(key, caption, lines, {caption: look}, "epoch", "", kept=report.best_epoch)
        note = f"kept: epoch {report.best_epoch} of {len(report.curve)}"
        cards.append(card(f'<b>{caption}</b> <span class="note">{note}</span>', "", drawing))
    return f'<div class="grid">\n{"".join(cards)}</div>\n'
