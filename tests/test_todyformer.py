"""Todyformer keeps what its specification promises: nothing leaks, windows and patches bound what is read."""

import dataclasses
import math
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from graphs.events import EventError, EventStore, LinkBatch
from graphs.link_heads import Ends, PublishedLinkDecoder, binary_loss, softmax_loss
from graphs.node_input import NodeInput, random_codes
from graphs.pairs import PAIR_FEATURES, PairTable
from graphs.patches import patch_numbers, window_graph, window_rows
from graphs.todyformer import GraphShape, History, NodeStates, Todyformer, TodyformerConfig
from graphs.token_layers import pack, unpack

NODES, EVENTS = 12, 60
TINY: dict[str, object] = {"window": 24, "patches": 4, "width": 16, "dropout": 0.0}
PAIR_HISTORIES = ("none", "window", "all")


pytestmark = pytest.mark.usefixtures("one_thread")


def events(seed: int = 0, *, ties: bool = False, count: int = EVENTS, features: int = 3) -> EventStore:
    """Random events over 12 nodes, self-loops among them; with ties, three to four events share a time."""
    draw = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(NODES, (2, count), generator=draw)
    steps = torch.randint(1, 50, (count,), generator=draw)
    if ties:
        steps *= torch.rand(count, generator=draw) < 0.3
    time = 1000 + steps.cumsum(0)
    return EventStore.of(src, dst, time, torch.randn(count, features, generator=draw), nodes=NODES)


def changed(store: EventStore, **columns: Tensor) -> EventStore:
    return dataclasses.replace(store, **columns)


def network(store: EventStore, seed: int = 0, **settings: object) -> Todyformer:
    """A tiny network in eval mode whose biases and norms are not at their initial zeros and ones."""
    torch.manual_seed(seed)
    config = TodyformerConfig(**{**TINY, **settings})  # type: ignore[arg-type]
    shape = GraphShape.of(store, config.window)
    net = Todyformer(shape, config)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return net.eval()


def queries(store: EventStore, first: int = 40, end: int = 48, negatives: int = 5) -> LinkBatch:
    draw = torch.Generator().manual_seed(first)
    src, dst, time = store.src[first:end], store.dst[first:end], store.time[first:end]
    others = torch.randint(NODES, (len(src), negatives), generator=draw)
    return LinkBatch(src, dst, time, others, src[:, None].expand_as(others), int(store.before(time[0])))


@torch.no_grad()
def scores(net: Todyformer, store: EventStore, batch: LinkBatch) -> Tensor:
    return net(History(store, net.config).until(batch.time.min()), batch)


@torch.no_grad()
def embeddings(net: Todyformer, store: EventStore, before: Tensor) -> Tensor:
    return net.encoder(History(store, net.config).until(before).graph).state


@torch.no_grad()
def tokens(net: Todyformer, store: EventStore, before: Tensor) -> Tensor:
    graph = History(store, net.config).until(before).graph
    return net.encoder.tokens(graph, net.encoder.input(graph.nodes))


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=0, atol=tolerance))


# What a query may see


@pytest.mark.parametrize("pair_history", PAIR_HISTORIES)
@pytest.mark.parametrize("first", [40, 41, 42, 43])
@pytest.mark.parametrize("ties", [False, True])
def test_no_event_at_or_after_the_query_time_moves_a_bit(pair_history: str, first: int, ties: bool) -> None:
    store = events(ties=ties)
    net, batch = network(store, pair_history=pair_history), queries(store, first, first + 8)
    before, cut = scores(net, store, batch), int(store.before(batch.time[0]))
    draw = torch.Generator().manual_seed(7)
    later = 90  # more events than there were
    src, dst = torch.randint(NODES + 5, (2, later), generator=draw)
    time = (batch.time[0] + torch.randint(0, 40, (later,), generator=draw)).sort().values
    forged = EventStore.of(
        torch.cat((store.src[:cut], src)),
        torch.cat((store.dst[:cut], dst)),
        torch.cat((store.time[:cut], time)),
        torch.cat((store.features[:cut], torch.randn(later, 3, generator=draw))),
    )
    for other in (forged, store[:cut], dataclasses.replace(store[:cut], nodes=NODES + 9)):
        assert torch.equal(scores(net, other, batch), before)
        assert torch.equal(embeddings(net, other, batch.time[0]), embeddings(net, store, batch.time[0]))


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("ties", [False, True])
def test_at_its_own_cut_a_query_sees_its_batch_before_it_and_nothing_from_its_time_on(
    directed: bool, ties: bool
) -> None:
    store = events(ties=ties)
    net, batch = network(store, cut="query", directed=directed), queries(store, 40, 56)
    before = scores(net, store, batch)
    for row in (1, 6, 15):
        cut = int(store.before(batch.time[row]))
        until = batch.time <= batch.time[row]  # the queries that see nothing of what is changed
        later = torch.arange(EVENTS) >= cut
        other = changed(
            store,
            src=torch.where(later, (store.src + 5) % NODES, store.src),
            dst=torch.where(later, (store.dst * 5 + 1) % NODES, store.dst),
            features=torch.where(later[:, None], 9.0, store.features),
        )
        for forged in (other, store[:cut], store[:cut].append(_on(batch.time[row].expand(70)))):
            assert torch.equal(scores(net, forged, batch)[until], before[until])
    src, dst, place = store.src.clone(), store.dst.clone(), int(store.before(batch.time[-1])) - 1
    assert place >= 40  # within the batch, before its last query
    src[place], dst[place] = batch.src[-1], batch.dst[-1]
    met = changed(store, src=src, dst=dst)
    assert not torch.equal(scores(net, met, batch)[-1], before[-1])
    blind = network(store, directed=directed)
    assert torch.equal(scores(blind, met, batch), scores(blind, store, batch))


