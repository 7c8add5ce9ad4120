"""The catalogue: public data sets as cards, where their files lie, and the published settings beside them.

A card is a YAML file in `datasets/` that says what a file holds, how the papers split it, who may use it and
where it comes from. Files are taken from the folder in FORECAST_DATA, or from those that ship with the
package.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from ..errors import DataError, UsageError
from .cards import PARTS, Borders, Card, EventCard, Shares, nearest_name, parse

if TYPE_CHECKING:
    import polars as pl


def cards() -> dict[str, Card | EventCard]:
    """Give every card by name, sorted. Raises ArtifactError for a card that is not valid."""
    return {path.stem: parse(path) for path in _card_files().values()}


def card(name: str) -> Card | EventCard:
    """Give one card. Raises UsageError for an unknown name and ArtifactError for a card that is not valid."""
    known = _card_files()
    if name not in known:
        raise UsageError(f"{name!r} is no file and no catalogued data set.", nearest_name(name, known))
    return parse(known[name])


def named(source: object) -> Card | EventCard | None:
    """The card that `source` names, in any case; None for a table, and for a path that there is."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    text = os.fspath(source)
    known = _card_files()
    return parse(known[text.lower()]) if text.lower() in known and not Path(text).exists() else None


def locate(card: Card | EventCard) -> Path:
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


def read(card: Card | EventCard, path: Path | None = None) -> "Path | pl.DataFrame":
    """Give what `table.read` takes: the path itself, or a frame where the format needs to be known.

    A headerless text file becomes columns `0`, `1`, …, as does feature 0 of a PEMS archive, whose array is
    called `data` and is (R, sensors, features). `path`, when given, stands for the located file. Raises
    DataError for such a file that is missing or of another form.
    """
    path = locate(card) if path is None else path
    if isinstance(card, EventCard):
        return path
    archive = path.suffix == ".npz"
    headerless = card.time is None and path.name.removesuffix(".gz").endswith(".txt")
    if not archive and not headerless:
        return path
    if not path.is_file():
        raise DataError(f"{path}: no such file.", f"{card.name} comes from {card.address}.")
    return _read_sensors(card, path) if archive else _read_headerless(card, path)


def verify(card: Card | EventCard, path: Path) -> bool | None:
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
        raise UsageError(f"{name}: no such file, and no published setting of that name.", nearest_name(setting, known))
    return known[setting]


def _folder(kind: str) -> Path:
    """Give the folder of `datasets` or `configs`: inside the installed package, else that of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / f"_{kind}"
    return installed if installed.is_dir() else package.parent / kind


def _card_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_folder("datasets").glob("*.yaml"))}


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
