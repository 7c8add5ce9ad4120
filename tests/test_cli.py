"""The command line: exit codes, two-line errors, one document of JSON, and nothing heavy for a question."""

import io
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forecast.cli import main

ROOT = Path(__file__).parents[1]
ETTH1 = str(ROOT / "datasets" / "ETTh1.csv")
LINES = Path(ETTH1).read_text(encoding="utf-8").splitlines()[:301]
TINY = ["model.d_model=16", "model.d_ff=16", "model.heads=2", "model.layers=1", "train.epochs=1"]
FIT = ["fit", "etth1.csv", "--model", "itransformer", "--lookback", "24", "--horizon", "6"]
FIT += [part for setting in TINY for part in ("--set", setting)]
HEAVY = ("torch", "lightning", "mlflow", "pandas")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a tracking store that the tests of this module share."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def desk(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small table in it; MLflow writes into the store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    write("etth1.csv", LINES)
    return tmp_path


@pytest.fixture(scope="module")
def model(store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Address of a tiny model in the shared store, and the document that `fit --json` printed for it."""
    folder = tmp_path_factory.mktemp("fit")
    write(folder / "etth1.csv", LINES)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", store)
        code = main([*FIT, "--json"])
    assert (code, err.getvalue()) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["etth1.csv"], "a fit wrote beside its store"
    document = json.loads(out.getvalue())
    return f"runs:/{document['run']}/forecaster", document


def write(path: str | Path, lines: list[str]) -> Path:
    Path(path).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return Path(path)


def column(values: list[str]) -> list[str]:
    """Lines of a table of one column `y` over the times of ETTh1."""
    return ["ds,y", *(f"{line.partition(',')[0]},{value}" for line, value in zip(LINES[1:], values, strict=False))]


def swapped(lines: list[str], a: int) -> list[str]:
    return [*lines[:a], lines[a + 1], lines[a], *lines[a + 2 :]]


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; its last output line is what heavy modules it imported."""
    code = (
        "import json, sys\nfrom forecast.cli import main\ncode = main(sys.argv[1:])\n"
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))\nraise SystemExit(code)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


