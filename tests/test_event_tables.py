"""Tables of events are read whatever their layout, given back as they came, repaired in the open, or refused by row."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.events import EventData, EventTable, read_events
from forecast.data.kinds import looks_like
from forecast.data.nodes import nodes_of, plain_ids
from forecast.data.table import read
from forecast.data.ticks import give_ticks, read_ticks
from forecast.data.times import Rules
from forecast.errors import DataError, UsageError

SHARED = Path(os.environ.get("FORECAST_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
USERS, ITEMS, EVENTS = 30, 10, 400


def meetings(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users 0 …, items 0 … and rising seconds, every user and item at least once."""
    draw = np.random.default_rng(seed)
    users, items = draw.integers(USERS, size=EVENTS), draw.integers(ITEMS, size=EVENTS)
    users[:USERS], items[:ITEMS] = np.arange(USERS), np.arange(ITEMS)
    return users, items, np.cumsum(draw.integers(1, 60, size=EVENTS))


def frame(**columns: Any) -> pl.DataFrame:
    """People who write to each other, as `src`, `dst`, `t`; `columns` replace these or come behind."""
    src, dst, t = meetings()
    return pl.DataFrame({"src": src, "dst": (src + 1 + dst) % USERS, "t": t} | columns)


def shared(name: str) -> Path:
    path = SHARED / "temporal_graphs" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs temporal_graphs/{name}.parquet in FORECAST_DATA or ../shared/data")
    return path


def given_back(found: EventTable) -> pl.DataFrame:
    """The events in the order of the store, under the ids and times of the caller."""
    store = found.store
    return pl.DataFrame(
        [
            found.nodes.source_ids(store.src.numpy()),
            found.nodes.destination_ids(store.dst.numpy()),
            give_ticks(store.time.numpy(), found.time_type),
        ]
    )


# Real streams


@pytest.mark.parametrize(
    ("name", "events", "nodes", "bipartite", "repeats", "parts"),
    [
        # Events and nodes as published; repeats: 1 - distinct pairs / events.
        ("wikipedia", 157_474, 9_227, True, 1 - 18_257 / 157_474, (110_232, 23_621, 23_621)),
        ("collegemsg", 59_835, 1_899, False, 1 - 20_296 / 59_835, (41_884, 8_975, 8_976)),
        ("bitcoin_otc", 35_592, 5_881, False, 0.0, (24_914, 5_339, 5_339)),
    ],
)
def test_real_streams_have_their_published_sizes(
    name: str, events: int, nodes: int, bipartite: bool, repeats: float, parts: tuple[int, int, int]
) -> None:
    path = shared(name)
    found = read_events(path)
    facts = found.facts
    assert (facts["kind"], facts["events"], facts["nodes"], facts["bipartite"]) == ("events", events, nodes, bipartite)
    assert facts["repeats"] == pytest.approx(repeats, abs=5e-5)
    assert tuple(facts["parts"].values()) == parts
    assert facts["repairs"] == []
    assert given_back(found).equals(pl.read_parquet(path, columns=["src", "dst", "t"]))


def test_every_shared_file_is_told_for_what_it_is() -> None:
    paths = sorted(SHARED.glob("*/*.parquet")) + sorted(SHARED.glob("*/*.csv"))
    if not paths:
        pytest.skip("the shared data are not here")
    kinds = {"temporal_graphs": "events", "graphs": "graphs"}
    assert {path: looks_like(read(path)) for path in paths} == {
        path: kinds.get(path.parent.name, "series") for path in paths
    }


# Layouts of public files


