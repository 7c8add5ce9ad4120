"""From a run to a registered version: the gate, the alias, and a stored model that stands alone and stays as it was."""

import dataclasses
import json
import math
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml

import forecast
from forecast import bundle, registration, series, tracking, versions
from forecast.cli import main
from forecast.config import from_dict
from forecast.errors import ArtifactError, DataError, GateError, UsageError
from forecast.fitting import Run
from forecast.gate import decide
from forecast.prepare import read
from forecast.versions import Version

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=400).select("date", "HUFL")
NAN = math.nan
BASELINES = {"naive": 0.5, "seasonal-naive": 0.4}

# score, baselines, champion, obstacle, force: verdict, what the reason must say
GATE = {
    "beats the baselines, no champion": (0.3, BASELINES, None, "", False, "promoted", "first champion"),
    "beats only the worse baseline": (0.45, BASELINES, None, "", False, "refused", "0.4 of seasonal-naive"),
    "equals the best baseline": (0.4, BASELINES, None, "", False, "refused", "does not beat the best baseline"),
    "is NaN": (NAN, BASELINES, None, "", False, "refused", "nan"),
    "is infinite": (math.inf, BASELINES, None, "", False, "refused", "inf"),
    "one baseline is NaN": (0.45, {"naive": 0.5, "linear": NAN}, None, "", False, "promoted", "0.5 of naive"),
    "every baseline is NaN": (0.45, {"naive": NAN}, None, "", False, "refused", "nan of naive"),
    "beats the champion": (0.3, BASELINES, 0.35, "", False, "promoted", "0.35 of the champion"),
    "equals the champion": (0.3, BASELINES, 0.3, "", False, "registered", "does not beat the champion"),
    "is worse than the champion": (0.35, BASELINES, 0.3, "", False, "registered", "0.3 of the champion"),
    "champion is NaN": (0.3, BASELINES, NAN, "", False, "registered", "nan of the champion"),
    "champion cannot be compared": (0.3, BASELINES, None, "forecasts days", False, "registered", "forecasts days"),
    "forced past the baselines": (0.45, BASELINES, None, "", True, "promoted", "forced although it does not beat"),
    "NaN, forced": (NAN, BASELINES, None, "", True, "promoted", "forced"),
    "not forced past the champion": (0.35, BASELINES, 0.3, "", True, "registered", "does not beat the champion"),
    "forced past the baselines, not the champion": (0.45, BASELINES, 0.3, "", True, "registered", "forced although"),
    "forced past an obstacle": (
        0.3,
        BASELINES,
        None,
        "forecasts days",
        True,
        "promoted",
        "forced although the champion",
    ),
    "forced without need": (0.3, BASELINES, 0.35, "", True, "promoted", "0.35 of the champion"),
}
pytestmark = pytest.mark.usefixtures("client")


@pytest.mark.parametrize("case", GATE)
def test_gate_decides_by_baselines_then_champion_then_force(case: str) -> None:
    score, baselines, champion, obstacle, force, verdict, reason = GATE[case]
    decision = decide(score, baselines, champion, "mse", obstacle=obstacle, force=force)
    assert decision.verdict == verdict
    assert reason in decision.reason
    assert "mse" in decision.reason
    assert decision.forced == ("forced" in decision.reason)


@pytest.mark.parametrize(
    ("score", "champion", "verdict"),
    [
        (0.74, None, "promoted"),
        (0.72, None, "refused"),
        (0.73, None, "refused"),
        (NAN, None, "refused"),
        (0.74, 0.735, "promoted"),
        (0.74, 0.75, "registered"),
    ],
)
def test_gate_wants_more_of_a_rank_metric(score: float, champion: float | None, verdict: str) -> None:
    decision = decide(score, {"pair-recency": 0.73, "edgebank": 0.57, "odd": NAN}, champion, "mrr")
    assert decision.verdict == verdict
    assert "0.73 of pair-recency" in decision.reason


def test_gate_says_where_the_test_part_tells_nothing() -> None:
    for score, rival in ((NAN, NAN), (0.7, NAN)):
        decision = decide(score, {"prior": rival}, None, "auc")
        assert decision.verdict == "refused"
        assert decision.reason.startswith("the test part says nothing by auc")
    assert "says nothing" not in decide(0.4, {"prior": 0.5}, None, "auc").reason


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "demand.csv"
    TABLE.write_csv(path)
    return str(path)


