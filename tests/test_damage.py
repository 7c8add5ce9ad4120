"""Damaged files: whatever bytes are given, the answer is a table or an error of two lines, soon, in little memory."""

import datetime
import gzip
import io
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from forecast.data.frame import frame_series, understand
from forecast.data.table import read
from forecast.errors import DataError, UsageError

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "datasets/ETTh1.csv").read_text(encoding="utf-8").splitlines()[:150]
DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=day) for day in range(90)]
SECONDS = 20  # of one file; on an idle machine none takes a tenth of a second
MEMORY = 1 << 30  # bytes that reading one file may add to the peak of the process


def _texts() -> list[bytes]:
    """Tables of many kinds, each whole and readable."""
    plain = "\n".join(LINES) + "\n"
    long = "unique_id,ds,y,price\n" + "".join(
        f"{name},{day},{(day.day * 7) % 11}.5,{day.month}\n" for name in ("A 1", '"b,c"', "ü") for day in DAYS[:40]
    )
    european = "Bericht;;\n\nDatum;Wert;Anteil\n" + "".join(
        f"{day:%d.%m.%Y};{1000 + i * 37 // 7}.{i % 1000:03},{i % 10};{i % 100} %\n" for i, day in enumerate(DAYS)
    )
    aligned = "day        value  other\n" + "".join(f"{day}  {i % 13:5d}  {i / 7:8.3f}\n" for i, day in enumerate(DAYS))
    quoted = '"time","a","note"\n' + "".join(
        f'"{day} 00:00:00","{i * 1000:,}.25","line\nbreak"\n' for i, day in enumerate(DAYS)
    )
    marks = "ds|y|z\n" + "".join(
        f"{day}|{'-' if i % 5 == 0 else i}|{'' if i % 7 else -999}\n" for i, day in enumerate(DAYS)
    )
    texts = [plain, long, european, aligned, quoted, marks]
    return [text.encode() for text in texts] + [gzip.compress(plain.encode(), mtime=0), european.encode("utf-16")]


def _parquets() -> list[bytes]:
    frame = pl.DataFrame(
        {
            "unique_id": [f"s{i // 30}" for i in range(90)],
            "ds": pl.Series(DAYS * 1).cast(pl.Datetime("us")),
            "y": [i * 37 % 101 / 7 for i in range(90)],
            "count": range(90),
            "label": pl.Series([f"c{i % 3}" for i in range(90)], dtype=pl.Categorical),
        }
    )
    contents = []
    for options in ({"compression": "uncompressed"}, {}, {"compression": "snappy"}, {"row_group_size": 20}):
        buffer = io.BytesIO()
        frame.write_parquet(buffer, **options)  # type: ignore[arg-type]
        contents.append(buffer.getvalue())
    return contents


def _flipped(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 20])):
        if damaged:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(content))
    return content[:begin] if chance.random() < 0.5 else content[:begin] + content[begin + chance.randrange(1, 40) :]


def _inserted(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    some = chance.choice(
        [b'"', b"\n", b",", b";", b"\x00", b"\xff\xfe", b"\xc3", b"\r", b"\xef\xbb\xbf", b"-", b"1e400"]
    )
    return (
        content[:place]
        + (chance.randbytes(chance.randrange(1, 9)) if chance.random() < 0.3 else some)
        + content[place:]
    )


def _doubled(content: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(content))
    part = content[begin : begin + chance.randrange(1, 400)]
    return content[:begin] + part * chance.choice([2, 2, 3, 50]) + content[begin:]


def _ends(content: bytes, chance: random.Random) -> bytes:
    """Damage within the last bytes, where Parquet keeps what all else depends on."""
    tail = max(0, len(content) - chance.choice([8, 60, 1000]))
    return content[:tail] + _flipped(content[tail:], chance)


def _lines(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    for _ in range(chance.choice([1, 2, 10])):
        a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
        what = chance.randrange(5)
        if what == 0:
            lines[a], lines[b] = lines[b], lines[a]
        elif what == 1:
            lines.insert(a, lines[b])
        elif what == 2 and len(lines) > 1:
            del lines[a]
        elif what == 3:
            lines[a] = lines[a][: chance.randrange(len(lines[a]) + 1)]
        else:
            lines.insert(a, chance.choice([b"", b"# note", b"Total,5", b"---", b",,,,", b"x" * 70_000]))
    return b"\n".join(lines)


def _cells(content: bytes, chance: random.Random) -> bytes:
    mark = max((b",", b";", b"|", b"\t", b" "), key=content.count)
    rows = [line.split(mark) for line in content.split(b"\n")]
    odd = [
        b"",
        b"NA",
        b"-",
        b"1e999",
        b"inf",
        b"abc",
        b"2020-13-45",
        b"1,5",
        b'"',
        b"\xff",
        b"0" * 400,
        b"9" * 30,
        b"(1)",
    ]
    for _ in range(chance.choice([1, 5, 60])):
        row = chance.choice(rows)
        row[chance.randrange(len(row))] = chance.choice(odd)
    return b"\n".join(mark.join(row) for row in rows)


def _columns(content: bytes, chance: random.Random) -> bytes:
    mark = max((b",", b";", b"|", b"\t", b" "), key=content.count)
    rows = [line.split(mark) for line in content.split(b"\n")]
    width = max(map(len, rows))
    order = [chance.randrange(width) for _ in range(width)] if chance.random() < 0.5 else list(range(width))
    order = order[: chance.randrange(1, width + 1)]
    return b"\n".join(mark.join(row[i] for i in order if i < len(row)) for row in rows)


def _encoded(content: bytes, chance: random.Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    wrong = chance.choice(
        ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "cp037", "utf-8-sig"]
    )
    return text.encode(wrong, errors="replace")


def _replaced(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 3000))


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flipped, _cut, _inserted, _doubled, _ends)
TEXT = (*BYTES, _lines, _lines, _cells, _cells, _columns, _encoded, _replaced)


