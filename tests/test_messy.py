"""Files as people have them: each gives the frame of the plain table, and the ledger says what was done."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from forecast.cli import main
from forecast.data.frame import frame_series, understand
from forecast.data.table import read

DAYS = [date(2021, 2, 20) + timedelta(days=number) for number in range(30)]
SALES = [1000.25 + 37 * (number % 7) + 3.5 * number for number in range(30)]
GERMAN = ["Januar", "Februar", "März"]
FRENCH = ["janv.", "févr.", "mars"]


def rows(form: str, end: str = "\n") -> list[str]:
    """A line a day: `{day}`, `{sales}` and their number `{n}` in a form."""
    pairs = enumerate(zip(DAYS, SALES, strict=True), 1)
    return [form.format(day=day, sales=sales, n=number) + end for number, (day, sales) in pairs]


def european(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def told(form: Callable[[date], str], value: Callable[[float], str] = str, mark: str = ",") -> str:
    """A table of two columns, the days and the sales written so."""
    return "".join(
        f"{a}{mark}{b}\n" for a, b in [("day", "sales"), *zip(map(form, DAYS), map(value, SALES), strict=True)]
    )


PLAIN = rows("{day},{sales}")
HEAD = "day,sales\n"
MESSY: dict[str, tuple[str | bytes, dict[str, int]]] = {
    "the export of a bank": (
        "Konto;DE12 3456\nZeitraum;20.02.2021 - 21.03.2021\n\n"
        + told(lambda day: f"{day:%d.%m.%Y}", lambda sales: european(sales) + " €", ";")
        + "Summe;45.678,90 €\n",
        {"header-skipped": 2, "footer-dropped": 1, "numbers-parsed": 30},
    ),
    "units below the header": (HEAD + ",EUR\n" + "".join(PLAIN), {"header-skipped": 1}),
    "a total": (HEAD + "".join(PLAIN) + "Grand Total,45678.9\n", {"footer-dropped": 1}),
    "a header that stands again": (HEAD + "".join(PLAIN[:20]) + HEAD + "".join(PLAIN[20:]), {"header-skipped": 1}),
    "files with marks joined": (
        "\ufeff" + HEAD + "".join(PLAIN[:20]) + "\ufeff" + HEAD + "".join(PLAIN[20:]),
        {"encoding": 1, "header-skipped": 1},
    ),
    "ends of lines mixed": (HEAD + "".join(PLAIN[:9]) + "".join(PLAIN[9:]).replace("\n", "\r\n"), {}),
    "a block of zeros": ((HEAD + "".join(PLAIN)).encode() + bytes(256), {"encoding": 256}),
    "zeros behind fields": (HEAD + "".join(PLAIN).replace(",", "\0\0,", 2), {"encoding": 4}),
    "markdown": ("| day | sales |\n|-----|------:|\n" + "".join(rows("| {day} | {sales} |")), {"header-skipped": 1}),
    "psql": (
        "    day     |  sales\n------------+---------\n" + "".join(rows(" {day} | {sales:8}")) + "(30 rows)\n",
        {"header-skipped": 1, "footer-dropped": 1},
    ),
    "mysql": (
        "+-----+-----+\n| day | sales |\n+-----+-----+\n" + "".join(rows("| {day} | {sales:8} |")) + "+-----+-----+\n",
        {"header-skipped": 3},
    ),
    "lines quoted as a whole": (
        "".join(f'"{line.strip()}"\n' for line in [HEAD, *PLAIN]),
        {"header-skipped": 31},
    ),
    "a blank line below the header": (HEAD + "\n" + "".join(PLAIN), {}),
    "few units below the header": (
        "  day   sales\n         EUR\n".replace("EUR", "mio EUR x") + "".join(rows("{day}   {sales:8}")),
        {"header-skipped": 1},
    ),
    "narrow blanks": (
        told(str, lambda sales: f"{sales:,.2f}".replace(",", "\u202f").replace(".", ","), ";"),
        {"numbers-parsed": 30},
    ),
    "German months": (told(lambda day: f"{day.day}. {GERMAN[day.month - 1]} {day.year}"), {}),
    "French months": (told(lambda day: f"{day.day} {FRENCH[day.month - 1]} {day.year}"), {}),
    "SAS": (told(lambda day: f"{day:%d%b%Y}:00:00:00".upper()), {}),
    "days of a spreadsheet": (told(lambda day: str((day - date(1899, 12, 30)).days)).replace("day", "Date"), {}),
    "names of days": (told(lambda day: f"{day:%a %d/%m/%Y}"), {}),
}


@pytest.mark.parametrize("case", MESSY)
def test_a_messy_file_gives_the_plain_table_and_says_what_was_done(case: str, tmp_path: Path) -> None:
    content, repairs = MESSY[case]
    path = tmp_path / "messy.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read(path)
    schema = understand(table)
    frame = frame_series(table, schema)
    assert frame.start.astype("M8[us]").tolist() == [np.datetime64(DAYS[0], "us").tolist()] and schema.freq == "D"
    assert schema.values == ("sales",) or case == "the export of a bank"
    np.testing.assert_array_equal(frame.values[:, 0], np.array(SALES, np.float32))
    counts: Counter[str] = Counter()
    for repair in table.ledger.repairs:
        counts[repair.kind] += repair.count
    assert counts == repairs


@pytest.mark.parametrize(
    ("name", "times", "said"),
    [
        ("Date", range(44197, 44227), "days since 1899-12-30"),
        ("year", [f"FY{1990 + n}" for n in range(30)], "fiscal years"),
        ("time", [f"{1990 + n / 12:.3f}" for n in range(30)], "decimal years, read as months"),
    ],
)
def test_a_reading_of_times_that_is_not_plain_is_in_the_ledger(
    name: str, times: Sequence[object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "times.csv"
    path.write_text(f"{name},sales\n" + "".join(f"{t},{s}\n" for t, s in zip(times, SALES, strict=True)))
    table = read(path)
    schema = understand(table)
    assert schema.time == name
    assert [(c.kind, said in c.value) for c in table.ledger.cautions] == [("time-reading", True)]


def test_names_below_those_of_their_groups_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    head = "Region,North,,South,\nday,sales,cost,sales,cost\n"
    path.write_text(head + "".join(rows("{day},{sales},{n},7{n},{n}.5")))
    table = read(path)
    assert list(table.schema) == ["day", "North sales", "North cost", "South sales", "South cost"]
    assert [(repair.kind, repair.count, repair.first) for repair in table.ledger.repairs] == [
        ("header-skipped", 1, "line 1")
    ]


def test_the_lines_of_rows_count_right_beside_a_header_that_stands_again(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text(HEAD + "".join(PLAIN[:5]) + HEAD + "".join(PLAIN[5:]))
    table = read(path)
    assert (table.rows, table.line(4), table.line(5)) == (30, "line 6", "line 8")


def test_a_row_that_only_begins_like_the_header_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("name,y\na,1\nname,2\nb,3\n")
    assert read(path).data.collect()["name"].to_list() == ["a", "name", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + "".join(PLAIN[:20]) + "2021-03-12,12 pears\n" + "".join(PLAIN[21:]), "line 22"),
        (HEAD + "".join(PLAIN[:20]) + "12 Maerzo 2021,5\n" + "".join(PLAIN[21:]), "line 22"),
        (told(lambda day: f"{day.day} {['ene', 'février', 'März'][day.month - 1]} {day.year}"), "line 2"),
        (HEAD + "".join(rows("{n:02}/03/2021,{sales}")[:12]), "can be"),
        (HEAD + "".join(PLAIN[:20]).replace("\n", "\x01\n") + "\0\n", "not text"),
    ],
    ids=["a unit that is no unit", "a month of no language", "months of two languages", "day or month", "no text"],
)
def test_what_cannot_be_read_is_refused_with_code_3_and_its_row(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "messy.csv"
    path.write_text(content)
    assert main(["doctor", str(path), "--time-col", "day", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)
    assert said in error["message"] and error["hint"] and "\n" not in error["message"] + error["hint"]
