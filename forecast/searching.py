"""The search for the operators of DARTS-GT, and the networks that stand beside it as controls."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from graphs.architecture import Architecture, vote

from .config import RunConfig
from .data.module import SearchData
from .data.windows import Example, Target, WindowDataset
from .errors import DataError
from .kinds import Progress, Silent
from .models.darts_gt_search import SEARCH
from .prepare import Prepared
from .registry import build, find
from .tasks.search import JUDGED, ArchitectureSearch
from .tasks.series import SeriesLoss
from .training import Curve, train, train_task

if TYPE_CHECKING:
    from .tracking import TrackedRun

Trained = TypeVar("Trained")
Heard = Callable[[int, Mapping[str, float]], None]


def unheard(number: int, values: Mapping[str, float]) -> None:
    """Do nothing with the values of an epoch."""


def search(
    prepared: Prepared, *, checkpoint: Path | None = None, on_epoch: Heard = unheard, bar: bool = False
) -> Architecture:
    """Search the operator of each layer on the training part alone, as `model.search_…` says.

    `checkpoint` is a file to resume from where it exists, as in training. A time limit ends the search with the epoch
    it falls in; what it has found by then counts. `seconds` are those since it was last resumed. Raises DataError where
    there are too few training windows.
    """
    config = prepared.read.config
    learned, held = parted(prepared.train, config.model.search_split, config.model.search_stride)
    torch.manual_seed(config.train.seed)
    network = build(find(config.name, "series"), prepared.shape, config.model, prepared.read.graph)

    loss = _loss(prepared, config)

    def more(batch: Example, draw: torch.Generator) -> torch.Tensor:
        forecast, others = network(batch.window), shuffled(batch, network.last(batch.window), draw)
        return loss(forecast, others, batch.series) - loss(forecast, batch.target, batch.series)

    task = ArchitectureSearch(
        network,
        network.transformer,
        lambda batch: loss(network(batch.window), batch.target, batch.series),
        lambda batch: len(batch.origin),
        judged(held, config.train.batch_size),
        more,
    )
    reference, size, seed = config.model.search_mode == "reference", config.train.batch_size, config.train.seed
    data = SearchData(learned, held, reference=reference, batch_size=size, seed=seed)
    return carried_out(task, data, config.train, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)


def carried_out(
    task: ArchitectureSearch, data: SearchData, train: Any, *, checkpoint: Path | None, on_epoch: Heard, bar: bool
) -> Architecture:
    """Run a search to its end, whatever it is for; `train` are the settings of the training that follows it."""
    epochs, began = task.mixtures.search.epochs, time.monotonic()
    limits = dataclasses.replace(train, epochs=epochs, patience=epochs, averaging=0.0)
    train_task(task, data, limits, checkpoint=checkpoint, on_epoch=on_epoch, bar=bar)
    return task.architecture(time.monotonic() - began)


def judged(held: WindowDataset, size: int) -> Iterator[Example]:
    """Batches of at most `size` windows, evenly spaced over stretches of time, whose answers share no step.

    There are twelve, or fewer where less than half of a stretch would be left between the answers.
    """
    end = -held.horizon
    span = int(held.origins[-1] - held.origins[0])
    for stretch in held.origins.tensor_split(max(1, min(JUDGED, len(held) // 2, span // (2 * held.horizon)))):
        origins = stretch[stretch >= end + held.horizon]
        if len(origins) > 1:  # of one window no two can change places
            end = int(origins[-1])
            part = WindowDataset(held.buffer, origins, held.lookback, held.horizon, held.targets).thinned(size)
            yield part[torch.arange(len(part))]


def shuffled(batch: Example, last: torch.Tensor, draw: torch.Generator) -> Target:
    """The answers of windows, of which the changes since the `last` seen values (B, 1, V_out) have changed places.

    Whole answers would tell windows apart by their level alone, which says nothing of what an operator knows.
    """
    order = torch.randperm(len(last), generator=draw).to(last.device)
    return Target((batch.target.values - last)[order] + last, batch.target.seen[order])


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


class Search(Protocol):
    """Searches as `search` does, on data that are ready."""

    def __call__(self, config: RunConfig, *, checkpoint: Path, on_epoch: Heard, bar: bool) -> Architecture: ...


def settled(
    config: RunConfig, find_operators: Search, run: "TrackedRun", progress: Progress
) -> tuple[RunConfig, Architecture | None]:
    """Search the operators where the configuration asks for it: the configuration with them, and the search.

    The architecture is kept with the run; a run that is resumed with one goes on from there. A time limit is shared
    evenly by search, network and controls.
    """
    if config.model.architecture != SEARCH:
        return config, None
    limit, parts = config.train.time_limit, 1 + config.model.search_seeds + len(config.model.candidates)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, time_limit=limit and limit / parts))
    kept = run.kept("architecture.json")
    if kept is not None:
        found = Architecture.from_json(kept)
        return with_operators(config, found.operators), found
    progress.stage(f"searching {config.model.layers} operators among {', '.join(config.model.candidates)}")

    def on_epoch(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, {"search_loss": values["search_loss"], "search_train_loss": values["train_loss"]})
        progress.stage(f"search epoch {number}: loss on held examples {values['search_loss']:.4g}")

    searches = []
    for number in range(config.model.search_seeds):
        name = f"search-{number + 1}"
        if (one := run.kept(f"{name}.json")) is not None:
            searches.append(Architecture.from_json(one))
            continue
        train = dataclasses.replace(config.train, seed=config.train.seed + number)
        searches.append(
            find_operators(
                dataclasses.replace(config, train=train),
                checkpoint=run.checkpoint.with_name(f"{name}.ckpt"),
                on_epoch=on_epoch,
                bar=not isinstance(progress, Silent),
            )
        )
        if config.model.search_seeds > 1:
            run.text(f"{name}.json", searches[-1].to_json())
            progress.stage(f"search {number + 1} found {', '.join(searches[-1].operators)}")
    found = vote(searches) if len(searches) > 1 else searches[0]
    run.text("architecture.json", found.to_json())
    return with_operators(config, found.operators), found


def controls(
    config: RunConfig,
    found: Architecture,
    own: Trained,
    learn: Callable[[RunConfig, Path], Trained],
    run: "TrackedRun",
    progress: Progress,
) -> dict[str, Trained]:
    """Train a network with each candidate in all layers as the one with the operators found was, which may be one.

    `own` is what became of that one, `learn` trains another, with a checkpoint to resume from.
    """
    trained = {}
    for operator in found.candidates:
        name, uniform = f"all-{operator}", (operator,) * len(found.operators)
        if found.operators == uniform:
            trained[name] = own
            continue
        progress.stage(f"training the control {name}")
        trained[name] = learn(with_operators(config, uniform), run.checkpoint.with_name(f"{name}.ckpt"))
    return trained


def learned(prepared: Prepared, config: RunConfig, checkpoint: Path) -> tuple[Any, Curve, int]:
    """Train a fresh network on the windows of `prepared`: it, the curve of its training and its best epoch."""
    torch.manual_seed(config.train.seed)
    network = build(find(config.name, "series"), prepared.shape, config.model, prepared.read.graph)
    loss = _loss(prepared, config)
    curve, best = train(network, prepared.train, prepared.validation, config.train, loss=loss, checkpoint=checkpoint)
    return network.eval(), curve, best


def _loss(prepared: Prepared, config: RunConfig) -> SeriesLoss:
    return SeriesLoss.of(config.train, prepared.scaler.std[:, : prepared.shape.targets])


def cut(found: Architecture, config: RunConfig) -> list[str]:
    """Whether a time limit cut a search short, and when, as `forecast.training.cut` tells it of networks."""
    done, wanted = len(found.trajectory), config.model.search_epochs
    return [f"search after {done} of {wanted} epochs"] if done < wanted else []


def with_operators(config: RunConfig, operators: tuple[str, ...]) -> RunConfig:
    """Give the same configuration for the network with these operators."""
    return dataclasses.replace(config, settings={**config.settings, "architecture": list(operators)})


def configured(prepared: Prepared, config: RunConfig) -> Prepared:
    """Give the same data under another configuration."""
    return dataclasses.replace(prepared, read=dataclasses.replace(prepared.read, config=config))
