"""Reading: what a file holds comes out as typed columns, and what cannot be is refused with its place."""

import gzip
import io
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecast.data.frame import frame_series, understand
from forecast.data.numbers import as_numbers
from forecast.data.table import Ledger, Table, read, to_library, write
from forecast.errors import DataError, ForecastError, UsageError

PLAIN = "ds,y,z\n2020-01-01,1.5,3\n2020-01-02,,4\n2020-01-03,2.5,5\n"


def saved(folder: Path, content: str | bytes, name: str = "sales.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def columns(table: Table) -> dict[str, list[object]]:
    return table.data.collect().to_dict(as_series=False)


def refused(source: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source)  # type: ignore[arg-type]
    assert caught.value.message and caught.value.hint and "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_numbers_become_numbers_and_an_empty_field_a_missing_value(tmp_path: Path) -> None:
    table = read(saved(tmp_path, PLAIN))
    assert dict(table.schema) == {"ds": pl.String(), "y": pl.Float64(), "z": pl.Int64()}
    assert columns(table)["y"] == [1.5, None, 2.5]
    assert (table.rows, table.first_line, table.library) == (3, 2, "path")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    table = read(saved(tmp_path, PLAIN.replace(",", delimiter), "sales.txt"))
    assert table.format["delimiter"] == delimiter
    assert columns(table) == columns(read(saved(tmp_path, PLAIN)))


@pytest.mark.parametrize(
    "change",
    [
        gzip.compress,
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.replace(b"\n", b"\r"),
        lambda b: b + b"\n\r\n  \n",
        lambda b: b.rstrip(b"\n"),
        lambda b: b.decode().encode("utf-16"),
    ],
    ids=["gzip", "byte-order mark", "CRLF", "CR", "blank end", "no last newline", "utf-16"],
)
def test_the_wrapping_of_a_text_does_not_change_its_values(tmp_path: Path, change: object) -> None:
    assert columns(read(saved(tmp_path, change(PLAIN.encode())))) == columns(read(saved(tmp_path, PLAIN)))  # type: ignore[operator]


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252"])
def test_another_encoding_is_read_and_noted(tmp_path: Path, encoding: str) -> None:
    table = read(saved(tmp_path, "ds,Zürich\n2020,1\n2021,2\n".encode(encoding)))
    assert list(table.schema) == ["ds", "Zürich"]
    assert [r.kind for r in table.ledger.repairs] == ["encoding"]


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path: Path) -> None:
    table = read(saved(tmp_path, "ds;y;n\n2020;1,5;7\n2021;2,25;8\n"))
    assert columns(table)["y"] == [1.5, 2.25]
    assert columns(table)["n"] == [7, 8]
    assert table.format["decimal"] == ","


def test_missing_marks_count_only_in_columns_of_numbers(tmp_path: Path) -> None:
    table = read(saved(tmp_path, "holiday,y\nNone,1\nNew Year,NA\nNone,NaN\nNone,null\nNone,None\nNone,2\n"))
    assert columns(table)["holiday"] == ["None", "New Year", *["None"] * 4]
    assert columns(table)["y"] == [1, None, None, None, None, 2]


def test_one_bad_cell_deep_in_a_column_keeps_the_column_as_text(tmp_path: Path) -> None:
    rows = [f"{i},{i / 2}" for i in range(5000)]
    rows[4321] = "4321,abc"
    table = read(saved(tmp_path, "t,y\n" + "\n".join(rows)))
    assert table.schema["y"] == pl.String
    assert columns(table)["y"][4321] == "abc"
    assert table.where(4321).endswith("sales.csv, line 4323")