def layouts() -> dict[str, tuple[str, pl.DataFrame, bool]]:
    """Text in the layouts of public sets, the events it tells, and whether it is of two kinds of nodes."""
    users, items, t = meetings()
    draw = np.random.default_rng(1)
    marks = draw.normal(size=(EVENTS, 5)).round(4)
    rows = list(zip(users.tolist(), items.tolist(), t.tolist(), marks.tolist(), strict=True))
    told = pl.DataFrame({"src": users, "dst": items, "t": t})
    floats = told.with_columns(pl.col("t").cast(pl.Float64))
    jodie = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"
    unix = told.with_columns(pl.col("t") + 1_082_040_961)
    later = told.with_columns(pl.col("t") + 1_289_241_911.75)
    named = pl.DataFrame({"src": [f"AB{u}" for u in users], "dst": [f"{i:03}" for i in items], "t": t})
    return {
        "jodie": (
            jodie + "".join(f"{u},{i},{s}.0,0,{','.join(map(str, m))}\n" for u, i, s, m in rows),
            floats,
            True,
        ),
        "jodie, one feature": (jodie + "".join(f"{u},{i},{s}.0,0,0.5\n" for u, i, s, _ in rows), floats, True),
        "dyglib": (
            ",u,i,ts,label,idx\n"
            + "".join(f"{k},{u + 1},{i + 1 + USERS},{s}.0,0.0,{k + 1}\n" for k, (u, i, s, _) in enumerate(rows)),
            floats.with_columns(pl.col("src") + 1, pl.col("dst") + 1 + USERS),
            True,
        ),
        "snap": ("".join(f"{u} {i} {s + 1_082_040_961}\n" for u, i, s, _ in rows), unix, False),
        "snap, with a rating": ("".join(f"{u},{i},-3,{s + 1_289_241_911.75}\n" for u, i, s, _ in rows), later, False),
        "tgb": ("ts,src,dst,w\n" + "".join(f"{s},AB{u},{i:03},1.5\n" for u, i, s, _ in rows), named, True),
        "mail": (
            "Sender;Receiver;Date\n" + "".join(f"AB{u};{i:03};{s}\n" for u, i, s, _ in rows),
            named,
            True,
        ),
    }


@pytest.mark.parametrize("layout", layouts())
def test_public_layouts_are_read_as_the_events_they_tell(layout: str, tmp_path: Path) -> None:
    text, told, bipartite = layouts()[layout]
    path = tmp_path / "events.csv"
    path.write_text(text)
    table = read(path)
    assert looks_like(table) == "events"
    found = read_events(table)
    assert found.nodes.bipartite == bipartite
    assert given_back(found).equals(told)
    width = {"jodie": 5, "jodie, one feature": 1, "snap, with a rating": 1, "tgb": 1}.get(layout, 0)
    assert found.store.features.shape == (EVENTS, width)
    assert (found.labels is not None) == (layout in ("jodie", "jodie, one feature", "dyglib"))


def test_the_header_that_names_a_list_of_columns_is_told_of_and_gives_every_feature(tmp_path: Path) -> None:
    path = tmp_path / "jodie.csv"
    path.write_text(layouts()["jodie"][0])
    found = read_events(path)
    assert found.columns.features == ("feature_0", "feature_1", "feature_2", "feature_3", "feature_4")
    assert np.array_equal(
        found.store.features.numpy(), np.random.default_rng(1).normal(size=(EVENTS, 5)).round(4).astype(np.float32)
    )
    assert [(r.kind, r.count) for r in found.ledger.repairs] == [("header-skipped", 5)]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("1 234 567\n2 345 678\n3 456 789\n4 567 890\n", 1),  # thousands
        ("7 1 1082040961\n7 2 1082155839\n9 1 1082414391\n", 3),
    ],
)
def test_blanks_part_columns_of_digits_but_not_groups_of_thousands(text: str, columns: int, tmp_path: Path) -> None:
    path = tmp_path / "digits.txt"
    path.write_text(text)
    assert len(read(path).schema) == columns


# What is no stream of events


