"""doctor: what a file holds, what was repaired and what is odd, how its series behave, and which fit to run next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl

from . import diagnosis_page, diagnosis_text
from .cleaned import Origin, clean_table, origin, step_share
from .config import DataConfig, flags, resolve
from .data import calendar, catalogue, table, week
from .data.cards import EventCard
from .data.events import EventData, read_events
from .data.frame import SeriesFrame
from .data.graph_table import GraphData, read_graphs
from .data.kinds import Kind, looks_like
from .data.times import quoted
from .errors import DataError, UsageError
from .prepare import Read, Understood, interpret, left_out, on_graph, plan, span
from .strengths import Strength, outliers, strength, typical

if TYPE_CHECKING:
    from .graph_labels.diagnosis import GraphDiagnosis
    from .links.diagnosis import EventDiagnosis

SKETCHES = 12  # series that are drawn
_IRREGULAR = 0.5  # share of steps below which an axis is called irregular
_FEW, _SOME = 50, 500  # training windows that a baseline, and that a linear map, is content with
_NOT_SERIES = {field.name for data in (EventData, GraphData) for field in fields(data)} - {
    field.name for field in fields(DataConfig)
}
_MANY = 300  # aligned variates above which attention between all of them is dear


@dataclass(frozen=True)
class Sketch:
    """One series, or one variate of a wide table, on its regular axis."""

    name: str
    times: np.ndarray  # (T,) datetime64[us], or int64 steps
    values: np.ndarray  # (T,) float32, NaN where missing
    merged: np.ndarray  # rows that stand for several of the table
    strength: Strength


@dataclass(frozen=True)
class Diagnosis:
    """What `forecast doctor` found: `document` is what its `--json` prints."""

    document: Mapping[str, Any]
    source: str
    known: tuple[str, ...]  # covariates whose future is known
    steps: int  # of all series, gaps among them
    unread: str  # why no fit is suggested, empty where one is
    reason: str  # why this model is suggested
    strength: Strength  # median over a sample of the targets
    step: str  # in words
    periods: Mapping[int, str]  # candidate periods in words
    sketches: tuple[Sketch, ...]
    drawable: int  # series and variates that could be drawn
    absent: Mapping[str, int]  # missing values by variate, or by series, that have any, gaps left out
    library: table.Library
    _found: Understood

    @property
    def html(self) -> str:
        """The page: no scripts, no requests."""
        return diagnosis_page.render(self)

    @property
    def table(self) -> Any:
        """The clean table, in the frame library that the data came in; polars for a path."""
        return table.to_library(self._clean(), self.library)

    def _clean(self) -> pl.DataFrame:
        return clean_table(self._found.table, self._found.whole, self._found.split_col)

    def text(self, width: int = 80) -> str:
        """Give the page as lines of text of at most `width` characters, the command to run and names aside."""
        return diagnosis_text.text(self, width)

    def fix(self, path: str | Path) -> int:
        """Write the clean table (.csv or .parquet), in one go, and give its number of rows."""
        clean = self._clean()
        table.write(clean, path)
        return clean.height

    def save(self, path: str | Path) -> None:
        """Write the HTML page; the path holds the old file or the whole new one."""
        with table.replacing(Path(path)) as file:
            file.write(self.html.encode())


def doctor(
    data: Any, *, settings: Sequence[str] = (), kind: Kind | None = None, **options: Any
) -> "Diagnosis | EventDiagnosis | GraphDiagnosis":
    """Read `data` (path, polars or pandas, name of a catalogued set) as a fit would, and say what was found.

    `options` and `settings` (`section.key=value`) are those of `fit`: target, id_col, time_col, freq, … for series;
    src_col, dst_col, time_col, … for events; task, split_col, … for graphs, which may be a list of PyG's `Data`, too.
    `kind` is that of the data, found if not given. Nothing is written. Raises DataError for what a fit could not read
    either, UsageError for a wrong option.
    """
    if kind not in (None, *get_args(Kind)):
        raise UsageError(f"--kind {kind} is no kind of data.", f"Use {', '.join(get_args(Kind))}.")
    named = catalogue.named(data)
    keys = {*options, *(text.partition("=")[0].strip().removeprefix("data.") for text in settings)}
    source = data
    if isinstance(data, Sequence) and not isinstance(data, str):
        kind = "graphs"
    elif isinstance(named, EventCard):
        kind = "events"
    elif kind is None and keys & _NOT_SERIES:
        source = table.read(data)
        kind = "graphs" if looks_like(source) == "graphs" else "events"
    if kind not in (None, "series"):
        return _diagnosed(kind, data, source, settings, options)
    reader = "naive" if options.get("edges") is None else "darts-gt"
    # Which model the settings are for shows once the table is read; how it is read is checked before.
    reading = resolve(reader, settings=[s for s in settings if s.lstrip().startswith("data.")], flags=flags(**options))
    if named is None and reading.data.dataset is None:
        source = table.read(data, reading.data.decimal)
        kind = looks_like(source) if kind is None else kind
        if kind != "series":
            return _diagnosed(kind, data, source, settings, options)
    found = interpret(resolve(reader, settings=settings, flags=flags(**options)), source)
    frame, ledger = found.whole, found.table.ledger
    where = origin(found.table, frame)
    share, longer = step_share(where)
    if share < _IRREGULAR:
        told = f"{share:.0%} of the steps are {frame.frequency.alias}"
        ledger.caution("irregular", frame.schema.time or "", told, longer)
    absent = _absent(found, where)
    _note_outliers(found)
    planned, unread = None, ""
    try:
        planned = plan(found)
        if reader == "darts-gt":
            planned = on_graph(planned, ledger)
    except DataError as error:
        unread = f"{error.message} {error.hint}"
    _note_short(found, planned)
    periods = calendar.seasons(frame.frequency)
    usual = typical(found.frame, periods)
    graph: dict[str, Any] = {}
    model, reason = suggested(planned, usual) if planned is not None else ("", "")
    if planned is not None and planned.graph is not None:
        graph = {"graph": planned.facts["graph"]}
        model, reason = "darts-gt", f"{planned.facts['graph']['edges']:,} edges between the variates"
    suggestion = _suggestion(planned, model, data, settings, options) if planned is not None else None
    return Diagnosis(
        document=_document(found, share, absent, suggestion) | graph,
        source=found.table.origin,
        known=frame.schema.known,
        steps=int(where.offsets[-1]),
        unread=unread,
        reason=reason,
        strength=usual,
        step=_step(frame.frequency),
        periods={period: _named(period, frame.frequency) for period in periods},
        sketches=tuple(_sketches(frame, where, periods)),
        drawable=len(frame.keys) * frame.schema.targets,
        absent=absent if frame.schema.layout != "panel" else _absent_by_variate(frame),
        library=found.table.library,
        _found=found,
    )


def _diagnosed(
    kind: Kind, data: Any, source: Any, settings: Sequence[str], options: Mapping[str, Any]
) -> "EventDiagnosis | GraphDiagnosis":
    """The diagnosis of events or graphs; `source` is the table of `data` where it was read already."""
    from .graph_labels import diagnosis as of_graphs
    from .links import diagnosis as of_events

    model = "todyformer" if kind == "events" else "darts-gt"
    asked = resolve(model, settings=settings, flags=flags(**{**options, "kind": kind})).data
    options = {name: value for name, value in options.items() if value is not None}
    if kind == "events":
        return of_events.diagnose(data, read_events(source, asked), settings, options)
    return of_graphs.diagnose(data, read_graphs(source, asked), settings, options)


def suggested(planned: Read, usual: Strength) -> tuple[str, str]:
    """Give a model that is sensible and cheap for these data, and why; every fit scores the baselines beside it.

    With fewer than 50 training windows, over all targets, a season that holds 0.4 of the variance calls for
    `seasonal-naive`, none for `naive`; with fewer than 500 of all targets together a `linear` map, which all targets
    share, is as much as they can tell. With more, `itransformer`, which attends between all variates of a table; above
    300 variates, `s-mamba`, whose cost grows with their number and not with its square.
    """
    data = planned.config.data
    assert data.horizon is not None and data.lookback is not None
    first, last = planned.split.train.T
    first = np.maximum(first, planned.frame.offsets[:-1] + data.lookback)  # published borders begin behind it already
    windows = int(np.maximum(last - first - data.horizon + 1, 0).sum())
    variates = planned.frame.values.shape[1]
    told = f"{windows:,} training windows of {variates:,} variate{'' if variates == 1 else 's'}"
    if windows * planned.frame.schema.targets < _FEW:
        seasonal = max(usual.seasons.values(), default=0.0) >= 0.4
        return ("seasonal-naive" if seasonal else "naive"), f"only {told}"
    if windows < _SOME:
        return "linear", f"only {told}"
    return ("s-mamba" if variates > _MANY else "itransformer"), told


def _suggestion(
    planned: Read, model: str, data: Any, settings: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    lengths = {"lookback": planned.config.data.lookback, "horizon": planned.config.data.horizon}
    given = {name: value for name, value in options.items() if value is not None and name not in lengths}
    command = diagnosis_text.fit_command(data, model, settings, {**lengths, **given}, "frame")
    return {**lengths, "model": model, "command": command}


def _document(
    found: Understood, share: float, absent: Mapping[str, int], suggestion: Mapping[str, Any] | None
) -> dict[str, Any]:
    frame, schema = found.frame, found.frame.schema
    columns: dict[str, list[str]] = {
        "id": list(schema.ids),
        "time": list(schema.time_parts) or _names(schema.time),
        "values": list(schema.values),
        "left_out": left_out(found.table, schema),
    }
    if schema.known:
        columns["known_future"] = list(schema.known)
    return {
        "kind": "series",
        "layout": schema.layout,
        "rows": found.table.rows,
        "series": len(frame.names) if schema.layout == "panel" else len(frame.keys),
        "format": found.table.format,
        "columns": columns,
        "freq": frame.frequency.alias,
        "freq_share": round(share, 4),
        "span": span(frame, np.stack([frame.offsets[:-1], frame.offsets[1:]], axis=1)),
        "missing": dict(absent),
        **found.table.ledger.to_dict(),
        "suggest": suggestion,
    }


def _names(given: str | Sequence[str] | None) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _absent(found: Understood, where: Origin) -> dict[str, int]:
    """Cells without a value by value column, the most first; steps without a row are in the ledger.

    A suspected missing code counts as none.
    """
    frame = found.whole
    gaps = int(where.offsets[-1]) - len(where.places)
    counts = np.isnan(frame.values).sum(axis=0)
    if frame.schema.layout == "panel":
        counts = counts.sum(keepdims=True)
    absent = {name: int(count) - gaps for name, count in zip(frame.schema.values, counts, strict=True)}
    for caution in found.table.ledger.cautions:
        if caution.kind == "suspected-missing-code":
            absent[caution.column] = absent.get(caution.column, 0) + caution.count
    return {name: count for name, count in sorted(absent.items(), key=lambda pair: -pair[1]) if count > 0}


def _absent_by_variate(frame: SeriesFrame) -> dict[str, int]:
    counts = np.isnan(frame.values).sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    names = frame.names.cast(pl.String)
    return {names[int(number)]: int(counts[number]) for number in order if counts[number]}


def _note_outliers(found: Understood) -> None:
    frame, ledger = found.frame, found.table.ledger
    codes = {}
    for caution in ledger.cautions:
        if caution.kind == "suspected-missing-code":
            codes[caution.column] = float(caution.value)
    for one in outliers(frame, codes):
        value = np.format_float_positional(np.float32(one.value), trim="-")
        place = f" in {quoted(frame.keys[one.series])}" if len(frame.keys) > 1 else ""
        ledger.caution("outliers", one.name, f"{value}{place}", one.count)


def _note_short(found: Understood, planned: Read | None) -> None:
    """Caution for series that have no room for one window."""
    frame, lengths = found.frame, np.diff(found.frame.offsets)
    ledger = found.table.ledger
    said = [*(repair.kind for repair in ledger.repairs), *(caution.kind for caution in ledger.cautions)]
    if "series-dropped" in said or "short-series" in said:
        return
    needed = int(lengths.max()) + 1
    if planned is not None:
        data = planned.config.data
        assert data.horizon is not None and data.lookback is not None
        needed = data.lookback + data.horizon
    short = lengths < needed
    if short.any():
        key = str(frame.keys[int(short.argmax())])
        value = f"{int(lengths[short].min())} rows" + (f", first {quoted(key)}" if key else "")
        ledger.caution("short-series", frame.schema.id or "", value, int(short.sum()))


def _sketches(frame: SeriesFrame, where: Origin, periods: tuple[int, ...]) -> list[Sketch]:
    """Evenly spaced series and targets, the first and the last among them; not chosen by how they look."""
    targets, several = frame.schema.targets, len(frame.keys) > 1
    every = len(frame.keys) * targets
    panel = frame.schema.layout == "panel"
    names = frame.names.cast(pl.String)
    found = []
    for number in np.unique(np.linspace(0, every - 1, min(every, SKETCHES)).round().astype(np.int64)).tolist():
        series, variate = divmod(number, targets)
        begin, end = frame.offsets[series], frame.offsets[series + 1]
        own = where.offsets[variate if panel else series]
        merged = where.merged[(where.merged >= own) & (where.merged < own + end - begin)] - own
        times = calendar.times_at(frame.start[series], np.arange(end - begin), frame.frequency, frame.time_type.zone)
        name = str(frame.keys[series]) if several else names[variate]
        values = frame.values[begin:end, variate]
        found.append(
            Sketch(
                name if not several or targets == 1 else f"{name}, {names[variate]}",
                times if frame.frequency.unit == "step" else times.astype("datetime64[us]"),
                values,
                np.unique(merged),
                strength(values.astype(np.float64), periods),
            )
        )
    return found


def _step(frequency: calendar.Frequency) -> str:
    """A step in words: "1 hour", "15 minutes"."""
    if frequency.unit == "step":
        return "one of the time column" if frequency.count == 1 else f"{frequency.count} of the time column"
    units = [(12, "year"), (1, "month")]
    if frequency.unit == "us":
        units = [(week.WEEK, "week"), (week.DAY, "day"), (week.HOUR, "hour"), (week.MINUTE, "minute")]
        units += [(calendar.SECOND, "second"), (1, "microsecond")]
    size, unit = next((size, unit) for size, unit in units if frequency.count % size == 0)
    count = frequency.count // size
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _named(period: int, frequency: calendar.Frequency) -> str:
    """A period in words: "a day"."""
    if frequency.unit == "month":
        return "a year"
    size = period * frequency.count
    words = {week.HOUR: "an hour", week.DAY: "a day", week.WEEK: "a week", week.MINUTE: "a minute"}
    return words.get(size, "a year")
