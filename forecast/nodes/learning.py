"""Training a head of node states on an encoder that does not learn any more."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from graphs.link_heads import NodeDecoder
from graphs.todyformer import NodeStates, TodyformerEncoder

from ..tasks.nodes import NodeForecaster
from ..training import Curve, train_task
from .batches import LabelledEnds, NodeData, Parts, read_ends
from .settings import NodeTrain


def without_blocks(encoder: TodyformerEncoder) -> TodyformerEncoder:
    """The control of every report: a node is its input, whether it was seen, and the gap; no message reaches it."""
    bare = copy.deepcopy(encoder)
    bare.blocks = nn.ModuleList()
    return bare


def learn(
    encoder: TodyformerEncoder,
    parts: Parts,
    train: NodeTrain,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
    bar: bool = False,
) -> tuple[NodeStates, Curve, int]:
    """Train a head on `encoder`, which is frozen; give both in eval mode, the curve and the best epoch.

    The curve holds (epoch, mean training loss, validation AUC). `checkpoint` is a file to resume from where it exists,
    rewritten after each epoch.
    """
    torch.manual_seed(train.seed)
    states = NodeStates(encoder, 1)
    head: NodeDecoder = states.decoder
    training, validation = (
        LabelledEnds(read_ends(encoder, parts, part), parts.truth(part)) for part in ("train", "validation")
    )
    data = NodeData(training, validation, train.head_batch_size, train.seed)
    limits = replace(train, epochs=train.head_epochs, patience=train.head_patience)
    task = NodeForecaster(head, train.head_learning_rate, train.head_epochs * len(data.shuffled))
    curve, best = train_task(task, data, limits, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)
    return states.eval(), curve, best
