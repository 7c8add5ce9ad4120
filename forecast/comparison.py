"""compare: a leaderboard of models, horizons, lookbacks and seeds beside the baselines, tracked as one run with children.

Every cell is an ordinary fit. One that has been fitted before, by whatever command, is taken from the tracking store,
and one that was interrupted goes on where it stopped, so the same command again continues a comparison.
"""

import dataclasses
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from . import config, fitting
from .config import RunConfig, flags, from_dict, resolve
from .data import catalogue
from .errors import ArtifactError, DataError, ForecastError, UsageError
from .fitting import fit
from .prepare import Read, read
from .registry import BASELINES, MODELS, config_class, find, network_class

if TYPE_CHECKING:
    import polars as pl

    from .tracking import TrackedRun

DEFAULTS = "defaults"  # what the settings of a model without a file are called


class Progress(fitting.Progress, Protocol):
    """What a caller may show while a comparison runs."""

    def cell(self, text: str) -> None: ...


class Silent(fitting.Silent):
    """Shows nothing."""

    def cell(self, text: str) -> None:
        """Called as each cell begins, and with what became of it."""


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: its MLflow run, one row a cell and baseline, and the averages over seeds."""

    run: str
    table: "pl.DataFrame"
    document: Mapping[str, Any]  # what `--json` prints
    report: str  # the HTML page

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        """The cells that failed, in their order; `error` holds code, message and hint."""
        return [cell for cell in self.document["cells"] if cell["error"] is not None]


@dataclass(frozen=True)
class Entry:
    """One competitor: a model, or one configuration file of a model."""

    name: str  # of its row: `itransformer`, or `itransformer(small)` for small.yaml
    model: str
    file: str | None


@dataclass(frozen=True)
class Cell:
    """One fit of a comparison: resolved, its data read once."""

    name: str  # of the data, as typed
    source: Any
    entry: Entry
    arguments: Mapping[str, Any]  # of `fit`
    config: RunConfig  # with every length filled in
    facts: Mapping[str, Any]
    fingerprint: str
    published: Mapping[str, float] | None  # the paper's scaled mse and mae for this horizon and lookback

    @property
    def key(self) -> dict[str, Any]:
        """What says which cell this is."""
        lengths = {"lookback": self.config.data.lookback, "horizon": self.config.data.horizon}
        return {"data": self.name, "model": self.entry.name, **lengths, "seed": self.config.train.seed}


def compare(
    data: Any = None,
    models: str | Sequence[str] = (),
    *,
    horizon: int | str | Iterable[int] | None = None,
    lookback: int | str | Iterable[int] | None = None,
    seeds: int | str | Iterable[int] | None = None,
    published: bool = False,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Fit every model at every horizon, lookback and seed, and rank them beside the baselines.

    `data` is what `fit` takes, or several names or paths (`"etth1,etth2"`). `models` are names or YAML files, so that
    two settings of one model can compete. `published` gives a model the setting of its paper for these data and this
    horizon, where there is one, and shows the paper's scores beside ours. `settings` and further options are those of
    `fit`; a `model.` setting goes to the models that have it. A cell that fails is reported and the others go on.

    Raises ForecastError and its children before anything is trained.
    """
    progress = progress or Silent()
    began = time.perf_counter()
    asked = {"horizon": _counts("horizon", horizon), "lookback": _counts("lookback", lookback)}
    asked["seeds"] = _counts("seeds", seeds)
    entries = _entries(models)
    cells = _planned(data, entries, asked, published, settings, options)
    for facts in _facts(cells):
        progress.understood(facts)

    from . import leaderboard, tracking

    names = list(dict.fromkeys(cell.name for cell in cells))
    experiment = cells[0].config.track.experiment
    digest = _digest(cells, published)
    fingerprints = ",".join(dict.fromkeys(cell.fingerprint for cell in cells))
    tags = {
        "forecast.kind": "compare",
        "forecast.asked": digest,
        "data.source": ",".join(names),
        "data.sha256": fingerprints[:5000],
    }
    title = f"compare-{'-'.join(Path(name).name.partition('.')[0] for name in names)}"
    with tracking.tracked(experiment, title, tags, tracking.comparison(experiment, digest)) as run:
        run.params(
            {
                "models": ",".join(entry.name for entry in entries),
                "horizons": _joined(cell.config.data.horizon for cell in cells),
                "lookbacks": _joined(cell.config.data.lookback for cell in cells),
                "seeds": _joined(cell.config.train.seed for cell in cells),
                "data.sha256": fingerprints,
                "published": published,
            }
        )
        outcomes = []
        for number, cell in enumerate(cells, start=1):
            place = f"cell {number} of {len(cells)}"
            outcomes.append(_outcome(cell, place, run.id, progress))
        rows = [row for row, _ in outcomes]
        baselines = _baselines(outcomes)
        found = leaderboard.tables([*rows, *baselines])
        table = _table([*rows, *baselines])
        document = {
            "run": run.id,
            "models": [entry.name for entry in entries],
            "data": [_about(facts) for facts in _facts(cells)],
            "tables": found,
            "cells": rows,
            "baselines": baselines,
            "failed": sum(row["error"] is not None for row in rows),
            "seconds": round(time.perf_counter() - began, 3),
        }
        html = leaderboard.page(document, _command(names, models, asked, published, settings, options))
        document["report"] = run.text("leaderboard.html", html)
        run.text("leaderboard.csv", table.write_csv())
        run.text("comparison.json", json.dumps(document, indent=1, ensure_ascii=False))
        run.tags({"mlflow.note.content": leaderboard.headline(found)})
        _log_means(run, found, len(names) > 1)
    return Comparison(run.id, table, document, html)


# What is asked for


def _counts(option: str, value: int | str | Iterable[int] | None) -> tuple[int, ...] | None:
    """Read `96`, `"96,192"` or several numbers; None stays None. Raises UsageError."""
    if value is None:
        return None
    parts: Iterable[Any] = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        return tuple(dict.fromkeys(int(part) for part in parts))
    except (TypeError, ValueError):
        raise UsageError(f"--{option} {value}: not whole numbers.", f"E.g. --{option} 96,192.") from None


def _entries(models: str | Sequence[str]) -> list[Entry]:
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


def _sources(data: Any) -> list[tuple[str | None, Any]]:
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


def _planned(
    data: Any,
    entries: Sequence[Entry],
    asked: Mapping[str, tuple[int, ...] | None],
    published: bool,
    settings: Sequence[str],
    options: Mapping[str, Any],
) -> list[Cell]:
    """Resolve every cell, read its data and build its network, so that what cannot work is refused before training."""
    own = _settings_by_entry(entries, settings)
    wanted = [
        (name, source, entry, *_arguments(name, entry, horizon, lookback, seed, published, own[entry.name], options))
        for name, source in _sources(data)
        for horizon in asked["horizon"] or (None,)
        for lookback in asked["lookback"] or (None,)
        for entry in entries
        for seed in asked["seeds"] or (None,)
    ]
    found: dict[Any, tuple[RunConfig, Mapping[str, Any], str, Any]] = {}
    built = set()
    grounds: dict[Any, tuple[str, Any]] = {}
    cells = []
    for name, source, entry, arguments, resolved, scores in wanted:
        if (name, resolved.data) not in found:
            one = read(resolved, source)
            found[name, resolved.data] = one.config, one.facts, one.fingerprint, _ground(one)
            shape = _shape(one)
        location, facts, fingerprint, ground = found[name, resolved.data]
