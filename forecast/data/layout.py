"""Where the table stands in a text: delimiter, lines above the header, the header, units below it, lines at the end.

A line belongs to the data if it looks like the lines around it: as many fields, and numbers or dates where they have
some. What stands above and below is left out, and said.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..errors import DataError
from .months import beginnings
from .numbers import is_mark
from .times import quoted

DELIMITERS = (",", ";", "\t", "|")
_HEAD, _ENOUGH, _LEAST = 200, 1 << 16, 10  # lines that show the layout; bytes after which fewer do, but this many
_BETWEEN = 2  # lines between the header and the rows that may be blank or hold a few units
_WIDE = 1000  # columns that show what a line is; the others of a wider table are like them
_TAIL = 50  # lines at the end that may be no data
_COMMENT = ("#", "//", "%", "!")
_MONTH = rf"{beginnings()}[^\W\d_]*\.?"
_DATE = re.compile(
    r"(?i)^\W?(?:\d{4}[-/]\d{1,2}|\d{4}\.\d{1,2}\.\d|\d{1,2}[-/]\d{1,2}|\d{1,2}\.\d{1,2}\.\d{2}|\d{1,2}:\d\d)(?:\D.*|\d{0,2})$"
    rf"|^\d{{1,4}}[-/ .]*(?:de )?{_MONTH}(?:$|[-/ ,.\d])|^{_MONTH}[-/ ,.']*(?:de )?\d"
    r"|^(?:\d{4}[-/ .:]?|\d)(?:q|w|m|kw|t|k)\d"
    r"|^(?:q|w|kw|t)\d{1,2}[-/ ]\d|^\d{8}[t ]\d|^\d\. quartal \d|^fy ?\d{4}$"
)
_NUMBER = re.compile(
    r"(?i)^\(?[-+\u2212]?\s*(?:[a-z]{0,3}[$€£¥₹]|usd|eur|gbp|chf)?\s*[-+\u2212]?(?:\d|[.,]\d)[\d.,'’_\s]*"
    r"(?:e[-+]?\d+)?\s*[^\d\s:/-]{0,8}\)?-?$"
)
_SUMMARY = re.compile(
    r"(?i)^\W*(?:(?:grand |sub)?total|sum|mean|average|avg|median|min|max|minimum|maximum|std|count|sources?|notes?|"
    r"footnotes?|quelle|summe|gesamt|mittelwert|durchschnitt|hinweis|somme|moyenne|totale|totaux|media|suma|fuente|"
    r"copyright|end of \w+|eof|generated|exported|(?:last )?updated?)\b"
)


class Layout(NamedTuple):
    """Where the rows of a table are in a text, and what stands around them."""

    delimiter: str  # " ": runs of blanks
    header: str | None  # the line of names, without what marks it as a comment; None: there is none
    header_row: int | None  # its line, from 0
    first_line: int  # number of the line of the first row, from 1
    begin: int  # bytes [begin, end) of the text are the rows
    end: int
    plain: bool  # the whole text is the table: the header in its first line, the rows behind it
    repairs: list[tuple[str, int, str, str]]  # kind, count, first, detail


class _Line(NamedTuple):
    text: str
    number: int  # from 0
    offset: int  # in bytes


def find_layout(body: bytes, name: str) -> Layout:
    """How UTF-8 text is laid out. Raises DataError where nothing but comments and blank lines stands in it."""
    above, lines = _first_lines(body)
    separator = re.fullmatch(r'(?i)"?sep=(.)"?', lines[0].text.strip()) if lines else None
    if separator:
        above.append(lines.pop(0))
    if not any(line.text.strip() for line in lines):
        raise DataError(f"{name}: the file is empty.", "Give a table with a header line and rows.")
    sample = [line.text for line in lines if line.text.strip()]
    delimiter = separator.group(1) if separator else _delimiter(sample)
    cells = [cells_of(line.text, delimiter) for line in lines]
    width = _width([row for row, line in zip(cells, lines, strict=True) if line.text.strip()])
    kinds = _kinds([row for row in cells if len(row) == width and any(row)])

    first = next((i for i in range(len(lines)) if _is_data(cells, i, kinds)), None)
    header, first = _header(lines, cells, kinds, first)
    skipped = [line for line in (*above, *lines[: first if header is None else header]) if line.text.strip()]
    text = None if header is None else lines[header].text
    if header is None and above and _names(above[-1].text, kinds, delimiter) and first == 0:
        text = above[-1].text.lstrip().lstrip("#%!/ ")  # the header is the last of the comments
        skipped.remove(above[-1])
        row: int | None = above[-1].number
    else:
        row = None if header is None else lines[header].number
    if header is not None:
        skipped += [line for line in lines[header + 1 : first] if line.text.strip()]
        text = _matched(lines[header].text, cells, first, width, delimiter)
    begin = lines[first].offset if first < len(lines) else len(body)
    end, dropped = _footer(body, begin, delimiter, kinds)
    repairs = []
    if text is not None and header and (groups := _grouped(text, cells[header - 1], delimiter)) is not None:
        what = f"names stand below those of their groups: {quoted(next(n for n in groups if n not in text))}"
        repairs.append(("header-skipped", 1, _place(lines[header - 1]), what))
        skipped = [line for line in skipped if line is not lines[header - 1]]
        text = delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in groups)
    if text is not None and (several := _told_apart(text, width, delimiter)) is not None:
        last = cells_of(text, delimiter)[-1]
        what = f"{quoted(last)} stands for {len(several)} columns: {several[0]} to {several[-1]}"
        repairs.append(("header-skipped", len(several), f"line {(row or 0) + 1}", what))
        text = delimiter.join([*cells_of(text, delimiter)[:-1], *several])
    if skipped:
        what = f"lines above the data and not its header, first {quoted(skipped[0].text)}"
        repairs.append(("header-skipped", len(skipped), _place(skipped[0]), what))
    if dropped:
        what = f"lines below the data, first {quoted(dropped[0].text)}"
        repairs.append(("footer-dropped", len(dropped), _place(dropped[0]), what))
    first_line = lines[first].number + 1 if first < len(lines) else body.count(b"\n") + 2
    plain = row == 0 and first_line == 2 and header == 0 and text == lines[0].text and not dropped
    return Layout(delimiter, text, row, first_line, begin, end, plain, repairs)


def cells_of(line: str, delimiter: str) -> list[str]:
    """The fields of one line, bare of quotes and blanks; a delimiter within quotes separates nothing."""
    if '"' not in line:
        return line.split() if delimiter == " " else [cell.strip() for cell in line.split(delimiter)]
    pieces = line.split('"')
    pieces[::2] = [piece.replace(delimiter, "\x1f") for piece in pieces[::2]]
    return [cell.strip() for cell in "".join(pieces).split("\x1f")]


def _place(line: _Line) -> str:
    return f"line {line.number + 1}"


def _first_lines(body: bytes) -> tuple[list[_Line], list[_Line]]:
    """The comments and blank lines at the beginning, and the lines that follow them; quoted line breaks end none."""
    above: list[_Line] = []
    lines: list[_Line] = []
    offset = number = 0
    begin = 0
    while offset < len(body) and len(lines) < _HEAD and (len(lines) < _LEAST or offset - begin < _ENOUGH):
        end = body.find(b"\n", offset)
        end = len(body) if end < 0 else end
        if body.count(b'"', offset, end) % 2:
            end = _closing(body, end)
        text = body[offset:end].decode("utf-8", errors="replace").rstrip("\r")
        line = _Line(text, number, offset)
        if not lines and (not text.strip() or text.lstrip().startswith(_COMMENT)):
            above.append(line)
        else:
            begin = offset if not lines else begin
            lines.append(line)
        number += 1 + body.count(b"\n", offset, end)
        offset = end + 1
    return above, lines


def _closing(body: bytes, end: int) -> int:
    """The end of the line on which an open quote is closed; the same line where no near one does."""
    last = end
    for _ in range(20):
        following = body.find(b"\n", last + 1)
        following = len(body) if following < 0 else following
        if body.count(b'"', last, following) % 2:
            return following
        if following == len(body):
            break
        last = following
    return end


def _delimiter(sample: Sequence[str]) -> str:
    """The mark that splits most lines alike, into fields that no other mark would split; a comma where none does."""

    def fit(mark: str) -> tuple[bool, float, int]:
        rows = [cells_of(line, mark) for line in sample]
        width = _width(rows)
        if width == 1 or (len(rows[0]) == 1 and len(rows[1]) > 1 and " " not in sample[0].strip()):
            return False, 0.0, 0
        others = re.compile("[" + "".join(re.escape(other) for other in DELIMITERS if other != mark) + "]")
        fields = [cell for row in rows if len(row) == width for cell in row[:_WIDE]]
        whole = sum(not others.search(cell) or bool(_NUMBER.match(cell)) for cell in fields) / len(fields)
        return True, round(whole * sum(len(row) == width for row in rows) / len(rows), 2), width

    fits = {mark: fit(mark) for mark in DELIMITERS}
    best = max(DELIMITERS, key=fits.__getitem__)
    if fits[best][0]:
        return best
    return " " if _aligned(sample) else ";" if _fractions(sample) else ","


def _fractions(sample: Sequence[str]) -> bool:
    """Whether the lines are numbers with a decimal comma, which then separates nothing."""
    return sum("," in line and bool(_NUMBER.match(line.strip())) for line in sample) * 2 > len(sample)


def _aligned(sample: Sequence[str]) -> bool:
    """Whether runs of blanks separate the fields: no quotes, equally many in almost every line, most are numbers."""
    rows = [line.split() for line in sample]
    width = _width(rows)
    full = [row for row in rows if len(row) == width]
    if width == 1 or len(full) < 0.9 * len(rows) or any('"' in line for line in sample):
        return False
    numbers = sum(bool(_NUMBER.match(row[-1])) for row in full) >= 0.8 * (len(full) - 1)
    named = len(rows[0]) == width and not any(map(_kind, rows[0]))
    runs = sum("  " in line.strip() or "\t" in line.strip() for line in sample) > len(sample) / 2
    # One blank between plain digits parts them, unless it may group thousands.
    digits = width > 2 and all(cell.isascii() and cell.isdigit() for row in full for cell in row)
    apart = digits and any(len(cell) != 3 for row in full for cell in row[1:])
    return len(full) > 2 and numbers and (named or runs or apart)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """How many fields the lines of the table have: what most have, the first of them where it is a tie."""
    counts = Counter(len(row) for row in rows)
    several = [(count, width) for width, count in counts.items() if width > 1]
    best, width = max(several, default=(0, 1), key=lambda pair: pair[0])
    return width if best > 1 and 3 * best >= len(rows) else counts.most_common(1)[0][0]


def _kind(cell: str) -> str:
    """ "date", "number", or "" for anything else."""
    return "date" if _DATE.match(cell) else "number" if _NUMBER.match(cell) else ""


def _kinds(rows: Sequence[Sequence[str]]) -> list[str]:
    """What each column holds: dates, numbers, or "" for text. Told from the lower half, where no header is."""
    lower = [row[:_WIDE] for row in rows[len(rows) // 2 :]]
    kinds = []
    for column in zip(*lower, strict=True):
        given = [_kind(cell) for cell in column if not is_mark(cell)]
        kind, count = Counter(given).most_common(1)[0] if given else ("", 0)
        kinds.append(kind if 2 * count > len(given) else "")
    return kinds + [""] * (len(rows[0]) - len(kinds)) if rows else kinds


def _is_data(cells: Sequence[Sequence[str]], number: int, kinds: Sequence[str]) -> bool:
    """Whether a line holds what its columns hold below: what the first told column holds, and most of the others."""
    row = cells[number]
    if len(row) != len(kinds):
        return False
    told = [_kind(cell) == kind for cell, kind in zip(row, kinds, strict=True) if kind and not is_mark(cell)]
    if not told or not told[0] or 2 * sum(told) < len(told):
        return False
    below = cells[number + 1] if number + 1 < len(cells) else ()
    return not _counts(row) or _counts(below)


def _counts(row: Sequence[str]) -> bool:
    """Whether the numbers of a line count on, as years or places do that name columns."""
    numbers = [int(cell) for cell in row if len(cell) < 20 and cell.isascii() and cell.isdigit()]
    if len(numbers) < max(2, len([cell for cell in row if cell]) - 2):
        return False
    on = all(b - a == 1 for a, b in pairwise(numbers))
    return on and (len(numbers) > 2 or all(1500 <= number <= 2200 for number in numbers))


def _header(
    lines: Sequence[_Line], cells: Sequence[Sequence[str]], kinds: Sequence[str], first: int | None
) -> tuple[int | None, int]:
    """Which line holds the names, and which is the first of the rows."""
    width = len(kinds)
    if first is None:  # nothing looks like data: the names are the first full line
        header = next((i for i, row in enumerate(cells) if len(row) == width and any(row)), 0)
        return header, header + 1
    candidates: list[int] = []
    for i in range(first - 1, -1, -1):
        if len(cells[i]) == width and any(cells[i]) and (i == first - 1 or candidates or not any(map(_kind, cells[i]))):
            candidates.insert(0, i)
        elif candidates or i < first - _BETWEEN:
            break
    if not candidates:
        ragged = first > 0 and bool(lines[first - 1].text.strip())
        return (first - 1 if ragged else None), first
    # Names are told from a line of units by their number, and from a title by what is no number.
    header = max(
        candidates, key=lambda i: (sum(map(bool, cells[i])), -sum(_kind(cell) == "number" for cell in cells[i]))
    )
    for i in range(header + 1, first):
        if any(map(_kind, cells[i])):
            return header, i  # no line of units: a row that begins with a flaw
    return header, first


def _names(comment: str, kinds: Sequence[str], delimiter: str) -> bool:
    """Whether a comment holds a name for each column."""
    cells = cells_of(comment.lstrip().lstrip("#%!/ "), delimiter)
    return len(cells) == len(kinds) > 1 and all(cells) and not any(map(_kind, cells))


def _matched(header: str, cells: Sequence[Sequence[str]], first: int, width: int, delimiter: str) -> str:
    """The header, with as many delimiters as rows that end in one, and without a name for numbers of rows as R's."""
    names = cells_of(header, delimiter)
    rows = [row for row in cells[first:] if len(row) == width]
    if len(names) == width - 1 and [row[0] for row in rows] == [str(number + 1) for number in range(len(rows))] != []:
        return f'""{delimiter}{header}'
    if delimiter == " " or not rows:
        return header
    if len(names) == width - 1 and all(row[-1] == "" for row in rows):
        return header + delimiter
    return header.rstrip()[:-1] if len(names) == width + 1 and names[-1] == "" else header