# The call (on the files of `spoilt`), the exit code, what the first line must name, what the second must tell.
WRONG_CALLS = {
    "a missing file": (["fit", "etth.csv", "--model", "linear"], 3, "etth.csv: no such file", "Did you mean etth1.csv"),
    "an empty file": (["fit", "empty.csv", "--model", "linear"], 3, "empty.csv: the file is empty", "header line"),
    "an unknown model": (["fit", "etth1.csv", "--model", "itransfomer"], 2, "'itransfomer'", "itransformer"),
    "a misspelt option": (["fit", "etth1.csv", "--horizn", "6"], 2, "--horizn", "--horizon"),
    "a horizon longer than the data": (
        ["fit", "etth1.csv", "--model", "linear", "--horizon", "300"],
        3,
        "300 rows",
        "--horizon",
    ),
    "a constant column": (["fit", "constant.csv", "--model", "linear"], 3, '"y" is 5 in every row', "--target"),
    "text in a value column": (["fit", "text.csv", "--model", "linear"], 3, 'text.csv, line 52: "oops"', "Correct"),
    "unsorted times with --strict": (
        ["fit", "unsorted.csv", "--model", "linear", "--strict"],
        3,
        "unsorted.csv, line 13, 2016-07-01 10:00:00",
        "--strict",
    ),
    "a config file that does not exist": (
        ["fit", "etth1.csv", "--config", "no.yaml"],
        2,
        "no.yaml",
        "itransformer/etth1",
    ),
    "an unknown registry name": (
        ["predict", "models:/nobody@champion", "etth1.csv", "-o", "out.csv"],
        5,
        "models:/nobody@champion",
        "--register",
    ),
    "an unknown key in a config file": (
        ["fit", "etth1.csv", "--config", "misspelt.yaml"],
        2,
        "train.epoch ",
        "train.epochs",
    ),
    "an unknown section in a config file": (["fit", "etth1.csv", "--config", "section.yaml"], 2, "trian", "train"),
    "a config file that is no YAML": (["fit", "etth1.csv", "--config", "broken.yaml"], 2, "broken.yaml", "line"),
    "an unknown key in --set": (
        ["fit", "etth1.csv", "--model", "itransformer", "--set", "model.d_modle=8"],
        2,
        "model.d_modle",
        "model.d_model",
    ),
    "a value of the wrong type in --set": (
        ["fit", "etth1.csv", "--model", "linear", "--set", "train.epochs=many"],
        2,
        "train.epochs is 'many'",
        "train.epochs",
    ),
    "--set without a value": (
        ["fit", "etth1.csv", "--model", "linear", "--set", "epochs"],
        2,
        "--set epochs: not of the form section.key=value",
        "--set model.d_model=256",
    ),
    "an unknown command": (["fti"], 2, "fti", "forecast fit"),
    "levels that are no numbers": (["fit", "etth1.csv", "--model", "linear", "--levels", "wide"], 2, "wide", "80,95"),
    "a level out of range": (["fit", "etth1.csv", "--model", "linear", "--levels", "30"], 2, "30", "80,95"),
    "a time limit that is no time": (
        ["fit", "etth1.csv", "--model", "linear", "--time-limit", "soon"],
        2,
        "soon",
        "10m",
    ),
    "an unknown device": (
        ["fit", "etth1.csv", "--model", "itransformer", "--device", "tpu9", "--quiet"],
        2,
        "tpu9",
        "cpu",
    ),
    "no model named": (["fit", "etth1.csv"], 2, "model", "--model"),
    "a width that the heads do not divide": (
        ["fit", "etth1.csv", "--model", "itransformer", "--set", "model.d_model=30"],
        2,
        "model.d_model 30 is not a multiple of model.heads 8",
        "model.d_model=32",
    ),
    "a patch longer than the lookback": (
        ["fit", "etth1.csv", "--model", "tsm2", "--lookback", "24", "--set", "model.patch_len=32", "--quiet"],
        2,
        "model.patch_len 32 is longer than data.lookback 24",
        "model.patch_len=24",
    ),
    "a start token longer than the lookback": (
        ["fit", "etth1.csv", "--model", "informer", "--lookback", "24", "--set", "model.start_token=48", "--quiet"],
        2,
        "model.start_token",
        "model.start_token",
    ),
    "an unknown covariate": (
        ["fit", "etth1.csv", "--model", "tsm2", "--known-future", "holidays"],
        2,
        'no column "holidays"',
        "The columns are",
    ),
    "settings beside --resume": (["fit", "--resume", "abc", "--horizon", "6"], 2, "--resume abc", "--resume abc"),
    "an output in a missing folder": (
        ["predict", ".", "etth1.csv", "-o", "no/out.csv"],
        2,
        "no/out.csv",
        "mkdir -p no",
    ),
    "an output of unknown suffix": (["predict", ".", "etth1.csv", "-o", "out.txt"], 2, "out.txt", ".parquet"),
    "a folder that is no model": (["predict", ".", "etth1.csv", "-o", "out.csv"], 5, "model.json", "models:/NAME"),
    "a folder that does not exist": (
        ["predict", "nowhere", "etth1.csv", "-o", "out.csv"],
        5,
        "nowhere",
        "models:/NAME",
    ),
    "info of a folder that is no model": (["info", "."], 5, "model.json", "forecast wrote"),
    "resume of an unknown run": (["fit", "--resume", "abc"], 5, "'abc'", "forecast ui"),
    "register of an unknown run": (["register", "abc", "--name", "demand"], 5, "'abc'", "forecast ui"),
    "register without a name": (["register"], 2, "--name", "forecast register --help"),
}
TEN = list(WRONG_CALLS)[:10]


@pytest.fixture
def spoilt(desk: Path) -> set[str]:
    """Files that a fit must refuse; gives the names of all files in the working directory."""
    write("constant.csv", column(["5"] * 300))
    write("text.csv", column([*map(str, range(50)), "oops", *map(str, range(249))]))
    write("unsorted.csv", swapped(LINES, 11))
    Path("empty.csv").touch()
    Path("misspelt.yaml").write_text("model: {name: linear}\ntrain: {epoch: 3}\n")
    Path("section.yaml").write_text("model: {name: linear}\ntrian: {epochs: 3}\n")
    Path("broken.yaml").write_text("train: {epochs: 3\n")
    return {path.name for path in desk.iterdir()}


