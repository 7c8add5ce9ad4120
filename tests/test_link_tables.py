"""On real streams the baselines score what is published, to the last digit."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from graphs import edgebank, pair_rules
from graphs.evaluation import LinkRule, rank_links, separate_links
from graphs.events import EventStore, LinkBatch, split_at_quantiles, stretches
from graphs.history import PairHistory
from graphs.metrics import reciprocal_rank
from graphs.negatives import AllDestinations, historical_negatives, inductive_negatives, random_negatives

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "temporal_graphs"

# MRR: every destination but the true ones of the same source and time; batches of 200; memory updated
# after each batch. Average precision: one negative each, mean over batches.

TABLE_MRR = {
    # Wikipedia validation and test, UCI validation and test
    "EdgeBank, unlimited": "0.5267 0.4947 0.0668 0.0576",
    "EdgeBank, span": "0.5997 0.5710 0.1293 0.1817",
    "pair count": "0.6673 0.6536 0.1492 0.1972",
    "pair recency": "0.7555 0.7248 0.2667 0.3149",
    "pair recency, popularity": "0.7612 0.7302 0.2711 0.3272",
}
TABLE_PRECISION = {
    # Wikipedia random, historical, inductive, then UCI
    "EdgeBank, unlimited": "90.37 49.75 46.09 76.20 44.29 42.41",
    "EdgeBank, share": "86.94 70.90 54.00 75.68 65.03 50.41",
    "EdgeBank, repeat interval": "77.50 72.72 67.28 61.01 60.74 59.90",
    "EdgeBank, repeat threshold": "82.71 73.09 78.21 68.24 54.12 55.16",
    "pair recency": "91.03 85.11 79.44 78.02 75.12 70.49",
}


def columns_of(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = SHARED / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs ../shared/data/temporal_graphs/{name}.parquet")
    table = pl.read_parquet(path)
    return table["src"].to_numpy(), table["dst"].to_numpy(), table["t"].to_numpy()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("wikipedia", "test"),
        pytest.param("wikipedia", "validation", marks=pytest.mark.slow),
        pytest.param("collegemsg", "test", marks=pytest.mark.slow),
        pytest.param("collegemsg", "validation", marks=pytest.mark.slow),
    ],
)
def test_mean_reciprocal_ranks_equal_the_table(name: str, part: str) -> None:
    store = EventStore.of(*columns_of(name))
    first, second = split_at_quantiles(store)
    begin, end = (first, second) if part == "validation" else (second, len(store))
    pool = store.dst.unique() if name == "wikipedia" else torch.cat((store.src, store.dst)).unique()
    assert len(pool) == (1000 if name == "wikipedia" else 1899)
    history = PairHistory(store)
    rules = {
        "EdgeBank, unlimited": edgebank.unlimited(history),
        "EdgeBank, span": edgebank.span(history, first),
        "pair count": pair_rules.pair_count(history),
        "pair recency": pair_rules.pair_recency(history),
        "pair recency, popularity": pair_rules.recency_then_popularity(
            history, pair_rules.batch_numbers([0, first, second, len(store)])
        ),
    }
    batches = list(map(AllDestinations(store, pool), stretches(store, begin, end, strict=False)))
    found = {rule: f"{reciprocal_rank(rank_links(score, batches)):.4f}" for rule, score in rules.items()}
    column = (name == "collegemsg") * 2 + (part == "test")
    assert found == {rule: line.split()[column] for rule, line in TABLE_MRR.items()}


def published_training(src: np.ndarray, dst: np.ndarray, first: int) -> np.ndarray:
    """Which events remain where DyGLib hides a tenth of the nodes from training: (E,) bool.

    It draws from a set, in the order that CPython gives small numbers in one.
    """
    later = set(src[first:].tolist()).union(set(dst[first:].tolist()))
    draw = random.Random(2020)
    hidden = draw.sample(tuple(later), int(0.1 * len(set(src.tolist()) | set(dst.tolist()))))
    kept = ~(np.isin(src, hidden) | np.isin(dst, hidden))
    kept[first:] = True
    return kept


def published_draws(
    kind: str, src: np.ndarray, dst: np.ndarray, time: np.ndarray, first: int, begin: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sources and destinations of the negatives of each test batch that DyGLib draws with its seed, 2."""
    draw = np.random.RandomState(2)
    sources, destinations = np.unique(src), np.unique(dst)
    pairs = list(zip(src.tolist(), dst.tolist(), strict=True))
    trained, past, done = set(pairs[:first]), set(), 0
    for i in range(begin, len(src), 200):
        size = min(200, len(src) - i)
        if kind == "random":
            draw.randint(0, len(sources), size)
            yield src[i : i + size], destinations[draw.randint(0, len(destinations), size)]
            continue
        upto, present = np.searchsorted(time, time[i], "right"), np.searchsorted(time, time[i])
        past.update(pairs[done:upto])
        done = upto
        now = set(pairs[present : np.searchsorted(time, time[i + size - 1], "right")])
        left = np.array(list((past - trained if kind == "inductive" else past) - now))
        chosen = left[draw.choice(len(left), size=size, replace=False)]
        yield chosen[:, 0], chosen[:, 1]


