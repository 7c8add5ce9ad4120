"""The page of an explanation: one self-contained HTML file in the manner of a run's report."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import figures, report

if TYPE_CHECKING:
    from .attention import AttentionMap, Profile
    from .explained import Explanation
    from .importance import Importance

_RANKED = 30  # inputs listed one by one

CAPTION = (
    "By how many per cent the MSE of each target (column) rises when the past of one input (row) is exchanged between "
    "windows. On the diagonal stands a target's own past; below 0 the exchange happened to help."
)
_BY_STEP = (
    "By how many per cent the MSE over all targets rises at each step of the horizon (column) when the past of one "
    "input (row) is exchanged between windows."
)
_ATTENDED = (
    "What share of the attention of helpful heads goes to each sensor, each head by how much it helps, averaged over "
    "the windows; a sensor's attention to itself is in it. It shows where these heads look; how much that changes the "
    "forecasts is told by the exchanges above."
)
_NOT_SHOWN = (
    "Importance says what this model uses, not what causes what: a variate that follows the true cause can be used in "
    "its place. Inputs that carry the same information share their importance, so that each may look small. An "
    "exchanged window can combine values that never occur together. All of it holds for these windows and this model."
)
_ATTENTION = (
    "Per cent of a token's attention (row) that goes to each token (column), averaged over heads and windows; rows sum "
    "to 100, and cells above an even share are tinted. It shows where the layer looks, not how much that changes the "
    "forecast: for this see the importance above. From the second layer on, a token already holds something of the "
    "others."
)
_PROFILES = {
    "selected": "The share of heads and windows in which a time step is among the queries that attend. The others take "
    "the mean of the values (in the decoder a running sum), so a step that is never selected is still read.",
    "received": "The attention in an encoder layer that goes to each time step, over heads, queries and windows; 1 is "
    "an even share. Queries that were not selected give every step the same.",
}


def heat(importance: "Importance") -> report.Heat:
    """Give the heat map of importance, from inputs to targets."""
    labels = [source.label for source in importance.sources]
    return report.Heat("exchanged input", labels, importance.targets, importance.relative())


def by_step(importance: "Importance") -> report.Heat:
    """Give the heat map of importance, from inputs to steps of the horizon."""
    labels = [source.label for source in importance.sources]
    return report.Heat("exchanged input, by step", labels, importance.bands(), importance.by_band())


def render(explanation: "Explanation") -> str:
    """The whole page as HTML text: no scripts, no requests."""
    found = explanation.importance
    about = {
        "Model": explanation.model,
        "Data": explanation.source,
        "Windows": found.windows,
        "Forecast steps": " to ".join(explanation.span),
        "Training part": "not among them" if explanation.unseen else "may be among them",
        "Repeats, seed": f"{explanation.repeats}, {explanation.seed}",
        "MSE, scaled": found.base("mse"),
        "MAE, original units": found.base("mae"),
    }
    sections = {
        "What the forecasts use": _ranking(found),
        "From input to target": f"<p>{report.escaped(CAPTION)}</p>\n{report.heat_map(heat(found))}",
        "From input to step of the horizon": f"<p>{_BY_STEP}</p>\n{report.heat_map(by_step(found))}",
        "Heads": "" if explanation.sensors is None else explanation.sensors.section(),
        "Sensors that are attended to": _attended(explanation),
        "Where the attention goes": _attention(explanation.attention),
        "Which steps attend": _profiles([part for part in explanation.profiles if part.measure == "selected"]),
        "Which steps are attended to": _profiles([part for part in explanation.profiles if part.measure == "received"]),
        "What this does not show": f"<p>{_NOT_SHOWN}</p>\n",
        "Windows": report.facts(about),
    }
    line = f"<p>{report.escaped(explanation.about_others())}</p>"
    title = f"{explanation.model} explained on {Path(explanation.source).name}"
    return report.shell(title, "open", explanation.headline(), line, sections)


def _ranking(found: "Importance") -> str:
    """Inputs by their importance over all targets, the largest first."""
    (mse, mse_sd), (mae, mae_sd), share = found.overall("mse"), found.overall("mae"), found.share()
    order = np.argsort(-mse, kind="stable")[:_RANKED]
    columns = [_rounded(part[order], mean[order]) for mean, sd in ((mse, mse_sd), (mae, mae_sd)) for part in (mean, sd)]
    rows = []
    for number, *cells in zip(order, *columns, strict=True):
        width = f'<span class="meter"><i style="width:{100 * share[number]:.1f}%"></i></span>'
        numbers = "".join(f"<td>{cell}</td>" for cell in cells)
        name = report.escaped(found.sources[number].label)
        rows.append(
            f'<tr><th class="name" scope="row">{name}</th>{numbers}<td>{100 * share[number]:.1f}%</td><td>{width}</td>'
            "</tr>\n"
        )
    head = "<tr><th>exchanged input</th><th>MSE rises by</th><th>±</th><th>MAE rises by</th><th>±</th>"
    head += "<th>share</th><th></th></tr>"
    note = "MSE on the scaled axis, MAE in original units, over all targets; ± is the standard deviation over repeats."
    if len(order) < len(mse):
        note += f" Not listed: {len(mse) - len(order):,} more, together {100 * (1 - share[order].sum()):.1f}%."
    return report.table(head, rows) + f'<p class="note">{note}</p>\n'


def _rounded(values: np.ndarray, like: np.ndarray) -> list[str]:
    """Numbers with decimals in common: four digits for the largest of `like`, for which the smallest may become 0."""
    most = float(np.abs(like).max())
    decimals = max(0, 3 - math.floor(math.log10(most))) if most > 0 else 0
    return [f"{value:,.{decimals}f}".replace("-", report.MINUS) for value in (values + 0.0).tolist()]


def _attended(explanation: "Explanation") -> str:
    if explanation.sensors is None:
        return ""
    attended, names = explanation.sensors.attended, explanation.variates()
    rows = []
    for number in np.argsort(-attended, kind="stable")[:_RANKED]:
        width = f'<span class="meter"><i style="width:{100 * attended[number]:.1f}%"></i></span>'
        name = report.escaped(names[number])
        cells = f"<td>{100 * attended[number]:.1f}%</td><td>{width}</td>"
        rows.append(f'<tr><th class="name" scope="row">{name}</th>{cells}</tr>\n')
    head = "<tr><th>sensor</th><th>attended to</th><th></th></tr>"
    return f"<p>{_ATTENDED}</p>\n{report.table(head, rows)}"


def _attention(layers: "tuple[AttentionMap, ...]") -> str:
    if not layers:
        return ""
    maps = (
        f"<h3>Layer {layer.layer}</h3>\n"
        + report.heat_map(
            report.Heat("from, to", layer.tokens, layer.tokens, 100 * layer.share, even=100 / len(layer.tokens))
        )
        for layer in layers
    )
    return f"<p>{_ATTENTION}</p>\n{''.join(maps)}"


def _profiles(found: "list[Profile]") -> str:
    """One figure for the encoder and one for the decoder, a line a layer."""
    if not found:
        return ""
    measure, cards = found[0].measure, []
    for part in ("encoder", "decoder"):
        unit = {one.place: len(one.share) if measure == "received" else 1 for one in found}
        lines = {one.place: (one.steps, one.share * unit[one.place]) for one in found if one.place.startswith(part)}
        if lines:
            look = figures.looks(next(iter(lines)), lines)
            keys = [report.legend_key(name, look[name]) for name in lines]
            drawing = figures.profile_figure(f"{measure} {part}", f"{measure}, {part}, by step", lines, measure)
            cards.append(report.card(f"<b>{part.capitalize()}</b>", report.legend(keys), drawing))
    return f'<p>{_PROFILES[measure]}</p>\n<div class="grid">\n{"".join(cards)}</div>\n'
