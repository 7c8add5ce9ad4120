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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .errors import ArtifactError
from .kinds import Sample, Stored
from .registry import find

_ROOT = Path(__file__).parents[1]  # of the packages forecast and graphs
_ENTRIES = {  # module and class, by task
    "series": ("fitted", "Fitted"),
    "links": ("links.fitted", "FittedLinks"),
    "nodes": ("nodes.fitted", "FittedNodes"),
    "graphs": ("graph_labels.fitted", "FittedGraphs"),
}
_REQUIRED = ("torch", "numpy", "pandas", "polars", "pyarrow", "safetensors", "mlflow-skinny")

ENTRY = '''"""How MLflow opens this model: load the inference code stored beside it and let it forecast."""

import importlib

import mlflow.pyfunc
import pandas
from mlflow.models import set_model


class Forecaster(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        settings = context.model_config
        module = importlib.import_module(settings["runtime"] + "." + settings["module"])
        self.fitted = getattr(module, settings["class"]).load(context.artifacts["fitted"])

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
    config: Mapping[str, str]  # package inside `code`, module and class that the entry script opens
    requirements: list[str]


def build(fitted: Stored, folder: Path) -> Bundle:
    """Write the bundle of `fitted` into `folder`."""
    fitted.save(folder / "fitted")
    task = kind_of_folder(folder / "fitted")
    module, kind = _ENTRIES[task]
    network = find(fitted.name, task).network.partition(":")[0]
    sources = _vendored([f"forecast.{module}", f"forecast{network}" if network.startswith(".") else network])
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
    requirements = [f"{name}=={_version(name)}" for name in _required(sources.values())]
    config = {"runtime": runtime, "module": module, "class": kind}
    return Bundle(entry, code, folder / "fitted", config, requirements)


def kind_of_folder(folder: Path) -> str:
    """Give the task of the model in a folder, as its `model.json` says; where it says none, there was but series."""
    return str(describe(folder).get("task", "series"))


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


def self_test(model: Path, fitted: Stored, sample: Sample) -> None:
    """Load the stored model in a process where `forecast` cannot be imported, and let it forecast made-up data.

    Raises ArtifactError when it fails or when a number differs from the one that `fitted` gives here by more than
    rounding: a fast kernel may run here that a stored model does without.
    """
    here = fitted.predict(sample.table, **sample.options)
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "given.parquet", Path(scratch) / "returned.parquet"
        sample.table.write_parquet(given)
        options = json.dumps(dict(sample.options))
        done = subprocess.run(
            [sys.executable, "-c", _SELF_TEST, str(model), str(given), str(returned), options],
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
    numbers = [name for name, kind in here.schema.items() if kind.is_float() and name not in sample.table.columns]
    ours, theirs = here.select(numbers).to_numpy(), there.select(numbers).to_numpy()
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=sample.tolerance):
        raise ArtifactError(
            "The stored model gives other numbers than the one just trained.",
            "Report this; nothing was registered.",
        )


def open_folder(folder: Path) -> Any:
    """Open a stored model with the inference code stored beside it, so that it forecasts as it did when it was made.

    Gives a `Stored` (of that code's own class); a folder without code is read by this version. Raises ArtifactError
    when it is no model folder.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"There is no model folder {folder}.",
            "Give a folder, or models:/NAME@champion for a registered model.",
        )
    module, kind = _ENTRIES[kind_of_folder(folder)]
    stored = sorted((folder / "code").glob("forecast_rt_*"))
    if not stored:
        return getattr(importlib.import_module(f".{module}", __package__), kind).load(folder)
    runtime = stored[0].name
    if runtime not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            runtime, stored[0] / "__init__.py", submodule_search_locations=[str(stored[0])]
        )
        assert spec is not None
        sys.modules[runtime] = importlib.util.module_from_spec(spec)
    before, sys.pycache_prefix = sys.pycache_prefix, os.devnull  # checksums cover sources, not bytecode beside them
    try:
        opened = getattr(importlib.import_module(f"{runtime}.{module}"), kind)
        return opened.load(folder / "artifacts" / "fitted")
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
import json, mlflow.pyfunc, polars
model, given, returned, options = sys.argv[1:]
forecaster = mlflow.pyfunc.load_model(model)
found = forecaster.predict(polars.read_parquet(given), params=json.loads(options))
polars.DataFrame(found).write_parquet(returned)
"""


def _vendored(modules: list[str]) -> dict[str, bytes]:
    """Give the source of every file that inference needs, by its path in the runtime package.

    Imports of `forecast` (relative ones) and `graphs` are followed from `modules`. `graphs` becomes a part of the
    runtime package, so what imports it by name is made to import it relatively.
    """
    found: dict[str, bytes] = {}
    waiting = [_ROOT / f"{module.replace('.', '/')}.py" for module in modules]
    while waiting:
        path = waiting.pop()
        place = path.relative_to(_ROOT).as_posix().removeprefix("forecast/")
        if place in found:
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for node in ast.walk(ast.parse("".join(lines))):
            if not isinstance(node, ast.ImportFrom):
                continue
            named = (node.module or "").replace(".", "/")
            if node.level:
                base = path.parents[node.level - 1] / named
            elif named.split("/")[0] == "graphs":
                base = _ROOT / named
                dots = "." * (place.count("/") + 1)
                lines[node.lineno - 1] = lines[node.lineno - 1].replace("from graphs", f"from {dots}graphs", 1)
            else:
                continue
            files = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
            waiting += [file for file in files if file.is_file()]
        found[place] = "".join(lines).encode()
    return found


def _required(sources: Iterable[bytes]) -> list[str]:
    """Give the distributions that the code needs: PyG only where a file imports it."""
    every = b"".join(sources)
    return [
        *_REQUIRED,
        *(["torch-geometric"] if b"import torch_geometric" in every or b"from torch_geometric" in every else []),
    ]


def _version(name: str) -> str:
    return importlib.metadata.version(name).split("+")[0]  # a local build tag cannot be installed elsewhere


def describe(model: Path) -> dict[str, Any]:
    """Give what a stored model's `model.json` says, for `forecast info`."""
    found = [path for path in (model / "model.json", model / "artifacts/fitted/model.json") if path.is_file()]
    if not found:
        raise ArtifactError(
            f"{model} is no model folder: model.json is missing.",
            "Give a folder that forecast wrote, or models:/NAME@champion.",
        )
    try:
        described: dict[str, Any] = json.loads(found[0].read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{found[0]} is damaged: {error}.", "Fetch the model again.") from None
    return described