def separated_rules(history: PairHistory) -> dict[str, LinkRule]:
    return {
        "EdgeBank, unlimited": edgebank.unlimited(history),
        "EdgeBank, share": edgebank.share(history),
        "EdgeBank, repeat interval": edgebank.repeat_interval(history),
        "EdgeBank, repeat threshold": edgebank.repeat_threshold(history),
        "pair recency": pair_rules.pair_recency(history),
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wikipedia", "random"),
        pytest.param("wikipedia", "historical", marks=pytest.mark.slow),
        pytest.param("wikipedia", "inductive", marks=pytest.mark.slow),
        ("collegemsg", "random"),
        ("collegemsg", "historical"),
        ("collegemsg", "inductive"),
    ],
)
def test_average_precision_equals_the_table_with_the_published_draws_and_nearly_with_ours(name: str, kind: str) -> None:
    src, dst, time = columns_of(name)
    whole = EventStore.of(src, dst, time)
    first, begin = split_at_quantiles(whole)
    kept = published_training(src, dst, first)
    missing = len(src) - int(kept.sum())
    rules = separated_rules(PairHistory(EventStore.of(src[kept], dst[kept], time[kept], nodes=whole.nodes)))
    parts = list(stretches(whole, begin, len(whole), strict=False))
    batches = [
        LinkBatch(
            *(column[part.first : part.end] for column in (whole.src, whole.dst, whole.time)),
            *(torch.from_numpy(side.astype(np.int64))[:, None] for side in (negative_dst, negative_src)),
            part.cut - missing,
        )
        for part, (negative_src, negative_dst) in zip(
            parts, published_draws(kind, src, dst, time, first, begin), strict=True
        )
    ]
    column = (name == "collegemsg") * 3 + ["random", "historical", "inductive"].index(kind)
    table = {rule: line.split()[column] for rule, line in TABLE_PRECISION.items()}
    found = {rule: separate_links(score, batches).average_precision * 100 for rule, score in rules.items()}
    assert {rule: f"{value:.2f}" for rule, value in found.items()} == table

    # Other draws move it by some tenths.
    history, pool = PairHistory(whole), whole.dst.unique()
    ours: dict[str, Callable[..., LinkBatch]] = {
        "random": lambda part: random_negatives(whole, part, pool, 1, 0),
        "historical": lambda part: historical_negatives(history, part, pool, 1, 0),
        "inductive": lambda part: inductive_negatives(history, part, pool, 1, 0, trained=first),
    }
    drawn = [ours[kind](part)._replace(cut=part.cut - missing) for part in parts]
    for rule, score in rules.items():
        assert separate_links(score, drawn).average_precision * 100 == pytest.approx(float(table[rule]), abs=0.8)
