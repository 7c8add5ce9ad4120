"""Names of months in several languages: told from all words of a column, read as English, written as they were."""

import unicodedata
from collections.abc import Iterable
from functools import cache

import polars as pl

ENGLISH = "january february march april may june july august september october november december"
_LANGUAGES = {
    "English": ENGLISH,
    "German": "januar februar märz april mai juni juli august september oktober november dezember",
    "French": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "Spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "Italian": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "Portuguese": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "Dutch": "januari februari maart april mei juni juli augustus september oktober november december",
}
# What is no beginning of a name, by month.
_BESIDE = {"German": {"mrz": 3, "jänner": 1}, "Spanish": {"setiembre": 9}, "Dutch": {"mrt": 3}}
_PARTS = r"(?s)^(?<ahead>.*?)(?<word>\p{L}{3,})(?<behind>.*)$"
_MOST = 40  # different words of a column; more are no names of months in one language


def _plain(word: str) -> str:
    """In small letters without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(c))


@cache
def _known(language: str) -> dict[str, int]:
    """Every way to write a month: its name, or a beginning of it of three letters that no other month has."""
    names = [_plain(name) for name in _LANGUAGES[language].split()]
    known = {_plain(word): month for word, month in _BESIDE.get(language, {}).items()}
    for month, name in enumerate(names, 1):
        for size in range(3, len(name) + 1):
            if sum(other.startswith(name[:size]) for other in names) == 1 or size == len(name):
                known[name[:size]] = month
    return known


def beginnings() -> str:
    """A pattern of the first three letters of every name, with and without accents."""
    words = {word for names in _LANGUAGES.values() for word in names.split()}.union(*_BESIDE.values())
    return "(?:" + "|".join(sorted({word[:3] for word in words} | {_plain(word)[:3] for word in words})) + ")"


def in_english(text: pl.Series) -> tuple[pl.Series, tuple[str, ...] | None]:
    """Text with names of months as in "Jan"; and how the twelve are written, None where nothing was changed.

    One language must have every word of the column, in whole or as a beginning of at least three letters; a point
    behind the word is taken for part of it unless a digit follows.
    """
    parts = text.str.extract_groups(_PARTS).struct.unnest()
    words = parts["word"].drop_nulls().unique().sort().to_list()
    if not words or len(words) > _MOST:
        return text, None
    plain = {word: _plain(word) for word in words}
    able = [name for name in _LANGUAGES if all(word in _known(name) for word in plain.values())]
    # "januar" begins an English name, but is a German one.
    language = max(able, key=lambda name: len({*map(_plain, _LANGUAGES[name].split())} & {*plain.values()}), default="")
    pointed = parts["behind"].str.contains(r"^\.(?:\D|$)").fill_null(False)
    if not language or (language == "English" and not pointed.any() and _usual(plain.values())):
        return text, None
    months = {word: _known(language)[plain[word]] for word in words}
    short = parts["word"].replace_strict({w: _english(m) for w, m in months.items()}, return_dtype=pl.String)
    behind = parts["behind"].str.replace(r"^\.(\D|$)", "${1}")
    given = parts["word"].zip_with(~pointed, parts["word"] + ".")
    seen = dict(pl.DataFrame([parts["word"], given.alias("given")]).unique("word").drop_nulls().iter_rows())
    written = _written(language, {months[word]: name for word, name in seen.items()})
    return (parts["ahead"] + short + behind).alias(text.name), written


def in_words(text: pl.Series, months: tuple[str, ...]) -> pl.Series:
    """Text with names of months as in "Jan", written by the given names."""
    parts = text.str.extract_groups(_PARTS).struct.unnest()
    names = {_english(number): name for number, name in enumerate(months, 1)}
    return (parts["ahead"] + parts["word"].replace_strict(names) + parts["behind"]).alias(text.name)


def _english(month: int) -> str:
    return ENGLISH.split()[month - 1][:3].title()


def _usual(words: Iterable[str]) -> bool:
    """Whether English names are whole or of three letters, as every form of time reads them."""
    return all(len(word) == 3 or word in ENGLISH.split() for word in words)


def _written(language: str, seen: dict[int, str]) -> tuple[str, ...]:
    """Twelve names: as they were seen, and the others alike in length, letters and point."""
    names = _LANGUAGES[language].split()
    bare = {month: word.rstrip(".") for month, word in seen.items()}
    whole = all(_plain(word) == _plain(names[month - 1]) for month, word in bare.items())
    size = max((len(word) for m, word in bare.items() if len(word) < len(names[m - 1])), default=3)
    point = any(word.endswith(".") for word in seen.values())
    first = next(iter(bare.values()))
    case = str.upper if first.isupper() else str.title if first[0].isupper() else str.lower
    written = []
    for month, name in enumerate(names, 1):
        short = name if whole else name[:size]
        written.append(seen.get(month) or case(short) + ("." if point and len(short) < len(name) else ""))
    return tuple(written)
