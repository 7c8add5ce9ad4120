"""Cards of events say what the published files hold, and a set is read by its name as its card says."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import forecast
from forecast.cli import main
from forecast.data import catalogue
from forecast.data.cards import EventCard
from forecast.data.catalogue import card, cards, locate, verify
from forecast.data.events import EventData, read_events
from forecast.errors import ArtifactError, DataError, UsageError

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FORECAST_DATA") or ROOT.parent / "shared" / "data")

# Events and nodes as the papers count them: JODIE, DGB, TGB; SNAP as its pages do.
SIZES = {
    **{"wikipedia": (157_474, 9_227), "reddit": (672_447, 10_984), "mooc": (411_749, 7_144)},
    **{"lastfm": (1_293_103, 1_980), "collegemsg": (59_835, 1_899), "enron": (125_235, 184)},
    **{"socialevo": (2_099_519, 74), "flights": (1_927_145, 13_169), "canparl": (74_478, 734)},
    **{"uslegis": (60_396, 225), "untrade": (507_497, 255), "unvote": (1_035_742, 201), "contacts": (2_426_279, 692)},
    **{"tgbl-wiki": (157_474, 9_227), "tgbl-review": (4_873_540, 352_637), "tgbl-coin": (22_809_486, 638_486)},
    **{"tgbl-comment": (44_314_507, 994_790), "tgbl-flight": (67_169_570, 18_143)},
    **{"email-eu": (332_334, 986), "bitcoin-otc": (35_592, 5_881), "bitcoin-alpha": (24_186, 3_783)},
    **{"mathoverflow": (506_550, 24_818), "askubuntu": (964_437, 159_316), "superuser": (1_443_339, 194_085)},
    "wiki-talk": (7_833_140, 1_140_149),
}
BIPARTITE = {"wikipedia", "reddit", "mooc", "lastfm", "tgbl-wiki", "tgbl-review"}


def events() -> dict[str, EventCard]:
    return {name: entry for name, entry in cards().items() if isinstance(entry, EventCard)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that FORECAST_DATA names."""
    monkeypatch.setenv("FORECAST_DATA", str(tmp_path))
    return tmp_path


def test_cards_state_the_published_sizes_kinds_and_split() -> None:
    assert {name: (entry.rows, entry.nodes) for name, entry in events().items()} == SIZES
    assert {name for name, entry in events().items() if entry.bipartite} == BIPARTITE
    assert {entry.split for entry in events().values()} == {(0.70, 0.15, 0.15)}


@pytest.mark.parametrize("name", ["wikipedia", "collegemsg", "bitcoin-otc"])
def test_a_set_is_found_by_its_name_and_is_what_its_card_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHARED / "temporal_graphs").exists():
        pytest.skip("needs temporal_graphs in FORECAST_DATA or ../shared/data")
    monkeypatch.setenv("FORECAST_DATA", str(SHARED))
    entry = events()[name]
    assert verify(entry, locate(entry)) is True
    facts = read_events(name.upper()).facts
    assert (facts["events"], facts["nodes"], facts["bipartite"]) == (entry.rows, entry.nodes, entry.bipartite)
    assert forecast.doctor(name).document["suggest"]["command"].startswith(f"forecast fit {name} --model todyformer ")


def test_the_columns_of_a_card_settle_what_a_file_without_a_header_leaves_open(folder: Path) -> None:
    lines = [f"{k % 7} {(k * 3 + 1) % 7} {k * 60}" for k in range(200)]  # seconds from 0, as no time looks
    (folder / "email-Eu-core-temporal.txt").write_text("\n".join(lines) + "\n")
    found = read_events("email-eu")
    assert (found.columns.src, found.columns.dst, found.columns.time) == ("0", "1", "2")
    assert found.store.time.tolist() == [k * 60 for k in range(200)]
    with pytest.raises(DataError, match="no column is their time"):
        read_events(folder / "email-Eu-core-temporal.txt")


def test_a_card_settles_whether_nodes_are_of_two_kinds_unless_it_is_said(folder: Path) -> None:
    rows = [f"{k % 11},{k % 5},{k}.0,0,0.5,-0.5" for k in range(200)]
    text = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n" + "\n".join(rows) + "\n"
    for name in ("mooc.csv", "UNvote.csv"):  # DGB gives all its sets the header of JODIE
        (folder / name).write_text(text)
    assert len(read_events("mooc").nodes) == 16
    assert len(read_events("unvote").nodes) == 11
    assert len(read_events("mooc", EventData(bipartite="no")).nodes) == 11
    assert read_events("mooc").store.features[0].tolist() == [0.5, -0.5]


def test_a_set_that_is_not_here_says_where_to_get_it(folder: Path) -> None:
    with pytest.raises(DataError, match=r"reddit: found no reddit.csv") as error:
        read_events("reddit")
    assert "https://snap.stanford.edu/data/jodie/reddit.csv" in error.value.hint


def test_events_are_not_read_as_series_nor_series_as_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "wikipedia", "--model", "itransformer"]) == 2
    assert "wikipedia holds events, and no series." in capsys.readouterr().err
    with pytest.raises(UsageError, match="etth1 holds series, and no events"):
        read_events("etth1")


def test_a_file_that_has_the_name_of_a_set_is_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    rows = np.arange(100)
    pl.DataFrame({"src": rows % 3, "dst": rows % 4, "t": rows}).write_csv(folder / "reddit")
    assert read_events("reddit").facts["events"] == 100


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("kind: events", "kind: event", "kind is 'event'", "events"),
        ("kind: events\n", "", "'src' is not a key", "Known are"),
        ("nodes: 10984", "nods: 10984", "'nods' is not a key", "nodes"),
        ("nodes: 10984", "nodes: 0", "nodes is 0", "positive"),
        ("bipartite: true", "bipartite: auto", "bipartite is 'auto'", "true or false"),
        ("train: 0.70", "train: 0.75", "split is", "quantiles"),
        ("src: user_id", "src: 0", "src is 0", "column name"),
        ("features: 172\n", "", "the key 'features' is missing", "whole number"),
    ],
)
def test_a_wrong_card_names_its_file_and_key(
    old: str, new: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "datasets" / "reddit.yaml", tmp_path)
    monkeypatch.setattr(catalogue, "_folder", lambda kind: tmp_path)
    text = (tmp_path / "reddit.yaml").read_text()
    assert old in text
    (tmp_path / "reddit.yaml").write_text(text.replace(old, new))
    with pytest.raises(ArtifactError, match=re.escape(message)) as error:
        card("reddit")
    assert hint in error.value.hint
