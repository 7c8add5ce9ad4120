"""A long table of two million rows from the file to the frame, beside polars.read_csv alone. Run with `make bench`."""

import statistics
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


def spent(action: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


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

    whole()
    rounds = [(spent(lambda: pl.read_csv(path)), spent(whole)) for _ in range(7)]
    alone, ours = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    with capsys.disabled():
        print(
            f"\n  {SERIES * LENGTH:,} rows: {ours:.2f} s CPU to the frame, polars.read_csv {alone:.2f} s, "
            f"{ours / alone:.2f} times, target ≤ {LIMIT}",
            end="",
        )
    assert ours <= LIMIT * alone
