"""The page of a diagnosis of graphs: one self-contained HTML file in the manner of a run's report."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .. import figures, report
from ..diagnosis_page import verdict
from .diagnosis_text import about, headline

if TYPE_CHECKING:
    from .diagnosis import GraphDiagnosis


def render(found: "GraphDiagnosis") -> str:
    """The whole page as HTML text: no scripts, no requests; the same diagnosis gives the same text."""
    document = found.document
    sections = {
        "What the file is": report.facts(about(found)),
        "Its graphs": f'<div class="grid">\n{_sizes(found)}</div>\n',
        "Repairs": report.ledger(document["repairs"], "None: the data are used as they were read."),
        "Warnings": report.ledger(document["warnings"], "None."),
        "What to run next": "<p>Every fit scores the baselines beside the model.</p>\n"
        f"<pre><code>{escape(document['suggest']['command'])}</code></pre>\n",
    }
    word, line = verdict(document)
    title = f"{Path(found.graphs.origin).name}: what is in it"
    return report.shell(title, word, f"{Path(headline(found)).name}.", line, sections)


def _sizes(found: "GraphDiagnosis") -> str:
    sizes = {name: counts[counts > 0] for name, counts in found.sizes.items() if counts.any()}
    look = figures.looks(next(iter(sizes)), sizes)
    keys = report.legend([report.legend_key(name, look[name]) for name in sizes])
    axes = "nodes or edges, at least", "share of the graphs"
    drawing = figures.counts_figure("sizes", "Share of graphs by their number of nodes and edges", sizes, axes)
    return report.card("<b>Size of a graph</b>", keys, drawing)
