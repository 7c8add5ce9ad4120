"""A long table of two million rows from the file to the frame, beside polars.read_csv alone. Run with `make bench`."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecast.data.frame import frame_series, understand
from forecast.data.table import read

pytestmark = pytest.mark.bench
SERIES, LENGTH = 1000, 2000
LIMIT = 3.0


def best(action: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def test_two_million_rows_are_read_checked_and_framed_in_three_times_the_time_of_polars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.csv"
    times = np.datetime64("2020-01-01T00", "us") + np.arange(LENGTH) * np.timedelta64(1, "h")
    pl.DataFrame(
        {
            "unique_id": np.repeat([f"series_{number:04d}" for number in range(SERIES)], LENGTH),
            "ds": pl.concat([pl.Series(times).dt.strftime("%Y-%m-%d %H:%M:%S")] * SERIES),
            "y": np.random.default_rng(0).normal(100, 10, SERIES * LENGTH).round(3),
        }
    ).write_csv(path)

    def whole() -> None:
        table = read(path)
        frame_series(table, understand(table))

    alone, ours = best(lambda: pl.read_csv(path)), best(whole)
    with capsys.disabled():
        print(
            f"\n  {SERIES * LENGTH:,} rows: {ours:.2f} s to the frame, polars.read_csv {alone:.2f} s, "
            f"{ours / alone:.2f} times, target ≤ {LIMIT}",
            end="",
        )
    assert ours <= LIMIT * alone
