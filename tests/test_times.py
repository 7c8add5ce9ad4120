"""Times as text, digits and counts: every usual form is read exactly and given back as it was written."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.months import _LANGUAGES, _known
from forecast.data.times import Rules, looks_like_times, parse_times, restore
from forecast.errors import DataError

FORMS: tuple[str, ...] = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%d.%m.%Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%Y%m%d %H%M%S",
)
FORMS += ("%Y-%m-%d %H:%M:%S+0100", "%B %d, %Y %I:%M:%S %p", "%Y/%m/%d %H:%M:%S UTC")


def where(row: int) -> str:
    return f"sales.csv, line {row + 2}"


def read(values: list[object], rules: Rules | None = None) -> tuple[list[str], list[object]]:
    """The moments of a column as ISO text, and the column given back."""
    times, time_type = parse_times(pl.Series("ds", values), where, rules=rules)
    return [str(moment) for moment in times.astype("M8[us]").astype("M8[s]")], restore(times, time_type).to_list()


@pytest.mark.parametrize(
    ("written", "moments"),
    [
        (["31.12.99", "01.01.00"], ["1999-12-31T00:00:00", "2000-01-01T00:00:00"]),
        (["12/31/99", "01/01/00"], ["1999-12-31T00:00:00", "2000-01-01T00:00:00"]),
        (["1-Jan-49", "1-Feb-49"], ["1949-01-01T00:00:00", "1949-02-01T00:00:00"]),
        (["Jan-49", "Dec-60"], ["1949-01-01T00:00:00", "1960-12-01T00:00:00"]),
        (["1-JAN-1949", "1-FEB-1949"], ["1949-01-01T00:00:00", "1949-02-01T00:00:00"]),
        (["1 january 1949", "1 may 1949"], ["1949-01-01T00:00:00", "1949-05-01T00:00:00"]),
        (["1979 Jan", "1979 Feb"], ["1979-01-01T00:00:00", "1979-02-01T00:00:00"]),
        (["01/2020", "02/2020"], ["2020-01-01T00:00:00", "2020-02-01T00:00:00"]),
        (["1990M01", "1990M12"], ["1990-01-01T00:00:00", "1990-12-01T00:00:00"]),
        (["1998Q1", "1998Q4"], ["1998-01-01T00:00:00", "1998-10-01T00:00:00"]),
        (["1998q1", "1998q4"], ["1998-01-01T00:00:00", "1998-10-01T00:00:00"]),
        (["Q1 1998", "Q4 1998"], ["1998-01-01T00:00:00", "1998-10-01T00:00:00"]),
        (["2004K1", "2004K2"], ["2004-01-01T00:00:00", "2004-04-01T00:00:00"]),
        (["2020-W05", "2020-W53"], ["2020-01-27T00:00:00", "2020-12-28T00:00:00"]),
        (["2020W05", "2020W06"], ["2020-01-27T00:00:00", "2020-02-03T00:00:00"]),
        (["2020-W05-1", "2020-W05-7"], ["2020-01-27T00:00:00", "2020-02-02T00:00:00"]),
        (["2020-01-31t05:00:00z", "2020-01-31t06:00:00z"], ["2020-01-31T05:00:00", "2020-01-31T06:00:00"]),
        (["2020-01-31 05:00:00,250", "2020-01-31 05:00:01,500"], ["2020-01-31T05:00:00", "2020-01-31T05:00:01"]),
        (["2020-01-31 05:00+01", "2020-01-31 06:00+01"], ["2020-01-31T04:00:00", "2020-01-31T05:00:00"]),
        (["2020-01-31 05:00 UTC", "2020-01-31 06:00 UTC"], ["2020-01-31T05:00:00", "2020-01-31T06:00:00"]),
        (["20200131T0500Z", "20200131T0600Z"], ["2020-01-31T05:00:00", "2020-01-31T06:00:00"]),
        (["2020-01-31 05", "2020-01-31 18"], ["2020-01-31T05:00:00", "2020-01-31T18:00:00"]),
        (["1/31/2020 5 PM", "2/1/2020 6 AM"], ["2020-01-31T17:00:00", "2020-02-01T06:00:00"]),
        (["10/03/2004 18.00.00", "13/03/2004 19.00.00"], ["2004-03-10T18:00:00", "2004-03-13T19:00:00"]),
        (["Mon, 27 Jan 2020", "Tue, 28 Jan 2020"], ["2020-01-27T00:00:00", "2020-01-28T00:00:00"]),
        (["20200131", "20200201"], ["2020-01-31T00:00:00", "2020-02-01T00:00:00"]),
        ([202001310500, 202001310600], ["2020-01-31T05:00:00", "2020-01-31T06:00:00"]),
        ([2020013105, 2020013106], ["2020-01-31T05:00:00", "2020-01-31T06:00:00"]),
        (["1990", "1991"], ["1990-01-01T00:00:00", "1991-01-01T00:00:00"]),
        (["3. März 2021", "10. Mai 2021"], ["2021-03-03T00:00:00", "2021-05-10T00:00:00"]),
        (["12.Mrz.2021", "13.Okt.2021"], ["2021-03-12T00:00:00", "2021-10-13T00:00:00"]),
        (["12-ene-2020", "02-dic-2020"], ["2020-01-12T00:00:00", "2020-12-02T00:00:00"]),
        (["3 de marzo de 2021", "4 de abril de 2021"], ["2021-03-03T00:00:00", "2021-04-04T00:00:00"]),
        (
            ["févr. 2019", "mars 2019", "août 2019"],
            ["2019-02-01T00:00:00", "2019-03-01T00:00:00", "2019-08-01T00:00:00"],
        ),
        (["1 gennaio 2020 06:00", "2 luglio 2020 18:00"], ["2020-01-01T06:00:00", "2020-07-02T18:00:00"]),
        (["fev/2020", "dez/2020"], ["2020-02-01T00:00:00", "2020-12-01T00:00:00"]),
        (["1 mrt 2020", "2 okt 2020"], ["2020-03-01T00:00:00", "2020-10-02T00:00:00"]),
        (
            ["Jan. 2010", "Sept. 2010", "May 2011"],
            ["2010-01-01T00:00:00", "2010-09-01T00:00:00", "2011-05-01T00:00:00"],
        ),
        (["01JAN2021:06:00:00", "02JAN2021:06:00:00"], ["2021-01-01T06:00:00", "2021-01-02T06:00:00"]),
        (["Fri 03/05/2021", "Mon 03/08/2021"], ["2021-03-05T00:00:00", "2021-03-08T00:00:00"]),
        (["2010-T1", "2010-T4"], ["2010-01-01T00:00:00", "2010-10-01T00:00:00"]),
        (["1T2010", "4T2010"], ["2010-01-01T00:00:00", "2010-10-01T00:00:00"]),
        (["2010Q01", "2010Q04"], ["2010-01-01T00:00:00", "2010-10-01T00:00:00"]),
        (["1. Quartal 2010", "4. Quartal 2010"], ["2010-01-01T00:00:00", "2010-10-01T00:00:00"]),
        (["FY2010", "FY2011"], ["2010-01-01T00:00:00", "2011-01-01T00:00:00"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_a_form_is_read_and_given_back_as_written(written: list[object], moments: list[str]) -> None:
    assert read(written) == (moments, written)


@pytest.mark.parametrize(
    ("name", "numbers", "moments"),
    [
        ("Date", [44197, 44198], ["2021-01-01T00:00:00", "2021-01-02T00:00:00"]),
        ("Date", [44197.041667, 44197.083333], ["2021-01-01T01:00:00", "2021-01-01T02:00:00"]),
        ("time", [1949.0, 1949.08333333333, 1949.16666666667], ["1949-01-01T00:00:00", "1949-02-01T00:00:00"]),
        ("time", [2010.0, 2010.25, 2010.5], ["2010-01-01T00:00:00", "2010-04-01T00:00:00"]),
        ("year", [2010.04, 2010.13, 2010.21], ["2010-01-01T00:00:00", "2010-02-01T00:00:00"]),
        ("decimal_date", [2020.16120219, 2020.16393443, 2020.16666667], ["2020-02-29T00:00:00", "2020-03-01T00:00:00"]),
    ],
)
def test_days_of_spreadsheets_and_decimal_years_are_read_under_a_name_of_times(
    name: str, numbers: list[float], moments: list[str]
) -> None:
    times, time_type = parse_times(pl.Series(name, numbers), where)
    assert [str(moment) for moment in times[:2].astype("M8[us]").astype("M8[s]")] == moments
    np.testing.assert_allclose(restore(times, time_type).to_numpy(), numbers, rtol=0, atol=10.0**-time_type.digits)
    other = pl.Series("level", numbers)
    again, _ = parse_times(other, where, rules=time_type.rules)
    assert again.tolist() == times.tolist()
    if numbers[0] % 1 == numbers[1] % 1 == 0:
        assert parse_times(other, where)[1].steps
    else:
        with pytest.raises(DataError, match="line"):
            parse_times(other, where)


def test_no_word_names_different_months_in_two_languages_and_a_column_must_be_of_one() -> None:
    months: dict[str, int] = {}
    for language in _LANGUAGES:
        for word, month in _known(language).items():
            assert months.setdefault(word, month) == month
    with pytest.raises(DataError, match="line 2"):
        parse_times(pl.Series("ds", ["3 März 2021", "4 août 2021"]), where)


@pytest.mark.parametrize(
    ("written", "following"), [("janv. 2020", "févr. 2020"), ("3. JANUAR 2020", "3. FEBRUAR 2020")]
)
def test_names_of_months_that_were_not_seen_are_written_like_those_that_were(written: str, following: str) -> None:
    _, time_type = parse_times(pl.Series("ds", [written]), where)
    moment = np.array(["2020-02-03" if "3." in written else "2020-02-01"], "M8[us]").astype(np.int64)
    assert restore(moment, time_type).to_list() == [following]


@pytest.mark.parametrize(("size", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("as_text", [False, True])
def test_counts_from_1970_are_told_by_their_size_and_step(size: int, unit: str, as_text: bool) -> None:
    counts: list[object] = [(1_580_000_400 + 3600 * hour) * size for hour in range(4)]
    counts = [str(count) for count in counts] if as_text else counts
    times, time_type = parse_times(pl.Series("when", counts), where)
    assert time_type.epoch == unit
    assert times[0] == np.datetime64("2020-01-26T01:00", "us").astype(np.int64)
    assert restore(times, time_type).to_list() == counts


def test_large_numbers_of_uneven_step_are_counts_from_1970_only_where_the_name_says_so_or_the_fit_did() -> None:
    counts = [1_580_000_001, 1_580_000_008, 1_580_000_100]
    assert parse_times(pl.Series("reading", counts), where)[1].steps
    assert parse_times(pl.Series("unix_time", counts), where)[1].epoch == "s"
    assert parse_times(pl.Series("reading", counts), where, rules=Rules(epoch="s"))[1].epoch == "s"


@settings(deadline=None, max_examples=50)
@given(st.integers(1930, 2029), st.lists(st.integers(0, 99), min_size=1, max_size=30))
def test_two_digit_years_keep_the_century_that_the_fit_found(first: int, ages: list[int]) -> None:
    days = [dt.date(first + age, 3, 1) for age in sorted(ages)]
    written = [f"{day:%d.%m.%y}" for day in days]
    times, _ = parse_times(pl.Series("ds", written), where, rules=Rules(century=first))
    assert times.astype("M8[us]").astype("M8[D]").tolist() == days


@settings(deadline=None, max_examples=50)
@given(st.integers(1930, 2029), st.integers(1, 49))
def test_a_column_of_less_than_half_a_century_needs_no_pivot_of_its_own(first: int, years: int) -> None:
    days = [dt.date(year, 7, 4) for year in range(first, first + years + 1)]
    times, time_type = parse_times(pl.Series("ds", [f"{day:%m/%d/%y}" for day in days]), where, "month-first")
    assert times.astype("M8[us]").astype("M8[D]").tolist() == days
    assert time_type.century == first


def test_two_digit_dates_that_can_be_read_both_ways_are_refused_with_both_readings() -> None:
    with pytest.raises(DataError, match="03/04/99 can be 3 April or 4 March"):
        parse_times(pl.Series("ds", ["03/04/99", "03/05/99"]), where)
    assert read(["03/04/99", "03/05/99"], Rules("day-first"))[0] == ["1999-04-03T00:00:00", "1999-05-03T00:00:00"]


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%MZ"])
def test_midnight_written_as_24_is_that_of_the_next_day_and_written_so_again(form: str) -> None:
    moments = [dt.datetime(2020, 2, 28) + dt.timedelta(hours=6 * step) for step in range(1, 20)]
    written: list[object] = [
        (moment - dt.timedelta(days=1)).strftime(form.replace("%H", "24"))
        if moment.hour == 0
        else moment.strftime(form)
        for moment in moments
    ]
    assert read(written) == ([moment.isoformat() for moment in moments], written)


@pytest.mark.parametrize("written", ["2020-01-31 24:30", "2020-01-31 25:00", "2020-W54", "1998 Q5", "30.02.99"])
def test_what_is_no_time_is_refused_with_its_row(written: str) -> None:
    good = {"2": "2020-01-31 23:00", "W": "2020-W53", "Q": "1998 Q4", "9": "28.02.99"}
    kind = "W" if "W" in written else "Q" if "Q" in written else "9" if written.endswith("99") else "2"
    with pytest.raises(DataError, match="line 3"):
        parse_times(pl.Series("ds", [good[kind], written]), where)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)), min_size=2, max_size=20),
    st.sampled_from(FORMS),
)
def test_any_moment_survives_in_any_form(moments: list[dt.datetime], form: str) -> None:
    whole = [moment.replace(microsecond=0) for moment in moments]
    written: list[object] = [moment.strftime(form) for moment in whole]
    shift = dt.timedelta(hours=1 if "+0100" in form else 0)
    assert read(written) == ([(moment - shift).isoformat() for moment in whole], written)


def test_codes_words_and_numbers_do_not_look_like_times() -> None:
    for values in (["A-12", "B-13"], ["0012", "0013"], ["north", "south"], ["12.5", "13.5"], ["may be", "march on"]):
        assert not looks_like_times(pl.Series(values))
    for values in (["2020-W05", "2020-W06"], ["1-Jan-49", "1-Feb-49"], ["2020-01-31 24:00"], ["1998 Q1", "1998 Q2"]):
        assert looks_like_times(pl.Series(values))
