"""States that are asked together, and what a frozen encoder says of their nodes, computed once for all epochs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from graphs.events import EventStore, stretches
from graphs.link_heads import Ends
from graphs.node_rules import NodeBatch
from graphs.todyformer import History, TodyformerEncoder

from ..tasks.nodes import NodeExample


@dataclass(frozen=True)
class Parts:
    """A labelled stream cut by time into training, validation and test."""

    store: EventStore
    labels: Tensor  # (E,) float32: 0 or 1, the state of the source; NaN for events without one
    validation: int  # position of the first event of validation
    test: int  # and of test
    size: int  # consecutive events that see what came before the first of them

    @property
    def training(self) -> EventStore:
        return self.store[: self.validation]

    def edges(self, part: str) -> tuple[int, int]:
        """Where a part begins and ends."""
        ends = {"train": (0, self.validation), "validation": (self.validation, self.test)}
        return ends.get(part, (self.test, len(self.store)))

    def batches(self, part: str) -> Iterator[NodeBatch]:
        """The labelled events of a part, batch by batch; batches are counted over all events."""
        labelled = ~self.labels.isnan()
        for stretch in stretches(self.store, *self.edges(part), self.size):
            event = stretch.first + labelled[stretch.first : stretch.end].nonzero().squeeze(1)
            if len(event):
                yield NodeBatch(event, self.store.src[event], self.store.time[event], stretch.cut)

    def truth(self, part: str) -> Tensor:
        """The labels of a part in the order of its batches, (Q,)."""
        first, end = self.edges(part)
        labels = self.labels[first:end]
        return labels[~labels.isnan()]


@torch.no_grad()
def read_ends(encoder: TodyformerEncoder, parts: Parts, part: str) -> Ends:
    """What `encoder` says of the sources of a part's labelled events: Q rows, in the order of its batches.

    Memory: 4 bytes × width a label.
    """
    encoder, store = encoder.eval(), parts.store
    history = History(store, replace(encoder.config, pair_history="none"))
    found = []
    for batch in parts.batches(part):
        # The first event behind a cut is the earliest of its batch: nothing of that moment is seen.
        encoding = encoder(history.until(store.time[batch.cut]).graph)
        found.append(encoder.ends(encoding, batch.node, batch.time))
    return Ends(*(torch.cat(column) for column in zip(*found, strict=True)))


class LabelledEnds(Dataset[NodeExample]):
    """Rows of `ends` with their labels, by tensors of row numbers."""

    def __init__(self, ends: Ends, labels: Tensor) -> None:
        self.ends, self.labels = ends, labels

    def __getitem__(self, rows: Tensor) -> NodeExample:
        return NodeExample(Ends(*(column[rows] for column in self.ends)), self.labels[rows])


class _Rows(Sampler[Tensor]):
    """The rows of each batch, in an order drawn by (seed, epoch), so that a resumed run sees the same."""

    def __init__(self, count: int, size: int, seed: int | None) -> None:
        self.count, self.size, self.seed, self.epoch = count, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.arange(self.count)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.count, generator=generator)
        yield from order.split(self.size)


class NodeData(L.LightningDataModule):
    """Shuffled batches of training labels, and those of validation in their order."""

    def __init__(self, training: LabelledEnds, validation: LabelledEnds, size: int, seed: int) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.shuffled = _Rows(len(training.labels), size, seed)
        self.in_order = _Rows(len(validation.labels), size, None)

    def train_dataloader(self) -> DataLoader[NodeExample]:
        return _loader(self.training, self.shuffled)

    def val_dataloader(self) -> DataLoader[NodeExample]:
        return _loader(self.validation, self.in_order)


def _loader(data: Dataset[NodeExample], order: Sampler[Tensor]) -> DataLoader[NodeExample]:
    # The own generator keeps the loader from drawing its base seed from the global one, which belongs to the network.
    return DataLoader(data, batch_size=None, sampler=order, generator=torch.Generator())
