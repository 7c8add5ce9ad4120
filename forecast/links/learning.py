"""Training a network of links: from a cut stream to the weights of the best validation MRR."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig

from ..errors import DataError
from ..tasks.links import LinkForecaster, LinkOptim
from ..training import Curve, train_task
from .batches import LinkData, Parts, RankedLinks, TrainingLinks
from .settings import LinkTrain


def without_encoder(config: TodyformerConfig) -> TodyformerConfig:
    """The control of every report: the same decoder on the same inputs, and no block of the encoder."""
    return replace(config, blocks=0)


def learn(
    parts: Parts,
    config: TodyformerConfig,
    train: LinkTrain,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
    bar: bool = False,
) -> tuple[Todyformer, Curve, int]:
    """Build a network for the training part and train it; give it in eval mode, its curve and the best epoch.

    The curve holds (epoch, mean training loss, validation MRR). `checkpoint` is a file to resume from where it exists,
    rewritten after each epoch. Raises DataError where no batch of training has a past.
    """
    torch.manual_seed(train.seed)
    network = Todyformer(GraphShape.of(parts.training, config.window), config)
    network.encoder.input.introduce(parts.training)
    history = History(parts.store, config)
    training = TrainingLinks(parts, history, train)
    if not len(training):
        raise DataError(
            f"No batch of the {parts.validation:,} training events has {max(1, train.min_history)} events before it.",
            f"Give more events, or set train.batch_size to less than {train.batch_size}.",
        )
    data = LinkData(training, RankedLinks(parts, history, train), train.seed)
    optim = LinkOptim(train.loss, train.learning_rate, train.epochs * len(training))
    task = LinkForecaster(network, optim)
    curve, best = train_task(task, data, train, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)
    return network.cpu().eval(), curve, best
