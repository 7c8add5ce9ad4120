"""Informer: an encoder–decoder over time steps that attends with few queries and emits the horizon in one pass.

Paper: Haoyi Zhou, Shanghang Zhang, Jieqi Peng, Shuai Zhang, Jianxin Li, Hui Xiong, Wancai Zhang, "Informer: Beyond
Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021, https://arxiv.org/abs/2012.07436.
Authors' code: https://github.com/zhouhaoyi/Informer2020.

Differs from the authors' code:
- outside training ProbSparse attention draws its keys from a fixed sample, so that the same input always gives
  the same forecast; in training it draws from torch's generator, which the training loop seeds;
- a window of one step works (their logarithm of 1 chooses no query);
- integer calendar codes are taken back from the scaled features of the window; the quarter of an hour is used
  wherever the features have minutes;
- the feed-forward part has linear layers in place of convolutions of width 1: the same arithmetic and initial
  weights, without the two transpositions;
- unseen steps read as 0, the mean of the training rows;
- attention maps have a method of their own, so that the forward pass can use a fused kernel;
- covariates whose future is known are marks of each step, beside the time features: in the encoder and, over the
  horizon, in the decoder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..data.windows import Window, WindowShape
from ..errors import UsageError
from .layers.embed import CALENDARS, CalendarTables, waves
from .layers.prob_attention import FullHeads, HeadedAttention, ProbHeads, TopQueries

CHOICES: Mapping[str, tuple[str, ...]] = {
    "attention": ("prob", "full"),
    "embed": ("timeF", "fixed", "learned"),
    "activation": ("gelu", "relu"),
    "variant": ("original", "autoformer"),
}


@dataclass(frozen=True, kw_only=True)
class InformerConfig:
    """Sizes and variants of the network.

    The defaults are those of the authors' command line, but for the start token, 48 steps there. Raises
    `UsageError` for a value that no network can be built from; what depends on the window (start token, stack,
    calendar) is checked when the network is built.
    """

    d_model: int = 512  # width of a step
    d_ff: int = 2048  # width inside the feed-forward part
    heads: int = 8  # attention heads; they share d_model equally
    layers: int = 2  # encoder layers
    decoder_layers: int = 1
    stack: tuple[int, ...] = ()  # e.g. 3, 2, 1: encoders of so many layers, in place of one of `layers`
    start_token: int | None = None  # last steps of the window that the decoder begins with; null: half of it
    attention: str = "prob"  # "prob" (ProbSparse) or "full", faster on short windows: see `Informer`
    factor: int = 5  # of ProbSparse: factor * ln(length) queries attend, chosen by as many keys
    distil: bool = True  # halve the length between encoder layers
    mix: bool = True  # the published order of heads and steps in the decoder; "autoformer" never has it
    embed: str = "timeF"  # time features: "timeF" (linear), "fixed" or "learned" (a table for each calendar field)
    dropout: float = 0.05  # share of activations, and of full attention's weights, zeroed in training
    activation: str = "gelu"  # of the feed-forward part: "gelu" (exact) or "relu"
    variant: str = "original"  # "autoformer": the copy that later papers measured, see `Informer`
    sampling_seed: int = 2023  # decides the keys that ProbSparse samples outside training

    def __post_init__(self) -> None:
        object.__setattr__(self, "stack", tuple(self.stack))  # a list, where it was read from JSON
        for name in ("d_model", "d_ff", "heads", "layers", "decoder_layers", "factor"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"informer: model.{name} is {getattr(self, name)}; it must be at least 1.",
                    f"Set model.{name} to a positive whole number.",
                )
        if any(layers < 1 for layers in self.stack):
            raise UsageError(
                f"informer: model.stack is {', '.join(map(str, self.stack))}; each encoder needs at least 1 layer.",
                "Set model.stack to positive whole numbers, for example model.stack=3,2,1.",
            )
        if self.d_model % self.heads:
            nearest = -(-self.d_model // self.heads) * self.heads
            raise UsageError(
                f"informer: model.d_model {self.d_model} is not a multiple of model.heads {self.heads}.",
                f"Set model.d_model={nearest}, or another number of heads.",
            )
        if self.start_token is not None and self.start_token < 0:
            raise UsageError(
                f"informer: model.start_token is {self.start_token}; it must be at least 0.",
                "Set model.start_token to a number of steps, or to null for half of the lookback.",
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"informer: model.dropout is {self.dropout}; it must be at least 0 and below 1.",
                "Set model.dropout=0.05, or 0 for none.",
            )
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f'informer: model.{name} "{getattr(self, name)}" is not known.',
                    f"Set model.{name} to {' or '.join(known)}.",
                )


class StepEmbedding(nn.Module):
    """A token for each step: values of it and its two neighbours, its position, its time.

    Neighbours are circular: the first and the last step see each other, as in the authors' code.
    """

    positions: Tensor

    def __init__(self, shape: WindowShape, length: int, config: InformerConfig) -> None:
        super().__init__()
        bias = config.variant == "original"
        self.value = nn.Conv1d(
            shape.variates, config.d_model, kernel_size=3, padding=1, padding_mode="circular", bias=bias
        )
        nn.init.kaiming_normal_(self.value.weight, mode="fan_in", nonlinearity="leaky_relu")
        # In float32 whatever the precision of the network, as the authors' table is.
        self.register_buffer("positions", waves(length, config.d_model), persistent=False)
        self.time: nn.Module | None = None
        if config.embed != "timeF":
            if shape.time_features not in CALENDARS:
                raise UsageError(
                    f'informer: model.embed "{config.embed}" needs the day and weekday of each step; a window with '
                    f"{shape.time_features} time features lacks them.",
                    "Set model.embed=timeF, or data.marks to D or h.",
                )
            self.time = CalendarTables(shape.time_features, config.d_model, fixed=config.embed == "fixed")
        elif shape.time_features:
            self.time = nn.Linear(shape.time_features, config.d_model, bias=bias)
        self.known = nn.Linear(shape.known, config.d_model, bias=False) if shape.known else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, values: Tensor, marks: Tensor) -> Tensor:
        """Tokens (B, L, D) of values (B, L, V) and marks (B, L, K + C): time features, then known covariates."""
        tokens = self.value(values.transpose(1, 2)).transpose(1, 2) + self.positions  # (B, L, D)
        if self.known is not None:
            known = self.known.in_features
            tokens = tokens + self.known(marks[..., -known:])
            marks = marks[..., :-known]
        if self.time is not None:
            tokens = tokens + self.time(marks)
        out: Tensor = self.dropout(tokens)
        return out


class FeedForward(nn.Module):
    """Two linear layers on each token: (B, L, D) in and out."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, config.d_ff)
        self.contract = nn.Linear(config.d_ff, config.d_model)
        self.activation = nn.ReLU() if config.activation == "relu" else nn.GELU()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """What is to be added to the tokens."""
        hidden = self.dropout(self.activation(self.expand(tokens)))  # (B, L, d_ff)
        out: Tensor = self.dropout(self.contract(hidden))
        return out


