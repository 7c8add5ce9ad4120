"""The page of a diagnosis: one self-contained HTML file in the manner of a run's report."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures, report
from .diagnosis_text import about, behaviour, headline, number

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, Sketch

_LISTED = 30  # variates whose missing share is listed one by one


def render(found: "Diagnosis") -> str:
    """The whole page as HTML text: no scripts, no requests; the same diagnosis gives the same text."""
    document = found.document
    repairs, warnings = document["repairs"], document["warnings"]
    sections = {
        "What the file is": report.facts(about(found)),
        "Its series": _plots(found),
        "How they behave": report.facts(behaviour(found)) + _note(found),
        "Repairs": report.ledger(repairs, "None: the data are used as they were read."),
        "Warnings": report.ledger(warnings, "None."),
        "Missing values": _missing(found),
        "What to run next": _next(found),
    }
    word, line = verdict(document)
    title = f"{Path(found.source).name}: what is in it"
    return report.shell(title, word, f"{Path(headline(found)).name}.", line, sections)


def verdict(document: Mapping[str, Any]) -> tuple[str, str]:
    """The word that colours the head of a page, and its second line as HTML: how much was repaired and is odd."""
    repairs, warnings = document["repairs"], document["warnings"]
    changed = (
        f"{len(repairs)} kinds of repair" if len(repairs) > 1 else "one kind of repair" if repairs else "no repair"
    )
    odd = f"{len(warnings)} warnings" if len(warnings) > 1 else "one warning" if warnings else "no warning"
    word = "better" if not repairs and not warnings else "open" if document["suggest"] is not None else "worse"
    return word, f"<p>{report.escaped(f'It needed {changed} and gives {odd}.')}</p>"


def _plots(found: "Diagnosis") -> str:
    keys = [report.legend_key("values", figures.SERIES)]
    if any(np.isnan(sketch.values).any() for sketch in found.sketches):
        keys.append(report.legend_key("missing", figures.GAP))
    if any(len(sketch.merged) for sketch in found.sketches):
        keys.append(report.legend_key("merged rows", figures.MERGED))
    cards = "".join(_card(place, sketch) for place, sketch in enumerate(found.sketches))
    rest = found.drawable - len(found.sketches)
    note = f'<p class="note">Evenly spaced among {found.drawable:,}; {rest:,} are not drawn.</p>\n' if rest else ""
    return f'{report.legend(keys)}<div class="grid">\n{cards}</div>\n{note}'


def _card(place: int, sketch: "Sketch") -> str:
    seen = sketch.values[np.isfinite(sketch.values)]
    parts = [f"{len(sketch.values):,} steps"]
    parts += [f"{number(seen.min())} to {number(seen.max())}"] if len(seen) else ["nothing seen"]
    lacking = len(sketch.values) - len(seen)
    parts += [f"{lacking:,} missing ({lacking / len(sketch.values):.2%})"] if lacking else []
    parts += [f"{len(sketch.merged):,} merged"] if len(sketch.merged) else []
    parts += [f"season of {period:,} {share:.2f}" for period, share in sketch.strength.seasons.items()]
    parts += [f"trend {sketch.strength.trend:.2f}"] if np.isfinite(sketch.strength.trend) else []
    name = report.escaped(sketch.name or "value")
    drawing = figures.series_figure(f"series {place}", f"{name} over time", sketch.times, sketch.values, sketch.merged)
    return report.card(f'<b>{name}</b> <span class="note">{report.escaped(" · ".join(parts))}</span>', "", drawing)


def _note(found: "Diagnosis") -> str:
    over = f"; medians over {'a sample of ' if found.drawable > 100 else ''}the series" if found.drawable > 1 else ""
    return (
        '<p class="note">From 0 to 1: the share of the variance beside the trend that the season holds, and beside the '
        f"season that the trend holds, corrected for the means that were fitted{over}.</p>\n"
    )


def _missing(found: "Diagnosis") -> str:
    rows = []
    each = found.document["rows"]
    each = each // found.document["series"] if found.document["layout"] == "panel" else each
    for name, count in list(found.absent.items())[:_LISTED]:
        width = f'<span class="meter"><i style="width:{100 * count / each:.1f}%"></i></span>'
        rows.append(
            f'<tr><th class="name" scope="row">{report.escaped(name)}</th><td>{count:,}</td>'
            f"<td>{count / each:.2%}</td><td>{width}</td></tr>\n"
        )
    if not rows:
        return "<p>None in the rows that there are.</p>\n"
    rest = len(found.absent) - len(rows)
    note = f'<p class="note">Not listed: {rest:,} more.</p>\n' if rest > 0 else ""
    return report.table("<tr><th>column</th><th>missing</th><th>of the rows</th><th></th></tr>", rows) + note


def _next(found: "Diagnosis") -> str:
    suggestion = found.document["suggest"]
    if suggestion is None:
        return f"<p>A fit would be refused: {report.escaped(found.unread)}</p>\n"
    words = f"{suggestion['model']} for {found.reason}, looking back {suggestion['lookback']} steps to forecast"
    words += f" {suggestion['horizon']}. Every fit scores the baselines beside it."
    return f"<p>{report.escaped(words)}</p>\n<pre><code>{escape(suggestion['command'])}</code></pre>\n"
