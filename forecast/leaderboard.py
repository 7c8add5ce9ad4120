"""What a comparison shows: one table a data set and horizon, as text and as an HTML page with plots.

The module knows plain values only, nothing of networks, frames or tracking.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import figures
from .report import DASH, MINUS, aligned, card, escaped, facts, legend, legend_key, shell, table

METRICS = (("scaled", "mse"), ("scaled", "mae"), *(("original", name) for name in ("mae", "rmse", "mase", "smape")))
PRINTED = METRICS[:3]
PUBLISHED = ("mse", "mae")  # what the papers print, on the scaled axis
_AT_STEPS = "original units, MAPE in per cent"
FAR = 1.6  # a method whose error is more than so many times the best is not drawn: it would flatten the others
MODEL_ROW, WORDS = ' class="model"', ' class="words"'  # of the style sheet


def tables(scored: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average over seeds: one table a data set and horizon, one row a model and lookback, the baselines last.

    `scored` are the cells and baselines of a comparison. `deviation` is the standard deviation over seeds (of n - 1),
    `difference` by how many per cent our mean is above the published score. What there is no score of is None.
    """
    found: dict[tuple[str, int], dict[tuple[bool, int, int], list[Mapping[str, Any]]]] = {}
    models: dict[str, int] = {}
    for cell in scored:
        rows = found.setdefault((cell["data"], cell["horizon"]), {})
        order = models.setdefault(cell["model"], len(models))
        rows.setdefault((cell["baseline"], order, cell["lookback"]), []).append(cell)
    return [
        {"data": data, "horizon": horizon, "rows": [_row(rows[place]) for place in sorted(rows)]}
        for (data, horizon), rows in found.items()
    ]


