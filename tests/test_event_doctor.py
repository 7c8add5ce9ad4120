"""doctor on events says what a stream holds, shows it on three pages, and names a fit that can be run."""

import json
import shlex
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import forecast
from forecast.cli import main
from forecast.data.events import EventData, read_events
from forecast.errors import DataError, UsageError
from forecast.links.diagnosis import EventDiagnosis, suggested_window
from forecast.links.settings import LinkTrain

KEYS = ["kind", "rows", "events", "nodes", "sources", "destinations", "bipartite", "directed", "format", "columns"]
KEYS += ["time", "span", "times", "pairs", "repeats", "surprise", "new_nodes", "split", "parts", "repairs", "warnings"]
KEYS += ["suggest"]


def stream(events: int = 3_000, nodes: int = 40, seed: int = 0) -> pl.DataFrame:
    """People who write to each other at times of a calendar, with a weight; shuffled, one row without a receiver."""
    draw = np.random.default_rng(seed)
    src = draw.integers(nodes, size=events)
    dst = (src + draw.integers(1, nodes, size=events)) % nodes
    time = pl.Series(np.cumsum(draw.integers(1, 4_000, size=events)) * 1_000_000).cast(pl.Datetime("us"))
    table = pl.DataFrame({"sender": src, "receiver": dst, "sent": time, "words": draw.normal(size=events)})
    lacking = table.with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(None).otherwise("receiver").alias("receiver")
    )
    return lacking.sample(fraction=1, shuffle=True, seed=1)


def doctor(data: Any, **options: Any) -> EventDiagnosis:
    found = forecast.doctor(data, **options)
    assert isinstance(found, EventDiagnosis)
    return found


@pytest.fixture(scope="module")
def found() -> EventDiagnosis:
    return doctor(stream())


def test_the_document_counts_what_the_table_holds(found: EventDiagnosis) -> None:
    document, clean = json.loads(json.dumps(found.document)), stream().drop_nulls().sort("sent")
    assert list(document) == KEYS
    assert (document["kind"], document["rows"], document["events"], document["nodes"]) == ("events", 3_000, 2_999, 40)
    pairs = clean.select("sender", "receiver").n_unique()
    assert document["pairs"] == pairs and document["repeats"] == pytest.approx(1 - pairs / 2_999, abs=1e-4)
    assert document["span"] == [f"{t:%Y-%m-%dT%H:%M:%S}" for t in (clean["sent"][0], clean["sent"][-1])]
    times = clean["sent"].dt.epoch("us").to_numpy()
    borders = np.searchsorted(times, np.quantile(times, [0.70, 0.85]), side="right").tolist()
    assert list(document["parts"].values()) == np.diff([0, *borders, 2_999]).tolist()
    train, test = clean[: borders[0]], clean[borders[1] :]
    unseen = test.join(train, on=["sender", "receiver"], how="anti")
    assert document["surprise"] == pytest.approx(len(unseen) / len(test), abs=1e-4)
    new = (~test["sender"].is_in(train["sender"].to_list())).mean()
    assert document["new_nodes"]["source"] == pytest.approx(new, abs=1e-4)
    assert {repair["kind"] for repair in document["repairs"]} == {"rows-dropped", "sorted"}
    assert document["columns"] == {
        "src": "sender", "dst": "receiver", "time": "sent", "label": None, "features": ["words"], "left_out": [],
    }  # fmt: skip


def test_the_clean_table_needs_no_repair_and_keeps_every_value(found: EventDiagnosis, tmp_path: Path) -> None:
    assert found.table.equals(stream().drop_nulls().sort("sent"))
    assert found.fix(tmp_path / "clean.csv") == 2_999
    again = doctor(tmp_path / "clean.csv")
    assert again.document["repairs"] == []
    assert read_events(tmp_path / "clean.csv").store.features.equal(found.events.store.features)
    assert isinstance(doctor(stream().to_pandas()).table, pd.DataFrame)


