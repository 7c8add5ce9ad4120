"""A diagnosis of graphs as lines of text, for a terminal of any width."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..diagnosis_text import LABEL, folded, ledger, percent

if TYPE_CHECKING:
    from .diagnosis import GraphDiagnosis

_LISTED = 4  # targets that are told one by one
_READ_AS = {
    "atom": "codes of atoms",
    "bond": "codes of bonds",
    "type_dict": "types",
    "linear": "numbers",
    "dummy": "none",
}
_TASKS = {
    "graph_regression": "a number for each graph",
    "graph_binary": "yes or no for each graph",
    "graph_multiclass": "a class for each graph",
    "graph_multilabel": "several labels for each graph",
    "node_classification": "a class for each node",
}


def text(found: "GraphDiagnosis", width: int) -> str:
    """The page: what the file is, what is to be told, repairs, warnings, what to run next."""
    lines = [headline(found), ""]
    for name, value in about(found).items():
        lines += folded(f"{name:<{LABEL}}", value, width)
    lines += ledger(found.document, width)
    return "\n".join([*lines, "", "Next", f"  {found.document['suggest']['command']}"])


def headline(found: "GraphDiagnosis") -> str:
    """What the file is, in a sentence."""
    document = found.document
    return (
        f"{found.graphs.origin}: {document['graphs']:,} graphs, {document['nodes']:,} nodes, "
        f"{document['edges']:,} edges"
    )


def about(found: "GraphDiagnosis") -> dict[str, str]:
    """Sizes, features, targets and parts, by what they are called."""
    document = found.document
    drawn = "drawn by chance" if document["split"] is None else f'by column "{document["split"]}"'
    lines = {
        **{f"{name} each": spread(counts) for name, counts in found.sizes.items()},
        "odd nodes": f"{document['isolated_nodes']:,} without an edge" if document["isolated_nodes"] else "",
        "self-loops": f"{document['self_loops']:,}" if document["self_loops"] else "",
        "of nodes": features(document["node_features"]),
        "of edges": features(document["edge_features"]),
        "to tell": f"{_TASKS[document['task']]}, judged by {document['metric']}",
        "targets": targets(document),
        "parts": ", ".join(f"{part} {count:,}" for part, count in document["parts"].items()) + f"; {drawn}",
    }
    return {name: value for name, value in lines.items() if value}


def spread(counts: np.ndarray) -> str:
    """Least, median and most."""
    return f"{counts.min():,} to {counts.max():,}, {np.median(counts):,.0f} in the median"


def features(described: dict[str, Any]) -> str:
    """How features are read."""
    columns = described["columns"]
    return f"{columns} feature{'s' * (columns != 1)}, read as {_READ_AS[described['read_as']]}" if columns else "none"


def targets(document: Any) -> str:
    """What is known of each target; of many, of the first few."""
    told = [f"{one['name']} ({_told(one)})" for one in document["targets"][:_LISTED]]
    more = len(document["targets"]) - len(told)
    missing = f"; {percent(document['missing_targets'])} missing" if document["missing_targets"] else ""
    return ", ".join(told) + (f" and {more} more" if more > 0 else "") + missing


def _told(target: dict[str, Any]) -> str:
    if not target["known"]:
        return "all missing"
    if "ones" in target:
        return f"{percent(target['ones'])} are 1"
    if "range" in target:
        return f"{target['range'][0]:.4g} to {target['range'][1]:.4g}"
    total = sum(target["classes"])
    shares = ", ".join(percent(count / total) for count in target["classes"][:_LISTED])
    return f"{len(target['classes'])} classes: {shares}" + (", …" if len(target["classes"]) > _LISTED else "")
