"""The catalogue: public data sets as cards, where their files lie, and the published settings beside them.

A card is a YAML file in `datasets/` that says what a file holds, how the papers split it, who may use it and
where it comes from. Files are taken from the folder in FORECAST_DATA, or from those that ship with the
package.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import yaml

from ..errors import ArtifactError, DataError, UsageError

if TYPE_CHECKING:
    import polars as pl

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


def cards() -> dict[str, Card]:
    """Give every card by name, sorted. Raises ArtifactError for a card that is not valid."""
    return {path.stem: _parse(path) for path in _card_files().values()}


def card(name: str) -> Card:
    """Give one card. Raises UsageError for an unknown name and ArtifactError for a card that is not valid."""
    known = _card_files()
    if name not in known:
        raise UsageError(f"{name!r} is no file and no catalogued data set.", _nearest(name, known))
    return _parse(known[name])


def locate(card: Card) -> Path:
    """Find a data set's file: in FORECAST_DATA and the folders directly in it, then among the shipped files.

    Raises DataError that says which names were looked for, and where.
    """
    shipped = _folder("datasets")
    own = os.environ.get("FORECAST_DATA")
    folders = [shipped]
    if own:
        root = Path(own).expanduser()
        inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        folders = [root, *inside, shipped]
    for folder in folders:
        for file in card.files:
            if (folder / file).is_file():
                return folder / file
    if not own:
        places = f"in {shipped} (FORECAST_DATA is not set)"
    elif not folders[0].is_dir():
        places = f"in {shipped}; FORECAST_DATA={own} is not a folder"
    else:
        places = f"in FORECAST_DATA={own}, the folders in it, and {shipped}"
    raise DataError(
        f"{card.name}: found no {' or '.join(card.files)} {places}.",
        f"Get it from {card.address} and type: export FORECAST_DATA=the/folder/it/is/in",
    )


def read(card: Card, path: Path | None = None) -> "Path | pl.DataFrame":
    """Give what `table.read` takes: the path itself, or a frame where the format needs to be known.

    A headerless text file becomes columns `0`, `1`, …, as does feature 0 of a PEMS archive, whose array is
    called `data` and is (R, sensors, features). `path`, when given, stands for the located file. Raises
    DataError for such a file that is missing or of another form.
    """
    path = locate(card) if path is None else path
    archive = path.suffix == ".npz"
    headerless = card.time is None and path.name.removesuffix(".gz").endswith(".txt")
    if not archive and not headerless:
        return path
    if not path.is_file():
        raise DataError(f"{path}: no such file.", f"{card.name} comes from {card.address}.")
    return _read_sensors(card, path) if archive else _read_headerless(card, path)


def verify(card: Card, path: Path) -> bool | None:
    """Say whether a file is byte for byte the one that the card means; None where no sum is known."""
    expected = card.sha256.get(path.name)
    if expected is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected


def borders(card: Card, rows: int, lookback: int) -> Borders:
    """Give the half-open rows that are forecast in training, validation and test: the published windows.

    A horizon of H steps has `b - a - H + 1` windows in rows (a, b). Training windows begin inside their part.
    Those of validation and test look back into the part before, unless the card says that parts do not
    overlap: then their first `lookback` rows are never forecast. Raises DataError where `rows` or `lookback`
    leaves a part without a row.
    """
    cuts = card.split.cut(rows) if isinstance(card.split, Shares) else card.split
    needed = cuts[-1][1]
    if rows < needed:
        raise DataError(
            f"{card.name}: the published split ends at row {needed:,}; the table has {rows:,} rows.",
            f"Give the whole file ({card.rows:,} rows, {card.address}), or fit without the published split.",
        )
    reach = 0 if card.overlap else lookback
    train, validation, test = cuts
    parts = (
        (train[0] + lookback, train[1]),
        (validation[0] + reach, validation[1]),
        (test[0] + reach, test[1]),
    )
    for part, (first, end) in zip(PARTS, parts, strict=True):
        if first >= end:
            raise DataError(
                f"{card.name}: a lookback of {lookback} steps leaves nothing to forecast in the {part} part "
                f"of {rows:,} rows.",
                "Shorten --lookback.",
            )
    return parts


def config_file(name: str) -> Path:
    """Find a configuration: a file as typed, else a published setting.

    `itransformer/etth1` is found with and without `configs/` before and `.yaml` behind. Raises UsageError
    with the nearest names.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = _folder("configs")
    known = {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}
    # The README writes configs/itransformer/etth1.yaml: that works from any folder.
    setting = name.removeprefix("configs/").removesuffix(".yaml")
    if setting not in known:
        raise UsageError(f"{name}: no such file, and no published setting of that name.", _nearest(setting, known))
    return known[setting]


