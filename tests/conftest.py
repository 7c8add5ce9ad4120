"""What many tests start from: hand-made frames, windows on them, and ETTh1 under its published setting."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from forecast.config import resolve
from forecast.data.calendar import parse
from forecast.data.frame import Schema, SeriesFrame, TimeType
from forecast.data.windows import WindowDataset, WindowShape, origins
from forecast.fitted import window_buffer
from forecast.prepare import Prepared, prepare, read
from forecast.registry import build, config_class, find
from graphs.sensor_graph import SensorGraph

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]


def _frame(
    values: np.ndarray, lengths: Sequence[int] = (), *, targets: int | None = None, freq: str = "h", start: int = 0
) -> SeriesFrame:
    """A frame of `values` (R, V), copied as float32; `lengths` cuts it into series, all of which begin at `start`."""
    values = np.array(values, dtype=np.float32)
    lengths = list(lengths) or [len(values)]
    names = tuple(f"v{number}" for number in range(values.shape[1]))
    keys = [""] if len(lengths) == 1 else [f"s{number}" for number in range(len(lengths))]
    return SeriesFrame(
        keys=pl.Series(keys),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        start=np.full(len(lengths), start, dtype=np.int64),
        values=values,
        names=pl.Series(names, dtype=pl.String),
        frequency=parse(freq),
        time_type=TimeType(pl.Datetime("us")),
        schema=Schema("wide", None, "ds", names, len(names) if targets is None else targets, freq),
        known=np.zeros((len(values), 0), dtype=np.float32),
        static=np.zeros((len(keys), 1, 0), dtype=np.float32),
    )


def _windows(frame: SeriesFrame, lookback: int, horizon: int, marks: Sequence[str] = ()) -> WindowDataset:
    """Every window of a frame; its missing values become 0 in place."""
    offsets = torch.from_numpy(frame.offsets)
    parts = torch.stack([offsets[:-1], offsets[1:]], dim=1)
    at = origins(offsets, parts, lookback, horizon)
    return WindowDataset(window_buffer(frame, marks), at, lookback, horizon, frame.schema.targets)


def _ring(sensors: int) -> SensorGraph:
    """Sensors each with an edge to the next, of growing weight; none for a single one."""
    at = np.arange(sensors)
    return SensorGraph.of(sensors, np.stack([at, (at + 1) % sensors]), (1 + at) / sensors)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an MLflow store that the tests of a module share."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def address(store: Path) -> str:
    return f"sqlite:///{store / 'mlflow.db'}"


@pytest.fixture
def desk(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; MLflow writes into the store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return tmp_path


@pytest.fixture
def client(desk: Path) -> "MlflowClient":
    """A client of the store, from the empty working directory."""
    from forecast import tracking  # MLflow costs seconds that most tests need not wait for

    return tracking.open_store()


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., SeriesFrame]:
    return _frame


@pytest.fixture(scope="session")
def make_windows() -> Callable[..., WindowDataset]:
    return _windows


@pytest.fixture(scope="session")
def etth1() -> Prepared:
    """ETTh1 at 96 -> 96 as published, from the file that ships. Shared: leave its buffer as it is."""
    return prepare(read(resolve(file=ROOT / "configs/itransformer/etth1.yaml"), ROOT / "datasets/ETTh1.csv"))


@pytest.fixture(scope="session")
def make_small() -> Callable[..., Prepared]:
    """Prepare the first rows of ETTh1 (or `values` instead) at 24 -> 12, cut at rows 260 and 330 of 400."""
    source = pl.read_csv(ROOT / "datasets/ETTh1.csv", n_rows=400)

    def make(values: np.ndarray | None = None, **data: object) -> Prepared:
        table = source
        if values is not None:
            table = pl.DataFrame([source["date"], *(pl.Series(f"v{i}", column) for i, column in enumerate(values.T))])
        chosen = {"lookback": 24, "horizon": 12, "split": (0.65, 0.175, 0.175), **data}
        return prepare(read(resolve("itransformer", flags={"data": chosen}), table))

    return make


@pytest.fixture(scope="session")
def make_network() -> Callable[..., torch.nn.Module]:
    """Build a model of the registry at toy size, from a fixed seed; settings win over the toy ones."""
    toy = {"d_model": 16, "d_ff": 16, "heads": 2, "layers": 1, "width": 16, "architecture": "GINE"}

    def make(name: str, shape: WindowShape, **settings: object) -> torch.nn.Module:
        spec = find(name)
        kind = config_class(spec)
        known = {field.name for field in dataclasses.fields(kind)}
        torch.manual_seed(0)
        chosen = kind(**{key: value for key, value in toy.items() if key in known} | settings)
        network: torch.nn.Module = build(spec, shape, chosen, _ring(shape.variates) if spec.on_graph else None)
        return network

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch: sums of several differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
