"""NodeForecaster: how a head on a frozen encoder learns states of nodes, as a LightningModule."""

import math
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor

from graphs.graph_metrics import binary_loss
from graphs.link_heads import Ends, NodeDecoder
from graphs.metrics import area_under_curve

from .series import require_finite


class NodeExample(NamedTuple):
    """Nodes as the encoder knows them strictly before their events, and the states that these told."""

    ends: Ends  # B rows
    label: Tensor  # (B,) 0 or 1


class NodeForecaster(L.LightningModule):
    """Trains the head `network` on binary cross-entropy with Adam; validated by the AUC over all labels at once.

    The learning rate falls to 0 by half a cosine over `steps`.
    """

    monitor, higher = "val_auc", True

    def __init__(self, network: NodeDecoder, learning_rate: float, steps: int) -> None:
        super().__init__()
        self.network, self.learning_rate, self.steps = network, learning_rate, steps
        self._train: list[Tensor] = []
        self._validated: list[tuple[Tensor, Tensor]] = []

    def training_step(self, example: NodeExample, index: int) -> Tensor:
        loss = binary_loss(self.network(example.ends).squeeze(1), example.label)
        self._train.append(loss.detach())
        return loss

    def validation_step(self, example: NodeExample, index: int) -> None:
        self._validated.append((self.network(example.ends).squeeze(1), example.label))

    def on_validation_epoch_end(self) -> None:
        """Log mean training loss and validation AUC of the epoch; Lightning calls this before `on_train_epoch_end`."""
        train = float(torch.stack(self._train).mean())
        scores, labels = (torch.cat(column) for column in zip(*self._validated, strict=True))
        self._train, self._validated = [], []
        require_finite(train, "training", self.current_epoch)
        require_finite(scores.sum().item(), "validation", self.current_epoch)
        self.log_dict({"train_loss": train, "val_auc": area_under_curve(scores[labels == 1], scores[labels == 0])})

    def configure_optimizers(self) -> dict[str, object]:
        adam = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda step: (1 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
