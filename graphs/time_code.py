"""Spans of time as vectors that a linear layer can order over several decades."""

import torch
from torch import Tensor, nn


class TimeCode(nn.Module):
    """Codes spans of time, in units of a window of `window` events: x >= 0 of any shape -> (…, width).

    A linear map of [cos(x f + b), log1p(x), log1p(x √W), log1p(x W)]. The width / 2 learned frequencies f start as a
    geometric series from 0.1 to W, W = `window`: one mean gap between events is x = 1 / W. Cosines alone cannot
    tell which of two spans is the longer one; the three logarithms do, at three resolutions.
    """

    magnify: Tensor

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        count = max(1, width // 2)
        self.frequency = nn.Parameter(torch.logspace(-1, torch.log10(torch.tensor(float(window))).item(), count))
        self.phase = nn.Parameter(torch.zeros(count))
        self.register_buffer("magnify", torch.tensor([1.0, window**0.5, float(window)]), persistent=False)
        self.project = nn.Linear(count + 3, width)

    def inputs(self, spans: Tensor) -> Tensor:
        """What `project` maps to the codes: (…) -> (…, width / 2 + 3)."""
        spans = spans.unsqueeze(-1)
        waves = torch.cos(spans * self.frequency + self.phase)
        return torch.cat((waves, torch.log1p(spans * self.magnify)), dim=-1)

    def forward(self, spans: Tensor) -> Tensor:
        """The codes of `spans`: (…) -> (…, width)."""
        coded: Tensor = self.project(self.inputs(spans))
        return coded
