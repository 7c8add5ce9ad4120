"""What the predictions of DARTS-GT rest on: its attention heads, each taken out, over many graphs or windows.

`graphs.interpretability` measures a batch and says what the numbers are (DARTS-GT paper, section IV). Here they are
put together, and told as lines of text, as a document and as a part of a page.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphs.darts_gt import DartsGT
from graphs.graph_batch import GraphBatch
from graphs.head_removal import Removal, remove_heads
from graphs.interpretability import Errors, Explanation, Rank, attention_entries, deviations, explanation

from . import report

Ranking = Literal["robust", "reference"]
RANKS: dict[Ranking, Rank] = {"robust": "keys", "reference": "reference"}

TOP = 3  # heads that are compared with each other
_LISTED = 6  # heads in the text

_CAPTION = (
    "By how many per cent {effect} when one head is taken out of a layer and all else stays as it is, on average over "
    "{count} {of}."
)
_LABELLED = "Above 0 the head helps, below 0 it harms, and near 0 the others do without it."
_UNLABELLED = "There are no labels: whether a head helps or harms is not known."
_MEANING = (
    "Specialization is the standard deviation of the heads' effects on one of the {of}: high where few heads matter. "
    "Relative, it is divided by their mean size, and compares across tasks. Focus is how far the {top} heads that help "
    "most look at the same nodes (mean Jaccard index of the tenth of the nodes that each weighs most); corrected for "
    "chance, 0 is that of random nodes and 1 of the same ones."
)


@dataclass(frozen=True)
class Heads:
    """Effects of L layers of H heads on G graphs or windows."""

    of: str  # "graphs" or "windows"
    measure: str  # what rises, or without labels moves, when a head is taken out
    unit: str
    operators: tuple[str, ...]  # of each layer
    size: float  # mean of the measure, with all heads
    deviation: np.ndarray  # (G, L, H) rise without the head
    top: np.ndarray  # (G, k) numbers of the most helpful heads, layer · H + head; -1 where there are no more
    specialization: np.ndarray  # (G,)
    relative_specialization: np.ndarray  # (G,)
    focus: np.ndarray  # (G,)
    chance_focus: np.ndarray  # (G,)
    self_share: np.ndarray  # (G,) of the attention of the top heads, what nodes give to themselves
    few_nodes: np.ndarray  # (G,) bool: too few for a focus other than zeros and ones
    labelled: bool  # without labels the measure is the mean size of outputs, and deviations are how far they move

    def relative(self) -> np.ndarray:
        """Give the mean rise in per cent of the measure: (L, H), NaN where that is 0."""
        mean = self.deviation.mean(0)
        return 100 * mean / self.size if self.size > 0 else np.full(mean.shape, np.nan)

    def chosen(self) -> np.ndarray:
        """Give the share of graphs or windows in which a head is among the most helpful: (L, H)."""
        layers, heads = self.deviation.shape[1:]
        counts = np.bincount(self.top[self.top >= 0], minlength=layers * heads)
        return counts.reshape(layers, heads) / len(self.top)

    def label(self, number: int) -> str:
        """Name head `number`, counted through the layers: "layer 1 head 2"."""
        layer, head = divmod(number, self.deviation.shape[2])
        return f"layer {layer + 1} head {head + 1}"

    def ordered(self) -> list[int]:
        """Give the numbers of all heads, the one that helps most on average first."""
        order: list[int] = np.argsort(-self.deviation.mean(0).ravel(), kind="stable").tolist()
        return order

    def summaries(self) -> dict[str, np.ndarray]:
        """Give what is measured of each graph or window, (G,), by name."""
        return {
            "specialization": self.specialization,
            "relative specialization": self.relative_specialization,
            "focus": self.focus,
            "focus corrected for chance": self.chance_focus,
            "attention to itself": self.self_share,
        }

    def document(self) -> dict[str, Any]:
        """Give the numbers over all graphs or windows as plain values; layers and heads count from 1."""
        relative, chosen = self.relative().ravel(), self.chosen().ravel()
        mean, sd = self.deviation.mean(0).ravel(), self.deviation.std(0).ravel()
        per_layer = self.deviation.shape[2]
        found: dict[str, Any] = {
            "of": self.of,
            "count": len(self.deviation),
            "measure": self.measure,
            "unit": self.unit,
            "labelled": self.labelled,
            "size": self.size,
            "few_nodes": float(self.few_nodes.mean()),
        }
        for name, values in self.summaries().items():
            numbers = {"median": float(np.median(values)), "mean": float(values.mean()), "sd": float(values.std())}
            found[name.replace(" ", "_")] = numbers
        found["heads"] = [
            {
                "layer": number // per_layer + 1,
                "head": number % per_layer + 1,
                "operator": self.operators[number // per_layer],
                "deviation": float(mean[number]),
                "sd": float(sd[number]),
                "per_cent": float(relative[number]) if self.size > 0 else None,
                "top_share": float(chosen[number]),
            }
            for number in range(mean.size)
        ]
        return found

    def lines(self) -> list[str]:
        """Give the heads that help most and the summaries as lines of text."""
        relative, chosen, order = self.relative().ravel(), self.chosen().ravel(), self.ordered()[:_LISTED]
        per_layer = self.deviation.shape[2]
        names = [f"{self.label(number)} ({self.operators[number // per_layer]})" for number in order]
        width = max(len(name) for name in names)
        lines = [
            f"{len(self.deviation):,} {self.of}; without one head {self._effect}, in per cent of {self._size}",
            "",
            f"{'head':<{width}}{'per cent':>10}{f'among top {TOP}':>15}",
        ]
        for number, name in zip(order, names, strict=True):
            lines.append(f"{name:<{width}}{relative[number]:>10.2f}{chosen[number]:>15.0%}")
        if len(order) < relative.size:
            lines.append(f"… and {relative.size - len(order)} more")
        lines.append("")
        for name, values in self.summaries().items():
            lines.append(f"{name:<28}median {np.median(values):.4g}, mean {values.mean():.4g} ± {values.std():.2g}")
        return [*lines, *([self._caution()] if self.few_nodes.any() else [])]

    def section(self) -> str:
        """Give the heat map of the heads and the summaries as HTML."""
        rows = [f"layer {layer}: {operator}" for layer, operator in enumerate(self.operators, start=1)]
        columns = [f"head {head + 1}" for head in range(self.deviation.shape[2])]
        drawn = report.heat_map(report.Heat("taken out", rows, columns, self.relative()))
        caption = _CAPTION.format(effect=self._effect, count=f"{len(self.deviation):,}", of=self.of)
        caption = f"{caption} {_LABELLED if self.labelled else _UNLABELLED} 100 per cent are {self._size}."
        body = []
        for name, values in self.summaries().items():
            cells = report.aligned([float(np.median(values)), float(values.mean()), float(values.std())])
            numbers = "".join(f"<td>{cell}</td>" for cell in cells)
            body.append(f'<tr><th class="name" scope="row">{report.escaped(name)}</th>{numbers}</tr>\n')
        head = f"<tr><th>over {self.of}</th><th>median</th><th>mean</th><th>sd</th></tr>"
        meaning = _MEANING.format(of=self.of, top=TOP) + (f" {self._caution()}" if self.few_nodes.any() else "")
        return (
            f"<p>{report.escaped(caption)}</p>\n{drawn}{report.table(head, body)}"
            f'<p class="note">{report.escaped(meaning)}</p>\n'
        )

    @property
    def _effect(self) -> str:
        return f"{self.measure} {'rises' if self.labelled else 'moves'}"

    @property
    def _size(self) -> str:
        if not self.labelled:
            return f"its mean size, {self.size:.4g}"
        return f"what it is with all heads, {self.size:.4g} {self.unit}"

    def _caution(self) -> str:
        return f"{self.few_nodes.mean():.0%} of the {self.of} have fewer than 20 nodes: their focus is 0 or 1 a pair."


@dataclass(frozen=True)
class Measured:
    """What heads do to the graphs of all batches, with what is told of single graphs and nodes."""

    explanations: Sequence[Explanation]
    errors: Tensor  # (G,)
    outputs: Tensor  # (R, outputs)

    def joined(self, name: str) -> np.ndarray:
        """Give a field of the explanations, over all batches."""
        return torch.cat([getattr(one, name) for one in self.explanations]).cpu().numpy()

    @property
    def top_nodes(self) -> list[list[list[int]]]:
        """Top nodes of each top head of each graph; numbers within the graph."""
        every = [graph for one in self.explanations for graph in one.top_nodes.tolist()]
        return [[[node for node in head if node >= 0] for head in graph] for graph in every]

    def heads(self, net: DartsGT, of: str, measure: str, unit: str, size: float, *, labelled: bool) -> Heads:
        """Put it together; `size` is the mean of the measure with all heads."""
        top, share = self.joined("top_heads"), self.joined("self_share")
        return Heads(
            of,
            measure,
            unit,
            tuple(net.config.operators),
            size,
            self.joined("deviation"),
            top,
            specialization=self.joined("specialization"),
            relative_specialization=self.joined("relative_specialization"),
            focus=self.joined("focus"),
            chance_focus=self.joined("chance_focus"),
            self_share=share.sum(1) / np.maximum((top >= 0).sum(1), 1),
            few_nodes=self.joined("few_nodes"),
            labelled=labelled,
        )


def measure(
    net: DartsGT, batches: Iterable[tuple[GraphBatch, Callable[[Removal], Errors]]], ranking: Ranking
) -> Measured:
    """Take each head out for all graphs of `batches`, the second part of which gives the error of the rows."""
    explanations, errors, outputs = [], [], []
    for batch, error_of in batches:
        removal = remove_heads(net, batch)
        error, deviation = deviations(removal, error_of(removal))
        entries = attention_entries(removal.weights, removal.context)
        explanations.append(explanation(deviation, entries, removal.context, TOP, RANKS[ranking]))
        errors.append(error.cpu())
        outputs.append(removal.outputs.cpu())
    return Measured(explanations, torch.cat(errors), torch.cat(outputs))
