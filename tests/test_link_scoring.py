"""Scores of links equal their definitions, whatever the pieces, for network and rules alike."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from forecast.links import batches
from forecast.links.answers import Ranker
from forecast.links.batches import Parts
from forecast.links.scoring import BASELINES, LinkScores, baselines, one_negative, score
from graphs.evaluation import LinkRule
from graphs.events import EventStore, LinkBatch, split_at_quantiles
from graphs.metrics import area_under_curve, average_precision
from graphs.todyformer import Cut, GraphShape, History, Todyformer, TodyformerConfig

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "temporal_graphs"
NODES = 12


def stream(count: int = 120, seed: int = 0) -> EventStore:
    draw = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(NODES, (2, count), generator=draw)
    return EventStore.of(src, dst, torch.randint(0, 3, (count,), generator=draw).cumsum(0), nodes=NODES)


def parts_of(store: EventStore, bipartite: bool = False) -> Parts:
    return Parts.of(store, 70, 95, bipartite)


def affinity(batch: LinkBatch) -> Tensor:
    """A rule whose scores are a function of the pair, some of them equal."""
    src, dst = batch.candidates()
    return ((src * 7 + dst * 5) % 6).double()


def network(store: EventStore, cut: Cut = "batch") -> LinkRule:
    config = TodyformerConfig(window=30, patches=3, width=8, blocks=1, cut=cut)
    torch.manual_seed(0)
    return Ranker(Todyformer(GraphShape.of(store[:70], 30), config), History(store, config))


def scored(rule: LinkRule, parts: Parts, size: int = 10, seed: int = 0, shares: bool = False) -> LinkScores:
    found = score(
        {"rule": rule}, parts, parts.test, len(parts.store), batch_size=size, seed=seed, shares=["rule"] * shares
    )
    return found["rule"]


@pytest.mark.parametrize("bipartite", [False, True])
def test_ranks_are_among_all_destinations_but_the_true_ones_of_source_and_time(bipartite: bool) -> None:
    store = stream()
    found = scored(affinity, parts_of(store, bipartite))
    pool = sorted(set(store.dst.tolist())) if bipartite else range(NODES)
    rows = list(zip(store.src.tolist(), store.dst.tolist(), store.time.tolist(), strict=True))
    expected = []
    for u, v, t in rows[95:]:
        true = {b for a, b, when in rows if (a, when) == (u, t)}
        others = [(u * 7 + w * 5) % 6 for w in pool if w not in true]
        mine = (u * 7 + v * 5) % 6
        expected.append(1 + sum(o > mine for o in others) + sum(o == mine for o in others) / 2)
    assert found.ranks.tolist() == expected
    assert found.metric("mrr") == pytest.approx(np.mean(1 / np.array(expected)))
    assert found.metric("hits@10") == np.mean(np.array(expected) <= 10)


def test_ranks_are_among_the_listed_destinations_where_the_data_list_some() -> None:
    store = stream()
    listed = np.random.default_rng(0).integers(NODES, size=(50, 6))
    listed[::3, 4:] = -1
    parts = Parts.of(store, 70, 95, False, listed)
    found = scored(affinity, parts)
    expected = []
    for u, v, others in zip(store.src[95:].tolist(), store.dst[95:].tolist(), listed[25:].tolist(), strict=True):
        scores, mine = [(u * 7 + w * 5) % 6 for w in others if w >= 0], (u * 7 + v * 5) % 6
        expected.append(1 + sum(s > mine for s in scores) + sum(s == mine for s in scores) / 2)
    assert found.ranks.tolist() == expected
    assert parts.listed and not parts_of(store).listed


def test_precision_and_area_are_means_over_batches_of_events_and_one_other_destination_each() -> None:
    store = stream()
    parts, alone = parts_of(store), []
    for first in range(95, 120, 10):
        piece = batches.Stretch(first, min(first + 10, 120), 0)
        batch = parts.rivals(piece)
        drawn = batch.negatives.gather(1, one_negative(batch, (4, first)))
        assert bool((drawn >= 0).all()) and not bool((drawn[:, 0] == batch.dst).any())
        positive, negative = ((batch.src * 7 + other * 5) % 6 for other in (batch.dst, drawn[:, 0]))
        alone.append((average_precision(positive, negative), area_under_curve(positive, negative)))
    found = scored(affinity, parts, seed=4)
    assert (found.metric("ap"), found.metric("auc")) == pytest.approx(tuple(np.mean(alone, axis=0)))
    assert found.metric("ap") != scored(affinity, parts, seed=5).metric("ap")


def test_every_absent_destination_is_drawn_about_as_often() -> None:
    negatives = torch.tensor([[3, -1, 5, -1, 7, 9]]).expand(40_000, -1)
    batch = LinkBatch(*[torch.zeros(40_000, dtype=torch.int64)] * 3, negatives, negatives, 0)
    drawn = negatives.gather(1, one_negative(batch, (0, 0)))
    counts = torch.bincount(drawn[:, 0], minlength=10)
    assert counts[[3, 5, 7, 9]].sum() == 40_000
    assert bool(((counts[[3, 5, 7, 9]] - 10_000).abs() < 400).all())  # more than four deviations


@pytest.mark.parametrize("shares", [False, True])
def test_scores_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch, shares: bool) -> None:
    store = stream()
    parts, rule = parts_of(store), network(store)
    whole = scored(rule, parts, shares=shares)
    monkeypatch.setattr(batches, "CANDIDATES_AT_ONCE", 3 * (NODES + 1))
    pieces = scored(rule, parts, shares=shares)
    assert torch.equal(pieces.ranks, whole.ranks)
    assert pieces.metric("mrr") == whole.metric("mrr")
    torch.testing.assert_close(pieces.confidence, whole.confidence)


def test_confidence_is_the_share_of_the_first_and_right_whether_it_is_the_event() -> None:
    store = stream()
    parts, rule = parts_of(store), network(store)
    found = scored(rule, parts, size=25, shares=True)
    batch = parts.rivals(batches.Stretch(95, 120, int(store.before(store.time[95]))))
    logits = rule(batch).clone()
    logits[:, 1:][batch.negatives < 0] = -torch.inf
    best, place = torch.softmax(logits.double(), dim=1).max(dim=1)
    torch.testing.assert_close(found.confidence, best)
    assert torch.equal(found.right, place == 0)
    assert len(scored(rule, parts).confidence) == 0


@pytest.mark.parametrize(("how", "row"), [("batch", 0), ("query", 0), ("query", 4), ("query", 9)])
def test_network_and_rules_see_nothing_of_their_batchs_moment_or_of_their_own_or_later(how: Cut, row: int) -> None:
    """Whatever happens from there on, candidates score the same."""
    store = stream()
    piece = batches.Stretch(100, 110, int(store.before(store.time[100])))
    batch = parts_of(store).rivals(piece)
    cut = int(store.before(batch.time[row]))
    until = batch.time <= batch.time[row] if how == "query" else batch.time == batch.time
    later = torch.arange(len(store)) >= cut
    forged = EventStore.of(
        torch.where(later, (store.src + 5) % NODES, store.src),
        torch.where(later, (store.dst * 5 + 1) % NODES, store.dst),
        store.time,
        nodes=NODES,
    )

    def scores(events: EventStore) -> dict[str, Tensor]:
        rules = {"network": network(events, how), **baselines(parts_of(events), 10, how)}
        assert list(rules)[1:] == list(BASELINES)
        return {name: rule(batch)[until] for name, rule in rules.items()}

    mine, theirs = scores(store), scores(forged)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    # The same helper sees a rule that looks at its own batch.
    leaky = batch._replace(cut=len(store))
    rules = [baselines(parts_of(events), 10)["pair-recency"](leaky) for events in (store, forged)]
    assert not torch.equal(*rules)


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="or soon after is not finite"):
        scored(lambda batch: torch.full((len(batch.src), 1 + batch.negatives.shape[1]), torch.nan), parts_of(stream()))


@pytest.mark.slow
def test_on_a_real_stream_the_strict_cut_costs_the_rules_next_to_nothing() -> None:
    path = SHARED / "collegemsg.parquet"
    if not path.exists():
        pytest.skip("needs ../shared/data/temporal_graphs/collegemsg.parquet")
    table = pl.read_parquet(path)
    ids = np.concatenate([table["src"].to_numpy(), table["dst"].to_numpy()])
    dense = np.unique(ids, return_inverse=True)[1].reshape(2, -1)
    store = EventStore.of(*dense, table["t"].to_numpy())
    parts = Parts.of(store, *split_at_quantiles(store), False)
    found = score(baselines(parts, 200), parts, parts.test, len(store), batch_size=200, seed=0)
    # Not strict: 0.0576, 0.1817, 0.1972, 0.3149, 0.3272, as tests/test_link_tables.py has them.
    told = {name: round(scores.metric("mrr"), 4) for name, scores in found.items()}
    assert told == dict(zip(BASELINES, (0.0576, 0.1817, 0.1972, 0.3148, 0.3272), strict=True))
