"""What a fit on graphs tells: the document of `--json`, flat values for tracking, and what the report shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graphs.architecture import Architecture
from graphs.graph_tasks import GraphTask

from .. import summary
from ..scoring import finite
from .baselines import BASELINES
from .batches import Prepared
from .explanation import evenly_spaced, measured_heads
from .learning import Learned
from .report import Answers, Report

if TYPE_CHECKING:
    from .story import Read

_BINS = 10  # of answers
_GRAPHS = 100  # whose heads are taken out
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by part, by method, by metric; the model first


def document(
    run_id: str,
    found: "Read",
    scores: Scores,
    learned: Learned,
    sought: Architecture | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The document that `forecast fit --json` prints, before registration; `scores` are those of the test part.

    Networks with one operator in every layer stand apart from the scores, as `controls`: no gate is asked of them.
    """
    facts, model = found.facts, found.config.name
    judged = (model, *BASELINES)
    told: dict[str, Any] = {
        "run": run_id,
        "model": model,
        "data": {**{key: value for key, value in facts.items() if key != "split"}, **found.graphs.ledger.to_dict()},
        "split": facts["split"],
        "metric": found.config.track.metric,
        "parameters": sum(weight.numel() for weight in learned.network.parameters()),
        "operators": list(learned.network.config.operators),
        "best_epoch": learned.best_epoch,
        "epochs": len(learned.curve),
        "scores": {name: finite(scores["test"][name]) for name in judged},
        "validation": {name: finite(values) for name, values in scores["validation"].items()},
        "registered": None,
        "seconds": dict(seconds),
    }
    if sought is not None:
        told["search"] = summary.told(sought)
        told["controls"] = {name: finite(one) for name, one in scores["test"].items() if name not in judged}
    return told


def flat(model: str, scores: Scores) -> dict[str, float]:
    """Scores under dotted names: `test.auc` and `validation.auc` of the model, `linear.auc` of others."""
    found = {f"validation.{name}": value for name, value in scores["validation"][model].items()}
    for who, values in scores["test"].items():
        found |= {f"{'test' if who == model else who}.{name}": value for name, value in values.items()}
    return found


def page(found: "Read", prepared: Prepared, outputs: Tensor, learned: Learned, document: Mapping[str, Any]) -> Report:
    """What the HTML report of a fit shows; `outputs` are those of the model on the test part."""
    config, facts, seconds = found.config, found.facts, document["seconds"]
    task, of = prepared.task, "nodes" if prepared.task.of_nodes else "graphs"
    (columns, kind), (edge_columns, edge_kind) = facts["node_features"], facts["edge_features"]
    shown = {
        "Data": f"{facts['source']} ({facts['rows']:,} graphs, {facts['nodes']:,} nodes, {facts['edges']:,} edges)",
        "Task": f"{facts['task']}: {', '.join(facts['targets'])}",
        "Parts": ", ".join(f"{count:,} {part}" for part, count in facts["split"].items()) + f", by {facts['split_by']}",
        "Features of nodes": f"{columns}, read as {kind}",
        "Features of edges": f"{edge_columns}, read as {edge_kind}",
        "Positions": config.model.positions,
        "Operators": ", ".join(document["operators"]),
        "Parameters": f"{document['parameters']:,}",
        "Cut short by the time limit": "; ".join(document.get("cut_short", ["nothing"])),
        "Seed": str(config.train.seed),
        "Seconds of training": str(seconds["train"]),
        "Run": document["run"],
        "Fingerprint": found.fingerprint[:16],
    }
    return Report(
        title=f"{config.name} on {Path(facts['source']).name}",
        model=config.name,
        facts=shown,
        scores=document["scores"],
        validation=document["validation"],
        controls=document.get("controls", {}),
        search=document.get("search"),
        metric=document["metric"],
        tested=f"{len(prepared.parts['test'].targets):,} test {of}",
        answers=answers(task, outputs, prepared.parts["test"].targets),
        curve=learned.curve,
        validated_by=learned.validated_by,
        best_epoch=learned.best_epoch,
        repairs=document["data"]["repairs"],
        cautions=document["data"]["warnings"],
        config=config.to_yaml(),
        command=f"forecast fit {facts['source']} --config config.yaml",
        more={"Heads": _heads(prepared, learned)},
    )


def _heads(prepared: Prepared, learned: Learned) -> str:
    """What each head does for evenly spaced test graphs, as HTML."""
    test = prepared.parts["test"]
    store = test.select(evenly_spaced(len(test), _GRAPHS))
    targets = prepared.targets.learned(store.targets)
    return measured_heads(learned.network, store, targets, prepared.task)[1].section()


def answers(task: GraphTask, outputs: Tensor, targets: Tensor) -> Answers:
    """Answers and truth in tenths of equally many, from the lowest answer up, all targets together.

    Values of several targets are put on one scale, by the deviation of each. Of classes the chance of the likeliest,
    and how often it is the right one.
    """
    told = task.predicted(outputs).double()
    if task.name == "graph_regression":
        middle = targets.nanmean(dim=0)
        spread = (targets - middle).square().nanmean(dim=0).sqrt() if targets.shape[1] > 1 else torch.ones(1)
        shift = middle if targets.shape[1] > 1 else torch.zeros(1)
        given, true = (told - shift) / spread.clamp(min=1e-12), (targets - shift) / spread.clamp(min=1e-12)
    elif task.outputs == 1 or task.name == "graph_multilabel":
        given, true = told, targets.view_as(told)
    else:
        classes = targets.flatten()
        given, choice = told.max(dim=1)
        true = torch.where(classes.isnan(), classes, (choice == classes).to(classes.dtype))
    known = ~true.flatten().isnan()
    answers, truth = given.flatten()[known].numpy(), true.flatten().double()[known].numpy()
    order = np.argsort(answers, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    return Answers(
        "values" if task.name == "graph_regression" else "chances",
        np.array([answers[part].mean() for part in bins]),
        np.array([truth[part].mean() for part in bins]),
        np.array([len(part) for part in bins]),
    )
