"""RunConfig: everything that decides a run, from defaults, a YAML file, `--set` and flags, validated and frozen.

Precedence: defaults < the model's own < file < the file's section for the chosen horizon < `--set section.key=value`
< flags.
"""

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from .errors import UsageError
from .registry import HOMES, TASKS, config_class, find, tasks_of

SECTIONS = ("data", "model", "train", "track")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which columns mean what, how the data are split, and the lengths of a window."""

    kind: Literal["series"] = "series"  # of data, for a model that serves several
    dataset: str | None = None  # card of the catalogue: columns, frequency and published split
    lookback: int | None = None  # steps that the model sees; chosen from horizon and season if not given
    horizon: int | None = None  # steps to forecast; one season if not given
    target: tuple[str, ...] = ()  # columns to forecast; all numeric ones if not given
    variates: tuple[str, ...] = ()  # columns to use at all
    known_future: tuple[str, ...] = ()  # covariates that are known beyond the last value, as a holiday or a price is
    static: str | None = None  # table with one row a series and features that never change
    edges: str | None = None  # table of the graph that the variates are on, for a model that needs one
    graph: Literal["correlation", "distance", "none"] = "correlation"  # without edges: who is nearest, by correlation
    # over the training part or by the latitude and longitude of `static`
    neighbours: int = 8  # of each variate, in a graph that is not given
    id_col: str | None = None
    time_col: str | None = None
    freq: str | None = None  # pandas alias of the step, instead of the inferred one
    resample: str | None = None  # step whose means replace the values, where the times are irregular or too fine
    dates: Literal["day-first", "month-first"] | None = None
    decimal: Literal["point", "comma"] | None = None  # what "1,234" and "1.234" mean, where the file does not tell
    missing_codes: tuple[float, ...] = ()  # numbers that stand for a missing value, as -200 or -9999
    marks: str = "auto"  # calendar features of this frequency; "auto": the data's own; "none"
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)  # shares of rows, where no published split applies
    split_col: str | None = None  # column that marks the rows of the test; found if not given; "none": the shares
    strict: bool = False  # refuse data that need a repair
    max_repaired: float = 0.5  # refuse a repair that touches a larger share of the rows
    short_series: Literal["drop", "pad"] = "drop"  # too short for a window: left out, or padded in front as unseen


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained. The defaults are ours; the papers' settings are in `configs/`."""

    epochs: int = 30
    batch_size: int = 32
    epoch_batches: tuple[int, int] | None = (100, 1000)  # fewest and most of an epoch; null: one pass
    loss: Literal["mse", "mae"] = "mse"
    units: Literal["scaled", "original"] = "scaled"  # of the loss: every variate alike, or as the table has them
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    schedule: Literal["halving", "cosine", "constant"] = "cosine"
    averaging: float = 0.999  # decay of the running average of the weights that is kept; 0: the last weights
    patience: int = 5  # epochs without a better validation loss before training stops
    seed: int = 2023
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"  # "cpu", "cuda", "cuda:1"; "auto": an accelerator where there is one
    time_limit: float | None = None  # seconds of training


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """Where the run is kept and what it is judged by."""

    experiment: str = "forecast"
    metric: Literal["mse", "mae", "rmse", "mase", "smape"] = (
        "mse"  # mse on the scaled axis, the others in original units
    )
    levels: tuple[int, ...] = (80, 95)  # prediction intervals to measure and report, per cent


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The resolved configuration of one run, for the model called `name`."""

    name: str
    settings: Mapping[str, Any]  # of the model, as given
    task: str = "series"  # what the model forecasts: a task of the registry
    places: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)  # where each was given
    data: Any = field(default_factory=DataConfig)  # the settings classes are those of the model's task: SETTINGS
    train: Any = field(default_factory=TrainConfig)
    track: Any = field(default_factory=TrackConfig)

    @cached_property
    def model(self) -> Any:
        """The settings dataclass of the model; raises UsageError for one that it does not have.

        Checked when it is first asked for: it stands beside its network, whose import costs seconds that a wrong path
        need not wait for.
        """
        return _validated(config_class(find(self.name, self.task)), "model", self.settings, self.places, self.name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Give plain values by section, as a configuration file has them."""
        sections = {part: _plain(getattr(self, part)) for part in SECTIONS}
        return {**sections, "model": {"name": self.name, **sections["model"]}}

    def to_yaml(self) -> str:
        """Give a configuration file that resolves to this configuration."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def resolve(
    model: str | None = None,
    *,
    file: str | Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    series: bool = False,
) -> RunConfig:
    """Resolve a configuration; raises UsageError naming the key, its place and the nearest valid one.

    The settings of the model are checked by `RunConfig.model`.

    `settings` are `section.key=value` strings (YAML values), `flags` values by section. `series` refuses models of
    other kinds of data, for what is done with series alone.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    by_horizon: Mapping[Any, Mapping[str, Any]] = {}
    if file is not None:
        place, content = str(file), _read(Path(file))
        by_horizon = content.pop("horizons", None) or {}
        if not isinstance(by_horizon, Mapping):
            raise UsageError(f"{place}: horizons must hold sections by horizon.", "Write horizons: {96: {…}}.")
        content.pop("published", None)
        layers.append((place, _sections(place, content)))
    overrides = [("--set", _sections("--set", _setting(text))) for text in settings]
    overrides.append(("the command line", _sections("the command line", dict(flags or {}))))
    horizon = next(
        (h for _, layer in reversed([*layers, *overrides]) if (h := layer.get("data", {}).get("horizon"))), None
    )
    if isinstance(horizon, int) and horizon in by_horizon:
        place = f"{file}, horizons.{horizon}"
        layers.append((place, _sections(place, by_horizon[horizon])))
    merged: dict[str, dict[str, Any]] = {part: {} for part in SECTIONS}
    places: dict[tuple[str, str], str] = {}
    for place, layer in [*layers, *overrides]:
        for part, values in layer.items():
            merged[part].update(values)
            places.update({(part, key): place for key in values})
    name = model or merged["model"].get("name")
    in_file = merged["model"].pop("name", name)
    if name is None:
        raise UsageError(
            "No model was named.",
            "Add --model itransformer for series, todyformer for events, darts-gt for graphs; see forecast models.",
        )
    spec = find(name, _task(name, merged["data"]))
    if series and spec.task != "series":
        raise UsageError(
            f"{name} learns {spec.task} here, and this command takes series.",
            f"Type forecast fit DATA --model {name}: its report has the baselines and controls, over all of the test.",
        )
    if in_file != name:
        raise UsageError(
            f"{file} holds settings of {in_file}, not of {name}.", f"Use --model {in_file}, or another file."
        )
    for key, given in spec.unread.items():
        if spec.task == "series" and merged["data"].get(key) not in (None, getattr(DataConfig, key)):
            option = f"--{key}" if key in ("edges", "static") else f"data.{key}"
            reader = "tsm2" if key == "static" else "darts-gt"
            raise UsageError(
                f"{name} takes no {given}: it cannot use {option}.", f"Leave it out, or use --model {reader}."
            )
    merged = {part: {**spec.defaults.get(part, {}), **values} for part, values in merged.items()}
    classes, check = settings_of(spec.task)
    parts = {part: _validated(classes[part], part, merged[part], places, spec.name) for part in classes}
    check(**parts)
    return RunConfig(name=spec.name, task=spec.task, settings=merged["model"], places=places, **parts)