@pytest.mark.parametrize("pair_history", PAIR_HISTORIES)
def test_an_event_inside_the_window_moves_the_scores(pair_history: str) -> None:
    store = events()
    net, batch = network(store, pair_history=pair_history), queries(store)
    dst = store.dst.clone()
    dst[39] = (dst[39] + 1) % NODES
    assert not torch.equal(scores(net, changed(store, dst=dst), batch), scores(net, store, batch))


def test_a_query_that_is_not_later_than_the_window_is_refused() -> None:
    store = events()
    net, batch = network(store), queries(store)
    view = History(store, net.config).until(store.time[-1])
    with pytest.raises(EventError, match="not later than the window") as caught:
        net(view, batch)
    assert str(int(batch.time.min())) in caught.value.message and caught.value.hint
    with pytest.raises(EventError, match="not later than the window"):
        NodeStates(net.encoder, 2)(view, batch.src, batch.time)


@pytest.mark.parametrize("pair_history", ["none", "window"])
@pytest.mark.parametrize("ties", [False, True])
def test_nothing_before_the_window_moves_a_bit(pair_history: str, ties: bool) -> None:
    store = events(ties=ties)
    net, batch = network(store, pair_history=pair_history), queries(store)
    start, _ = window_rows(store, batch.time[0], 24)
    assert start > 5
    src, dst, features = store.src.clone(), store.dst.clone(), store.features.clone()
    src[:start], dst[:start], features[:start] = src[:start].flip(0), (dst[:start] + 3) % NODES, 9.0
    other = changed(store, src=src, dst=dst, features=features)
    assert torch.equal(scores(net, other, batch), scores(net, store, batch))


def test_meetings_before_the_window_count_with_all_of_the_pair_history() -> None:
    store = events()
    net, batch = network(store, pair_history="all"), queries(store)
    dst = store.dst.clone()
    dst[:5] = (dst[:5] + 1) % NODES
    assert not torch.equal(scores(net, changed(store, dst=dst), batch), scores(net, store, batch))


@pytest.mark.parametrize("pair_history", PAIR_HISTORIES)
@pytest.mark.parametrize("common_neighbours", [False, True])
def test_the_order_of_events_of_one_time_does_not_matter(pair_history: str, common_neighbours: bool) -> None:
    store = events(ties=True)
    net = network(store, pair_history=pair_history, common_neighbours=common_neighbours)
    batch = queries(store)
    draw = torch.Generator().manual_seed(3)
    order = torch.argsort(store.time + torch.rand(EVENTS, generator=draw, dtype=torch.float64) / 2)
    assert not torch.equal(order, torch.arange(EVENTS))
    mixed = changed(store, src=store.src[order], dst=store.dst[order], features=store.features[order])
    assert torch.equal(mixed.time, store.time[order])
    # Sums run in another order, which float32 rounds differently.
    assert close(scores(net, mixed, batch), scores(net, store, batch), 1e-5)


def test_events_of_the_first_querys_time_have_no_influence_wherever_they_stand() -> None:
    store = events(ties=True)
    groups = [i for i in range(30, 50) if store.time[i - 1] == store.time[i] == store.time[i + 1]]
    first = groups[0]
    net, batch = network(store), queries(store, first, first + 6)
    same = store.time == store.time[first]
    assert bool(same[:first].any())
    src = torch.where(same, (store.src + 5) % NODES, store.src)
    assert torch.equal(scores(net, changed(store, src=src), batch), scores(net, store, batch))


def test_a_window_never_begins_within_a_time_unless_half_of_it_would_be_lost() -> None:
    time = torch.tensor([1, 2, 2, 3, 3, 3, 4, 5, 6])
    store = _on(time)
    assert window_rows(store, 6, 8, snap_ties=True) == (0, 8)
    assert window_rows(store, 6, 6, snap_ties=True) == (3, 8)
    assert window_rows(store, 6, 6, snap_ties=False) == (2, 8)
    assert window_rows(store, 5, 4, snap_ties=True) == (3, 7)
    assert window_rows(_on(torch.tensor([1, 2, 2, 2, 2, 3])), 4, 4, snap_ties=True) == (2, 6)  # 5 would leave one
    assert window_rows(store, 1, 4) == (0, 0)


def _on(time: Tensor) -> EventStore:
    features = torch.zeros(len(time), 3)
    return EventStore.of(torch.zeros_like(time), torch.ones_like(time), time, features, nodes=NODES)


# Symmetries


@pytest.mark.parametrize("node_input", ["features", "zeros", "embedding"])
def test_names_of_nodes_carry_no_meaning(node_input: str) -> None:
    store = events()
    torch.manual_seed(0)
    config = TodyformerConfig(**{**TINY, "node_input": node_input})  # type: ignore[arg-type]
    net = Todyformer(GraphShape.of(store, 24, node_features=4), config).eval()
    given = torch.randn(NODES, 4)
    net.encoder.input.introduce(store, given)
    batch = queries(store)
    before = scores(net, store, batch)
    new = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))  # node i is called new[i]
    renamed = changed(store, src=new[store.src], dst=new[store.dst])
    asked = batch._replace(
        src=new[batch.src], dst=new[batch.dst], negatives=new[batch.negatives], negative_src=new[batch.negative_src]
    )
    assert node_input == "zeros" or not close(scores(net, renamed, asked), before, 1e-3)
    moved = torch.empty_like(given)
    moved[new] = given
    net.encoder.input.introduce(renamed, moved)
    if net.encoder.input.table is not None:
        rows = net.encoder.input.table.weight.data
        rows[new] = rows[:NODES].clone()
    assert close(scores(net, renamed, asked), before, 1e-5)


def test_the_time_of_day_does_not_matter() -> None:
    store = events(ties=True)
    net, batch = network(store), queries(store)
    later = 10**12
    assert torch.equal(
        scores(net, changed(store, time=store.time + later), batch._replace(time=batch.time + later)),
        scores(net, store, batch),
    )


def test_the_unit_of_time_does_not_matter() -> None:
    store = events()
    fine = changed(store, time=store.time * 1000)
    batch = queries(store)
    before = scores(network(store), store, batch)
    assert close(scores(network(fine), fine, batch._replace(time=batch.time * 1000)), before, 1e-5)


