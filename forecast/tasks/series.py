"""SeriesForecaster: how any series network is trained, as a LightningModule."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.windows import Example, Target
from ..errors import ForecastError

CHECK_EVERY = 50  # steps between looks at the loss: a look waits for an accelerator

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": functional.mse_loss, "mae": functional.l1_loss}

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    # Factor on the learning rate during epoch e of n, counted from 0.
    "constant": lambda epoch, epochs: 1.0,
    # `type1` of the authors' training loops: epochs 1 and 2 at the full rate, then halved each epoch.
    "halving": lambda epoch, epochs: 0.5 ** max(epoch - 1, 0),
    "cosine": lambda epoch, epochs: 0.5 * (1 + math.cos(math.pi * epoch / epochs)),
}


@dataclass(frozen=True)
class OptimConfig:
    """How a loss is minimised."""

    learning_rate: float
    weight_decay: float
    schedule: str
    epochs: int


def decayed(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Give parameter groups in which only matrices decay.

    Biases, norms and single weights stay as they are, and so does `A_log` of a selective scan, which holds logarithms:
    0 is no rest for it.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        decays = weight.ndim > 1 and name.rpartition(".")[2] != "A_log"
        (matrices if decays else rest).append(weight)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest}]


def masked_loss(kind: str, forecast: Tensor, target: Target) -> Tensor:
    """The mean loss of `LOSSES` over the values of a batch that were seen; 0 where none was."""
    pointwise = LOSSES[kind]
    if target.seen.all():
        return pointwise(forecast, target.values)
    return (pointwise(forecast, target.values, reduction="none") * target.seen).sum() / target.seen.sum().clamp(min=1)


@dataclass(frozen=True)
class SeriesLoss:
    """A loss of `LOSSES` over what was seen: on the scaled axis, or in units of the table, these divided by `unit`."""

    kind: str
    scale: Tensor | None = None  # (S, V_out) what values are multiplied by
    unit: float = 1.0  # what a loss of 1 stands for

    @classmethod
    def of(cls, config: Any, std: np.ndarray) -> "SeriesLoss":
        """The loss of the settings of a training; `std` (S, V_out) scaled the values.

        The mean of `std` is the unit, so that a learning rate suits tables of any size.
        """
        if config.units == "scaled":
            return cls(config.loss)
        mean = float(std.mean())
        return cls(config.loss, torch.from_numpy(std / mean).float(), mean**2 if config.loss == "mse" else mean)

    def __call__(self, forecast: Tensor, target: Target, series: Tensor) -> Tensor:
        """The mean over a batch of forecasts (B, H, V_out) of `series` (B,)."""
        if self.scale is not None:
            scale = self.scale.to(forecast.device)[series][:, None]
            forecast, target = forecast * scale, target._replace(values=target.values * scale)
        return masked_loss(self.kind, forecast, target)


def require_finite(loss: float, part: str, epoch: int) -> None:
    """Raise a ForecastError that names the epoch, counted here from 0, when a loss is no number any more."""
    if not math.isfinite(loss):
        raise ForecastError(
            f"The {part} loss became {loss} in epoch {epoch + 1}.",
            "Lower train.learning_rate, e.g. --set train.learning_rate=1e-5, or look at the data: "
            "its report and ledger.",
        )


class SeriesForecaster(L.LightningModule):
    """Trains `network` by masked squared or absolute error, with Adam and a schedule per epoch.

    Validated by squared error on the scaled axis, or where the loss is in units of the table by the loss.
    """

    higher = False

    def __init__(self, network: nn.Module, optim: OptimConfig, loss: SeriesLoss) -> None:
        super().__init__()
        self.network, self.optim, self.loss = network, optim, loss
        self.judged = loss if loss.scale is not None else SeriesLoss("mse")
        self.monitor = f"val_{self.judged.kind}"
        self._train: Tensor | float = 0.0  # sum of the epoch's losses, on the device: a look would wait for it
        self._steps = 0
        self._errors, self._seen = 0.0, 0  # of validation

    def training_step(self, batch: Example, index: int) -> Tensor:
        loss = self.loss(self.network(batch.window), batch.target, batch.series)
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss.detach()
        self._steps += 1
        return loss

    def validation_step(self, batch: Example, index: int) -> None:
        seen = int(batch.target.seen.sum())
        self._errors += self.judged(self.network(batch.window).float(), batch.target, batch.series).item() * seen
        self._seen += seen

    def on_validation_epoch_end(self) -> None:
        """Log mean losses of training and validation; Lightning calls this before `on_train_epoch_end`."""
        train, validation = float(self._train) / max(self._steps, 1), self._errors / max(self._seen, 1)
        self._train, self._steps, self._errors, self._seen = 0.0, 0, 0.0, 0
        require_finite(train, "training", self.current_epoch)
        require_finite(validation, "validation", self.current_epoch)
        self.log_dict({"train_loss": train * self.loss.unit, self.monitor: validation * self.judged.unit})

    def configure_optimizers(self) -> dict[str, object]:
        config = self.optim
        optimizer = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
        groups: list[dict[str, object]] = [{"params": list(self.network.parameters())}]
        if config.weight_decay:
            groups = decayed(self.network, config.weight_decay)
        adam = optimizer(groups, lr=config.learning_rate, weight_decay=0.0, fused=True)
        schedule = SCHEDULES[config.schedule]
        return {
            "optimizer": adam,
            "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(adam, lambda epoch: schedule(epoch, config.epochs)),
        }
