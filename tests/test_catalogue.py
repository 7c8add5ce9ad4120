"""The catalogue says what the papers say: columns, splits, windows, settings and scores."""

import gzip
import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from forecast.data import catalogue
from forecast.data.cards import Card
from forecast.data.catalogue import borders, card, cards, config_file, locate, read, verify
from forecast.errors import ArtifactError, DataError, UsageError

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = sorted((ROOT / "configs" / "itransformer").glob("*.yaml"))
PEMS = ["pems03", "pems04", "pems07", "pems08"]
ETT = ["etth1", "etth2", "ettm1", "ettm2"]
EVERYTHING = ["airpassengers", "ecl", *ETT, "exchange", "ili", *PEMS, "solar", "traffic", "weather", "wth"]

# Windows of train, validation and test at lookback 96, by horizon: what the published loaders come to.
ETT_HOUR = "96:8449/2785/2785 192:8353/2689/2689 336:8209/2545/2545 720:7825/2161/2161"
ETT_MINUTE = "96:34369/11425/11425 192:34273/11329/11329 336:34129/11185/11185 720:33745/10801/10801"
WINDOWS = {
    "etth1": ETT_HOUR,
    "etth2": ETT_HOUR,
    "ettm1": ETT_MINUTE,
    "ettm2": ETT_MINUTE,
    "exchange": "96:5120/665/1422 192:5024/569/1326 336:4880/425/1182 720:4496/41/798",
    "weather": "96:36696/5175/10444 192:36600/5079/10348 336:36456/4935/10204 720:36072/4551/9820",
    "ecl": "96:18221/2537/5165 192:18125/2441/5069 336:17981/2297/4925 720:17597/1913/4541",
    "traffic": "96:12089/1661/3413 192:11993/1565/3317 336:11849/1421/3173 720:11465/1037/2789",
    "solar": "96:36601/5161/10417 192:36505/5065/10321 336:36361/4921/10177 720:35977/4537/9793",
    "pems03": "12:15617/5135/5135 24:15605/5123/5123 48:15581/5099/5099 96:15533/5051/5051",
    "pems04": "12:10088/3291/3292 96:10004/3207/3208",
    "pems07": "12:16827/5538/5538 96:16743/5454/5454",
    "pems08": "12:10606/3464/3465 96:10522/3380/3381",
}

# MSE and MAE of the iTransformer paper at lookback 96, for horizons 96, 192, 336, 720 (PEMS: 12, 24, 48, 96).
SCORES = {
    "ettm1": "0.334/0.368 0.377/0.391 0.426/0.420 0.491/0.459",
    "ettm2": "0.180/0.264 0.250/0.309 0.311/0.348 0.412/0.407",
    "etth1": "0.386/0.405 0.441/0.436 0.487/0.458 0.503/0.491",
    "etth2": "0.297/0.349 0.380/0.400 0.428/0.432 0.427/0.445",
    "ecl": "0.148/0.240 0.162/0.253 0.178/0.269 0.225/0.317",
    "exchange": "0.086/0.206 0.177/0.299 0.331/0.417 0.847/0.691",
    "traffic": "0.395/0.268 0.417/0.276 0.433/0.283 0.467/0.302",
    "weather": "0.174/0.214 0.221/0.254 0.278/0.296 0.358/0.347",
    "solar": "0.203/0.237 0.233/0.261 0.248/0.273 0.249/0.275",
    "pems03": "0.071/0.174 0.093/0.201 0.125/0.236 0.164/0.275",
    "pems04": "0.078/0.183 0.095/0.205 0.120/0.233 0.150/0.262",
    "pems07": "0.067/0.165 0.088/0.190 0.110/0.215 0.139/0.245",
    "pems08": "0.079/0.182 0.115/0.219 0.186/0.235 0.221/0.267",
}
# Layers, width, learning rate, batch size, use_norm and epochs of the authors' scripts, from a horizon on.
SETTING_OF = {
    "etth1": {192: (2, 256, 1e-4, 32, True, 10), 336: (2, 512, 1e-4, 32, True, 10)},
    "etth2": {96: (2, 128, 1e-4, 32, True, 10)},
    "ettm1": {96: (2, 128, 1e-4, 32, True, 10)},
    "ettm2": {96: (2, 128, 1e-4, 32, True, 10)},
    "exchange": {
        96: (2, 128, 1e-4, 32, True, 10),
        336: (2, 128, 1e-4, 32, True, 1),
        720: (2, 128, 1e-4, 32, True, 10),
    },
    "weather": {96: (3, 512, 1e-4, 32, True, 10)},
    "solar": {96: (2, 512, 5e-4, 32, True, 10)},
    "ecl": {96: (3, 512, 5e-4, 16, True, 10)},
    "traffic": {96: (4, 512, 1e-3, 16, True, 10)},
    "pems03": {12: (4, 512, 1e-3, 32, True, 10)},
    "pems04": {12: (4, 1024, 5e-4, 32, False, 10)},
    "pems07": {24: (2, 512, 1e-3, 32, False, 10), 48: (4, 512, 1e-3, 16, False, 10)},
    "pems08": {24: (2, 512, 1e-4, 32, True, 10), 48: (4, 512, 1e-3, 16, False, 10)},
}


