"""Cards of public data sets: what a file holds, how the papers split it, who may use it, where it comes from.

A card is a YAML file whose keys are the fields of `Card`, or of `EventCard` where it says `kind: events`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import ArtifactError

PARTS = ("train", "validation", "test")
Borders = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # half-open rows of PARTS


@dataclass(frozen=True)
class Shares:
    """A split by shares of the rows. The published loaders round in three ways, and each loses other rows.

    `rest-to-validation`: train and test are rounded down, validation is what lies between.
    `each-floored`: all three are rounded down; test ends at the last row.
    `borders-floored`: the two borders are rounded down.
    """

    train: float
    validation: float
    test: float
    rounding: str

    def cut(self, rows: int) -> Borders:
        """Give the three segments of a table of `rows` rows."""
        train = int(self.train * rows)
        test = rows - int(self.test * rows)
        if self.rounding == "rest-to-validation":
            return (0, train), (train, test), (test, rows)
        if self.rounding == "each-floored":
            return (0, train), (train, train + int(self.validation * rows)), (test, rows)
        border = int((self.train + self.validation) * rows)
        return (0, train), (train, border), (border, rows)


ROUNDINGS = ("rest-to-validation", "each-floored", "borders-floored")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a public data set; the keys of its YAML file are these fields."""

    name: str  # the word typed on the command line, and the stem of the card's file
    title: str
    files: tuple[str, ...]  # accepted file names, the preferred one first
    time: str | None  # time column; None: the rows are the axis
    variates: tuple[str, ...] | int  # value columns, or how many where the file or this card does not name them
    target: str | None  # what a univariate forecast is of; None: nothing is singled out
    freq: str  # pandas offset alias of a step
    rows: int
    split: Borders | Shares
    overlap: bool  # validation and test may look back into the part before
    marks: bool  # there are dates to make calendar features of
    licence: str
    address: str  # public page that leads to the file
    sha256: Mapping[str, str | None]  # by file name; None where no sum is known
    note: str | None  # known flaws

    @property
    def width(self) -> int:
        """Number of variates."""
        return self.variates if isinstance(self.variates, int) else len(self.variates)


@dataclass(frozen=True, kw_only=True)
class EventCard:
    """What is known of a public set of events; the keys of its YAML file are these fields, and `kind: events`."""

    name: str  # the word typed on the command line, and the stem of the card's file
    title: str
    files: tuple[str, ...]  # accepted file names, the preferred one first
    src: str  # columns of the published file; "0", "1", … where it has no header
    dst: str
    time: str
    label: str | None
    features: int  # further columns of numbers
    bipartite: bool  # sources and destinations are nodes of two kinds, each with ids of its own
    directed: bool
    rows: int  # events
    nodes: int
    split: tuple[float, float, float]  # training and validation end at these quantiles of the times
    licence: str
    address: str  # public page that leads to the file
    sha256: Mapping[str, str | None]  # by file name; None where no sum is known
    note: str | None  # known flaws

    @property
    def freq(self) -> None:
        """Events have no step."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Give a hint of what may have been meant, by the whole name or by its last part."""
    names = {spelling: name for name in known for spelling in (name.rsplit("/")[-1], name)}
    wanted = name.lower()
    close = [
        *difflib.get_close_matches(wanted, names, n=3),
        *difflib.get_close_matches(wanted.rsplit("/")[-1], names, n=3),
    ]
    found = list(dict.fromkeys(names[spelling] for spelling in close))[:3]
    if found:
        return f"Did you mean {' or '.join(found)}?"
    return f"Known are: {', '.join(sorted(set(names.values())))}."


# ---- reading a card ----


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and len(set(map(str, value))) == len(value) > 0 and all(map(_is_text, value))


def _is_sum(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"))


def _is_sums(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value)) and all(map(_is_sum, value.values()))


def _is_split(value: object) -> bool:
    return isinstance(value, dict) and (_is_rows(value) or _is_shares(value))


def _is_rows(value: Mapping[str, Any]) -> bool:
    if set(value) != set(PARTS) or not all(isinstance(value[part], list) for part in PARTS):
        return False
    edges = [edge for part in PARTS for edge in value[part]]
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) and edge >= 0 for edge in edges)
    return whole and all(len(value[part]) == 2 for part in PARTS) and edges == sorted(edges)


def _is_shares(value: Mapping[str, Any]) -> bool:
    return set(value) == {*PARTS, "rounding"} and value["rounding"] in ROUNDINGS and _sums_to_one(value)


