"""What is installed: the wheel, and the requirements that a registered model states for itself."""

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import polars as pl
import pytest

import forecast
from forecast.prediction import locate

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def said(*command: str | Path, **options: object) -> str:
    """Run a command that must succeed; give what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fresh(folder: Path) -> Path:
    """A virtual environment with nothing but pip; gives its folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def test_every_package_on_disk_is_installed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("forecast", "graphs")
        for path in (ROOT / top).rglob("*.py")
    }
    stated = {name for name in SETTINGS["tool"]["setuptools"]["packages"] if not name.split(".")[-1].startswith("_")}
    assert stated == found


@pytest.mark.parametrize("folder", ["datasets", "configs", "mlflow"])
def test_folder_named_like_a_library_holds_no_python(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert list((ROOT / folder).rglob("*.py")) == []


@pytest.mark.slow
def test_wheel_installs_and_finds_the_data_and_settings_that_it_ships(tmp_path: Path) -> None:
    said(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    programs = fresh(tmp_path / "venv")
    said(programs / "pip", "install", "--no-deps", "--disable-pip-version-check", wheel)
    # The dependencies are those of this environment; a path file, unlike a site folder, brings no editable installs.
    site = Path(said(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    place = said(programs / "python", "-c", "import forecast; print(forecast.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(site)
    assert said(programs / "forecast", "--version", cwd=tmp_path) == f"forecast {forecast.__version__}\n"
    here = {entry["name"]: entry["file"] for entry in json.loads(said(programs / "forecast", "datasets", "--json"))}
    assert Path(here["etth1"]).is_relative_to(site)
    assert Path(here["airpassengers"]).is_relative_to(site)
    shown = said(programs / "forecast", "config", "show", "--config", "itransformer/etth1", cwd=tmp_path)
    assert "dataset: etth1" in shown
    command = ["fit", "airpassengers", "--model", "linear", "--lookback", "24", "--horizon", "12", "--json"]
    document = json.loads(said(programs / "forecast", *command, cwd=tmp_path))
    assert document["data"]["rows"] == 144


@pytest.mark.slow
def test_model_predicts_in_an_environment_of_its_own_requirements_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    table = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=300)
    settings = ("model.d_model=16", "model.d_ff=16", "model.heads=2", "model.layers=1", "train.epochs=1")
    run = forecast.fit(table, "itransformer", lookback=24, horizon=6, settings=settings, register="alone", force=True)
    table.write_parquet("given.parquet")
    run.predict(table, levels=(80,)).write_parquet("expected.parquet")
    folder = locate("models:/alone@champion")
    programs = fresh(tmp_path / "venv")
    said(programs / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", folder / "requirements.txt")
    installed = json.loads(said(programs / "pip", "list", "--format", "json", "--disable-pip-version-check"))
    assert not {"mlflow", "lightning", "forecast-networks"} & {package["name"] for package in installed}
    code = (
        "import importlib.util, sys\nimport mlflow.pyfunc, polars\n"
        "assert importlib.util.find_spec('forecast') is None\n"
        "given, expected = polars.read_parquet('given.parquet'), polars.read_parquet('expected.parquet')\n"
        "served = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "found = served.predict(given, params={'levels': [80]})\n"
        "in_pandas = served.predict(given.to_pandas(), params={'levels': [80]})\n"
        "assert found.equals(expected), (found, expected)\n"
        "assert polars.from_pandas(in_pandas)['yhat'].equals(expected['yhat'])\n"
        "print(len(found), 'rows forecast')"
    )
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    printed = said(programs / "python", "-c", code, folder, env=environment)
    print(f"{len(installed)} packages; {printed.strip()}")
    assert printed == "42 rows forecast\n"
