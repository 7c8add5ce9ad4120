"""Bytes of a file as UTF-8 text: compression, encoding, ends of lines, and what programs leave between the signs."""

import gzip
import io
import re
import zlib
from typing import Any

from ..errors import DataError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV."),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "Save the sheet as CSV."),
    b"BZh": ("packed with bzip2", "Unpack it with bunzip2."),
    b"\xfd7zXZ": ("packed with xz", "Unpack it with unxz."),
    b"%PDF": ("a PDF", "Give the table itself as CSV."),
}
_ENOUGH = 1 << 28  # bytes that any file may unpack to; more must be in proportion to what was given
_PROPORTION = 200
_BLOCK = 1 << 20
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0e-\x19\x1c-\x1f]")  # in no text


def unpacked(raw: bytes, name: str) -> bytes:
    """The bytes of a gzip or zstd file, all others as they are. Raises DataError for damage and other packings."""
    try:
        if raw.startswith(GZIP):
            return _read_through(gzip.GzipFile(fileobj=io.BytesIO(raw)), len(raw), name)
        if raw.startswith(ZSTD):
            import pyarrow

            return _read_through(pyarrow.CompressedInputStream(pyarrow.BufferReader(raw), "zstd"), len(raw), name)
    except (OSError, EOFError, zlib.error) as error:
        kind = "gzip" if raw.startswith(GZIP) else "zstd"
        raise DataError(f"{name}: the {kind} file is damaged ({error}).", "Fetch or write the file again.") from error
    for magic, (what, hint) in _OTHERS.items():
        if raw.startswith(magic):
            raise DataError(f"{name}: the file is {what}.", hint)
    return raw


def decoded(raw: bytes, name: str) -> tuple[bytes, str, list[tuple[str, int, str, str]]]:
    """UTF-8 bytes with lines that end in a line feed, the encoding they came in, and what was left out.

    Repairs are given by kind, count, first and detail. Raises DataError.
    """
    encoding = _encoding(raw, name)
    if encoding != "utf-8":
        try:
            raw = raw.decode(encoding).encode("utf-8")
        except UnicodeDecodeError as error:
            message = f"{name}: byte {error.start} is not {encoding.upper()}."
            raise DataError(message, "Save the file as UTF-8.") from error
        except UnicodeEncodeError as error:
            message = f"{name}: the {encoding.upper()} text is damaged at character {error.start}."
            raise DataError(message, "Save the file as UTF-8.") from error
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if raw.endswith(b"\x1a"):  # how DOS ended a text
        raw = raw.rstrip(b"\x1a")
    if b"\r" in raw[: 1 << 16] and b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    repairs = []
    for mark, what in ((b"\x00", "NUL bytes"), (b"\xef\xbb\xbf", "byte-order marks of files joined to this one")):
        if count := raw.count(mark):
            line = raw.count(b"\n", 0, raw.index(mark)) + 1
            repairs.append(("encoding", count, f"line {line}", f"{what} were left out"))
            raw = raw.replace(mark, b"")
    return raw, encoding, repairs


def _encoding(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\x00" in raw:
        # Digits and Latin letters have a zero for their second byte: which half holds the zeros tells the order.
        head = raw[:4096]
        first, second = head[::2].count(0), head[1::2].count(0)
        if 5 * max(first, second) > 2 * len(head) and 20 * min(first, second) < max(first, second):
            return "utf-16-be" if first > second else "utf-16-le"
        # A logger that lost its power leaves a block of zeros, a field of fixed length ends in some.
        if 2 * raw.count(0) > len(raw) or _CONTROL.search(raw):
            raise DataError(f"{name}: this is not text.", "Give CSV, or Parquet with the suffix .parquet.")
    if raw.isascii():
        return "utf-8"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        # Five bytes have no meaning in Windows-1252; Latin-1, its subset elsewhere, reads any byte.
        return "latin-1" if any(byte in raw for byte in b"\x81\x8d\x8f\x90\x9d") else "windows-1252"
    return "utf-8"


def _read_through(stream: Any, packed: int, name: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := stream.read(_BLOCK):
        parts.append(part)
        size += len(part)
        if size > max(_ENOUGH, _PROPORTION * packed):
            raise DataError(
                f"{name}: {packed:,} bytes unpack to more than {size:,}: this is no table, or it is damaged.",
                "Unpack the file first, if it is as it should be.",
            )
    return b"".join(parts)
