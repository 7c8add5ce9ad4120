"""Time differences as vectors."""

import torch
from torch import Tensor, nn


class CosineTimeEncoding(nn.Module):
    """Cosines of a time difference at `width` learned frequencies, at first spread evenly over nine decades.

    From "Inductive representation learning on temporal graphs" (Xu et al., ICLR 2020, https://arxiv.org/abs/2002.07962),
    with the initial values of DyGLib: frequencies 1 … 1e-9 radians per unit of time, phases 0. Made for seconds.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(10.0 ** -torch.linspace(0, 9, width))
        self.phase = nn.Parameter(torch.zeros(width))

    def forward(self, gap: Tensor) -> Tensor:
        """Encode gaps of any shape: one more axis, `width` long.

        Take differences in the type that times are stored in; float32 has no seconds left at the size of a Unix time.
        """
        return torch.cos(gap[..., None] * self.frequency + self.phase)