def _row(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, done = cells[0], [cell for cell in cells if cell["error"] is None]
    means: dict[str, dict[str, float | None]] = {"scaled": {}, "original": {}}
    deviation: dict[str, dict[str, float | None]] = {"scaled": {}, "original": {}}
    for part, metric in METRICS:
        values = [value for cell in done if (value := cell[part].get(metric)) is not None]
        means[part][metric] = _mean(values)
        deviation[part][metric] = statistics.stdev(values) if len(values) > 1 else None
    published = first["published"]
    steps = {
        step: {name: _mean(cell.get("steps", {}).get(step, {}).get(name) for cell in done) for name in errors}
        for step, errors in (done[0].get("steps", {}) if done else {}).items()
    }
    seconds = [cell["seconds"] for cell in done if cell["seconds"] is not None]
    return {
        "model": first["model"],
        "baseline": first["baseline"],
        "lookback": first["lookback"],
        "seeds": [cell["seed"] for cell in done if cell["seed"] is not None],
        "windows": done[0]["windows"] if done else None,
        **means,
        "steps": steps,
        "deviation": deviation,
        "published": published,
        "difference": published and {name: _excess(means["scaled"][name], published.get(name)) for name in PUBLISHED},
        "seconds": statistics.fmean(seconds) if seconds else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _excess(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs or theirs <= 0 else 100 * (ours / theirs - 1)


def headline(found: Sequence[Mapping[str, Any]]) -> str:
    """Say who has the lowest scaled MSE: of one table by how much, of several how often."""
    won = [(one, best) for one in found if _mse(best := min(one["rows"], key=_mse)) < math.inf]
    if not won:
        return "Nothing was scored."
    if len(won) == 1:
        one, best = won[0]
        told = f"{best['model']} is best on {one['data']} at horizon {one['horizon']}: scaled MSE {_short(_mse(best))}"
        rivals = [row for row in one["rows"] if row["baseline"] != best["baseline"] and _mse(row) < math.inf]
        if rivals:
            rival = min(rivals, key=_mse)
            kind = "model" if best["baseline"] else "baseline"
            told += f" against {_short(_mse(rival))} of {rival['model']}, the best {kind}"
        return f"{told}."
    names = [best["model"] for _, best in won]
    often = sorted(dict.fromkeys(names), key=names.count, reverse=True)
    told = ", ".join(f"{name} in {names.count(name)}" for name in often)
    return f"Lowest scaled MSE: {told} of {len(won)} tables."


def _mse(row: Mapping[str, Any]) -> float:
    value = row["scaled"]["mse"]
    return math.inf if value is None else float(value)


def named(cell: Mapping[str, Any]) -> str:
    """Give a cell in words."""
    lengths = f"horizon {cell['horizon']}, lookback {cell['lookback']}"
    return f"{cell['model']} on {cell['data']}, {lengths}, seed {cell['seed']}"


def _title(one: Mapping[str, Any]) -> str:
    counts = dict.fromkeys(f"{row['windows']:,}" for row in one["rows"] if row["windows"] is not None)
    seeds = sorted({seed for row in one["rows"] for seed in row["seeds"] if len(row["seeds"]) > 1})
    over = f"; mean ± standard deviation over seeds {', '.join(map(str, seeds))}" if seeds else ""
    return f"{one['data']}, horizon {one['horizon']}, {' or '.join(counts) or 'no'} test windows{over}"


def _best(rows: Sequence[Mapping[str, Any]], part: str, metric: str) -> float | None:
    return min((value for row in rows if (value := row[part][metric]) is not None), default=None)


def _short(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def _signed(percent: float | None) -> str:
    return DASH if percent is None else f"{percent:+,.1f} %".replace("-", MINUS)


def _duration(seconds: float | None) -> str:
    return DASH if seconds is None else f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


# Text


def text(document: Mapping[str, Any]) -> str:
    """Give the tables as a terminal shows them, the best of each column marked, and below what failed and why."""
    lines = [line for one in document["tables"] for line in ("", *_lines(one))]
    lines.append("* best of its column")
    failed = [cell for cell in document["cells"] if cell["error"] is not None]
    lines += [f"failed: {named(cell)}: {cell['error']['message']}" for cell in failed]
    lines.append(f"run {document['run']}, {_duration(document['seconds'])} s, report {document['report']}")
    return "\n".join(lines)


class _Column(NamedTuple):
    """Numbers that stand under each other, each with what follows it: a star, a spread."""

    group: str
    head: str
    numbers: list[str]
    tails: list[str]


def _lines(one: Mapping[str, Any]) -> list[str]:
    """One table: its title, two lines of headings, one line a row."""
    rows = one["rows"]
    blank = [""] * len(rows)
    columns = []
    if len({row["lookback"] for row in rows}) > 1:
        columns.append(_Column("", "lookback", [str(row["lookback"]) for row in rows], blank))
    columns += [_scored(rows, part, metric) for part, metric in PRINTED]
    if any(row["published"] for row in rows):
        for group, show in (("published", _short), ("difference", _signed)):
            for metric in PUBLISHED:
                columns.append(_Column(group, metric, [show((row[group] or {}).get(metric)) for row in rows], blank))
    columns.append(_Column("", "seconds", [_duration(row["seconds"]) for row in rows], blank))
    at_steps = [_Column(f"step {step}", name, *_starred(rows, step, name)) for step, name in steps_of(rows)]
    below = [""] * bool(at_steps) + _laid_out(_AT_STEPS, rows, at_steps)
    return _laid_out(_title(one), rows, columns) + below


def _laid_out(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[_Column]) -> list[str]:
    if not columns:
        return []
    width = max(len(row["model"]) for row in rows)
    above, heads, body = " " * width, " " * width, [f"{row['model']:<{width}}" for row in rows]
    groups = [column.group for column in columns]
    for place, column in enumerate(columns):
        last = column.group if column.group not in groups[place + 1 :] else ""
        wide, tail = 3 + max(map(len, (last, column.head, *column.numbers))), max(map(len, column.tails))
        heads += f"{column.head:>{wide}}{'':<{tail}}"
        above = f"{above:<{len(heads) - tail - len(last)}}{last}" if last else above
        cells = [f"{number:>{wide}}{after:<{tail}}" for number, after in zip(column.numbers, column.tails, strict=True)]
        body = [line + cell for line, cell in zip(body, cells, strict=True)]
    return [line.rstrip() for line in (title, above, heads, *body)]


def steps_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Give the steps that were scored by themselves, each with its metrics."""
    return list(
        dict.fromkeys((step, name) for row in rows for step, errors in row.get("steps", {}).items() for name in errors)
    )


def _starred(rows: Sequence[Mapping[str, Any]], step: str, name: str) -> tuple[list[str], list[str]]:
    values = [row["steps"].get(step, {}).get(name) for row in rows]
    best = min((value for value in values if value is not None), default=None)
    return [_short(value) for value in values], ["*" if v is not None and v == best else " " for v in values]


def _scored(rows: Sequence[Mapping[str, Any]], part: str, metric: str) -> _Column:
    """One metric, the best of its column marked."""
    best = _best(rows, part, metric)
    values, spreads = [row[part][metric] for row in rows], [row["deviation"][part][metric] for row in rows]
    tails = [
        ("*" if value is not None and value == best else " ") + ("" if spread is None else f" ±{_short(spread)}")
        for value, spread in zip(values, spreads, strict=True)
    ]
    return _Column(part, metric, [_short(v) for v in values], tails)


# HTML


def page(document: Mapping[str, Any], command: str) -> str:
    """Give the page of a comparison: no scripts, no requests; the same document gives the same text."""
    found = document["tables"]
    winners = [best for one in found if _mse(best := min(one["rows"], key=_mse)) < math.inf]
    earned = [not best["baseline"] for best in winners]
    word = "better" if earned and all(earned) else "open" if any(earned) else "worse"
    sections = {_title(one): _scores(one) + _at_steps(one["rows"]) for one in found}
    sections["Error by horizon"] = _plots(found)
    sections["Failed"] = _failures(document["cells"])
    sections["Cells"] = _cells(document["cells"])
    sections["Data"] = "".join(facts(_about(data)) for data in document["data"])
    sections["To do it again"] = f"<pre><code>{escaped(command)}</code></pre>\n"
    title = f"{', '.join(document['models'])} on {', '.join(dict.fromkeys(one['data'] for one in found))}"
    return shell(title, word, headline(found), "", sections)


def _scores(one: Mapping[str, Any]) -> str:
    rows = one["rows"]
    lookbacks = len({row["lookback"] for row in rows}) > 1
    published = any(row["published"] for row in rows)
    cells: list[list[str]] = [[f"<td>{row['lookback']}</td>"] if lookbacks else [] for row in rows]
    for part, metric in METRICS:
        best = _best(rows, part, metric)
        values = [row[part][metric] for row in rows]
        shown = aligned([math.nan if value is None else value for value in values])
        behind = _behind([row["deviation"][part][metric] for row in rows])
        for line, value, number, spread in zip(cells, values, shown, behind, strict=True):
            bold = value is not None and value == best
            line.append(f'<td class="best"><b>{number}</b>{spread}</td>' if bold else f"<td>{number}{spread}</td>")
    for line, row in zip(cells, rows, strict=True):
        if published:
            line += [f"<td>{_short((row['published'] or {}).get(metric))}</td>" for metric in PUBLISHED]
            line += [f"<td>{_signed((row['difference'] or {}).get(metric))}</td>" for metric in PUBLISHED]
        line.append(f"<td>{_duration(row['seconds'])}</td>")
    groups = {"scaled": 2, "original units": 3} | ({"published": 2, "difference": 2} if published else {})
    above = "<th></th>" + ("<th></th>" if lookbacks else "")
    above += "".join(f'<th class="group" colspan="{width}">{name}</th>' for name, width in groups.items())
    names = ["lookback"] if lookbacks else []
    names += [metric.upper() for metric in (*(name for _, name in METRICS), *(2 * PUBLISHED if published else ()))]
    heads = "".join(f"<th>{name}</th>" for name in ("method", *names, "seconds"))
    body = (
        f'<tr{"" if row["baseline"] else MODEL_ROW}><th class="name" scope="row">{escaped(row["model"])}</th>'
        f"{''.join(line)}</tr>\n"
        for row, line in zip(rows, cells, strict=True)
    )
    note = "Lower is better throughout; the tinted bold value is the best of its column."
    if published:
        note += " The difference is by how much our mean is above the published value."
    return table(f"<tr>{above}<th></th></tr>\n<tr>{heads}</tr>", body) + f'<p class="note">{note}</p>\n'


def _at_steps(rows: Sequence[Mapping[str, Any]]) -> str:
    places = steps_of(rows)
    if not places:
        return ""
    columns = [_starred(rows, step, name) for step, name in places]
    body = []
    for number, row in enumerate(rows):
        cells = "".join(
            f'<td class="best"><b>{shown[number]}</b></td>' if star[number] == "*" else f"<td>{shown[number]}</td>"
            for shown, star in columns
        )
        kind = "" if row["baseline"] else MODEL_ROW
        body.append(f'<tr{kind}><th class="name" scope="row">{escaped(row["model"])}</th>{cells}</tr>\n')
    heads = "".join(f"<th>{name.upper()} at step {step}</th>" for step, name in places)
    return table(f"<tr><th>{_AT_STEPS}</th>{heads}</tr>", body)


def _behind(spreads: Sequence[float | None]) -> list[str]:
    """Give what stands behind each number of a column; where a row has a spread, the others keep that place free."""
    if all(spread is None for spread in spreads):
        return [""] * len(spreads)
    hidden = ["" if spread is not None else ' style="visibility:hidden"' for spread in spreads]
    return [
        f' <span class="note"{style}>±{_short(spread or 0.0)}</span>'
        for style, spread in zip(hidden, spreads, strict=True)
    ]


def _plots(found: Sequence[Mapping[str, Any]]) -> str:
    """One figure a data set and lookback: scaled MSE by horizon, with its spread and the published value."""
    groups: dict[tuple[str, int], dict[int, dict[str, Mapping[str, Any]]]] = {}
    for one in found:
        for row in one["rows"]:
            horizons = groups.setdefault((one["data"], row["lookback"]), {})
            horizons.setdefault(one["horizon"], {})[row["model"]] = row
    names = dict.fromkeys(row["model"] for one in found for row in one["rows"])
    looks = figures.looks(next(iter(names)), names)
    cards = []
    for number, ((data, lookback), by_horizon) in enumerate(groups.items()):
        order = sorted(by_horizon)
        errors = {name: _errors([by_horizon[horizon].get(name) for horizon in order]) for name in names}
        least = np.fmin.reduce([mean for mean, _, _ in errors.values()])  # NaN only where all are
        near = {
            name: values
            for name, values in errors.items()
            if np.isfinite(values[0]).any() and not (values[0] > FAR * least).any()
        }
        far = [name for name, values in errors.items() if np.isfinite(values[0]).any() and name not in near]
        if not near:
            continue
        note = "rings: published" if any(np.isfinite(theirs).any() for _, _, theirs in near.values()) else ""
        note += f"{' · ' if note and far else ''}{'not drawn, far above: ' + ', '.join(far) if far else ''}"
        drawing = figures.leaderboard_figure(
            f"leaderboard {number}", f"Scaled MSE by horizon on {data}, lookback {lookback}", order, near, looks
        )
        caption = f'<b>{escaped(data)}, lookback {lookback}</b> <span class="note">{escaped(note)}</span>'
        cards.append(card(caption, legend([legend_key(name, looks[name]) for name in near]), drawing))
    return f'<div class="grid">\n{"".join(cards)}</div>\n' if cards else ""


def _errors(rows: Sequence[Mapping[str, Any] | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give mean, deviation and published value of the scaled MSE of one method by horizon, NaN where there is none."""
    found = [
        (row["scaled"]["mse"], row["deviation"]["scaled"]["mse"], (row["published"] or {}).get("mse")) if row else ()
        for row in rows
    ]
    filled = [[math.nan if value is None else value for value in values or (None,) * 3] for values in found]
    mean, deviation, published = np.array(filled, dtype=float).T
    return mean, deviation, published


def _failures(cells: Sequence[Mapping[str, Any]]) -> str:
    body = [
        f'<tr><th class="name" scope="row">{escaped(named(cell))}</th>'
        f'<td class="words">{escaped(cell["error"]["message"])}</td>'
        f'<td class="words">{escaped(cell["error"]["hint"])}</td></tr>\n'
        for cell in cells
        if cell["error"] is not None
    ]
    heads = '<tr><th>cell</th><th class="words">reason</th><th class="words">what to do</th></tr>'
    return table(heads, body) if body else ""


def _cells(cells: Sequence[Mapping[str, Any]]) -> str:
    heads = ("cell", "settings", "MSE, scaled", "MAE, scaled", "seconds", "run")
    words = {"settings", "run"}
    head = "".join(f"<th{WORDS if name in words else ''}>{name}</th>" for name in heads)
    body = [
        f'<tr><th class="name" scope="row">{escaped(named(cell))}</th><td{WORDS}>{escaped(cell["settings"])}</td>'
        f"<td>{_short(cell['scaled']['mse'])}</td><td>{_short(cell['scaled']['mae'])}</td>"
        f"<td>{_duration(cell['seconds'])}</td><td{WORDS}>{escaped(cell['run'] or DASH)}</td></tr>\n"
        for cell in cells
    ]
    return table(f"<tr>{head}</tr>", body)


def _about(data: Mapping[str, Any]) -> dict[str, object]:
    return {
        "Data": data["name"],
        "Rows": data["rows"],
        "Series, variates": f"{data['series']:,}, {data['variates']:,}",
        "Step": data["freq"],
        "Span": " to ".join(data["span"]),
        "Fingerprint": data["fingerprint"][:16],
    }