def test_the_clean_table_of_a_file_without_a_header_gets_names(tmp_path: Path) -> None:
    (tmp_path / "mail.txt").write_text("".join(f"{k % 7} {k % 5} {1_082_040_961 + 9 * k}\n" for k in range(300)))
    assert doctor(tmp_path / "mail.txt").table.columns == ["src", "dst", "t"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_text_fits_the_terminal_and_tells_the_command(found: EventDiagnosis, width: int) -> None:
    lines = found.text(width).splitlines()
    command = found.document["suggest"]["command"]
    assert lines[0] == "<frame>: 2,999 events between 40 nodes" and lines[-1] == f"  {command}"
    assert all(len(line) <= width for line in lines[1:-1])
    assert any(line.startswith("over time") and "█" in line for line in lines)


def test_the_page_is_whole_and_asks_for_nothing(found: EventDiagnosis, tmp_path: Path) -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.seen: set[str] = set()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.add(tag)
            assert not {"src", "href"} & {name for name, value in attrs if not (value or "").startswith("#")}
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.add(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen and page.count("<figure>") == 2
    assert escape(found.document["suggest"]["command"]) in page
    assert page == doctor(stream()).html


def test_names_of_nodes_and_columns_cannot_break_the_page() -> None:
    table = stream().drop_nulls().rename({"words": "<b>&"})
    assert "&lt;b&gt;&amp;" in doctor(table).html and "<b>&<" not in doctor(table).html


@pytest.mark.parametrize("spread", [1, 30, 300])
def test_the_window_is_the_least_that_holds_the_last_event_of_most_sources(spread: int) -> None:
    draw = np.random.default_rng(spread)
    src = draw.integers(spread * 10, size=12_000)
    table = pl.DataFrame({"src": src, "dst": draw.integers(50, size=12_000) + 10_000, "t": np.arange(12_000)})
    events = read_events(table)
    window, share = suggested_window(events)
    held = {size: 0 for size in (window // 2, window)}
    known, last = 0, {}
    for k, source in enumerate(events.store.src[: events.borders[1]].tolist()):  # slow and obviously right
        begin = k - k % LinkTrain.batch_size
        before = [place for place in last.get(source, []) if place < begin]
        known += bool(before)
        for size in held:
            held[size] += bool(before) and before[-1] >= begin - size
        last.setdefault(source, []).append(k)
    assert share == pytest.approx(held[window] / known)
    assert share >= 0.8 or window == 8_192  # the greatest that has so many training events
    assert window == 1_024 or held[window // 2] / known < 0.8


def test_the_command_can_be_typed_again_with_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "my mail.csv"
    stream().rename({"sender": "who", "receiver": "whom"}).write_csv(path)
    given = ("data.src_col=who", "data.dst_col=whom", "data.features=[]")
    words = shlex.split(doctor(path, settings=given, time_col="sent").document["suggest"]["command"])
    assert words[:5] == ["forecast", "fit", str(path), "--model", "todyformer"]
    assert words[words.index("--time-col") + 1] == "sent"
    assert [words[i + 1] for i, word in enumerate(words) if word == "--set"] == [*given, "model.window=1024"]
    framed = doctor(stream(), settings=("data.features=[]",)).document["suggest"]["command"]
    assert framed == ("forecast.fit(frame, model='todyformer', settings=('data.features=[]', 'model.window=1024'))")


def test_doctor_prints_one_document_and_writes_the_clean_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mail.csv"
    stream().write_csv(path)
    assert main(["doctor", str(path), "--json", "--fix", str(tmp_path / "clean.parquet")]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "events"
    assert pl.read_parquet(tmp_path / "clean.parquet").height == 2_999
    assert main(["doctor", str(path), "--json", "--set", "data.strict=true"]) == 3
    assert "refused by --strict" in json.loads(capsys.readouterr().out)["message"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"horizon": 24}, UsageError, "data.horizon is not a setting of data"),
        ({"settings": ("data.bipartite=perhaps",)}, UsageError, "data.bipartite is 'perhaps'"),
        ({"settings": ("data.src_col=nobody",)}, UsageError, 'no column "nobody"'),
        ({"settings": ("data.dst_col=sender", "data.src_col=sender")}, UsageError, "named for two things"),
    ],
)
def test_options_that_events_do_not_have_are_refused(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        forecast.doctor(stream(), **options)


def test_a_table_that_names_its_ends_is_read_as_events_whatever_it_looks_like() -> None:
    table = pl.DataFrame({"a": np.arange(100) % 3, "b": np.arange(100) % 4, "c": np.arange(100)})
    given = ("data.src_col=a", "data.dst_col=b", "data.time_col=c")
    assert doctor(table, settings=given).document["events"] == 100
    with pytest.raises(DataError, match="no column is their time"):
        read_events(table, EventData(src_col="a", dst_col="b"))