def fit(source: Any, lookback: int, model: str = "linear", horizon: int = 6, **options: Any) -> Run:
    """A model that needs no training. On these rows lookback 4 beats 20, 20 beats 16 and 16 beats the baselines."""
    return forecast.fit(source, model, lookback=lookback, horizon=horizon, **options)


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the self-test: it has tests of its own, and each takes a process that imports torch."""
    monkeypatch.setattr(registration, "self_test", lambda *_: None)


@pytest.fixture(scope="module")
def demand(address: str, source: str) -> tuple[Run, Version]:
    """The first version of `demand`, registered with its self-test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(address.removeprefix("sqlite:///")).parent)  # MLflow puts experiments made elsewhere there
        patch.setenv("MLFLOW_TRACKING_URI", address)
        run = fit(source, 20, register="demand")
        assert run.registered is not None
        return run, run.registered


def test_first_model_that_beats_the_baselines_becomes_champion_and_carries_its_tags(
    demand: tuple[Run, Version], client: mlflow.MlflowClient
) -> None:
    run, version = demand
    assert (version.version, version.alias, version.decision) == (1, "champion", "promoted")
    assert run.document["registered"] == dataclasses.asdict(version)
    tags = client.get_model_version("demand", "1").tags
    errors = {who: score.scaled["mse"] for who, score in run.scores.items()}
    best = min((who for who in errors if who != "linear"), key=errors.__getitem__)
    assert tags["metric"] == "mse"
    assert float(tags["score"]) == pytest.approx(errors["linear"], rel=1e-5)
    assert tags["baseline"] == best
    assert float(tags["baseline_score"]) == pytest.approx(errors[best], rel=1e-5)
    assert tags["data_sha256"] == client.get_run(run.id).data.tags["data.sha256"]
    assert (tags["decision"], tags["forced"], tags["run"]) == ("promoted", "false", run.id)
    assert "first champion" in tags["reason"]


def test_champion_scored_again_on_its_own_windows_gets_its_own_score(demand: tuple[Run, Version], source: str) -> None:
    run, _ = demand
    config = from_dict(yaml.safe_load(tracking.run_text(run.id, "config.yaml")))
    champion = bundle.open_folder(versions.fetch("models:/demand@champion"))
    for metric in ("mse", "mae", "rmse", "mase", "smape"):
        again = series.rescore(champion, read(config, source), metric)
        assert again == pytest.approx(run.scores["linear"].metric(metric), rel=1e-6), metric


def test_only_a_better_model_moves_the_alias(
    demand: tuple[Run, Version], source: str, client: mlflow.MlflowClient, untested: None
) -> None:
    worse = fit(source, 16, register="demand").registered
    assert (worse.alias, worse.decision) == (None, "registered")
    better = fit(source, 4, register="demand").registered
    assert (better.alias, better.decision) == ("champion", "promoted")
    aliases = client.get_registered_model("demand").aliases
    assert {alias: int(number) for alias, number in aliases.items()} == {"champion": better.version, "previous": 1}
    tags = client.get_model_version("demand", str(better.version)).tags
    assert float(tags["champion_score"]) == pytest.approx(demand[0].scores["linear"].scaled["mse"], rel=1e-5)
    other_horizon = fit(source, 4, horizon=3, register="demand").registered
    assert other_horizon.alias is None
    assert "forecasts 6 steps of h, not 3" in other_horizon.reason
    forced = fit(source, 16, register="demand", force=True).registered
    assert forced.alias is None  # it beats no champion; being forced does not change that
    assert client.get_model_version("demand", str(forced.version)).tags["forced"] == "true"
    assert fit(source, 4, horizon=3, register="demand", force=True).registered.alias == "champion"


def test_champion_that_forecasts_other_columns_is_not_compared_and_stays(untested: None) -> None:
    twice = TABLE.with_columns((pl.col("HUFL") * 2).alias("again"))
    assert fit(twice, 16, register="columns", target=("HUFL",)).registered.alias == "champion"
    both = fit(twice, 4, register="columns").registered
    assert both.alias is None
    assert "forecasts other columns" in both.reason


def test_champion_with_another_lookback_is_scored_on_the_same_windows(source: str, untested: None) -> None:
    assert fit(source, 20, register="lookbacks").registered.alias == "champion"
    assert fit(source, 4, register="lookbacks").registered.alias == "champion"
    assert fit(source, 20, register="lookbacks").registered.alias is None


