"""Clean tables written with known faults: what is applied is known, so what the reader reports can be checked.

A fault is a function that changes a `Writing` and says which kinds of repair and which entries of the format must be
reported for it, and nothing else. Times, columns and lines can be damaged alike: add functions of the same form.
"""

import codecs
import gzip
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from forecast.data.frame import SeriesFrame, frame_series, understand
from forecast.data.table import Table, read


@dataclass
class Writing:
    """A table on its way to a file, and what a reader must say of it."""

    chance: random.Random
    names: list[str]
    times: list[str]
    numbers: list[list[float | None]]  # a list a column; None: missing
    digits: list[int]  # behind the decimal mark of each column
    decimal: str = "."
    thousands: str = ""
    delimiter: str = ","
    missing: str = ""
    before: list[str] = field(default_factory=list)  # what stands before and behind the numbers of each column
    behind: list[str] = field(default_factory=list)
    brackets: bool = False  # (5) for -5
    quote: bool = False  # every field
    above: list[str] = field(default_factory=list)
    units: str | None = None  # a line below the header
    below: list[str] = field(default_factory=list)
    trailing: str = ""
    blank: list[int] = field(default_factory=list)  # rows before which a blank line stands
    newline: str = "\n"
    encoding: str = "utf-8"
    mark: bytes = b""  # byte-order mark
    pack: Callable[[bytes], bytes] = bytes
    repairs: Counter[str] = field(default_factory=Counter)  # counts by kind that must be reported
    format: dict[str, Any] = field(default_factory=dict)  # entries of the format that must be reported

    def cell(self, column: int, value: float | None) -> str:
        if value is None:
            return self.missing
        text = f"{abs(value):,.{self.digits[column]}f}".translate(
            str.maketrans({",": self.thousands, ".": self.decimal})
        )
        text = self.before[column] + text + self.behind[column]
        return text if value >= 0 else f"({text})" if self.brackets else f"-{text}"

    def field(self, text: str) -> str:
        needed = self.quote or self.delimiter in text
        return f'"{text}"' if needed else text

    def content(self) -> bytes:
        """The bytes of the file."""
        lines = [*self.above, self.delimiter.join(map(self.field, self.names)) + self.trailing]
        lines += [self.units] if self.units is not None else []
        for row, time in enumerate(self.times):
            lines += [""] if row in self.blank else []
            cells = [self.cell(column, values[row]) for column, values in enumerate(self.numbers)]
            lines.append(self.delimiter.join(map(self.field, [time, *cells])) + self.trailing)
        text = self.newline.join([*lines, *self.below]) + self.newline
        return self.pack(self.mark + text.encode(self.encoding))


Fault = Callable[[Writing], None]


def clean(seed: int) -> Writing:
    """A table without faults: daily or hourly, some missing values, negative and large numbers, an integer column."""
    chance = random.Random(seed)
    rows = chance.randrange(12, 60)
    step = chance.choice([timedelta(days=1), timedelta(hours=1)])
    begin = datetime(2019, chance.randrange(1, 13), 1)
    form = "%Y-%m-%d" if step.days else "%Y-%m-%d %H:%M"
    scales = [chance.choice([3.0, 800.0, 40_000.0]), chance.choice([20.0, 5e6]), 300.0]
    digits = [2, chance.choice([1, 2, 4]), 0]
    numbers: list[list[float | None]] = [
        [round(chance.gauss(0.3, 1) * scale, places) for _ in range(rows)]
        for scale, places in zip(scales, digits, strict=True)
    ]
    for column in numbers[:2]:
        column[1] = 5432.5  # large enough for a thousands mark, and no whole number
        for _ in range(chance.choice([0, 2])):
            column[chance.randrange(3, rows - 1)] = None
    return Writing(
        chance,
        ["ds", "Wärme", "load", "count"],
        [f"{begin + number * step:{form}}" for number in range(rows)],
        numbers,
        digits,
        before=[""] * 3,
        behind=[""] * 3,
    )


def check(writing: Writing, folder: Path, name: str = "table.csv") -> Table:
    """Require that the file gives the frame of the clean table, and that exactly its faults are reported."""
    path = folder / name
    path.write_bytes(writing.content())
    told = path.read_bytes()[:400]
    table = read(path)
    frame = frame_series(table, understand(table))
    assert_holds(frame, writing)
    counts: Counter[str] = Counter()
    for repair in table.ledger.repairs:
        counts[repair.kind] += repair.count
    assert counts == writing.repairs, (table.ledger.repairs, told)
    expected = {"delimiter": ",", "encoding": "utf-8", "decimal": ".", "thousands": None, "header_row": 0}
    assert table.format == {**expected, **writing.format}, told
    return table


def assert_holds(frame: SeriesFrame, writing: Writing) -> None:
    """Require that a frame holds the names, times and numbers of the clean table."""
    values = np.array(writing.numbers, dtype=np.float64).T.astype(np.float32)
    assert frame.names.to_list() == writing.names[1:]
    np.testing.assert_array_equal(frame.values, values)
    begin = np.datetime64(datetime.fromisoformat(writing.times[0]), "us")
    assert frame.start.tolist() == [begin.astype(np.int64)]