def _folder(kind: str) -> Path:
    """Give the folder of `datasets` or `configs`: inside the installed package, else that of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / f"_{kind}"
    return installed if installed.is_dir() else package.parent / kind


def _card_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_folder("datasets").glob("*.yaml"))}


def _nearest(name: str, known: Iterable[str]) -> str:
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


def _read_headerless(card: Card, path: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        frame = pl.read_csv(path, has_header=False, infer_schema_length=None).cast(pl.Float64)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a table of numbers ({reason}).", f"Get it again from {card.address}.") from error
    _check_width(card, path, frame.width)
    return frame.rename(dict(zip(frame.columns, map(str, range(frame.width)), strict=True)))


def _read_sensors(card: Card, path: Path) -> "pl.DataFrame":
    import numpy as np
    import polars as pl

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            data: np.ndarray = archive["data"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"{path}: no NumPy archive with an array `data` ({error}).", f"Get it again from {card.address}."
        ) from error
    if data.ndim != 3 or data.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: `data` is {data.dtype} of shape {data.shape}, not numbers (time, sensor, feature).",
            f"Get it again from {card.address}.",
        )
    _check_width(card, path, data.shape[1])
    return pl.DataFrame({str(sensor): data[:, sensor, 0] for sensor in range(data.shape[1])})


def _check_width(card: Card, path: Path, width: int) -> None:
    if width != card.width:
        raise DataError(
            f"{path}: {width} variates, where {card.name} has {card.width}.",
            f"Give another file, or get this one again from {card.address}.",
        )


# ---- reading a card ----


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


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
    if set(value) != {*PARTS, "rounding"} or value["rounding"] not in ROUNDINGS:
        return False
    shares = [value[part] for part in PARTS]
    return all(isinstance(share, float) and 0 < share < 1 for share in shares) and abs(sum(shares) - 1) < 1e-9


RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_text, "text"),
    "title": (_is_text, "text"),
    "files": (_is_names, "a list of file names"),
    "time": (lambda value: value is None or _is_text(value), "a column name or null"),
    "variates": (lambda value: _is_count(value) or _is_names(value), "a list of column names or a count"),
    "target": (lambda value: value is None or _is_text(value), "a column name or null"),
    "freq": (_is_text, "a pandas offset alias"),
    "rows": (_is_count, "a positive whole number"),
    "split": (
        _is_split,
        "a pair of rows, or a share and `rounding`, for train, validation and test, in time order",
    ),
    "overlap": (lambda value: isinstance(value, bool), "true or false"),
    "marks": (lambda value: isinstance(value, bool), "true or false"),
    "licence": (_is_text, "text"),
    "address": (lambda value: isinstance(value, str) and value.startswith("https://"), "an https address"),
    "sha256": (_is_sums, "a SHA-256 sum in hexadecimal, or null, for each file"),
    "note": (lambda value: value is None or _is_text(value), "text or null"),
}


def _parse(path: Path) -> Card:
    """Read and check one card. Raises ArtifactError that names the file and the key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not readable as YAML ({error}).", "Mend the card.") from error
    known = [field.name for field in fields(Card)]
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: a card is a mapping, not {type(content).__name__}.", f"Keys: {', '.join(known)}.")
    for key in content:
        if key not in known:
            raise ArtifactError(f"{path}: {key!r} is not a key of a card.", _nearest(str(key), known))
    for key in known:
        if key not in content:
            raise ArtifactError(f"{path}: the key {key!r} is missing.", f"Add `{key}:`: {RULES[key][1]}.")
        valid, meaning = RULES[key]
        if not valid(content[key]):
            raise ArtifactError(f"{path}: {key} is {content[key]!r}.", f"It must be {meaning}.")
    if content["name"] != path.stem:
        raise ArtifactError(f"{path}: name is {content['name']!r}.", f"It must be that of the file, {path.stem}.")
    if set(content["sha256"]) != set(content["files"]):
        raise ArtifactError(f"{path}: sha256 lists other files than `files`.", "Give each file a sum or null.")
    split = content["split"]
    content["split"] = Shares(**split) if "rounding" in split else tuple(tuple(split[part]) for part in PARTS)
    for key in ("files", "variates"):
        content[key] = tuple(content[key]) if isinstance(content[key], list) else content[key]
    result = Card(**content)
    if isinstance(result.variates, tuple) and result.target is not None and result.target not in result.variates:
        raise ArtifactError(f"{path}: target {result.target!r} is not among the variates.", "Name one of them.")
    if not isinstance(result.split, Shares) and result.split[-1][1] > result.rows:
        raise ArtifactError(f"{path}: split ends after the last of {result.rows} rows.", "Correct split or rows.")
    return result