def _task(name: str, data: Mapping[str, Any]) -> str:
    """Give the task of a model; of several the kind that is named, else series where only series have what is set."""
    tasks = tasks_of(name)
    if "nodes" in tasks:
        return "nodes" if data.get("task") == "node" else "links"
    if data.get("kind") in tasks:
        return str(data["kind"])
    of_series = any(data.get(key) is not None for key in ("edges", "graph", "static", "horizon", "lookback"))
    return tasks[0] if of_series or len(tasks) == 1 else tasks[-1]


def settings_of(task: str) -> tuple[Mapping[str, Any], Callable[..., None]]:
    """Give the settings classes of the sections data, train and track for a task, and the check of their values."""
    if task == "series":
        return {"data": DataConfig, "train": TrainConfig, "track": TrackConfig}, _check
    module = importlib.import_module(f"{HOMES[task]}.settings", __package__)
    return module.SECTIONS, module.check


def flags(**options: Any) -> dict[str, dict[str, Any]]:
    """Sort options by section, as `resolve` takes them, without those that are None.

    Raises UsageError for one that no section has.
    """
    sections = [item for task in TASKS for item in settings_of(task)[0].items()]
    owner = {f.name: part for part, cls in sections for f in dataclasses.fields(cls)}
    given: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        if key not in owner:
            raise _unknown("fit", key, list(owner), "an option")
        if value is not None:
            given.setdefault(owner[key], {})[key] = value
    return given


