"""A diagnosis as lines of text, for a terminal of any width."""

import os
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .diagnosis import Diagnosis

_BARS = "▁▂▃▄▅▆▇█"
_LISTED = 8  # names, columns and series that are listed one by one
LABEL = 11  # width of what stands left


def text(found: "Diagnosis", width: int) -> str:
    """The page: what the file is, its columns, how its series look, repairs, warnings, what to run next."""
    document = found.document
    lines = [headline(found), ""]
    for name, value in about(found).items():
        lines += folded(f"{name:<{LABEL}}", value, width)
    lines += ["", *_sketched(found, width), *_behaviour(found, width)]
    lines += ledger(document, width)
    suggestion = document["suggest"]
    lines += ["", "Next"]
    if suggestion is None:
        lines += folded("  ", f"A fit would be refused: {found.unread}", width)
    else:
        reason = f"{suggestion['model']} for {found.reason}, looking back {suggestion['lookback']} steps to forecast"
        lines += folded("  ", f"{reason} {suggestion['horizon']}:", width)
        lines += [f"  {suggestion['command']}"]
    return "\n".join(lines)


def fit_command(data: Any, model: str, settings: Sequence[str], options: Mapping[str, Any], frame: str) -> str:
    """The fit to run next with these settings and options: a command line for a path, else a call on `frame`."""
    if not isinstance(data, str | os.PathLike):
        given = {"model": model, **options, **({"settings": tuple(settings)} if settings else {})}
        return f"forecast.fit({frame}, {', '.join(f'{name}={value!r}' for name, value in given.items())})"
    words = ["forecast", "fit", os.fspath(data), "--model", model]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        plain = value if isinstance(value, str | int | float) else ",".join(map(str, value))
        words += [flag] if value is True else [flag, str(plain)]
    return shlex.join([*words, *(word for setting in settings for word in ("--set", setting))])


def ledger(document: Mapping[str, Any], width: int) -> list[str]:
    """Repairs and warnings, each under its heading."""
    lines = ["", f"Repairs{'' if document['repairs'] else ': none, the data are used as they were read'}"]
    for repair in document["repairs"]:
        head = f"  {repair['kind']:<18}{repair['count']:>9,}  "
        first = "first at " if repair["count"] > 1 else ""
        lines += folded(head, f"{first}{repair['first']}: {repair['detail']}", width)
    lines += ["", f"Warnings{'' if document['warnings'] else ': none'}"]
    for warning in document["warnings"]:
        lines += folded(f"  {warning['kind']:<22}{warning['count']:>5,}  ", told(warning), width)
    return lines


def headline(found: "Diagnosis") -> str:
    """What the file is, in a sentence."""
    document = found.document
    rows, series, values = document["rows"], document["series"], len(document["columns"]["values"])
    what = f"{series:,} series" if series > 1 else "one series"
    if document["layout"] == "wide" and values > 1:
        what = f"{values:,} columns on one time axis"
    elif document["layout"] == "channels" and values > 1:
        what += f" of {values:,} columns"
    return f"{found.source}: {rows:,} rows, {what}, step {document['freq']}"


def about(found: "Diagnosis") -> dict[str, str]:
    """Names and what they are: the format, the axis, what each column became."""
    document, columns = found.document, found.document["columns"]
    gaps = sum(repair["count"] for repair in document["repairs"] if repair["kind"] == "gap-filled")
    axis = f"{found.step} ({document['freq']}), {percent(document['freq_share'])} of the steps"
    axis += f"; {gaps:,} steps have no row" if gaps else ""
    lines = {
        "format": file_format(document["format"]),
        "span": " to ".join(
            time.replace("T", " ").removesuffix(":00").removesuffix(" 00:00") for time in document["span"]
        ),
        "step": axis,
        "id": listed(columns["id"]),
        "time": listed(columns["time"]) or "none: the rows are the steps",
        "values": listed(columns["values"]),
        "known": listed(list(found.known)),
        "left out": listed(columns["left_out"]),
        "layout": _LAYOUTS[document["layout"]],
        "missing": _missing(found),
    }
    return {name: value for name, value in lines.items() if value}


_LAYOUTS = {
    "wide": "wide: a row for each time, a column for each variate",
    "panel": "long: a row for each id and time; all ids share one time axis and are forecast together",
    "channels": "long: a row for each id and time; each id is a series of its own",
}


def told(warning: Mapping[str, Any]) -> str:
    """A warning in words."""
    return ": ".join(part for part in (warning["column"], warning["value"]) if part)


