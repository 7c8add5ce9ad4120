"""The page of a fit on graphs: one self-contained HTML file with scores, search, answers, repairs and settings.

The module knows plain values only, nothing of networks, stores or tracking.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .. import figures
from ..gate import HIGHER, best_of
from ..report import (
    DASH,
    Verdict,
    aligned,
    card,
    escaped,
    facts,
    ledger,
    legend,
    legend_key,
    recipe,
    shell,
    table,
)
from ..sensors_page import architecture

_NAMES = {
    "mae": "MAE",
    "r2": "R²",
    "auc": "ROC-AUC",
    "ap": "AP",
    "accuracy": "accuracy",
    "accuracy_sbm": "accuracy, mean of classes",
    "loss": "loss",
}
_TOLERANCE = 0.05  # by which chances may miss before the page says so
Values = Mapping[str, float | None]  # by metric


class Answers(NamedTuple):
    """Mean answer, mean truth and how many, from the lowest answers up, (bins,) each."""

    kind: str  # "values" or "chances"
    given: np.ndarray
    true: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    model: str
    facts: Mapping[str, str]
    scores: Mapping[str, Values]  # method -> metrics on test: the model first, then the baselines
    validation: Mapping[str, Values]  # the same on validation, of controls, too
    controls: Mapping[str, Values]  # the network with one operator in every layer -> metrics on test
    search: Mapping[str, object] | None  # `search` of the document
    metric: str  # the one that decides
    tested: str  # "4,113 test graphs"
    answers: Answers
    curve: Sequence[tuple[int, float, float]]  # epoch, training loss, value on validation
    validated_by: str  # which metric that value is
    best_epoch: int
    repairs: Sequence[Mapping[str, object]]
    cautions: Sequence[Mapping[str, object]]
    config: str  # YAML
    command: str
    more: Mapping[str, str] = field(default_factory=dict)  # HTML by heading


def verdict(report: Report) -> Verdict:
    """The model against the best baseline on the deciding metric, in words."""
    values = {name: math.nan if (v := scores[report.metric]) is None else v for name, scores in report.scores.items()}
    mine = values.pop(report.model)
    rival = best_of(values, report.metric)
    theirs = values[rival]
    pair = aligned([mine, theirs])
    numbers = f"{_NAMES[report.metric]} {pair[0]} against {pair[1]} on {report.tested}."
    gain = mine - theirs if report.metric in HIGHER else theirs - mine
    if not math.isfinite(gain):
        return Verdict("even", f"Nothing can be said of {report.model}: {numbers}", rival)
    if abs(gain) < 5e-4 * max(abs(theirs), 1e-12):
        return Verdict("even", f"{report.model} does no better than {rival}: {numbers}", rival)
    word = "better" if gain > 0 else "worse"
    return Verdict(word, f"{report.model} is {word} than {rival}: {numbers}", rival)


def render(report: Report) -> str:
    """The whole page as HTML text: no scripts, no requests; the same report gives the same text."""
    outcome = verdict(report)
    sections = {
        "Scores on the test part": _score_table(report),
        "The search": _search(report),
        "Do the chances hold?" if report.answers.kind == "chances" else "Answers and truth": _answers(report),
        **report.more,
        "Training": _training(report),
        "Data": facts(report.facts),
        "Repairs": ledger(report.repairs, "None: the data was used as it was read."),
        "Cautions": ledger(report.cautions, "None."),
        "To do it again": recipe(report.command, report.config),
    }
    line = ""
    if outcome.word != "better":
        line = "<p>The baseline costs little to train, so this model has not earned its place.</p>"
    return shell(report.title, outcome.word, outcome.headline, line, sections)


def _score_table(report: Report) -> str:
    note = "The tinted bold value is the best of its column. "
    note += "prior gives one answer to all; linear is a linear model on means of features and on counts."
    return _table(report, report.scores) + f'<p class="note">{note}</p>\n'


def _table(report: Report, scores: Mapping[str, Values]) -> str:
    metrics = list(next(iter(scores.values())))
    columns = [(metric, [one[metric] for one in scores.values()]) for metric in metrics]
    columns.append((report.metric, [report.validation[name][report.metric] for name in scores]))
    cells: list[list[str]] = [[] for _ in scores]
    for metric, column in columns:
        values = [math.nan if value is None else value for value in column]
        known = [value for value in values if not math.isnan(value)]
        best = (max if metric in HIGHER else min)(known, default=math.nan)
        for row, value, text in zip(cells, values, aligned(values), strict=True):
            row.append(f'<td class="best"><b>{text}</b></td>' if value == best else f"<td>{text}</td>")
    tags = {metric: '<span class="tag">decides</span>' if metric == report.metric else "" for metric in metrics}
    head = "".join(f"<th>{_NAMES[metric]}{tags[metric]}</th>" for metric in metrics)
    rows = (
        f'<tr{" class=model" * (name == report.model)}><th class="name" scope="row">{escaped(name)}</th>'
        f"{''.join(row)}</tr>\n"
        for name, row in zip(scores, cells, strict=True)
    )
    return table(f"<tr><th>method</th>{head}<th>{_NAMES[report.metric]}, validation</th></tr>", rows)


def _search(report: Report) -> str:
    if report.search is None:
        return ""
    beside = _table(report, {report.model: report.scores[report.model], **report.controls})
    note = '<p class="note">Below the searched network those with one operator in every layer, trained alike.</p>\n'
    return architecture(report.search) + beside + note


def _answers(report: Report) -> str:
    answers = report.answers
    if not len(answers.size):
        return ""
    off = float(np.average(np.abs(answers.given - answers.true), weights=answers.size))
    if answers.kind == "chances":
        words = f"On average they are {100 * off:.1f} points off" + (
            ": read them as chances." if off <= _TOLERANCE else ": read them as an order, not as chances."
        )
        look = {report.model: figures.MODEL}
        lines = {report.model: (answers.given, answers.true)}
        label = "Share that is true by chance given"
        drawing = figures.lines_figure("chances", label, lines, look, "chance given", "true", diagonal=True)
        keys = legend([legend_key(report.model, figures.MODEL)])
        caption = f"<b>How often true, by the chance given, in tenths of {escaped(report.tested)}</b>"
        return f'<p>{escaped(words)}</p>\n<div class="grid">\n{card(caption, keys, drawing)}</div>\n'
    rows = []
    for number, pair in enumerate(zip(answers.given, answers.true, strict=True), start=1):
        cells = "".join(f"<td>{text}</td>" for text in aligned(list(pair)))
        rows.append(f'<tr><th scope="row">{number}</th>{cells}<td>{answers.size[number - 1]:,}</td></tr>\n')
    head = "<tr><th>tenth, by answer</th><th>mean answer</th><th>mean truth</th><th>answers</th></tr>"
    return table(head, rows) + f'<p class="note">{escaped(report.tested)}, from the lowest answers up.</p>\n'


def _training(report: Report) -> str:
    epochs, loss, value = (np.array(column, dtype=float) for column in zip(*report.curve, strict=True))
    cards = []
    name = f"Validation {_NAMES[report.validated_by]}"
    for key, caption, values, look in (
        ("loss", "Training loss", loss, figures.TRAINING),
        ("validation", name, value, figures.MODEL),
    ):
        lines = {caption: (epochs, values)}
        drawing = figures.lines_figure(key, caption, lines, {caption: look}, "epoch", "", kept=report.best_epoch)
        kept = f"kept: epoch {report.best_epoch} of {len(report.curve)}" if report.best_epoch else DASH
        cards.append(card(f'<b>{escaped(caption)}</b> <span class="note">{kept}</span>', "", drawing))
    return f'<div class="grid">\n{"".join(cards)}</div>\n'