@pytest.fixture
def no_own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORECAST_DATA", raising=False)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one card, etth1, free to be spoilt."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    shutil.copy(ROOT / "datasets" / "etth1.yaml", folder)
    monkeypatch.setattr(catalogue, "_folder", lambda kind: folder)
    return folder / "etth1.yaml"


def series() -> dict[str, Card]:
    """The cards of series; tests/test_event_cards.py has those of events."""
    return {name: entry for name, entry in cards().items() if isinstance(entry, Card)}


def test_every_set_of_the_papers_has_a_valid_card() -> None:
    assert list(series()) == EVERYTHING
    assert all(entry.name == name and entry == card(name) for name, entry in cards().items())


def test_cards_state_the_published_sizes() -> None:
    sizes = {name: (entry.width, entry.rows) for name, entry in series().items()}
    assert sizes == {
        "airpassengers": (1, 144),
        "ecl": (321, 26_304),
        "etth1": (7, 17_420),
        "etth2": (7, 17_420),
        "ettm1": (7, 69_680),
        "ettm2": (7, 69_680),
        "exchange": (8, 7_588),
        "ili": (7, 966),
        "pems03": (358, 26_208),
        "pems04": (307, 16_992),
        "pems07": (883, 28_224),
        "pems08": (170, 17_856),
        "solar": (137, 52_560),
        "traffic": (862, 17_544),
        "weather": (21, 52_696),
        "wth": (12, 35_064),
    }


def test_undated_sets_have_no_marks_and_only_pems_parts_do_not_overlap() -> None:
    undated = {name for name, entry in series().items() if entry.time is None}
    assert undated == {name for name, entry in series().items() if not entry.marks}
    assert undated == {"solar", "pems03", "pems04", "pems07", "pems08"}
    assert undated - {"solar"} == {name for name, entry in series().items() if not entry.overlap}


@pytest.mark.parametrize("name", WINDOWS)
def test_borders_give_the_published_window_counts(name: str) -> None:
    entry = card(name)
    parts = borders(entry, entry.rows, 96)
    for horizon, counts in (row.split(":") for row in WINDOWS[name].split()):
        assert [end - first - int(horizon) + 1 for first, end in parts] == [int(n) for n in counts.split("/")]


def test_borders_of_ili_give_the_usual_window_counts() -> None:
    assert [end - first - 24 + 1 for first, end in borders(card("ili"), 966, 36)] == [617, 74, 170]


@pytest.mark.parametrize("lookback", [1, 96, 720])
def test_etth1_forecasts_the_same_rows_at_any_lookback_except_the_first(lookback: int) -> None:
    train, validation, test = borders(card("etth1"), 17_420, lookback)
    assert (train[0], train[1] - 1) == (lookback, 8_639)
    assert (validation[0], validation[1] - 1) == (8_640, 11_519)
    assert (test[0], test[1] - 1) == (11_520, 14_399)


def test_pems_never_forecasts_the_first_lookback_rows_of_a_part() -> None:
    assert borders(card("pems08"), 17_856, 96) == ((96, 10_713), (10_713 + 96, 14_284), (14_284 + 96, 17_856))


def test_the_three_ways_of_rounding_differ_where_shares_do_not_come_out_even() -> None:
    rows = 10_009  # 0.7, 0.1 and 0.2 of it are 7,006.3, 1,000.9 and 2,001.8
    assert borders(card("exchange"), rows, 1)[1:] == ((7_006, 8_008), (8_008, rows))
    assert borders(card("solar"), rows, 1)[1:] == ((7_006, 8_006), (8_008, rows))
    assert borders(card("pems03"), rows, 1)[1:] == ((6_005 + 1, 8_007), (8_007 + 1, rows))


def test_borders_refuse_a_table_that_ends_before_the_published_split() -> None:
    with pytest.raises(DataError, match=r"etth1: the published split ends at row 14,400; the table has 9,000 rows"):
        borders(card("etth1"), 9_000, 96)


@pytest.mark.parametrize(("name", "part"), [("etth1", "train"), ("pems08", "validation")])
def test_borders_refuse_a_lookback_that_leaves_nothing_to_forecast(name: str, part: str) -> None:
    entry = card(name)
    lookback = 8_640 if name == "etth1" else 3_571
    with pytest.raises(DataError, match=rf"lookback of {lookback} steps leaves nothing to forecast in the {part}"):
        borders(entry, entry.rows, lookback)
    assert borders(entry, entry.rows, lookback - 1)


