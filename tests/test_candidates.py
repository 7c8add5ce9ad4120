"""Published candidates are read for the events they belong to, from plain files and never from a pickle."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecast.data.candidates import find_candidates, listed_candidates, read_candidates
from forecast.data.events import EventTable, read_events
from forecast.errors import DataError

EVENTS, CANDIDATES = 300, 5


@pytest.fixture(scope="module")
def events() -> EventTable:
    """Users and items under ids that are text, at times of a calendar, two events at each; in no order."""
    draw = np.random.default_rng(0)
    users, items = draw.integers(12, size=EVENTS), draw.integers(9, size=EVENTS)
    table = pl.DataFrame(
        {
            "user": [f"u{user}" for user in users],
            "item": [f"i{item}" for item in items],
            "time": pl.Series(np.arange(EVENTS) // 2 * 60_000_000).cast(pl.Datetime("us")),
        }
    )
    return read_events(table.sample(fraction=1, shuffle=True, seed=2))


def listed(events: EventTable, part: str) -> pl.DataFrame:
    """Candidates of a part in no order: for item i3 the items i4, i5, …, five for even items and four for odd ones."""
    first, end = events.borders if part == "validation" else (events.borders[1], EVENTS)
    rows = events.table.collect("user", "item", "time")[events.store.order[first:end].numpy()]
    number = rows["item"].str.slice(1).cast(pl.Int64)
    return rows.with_columns(
        negatives=pl.Series([[f"i{(n + 1 + k) % 9}" for k in range(CANDIDATES - n % 2)] for n in number])
    ).sample(fraction=1, shuffle=True, seed=5)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_each_event_gets_its_own_candidates(part: Any, events: EventTable, tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    listed(events, part).write_parquet(path)
    found = read_candidates(path, events, part)
    first, end = events.borders if part == "validation" else (events.borders[1], EVENTS)
    items = events.nodes.destination_ids(events.store.dst[first:end].numpy()).str.slice(1).cast(pl.Int64).to_numpy()
    assert found.shape == (end - first, CANDIDATES)
    for item, row in zip(items.tolist(), found, strict=True):
        names = events.nodes.destination_ids(row[row >= 0]).to_list()
        assert names == [f"i{(item + 1 + k) % 9}" for k in range(CANDIDATES - item % 2)]
        assert (row[len(names) :] == -1).all()


def test_arrays_and_own_names_of_columns_do_as_well(tmp_path: Path) -> None:
    rows = np.arange(EVENTS)
    events = read_events(pl.DataFrame({"src": rows % 7, "dst": rows % 11, "t": rows}))
    last = rows[events.borders[1] :]
    lists = (last[:, None] + 1 + np.arange(3)) % 11
    np.savez(tmp_path / "lists.npz", src=last % 7, dst=last % 11, t=last, negatives=lists)
    found = read_candidates(tmp_path / "lists.npz", events, "test")
    assert np.array_equal(events.nodes.destination_ids(found.reshape(-1)).to_numpy().reshape(-1, 3), lists)
    frame = pl.DataFrame({"src": last % 7, "dst": last % 11, "t": last, "negatives": lists})  # lists of one length
    frame.write_parquet(tmp_path / "lists.parquet")
    assert np.array_equal(read_candidates(tmp_path / "lists.parquet", events, "test"), found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[1:], r"lists no candidates for the event at <frame>, row \d+, of the test part; 1 of "),
        (lambda table: table.drop("negatives"), r'there is no column "negatives"'),
        (lambda table: table.drop("user"), r'there is no column "src"'),
        (lambda table: table.with_columns(negatives=pl.lit(1)), "negatives is Int32, no list"),
        (
            lambda table: table.with_columns(negatives=pl.Series([["i1"]] * 2 + [["i0", "i99"]] * (len(table) - 2))),
            r'row 2: the candidate "i99" is the destination of no event',
        ),
    ],
)
def test_candidates_that_do_not_fit_the_events_are_refused(
    change: Any, message: str, events: EventTable, tmp_path: Path
) -> None:
    path = tmp_path / "lists.parquet"
    change(listed(events, "test")).write_parquet(path)
    with pytest.raises(DataError, match=message):
        read_candidates(path, events, "test")


def test_an_archive_of_objects_is_not_unpickled(events: EventTable, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, ("raise AssertionError('a pickle was opened')",)

    objects = np.full(3, Trap(), dtype=object)
    np.savez(tmp_path / "lists.npz", src=objects, dst=objects, t=objects, negatives=objects)
    with pytest.raises(DataError, match="no archive of plain arrays"):
        read_candidates(tmp_path / "lists.npz", events, "test")


def test_lists_of_both_parts_are_put_together_and_one_alone_is_refused(events: EventTable, tmp_path: Path) -> None:
    path = tmp_path / "visits.parquet"
    events.table.collect("user", "item", "time").write_parquet(path)
    own = read_events(path)
    assert listed_candidates(own) is None and listed_candidates(events) is None
    listed(own, "test").write_parquet(tmp_path / "visits_test_ns.parquet")
    with pytest.raises(DataError, match="candidates of the test part, and none of the validation part"):
        listed_candidates(own)
    few = listed(own, "validation").with_columns(pl.col("negatives").list.head(2))
    few.write_parquet(tmp_path / "visits_val_ns.parquet")
    found = listed_candidates(own)
    assert found is not None and found.shape == (EVENTS - own.borders[0], CANDIDATES)
    border = own.borders[1] - own.borders[0]
    assert (found[:border, 2:] == -1).all() and (found[:border, :2] >= 0).all()
    assert np.array_equal(found[border:], read_candidates(tmp_path / "visits_test_ns.parquet", own, "test"))
    few.with_columns(negatives=pl.Series([[]] * len(few), dtype=pl.List(pl.String))).write_parquet(
        tmp_path / "visits_val_ns.parquet"
    )
    with pytest.raises(DataError, match="an event of the validation part has no candidate"):
        listed_candidates(own)


def test_lists_beside_the_events_are_found_by_name_and_pickles_are_not(tmp_path: Path) -> None:
    path = tmp_path / "tgbl-wiki_edgelist_v2.csv"
    (tmp_path / "tgbl-wiki_val_ns_v2.pkl").write_bytes(pickle.dumps({}))
    assert find_candidates(path, "validation") is None
    (tmp_path / "tgbl-wiki_val_ns_v2.parquet").touch()
    (tmp_path / "tgbl-wiki_test_ns_v2.npz").touch()
    assert find_candidates(path, "validation") == tmp_path / "tgbl-wiki_val_ns_v2.parquet"
    assert find_candidates(path, "test") == tmp_path / "tgbl-wiki_test_ns_v2.npz"
    assert find_candidates(tmp_path / "other.csv.gz", "test") is None
