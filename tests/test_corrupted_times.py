"""A clean table, its times written in any form and damaged in known ways: the same frame, a ledger of just that."""

import datetime as dt
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.frame import SeriesFrame, frame_series, understand
from forecast.data.table import read

START = dt.datetime(1999, 12, 25)
# Steps of the clean tables, and the forms that can tell their times.
FINE = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%MZ", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d-%b-%y %H:%M", "%Y%m%d%H%M")
FINE += (
    "%Y-%m-%dT%H:%M:%S,000",
    "24:00",
    "epoch s",
    "epoch ms",
    "date;clock",
    "date;hour;minute",
    "year;month;day;clock",
)
DAILY = (*FINE, "%Y-%m-%d", "%d/%m/%y", "%B %d, %Y", "%Y%m%d", "%G-W%V-%u", "year;month;day")
FORMS = {dt.timedelta(minutes=30): FINE, dt.timedelta(hours=1): FINE, dt.timedelta(days=1): DAILY}


def told(times: list[dt.datetime], form: str) -> dict[str, list[object]]:
    """The columns that tell the times in a form."""
    if form.startswith("epoch"):
        size = 1000 if form.endswith("ms") else 1
        return {"timestamp": [int(time.replace(tzinfo=dt.UTC).timestamp()) * size for time in times]}
    if form == "24:00":
        day = dt.timedelta(days=1)
        ends = [f"{time - day:%Y-%m-%d} 24:00" for time in times]
        texts = [f"{time:%Y-%m-%d %H:%M}" for time in times]
        return {"ds": [end if text.endswith("00:00") else text for end, text in zip(ends, texts, strict=True)]}
    if ";" in form:
        codes = {
            "date": "%d.%m.%Y",
            "clock": "%H.%M",
            "hour": "%H",
            "minute": "%M",
            "year": "%Y",
            "month": "%m",
            "day": "%d",
        }
        parts = {part: [time.strftime(codes[part]) for time in times] for part in form.split(";")}
        whole = ("hour", "minute", "year", "month", "day")
        return {part: [int(text) for text in texts] if part in whole else list(texts) for part, texts in parts.items()}
    return {"ds": [time.strftime(form) for time in times]}


def clean(values: np.ndarray, step: dt.timedelta) -> pl.DataFrame:
    times = [START + step * row for row in range(len(values))]
    return pl.DataFrame({"ds": pl.Series(times, dtype=pl.Datetime("us")), "y": values})


def framed(table: pl.DataFrame) -> tuple[SeriesFrame, dict[str, int]]:
    given_table = read(table)
    frame = frame_series(given_table, understand(given_table))
    return frame, {repair.kind: repair.count for repair in given_table.ledger.repairs}


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_table_gives_the_frame_of_the_clean_one_and_a_ledger_of_its_faults(data: st.DataObject) -> None:
    step = data.draw(st.sampled_from(list(FORMS)), "step")
    form = data.draw(st.sampled_from(FORMS[step]), "form")
    count = data.draw(st.integers(60, 120), "rows")
    values = np.random.default_rng(count).normal(size=count).round(3)
    rows = list(range(count))
    expected: dict[str, int] = {}
    # Sundays that are all away in a daily table would be a calendar: few rows are dropped.
    dropped = data.draw(st.sets(st.integers(1, count - 2), max_size=3), "dropped")
    repeated = data.draw(st.lists(st.sampled_from(sorted(set(rows) - dropped)), max_size=3), "repeated")
    rows = sorted([*(row for row in rows if row not in dropped), *repeated])
    order = data.draw(st.sampled_from(["as it is", "descending", "shuffled"]), "order")
    if order == "descending":
        rows.reverse()
    elif order == "shuffled":
        rows = data.draw(st.permutations(rows), "permutation")
    if back := sum(below < above for above, below in pairwise(rows)):
        expected["sorted"] = back
    if repeated:
        expected["duplicates-merged"] = len(repeated)
    if dropped:
        expected["gap-filled"] = len(dropped)
    times = [START + step * row for row in rows]
    late = sum(not (time.hour or time.minute) for time in times)
    if ";" in form:
        expected["dates-joined"] = len(rows)
    elif form == "24:00" and late:
        expected["dates-joined"] = late
    damaged = pl.DataFrame({**told(times, form), "y": values[rows]})
    frame, repairs = framed(damaged)
    whole, none = framed(clean(values, step))
    assert none == {}
    assert repairs == expected
    assert np.array_equal(frame.start, whole.start) and frame.frequency == whole.frequency
    absent = np.isin(np.arange(count), sorted(dropped))
    assert np.array_equal(np.isnan(frame.values[:, 0]), absent)
    assert np.array_equal(frame.values[~absent], whole.values[~absent])


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_years_spread_over_columns_give_the_frame_of_the_long_table(data: st.DataObject) -> None:
    first = data.draw(st.integers(1900, 2000), "first year")
    places = data.draw(st.integers(2, 6), "places")
    count = data.draw(st.integers(max(3, places), 40), "years")  # with more places than years each is a series alone
    values = np.random.default_rng(count).normal(size=(places, count)).round(3)
    years = [str(year) for year in range(first, first + count)]
    names = pl.DataFrame({"place": [f"p{place}" for place in range(places)]})
    table = names.hstack(pl.DataFrame(values, schema=years, orient="row"))
    order = years[::-1] if data.draw(st.booleans(), "descending") else years
    frame, repairs = framed(table.select("place", *order))
    assert repairs == {"reshaped": count}
    assert frame.frequency.alias == "YS"
    np.testing.assert_array_equal(frame.values, values.T.astype(np.float32))
