"""S-Mamba: two selective scans over the variates, one in each direction, in place of attention between them.

Paper: Zihan Wang, Fanheng Kong, Shi Feng, Ming Wang, Xiaocui Yang, Han Zhao, Daling Wang, Yifei Zhang, "Is Mamba
Effective for Time Series Forecasting?", 2024, https://arxiv.org/abs/2403.11144; cited below by its sections.
Authors' code: https://github.com/wzhwzhwzh0921/S-D-Mamba.

The scans read variate after variate, so the order of the columns is part of the model: the same columns in
another order give another forecast. Time features come after the variates, and after them the covariates whose
future is known, for which the paper has no place: tokens of their past and future.

Differs from the authors' code:
- the Mamba blocks and the attention that every layer of theirs makes and never calls are left out; weights of
  theirs that hold them load all the same;
- the feed-forward part has linear layers in place of convolutions of width 1: the same arithmetic and initial
  weights, without the two transpositions;
- unseen steps are left out of the instance statistics and read as the mean of the seen ones; with all steps
  seen this is the authors' formula;
- the division by the deviation is not in place, so that gradients reach the inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..data.windows import Window, WindowShape
from ..errors import UsageError
from .layers.instance_norm import standardise, zero_unseen
from .layers.ssm import MambaBlock

# A layer keeps some 25 arrays of the size of its tokens for its backward pass. Where all layers would keep more than
# 1 GiB of main memory, each keeps its input alone and is computed twice: a third more time, and for the 862 variates of
# Traffic 3 GB instead of 6.
_KEPT_TOKENS = (1 << 30) // 4 // 25  # values of tokens, over all layers

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


@dataclass(frozen=True, kw_only=True)
class SMambaConfig:
    """Sizes of the network; the defaults are the widths of most of the authors' settings for large data sets.

    Raises `UsageError` for a value that no network can be built from.
    """

    d_model: int = 512  # width of a variate token
    d_ff: int = 512  # width inside the feed-forward part
    d_state: int = 32  # size of the hidden state of each channel of a scan
    layers: int = 2  # encoder layers
    dropout: float = 0.1  # share of activations zeroed in training; the scans have none
    activation: str = "gelu"  # of the feed-forward part: "gelu" (exact) or "relu"
    use_norm: bool = True  # standardise each variate within its window, and undo it on the forecast

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "d_state", "layers"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"s-mamba: model.{name} is {getattr(self, name)}; it must be at least 1.",
                    f"Set model.{name} to a positive whole number.",
                )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"s-mamba: model.dropout is {self.dropout}; it must be at least 0 and below 1.",
                "Set model.dropout=0.1, or 0 for none.",
            )
        if self.activation not in ACTIVATIONS:
            raise UsageError(
                f's-mamba: model.activation "{self.activation}" is not known.',
                f"Set model.activation to {' or '.join(ACTIVATIONS)}.",
            )


class EncoderLayer(nn.Module):
    """Scans over the tokens, then a feed-forward part on each token; a norm follows each sum (§4.2, §4.3)."""

    def __init__(self, config: SMambaConfig) -> None:
        super().__init__()
        # d_conv and expand are fixed in the authors' model.
        self.forwards = MambaBlock(config.d_model, config.d_state, d_conv=2, expand=1)
        self.backwards = MambaBlock(config.d_model, config.d_state, d_conv=2, expand=1)
        self.expand = nn.Linear(config.d_model, config.d_ff)
        self.contract = nn.Linear(config.d_ff, config.d_model)
        self.norm_scan = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, informed of each other: (B, tokens, D) in and out."""
        both = self.forwards(tokens) + self.backwards(tokens.flip(1)).flip(1)
        tokens = self.norm_scan(tokens + both)  # one residual for both directions, and no dropout
        hidden = self.dropout(self.activation(self.expand(tokens)))  # (B, tokens, d_ff)
        out: Tensor = self.norm_feed_forward(tokens + self.dropout(self.contract(hidden)))
        return out


