"""GraphPredictor: how a network of graphs with labels is trained, as a LightningModule."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor, nn

from graphs.graph_batch import GraphBatch
from graphs.graph_tasks import GraphTask

from .series import CHECK_EVERY, decayed, require_finite


class GraphExample(NamedTuple):
    """Graphs that are learned together, and what is told of them or of their nodes."""

    batch: GraphBatch
    targets: Tensor  # (G, T), or (N,) of nodes; NaN where there is none


@dataclass(frozen=True)
class GraphOptim:
    """How the loss of the task is minimised; the rate changes from epoch to epoch."""

    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    epochs: int
    clip: float | None

    def share(self, epoch: int) -> float:
        """The part of the rate in an epoch, counted from 0: up in even steps, then down by half a cosine."""
        if epoch < self.warmup_epochs:
            return (epoch + 1) / self.warmup_epochs
        left = max(1, self.epochs - self.warmup_epochs)
        return (1 + math.cos(math.pi * min(epoch - self.warmup_epochs, left) / left)) / 2


class GraphPredictor(L.LightningModule):
    """Trains `network` for `task` with AdamW; validated by the metric of the task over all of the part at once.

    Where the part says nothing by it, as AUC of one class, the loss is taken instead: `told` says which.
    """

    def __init__(self, network: nn.Module, task: GraphTask, optim: GraphOptim, told: bool) -> None:
        super().__init__()
        self.network, self.task, self.optim, self.told = network, task, optim, told
        self.monitor = f"val_{task.metric}" if told else "val_loss"
        self.higher = told and task.higher_is_better
        self._train: Tensor | float = 0.0  # sum of the epoch's losses
        self._steps = 0
        self._outputs: list[tuple[Tensor, Tensor]] = []  # of validation, with their targets

    def training_step(self, example: GraphExample, index: int) -> Tensor:
        loss = self.task.loss(self.network(example.batch), example.targets)
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss.detach()
        self._steps += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.optim.clip)

    def validation_step(self, example: GraphExample, index: int) -> None:
        self._outputs.append((self.network(example.batch).cpu(), example.targets.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the mean training loss and the validation metric; Lightning calls this before `on_train_epoch_end`."""
        outputs, targets = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        train = float(self._train) / max(self._steps, 1)
        self._train, self._steps, self._outputs = 0.0, 0, []
        require_finite(train, "training", self.current_epoch)
        require_finite(outputs.sum().item(), "validation", self.current_epoch)
        value = self.task.scores(outputs, targets)[self.task.metric] if self.told else self.task.loss(outputs, targets)
        self.log_dict({"train_loss": train, self.monitor: float(value)})

    def configure_optimizers(self) -> dict[str, object]:
        adam = torch.optim.AdamW(decayed(self.network, self.optim.weight_decay), lr=self.optim.learning_rate)
        return {"optimizer": adam, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(adam, self.optim.share)}
