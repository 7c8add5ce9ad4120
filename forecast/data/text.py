"""CSV text of any delimiter, encoding and number format, read as columns of numbers, truth values and text.

polars splits the lines and converts the columns. A column becomes numbers only if every value is a number or
a missing mark, so that one bad cell deep in a file stays visible, with its line, instead of becoming a gap.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ..errors import DataError, NoRowsError
from .drawn import undrawn
from .layout import Layout, cells_of, find_layout
from .numbers import SAMPLE, Decimal, Numbers, decimal_of, numbers_of, only_groups, spread
from .times import quoted
from .typed import typed
from .unpack import decoded, unpacked

Entry = tuple[str, int, str, str]  # kind, count, first, detail of a repair


class TextTable(NamedTuple):
    """The columns of a text file, and what is needed to speak of its lines."""

    frame: pl.DataFrame
    format: dict[str, Any]  # delimiter, encoding, decimal, thousands, header_row
    first_line: int  # line of the first row
    lines: np.ndarray | None  # (R,) line of each row where blank rows were left out
    decimal: Decimal | None  # what settles "1,234", where the file tells
    repairs: list[Entry]
    marked: dict[str, int]  # column -> values that became missing for a mark such as "-"


def read_text(raw: bytes, name: str, decimal: Decimal | None = None) -> TextTable:
    """The columns of CSV text of any usual delimiter and encoding, packed or not; `name` is for messages.

    Numbers and truth values become typed columns, all else stays text; so does a column such as "1,234" where
    neither `decimal` nor another column settles what it means. Raises DataError.
    """
    body, encoding, repairs = decoded(unpacked(raw, name), name)
    body = undrawn(body, repairs)
    layout = find_layout(body, name)
    text = _split(body, layout, name)
    if encoding != "utf-8":
        repairs.append(("encoding", 1, "line 1", f"read as {encoding}"))
    repairs += layout.repairs
    text = _named(text, layout, name, repairs)
    lines = _lines(text, layout.first_line) if b'"' in body else None
    text, lines = _without_blank(text, lines, layout, name, repairs)
    text, lines = _without_names(text, lines, layout, repairs)

    def place(row: int) -> str:
        return f"line {layout.first_line + row if lines is None else int(lines[row])}"

    values, marks, thousands, settled, marked = _typed_columns(text, layout.delimiter, decimal, place, repairs)
    form = {
        "delimiter": layout.delimiter,
        "encoding": encoding,
        "decimal": "," if "," in marks else ".",
        "thousands": thousands,
        "header_row": layout.header_row,
    }
    return TextTable(pl.DataFrame(values), form, layout.first_line, lines, settled, repairs, marked)


def refuse_repeated_names(names: list[str], name: str) -> None:
    """Raise DataError where two columns have one name."""
    repeated, times = Counter(filter(None, names)).most_common(1)[0] if any(names) else ("", 1)
    if times > 1:
        raise DataError(f'{name}: two columns are named "{repeated}".', "Give each column a name of its own.")


# Lines


def _split(body: bytes, layout: Layout, name: str) -> pl.DataFrame:
    """The fields of every row as text, under the names of the header. Raises DataError for ragged lines."""
    rows = body
    if not layout.plain:
        head = b"" if layout.header is None else layout.header.encode() + b"\n"
        rows = head + body[layout.begin : layout.end]
    if rows[-2:].strip(b"\r\n ") == b"":
        rows = rows.rstrip(b"\r\n ")
    delimiter = layout.delimiter
    if delimiter == " ":
        rows = re.sub(rb"[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", rows))
        delimiter = "\t"
    try:
        text = pl.read_csv(rows, separator=delimiter, has_header=layout.header is not None, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _unreadable(rows, delimiter, layout, name, error) from error
    if text.height == 0:
        raise NoRowsError(f"{name}: there is a header but no row.", "Give a table with a row for each time.")
    _refuse_short_rows(text, rows, delimiter, layout, name)
    return text


def _line_of(number: int, layout: Layout) -> int:
    """The line of the file, from 1, that line `number` of header and rows was."""
    if layout.header is None or layout.header_row is None:
        return layout.first_line + number
    return layout.header_row + 1 if number == 0 else layout.first_line + number - 1


def _widths(rows: bytes, delimiter: str) -> pl.Series:
    """Fields of every line, counted outside of quotes."""
    lines = pl.Series(rows.decode("utf-8", errors="replace").removesuffix("\n").split("\n"))
    if b'"' in rows:
        lines = lines.str.replace_all(r'"[^"]*"', "")
    return lines.str.count_matches(delimiter, literal=True) + 1


def _unreadable(rows: bytes, delimiter: str, layout: Layout, name: str, error: BaseException) -> DataError:
    """What makes polars refuse a text: most often a line that is too wide, or a quote never closed."""
    widths = _widths(rows, delimiter)
    wide = (widths > widths[0]).arg_max() if (widths > widths[0]).any() else None
    if wide is not None:
        first = "header" if layout.header is not None else "first line"
        return DataError(
            f"{name}, line {_line_of(wide, layout)}: {widths[wide]} fields where the {first} has {widths[0]}.",
            f"Delimiter read as {layout.delimiter!r}. Quote a field that contains it, or name every column.",
        )
    if rows.count(b'"') % 2:
        lines = pl.Series(rows.decode("utf-8", errors="replace").split("\n"))
        odd = (lines.str.count_matches('"', literal=True) % 2 == 1).arg_max() or 0
        line = _line_of(odd, layout)
        return DataError(f"{name}, line {line}: a quote is never closed.", "Close or remove the quote.")
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return DataError(f"{name}: cannot be read as CSV: {reason}", "Give CSV with a header line, or Parquet.")


def _refuse_short_rows(text: pl.DataFrame, rows: bytes, delimiter: str, layout: Layout, name: str) -> None:
    """Raise for a line that ends early: polars would take its absent fields for missing values."""
    if text.width == 1 or text.to_series(-1).null_count() == 0:
        return
    widths = _widths(rows, delimiter)
    if len(widths) != text.height + (layout.header is not None):
        return  # fields with line breaks: lines and rows do not match
    empty = pl.Series(rows.removesuffix(b"\n").split(b"\n")).bin.size() <= 1  # one byte: a carriage return
    short = (widths < text.width) & ~empty
    if short.any():
        line = int(short.arg_max() or 0)
        first = "header" if layout.header is not None else "first line"
        raise DataError(
            f"{name}, line {_line_of(line, layout)}: {widths[line]} fields where the {first} has {text.width}.",
            "Complete the line, or remove it.",
        )


def _lines(text: pl.DataFrame, first_line: int) -> np.ndarray | None:
    """The line on which each row begins, where quoted fields hold line breaks."""
    breaks = text.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True))).to_series()
    if not (breaks > 0).any():
        return None
    starts: np.ndarray = first_line + np.arange(text.height) + breaks.cum_sum().to_numpy() - breaks.to_numpy()
    return starts


def _named(text: pl.DataFrame, layout: Layout, name: str, repairs: list[Entry]) -> pl.DataFrame:
    """The columns under their names: numbers where there are none; without an empty one at the end of each line."""
    if layout.header is None:
        cells = [""] * text.width
    else:
        cells = cells_of(layout.header, layout.delimiter)
        refuse_repeated_names(cells, name)
        if len(cells) != text.width:  # what polars makes of odd quotes
            cells = text.columns
    width = text.width
    while text.width > 1 and cells[-1] == "" and text.to_series(-1).null_count() == text.height:
        text, cells = text.drop(text.columns[-1]), cells[:-1]
    if text.width < width:
        detail = "empty at the end of each line, and without a name"
        repairs.append(("column-dropped", width - text.width, f"line {_line_of(0, layout)}", detail))
    given = [" ".join(column.split("\n")).strip().replace('""', '"') for column in text.columns]
    names = [str(i) if cell == "" else given[i] or str(i) for i, cell in enumerate(cells)]
    refuse_repeated_names(names, name)
    text.columns = names
    unnamed = cells.count("") if layout.header is not None else 0
    if unnamed:
        detail = f'a column without a name is called by its number, "{cells.index("")}"'
        repairs.append(("header-skipped", unnamed, f"line {_line_of(0, layout)}", detail))
    return text


def _without_blank(
    text: pl.DataFrame, lines: np.ndarray | None, layout: Layout, name: str, repairs: list[Entry]
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """The rows that hold anything, and their lines."""
    if text.width == 1 or not text.to_series(0).null_count():
        return text, lines
    blank = text.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if not blank.any():
        return text, lines
    every = np.arange(text.height) + layout.first_line if lines is None else lines
    first = f"line {every[int(blank.arg_max() or 0)]}"
    repairs.append(("footer-dropped", int(blank.sum()), first, "blank rows were left out"))
    text = text.filter(~blank)
    if text.height == 0:
        raise DataError(f"{name}: every row is blank.", "Give a table with a row for each time.")
    return text, every[~blank.to_numpy()]


def _without_names(
    text: pl.DataFrame, lines: np.ndarray | None, layout: Layout, repairs: list[Entry]
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """The rows that are not the header again, as where files were put one behind the other; and their lines."""
    names = [] if layout.header is None else cells_of(layout.header, layout.delimiter)[: text.width]
    if text.width == 1 or not any(names):
        return text, lines
    told = next(number for number, name in enumerate(names) if name)
    again = text.to_series(told).str.strip_chars() == names[told]
    if not again.any():
        return text, lines
    rows = again.fill_null(False).arg_true()
    same = [[cell and cell.strip() for cell in row] == [name or None for name in names] for row in text[rows].rows()]
    rows = rows.filter(pl.Series(same, dtype=pl.Boolean))
    if len(rows) in (0, text.height):
        return text, lines
    every = np.arange(text.height) + layout.first_line if lines is None else lines
    repairs.append(("header-skipped", len(rows), f"line {every[rows[0]]}", "the header stands again between the rows"))
    kept = np.ones(text.height, bool)
    kept[rows.to_numpy()] = False
    return text.filter(pl.Series(kept)), every[kept]


# Columns


def _typed_columns(
    text: pl.DataFrame, delimiter: str, decimal: Decimal | None, place: Callable[[int], str], repairs: list[Entry]
) -> tuple[list[pl.Series], list[str | None], str | None, Decimal | None, dict[str, int]]:
    """The columns in their types; the decimal marks used; the thousands mark; what settles "1,234"; missing marks."""
    columns = text.get_columns()
    found_types = typed(columns, comma=delimiter == ";")
    values = [found.values for found in found_types]
    marks = [found.mark for found in found_types]
    odd = {i: found.numbers for i, found in enumerate(found_types) if found.numbers and found.numbers.bad is None}
    settled = decimal
    if settled is None and (odd or "," in marks):
        seen = {decimal_of(odd.values()), "comma" if "," in marks else None}
        if any(mark == "." and _pointed(column) for column, mark in zip(columns, marks, strict=True)):
            seen.add("point")
        told = sorted(mark for mark in seen if mark is not None)
        settled = ("comma" if told == ["comma"] else "point") if len(told) == 1 else None
    settle = settled or ("comma" if delimiter == ";" else None)
    for number, column in enumerate(columns) if settle else ():
        given = odd.get(number)
        again = given is not None and not given.decided
        if settled == "comma":  # "1.234" may be a number of thousands, whatever it was read as
            again |= not given.shown if given else values[number].dtype == pl.Float64 and only_groups(column)
        if again and settle:
            found = numbers_of(column, settle)
            assert found is not None  # it was read before; only the reading changes
            odd[number] = found
    read = {number: found for number, found in odd.items() if found.decided}
    for number, found in read.items():
        values[number] = found.values
        marks[number] = found.form.decimal if found.values.dtype == pl.Float64 else None
    repairs += parsed_entries([(str(text.columns[number]), found) for number, found in read.items()], place)
    thousands = next((found.form.thousands for found in read.values() if found.form.thousands), None)
    marked = {str(text.columns[number]): int(found.marked.sum()) for number, found in read.items() if found.marks}
    return values, marks, thousands, settled, marked


def _pointed(text: pl.Series) -> bool:
    """Whether a column shows that a point is its decimal mark."""
    sample = spread(text, SAMPLE)
    return bool(sample.str.contains(".", literal=True).any()) and not only_groups(sample)


def parsed_entries(columns: Sequence[tuple[str, Numbers]], place: Callable[[int], str]) -> list[Entry]:
    """What was done to read columns as numbers, one entry for all that were read alike; `place(row)` names a row."""
    groups: dict[tuple[Any, ...], list[tuple[str, pl.Series]]] = defaultdict(list)
    for name, found in columns:
        if found.dressed.any():
            groups[found.form.unit, found.form.thousands, None].append((name, found.dressed))
        if found.marks:
            groups[None, None, found.marks].append((name, found.marked))
    entries = []
    for (unit, thousands, marks), members in groups.items():
        what = [f"unit {quoted(unit)}"] if unit else []
        what += [f"thousands mark {quoted(thousands) if thousands != ' ' else 'blank'}"] if thousands else []
        if marks:
            what = ["missing: " + ", ".join(quoted(mark) for mark in marks[:8])]
        told = " and ".join(what) or "brackets, signs or blanks"
        others = f" and {len(members) - 1} more" if len(members) > 1 else ""
        first = min(int(changed.arg_max() or 0) for _, changed in members)
        count = sum(int(changed.sum()) for _, changed in members)
        entries.append(("numbers-parsed", count, place(first), f"{told}, in {quoted(members[0][0])}{others}"))
    return entries