@pytest.mark.parametrize("name", ["etth1", "airpassengers"])
def test_shipped_files_are_unchanged_and_as_their_cards_say(name: str, no_own_data: None) -> None:
    entry = card(name)
    path = locate(entry)
    assert path.parent == ROOT / "datasets"
    assert verify(entry, path) is True
    frame = pl.read_csv(path)
    assert frame.height == entry.rows
    assert frame.columns == [entry.time, *entry.variates]  # type: ignore[misc]


def test_shipped_etth1_is_the_file_of_the_authors(no_own_data: None) -> None:
    sums = card("etth1").sha256
    assert sums["ETTh1.csv"] == "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"


def test_verify_tells_a_changed_file_and_a_file_without_a_sum(tmp_path: Path) -> None:
    changed = tmp_path / "ETTh1.csv"
    changed.write_bytes((ROOT / "datasets" / "ETTh1.csv").read_bytes() + b"\n")
    assert verify(card("etth1"), changed) is False
    unknown = tmp_path / "ETTh1-mine.csv"
    unknown.write_bytes(b"date\n")
    assert verify(card("etth1"), unknown) is None


@pytest.mark.parametrize("place", [".", "long/"])
def test_own_folder_and_its_subfolders_come_before_shipped_files(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    own = tmp_path / place / "ETTh1.parquet"
    own.touch()
    monkeypatch.setenv("FORECAST_DATA", str(tmp_path))
    assert locate(card("etth1")) == own


def test_a_file_two_folders_down_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "weather.csv").touch()
    monkeypatch.setenv("FORECAST_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"weather: found no weather.csv or weather.parquet in FORECAST_DATA="):
        locate(card("weather"))


def test_a_missing_file_says_where_to_get_it(no_own_data: None) -> None:
    with pytest.raises(DataError, match=r"PEMS03\.npz .*FORECAST_DATA is not set") as error:
        locate(card("pems03"))
    assert card("pems03").address in error.value.hint
    assert "export FORECAST_DATA=" in error.value.hint


def test_own_folder_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORECAST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere is not a folder"):
        locate(card("weather"))


def test_csv_is_handed_on_as_a_path(no_own_data: None) -> None:
    assert read(card("etth1")) == ROOT / "datasets" / "ETTh1.csv"
    assert read(card("etth1"), Path("elsewhere/ETTh1.csv")) == Path("elsewhere/ETTh1.csv")


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_headerless_text_is_read_with_numbered_columns(suffix: str, tmp_path: Path) -> None:
    values = np.arange(3 * 137).reshape(3, 137) / 4
    text = "\n".join(",".join(map(str, row)) for row in values).encode()
    path = tmp_path / f"solar_AL{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    frame = read(card("solar"), path)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == [str(plant) for plant in range(137)]
    assert np.array_equal(frame.to_numpy(), values)


def test_headerless_text_with_a_word_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "solar_AL.txt"
    path.write_text(",".join(["1.5"] * 137) + "\n" + ",".join(["1.5"] * 136 + ["broken"]) + "\n")
    with pytest.raises(DataError, match=r"solar_AL\.txt: not a table of numbers"):
        read(card("solar"), path)


def test_sensor_archive_gives_feature_0_of_each_sensor(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(5, 170, 3))
    path = tmp_path / "PEMS08.npz"
    np.savez(path, data=data)
    frame = read(card("pems08"), path)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == [str(sensor) for sensor in range(170)]
    assert np.array_equal(frame.to_numpy(), data[:, :, 0])


def test_sensor_archive_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "PEMS08.npz"
    np.savez(path, data=np.zeros((5, 169, 3)))
    with pytest.raises(DataError, match=r"169 variates, where pems08 has 170"):
        read(card("pems08"), path)
    np.savez(path, data=np.zeros((5, 170)))
    with pytest.raises(DataError, match=r"float64 of shape \(5, 170\)"):
        read(card("pems08"), path)
    np.savez(path, values=np.zeros((5, 170, 1)))
    with pytest.raises(DataError, match="array `data`"):
        read(card("pems08"), path)
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match="array `data`"):
        read(card("pems08"), path)
    with pytest.raises(DataError, match="no such file"):
        read(card("pems08"), tmp_path / "PEMS08-gone.npz")


def test_sensor_archive_with_pickled_objects_is_not_unpickled(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.full((2, 170, 1), None, dtype=object), allow_pickle=True)
    path = tmp_path / "PEMS08.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", content.getvalue())
    with pytest.raises(DataError, match="array `data`"):
        read(card("pems08"), path)


@pytest.mark.parametrize(
    ("typed", "meant"), [("ETTh1", "etth1"), ("ettm", "ettm1"), ("trafic", "traffic"), ("pems3", "pems03")]
)
def test_an_unknown_data_set_gets_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(typed))) as error:
        card(typed)
    assert meant in error.value.hint