def mutated(seed: int, contents: list[bytes], faults: tuple[Callable[[bytes, random.Random], bytes], ...]) -> bytes:
    """The file that belongs to a seed: one of `contents` with one to three faults."""
    chance = random.Random(seed)
    content = chance.choice(contents)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if content:
            content = chance.choice(faults)(content, chance)
    return content


def verdicts(path: Path, seeds: range, contents: list[bytes], faults: tuple[Callable[..., bytes], ...]) -> list[str]:
    """What went wrong with the files of `seeds`: anything but a table or a two-line error, in time and in memory."""
    wrong = []
    for seed in seeds:
        path.write_bytes(mutated(seed, contents, faults))
        peak, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            table = read(path)
            frame = frame_series(table, understand(table))
            if not (len(frame.values) and frame.offsets[-1] == len(frame.values)):
                wrong.append(f"{seed}: an empty frame")
        except (DataError, UsageError) as error:
            if "\n" in error.message + error.hint or not (error.message and error.hint):
                wrong.append(f"{seed}: not two lines: {error.message!r}, {error.hint!r}")
        except BaseException as error:  # PanicException is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong.append(f"{seed}: {type(error).__name__}: {str(error)[:200]}")
        if time.perf_counter() - begun > SECONDS:
            wrong.append(f"{seed}: took {time.perf_counter() - begun:.0f} s")
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 > MEMORY:
            wrong.append(f"{seed}: took more than 1 GB")
    return wrong


def test_damaged_text_gives_a_table_or_an_error_of_two_lines(tmp_path: Path) -> None:
    assert verdicts(tmp_path / "damaged.csv", range(300), _texts(), TEXT) == []


def test_damaged_parquet_gives_a_table_or_an_error_of_two_lines(tmp_path: Path) -> None:
    assert verdicts(tmp_path / "damaged.parquet", range(200), _parquets(), BYTES) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "first", "last"), [("csv", 1000, 8000), ("parquet", 1000, 4000)])
def test_ten_thousand_damaged_files_give_tables_or_errors_of_two_lines(
    kind: str, first: int, last: int, tmp_path: Path
) -> None:
    contents, faults = (_texts(), TEXT) if kind == "csv" else (_parquets(), BYTES)
    assert verdicts(tmp_path / f"damaged.{kind}", range(first, last), contents, faults) == []


def test_the_damage_is_real_and_not_all_of_it_is_fatal(tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(60):
        path = tmp_path / "damaged.csv"
        path.write_bytes(mutated(seed, _texts(), TEXT))
        try:
            read(path)
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_panic_of_the_reader_prints_nothing_beside_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.parquet"
    refused = 0
    for seed in range(60):
        path.write_bytes(mutated(seed, _parquets(), BYTES))
        try:
            table = read(path)
            table.collect(*table.schema)
        except DataError:
            refused += 1
    assert refused and capfd.readouterr().err == ""


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecast.data.unpack._ENOUGH", 1 << 20)
    path = tmp_path / "bomb.csv"
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(DataError, match="unpack to more than"):
        read(path)
