"""Scores of node states over every labelled event of a part: the network and simple rules, all with one cut."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graphs.metrics import area_under_curve, average_precision
from graphs.neighbors import NeighborIndex
from graphs.node_rules import LabelHistory, NodeRule, activity, constant, last_label, positive_rate

from .batches import Parts

BASELINES = ("class-prior", "last-label", "positive-rate", "activity")


@dataclass(frozen=True)
class NodeScores:
    """How one method did on Q labels; of every metric, more is better.

    `values` are over all labels at once, as positives are too rare for means over batches. `scores` and `truth` (Q,)
    are what was told of each event and its label.
    """

    values: Mapping[str, float]  # by the names of METRICS
    scores: Tensor
    truth: Tensor


def baselines(parts: Parts) -> dict[str, NodeRule]:
    """The rules that a network has to beat, in the order of `BASELINES`; what they need to know is of training."""
    labels = LabelHistory(parts.store, parts.labels)
    truth = parts.truth("train")
    share = float(truth.double().mean())
    index = NeighborIndex(parts.store)
    busy = told(activity(index, 1), parts, "train")
    sign = 1 if area_under_curve(busy[truth == 1], busy[truth == 0]) >= 0.5 else -1
    rules = (constant(share), last_label(labels, share), positive_rate(labels, share), activity(index, sign))
    return dict(zip(BASELINES, rules, strict=True))


def score(rules: Mapping[str, NodeRule], parts: Parts, part: str) -> dict[str, NodeScores]:
    """Score all `rules` on the labelled events of a part. Raises ValueError for a score that is not finite."""
    truth = parts.truth(part)
    found = {}
    for name, rule in rules.items():
        scores = told(rule, parts, part)
        if not bool(torch.isfinite(scores).all()):
            raise ValueError(f"a score of {name} is not finite")
        pair = scores[truth == 1], scores[truth == 0]
        found[name] = NodeScores({"auc": area_under_curve(*pair), "ap": average_precision(*pair)}, scores, truth)
    return found


def told(rule: NodeRule, parts: Parts, part: str) -> Tensor:
    """What a rule tells of the labelled events of a part, (Q,) float64."""
    return torch.cat([rule(batch).double() for batch in parts.batches(part)])