@pytest.mark.parametrize("decoder", ["product", "published"])
def test_undirected_the_direction_of_events_does_not_matter(decoder: str) -> None:
    store = events(ties=True)
    batch = queries(store)
    flip = torch.rand(EVENTS, generator=torch.Generator().manual_seed(5)) < 0.5
    other = changed(store, src=torch.where(flip, store.dst, store.src), dst=torch.where(flip, store.src, store.dst))
    net = network(store, directed=False, decoder=decoder)
    assert close(scores(net, other, batch), scores(net, store, batch), 1e-5)
    directed = network(store, directed=True, decoder=decoder)
    assert not close(scores(directed, other, batch), scores(directed, store, batch), 1e-3)


def test_undirected_a_link_scores_the_same_from_both_ends() -> None:
    store = events()
    net, batch = network(store, directed=False), queries(store)
    there = batch._replace(negatives=batch.negatives[:, :0], negative_src=batch.negative_src[:, :0])
    back = there._replace(src=batch.dst, dst=batch.src)
    assert close(scores(net, store, back), scores(net, store, there), 1e-5)


def test_only_the_reciprocal_pair_channel_knows_that_the_other_wrote() -> None:
    src, dst = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5, 6, 7])
    store = EventStore.of(src, dst, torch.tensor([1, 5, 7, 9]), nodes=NODES)
    asked, at = torch.tensor([[1, 2, 5]]), torch.tensor([12])
    both, alone = PairTable(store, 8, reciprocal=True), PairTable(store, 8)
    told = both.features(torch.tensor([5]), asked, at, 4, 1.0)
    assert told.row.tolist() == [0] and told.column.tolist() == [0]
    assert not bool(told.values[0, :PAIR_FEATURES].any())
    assert told.values[0, PAIR_FEATURES:].tolist() == pytest.approx([1, math.log1p(7) / 10, math.log1p(1), 1, 1, 0, 0])
    assert not len(alone.features(torch.tensor([5]), asked, at, 4, 1.0).row)
    assert not len(both.features(torch.tensor([5]), asked, at, 1, 1.0).row)


@pytest.mark.parametrize("directed", [True, False])
def test_what_is_told_of_pairs_and_nodes_equals_a_slow_count(directed: bool) -> None:
    store, unit, window = events(ties=True), 7.0, 20
    table = PairTable(store, window, directed=directed, reciprocal=directed)
    rows = list(zip(store.src.tolist(), store.dst.tolist(), store.time.tolist(), strict=True))
    for cut in (0, 1, 45):
        first = rows[cut][2]
        past = [row for row in rows if row[2] < first]
        nodes, src = torch.arange(NODES + 2), torch.arange(NODES)
        at = torch.full((NODES,), first + 3)
        told = table.features(src, nodes[None], at, len(past), unit)
        found = torch.zeros(NODES, NODES + 2, told.values.shape[1])
        found[told.row, told.column] = told.values

        def meets(u: int, v: int, past: list[tuple[int, int, int]] = past) -> list[int]:
            return [t for a, b, t in past if (a, b) == (u, v) or (not directed and (b, a) == (u, v))]

        def of(u: int, role: int, past: list[tuple[int, int, int]] = past) -> list[tuple[int, int]]:
            """Partner and time of the events that u sent (role 0) or received (1), or of all."""
            mine = [(row[1 - role], row[2]) for row in past if row[role] == u]
            return mine if directed else [(b if a == u else a, t) for a, b, t in past if u in (a, b)]

        def view(u: int, v: int, role: int, times: list[int], at: int = first + 3) -> Tensor:
            last, mine, theirs = max(times), of(u, role), of(v, 1 - role)
            later = {partner for partner, t in mine if t > last}
            counts = [math.log1p(sum(t > last for _, t in side)) / 3 for side in (mine, theirs)]
            shares = 1 / (1 + len(later)), len(times) / len(mine)
            return torch.tensor([1, math.log1p((at - last) / unit) / 10, math.log1p(len(times)), *shares, *counts])

        for u in range(NODES):
            for v in range(NODES + 2):
                sides = [(meets(u, v), 0), (meets(v, u), 1)] if directed else [(meets(u, v), 0)]
                expected = torch.zeros(len(sides), PAIR_FEATURES)
                for side, (times, role) in enumerate(sides):
                    if times:
                        expected[side] = view(u, v, role, times)
                        if not directed:
                            expected[side] = (expected[side] + view(v, u, role, times)) / 2
                assert close(found[u, v], expected.flatten(), 1e-5)

        expected = []
        for u in nodes.tolist():
            for role in range(1 + directed):
                mine = of(u, role)
                begun = {partner: min(t for other, t in mine if other == partner) for partner, _ in mine}
                for times in ([t for _, t in mine], list(begun.values())):
                    for length in (1, 1, 5, 20, EVENTS):
                        begin = past[-length][2] if length <= len(past) else -1
                        expected.append(math.log1p(sum(t >= begin for t in times)) / 3)
                expected.append(1 - math.log1p((past[-1][2] - mine[-1][1]) / unit) / 10 if mine else 0.0)
        assert close(table.activity(nodes, len(past), unit), torch.tensor(expected).view(len(nodes), -1), 1e-5)


