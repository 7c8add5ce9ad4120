"""The page of a diagnosis of events: one self-contained HTML file in the manner of a run's report."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import figures, report
from ..diagnosis_page import verdict
from .diagnosis_text import about, behaviour, headline

if TYPE_CHECKING:
    from .diagnosis import EventDiagnosis


def render(found: "EventDiagnosis") -> str:
    """The whole page as HTML text: no scripts, no requests; the same diagnosis gives the same text."""
    document = found.document
    suggestion = document["suggest"]
    sections = {
        "What the file is": report.facts(about(found)),
        "Its events": f'<div class="grid">\n{_over_time(found)}{_degrees(found)}</div>\n',
        "How they behave": report.facts(behaviour(found)),
        "Repairs": report.ledger(document["repairs"], "None: the data are used as they were read."),
        "Warnings": report.ledger(document["warnings"], "None."),
        "What to run next": f"<p>{report.escaped(suggestion['model'])}: {report.escaped(found.reason)}. "
        "Every fit scores the baselines beside it.</p>\n"
        f"<pre><code>{escape(suggestion['command'])}</code></pre>\n",
    }
    word, line = verdict(document)
    title = f"{Path(found.events.table.origin).name}: what is in it"
    return report.shell(title, word, f"{Path(headline(found)).name}.", line, sections)


def _over_time(found: "EventDiagnosis") -> str:
    begins, counts = found.over_time
    drawing = figures.series_figure("events", "Events over time", begins, counts.astype(np.float32), counts[:0])
    note = f"{len(counts):,} equal stretches of the time"
    return report.card(f'<b>Events over time</b> <span class="note">{note}</span>', "", drawing)


def _degrees(found: "EventDiagnosis") -> str:
    look = figures.looks(next(iter(found.degrees)), found.degrees)
    keys = report.legend([report.legend_key(name, look[name]) for name in found.degrees])
    axes = "events of a node, at least", "share of the nodes"
    drawing = figures.counts_figure("degrees", "Share of nodes by their number of events", found.degrees, axes)
    return report.card("<b>Events of a node</b>", keys, drawing)
