"""The register-or-refuse rule: a model earns its place by beating the baselines, the alias by beating the champion."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


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
    """Compare errors of one metric on the same test windows; smaller is better, an equal or NaN error beats nothing.

    `champion` is the present champion's error re-scored on the candidate's windows, None where there is none;
    `obstacle` says why a present champion could not be re-scored, which keeps the alias where it is.
    `force` registers what the gate refuses, and moves the alias only where there is no champion to compare with.
    """
    best = min(baselines, key=lambda name: baselines[name] if not math.isnan(baselines[name]) else math.inf)
    against = f"{metric} {score:.4g} against {baselines[best]:.4g} of {best}"
    beats = score < baselines[best]
    if not beats:
        against = f"does not beat the best baseline: {against}"
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
    if score < champion:
        return Decision("promoted", f"{compared}; {against}", not beats)
    stays = f"does not beat the champion, which stays: {compared}; {against}"
    return Decision("registered", f"forced, but {stays}" if force else stays, force)
