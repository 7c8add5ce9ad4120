"""Many series: what their windows cost, and the memory of a long table. Run with `make bench`, on an idle machine."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from forecast.data import split
from forecast.data.calendar import parse
from forecast.data.frame import SeriesFrame, frame_series, understand
from forecast.data.scale import Scaler
from forecast.data.schema import Schema
from forecast.data.table import read
from forecast.data.times import TimeType
from forecast.data.windows import WindowDataset, origins
from forecast.fitted import window_buffer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.bench

HOUR = 3_600_000_000


def many(series: int, rows: int) -> pl.DataFrame:
    ids = np.char.add("s", np.char.zfill(np.arange(series).astype(str), 6))
    times = np.datetime64("2024-01-01T00", "us") + np.arange(rows) * np.timedelta64(1, "h")
    values = np.random.default_rng(0).normal(size=series * rows).astype(np.float32)
    return pl.DataFrame({"unique_id": np.repeat(ids, rows), "ds": np.tile(times, series), "y": values})


def test_windows_of_10_000_series_are_built_in_half_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    series, rows = 10_000, 500
    values = np.random.default_rng(0).normal(size=(series * rows, 1)).astype(np.float32)
    frame = SeriesFrame(
        keys=pl.Series(np.arange(series)),
        offsets=np.arange(series + 1) * rows,
        start=np.random.default_rng(1).integers(0, 1000, series) * HOUR,
        values=values,
        names=pl.Series(["y"]),
        frequency=parse("h"),
        time_type=TimeType(pl.Datetime("us")),
        schema=Schema("channels", "unique_id", "ds", ("y",), 1, "h"),
        known=np.empty((len(values), 0), np.float32),
        static=np.empty((series, 1, 0), np.float32),
    )
    offsets = torch.from_numpy(frame.offsets)
    used = []
    for _ in range(5):
        start = time.process_time()
        buffer = window_buffer(frame, ("hour", "weekday", "day", "yearday"))
        for part in torch.from_numpy(frame.offsets[:-1])[:, None] + torch.tensor(
            [[[0, 350]], [[350, 400]], [[400, 500]]]
        ):
            data = WindowDataset(buffer, origins(offsets, part, 48, 24), 48, 24, 1)
        used.append(time.process_time() - start)
    assert len(data) == series * (100 - 24 + 1)
    say(capsys, f"windows of 10,000 series × 500: {statistics.median(used):.2f} s CPU, target ≤ 0.5")
    assert statistics.median(used) <= 0.5


def test_100_000_short_series_are_ready_in_the_time_of_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows as 1,000 series of 3,000 and as 100,000 of 30: a loop over series would show."""
    spent = {}
    for series in (1_000, 100_000):
        rows = 3_000_000 // series
        many(series, rows).filter(pl.int_range(pl.len()) > 0).write_parquet(tmp_path / f"{series}.parquet")
        start = time.process_time()
        table = read(tmp_path / f"{series}.parquet")
        frame = frame_series(table, understand(table))
        parts = split.by_fraction(frame, (0.7, 0.1, 0.2), 4)
        frame = Scaler.fit(frame, parts.train_end, pooled=True).apply_(frame)
        buffer = window_buffer(frame, ("hour", "weekday", "day", "yearday"))
        assert len(origins(torch.from_numpy(frame.offsets), torch.from_numpy(parts.train), 8, 4)) > 0
        spent[series] = time.process_time() - start
        assert len(buffer.offsets) == series + 1
    told = ", ".join(f"{seconds:.2f} s as {series:,} series" for series, seconds in spent.items())
    say(capsys, f"3 million rows read, scaled and windowed: {told}, target ≤ 3 ×")
    assert spent[100_000] <= 3 * spent[1_000]


READ = """
import sys
from forecast.config import resolve
from forecast.prepare import read
found = read(resolve("linear", flags={"data": {"lookback": 48, "horizon": 24}}), sys.argv[1])
assert found.frame.schema.layout == "channels", found.frame.schema
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`large`, a folder of 20 million rows of 40,000 series in 20 parts, and `tiny`, one of 5,000 rows."""
    place = tmp_path_factory.mktemp("folders")
    for name, parts, series in (("large", 20, 2000), ("tiny", 1, 10)):
        (place / name).mkdir()
        for part in range(parts):
            ids = pl.format("{}-{}", pl.lit(f"{part:02}"), "unique_id").alias("unique_id")
            many(series, 500).with_columns(ids)[1:].write_parquet(place / name / f"{part:02}.parquet")
    return place


def test_reading_a_folder_of_20_million_rows_peaks_at_most_8_times_its_values(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    peak = {}
    for name in ("tiny", "large"):
        command = [sys.executable, "-c", READ, str(folders / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peak[name] = int(done.stdout) * 1024
    values = 20 * 2000 * 500 * 4
    ratio = (peak["large"] - peak["tiny"]) / values
    say(capsys, f"20 million rows in 20 parts: {ratio:.1f} × the float32 values above a tiny folder, target ≤ 8")
    assert ratio <= 8


COMMAND = """
import sys
from forecast.cli import main
code = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


def test_20_million_rows_are_fitted_registered_and_predicted_within_1_5_gigabytes(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    lengths = ["--model", "linear", "--horizon", "24", "--lookback", "48"]
    told = {}
    for words in (
        ["fit", "large", *lengths, "--register", "many", "--quiet"],
        ["predict", "models:/many@champion", "large", "-o", "out.parquet", "--quiet"],
    ):
        begun = time.perf_counter()
        command = [sys.executable, "-c", COMMAND, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folders)
        told[words[0]] = int(done.stdout) * 1024 / 1e9, time.perf_counter() - begun
    spent = ", ".join(f"{name} {peak:.2f} GB and {seconds:.0f} s" for name, (peak, seconds) in told.items())
    say(capsys, f"20 million rows of 40,000 series: {spent}; target ≤ 1.5 GB")
    assert pl.read_parquet(folders / "out.parquet", columns=["yhat"]).height == 40_000 * 24
    assert max(peak for peak, _ in told.values()) <= 1.5


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n  {text}", end="")
