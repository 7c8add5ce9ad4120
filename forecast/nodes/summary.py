"""What a fit on node states tells: the document of `--json`, flat values for tracking, and what the report shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scoring import finite
from .report import Report
from .scoring import NodeScores

if TYPE_CHECKING:
    from .story import Read

_BINS = 10  # of probability


def document(
    run_id: str,
    found: "Read",
    validation: Mapping[str, NodeScores],
    test: Mapping[str, NodeScores],
    best_epoch: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The document that `forecast fit --json` prints, before registration; `scores` are those of the test part."""
    facts = found.facts
    return {
        "run": run_id,
        "model": found.config.name,
        "task": "node",
        "data": {key: value for key, value in facts.items() if key not in ("split", "parts", "labelled")},
        "split": facts["split"],
        "events": facts["parts"],
        "labelled": facts["labelled"],
        "batch_size": found.config.train.batch_size,
        "best_epoch": best_epoch,
        "scores": {name: finite(one.values) for name, one in test.items()},
        "validation": {name: finite(one.values) for name, one in validation.items()},
        "registered": None,
        "seconds": dict(seconds),
    }


def flat(model: str, validation: Mapping[str, NodeScores], test: Mapping[str, NodeScores]) -> dict[str, float]:
    """Scores under dotted names: `test.auc` and `validation.auc` of the model, `positive-rate.auc` of others."""
    found = {f"validation.{name}": value for name, value in validation[model].values.items()}
    for who, one in test.items():
        found |= {f"{'test' if who == model else who}.{name}": value for name, value in one.values.items()}
    return found


def page(
    found: "Read",
    test: Mapping[str, NodeScores],
    curve: Sequence[tuple[int, float, float]],
    document: Mapping[str, Any],
) -> Report:
    """What the HTML report of a fit shows."""
    config, facts = found.config, found.facts
    counts = facts["labelled"]
    shown = {
        "Data": f"{facts['source']} ({facts['rows']:,} rows)",
        "Span": " to ".join(facts["span"]),
        "State": f"{facts['columns']['label']} of {facts['columns']['src']}",
        "Labels": ", ".join(
            f"{one['labels']:,} {part}, {one['positives']:,} of them 1" for part, one in counts.items()
        ),
        "Nodes": f"{facts['sources']:,} sources, {facts['destinations']:,} destinations, {facts['nodes']:,} in all",
        "Encoder": config.train.encoder or "trained on links of the training part, then frozen",
        "Batches": f"{config.train.batch_size:,} events see what came before the first of them",
        "Seed": str(config.train.seed),
        "Seconds of training": str(document["seconds"]["train"]),
        "Run": document["run"],
        "Fingerprint": found.fingerprint[:16],
    }
    return Report(
        title=f"{config.name} on states of {Path(facts['source']).name}",
        model=config.name,
        facts=shown,
        scores={name: one.values for name, one in test.items()},
        validation={name: values[config.track.metric] for name, values in document["validation"].items()},
        metric=config.track.metric,
        labels=counts["test"]["labels"],
        positives=counts["test"]["positives"],
        calibration=_calibration(test[config.name]),
        curve=curve,
        best_epoch=document["best_epoch"],
        repairs=facts["repairs"],
        cautions=facts["warnings"],
        config=config.to_yaml(),
        command=f"forecast fit {facts['source']} --config config.yaml",
    )


def _calibration(scores: NodeScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of equally many labels by probability: the mean probability, the share that is 1, labels."""
    probability, truth = scores.scores.numpy(), scores.truth.numpy()
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), _BINS) if len(part)]
    return (
        np.array([probability[part].mean() for part in parts]),
        np.array([truth[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )
