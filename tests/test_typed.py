"""Columns in their types: what is settled for many columns by one look is what each gives alone."""

import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data import typed
from forecast.data.table import read

KINDS: tuple[tuple[str | None, ...], ...] = (
    ("12", "-7", "+3", "0", "9000000000"),
    ("12", "0.5", "-.25", "1e3", "007"),
    ("12", "NA", None, "NaN", "", "nan"),
    ("1.5", "None", None, " 2.5", "inf"),
    ("1,5", "2,25", "1.234,5", "NA", "1,234"),
    ("1,234", "5,678", "12"),
    ("1.234", "5.678", "12"),
    ("true", "FALSE", "NA", None, "yes"),
    ("abc", "north", "NA", "2020-01-31", "Q1"),
    ("12 %", "3 €", "(5)", "-", "7"),
    ("007", "012", "0.5", None, "0"),
    (None, "NA", "nan", "?"),
)


@st.composite
def tables(draw: st.DrawFn) -> list[pl.Series]:
    rows = draw(st.integers(1, 6))
    columns = draw(
        st.lists(
            st.sampled_from(KINDS).flatmap(lambda kind: st.lists(st.sampled_from(kind), min_size=rows, max_size=rows)),
            min_size=1,
            max_size=8,
        )
    )
    return [pl.Series(str(number), column, dtype=pl.String) for number, column in enumerate(columns)]


@settings(deadline=None, max_examples=40)
@given(tables(), st.booleans())
def test_many_columns_at_once_give_what_each_gives_alone(columns: list[pl.Series], comma: bool) -> None:
    found = typed.typed(columns, comma=comma)
    for column, many in zip(columns, found, strict=True):
        alone = typed._alone(column, comma)
        assert many.values.name == column.name and many.values.dtype == alone.values.dtype
        assert many.values.equals(alone.values) and many.mark == alone.mark
        assert (many.numbers is None) == (alone.numbers is None)


@pytest.mark.parametrize("cell", ["12", "0.25", "NA", "abc", "true"])
def test_few_columns_of_a_kind_are_left_to_be_looked_at_alone(cell: str) -> None:
    columns = [pl.Series(str(number), [cell, cell], dtype=pl.String) for number in range(50)]
    assert len(typed._at_once(columns, comma=False)) == len(columns)


def test_twenty_thousand_columns_take_no_longer_than_their_cells(tmp_path: Path) -> None:
    """A call for a column would take a minute here."""
    path = tmp_path / "wide.csv"
    cells = [f"{number}.5" for number in range(20_000)]
    names = [f"c{number}" for number in range(20_000)]
    path.write_text("\n".join([",".join(["ds", *names]), *(",".join([f"2020-01-0{d}", *cells]) for d in range(1, 6))]))
    begun = time.perf_counter()
    table = read(path)
    assert time.perf_counter() - begun < 15
    assert table.schema["c19999"] == pl.Float64
