"""The page of a run: one self-contained HTML file with its scores, forecasts, repairs and settings.

The module knows plain values only, nothing of networks, frames or tracking.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

from . import figures
from .figures import Look

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
WORST = 20  # variates listed one by one
LARGEST = 30  # rows and columns of a heat map
TOLERANCE = 3.0  # points by which coverage may miss its level before the page says so


@dataclass(frozen=True)
class Score:
    """How one method did on the test part; every metric counts as better when lower."""

    windows: int
    scaled: Mapping[str, float]
    original: Mapping[str, float]


@dataclass(frozen=True)
class Example:
    """One variate on one test window, in original units; NaN where nothing was measured."""

    title: str  # the variate; the page adds the time of the first step
    unit_note: str
    past_times: np.ndarray  # (L,) datetime64 or integers
    past: np.ndarray  # (L,)
    future_times: np.ndarray  # (H,)
    truth: np.ndarray  # (H,)
    forecast: np.ndarray  # (H,)
    bands: Mapping[int, tuple[np.ndarray, np.ndarray]]  # level in percent -> lower and upper bound, (H,) each
    baseline_name: str
    baseline: np.ndarray  # (H,)


@dataclass(frozen=True)
class Heat:
    """Numbers by row and column, to be read as a pattern: the larger one is, the darker its cell."""

    corner: str  # what rows and columns are
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray  # (rows, columns), percent; NaN is left blank
    even: float = 0.0  # what is no more than this is not tinted


@dataclass(frozen=True)
class Report:
    """All that the page shows; `metric` is a key of `Score.original` or, failing that, of `Score.scaled`."""

    title: str
    model: str
    facts: Mapping[str, str]
    scores: Mapping[str, Score]  # the model first, then the baselines
    metric: str
    by_step: Mapping[str, np.ndarray]  # method -> scaled MSE per horizon step, (H,)
    by_variate: Mapping[str, Mapping[str, float]]  # variate -> method -> MAE in original units
    curve: Sequence[tuple[int, float, float]]  # epoch, training loss, validation loss
    best_epoch: int
    coverage: Mapping[int, float]  # level in percent -> share of the truth inside, 0 to 1
    repairs: Sequence[Mapping[str, object]]
    cautions: Sequence[Mapping[str, object]]
    examples: Sequence[Example]
    config: str  # YAML
    command: str
    use: Heat | None = None  # how much the error of each target rises with each input exchanged
    use_note: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # HTML by heading, of a kind of model


class Verdict(NamedTuple):
    """What the run comes to: `word` is "better", "worse", "even" or "open" (nothing to compare)."""

    word: str
    headline: str
    rival: str  # the best baseline; empty where none has a score


def verdict(report: Report) -> Verdict:
    """The model against the best baseline on the deciding metric, in words."""
    side = _deciding_side(report)
    values = {name: _metric(score, side, report.metric) for name, score in report.scores.items()}
    mine = values.pop(report.model, math.nan)
    rivals = {name: value for name, value in values.items() if math.isfinite(value)}
    rival = min(rivals, key=rivals.__getitem__, default="")
    metric = f"{'scaled ' if side == 'scaled' else ''}{report.metric.upper()}"
    windows = report.scores[report.model].windows if report.model in report.scores else 0
    over = f"on {windows:,} test window{'' if windows == 1 else 's'}"
    if not math.isfinite(mine):
        return Verdict("open", f"{report.model} has no finite {metric} {over}.", rival)
    if not rival:
        alone = f"{report.model}, with no baseline to compare, has {metric} {_number(mine)} {over}."
        return Verdict("open", alone, "")
    theirs = rivals[rival]
    pair = aligned([mine, theirs])
    numbers = f"{metric} {pair[0]} against {pair[1]} {over}."
    percent = 100 * (mine / theirs - 1) if theirs > 0 else math.copysign(math.inf, mine - theirs)
    if mine == theirs or abs(percent) < 0.05:
        even = f"{report.model} does no better than the best baseline, {rival}: {numbers}"
        return Verdict("even", even, rival)
    word = "better" if mine < theirs else "worse"
    if percent > 100:
        much = f"{word} than the best baseline, {rival}"
        much += f", with {mine / theirs:,.1f} times its error" if math.isfinite(percent) else ""
    else:
        much = f"{abs(percent):.1f}% {word} than the best baseline, {rival}"
    return Verdict(word, f"{report.model} is {much}: {numbers}", rival)


def render(report: Report) -> str:
    """The whole page as HTML text: no scripts, no requests; the same report gives the same text."""
    outcome = verdict(report)
    named = [*report.scores, *report.by_step, *(example.baseline_name for example in report.examples)]
    looks = figures.looks(report.model, named)
    sections = {
        "Scores on the test part": _score_table(report),
        **report.more,
        "Forecasts on test windows": _examples(report, looks),
        "Errors and training": _diagnostics(report, looks),
        "Error by variate": _variate_table(report, outcome.rival),
        "What the forecasts use": _use(report),
        "Do the intervals hold?": _coverage(report),
        "Data": facts(report.facts),
        "Repairs": ledger(report.repairs, "None: the data was used as it was read."),
        "Cautions": ledger(report.cautions, "None."),
        "To do it again": recipe(report.command, report.config),
    }
    return shell(report.title, outcome.word, outcome.headline, _second_line(report, outcome), sections)


def shell(title: str, word: str, headline: str, line: str, sections: Mapping[str, str]) -> str:
    """A whole page of `sections` (heading -> HTML, empty ones left out), headed by a line in the colour of `word`.

    `line` is HTML; title, headline and headings are text.
    """
    body = "".join(
        f"<section>\n<h2>{escaped(name)}</h2>\n{part}</section>\n" for name, part in sections.items() if part
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escaped(title)}</title>\n<style>{_STYLE_SHEET}</style>\n</head>\n<body>\n<main>\n"
        f'<header class="{word}"><p class="kicker">{escaped(title)}</p><h1>{escaped(headline)}</h1>{line}</header>\n'
        f"{body}</main>\n</body>\n</html>\n"
    )


# Words and numbers


_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _plain(value: object) -> str:
    """`value` as text that HTML and UTF-8 can hold: other characters become U+FFFD."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(value))