@pytest.mark.parametrize("directed", [True, False])
def test_a_cut_for_each_query_tells_the_bits_that_each_is_told_alone(directed: bool) -> None:
    store, unit = events(ties=True), 7.0
    table = PairTable(store, 20, directed=directed, reciprocal=directed)
    src, time = store.src[20:], store.time[20:] + 2
    nodes, cuts = torch.arange(NODES + 2), store.before(store.time[20:])
    mixed = torch.arange(len(cuts)).flip(0)  # in no order of time
    src, time, cuts = (torch.cat((part[mixed], part[:3])) for part in (src, time, cuts))
    cuts[-1] = 0
    told = table.features(src, nodes[None], time, cuts, unit)
    active = table.activity(nodes[None], cuts[:, None], unit)
    own = torch.stack([torch.roll(nodes, row)[:4] for row in range(len(src))])  # candidates of its own for each
    apart, apart_active = table.features(src, own, time, cuts, unit), table.activity(own, cuts[:, None], unit)
    for row, cut in enumerate(cuts.tolist()):
        part = slice(row, row + 1)
        for found, asked in ((told, nodes[None]), (apart, own[part])):
            alone = table.features(src[part], asked, time[part], cut, unit)
            mine = found.row == row
            assert torch.equal(found.column[mine], alone.column) and torch.equal(found.values[mine], alone.values)
        assert torch.equal(active[row], table.activity(nodes, cut, unit))
        assert torch.equal(apart_active[row], table.activity(own[row], cut, unit))
    each = torch.full((len(src),), 45)
    one, same = (table.features(src, nodes[None], time + 1_000, cut, unit) for cut in (45, each))
    assert all(map(torch.equal, one, same))
    assert torch.equal(table.activity(src, 45, unit), table.activity(src, each, unit))
    empty = PairTable(store[:0], 20, directed=directed)
    assert not bool(empty.activity(nodes[None], torch.zeros(3, 1, dtype=torch.int64), unit).any())


# Patches, tokens, messages


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 23, 24, 25, 60])
def test_patches_are_a_partition_in_time_order_that_ends_in_the_last(count: int) -> None:
    patch = patch_numbers(torch.arange(count), 4)
    sizes = torch.bincount(patch, minlength=4)[-min(4, count) :]
    assert bool((patch[1:] >= patch[:-1]).all()) and patch[-1] == 3 and patch.min() >= 0
    assert sizes.sum() == count and sizes.max() - sizes.min() <= 1


def test_events_of_one_time_share_a_patch() -> None:
    time = events(ties=True).time
    patch = patch_numbers(time, 7)
    assert all(a != b or p == q for (a, b), (p, q) in zip(pairwise(time), pairwise(patch), strict=True))
    assert patch[-1] == 6 and bool((patch[1:] >= patch[:-1]).all())
    assert not torch.equal(patch, patch_numbers(time, 7, snap_ties=False))


def test_the_window_lists_every_event_as_two_messages_and_a_self_loop_as_one() -> None:
    store = events(ties=True)
    loops = int((store.src == store.dst)[:40].sum())
    assert loops > 0
    graph = window_graph(store, store.time[40], 200, 4)
    cut = graph.cut
    expected = set()
    patch = patch_numbers(store.time[:cut], 4).tolist()
    for k in range(cut):
        u, v = int(store.src[k]), int(store.dst[k])
        expected.add((k, u, v, patch[k], 0))
        if u != v:
            expected.add((k, v, u, patch[k], 1))
    sender, receiver = (graph.nodes[graph.token_node[end]] for end in (graph.source, graph.target))
    assert torch.equal(graph.token_patch[graph.source], graph.token_patch[graph.target])
    found = torch.stack((graph.event, sender, receiver, graph.token_patch[graph.source], graph.role), dim=1)
    assert len(found) == len(expected) and {tuple(row) for row in found.tolist()} == expected


def test_counts_equal_a_double_loop() -> None:
    store = events(ties=True)
    graph = window_graph(store, store.time[50], 40, 4, count_common=True)
    src, dst = store.src[graph.start : graph.cut].tolist(), store.dst[graph.start : graph.cut].tolist()
    time = store.time[graph.start : graph.cut].tolist()
    assert any(u == v for u, v in zip(src, dst, strict=True)) and len(set(time)) < len(time)
    senders, receivers = graph.nodes[graph.token_node[graph.source]], graph.nodes[graph.token_node[graph.target]]
    for k, u, v, found in zip(
        graph.event.tolist(), senders.tolist(), receivers.tolist(), graph.counts.tolist(), strict=True
    ):
        past = [(a, b) for a, b, t in zip(src, dst, time, strict=True) if t <= time[k]]
        friends = {x: {b for a, b in past if a == x} | {a for a, b in past if b == x} for x in (u, v)}
        common = (friends[u] - {u}) & (friends[v] - {v})
        degrees = [sum(x in pair for pair in past) for x in (u, v)]  # a self-loop counts once
        assert found == [*degrees, sum({a, b} == {u, v} for a, b in past), len(common)]


def test_nodes_and_tokens_know_their_last_event() -> None:
    store = events(ties=True)
    graph = window_graph(store, store.time[50], 30, 4)
    src, dst = store.src[graph.start : graph.cut], store.dst[graph.start : graph.cut]
    time = store.time[graph.start : graph.cut]
    patch = patch_numbers(time, 4)
    for node, last, token in zip(graph.nodes, graph.node_time, graph.node_latest, strict=True):
        mine = (src == node) | (dst == node)
        assert last == time[mine].max()
        assert graph.token_patch[token] == patch[mine].max() and graph.nodes[graph.token_node[token]] == node
    for node, number, age in zip(graph.nodes[graph.token_node], graph.token_patch, graph.token_age, strict=True):
        mine = ((src == node) | (dst == node)) & (patch == number)
        assert age == time[-1] - time[mine].max()


def test_packing_and_unpacking_gives_the_tokens_back_and_never_reads_absent_ones() -> None:
    store = events(count=200)
    for bucketed in (False, True):
        graph = window_graph(store, store.time[-1], 20, 8, bucketed=bucketed)
        states = torch.randn(len(graph.token_node), 5)
        parts = [pack(states, table) for table in graph.sequences]
        parts = [
            part.masked_fill(~table.present[..., None], float("nan"))
            for part, table in zip(parts, graph.sequences, strict=True)
        ]
        assert bucketed or bool(parts[0].isnan().any())
        assert torch.equal(unpack(parts, graph.sequences, len(states)), states)


