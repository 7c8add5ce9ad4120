"""Forms of times written as text: which of them a column can have, how it is read, and how it is written again.

A form is a strftime pattern; beyond chrono's codes there are `%q`, a quarter, and `%,f`, a fraction after a comma.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import product

import polars as pl

from .months import in_english

# Microseconds of the years 1000 to 9999: chrono reads the 49 of 01.02.49 as year 49, Python ends at 9999.
LOWEST, HIGHEST = -30_610_224_000_000_000, 253_402_300_799_999_999
MIDNIGHT = r"([ Tt])24((?:[:.]?00)*(?:[.,]0+)?)((?: ?(?:Z|z|UTC|GMT|[+-][\d:]+))?)$"  # of a day, written at its end
TURNED = {  # day first: the same month first
    "%d/%m/%Y": "%m/%d/%Y",
    "%d-%m-%Y": "%m-%d-%Y",
    "%d/%m/%y": "%m/%d/%y",
    "%d-%m-%y": "%m-%d-%y",
    "%a %d/%m/%Y": "%a %m/%d/%Y",
}
_PLAIN_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y")
_NAMED_DATES: tuple[str, ...] = (
    "%b %d %Y",
    "%b %d, %Y",
    "%B %d %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%d-%B-%Y",
)
_NAMED_DATES += ("%d-%b-%y", "%d %b %y", "%d/%b/%Y", "%d%b%Y", "%Y-%b-%d", "%Y %b %d", "%d. %B %Y")
_NAMED_DATES += ("%d.%b.%Y", "%d de %b de %Y")
_NAMED_DATES += ("%a, %d %b %Y", "%a %d %b %Y", "%a %b %d %Y")
_NAMED_DATES += ("%a %d.%m.%Y", "%a %Y-%m-%d")
_WEEK_DAYS = ("%G-W%V-%u", "%GW%V%u")
_DAYS = (*_PLAIN_DATES, *TURNED, *TURNED.values(), *_NAMED_DATES, *_WEEK_DAYS)
_MONTHS: tuple[str, ...] = ("%Y-%m", "%Y/%m", "%Y.%m", "%Y:%m", "%m/%Y", "%m-%Y", "%m.%Y", "%YM%m", "%Y-M%m", "%Y M%m")
_MONTHS += ("%b %Y", "%B %Y", "%b-%Y", "%B-%Y", "%b/%Y", "%Y %b", "%Y %B", "%Y-%b", "%Y%b", "%b-%y", "%b %y", "%y-%b")
_MONTHS += ("%b de %Y",)
_YEARS = ("FY%Y", "FY %Y")
_QUARTERS: tuple[str, ...] = (
    "%Y Q%q",
    "%Y-Q%q",
    "%YQ%q",
    "%Y/Q%q",
    "%Y.Q%q",
    "%Y:Q%q",
    "Q%q %Y",
    "Q%q-%Y",
    "Q%q/%Y",
    "%qQ%Y",
    "%YK%q",
)
_QUARTERS += ("%Y-T%q", "%YT%q", "%Y T%q", "T%q %Y", "T%q-%Y", "%qT%Y", "%YQ0%q", "%Y-Q0%q", "%q. Quartal %Y")
_WEEKS = ("%G-W%V", "%GW%V", "%G W%V", "W%V %G", "W%V-%G")
_SHAPES = {
    "%Y": r"\d{4}",
    "%G": r"\d{4}",
    "%y": r"\d\d",
    "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
    "%a": "[A-Za-z]{3}",
}
_SHAPES |= {"%q": r"\d", "%u": r"\d"} | {f"%{c}": r"\d{1,2}" for c in "mdV"}
_DIGIT = re.compile(r"\d")
_CLOCK = re.compile(
    r"(?P<joint>T|t|:|,? )(?P<hour>\d{1,2})"
    r"(?:(?P<colon>[:.]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?P<fraction>[.,]\d+)?)?)?"
    r"(?P<half> ?[AaPp][Mm])?(?P<gap> ?)(?P<zone>Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
)


def candidates(sample: pl.Series, refused: frozenset[str] = frozenset()) -> list[tuple[str, int]]:
    """Forms that read any of the sample, best first, and how many values each leaves unread.

    `refused` dates are passed over. What a value looks like is asked first: that is far quicker than parsing.
    """
    values = set(in_english(sample)[0].to_list())
    looks = {_DIGIT.sub("0", value): value for value in values}.values()
    shaped: list[str] = []
    for day in (*_DAYS, *_MONTHS, *_QUARTERS, *_WEEKS, *_YEARS):
        found = [match for match in map(_shape(day).match, looks) if match] if day not in refused else []
        ends = dict.fromkeys(match.string[match.end() :] for match in found)
        shaped += [day] if "" in ends else []
        if day in _DAYS:
            shaped += dict.fromkeys(day + tail for tail in map(_tail, filter(None, ends)) if tail)
    unread = [(form, read_form(sample, form)[0].null_count()) for form in shaped]
    return sorted((pair for pair in unread if pair[1] < len(sample)), key=lambda pair: pair[1])


def twin(form: str) -> str | None:
    """The form with day and month exchanged, where it has such a twin."""
    for day, month in TURNED.items():
        for one, two in ((day, month), (month, day)):
            if form.startswith(one):
                return form.replace(one, two, 1)
    return None


def read_form(text: pl.Series, form: str) -> tuple[pl.Series, int]:
    """Moments in microseconds, null where the text has another form; and how many were midnights written as 24:00.

    A quarter, month or week without a day is its first day; two-digit years are left as chrono reads them.
    """
    moments = _parsed(text, form)
    if moments.null_count() > text.null_count() and ("%b" in form or "%B" in form):
        text = in_english(text)[0]
        moments = _parsed(text, form)
    if "%H" not in form or moments.null_count() == text.null_count():
        return moments, 0
    late = moments.is_null() & text.str.contains(MIDNIGHT)
    count = int(late.sum())
    if count:
        next_day = _parsed(text.str.replace(MIDNIGHT, "${1}00${2}${3}"), form).dt.offset_by("1d")
        moments = moments.zip_with(~late.fill_null(False), next_day)
    return moments, count


def _parsed(text: pl.Series, form: str) -> pl.Series:
    if "%q" in form:
        pattern = "(?i)^" + re.escape(form).replace("%Y", r"(?P<year>\d{4})").replace("%q", "(?P<quarter>[1-4])") + "$"
        parts = text.str.extract_groups(pattern).struct.unnest()
        month = (parts["quarter"].cast(pl.Int8) * 3 - 2).cast(pl.String).str.zfill(2)
        text, form = parts["year"] + month + "01", "%Y%m%d"
    elif "%V" in form and "%u" not in form:
        text, form = text + " 1", form + " %u"
    elif form in _YEARS:
        text, form = text + " 01-01", form + " %m-%d"
    elif not any(code in form for code in ("%d", "%u", "%V")):
        text, form = text + " 01", form + " %d"
    elif ("%H" in form or "%I" in form) and "%M" not in form:
        text, form = text + " 00", form + " %M"
    if "%,f" in form:
        text, form = text.str.replace(r",(\d)", ".${1}"), form.replace("%,f", "%.f")
    moments = text.str.to_datetime(form, strict=False, time_unit="us", cache=False)
    if moments.dtype.time_zone is not None:  # type: ignore[attr-defined]
        moments = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    stamps = moments.to_physical()
    low, high = stamps.min(), stamps.max()
    if isinstance(low, int) and isinstance(high, int) and not (low >= LOWEST and high <= HIGHEST):
        moments = moments.set(~stamps.is_between(LOWEST, HIGHEST), None)
    return moments


def written_form(moments: pl.Series, sample: pl.Series, form: str, zone: str | None) -> tuple[str, str | None]:
    """The strftime pattern that writes the sample as it stood: leading zeros, digits of a second; and its case.

    The case, "upper" or "lower", is given where names of months are not written as in "Jan".
    """
    if zone is not None:
        moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    midnights = sample.str.contains(MIDNIGHT)
    moments, sample = moments.filter(~midnights), sample.filter(~midnights)
    fallback = next(_variants(form))
    for variant in _variants(form):
        written = moments.dt.strftime(variant)
        if (written == sample).all():
            return variant, None
        for case, changed in (("upper", written.str.to_uppercase()), ("lower", written.str.to_lowercase())):
            if (changed == sample).all():
                return variant, case
    return fallback, None


def _variants(form: str) -> Iterator[str]:
    fractions = {"%.f": ("%.f", "%.3f", "%.6f"), "%,f": (",%3f", ",%6f")}
    code = next((code for code in fractions if code in form), "%.f")
    offset = next((code for code in ("%#z", "%z") if code in form), "%z")
    offsets = ("%:z", "%z") if offset == "%z" else ("%:::z",)
    for day, hour, fraction, written in product((False, True), (False, True), fractions[code], offsets):
        variant = form.replace(offset, written).replace(code, fraction)
        if day:
            variant = variant.replace("%d", "%-d").replace("%m", "%-m")
        if hour:
            variant = variant.replace("%H", "%-H").replace("%I", "%-I")
        yield variant


@cache
def _tail(end: str) -> str | None:
    """The form of what follows a date, such as " 18:00" or "T18:00:00Z"; None where it is no time of day."""
    match = _CLOCK.fullmatch(end)
    if match is None:
        return None
    half, zone = match["half"], match["zone"] or ""
    tail = match["joint"] + ("%I" if half else "%H")
    for part, code in (("minute", "%M"), ("second", "%S")):
        tail += match["colon"] + code if match[part] else ""
    tail += {".": "%.f", ",": "%,f"}[match["fraction"][0]] if match["fraction"] else ""
    tail += f"{' ' if half[0] == ' ' else ''}%p" if half else ""
    if zone and zone[0] in "+-":
        zone = "%#z" if len(zone) == 3 else "%z"
    return tail + match["gap"] + zone


@cache
def _shape(form: str) -> re.Pattern[str]:
    """What text in a form looks like."""
    pattern = re.escape(form).replace(r"\ ", " ")
    for code, looks in _SHAPES.items():
        pattern = pattern.replace(code, looks)
    return re.compile(pattern, re.IGNORECASE if "%q" in form else 0)
