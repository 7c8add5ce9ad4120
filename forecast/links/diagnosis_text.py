"""A diagnosis of events as lines of text, for a terminal of any width."""

from typing import TYPE_CHECKING

import numpy as np

from ..diagnosis_text import LABEL, file_format, folded, ledger, listed, percent, spark

if TYPE_CHECKING:
    from .diagnosis import EventDiagnosis


def text(found: "EventDiagnosis", width: int) -> str:
    """The page: what the file is, its columns, how events come, repairs, warnings, what to run next."""
    document = found.document
    lines = [headline(found), ""]
    for name, value in {**about(found), **behaviour(found)}.items():
        lines += folded(f"{name:<{LABEL}}", value, width)
    counts = found.over_time[1]
    told = f"{counts.min():,} to {counts.max():,} a stretch"
    bars = spark(counts.astype(float), max(8, min(60, width - len(told) - LABEL - 2)))
    lines += ["", f"{'over time':<{LABEL}}{bars}  {told}", *ledger(document, width)]
    suggestion = document["suggest"]
    lines += ["", "Next", *folded("  ", f"{suggestion['model']}: {found.reason}:", width)]
    return "\n".join([*lines, f"  {suggestion['command']}"])


def headline(found: "EventDiagnosis") -> str:
    """What the file is, in a sentence."""
    document = found.document
    nodes = f"{document['nodes']:,} nodes"
    if document["bipartite"]:
        nodes = f"{document['sources']:,} sources and {document['destinations']:,} destinations"
    return f"{found.events.table.origin}: {document['events']:,} events between {nodes}"


def about(found: "EventDiagnosis") -> dict[str, str]:
    """Names and what they are: the format, the span, what each column became."""
    document, columns = found.document, found.document["columns"]
    kind = "two kinds of nodes, each with ids of its own" if document["bipartite"] else "one kind of nodes"
    lines = {
        "format": file_format(document["format"]),
        "span": f"{document['span'][0]} to {document['span'][1]}, {document['times']:,} distinct times",
        "from": columns["src"],
        "to": columns["dst"],
        "time": columns["time"],
        "label": columns["label"] or "",
        "features": listed(columns["features"]),
        "left out": listed(columns["left_out"]),
        "graph": f"{kind}; {'directed' if document['directed'] else 'undirected'}",
        "parts": ", ".join(
            f"{part} {count:,} to {document['split'][part][1]}" for part, count in document["parts"].items()
        ),
    }
    return {name: value for name, value in lines.items() if value}


def behaviour(found: "EventDiagnosis") -> dict[str, str]:
    """How much repeats, how much is new, and how the events are spread over the nodes."""
    document = found.document
    new = document["new_nodes"]
    return {
        "repeats": f"{percent(document['repeats'])} of the events are of a pair that met before",
        "surprise": f"{percent(document['surprise'])} of the test events are of a pair that training has not seen",
        "new nodes": f"{percent(new['source'])} of the test events have a source without an event in training, "
        f"{percent(new['destination'])} such a destination",
        "out-degree": f"{len(found.degrees['sources']):,} sources, {spread(found.degrees['sources'])}",
        "in-degree": f"{len(found.degrees['destinations']):,} destinations, {spread(found.degrees['destinations'])}",
    }


def spread(counts: np.ndarray) -> str:
    """How events are spread over nodes, in words."""
    top = max(1, len(counts) // 100)
    share = np.sort(counts)[-top:].sum() / counts.sum()
    who = "the busiest 1%" if top > 1 else "the busiest"
    return (
        f"{np.median(counts):,.0f} events in the median, {counts.max():,} at most; "
        f"{who} has {percent(float(share))} of them"
    )
