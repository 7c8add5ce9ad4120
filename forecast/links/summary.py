"""What a fit on events tells: the document of `--json`, flat values for tracking, and what the report shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphs.history import PairHistory
from graphs.neighbors import NeighborIndex

from ..scoring import finite
from .batches import Parts
from .report import Report
from .scoring import LinkScores

if TYPE_CHECKING:
    from .story import Read

_STRETCHES = 30  # of the test part, for scores over time
_BINS = 10  # of confidence
_OFTEN = 10  # events from which on a node is a frequent one


def document(
    run_id: str,
    found: "Read",
    parts: Parts,
    validation: Mapping[str, LinkScores],
    test: Mapping[str, LinkScores],
    best_epoch: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The document that `forecast fit --json` prints, before registration; `scores` are those of the test part."""
    facts = found.facts
    return {
        "run": run_id,
        "model": found.config.name,
        "data": {key: value for key, value in facts.items() if key not in ("split", "parts")},
        "split": facts["split"],
        "events": facts["parts"],
        "candidates": parts.rivals.width,
        "listed": parts.listed,
        "batch_size": found.config.train.batch_size,
        "cut": found.config.model.cut,
        "best_epoch": best_epoch,
        "scores": {name: finite(one.values) for name, one in test.items()},
        "validation": {name: finite(one.values) for name, one in validation.items()},
        "registered": None,
        "seconds": dict(seconds),
    }


def flat(model: str, validation: Mapping[str, LinkScores], test: Mapping[str, LinkScores]) -> dict[str, float]:
    """Scores under dotted names: `test.mrr` and `validation.mrr` of the model, `pair-recency.mrr` of others."""
    found = {f"validation.{name}": value for name, value in validation[model].values.items()}
    for who, one in test.items():
        found |= {f"{'test' if who == model else who}.{name}": value for name, value in one.values.items()}
    return found


def page(
    found: "Read",
    parts: Parts,
    test: Mapping[str, LinkScores],
    curve: Sequence[tuple[int, float, float]],
    document: Mapping[str, Any],
) -> Report:
    """What the HTML report of a fit shows."""
    config, facts = found.config, found.facts
    model = config.name
    shown = {
        "Data": f"{facts['source']} ({facts['rows']:,} rows)",
        "Span": " to ".join(facts["span"]),
        "Events": ", ".join(f"{count:,} {part}" for part, count in facts["parts"].items()),
        "Nodes": f"{facts['sources']:,} sources, {facts['destinations']:,} destinations, {facts['nodes']:,} in all",
        "Pairs that met before": f"{100 * facts['repeats']:.1f}% of all events",
        "Pairs new since training": f"{100 * facts['surprise']:.1f}% of the test events",
        "Ranked among": f"{document['candidates']:,} destinations"
        + (", those that the files beside the events list for each" if parts.listed else ""),
        "Batches": _seen(config.train.batch_size, config.model.cut),
        "Seed": str(config.train.seed),
        "Seconds of training": str(document["seconds"]["train"]),
        "Run": document["run"],
        "Fingerprint": found.fingerprint[:16],
    }
    return Report(
        title=f"{model} on {Path(facts['source']).name}",
        model=model,
        facts=shown,
        scores={name: one.values for name, one in test.items()},
        validation={name: values["mrr"] for name, values in document["validation"].items()},
        metric=config.track.metric,
        events=len(test[model].ranks),
        within={name: _within(one.ranks, document["candidates"]) for name, one in test.items()},
        over_time=_over_time(found, parts, test),
        groups=_groups(parts, test),
        reliability=_reliability(test[model]),
        curve=curve,
        best_epoch=document["best_epoch"],
        repairs=facts["repairs"],
        cautions=facts["warnings"],
        config=config.to_yaml(),
        command=f"forecast fit {facts['source']} --config config.yaml",
        cut=config.model.cut,
        listed=parts.listed,
    )


def _seen(batch_size: int, cut: str) -> str:
    if cut == "batch":
        return f"{batch_size:,} events see what came before the first of them"
    return (
        f"the encoder sees what came before the first of {batch_size:,} events; of pairs and nodes each is told its own"
    )


def _within(ranks: torch.Tensor, candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Some ranks k, and the share of events whose rank is at most k."""
    places = np.unique(np.geomspace(1, max(candidates, 2), 60).round())
    return places, np.searchsorted(np.sort(ranks.numpy()), places, side="right") / len(ranks)


def _over_time(found: "Read", parts: Parts, test: Mapping[str, LinkScores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Middle times of stretches of equally many test events, and the MRR of each method there."""
    times = parts.store.time[parts.test :].numpy()
    edges = np.unique(np.linspace(0, len(times), min(_STRETCHES, len(times)) + 1).round().astype(np.int64))
    middle = times[(edges[:-1] + edges[1:] - 1) // 2]
    if not found.events.time_type.steps:
        middle = middle.astype("datetime64[us]")
    return {
        name: (middle, np.add.reduceat(1 / one.ranks.numpy(), edges[:-1]) / np.diff(edges))
        for name, one in test.items()
    }


def _groups(parts: Parts, test: Mapping[str, LinkScores]) -> dict[str, tuple[int, dict[str, float]]]:
    """Test events by what their nodes and pairs had done strictly before: how many, and the MRR of each method."""
    store = parts.store
    asked = store[parts.test :]
    degree = NeighborIndex(store)
    cuts = store.before(asked.time)
    found = {}
    for end, nodes in (("source", asked.src), ("destination", asked.dst)):
        events = degree.degree(nodes, asked.time)
        found[f"{end} is new"] = events == 0
        found[f"{end} had 1 to {_OFTEN - 1} events"] = (events > 0) & (events < _OFTEN)
        found[f"{end} had {_OFTEN} or more"] = events >= _OFTEN
    met = PairHistory(store).meetings(asked.src, asked.dst, cuts).number > 0
    found |= {"pair met before": met, "pair meets first": ~met}
    return {
        name: (int(chosen.sum()), {who: float((1 / one.ranks[chosen]).mean()) for who, one in test.items()})
        for name, chosen in found.items()
        if bool(chosen.any())
    }


def _reliability(scores: LinkScores) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Bins of equally many events by the share the first of a ranking is given: mean share, share right, events."""
    if not len(scores.confidence):
        return None
    order = np.argsort(scores.confidence.numpy(), kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    confidence, right = scores.confidence.numpy(), scores.right.numpy().astype(float)
    return (
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )
