"""Numbers that stand for a missing value, as -200 or -9999: found and said, replaced where that was asked for."""

from collections.abc import Sequence

import numpy as np

from .table import Table

_SAMPLE = 512  # values of a column that show where most of them lie
_REPEATED, _SHARE = 3, 0.001  # times, and share of the values, that a number must have to be a code
# Nobody measures these: they are taken for a code even once, or close to the rest.
_USUAL = tuple(sign * value for value in (999, 9999, 99999, 999999, 9999999, 99999999) for sign in (1.0, -1.0))
_USUAL += (-999.9, -99.99, -999.99, -9999.9, 32767.0, -32768.0, 2147483647.0, -2147483648.0)
_USUAL_32 = np.array(_USUAL, np.float32)
_ABSURD = 1e19  # in size: fill values of scientific files


def without_codes(table: Table, names: Sequence[str], block: np.ndarray, codes: Sequence[float]) -> np.ndarray:
    """The values (R, k) with NaN for the codes; how many there were goes to the table's ledger."""
    for code in codes:
        found = block == np.float32(code)
        if not found.any():
            continue
        row = int(found.any(axis=1).argmax())
        columns = [name for name, any_ in zip(names, found.any(axis=0), strict=True) if any_]
        others = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
        detail = f'{_told(code)} became missing, in "{columns[0]}"{others}'
        table.ledger.repair("numbers-parsed", int(found.sum()), table.line(row), detail)
        block = np.where(found, np.float32(np.nan), block)
    return block


def caution_codes(table: Table, names: Sequence[str], block: np.ndarray) -> None:
    """Caution for values (R, k) that look like codes: the lowest or highest of a column, repeated, and far outside.

    A value that is a code in one column is one in another where it lies apart from the rest, even once.
    """
    if not len(block):
        return
    low, high = np.fmin.reduce(block, axis=0), np.fmax.reduce(block, axis=0)
    sample = block[:: max(1, len(block) // _SAMPLE)]
    found: dict[int, float] = {}
    for edges in (low, high):
        for column in np.flatnonzero(_suspects(sample, edges)):
            if _is_code(block[:, column], float(edges[column])):
                found[int(column)] = float(edges[column])
    for code in set(found.values()):
        for column in np.flatnonzero((low == np.float32(code)) | (high == np.float32(code))):
            if int(column) not in found and _apart(block[:, column], code) > 0.5:
                found[int(column)] = code
    for number, code in sorted(found.items()):
        count = int((block[:, number] == np.float32(code)).sum())
        table.ledger.caution("suspected-missing-code", names[number], _told(code), count)


def _suspects(sample: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which columns (k,) have an extreme value outside of where most of a sample (N, k) lies; to leave most alone."""
    rest = np.sort(np.where(np.isfinite(sample) & (sample != edges), sample, np.float32(np.inf)), axis=0)
    counts = np.isfinite(rest).sum(axis=0)

    def share(part: float) -> np.ndarray:
        place = (part * np.maximum(counts - 1, 0)).astype(np.int64)
        taken: np.ndarray = np.take_along_axis(rest, place[None], axis=0)[0].astype(np.float64)
        return taken

    near, middle, far = share(0.1), share(0.5), share(0.9)
    usual = (edges[:, None] == _USUAL_32).any(axis=1) | (np.abs(edges) > _ABSURD)
    with np.errstate(invalid="ignore"):
        wide = (far > near) | usual
        outside: np.ndarray = np.abs(edges - middle) > 1.5 * (far - near)
    return outside & wide & (counts > 0) & np.isfinite(edges) & (edges != 0)


def _is_code(values: np.ndarray, edge: float) -> bool:
    repeated = int((values == np.float32(edge)).sum())
    many = max(_REPEATED, _SHARE * int(np.isfinite(values).sum()))
    return repeated >= (1 if _usual(edge) else many) and _apart(values, edge) > 1


def _apart(values: np.ndarray, code: float) -> float:
    """How far a code is from the nearest other value, in widths of the middle eight tenths of the others."""
    rest = values[np.isfinite(values) & (values != np.float32(code))].astype(np.float64)
    if not len(rest):
        return 0.0
    near, far = np.quantile(rest, (0.1, 0.9))
    gap = float(np.abs(rest - code).min())
    return gap / (far - near) if far > near else np.inf if gap > 0 else 0.0


def _usual(value: float) -> bool:
    return bool((np.float32(value) == _USUAL_32).any()) or abs(value) > _ABSURD


def _told(code: float) -> str:
    """A code as people write it: -200, not -200.0."""
    short = f"{np.float32(code):.7g}"
    return str(int(code)) if float(code).is_integer() and abs(code) < 1e15 else short
