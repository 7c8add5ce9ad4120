"""What a search found: one operator a layer, by name, and how sure it was."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
    trajectory: tuple[tuple[tuple[float, ...], ...], ...] = ()  # probabilities after each epoch
    seconds: float = 0.0

    @classmethod
    def of(
        cls,
        probabilities: Tensor,
        candidates: Sequence[str],
        *,
        min_margin: float = 0.01,
        fallback: str | None = None,
        trajectory: Sequence[Tensor] = (),
        seconds: float = 0.0,
    ) -> "Architecture":
        """The most probable candidate of each layer of (L, M), the first of equal ones; `fallback` where undecided."""
        rows = _rows(probabilities)
        found = cls(
            operators=tuple(candidates[row.index(max(row))] for row in rows),
            candidates=tuple(candidates),
            probabilities=rows,
            min_margin=min_margin,
            trajectory=tuple(_rows(epoch) for epoch in trajectory),
            seconds=seconds,
        )
        if fallback is None:
            return found
        undecided = set(found.undecided)
        operators = tuple(fallback if i in undecided else name for i, name in enumerate(found.operators))
        return cls(**{**asdict(found), "operators": operators})

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
        """The layers, counted from 0, that were decided by less than `min_margin`."""
        return tuple(layer for layer, margin in enumerate(self.margins) if margin < self.min_margin)

    def to_json(self) -> str:
        """A small document that `from_json` reads, with margins, entropies and undecided layers for people."""
        told = {"margins": self.margins, "entropies": self.entropies, "undecided": self.undecided}
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


def vote(found: Sequence[Architecture]) -> Architecture:
    """The choice of several searches: the operator that most chose, layer by layer; probabilities are their means.

    Of operators with equally many votes the more probable one wins. Candidates may be in any order.
    """
    names = found[0].candidates
    if any(set(each.candidates) != set(names) or len(each.operators) != len(found[0].operators) for each in found):
        raise GraphError("Searches over different candidates or depths cannot vote.", "Repeat them with one setting.")
    orders = [[each.candidates.index(name) for name in names] for each in found]
    mean = torch.stack(
        [torch.tensor(each.probabilities)[:, order] for each, order in zip(found, orders, strict=True)]
    ).mean(dim=0)
    votes = torch.tensor(
        [[[name == chosen for name in names] for chosen in each.operators] for each in found], dtype=mean.dtype
    ).sum(dim=0)
    best = (votes + 0.5 * mean).argmax(dim=1)  # a probability below 1 decides between equal votes only
    return Architecture(
        operators=tuple(names[int(choice)] for choice in best),
        candidates=names,
        probabilities=_rows(mean),
        min_margin=found[0].min_margin,
        seconds=math.fsum(each.seconds for each in found),
    )


def random_operators(candidates: Sequence[str], layers: int, generator: torch.Generator) -> tuple[str, ...]:
    """An operator for each layer, drawn evenly: what a search must beat."""
    drawn = torch.randint(len(candidates), (layers,), generator=generator)
    return tuple(candidates[int(choice)] for choice in drawn)


def _rows(table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _nested(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)