def test_an_unlikely_name_gets_the_list() -> None:
    with pytest.raises(UsageError) as error:
        card("qqqqqq")
    assert all(name in error.value.hint for name in EVERYTHING)


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("rows: 17420", "row: 17420", "'row' is not a key", "rows"),
        ("freq: h\n", "", "the key 'freq' is missing", "offset alias"),
        ("rows: 17420", "rows: many", "rows is 'many'", "whole number"),
        ("rows: 17420", "rows: 14399", "split ends after the last of 14399 rows", "rows"),
        ("overlap: true", "overlap: 1", "overlap is 1", "true or false"),
        ("validation: [8640, 11520]", "validation: [8640, 11521]", "split is", "in time order"),
        ("target: OT", "target: TO", "target 'TO'", "Name one"),
        ("name: etth1", "name: etth2", "name is 'etth2'", "etth1"),
        ("f18de3ad", "f18de3a", "sha256 is", "SHA-256"),
        ("files: [ETTh1.csv, ", "files: [", "sha256 lists other files", "null"),
        ("address: https", "address: ftp", "address is", "https"),
        ("note: null", "note: [", "not readable as YAML", "Mend"),
    ],
)
def test_a_wrong_card_names_its_file_and_key(shelf: Path, old: str, new: str, message: str, hint: str) -> None:
    text = shelf.read_text()
    assert old in text
    shelf.write_text(text.replace(old, new))
    with pytest.raises(ArtifactError, match=re.escape(message)) as error:
        card("etth1")
    assert str(shelf) in error.value.message
    assert hint in error.value.hint


def test_published_settings_exist_for_every_set_of_the_paper() -> None:
    assert {path.stem for path in SETTINGS} == set(SCORES) == set(SETTING_OF)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_a_setting_names_its_card_and_lists_every_published_horizon(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    entry = card(content["data"]["dataset"])
    horizons = [12, 24, 48, 96] if entry.name.startswith("pems") else [96, 192, 336, 720]
    assert set(content) == {"data", "model", "train", "horizons", "published"}
    assert entry.name == path.stem
    assert list(content["horizons"]) == list(content["published"]) == horizons
    assert content["data"]["horizon"] == horizons[0]
    assert content["data"]["lookback"] == 96
    assert content["data"]["marks"] == ("h" if entry.marks else "none")
    assert all(content["horizons"][horizon] is not None for horizon in horizons)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_published_scores_are_those_of_the_paper(path: Path) -> None:
    published = yaml.safe_load(path.read_text())["published"]
    typed = [f"{scores['mse']:.3f}/{scores['mae']:.3f}" for scores in published.values()]
    assert typed == SCORES[path.stem].split()


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_are_those_of_the_authors_scripts(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    steps = SETTING_OF[path.stem]
    expected = next(iter(steps.values()))
    for horizon, special in content["horizons"].items():
        expected = steps.get(horizon, expected)
        model, train = (
            content["model"] | special.get("model", {}),
            content["train"] | special.get("train", {}),
        )
        layers, width, rate, batch, norm, epochs = expected
        assert model == {
            "name": "itransformer",
            "d_model": width,
            "d_ff": width,
            "layers": layers,
            "heads": 8,
            "dropout": 0.1,
            "activation": "gelu",
            "use_norm": norm,
        }
        assert train == {
            "epochs": epochs,
            "batch_size": batch,
            "epoch_batches": None,
            "learning_rate": rate,
            "schedule": "halving",
            "averaging": 0,
            "patience": 3,
            "seed": 2023,
        }


@pytest.mark.parametrize("typed", ["itransformer/etth1", "itransformer/etth1.yaml", "configs/itransformer/etth1.yaml"])
def test_a_published_setting_is_found_from_any_folder(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_file(typed) == ROOT / "configs" / "itransformer" / "etth1.yaml"


def test_a_file_of_ones_own_comes_before_a_published_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "itransformer" / "etth1.yaml"
    own.parent.mkdir()
    own.touch()
    assert config_file("itransformer/etth1.yaml").resolve() == own


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("etth1", "/etth1"),  # of any model
        ("mine/etth1", "/etth1"),
        ("itransformer/eth1.yaml", "itransformer/etth1"),
        ("configs/itransformr/etth1.yaml", "itransformer/etth1"),
    ],
)
def test_an_unknown_setting_gets_the_nearest_name(typed: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{typed}: no such file")) as error:
        config_file(typed)
    assert told in error.value.hint


@pytest.mark.parametrize("folder", ["datasets", "configs", "mlflow"])
def test_data_folders_hold_no_python(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if path.suffix in {".py", ".pyi", ".pyc", ".ipynb"}]
