"""Scores of links over every event of a part: the network, the simple rules, all with one cut and on the same batches.

A rule sees what came strictly before the time of its batch's first event or, where the network does, of each event.
Published results of streaming rules are not as strict: they also see events of the batch's first time which the file
happens to list earlier.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from graphs import edgebank, pair_rules
from graphs.evaluation import LinkRule, at_own_time
from graphs.events import LinkBatch, stretches
from graphs.history import PairHistory
from graphs.metrics import area_under_curve, average_precision, hits, ranks, reciprocal_rank
from graphs.todyformer import Cut

from .batches import Parts

BASELINES = ("edgebank", "edgebank-window", "pair-count", "pair-recency", "recency-popularity")


@dataclass(frozen=True)
class LinkScores:
    """How one method did on Q events; of every metric, more is better.

    `ranks` (Q,) float64 are places among all destinations but the event's true ones, or among those that the data list
    for the event, the middle one of equals (TGB's protocol): `mrr` and `hits@10` come from them. `ap` and `auc` tell
    each event from one of these, drawn by seed, and are means over batches. `confidence` and `right` (Q,) are the share
    that a softmax gives to the first of the ranking and whether that is the event, empty for rules, which give no
    shares.
    """

    values: Mapping[str, float]  # by the names of METRICS
    ranks: Tensor
    confidence: Tensor
    right: Tensor

    def metric(self, name: str) -> float:
        """One of `METRICS`."""
        return self.values[name]


def baselines(parts: Parts, batch_size: int, cut: Cut = "batch") -> dict[str, LinkRule]:
    """The rules that a network has to beat, in the order of `BASELINES`: EdgeBank and what pairs did before `cut`."""
    history = PairHistory(parts.store)
    numbers = pair_rules.batch_numbers((0, parts.validation, parts.test, len(parts.store)), batch_size)
    rules = (
        edgebank.unlimited(history),
        edgebank.span(history, parts.validation),
        pair_rules.pair_count(history),
        pair_rules.pair_recency(history),
        pair_rules.recency_then_popularity(history, numbers),
    )
    named = dict(zip(BASELINES, rules, strict=True))
    return {name: at_own_time(rule, parts.store) for name, rule in named.items()} if cut == "query" else named


def score(
    rules: Mapping[str, LinkRule],
    parts: Parts,
    first: int,
    end: int,
    *,
    batch_size: int,
    seed: int,
    shares: Collection[str] = (),
) -> dict[str, LinkScores]:
    """Score all `rules` on the events `first` … `end`-1; `shares` names those whose scores are logits of a softmax.

    Each event is compared with the same negatives by every rule. Memory does not grow with the events or destinations:
    batches are cut into pieces of a bounded number of scores. Raises ValueError for a score that is not finite.
    """
    kept: dict[str, list[_Piece]] = {name: [] for name in rules}
    batches = list(stretches(parts.store, first, end, batch_size))
    for number, whole in enumerate(batches):
        for piece in parts.pieces([whole]):
            batch = parts.rivals(piece)
            drawn = one_negative(batch, (seed, piece.first))
            for name, rule in rules.items():
                kept[name].append(_compared(rule(batch), batch, drawn, number, name in shares))
    return {name: _summed(pieces) for name, pieces in kept.items()}


def one_negative(batch: LinkBatch, seed: tuple[int, int]) -> Tensor:
    """A column of `batch.negatives` for each event, (B, 1), evenly among those that are no true destination."""
    present = batch.negatives >= 0
    draw = torch.Generator().manual_seed((seed[0] * 1_000_003 + seed[1]) % 2**63)
    place = (torch.rand(len(present), 1, generator=draw, dtype=torch.float64) * present.sum(1, keepdim=True)).long()
    return torch.searchsorted(present.long().cumsum(1), place + 1)


class _Piece(NamedTuple):
    number: int  # of the batch
    ranks: Tensor  # (B,)
    positive: Tensor  # (B,)
    negative: Tensor  # (B,) the drawn one's score
    confidence: Tensor  # (B,) or (0,)
    right: Tensor


def _compared(scores: Tensor, batch: LinkBatch, drawn: Tensor, number: int, shares: bool) -> _Piece:
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(f"a score at time {batch.time[0].item()} or soon after is not finite")
    positive, negative = scores[:, 0], scores[:, 1:].masked_fill(batch.negatives < 0, -torch.inf)
    confidence = right = torch.zeros(0)
    if shares:
        best = negative.amax(dim=1)
        # The own destination is among the candidates of `negative` as -1, so that column 0 counts it once.
        total = torch.logsumexp(torch.cat((positive[:, None], negative), dim=1).double(), dim=1)
        confidence, right = torch.exp(torch.maximum(positive, best).double() - total), positive > best
    return _Piece(number, ranks(positive, negative), positive, negative.gather(1, drawn)[:, 0], confidence, right)


def _summed(pieces: list[_Piece]) -> LinkScores:
    whole: dict[int, list[_Piece]] = {}
    for piece in pieces:
        whole.setdefault(piece.number, []).append(piece)
    told = []
    for batch in whole.values():
        pair = (torch.cat([piece.positive for piece in batch]), torch.cat([piece.negative for piece in batch]))
        told.append((average_precision(*pair), area_under_curve(*pair)))
    precision, auc = torch.tensor(told, dtype=torch.float64).mean(dim=0).tolist()
    places = torch.cat([piece.ranks for piece in pieces])
    return LinkScores(
        {"mrr": reciprocal_rank(places), "ap": precision, "auc": auc, "hits@10": hits(places, 10)},
        places,
        torch.cat([piece.confidence for piece in pieces]),
        torch.cat([piece.right for piece in pieces]),
    )
