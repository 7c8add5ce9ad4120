"""Figures of a report as inline SVG, drawn with role colours that the page's style sheet resolves.

One drawing serves the light and the dark scheme. Only numbers and dates are drawn: names, which may be of any
script and length, stay in the HTML around a figure, and so do the legends.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Look(NamedTuple):
    """How one method is drawn, the same in every figure: a colour's role, and dashes in line widths."""

    role: str
    dash: tuple[float, ...] = ()


MEASURED = Look("ink")
MODEL = Look("model")
TRAINING = Look("muted", (5.0, 2.0))
SERIES, GAP, MERGED = Look("model"), Look("b1"), Look("b5")
BAND = 0.2  # opacity of one band; bands lie on each other
BASELINES = ("b1", "b2", "b3", "b4", "b5")

_ROLES = ("ink", "muted", "rule", "model", *BASELINES)
_HUES = {role: f"#0000{place:02x}" for place, role in enumerate(_ROLES, start=1)}  # black would not be written out
_DASHES = ((5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0), (3.0, 1.0))
_THIN, _THICK = 1.2, 1.7
_STRETCHES = 600  # of a long series
_LONG = 1e4  # numbers from here on, seconds since 1970 say, take the space of several ticks
_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": _HUES["rule"],
    "axes.labelcolor": _HUES["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.xmargin": 0.02,
    "grid.color": _HUES["rule"],
    "grid.linewidth": 0.5,
    "xtick.color": _HUES["rule"],
    "ytick.color": _HUES["rule"],
    "xtick.labelcolor": _HUES["muted"],
    "ytick.labelcolor": _HUES["muted"],
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


def looks(model: str, names: Iterable[str]) -> dict[str, Look]:
    """One look a method: the model's is fixed, the others take theirs in the order of their first mention."""
    others = [name for name in dict.fromkeys(names) if name != model]
    pairs = ((BASELINES[i % len(BASELINES)], _DASHES[i % len(_DASHES)]) for i in range(len(others)))
    return {model: MODEL} | {name: Look(*pair) for name, pair in zip(others, pairs, strict=True)}


class _Figure:
    """Axes to draw on, and the SVG text once that is done."""

    axes: "Axes"
    svg: str


@contextmanager
def _figure(key: str, label: str) -> Iterator[_Figure]:
    """Axes to draw on; `svg` is there at the end. `key` keeps the figure's ids apart from those of others."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a page does not depend on someone's matplotlibrc
        matplotlib.rcParams.update(_SETTINGS | {"svg.hashsalt": key})
        canvas = Figure(figsize=(4.5, 2.25), layout="constrained")
        figure = _Figure()
        figure.axes = canvas.subplots()
        yield figure
        file = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(file, format="svg", transparent=True, metadata=metadata)
        figure.svg = _inline(file.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """A drawing of matplotlib as part of a page: no prologue, no fixed size, no style sheet, role colours."""
    head, body = re.split(r"(?<=>)", svg[svg.index("<svg") :], maxsplit=1)
    box = head[head.index('viewBox="') :].split('"')[1]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    # the page's own font; releases of matplotlib spell it in either way
    body = re.sub(r"font-family: [^;\"]*; |(?<=font: \dpx) [^;\"]*", "", body)
    body = body.replace("font: ", "font-size: ").replace("xlink:href", "href")
    body = re.sub(r' (?:d|x|y)="[^"]*"', _round, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = re.sub(r"#0000(\w\w)\b", lambda hue: f"var(--{_ROLES[int(hue[1], 16) - 1]})", body)
    return f'<svg class="plot" viewBox="{box}" role="img" aria-label="{escape(label)}">{body.strip()}\n'


def _round(attribute: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", attribute[0])


def _line(axes: "Axes", x: np.ndarray, y: np.ndarray, look: Look, width: float = _THIN) -> None:
    """A line with gaps where `y` is not finite; a point without neighbours is a dot."""
    seen = np.isfinite(y)
    style = (0, look.dash) if look.dash else "-"
    axes.plot(x, np.where(seen, y, np.nan), color=_HUES[look.role], linestyle=style, linewidth=width)
    padded = np.pad(seen, 1)
    alone = seen & ~padded[:-2] & ~padded[2:]
    if alone.any():
        axes.plot(x[alone], y[alone], "o", color=_HUES[look.role], markersize=3)


def forecast_figure(
    key: str,
    label: str,
    times: np.ndarray,
    measured: np.ndarray,
    forecast: np.ndarray,
    bands: Mapping[int, tuple[np.ndarray, np.ndarray]],
    baseline: np.ndarray,
    look: Look,
) -> str:
    """A forecast with its bands over what was measured, beside a baseline drawn as `look`.

    `times` (datetime64 or integers) and `measured` hold the past and then the `H` steps of `forecast`, of
    `bands` (level in percent -> lower and upper bound) and of `baseline`.
    """
    steps = len(forecast)
    keep = steps + max(2 * steps, 48)  # a longer past would squeeze the forecast
    with _figure(key, label) as figure:
        axes = figure.axes
        x = _positions(axes, times[-keep:])
        future = x[-steps:]
        for level in sorted(bands, reverse=True):
            lower, upper = (np.where(np.isfinite(bound), bound, np.nan) for bound in bands[level])
            if steps > 1:
                axes.fill_between(future, lower, upper, color=_HUES["model"], alpha=BAND, linewidth=0)
            else:
                axes.vlines(future, lower, upper, color=_HUES["model"], alpha=BAND, linewidth=5)
        if len(x) > steps:
            axes.axvline(float(x[-steps - 1] + x[-steps]) / 2, color=_HUES["muted"], linewidth=0.7)
        _line(axes, x, measured[-keep:], MEASURED, 1.0)
        _line(axes, future, baseline, look)
        _line(axes, future, forecast, MODEL, _THICK)
    return figure.svg


def series_figure(key: str, label: str, times: np.ndarray, values: np.ndarray, merged: np.ndarray) -> str:
    """A whole series (T,) over its times, NaN where missing: what is missing is shaded, `merged` rows are marked.

    A long series is drawn as mean and range of each of 600 stretches; one that lacks some values has a mark below.
    """
    edges = np.unique(np.linspace(0, len(values), min(len(values), _STRETCHES) + 1).round().astype(np.int64))
    seen = np.isfinite(values)
    share = np.add.reduceat(seen, edges[:-1], dtype=np.int64) / np.diff(edges)
    low = np.minimum.reduceat(np.where(seen, values, np.inf), edges[:-1])
    high = np.maximum.reduceat(np.where(seen, values, -np.inf), edges[:-1])
    low, high = (np.where(share > 0, bound, np.nan) for bound in (low, high))
    with _figure(key, label) as figure:
        axes = figure.axes
        x = _positions(axes, times)[edges[:-1]]
        if len(x) < len(values):
            sums = np.add.reduceat(np.where(seen, values, 0).astype(np.float64), edges[:-1])
            mean = np.where(share > 0, sums / np.maximum(share * np.diff(edges), 1), np.nan)
            axes.fill_between(x, low, high, color=_HUES[SERIES.role], alpha=0.4, linewidth=0.6)
            _line(axes, x, mean, SERIES, 0.9)
        else:
            _line(axes, x, values, SERIES, 1.0)
        width = (x[-1] - x[0]) / max(1, len(x) - 1)
        bare = np.flatnonzero(np.diff(np.concatenate([[False], share == 0, [False]]).astype(np.int8)))
        for first, last in bare.reshape(-1, 2):
            axes.axvspan(x[first] - width / 2, x[last - 1] + width / 2, color=_HUES[GAP.role], alpha=0.3, linewidth=0)
        for at, height, look in (((share > 0) & (share < 1), 0.02, GAP), (_holding(edges, merged), 0.97, MERGED)):
            place, hue = axes.get_xaxis_transform(), _HUES[look.role]
            axes.plot(x[at], np.full(int(at.sum()), height), "|", color=hue, markersize=4, transform=place)
    return figure.svg


def _holding(edges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which stretches hold any of the rows."""
    held = np.zeros(len(edges) - 1, bool)
    held[np.searchsorted(edges, rows, side="right") - 1] = True
    return held


def _positions(axes: "Axes", times: np.ndarray) -> np.ndarray:
    """Where `times` stand on the axis, with ticks that suit them."""
    from matplotlib import dates

    if not np.issubdtype(times.dtype, np.datetime64):
        _whole_ticks(axes, 6)
        return times.astype(float)
    x = np.array(dates.date2num(times), dtype=np.float64)  # type: ignore[no-untyped-call]
    first, last = dates.num2date(x[[0, -1]])  # type: ignore[no-untyped-call]
    locator = dates.AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    ticks = np.array(locator.tick_values(first, last), dtype=np.float64)  # type: ignore[no-untyped-call]
    ticks = ticks[(ticks >= x[0]) & (ticks <= x[-1])]
    gaps = np.diff(ticks)
    if gaps.size:  # every third day ends in 28, 31, 1: two labels on one spot
        ticks = ticks[np.append(gaps > 0.6 * np.median(gaps), True)]
    axes.set_xticks(ticks)
    formats = ((1500, "%Y"), (150, "%b %Y"), (4, "%d %b"), (0.02, "%d %b\n%H:%M"))  # by days shown
    form = next((form for days, form in formats if x[-1] - x[0] >= days), "%H:%M:%S")
    axes.xaxis.set_major_formatter(dates.DateFormatter(form))  # type: ignore[no-untyped-call]
    return x


def _whole_ticks(axes: "Axes", most: int = 8) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))


