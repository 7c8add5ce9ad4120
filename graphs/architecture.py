"""What a search found: one operator a layer, by name, and how sure it was."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from .graph_batch import GraphError
from .graph_operators import check_operators


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The operators of L layers chosen among M candidates. Names are stored, never numbers."""

    operators: tuple[str, ...]
    candidates: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]  # L times M, in the order of the candidates
    min_margin: float = 0.01
    evidence: tuple[float, ...] = ()  # of each layer's choice, as `evidence` gives it; empty: not measured
    min_evidence: float = 3.0
    fallback: str | None = None  # the operator of undecided layers; None: the most probable one
    trajectory: tuple[tuple[tuple[float, ...], ...], ...] = ()  # probabilities after each epoch
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        probabilities: Tensor,
        candidates: Sequence[str],
        *,
        asked: Tensor | None = None,
        min_margin: float = 0.01,
        min_evidence: float = 3.0,
        fallback: str | None = None,
        trajectory: Sequence[Tensor] = (),
        seconds: float = 0.0,
    ) -> "Architecture":
        """The most probable candidate of each layer of (L, M), the first of equal ones; `fallback` where undecided.

        `asked`, (B, L, M), is what `graphs.darts_search.asked` gives; without it the margin alone decides.
        """
        rows = _rows(probabilities)
        found = cls(
            operators=tuple(candidates[row.index(max(row))] for row in rows),
            candidates=tuple(candidates),
            probabilities=rows,
            min_margin=min_margin,
            evidence=() if asked is None else evidence(asked, probabilities),
            min_evidence=min_evidence,
            fallback=fallback,
            trajectory=tuple(_rows(epoch) for epoch in trajectory),
            seconds=seconds,
        )
        return found.filled()

    def filled(self) -> "Architecture":
        """The same with the fallback, where there is one, in the layers that are undecided."""
        if self.fallback is None:
            return self
        undecided = set(self.undecided)
        operators = tuple(self.fallback if i in undecided else name for i, name in enumerate(self.operators))
        return replace(self, operators=operators)

    @property
    def margins(self) -> tuple[float, ...]:
        """The highest probability minus the second, a layer."""
        ranked = [sorted(row, reverse=True) for row in self.probabilities]
        return tuple(row[0] - row[1] for row in ranked)

    @property
    def entropies(self) -> tuple[float, ...]:
        """Entropy of the probabilities in nats, a layer: log M where nothing was learned."""
        return tuple(-math.fsum(p * math.log(p) for p in row if p > 0) for row in self.probabilities)

    @property
    def undecided(self) -> tuple[int, ...]:
        """The layers, counted from 0, whose margin is below `min_margin` or whose evidence is below `min_evidence`."""
        small = {layer for layer, margin in enumerate(self.margins) if margin < self.min_margin}
        weak = {layer for layer, found in enumerate(self.evidence) if found < self.min_evidence}
        return tuple(sorted(small | weak))

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Of each layer in words: decided or not, by what, and which operator fills it where not."""
        evidence = self.evidence or (None,) * len(self.operators)
        told = []
        for layer, (name, margin, found) in enumerate(zip(self.operators, self.margins, evidence, strict=True)):
            by = f"margin {margin:.4f}{f' < {self.min_margin:g}' if margin < self.min_margin else ''}"
            if found is not None:
                by += f", evidence {found:.1f}{f' < {self.min_evidence:g}' if found < self.min_evidence else ''}"
            filled = f"; filled with {name}, the {'most probable' if self.fallback is None else 'fallback'}"
            told.append(f"undecided: {by}{filled}" if layer in self.undecided else f"decided: {by}")
        return tuple(told)

    def to_json(self) -> str:
        """A small document that `from_json` reads, with what follows from it for people; layers count from 0."""
        told = {name: getattr(self, name) for name in ("margins", "entropies", "undecided", "verdicts")}
        return json.dumps({**asdict(self), **told}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """The architecture of a document. Raises `GraphError` for one that is not understood."""
        try:
            read = json.loads(text)
            found = cls(
                operators=tuple(read["operators"]),
                candidates=tuple(read["candidates"]),
                probabilities=_nested(read["probabilities"]),
                min_margin=float(read["min_margin"]),
                evidence=tuple(map(float, read.get("evidence", ()))),  # documents of before it was measured have none
                min_evidence=float(read.get("min_evidence", 3.0)),
                fallback=read.get("fallback"),
                trajectory=tuple(_nested(epoch) for epoch in read["trajectory"]),
                seconds=float(read["seconds"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise GraphError(
                f"The architecture cannot be read: {error!r}.", "Give the document that a search wrote."
            ) from error
        check_operators(found.operators, "architecture.operators")
        strangers = [name for name in found.operators if name not in found.candidates]
        if strangers or len(found.probabilities) != len(found.operators):
            raise GraphError(
                f"The architecture names {len(found.operators)} operators and {len(found.probabilities)} layers of "
                f"probabilities{f'; {strangers[0]} is no candidate' if strangers else ''}.",
                "Give the document that a search wrote.",
            )
        return found


def evidence(asked: Tensor, probabilities: Tensor) -> tuple[float, ...]:
    """How surely the targets of B batches ask for the best of (L, M) probabilities rather than the second, a layer.

    `asked` is (B, L, M), of batches that share no graph. Gives Student's t of the difference over the batches, as the
    deviation of a standard normal that is as rare (Wallace 1959, https://doi.org/10.1214/aoms/1177706091), so that 3
    means the same of 5 batches as of 500. 0 where fewer than two batches or no difference leave nothing to judge.
    """
    best, second = probabilities.topk(2, dim=1).indices.to(asked.device).T  # (L,) each
    layers = torch.arange(asked.shape[1], device=asked.device)
    more = (asked[:, layers, best] - asked[:, layers, second]).double()  # (B, L)
    freedom = len(more) - 1
    if freedom < 1:
        return (0.0,) * asked.shape[1]
    t = (more.mean(dim=0) / (more.std(dim=0) / math.sqrt(len(more)))).nan_to_num(0.0)
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return tuple((scale * t.sign() * (freedom * (t.square() / freedom).log1p()).sqrt()).tolist())


def vote(found: Sequence[Architecture]) -> Architecture:
    """The choice of several searches: the operator that most chose, layer by layer; probabilities are their means.

    Of operators with equally many votes the more probable one wins. Candidates may be in any order. Evidence is the
    mean over the searches, where one that chose otherwise gives none; they share their data, so it does not add up. The
    trajectory is the mean of theirs, as long as the shortest.
    """
    names = found[0].candidates
    if any(set(each.candidates) != set(names) or len(each.operators) != len(found[0].operators) for each in found):
        raise GraphError("Searches over different candidates or depths cannot vote.", "Repeat them with one setting.")
    orders = [[each.candidates.index(name) for name in names] for each in found]

    def mean_of(tables: Iterable[Sequence[Sequence[float]]]) -> Tensor:
        ordered = [torch.tensor(table)[:, order] for table, order in zip(tables, orders, strict=True)]
        return torch.stack(ordered).mean(dim=0)

    mean = mean_of(each.probabilities for each in found)
    votes = torch.tensor(
        [[[name == chosen for name in names] for chosen in each.operators] for each in found], dtype=mean.dtype
    ).sum(dim=0)
    best = (votes + 0.5 * mean).argmax(dim=1)  # a probability below 1 decides between equal votes only
    chosen = tuple(names[int(choice)] for choice in best)
    return Architecture(
        operators=chosen,
        candidates=names,
        probabilities=_rows(mean),
        min_margin=found[0].min_margin,
        evidence=_mean_evidence(found, chosen),
        min_evidence=found[0].min_evidence,
        fallback=found[0].fallback,
        trajectory=tuple(_rows(mean_of(epoch)) for epoch in zip(*(each.trajectory for each in found), strict=False)),
        seconds=math.fsum(each.seconds for each in found),
    ).filled()


def random_operators(candidates: Sequence[str], layers: int, generator: torch.Generator) -> tuple[str, ...]:
    """An operator for each layer, drawn evenly: what a search must beat."""
    drawn = torch.randint(len(candidates), (layers,), generator=generator)
    return tuple(candidates[int(choice)] for choice in drawn)


def _mean_evidence(found: Sequence[Architecture], chosen: Sequence[str]) -> tuple[float, ...]:
    if not all(each.evidence for each in found):
        return ()
    return tuple(
        math.fsum(each.evidence[layer] for each in found if each.operators[layer] == name) / len(found)
        for layer, name in enumerate(chosen)
    )


def _rows(table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _nested(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)