def _sums_to_one(value: Mapping[str, Any]) -> bool:
    shares = [value[part] for part in PARTS]
    return all(isinstance(share, float) and 0 < share < 1 for share in shares) and abs(sum(shares) - 1) < 1e-9


Rules = dict[str, tuple[Callable[[object], bool], str]]

_COMMON: Rules = {
    "name": (_is_text, "text"),
    "title": (_is_text, "text"),
    "files": (_is_names, "a list of file names"),
    "rows": (_is_count, "a positive whole number"),
    "licence": (_is_text, "text"),
    "address": (lambda value: isinstance(value, str) and value.startswith("https://"), "an https address"),
    "sha256": (_is_sums, "a SHA-256 sum in hexadecimal, or null, for each file"),
    "note": (lambda value: value is None or _is_text(value), "text or null"),
}
_RULES: Rules = _COMMON | {
    "time": (lambda value: value is None or _is_text(value), "a column name or null"),
    "variates": (lambda value: _is_count(value) or _is_names(value), "a list of column names or a count"),
    "target": (lambda value: value is None or _is_text(value), "a column name or null"),
    "freq": (_is_text, "a pandas offset alias"),
    "split": (
        _is_split,
        "a pair of rows, or a share and `rounding`, for train, validation and test, in time order",
    ),
    "overlap": (_is_truth, "true or false"),
    "marks": (_is_truth, "true or false"),
}
_EVENT_RULES: Rules = _COMMON | {
    **dict.fromkeys(("src", "dst", "time"), (_is_text, "a column name")),
    "label": (lambda value: value is None or _is_text(value), "a column name or null"),
    "features": (lambda value: value == 0 or _is_count(value), "a whole number"),
    "bipartite": (_is_truth, "true or false"),
    "directed": (_is_truth, "true or false"),
    "nodes": (_is_count, "a positive whole number"),
    "split": (
        lambda value: isinstance(value, dict) and set(value) == set(PARTS) and _sums_to_one(value),
        "a share of the time's quantiles for train, validation and test",
    ),
}


def parse(path: Path) -> Card | EventCard:
    """Read and check one card. Raises ArtifactError that names the file and the key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not readable as YAML ({error}).", "Mend the card.") from error
    if not isinstance(content, dict):
        known = ", ".join(field.name for field in fields(Card))
        raise ArtifactError(f"{path}: a card is a mapping, not {type(content).__name__}.", f"Keys: {known}.")
    kind = content.pop("kind", "series")
    if kind not in ("series", "events"):
        raise ArtifactError(f"{path}: kind is {kind!r}.", "It must be events, or left out for series.")
    _check(path, content, [field.name for field in fields(EventCard if kind == "events" else Card)], kind)
    content = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    split = content["split"]
    if kind == "events":
        return EventCard(**content | {"split": tuple(split[part] for part in PARTS)})
    content["split"] = Shares(**split) if "rounding" in split else tuple(tuple(split[part]) for part in PARTS)
    result = Card(**content)
    if isinstance(result.variates, tuple) and result.target is not None and result.target not in result.variates:
        raise ArtifactError(f"{path}: target {result.target!r} is not among the variates.", "Name one of them.")
    if not isinstance(result.split, Shares) and result.split[-1][1] > result.rows:
        raise ArtifactError(f"{path}: split ends after the last of {result.rows} rows.", "Correct split or rows.")
    return result


def _check(path: Path, content: Mapping[str, Any], known: list[str], kind: str) -> None:
    rules = _EVENT_RULES if kind == "events" else _RULES
    for key in content:
        if key not in known:
            raise ArtifactError(f"{path}: {key!r} is not a key of a card.", nearest_name(str(key), known))
    for key in known:
        if key not in content:
            raise ArtifactError(f"{path}: the key {key!r} is missing.", f"Add `{key}:`: {rules[key][1]}.")
        valid, meaning = rules[key]
        if not valid(content[key]):
            raise ArtifactError(f"{path}: {key} is {content[key]!r}.", f"It must be {meaning}.")
    if content["name"] != path.stem:
        raise ArtifactError(f"{path}: name is {content['name']!r}.", f"It must be that of the file, {path.stem}.")
    if set(content["sha256"]) != set(content["files"]):
        raise ArtifactError(f"{path}: sha256 lists other files than `files`.", "Give each file a sum or null.")
