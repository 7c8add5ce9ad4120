"""Text columns as numbers: decimal and thousands marks, units, brackets and missing marks, decided by whole columns.

`as_numbers` is the fast way for columns that any program would read; `numbers_of` is for how people write them.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

Decimal = Literal["point", "comma"]

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "NaT")
SAMPLE = 200  # values looked at before a whole column is read
# Missing marks that are text elsewhere: they count only where the rest of the column is numbers. In lower case.
MARKS = frozenset(
    [
        *("", "-", "--", "---", "–", "—", "?", "??", ".", "..", "...", "…", "*", "**"),
        *("#n/a", "#na", "#value!", "#div/0!", "#ref!", "#num!", "#null!", "nan", "nil", "nat", "\\n"),
        *(
            "na",
            "n/a",
            "n.a.",
            "n.a",
            "n. a.",
            "nd",
            "n.d.",
            "n.v.",
            "k.a.",
            "none",
            "null",
            "(null)",
            "<na>",
            "<null>",
        ),
        *("missing", "miss.", "unknown", "not available", "unavailable", "no data", "(blank)"),
    ]
)
BLANKS = " \t\r\u00a0\u202f\u2009\u2007"
GROUPS = (",", ".", " ", "'", "_")  # thousands marks, once their variants are made one

_UNIT = r"[%‰°\p{L}\p{Sc}][%‰°\p{L}\p{Sc}/²³·*.23^]{0,11}(?: [\p{L}\p{Sc}/²³.]{1,8})?"
_MONEY = r"[A-Z]{0,3}\p{Sc}|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|RUB|ZAR|TRY|kr\.?|Rs\.?"
_FORM = (
    r"^(?<open>\()?\s*(?<ahead>[-+])?\s*(?<before>" + _MONEY + r")?\s*(?<sign>[-+])?\s*"
    r"(?<digits>\d[\d.,' _]*?(?:[eE][-+]?\d+)?|[.,]\d+(?:[eE][-+]?\d+)?)"
    r"\s*(?<after>" + _UNIT + r")?\s*(?<close>\))?(?<behind>-)?$"
)
# A month, an ordinal, a half of the day, a quarter or a week behind a number is no unit.
_NO_UNIT = (
    r"(?i)^(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez)[a-z]*\.?$"
    r"|^(?:st|nd|rd|th|am|pm|a\.m\.|p\.m\.)$|^[qwhst]\d|^e$"
)
_CODE = r"^0\d+$"
CODE = r"^\s*[+-]?0\d"  # among integers: "007" is a code


class Form(NamedTuple):
    """How the numbers of a column are written."""

    decimal: str
    thousands: str | None
    unit: str  # before or behind every number; "" without one


class Numbers(NamedTuple):
    """A text column as numbers, and what was done to read it."""

    values: pl.Series  # Int64 or Float64; null where missing, and where `bad`
    form: Form
    decided: bool  # False: "1,234" may be either, and nothing decides
    shown: bool  # whether the column alone shows that its decimal mark is none of thousands: "1.234" does not
    bad: int | None  # first row that is neither a number nor missing
    bads: int
    dressed: pl.Series  # bool: a unit, brackets, a sign behind or thousands marks were taken off
    marked: pl.Series  # bool: a missing mark that is none everywhere
    marks: tuple[str, ...]  # those marks, as written


# In order of preference where several read every value alike.
_FORMS = (
    (".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"), (".", "_"),
)  # fmt: skip


def as_numbers(text: pl.Series, decimal: str = ".", *, fractions: bool = False) -> pl.Series | None:
    """Integers or floats if every value is one or a missing mark; None otherwise.

    Digits with a leading zero, as in "007", are a code and stay text. `fractions`: known not to be integers.
    """
    if not fractions:
        integers = text.cast(pl.Int64, strict=False)
        if integers.null_count() == text.null_count() and len(integers) > text.null_count():
            return None if text.str.contains(CODE).any() else integers
    numbers = _floats(text, decimal)
    unread = numbers.is_null() & text.is_not_null()
    if not unread.any():
        return numbers
    if not text.filter(unread).str.strip_chars().is_in(MISSING).all():
        return None
    if fractions or numbers.null_count() == len(numbers):
        return numbers
    whole = text.set(unread, None).str.strip_chars()
    if whole.cast(pl.Int64, strict=False).null_count() == whole.null_count():
        return as_numbers(whole, decimal)
    return numbers


def _floats(text: pl.Series, decimal: str = ".") -> pl.Series:
    """Float64 where a value reads as a number, null elsewhere."""
    if decimal == ",":
        text = text.str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.fill_nan(None)


def numbers_of(text: pl.Series, decimal: Decimal | None = None, *, codes: bool = False) -> Numbers | None:
    """The numbers of a text column, or None where fewer than half of its values are numbers of one form.

    `decimal` settles what the column leaves open: whether "1,234" or "1.234" has a decimal or a thousands mark.
    Digits with a leading zero, as in "007", are read only as `codes`.
    """
    sample = spread(text.drop_nulls(), SAMPLE)
    few = sample.filter(~missing_marks(sample))
    if 2 * int(_plain(few).str.contains(_FORM).sum()) <= len(few):
        return None
    plain = _plain(text)
    given = text.is_not_null() & ~plain.is_in(MISSING)
    missing = missing_marks(plain) & given
    bare = plain.set(missing | ~given, None)
    marks = tuple(text.filter(missing).str.strip_chars(BLANKS).unique().sort()) if missing.any() else ()
    simple = as_numbers(bare) if plain.equals(text.str.strip_chars(BLANKS)) else None
    if simple is not None and not (decimal == "comma" and only_groups(bare)):
        none = pl.repeat(False, len(text), dtype=pl.Boolean, eager=True)
        return Numbers(
            simple.alias(text.name), Form(".", None, ""), True, not only_groups(bare), None, 0, none, missing, marks
        )
    parts = bare.str.extract_groups(_FORM).struct.unnest()
    before, after = (parts[side].fill_null("").str.strip_chars() for side in ("before", "after"))
    unit = pl.Series(before + after)
    told = parts["digits"].is_not_null()
    if not told.any():
        return None
    usual = unit.filter(told).mode().sort()[0]
    brackets = parts["open"].is_not_null() == parts["close"].is_not_null()
    told = told & (unit == usual) & brackets
    digits = parts["digits"].set(~told, None)
    if pl.Series([usual]).str.contains(_NO_UNIT).any() or (not codes and digits.drop_nulls().str.contains(_CODE).any()):
        return None
    choice, decided = _choice(digits, decimal)
    point, thousands = choice
    read = _read(digits, point, thousands)
    negative = (parts["ahead"].fill_null("") == "-") ^ (parts["sign"].fill_null("") == "-")
    negative = negative | parts["open"].is_not_null() | parts["behind"].is_not_null()
    values = pl.select(pl.when(negative).then(-read).otherwise(read)).to_series().alias(text.name)
    bad = given & ~missing & values.is_null()
    bads = int(bad.sum())
    if 2 * bads >= int((given & ~missing).sum()):
        return None
    dressed = parts["open"].is_not_null() | parts["behind"].is_not_null() | (unit != "")
    dressed = told & (dressed | (plain.str.len_bytes() != text.str.strip_chars(BLANKS).str.len_bytes()))
    if thousands is not None:
        dressed = dressed | digits.str.contains(thousands, literal=True).fill_null(False)
    first = int(bad.arg_max() or 0) if bads else None
    shown = decided and not (choice == (".", None) and only_groups(digits))
    return Numbers(values, Form(point, thousands, usual), decided, shown, first, bads, dressed, missing, marks)


def are_words(text: pl.Series, rows: int) -> np.ndarray:
    """Of columns of `rows` values, at most SAMPLE, stacked on each other: of which `numbers_of` makes nothing, (k,)."""
    few = (text.is_not_null() & ~missing_marks(text)).to_numpy().reshape(-1, rows)
    formed = _plain(text).str.contains(_FORM).fill_null(False).to_numpy().reshape(-1, rows)
    words: np.ndarray = 2 * (formed & few).sum(1) <= few.sum(1)
    return words


def spread(column: pl.Series, size: int) -> pl.Series:
    """At most about `size` values from all over a column."""
    return column.gather_every(max(1, len(column) // size)) if len(column) > size else column


def decimal_of(columns: Iterable[Numbers]) -> Decimal | None:
    """The decimal mark that columns agree on; None where they tell of none or of both."""
    seen: set[str] = set()
    for numbers in columns:
        if numbers.shown and (numbers.values.dtype == pl.Float64 or numbers.form.thousands in (".", ",")):
            seen.add(numbers.form.decimal)
    return None if len(seen) != 1 else "comma" if seen == {","} else "point"


def only_groups(text: pl.Series) -> bool:
    """Whether "1.234" stands in a column, and nothing that could not be thousands set apart by points."""
    there = text.drop_nulls()
    for part in (spread(there, SAMPLE), there):  # a few values tell it of most columns
        plain = part.str.strip_chars(BLANKS)
        plain = plain.filter(~plain.is_in(MISSING)).str.strip_chars_start("+-")
        if not plain.str.contains(_pattern(",", ".")).all():
            return False
    return bool(plain.str.contains(".", literal=True).any())


def missing_marks(text: pl.Series) -> pl.Series:
    """Which values of a column of numbers would be missing; false where there is none."""
    return text.str.strip_chars(BLANKS).str.to_lowercase().is_in(sorted(MARKS)).fill_null(False)


def is_mark(cell: str) -> bool:
    """Whether a field of a column of numbers would be missing."""
    return cell.strip(BLANKS).lower() in MARKS


def _plain(text: pl.Series) -> pl.Series:
    """Without blanks around, and with one kind of minus, apostrophe and blank within."""
    bare = text.str.strip_chars(BLANKS)
    if spread(bare, SAMPLE).str.contains(r"[^\x00-\x7f]").any() or bare.str.contains(r"[^\x00-\x7f]").any():
        bare = bare.str.replace_all(r"[\x{2212}\x{2013}]", "-").str.replace_all(r"[\x{2019}\x{02bc}`´]", "'")
        bare = bare.str.replace_all(r"[\x{00a0}\x{202f}\x{2009}\x{2007}]", " ")
    return bare


def _pattern(decimal: str, thousands: str | None) -> str:
    point = rf"\{decimal}"
    whole = r"\d+" if thousands is None else rf"(?:\d+|[1-9]\d{{0,2}}(?:{_escaped(thousands)}\d{{3}})+)"
    if thousands == ",":
        whole = r"(?:\d+|[1-9]\d{0,2}(?:,\d{2,3})*,\d{3})"  # 12,34,567 is written so in India
    return rf"^(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][-+]?\d+)?$"


def _escaped(mark: str) -> str:
    return rf"\{mark}" if mark == "." else mark


def _choice(digits: pl.Series, decimal: Decimal | None) -> tuple[tuple[str, str | None], bool]:
    """The decimal and the thousands mark that read most values, and whether that is the only way."""
    there = digits.drop_nulls()
    fits = {form: int(there.str.contains(_pattern(*form)).sum()) for form in _FORMS}
    most = max(fits.values())
    best = [form for form in _FORMS if fits[form] == most]
    if best[0] == (".", None):
        points = (",", ".") in best and decimal == "comma" and there.str.contains(".", literal=True).any()
        return (((",", ".") if points else best[0]), True)
    if (",", None) in best and (".", ",") in best:
        return ((".", ",") if decimal == "point" else (",", None)), decimal is not None
    return best[0], True


def _read(digits: pl.Series, decimal: str, thousands: str | None) -> pl.Series:
    """Numbers without their sign; integers if none has a decimal mark or an exponent."""
    digits = digits.set(~digits.str.contains(_pattern(decimal, thousands)), None)
    if thousands is not None:
        digits = digits.str.replace_all(thousands, "", literal=True)
    integers = digits.cast(pl.Int64, strict=False)
    if integers.null_count() == digits.null_count():
        return integers
    if decimal == ",":
        digits = digits.str.replace(",", ".", literal=True)
    return digits.cast(pl.Float64, strict=False)
