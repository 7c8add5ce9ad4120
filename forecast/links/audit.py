"""The audit of a model of links: answers to queries at a moment, whatever is made of what happened from then on.

The stream of the table is cut at its first moment that is asked about: what is before becomes the stored past of the
model, all that follows is handed over as history, once without and several times with events at or after the query.
A model that tells pairs as of each query's own time is asked once more as it is scored, with the window of a batch that
began earlier: what came between the two it may use, and nothing from the moment of the query on.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ..audited import Audit, Check, Leak
from ..data import table
from ..data.nodes import plain_ids
from ..data.ticks import give_ticks, read_ticks, said
from ..errors import DataError, UsageError

_ASKED = 20  # pairs at each moment: those that came about then, and others between nodes that were met before
_BEST = 10  # destinations of each ranking
_BATCH = 100  # events by which a batch begins before the query
_REPEATED = 50  # events that are added at the very moment of a query
_WAYS = {
    "as they are": "later events as they are, beside none",
    "other ends": "later events between other nodes, new ones among them",
    "other features": "features of later events ±1e30",
    "other times": "later events in any order, as many at the moment of the query as behind it",
    "the answer": f"each queried link told {_REPEATED} times, at the moment of its query",
}
_HINT = "Scores of such a model mean nothing: find what reads events at or after the query, and fit again."
_NOTES = (
    "What is strictly before a query may be used, and nothing else.",
    "An audit shows what an answer reads, not what its weights were trained on: score it on later data.",
)


def audit_links(
    fitted: Any, read: table.Table, origins: int, seed: int, static: Any, told: Callable[[str], None]
) -> Audit:
    """Audit a fitted model of links on a table of events; see `forecast.audit`."""
    if static is not None:
        raise UsageError("Static features were given, but a model of links has none.", "Leave out --static.")
    random = np.random.default_rng(seed)
    events, times = _stream(fitted, read)
    moments = _moments(times, origins, random, read.origin)
    begin = int(np.searchsorted(times, moments[0]))
    model = _until(fitted, events[:begin])
    own = fitted.network.config.cut == "query"
    ways = [way for way in _WAYS if way != "other features" or fitted.ends.features]
    told(f"asking at {len(moments)} moments with {len(ways)} changes of what follows")
    checks, leaks = {way: Check(way, _WAYS[way]) for way in ways}, dict[str, Leak]()
    asked = 0
    for moment in moments:
        cut = int(np.searchsorted(times, moment))
        queries = _queries(fitted, events, times, cut, moment, random)
        asked += len(queries)
        expected = _answers(model, queries, events[begin:cut])
        if own:
            expected.append(_in_a_batch(fitted, queries, moment, events[:cut], events[:0]))
        for way, later in _changed(fitted, events[cut:], times[cut:], queries, moment, ways, random):
            found = _answers(model, queries, pl.concat([events[begin:cut], later]))
            if own:
                found.append(_in_a_batch(fitted, queries, moment, events[:cut], later))
            moved = [~_same(before, after) for before, after in zip(expected, found, strict=True)]
            check = checks[way]
            checks[way] = replace(
                check,
                compared=check.compared + sum(map(len, moved)),
                moved=check.moved + sum(int(rows.sum()) for rows in moved),
            )
            if way not in leaks and any(rows.any() for rows in moved):
                leaks[way] = _leak(fitted, way, queries, expected, found, moved, said(moment, fitted.time_type))
    return Audit(
        model=fitted.name,
        kind="events",
        source=read.origin,
        about={"events": len(events), "queries": asked},
        origins=[said(moment, fitted.time_type) for moment in moments],
        seed=seed,
        checks=list(checks.values()),
        leaks=list(leaks.values()),
        notes=_NOTES,
    )


def _stream(fitted: Any, read: table.Table) -> tuple[pl.DataFrame, np.ndarray]:
    """The columns of events that the model reads, by time, and their times as it stores them."""
    ends = fitted.ends
    names = (ends.src, ends.dst, ends.time, *ends.features)
    for name in names:
        if name not in read.schema:
            raise DataError(
                f'{read.origin}: there is no column "{name}", which the events at the fit had.',
                f"Name it so; the columns are: {', '.join(list(read.schema)[:8])}.",
            )
    frame = read.collect(*names).drop_nulls()
    times, _ = read_ticks(frame[ends.time], read.where, fitted.time_type.rules, fitted.time_type)
    order = np.argsort(times, kind="stable")
    return frame[order], np.asarray(times)[order]


def _moments(times: np.ndarray, count: int, random: np.random.Generator, origin: str) -> list[Any]:
    """Draw a moment at which something came about from each of `count` equal parts of the later three quarters."""
    quarter = int(np.searchsorted(times, times[len(times) // 4], side="right"))
    behind = len(times) - quarter
    if not quarter or not behind:
        raise DataError(
            f"{origin}: {len(times)} events at {len(np.unique(times))} moments are too few to be cut.",
            "Give more of the stream.",
        )
    places = quarter + np.floor((np.arange(count) + random.random(count)) / count * behind).astype(np.int64)
    return [moment.item() for moment in np.unique(times[places])]


def _until(fitted: Any, events: pl.DataFrame) -> Any:
    """The model as it would be stored with these events, of nodes that it knows, as its past."""
    stream = _store(fitted, events)
    return type(fitted).of(
        fitted.name, fitted.network, fitted.nodes, fitted.ends, fitted.time_type, stream, fitted.facts
    )


def _store(fitted: Any, events: pl.DataFrame) -> Any:
    """The events of nodes that the model knows, under its numbers."""
    ends, nodes = fitted.ends, fitted.nodes
    times, _ = read_ticks(events[ends.time], str, fitted.time_type.rules, fitted.time_type)
    src = nodes.source_nodes(plain_ids(events[ends.src], str))
    dst = nodes.destination_nodes(plain_ids(events[ends.dst], str))
    known = (src >= 0) & (dst >= 0)
    if not known.any():
        raise DataError("The model knows no node of the first events.", "Give events as at the fit.")
    features = events.select(ends.features).cast(pl.Float32).to_numpy()[known] if ends.features else None
    return type(fitted.past).of(src[known], dst[known], np.asarray(times)[known], features, nodes=len(nodes))


def _queries(
    fitted: Any, events: pl.DataFrame, times: np.ndarray, cut: int, moment: Any, random: np.random.Generator
) -> pl.DataFrame:
    """The links that came about at a moment, and others between nodes that were met before."""
    ends = fitted.ends
    same = int(np.searchsorted(times, moment, side="right"))
    now = events.select(ends.src, ends.dst)[cut : min(same, cut + _ASKED // 2)]
    draws = random.integers(cut, size=(2, _ASKED - len(now)))
    others = pl.DataFrame([events[ends.src].gather(draws[0]), events[ends.dst].gather(draws[1])])
    both = pl.concat([now, others])
    time = give_ticks(np.full(len(both), moment, times.dtype), fitted.time_type)
    return both.with_columns(pl.Series(ends.time, time))


def _changed(
    fitted: Any,
    later: pl.DataFrame,
    times: np.ndarray,
    queries: pl.DataFrame,
    moment: Any,
    ways: list[str],
    random: np.random.Generator,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """What is at or after a moment, in every way."""
    ends, features = fitted.ends, list(fitted.ends.features)
    yield "as they are", later
    ids = {name: pl.concat([later[name], queries[name]]) for name in (ends.src, ends.dst)}
    yield (
        "other ends",
        later.with_columns(
            _with_new(column.gather(random.integers(len(column), size=len(later))), random) for column in ids.values()
        ),
    )
    if "other features" in ways:
        yield (
            "other features",
            later.with_columns(
                pl.Series(name, random.choice([-1e30, 1e30], len(later))).cast(later.schema[name]) for name in features
            ),
        )
    dealt = np.where(random.random(len(times)) < 0.5, moment, random.permutation(times))
    ticks = give_ticks(dealt.astype(times.dtype), fitted.time_type)
    yield "other times", later[random.permutation(len(later))].with_columns(pl.Series(ends.time, ticks))
    told = queries.with_columns(pl.lit(1.0).cast(later.schema[name]).alias(name) for name in features)
    yield "the answer", pl.concat([*[told.select(later.columns)] * _REPEATED, later])


def _with_new(ids: pl.Series, random: np.random.Generator) -> pl.Series:
    """Ids of which every tenth is one that no event has shown before."""
    new = random.random(len(ids)) < 0.1
    if ids.dtype.is_integer():
        fresh = pl.Series(2**30 + random.integers(2**20, size=len(ids))).cast(ids.dtype)
    else:
        fresh = pl.Series([f"new {number}" for number in random.integers(2**20, size=len(ids))])
    return fresh.zip_with(pl.Series(new), ids.cast(fresh.dtype)).alias(ids.name)


def _answers(model: Any, queries: pl.DataFrame, history: pl.DataFrame) -> list[pl.DataFrame]:
    """Scores of the queried links, and rankings of their sources."""
    given: Mapping[str, Any] = {"history": history} if len(history) else {}
    ranked = queries.drop(model.ends.dst).unique(maintain_order=True)
    return [model.predict(queries, **given), model.predict(ranked, top_k=_BEST, **given)]


def _in_a_batch(
    fitted: Any, queries: pl.DataFrame, moment: Any, before: pl.DataFrame, later: pl.DataFrame
) -> pl.DataFrame:
    """The queried links with scores as a fit makes them: with the window of a batch that began `_BATCH` events ago."""
    import torch

    from graphs.events import LinkBatch

    store = _store(fitted, pl.concat([before, later]))
    begin = store.time[max(0, int(store.before(moment)) - _BATCH)]
    known = fitted.nodes.source_nodes(plain_ids(queries[fitted.ends.src], str))
    met = fitted.nodes.destination_nodes(plain_ids(queries[fitted.ends.dst], str))
    src, dst = (torch.from_numpy(np.where(nodes < 0, len(fitted.nodes), nodes)) for nodes in (known, met))
    nobody = torch.zeros(len(src), 0, dtype=torch.int64)
    time = torch.full_like(src, moment, dtype=store.time.dtype)
    scores = fitted.rule(store)(LinkBatch(src, dst, time, nobody, nobody, int(store.before(begin))))
    return queries.with_columns(pl.Series("score", scores[:, 0].numpy()))


def _same(before: pl.DataFrame, after: pl.DataFrame) -> np.ndarray:
    """Which rows of two answers are the same, bit for bit; all differ where their numbers of rows do."""
    if before.shape != after.shape:
        return np.zeros(max(len(before), len(after)), bool)
    equal = before.select(
        (pl.col(name) == after[name]) & (pl.col(name).is_nan() == after[name].is_nan())
        if before.schema[name].is_float()
        else pl.col(name).eq_missing(after[name])
        for name in before.columns
    )
    same: np.ndarray = equal.select(pl.all_horizontal(pl.all())).to_series().to_numpy()
    return same


def _leak(
    fitted: Any,
    way: str,
    queries: pl.DataFrame,
    expected: list[pl.DataFrame],
    found: list[pl.DataFrame],
    moved: list[np.ndarray],
    moment: str,
) -> Leak:
    """The first answer that moved."""
    part = next(part for part, rows in enumerate(moved) if rows.any())
    row = int(moved[part].argmax())
    frame = expected[part] if row < len(expected[part]) else found[part]
    src, dst = (frame[name][row] if name in frame.columns else None for name in (fitted.ends.src, fitted.ends.dst))
    before, after = (
        float(answers[part]["score"][row]) if row < len(answers[part]) else None for answers in (expected, found)
    )
    how = f"from {before:.6g} to {after:.6g}" if before is not None and after is not None else "in length"
    return Leak(
        way,
        f"{src} → {dst}",
        moment,
        f"{fitted.name} leaks: with {_WAYS[way]}, the answer for {src} → {dst} at {moment} moved {how}.",
        _HINT,
        before=before,
        after=after,
    )
