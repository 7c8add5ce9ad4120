"""The search for the operators of DARTS-GT, and the networks that stand beside it as controls."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphs.architecture import Architecture

from .config import RunConfig, TrainConfig
from .data.module import SearchData
from .data.windows import WindowDataset
from .errors import DataError
from .kinds import Progress, Silent
from .models.darts_gt import SEARCH
from .prepare import Prepared
from .registry import build, find
from .tasks.search import ArchitectureSearch
from .tasks.series import masked_loss
from .training import train, train_task

if TYPE_CHECKING:
    from .tracking import TrackedRun


def search(
    prepared: Prepared,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
    bar: bool = False,
) -> Architecture:
    """Search the operator of each layer on the training part alone, as `model.search_…` says.

    `checkpoint` is a file to resume from where it exists, as in training. A time limit ends the search with the epoch
    it falls in; what it has found by then counts. `seconds` are those since it was last resumed. Raises DataError where
    there are too few training windows.
    """
    config = prepared.read.config
    settings = config.model.search
    learned, held = parted(prepared.train, settings.split, config.model.search_stride)
    torch.manual_seed(config.train.seed)
    network = build(find(config.name, "series"), prepared.shape, config.model, prepared.read.graph)
    task = ArchitectureSearch(
        network,
        network.transformer,
        lambda batch: masked_loss(config.train.loss, network(batch.window), batch.target),
        lambda batch: len(batch.origin),
    )
    limits: TrainConfig = dataclasses.replace(
        config.train, epochs=settings.epochs, patience=settings.epochs, averaging=0.0
    )
    data = SearchData(learned, held, batch_size=limits.batch_size, seed=limits.seed)
    began = time.monotonic()
    train_task(task, data, limits, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)
    return Architecture.of(
        task.trajectory[-1],
        settings.candidates,
        min_margin=settings.min_margin,
        trajectory=task.trajectory,
        seconds=time.monotonic() - began,
    )


def parted(train: WindowDataset, share: float, stride: int) -> tuple[WindowDataset, WindowDataset]:
    """Part the windows of one series: the first `share` for weights, later ones for the choice, every `stride`-th.

    The lookback + horizon - 1 windows between are left out, so that the parts share no time step. Raises DataError
    where one of the parts would be empty.
    """
    first = int(share * len(train))
    second = first + train.lookback + train.horizon - 1
    if not 0 < first <= second < len(train):
        raise DataError(
            f"{len(train)} training windows cannot be parted for a search: {train.lookback + train.horizon - 1} "
            "between the parts are left out.",
            "Give more rows, or name the operators: --set model.architecture=GINE.",
        )
    learned, held = (
        WindowDataset(train.buffer, part[::stride], train.lookback, train.horizon, train.targets)
        for part in (train.origins[:first], train.origins[second:])
    )
    return learned, held


def settled(prepared: Prepared, run: "TrackedRun", progress: Progress) -> tuple[Prepared, Architecture | None]:
    """Search the operators where the configuration asks for it: the data for the network with them, and the search.

    The architecture is kept with the run. A time limit is shared evenly by search, network and controls.
    """
    config = prepared.read.config
    if config.model.architecture != SEARCH:
        return prepared, None
    limit, parts = config.train.time_limit, 2 + len(config.model.candidates)
    train = dataclasses.replace(config.train, time_limit=limit and limit / parts)
    prepared = _with(prepared, dataclasses.replace(config, train=train))
    progress.stage(f"searching {config.model.layers} operators among {', '.join(config.model.candidates)}")

    def on_epoch(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, {"search_loss": values["search_loss"], "search_train_loss": values["train_loss"]})
        progress.stage(f"search epoch {number}: loss on held windows {values['search_loss']:.4g}")

    found = search(
        prepared,
        checkpoint=run.checkpoint.with_name("search.ckpt"),
        on_epoch=on_epoch,
        bar=not isinstance(progress, Silent),
    )
    run.text("architecture.json", found.to_json())
    return with_operators(prepared, found.operators), found


def controls(
    prepared: Prepared, found: Architecture, network: Any, run: "TrackedRun", progress: Progress
) -> dict[str, Any]:
    """Train a network with each candidate in all layers as the one with the operators found was, which may be one."""
    config = prepared.read.config
    trained = {}
    for operator in found.candidates:
        name, uniform = f"all-{operator}", (operator,) * len(found.operators)
        if found.operators == uniform:
            trained[name] = network
            continue
        progress.stage(f"training the control {name}")
        model = with_operators(prepared, uniform).read.config.model
        torch.manual_seed(config.train.seed)
        control = build(find(config.name, "series"), prepared.shape, model, prepared.read.graph)
        checkpoint = run.checkpoint.with_name(f"{name}.ckpt")
        train(control, prepared.train, prepared.validation, config.train, checkpoint=checkpoint)
        trained[name] = control.eval()
    return trained


def with_operators(prepared: Prepared, operators: tuple[str, ...]) -> Prepared:
    """Give the same data for the network with these operators."""
    config = prepared.read.config
    settings = {**config.settings, "architecture": list(operators)}
    return _with(prepared, dataclasses.replace(config, settings=settings))


def _with(prepared: Prepared, config: RunConfig) -> Prepared:
    return dataclasses.replace(prepared, read=dataclasses.replace(prepared.read, config=config))
