"""Each window on a scale of its own, and unseen steps as if they held the mean."""

from torch import Tensor

from ...data.windows import Window


def standardise(past: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each variate with mean 0 and deviation 1 over its seen steps; its mean; its deviation.

    Shapes: (B, L, V), (B, 1, V), (B, 1, V). Unseen steps are 0 afterwards, as if they held the mean; what
    `past` holds there has no influence. A variate without a seen step has mean 0 and the smallest deviation.
    Source: iTransformer, https://arxiv.org/abs/2310.06625, §3.1, and its authors' code for the constants.
    """
    unseen = ~seen
    steps = seen.sum(1, keepdim=True).clamp(min=1)  # (B, 1, V)
    past = past.masked_fill(unseen, 0.0)
    # Detached as in the authors' code: the mean is a constant to the gradient, the deviation is not.
    mean = (past.sum(1, keepdim=True) / steps).detach()
    centred = (past - mean).masked_fill(unseen, 0.0)
    # 1e-5 is the authors': a constant variate is divided by 0.003 rather than by 0.
    deviation = (centred.square().sum(1, keepdim=True) / steps + 1e-5).sqrt()
    return centred / deviation, mean, deviation


def zero_unseen(window: Window) -> Tensor:
    """The past as it is, and 0 where it was not seen: (B, L, V)."""
    return window.past.masked_fill(~window.seen, 0.0)
