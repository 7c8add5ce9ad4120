"""How the code is layered: which module may import what, what stays unloaded, and what the wheel holds."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "lightning", "mlflow", "pandas"}
LIGHT = ["forecast", "forecast.errors", "forecast.registry", "forecast.config", "forecast.cli"]

# cli -> fit, predict, backtest -> registry, fitted, tracking -> tasks -> models, graphs -> data types
TOP = {"forecast.cli", "forecast.__main__"}
VERBS = {
    f"forecast.{verb}"
    for verb in (
        "fitting",
        "prediction",
        "registration",
        "auditing",
        "backtesting",
        "comparison",
        "tuning",
        "explanation",
        "diagnosis",
    )
}


def files() -> dict[str, Path]:
    """Every module of the two packages by its name."""
    found = {}
    for package in ("forecast", "graphs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(module: str, *, deep: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements that run: at module level, and with `deep` those in functions too."""
    todo: list[ast.AST] = [ast.parse(FILES[module].read_text("utf-8"))]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield node
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if not typing_only(node) and (deep or not inside):
                todo.append(node)


def imports(module: str, *, deep: bool = True) -> set[str]:
    """What a module imports: modules of the two packages by full name, others by their top-level package."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(module, deep=deep):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = node.module or ""
        if node.level:
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
            base = f"{above}.{base}".rstrip(".")
        found |= {name if (name := f"{base}.{alias.name}") in FILES else base for alias in node.names}
    return {name if name in FILES else name.partition(".")[0] for name in found}


def closure(module: str, *, deep: bool) -> set[str]:
    """Everything that is imported when `module` is, packages on the way included."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if name in FILES:
            todo += imports(name, deep=deep)
            todo += [name.rpartition(".")[0]] if "." in name else []
    return found


def rank(module: str) -> int:
    """The floor a module stands on; one may import its own floor and those below."""
    if module.startswith(("forecast.data", "forecast.errors", "graphs")):  # graphs imports nothing of forecast's
        return 0
    if module.startswith("forecast.models"):
        return 1
    if module.startswith("forecast.tasks"):
        return 2
    return 5 if module in TOP else 4 if module in VERBS else 3


def test_no_import_points_back() -> None:
    back = [
        f"{module} -> {other}"
        for module in FILES
        for other in imports(module)
        if other in FILES and other != "forecast" and module != "forecast" and rank(other) > rank(module)
    ]
    assert back == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {module: {o for o in imports(module) if o in FILES and o != "forecast"} for module in FILES}
    graph.pop("forecast")  # resolves its names on first use, from anywhere
    while leaves := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in leaves}
    assert graph == {}


def test_graphs_is_usable_without_forecast() -> None:
    assert [
        module for module in FILES if module.startswith("graphs") and "forecast" in closure(module, deep=True)
    ] == []


def test_networks_import_no_lightning_mlflow_or_pandas_and_touch_no_files() -> None:
    foreign = {"lightning", "mlflow", "pandas", "polars", "os", "io", "pathlib", "shutil", "safetensors", "random"}
    networks = [module for module in FILES if module.startswith(("forecast.models", "graphs"))]
    assert len(networks) >= 4
    assert {module: found for module in networks if (found := imports(module) & foreign)} == {}


def test_only_tracking_and_versions_import_mlflow() -> None:
    assert {module for module in FILES if "mlflow" in imports(module)} == {"forecast.tracking", "forecast.versions"}


@pytest.mark.parametrize("module", ["forecast.fitted", "forecast.links.fitted"])
def test_inference_code_reaches_neither_lightning_nor_mlflow(module: str) -> None:
    assert closure(module, deep=True) & {"lightning", "mlflow"} == set()


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy_at_module_level(module: str) -> None:
    assert closure(module, deep=False) & HEAVY == set()


def test_own_imports_inside_forecast_are_relative() -> None:
    absolute = [
        f"{module}, line {node.lineno}"
        for module in FILES
        if module.startswith("forecast")
        for node in statements(module, deep=True)
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "forecast" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "forecast")
    ]
    assert absolute == []


def test_no_network_prints_or_seeds() -> None:
    forbidden = {"print", "manual_seed", "seed", "open", "cuda"}
    calls = [
        f"{module}, line {node.lineno}: {name}"
        for module, path in FILES.items()
        if module.startswith(("forecast.models", "graphs"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))) in forbidden
    ]
    assert calls == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys; import {', '.join(LIGHT)}; print(*sorted({HEAVY} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_pyproject_lists_every_package_on_disk() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    on_disk = {module for module, path in FILES.items() if path.name == "__init__.py"}
    assert len(setup["packages"]) == len(set(setup["packages"]))
    assert set(setup["packages"]) == on_disk | {"forecast._datasets", "forecast._configs"}
    assert {name: (ROOT / folder).is_dir() for name, folder in setup["package-dir"].items()} == {
        "forecast._datasets": True,
        "forecast._configs": True,
    }


def test_every_module_lies_in_a_listed_package() -> None:
    for path in FILES.values():
        assert (path.parent / "__init__.py").exists(), path.relative_to(ROOT)


@pytest.mark.parametrize("folder", ["datasets", "configs", "mlflow"])
def test_data_folders_hold_no_python(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert [path.name for path in (ROOT / folder).rglob("*.py*") if path.suffix in (".py", ".pyc", ".pyi")] == []


def test_the_wheel_takes_every_file_of_the_data_folders() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    for package, folder in setup["package-dir"].items():
        patterns = setup["package-data"][package]
        taken = {path for pattern in patterns for path in (ROOT / folder).glob(pattern)}
        wanted = {path for path in (ROOT / folder).rglob("*") if path.suffix in (".yaml", ".csv")}
        assert wanted == taken and wanted