@pytest.mark.parametrize("as_json", [False, True], ids=["two lines", "json"])
def test_refused_model_exits_4_and_nothing_is_registered(
    as_json: bool, source: str, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", source, "--model", "naive", "--lookback", "24", "--horizon", "6", "--register", "refused"]
    assert main([*arguments, "--json" if as_json else "--quiet"]) == 4
    out, err = capsys.readouterr()
    if as_json:
        document = json.loads(out)
        assert (document["code"], err) == (4, "")
        what, hint = document["message"], document["hint"]
    else:
        assert out == ""
        what, hint = err.rstrip("\n").split("\n")
    assert "does not beat the best baseline" in what
    assert "--force" in hint
    assert "refused" not in [model.name for model in client.search_registered_models()]


@pytest.mark.slow
def test_register_gates_an_old_run_in_another_process(source: str) -> None:
    run = fit(source, 4)
    command = [sys.executable, "-m", "forecast", "register", run.id, "--name", "later", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    version = json.loads(done.stdout)["registered"]
    assert (version["name"], version["version"], version["alias"]) == ("later", 1, "champion")
    found = forecast.predict("models:/later@champion", TABLE, levels=(80,))
    assert found.equals(run.predict(TABLE, levels=(80,)))


def test_registering_a_run_again_finds_its_version(source: str, client: mlflow.MlflowClient, untested: None) -> None:
    run, worse = fit(source, 4), fit(source, 20)
    first = forecast.register(run.id, name="again")
    assert (first.version, first.alias, first.decision) == (1, "champion", "promoted")
    assert forecast.register(run, name="again") == first
    second = forecast.register(worse.id, name="again")
    assert (second.version, second.alias) == (2, None)
    assert forecast.register(worse.id, name="again") == second
    assert len(client.search_model_versions("name = 'again'")) == 2


def test_register_of_a_refused_run_raises(source: str) -> None:
    with pytest.raises(GateError, match="does not beat"):
        forecast.register(fit(source, 4, "naive"), name="refused")


def test_run_whose_data_have_changed_cannot_be_compared_with_a_champion(tmp_path: Path, untested: None) -> None:
    TABLE.write_csv("moving.csv")
    first, second = fit("moving.csv", 20, register="moving"), fit("moving.csv", 4)
    TABLE.with_columns(pl.col("HUFL") + 1).write_csv("moving.csv")
    with pytest.raises(DataError, match=f"changed since run {second.id}"):
        forecast.register(second.id, name="moving")
    assert first.registered.alias == "champion"


def test_unknown_name_version_or_alias_is_named_with_the_nearest(demand: tuple[Run, Version]) -> None:
    for wrong in ("models:/demnad@champion", "models:/demand/99", "models:/demand@chmpion"):
        with pytest.raises(ArtifactError) as refused:
            forecast.predict(wrong, TABLE)
        assert wrong in refused.value.message
        assert "models:/demand@champion" in refused.value.hint


# The stored model


@pytest.fixture
def folder(demand: tuple[Run, Version], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a registered model in the store, as if no process had opened it yet; put back afterwards."""
    stored = versions.fetch("models:/demand/1")
    kept = Path("kept")
    shutil.copytree(stored, kept, ignore=shutil.ignore_patterns("__pycache__"))
    for cache in list(stored.rglob("__pycache__")):
        shutil.rmtree(cache)
    for name in [name for name in sys.modules if name.startswith("forecast_rt_")]:
        monkeypatch.delitem(sys.modules, name)
    yield stored
    shutil.rmtree(stored)
    shutil.copytree(kept, stored)


def test_model_folder_holds_code_weights_settings_and_requirements_only(
    demand: tuple[Run, Version], folder: Path
) -> None:
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    others = {str(file) for file in files if file.suffix != ".py"}
    assert others <= {
        "MLmodel",
        "requirements.txt",
        "conda.yaml",
        "python_env.yaml",
        "registered_model_meta",
        "artifacts/fitted/model.json",
        "artifacts/fitted/model.safetensors",
    }
    content = b"".join((folder / file).read_bytes() for file in files)
    for value in (TABLE["HUFL"][7], TABLE["HUFL"][300]):  # no training data, as text or as numbers
        assert str(value).encode() not in content
        assert np.float32(value).tobytes() + np.float32(TABLE["HUFL"][8]).tobytes() not in content
    pinned = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in pinned)
    assert not [line for line in pinned if line.startswith(("lightning", "forecast", "mlflow=="))]


_found_classes: list[str] = []
_listening = [False]


def _listen(event: str, details: tuple[Any, ...]) -> None:
    if _listening[0] and event == "pickle.find_class":
        _found_classes.append(".".join(map(str, details)))


def test_loading_reads_no_pickle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.addaudithook(_listen)  # stays for the life of the process
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    _listening[0] = True
    try:
        served = mlflow.pyfunc.load_model("models:/demand/1")
        found = served.predict(TABLE)
        ours = forecast.predict("models:/demand/1", TABLE)
    finally:
        _listening[0] = False
    assert _found_classes == []
    assert found.equals(ours)


@pytest.mark.parametrize("how", ["changed code", "added code", "changed weights", "changed settings", "cached code"])
def test_tampered_model_is_refused_before_its_code_runs(
    how: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = next((folder / "code").glob("forecast_rt_*"))
    spy = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    if how == "changed code":
        for name in ("fitted.py", "__init__.py", "errors.py"):
            (runtime / name).write_text(spy + (runtime / name).read_text())
    elif how == "added code":
        (runtime / "json.py").write_text(spy)
    elif how == "cached code":
        evil = tmp_path / "evil.py"
        evil.write_text(spy + (runtime / "fitted.py").read_text())
        cache = runtime / "__pycache__" / f"fitted.{sys.implementation.cache_tag}.pyc"
        py_compile.compile(
            str(evil), cfile=str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, doraise=True
        )
    else:
        name = {"changed weights": "model.safetensors", "changed settings": "model.json"}[how]
        path = folder / "artifacts" / "fitted" / name
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    TABLE.write_csv("data.csv")
    code = main(["predict", "models:/demand/1", "data.csv", "-o", "out.csv", "--quiet"])
    assert not (tmp_path / "ran").exists()
    if how == "cached code":
        return  # bytecode beside the sources is no part of the model: it must not run, it need not be refused
    assert code == 5
    what, hint = capsys.readouterr().err.rstrip("\n").split("\n")
    assert "is not the file that was registered" in what
    assert "Register the model again" in hint
    assert not (tmp_path / "out.csv").exists()


def changed_package(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of this package whose `fitted.py` reads differently, as another version of it would."""
    package = tmp_path / "other" / "forecast"
    for part in (package, package.with_name("graphs")):
        shutil.copytree(bundle._ROOT / part.name, part, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / "fitted.py").read_text(encoding="utf-8")
    assert old in text
    (package / "fitted.py").write_text(text.replace(old, new, 1), encoding="utf-8")
    return package


@pytest.fixture
def shifted(demand: tuple[Run, Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the same model with other inference code: it forecasts 1000 more."""
    package = changed_package(tmp_path, '{"yhat": values}', '{"yhat": values + 1000}')
    monkeypatch.setattr(bundle, "_ROOT", package.parent)
    with tracking.tracked("forecast", "shifted", {}) as other:
        return f"models:/{other.model(demand[0].fitted)}"


def test_versions_with_different_code_run_their_own_in_one_process(demand: tuple[Run, Version], shifted: str) -> None:
    expected = demand[0].predict(TABLE)["yhat"].to_numpy()
    ways = (lambda address: mlflow.pyfunc.load_model(address).predict(TABLE), lambda a: forecast.predict(a, TABLE))
    for load in ways:
        first, second, third = (
            load(address)["yhat"].to_numpy() for address in ("models:/demand/1", shifted, "models:/demand/1")
        )
        assert np.array_equal(first, expected)
        assert np.array_equal(second, expected + 1000)
        assert np.array_equal(third, expected)


@pytest.mark.slow
def test_self_test_refuses_a_bundle_that_forecasts_other_numbers(demand: tuple[Run, Version], shifted: str) -> None:
    with pytest.raises(ArtifactError, match="other numbers"):
        bundle.self_test(versions.fetch(shifted), demand[0].fitted, series.sample(demand[0].fitted))


def test_self_test_refuses_a_bundle_that_needs_forecast(
    demand: tuple[Run, Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = demand
    package = changed_package(tmp_path, "import dataclasses\n", "import dataclasses\nimport forecast\n")
    monkeypatch.setattr(bundle, "_ROOT", package.parent)
    with tracking.tracked("forecast", "needy", {}) as needy:
        model_id = needy.model(run.fitted)
    with pytest.raises(ArtifactError, match="forecast must not be needed"):
        bundle.self_test(versions.fetch(f"models:/{model_id}"), run.fitted, series.sample(run.fitted))


def test_error_of_the_stored_code_is_an_error_of_this_package(demand: tuple[Run, Version]) -> None:
    with pytest.raises(UsageError, match="1 to 6 steps"):
        forecast.predict("models:/demand/1", TABLE, horizon=7)
    with pytest.raises(DataError, match="trained columns"):
        forecast.predict("models:/demand/1", TABLE.rename({"HUFL": "other"}))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_months_of_a_zone_are_registered_and_forecast_by_plain_mlflow(zone: str) -> None:
    """A month begins at another moment in each zone: none of them is the first of a month in UTC."""
    times = pd.date_range("2000-01-01", periods=150, freq="MS", tz=zone)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"ds": times, "y": 5 * np.sin(np.arange(150) * np.pi / 6) + rng.normal(size=150)})
    name = f"months-{zone.partition('/')[0].lower()}"
    run = forecast.fit(table, "linear", horizon=12, lookback=24, register=name, force=True)
    given = run.predict(table)
    assert given["ds"].tolist() == pd.date_range("2012-07-01", periods=12, freq="MS", tz=zone).tolist()
    again = mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(table)
    pd.testing.assert_frame_equal(given, again)
