"""What the report of a fit on sensors shows besides: errors at single steps, and what a search found.

The module knows plain values only, of the document of the fit.
"""

from collections.abc import Mapping
from typing import Any

from .report import DASH, aligned, escaped, table


def sections(document: Mapping[str, Any]) -> dict[str, str]:
    """Give HTML by heading; "" for what the document does not have."""
    return {"Errors at single steps": _steps(document), "The search": _search(document)}


def _steps(document: Mapping[str, Any]) -> str:
    rows = {**document["scores"], **document.get("controls", {})}
    first = next(iter(rows.values())).get("steps", {})
    if not first:
        return ""
    names = [(step, name) for step, errors in first.items() for name in errors]
    heads = "".join(f"<th>{name.upper()} at step {step}</th>" for step, name in names)
    body = [_row(who, [found["steps"][step][name] for step, name in names]) for who, found in rows.items()]
    return table(f"<tr><th>original units, MAPE in per cent</th>{heads}</tr>", body)


def _search(document: Mapping[str, Any]) -> str:
    found = document.get("search")
    if found is None:
        return ""
    scores = {document["model"]: document["scores"][document["model"]], **document["controls"]}
    controls = [
        _row(who, [one["scaled"]["mse"], one["scaled"]["mae"], one["original"]["mae"], one["original"]["rmse"]])
        for who, one in scores.items()
    ]
    kinds = "".join(f"<th>{name}</th>" for name in ("MSE, scaled", "MAE, scaled", "MAE", "RMSE"))
    beside = table(f"<tr><th>one operator in every layer instead, trained alike</th>{kinds}</tr>", controls)
    return f"{architecture(found)}{beside}"


def architecture(found: Mapping[str, Any]) -> str:
    """What a search found, and how surely: which layers are undecided, and what fills them."""
    heads = "".join(f"<th>{escaped(name)}</th>" for name in found["candidates"])
    layers = zip(found["operators"], found["probabilities"], found["verdicts"], strict=True)
    body = []
    for number, (operator, shares, verdict) in enumerate(layers, start=1):
        cells = "".join(f"<td>{aligned([share])[0]}</td>" for share in shares)
        name = f'<th class="name" scope="row">layer {number}: {escaped(operator)}</th>'
        body.append(f'<tr>{name}{cells}<td class="name">{escaped(verdict)}</td></tr>\n')
    epochs = found["epochs"]
    chosen = table(f"<tr><th>probability of each candidate</th>{heads}<th></th></tr>", body)
    return (
        f'{chosen}<p class="note">After {epochs} epoch{"" if epochs == 1 else "s"}. The margin is that of the two best '
        "candidates. The evidence says how far the held targets ask for the one rather than the other more than "
        "shuffled targets do, in deviations of a standard normal: noise seldom gives more than 2.</p>\n"
    )


def _row(name: str, values: list[float | None]) -> str:
    cells = "".join(f"<td>{DASH if value is None else aligned([value])[0]}</td>" for value in values)
    return f'<tr><th class="name" scope="row">{escaped(name)}</th>{cells}</tr>\n'