@pytest.mark.parametrize(
    "columns",
    [
        {"unique_id": ["a", "b"] * 50, "ds": range(100), "y": np.arange(100.0)},
        {"item_id": ["a", "b"] * 50, "timestamp": range(100), "target": range(100)},
        {"source": ["shop a", "shop b"] * 50, "date": range(100), "target": range(100)},
        {"time": range(100), "u": np.arange(100.0), "v": np.arange(100.0) / 3},  # a wind
        {"time": range(100), "u": np.arange(100.0), "v": np.arange(100.0)},  # a wind in whole knots
        {"src": range(100), "dst": range(100), "weight": np.arange(100.0)},  # edges without a time
        {"id": range(100), "time": range(100), "value": range(100)},
    ],
)
def test_series_and_edges_are_no_events(columns: dict[str, Any]) -> None:
    assert looks_like(read(pl.DataFrame(columns))) == "series"


# Ids


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Int32, pl.UInt8, pl.UInt64, pl.String, pl.Categorical])
def test_ids_come_back_in_their_kind_and_unknown_ones_are_told(dtype: Any) -> None:
    table = frame().with_columns(pl.col("src", "dst").cast(pl.String).cast(dtype))
    found = read_events(table)
    text = dtype in (pl.String, pl.Categorical)
    expected = table.with_columns(pl.col("src", "dst").cast(pl.String if text else pl.Int64))
    back = given_back(found)
    assert back.with_columns(pl.col("src", "dst").cast(expected.schema["src"])).equals(expected)
    assert found.nodes.source_nodes(pl.Series(["5", "999", None])).tolist()[1:] == [-1, -1]
    assert found.nodes.source_nodes(pl.Series([5])).tolist() == found.nodes.source_nodes(pl.Series(["5"])).tolist()


@given(st.lists(st.one_of(st.text(max_size=3), st.integers(-5, 5).map(str)), min_size=1, max_size=20), st.data())
@settings(deadline=None, max_examples=50)
def test_numbering_ids_and_looking_them_up_are_inverse(ids: list[str], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.sampled_from(ids), min_size=len(ids), max_size=len(ids)))
    src, dst = pl.Series(ids, dtype=pl.String), pl.Series(other, dtype=pl.String)
    for bipartite in (False, True):
        nodes = nodes_of(src, dst, bipartite=bipartite)
        assert nodes.source_ids(nodes.source_nodes(src)).equals(src)
        assert nodes.destination_ids(nodes.destination_nodes(dst)).equals(dst)
        assert len(nodes) == len(set(ids)) + (len(set(other)) if bipartite else 0)


def test_user_7_and_item_7_are_two_nodes() -> None:
    users, items, t = meetings()
    found = read_events(pl.DataFrame({"user": users, "item": items, "time": t}))
    assert len(found.nodes) == USERS + ITEMS
    assert found.nodes.source_nodes(pl.Series([7])).tolist() == [7]
    assert found.nodes.destination_nodes(pl.Series([7, 10])).tolist() == [USERS + 7, -1]
    joint = read_events(pl.DataFrame({"user": users, "item": items, "time": t}), EventData(bipartite="no"))
    assert len(joint.nodes) == USERS


def test_one_numbering_under_the_names_of_two_kinds_is_one_kind() -> None:
    # The header of JODIE stands above other sets, too, whose nodes are of one kind: neither side has every number.
    src = np.array([0, 2, 4, 6] * 20)
    dst = np.array([1, 3, 5, 0] * 20)
    assert not read_events(pl.DataFrame({"user_id": src, "item_id": dst, "timestamp": np.arange(80)})).nodes.bipartite


def test_ids_that_pandas_turned_into_floats_are_whole_again() -> None:
    table = frame().to_pandas()
    table["dst"] = table["dst"].astype(float)
    table.loc[5, "dst"] = np.nan
    found = read_events(table)
    assert found.store.order.tolist() == [row for row in range(EVENTS) if row != 5]
    assert given_back(found)["dst"].dtype == pl.Int64


# Times


