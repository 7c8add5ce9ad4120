"""ArchitectureSearch: how the operators of DARTS-GT are searched, as a LightningModule with two optimisers.

The steps are those of `graphs.darts_search`: in each, the logits of the choice learn on a batch of held examples, then
the weights on a batch of their own. An epoch ends with the loss on all held examples, by which the weights' rate falls.
"""

from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn

from graphs.darts_search import FACTOR, PATIENCE, Supernet, begin_epoch, logit_step, optimizers, weight_step

from .series import CHECK_EVERY, require_finite


class ArchitectureSearch(L.LightningModule):
    """Trains a mixture `network` and its choice on pairs of batches: what weights learn on, what the choice learns on.

    `mixtures` is the part of the network that has all the weights. `loss` runs the network on a batch and gives its
    mean loss, `size` how many examples the batch has. `trajectory` holds the probabilities of the candidates after each
    epoch, (L, M) each.
    """

    monitor, higher = "search_loss", False

    def __init__(
        self, network: nn.Module, mixtures: Supernet, loss: Callable[[Any], Tensor], size: Callable[[Any], int]
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss, self.size = network, loss, size
        self._mixtures = (mixtures,)  # in a tuple: the network has its weights already
        self.trajectory: list[Tensor] = []
        self._learning = False  # whether the choice learns in this epoch
        self._train: Tensor | float = 0.0  # sum of the epoch's losses of the weights
        self._steps = 0
        self._held, self._examples = 0.0, 0

    @property
    def mixtures(self) -> Supernet:
        """The part that has all the weights."""
        return self._mixtures[0]

    def on_train_epoch_start(self) -> None:
        _, logits = cast(list[torch.optim.Optimizer], self.optimizers(use_pl_optimizer=False))
        self._learning = begin_epoch(self.mixtures, logits, self.current_epoch)

    def training_step(self, batch: list[Any], index: int) -> None:
        learned, held = batch
        weights, logits = cast(Any, self.optimizers())  # Lightning's own count the steps
        if self._learning:
            logit_step(self.mixtures, logits, lambda: self.loss(held))
        loss = weight_step(self.mixtures, weights, lambda: self.loss(learned))
        if index % CHECK_EVERY == 0:
            require_finite(loss.item(), "training", self.current_epoch)
        self._train = self._train + loss
        self._steps += 1

    def validation_step(self, held: Any, index: int) -> None:
        size = self.size(held)
        self._held += self.loss(held).item() * size
        self._examples += size

    def on_validation_epoch_end(self) -> None:
        """Log the mean losses of the epoch and note the probabilities; Lightning calls this before the epoch's end."""
        train, held = float(self._train) / max(self._steps, 1), self._held / max(self._examples, 1)
        self._train, self._steps, self._held, self._examples = 0.0, 0, 0.0, 0
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
