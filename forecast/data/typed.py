"""Text columns as numbers or truth values, where all of a column is one of them; many columns are looked at as one.

What polars asks for a call is little beside a long column, and everything beside ten rows: short columns are stacked,
and most of them are settled by a few calls for all. What is left is looked at alone.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from .numbers import CODE, MISSING, SAMPLE, Numbers, are_words, as_numbers, numbers_of

TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_CELLS = 1 << 20  # of columns that are looked at as one
_FRACTION = r",(?:\d{0,2}|\d{4,})(?:[eE]|\s*$)"  # "1,234" alone may have a thousands mark


class Typed(NamedTuple):
    """A column in its type."""

    values: pl.Series  # numbers or truth values; text as given
    mark: str | None  # the decimal mark of fractions
    numbers: Numbers | None  # what a column of text holds, if most of it is numbers as people write them


def typed(columns: list[pl.Series], *, comma: bool) -> list[Typed]:
    """Text columns of equal length in their types; `comma`: a decimal mark may be a comma."""
    many = max(1, _CELLS // len(columns[0])) if columns else 1
    found: list[Typed] = []
    for first in range(0, len(columns), many):
        some = columns[first : first + many]
        settled = _at_once(some, comma)
        found += [settled[i] if i in settled else _alone(column, comma) for i, column in enumerate(some)]
    return found


def _alone(text: pl.Series, comma: bool) -> Typed:
    """One column: a sample says what is worth trying on all of it."""
    sample = text.drop_nulls().head(SAMPLE)
    sample = sample.filter(~sample.is_in(MISSING))
    if len(sample) and sample.is_in(list(TRUTH)).all() and text.drop_nulls().is_in([*TRUTH, *MISSING]).all():
        return Typed(_truths(text), None, None)
    for decimal in (".", ",") if comma else (".",):
        sampled = as_numbers(sample, decimal)
        if sampled is None or (decimal == "," and not sample.str.contains(_FRACTION).any()):
            continue
        # Fractions in the sample: the column holds no integers, so it need not be tried.
        numbers = as_numbers(text, decimal, fractions=len(sample) > 0 and sampled.dtype == pl.Float64)
        if numbers is not None:
            return Typed(numbers, decimal if numbers.dtype == pl.Float64 else None, None)
    return Typed(text, None, numbers_of(text))


def _truths(text: pl.Series) -> pl.Series:
    return text.replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)


def _at_once(columns: list[pl.Series], comma: bool) -> dict[int, Typed]:
    """The columns that leave nothing open, by number: each is as it would be alone."""
    rows = len(columns[0])
    settled: dict[int, Typed] = {}

    def left() -> list[int]:
        return [i for i in range(len(columns)) if i not in settled]

    def stacked(numbers: list[int]) -> pl.Series:
        return pl.concat([columns[i] for i in numbers], rechunk=True)

    def by_column(values: pl.Series) -> np.ndarray:
        return values.fill_null(False).to_numpy().reshape(-1, rows)

    def settle(numbers: list[int], sure: np.ndarray, values: pl.Series, mark: str | None) -> None:
        for place in np.flatnonzero(sure).tolist():
            part = values.slice(place * rows, rows).alias(columns[numbers[place]].name)
            settled[numbers[place]] = Typed(part, mark, None)

    for missing in (False, True):
        if not (numbers := left()):
            return settled
        text = stacked(numbers)
        text = text.set(text.is_in(MISSING), None) if missing else text
        empty = by_column(text.is_null())
        if missing:
            truths = by_column(text.is_in(list(TRUTH)))
            settle(numbers, (truths | empty).all(1) & truths[:, :SAMPLE].any(1), _truths(text), None)
        integers = text.cast(pl.Int64, strict=False)
        other = by_column(integers.is_null()) & ~empty
        whole = ~other.any(1) & ~empty.all(1)
        if whole.any():
            codes = by_column(text.str.contains(CODE))
            settle(numbers, whole & ~codes.any(1), integers, None)
        # A fraction late in a column of integers is a case for a look at the column alone.
        worth = other[:, :SAMPLE].any(1) | empty.all(1)
        if worth.any():
            floats = text.cast(pl.Float64, strict=False)
            unread = (by_column(floats.is_null()) & ~empty) | by_column(floats.is_nan())
            settle(numbers, worth & ~unread.any(1), floats, ".")
            if comma:
                shown = by_column(text.str.contains(_FRACTION))[:, :SAMPLE].any(1)
                floats = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
                unread = (by_column(floats.is_null()) & ~empty) | by_column(floats.is_nan())
                settle(numbers, shown & ~unread.any(1), floats, ",")
    if rows <= SAMPLE and (numbers := left()):
        text = stacked(numbers)
        words = are_words(text, rows)
        text = text.str.strip_chars()
        read = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False).is_not_null()
        known = text.is_in([*MISSING, *TRUTH])
        foreign = by_column(text.is_not_null() & ~(read | known))
        for place in np.flatnonzero(words & foreign.any(1)).tolist():
            settled[numbers[place]] = Typed(columns[numbers[place]], None, None)
    return settled