def steps_figure(errors: Mapping[str, np.ndarray], look: Mapping[str, Look]) -> str:
    """Scaled MSE of every method by horizon step, (H,) each."""
    with _figure("steps", "Scaled MSE by horizon step") as figure:
        for name in reversed(list(errors)):  # the model, named first, lies on top
            x = np.arange(1, len(errors[name]) + 1)
            _line(figure.axes, x, errors[name], look[name], _THICK if look[name] == MODEL else _THIN)
        figure.axes.set_ylim(bottom=0)
        figure.axes.set(xlabel="step ahead", ylabel="MSE, scaled")
        _whole_ticks(figure.axes)
    return figure.svg


def profile_figure(key: str, label: str, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], ylabel: str) -> str:
    """Shares (T,) over steps (T,), 0 being the last known one, a line for each of `lines`."""
    look = looks(next(iter(lines)), lines)
    with _figure(key, label) as figure:
        for name, (steps, share) in lines.items():
            _line(figure.axes, steps, share, look[name])
        figure.axes.axvline(0.5, color=_HUES["muted"], linewidth=0.7)
        figure.axes.set_ylim(bottom=0)
        figure.axes.set(xlabel="steps after the last known value", ylabel=ylabel)
        _whole_ticks(figure.axes)
    return figure.svg


