"""The cells of a comparison: each resolved, its data read and its network built once, before any is trained."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import DataConfig, RunConfig, flags, listed_horizons, published_scores, resolve
from .data import catalogue
from .errors import UsageError
from .prepare import read, require_buildable, window_shape
from .registry import MODELS, config_class, find
from .sensors import with_named_operators

if TYPE_CHECKING:
    from .data.windows import WindowShape


@dataclass(frozen=True)
class Entry:
    """One competitor: a model, or one configuration file of a model."""

    name: str  # of its row: `itransformer`, or `itransformer(small)` for small.yaml
    model: str
    file: str | None


@dataclass(frozen=True)
class Data:
    """What a plan keeps of data that were read."""

    name: str  # as typed
    source: Any
    config: DataConfig  # with every length filled in
    facts: Mapping[str, Any]
    fingerprint: str
    shape: "WindowShape"
    graph: Any  # of the variates, for a model that takes one
    ground: tuple[Any, ...]  # what two scores must share to be comparable


@dataclass(frozen=True)
class Cell:
    """One fit of a comparison."""

    entry: Entry
    data: Data
    config: RunConfig
    arguments: Mapping[str, Any]  # of `fit`, that give this configuration
    published: Mapping[str, float] | None  # the paper's scaled mse and mae at this horizon and lookback

    @property
    def place(self) -> dict[str, Any]:
        """Where its scores stand in the table."""
        lengths = {"lookback": self.config.data.lookback, "horizon": self.config.data.horizon}
        return {"data": self.data.name, "model": self.entry.name, **lengths, "seed": self.config.train.seed}

    @property
    def settings(self) -> str:
        """The file that its settings come from."""
        return self.arguments["config"] or "defaults"


def whole_numbers(option: str, value: int | str | Iterable[int] | None) -> tuple[int, ...] | None:
    """Read `96`, `"96,192"` or several numbers; None stays None. Raises UsageError."""
    if value is None:
        return None
    parts: Iterable[Any] = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        return tuple(dict.fromkeys(int(part) for part in parts))
    except (TypeError, ValueError):
        raise UsageError(f"--{option} {value}: not whole numbers.", f"E.g. --{option} 96,192.") from None


def entries_of(models: str | Sequence[str]) -> list[Entry]:
    """Find the competitors; raises UsageError for an unknown one, and for two with the same row."""
    words = models.split(",") if isinstance(models, str) else [os.fspath(model) for model in models]
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise UsageError("No models were named.", "Add --models itransformer,linear; `forecast models` lists them.")
    entries = [_entry(word) for word in words]
    names = [entry.name for entry in entries]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(
                f"--models has two rows called {name}: {words[names.index(name)]} and {words[place]}.",
                "Name a model once; two settings of it compete as files of different names.",
            )
    return entries


def _entry(word: str) -> Entry:
    if word in MODELS or not (word.endswith((".yaml", ".yml")) or "/" in word):
        return Entry(word, find(word).name, None)
    model = resolve(file=word).name
    return Entry(f"{model}({Path(word).stem})", model, word)


def sources_of(data: Any) -> list[tuple[str | None, Any]]:
    """Give the data sets with the names they were asked for by: one, or several as `a,b` or as a sequence."""
    if isinstance(data, str) and "," in data and not Path(data).exists():
        data = [part.strip() for part in data.split(",") if part.strip()]
    several = data if isinstance(data, (list, tuple)) else [data]
    found = [(os.fspath(one) if isinstance(one, (str, os.PathLike)) else None, one) for one in several]
    names = [name for name, _ in found]
    if "-" in names:
        raise UsageError("A comparison reads its data several times; standard input can be read once.", "Name a file.")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(f"{name or 'A table without a name'} is given twice.", "Name each data set once.")
    return found


def planned(
    sources: Sequence[tuple[str | None, Any]],
    entries: Sequence[Entry],
    axes: Mapping[str, tuple[int, ...] | None],
    published: bool,
    settings: Sequence[str],
    options: Mapping[str, Any],
) -> list[Cell]:
    """Resolve every cell, read its data and build its network, so that what cannot work is refused before training.

    `axes` holds horizons, lookbacks and seeds, None for what the settings say. Raises UsageError and DataError.
    """
    own = {entry.name: _settings_of(entry, entries, settings) for entry in entries}
    horizons, lookbacks, seeds = (axes[key] or (None,) for key in ("horizon", "lookback", "seed"))
    asked = []
    for (name, source), horizon, lookback, entry, seed in product(sources, horizons, lookbacks, entries, seeds):
        given = {"horizon": horizon, "lookback": lookback, "seed": seed}
        arguments = {
            "model": entry.model,
            "config": _file(entry, name, horizon, lookback, published),
            "settings": own[entry.name],
            **_options_of(entry, entries, options),
            **{key: value for key, value in given.items() if value is not None},
        }
        asked.append((name, source, entry, arguments, _resolved(arguments)))
    known: dict[Any, Data] = {}
    cells = []
    for name, source, entry, arguments, config in asked:
        on_graph = find(config.name).on_graph
        key = (name, config.data, on_graph)
        if key not in known:
            known[key] = _read(name, source, config)
        data = known[key]
        scores = _scores_of_paper(arguments, config, data) if published else None
        full = replace(config, data=data.config)
        cells.append(Cell(entry, data, with_named_operators(full) if on_graph else full, arguments, scores))
    _require_common_ground(cells)
    for cell in cells:
        _ = cell.config.model
    for cell in {(cell.entry, cell.data.name, cell.data.config): cell for cell in cells}.values():
        require_buildable(cell.config, cell.data.shape, cell.data.graph)
    return cells


def _resolved(arguments: Mapping[str, Any]) -> RunConfig:
    """Resolve what `fit` will resolve."""
    rest = {key: value for key, value in arguments.items() if key not in ("model", "config", "settings")}
    return resolve(
        arguments["model"],
        file=arguments["config"],
        settings=arguments["settings"],
        flags=flags(**rest),
        series=True,
    )


def _settings_of(entry: Entry, entries: Sequence[Entry], settings: Sequence[str]) -> tuple[str, ...]:
    """Give the settings that concern an entry; raises UsageError for one of `model` that no entry has."""
    found = []
    for text in settings:
        name = text.partition("=")[0].strip().removeprefix("model.")
        if not text.strip().startswith("model.") or name == "name" or name in _fields(entry):
            found.append(text)
        elif not any(name in _fields(other) for other in entries):
            near = get_close_matches(name, {field for other in entries for field in _fields(other)}, n=1)
            raise UsageError(
                f"--set {text}: model.{name} is a setting of none of {', '.join(other.name for other in entries)}.",
                f"Did you mean model.{near[0]}?" if near else "Leave it out.",
            )
    return tuple(found)


def _options_of(entry: Entry, entries: Sequence[Entry], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the options that concern an entry: what it does not read is left to the models that do, if there are any."""
    unread = find(entry.model).unread
    read = {key for key in unread if any(key not in find(other.model).unread for other in entries)}
    return {key: value for key, value in options.items() if key not in read}