def escaped(value: object) -> str:
    """`value` as text between tags or in an attribute."""
    return escape(_plain(value))


def _number(value: float) -> str:
    return aligned([value])[0]


def aligned(values: Sequence[float]) -> list[str]:
    """Numbers that stand under each other: decimals in common, three or four digits for the smallest."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    least, most = min(sizes, default=1.0), max(sizes, default=1.0)
    if most >= 1e7 or least < 1e-5:
        shown = [f"{value:.3g}" for value in values]
    else:
        decimals = max(0, (3 if least >= 1 else 2) - math.floor(math.log10(least)))
        shown = [f"{value:,.{decimals}f}" for value in values]
    pairs = zip(shown, values, strict=True)
    return [text.replace("-", MINUS) if math.isfinite(value) else DASH for text, value in pairs]


def _cell(value: object) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float | np.floating):
        return _number(float(value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(_cell(item) for item in value)
    return escaped(value)


def _mean_error(forecast: np.ndarray, truth: np.ndarray) -> float:
    error = np.abs(forecast - truth)
    error = error[np.isfinite(error)]
    return float(error.mean()) if error.size else math.nan


def _change(mine: float, theirs: float) -> float:
    """By how many percent `mine` differs from `theirs`; NaN where that says nothing."""
    return 100 * (mine / theirs - 1) if math.isfinite(mine) and math.isfinite(theirs) and theirs > 0 else math.nan


def _time(value: np.generic) -> str:
    """A time without its last parts where these are zero, or the step of an integer axis."""
    if not isinstance(value, np.datetime64):
        return _cell(value)
    text = str(value.astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(":00").removesuffix(" 00:00")


def _signed(percent: float) -> str:
    return f"{percent:+,.1f}%".replace("-", MINUS) if math.isfinite(percent) else DASH


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# Sections


def table(head: str, rows: Iterable[str], kind: str = "") -> str:
    """A table that scrolls where the page is narrow; `kind` is a class of the style sheet."""
    body, opened = "".join(rows), f'<table class="{kind}">' if kind else "<table>"
    return f'<div class="scroll">{opened}\n<thead>{head}</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'


def _second_line(report: Report, outcome: Verdict) -> str:
    lines = {
        "worse": "The baseline is the better forecast here: this model has not earned its place.",
        "even": "The baseline costs nothing to train, so this model has not earned its place.",
    }
    words = [lines[outcome.word]] if outcome.word in lines else []
    columns = _score_columns(report)
    if outcome.rival and columns:
        wins = sum(report.model in _best(report, *column) for column in columns)
        words.append(f"Of the {len(report.scores)} methods it is best on {wins} of {len(columns)} metrics.")
    counts = {score.windows for score in report.scores.values()}
    if len(counts) > 1:
        words.append("The methods were not scored on the same number of windows, so compare them with care.")
    return f"<p>{' '.join(words)}</p>" if words else ""


def _score_columns(report: Report) -> list[tuple[str, str]]:
    scores = report.scores.values()
    return [(side, m) for side in ("scaled", "original") for m in _unique(m for s in scores for m in getattr(s, side))]


def _deciding_side(report: Report) -> str:
    original = any(report.metric in score.original for score in report.scores.values())
    return "original" if original else "scaled"


def _metric(score: Score, side: str, metric: str) -> float:
    return float((score.scaled if side == "scaled" else score.original).get(metric, math.nan))


def _best(report: Report, side: str, metric: str) -> set[str]:
    """The methods with the lowest finite value of a column."""
    values = {name: _metric(score, side, metric) for name, score in report.scores.items()}
    least = min((value for value in values.values() if math.isfinite(value)), default=math.nan)
    return {name for name, value in values.items() if value == least}


def _score_table(report: Report) -> str:
    columns = _score_columns(report)
    if not columns:
        return ""
    counts = {score.windows for score in report.scores.values()}
    deciding = (_deciding_side(report), report.metric)
    cells: list[list[str]] = [[] for _ in report.scores]
    if len(counts) > 1:
        for row, score in zip(cells, report.scores.values(), strict=True):
            row.append(f"<td>{score.windows:,}</td>")
    for side, metric in columns:
        best = _best(report, side, metric)
        shown = aligned([_metric(score, side, metric) for score in report.scores.values()])
        for row, name, text in zip(cells, report.scores, shown, strict=True):
            row.append(f'<td class="best"><b>{text}</b></td>' if name in best else f"<td>{text}</td>")
    sides = {side: sum(side == other for other, _ in columns) for side, _ in columns}
    words = {"scaled": "scaled", "original": "original units"}
    head = f"<tr><th></th>{'<th></th>' if len(counts) > 1 else ''}"
    head += "".join(f'<th class="group" colspan="{count}">{words[side]}</th>' for side, count in sides.items())
    head += f"</tr>\n<tr><th>method</th>{'<th>windows</th>' if len(counts) > 1 else ''}"
    for column in columns:
        tag = '<span class="tag">decides</span>' if column == deciding else ""
        head += f"<th>{escaped(column[1].upper())}{tag}</th>"
    mark = {name: ' class="model"' if name == report.model else "" for name in report.scores}
    rows = (
        f'<tr{mark[name]}><th class="name" scope="row">{escaped(name)}</th>{"".join(row)}</tr>\n'
        for name, row in zip(report.scores, cells, strict=True)
    )
    note = "Lower is better throughout; the tinted bold value is the best of its column. "
    note += "Scaled scores are on values standardised by the training part."
    return table(f"{head}</tr>", rows) + f'<p class="note">{note}</p>\n'


def _examples(report: Report, looks: Mapping[str, Look]) -> str:
    if not report.examples:
        return ""
    levels = sorted({level for example in report.examples for level in example.bands}, reverse=True)
    keys = [legend_key("measured", figures.MEASURED), legend_key(report.model, figures.MODEL)]
    for depth, level in enumerate(levels, start=1):
        opacity = 1 - (1 - figures.BAND) ** depth
        keys.append(f'<li><i class="patch" style="opacity:{opacity:.2f}"></i>{level}% interval</li>')
    keys += [legend_key(name, looks[name]) for name in _unique(example.baseline_name for example in report.examples)]
    cards = []
    for place, example in enumerate(report.examples):
        pair = aligned([_mean_error(values, example.truth) for values in (example.forecast, example.baseline)])
        note = f"MAE {pair[0]}, {escaped(example.baseline_name)} {pair[1]}"
        note = " · ".join(filter(None, (escaped(example.unit_note), f"from {_time(example.future_times[0])}", note)))
        drawing = figures.forecast_figure(
            f"example {place}",
            _plain(f"{example.title}: forecast with intervals, {example.baseline_name} and measured values"),
            np.concatenate([example.past_times, example.future_times]),
            np.concatenate([example.past, example.truth]),
            example.forecast,
            example.bands,
            example.baseline,
            looks[example.baseline_name],
        )
        caption = f'<b>{escaped(example.title)}</b> <span class="note">{note}</span>'
        cards.append(card(caption, "", drawing))
    return f'{legend(keys)}<div class="grid">\n{"".join(cards)}</div>\n'


def _diagnostics(report: Report, looks: Mapping[str, Look]) -> str:
    """Error by horizon step and the training curve, side by side where there is room."""
    cards = []
    if any(len(errors) > 1 and np.isfinite(errors).any() for errors in report.by_step.values()):
        keys = [legend_key(name, looks[name]) for name in report.by_step]
        drawing = figures.steps_figure(report.by_step, looks)
        cards.append(card("<b>Error by horizon step</b>", legend(keys), drawing))
    if report.curve:
        keys = [legend_key("training", figures.TRAINING), legend_key("validation", figures.MODEL)]
        drawing = figures.curve_figure(report.curve, report.best_epoch)
        kept = any(epoch == report.best_epoch for epoch, _, _ in report.curve)
        note = f"kept: epoch {report.best_epoch} of {len(report.curve)}" if kept else ""
        cards.append(card(f'<b>Training</b> <span class="note">{note}</span>', legend(keys), drawing))
    return f'<div class="grid">\n{"".join(cards)}</div>\n' if cards else ""


def card(caption: str, legend: str, drawing: str) -> str:
    """One figure of a grid, under its caption and legend."""
    return f"<figure><figcaption>{caption}</figcaption>\n{legend}{drawing}</figure>\n"


def legend_key(name: str, look: Look) -> str:
    """A line as it is drawn, and what it stands for."""
    dash = f";stroke-dasharray:{' '.join(f'{2 * length:g}' for length in look.dash)}" if look.dash else ""
    line = f'<line x1="0" y1="5" x2="32" y2="5" style="stroke:var(--{look.role}){dash}"/>'
    return f'<li><svg class="swatch" viewBox="0 0 32 10" aria-hidden="true">{line}</svg>{escaped(name)}</li>'


def legend(keys: Sequence[str]) -> str:
    """The keys of a figure in a row."""
    return f'<ul class="legend">{"".join(keys)}</ul>\n'


def _variate_table(report: Report, rival: str) -> str:
    """MAE by variate, the worst first: those that gain least on the best baseline."""
    if len(report.by_variate) < 2:
        return ""
    methods = _unique(method for errors in report.by_variate.values() for method in errors)
    methods.sort(key=lambda method: method != report.model)
    changes = {
        name: _change(errors.get(report.model, math.nan), errors.get(rival, math.nan))
        for name, errors in report.by_variate.items()
    }
    compared = [change for change in changes.values() if math.isfinite(change)]
    if compared:
        order = sorted(changes, key=lambda name: -changes[name] if math.isfinite(changes[name]) else math.inf)
        first = f"first those that gain least on {escaped(rival)}"
    else:
        sizes = {name: errors.get(report.model, math.nan) for name, errors in report.by_variate.items()}
        order = sorted(sizes, key=lambda name: -sizes[name] if math.isfinite(sizes[name]) else math.inf)
        first = "the largest first"
    shown, rest = order[:WORST], order[WORST:]
    span = max((abs(changes[name]) for name in shown if math.isfinite(changes[name])), default=1.0) or 1.0
    rows = []
    for name in shown:
        numbers = aligned([report.by_variate[name].get(method, math.nan) for method in methods])
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        cells += f"<td>{_signed(changes[name])}</td><td>{_bar(changes[name], span)}</td>" if compared else ""
        rows.append(f'<tr><th class="name" scope="row">{escaped(name)}</th>{cells}</tr>\n')
    head = "<tr><th>variate</th>" + "".join(f"<th>{escaped(method)}</th>" for method in methods)
    head += f"<th>against {escaped(rival)}</th><th></th></tr>" if compared else "</tr>"
    note = f"MAE in original units, {first}."
    better = sum(change < 0 for change in compared)
    if compared:
        note += f" {escaped(report.model)} is better on {better:,} of {len(compared):,} variates."
    if rest:
        others = [changes[name] for name in rest if math.isfinite(changes[name])]
        note += f" Not listed: {len(rest):,} more"
        note += f", median change {_signed(float(np.median(others)))}." if others else "."
    return table(head, rows) + f'<p class="note">{note}</p>\n'


def _bar(change: float, span: float) -> str:
    if not math.isfinite(change):
        return ""
    width = 50 * min(abs(change) / span, 1)
    side, start = ("less", 50 - width) if change < 0 else ("more", 50)
    return f'<span class="bar"><i class="{side}" style="left:{start:.1f}%;width:{width:.1f}%"></i></span>'


def _use(report: Report) -> str:
    note = f'<p class="note">{escaped(report.use_note)}</p>\n' if report.use_note else ""
    return (heat_map(report.use) if report.use is not None else "") + note


def heat_map(heat: Heat) -> str:
    """The numbers as a table of tinted cells; of many rows or columns those that hold most, in their order."""
    values = np.nan_to_num(heat.values)
    rows, columns = (_largest(values.sum(axis)) for axis in (1, 0))
    shown = heat.values[np.ix_(rows, columns)]
    most = max(np.nan_to_num(shown).max(initial=0.0) - heat.even, heat.even, 1e-9)
    head = "".join(f"<th><span>{escaped(heat.columns[number])}</span></th>" for number in columns)
    body = []
    for number, line in zip(rows, shown, strict=True):
        tints = 0.55 * np.sqrt(np.clip(np.nan_to_num(line) - heat.even, 0, None) / most)  # darker would hide the number
        cells = "".join(
            f'<td style="--heat:{tint:.2f}"><span>{_percent(value)}</span></td>'
            if math.isfinite(value)
            else "<td></td>"
            for value, tint in zip(line.tolist(), tints.tolist(), strict=True)
        )
        body.append(f'<tr><th class="name" scope="row">{escaped(heat.rows[number])}</th>{cells}</tr>\n')
    note = ""
    if len(rows) < len(heat.rows) or len(columns) < len(heat.columns):
        note = f"Shown: the {len(rows)} of {len(heat.rows):,} rows and {len(columns)} of {len(heat.columns):,} columns "
        note = f'<p class="note">{note}that hold most.</p>\n'
    return table(f"<tr><th>{escaped(heat.corner)}</th>{head}</tr>", body, "heat") + note


def _largest(sums: np.ndarray) -> list[int]:
    chosen: list[int] = np.sort(np.argsort(-sums, kind="stable")[:LARGEST]).tolist()
    return chosen


def _percent(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return "0" if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def _coverage(report: Report) -> str:
    rows, words = [], []
    for level, share in sorted(report.coverage.items()):
        percent, off = 100 * share, 100 * share - level
        known = math.isfinite(share)
        fill = f'<i style="width:{min(percent, 100):.1f}%"></i>' if known else ""
        rows.append(
            f'<tr><th scope="row">{level}%</th><td>{f"{percent:.1f}%" if known else DASH}</td>'
            f"<td>{f'{off:+.1f}'.replace('-', MINUS) if known else DASH}</td>"
            f'<td><span class="meter">{fill}<b style="left:{level}%"></b></span></td></tr>\n'
        )
        if known and abs(off) > TOLERANCE:
            size = "few: they are too narrow" if off < 0 else "many: they are too wide"
            words.append(f"The {level}% intervals hold {percent:.1f}% of the truth, {abs(off):.1f} points too {size}.")
    if not rows:
        return ""
    if not words and all(map(math.isfinite, report.coverage.values())):
        words = [f"Every level is met within {TOLERANCE:.0f} points."]
    head = "<tr><th>interval</th><th>measured</th><th>points off</th><th></th></tr>"
    return f"<p>{' '.join(words)}</p>\n{table(head, rows)}"


def facts(values: Mapping[str, object]) -> str:
    """Names and what they are, side by side."""
    pairs = "".join(f"<div><dt>{escaped(k)}</dt><dd>{_cell(v)}</dd></div>\n" for k, v in values.items())
    return f"<dl>\n{pairs}</dl>\n" if pairs else ""


def ledger(entries: Sequence[Mapping[str, object]], none: str) -> str:
    """Entries as a table: a row each, a column for each key as they appear; numbers stand to the right."""
    if not entries:
        return f"<p>{none}</p>\n"
    columns = {key: [entry.get(key) for entry in entries] for key in _unique(k for entry in entries for k in entry)}
    side = {key: "" if any(map(_is_number, column)) else ' class="words"' for key, column in columns.items()}
    head = "".join(f"<th{side[key]}>{escaped(key.replace('_', ' '))}</th>" for key in columns)
    cells = [[f"<td{side[key]}>{_cell(value)}</td>" for value in column] for key, column in columns.items()]
    rows = (f"<tr>{''.join(row)}</tr>\n" for row in zip(*cells, strict=True))
    return table(f"<tr>{head}</tr>", rows)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def recipe(command: str, config: str) -> str:
    """What to type for the same run again, and the configuration it needs, folded away."""
    shown = f"<pre><code>{escaped(command)}</code></pre>\n" if command else ""
    if not config:
        return shown
    return f"{shown}<details><summary>Configuration</summary>\n<pre><code>{escaped(config)}</code></pre></details>\n"


# Colours: Okabe and Ito's hues, darkened or lightened until they stand out on the ground of their scheme

_LIGHT = """--bg:#f5f6f8;--card:#fff;--ink:#1a1f26;--muted:#59636f;--rule:#d8dde3;--tint:#e3f0fa;
--good:#0067a8;--bad:#b3261e;--model:#0072b2;--b1:#c75000;--b2:#00805d;--b3:#a8437f;--b4:#7d6a00;--b5:#5a4fcf"""
_DARK = """--bg:#13161a;--card:#1c2025;--ink:#e7eaee;--muted:#a2abb6;--rule:#3a424c;--tint:#173448;
--good:#5fb8f2;--bad:#ff8a80;--model:#5fb8f2;--b1:#ff9d52;--b2:#3fd3a6;--b3:#f391ca;--b4:#dcc94d;--b5:#ab9fff"""
_SCHEMES = f"\n:root{{{_LIGHT}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
_STYLE_SHEET = (
    _SCHEMES
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:1rem/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 16px 64px}
header,figure,dl,pre,.scroll{background:var(--card);border:1px solid var(--rule);border-radius:8px}
header{border-left:6px solid var(--muted);padding:20px 24px}
header.better{border-left-color:var(--good)}
header.worse,header.even{border-left-color:var(--bad)}
header p{margin:8px 0 0}
header .kicker{margin:0 0 6px;color:var(--muted);overflow-wrap:anywhere}
h1{font-size:clamp(1.25rem,3.2vw,1.75rem);line-height:1.3;margin:0;overflow-wrap:anywhere}
section{margin-top:36px}
h2{font-size:1.2rem;margin:0 0 12px}
p{margin:0 0 12px}
.note{color:var(--muted);font-size:.875rem}
.scroll{overflow-x:auto;margin-bottom:10px;width:fit-content;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:7px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--rule);font-weight:400}
thead th{color:var(--muted);font-size:.875rem;border-top:0;vertical-align:bottom}
thead th.group{text-align:center}
th:first-child,th.words,td.words{text-align:left}
th.name{white-space:normal;overflow-wrap:anywhere;min-width:9em}
td.words{white-space:normal;overflow-wrap:anywhere;min-width:8em}
tr.model th,tr.model td{font-weight:600}
tr.model th{box-shadow:inset 4px 0 var(--model)}
td b{font-weight:700}
td.best{background:var(--tint)}
table.heat td{position:relative;padding:6px 8px;border-top:0;text-align:center}
table.heat td::before{content:"";position:absolute;inset:1px;background:var(--model);opacity:var(--heat,0)}
table.heat td span{position:relative}
table.heat thead th:first-child{white-space:normal;min-width:9em}
table.heat thead th span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:12em;overflow:hidden}
.tag{display:block;font-size:.7rem;color:var(--good);font-weight:600}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))}
figure{margin:0;padding:12px 14px 8px;min-width:0}
figcaption{margin-bottom:6px;overflow-wrap:anywhere}
figcaption .note{display:block}
.plot{display:block;width:100%;height:auto}
.plot *{stroke-linejoin:round}
.plot text{font-family:inherit;font-variant-numeric:tabular-nums}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:0 0 10px;padding:0;font-size:.875rem}
.legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}
.swatch{width:32px;height:10px;flex:none}
.swatch line{stroke-width:3}
.patch{width:22px;height:12px;border-radius:2px;flex:none;background:var(--model)}
.bar,.meter{position:relative;display:inline-block;width:160px;height:12px;background:var(--bg)}
.bar,.meter{vertical-align:middle}
.bar::after{content:"";position:absolute;left:50%;top:-3px;bottom:-3px;border-left:1px solid var(--muted)}
.bar i,.meter i{position:absolute;top:0;bottom:0;background:var(--model)}
.bar i.more{background:var(--bad)}
.meter i{left:0;opacity:.55}
.meter b{position:absolute;top:-3px;bottom:-3px;border-left:2px solid var(--ink)}
dl{display:grid;gap:12px 24px;grid-template-columns:repeat(auto-fill,minmax(min(100%,210px),1fr));margin:0}
dl,pre{padding:14px 18px}
dt{color:var(--muted);font-size:.875rem}
dd{margin:0;overflow-wrap:anywhere}
pre{margin:0 0 12px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.875rem}
summary{cursor:pointer;margin-bottom:10px}
@media (max-width:520px){
th,td{padding:6px 9px}
.bar,.meter{width:90px}
figure{padding:10px 8px 4px}
header{padding:14px 16px}
}
@media print{
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
:root{font-size:11px}
body{background:none}
main{max-width:none;padding:0}
section{margin-top:18px}
.grid{grid-template-columns:1fr 1fr}
figure,tr,header{break-inside:avoid}
h2{break-after:avoid}
details::details-content{content-visibility:visible;height:auto}
}
"""
)
