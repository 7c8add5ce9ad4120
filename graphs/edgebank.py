"""EdgeBank: a pair that met before meets again. Each function gives a rule that scores 1 for a remembered pair, else 0.

Paper: Farimah Poursafaei, Shenyang Huang, Kellin Pelrine, Reihaneh Rabbany, "Towards Better Evaluation for Dynamic Link
Prediction", NeurIPS 2022, https://arxiv.org/abs/2207.10128. The kinds of memory are those of DyGLib (share, repeats)
and TGB (span), whose scores the tests reproduce.

Differs from their code: what is remembered follows from a search in one index, as of the cut of each batch; no memory
is carried along, so that batches can be scored in any order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .evaluation import LinkRule
from .events import LinkBatch, quantile
from .history import PairHistory


def unlimited(history: PairHistory) -> LinkRule:
    """Every pair that ever met."""
    return _since(history, torch.zeros_like)


def span(history: PairHistory, trained: int, share: float = 0.15) -> LinkRule:
    """Pairs that met within a fixed time before the latest event: `share` of the span of the first `trained` events."""
    time = history.store.time
    length = share * float(time[trained - 1] - time[0])
    return _since(history, lambda cut: history.store.before(time[cut - 1].double() - length))


def share(history: PairHistory, share: float = 0.15) -> LinkRule:
    """Pairs among the latest `share` of all events so far, from that quantile of their times on."""
    time = history.store.time.double()
    return _since(history, lambda cut: history.store.before(quantile(time, 1 - share, cut)))


def repeat_interval(history: PairHistory) -> LinkRule:
    """Pairs that met within the mean time between meetings before the latest event.

    The mean is over all pairs so far, each with the mean of its own gaps, 0 for pairs that met once.
    """
    store, events = history.store, history.events
    pair = events.keys // events.step
    first = store.time[events.event[events.offsets[pair]]].double()
    earlier = torch.arange(len(store)) - events.offsets[pair]  # meetings of the pair before each
    gap = (store.time[events.event].double() - first) / earlier.clamp(min=1)
    change = gap.clone()
    again = earlier > 0
    change[again] -= gap[again.nonzero()[:, 0] - 1]
    total = torch.zeros(len(store), dtype=torch.float64)
    total[events.event] = change
    total = total.cumsum(0)

    def start(cut: Tensor) -> Tensor:
        mean = total[cut - 1] / history.arrived(cut)
        return store.before(store.time[cut - 1].double() - mean)

    return _since(history, start)


def repeat_threshold(history: PairHistory) -> LinkRule:
    """Pairs that met at least as often as the mean pair so far."""

    def rule(batch: LinkBatch) -> Tensor:
        cut = torch.as_tensor(batch.cut)
        mean = cut.double() / history.arrived(cut).clamp(min=1)
        return (history.meetings(*batch.candidates(), cut).number >= mean.clamp(min=1)).double()

    return rule


def _since(history: PairHistory, start: Callable[[Tensor], Tensor]) -> LinkRule:
    """Score 1 for pairs whose latest event stands at `start` of the cut or later; before the first event none."""

    def rule(batch: LinkBatch) -> Tensor:
        cut = torch.as_tensor(batch.cut)
        last = history.meetings(*batch.candidates(), cut).last
        return ((last >= 0) & (last >= start(cut.clamp(min=1)))).double()

    return rule
