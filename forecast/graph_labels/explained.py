"""The explanation of a model of graphs with labels: as lines of text, a table, a JSON document, a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .. import figures, report
from ..data import table
from ..explained import Explained
from ..graph_layout import layout
from ..heads import Heads, Ranking
from ..scoring import finite

_LISTED = 10  # graphs in the text and in the table of the page
_DRAWN, _LARGEST = 6, 60  # graphs that are drawn, and nodes of the largest of these
_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr
Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir
Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl
Mc Lv Ts Og ?
"""
_ELEMENTS = _SYMBOLS.split()  # by atomic number; then what is none

_RANKING = {
    "robust": "by the attention that they are given",
    "reference": "as the authors' code does it: in dense attention by what they are given, in sparse by what they give",
}
NOTE = (
    "It says what this model uses, not what causes what. A head that others stand in for looks as if it did nothing, "
    "and from the second layer on a node already holds something of its neighbours."
)


@dataclass(frozen=True)
class GraphExplanation(Explained):
    """What the answers for G graphs rest on."""

    model: str
    source: str  # of the data
    given: int  # graphs there
    ranking: Ranking
    targets: tuple[str, ...]  # none where nodes are told apart
    ids: Sequence[Any]  # of the graphs
    answers: np.ndarray  # (G, targets): a value, the chance of label 1 or a class; of nodes (N, outputs) chances
    truth: np.ndarray | None  # (G, targets); of nodes (N,)
    errors: np.ndarray | None  # (G,) with all heads
    heads: Heads
    importance: Sequence[np.ndarray]  # of the nodes of each graph: adds up to 1, or is 0 where no head helps
    top_nodes: Sequence[Sequence[Sequence[int]]]  # of each top head of each graph
    edges: Sequence[np.ndarray]  # (2, E) of each graph
    atoms: Sequence[np.ndarray] | None  # atomic numbers of the nodes of each graph
    library: table.Library

    def top(self, graph: int) -> np.ndarray:
        """Give the tenth of a graph's nodes, one at least, with the largest importance; none where all are 0."""
        weight = self.importance[graph]
        order = np.argsort(-weight, kind="stable")[: max(1, len(weight) // 10)]
        found: np.ndarray = order[weight[order] > 0]
        return found

    def named(self, graph: int, node: int) -> str:
        """Name a node: its number, and its element where it is an atom."""
        return f"{'' if self.atoms is None else _element(self.atoms[graph][node])}{node}"

    def rows(self) -> pl.DataFrame:
        """Give a row a number: graph_id, measure, place (target, head or node), value."""
        parts = []
        for graph, number in enumerate(self.ids):
            told: list[tuple[str, str, float]] = [
                ("answer", name, value) for name, value in zip(self.targets, self._answer(graph), strict=True)
            ]
            if self.errors is not None:
                told.append(("error", "", self.errors[graph]))
            told += [(name, "", values[graph]) for name, values in self.heads.summaries().items()]
            told += [
                ("deviation", self.heads.label(head), value)
                for head, value in enumerate(self.heads.deviation[graph].ravel())
            ]
            told += [
                ("importance", self.named(graph, node), value) for node, value in enumerate(self.importance[graph])
            ]
            measure, place, value = zip(*told, strict=True)
            columns = {"graph_id": [number] * len(told), "measure": measure, "place": place}
            parts.append(pl.DataFrame({**columns, "value": np.array(value, dtype=float)}))
        return pl.concat(parts)

    def document(self) -> dict[str, Any]:
        """Give what `forecast explain --json` prints; layers and heads count from 1, nodes from 0."""
        return {
            "model": self.model,
            "data": {"source": self.source, "graphs": len(self.ids), "of": self.given},
            "ranking": self.ranking,
            "heads": self.heads.document(),
            "graphs": [self._graph(graph) for graph in range(len(self.ids))],
            "note": NOTE,
        }

    def _graph(self, graph: int) -> dict[str, Any]:
        deviation, per_layer = self.heads.deviation[graph], self.heads.deviation.shape[2]
        chosen = [head for head in self.heads.top[graph].tolist() if head >= 0]
        return {
            "id": self.ids[graph],
            "answer": dict(zip(self.targets, self._answer(graph), strict=True)),
            "truth": None
            if self._truth(graph) is None
            else finite(dict(zip(self.targets, self._truth(graph) or (), strict=True))),
            "error": None if self.errors is None else float(self.errors[graph]),
            **{name.replace(" ", "_"): float(values[graph]) for name, values in self.heads.summaries().items()},
            "deviation": deviation.tolist(),
            "top_heads": [
                {
                    "layer": head // per_layer + 1,
                    "head": head % per_layer + 1,
                    "deviation": float(deviation.ravel()[head]),
                    "top_nodes": list(nodes),
                }
                for head, nodes in zip(chosen, self.top_nodes[graph], strict=False)
            ],
            "top_nodes": self.top(graph).tolist(),
            "importance": self.importance[graph].tolist(),
        }

    def _answer(self, graph: int) -> list[float]:
        return self.answers[graph].tolist() if self.targets else []

    def _truth(self, graph: int) -> list[float] | None:
        return self.truth[graph].tolist() if self.targets and self.truth is not None else None

    def headline(self) -> str:
        """Give the head that matters most, in a sentence."""
        first = self.heads.ordered()[0]
        share = float(self.heads.chosen().ravel()[first])
        verb = "leans most on" if self.heads.labelled else "is moved most by"
        if self.heads.deviation.mean(0).ravel()[first] <= 0:
            return f"{self.model} leans on no single head: taking out any of them makes it no worse on average."
        return f"{self.model} {verb} {self.heads.label(first)}, among the first three in {share:.0%} of the graphs."

    def text(self) -> str:
        """Give the heads that matter most, and what single graphs rest on, as lines of text."""
        shown = (
            f"{len(self.ids):,} of {self.given:,} graphs" if len(self.ids) < self.given else f"{self.given:,} graphs"
        )
        lines = [f"{self.model} on {self.source}: {shown}", *self.heads.lines(), ""]
        body = [self._cells(graph) for graph in range(min(_LISTED, len(self.ids)))]
        head = self._head()
        widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
        lines += [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *body)
        ]
        if len(self.ids) > len(body):
            lines.append(f"… and {len(self.ids) - len(body):,} more graphs")
        return "\n".join([*lines, "", f"Nodes rank {_RANKING[self.ranking]}.", NOTE])

    def _head(self) -> list[str]:
        truths = [] if self.truth is None else ["truth"]
        answers = ["answer", *truths] if self.targets else []
        return ["graph", *answers, "specialization", "focus", "top heads", "top nodes"]

    def _cells(self, graph: int) -> list[str]:
        values = (self._answer(graph), self._truth(graph)) if self.targets else ()
        answers = [" ".join(f"{value:.4g}" for value in one) for one in values if one is not None]
        heads = [self.heads.label(head) for head in self.heads.top[graph].tolist() if head >= 0]
        nodes = [self.named(graph, node) for node in self.top(graph).tolist()]
        numbers = [f"{self.heads.specialization[graph]:.4g}", f"{self.heads.focus[graph]:.2f}"]
        return [str(self.ids[graph]), *answers, *numbers, ", ".join(heads) or "none", " ".join(nodes) or "none"]

    def page(self) -> str:
        """Give the HTML page: the heat map of the heads, some graphs drawn, and what is not shown."""
        about = {
            "Model": self.model,
            "Data": self.source,
            "Graphs": f"{len(self.ids):,} of {self.given:,}, evenly spaced",
            "Nodes rank": _RANKING[self.ranking],
            "Labels": "known" if self.heads.labelled else "not known",
        }
        sections = {
            "Heads": self.heads.section(),
            "Graphs and their top nodes": self._drawings(),
            "Graph by graph": self._table(),
            "What this does not show": f"<p>{NOTE}</p>\n",
            "About": report.facts(about),
        }
        title = f"{self.model} explained on {Path(self.source).name}"
        return report.shell(title, "open", self.headline(), "", sections)

    def _drawings(self) -> str:
        """Evenly spaced graphs among those that are small enough, not chosen by what came out."""
        small = [graph for graph, weight in enumerate(self.importance) if 2 <= len(weight) <= _LARGEST]
        if not small:
            return f'<p class="note">None is drawn: none has 2 to {_LARGEST} nodes.</p>\n'
        chosen = np.unique(np.linspace(0, len(small) - 1, _DRAWN).round().astype(int))
        cards = []
        for graph in (small[number] for number in chosen):
            weight, edges = self.importance[graph], self.edges[graph]
            places = layout(len(weight), edges)
            once = edges[:, edges[0] < edges[1]]
            once = once if edges.size == 2 * once.size else edges
            letters = [""] * len(weight) if self.atoms is None else [_element(one) for one in self.atoms[graph]]
            label = f"graph {self.ids[graph]} with its top nodes ringed"
            drawing = figures.graph_figure(f"graph {graph}", label, places, once, letters, weight, self.top(graph))
            told = zip(self._head()[1:], self._cells(graph)[1:], strict=True)
            note = "; ".join(f"{name} {cell}" for name, cell in told)
            caption = f'<b>{report.escaped(self.ids[graph])}</b> <span class="note">{report.escaped(note)}</span>'
            cards.append(report.card(caption, "", drawing))
        why = (
            "The stronger a node's ground, the more of the attention of helpful heads it gets, each head by how much "
            f"it helps; the tenth that gets most is ringed. Nodes rank {_RANKING[self.ranking]}."
        )
        if len(small) < len(self.importance):
            why += f" Drawn are only graphs of 2 to {_LARGEST} nodes, {len(small):,} of {len(self.importance):,}."
        return f'<p>{report.escaped(why)}</p>\n<div class="grid">\n{"".join(cards)}</div>\n'

    def _table(self) -> str:
        rows = []
        for graph in range(min(_LISTED, len(self.ids))):
            name, *cells = self._cells(graph)
            body = "".join(f'<td class="words">{report.escaped(cell)}</td>' for cell in cells)
            rows.append(f'<tr><th class="name" scope="row">{report.escaped(name)}</th>{body}</tr>\n')
        head = "".join(f'<th class="words">{name}</th>' for name in self._head())
        note = f"Shown: {len(rows)} of {len(self.ids):,}; -o FILE.parquet has all." if len(rows) < len(self.ids) else ""
        return report.table(f"<tr>{head}</tr>", rows) + (f'<p class="note">{note}</p>\n' if note else "")


def _element(number: int) -> str:
    return _ELEMENTS[min(int(number), len(_ELEMENTS)) - 1]