@pytest.mark.parametrize(
    "times",
    [
        pl.Series("t", [0, 5, 5, 2**62]),
        pl.Series("t", [0.0, 0.125, 1e9 + 1 / 3, 1e300]),
        pl.Series("t", [0.0, 0.5, 3.25], dtype=pl.Float32),
        pl.Series("t", [2004, 2005, 20_041_231], dtype=pl.UInt32),
        pl.Series("t", ["2024-03-31 00:30:00", "2024-03-31 01:30:00"]).str.to_datetime(time_zone="Europe/Berlin"),
        pl.Series("t", ["2024-03-31T00:30:00Z", "2024-03-31T01:30:00Z"]),
        pl.Series("t", ["31.12.2023", "01.01.2024"]),
        pl.Series("t", [0, 86_400_000]).cast(pl.Datetime("ms")),
        pl.Series("t", [0, 19_000]).cast(pl.Date),
    ],
    ids=lambda times: str(times.dtype),
)
def test_times_come_back_as_they_were_given(times: pl.Series) -> None:
    read, given = read_ticks(times, str, Rules())
    assert read.dtype == (np.float64 if times.dtype.is_float() else np.int64)
    assert np.all(np.diff(read) >= 0)
    assert give_ticks(read, given).equals(times) and give_ticks(read, given).dtype == times.dtype


def test_times_of_the_same_stream_take_the_type_of_those_before() -> None:
    floats = read_ticks(pl.Series("t", [0.5, 1.0]), str, Rules())[1]
    whole = read_ticks(pl.Series("t", [1, 2]), str, Rules())[1]
    assert read_ticks(pl.Series("t", [7, 8]), str, Rules(), floats)[0].dtype == np.float64
    assert read_ticks(pl.Series("t", [7.0, 8.0]), str, Rules(), whole)[0].dtype == np.int64
    with pytest.raises(DataError, match=r"^1: the time 8\.5 in column .t. is a fraction"):
        read_ticks(pl.Series("t", [7.0, 8.5]), str, Rules(), whole)
    with pytest.raises(DataError, match="times of a calendar; before, the times were numbers"):
        read_ticks(pl.Series("t", ["2024-01-01", "2024-01-02"]), str, Rules(), whole)


# Repairs and warnings


def test_the_order_of_the_rows_only_shows_in_the_ledger() -> None:
    table = frame(weight=np.arange(EVENTS) / 7, label=np.arange(EVENTS) % 2)
    sorted_one = read_events(table)
    shuffled = read_events(table.sample(fraction=1, shuffle=True, seed=3))
    assert sorted_one.ledger.repairs == ()
    assert [repair.kind for repair in shuffled.ledger.repairs] == ["sorted"]
    assert shuffled.fingerprint == sorted_one.fingerprint
    assert np.array_equal(shuffled.labels, np.arange(EVENTS) % 2)


