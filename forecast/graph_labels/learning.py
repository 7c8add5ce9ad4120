"""Training a network of graphs: the search for its operators, the network with them, and the controls beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from graphs.architecture import Architecture
from graphs.darts_gt import DartsGT
from graphs.darts_search import Supernet, excess, split_graphs
from graphs.graph_batch import GraphError

from ..data.module import SearchData, TrainingData
from ..errors import DataError, UsageError
from ..models.darts_gt_labels import LabelDartsGTConfig
from ..searching import Heard, carried_out, unheard
from ..tasks.graph_labels import GraphExample, GraphOptim, GraphPredictor
from ..tasks.search import JUDGED, ArchitectureSearch
from ..training import Curve, train_task
from .batches import Prepared
from .settings import GraphTrain


class Learned(NamedTuple):
    """A trained network in evaluation mode, on the host, and how its training went."""

    network: DartsGT
    curve: Curve  # epoch, mean training loss, validation metric
    best_epoch: int
    validated_by: str  # the metric of the task, or "loss" where the validation part says nothing by that


def learn(
    prepared: Prepared,
    config: LabelDartsGTConfig,
    train: GraphTrain,
    *,
    checkpoint: Path | None = None,
    on_epoch: Heard = unheard,
    bar: bool = False,
) -> Learned:
    """Train a fresh network with the operators of `config` on the training part; keep its best epoch on validation.

    Seeded apart from the search, so that the same operators give the same weights whether they were searched or named.
    `checkpoint` is a file to resume from where it exists, rewritten after each epoch.
    """
    limits = replace(train, seed=train.seed + 1)
    torch.manual_seed(limits.seed)
    network, task = DartsGT(prepared.shape, config.network()), prepared.task
    validation = prepared.examples("validation")
    nothing = torch.zeros(len(validation.targets), task.outputs)
    said = task.scores(nothing, validation.targets)[task.metric]
    optim = GraphOptim(train.learning_rate, train.weight_decay, train.warmup_epochs, train.epochs, train.clip)
    predictor = GraphPredictor(network, task, optim, told=said == said)
    data = TrainingData(
        prepared.examples("train"), validation, batch_size=train.batch_size, epoch_batches=None, seed=limits.seed
    )
    with _refusals():
        curve, best = train_task(predictor, data, limits, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)
    return Learned(network.cpu().eval(), curve, best, predictor.monitor.removeprefix("val_"))


def search(
    prepared: Prepared,
    config: LabelDartsGTConfig,
    train: GraphTrain,
    *,
    checkpoint: Path | None = None,
    on_epoch: Heard = unheard,
    bar: bool = False,
) -> Architecture:
    """Search the operator of each layer on the training part alone, drawn into graphs for weights and for the choice.

    A time limit ends the search with the epoch it falls in; what it has found by then counts. `seconds` are those since
    it was last resumed. Raises DataError where one of the parts would be empty.
    """
    settings, whole = config.search, prepared.examples("train")
    first, second = split_graphs(len(whole), settings.split, torch.Generator().manual_seed(train.seed))
    if not (len(first) and len(second)):
        raise DataError(
            f"{len(whole)} training graphs cannot be parted for a search.",
            "Give more graphs, or name the operators: --set model.architecture=GINE.",
        )
    torch.manual_seed(train.seed)
    network = Supernet(prepared.shape, config.network(), settings)
    learned, held = whole.part(first), whole.part(second)

    def loss(example: GraphExample) -> torch.Tensor:
        targets = example.targets if config.search_nan_labels == "masked" else example.targets.nan_to_num(0.0)
        return prepared.task.loss(network(example.batch), targets)

    def more(example: GraphExample, draw: torch.Generator) -> torch.Tensor:
        return excess(network(example.batch), example.targets, prepared.task.loss, draw)

    # Held graphs are in random order already.
    parts = torch.arange(len(held)).tensor_split(max(JUDGED, len(held) // train.batch_size))
    judged = (held[part] for part in parts if len(part) > 1)  # of one graph no two labels can change places
    task = ArchitectureSearch(network, network, loss, lambda example: len(example.batch.offsets) - 1, judged, more)
    reference = settings.mode == "reference"
    data = SearchData(learned, held, reference=reference, batch_size=train.batch_size, seed=train.seed)
    with _refusals():
        return carried_out(task, data, train, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)


@contextmanager
def _refusals() -> Iterator[None]:
    """Inside, what a network refuses of a batch is a UsageError."""
    try:
        yield
    except GraphError as error:
        raise UsageError(f"darts-gt: {error.message}", error.hint) from error
