"""What a doctored file costs, start of the program included. Run with `make bench`, alone on the machine."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.bench
ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FORECAST_DATA") or ROOT.parent / "shared" / "data")
PJMW = SHARED / "real_csv" / "PJMW_hourly.csv"


def seconds(*arguments: str) -> float:
    """CPU seconds of one call of the program, the median of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "forecast", *arguments], check=True, capture_output=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(spent)


@pytest.mark.skipif(not PJMW.exists(), reason="needs real_csv/PJMW_hourly.csv in FORECAST_DATA or ../shared/data")
def test_143_000_unsorted_hours_are_doctored_in_a_second_and_a_half() -> None:
    spent = seconds("doctor", str(PJMW), "--json")
    print(f"forecast doctor PJMW_hourly.csv: {spent:.2f} s CPU, start included")
    assert spent <= 1.5


def test_a_clean_copy_and_a_page_of_many_series_take_seconds(tmp_path: Path) -> None:
    rows, ids = 500, 2000
    rng = np.random.default_rng(0)
    hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 12, 31), "1h", eager=True)[:rows]
    long = pl.DataFrame(
        {
            "unique_id": np.repeat([f"s{number}" for number in range(ids)], rows),
            "ds": pl.concat([hours] * ids),
            "y": rng.normal(size=rows * ids),
        }
    )
    kept = np.delete(np.arange(rows * ids), np.arange(7, rows * ids, 900))
    long[kept.tolist()].write_csv(tmp_path / "long.csv")
    plain = seconds("doctor", str(tmp_path / "long.csv"), "--json")
    both = seconds(
        "doctor",
        str(tmp_path / "long.csv"),
        "--fix",
        str(tmp_path / "clean.csv"),
        "--html",
        str(tmp_path / "page.html"),
    )
    print(f"forecast doctor, a million rows in 2,000 series: {plain:.2f} s CPU; with --fix and --html {both:.2f} s")
    assert plain <= 4 and both <= 10
