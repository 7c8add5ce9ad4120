"""Examples of training and validation as LightningDataModules: windows of series, or graphs.

A data set is indexed with a whole batch of numbers at once.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Sampler


class Examples(Protocol):
    """A data set that gives a batch for a tensor of numbers (B,)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> Any: ...
    def numbers(self, batch_size: int) -> tuple[Tensor, ...]:
        """Give every number once, in order, in batches of this size or a smaller one."""


class _Shuffled(Sampler[Tensor]):
    """Batches of shuffled numbers, drawn anew each epoch by (seed, epoch), so that a resumed run sees the same.

    An incomplete last batch of a pass is left out, as in the papers, unless it is the only one. With `bounds`, an epoch
    goes through small data more than once, and through a random part of large data.
    """

    def __init__(self, size: int, batch_size: int, bounds: tuple[int, int] | None, seed: int) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0
        self.whole = max(1, size // batch_size)
        self.batches = min(max(self.whole, bounds[0]), bounds[1]) if bounds else self.whole

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for first in range(0, self.batches, self.whole):
            windows = min(self.whole, self.batches - first) * self.batch_size
            yield from torch.randperm(self.size, generator=generator)[:windows].split(self.batch_size)


class TrainingData(L.LightningDataModule):
    """Shuffled training examples and every validation example."""

    def __init__(
        self,
        train: Examples,
        validation: Examples,
        *,
        batch_size: int,
        epoch_batches: tuple[int, int] | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.shuffled = _Shuffled(len(train), batch_size, epoch_batches, seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return _loader(self.train, self.shuffled)

    def val_dataloader(self) -> DataLoader[Any]:
        # Larger batches leave the cache and are slower.
        return _loader(self.validation, self.validation.numbers(64))


class SearchData(L.LightningDataModule):
    """Pairs of batches for a search: examples that weights learn on, and others that its choice learns on.

    The shorter part begins anew until the longer one ends; as published (`reference`), the pairs end with the shorter
    part, and the second comes in order. Validated is every example of the second part.
    """

    def __init__(self, learned: Examples, held: Examples, *, reference: bool, batch_size: int, seed: int) -> None:
        super().__init__()
        self.learned, self.held, self.reference, self.size = learned, held, reference, batch_size
        self.shuffled = [_Shuffled(len(part), batch_size, None, seed) for part in (learned, held)]

    def train_dataloader(self) -> CombinedLoader:
        if self.reference:
            held = _loader(self.held, self.held.numbers(self.size))
            return CombinedLoader([_loader(self.learned, self.shuffled[0]), held], "min_size")
        parts = zip((self.learned, self.held), self.shuffled, strict=True)
        return CombinedLoader([_loader(*part) for part in parts], "max_size_cycle")

    def val_dataloader(self) -> DataLoader[Any]:
        return _loader(self.held, self.held.numbers(64))


def _loader(data: Examples, batches: Iterable[Tensor]) -> DataLoader[Any]:
    # `batch_size=None`: the sampler's batches go to the data set whole. The own generator keeps the loader from
    # drawing its base seed from the global one, which belongs to the network.
    return DataLoader(cast(Any, data), batch_size=None, sampler=batches, generator=torch.Generator())