# Faults of reading. Each says what must be reported for it.


def other_delimiter(writing: Writing) -> None:
    writing.delimiter = writing.chance.choice([";", "\t", "|"])
    writing.format["delimiter"] = writing.delimiter


def decimal_comma(writing: Writing) -> None:
    writing.decimal = ","
    writing.format["decimal"] = ","


def thousands_mark(writing: Writing) -> None:
    writing.thousands = writing.chance.choice(["'", " ", "\u00a0", "\u202f", "." if writing.decimal == "," else ","])
    writing.format["thousands"] = " " if writing.thousands in "\u00a0\u202f" else writing.thousands


def missing_mark(writing: Writing) -> None:
    writing.missing = writing.chance.choice(["-", "?", ".", "--", "n.a.", "#N/A", "*", "missing"])


def unit(writing: Writing) -> None:
    column = writing.chance.randrange(3)
    if writing.chance.random() < 0.3:
        writing.before[column] = writing.chance.choice(["$", "€", "£"])
    else:
        writing.behind[column] = writing.chance.choice([" %", "%", " kg", " €", " °C", " m/s", " MWh"])


def brackets(writing: Writing) -> None:
    writing.brackets = True


def quoting(writing: Writing) -> None:
    writing.quote = True


def lines_above(writing: Writing) -> None:
    writing.above = writing.chance.choice(
        [
            ["# written by a logger", "# station 7, calibrated"],
            ["Monthly report"],
            ["Report", "", "from the plant"],
            ["# only a comment", ""],
        ]
    )
    writing.repairs["header-skipped"] += sum(bool(line) for line in writing.above)
    writing.format["header_row"] = len(writing.above)


def line_of_units(writing: Writing) -> None:
    writing.units = writing.delimiter.join(["", "[kW]", "[-]", "[m]"]) + writing.trailing
    writing.repairs["header-skipped"] += 1


def lines_below(writing: Writing) -> None:
    writing.below = writing.chance.choice(
        [
            ["", "Source: the plant"],
            ["Total" + writing.delimiter + "5" + writing.delimiter * 2 + writing.trailing],
            ["-----", "* provisional values"],
            ["", "end of report", "printed at noon"],
        ]
    )
    writing.repairs["footer-dropped"] += sum(bool(line) for line in writing.below)


def trailing_delimiter(writing: Writing) -> None:
    writing.trailing = writing.delimiter
    writing.repairs["column-dropped"] += 1


def blank_lines(writing: Writing) -> None:
    writing.blank = sorted(writing.chance.sample(range(2, len(writing.times) - 2), 2))
    writing.repairs["footer-dropped"] += 2


def other_newline(writing: Writing) -> None:
    writing.newline = writing.chance.choice(["\r\n", "\r"])


def other_encoding(writing: Writing) -> None:
    writing.encoding, name, writing.mark = writing.chance.choice(
        [
            ("windows-1252", "windows-1252", b""),
            ("utf-16-le", "utf-16", codecs.BOM_UTF16_LE),
            ("utf-16-be", "utf-16", codecs.BOM_UTF16_BE),
            ("utf-16-le", "utf-16-le", b""),
            ("utf-16-be", "utf-16-be", b""),
        ]
    )
    if "\u202f" in writing.thousands and writing.encoding == "windows-1252":
        writing.thousands = "\u00a0"
    writing.repairs["encoding"] += 1
    writing.format["encoding"] = name


def byte_order_mark(writing: Writing) -> None:
    writing.mark = writing.mark or codecs.BOM_UTF8


def compression(writing: Writing) -> None:
    writing.pack = writing.chance.choice(
        [gzip.compress, lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True)]
    )


# In this order: some look at what those before them chose.
FAULTS: tuple[Fault, ...] = (
    other_delimiter, decimal_comma, thousands_mark, missing_mark, unit, brackets, quoting, trailing_delimiter,
    lines_above, line_of_units, lines_below, blank_lines, other_newline, byte_order_mark, other_encoding, compression,
)  # fmt: skip


def damaged(seed: int, faults: Iterable[Fault]) -> Writing:
    """The clean table of a seed with faults, in the order of `FAULTS`, and what must be reported of its numbers."""
    writing = clean(seed)
    chosen = set(faults)
    for fault in FAULTS:
        if fault in chosen:
            fault(writing)
    if writing.mark == codecs.BOM_UTF8 and writing.encoding != "utf-8":
        writing.mark = b""
    _expect_numbers(writing)
    return writing


def _expect_numbers(writing: Writing) -> None:
    """What must be reported of the numbers: cells that were dressed up, and marks that stand for none."""
    dressed = 0
    grouped = False
    for column, values in enumerate(writing.numbers):
        for value in values:
            if value is None:
                dressed += bool(writing.missing)
                continue
            large = bool(writing.thousands) and abs(round(value, writing.digits[column])) >= 1000
            grouped = grouped or large
            fitted = bool(writing.before[column] or writing.behind[column])
            dressed += large or fitted or (writing.brackets and value < 0)
    if dressed:
        writing.repairs["numbers-parsed"] += dressed
    if not grouped:
        writing.format.pop("thousands", None)
