"""Mixers of one axis of a grid of tokens, and the norms and weighted sums between them.

Source: Ali Behrouz, Michele Santacatterina, Ramin Zabih, "MambaMixer: Efficient Selective State Space Models with
Dual Token and Channel Selection", 2024, https://arxiv.org/abs/2403.19888; cited below by its sections, equations
and figures. It has no public code by its authors.

Tokens are (N, V, B, D): patches, variates, windows, width. A mixer takes and gives (axis, others, B, D) and mixes
along the first, so that a scan over patches or over variates reads its sequences as they lie.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from .ssm import SelectiveChain


class SelectiveMixer(nn.Module):
    """A gated selective scan along the first axis, in one direction or in both (§3.2; Figs. 1 and 6).

    Both directions share the projection in, the gate and the projection out; each has a convolution and a scan of
    its own. There is no residual: `WeightedSum` stands for it.
    """

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int, *, bidirectional: bool) -> None:
        super().__init__()
        inner, rank = expand * d_model, -(-d_model // 16)
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.forwards = SelectiveChain(inner, d_state, d_conv, rank)
        self.backwards = SelectiveChain(inner, d_state, d_conv, rank) if bidirectional else None
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, informed of each other along the first axis: (n, others, B, D) in and out."""
        both = self.in_proj(tokens).flatten(1, 2)  # (n, others B, 2 inner)
        inputs, gate = both.chunk(2, dim=2)
        read = self.forwards(inputs, gate)  # Eqs. 6-11
        if self.backwards is not None:
            # Eq. 18 gates what was flipped back; flipping the gate too is the same, as it acts on each token alone.
            inputs, gate = both.flip(0).chunk(2, dim=2)
            read = read + self.backwards(inputs, gate).flip(0)
        out: Tensor = self.out_proj(read).unflatten(1, tokens.shape[1:3])
        return out


class LinearMixer(nn.Module):
    """One linear map along the first axis, of `length` tokens, shared by all else (§6.5, "Linear Time")."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.mix = nn.Linear(length, length, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.matmul(self.mix.weight, tokens.flatten(1)).view(tokens.shape)


class MLPMixer(nn.Module):
    """Two linear maps along the first axis, of `length` tokens, with GELU between them (§6.5, "TSM2-MLP")."""

    def __init__(self, length: int) -> None:
        super().__init__()
        hidden = max(2 * length, 8)
        self.expand, self.contract = nn.Linear(length, hidden), nn.Linear(hidden, length)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = gelu(self.expand(tokens.flatten(1).T))  # (others B D, hidden)
        out: Tensor = self.contract(hidden).T.reshape(tokens.shape)
        return out


class WindowNorm(nn.Module):
    """Mean 0 and deviation 1 over all patches, variates and features of a window ("2D normalization", §5.1).

    A group norm of one group: scale and shift are per feature, so no weight depends on the number of tokens.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        windows = tokens.permute(2, 0, 1, 3)  # (B, N, V, D): a window in one piece, for the fused kernel
        normed = layer_norm(windows, windows.shape[1:]) * self.weight + self.bias
        return normed.permute(1, 2, 0, 3)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of each feature, over all windows and tokens of a batch."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 2)).view(input.shape)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "2d": WindowNorm,
    "token": nn.LayerNorm,
    "batch2d": BatchNorm,
    "none": nn.Identity,
}


class WeightedSum(nn.Module):
    """All earlier outputs, each times a weight of its own (Eqs. 19 and 20).

    `token` are α or θ, the weights of what the token mixers gave, `channel` are β or γ; the first output of both
    families is the encoded input. `start` is "residual": all weights 1, the two of the input half each, so that the
    mixers start as a residual stack; "chain": only the newest output; "average": equal weights that sum to 1.
    """

    token: Tensor
    channel: Tensor

    def __init__(self, tokens: int, channels: int, start: str, *, learned: bool) -> None:
        super().__init__()
        weights = torch.ones(tokens + channels)
        token, channel = weights.split((tokens, channels))
        if start == "residual":
            token[0] = channel[0] = 0.5
        elif start == "chain":
            weights.zero_()
            # A token mixer is one output ahead exactly when it is the newest.
            (token if tokens > channels else channel)[-1] = 1.0
        else:
            weights /= len(weights)
        for name, part in (("token", token), ("channel", channel)):
            if learned:
                self.register_parameter(name, nn.Parameter(part.clone()))
            else:
                self.register_buffer(name, part.clone())

    def forward(self, tokens: Sequence[Tensor], channels: Sequence[Tensor]) -> Tensor:
        """The sum, in the shape of one output."""
        total = (self.token[0] + self.channel[0]) * tokens[0]
        for weights, outputs in ((self.token, tokens), (self.channel, channels)):
            for weight, output in zip(weights[1:].unbind(), outputs[1:], strict=True):
                total = total + weight * output
        return total
