"""SeriesData: the windows of training and validation as a LightningDataModule."""

from collections.abc import Iterable, Iterator

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .windows import Example, WindowDataset


class _Shuffled(Sampler[Tensor]):
    """Batches of shuffled window numbers, drawn anew each epoch by (seed, epoch), so that a resumed run sees the same.

    An epoch is one pass, or as many whole ones as `least` batches take; an incomplete last batch of a pass is left out,
    as in the papers, unless it is the only one.
    """

    def __init__(self, size: int, batch_size: int, least: int, seed: int) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0
        self.batches = max(1, size // batch_size)
        self.passes = -(-least // self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.passes

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for _ in range(self.passes):
            yield from torch.randperm(self.size, generator=generator).split(self.batch_size)[: self.batches]


class SeriesData(L.LightningDataModule):
    """Shuffled training windows and every validation window."""

    def __init__(
        self, train: WindowDataset, validation: WindowDataset, *, batch_size: int, min_batches: int, seed: int
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.shuffled = _Shuffled(len(train), batch_size, min_batches, seed)

    def train_dataloader(self) -> DataLoader[Example]:
        return _loader(self.train, self.shuffled)

    def val_dataloader(self) -> DataLoader[Example]:
        every = torch.arange(len(self.validation)).split(64)  # larger batches leave the cache and are slower
        return _loader(self.validation, every)


def _loader(data: WindowDataset, batches: Iterable[Tensor]) -> DataLoader[Example]:
    # `batch_size=None`: the sampler's batches go to the data set whole. The own generator keeps the loader from
    # drawing its base seed from the global one, which belongs to the network.
    return DataLoader(data, batch_size=None, sampler=batches, generator=torch.Generator())
