"""ArchitectureSearch: how the operators of DARTS-GT are searched, as a LightningModule with two optimisers.

The steps are those of `graphs.darts_search`: in each, the logits of the choice learn on a batch of held examples, then
the weights on a batch of their own. An epoch ends with the loss on all held examples, by which the weights' rate falls.
At the end it is asked whether the choice stands out from what noise gives.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn

from graphs.architecture import Architecture
from graphs.darts_search import FACTOR, PATIENCE, Supernet, asked, begin_epoch, logit_step, optimizers, weight_step

from .series import CHECK_EVERY, require_finite

JUDGED = 12  # batches of held examples, at least, that evidence is taken from where there are enough


class ArchitectureSearch(L.LightningModule):
    """Trains a mixture `network` and its choice on pairs of batches: what weights learn on, what the choice learns on.

    `mixtures` is the part of the network that has all the weights. `loss` runs the network on a batch and gives its
    mean loss, `size` how many examples the batch has. `trajectory` holds the probabilities of the candidates after each
    epoch, (L, M) each.

    After the last epoch `asked`, (B, L, M), is what the B batches of `judged`, held examples that share nothing, ask of
    the choice (`graphs.darts_search.asked`); `more` is as there. It takes a pass over them forwards and back: by the
    count of passes about an eighteenth of a search of six epochs, where they are all that is held.
    """

    monitor, higher = "search_loss", False

    def __init__(
        self,
        network: nn.Module,
        mixtures: Supernet,
        loss: Callable[[Any], Tensor],
        size: Callable[[Any], int],
        judged: Iterable[Any],
        more: Callable[[Any, torch.Generator], Tensor],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss, self.size = network, loss, size
        self.judged, self.more = judged, more
        self.asked: Tensor | None = None
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

    def on_train_end(self) -> None:
        # The weights are still those of the last epoch, as the probabilities are, and where they were trained.
        batches = (self.trainer.strategy.batch_to_device(batch) for batch in self.judged)
        self.asked = asked(self.mixtures, batches, self.more).cpu()

    def architecture(self, seconds: float) -> Architecture:
        """What was found, how sure that is, and the `seconds` that it took."""
        search = self.mixtures.search
        return Architecture.of(
            self.trajectory[-1],
            search.candidates,
            asked=self.asked,
            min_margin=search.min_margin,
            min_evidence=search.min_evidence,
            fallback=search.fallback,
            trajectory=self.trajectory,
            seconds=seconds,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trajectory"] = self.trajectory

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trajectory = checkpoint["trajectory"]

    def configure_optimizers(self) -> Any:
        both = optimizers(self.mixtures)
        return list(both), [torch.optim.lr_scheduler.ReduceLROnPlateau(both.weights, factor=FACTOR, patience=PATIENCE)]