def _attention(
    queries: int, keys: int, config: InformerConfig, seed: int, *, sparse: bool = True, causal: bool = False
) -> HeadedAttention:
    inner: ProbHeads | FullHeads
    if sparse and config.attention == "prob":
        inner = ProbHeads(queries, keys, config.factor, seed, causal=causal)
    else:
        inner = FullHeads(config.dropout, causal=causal)
    return HeadedAttention(
        config.d_model, config.heads, inner, mix=causal and config.mix and config.variant == "original"
    )


class EncoderLayer(nn.Module):
    """Attention between steps, then a feed-forward part; a norm follows each sum: (B, L, D) in and out."""

    def __init__(self, length: int, config: InformerConfig, seed: int) -> None:
        super().__init__()
        # Made in the authors' order, here and below, so that a seed of torch draws the same initial weights.
        self.attention = _attention(length, length, config, seed)
        self.feed_forward = FeedForward(config)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, informed of each other."""
        tokens = self.norm_attention(tokens + self.dropout(self.attention(tokens, tokens)))
        out: Tensor = self.norm_feed_forward(tokens + self.feed_forward(tokens))
        return out


def _distil_padding(config: InformerConfig) -> int:
    return 2 if config.variant == "autoformer" else 1


def distilled(length: int, config: InformerConfig) -> int:
    """How many of `length` steps distilling leaves. Raises `UsageError` for a circle shorter than its padding."""
    padding = _distil_padding(config)
    if length < padding:
        raise UsageError(
            f"informer: an encoder on {length} step cannot be distilled in the autoformer variant.",
            "Set model.distil=false, or a longer data.lookback.",
        )
    return (length + 2 * padding - 1) // 2


class Distilling(nn.Module):
    """Half as many steps, each the strongest of three after a convolution: (B, L, D) gives (B, ceil(L / 2), D).

    The later copy pads by two steps instead of one, which gives floor((L + 1) / 2) + 1 steps.
    """

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        width, padding = config.d_model, _distil_padding(config)
        self.convolve = nn.Conv1d(width, width, kernel_size=3, padding=padding, padding_mode="circular")
        self.norm = nn.BatchNorm1d(width)
        self.activation = nn.ELU()
        self.pool = nn.MaxPool1d(kernel_size=3, stride=2, padding=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """The shorter tokens."""
        channels = self.activation(self.norm(self.convolve(tokens.transpose(1, 2))))  # (B, D, L)
        out: Tensor = self.pool(channels).transpose(1, 2)
        return out


class Encoder(nn.Module):
    """Layers of attention with distilling between them: (B, L, D) gives (B, `steps`, D)."""

    def __init__(self, length: int, layers: int, config: InformerConfig, seed: int) -> None:
        super().__init__()
        lengths = [length]
        while len(lengths) < layers:
            lengths.append(distilled(lengths[-1], config) if config.distil else length)
        self.steps = lengths[-1]
        self.layers = nn.ModuleList(EncoderLayer(n, config, seed + number) for number, n in enumerate(lengths))
        self.distils = nn.ModuleList(Distilling(config) for _ in range(layers - 1 if config.distil else 0))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """The distilled tokens."""
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if number < len(self.distils):
                tokens = self.distils[number](tokens)
        out: Tensor = self.norm(tokens)
        return out

    def attention_maps(self, tokens: Tensor) -> list[Tensor]:
        """What share each step (row) takes from each, layer by layer: (B, A, L, L)."""
        maps: list[Tensor] = []
        for number, layer in enumerate(cast(Iterable[EncoderLayer], self.layers)):
            maps.append(layer.attention.weights(tokens, tokens))
            tokens = layer(tokens)
            if number < len(self.distils):
                tokens = self.distils[number](tokens)
        return maps


class EncoderStack(nn.Module):
    """Encoders on the whole window, its last half, its last quarter …; their steps follow each other."""

    def __init__(self, length: int, config: InformerConfig, seed: int) -> None:
        super().__init__()
        self.lengths = [length >> number for number in range(len(config.stack))]
        if not self.lengths[-1]:
            raise UsageError(
                f"informer: data.lookback {length} cannot be halved for {len(config.stack)} encoders (model.stack).",
                f"Set data.lookback to at least {1 << (len(config.stack) - 1)}, or fewer encoders.",
            )
        firsts = [seed + sum(config.stack[:number]) for number in range(len(config.stack))]
        parts = zip(self.lengths, config.stack, firsts, strict=True)
        self.encoders = nn.ModuleList(Encoder(part, layers, config, first) for part, layers, first in parts)
        self.steps = sum(encoder.steps for encoder in cast(Iterable[Encoder], self.encoders))

    def forward(self, tokens: Tensor) -> Tensor:
        """The distilled tokens of all encoders: (B, `steps`, D)."""
        return torch.cat([encoder(part) for encoder, part in self._parts(tokens)], dim=1)

    def attention_maps(self, tokens: Tensor) -> list[Tensor]:
        """What share each step (row) takes from each, encoder by encoder and layer by layer: (B, A, L, L)."""
        return [shares for encoder, part in self._parts(tokens) for shares in encoder.attention_maps(part)]

    def _parts(self, tokens: Tensor) -> list[tuple[Encoder, Tensor]]:
        parts = [tokens[:, tokens.shape[1] - length :] for length in self.lengths]
        return list(zip(cast(Iterable[Encoder], self.encoders), parts, strict=True))


class DecoderLayer(nn.Module):
    """Attention between the decoder's steps, attention to the encoder's, a feed-forward part: (B, L, D) in and out."""

    def __init__(self, length: int, context: int, config: InformerConfig, seed: int) -> None:
        super().__init__()
        self.self_attention = _attention(length, length, config, seed, causal=True)
        sparse = config.variant == "autoformer"
        self.cross_attention = _attention(length, context, config, seed + 1, sparse=sparse)
        self.feed_forward = FeedForward(config)
        self.norm_self = nn.LayerNorm(config.d_model)
        self.norm_cross = nn.LayerNorm(config.d_model)
        self.norm_feed_forward = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """The tokens, informed of each other and of the context."""
        tokens = self.norm_self(tokens + self.dropout(self.self_attention(tokens, tokens)))
        tokens = self.norm_cross(tokens + self.dropout(self.cross_attention(tokens, context)))
        out: Tensor = self.norm_feed_forward(tokens + self.feed_forward(tokens))
        return out


class Decoder(nn.Module):
    """Decoder layers and a norm: (B, L, D) in and out, beside the encoder's (B, C, D)."""

    def __init__(self, length: int, context: int, config: InformerConfig, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(length, context, config, seed + 2 * number) for number in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """The tokens, informed of the context."""
        for layer in self.layers:
            tokens = layer(tokens, context)
        out: Tensor = self.norm(tokens)
        return out


_ATTENTION = {
    "query_projection": "query",
    "key_projection": "key",
    "value_projection": "value",
    "out_projection": "out",
}


def _rows(there: str, here: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{there}.{theirs}": f"{here}.{ours}" for theirs, ours in names.items()}


def _embedding(there: str, here: str) -> dict[str, str]:
    """Rows of the name table for an embedding."""
    table = f"{there}.temporal_embedding."
    fields = ("minute", "hour", "weekday", "day", "month")
    return {
        there: here,
        f"{there}.value_embedding.tokenConv": f"{here}.value",
        f"{table}embed": f"{here}.time",
        **{f"{table}{field}_embed": f"{here}.time.tables.{field}" for field in fields},
        **{f"{table}{field}_embed.emb": f"{here}.time.tables.{field}.rows" for field in fields},
    }


def _encoder(there: str, here: str) -> dict[str, str]:
    """Rows of the name table for an encoder."""
    layer = {"conv1": "feed_forward.expand", "conv2": "feed_forward.contract"}
    layer |= {"norm1": "norm_attention", "norm2": "norm_feed_forward"}
    return {
        **_rows(f"{there}.attn_layers.{{i}}", f"{here}.layers.{{i}}", layer),
        **_rows(f"{there}.attn_layers.{{i}}.attention", f"{here}.layers.{{i}}.attention", _ATTENTION),
        **_rows(f"{there}.conv_layers.{{i}}", f"{here}.distils.{{i}}", {"downConv": "convolve", "norm": "norm"}),
        f"{there}.norm": f"{here}.norm",
    }


class Informer(nn.Module):
    """Forecasts from a start token and zeros, in one pass: `Window` in, (B, H, V_out) out.

    The encoder reads the window; the decoder reads its last `start_token` steps followed by zeros for the
    horizon, the time features of both, and the encoder's steps.

    ProbSparse or full attention? By the authors' tables they forecast alike. Forward and backward of one
    self-attention (8 heads of width 64, factor 5, no dropout, one thread of a CPU), full attention through the
    fused kernel takes 0.6 of the time of ProbSparse at 96 steps, 0.8 at 192, 1.3 (causal) to 1.9 times as much at
    336, and 2.1 (causal) to 3.6 times at 720. Dropout keeps a CPU from the fused kernel: with it, 1.1 times as much
    at 96 and 7 to 10 times at 720. A training pass of the whole network at the default sizes, where other layers
    weigh more: 1.0 at lookback 96, 1.45 at 720. So `attention="full"` is for forecasts from short windows.

    `variant="autoformer"` is the copy behind the scores that papers since Autoformer print for Informer:
    ProbSparse in the cross-attention too, no `mix`, no bias in the embedding, and a padding of two steps in
    distilling, by which 96 steps become 49.

    Raises `UsageError` if the start token is longer than the lookback, if the lookback cannot be halved for
    the stack, or if the window lacks the time features that `embed` needs.
    """

    any_variates = False  # the embedding and the projection are made for V and V_out

    # Authors' module -> module here that holds its weights and gives its output; {i} is a number.
    reference_names: ClassVar[Mapping[str, str]] = {
        **_embedding("enc_embedding", "embed"),
        **_embedding("dec_embedding", "decoder_embed"),
        **_encoder("encoder", "encoder"),
        **_encoder("encoder.encoders.{i}", "encoder.encoders.{i}"),
        "encoder": "encoder",
        **_rows("decoder.layers.{i}.self_attention", "decoder.layers.{i}.self_attention", _ATTENTION),
        **_rows("decoder.layers.{i}.cross_attention", "decoder.layers.{i}.cross_attention", _ATTENTION),
        "decoder.layers.{i}.conv1": "decoder.layers.{i}.feed_forward.expand",
        "decoder.layers.{i}.conv2": "decoder.layers.{i}.feed_forward.contract",
        "decoder.layers.{i}.norm1": "decoder.layers.{i}.norm_self",
        "decoder.layers.{i}.norm2": "decoder.layers.{i}.norm_cross",
        "decoder.layers.{i}.norm3": "decoder.layers.{i}.norm_feed_forward",
        "decoder": "decoder",
        "decoder.norm": "decoder.norm",
        "projection": "project",
    }

    # Tables that are computed here and stored there.
    reference_unused = ("enc_embedding.position_embedding", "dec_embedding.position_embedding")

    def __init__(self, shape: WindowShape, config: InformerConfig) -> None:
        super().__init__()
        start = -(-shape.lookback // 2) if config.start_token is None else config.start_token
        if start > shape.lookback:
            raise UsageError(
                f"informer: model.start_token {start} is longer than data.lookback {shape.lookback}.",
                f"Set model.start_token={shape.lookback} or less, or a longer lookback.",
            )
        self.shape, self.config = shape, config
        self.start_token = start
        length = start + shape.horizon
        seed = config.sampling_seed
        self.embed = StepEmbedding(shape, shape.lookback, config)
        self.decoder_embed = StepEmbedding(shape, length, config)
        if config.stack:
            self.encoder: Encoder | EncoderStack = EncoderStack(shape.lookback, config, seed)
        else:
            self.encoder = Encoder(shape.lookback, config.layers, config, seed)
        seed += sum(config.stack) or config.layers
        self.decoder = Decoder(length, self.encoder.steps, config, seed)
        self.project = nn.Linear(config.d_model, shape.targets)

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out), on the scale of `window.past`."""
        past = window.past.masked_fill(~window.seen, 0.0)
        first = self.shape.lookback - self.start_token
        begun = pad(past[:, first:], (0, 0, 0, self.shape.horizon))  # (B, start + H, V)
        marks = self._marks(window)  # (B, L + H, K + C)
        return self.complete(past, marks[:, : self.shape.lookback], begun, marks[:, first:])

    def complete(self, past: Tensor, past_marks: Tensor, begun: Tensor, marks: Tensor) -> Tensor:
        """Forecast the last H steps of `begun` (B, start + H, V) from it and the past (B, L, V): (B, H, V_out).

        `past_marks` (B, L, K + C) and `marks` (B, start + H, K + C) are their time features and known covariates.
        """
        context = self.encoder(self.embed(past, past_marks))  # (B, steps, D)
        steps = self.decoder(self.decoder_embed(begun, marks), context)  # (B, start + H, D)
        forecast: Tensor = self.project(steps[:, self.start_token :])
        return forecast

    def attention_maps(self, window: Window) -> list[Tensor]:
        """What share each step (row) takes from each, encoder layer by encoder layer: (B, A, L, L), rows sum to 1.

        Layers after a distilling see half as many steps. Queries that ProbSparse spares take an equal share of
        every step. For eval mode: in training, dropout in one layer shows in the maps of the next.
        """
        past = window.past.masked_fill(~window.seen, 0.0)
        return self.encoder.attention_maps(self.embed(past, self._marks(window)[:, : self.shape.lookback]))

    def _marks(self, window: Window) -> Tensor:
        """Time features and known covariates of the lookback and the horizon: (B, L + H, K + C)."""
        return torch.cat((torch.cat((window.past_time, window.future_time), dim=1), window.known), dim=2)

    def selected_queries(self, window: Window) -> list[Tensor]:
        """The steps that attend in each ProbSparse attention, in order of use: (B, A, u) int64, ascending.

        Encoder layers come first, then the decoder's; empty with full attention.
        """
        selected: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], chosen: Tensor) -> None:
            selected.append(chosen)

        hooks = [part.register_forward_hook(keep) for part in self.modules() if isinstance(part, TopQueries)]
        try:
            self(window)
        finally:
            for hook in hooks:
                hook.remove()
        return selected
