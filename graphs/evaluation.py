"""Scoring links along a stream: one loop over batches for every rule and network."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .events import EventStore, LinkBatch
from .metrics import area_under_curve, average_precision, ranks

LinkRule = Callable[[LinkBatch], Tensor]  # the scores of `LinkBatch.candidates`, (B, 1 + N), the higher the likelier


def at_own_time(rule: LinkRule, store: EventStore) -> LinkRule:
    """`rule`, asked of each event as of its own time: by what came strictly before it, of its batch, too."""
    return lambda batch: rule(batch._replace(cut=store.before(batch.time)[:, None]))


@dataclass(frozen=True)
class Separation:
    """How well events are told from their negatives, from 0 to 1: the mean over batches and over all at once."""

    average_precision: float
    auc: float
    pooled_average_precision: float
    pooled_auc: float


def scored(rule: LinkRule, batches: Iterable[LinkBatch]) -> Iterator[tuple[Tensor, Tensor]]:
    """The scores of the events (B,) and of their negatives (B, N), batch by batch; -inf where a negative is absent.

    Raises `ValueError` where a rule gives another shape or a score that is not finite.
    """
    for batch in batches:
        scores = rule(batch)
        wanted = (len(batch.src), 1 + batch.negatives.shape[1])
        if scores.shape != wanted:
            raise ValueError(f"scores are {tuple(scores.shape)} for candidates {wanted}")
        if not bool(torch.isfinite(scores).all()):
            raise ValueError(f"a score at time {batch.time[0].item()} or soon after is not finite")
        yield scores[:, 0], scores[:, 1:].masked_fill(batch.negatives < 0, -torch.inf)


def rank_links(rule: LinkRule, batches: Iterable[LinkBatch]) -> Tensor:
    """The rank of each event among its negatives, in the order of the batches: (Q,) float64."""
    places = [ranks(positive, negative) for positive, negative in scored(rule, batches)]
    return torch.cat(places) if places else torch.zeros(0, dtype=torch.float64)


def separate_links(rule: LinkRule, batches: Iterable[LinkBatch]) -> Separation:
    """Average precision and AUC of events against their negatives; not a number each of no batches.

    Keeps all scores: meant for few negatives an event.
    """
    parts = [(positive, negative[negative > -torch.inf]) for positive, negative in scored(rule, batches)]
    if not parts:
        return Separation(*[math.nan] * 4)
    alone = [(average_precision(*part), area_under_curve(*part)) for part in parts]
    precision, auc = torch.tensor(alone, dtype=torch.float64).mean(dim=0).tolist()
    positive, negative = (torch.cat(side) for side in zip(*parts, strict=True))
    pooled = average_precision(positive, negative), area_under_curve(positive, negative)
    return Separation(precision, auc, *pooled)
