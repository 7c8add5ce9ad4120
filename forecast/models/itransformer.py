"""iTransformer: attention between variates, each of which is one token.

Paper: Yong Liu, Tengge Hu, Haoran Zhang, Haixu Wu, Shiyu Wang, Lintao Ma, Mingsheng Long, "iTransformer:
Inverted Transformers Are Effective for Time Series Forecasting", ICLR 2024, https://arxiv.org/abs/2310.06625;
cited below by its sections. Authors' code: https://github.com/thuml/iTransformer.

Differs from the authors' code:
- the feed-forward part has linear layers in place of convolutions of width 1: the same arithmetic and initial
  weights, without the two transpositions;
- unseen steps are left out of the instance statistics and read as the mean of the seen ones; with all steps
  seen this is the authors' formula;
- the division by the deviation is not in place, so that gradients reach the inputs;
- attention maps have a method of their own, so that the forward pass can use a fused kernel;
- covariates whose future is known, for which the paper has no place, are tokens of their past and future.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..data.windows import Window, WindowShape
from ..errors import UsageError
from .layers.attention import FullAttention
from .layers.instance_norm import standardise, zero_unseen

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


@dataclass(frozen=True, kw_only=True)
class ITransformerConfig:
    """Sizes of the network; the defaults are those of the authors' command line.

    Raises `UsageError` for a value that no network can be built from.
    """

    d_model: int = 128  # width of a variate token
    d_ff: int = 128  # width inside the feed-forward part
    heads: int = 8  # attention heads; they share d_model equally
    layers: int = 2  # encoder layers
    dropout: float = 0.1  # share of activations and attention weights zeroed in training
    activation: str = "gelu"  # of the feed-forward part: "gelu" (exact) or "relu"
    use_norm: bool = True  # standardise each variate within its window, and undo it on the forecast

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "heads", "layers"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"itransformer: model.{name} is {getattr(self, name)}; it must be at least 1.",
                    f"Set model.{name} to a positive whole number.",
                )
        if self.d_model % self.heads:
            nearest = -(-self.d_model // self.heads) * self.heads
            raise UsageError(
                f"itransformer: model.d_model {self.d_model} is not a multiple of model.heads {self.heads}.",
                f"Set model.d_model={nearest}, or another number of heads.",
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"itransformer: model.dropout is {self.dropout}; it must be at least 0 and below 1.",
                "Set model.dropout=0.1, or 0 for none.",
            )
        if self.activation not in ACTIVATIONS:
            raise UsageError(
                f'itransformer: model.activation "{self.activation}" is not known.',
                f"Set model.activation to {' or '.join(ACTIVATIONS)}.",
            )


class EncoderLayer(nn.Module):
    """Attention between tokens, then a feed-forward part on each token; a norm follows each sum (§3.2)."""

    def __init__(self, config: ITransformerConfig) -> None:
        super().__init__()
        # Made in the authors' order, so that a seed draws the same initial weights.
        self.attention = FullAttention(config.d_model, config.heads, config.dropout)
        self.expand = nn.Linear(config.d_model, config.d_ff)
        self.contract = nn.Linear(config.d_ff, config.d_model)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, informed of each other: (B, tokens, D) in and out."""
        tokens = self.norm_attention(tokens + self.dropout(self.attention(tokens, tokens)))
        hidden = self.dropout(self.activation(self.expand(tokens)))  # (B, tokens, d_ff)
        out: Tensor = self.norm_feed_forward(tokens + self.dropout(self.contract(hidden)))
        return out


class ITransformer(nn.Module):
    """Forecasts from variate tokens (§3): `Window` in, (B, H, V_out) out.

    No weight depends on V: a window may have more or fewer variates than `shape`. A network built to forecast
    all of its variates forecasts all that it is given, any other the first `shape.targets`. Time features of
    the past are further tokens through the same embedding; those of the future are not used, as in the
    authors' code. Each covariate whose future is known is a token too, of its L + H steps.
    """

    any_variates = True  # another number of variates than in training may be given

    # Authors' module -> module here that holds its weights and gives its output; {i} is the layer.
    reference_names: ClassVar[Mapping[str, str]] = {
        "enc_embedding": "embed",
        "enc_embedding.value_embedding": "embed",
        "encoder.attn_layers.{i}": "layers.{i}",
        "encoder.attn_layers.{i}.attention.query_projection": "layers.{i}.attention.query",
        "encoder.attn_layers.{i}.attention.key_projection": "layers.{i}.attention.key",
        "encoder.attn_layers.{i}.attention.value_projection": "layers.{i}.attention.value",
        "encoder.attn_layers.{i}.attention.out_projection": "layers.{i}.attention.out",
        "encoder.attn_layers.{i}.conv1": "layers.{i}.expand",
        "encoder.attn_layers.{i}.conv2": "layers.{i}.contract",
        "encoder.attn_layers.{i}.norm1": "layers.{i}.norm_attention",
        "encoder.attn_layers.{i}.norm2": "layers.{i}.norm_feed_forward",
        "encoder": "norm",
        "encoder.norm": "norm",
        "projector": "project",
    }

    def __init__(self, shape: WindowShape, config: ITransformerConfig) -> None:
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

    def attention_maps(self, window: Window) -> list[Tensor]:
        """What share each token (row) takes from each, layer by layer: (B, A, T, T), rows sum to 1.

        The T tokens are the variates in their order, the time features and the known covariates. For eval mode: in
        training, dropout in one layer shows in the maps of the next.
        """
        past = standardise(window.past, window.seen)[0] if self.use_norm else zero_unseen(window)
        tokens = self._tokens(past, window)
        maps: list[Tensor] = []
        for layer in cast(Iterable[EncoderLayer], self.layers):
            maps.append(layer.attention.weights(tokens, tokens))
            tokens = layer(tokens)
        return maps

    def _tokens(self, past: Tensor, window: Window) -> Tensor:
        series = torch.cat((past, window.past_time), dim=2)  # (B, L, V + K)
        tokens = self.embed(series.transpose(1, 2))  # (B, V + K, D)
        if self.embed_known is not None:
            tokens = torch.cat((tokens, self.embed_known(window.known.transpose(1, 2))), dim=1)  # (B, V + K + C, D)
        dropped: Tensor = self.dropout(tokens)
        return dropped

    def _forecast(self, past: Tensor, window: Window) -> Tensor:
        tokens = self._tokens(past, window)
        for layer in self.layers:
            tokens = layer(tokens)
        steps: Tensor = self.project(self.norm(tokens))  # (B, V + K + C, H)
        variates = past.shape[2] if self.targets is None else min(self.targets, past.shape[2])
        return steps[:, :variates].transpose(1, 2)  # (B, H, V_out)
