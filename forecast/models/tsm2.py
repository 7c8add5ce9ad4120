"""TSM2: selective scans over patches, then over variates, joined by weighted sums of all earlier outputs.

Paper: Ali Behrouz, Michele Santacatterina, Ramin Zabih, "MambaMixer: Efficient Selective State Space Models with Dual
Token and Channel Selection", 2024, https://arxiv.org/abs/2403.19888; cited below by its sections, equations and
figures. Its authors published no code and call its forecasting results preliminary, so nothing but the text can be
followed. Where it is silent or contradicts itself, this is what was chosen:
- time is scanned forwards, as the text says; Fig. 3 draws both directions (`time_bidirectional`);
- both scans run over tokens of width `d_model` with weights shared by all else, so that none depends on the number
  of variates; the variates are scanned in the order of the columns, which is part of the model;
- the scans are Mamba's: step sizes, inputs and outputs are read from the convolved input, the input matrix is
  discretised by Euler's rule, and the gate is SiLU; A_log and D start as there;
- the weights of the sums are free numbers that start as a residual stack; the head reads one more such sum;
- "2D normalization" is one mean and deviation over patches, variates and features of a window, before each mixer
  and before the head;
- each window is standardised as in iTransformer (unseen steps count as the mean), which the paper does not mention;
- patches overlap by half and end at the origin; a window that they do not divide is continued to the left by its
  first value;
- covariates known in advance pass one block of their own in which they are the variates, and become, like static
  features, one more series for each variate, which follows its past along time (Eqs. 21 to 24).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.windows import Window, WindowShape
from ..errors import UsageError
from .layers.instance_norm import standardise
from .layers.mixers import NORMS, LinearMixer, MLPMixer, SelectiveMixer, WeightedSum

CHOICES: Mapping[str, tuple[str, ...]] = {
    "norm": tuple(NORMS),
    "skip_init": ("residual", "chain", "average"),
    "token_mixer": ("s6", "linear"),
    "channel_mixer": ("s6", "s6_uni", "mlp", "none"),
}


@dataclass(frozen=True, kw_only=True)
class TSM2Config:
    """Sizes and variants of the network. The paper gives no sizes; the defaults are for a lookback of about 96.

    Raises `UsageError` for a value that no network can be built from; patches are compared with the lookback when
    the network is built.
    """

    patch_len: int | None = None  # steps of a patch; null: 16, or all of a shorter lookback
    stride: int | None = None  # steps from one patch to the next; null: half a patch
    d_model: int = 16  # width of a token
    d_state: int = 8  # size of the hidden state of each channel of a scan
    expand: int = 2  # channels of a scan, in widths of a token
    d_conv: int = 4  # width of the causal convolution, in tokens
    layers: int = 2  # blocks of one token mixer and one channel mixer
    d_aux: int = 8  # width of a token of the block that reads known covariates
    dropout: float = 0.1  # share of activations zeroed in training: tokens, outputs of mixers, input of the head
    norm: str = "2d"  # over a window ("2d"), a token, the batch ("batch2d"); or "none"
    skip_init: str = "residual"  # how the weighted sums start: "residual", "chain" or "average"
    learn_skips: bool = True  # false: their weights stay as they start
    final_average: bool = True  # the head reads a weighted sum too; false: the last channel mixer, as counted in §3.3
    token_mixer: str = "s6"  # over patches: "s6", or "linear" for the ablation of §6.5
    time_bidirectional: bool = False  # scan patches in both directions, as in Fig. 3
    channel_mixer: str = "s6"  # over variates: "s6" both ways, "s6_uni" one way, "mlp" for a fixed number, "none"
    pos_embed: bool = True  # add a learned vector for each place of a patch
    use_norm: bool = True  # standardise each variate within its window, and undo it on the forecast
    revin_affine: bool = False  # then learn a scale and a shift for each of a fixed number of variates
    calendar: bool = False  # read time features of lookback and horizon as known covariates

    def __post_init__(self) -> None:
        for name in ("patch_len", "stride", "d_model", "d_state", "expand", "d_conv", "layers", "d_aux"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(
                    f"tsm2: model.{name} is {value}; it must be at least 1.",
                    f"Set model.{name} to a positive whole number.",
                )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"tsm2: model.dropout is {self.dropout}; it must be at least 0 and below 1.",
                "Set model.dropout=0.1, or 0 for none.",
            )
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f'tsm2: model.{name} "{getattr(self, name)}" is not known.',
                    f"Set model.{name} to {' or '.join(known)}.",
                )
        if self.time_bidirectional and self.token_mixer == "linear":
            raise UsageError(
                'tsm2: model.time_bidirectional is set, but the token mixer is "linear", which has no direction.',
                "Set model.token_mixer=s6, or model.time_bidirectional=false.",
            )
        if self.channel_mixer == "none" and not self.final_average:
            raise UsageError(
                'tsm2: model.final_average is off, so the head would read the channel mixer, which is "none".',
                "Set model.final_average=true, or another model.channel_mixer.",
            )
        if self.revin_affine and not self.use_norm:
            raise UsageError(
                "tsm2: model.revin_affine scales standardised windows, but model.use_norm is off.",
                "Set model.use_norm=true, or model.revin_affine=false.",
            )


class Patches(nn.Module):
    """Tokens of overlapping patches of a series, the last of which ends with it (§5.1)."""

    def __init__(self, length: int, patch_len: int, stride: int, d_model: int, *, positions: bool) -> None:
        super().__init__()
        self.patch_len, self.stride = patch_len, stride
        self.count = 1 + -(-max(length - patch_len, 0) // stride)
        self.padding = patch_len + (self.count - 1) * stride - length
        self.project = nn.Linear(patch_len, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(self.count, d_model)) if positions else None

    def forward(self, series: Tensor) -> Tensor:
        """The tokens (N, V, B, D) of series (L, V, B)."""
        if self.padding:
            series = torch.cat((series[:1].expand(self.padding, -1, -1), series))
        tokens: Tensor = self.project(series.unfold(0, self.patch_len, self.stride))  # (N, V, B, D)
        return tokens if self.position is None else tokens + self.position[:, None, None]


class Mixing(nn.Module):
    """A weighted sum of all earlier outputs, normalised and mixed along one axis of the tokens (Fig. 6)."""

    def __init__(self, skips: WeightedSum, norm: nn.Module, mixer: nn.Module, axis: int, dropout: float) -> None:
        super().__init__()
        self.skips, self.norm, self.mixer, self.axis = skips, norm, mixer, axis
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: list[Tensor], channels: list[Tensor]) -> Tensor:
        """One more output: (N, V, B, D), from those of the token and of the channel mixers so far."""
        x = self.norm(self.skips(tokens, channels)).transpose(0, self.axis)
        out: Tensor = self.dropout(self.mixer(x).transpose(0, self.axis))
        return out


class MambaMixer(nn.Module):
    """Token and channel mixers by turns, each reading all outputs before it (§3.2): (N, V, B, D) in and out.

    `patches` and `variates` are N and V; only the mixers that are no scans need to know them.
    """

    def __init__(self, patches: int, variates: int, d_model: int, layers: int, config: TSM2Config) -> None:
        super().__init__()

        def skips(tokens: int, channels: int) -> WeightedSum:
            # Without channel mixers, the encoded input is all there is of that family.
            channels = 1 if config.channel_mixer == "none" else channels
            return WeightedSum(tokens, channels, config.skip_init, learned=config.learn_skips)

        def scan(bidirectional: bool) -> nn.Module:
            return SelectiveMixer(d_model, config.d_state, config.d_conv, config.expand, bidirectional=bidirectional)

        norm = NORMS[config.norm]
        self.token_mixing, self.channel_mixing = nn.ModuleList(), nn.ModuleList()
        for layer in range(1, layers + 1):
            over_time = scan(config.time_bidirectional) if config.token_mixer == "s6" else LinearMixer(patches)
            self.token_mixing.append(Mixing(skips(layer, layer), norm(d_model), over_time, 0, config.dropout))
            if config.channel_mixer == "none":
                continue
            over_variates = MLPMixer(variates) if config.channel_mixer == "mlp" else scan(config.channel_mixer == "s6")
            self.channel_mixing.append(Mixing(skips(layer + 1, layer), norm(d_model), over_variates, 1, config.dropout))
        self.final_skips = skips(layers + 1, layers + 1) if config.final_average else None
        self.norm = norm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        tokens, channels = [x], [x]  # y_Token and y_Channel, from the encoded input on
        for layer, token_mixing in enumerate(self.token_mixing):
            tokens.append(token_mixing(tokens, channels))
            if self.channel_mixing:
                channels.append(self.channel_mixing[layer](tokens, channels))
        out: Tensor = self.norm(channels[-1] if self.final_skips is None else self.final_skips(tokens, channels))
        return out


class KnownCovariates(nn.Module):
    """Covariates whose future is known, as a series of the length of the past (Eq. 22)."""

    def __init__(self, covariates: int, shape: WindowShape, patch_len: int, stride: int, config: TSM2Config) -> None:
        super().__init__()
        width = config.d_aux
        length = shape.lookback + shape.horizon
        self.patches = Patches(length, patch_len, stride, width, positions=config.pos_embed)
        self.mixer = MambaMixer(self.patches.count, covariates, width, 1, config)
        self.project = nn.Linear(covariates * self.patches.count * width, shape.lookback)

    def forward(self, known: Tensor) -> Tensor:
        """The series (L, V or 1, B) of covariates (B, V or 1, L + H, C), which take the place of variates."""
        batch, variates = known.shape[:2]
        tokens = self.mixer(self.patches(known.permute(2, 3, 0, 1).flatten(2)))  # (N, C, B V, D)
        series: Tensor = self.project(tokens.permute(2, 1, 0, 3).flatten(1))  # (B V, L)
        return series.unflatten(0, (batch, variates)).permute(2, 1, 0)


class TSM2(nn.Module):
    """Forecasts from patches mixed over time and over variates (§5): `Window` in, (B, H, V_out) out.

    Unless the settings tie weights to the variates, a window may have more or fewer of them than `shape`, though
    their order matters. A network built to forecast all of its variates forecasts all that it is given, any other
    the first `shape.targets`. Raises `UsageError` if a patch is longer than the lookback.
    """

    def __init__(self, shape: WindowShape, config: TSM2Config) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.targets = None if shape.targets == shape.variates else shape.targets  # None: all that are given
        self.any_variates = config.channel_mixer != "mlp" and not config.revin_affine
        patch_len, stride = patching(shape, config)
        covariates = shape.known + (shape.time_features if config.calendar else 0)
        segments = 1 + (covariates > 0) + (shape.static > 0)
        self.patches = Patches(shape.lookback, patch_len, stride, config.d_model, positions=config.pos_embed)
        self.known = KnownCovariates(covariates, shape, patch_len, stride, config) if covariates else None
        self.static = nn.Linear(shape.static, shape.lookback) if shape.static else None
        self.segment = nn.Parameter(0.02 * torch.randn(segments, config.d_model)) if segments > 1 else None
        self.mixer = MambaMixer(segments * self.patches.count, shape.variates, config.d_model, config.layers, config)
        self.project = nn.Linear(segments * self.patches.count * config.d_model, shape.horizon)
        self.dropout = nn.Dropout(config.dropout)
        self.scale = nn.Parameter(torch.ones(shape.variates)) if config.revin_affine else None
        self.shift = nn.Parameter(torch.zeros(shape.variates)) if config.revin_affine else None

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out), on the scale of `window.past`."""
        known = window.known
        if self.config.calendar:
            known = torch.cat((known, torch.cat((window.past_time, window.future_time), dim=1)), dim=2)
        return self.forecast(window.past, window.seen, known.unsqueeze(1), window.static)

    def forecast(self, past: Tensor, seen: Tensor, known: Tensor, static: Tensor) -> Tensor:
        """As `forward`, from the past (B, L, V), `known` (B, V or 1, L + H, C) and `static` (B, V or 1, C_S).

        `known` are covariates of each variate, or the same for all, with the time features where they are read.
        """
        if not self.config.use_norm:
            return self._mixed(past.masked_fill(~seen, 0.0), known, static)
        past, mean, deviation = standardise(past, seen)
        if self.scale is None or self.shift is None:
            steps = self._mixed(past, known, static)
        else:
            steps = self._mixed(past * self.scale + self.shift, known, static)
            steps = (steps - self.shift[: self.targets]) / self.scale[: self.targets]
        return steps * deviation[..., : self.targets] + mean[..., : self.targets]

    def _mixed(self, past: Tensor, known: Tensor, static: Tensor) -> Tensor:
        """The forecast (B, H, V_out) on the scale of `past`."""
        x = self.mixer(self.dropout(self._tokens(past, known, static)))[:, : self.targets]  # (N, V_out, B, D)
        flat = x.permute(2, 1, 0, 3).flatten(2)  # (B, V_out, N D)
        steps: Tensor = self.project(self.dropout(flat))
        return steps.transpose(1, 2)

    def _tokens(self, past: Tensor, known: Tensor, static: Tensor) -> Tensor:
        """Tokens of the past, the known covariates and the static features, one after the other: (N, V, B, D)."""
        series = [past.permute(1, 2, 0)]  # (L, V, B)
        if self.known is not None:
            series.append(self.known(known))  # (L, V or 1, B)
        if self.static is not None:
            series.append(self.static(static).permute(2, 1, 0))
        tokens = [self.patches(one) for one in series]
        if self.segment is None:
            return tokens[0]
        variates = past.shape[2]
        named = [(one + vector).expand(-1, variates, -1, -1) for one, vector in zip(tokens, self.segment, strict=True)]
        return torch.cat(named)


def patching(shape: WindowShape, config: TSM2Config) -> tuple[int, int]:
    """Give the steps of a patch, and from one to the next. Raises `UsageError` for patches that do not fit."""
    patch_len = min(16, shape.lookback) if config.patch_len is None else config.patch_len
    if patch_len > shape.lookback:
        raise UsageError(
            f"tsm2: model.patch_len {patch_len} is longer than data.lookback {shape.lookback}.",
            f"Set model.patch_len={shape.lookback} or less, or a longer lookback.",
        )
    stride = max(1, patch_len // 2) if config.stride is None else config.stride
    if stride > patch_len:
        raise UsageError(
            f"tsm2: model.stride {stride} is longer than a patch of {patch_len} steps: steps between would be lost.",
            f"Set model.stride={patch_len} or less.",
        )
    return patch_len, stride