def behaviour(found: "Diagnosis") -> dict[str, str]:
    """Strength of each season and of the trend, in words."""
    seasons = {
        f"season of {period:,} steps, {found.periods[period]}": share
        for period, share in found.strength.seasons.items()
    }
    trend = {"trend": found.strength.trend} if np.isfinite(found.strength.trend) else {}
    most: dict[str, tuple[float, str]] = {}
    for sketch in found.sketches:
        each = {
            name: sketch.strength.seasons.get(period)
            for name, period in zip(seasons, found.strength.seasons, strict=True)
        }
        for name, share in (each | {"trend": sketch.strength.trend}).items():
            if share is not None and np.isfinite(share):
                most[name] = max(most.get(name, (0.0, "")), (share, sketch.name))
    lines = {}
    for name, share in (seasons | trend).items():
        lines[name] = f"{share:.2f}, {_degree(share)}"
        strongest, where = most.get(name, (0.0, ""))
        lines[name] += f"; {strongest:.2f} in {where}" if strongest > share + 0.1 else ""
    return lines


def percent(share: float) -> str:
    """A share in hundredths, with two digits unless it is all."""
    return "100%" if share == 1 else f"{share:.2%}"


def _degree(share: float) -> str:
    return next(
        word for least, word in ((0.6, "strong"), (0.3, "clear"), (0.1, "weak"), (0.0, "none")) if share >= least
    )


def file_format(given: Mapping[str, Any]) -> str:
    """What a table was read from, in words."""
    if "delimiter" not in given:
        return {"parquet": "Parquet", "frame": "a frame in memory"}.get(given["kind"], given["kind"])
    mark = {"\t": "tab", " ": "blank"}.get(given["delimiter"], f'"{given["delimiter"]}"')
    told = f"CSV split at {mark}, {given['encoding']}"
    told += f', decimal "{given["decimal"]}"' if given["decimal"] != "." else ""
    told += f', thousands "{given["thousands"]}"' if given["thousands"] else ""
    row = given["header_row"]
    return told + (", no header" if row is None else f", header in line {row + 1}" if row else "")


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest:,} more" if rest > 0 else "")


def _missing(found: "Diagnosis") -> str:
    """Share of missing values by variate, the worst first."""
    absent = found.absent
    each = (
        found.document["rows"]
        if found.document["layout"] != "panel"
        else found.document["rows"] // found.document["series"]
    )
    some = [f"{name} {count:,} ({count / each:.2%})" for name, count in list(absent.items())[:_LISTED]]
    rest = len(absent) - len(some)
    return ", ".join(some) + (f" and {rest:,} more" if rest > 0 else "")


def _sketched(found: "Diagnosis", width: int) -> list[str]:
    """A spark line of each of the first series, between its least and its greatest value."""
    shown = found.sketches[:: max(1, -(-len(found.sketches) // _LISTED))]
    names = [_short(sketch.name or "value", 18) for sketch in shown]
    ranges = [_range(sketch.values) for sketch in shown]
    left, right = max(map(len, names)), max(map(len, ranges))
    room = max(8, min(60, width - left - right - 6))
    lines = [
        f"  {name:<{left}}  {spark(sketch.values, room):<{room}}  {span:>{right}}"
        for name, sketch, span in zip(names, shown, ranges, strict=True)
    ]
    rest = found.drawable - len(shown)
    return [*lines, *([f"  and {rest:,} more"] if rest else [])]


def _behaviour(found: "Diagnosis", width: int) -> list[str]:
    lines = behaviour(found)
    if not lines:
        return []
    over = f"medians over {'a sample of ' if found.drawable > 100 else ''}the series" if found.drawable > 1 else ""
    left = max(map(len, lines))
    shown = [line for name, value in lines.items() for line in folded(f"  {name:<{left}}  ", value, width)]
    return ["", *shown, *([f"  {over}"] if over else [])]


def spark(values: np.ndarray, width: int) -> str:
    """At most `width` bars of equal stretches of the values, a blank where a stretch has none."""
    edges = np.linspace(0, len(values), min(width, len(values)) + 1).round().astype(int)
    seen = np.isfinite(values)
    sums = np.add.reduceat(np.where(seen, values, 0).astype(np.float64), edges[:-1])
    counts = np.add.reduceat(seen, edges[:-1], dtype=np.int64)
    known = counts > 0
    if not known.any():
        return ""
    means = np.where(known, sums / np.maximum(counts, 1), np.nan)
    low, high = np.nanmin(means), np.nanmax(means)
    level = np.zeros(len(means)) if high == low else (means - low) / (high - low)
    place = np.minimum(np.nan_to_num(level) * len(_BARS), len(_BARS) - 1).astype(int)
    return "".join(_BARS[bar] if there else " " for bar, there in zip(place, known, strict=True))


def _range(values: np.ndarray) -> str:
    seen = values[np.isfinite(values)]
    return f"{number(seen.min())} to {number(seen.max())}" if len(seen) else "nothing seen"


def number(value: float) -> str:
    """A number with four digits or all of its whole ones."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short(name: str, most: int) -> str:
    plain = " ".join(name.split())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def folded(head: str, body: str, width: int) -> list[str]:
    """Text behind a head, broken at blanks and brought under its beginning."""
    room = max(20, width - len(head))
    parts = textwrap.wrap(body, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{head}{parts[0]}", *(f"{'':<{len(head)}}{part}" for part in parts[1:])]
