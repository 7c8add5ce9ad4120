"""Published hold-outs: a column that says which rows are for the test, as competition data have one."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .calendar import positions
from .frame import SeriesFrame
from .schema import axis_for, shaped
from .split import Split
from .table import Table
from .times import quoted, spoken

TRAIN, VALIDATION, TEST = range(3)
_FLAGS = ("is_test", "test", "holdout", "is_holdout")  # may hold truth values
_PARTS = ("split", "fold", "subset", "partition")  # hold words alone: a fold numbered 1 is not the test
_WORDS = {
    **dict.fromkeys(("train", "training", "false", "0", "no"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "holdout", "true", "1", "yes"), TEST),
}
_TRUTHS = frozenset(("false", "true", "0", "1", "no", "yes"))


def find_holdout(table: Table, named: str | None, taken: set[str | None]) -> str | None:
    """The column that marks the rows of the test: as named, or found by its name and what it holds; None without.

    Raises UsageError for a column that is not there, DataError for a named one that holds anything else.
    """
    if named is not None:
        if named not in table.schema:
            raise UsageError(f'{table.origin}: there is no column "{named}".', "Name another with data.split_col.")
        _marks(table, named)
        return named
    for name in table.schema:
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        if name in taken or plain not in (*_FLAGS, *_PARTS):
            continue
        words = _held(table, name)
        if words is not None and (plain in _FLAGS or not words & _TRUTHS):
            return name
    return None


@dataclass(frozen=True)
class HeldOut:
    """How many rows at the end of each series a column holds out, (S,) int64 each."""

    test: np.ndarray
    validation: np.ndarray | None  # the test behind it included; None where the column marks no validation part

    @property
    def usual(self) -> int:
        """How many rows most series hold out for the test; of two that are as usual the fewer."""
        values, counts = np.unique(self.test[self.test > 0], return_counts=True)
        return int(values[counts.argmax()])

    def split(self, frame: SeriesFrame, horizon: int) -> Split:
        """Cut each series of `frame` where its test begins and, before it, its validation part.

        Without a marked one that is as many rows as the test, `horizon` for a series that holds out none.
        """
        begins, ends = frame.offsets[:-1], frame.offsets[1:]
        test = ends - self.test
        if self.validation is None:
            validation = np.maximum(test - np.where(self.test > 0, self.test, horizon), begins)
        else:
            validation = np.minimum(ends - self.validation, test)
        edges = (begins, validation, test, ends)
        train, middle, last = (np.stack([edges[i], edges[i + 1]], axis=1).astype(np.int64) for i in range(3))
        return Split(train, middle, last, in_sample=test)


def held_out(table: Table, frame: SeriesFrame, column: str) -> HeldOut:
    """The rows that `column` marks. Raises DataError where they are not the last of their series.

    So it does where series that share one axis hold out different times.
    """
    schema = frame.schema
    table = shaped(table, schema)
    axis = axis_for(table, schema)
    marks = _marks(table, column)
    marks = marks if axis.order is None else marks[axis.order]
    codes, counts = axis.codes, []
    for part in (VALIDATION, TEST):
        first = np.full(len(axis.keys), np.iinfo(np.int64).max)
        rows = np.flatnonzero(marks == part)
        series, begin = np.unique(codes[rows], return_index=True)
        first[series] = axis.times[rows[begin]]
        early = (axis.times >= first[codes]) & (marks < part)
        if early.any():
            row = int(early.argmax())
            place = f"{quoted(axis.keys[int(codes[row])])}, " if len(axis.keys) > 1 else ""
            raise DataError(
                f'{table.where(axis.row(row))}: by column "{column}" a row of {("training", "validation")[marks[row]]} '
                f"({place}{spoken(int(axis.times[row]), axis.time_type)}) follows on one of "
                f"{('validation', 'test')[part - 1]}.",
                "A hold-out is the end of a series; to split by shares use --set data.split_col=none.",
            )
        if schema.layout == "panel":
            different = np.unique(first)
            if len(different) > 1:
                raise DataError(
                    f'{table.origin}: by column "{column}" series that share one time axis hold out different times.',
                    "Hold out the same times of each, or use --set data.split_col=none.",
                )
            first = different
        told = first < np.iinfo(np.int64).max
        at = positions(np.where(told, first, frame.start), frame.start, frame.frequency, frame.time_type.zone)
        counts.append(np.where(told, np.diff(frame.offsets) - at, 0))
    return HeldOut(counts[1], counts[0] if (marks == VALIDATION).any() else None)


def _held(table: Table, name: str) -> set[str] | None:
    """The different words of a column, if they tell train from test."""
    dtype = table.schema[name]
    if not (dtype.is_integer() or dtype in (pl.Boolean, pl.String, pl.Categorical, pl.Enum)):
        return None
    few = table.collect(pl.col(name).unique().head(len(_WORDS) + 1)).to_series().cast(pl.String)
    if few.null_count():
        return None
    words = {word.strip().lower() for word in few}
    parts = {_WORDS.get(word) for word in words}
    return words if None not in parts and {TRAIN, TEST} <= parts else None


def _marks(table: Table, name: str) -> np.ndarray:
    """(R,) int8: the part of each row of the table."""
    if _held(table, name) is None:
        raise DataError(
            f'{table.origin}: column "{name}" does not tell train from test.',
            "Write train, validation and test, or true for the rows of the test.",
        )
    words = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
    return table.collect(words.replace_strict(_WORDS, return_dtype=pl.Int8)).to_series().to_numpy()
