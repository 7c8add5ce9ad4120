"""SeriesData: the windows of training and validation as a LightningDataModule."""

from collections.abc import Iterator

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .windows import Example, WindowDataset


class _Batches(Sampler[Tensor]):
    """Batches of window numbers; shuffled anew each epoch by (seed, epoch), so that a resumed run sees the same."""

    def __init__(self, size: int, batch_size: int, seed: int | None) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + bool(rest and (self.seed is None or not whole))

    def __iter__(self) -> Iterator[Tensor]:
        if self.seed is None:
            order = torch.arange(self.size)
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.size, generator=generator)
        yield from order.split(self.batch_size)[: len(self)]


class SeriesData(L.LightningDataModule):
    """Shuffled training windows (an incomplete last batch is left out, as in the papers) and every validation window."""

    def __init__(self, train: WindowDataset, validation: WindowDataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> DataLoader[Example]:
        return _loader(self.train, _Batches(len(self.train), self.batch_size, self.seed))

    def val_dataloader(self) -> DataLoader[Example]:
        return _loader(self.validation, _Batches(len(self.validation), max(self.batch_size, 64), None))


def _loader(data: WindowDataset, batches: _Batches) -> DataLoader[Example]:
    # `batch_size=None`: the sampler's batches go to the data set whole. The own generator keeps the loader from
    # drawing its base seed from the global one, which belongs to the network.
    return DataLoader(data, batch_size=None, sampler=batches, generator=torch.Generator())