@pytest.mark.parametrize("wrong", WRONG_CALLS)
def test_wrong_call_gives_its_exit_code_and_two_lines_that_name_thing_and_next_step(
    wrong: str, spoilt: set[str], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, thing, step = WRONG_CALLS[wrong]
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    what, hint = err.rstrip("\n").split("\n")
    assert thing in what
    assert step in hint
    assert {path.name for path in desk.iterdir()} == spoilt


@pytest.mark.parametrize("wrong", [*TEN, "an unknown command", "an unknown key in --set"])
def test_wrong_call_with_json_prints_one_document(
    wrong: str, spoilt: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, thing, step = WRONG_CALLS[wrong]
    assert main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {"code", "message", "hint"}
    assert document["code"] == code
    assert thing in document["message"]
    assert step in document["hint"]
    assert err == ""


@pytest.mark.parametrize("wrong", ["a misspelt option", "an unknown model", "an output in a missing folder"])
def test_python_m_forecast_gives_the_same_two_lines(wrong: str, spoilt: set[str]) -> None:
    arguments, code, thing, step = WRONG_CALLS[wrong]
    done = subprocess.run([sys.executable, "-m", "forecast", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    what, hint = done.stderr.rstrip("\n").split("\n")
    assert thing in what
    assert step in hint


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "etth.csv", "--model", "linear", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place", ["a missing folder", "a folder that is a file", "a damaged file", "a file of another program"]
)
def test_unusable_tracking_store_is_named_before_training(
    place: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {"a missing folder": desk / "no" / "mlflow.db", "a folder that is a file": desk / "etth1.csv" / "mlflow.db"}
    database = file.get(place, desk / "mlflow.db")
    if place == "a damaged file":
        database.write_bytes(b"no database" * 500)
    elif place == "a file of another program":
        connection = sqlite3.connect(database)
        connection.execute("create table experiments (name text)")
        connection.commit()
        connection.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    assert main([*FIT, "--quiet"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    what, hint = err.rstrip("\n").split("\n")
    assert str(database) in what
    assert "MLFLOW_TRACKING_URI" in hint


@pytest.mark.parametrize(
    "wrong",
    [
        "a misspelt option",
        "an unknown command",
        "an unknown model",
        "no model named",
        "an unknown key in a config file",
        "levels that are no numbers",
        "a time limit that is no time",
        "a level out of range",
        "register without a name",
    ],
)
def test_usage_error_imports_nothing_heavy(wrong: str, spoilt: set[str]) -> None:
    arguments, code, *_ = WRONG_CALLS[wrong]
    done = child(*arguments)
    assert done.returncode == code
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("fit", "predict", "audit", "backtest")), ["--version"], []],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = child(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    *shown, imported = done.stdout.splitlines()
    assert "forecast" in shown[0] or "forecast" in shown[1]
    assert json.loads(imported) == []


def test_doctor_imports_nothing_heavy_and_matplotlib_only_for_the_page(spoilt: set[str]) -> None:
    done = child("doctor", "etth1.csv", "--fix", "clean.csv")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1]) == []
    code = "import sys; from forecast.cli import main; main(sys.argv[1:]); print('matplotlib' in sys.modules)"
    arguments = [sys.executable, "-c", code, "doctor", "etth1.csv", "--quiet"]
    assert subprocess.run(arguments, capture_output=True, text=True).stdout.strip() == "False"


def test_a_terminal_of_another_alphabet_gets_question_marks_and_no_error(spoilt: set[str]) -> None:
    arguments = [sys.executable, "-m", "forecast", "doctor", "etth1.csv"]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stderr == "" and "???" in done.stdout


@pytest.mark.bench
def test_help_takes_at_most_150_ms_of_cpu() -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "forecast", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"forecast --help: {statistics.median(spent):.3f} s CPU, median of {sorted(round(s, 3) for s in spent)}")
    assert statistics.median(spent) <= 0.15


def test_fit_prints_one_document_of_the_promised_keys_and_types(model: tuple[str, dict[str, Any]]) -> None:
    document = model[1]
    assert isinstance(document["run"], str)
    assert document["model"] == "itransformer"
    data = document["data"]
    assert {key: data[key] for key in ("kind", "rows", "series", "variates", "freq")} == {
        "kind": "series",
        "rows": 300,
        "series": 1,
        "variates": 7,
        "freq": "h",
    }
    assert data["span"] == ["2016-07-01T00:00:00", "2016-07-13T11:00:00"]
    assert data["repairs"] == []
    assert document["split"].keys() == {"train", "validation", "test"}
    assert document["split"]["train"][0] == data["span"][0]
    assert document["split"]["test"][1] == data["span"][1]
    # 300 rows at 70, 10, 20 per cent: 210 - 24 - 6 + 1 windows, then every row that starts a whole horizon.
    assert document["windows"] == {"train": 181, "validation": 25, "test": 55}
    assert document["scores"].keys() == {"itransformer", "naive", "seasonal-naive", "linear"}
    for score in document["scores"].values():
        assert score["scaled"].keys() == {"mse", "mae"}
        assert score["original"].keys() == {"mae", "rmse", "mase", "smape"}
        assert all(isinstance(value, float) for part in score.values() for value in part.values())
    assert document["coverage"].keys() == {"80", "95"}
    assert 0 <= document["coverage"]["80"] <= document["coverage"]["95"] <= 1
    assert document["registered"] is None
    assert {"read", "train", "score", "total"} <= document["seconds"].keys()
    assert all(isinstance(spent, float) for spent in document["seconds"].values())


def test_fit_off_a_terminal_shows_no_bars_and_no_colours(
    model: tuple[str, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(FIT) == 0
    out, err = capfd.readouterr()
    for text in (out, err):
        assert "\x1b" not in text
        assert "\r" not in text
    assert "seasonal-naive" in out
    assert "300 rows" in err


def test_fit_with_quiet_prints_nothing_even_when_it_registers(capfd: pytest.CaptureFixture[str], desk: Path) -> None:
    arguments = ["fit", "etth1.csv", "--model", "linear", "--lookback", "24", "--horizon", "6"]
    assert main([*arguments, "--register", "quiet", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in desk.iterdir()] == ["etth1.csv"]


def test_predict_says_where_it_wrote_what(
    model: tuple[str, dict[str, Any]], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model[0], "etth1.csv", "-o", "out.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "model": model[0],
        "rows": 42,
        "first": "2016-07-13 12:00:00",
        "last": "2016-07-13 17:00:00",
        "output": "out.csv",
        "repairs": [],
        "warnings": [],
        "unseen": [],
    }
    assert pl.read_csv("out.csv").height == 42
    assert {path.name for path in desk.iterdir()} == {"etth1.csv", "out.csv"}
    assert main(["predict", model[0], "etth1.csv", "-o", "out.csv", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_predict_tells_the_first_and_the_last_by_time_where_times_are_text(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 4, 28), eager=True)
    pl.DataFrame({"ds": days.dt.strftime("%d.%m.%Y"), "y": [float(n % 7) for n in range(len(days))]}).write_csv("y.csv")
    assert main(["fit", "y.csv", "--model", "naive", "--lookback", "8", "--horizon", "5", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert main(["predict", f"runs:/{run}/forecaster", "y.csv", "-o", "out.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["first"], document["last"]) == ("29.04.2024", "03.05.2024")


def test_what_a_number_means_is_told_once_and_holds_at_prediction(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A decimal comma that no line decides, and a code for a missing value: asked for, stored, and applied again."""
    numbers = [1.125 + number % 9 / 8 for number in range(120)]  # three digits behind the mark: "1,125"
    coded = ["-200" if number % 40 == 7 else f"{value:.3f}" for number, value in enumerate(numbers)]
    write("odd.csv", [line.replace(",", "|", 1).replace(".", ",") for line in column(coded)])
    write("plain.csv", [line.replace("-200", "") for line in column(coded)])
    fit = ["--model", "linear", "--lookback", "24", "--horizon", "6", "--json"]
    assert main(["fit", "odd.csv", *fit]) == 3
    assert "--decimal" in json.loads(capsys.readouterr().out)["hint"]
    told = ["--decimal", "comma", "--missing-codes", "-200"]
    assert main(["doctor", "odd.csv", *told, "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert [(repair["kind"], repair["count"]) for repair in asked["repairs"]] == [("numbers-parsed", 3)]
    assert asked["suggest"]["command"].endswith("--decimal comma --missing-codes -200")
    assert main(["fit", "odd.csv", *fit, *told]) == 0
    odd = json.loads(capsys.readouterr().out)
    assert main(["fit", "plain.csv", *fit]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert odd["scores"] == plain["scores"]
    for name, document in (("odd", odd), ("plain", plain)):
        model = f"runs:/{document['run']}/forecaster"
        assert main(["predict", model, f"{name}.csv", "-o", f"{name}-out.csv", "--quiet"]) == 0
    assert pl.read_csv("odd-out.csv").equals(pl.read_csv("plain-out.csv"))


def test_doctor_resamples_as_a_fit_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "etth1.csv", "--resample", "6h", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["freq"] == "6h" and "--resample 6h" in document["suggest"]["command"]


def test_predict_tells_every_repair_and_what_is_new_to_the_model(
    model: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = swapped(LINES[:100] + LINES[103:] + [LINES[-1]], 12)
    write("recent.csv", [f"{line},{'new' if number == 0 else number % 7}" for number, line in enumerate(lines)])
    assert main(["predict", model[0], "recent.csv", "-o", "out.csv"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "recent.csv: 298 rows, 1 series"
    assert [line.split(":")[0].split() for line in told[1:-1]] == [
        ["repair", "sorted"],
        ["repair", "duplicates-merged"],
        ["repair", "gap-filled"],
    ]
    assert "line 14, 2016-07-01 11:00:00" in told[1]
    assert told[-1].startswith("unseen   1 not met at the fit") and told[-1].endswith(": new")
    assert main(["predict", model[0], "recent.csv", "-o", "out.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(r["kind"], r["count"]) for r in document["repairs"]] == [
        ("sorted", 1), ("duplicates-merged", 1), ("gap-filled", 3)
    ]  # fmt: skip
    assert document["unseen"] == ["new"]
    assert main(["predict", model[0], "recent.csv", "-o", "out.csv", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("option", "thing"),
    [
        (["--horizon", "7"], "1 to 6 steps"),
        (["--horizon", "0"], "1 to 6"),
        (["--levels", "10"], "10"),
    ],
)
def test_predict_refuses_what_the_model_was_not_trained_for(
    option: list[str], thing: str, model: tuple[str, dict[str, Any]], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", model[0], "etth1.csv", "-o", "out.csv", *option]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, _ = err.rstrip("\n").split("\n")
    assert thing in what
    assert [path.name for path in desk.iterdir()] == ["etth1.csv"]


def test_info_describes_a_stored_model(model: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", model[0]]) == 0
    assert "itransformer: 24 → 6 steps of h" in capsys.readouterr().out
    assert main(["info", model[0], "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["shape"]["lookback"] == 24
    assert described["variates"] == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]


def test_every_model_and_every_catalogued_set_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert {"itransformer", "naive", "seasonal-naive", "linear"} <= {entry["name"] for entry in models}
    assert main(["datasets", "--json"]) == 0
    here = {entry["name"]: entry["file"] for entry in json.loads(capsys.readouterr().out)}
    assert here["etth1"] == ETTH1


def test_config_show_prints_a_file_that_resolves_to_itself(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--config", "itransformer/etth1", "--horizon", "192"]) == 0
    shown = capsys.readouterr().out
    assert "horizon: 192" in shown
    (desk / "shown.yaml").write_text(shown, encoding="utf-8")
    assert main(["config", "show", "--config", "shown.yaml"]) == 0
    assert capsys.readouterr().out == shown


def test_config_schema_is_json_that_knows_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    for task in json.loads(capsys.readouterr().out)["anyOf"]:
        assert {"data", "model", "train", "track"} <= task["properties"].keys()


def test_data_come_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(LINES).encode())))
    assert main(["fit", "-", "--model", "linear", "--lookback", "4", "--horizon", "900"]) == 3
    assert "300 rows" in capsys.readouterr().err  # they were read; only the horizon is too long
