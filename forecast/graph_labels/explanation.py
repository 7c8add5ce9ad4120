"""Explain a stored model of graphs with labels: its heads, and the nodes that helpful heads look at, graph by graph."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from graphs.darts_gt import DartsGT
from graphs.graph_batch import GraphBatch
from graphs.graph_store import GraphStore, rows_of
from graphs.graph_tasks import GraphTask
from graphs.head_removal import Removal
from graphs.interpretability import Errors, Task, errors_of

from ..data import table
from ..data.graph_table import GraphData, GraphTable, read_graphs
from ..errors import DataError, UsageError
from ..heads import Heads, Measured, Ranking, measure
from .explained import GraphExplanation
from .fitted import FittedGraphs, batch_on, chunks

_GRAPHS = 200  # that are used unless a number is given
_CELLS = 2**13  # nodes and edges that go through the network at once
_TASKS: dict[str, Task] = {
    "graph_regression": "regression",
    "graph_binary": "binary",
    "graph_multilabel": "multilabel",
    "graph_multiclass": "multiclass",
    "node_classification": "multiclass",
}


def explain(
    fitted: FittedGraphs,
    data: Any,
    told: Callable[[str], None],
    *,
    graphs: int | None = None,
    ranking: Ranking = "robust",
) -> GraphExplanation:
    """Explain a fitted model of graphs as `forecast.explain` says; `told` is called with what is being done."""
    if graphs is not None and graphs < 1:
        raise UsageError(f"{graphs} graphs: there is nothing to explain.", "Ask for 1 or more.")
    listed = isinstance(data, Sequence) and not isinstance(data, str)
    source = data if listed else table.read(data)
    found = _read(fitted, source)
    number = evenly_spaced(len(found), graphs or _GRAPHS)
    given = found.store.select(number)
    try:
        store, _ = fitted.reader.read(given)
    except ValueError as error:  # a FeatureError, here or of the code stored with the model
        raise DataError(
            f"{found.origin}: features {error}.", "Give graphs with the features that the model was trained on."
        ) from error
    told(f"taking out the heads of {len(store):,} graphs")
    task = fitted.targets.task
    learned = None if found.task is None else fitted.targets.learned(store.targets)
    measured, heads = measured_heads(fitted.network, store, learned, task, ranking)
    answers = task.predicted(fitted.targets.restored(measured.outputs))
    if task.name == "graph_multiclass":
        answers = answers.argmax(dim=1, keepdim=True)
    return GraphExplanation(
        model=fitted.name,
        source=found.origin,
        given=len(found),
        ranking=ranking,
        targets=() if task.of_nodes else fitted.targets.names,
        ids=found.ids[number].to_list(),
        answers=answers.double().numpy(),
        truth=None if found.task is None else given.targets.double().numpy(),
        errors=None if found.task is None else measured.errors.numpy(),
        heads=heads,
        importance=np.split(measured.joined("importance"), store.node_offsets[1:-1].numpy()),
        top_nodes=measured.top_nodes,
        edges=np.split(given.edges.numpy(), given.edge_offsets[1:-1].numpy(), axis=1),
        atoms=_atoms(fitted, given),
        library="polars" if listed else source.library,
    )


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Give at most `most` of the numbers below `count`, the first and the last among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def measured_heads(
    network: DartsGT, store: GraphStore, learned: Tensor | None, task: GraphTask, ranking: Ranking = "robust"
) -> tuple[Measured, Heads]:
    """Take each head out for all graphs of a store that the network can read.

    `learned` are the targets on the scale of the network's outputs; without them, the measure is how far outputs move.
    """
    measured = measure(network, _batches(network, store, learned, task), ranking)
    if learned is None:
        size = float(measured.outputs.double().abs().mean())
        return measured, measured.heads(network, "graphs", "the output", "", size, labelled=False)
    regression = task.name == "graph_regression"
    words = ("the MAE", "standard deviations of the targets") if regression else ("the cross-entropy", "nats")
    return measured, measured.heads(network, "graphs", *words, float(measured.errors.mean()), labelled=True)


def _batches(
    network: DartsGT, store: GraphStore, learned: Tensor | None, task: GraphTask
) -> Iterator[tuple[GraphBatch, Callable[[Removal], Errors]]]:
    device = next(network.parameters()).device
    kind = "binary" if task.of_nodes and task.outputs == 1 else _TASKS[task.name]
    for graphs in chunks(store, _CELLS):
        targets = None
        if learned is not None:
            rows = rows_of(store.node_offsets, graphs)[0] if store.of_nodes else graphs
            targets = learned[rows].to(device)
        yield batch_on(device, store, graphs), partial(errors_of, targets=targets, task=kind)


def _read(fitted: FittedGraphs, source: Any) -> GraphTable:
    """The graphs, with labels where the source has those of the model."""
    task, names = fitted.targets.task, fitted.targets.names
    target: tuple[str, ...] = ()
    if isinstance(source, table.Table):
        lists = names[0].removesuffix("_0")  # a column of lists gives several targets
        target = next((one for one in (names, (lists,)) if all(name in source.schema for name in one)), ())
        labelled = bool(target)
    else:
        labelled = all(getattr(graph, "y", None) is not None for graph in source)
    found = read_graphs(source, GraphData(task=task.name, target=target), labelled=labelled, parted=False)
    if found.task is not None:
        ours, theirs = found.task.outputs, task.outputs
        if ours > theirs or (ours < theirs and _TASKS[task.name] != "multiclass"):  # some classes may not occur
            raise DataError(
                f"{found.origin}: its labels need {ours} outputs; the model has {theirs}.",
                "Give the targets that the model was trained on, or leave them out.",
            )
    return found


def _atoms(fitted: FittedGraphs, store: GraphStore) -> list[np.ndarray] | None:
    """Atomic numbers of the nodes, graph by graph, where they are atoms; from 119 on the element is unknown."""
    if fitted.reader.nodes.kind != "atom":
        return None
    return np.split(store.nodes[:, 0].numpy() + 1, store.node_offsets[1:-1].numpy())