def test_events_of_one_time_stay_in_the_order_of_the_file() -> None:
    found = read_events(frame(t=np.repeat(np.arange(EVENTS // 4), 4)[::-1]))
    assert found.store.order.tolist() == np.arange(EVENTS).reshape(-1, 4)[::-1].reshape(-1).tolist()


@pytest.mark.parametrize("change", ["src", "dst", "t", "features", "label"])
def test_the_fingerprint_changes_with_any_cell(change: str) -> None:
    columns = {"src": "src", "dst": "dst", "t": "t", "features": "weight", "label": "label"}
    table = frame(weight=np.arange(EVENTS) / 7, label=np.arange(EVENTS) % 2)
    last = pl.int_range(pl.len()) == EVENTS - 1
    other = table.with_columns(pl.when(last).then(pl.col(columns[change]) + 1).otherwise(columns[change]))
    renamed = other.with_columns(pl.col(columns[change]).alias(columns[change]))
    assert read_events(renamed.select(table.columns)).fingerprint != read_events(table).fingerprint


@pytest.mark.parametrize("column", ["src", "dst", "t"])
def test_a_row_without_an_end_or_a_time_is_left_out_and_told_by_its_line(column: str, tmp_path: Path) -> None:
    path = tmp_path / "gap.csv"
    frame().with_columns(pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(column).alias(column)).write_csv(
        path
    )
    found = read_events(path)
    repair = found.ledger.repairs[0]
    assert (repair.kind, repair.count, repair.first) == ("rows-dropped", 1, "line 9")
    assert found.facts["events"] == EVENTS - 1 and 7 not in found.store.order.tolist()
    with pytest.raises(DataError, match=r"gap.csv, line 9: rows-dropped .*refused by --strict"):
        read_events(path, EventData(strict=True))
    with pytest.raises(DataError, match=r"1 of 400 rows have no .* at most 0% are repaired"):
        read_events(path, EventData(max_repaired=0.0))


def test_repeated_events_and_self_loops_are_kept_and_warned_of() -> None:
    table = frame(weight=np.arange(EVENTS) / 7)
    again = pl.concat(
        [table, table[:3], table[:1].with_columns(weight=pl.lit(99.0)), table[5:7].with_columns(dst="src")]
    )
    found = read_events(again)
    assert len(found.store) == EVENTS + 6
    assert {caution.kind: caution.count for caution in found.ledger.cautions} == {
        "repeated-events": 3,  # another weight is another event
        "self-loops": 2,
    }
    assert f"row {EVENTS};" in {c.kind: c.value for c in found.ledger.cautions}["repeated-events"]
    items = pl.DataFrame({"user": [1, 2, 1, 2, 3] * 8, "item": [1, 2, 1, 3, 1] * 8, "time": range(40)})
    assert read_events(items).ledger.cautions == ()  # user 1 is not item 1


def test_text_beside_the_events_is_left_out_with_a_warning_and_counters_in_silence() -> None:
    found = read_events(frame(note=["hello"] * EVENTS, idx=np.arange(EVENTS) + 1, paid=[True, False] * (EVENTS // 2)))
    assert found.columns.features == ("paid",) and found.columns.left_out == ("note", "idx")
    assert [(caution.kind, caution.column) for caution in found.ledger.cautions] == [("text-column", "note")]


def test_undirected_pairs_are_counted_once() -> None:
    src, dst = np.array([1, 2, 1, 2, 3, 4] * 5), np.array([2, 1, 3, 3, 4, 3] * 5)
    table = pl.DataFrame({"src": src, "dst": dst, "t": np.arange(30)})
    assert read_events(table).facts["pairs"] == 6
    assert read_events(table, EventData(directed=False)).facts["pairs"] == 4


def test_surprise_is_the_share_of_test_events_that_training_has_not_seen() -> None:
    src, dst = np.zeros(100, int), np.ones(100, int)
    dst[85:90], dst[70:75] = 2, 2  # five of fifteen test events are of a pair that only validation has
    assert read_events(pl.DataFrame({"src": src, "dst": dst, "t": np.arange(100)})).facts["surprise"] == pytest.approx(
        5 / 15, abs=1e-4
    )


# Bad input


def cell(column: str, row: int, value: Any) -> pl.DataFrame:
    """The table with one cell of another value."""
    table = frame(weight=np.arange(EVENTS) / 7)
    values = table[column].to_list()
    values[row] = value
    return table.with_columns(pl.Series(column, values, strict=False))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (cell("t", 3, -1), r"<frame>, row 3: the time -1 in column .t. is below 0"),
        (cell("t", 4, float("inf")), r"<frame>, row 4: the time inf in column .t. is not finite"),
        (cell("weight", 5, float("nan")), r"row 5: the feature .weight. is nan, no finite number"),
        (cell("weight", 6, None), r"row 6: the feature .weight. is None, no finite number"),
        (cell("weight", 7, 1e300), r"row 7: the feature .weight. is 1e\+300, no finite number"),
        (cell("src", 8, 0.5).with_columns(pl.col("src").cast(pl.Float64)), "no two columns are the source"),
        (frame(t=["2024-01-01"] * 399 + ["soon"]), r"row 399: .soon. in column .t. is not a time"),
        (frame(t=pl.Series([-1, 5] * 200).cast(pl.Datetime("us"))), r"row 0: .*is before 1970"),
        (frame().drop("dst"), r"<frame>: no two columns are the source and the destination"),
        (frame().drop("t"), r".src. and .dst. are the two ends of events, and no column is their time"),
        (frame().clear(), "no rows"),
        (frame(src=[1] * EVENTS, dst=[1] * EVENTS), r"the graph has one node, .1."),
        (pl.DataFrame({"user": [1, 2, 3] * 9, "item": ["x"] * 27, "time": range(27)}), "the same destination, .x."),
        (frame(t=[5] * EVENTS), r"row 0: the validation part has no event; 400 of 400 events are at 5"),
        (frame(t=[1] * 200 + [9] * 200), r"row 200: the validation part has no event; 200 of 400 events are at 9"),
        (frame(t=[*range(300), *[300] * 100]), r"row 300: the test part has no event; 100 of 400 events are at 300"),
        (frame(src=None), "no event is left"),
        (frame(src=pl.Series([True, False] * 200)), "no two columns are the source"),
        (frame(dst=[f"n{i}" for i in range(EVENTS)]), None),
    ],
)
def test_bad_input_is_refused_by_its_row(table: pl.DataFrame, message: str | None) -> None:
    if message is None:  # text on one side and numbers on the other can only be two kinds
        assert read_events(table).nodes.bipartite
        with pytest.raises(DataError, match="not of one kind"):
            read_events(table, EventData(bipartite="no"))
        return
    with pytest.raises(DataError, match=message) as error:
        read_events(table, EventData(src_col="src") if "no event is left" in message else None)
    assert error.value.hint and "\n" not in error.value.message + error.value.hint


def test_a_fraction_is_no_id() -> None:
    table = cell("src", 8, 0.5)
    with pytest.raises(DataError, match=r"row 8: .0.5. in column .src. is no id of a node"):
        read_events(table, EventData(src_col="src"))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (EventData(src_col="scr"), UsageError, 'no column "scr"'),
        (EventData(src_col="t", time_col="t"), UsageError, "named for two things"),
        (EventData(features=("weigth",)), UsageError, 'no column "weigth"'),
        (EventData(features=("src",)), UsageError, '"src" is no feature as well'),
        (EventData(features=("note",)), DataError, 'feature "note" holds no numbers'),
        (EventData(label_col="note"), DataError, 'label "note" holds no numbers'),
        (EventData(split=(0.5, 0.5, 0.5)), UsageError, "three shares"),
    ],
)
def test_settings_that_do_not_fit_the_table_are_refused(data: EventData, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        read_events(frame(weight=np.arange(EVENTS) / 7, note=["a"] * EVENTS), data)


def test_columns_are_taken_as_named_whatever_they_are_called() -> None:
    src, dst, t = meetings()
    table = pl.DataFrame({"who": src, "whom": dst, "tick": t, "grade": t / 3, "good": t % 2})
    data = EventData(src_col="who", dst_col="whom", time_col="tick", label_col="good", features=("grade",))
    found = read_events(table, data)
    assert (found.columns.src, found.columns.dst, found.columns.time) == ("who", "whom", "tick")
    assert found.columns.label == "good" and found.columns.features == ("grade",)
    assert read_events(table, EventData(src_col="who", dst_col="whom", time_col="tick", features=())).labels is None


def test_pandas_and_parquet_and_text_give_the_same_events(tmp_path: Path) -> None:
    table = frame(weight=np.arange(EVENTS) / 8)
    table.write_parquet(tmp_path / "events.parquet")
    table.write_csv(tmp_path / "events.csv")
    prints = {
        read_events(source).fingerprint
        for source in (table, table.to_pandas(), tmp_path / "events.parquet", tmp_path / "events.csv")
    }
    assert len(prints) == 1
    assert isinstance(table.to_pandas(), pd.DataFrame)


def test_plain_ids_refuses_what_names_nothing() -> None:
    with pytest.raises(DataError, match="holds no ids"):
        plain_ids(pl.Series("src", [True, False]), str)