def from_dict(content: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Resolve what `RunConfig.to_dict` gave, e.g. from the file stored with a run."""
    return resolve(flags=content)


def published_scores(file: str | Path) -> dict[int, dict[str, float]]:
    """Give the scores of the paper that a configuration file quotes: mse and perhaps mae, scaled, by horizon.

    Raises UsageError for a section of another form.
    """
    found = _read(Path(file)).get("published") or {}
    if not isinstance(found, Mapping) or not all(
        isinstance(scores, Mapping) and "mse" in scores for scores in found.values()
    ):
        raise UsageError(
            f"{file}: published must hold mse, and mae where known, by horizon.",
            "Write published: {96: {mse: 0.386, mae: 0.405}}.",
        )
    return {int(horizon): dict(scores) for horizon, scores in found.items()}


def listed_horizons(file: str | Path) -> set[int]:
    """Give the horizons that a configuration file has a section for. Raises UsageError for one that is not there."""
    return {int(horizon) for horizon in _read(Path(file)).get("horizons") or {}}


def schema() -> dict[str, Any]:
    """Give the JSON schema of a configuration file: one alternative a task, with the settings of all its models."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "forecast run configuration",
        "anyOf": [_schema_of(task) for task in TASKS],
    }


def _schema_of(task: str) -> dict[str, Any]:
    from pydantic import TypeAdapter

    from .registry import MODELS

    properties = {part: TypeAdapter(cls).json_schema() for part, cls in settings_of(task)[0].items()}
    for part in properties.values():
        part["additionalProperties"] = False
    models = []
    for name in MODELS:
        if task not in tasks_of(name):
            continue
        settings = TypeAdapter(config_class(find(name, task))).json_schema()
        settings["properties"] = {"name": {"const": name}, **settings.get("properties", {})}
        models.append({**settings, "required": ["name"], "additionalProperties": False})
    return {
        "title": task,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **properties,
            "model": {"oneOf": models},
            "horizons": {"type": "object", "description": "what differs from above, by horizon"},
            "published": {"type": "object", "description": "scores of the paper, by horizon"},
        },
    }


def _read(path: Path) -> dict[str, Any]:
    from .data.catalogue import config_file

    path = config_file(str(path))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no valid YAML: {' '.join(str(error).split())}", "Correct that line.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no sections.", "Write data:, model:, train: and track: sections.")
    return content


def _sections(place: str, content: Any) -> dict[str, Mapping[str, Any]]:
    """Give the sections of one layer, an empty one as if it were absent; raises UsageError for anything else."""
    if not isinstance(content or {}, Mapping):
        raise UsageError(f"{place} holds no sections.", "Write data:, model:, train: and track: sections.")
    sections = {part: values for part, values in (content or {}).items() if values is not None}
    for part, values in sections.items():
        if part not in SECTIONS:
            raise _unknown(place, str(part), SECTIONS, "a section")
        if not isinstance(values, Mapping):
            raise UsageError(f"{place}: section {part} must hold keys and values.", f"Write {part}: {{…}}.")
    return sections


def _setting(text: str) -> dict[str, dict[str, Any]]:
    key, equals, value = text.partition("=")
    part, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise UsageError(f"--set {text}: not of the form section.key=value.", "E.g. --set model.d_model=256.")
    try:
        return {part: {name: yaml.safe_load(value)}}
    except yaml.YAMLError:
        raise UsageError(f"--set {text}: {value!r} is no YAML value.", "Quote it.") from None


