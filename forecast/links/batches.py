"""Events in batches that share one window: drawn with negatives to train on, with every destination to rank among.

A batch is an index range of the store, made when it is asked for; what is random in it depends on (seed, epoch) and on
the range alone, so that batches may be made in any order, by any worker, and come out the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from graphs.events import EventStore, LinkBatch, Stretch, stretches
from graphs.negatives import AllDestinations, ListedDestinations, random_negatives
from graphs.neighbors import NeighborIndex
from graphs.todyformer import History

from ..tasks.links import LinkExample
from .settings import LinkTrain

CANDIDATES_AT_ONCE = 2**21  # scores of one batch that is ranked; more candidates leave room for fewer events


@dataclass(frozen=True)
class Parts:
    """A stream cut by time into training, validation and test, and whom its events are ranked among."""

    store: EventStore
    validation: int  # position of the first event of validation
    test: int  # and of test
    bipartite: bool  # whether sources and destinations are nodes of two kinds
    rivals: AllDestinations | ListedDestinations  # all destinations, all nodes where there is one kind; or as listed

    @classmethod
    def of(
        cls, store: EventStore, validation: int, test: int, bipartite: bool, listed: np.ndarray | None = None
    ) -> "Parts":
        """`listed` (Q, N) are the candidates of all events of validation and test, where the data come with some."""
        if listed is not None:
            rivals = ListedDestinations(store, validation, torch.from_numpy(listed))
            return cls(store, validation, test, bipartite, rivals)
        pool = torch.unique(store.dst) if bipartite else torch.arange(store.nodes)
        return cls(store, validation, test, bipartite, AllDestinations(store, pool))

    @property
    def listed(self) -> bool:
        """Whether the data say whom each event is ranked among."""
        return isinstance(self.rivals, ListedDestinations)

    @property
    def training(self) -> EventStore:
        return self.store[: self.validation]

    def pieces(self, part: Iterable[Stretch]) -> Iterator[Stretch]:
        """Batches cut so that no more than `CANDIDATES_AT_ONCE` scores are made at once; each keeps its batch's cut."""
        rows = max(1, CANDIDATES_AT_ONCE // (1 + self.rivals.width))
        for whole in part:
            for first in range(whole.first, whole.end, rows):
                yield Stretch(first, min(first + rows, whole.end), whole.cut)


class TrainingLinks(Dataset[LinkExample]):
    """Batches of training events with negatives, by (epoch, number)."""

    def __init__(self, parts: Parts, history: History, config: LinkTrain) -> None:
        self.parts, self.history, self.config = parts, history, config
        training = parts.training
        ends = training.dst if parts.bipartite else torch.cat((training.src, training.dst))
        self.pool = torch.unique(ends)
        self.partners = NeighborIndex(parts.store, "src" if parts.bipartite else "both")
        least = max(1, config.min_history)
        every = stretches(parts.store, 0, parts.validation, config.batch_size)
        self.batches = [part for part in every if part.cut >= least]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: tuple[int, int]) -> LinkExample:
        epoch, number = place
        part, config = self.batches[number], self.config
        batch = random_negatives(self.parts.store, part, self.pool, config.negatives, (config.seed, epoch))
        weight = torch.ones(batch.negatives.shape)
        if config.loss == "softmax":
            own = self.history.config.cut == "query"
            cut = self.parts.store.before(batch.time) if own else batch.cut
            near = self.partners.recent_at(batch.src, cut, config.partners).nodes
            batch, weight = with_partners(batch, near, len(self.pool) / config.negatives)
        return LinkExample(self.history.until(batch.time[0]), batch, weight)


def with_partners(batch: LinkBatch, near: Tensor, stands_for: float) -> tuple[LinkBatch, Tensor]:
    """The batch with `near` (B, k), of which -1 is absent, as further negatives, and the weights of all, (B, N + k).

    A drawn negative stands for `stands_for` candidates, a partner for itself; what is in twice counts once, and the
    destination itself not at all.
    """
    twice = torch.triu(near[:, :, None] == near[:, None, :], 1).any(2)
    drawn = torch.full(batch.negatives.shape, stands_for) * (batch.negatives[:, :, None] != near[:, None, :]).all(2)
    negatives = torch.cat((batch.negatives, near.masked_fill(twice, -1)), dim=1)
    weight = torch.cat((drawn, torch.ones(near.shape)), dim=1) * (negatives >= 0) * (negatives != batch.dst[:, None])
    return batch._replace(negatives=negatives, negative_src=batch.src[:, None].expand_as(negatives)), weight


class RankedLinks(Dataset[LinkExample]):
    """Events of validation, each among its rivals."""

    def __init__(self, parts: Parts, history: History, config: LinkTrain) -> None:
        self.parts, self.history = parts, history
        every = list(stretches(parts.store, parts.validation, parts.test, config.batch_size))
        if config.validation_batches is not None and config.validation_batches < len(every):
            chosen = torch.linspace(0, len(every) - 1, config.validation_batches).round().long().tolist()
            every = [every[number] for number in chosen]
        self.pieces = list(parts.pieces(every))

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, number: int) -> LinkExample:
        piece = self.pieces[number]
        # Nothing of the batch's first moment is seen, also by a piece that begins later.
        view = self.history.until(self.parts.store.time[piece.cut])
        return LinkExample(view, self.parts.rivals(piece), torch.zeros(0))


class _Shuffled(Sampler[tuple[int, int]]):
    """(epoch, number) of every batch, in an order drawn by (seed, epoch), so that a resumed run sees the same."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for number in torch.randperm(self.size, generator=generator).tolist():
            yield self.epoch, number


class LinkData(L.LightningDataModule):
    """Shuffled batches of training events, and those of validation in their order."""

    def __init__(self, training: TrainingLinks, validation: RankedLinks, seed: int) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.shuffled = _Shuffled(len(training), seed)

    def train_dataloader(self) -> DataLoader[LinkExample]:
        return _loader(self.training, self.shuffled)

    def val_dataloader(self) -> DataLoader[LinkExample]:
        return _loader(self.validation, None)


def _loader(data: Dataset[LinkExample], order: Sampler[tuple[int, int]] | None) -> DataLoader[LinkExample]:
    # The own generator keeps the loader from drawing its base seed from the global one, which belongs to the network.
    return DataLoader(data, batch_size=None, sampler=order, generator=torch.Generator())
