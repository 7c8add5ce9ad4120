"""The self-contained model: inference code under a content-hashed name, weights, settings, exact requirements.

Two versions with different code live in one process because each carries its own package name. Nothing here imports
MLflow: the folder that comes out is what MLflow stores.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .data import calendar
from .errors import ArtifactError
from .fitted import Fitted
from .registry import find

_PACKAGE = Path(__file__).parent
_ENTRY = "fitted"  # the module that a registered model starts from
_REQUIRED = ("torch", "numpy", "pandas", "polars", "pyarrow", "safetensors", "mlflow-skinny")

ENTRY = '''"""How MLflow opens this model: load the inference code stored beside it and let it forecast."""

import importlib

import mlflow.pyfunc
import pandas
from mlflow.models import set_model


class Forecaster(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        runtime = importlib.import_module(context.model_config["runtime"] + ".fitted")
        self.fitted = runtime.Fitted.load(context.artifacts["fitted"])

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return self.fitted.predict(model_input, **(params or {}))  # polars does as well


set_model(Forecaster())
'''


@dataclass(frozen=True)
class Bundle:
    """What MLflow is given: the entry script, the code folder, the model folder and pinned requirements."""

    entry: Path
    code: Path
    fitted: Path
    runtime: str  # name of the package inside `code`
    requirements: list[str]


def build(fitted: Fitted, folder: Path) -> Bundle:
    """Write the bundle of `fitted` into `folder`."""
    fitted.save(folder / "fitted")
    modules = _closure([_ENTRY, find(fitted.name).network.split(":")[0].lstrip(".")])
    sources = {path: (_PACKAGE / path).read_bytes() for path in modules}
    digest = hashlib.sha256()
    for path, content in sorted(sources.items()):
        digest.update(path.encode() + b"\0" + content + b"\0")
    runtime = f"forecast_rt_{digest.hexdigest()[:10]}"
    code = folder / "code" / runtime
    for path, content in sources.items():
        target = code / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        for package in (target.parent, *target.parent.parents):
            if package == folder / "code":
                break
            (package / "__init__.py").touch()
    entry = folder / "entry.py"
    entry.write_text(ENTRY, encoding="utf-8")
    requirements = [f"{name}=={_version(name)}" for name in _REQUIRED]
    return Bundle(entry, code, folder / "fitted", runtime, requirements)


def checksums(folder: Path) -> dict[str, str]:
    """Give the sha256 of every file below a stored model folder that takes part in a forecast."""
    parts = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and (path.suffix in {".py", ".json", ".safetensors"} or path.name == "MLmodel")
        and "__pycache__" not in path.parts
    )
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in parts}


def self_test(model: Path, fitted: Fitted) -> None:
    """Load the stored model in a process where `forecast` cannot be imported, and let it forecast made-up data.

    Raises ArtifactError when it fails or when a number differs from the one that `fitted` gives here by more than
    rounding: a fast kernel may run here that a stored model does without.
    """
    sample = _sample(fitted)
    here = fitted.predict(sample, levels=(80,))
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "given.parquet", Path(scratch) / "returned.parquet"
        sample.write_parquet(given)
        done = subprocess.run(
            [sys.executable, "-c", _SELF_TEST, str(model), str(given), str(returned)],
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ArtifactError(
                f"The stored model does not work on its own: {last}", "Report this; nothing was registered."
            )
        there = pl.read_parquet(returned)
    numbers = [name for name in here.columns if name.startswith("yhat")]
    ours, theirs = here.select(numbers).to_numpy(), there.select(numbers).to_numpy()
    if ours.shape != theirs.shape or not np.allclose(
        ours, theirs, rtol=1e-4, atol=1e-4 * float(fitted.scaler.std.min())
    ):
        raise ArtifactError(
            "The stored model gives other numbers than the one just trained.",
            "Report this; nothing was registered.",
        )


def open_folder(folder: Path) -> Any:
    """Open a stored model with the inference code stored beside it, so that it forecasts as it did when it was made.

    Gives a `Fitted` (of that code's own class); a folder without code is read by this version. Raises ArtifactError
    when it is no model folder.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"There is no model folder {folder}.",
            "Give a folder, or models:/NAME@champion for a registered model.",
        )
    stored = sorted((folder / "code").glob("forecast_rt_*"))
    if not stored:
        return Fitted.load(folder)
    runtime = stored[0].name
    if runtime not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            runtime, stored[0] / "__init__.py", submodule_search_locations=[str(stored[0])]
        )
        assert spec is not None
        sys.modules[runtime] = importlib.util.module_from_spec(spec)
    before, sys.pycache_prefix = sys.pycache_prefix, os.devnull  # checksums cover sources, not bytecode beside them
    try:
        return importlib.import_module(f"{runtime}.{_ENTRY}").Fitted.load(folder / "artifacts" / "fitted")
    finally:
        sys.pycache_prefix = before