def test_integers_that_turn_to_fractions_late_lose_nothing(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{i}" for i in range(3000))
    assert columns(read(saved(tmp_path, f"t,y\n{rows}\n3000,0.25\n")))["y"][-1] == 0.25


def test_codes_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    assert columns(read(saved(tmp_path, "id,y\n007,1\n012,2\n")))["id"] == ["007", "012"]


def test_large_integers_keep_every_digit(tmp_path: Path) -> None:
    big = 2**53 + 1
    assert columns(read(saved(tmp_path, f"id,y\n{big},1\nNA,2\n")))["id"] == [big, None]


def test_a_quoted_field_may_hold_the_delimiter_and_a_line_break(tmp_path: Path) -> None:
    table = read(saved(tmp_path, 'name,y\n"a,b",1\n"c\nd",2\n"e",\n'))
    assert columns(table) == {"name": ["a,b", "c\nd", "e"], "y": [1, 2, None]}


def test_lines_count_right_after_a_field_with_line_breaks(tmp_path: Path) -> None:
    table = read(saved(tmp_path, 'name,y\n"a\nb\nc",1\nd,2\n\n"e\n",3\nf,x\n'))
    assert [table.line(row) for row in range(4)] == ["line 2", "line 5", "line 7", "line 9"]


def test_numbers_without_a_header_get_counted_names(tmp_path: Path) -> None:
    table = read(saved(tmp_path, "1,2.5\n3,4.5\n"))
    assert columns(table) == {"0": [1, 3], "1": [2.5, 4.5]}
    assert (table.first_line, table.format["header_row"]) == (1, None)


def test_blank_rows_are_left_out_and_lines_still_count_right(tmp_path: Path) -> None:
    table = read(saved(tmp_path, "ds,y\n2020,1\n\n2021,2\n2022,3\n"))
    assert columns(table) == {"ds": [2020, 2021, 2022], "y": [1, 2, 3]}
    assert table.line(2) == "line 5"
    assert [(r.kind, r.count, r.first) for r in table.ledger.repairs] == [("footer-dropped", 1, "line 3")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n\n  \n", "empty"),
        ("ds,y\n", "no row"),
        ("ds,y", "no row"),
        ("ds,y\n2020,1\n2021,2,3\n", "line 3: 3 fields where the header has 2"),
        ("ds,y,z\n2020,1,1\n2021,2\n2022,1,1\n", "line 3: 2 fields where the header has 3"),
        ("ds,y\n2020,1\n2021\n2022,2\n", "line 3: 1 fields where the header has 2"),
        ('ds,y\n2020,"1\n2021,2\n', "line 2: a quote is never closed"),
        ("y,y\n2020,1\n", 'two columns are named "y"'),
        (b"ds,y\n2020,\x00\x01\n", "not text"),
        (b"\xff\xfed\x00s\x00\n", "not UTF-16"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "gzip file is damaged"),
    ],
)
def test_a_broken_text_is_refused_with_its_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    error = refused(saved(tmp_path, content))
    assert said in error.message and "sales.csv" in error.message


def test_a_missing_file_suggests_near_names_of_its_folder(tmp_path: Path) -> None:
    saved(tmp_path, PLAIN, "sales_2020.csv")
    error = refused(str(tmp_path / "sale_2020.csv"))
    assert "no such file" in error.message and "sales_2020.csv" in error.hint
    assert "does not exist" in refused(str(tmp_path / "nowhere" / "a.csv")).hint


def test_standard_input_is_read_as_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PLAIN.encode())))
    table = read("-")
    assert (table.rows, table.origin) == (3, "-")


def test_parquet_is_read_lazily_from_a_file_a_folder_and_a_glob(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": [3, 4], "y": [0.5, 1.5]})
    frame.write_parquet(tmp_path / "b.parquet")
    pl.DataFrame({"ds": [1, 2], "y": [2.5, 3.5]}).write_parquet(tmp_path / "a.parquet")
    assert columns(read(tmp_path / "b.parquet")) == frame.to_dict(as_series=False)
    for source in (tmp_path, str(tmp_path / "*.parquet")):
        table = read(source)
        assert isinstance(table.data, pl.LazyFrame)
        assert columns(table)["ds"] == [1, 2, 3, 4]
        assert table.rows == 4 and table.where(3).endswith("row 3")


def test_a_folder_without_parts_and_parquet_without_rows_are_refused(tmp_path: Path) -> None:
    assert "no Parquet file" in refused(tmp_path).message
    pl.DataFrame({"y": pl.Series([], dtype=pl.Float64)}).write_parquet(tmp_path / "none.parquet")
    assert "no rows" in refused(tmp_path / "none.parquet").message


def test_parts_of_different_columns_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"y": [1.0]}).write_parquet(tmp_path / "a.parquet")
    for other, said in (
        ({"x": ["b"]}, 'no column "y"'),
        ({"y": ["b"]}, "holds String"),
        ({"y": [1.0], "x": [1]}, '"x"'),
    ):
        pl.DataFrame(other).write_parquet(tmp_path / "b.parquet")
        error = refused(tmp_path)
        assert "b.parquet" in error.message and said in error.message and "a.parquet" in error.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_parquet_gives_values_or_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "damaged.parquet"
    pl.DataFrame({"t": range(300), "y": [i / 7 for i in range(300)]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 6)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert read(path).collect("t", "y").width == 2
    except DataError as error:
        assert "damaged.parquet" in error.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_text_gives_a_table_or_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((PLAIN + "".join(f"2020-02-{i:02},{i / 3},{i}\n" for i in range(1, 29))).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b'"', b",", b"\n", b";", b"\x00", b"\xff", b"NA", b"\r", b"e", b"-", b"\xc3"])
        )
    try:
        table = read(saved(tmp_path, bytes(content)))
        assert table.data.collect().height == table.rows > 0
    except DataError as error:
        assert "sales.csv" in error.message and error.hint


def test_a_polars_frame_is_taken_as_it_is() -> None:
    frame = pl.DataFrame({"ds": [1, 2], "y": [1.0, 2.0]})
    for source in (frame, frame.lazy()):
        table = read(source)
        assert table.data.collect().equals(frame)
        assert (table.library, table.origin, table.rows) == ("polars", "<frame>", 2)