def lines_figure(
    key: str,
    label: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    look: Mapping[str, Look],
    xlabel: str,
    ylabel: str,
    *,
    kept: float | None = None,
    diagonal: bool = False,
    log: bool = False,
) -> str:
    """A line for each of `lines`: numbers or times (n,), and values (n,); the first named lies on top.

    `kept` is an epoch to mark, and values need not begin at 0 then; `diagonal` is the line on which both axes are
    equal, `log` a logarithmic x axis.
    """
    with _figure(key, label) as figure:
        axes = figure.axes
        if log:
            axes.set_xscale("log")
        if diagonal:
            most = max(float(np.max(side)) for line in lines.values() for side in line)
            axes.plot([0, most], [0, most], color=_HUES["muted"], linewidth=0.7)
        if kept is not None:
            axes.axvline(kept, color=_HUES["muted"], linewidth=0.7)
        for name, (x, y) in reversed(list(lines.items())):
            if np.issubdtype(x.dtype, np.datetime64):
                places = _positions(axes, x)
            else:
                places = x.astype(float)
                if not log and np.abs(places).max() >= _LONG:
                    axes.locator_params(axis="x", nbins=4)
            _line(axes, places, y, look[name], _THICK if look[name] == MODEL else _THIN)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if kept is None:
            axes.set_ylim(bottom=0)
        else:
            _whole_ticks(axes)
    return figure.svg


