"""compare: a leaderboard of models, horizons, lookbacks and seeds beside the baselines, one run with a child a cell.

Every cell is an ordinary fit. One that has been fitted before, by whatever command, is taken from the tracking store,
and one that was interrupted goes on where it stopped, so the same command again continues a comparison.
"""

import hashlib
import json
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from . import kinds
from .cells import Cell, Entry, comparable, entries_of, planned, sources_of, whole_numbers
from .config import from_dict
from .errors import ArtifactError, DataError, ForecastError, UsageError
from .fitting import fit
from .registry import BASELINES, find

if TYPE_CHECKING:
    import polars as pl

    from .tracking import TrackedRun


class Progress(kinds.Progress, Protocol):
    """What a caller may show while a comparison runs."""

    def cell(self, text: str) -> None: ...


class Silent(kinds.Silent):
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
    axes = {
        "horizon": whole_numbers("horizon", horizon),
        "lookback": whole_numbers("lookback", lookback),
        "seed": whole_numbers("seeds", seeds),
    }
    entries = entries_of(models)
    cells = planned(sources_of(data), entries, axes, published, settings, options)
    about = _about(cells)
    for facts in about:
        progress.understood(facts)

    from . import leaderboard, tracking

    names = [facts["name"] for facts in about]
    experiment, asked = cells[0].config.track.experiment, _digest(cells, published)
    told: dict[str, list[Any]] = {
        "models": [entry.name for entry in entries],
        "horizons": [cell.config.data.horizon for cell in cells],
        "lookbacks": [cell.config.data.lookback for cell in cells],
        "seeds": [cell.config.train.seed for cell in cells],
        "data.sha256": [cell.data.fingerprint for cell in cells],
    }
    params = {key: ",".join(map(str, dict.fromkeys(values))) for key, values in told.items()}
    tags = {
        "forecast.kind": "compare",
        "forecast.asked": asked,
        "data.source": ",".join(names),
        "data.sha256": params["data.sha256"][:5000],
    }
    title = "-".join(["compare", *(Path(name).name.partition(".")[0] for name in names)])
    with tracking.tracked(experiment, title, tags, tracking.comparison(experiment, asked)) as run:
        run.params({**params, "published": published})
        scored = []
        for number, cell in enumerate(cells, start=1):
            scored.append(_scored(cell, f"cell {number} of {len(cells)}", run.id, progress))
        rows, baselines = [row for row, _ in scored], _baselines(scored)
        table = _table([*rows, *baselines])
        document: dict[str, Any] = {
            "run": run.id,
            "models": told["models"],
            "data": [{key: facts[key] for key in _ABOUT} for facts in about],
            "tables": leaderboard.tables([*rows, *baselines]),
            "cells": rows,
            "baselines": baselines,
            "failed": sum(row["error"] is not None for row in rows),
            "seconds": round(time.perf_counter() - began, 3),
        }
        html = leaderboard.page(document, _command(names, entries, axes, published, settings, options))
        document["report"] = run.text("leaderboard.html", html)
        run.text("leaderboard.csv", table.write_csv())
        run.text("comparison.json", json.dumps(document, indent=1, ensure_ascii=False))
        run.tags({"mlflow.note.content": leaderboard.headline(document["tables"])})
        _log_means(run, document["tables"])
    return Comparison(run.id, table, document, html)


# One cell