def _grouped(header: str, above: Sequence[str], delimiter: str) -> list[str] | None:
    """Names that repeat, told apart by those of their groups: a cell over several columns stands over their first."""
    names = cells_of(header, delimiter)
    counts = Counter(filter(None, names))
    if delimiter == " " or len(above) != len(names) or max(counts.values(), default=0) < 2:
        return None
    groups: list[str] = []
    for cell in above:
        groups.append(cell or (groups[-1] if groups else ""))
    told = [f"{group} {name}".strip() if counts[name] > 1 else name for group, name in zip(groups, names, strict=True)]
    return told if len(set(filter(None, told))) == len(list(filter(None, told))) else None


def _told_apart(header: str, width: int, delimiter: str) -> list[str] | None:
    """Names for the columns that the last name of a header stands for, as `comma_separated_list_of_features` does."""
    names = cells_of(header, delimiter)
    if len(names) < 2 or len(names) >= width or not re.search(r"(?i)(?:^|_)list(?:_|$)", names[-1]):
        return None
    return [f"feature_{number}" for number in range(width - len(names) + 1)]


# The end


def _footer(body: bytes, begin: int, delimiter: str, kinds: Sequence[str]) -> tuple[int, list[_Line]]:
    """Where the rows end, and the lines below them that are no data."""
    window = max(begin, len(body) - _ENOUGH)
    if window > begin:
        window = body.find(b"\n", window) + 1 or len(body)
    pieces = body[window:].split(b"\n")[-_TAIL:]
    offset = len(body) + 1
    end = len(body)
    dropped: list[tuple[bytes, int]] = []
    pending: list[tuple[bytes, int]] = []
    for piece in reversed(pieces):
        offset -= len(piece) + 1
        text = piece.decode("utf-8", errors="replace").strip("\r")
        bare = text.strip().strip(delimiter + " ")
        if offset == begin or text.count('"') % 2:
            break
        if not bare:  # a blank line parts what stands below it from the data
            if pending:
                dropped, pending, end = pending + dropped, [], offset
            continue
        verdict = _below(text, delimiter, kinds)
        if verdict == "data":
            break
        pending.insert(0, (piece, offset))
        if verdict == "footer":
            dropped, pending, end = pending + dropped, [], offset
    if not dropped:
        return len(body), []
    return end, [_Line(piece.decode("utf-8", "replace"), body.count(b"\n", 0, at), at) for piece, at in dropped]