def counts_figure(key: str, label: str, counts: Mapping[str, np.ndarray], axes: tuple[str, str]) -> str:
    """The share of things that have at least so many, on logarithmic `axes`, a line for each of `counts` (N,)."""
    look = looks(next(iter(counts)), counts)
    with _figure(key, label) as figure:
        for name, each in counts.items():
            steps, first = np.unique(np.sort(each), return_index=True)
            _line(figure.axes, steps, 1 - first / len(each), look[name])
        figure.axes.set(xscale="log", yscale="log", xlabel=axes[0], ylabel=axes[1])
    return figure.svg


def leaderboard_figure(
    key: str,
    label: str,
    horizons: Sequence[int],
    errors: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    look: Mapping[str, Look],
) -> str:
    """Scaled MSE of several methods by horizon: a dot with its spread over seeds, and a ring for the published value.

    `errors` holds means, deviations and published values, (len(horizons),) each, NaN where there is none.
    """
    with _figure(key, label) as figure:
        axes = figure.axes
        places = np.arange(len(horizons), dtype=float)
        beside = np.linspace(-0.25, 0.25, len(errors)) if len(errors) > 1 else np.zeros(1)
        for shift, (name, (mean, deviation, published)) in zip(beside, errors.items(), strict=True):
            hue, x = _HUES[look[name].role], places + shift
            axes.plot(x, mean, color=hue, linestyle=(0, look[name].dash) if look[name].dash else "-", linewidth=0.7)
            axes.vlines(x, mean - deviation, mean + deviation, color=hue, linewidth=_THICK)
            axes.plot(x, mean, "o", color=hue, markersize=4)
            axes.plot(x, published, "o", markeredgecolor=hue, markerfacecolor="none", markersize=8)
        axes.set_xticks(places, [str(horizon) for horizon in horizons])
        axes.set_xlim(-0.5, len(horizons) - 0.5)
        axes.set(xlabel="horizon, steps", ylabel="MSE, scaled")
    return figure.svg


def graph_figure(
    key: str,
    label: str,
    places: np.ndarray,
    edges: np.ndarray,
    letters: Sequence[str],
    weight: np.ndarray,
    top: np.ndarray,
) -> str:
    """A graph with nodes at `places` (N, 2) and edges (2, E): the larger the `weight` (N,), the stronger the ground.

    Nodes of `top` are ringed. A node without a letter is a dot.
    """
    with _figure(key, label) as figure:
        axes = figure.axes
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.08)
        ends = places[edges]  # (2, E, 2)
        named = np.array([bool(letter) for letter in letters])[edges][..., None]
        along = ends[::-1] - ends
        short = ends + np.where(named, 0.24, 0.0) * along  # room for letters
        axes.plot(*np.moveaxis(short, 2, 0), color=_HUES["muted"], linewidth=1.0)
        strength = 0.6 * weight / weight.max() if weight.max() > 0 else weight
        for (x, y), letter, ground in zip(places, letters, strength, strict=True):
            axes.plot(x, y, "o", color=_HUES["b1"], alpha=float(ground), markersize=15, markeredgewidth=0)
            if letter:
                axes.text(x, y, letter, ha="center", va="center_baseline", color=_HUES["ink"], fontsize=8)
            else:
                axes.plot(x, y, "o", color=_HUES["ink"], markersize=3)
        ring = _HUES["b1"]
        axes.plot(*places[top].T, "o", markersize=16, markerfacecolor="none", markeredgecolor=ring, markeredgewidth=1.6)
    return figure.svg


def curve_figure(curve: Sequence[tuple[int, float, float]], best: int) -> str:
    """Training and validation loss by epoch, with the kept epoch marked."""
    epochs, training, validation = np.array(curve, dtype=float).T
    with _figure("curve", f"Training and validation loss by epoch; epoch {best} was kept") as figure:
        axes = figure.axes
        _line(axes, epochs, training, TRAINING)
        _line(axes, epochs, validation, MODEL, _THICK)
        kept = epochs == best
        if kept.any():
            axes.axvline(best, color=_HUES["muted"], linewidth=0.7)
            axes.plot(epochs[kept], validation[kept], "o", color=_HUES["model"], markersize=5)
        axes.set(xlabel="epoch", ylabel="loss")
        _whole_ticks(axes)
    return figure.svg
