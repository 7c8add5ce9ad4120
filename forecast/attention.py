"""Where the attention of a network goes, averaged over heads and windows.

A network tells by its methods: `attention_maps(window)`, layer by layer (B, A, T, T), rows sum to 1; and, where it
attends over time steps with few queries, `selected_queries(window)`, (B, A, u) positions in order of use.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.windows import WindowDataset

_SQUARES = 2_000_000  # token pairs of a batch: a few hundred megabytes with eight heads and some layers


@dataclass(frozen=True)
class AttentionMap:
    """What share each token (row) of a layer takes from each: (T, T) means and deviations over windows."""

    layer: int  # from 1
    tokens: tuple[str, ...]
    share: np.ndarray  # rows sum to 1
    sd: np.ndarray


@dataclass(frozen=True)
class Profile:
    """What share falls to each time step in one place of a network: (T,) means and deviations over windows."""

    measure: str  # "selected": of the heads that let the step attend; "received": of the attention that goes to it
    place: str
    steps: np.ndarray  # (T,) 0 is the last known one; layers after a distilling stand at equal distances
    share: np.ndarray
    sd: np.ndarray


def attention_maps(network: Any, data: WindowDataset, tokens: Sequence[str]) -> tuple[AttentionMap, ...]:
    """Give a map for each layer of a network whose tokens are variates and covariates; none where it has no maps."""
    if not hasattr(network, "attention_maps") or hasattr(network, "selected_queries"):
        return ()
    found = _averaged(data, len(tokens), lambda window: [share.mean(1) for share in network.attention_maps(window)])
    return tuple(AttentionMap(layer, tuple(tokens), *pair) for layer, pair in enumerate(found, start=1))


def profiles(network: Any, data: WindowDataset) -> tuple[Profile, ...]:
    """Give the profiles of a network that attends over time steps (Informer): selections, then what is received.

    Selections are those of the encoder's layers, then the decoder's; none with full attention. A network that does not
    attend over time steps has no profile.
    """
    if not hasattr(network, "selected_queries"):
        return ()
    config, start = network.config, network.start_token
    depths = config.stack or (config.layers,)
    names = [f"encoder {number}" if len(depths) > 1 else "encoder" for number in range(1, len(depths) + 1)]
    places = [f"{name} layer {layer + 1}" for name, depth in zip(names, depths, strict=True) for layer in range(depth)]
    # Each encoder of a stack reads the later half of what the one before reads.
    spans = [data.lookback >> number for number, depth in enumerate(depths) for _ in range(depth)]
    size = max(data.lookback, start + data.horizon)
    received = _averaged(data, size, lambda window: [part.mean((1, 2)) for part in network.attention_maps(window)])
    steps = [np.linspace(1 - span, 0, len(mean)) for span, (mean, _) in zip(spans, received, strict=True)]
    attended = [Profile("received", *found) for found in _joined(places, steps, received)]

    def counted(window: Any) -> list[Tensor]:
        lengths = chain(map(len, steps), repeat(start + data.horizon))
        return [_counted(chosen, n) for chosen, n in zip(network.selected_queries(window), lengths, strict=False)]

    selected = _averaged(data, size, counted)
    decoding = len(selected) - len(places)
    if decoding > 0:
        kinds = ("self-attention", "cross-attention")[: decoding // config.decoder_layers]
        places += [f"decoder layer {layer + 1} {kind}" for layer in range(config.decoder_layers) for kind in kinds]
        steps += [np.arange(1 - start, data.horizon + 1.0)] * decoding
    return (*(Profile("selected", *found) for found in _joined(places, steps, selected)), *attended)


def _joined(
    places: Sequence[str], steps: Sequence[np.ndarray], shares: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Give place, steps, mean and deviation of each of `shares`, of which there are none with full attention."""
    return ((place, step, *pair) for place, step, pair in zip(places, steps, shares, strict=False))


def _counted(positions: Tensor, length: int) -> Tensor:
    """Give the share of heads that selected each of `length` positions: (B, length), of (B, A, u)."""
    flat = positions.flatten(1)
    return torch.zeros(len(flat), length).scatter_add_(1, flat, torch.ones(flat.shape)) / positions.shape[1]


@torch.inference_mode()
def _averaged(
    data: WindowDataset, tokens: int, shares: Callable[[Any], list[Tensor]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give mean and standard deviation over windows of each tensor (B, …) that `shares` makes of a batch."""
    sums: list[Tensor] = []
    for index in data.numbers(max(1, _SQUARES // tokens**2)):
        parts = [part.double() for part in shares(data[index].window)]
        batch = [torch.stack((part.sum(0), part.square().sum(0))) for part in parts]  # (2, …)
        sums = [a + b for a, b in zip(sums, batch, strict=True)] if sums else batch
    means = [total / len(data) for total in sums]
    return [(mean.numpy(), (square - mean.square()).clamp(min=0).sqrt().numpy()) for mean, square in means]
