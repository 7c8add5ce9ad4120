"""Metrics and baselines of links, by definition and by reference; tests/test_link_tables.py has their real figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from graphs import edgebank, pair_rules
from graphs.encodings import CosineTimeEncoding
from graphs.evaluation import LinkRule, at_own_time, rank_links, scored, separate_links
from graphs.events import EventStore, LinkBatch, stretches
from graphs.history import PairHistory
from graphs.metrics import area_under_curve, average_precision, hits, ranks, reciprocal_rank

GOLDEN = Path(__file__).parent / "golden" / "graphs"

SCORES = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=12).map(torch.tensor)


# Metrics


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES)
def test_a_rank_is_the_mean_over_all_orders_of_equals(positive: Tensor, negative: Tensor) -> None:
    found = ranks(positive, negative.expand(len(positive), -1))
    for score, rank in zip(positive.tolist(), found.tolist(), strict=True):
        best = 1 + sum(other > score for other in negative.tolist())
        worst = best + sum(other == score for other in negative.tolist())
        assert rank == (best + worst) / 2


def test_absent_negatives_take_no_part_in_a_rank() -> None:
    negative = torch.tensor([[3.0, -torch.inf, 1.0], [-torch.inf] * 3])
    assert ranks(torch.tensor([2.0, -1e30]), negative).tolist() == [2, 1]


@settings(deadline=None, max_examples=50)
@given(SCORES, SCORES)
def test_precision_and_area_equal_their_definitions(positive: Tensor, negative: Tensor) -> None:
    found, wrong = positive[:, None], negative[:, None]
    above = (positive >= found).sum(1).double(), (negative >= found).sum(1).double()
    assert average_precision(positive, negative) == pytest.approx((above[0] / (above[0] + above[1])).mean().item())
    wins = (found > wrong.T).double() + (found == wrong.T).double() / 2
    assert area_under_curve(positive, negative) == pytest.approx(wins.mean().item())


def test_ranks_and_hits_equal_the_reference() -> None:
    golden = load_file(GOLDEN / "link_mrr.safetensors")
    places = ranks(golden["input.positive"], golden["input.negative"])
    assert torch.equal((1 / places).float(), golden["output.reciprocal_rank"])
    assert reciprocal_rank(places) == pytest.approx(golden["output.mrr"].item(), abs=1e-7)
    assert hits(places, 10) == pytest.approx(golden["output.hits10"].item(), abs=1e-7)


def test_precision_and_area_equal_the_reference_over_batches_and_pooled() -> None:
    golden = load_file(GOLDEN / "link_average_precision.safetensors")
    labels, scores, size = golden["input.labels"], golden["input.scores"], int(golden["input.batch_size"])
    for name, metric in (("ap", average_precision), ("auc", area_under_curve)):
        parts = [(s[true > 0], s[true == 0]) for s, true in zip(scores.split(size), labels.split(size), strict=True)]
        mean = sum(metric(*part) for part in parts) / len(parts)
        assert mean == pytest.approx(golden[f"output.{name}_mean_over_batches"].item(), abs=1e-12)
        pooled = metric(scores[labels > 0], scores[labels == 0])
        assert pooled == pytest.approx(golden[f"output.{name}_pooled"].item(), abs=1e-7)


def test_time_encoding_begins_as_the_reference() -> None:
    golden = load_file(GOLDEN / "time_encoder_and_link_head.safetensors")
    encoding = CosineTimeEncoding(100)
    # Theirs are powers of exponents in float32, of which a rounding is 1.2e-6 of the power.
    torch.testing.assert_close(encoding.frequency.data, golden["param.time.weight"][:, 0], rtol=2e-6, atol=0)
    with torch.no_grad():
        encoding.frequency.copy_(golden["param.time.weight"][:, 0])
        # A rounding of the largest product, 2.7e6 radians, is an eighth: both must round alike.
        torch.testing.assert_close(encoding(golden["input.deltas"]), golden["output.time"], rtol=0, atol=1e-6)


# The loop over batches


def batch_of(store: EventStore, negatives: Sequence[Sequence[int]], first: int, cut: int) -> LinkBatch:
    drawn = torch.tensor(negatives)
    part = store[first : first + len(negatives)]
    return LinkBatch(part.src, part.dst, part.time, drawn, part.src[:, None].expand_as(drawn), cut)


def toy() -> EventStore:
    return EventStore.of([0, 0, 1, 0, 1], [3, 4, 3, 3, 4], [0, 1, 1, 2, 5], nodes=6)


def test_scores_come_batch_by_batch_with_absent_negatives_below_all() -> None:
    batches = [batch_of(toy(), [[4, -1], [3, 5]], first, 0) for first in (0, 2)]
    found = list(scored(lambda batch: batch.candidates()[1].double(), batches))
    assert [positive.tolist() for positive, _ in found] == [[3, 4], [3, 3]]
    assert found[0][1].tolist() == [[4, -torch.inf], [3, 5]]
    assert rank_links(lambda batch: batch.candidates()[1].double(), batches).tolist() == [2, 2, 2, 2.5]


def test_an_empty_part_has_no_ranks_and_no_figures() -> None:
    rule = pair_rules.pair_count(PairHistory(toy()))
    assert list(stretches(toy(), 5, 5)) == []
    places = rank_links(rule, [])
    assert len(places) == 0 and np.isnan(reciprocal_rank(places))
    found = separate_links(rule, [])
    assert np.isnan([found.average_precision, found.auc, found.pooled_average_precision, found.pooled_auc]).all()


def test_scores_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    batches = [batch_of(toy(), [[4], [3]], 1, 0)]
    with pytest.raises(ValueError, match="at time 1 or soon after is not finite"):
        rank_links(lambda batch: torch.full((2, 2), torch.nan), batches)
    with pytest.raises(ValueError, match=r"scores are \(2,\) for candidates \(2, 2\)"):
        rank_links(lambda batch: torch.zeros(2), batches)


def test_separation_is_the_mean_over_batches_and_over_all_at_once() -> None:
    batches = [batch_of(toy(), [[4], [5]], first, 0) for first in (0, 2)]
    found = separate_links(lambda batch: batch.candidates()[1].double(), batches)
    parts = [(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 5.0])), (torch.tensor([3.0, 3.0]), torch.tensor([4.0, 5.0]))]
    assert found.average_precision == pytest.approx(sum(average_precision(*part) for part in parts) / 2)
    assert found.auc == pytest.approx((area_under_curve(*parts[0]) + area_under_curve(*parts[1])) / 2)
    whole = tuple(torch.cat(side) for side in zip(*parts, strict=True))
    assert found.pooled_average_precision == pytest.approx(average_precision(*whole))
    assert found.pooled_auc == pytest.approx(area_under_curve(*whole))


# The rules


def test_edgebank_equals_the_reference_of_dyglib() -> None:
    golden = load_file(GOLDEN / "edgebank.safetensors")
    store = EventStore.of(*(golden[f"input.{name}"] for name in ("src", "dst", "t")))
    cut, history = int(golden["input.history"]), PairHistory(store)
    batch = batch_of(store, golden["input.negative_dst"][:, None].tolist(), cut, cut)
    rules = {
        "unlimited": edgebank.unlimited(history),
        "time_window_fixed": edgebank.share(history),
        "time_window_repeat": edgebank.repeat_interval(history),
        "repeat_threshold": edgebank.repeat_threshold(history),
    }
    for name, rule in rules.items():
        found = rule(batch)
        assert torch.equal(found[:, 0], golden[f"output.{name}.positive"]), name
        assert torch.equal(found[:, 1], golden[f"output.{name}.negative"]), name


def test_edgebank_along_a_stream_equals_the_reference_of_tgb() -> None:
    golden = load_file(GOLDEN / "edgebank_streaming.safetensors")
    store = EventStore.of(*(golden[f"input.{name}"] for name in ("src", "dst", "t")))
    history, trained, asked = PairHistory(store), int(golden["input.history"]), golden["input.query_dst"].tolist()
    rules = {"unlimited": edgebank.unlimited(history), "fixed_time_window": edgebank.span(history, trained)}
    for name, rule in rules.items():
        found = [
            rule(batch_of(store, [asked] * (part.end - part.first), part.first, part.cut))[:, 1:]
            for part in stretches(store, trained, len(store), int(golden["input.batch_size"]), strict=False)
        ]
        assert torch.equal(torch.cat(found), golden[f"output.{name}"]), name


def rules_of(store: EventStore, trained: int = 5) -> dict[str, LinkRule]:
    history = PairHistory(store)
    numbers = pair_rules.batch_numbers([0, trained, len(store)], 3)
    return {
        "unlimited": edgebank.unlimited(history),
        "span": edgebank.span(history, trained),
        "share": edgebank.share(history),
        "interval": edgebank.repeat_interval(history),
        "threshold": edgebank.repeat_threshold(history),
        "count": pair_rules.pair_count(history),
        "recency": pair_rules.pair_recency(history),
        "popularity": pair_rules.recency_then_popularity(history, numbers),
    }


ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)), min_size=6, max_size=25)


def stored(rows: list[tuple[int, int, int]]) -> EventStore:
    time, src, dst = np.array(sorted(rows, key=lambda row: row[0])).T
    return EventStore.of(src, dst, time, nodes=4)


def everyone(store: EventStore, cut: int) -> LinkBatch:
    """All pairs of the four nodes, as of a cut: the sources are 0 … 3."""
    src = torch.arange(4)
    others = torch.arange(4).expand(4, -1)
    return LinkBatch(src, src, torch.zeros(4), others, src[:, None].expand(-1, 4), cut)


@settings(deadline=None, max_examples=50)
@given(ROWS, ROWS, st.integers(0, 6))
def test_no_rule_sees_events_from_the_cut_on(rows: list[tuple[int, int, int]], other: list, cut: int) -> None:
    store = stored(rows)
    late = [(time + 10, src, dst) for time, src, dst in other]
    early = list(zip(store.time.tolist(), store.src.tolist(), store.dst.tolist(), strict=True))[:cut]
    changed = stored([*early, *late])
    trained = max(cut, 1) - 1 or 1  # the span is of training events, which all precede
    for name, rule in rules_of(store, trained).items():
        if name == "span" and not cut:
            continue
        found = rules_of(changed, trained)[name](everyone(changed, cut))
        assert torch.equal(rule(everyone(store, cut)), found), name


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(0, 25))
def test_rules_equal_a_loop_over_the_past(rows: list[tuple[int, int, int]], cut: int) -> None:
    store = stored(rows)
    cut = min(cut, len(store))
    past = list(zip(store.time.tolist(), store.src.tolist(), store.dst.tolist(), strict=True))[:cut]
    met: dict[tuple[int, int], list[int]] = {}
    for time, src, dst in past:
        met.setdefault((src, dst), []).append(time)
    gaps = [(times[-1] - times[0]) / max(1, len(times) - 1) for times in met.values()]
    latest = past[-1][0] if past else 0
    starts = {
        "unlimited": 0,
        "span": latest - 0.15 * float(store.time[4] - store.time[0]),
        "share": np.quantile([time for time, _, _ in past], 0.85) if past else 0,
        "interval": latest - sum(gaps) / max(1, len(gaps)),
    }
    found = {name: rule(everyone(store, cut))[:, 1:] for name, rule in rules_of(store).items()}
    for u in range(4):
        for v in range(4):
            times = met.get((u, v), [])
            # Where a sum of gaps puts the start upon an event, rounding decides.
            for name, start in starts.items():
                if all(abs(time - start) > 1e-9 or time == start == round(start) for time in times[-1:]):
                    assert found[name][u, v] == bool(times and times[-1] >= start), name
            assert found["count"][u, v] == len(times)
            assert found["threshold"][u, v] == (bool(times) and len(times) * len(met) >= cut)
            before = sum(time < times[-1] for time, _, _ in past) + 1 if times else 0
            assert found["recency"][u, v] == before


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(0, 25))
def test_at_its_own_time_an_event_scores_as_it_does_alone(rows: list[tuple[int, int, int]], first: int) -> None:
    store = stored(rows)
    first = min(first, len(store) - 1)
    part = store[first:]
    everyone = torch.arange(-1, 5).expand(len(part), -1)
    batch = LinkBatch(part.src, part.dst, part.time, everyone, part.src[:, None].expand_as(everyone), 0)
    for name, rule in rules_of(store).items():
        found = at_own_time(rule, store)(batch)
        for row in range(len(part)):
            alone = LinkBatch(*(column[row : row + 1] for column in batch[:5]), int(store.before(part.time[row])))
            # Sums of weights run in another order.
            torch.testing.assert_close(found[row], rule(alone)[0], rtol=1e-12, atol=0)
        same = [rule(batch._replace(cut=cut)) for cut in (first, torch.full((len(part), 1), first))]
        assert torch.equal(*same), name


@settings(deadline=None, max_examples=50)
@given(ROWS, st.integers(1, 24))
def test_at_its_own_time_nothing_from_there_on_moves_a_bit(rows: list[tuple[int, int, int]], row: int) -> None:
    store = stored(rows)
    row = min(row, len(store) - 1)
    cut = int(store.before(store.time[row]))
    later = torch.arange(len(store)) >= cut
    forged = EventStore.of(torch.where(later, 3 - store.src, store.src), (store.dst + later) % 4, store.time, nodes=4)
    everyone = torch.arange(4).expand(len(store), -1)
    batch = LinkBatch(store.src, store.dst, store.time, everyone, store.src[:, None].expand_as(everyone), 0)
    until = store.time <= store.time[row]
    for name in rules_of(store):
        found = [at_own_time(rules_of(events)[name], events)(batch)[until] for events in (store, forged)]
        assert torch.equal(*found), name


def test_popularity_ranks_pairs_that_never_met_below_those_that_did_and_forgets() -> None:
    store = EventStore.of([0, 0, 0, 0, 1, 2], [3, 3, 3, 4, 4, 5], range(6), nodes=7)
    numbers = pair_rules.batch_numbers([0, 3, 6], 2)
    assert numbers.tolist() == [0, 0, 1, 2, 2, 3]
    rule = pair_rules.recency_then_popularity(PairHistory(store), numbers, decay=0.5)
    batch = batch_of(store, [[3, 4, 5, 6, -1]], 4, 6)  # source 1 met 4 alone
    found = rule(batch)[0].tolist()
    popularity = {3: 2 * 0.5**3 + 0.5**2, 4: 2 * 0.5, 5: 1.0}
    assert found == [5, *(popularity[3] / 7, 5, popularity[5] / 7), 0, 0]  # at most one for each of six events