def test_what_stands_in_absent_places_does_not_reach_present_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    store = events()
    net = network(store)
    before = tokens(net, store, store.time[40])

    def poisoned(states: Tensor, table: object) -> Tensor:
        return pack(states, table).masked_fill(~table.present[..., None], 1e4)  # type: ignore[arg-type, attr-defined]

    monkeypatch.setattr("graphs.token_layers.pack", poisoned)
    assert torch.equal(tokens(net, store, store.time[40]), before)


def test_buckets_give_what_one_table_gives() -> None:
    store = events()
    hub = torch.arange(EVENTS) % 3 == 0
    store = changed(store, src=torch.where(hub, 0, store.src), dst=torch.where(hub, 1, store.dst))
    net = network(store, patches=16, window=40)
    states = []
    for bucketed in (False, True):
        graph = window_graph(store, store.time[50], 40, 16, bucketed=bucketed)
        assert len(graph.sequences) == (3 if bucketed else 1)
        states.append(net.encoder(graph).state)
    assert close(*states, 1e-6)


# How far information travels


def _chain() -> EventStore:
    """In each of four patches of six events, nodes of its own, and one node that it shares with the next patch."""
    src = torch.tensor([0, 1, 2, 0, 1, 2, 2, 3, 4, 3, 4, 3, 4, 5, 6, 5, 6, 5, 6, 7, 8, 7, 8, 7])
    dst = torch.tensor([1, 2, 0, 2, 0, 1, 3, 4, 3, 4, 2, 4, 5, 6, 5, 6, 4, 6, 7, 8, 7, 8, 6, 8])
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(25, 3, generator=draw)
    return EventStore.of(torch.cat((src, src[:1])), torch.cat((dst, dst[:1])), torch.arange(25), features, nodes=NODES)


def test_local_layers_stay_in_their_patch() -> None:
    store = _chain()
    net = network(store, blocks=1, local_layers=2, global_layers=0)
    features = store.features.clone()
    features[7] += 5.0  # patch 1
    graph = window_graph(store, 24, 24, 4)
    moved = (tokens(net, changed(store, features=features), store.time[24]) != tokens(net, store, store.time[24])).any(
        1
    )
    assert moved.any() and set(graph.token_patch[moved].tolist()) == {1}


def test_a_global_layer_reaches_the_same_nodes_in_other_patches_and_a_second_block_their_neighbours() -> None:
    store = _chain()
    features = store.features.clone()
    features[7] += 5.0  # patch 1, which has nodes 2, 3, 4
    graph = window_graph(store, 24, 24, 4)
    reached = {}
    for blocks in (1, 2):
        net = network(store, blocks=blocks, local_layers=2)
        other = changed(store, features=features)
        moved = (tokens(net, other, store.time[24]) != tokens(net, store, store.time[24])).any(1)
        reached[blocks] = {
            (int(graph.nodes[n]), int(p))
            for n, p in zip(graph.token_node[moved], graph.token_patch[moved], strict=True)
        }
    assert {node for node, _ in reached[1]} == {2, 3, 4}
    assert {patch for _, patch in reached[1]} == {0, 1, 2}  # 2 was in patch 0, 4 is in patch 2
    assert {(0, 0), (1, 0), (5, 2), (6, 2)} <= reached[2]
    assert not any(patch == 3 and node in (7, 8) for node, patch in reached[2])  # only a third block comes there


