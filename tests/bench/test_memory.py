"""Memory at the peak: a fit on 1 GB of values above a tiny fit; steps on 862 variates. Run with `make bench`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecast.models.layers.ssm import scan_path

ROOT = Path(__file__).parents[2]
GB = 1 << 30
pytestmark = pytest.mark.bench


def peak(data: Path, folder: Path) -> int:
    """Bytes of resident memory at the peak of one fit, of the process alone."""
    folder.mkdir()
    settings = {
        "model.d_model": 16,
        "model.d_ff": 16,
        "model.heads": 2,
        "model.layers": 1,
        "train.epochs": 1,
        "train.epoch_batches": "[5,5]",
        "data.split": "[0.98,0.01,0.01]",  # scoring takes time, not memory
    }
    command = [sys.executable, "-c", PEAK, "fit", str(data), "--model", "itransformer", "--quiet"]
    command += ["--lookback", "24", "--horizon", "8", *(f"--set={key}={value}" for key, value in settings.items())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    return int(done.stderr.split()[-1]) * 1024


# Not getrusage: its peak begins with that of the process that forked this one.
PEAK = """
import sys
from forecast.cli import main
code = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1], file=sys.stderr)
raise SystemExit(code)
"""


@pytest.mark.parametrize("variates", [1000, 100])
def test_a_fit_on_a_gigabyte_peaks_at_most_15_gb_above_a_tiny_one(
    variates: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = GB // 4 // variates
    generator = np.random.default_rng(0)
    walk = np.cumsum(generator.normal(size=rows)).astype(np.float32)

    def table(length: int) -> pl.DataFrame:
        times = np.datetime64("2000-01-01T00", "us") + np.arange(length) * np.timedelta64(1, "m")
        columns = {f"v{c}": walk[:length] + generator.normal(size=length).astype(np.float32) for c in range(variates)}
        return pl.DataFrame({"time": times, **columns})

    table(rows).write_parquet(tmp_path / "large.parquet")
    table(400).write_parquet(tmp_path / "tiny.parquet")
    tiny = peak(tmp_path / "tiny.parquet", tmp_path / "a")
    large = peak(tmp_path / "large.parquet", tmp_path / "b")
    with capsys.disabled():
        print(f"\n  {rows:,} × {variates} values, 1 GB as float32: {(large - tiny) / GB:.2f} GB above tiny", end="")
    assert large - tiny <= 1.5 * GB


STEPS = """
import sys
import torch
from forecast.config import resolve
from forecast.data.windows import Window, WindowShape
from forecast.models.layers import ssm
from forecast.registry import find, network_class
path, file, variates, lookback = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ssm._NATIVE = path == "native"
config = resolve(file=file, settings=[f"data.lookback={lookback}"])
batch, horizon = config.train.batch_size, config.data.horizon
shape = WindowShape(lookback, horizon, variates, variates, 4)
net = network_class(find(config.name))(shape, config.model).train()
optimiser = torch.optim.Adam(net.parameters(), fused=True)
past, answer = torch.randn(batch, lookback, variates), torch.randn(batch, horizon, variates)
window = Window.of(past, past < 9, torch.rand(batch, lookback, 4), torch.rand(batch, horizon, 4))
for _ in range(3):
    optimiser.zero_grad()
    (net(window) - answer).square().mean().backward()
    optimiser.step()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.parametrize("path", ["native", "torch"])
@pytest.mark.parametrize(
    ("setting", "variates", "lookback"), [("s-mamba/traffic", 862, 96), ("tsm2/weather", 21, 2048)]
)
def test_training_steps_of_many_variates_or_steps_peak_below_4_gb(
    setting: str, variates: int, lookback: int, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if path == "native" and scan_path() != "native":
        pytest.skip("the native scan was not built: no C compiler")
    file = ROOT / "configs" / f"{setting}.yaml"
    command = [sys.executable, "-c", STEPS, path, str(file), str(variates), str(lookback)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    gigabytes = int(done.stdout) * 1024 / 1e9
    with capsys.disabled():
        print(
            f"\n  {setting}, {variates} variates, {lookback} steps, {path} scan: {gigabytes:.2f} GB at the peak", end=""
        )
    assert gigabytes < 4