def test_a_pandas_index_of_times_or_with_a_name_becomes_a_column() -> None:
    days = pd.date_range("2020-01-01", periods=3, tz="Europe/Berlin")
    assert list(read(pd.DataFrame({"y": [1.0, 2, 3]}, index=days)).schema) == ["ds", "y"]
    assert read(pd.DataFrame({"y": [1.0, 2, 3]}, index=days)).schema["ds"].time_zone == "Europe/Berlin"  # type: ignore[attr-defined]
    offset = pd.date_range("2020-01-01", periods=3, tz="+02:00")
    assert read(pd.DataFrame({"y": [1.0, 2, 3]}, index=offset)).schema["ds"].time_zone == "Etc/GMT-2"  # type: ignore[attr-defined]
    assert (
        read(pd.DataFrame({"y": [1.0, 2, 3]}, index=offset)).data.collect()["ds"][0].isoformat()
        == "2020-01-01T00:00:00+02:00"
    )
    months = pd.period_range("2020-01", periods=3, freq="M", name="month")
    assert read(pd.DataFrame({"y": [1.0, 2, 3]}, index=months)).schema["month"].is_temporal()
    assert list(read(pd.DataFrame({"y": [1.0, 2, 3]})).schema) == ["y"]


def test_pandas_ids_of_any_type_are_read() -> None:
    frame = pd.DataFrame(
        {
            "integer": [1, 2],
            "object": pd.Series(["a", "b"], dtype=object),
            "category": pd.Categorical(["x", "y"]),
            "arrow": pd.Series(["a", "b"], dtype="string[pyarrow]"),
            "nullable": pd.array([1, None], dtype="Int64"),
            5: [0.5, float("nan")],
        }
    )
    table = read(frame)
    assert columns(table) == {
        "integer": [1, 2],
        "object": ["a", "b"],
        "category": ["x", "y"],
        "arrow": ["a", "b"],
        "nullable": [1, None],
        "5": [0.5, None],
    }
    assert table.library == "pandas"


def test_a_pandas_column_of_mixed_types_is_refused_by_name() -> None:
    assert '"mixed"' in refused(pd.DataFrame({"y": [1.0, 2.0], "mixed": [1, "a"]})).message


def test_what_is_no_table_is_refused() -> None:
    assert "not a table" in refused(42).message
    assert "no rows" in refused(pl.DataFrame({"y": []})).message


def test_results_come_back_in_the_library_of_the_input() -> None:
    frame = pl.DataFrame({"y": [1.0]})
    assert isinstance(to_library(frame, "pandas"), pd.DataFrame)
    assert to_library(frame, "polars") is frame
    assert to_library(frame, "path") is frame


def test_written_tables_read_back_equal(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": pl.Series([0, 3_600_000_000]).cast(pl.Datetime("us")), "y": [0.1, None]})
    write(frame, tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").equals(frame)
    write(frame, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "ds,y\n1970-01-01 00:00:00,0.1\n1970-01-01 01:00:00,\n"


def test_writing_refuses_other_formats_and_missing_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "out.xlsx", tmp_path / "out", tmp_path / "none" / "out.csv"):
        with pytest.raises(UsageError):
            write(pl.DataFrame({"y": [1]}), path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pl.DataFrame({"y": [1]}), tmp_path / "out.csv")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(UsageError, match="No space left"):
        write(pl.DataFrame({"y": [2]}), tmp_path / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "y\n1\n"


def test_the_ledger_keeps_an_entry_once_and_in_the_shape_of_the_doctor() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.repair("sorted", 12, "line 14", "rows were put in order")
        ledger.caution("constant-column", "x", "0", 5)
    assert ledger.to_dict() == {
        "repairs": [{"kind": "sorted", "count": 12, "first": "line 14", "detail": "rows were put in order"}],
        "warnings": [{"kind": "constant-column", "column": "x", "value": "0", "count": 5}],
    }


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_survive_as_text(values: list[int]) -> None:
    numbers = as_numbers(pl.Series([str(v) for v in values]))
    assert numbers is not None and numbers.to_list() == values


def test_every_error_is_a_forecast_error() -> None:
    assert issubclass(DataError, ForecastError) and issubclass(UsageError, ForecastError)


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_numbers_of_rows_that_r_writes_without_a_name_are_no_column(mark: str, quote: str, tmp_path: Path) -> None:
    rows = [(f"2024-01-{day:02}", str(day * day % 7 + 0.5)) for day in range(1, 31)]
    lines = [[f"{quote}ds{quote}", f"{quote}y{quote}"]]
    lines += [[f"{quote}{number}{quote}", f"{quote}{day}{quote}", y] for number, (day, y) in enumerate(rows, 1)]
    path = tmp_path / "r.txt"
    path.write_text("\n".join(mark.join(line) for line in lines) + "\n")
    table = read(path)
    assert table.collect("ds", "y").rows() == [(day, float(y)) for day, y in rows]
    assert [repair.kind for repair in table.ledger.repairs] == ["header-skipped"]
    frame = frame_series(table, understand(table))
    assert frame.values.shape == (30, 1)
    assert "column-dropped" in [repair.kind for repair in table.ledger.repairs]


def test_a_header_that_lacks_its_last_name_is_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("ds,y\n" + "".join(f"2024-01-{day:02},{day},{day}\n" for day in range(1, 31)))
    with pytest.raises(DataError, match="line 2: 3 fields where the header has 2"):
        read(path)