@pytest.mark.parametrize("global_layers", [0, 1])
def test_one_patch_is_a_plain_network_of_messages_on_the_window(global_layers: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyG scripts parts of itself when it is imported
        from torch_geometric.nn import TransformerConv

    store = events()
    net = network(
        store,
        patches=1,
        blocks=1,
        local_layers=2,
        global_layers=global_layers,
        layout="published",
        share_edge_projection=True,
        position="none",
    )
    view = History(store, net.config).until(store.time[40])
    src, dst = store.src[view.graph.start : view.cut], store.dst[view.graph.start : view.cut]
    age = (store.time[view.cut - 1] - store.time[view.graph.start : view.cut]).float()
    nodes = torch.unique(torch.cat((src, dst)))
    u, v = torch.searchsorted(nodes, src), torch.searchsorted(nodes, dst)
    apart = torch.nonzero(u != v).squeeze(1)
    edges = torch.stack((torch.cat((u, v[apart])), torch.cat((v, u[apart]))))
    event = torch.cat((torch.arange(len(u)), apart))
    encoder = net.encoder
    with torch.no_grad():
        code = encoder.time_code(age / net.shape.time_scale)
        code = code + encoder.edge_features(store.features[view.graph.start : view.cut])  # type: ignore[misc]
        counts = torch.log1p(view.graph.counts.float())
        role = torch.nn.functional.one_hot((torch.arange(len(event)) >= len(u)).long(), 2)
        code = code[event] + torch.cat((counts, role), dim=1) @ encoder.mix.T
        states = encoder.input(nodes)
        for layer in encoder.blocks[0].local_layers:  # type: ignore[union-attr]
            conv = TransformerConv(16, 8, heads=2, edge_dim=16)
            for own, theirs in (
                (layer.query, conv.lin_query),
                (layer.key, conv.lin_key),
                (layer.value, conv.lin_value),
                (layer.skip, conv.lin_skip),
                (layer.edge_key, conv.lin_edge),
            ):
                theirs.load_state_dict(own.state_dict())
            states = torch.relu(conv(states, edges, code))
        for layer in encoder.blocks[0].global_layers:  # type: ignore[union-attr]
            reference = nn.TransformerEncoderLayer(
                16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            reference.self_attn.in_proj_weight.copy_(layer.inputs.weight)
            reference.self_attn.in_proj_bias.copy_(layer.inputs.bias)
            reference.self_attn.out_proj.load_state_dict(layer.out.state_dict())
            reference.linear1.load_state_dict(layer.expand.state_dict())
            reference.linear2.load_state_dict(layer.contract.state_dict())
            reference.norm1.load_state_dict(layer.norm_attention.state_dict())
            reference.norm2.load_state_dict(layer.norm_feed_forward.state_dict())
            states = reference(states[:, None]).squeeze(1)
        assert close(encoder.tokens(view.graph, encoder.input(nodes)), states, 1e-5 if global_layers else 1e-6)


def test_attention_over_patches_is_a_masked_transformer_of_torch() -> None:
    store = events()
    net = network(store)
    layer = net.encoder.blocks[0].global_layers[0]  # type: ignore[union-attr, index]
    graph = window_graph(store, store.time[40], 24, 4, bucketed=True)
    reference = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).train()  # not its fast path
    states = torch.randn(len(graph.token_node), 16)
    with torch.no_grad():
        reference.self_attn.in_proj_weight.copy_(layer.inputs.weight)
        reference.self_attn.in_proj_bias.copy_(layer.inputs.bias)
        for own, theirs in (
            (layer.out, reference.self_attn.out_proj),
            (layer.expand, reference.linear1),
            (layer.contract, reference.linear2),
            (layer.norm_attention, reference.norm1),
            (layer.norm_feed_forward, reference.norm2),
        ):
            theirs.load_state_dict(own.state_dict())
        slot = graph.token_node * 4 + graph.token_patch
        packed = torch.zeros(len(graph.nodes) * 4, 16).index_copy(0, slot, states).view(-1, 4, 16)
        absent = torch.ones(len(graph.nodes) * 4, dtype=torch.bool).index_fill(0, slot, False).view(-1, 4)
        assert bool(absent.any())
        expected = reference(packed, src_key_padding_mask=absent).reshape(-1, 16)[slot]
        assert close(layer(states, graph.sequences), expected, 1e-5)


# Nodes without history, empty windows


@pytest.mark.parametrize("node_input", ["zeros", "random", "embedding"])
def test_nodes_without_history_and_unknown_ids_score_finitely_and_learn_finitely(node_input: str) -> None:
    store = events()
    src = torch.where(store.src >= 9, 0, store.src)
    dst = torch.where(store.dst >= 9, 1, store.dst)
    store = changed(store, src=src, dst=dst)  # 9, 10, 11 have no event
    net = network(store, node_input=node_input)
    net.encoder.input.introduce(store)
    negatives = torch.tensor([[9, 10, 11, 12, 4711]]).repeat(3, 1)
    at = store.time[-1] + torch.tensor([1, 5, 9])
    batch = LinkBatch(
        torch.tensor([0, 9, 99]), torch.tensor([1, 2, 100]), at, negatives, torch.zeros_like(negatives), 0
    )
    batch = batch._replace(negative_src=batch.src[:, None].expand_as(negatives))
    out = net(History(store, net.config).until(at.min()), batch)
    assert bool(out.isfinite().all())
    same = close(out[:, 1:] - out[:, 1:2], torch.zeros(3, 5), 1e-6)
    assert same == (node_input != "random")  # these alone tell apart nodes that nothing is known of
    softmax_loss(out, torch.ones(3, 5)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


def test_an_empty_window_scores_all_nodes_alike_without_node_inputs() -> None:
    store = events()
    net = network(store, node_input="zeros")
    batch = queries(store, 0, 4)
    out = scores(net, store, batch)
    assert bool(out.isfinite().all()) and close(out, out[:1, :1].expand_as(out), 1e-6)
    assert bool(scores(net, store[:0], batch).isfinite().all())


@pytest.mark.parametrize("readout", ["last", "mean", "last+mean"])
@pytest.mark.parametrize("position", ["node", "patch", "none"])
@pytest.mark.parametrize("layout", ["residual", "published"])
def test_windows_shorter_than_the_patches_are_encoded(readout: str, position: str, layout: str) -> None:
    store = events()
    net = network(store, readout=readout, position=position, layout=layout)
    for cut in (1, 2, 3):
        assert bool(embeddings(net, store, store.time[cut]).isfinite().all())


# Scores


@pytest.mark.parametrize("decoder", ["product", "published"])
@pytest.mark.parametrize(
    "given", [*({"pair_history": kind} for kind in PAIR_HISTORIES), {"cut": "query"}], ids=[*PAIR_HISTORIES, "own-cut"]
)
@pytest.mark.parametrize("directed", [True, False])
def test_ranking_shared_candidates_gives_the_scores_of_single_pairs(
    decoder: str, given: dict[str, object], directed: bool
) -> None:
    store = events()
    net, batch = network(store, decoder=decoder, directed=directed, **given), queries(store)
    view = History(store, net.config).until(batch.time[0])
    candidates = torch.arange(NODES + 2)
    with torch.no_grad():
        encoding = net.encoder(view.graph)
        ranked = net.score(view, encoding, batch.src, candidates[None], batch.time)
        rows, columns = torch.meshgrid(torch.arange(len(batch.src)), candidates, indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        single = net.score(view, encoding, batch.src[rows], columns[:, None], batch.time[rows])
    assert close(ranked, single.view_as(ranked), 1e-6)


@pytest.mark.parametrize("cut", ["batch", "query"])
@pytest.mark.parametrize("negatives", [2, 40])
def test_scores_do_not_depend_on_how_many_are_computed_at_once(
    cut: str, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = events()
    net, batch = network(store, cut=cut), queries(store, negatives=negatives)
    whole = scores(net, store, batch)
    monkeypatch.setattr("graphs.todyformer.SCORES_AT_ONCE", 13)
    monkeypatch.setattr("graphs.todyformer.OWN_AT_ONCE", 13)
    monkeypatch.setattr("graphs.link_heads.HIDDEN_AT_ONCE", 7)
    assert close(scores(net, store, batch), whole, 1e-6)


def test_negatives_with_sources_of_their_own_are_scored_from_these() -> None:
    store = events()
    net, batch = network(store), queries(store)
    other = (batch.negative_src + 1) % NODES
    mixed = scores(net, store, batch._replace(negative_src=other))
    shifted = scores(net, store, batch._replace(src=other[:, 0], negative_src=other))
    assert close(mixed[:, 1:], shifted[:, 1:], 1e-6)
    assert close(mixed[:, :1], scores(net, store, batch)[:, :1], 1e-6)


def test_absent_negatives_score_finitely_and_move_no_other() -> None:
    store = events()
    net, batch = network(store), queries(store)
    negatives = batch.negatives.clone()
    negatives[2, 3:] = -1
    out, whole = scores(net, store, batch._replace(negatives=negatives)), scores(net, store, batch)
    assert bool(out.isfinite().all())
    there = torch.nn.functional.pad(negatives >= 0, (1, 0), value=True)
    assert close(out[there], whole[there], 1e-6)


@pytest.mark.parametrize("negatives", [2, 40])
def test_many_negatives_are_scored_as_few_are(negatives: int) -> None:
    store = events()
    net, batch = network(store), queries(store, negatives=negatives)
    view = History(store, net.config).until(batch.time[0])
    with torch.no_grad():
        encoding = net.encoder(view.graph)
        single = [net.score(view, encoding, batch.src, column[:, None], batch.time) for column in batch.negatives.T]
    assert close(scores(net, store, batch)[:, 1:], torch.cat(single, dim=1), 1e-6)


def test_the_losses_equal_torchs() -> None:
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(7, 4, generator=draw, dtype=torch.float64)
    first = torch.zeros(7, dtype=torch.long)
    weight = torch.ones(7, 3, dtype=torch.float64)
    assert softmax_loss(given, weight).item() == pytest.approx(nn.functional.cross_entropy(given, first).item())
    weight[0] = 0  # the only rivals are the link itself
    expected = nn.functional.cross_entropy(given[1:], first[1:], reduction="sum") / 7
    assert softmax_loss(given, weight).item() == pytest.approx(expected.item())
    weight = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64).expand(7, -1)  # one that stands for three
    repeated = given[:, [0, 1, 1, 1, 2]]
    assert softmax_loss(given, weight).item() == pytest.approx(nn.functional.cross_entropy(repeated, first).item())
    pair = given[:, :2]
    target = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(pair)
    expected = nn.functional.binary_cross_entropy_with_logits(pair, target)
    assert binary_loss(pair).item() == pytest.approx(expected.item())


def test_the_published_decoder_is_the_link_head_of_the_reference() -> None:
    golden = load_file(Path(__file__).parent / "golden" / "graphs" / "time_encoder_and_link_head.safetensors")
    decoder = PublishedLinkDecoder(12, 16)
    decoder.load_state_dict(
        {
            f"{own}.{kind}": golden[f"param.merge.{theirs}.{kind}"]
            for own, theirs in (("hidden", "fc1"), ("score", "fc2"))
            for kind in ("weight", "bias")
        }
    )
    nothing = torch.zeros(7)
    source, destination = (Ends(golden[f"input.{side}"], nothing, nothing, torch.zeros(7, 0)) for side in ("a", "b"))
    everyone = decoder(source, destination, nothing, None, None)
    pairs = decoder(source, destination, nothing, torch.arange(7)[:, None], None)
    # The weight is applied in two parts, which float32 rounds differently.
    assert close(pairs, golden["output.merge"], 1e-6)
    assert close(everyone.diagonal()[:, None], golden["output.merge"], 1e-6)


# State and learning


def test_encoding_one_window_leaves_no_trace_in_the_next() -> None:
    store = events()
    net = network(store)
    first = embeddings(net, store, store.time[30])
    embeddings(net, store, store.time[50])
    assert torch.equal(embeddings(net, store, store.time[30]), first)


@pytest.mark.parametrize("node_input", ["random", "embedding"])
@pytest.mark.parametrize("directed", [True, False])
def test_saved_and_loaded_it_scores_the_same_bits(tmp_path: Path, node_input: str, directed: bool) -> None:
    store = events()
    net, batch = network(store, node_input=node_input, directed=directed), queries(store)
    net.encoder.input.introduce(store[:20])
    path = tmp_path / "net.safetensors"
    save_file(net.state_dict(), path)
    other = network(store, seed=1, node_input=node_input, directed=directed)
    assert not torch.equal(scores(other, store, batch), scores(net, store, batch))
    other.load_state_dict(load_file(path))
    assert torch.equal(scores(other, store, batch), scores(net, store, batch))


def test_gradients_of_a_block_equal_finite_differences() -> None:
    store = events(count=30)
    net = network(store, blocks=1, width=4, local_heads=2, global_heads=2, window=8).double()
    graph = window_graph(store, store.time[12], 8, 4)
    inputs = torch.randn(len(graph.nodes), 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net.encoder.tokens(graph, x), (inputs,))


@pytest.mark.parametrize(
    "settings",
    [{}, {"node_input": "embedding"}, {"node_input": "random"}, {"readout": "last+mean", "common_neighbours": True}],
)
def test_every_weight_of_two_blocks_learns(settings: dict[str, object]) -> None:
    store = events()
    net, batch = network(store, **settings).train(), queries(store, 40, 60)
    batch = batch._replace(dst=torch.full_like(batch.dst, 4711))  # a cold one
    view = History(store, net.config).until(batch.time[0])
    binary_loss(net(view, batch)).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert idle == []


def test_nodes_outside_the_training_part_are_one_unknown_node() -> None:
    store = events()
    net = network(store, node_input="embedding")
    inputs: NodeInput = net.encoder.input
    seen = torch.unique(torch.cat((store.src[:3], store.dst[:3])))
    inputs.introduce(store[:3])
    states = inputs(torch.arange(NODES + 3))
    unknown = torch.ones(NODES + 3, dtype=torch.bool).index_fill(0, seen, False)
    assert torch.equal(states[unknown], states[-1:].expand(int(unknown.sum()), -1))
    assert len(torch.unique(states[~unknown], dim=0)) == len(seen)


def test_a_share_of_the_nodes_is_unknown_in_training_only() -> None:
    torch.manual_seed(0)
    inputs = NodeInput(1, 0, 4, "embedding", 0.1)
    many = torch.zeros(20_000, dtype=torch.long)
    lost = (inputs(many) == inputs(torch.tensor([1]))).all(dim=1).float().mean()
    assert 0.09 < lost < 0.11
    assert not bool((inputs.eval()(many) == inputs(torch.tensor([1]))).all(dim=1).any())


def test_random_codes_are_gaussian_differ_and_depend_on_the_id_alone() -> None:
    codes = random_codes(torch.arange(20_000), 16)
    assert torch.equal(random_codes(torch.tensor([[7], [2**40]]), 16)[0, 0], codes[7])
    assert bool(codes.isfinite().all())
    scaled = codes * 4  # variance 1
    assert abs(scaled.mean()) < 0.01 and abs(scaled.var() - 1) < 0.01 and abs((scaled**4).mean() - 3) < 0.1
    gram = (codes[:500] @ codes[:500].T).fill_diagonal_(0)
    assert abs(gram.mean()) < 0.01 and abs(gram.std() - 0.25) < 0.01


def test_labels_of_nodes_are_learned_and_the_encoder_is_left_alone() -> None:
    store = events()
    net = network(store)
    kept = {name: tensor.clone() for name, tensor in net.encoder.state_dict().items()}
    torch.manual_seed(0)
    states = NodeStates(net.encoder, 2, use_event_features=True).train()
    assert not net.encoder.training and states.decoder.training
    view = History(store, net.config).until(store.time[40])
    nodes, time, features = store.src[40:60], store.time[40:60], store.features[40:60]
    labels = (features[:, 0] > 0).long()  # what only the events tell
    optimiser = torch.optim.Adam([p for p in states.parameters() if p.requires_grad], lr=0.02)
    for _ in range(150):
        loss = nn.functional.cross_entropy(states(view, nodes, time, features), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
    assert all(torch.equal(tensor, kept[name]) for name, tensor in net.encoder.state_dict().items())
    without = NodeStates(net.encoder, 1)
    assert without(view, nodes, time).shape == (20, 1)


def test_the_control_without_an_encoder_reads_no_messages() -> None:
    store = events()
    net, batch = network(store, blocks=0, pair_history="none"), queries(store)
    other = changed(store, features=store.features + 1.0)
    assert torch.equal(scores(net, other, batch), scores(net, store, batch))


@pytest.mark.parametrize(("pair_history", "epochs"), [("window", 2), pytest.param("none", 12, marks=pytest.mark.slow)])
def test_a_habit_is_learned_within_a_minute(pair_history: str, epochs: int) -> None:
    draw = torch.Generator().manual_seed(0)
    sources, destinations, count = 30, 20, 1000
    src = torch.randint(sources, (count,), generator=draw)
    fresh = torch.randint(destinations, (count,), generator=draw)
    repeat = torch.rand(count, generator=draw) < 0.9
    last: dict[int, int] = {}
    dst = []
    for u, v, again in zip(src.tolist(), fresh.tolist(), repeat.tolist(), strict=True):
        last[u] = last.get(u, v) if again else v
        dst.append(sources + last[u])
    store = EventStore.of(src, torch.tensor(dst), torch.arange(count))
    torch.manual_seed(0)
    settings = {"window": 128, "patches": 4, "width": 32, "node_input": "embedding", "unknown": 0.0}
    config = TodyformerConfig(**settings, pair_history=pair_history)  # type: ignore[arg-type]
    net = Todyformer(GraphShape.of(store[:800], 128), config)
    history, everyone = History(store, config), torch.arange(sources, sources + destinations)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)

    def batch(i: int) -> tuple[Tensor, Tensor]:
        view = history.until(store.time[i])
        rows = slice(i, i + 10)
        out = net.score(view, net.encoder(view.graph), store.src[rows], everyone[None], store.time[rows])
        return out, store.dst[rows] - sources

    for _ in range(epochs):
        for i in (torch.randperm(70) * 10 + 100).tolist():
            loss = nn.functional.cross_entropy(*batch(i))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    net.eval()
    with torch.no_grad():
        ranks = [1 + (out > out.gather(1, dst[:, None])).sum(1) for out, dst in map(batch, range(800, 1000, 10))]
    assert (1 / torch.cat(ranks)).mean() > 0.8


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"window": 0}, "window"),
        ({"patches": 0}, "patches"),
        ({"blocks": -1}, "blocks"),
        ({"local_layers": 0}, "local_layers"),
        ({"global_layers": -1}, "global_layers"),
        ({"window": 4, "patches": 8}, "patches"),
        ({"width": 65}, "local_heads"),
        ({"width": 6, "local_heads": 2}, "global_heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"unknown": -0.1}, "unknown"),
        ({"position": "edge"}, "position"),
        ({"pair_history": "some"}, "pair_history"),
        ({"cut": "own"}, "cut"),
        ({"cut": "query", "pair_history": "window"}, "pair_history"),
    ],
)
def test_settings_that_make_no_network_are_refused_by_name(settings: dict[str, object], named: str) -> None:
    with pytest.raises(EventError) as caught:
        TodyformerConfig(**settings)  # type: ignore[arg-type]
    assert named in caught.value.message and caught.value.hint


def test_features_of_nodes_cannot_be_asked_for_where_there_are_none() -> None:
    with pytest.raises(EventError, match="nodes have none"):
        Todyformer(GraphShape(5), TodyformerConfig(node_input="features"))


def test_the_time_scale_is_the_mean_gap_of_the_training_part_times_the_window() -> None:
    store = events()
    span = int(store.time[29] - store.time[0])
    assert GraphShape.of(store[:30], 24).time_scale == pytest.approx(span / 29 * 24)
    assert GraphShape.of(store[:1], 24).time_scale == 1e-9
    assert GraphShape.of(store[:0], 24).time_scale == 1e-9
