"""Event stores, neighbours, histories and negatives: what they hold, and that nothing later than a query is seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from graphs.events import EventError, EventStore, Stretch, split_at_quantiles, stretches
from graphs.history import GroupedEvents, PairHistory
from graphs.negatives import AllDestinations, historical_negatives, inductive_negatives, random_negatives
from graphs.neighbors import NeighborIndex

GOLDEN = Path(__file__).parent / "golden" / "graphs"
NODES, LATEST = 6, 9

Rows = list[tuple[int, int, int]]  # (time, src, dst)
ROW = st.tuples(st.integers(0, LATEST), st.integers(0, NODES - 1), st.integers(0, NODES - 1))
ROWS = st.lists(ROW, max_size=30)


def stored(rows: Rows) -> EventStore:
    """A store of rows in any order, with a feature and a label that tell the row."""
    time, src, dst = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    tag = np.arange(len(rows), dtype=np.float32)
    return EventStore.of(src, dst, time, features=np.stack((tag, -tag), 1), labels=tag, nodes=NODES)


def columns(store: EventStore) -> list[Tensor]:
    return [store.src, store.dst, store.time, store.features, store.labels, store.order]


def same(one: EventStore, other: EventStore) -> bool:
    return one.nodes == other.nodes and all(map(torch.equal, columns(one), columns(other)))


def past(rows: Rows, time: int) -> Rows:
    return [row for row in sorted(rows, key=lambda row: row[0]) if row[0] < time]


# The store


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_events_are_sorted_by_time_and_keep_the_order_of_their_rows_within_one(rows: Rows) -> None:
    store = stored(rows)
    wanted = sorted(range(len(rows)), key=lambda row: rows[row][0])
    assert store.order.tolist() == wanted
    assert list(zip(store.time.tolist(), store.src.tolist(), store.dst.tolist(), strict=True)) == [
        rows[row] for row in wanted
    ]
    assert store.features.tolist() == [[row, -row] for row in wanted]
    assert store.labels.tolist() == [[row] for row in wanted]


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(-1, LATEST + 1))
def test_events_until_a_time_are_those_strictly_before_it(rows: Rows, time: int) -> None:
    store = stored(rows)
    assert same(store.until(time), stored_as(store, [e for e in range(len(store)) if store.time[e] < time]))
    assert int(store.before(time)) == int(store.before(time - 0.5)) == len(past(rows, time))


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(-3, 33), st.integers(-3, 33))
def test_slices_equal_brute_force(rows: Rows, low: int, high: int) -> None:
    store = stored(rows)
    assert same(store[low:high], stored_as(store, list(range(len(store)))[low:high]))


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(0, 30), st.integers(0, 10))
def test_window_is_what_came_last(rows: Rows, cut: int, length: int) -> None:
    store = stored(rows)
    before = list(range(len(store)))[:cut]
    assert same(store.window(cut, length), stored_as(store, before[max(0, cut - length) :]))


def stored_as(store: EventStore, events: list[int]) -> EventStore:
    """The given events of a store, taken out one by one."""
    place = torch.tensor(events, dtype=torch.int64)
    return EventStore(*(column[place] for column in columns(store)), nodes=store.nodes)


def test_slices_are_views_of_the_same_memory() -> None:
    store = stored([(t, 0, 1) for t in range(20)])
    for part in (store[3:9], store.until(9)[3:], store.window(9, 6)):
        assert len(part) == 6
        for whole, column in zip(columns(store), columns(part), strict=True):
            assert column.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
            assert torch.equal(column, whole[3:9])


def test_store_owns_its_memory() -> None:
    src, dst, time = np.arange(3), torch.arange(3), np.arange(3.0)
    store = EventStore.of(src, dst, time)
    src[:], dst[:], time[:] = 7, 7, 7
    assert store.src.tolist() == store.dst.tolist() == store.time.tolist() == [0, 1, 2]


def test_columns_come_back_in_one_type_each_and_times_as_whole_or_broken() -> None:
    small = EventStore.of(np.array([0, 1], np.int8), np.array([1, 300], np.uint16), np.array([4, 5], np.int32))
    assert [column.dtype for column in columns(small)] == [torch.int64] * 3 + [torch.float32] * 2 + [torch.int64]
    assert (small.nodes, small.features.shape, small.labels.shape) == (301, (2, 0), (2, 0))
    broken = EventStore.of([0, 0], [1, 1], np.array([1e9 + 0.25, 1e9 + 0.5], np.float64))
    assert broken.time.dtype == torch.float64
    assert broken.before([1e9, 1e9 + 0.25, 1e9 + 0.5, 1e9 + 1]).tolist() == [0, 0, 1, 2]
    assert [int(broken.before(time)) for time in (1e9, 1e9 + 0.375, 10**9 + 1)] == [0, 1, 2]


def test_times_of_nanoseconds_are_kept_to_the_last() -> None:
    now = 1_700_000_000_000_000_000
    store = EventStore.of([0, 1, 2], [1, 2, 0], [now + 2, now, now + 1])
    assert store.time.tolist() == [now, now + 1, now + 2]
    assert store.before([now, now + 1, now + 3]).tolist() == [0, 1, 3]


def test_self_loops_and_repeated_events_are_kept() -> None:
    store = EventStore.of([1, 1, 2], [1, 1, 2], [5, 5, 5])
    assert len(store) == 3
    index = NeighborIndex(store)
    assert index.recent(torch.tensor([1]), 6, 3).nodes.tolist() == [[-1, 1, 1]]
    assert index.degree(torch.tensor([1, 2, 0]), 6).tolist() == [2, 1, 0]


def test_store_without_events_answers_everything() -> None:
    store = EventStore.of([], [], [])
    assert (len(store), store.nodes, len(store.until(5)), split_at_quantiles(store)) == (0, 0, 0, (0, 0))
    assert NeighborIndex(store).recent(torch.tensor([0]), 5, 2).events.tolist() == [[-1, -1]]
    assert PairHistory(store).meetings(torch.tensor([0]), torch.tensor([1]), 0).number.tolist() == [0]
    assert len(store.append(EventStore.of([0], [1], [2]))) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"time": [0, -1, 2]}, "Column time, row 1: -1 is below 0"),
        ({"time": [0.0, 1.0, float("nan")]}, "Column time, row 2: nan is not finite"),
        ({"time": [0.0, float("inf"), 1.0]}, "Column time, row 1: inf is not finite"),
        ({"time": np.array(["2020", "2021", "2022"], "datetime64[s]")}, "Column time of type datetime64[s]"),
        ({"time": [True, False, True]}, "Column time is bool"),
        ({"time": [[0], [1], [2]]}, "Column time has shape (3, 1)"),
        ({"time": 3}, "Column time is a single value, 3"),
        ({"time": [0, 1]}, "Column src has 3 rows, column time 2"),
        ({"src": [0, 1, -4]}, "Column src, row 2: -4 is below 0"),
        ({"dst": [0.0, 1.0, 2.0]}, "Column dst is float64, not whole numbers"),
        ({"dst": ["a", "b", "c"]}, "Column dst of type list is not numeric"),
        ({"dst": [1, 2, 9], "nodes": 9}, "Column dst, row 2: 9 is not below nodes = 9"),
        ({"features": [0.0, 1.0]}, "Column features has 2 rows"),
        ({"features": [[0.0, 1.0], [0.0, float("inf")], [1.0, 1.0]]}, "Column features, row 1: [0.0, inf] is not"),
        ({"labels": [1.0]}, "Column labels has 1 rows"),
    ],
)
def test_bad_column_is_refused_by_name_and_row(change: dict[str, Any], told: str) -> None:
    with pytest.raises(EventError) as caught:
        EventStore.of(**{"src": [0, 1, 2], "dst": [1, 2, 0], "time": [0, 1, 2], **change})
    assert caught.value.message.startswith(told)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_missing_labels_are_not_refused() -> None:
    assert EventStore.of([0], [1], [2], labels=[float("nan")]).labels.isnan().all()


def test_queries_at_no_time_are_refused() -> None:
    with pytest.raises(EventError, match="row 1: nan is not finite"):
        stored([(1, 0, 1)]).before([1.0, float("nan")])


def test_slices_with_a_step_are_refused() -> None:
    with pytest.raises(EventError, match="step of 2"):
        stored([(1, 0, 1)])[::2]


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(0, LATEST))
def test_appending_equals_building_at_once(rows: Rows, border: int) -> None:
    early = [row for row in rows if row[0] < border]
    late = [row for row in rows if row[0] >= border]
    first, second, whole = stored(early), stored(late), stored(early + late)
    kept = [column.clone() for column in columns(first)]
    grown = first.append(second)
    assert [*map(torch.equal, columns(first), kept)] == [True] * 6
    assert torch.equal(grown.order, whole.order)
    assert all(map(torch.equal, columns(grown)[:3], columns(whole)[:3]))
    nodes, times = torch.arange(NODES).repeat(LATEST + 2), torch.arange(LATEST + 2).repeat_interleave(NODES)
    for one, other in zip(
        NeighborIndex(grown).recent(nodes, times, 4), NeighborIndex(whole).recent(nodes, times, 4), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("late", "told"),
    [
        (EventStore.of([1], [2], [3]), "row 0: 3 is before the last stored, 4"),
        (EventStore.of([1], [2], [5], features=[1.0]), "have 1 features, the stored 0"),
        (EventStore.of([1], [2], [5], labels=[1.0]), "have 1 labels, the stored 0"),
        (EventStore.of([1], [2], [5.5]), "are float64, the stored int64"),
    ],
)
def test_what_cannot_follow_is_not_appended(late: EventStore, told: str) -> None:
    with pytest.raises(EventError, match=told):
        EventStore.of([0], [1], [4]).append(late)


def test_appended_events_may_bring_new_nodes_and_the_last_time_again() -> None:
    grown = EventStore.of([0], [1], [4]).append(EventStore.of([7], [1], [4]))
    assert (grown.nodes, grown.time.tolist(), grown.order.tolist()) == (8, [4, 4], [0, 1])


# PyG says so of itself when it is imported.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_temporal_data_of_pyg_goes_there_and_back() -> None:
    from torch_geometric.data import TemporalData  # costs seconds that the other tests need not wait for

    store = stored([(3, 0, 1), (1, 2, 2), (1, 4, 0)])
    data = store.to_temporal_data()
    assert isinstance(data, TemporalData) and data.num_events == 3
    assert (data.src.tolist(), data.t.tolist(), data.y.tolist()) == ([2, 4, 0], [1, 1, 3], [1, 2, 0])
    back = EventStore.from_temporal_data(data, nodes=NODES)
    assert all(map(torch.equal, columns(back)[:5], columns(store)[:5]))
    bare = EventStore.of([0], [1], [2]).to_temporal_data()
    assert sorted(bare.to_dict()) == ["dst", "src", "t"]
    assert same(EventStore.from_temporal_data(bare), EventStore.of([0], [1], [2]))


@settings(deadline=None, max_examples=50)
@given(ROWS, st.floats(0.1, 0.8))
def test_split_equals_the_quantiles_of_numpy(rows: Rows, share: float) -> None:
    store = stored([*rows, (3, 0, 1)])
    times = store.time.numpy()
    borders = np.quantile(times, [share, share + 0.15])
    assert list(split_at_quantiles(store, share, 0.15)) == [(times <= border).sum() for border in borders]


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(1, 7))
def test_stretches_cover_all_and_look_at_earlier_events_only(rows: Rows, size: int) -> None:
    store = stored(rows)
    first = len(store) // 3
    parts = list(stretches(store, first, len(store), size))
    assert [row for part in parts for row in range(part.first, part.end)] == list(range(first, len(store)))
    assert all(part.end - part.first == size for part in parts[:-1])
    assert all(part.cut == len(past(rows, int(store.time[part.first]))) for part in parts)
    assert [part.cut for part in stretches(store, first, len(store), size, strict=False)] == [p.first for p in parts]


# Neighbours, degrees and pairs


@pytest.mark.parametrize("ends", ["both", "src", "dst"])
@settings(deadline=None, max_examples=50)
@given(rows=ROWS, time=st.integers(0, LATEST + 1), k=st.integers(1, 5))
def test_neighbours_and_degrees_equal_a_loop_over_strictly_earlier_events(
    ends: Any, rows: Rows, time: int, k: int
) -> None:
    index = NeighborIndex(stored(rows), ends)
    asked = torch.arange(-1, NODES + 1)  # with ids that nobody has
    found, degrees = index.recent(asked, time, k), index.degree(asked, time)
    for place, node in enumerate(asked.tolist()):
        met = []
        for event, (when, src, dst) in enumerate(past(rows, time)):
            if (node == src and ends != "dst") or (node == dst and ends != "src"):
                met.append((src + dst - node, event, when))
        lacking = [(-1, -1, 0)] * (k - len(met))
        wanted = lacking + met[-k:]
        assert list(zip(*(column[place].tolist() for column in found), strict=True)) == wanted
        assert degrees[place] == len(met)
        assert all(when < time for _, _, when in met)


@pytest.mark.parametrize("directed", [True, False])
@settings(deadline=None, max_examples=50)
@given(rows=ROWS, cut=st.integers(0, 30))
def test_meetings_equal_a_loop(directed: bool, rows: Rows, cut: int) -> None:
    store = stored(rows)
    history = PairHistory(store, directed=directed)
    ids = torch.arange(-1, NODES + 1)
    met = history.meetings(ids[:, None], ids, cut)
    each = history.meetings(ids[:, None], ids, torch.full((len(ids), 1), cut))
    assert all(map(torch.equal, met, each))
    pairs = list(zip(store.src.tolist(), store.dst.tolist(), strict=True))
    for row, u in enumerate(ids.tolist()):
        for column, v in enumerate(ids.tolist()):
            wanted = {(u, v)} if directed else {(u, v), (v, u)}
            events = [event for event, pair in enumerate(pairs[:cut]) if pair in wanted]
            assert met.number[row, column] == len(events)
            assert met.last[row, column] == (events[-1] if events else -1)
    kinds = {pair if directed else tuple(sorted(pair)) for pair in pairs[:cut]}
    assert history.arrived(cut) == len(kinds)
    first = zip(*(side.tolist() for side in history.members(history.arrivals[: len(kinds)])), strict=True)
    assert set(first) == kinds


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=6), groups=st.lists(st.integers(-1, NODES), max_size=8))
def test_a_table_of_counts_is_one_of_single_counts(rows: Rows, cuts: list[int], groups: list[int]) -> None:
    store = stored(rows)
    kept = torch.arange(len(store)) % 3 > 0  # not every event is an entry
    events = GroupedEvents(store.src[kept], kept.nonzero().squeeze(1), NODES, len(store))
    group, cut = torch.tensor(groups, dtype=torch.int64), torch.tensor(cuts, dtype=torch.int64)
    single = events.count(group[None], cut[:, None])
    assert torch.equal(events.counts(group, cut), single)
    assert torch.equal(events.nth(group[None], single), events.last(group[None], cut[:, None]))


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, other=ROWS, time=st.integers(0, LATEST))
def test_nothing_at_or_after_the_query_time_changes_an_answer(rows: Rows, other: Rows, time: int) -> None:
    early = [row for row in rows if row[0] < time]
    stores = [stored(rows), stored([*early, *(row for row in other if row[0] >= time)]), stored(early)]
    ids = torch.arange(NODES)
    answers = []
    for store in stores:
        index, history, cut = NeighborIndex(store), PairHistory(store), int(store.before(time))
        recent = index.recent(ids, time, 3)
        tags = torch.where(recent.events >= 0, store.time[recent.events], -1) if len(store) else recent.events
        answers.append([*recent, tags, index.degree(ids, time), *history.meetings(ids[:, None], ids, cut)])
    for answer in answers[1:]:
        assert all(map(torch.equal, answers[0], answer))


def test_recent_neighbours_equal_the_reference_in_one_and_two_hops() -> None:
    golden = load_file(GOLDEN / "temporal_neighbors.safetensors")
    # Their ids begin at 1, 0 is none; ours at 0, -1 is none.
    store = EventStore.of(*(golden[f"input.{name}"] for name in ("src", "dst", "t")))
    index, nodes, times = NeighborIndex(store), golden["input.query_nodes"], golden["input.query_times"]
    assert torch.equal(index.degree(nodes, times), golden["output.history_length"])
    first = index.recent(nodes, times, 4)
    second = index.recent(first.nodes.flatten(), first.times.flatten(), 4)
    for name, found in (("recent5", index.recent(nodes, times, 5)), ("hop1", first), ("hop2", second)):
        shape = golden[f"output.{name}.edge_ids"].shape
        assert torch.equal(found.events.view(shape) + 1, golden[f"output.{name}.edge_ids"])
        assert torch.equal(found.nodes.view(shape).clamp(min=0), golden[f"output.{name}.neighbors"])
        assert torch.equal(found.times.view(shape).float(), golden[f"output.{name}.times"])


# Negatives


def stream(events: int = 400, seed: int = 0) -> EventStore:
    """Sources 0 … 9 meet 10 … 29, some pairs often, a few events at each time."""
    draw = np.random.default_rng(seed)
    src, dst = draw.integers(10, size=events), 10 + (draw.exponential(4, size=events)).astype(int).clip(max=19)
    return EventStore.of(src, dst, np.sort(draw.integers(events // 3, size=events)), nodes=30)


def test_draws_depend_on_seed_and_batch_but_not_on_the_order_of_batches() -> None:
    store = stream()
    history, pool = PairHistory(store), torch.arange(10, 30)
    parts = list(stretches(store, 200, 400, 20))

    def draws(seed: Any, order: list[Stretch]) -> dict[int, list[Tensor]]:
        return {
            part.first: [
                random_negatives(store, part, pool, 3, seed).negatives,
                historical_negatives(history, part, pool, 1, seed).negatives,
                inductive_negatives(history, part, pool, 1, seed, trained=100).negatives,
            ]
            for part in order
        }

    forward, backward, other = draws(1, parts), draws(1, parts[::-1]), draws((1, 1), parts)
    for first in forward:
        assert all(map(torch.equal, forward[first], backward[first]))
        assert not torch.equal(forward[first][0], other[first][0])
    assert not torch.equal(forward[200][0], forward[220][0])


def test_random_negatives_are_spread_evenly_over_the_pool() -> None:
    store, pool = stream(), torch.tensor([3, 10, 11, 25])
    batch = random_negatives(store, Stretch(0, 400, 0), pool, 100, seed=0)
    found, number = batch.negatives.unique(return_counts=True)
    assert found.tolist() == pool.tolist()
    assert (number / 40_000 - 0.25).abs().max() < 0.01  # more than four standard deviations
    assert torch.equal(batch.negative_src, store.src[:, None].expand(-1, 100))


@pytest.mark.parametrize("trained", [0, 150])
def test_historical_and_inductive_negatives_are_distinct_pairs_of_the_past_that_do_not_meet_now(trained: int) -> None:
    store = stream()
    history, pool = PairHistory(store), torch.arange(10, 30)
    pairs = list(zip(store.src.tolist(), store.dst.tolist(), strict=True))
    drawn_ever = set()
    for part in stretches(store, 250, 400, 10):
        batch = inductive_negatives(history, part, pool, 1, 5, trained=trained)
        allowed = set(pairs[: part.cut]) - set(pairs[:trained]) - set(pairs[part.first : part.end])
        drawn = list(zip(batch.negative_src[:, 0].tolist(), batch.negatives[:, 0].tolist(), strict=True))
        assert len(allowed) >= 10 and set(drawn) <= allowed and len(set(drawn)) == 10
        drawn_ever |= set(drawn)
        if not trained:
            assert torch.equal(batch.negatives, historical_negatives(history, part, pool, 1, 5).negatives)
    assert len(drawn_ever) > 20  # not the same ten


def test_too_few_pairs_of_the_past_are_filled_up_for_the_sources_of_the_batch() -> None:
    store = EventStore.of([0, 1, 2, 0], [5, 6, 7, 5], [1, 2, 3, 4], nodes=9)
    pool = torch.tensor([8])
    batch = historical_negatives(PairHistory(store), Stretch(2, 4, 2), pool, 2, seed=0)
    # Of the past, (0, 5) meets again and (1, 6) is left.
    found = list(zip(batch.negative_src.flatten().tolist(), batch.negatives.flatten().tolist(), strict=True))
    assert found == [(2, 8), (2, 8), (0, 8), (1, 6)]


def test_negatives_do_not_depend_on_later_events() -> None:
    store = stream()
    part = Stretch(200, 240, int(store.before(store.time[200])))
    changed = stream(seed=1)
    later = EventStore.of(
        torch.cat((store.src[:240], changed.src[240:])),
        torch.cat((store.dst[:240], changed.dst[240:])),
        torch.cat((store.time[:240], store.time[240:] + 1)),
        nodes=30,
    )
    pool = torch.arange(10, 30)
    one, other = (historical_negatives(PairHistory(s), part, pool, 1, 0) for s in (store, later))
    found = [
        sorted(zip(b.negative_src.flatten().tolist(), b.negatives.flatten().tolist(), strict=True))
        for b in (one, other)
    ]
    assert found[0] == found[1]


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(1, 8))
def test_all_destinations_leave_out_whom_the_source_meets_at_the_same_time(rows: Rows, size: int) -> None:
    store, pool = stored(rows), torch.tensor([0, 1, 2, 4])
    events = list(zip(store.time.tolist(), store.src.tolist(), store.dst.tolist(), strict=True))
    ranked = AllDestinations(store, pool)
    for part in stretches(store, 0, len(store), size):
        batch = ranked(part)
        assert torch.equal(batch.dst, store.dst[part.first : part.end])
        for row, (time, src, _) in enumerate(events[part.first : part.end]):
            wanted = [-1 if (time, src, other) in events else other for other in pool.tolist()]
            assert batch.negatives[row].tolist() == wanted
            assert batch.negative_src[row].tolist() == [src] * 4
