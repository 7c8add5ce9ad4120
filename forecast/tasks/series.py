"""SeriesForecaster: how any series network is trained, as a LightningModule."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import lightning as L
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
    """What is minimised, and how."""

    loss: str
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


def require_finite(loss: float, part: str, epoch: int) -> None:
    """Raise a ForecastError that names the epoch, counted here from 0, when a loss is no number any more."""
    if not math.isfinite(loss):
        raise ForecastError(
            f"The {part} loss became {loss} in epoch {epoch + 1}.",
            "Lower train.learning_rate, e.g. --set train.learning_rate=1e-5, or look at the data: "
            "its report and ledger.",
        )


class SeriesForecaster(L.LightningModule):
    """Trains `network` by masked squared or absolute error on the scaled axis, with Adam and a schedule per epoch."""

    monitor, higher = "val_mse", False

    def __init__(self, network: nn.Module, optim: OptimConfig) -> None:
        super().__init__()
        self.network, self.optim = network, optim
        self._train: Tensor | float = 0.0  # sum of the epoch's losses, on the device: a look would wait for it
        self._steps = 0
        self._squares, self._seen = 0.0, 0

    def training_step(self, batch: Example, index: int) -> Tensor:
        loss = masked_loss(self.optim.loss, self.network(batch.window), batch.target)
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss.detach()
        self._steps += 1
        return loss

    def validation_step(self, batch: Example, index: int) -> None:
        error = (self.network(batch.window).float() - batch.target.values) * batch.target.seen
        self._squares += error.square().sum().item()
        self._seen += int(batch.target.seen.sum())

    def on_validation_epoch_end(self) -> None:
        """Log mean training loss and validation MSE of the epoch; Lightning calls this before `on_train_epoch_end`."""
        train, validation = float(self._train) / max(self._steps, 1), self._squares / max(self._seen, 1)
        self._train, self._steps, self._squares, self._seen = 0.0, 0, 0.0, 0
        require_finite(train, "training", self.current_epoch)
        require_finite(validation, "validation", self.current_epoch)
        self.log_dict({"train_loss": train, "val_mse": validation})

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
