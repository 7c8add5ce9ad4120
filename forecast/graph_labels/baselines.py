"""What a network of graphs has to beat: one answer for all, and a linear model on summaries of graphs or nodes."""

from collections.abc import Callable

import torch
from torch import Tensor

from graphs.graph_store import GraphStore
from graphs.graph_tasks import GraphTask

from .batches import Prepared
from .fitted import Reader

PRIOR, LINEAR = "prior", "linear"
BASELINES = (PRIOR, LINEAR)
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # of squared weights; the validation part chooses
_STEPS = 100  # of L-BFGS, at most
_SURE = 1e-6  # from 0 and 1, of a share

Rule = Callable[[GraphStore], Tensor]  # outputs on the scale of the targets


def baselines(prepared: Prepared) -> dict[str, Rule]:
    """The rules in the order of `BASELINES`, known from the training part."""
    return {PRIOR: _prior(prepared), LINEAR: _linear(prepared)}


def _prior(prepared: Prepared) -> Rule:
    """One answer for all: the median of values, which no constant beats in absolute error; else the shares."""
    task, known = prepared.task, prepared.parts["train"].targets
    if task.name == "graph_regression":
        answer = known.nanmedian(dim=0).values
    elif task.name in ("graph_binary", "graph_multilabel"):
        answer = torch.logit(known.nanmean(dim=0).nan_to_num(0.5), _SURE)
    else:
        classes = known.flatten()
        shares = torch.bincount(classes[~classes.isnan()].long(), minlength=max(2, task.outputs)) / len(classes)
        answer = torch.logit(shares[1:], _SURE) if task.outputs == 1 else shares.clamp(min=_SURE).log()
    return lambda store: answer.expand(len(store.nodes) if task.of_nodes else len(store), -1)


def _linear(prepared: Prepared) -> Rule:
    """The loss of the task at its least over linear maps of `summaries`, or least squares for values.

    The penalty on the weights is the one that does best on the validation part.
    """
    task, train, validation = prepared.task, prepared.parts["train"], prepared.parts["validation"]
    known = summaries(train, prepared.reader, of_nodes=task.of_nodes)
    centre, deviation = known.mean(dim=0), known.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-9, deviation, torch.inf)  # what never varies says nothing

    def inputs(store: GraphStore) -> Tensor:
        columns = (summaries(store, prepared.reader, of_nodes=task.of_nodes) - centre) / scale
        return torch.cat((columns.clamp(-10, 10), columns.new_ones(len(columns), 1)), dim=1)

    learned = prepared.targets.learned(train.targets)
    x, held = inputs(train), inputs(validation)
    weights = None
    best, least = torch.zeros(x.shape[1], task.outputs, dtype=x.dtype), torch.inf
    for penalty in _PENALTIES:
        if task.name == "graph_regression":
            weights = _least_squares(x, learned, penalty)
        else:
            weights = _descended(task, x, learned, penalty, weights)
        loss = float(task.loss(held @ weights, prepared.targets.learned(validation.targets)))
        if loss < least:
            best, least = weights, loss
    return lambda store: prepared.targets.restored((inputs(store) @ best).float())


def _least_squares(x: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Weights (C, T) with the least squared error and penalty; the last column of `x` is the constant."""
    ridge = penalty * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    ridge[-1, -1] = 1e-9
    found = []
    for column in targets.to(x.dtype).unbind(dim=1):
        seen = ~column.isnan()
        here = x[seen]
        found.append(torch.linalg.solve(here.T @ here + ridge, here.T @ column[seen]))
    return torch.stack(found, dim=1)


def _descended(task: GraphTask, x: Tensor, targets: Tensor, penalty: float, start: Tensor | None) -> Tensor:
    """Weights (C, outputs) with the least loss and penalty, from `start`."""
    weights = torch.zeros(x.shape[1], task.outputs, dtype=x.dtype) if start is None else start.clone()
    weights.requires_grad_()
    solver = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-7)

    def closure() -> Tensor:
        solver.zero_grad()
        loss = task.loss(x @ weights, targets) + penalty * weights[:-1].square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weights.detach()


def summaries(store: GraphStore, reader: Reader, *, of_nodes: bool) -> Tensor:
    """Float64 columns that tell of each graph, (G, S), or of each node, (N, S), without a look at its structure.

    Of a graph: means of the features of its nodes and edges, codes as shares of each, and its numbers of nodes and
    edges. Of a node: its features, the means over the nodes that edges bring in, their number and their share.
    """
    graph, size = torch.repeat_interleave(torch.arange(len(store)), store.sizes), store.sizes.double()
    links = store.edge_offsets.diff()
    if of_nodes:
        nodes = _columns(store.nodes, reader.nodes.tables)
        source, target = store.edges + torch.repeat_interleave(store.node_offsets[:-1], links)
        entering = torch.bincount(target, minlength=len(nodes)).double()
        around = torch.zeros_like(nodes).index_add_(0, target, nodes[source]) / entering.clamp(min=1)[:, None]
        own = size[graph]
        return torch.cat((nodes, around, _two(entering, entering / own), own.log()[:, None]), dim=1)
    of_edge = torch.repeat_interleave(torch.arange(len(store)), links)
    node_sums = _sums(store.nodes, reader.nodes.tables, graph, len(store))
    edge_sums = _sums(store.edge_features, reader.edges.tables, of_edge, len(store))
    means = (node_sums / size[:, None], edge_sums / links.clamp(min=1)[:, None])
    return torch.cat((*means, _two(size, links.double()).log1p()), dim=1)


def _sums(values: Tensor, tables: tuple[int, ...], group: Tensor, groups: int) -> Tensor:
    """The sums over each group of `_columns(values, tables)`, which is not made."""
    if not tables:
        return torch.zeros(groups, values.shape[1], dtype=torch.float64).index_add_(0, group, values.double())
    place = group[:, None] * sum(tables) + values.long() + _first(tables)
    return torch.bincount(place.flatten(), minlength=groups * sum(tables)).double().view(groups, -1)


def _two(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack((one, other), dim=1)


def _columns(values: Tensor, tables: tuple[int, ...]) -> Tensor:
    """Features as float64, each column of codes as one column a code."""
    if not tables:
        return values.double()
    wide = torch.zeros(len(values), sum(tables), dtype=torch.float64)
    return wide.scatter_(1, values.long() + _first(tables), 1.0)


def _first(tables: tuple[int, ...]) -> Tensor:
    """Where the codes of each column begin among those of all."""
    return torch.tensor((0, *tables[:-1])).cumsum(0)