def _below(text: str, delimiter: str, kinds: Sequence[str]) -> str:
    """What a line near the end is: "data", "footer", or "text", which is a footer if a blank line parts it."""
    cells = cells_of(text, delimiter)
    told = next((cell for cell in cells if cell), "")
    summary = bool(_SUMMARY.match(told))
    if re.match(r"\(?\d+ (?:rows?|records?)\b", text):  # as a database counts them
        return "footer"
    if re.fullmatch(r"[-=_*~+\s]{3,}", text) or (len(cells) != len(kinds) and not re.search(r"\w", text)):
        return "footer"
    if len(cells) != len(kinds):
        if _kind(cells[0]):
            return "data"
        phrase = bool(kinds[0]) and bool(re.search(r"[ :]", cells[0]))
        return "footer" if summary or phrase or text.lstrip().startswith((*_COMMENT, "*")) else "text"
    if not any(kinds):
        return "data"
    held = [(cell, kind) for cell, kind in zip(cells, kinds, strict=True) if kind]
    dated = [cell for cell, kind in held if kind == "date"]
    if (dated and any(map(_kind, dated))) or (not dated and _kind(held[0][0])):
        return "data"
    if sum(bool(cell) for cell in cells) == 1 and len(cells) > 1 and (summary or re.search(r"[ :]", told)):
        return "footer"
    return "footer" if summary else "data" if any(_kind(cell) for cell, _ in held) else "text"
