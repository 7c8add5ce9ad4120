"""ArchitectureSearch: how the operators of DARTS-GT are searched on windows, as a LightningModule with two optimisers.

The steps are those of `graphs.darts_search`: in each, the logits of the choice learn on a batch of held windows, then
the weights on a batch of their own. An epoch ends with the loss on all held windows, by which the weights' rate falls.
"""

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from graphs.darts_search import FACTOR, PATIENCE, Supernet, begin_epoch, logit_step, optimizers, weight_step

from ..data.windows import Example
from ..models.darts_gt import SensorDartsGT
from .series import CHECK_EVERY, masked_loss, require_finite


class ArchitectureSearch(L.LightningModule):
    """Trains a mixture `network` and its choice on pairs of batches: what weights learn on, what the choice learns on.

    `trajectory` holds the probabilities of the candidates after each epoch, (L, M) each.
    """

    monitor, higher = "search_loss", False

    def __init__(self, network: SensorDartsGT, loss: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss = network, loss
        self.trajectory: list[Tensor] = []
        self._learning = False  # whether the choice learns in this epoch
        self._train: Tensor | float = 0.0  # sum of the epoch's losses of the weights
        self._steps = 0
        self._held, self._windows = 0.0, 0

    @property
    def mixtures(self) -> Supernet:
        """The part that has all the weights."""
        return cast(Supernet, self.network.transformer)

    def on_train_epoch_start(self) -> None:
        _, logits = cast(list[torch.optim.Optimizer], self.optimizers(use_pl_optimizer=False))
        self._learning = begin_epoch(self.mixtures, logits, self.current_epoch)

    def training_step(self, batch: list[Example], index: int) -> None:
        learned, held = batch
        weights, logits = cast(Any, self.optimizers())  # Lightning's own count the steps
        if self._learning:
            logit_step(self.mixtures, logits, lambda: masked_loss(self.loss, self.network(held.window), held.target))
        loss = weight_step(
            self.mixtures, weights, lambda: masked_loss(self.loss, self.network(learned.window), learned.target)
        )
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss
        self._steps += 1

    def validation_step(self, held: Example, index: int) -> None:
        size = len(held.origin)
        self._held += masked_loss(self.loss, self.network(held.window), held.target).item() * size
        self._windows += size

    def on_validation_epoch_end(self) -> None:
        """Log the mean losses of the epoch and note the probabilities; Lightning calls this before the epoch's end."""
        train, held = float(self._train) / max(self._steps, 1), self._held / max(self._windows, 1)
        self._train, self._steps, self._held, self._windows = 0.0, 0, 0.0, 0
        require_finite(train, "training", self.current_epoch)
        require_finite(held, "search", self.current_epoch)
        cast(torch.optim.lr_scheduler.ReduceLROnPlateau, self.lr_schedulers()).step(held)
        self.trajectory.append(self.mixtures.probabilities().cpu())
        self.log_dict({"train_loss": train, self.monitor: held})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trajectory"] = self.trajectory

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trajectory = checkpoint["trajectory"]

    def configure_optimizers(self) -> Any:
        both = optimizers(self.mixtures)
        return list(both), [torch.optim.lr_scheduler.ReduceLROnPlateau(both.weights, factor=FACTOR, patience=PATIENCE)]
