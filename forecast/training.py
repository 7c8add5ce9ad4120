"""Training a network: one Trainer, one callback that keeps the best weights and can be resumed bit by bit."""

import logging
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from torch import Tensor, nn

from .config import TrainConfig
from .data.module import TrainingData
from .data.windows import WindowDataset
from .errors import ArtifactError, UsageError
from .memory import freed_memory_kept
from .tasks.series import OptimConfig, SeriesForecaster, SeriesLoss

Curve = list[tuple[int, float, float]]  # epoch from 1, mean training loss, what the task is validated by


class Limits(Protocol):
    """What every training is bounded by, of whatever task: the fields that `TrainConfig` and its like share."""

    @property
    def epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def averaging(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def time_limit(self) -> float | None: ...


def finished(curve: Curve, best_epoch: int, config: Limits) -> bool:
    """Whether training has come to its last epoch, or to the end of its patience."""
    return len(curve) >= config.epochs or len(curve) - best_epoch >= config.patience


def cut(trained: Mapping[str, tuple[Curve, int]], config: Limits) -> list[str]:
    """Of networks by name, trained to a curve and a best epoch: which ones a time limit cut short, and when."""
    return [
        f"{name} after {len(curve)} of {config.epochs} epochs"
        for name, (curve, best) in trained.items()
        if curve and not finished(curve, best, config)
    ]


class KeepBest(Checkpoint):
    """Keeps the weights of the best validation epoch, stops early, and makes every epoch a point to resume from.

    A task says in `monitor` what it is validated by, and in `higher` whether more of it is better. With `averaging`,
    what is validated and kept is the running average of the weights over the steps (Polyak and Juditsky, 1992), not the
    last ones. Only a lower loss is better: an equal or unordered (NaN) one is not. Everything random in an epoch
    depends on (seed, epoch) alone, so a run resumed after a kill ends with the weights of an unbroken one.
    """

    def __init__(self, config: Limits, path: Path | None, on_epoch: Callable[[int, Mapping[str, float]], None]) -> None:
        self.config, self.path, self.on_epoch = config, path, on_epoch
        self.best: dict[str, Tensor] = {}
        self._candidate: dict[str, Tensor] = {}  # the weights that were last validated
        self.best_epoch, self.best_loss, self.curve = 0, float("inf"), Curve()  # a score counts as a negative loss
        self.average: list[Tensor] = []  # of the weights, where config.averaging asks for it
        self.steps = 0
        self.rate = 0.0  # of the epoch; the schedule has moved on when the epoch ends
        self.deadline = time.monotonic() + config.time_limit if config.time_limit else float("inf")

    @property
    def finished(self) -> bool:
        return finished(self.curve, self.best_epoch, self.config)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        # A resumed average comes from the file to the host; the weights are where they are trained.
        self.average = [average.to(module.device) for average in self.average]

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        torch.manual_seed(self.config.seed * 1_000_003 + trainer.current_epoch)
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        if self.config.averaging:
            weights = [weight.detach() for weight in module.parameters()]
            if not self.average:
                self.average = [weight.clone() for weight in weights]
            self.steps += 1
            # Rises to the full decay, else the first epochs would average in the random weights.
            decay = min(self.config.averaging, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, weights, 1 - decay)
        if time.monotonic() > self.deadline:
            trainer.should_stop = True  # the epoch ends here; its weights are still validated

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._swap(module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._candidate = {k: v.detach().clone() for k, v in module.network.state_dict().items()}
        self._swap(module)

    def _swap(self, module: L.LightningModule) -> None:
        """Exchange the weights with their average, where there is one."""
        for weight, average in zip(module.parameters(), self.average, strict=bool(self.average)):
            weight.data, average.data = average.data, weight.data

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        train, value = (trainer.callback_metrics[name].item() for name in ("train_loss", module.monitor))
        epoch, loss = trainer.current_epoch + 1, -value if module.higher else value
        self.curve.append((epoch, train, value))
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = epoch, loss
            self.best = self._candidate
        if self.finished:
            trainer.should_stop = True
        if self.path is not None and not trainer.should_stop:
            beside = self.path.with_suffix(".tmp")
            trainer.save_checkpoint(beside)
            os.replace(beside, self.path)
        self.on_epoch(epoch, {"train_loss": train, module.monitor: value, "learning_rate": self.rate})

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "curve": [list(point) for point in self.curve],
            "average": self.average,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.best_loss = state["best"], state["best_epoch"], state["best_loss"]
        self.average, self.steps = state["average"], state["steps"]
        self.curve = [(epoch, train, loss) for epoch, train, loss in state["curve"]]


def train(
    network: nn.Module,
    training: WindowDataset,
    validation: WindowDataset,
    config: TrainConfig,
    *,
    loss: SeriesLoss | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
    bar: bool = False,
) -> tuple[Curve, int]:
    """Train `network` in place and leave its best weights in it; give the curve and the epoch that was best.

    `loss` is by default that of the settings on the scaled axis. `checkpoint` is a file to resume from where it exists,
    rewritten after each epoch. `bar` shows one on a terminal. Raises ForecastError naming the epoch when the loss is no
    longer finite.
    """
    optim = OptimConfig(config.learning_rate, config.weight_decay, config.schedule, config.epochs)
    data = TrainingData(
        training,
        validation,
        batch_size=config.batch_size,
        epoch_batches=config.epoch_batches,
        seed=config.seed,
    )
    task = SeriesForecaster(network, optim, loss or SeriesLoss(config.loss))
    return train_task(task, data, config, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)


def train_task(
    task: L.LightningModule,
    data: L.LightningDataModule,
    config: Limits,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
    bar: bool = False,
) -> tuple[Curve, int]:
    """Train `task.network` on `data` as `train` does, whatever the task; its `monitor` says which epoch is best."""
    accelerator, devices = _device(config.device)
    keep = KeepBest(config, checkpoint, on_epoch)
    bars = [TQDMProgressBar(refresh_rate=10)] if bar and sys.stderr.isatty() else []
    # Lightning advertises and advises on every fit, and warns of its own use of torch.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        max_epochs=config.epochs,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        callbacks=[*bars, keep],
        logger=False,
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    resume = checkpoint if checkpoint is not None and checkpoint.exists() else None
    try:
        with warnings.catch_warnings(), freed_memory_kept():
            warnings.filterwarnings("ignore", module="lightning")
            trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        # Lightning turns Ctrl-C into an exit that says nothing, and is deaf to it from then on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    except (EOFError, KeyError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        if resume is None or trainer.global_step:
            raise
        raise ArtifactError(
            f"{resume} is damaged, or of another network ({type(error).__name__}).",
            "Start the fit anew without --resume.",
        ) from error
    task.network.load_state_dict(keep.best)
    return keep.curve, keep.best_epoch


def _device(name: str) -> tuple[str, Any]:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into Lightning's accelerator and devices."""
    kind, _, number = name.partition(":")
    accelerator = "gpu" if kind == "cuda" else kind
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError(f"Device {name!r} was asked for, but torch finds no CUDA device.", "Use --device cpu.")
    return accelerator, [int(number)] if number else 1
