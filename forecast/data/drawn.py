"""Tables drawn with lines, as Markdown and the shells of databases print them, and lines quoted as a whole."""

import re

_RULER = re.compile(rb"(?m)^(?=[^\n]*(?:--|==))[-=:+| \t]*[+|][-=:+| \t]*\r?$")
_HEAD = 1 << 14  # bytes in which a first line of a drawing must be
_QUOTED = re.compile(rb'(?m)^"((?:[^"\n]|"")*)"\r?$')
_INSIDE = re.compile(rb'(?m)^"[^"\n]*[,;\t|][^"\n]*"\r?$')


def undrawn(body: bytes, repairs: list[tuple[str, int, str, str]]) -> bytes:
    """The text without what draws a table, as many lines as before; what was taken off is added to `repairs`."""
    head = body[:_HEAD]
    if b"|" in head and (first := _RULER.search(head)):
        number = body.count(b"\n", 0, first.start()) + 1
        body, count = _RULER.subn(b"", body)
        repairs.append(("header-skipped", count, f"line {number}", "lines that draw the table"))
        body = re.sub(rb"[ \t]*\|[ \t]*", b"|", body)
        if body.lstrip().startswith(b"|"):
            body = re.sub(rb"(?m)^\||\|\r?$", b"", body)
        return re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", body)
    lines = head.split(b"\n")[: -1 if len(body) > _HEAD else None]
    full = [line for line in lines if line.strip()]
    if len(full) > 1 and all(map(_INSIDE.match, full)):
        body, count = _QUOTED.subn(lambda line: line[1].replace(b'""', b'"'), body)
        repairs.append(("header-skipped", count, "line 1", "quotes around whole lines were taken off"))
    return body