def _scored(cell: Cell, place: str, parent: str, progress: Progress) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Fit a cell, or find it done: its row, and the document of its fit, None for one that failed."""
    from . import tracking
    from .leaderboard import METRICS, named

    words = f"{place}: {named(cell.place)}"
    told = None if isinstance(progress, Silent) else OfCell(progress)
    error = None
    document: Mapping[str, Any] | None = None
    try:
        earlier, document = _earlier(cell, parent)
        if earlier is not None:
            tracking.adopt(earlier, parent)
        if document is not None:
            progress.cell(f"{words}; already done, run {earlier}")
        else:
            progress.cell(f"{words}; goes on, run {earlier}" if earlier else words)
            given = {"resume": earlier} if earlier else cell.arguments
            run = fit(cell.data.source, progress=told, **given)
            if run.fitted.facts["fingerprint"] != cell.data.fingerprint:
                raise DataError(
                    f"{cell.data.name} has changed since the comparison began.", "Compare again, on data that stay."
                )
            document = json.loads(tracking.run_text(run.id, "fit.json"))
    except ForecastError as failure:
        progress.cell(f"{place} failed: {failure.message}")
        error = {"code": failure.exit_code, "message": failure.message, "hint": failure.hint}
    row: dict[str, Any] = {
        **cell.place,
        "baseline": find(cell.config.name).baseline,
        "settings": cell.settings,
        "windows": document and document["windows"]["test"],
        "scaled": {metric: None for part, metric in METRICS if part == "scaled"},
        "original": {metric: None for part, metric in METRICS if part == "original"},
        "published": cell.published,
        "run": document and document["run"],
        "seconds": document and document["seconds"]["total"],
        "error": error,
    }
    return row | (document["scores"][cell.config.name] if document else {}), document


class OfCell:
    """Passes on what the fit of a cell says, but for its data and its table, which are shown once for all cells."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def understood(self, facts: Mapping[str, Any]) -> None:
        """The data were shown before the first cell."""

    def stage(self, text: str) -> None:
        self._progress.stage(text)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self._progress.epoch(number, values)

    def scored(self, document: Mapping[str, Any]) -> None:
        scores = document["scores"][document["model"]]["scaled"]
        self._progress.cell(", ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def _earlier(cell: Cell, parent: str) -> tuple[str | None, Mapping[str, Any] | None]:
    """Find the run that did this cell, with its document, or else the last one that was interrupted on the way."""
    from . import tracking

    data = cell.config.data
    params = {"data.horizon": data.horizon, "data.lookback": data.lookback, "train.seed": cell.config.train.seed}
    runs = tracking.fits(cell.config.name, cell.data.fingerprint, params)
    runs.sort(key=lambda run: (run.info.status != "FINISHED", run.data.tags.get(tracking.PARENT) != parent))
    for run in runs:
        finished = run.info.status == "FINISHED"
        if not finished and run.info.status != "KILLED":
            continue
        try:
            stored = from_dict(yaml.safe_load(tracking.run_text(run.info.run_id, "config.yaml")))
            if comparable(stored) == comparable(cell.config):
                document = json.loads(tracking.run_text(run.info.run_id, "fit.json")) if finished else None
                return run.info.run_id, document
        except (ArtifactError, UsageError):  # its files are gone, or it is of a version with other settings
            continue
    return None, None


# All cells


_ABOUT = ("name", "source", "rows", "series", "variates", "freq", "span", "repairs", "fingerprint")


def _about(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Give what was understood of each data set, over all its cells."""
    found = []
    for name in dict.fromkeys(cell.data.name for cell in cells):
        here = [cell.data for cell in cells if cell.data.name == name]
        lengths = {key: _joined(getattr(data.config, key) for data in here) for key in ("lookback", "horizon")}
        found.append({**here[0].facts, **lengths, "name": name, "fingerprint": here[0].fingerprint})
    return found


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _digest(cells: Sequence[Cell], published: bool) -> str:
    """Give a hash of what was asked and of the data: the same command finds its run again."""
    asked = [[cell.entry.name, comparable(cell.config), cell.data.fingerprint] for cell in cells]
    return hashlib.sha256(json.dumps([asked, published], sort_keys=True).encode()).hexdigest()


def _baselines(scored: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> list[dict[str, Any]]:
    """Give the baselines once a data set, horizon and lookback, but for those that compete as models."""
    place = ("data", "lookback", "horizon")
    competing = {(row["model"], *(row[key] for key in place)) for row, document in scored if document}
    found: dict[Any, dict[str, Any]] = {}
    for row, document in scored:
        if document is None:
            continue
        for who in BASELINES:
            key = (who, *(row[part] for part in place))
            # The scores under a model's own name are those of its settings.
            if who == document["model"] or key in competing or key in found:
                continue
            rest = {"seed": None, "settings": "defaults", "published": None, "run": None, "seconds": None}
            found[key] = {**row, **rest, "model": who, "baseline": True, **document["scores"][who]}
    return list(found.values())


def _table(rows: Sequence[Mapping[str, Any]]) -> "pl.DataFrame":
    """Give one row a cell and baseline; scaled errors and those in original units are told apart by name."""
    import polars as pl

    from .leaderboard import steps_of

    text, whole, real = pl.String, pl.Int64, pl.Float64
    columns: dict[str, tuple[Any, list[Any]]] = {
        "data": (text, [row["data"] for row in rows]),
        "model": (text, [row["model"] for row in rows]),
        "settings": (text, [row["settings"] for row in rows]),
        "baseline": (pl.Boolean, [row["baseline"] for row in rows]),
        "lookback": (whole, [row["lookback"] for row in rows]),
        "horizon": (whole, [row["horizon"] for row in rows]),
        "seed": (whole, [row["seed"] for row in rows]),
        "mse_scaled": (real, [row["scaled"]["mse"] for row in rows]),
        "mae_scaled": (real, [row["scaled"]["mae"] for row in rows]),
        **{name: (real, [row["original"].get(name) for row in rows]) for name in ("mae", "rmse", "mase", "smape")},
        **{
            f"{name}_at_{step}": (real, [row.get("steps", {}).get(step, {}).get(name) for row in rows])
            for step, name in steps_of(rows)
        },
        "mse_published": (real, [row["published"] and row["published"]["mse"] for row in rows]),
        "mae_published": (real, [row["published"] and row["published"].get("mae") for row in rows]),
        "run": (text, [row["run"] for row in rows]),
        "seconds": (real, [row["seconds"] for row in rows]),
        "error": (text, [row["error"] and row["error"]["message"] for row in rows]),
    }
    return pl.DataFrame([pl.Series(name, values, kind) for name, (kind, values) in columns.items()])


def _log_means(run: "TrackedRun", tables: Sequence[Mapping[str, Any]]) -> None:
    """Log the mean errors of each row under the name of its model; the step is the horizon."""
    several = {key: len({row[key] for row in _rows(tables)}) > 1 for key in ("data", "lookback")}
    for one in tables:
        values: dict[str, float] = {}
        for row in one["rows"]:
            parts = [one["data"] if several["data"] else "", row["model"]]
            parts.append(f"lookback-{row['lookback']}" if several["lookback"] else "")
            name = re.sub(r"[^\w.\- /]", "-", ".".join(filter(None, parts)))
            errors = {"mse": row["scaled"]["mse"], "mae_scaled": row["scaled"]["mae"], **row["original"]}
            values |= {f"{name}.{metric}": value for metric, value in errors.items() if value is not None}
        run.metrics(values, step=one["horizon"])


def _rows(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "data": one["data"]} for one in tables for row in one["rows"]]


def _command(
    names: Sequence[str],
    entries: Sequence[Entry],
    axes: Mapping[str, tuple[int, ...] | None],
    published: bool,
    settings: Sequence[str],
    options: Mapping[str, Any],
) -> str:
    """Give the command line that asks for the same comparison."""
    words = ["forecast", "compare", ",".join(names)]
    words += ["--models", ",".join(entry.file or entry.model for entry in entries)]
    given = {"horizon": axes["horizon"], "lookback": axes["lookback"], "seeds": axes["seed"], **options}
    for key, value in {**given, "published": published}.items():
        option = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)