def _fields(entry: Entry) -> set[str]:
    return {field.name for field in dataclasses.fields(config_class(find(entry.model)))}


def _file(entry: Entry, name: str | None, horizon: int | None, lookback: int | None, published: bool) -> str | None:
    """Give the file of an entry: its own, else with `published` the shipped one that lists the horizon.

    One for this very lookback (`etth1-lookback96`) goes before the one of the paper (`etth1`).
    """
    if entry.file or not published or name is None or Path(name).exists() or name.lower() not in catalogue.cards():
        return entry.file
    file = f"{entry.model}/{name.lower()}"
    for candidate in (file if lookback is None else f"{file}-lookback{lookback}", file):
        try:
            listed = listed_horizons(candidate)
        except UsageError:  # no such setting was published
            continue
        if horizon is None or horizon in listed:
            return candidate
    return None


def _scores_of_paper(arguments: Mapping[str, Any], config: RunConfig, data: Data) -> Mapping[str, float] | None:
    """Give the published scores of a configuration, where its lookback is the published one."""
    file, horizon = arguments["config"], data.config.horizon
    if file is None or horizon is None:
        return None
    paper = resolve(arguments["model"], file=file, flags=flags(horizon=horizon))
    return published_scores(file).get(horizon) if paper.data.lookback == config.data.lookback else None


def _read(name: str | None, source: Any, config: RunConfig) -> Data:
    """Read the data for one configuration and let go of them: each fit reads its own."""
    found = read(config, source)
    data = found.config.data
    return Data(
        name=name or data.dataset or found.facts["source"].strip("<>"),
        source=source,
        config=data,
        facts=found.facts,
        fingerprint=found.fingerprint,
        shape=window_shape(found),
        graph=found.graph,
        ground=(found.facts["forecasts"], found.split.train_end.tolist(), found.split.test.tolist()),
    )


def _require_common_ground(cells: Sequence[Cell]) -> None:
    """Refuse a table whose scores would be of other variates, scales or test windows: raises UsageError."""
    first: dict[Any, Cell] = {}
    for cell in cells:
        data = cell.data.config
        one = first.setdefault((cell.data.name, data.horizon, data.lookback), cell)
        if one.data.ground != cell.data.ground:
            datasets = {one.data.config.dataset, data.dataset}
            named = [dataset for dataset in datasets if dataset is not None]
            raise UsageError(
                f"{one.entry.name} and {cell.entry.name} are not scored alike on {cell.data.name}: their targets or "
                "their splits differ.",
                f"Give all the published split: --set data.dataset={named[0]}."
                if len(named) == 1 and len(datasets) == 2
                else "Give all the same data, e.g. with --target and --set data.split=[0.7,0.1,0.2].",
            )


def comparable(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Give what decides the scores of a run: everything but where it is kept and what computed it."""
    content = config.to_dict()
    del content["track"]["experiment"], content["train"]["device"]
    return content
