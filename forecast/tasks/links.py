"""LinkForecaster: how a network of links is trained, as a LightningModule."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor

from graphs.events import LinkBatch
from graphs.link_heads import binary_loss, softmax_loss
from graphs.metrics import ranks
from graphs.pairs import PairTable
from graphs.todyformer import Todyformer, View

from .series import CHECK_EVERY, require_finite

_CLIP = 1.0  # of the gradient's norm


class LinkExample(NamedTuple):
    """Events that are learned or ranked together, and all that may be known of what came before them."""

    view: View  # strictly before the time of the first
    batch: LinkBatch
    weight: Tensor  # (B, N) how many candidates each negative stands for; (0,) where nothing is learned


class OnHost:
    """The features of pairs, worked out where their table lies, on whatever device the queries are."""

    def __init__(self, table: PairTable) -> None:
        self.table = table

    def features(self, src: Tensor, dst: Tensor, time: Tensor, cut: int, unit: float) -> Tensor:
        """As those of the table, on the host; the network takes them to its own device."""
        return self.table.features(src.cpu(), dst.cpu(), time.cpu(), cut, unit)


@dataclass(frozen=True)
class LinkOptim:
    """What is minimised, and how; the rate falls to 0 by half a cosine over `steps`."""

    loss: str  # "softmax" or "binary"
    learning_rate: float
    steps: int


class LinkForecaster(L.LightningModule):
    """Trains `network` to tell events from what did not happen, with Adam; validated by the mean reciprocal rank."""

    monitor, higher = "val_mrr", True

    def __init__(self, network: Todyformer, optim: LinkOptim) -> None:
        super().__init__()
        self.network, self.optim = network, optim
        self._train: Tensor | float = 0.0  # sum of the epoch's losses
        self._steps = 0
        self._reciprocals, self._ranked = 0.0, 0

    def transfer_batch_to_device(self, batch: LinkExample, device: torch.device, dataloader_idx: int) -> LinkExample:
        moved: LinkExample = super().transfer_batch_to_device(batch, device, dataloader_idx)
        if device.type == "cpu" or moved.view.pairs is None:
            return moved
        return moved._replace(view=moved.view._replace(pairs=OnHost(moved.view.pairs)))

    def training_step(self, example: LinkExample, index: int) -> Tensor:
        scores = self.network(example.view, example.batch).float()
        loss = softmax_loss(scores, example.weight) if self.optim.loss == "softmax" else binary_loss(scores)
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss.detach()
        self._steps += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)

    def validation_step(self, example: LinkExample, index: int) -> None:
        scores = self.network(example.view, example.batch).float()
        places = ranks(scores[:, 0], scores[:, 1:].masked_fill(example.batch.negatives < 0, -torch.inf))
        self._reciprocals += (1 / places).sum().item()
        self._ranked += len(places)
        require_finite(scores.sum().item(), "validation", self.current_epoch)

    def on_validation_epoch_end(self) -> None:
        """Log mean training loss and validation MRR of the epoch; Lightning calls this before `on_train_epoch_end`."""
        train, validation = float(self._train) / max(self._steps, 1), self._reciprocals / max(self._ranked, 1)
        self._train, self._steps, self._reciprocals, self._ranked = 0.0, 0, 0.0, 0
        require_finite(train, "training", self.current_epoch)
        self.log_dict({"train_loss": train, "val_mrr": validation})

    def configure_optimizers(self) -> dict[str, object]:
        adam = torch.optim.Adam(self.network.parameters(), lr=self.optim.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda step: (1 + math.cos(math.pi * min(step / self.optim.steps, 1.0))) / 2
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