_SELF_TEST = """
import os, sys
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("forecast", "graphs", "lightning"):
            raise ImportError(name + " must not be needed by a stored model")
sys.meta_path.insert(0, Blocked())
import mlflow.pyfunc, polars
model, given, returned = sys.argv[1:]
forecaster = mlflow.pyfunc.load_model(model)
polars.DataFrame(forecaster.predict(polars.read_parquet(given), params={"levels": [80]})).write_parquet(returned)
"""


def _sample(fitted: Fitted) -> pl.DataFrame:
    """Make up one lookback of noise around the training means, on the time axis of the training data.

    Where there are known covariates the horizon follows, with empty targets.
    """
    schema, rows = fitted.schema, fitted.shape.lookback
    if schema.known:
        rows += fitted.shape.horizon
    series = len(fitted.variates) if schema.layout == "panel" else 1
    noise = np.random.default_rng(0).standard_normal((rows, len(fitted.variates)))
    values = fitted.scaler.mean[0] + fitted.scaler.std[0] * noise  # (L, V)
    values[fitted.shape.lookback :] = np.nan
    columns: dict[str, Any] = {}
    if schema.id is not None:
        columns[schema.id] = np.repeat((fitted.variates if schema.layout == "panel" else fitted.keys)[:series], rows)
    if schema.time is not None:
        frequency, first = calendar.parse(schema.freq), fitted.facts["span"][0]
        integer = frequency.unit == "step"
        start = np.array([int(first) if integer else np.datetime64(first, "us").astype(np.int64)])
        times = np.tile(calendar.times_at(start, np.arange(rows), frequency), series)
        columns[schema.time] = times if integer else times.astype("datetime64[us]")
    if schema.layout == "panel":
        columns[schema.values[0]] = values.T.reshape(-1)
    else:
        columns |= {name: values[:, number] for number, name in enumerate(schema.values)}
    mean, std = fitted.scaler.known
    columns |= {name: mean[number] + std[number] * noise[:, 0] for number, name in enumerate(schema.known)}
    return pl.DataFrame(columns)


def _closure(modules: list[str]) -> list[str]:
    """Follow relative imports from `modules` through this package: every file that inference needs."""
    found: set[str] = set()
    waiting = [f"{module.replace('.', '/')}.py" for module in modules]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((_PACKAGE / path).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = (_PACKAGE / path).parents[node.level - 1]
            if node.module:
                base = base / node.module.replace(".", "/")
            files = [base.with_suffix(".py"), *((base / f"{alias.name}.py") for alias in node.names)]
            waiting += [str(file.relative_to(_PACKAGE)) for file in files if file.is_file()]
    return sorted(found)


def _version(name: str) -> str:
    return importlib.metadata.version(name).split("+")[0]  # a local build tag cannot be installed elsewhere


def describe(model: Path) -> dict[str, Any]:
    """Give what a stored model's `model.json` says, for `forecast info`."""
    found = [path for path in (model / "model.json", model / "artifacts/fitted/model.json") if path.is_file()]
    if not found:
        raise ArtifactError(f"{model} is no model folder: model.json is missing.", "Give a folder that forecast wrote.")
    try:
        described: dict[str, Any] = json.loads(found[0].read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{found[0]} is damaged: {error}.", "Fetch the model again.") from None
    return described
