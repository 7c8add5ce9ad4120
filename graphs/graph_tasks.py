"""What is to be told of graphs or their nodes, found from the targets; its loss and its metrics."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from . import graph_metrics as gm
from .graph_batch import GraphError
from .graph_store import GraphFaultError, GraphStore

TaskName = Literal["graph_regression", "graph_binary", "graph_multiclass", "graph_multilabel", "node_classification"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
MOST_CLASSES = 100  # more whole numbers than this are amounts


@dataclass(frozen=True)
class GraphTask:
    """A task and the width that a network must give for it: `outputs` numbers a graph, or a node.

    One for two classes, else one a class, label or target.
    """

    name: TaskName
    outputs: int

    @property
    def of_nodes(self) -> bool:
        """Whether nodes are told apart, not graphs."""
        return self.name == "node_classification"

    @property
    def metric(self) -> str:
        """The metric that models are compared by."""
        return METRICS[self.name][0]

    @property
    def higher_is_better(self) -> bool:
        return self.metric != "mae"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of outputs (G, outputs) or (N, outputs); targets as in the store, missing ones count nowhere."""
        match self.name:
            case "graph_regression":
                return gm.absolute_loss(outputs, targets)
            case "graph_binary" | "graph_multilabel":
                return gm.binary_loss(outputs, targets)
            case "graph_multiclass":
                return gm.class_loss(outputs, targets[:, 0])
            case "node_classification":
                return gm.weighted_class_loss(outputs[:, 0] if self.outputs == 1 else outputs, targets)

    def predicted(self, outputs: Tensor) -> Tensor:
        """What the outputs say: values, chances of label 1, or chances of each class, (rows, outputs)."""
        match self.name:
            case "graph_regression":
                return outputs
            case "graph_binary" | "graph_multilabel":
                return outputs.sigmoid()
            case "graph_multiclass" | "node_classification":
                return outputs.sigmoid() if self.outputs == 1 else outputs.softmax(dim=1)

    def scores(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The metrics of all outputs of a part at once, `metric` first; NaN where nothing can be said."""
        match self.name:
            case "graph_regression":
                return {"mae": gm.mean_absolute_error(outputs, targets), "r2": gm.explained_variance(outputs, targets)}
            case "graph_binary" | "graph_multilabel":
                found = {
                    "auc": gm.mean_area_under_curve(outputs, targets),
                    "ap": gm.mean_average_precision(outputs, targets),
                }
                return {name: found[name] for name in METRICS[self.name]}
            case "graph_multiclass":
                return {"accuracy": gm.accuracy(outputs.argmax(dim=1), targets[:, 0])}
            case "node_classification":
                told = (outputs[:, 0] > 0).long() if self.outputs == 1 else outputs.argmax(dim=1)
                return {
                    "accuracy_sbm": gm.class_mean_accuracy(told, targets),
                    "accuracy": gm.accuracy(told, targets),
                }


METRICS: dict[TaskName, tuple[str, ...]] = {  # of each task, the one that models are compared by first
    "graph_regression": ("mae", "r2"),
    "graph_binary": ("auc", "ap"),
    "graph_multiclass": ("accuracy",),
    "graph_multilabel": ("ap", "auc"),
    "node_classification": ("accuracy_sbm", "accuracy"),
}


def task_of(store: GraphStore, name: TaskName | None = None) -> GraphTask:
    """The task of a store's targets: the one that is named, else what they look like.

    Targets of nodes are classes. Several targets of a graph are labels if all are 0 or 1, else values. A single one is
    binary if it is 0 or 1, a class if it is one of whole numbers 0 … at most 99 that all occur, else a value. Raises
    `GraphError` for targets that are absent, or of nodes where the task is of graphs, or the other way round, and
    `GraphFaultError` for the first that is no class or label of the named task.
    """
    targets = store.targets
    seen = ~targets.isnan()
    if not bool(seen.any()):
        raise GraphError("No graph has a target.", "Give targets, or predict with a trained network.")
    if name is None:
        name = _looks_like(store, seen)
    if store.of_nodes != (name == "node_classification"):
        raise GraphError(
            f"Targets are of {'nodes' if store.of_nodes else 'graphs'}, the task is {name}.",
            f"Choose {'node_classification' if store.of_nodes else ', '.join(TASKS[:-1])}.",
        )
    if name == "graph_regression":
        return GraphTask(name, targets.shape[1])
    two = name in ("graph_binary", "graph_multilabel")
    bad = seen & ((targets != targets.round()) | (targets < 0) | (targets > (1 if two else 2**24)))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        value = f"{float(targets[bad][0]):g}"
        graph = int(torch.searchsorted(store.node_offsets, row, right=True)) - 1 if store.of_nodes else row
        raise GraphFaultError(
            graph,
            f"the target {value} is no {'label 0 or 1' if two else 'class'}.",
            "Choose the task graph_regression.",
        )
    if name != "graph_multilabel" and not store.of_nodes and targets.shape[1] != 1:
        raise GraphError(
            f"A graph has {targets.shape[1]} targets, the task is {name}.",
            "Choose graph_multilabel, or name one target.",
        )
    if two:
        return GraphTask(name, targets.shape[1])
    classes = int(targets[seen].max()) + 1
    return GraphTask(name, 1 if store.of_nodes and classes <= 2 else max(classes, 2))


def _looks_like(store: GraphStore, seen: Tensor) -> TaskName:
    if store.of_nodes:
        return "node_classification"
    values = store.targets[seen].unique()
    if bool(((values == 0) | (values == 1)).all()):
        return "graph_multilabel" if store.targets.shape[1] > 1 else "graph_binary"
    counted = torch.equal(values, torch.arange(len(values), dtype=values.dtype))
    single = store.targets.shape[1] == 1
    return "graph_multiclass" if single and counted and len(values) <= MOST_CLASSES else "graph_regression"