_BLOCK = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")  # modules of a Mamba block, named as the authors'


class SMamba(nn.Module):
    """Forecasts from variate tokens (§4): `Window` in, (B, H, V_out) out.

    No weight depends on V: a window may have more or fewer variates than `shape`, though their order matters.
    A network built to forecast all of its variates forecasts all that it is given, any other the first
    `shape.targets`. Time features of the past are further tokens through the same embedding; those of the
    future are not used, as in the authors' code.
    """

    any_variates = True  # another number of variates than in training may be given

    # Authors' module -> module here that holds its weights and gives its output; {i} is the layer.
    reference_names: ClassVar[Mapping[str, str]] = {
        "enc_embedding": "embed",
        "enc_embedding.value_embedding": "embed",
        "encoder.attn_layers.{i}": "layers.{i}",
        "encoder.attn_layers.{i}.attention": "layers.{i}.forwards",
        **{f"encoder.attn_layers.{{i}}.attention.{part}": f"layers.{{i}}.forwards.{part}" for part in _BLOCK},
        "encoder.attn_layers.{i}.attention_r": "layers.{i}.backwards",
        **{f"encoder.attn_layers.{{i}}.attention_r.{part}": f"layers.{{i}}.backwards.{part}" for part in _BLOCK},
        "encoder.attn_layers.{i}.conv1": "layers.{i}.expand",
        "encoder.attn_layers.{i}.conv2": "layers.{i}.contract",
        "encoder.attn_layers.{i}.norm1": "layers.{i}.norm_scan",
        "encoder.attn_layers.{i}.norm2": "layers.{i}.norm_feed_forward",
        "encoder": "norm",
        "encoder.norm": "norm",
        "projector": "project",
    }
    # Authors' modules that their forward pass never calls.
    reference_unused: ClassVar[tuple[str, ...]] = (
        "encoder.attn_layers.{i}.man",
        "encoder.attn_layers.{i}.man2",
        "encoder.attn_layers.{i}.a",
    )

    def __init__(self, shape: WindowShape, config: SMambaConfig) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.targets = None if shape.targets == shape.variates else shape.targets  # None: all that are given
        self.use_norm = config.use_norm
        self.embed = nn.Linear(shape.lookback, config.d_model)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.project = nn.Linear(config.d_model, shape.horizon)
        self.dropout = nn.Dropout(config.dropout)
        self.embed_known = nn.Linear(shape.lookback + shape.horizon, config.d_model) if shape.known else None

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out), on the scale of `window.past`."""
        if not self.use_norm:
            return self._forecast(zero_unseen(window), window)
        past, mean, deviation = standardise(window.past, window.seen)
        forecast = self._forecast(past, window)
        variates = forecast.shape[2]
        return forecast * deviation[..., :variates] + mean[..., :variates]

    def _forecast(self, past: Tensor, window: Window) -> Tensor:
        series = torch.cat((past, window.past_time), dim=2)  # (B, L, V + K)
        tokens = self.embed(series.transpose(1, 2))  # (B, V + K, D)
        if self.embed_known is not None:
            tokens = torch.cat((tokens, self.embed_known(window.known.transpose(1, 2))), dim=1)  # (B, V + K + C, D)
        tokens = self.dropout(tokens)
        learning = self.training and torch.is_grad_enabled()
        twice = learning and not tokens.is_cuda and len(self.layers) * tokens.numel() > _KEPT_TOKENS
        for layer in self.layers:
            tokens = checkpoint(layer, tokens, use_reentrant=False) if twice else layer(tokens)
        steps: Tensor = self.project(self.norm(tokens))  # (B, V + K + C, H)
        variates = past.shape[2] if self.targets is None else min(self.targets, past.shape[2])
        return steps[:, :variates].transpose(1, 2)  # (B, H, V_out)
