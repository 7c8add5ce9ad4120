"""The register-or-refuse rule: a model earns its place by beating the baselines, the alias by beating the champion."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Metrics of which more is better; of all others less.
HIGHER = frozenset({"mrr", "ap", "auc", "hits@10", "r2", "accuracy", "accuracy_sbm"})


@dataclass(frozen=True)
class Decision:
    """`verdict` is "promoted" (registered and made champion), "registered" (not champion) or "refused"."""

    verdict: str
    reason: str
    forced: bool = False


def decide(
    score: float,
    baselines: Mapping[str, float],
    champion: float | None,
    metric: str,
    *,
    obstacle: str = "",
    force: bool = False,
) -> Decision:
    """Compare values of one metric on the same test part; an equal or NaN value beats nothing.

    `champion` is the present champion's value re-scored on the candidate's test part, None where there is none;
    `obstacle` says why a present champion could not be re-scored, which keeps the alias where it is.
    `force` registers what the gate refuses, and moves the alias only where there is no champion to compare with.
    """
    best = best_of(baselines, metric)
    against = f"{metric} {score:.4g} against {baselines[best]:.4g} of {best}"
    beats = _better(score, baselines[best], metric)
    if not beats:
        mute = math.isnan(score) or math.isnan(baselines[best])
        why = f"the test part says nothing by {metric}" if mute else "does not beat the best baseline"
        against = f"{why}: {against}"
        if not force:
            return Decision("refused", against)
        against = f"forced although it {against}"
    if obstacle:
        if force:
            return Decision("promoted", f"forced although the champion {obstacle}; {against}", True)
        return Decision("registered", f"the champion {obstacle}, so it stays; {against}")
    if champion is None:
        return Decision("promoted", f"first champion; {against}", not beats)
    compared = f"{metric} {score:.4g} against {champion:.4g} of the champion"
    if _better(score, champion, metric):
        return Decision("promoted", f"{compared}; {against}", not beats)
    stays = f"does not beat the champion, which stays: {compared}; {against}"
    return Decision("registered", f"forced, but {stays}" if force else stays, force)


def best_of(values: Mapping[str, float], metric: str) -> str:
    """Give the name with the best value of `metric`; a NaN is worse than any number."""
    sign = -1 if metric in HIGHER else 1
    return min(values, key=lambda name: math.inf if math.isnan(values[name]) else sign * values[name])


def _better(value: float, other: float, metric: str) -> bool:
    return value > other if metric in HIGHER else value < other