def _validated(cls: Any, part: str, values: Mapping[str, Any], places: Mapping[Any, str], model: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    fields = {f.name: f.type for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            what = f"a setting of {model}" if part == "model" else f"a setting of {part}"
            raise _unknown(places[part, key], f"{part}.{key}", [f"{part}.{k}" for k in fields], what)
    try:
        return TypeAdapter(cls).validate_python({key: _listed(fields[key], value) for key, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        cause: Any = first.get("ctx", {}).get("error")
        if hasattr(cause, "hint"):  # of graphs/, which knows no UsageError
            raise UsageError(cause.message, cause.hint) from None
        key = ".".join([part, *(str(step) for step in first["loc"][:1])])
        place = places.get((part, str(first["loc"][0])), "defaults") if first["loc"] else part
        allowed = re.findall("'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        near = get_close_matches(str(first["input"]), allowed, n=1) or allowed[:1]
        hint = f"Set {key}={near[0]}, or another of these." if near else f"Set {key} to a fit value."
        raise UsageError(f"{place}: {key} is {first['input']!r}: {first['msg']}.", hint) from None


def _listed(kind: Any, value: Any) -> Any:
    """Read values as people type them: `a,b` where several are wanted, yes and no, which YAML takes for booleans."""
    if isinstance(value, bool) and get_origin(kind) is Literal and {"yes", "no"} <= set(get_args(kind)):
        return "yes" if value else "no"
    if isinstance(value, str) and any(get_origin(part) is tuple for part in (kind, *get_args(kind))):
        return [entry.strip() for entry in value.split(",")]
    return value


def _unknown(place: str, key: str, known: Sequence[str], what: str) -> UsageError:
    near = get_close_matches(key, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
    return UsageError(f"{place}: {key} is not {what}.", hint)


def _check(data: DataConfig, train: TrainConfig, track: TrackConfig) -> None:
    """Refuse values that no type can: raises UsageError."""
    positive = {
        "data.lookback": data.lookback,
        "data.horizon": data.horizon,
        "train.epochs": train.epochs,
        "train.batch_size": train.batch_size,
        "train.learning_rate": train.learning_rate,
        "train.patience": train.patience,
        "train.time_limit": train.time_limit,
    }
    for key, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{key} is {value}; it must be above 0.", f"Set {key} to a positive value.")
    if not 0 <= train.weight_decay < math.inf:
        raise UsageError(f"train.weight_decay is {train.weight_decay}; it must be at least 0.", "E.g. 0.01.")
    if not 0 <= train.seed < 2**43:
        raise UsageError(f"train.seed is {train.seed}; it must be from 0 to below 2^43.", "E.g. --seed 1.")
    least, most = train.epoch_batches or (1, 1)
    if not 1 <= least <= most:
        raise UsageError(
            f"train.epoch_batches is {train.epoch_batches}; it must be two counts from 1, the smaller first.",
            "E.g. --set train.epoch_batches=[100,1000].",
        )
    if not re.fullmatch(r"auto|cpu|mps|(cuda|gpu)(:\d+)?", train.device):
        raise UsageError(f"train.device is {train.device!r}.", "Use auto, cpu, cuda or cuda:0.")
    if not 0 <= train.averaging < 1:
        raise UsageError(f"train.averaging is {train.averaging}; it must be from 0 to below 1.", "E.g. 0.999.")
    if not all(share > 0 for share in data.split) or abs(sum(data.split) - 1) > 1e-6:
        raise UsageError(
            f"data.split is {list(data.split)}; its three shares must be positive and sum to 1.",
            "E.g. --set data.split=[0.7,0.1,0.2].",
        )
    if not 0 <= data.max_repaired < 1:
        raise UsageError(
            f"data.max_repaired is {data.max_repaired}; it is a share, from 0 to below 1.",
            "E.g. --set data.max_repaired=0.7.",
        )
    for level in track.levels:
        if not 50 <= level <= 99:
            raise UsageError(f"Level {level} is outside 50 to 99 per cent.", "E.g. --levels 80,95.")


def _plain(value: Any) -> dict[str, Any]:
    return {key: list(entry) if isinstance(entry, tuple) else entry for key, entry in dataclasses.asdict(value).items()}
