"""Which heads and nodes a prediction rests on: the error without each head, and where the heads that count look.

Section IV of the paper on DARTS-GT (`graphs.darts_gt` names it) and its code. The deviation of a head is the error of
a graph's prediction without it, minus the error with it: positive where the head helps. Top heads are those that help
most, top nodes of a head the tenth of the nodes that its attention weighs most.

The reference choices are the authors': errors that are 0 or 1 for classes, and nodes ranked as keys in dense, as
queries in sparse attention. Ours, the defaults: losses instead of errors, keys in both, deviations of predictions for
graphs without labels, a specialization that can be compared across tasks, a focus corrected for chance, and a mean
over its nodes where a graph has an answer for each; the code takes every node for a graph.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .darts_gt import DartsGT
from .graph_batch import GraphBatch, GraphError
from .graph_context import GraphContext
from .head_removal import Removal, remove_heads

Task = Literal["regression", "binary", "multilabel", "multiclass"]
ErrorKind = Literal["soft", "reference"]
Rank = Literal["keys", "queries", "reference"]

NODE_SHARE = 10  # one node in so many is a top node
FEW_NODES = 2 * NODE_SHARE  # smaller graphs have one top node a head, and a focus made of zeros and ones


class Explanation(NamedTuple):
    """What G predictions rest on: L layers of H heads; heads are numbered layer · H + head."""

    deviation: Tensor  # (G, L, H) error without the head minus error with it
    specialization: Tensor  # (G,) standard deviation of `deviation`: high where few heads matter
    relative_specialization: Tensor  # (G,) the same over the mean size of a deviation
    focus: Tensor  # (G,) mean Jaccard index of the top heads' top nodes, 0 with fewer than two top heads
    chance_focus: Tensor  # (G,) focus corrected for chance: 0 of random sets, 1 of equal ones
    correlation: Tensor  # (G,) mean correlation of the top heads' attention
    top_heads: Tensor  # (G, k) the most helpful first, -1 where there are no more
    top_nodes: Tensor  # (G, k, t) numbers within the graph, the heaviest first, -1 where there are no more
    importance: Tensor  # (N,) attention of helpful heads to each node, by how they help; adds up to 1 a graph, or is 0
    self_share: Tensor  # (G, k) the part of a top head's attention that nodes give to themselves
    few_nodes: Tensor  # (G,) bool: focus is a mean of zeros and ones


def explain(
    net: DartsGT,
    batch: GraphBatch,
    targets: Tensor | None = None,
    *,
    task: Task = "regression",
    k: int = 3,
    error: ErrorKind = "soft",
    rank: Rank = "keys",
    copies: int | None = None,
) -> Explanation:
    """Explain the predictions of a batch, in evaluation mode.

    `targets` (R, outputs), or (R,) of classes or of a single output, for the R graphs or nodes that the network
    answers for, NaN where unknown; without them a deviation is how far the prediction moves. `copies` bounds the memory
    (`remove_heads`). Raises `GraphError` for k below 2, with which focus and correlation mean nothing.
    """
    if k < 2:
        raise GraphError(f"k is {k}; top heads are compared with each other.", "Ask for k=2 or more.")
    removal = remove_heads(net, batch, copies)
    _, deviation = deviations(removal, errors_of(removal, targets, task, error))
    return explanation(deviation, attention_entries(removal.weights, removal.context), removal.context, k, rank)


Errors = Callable[[Tensor], Tensor]  # of rows, (…, R) of outputs (…, R, outputs)


def errors_of(removal: Removal, targets: Tensor | None, task: Task, error: ErrorKind = "soft") -> Errors:
    """The error of a task against `targets`; without them, how far outputs are from those with all heads."""
    if targets is None:
        return lambda outputs: (outputs - removal.outputs).abs().mean(dim=-1)
    return partial(_against, ERRORS[error, task], targets)


def deviations(removal: Removal, errors: Errors) -> tuple[Tensor, Tensor]:
    """Error of each graph (G,) with all heads, and deviation of each head (G, L, H), means over a graph's rows."""
    base = errors(removal.outputs)
    same = (removal.without == removal.outputs).all(dim=-1)  # (L, H, R): no rounding of equal outputs counts
    moved = (errors(removal.without) - base).masked_fill(same, 0.0)
    graphs = len(removal.context.sizes)
    rows = torch.bincount(removal.row_graph, minlength=graphs)
    whole = base.new_zeros(graphs).index_add(0, removal.row_graph, base)
    total = moved.new_zeros(*moved.shape[:2], graphs).index_add(2, removal.row_graph, moved)
    return (whole / rows).double(), (total / rows).permute(2, 0, 1).double()


class Entries(NamedTuple):
    """Attention as T cells of the graphs' matrices, of all layers and heads: L · H columns."""

    shares: Tensor  # (T, L · H) float64, which add up to 1 over the keys of a query
    key: Tensor  # (T,)
    query: Tensor  # (T,)
    dense: bool  # whether every pair of nodes of a graph is a cell


def attention_entries(weights: list[Tensor], context: GraphContext) -> Entries:
    """The cells of attention weights, sparse (P, H) or dense (G, H, n, n), one a layer; a pair's edges are added."""
    nodes = len(context.graph)
    if context.present.numel():
        number = torch.zeros_like(context.present, dtype=torch.int64).flatten()
        number = number.index_copy(0, context.place, torch.arange(nodes, device=number.device))
        number = number.view_as(context.present)
        real = context.present[:, :, None] & context.present[:, None, :]
        query = number[:, :, None].expand_as(real)[real]
        key = number[:, None, :].expand_as(real)[real]
        shares = torch.cat([layer.permute(0, 2, 3, 1)[real] for layer in weights], dim=1)
        return Entries(shares.double(), key, query, True)
    key, query = context.attention_edges
    pairs, place = torch.unique(key * nodes + query, return_inverse=True)
    shares = torch.cat(weights, dim=1).double()
    shares = shares.new_zeros(len(pairs), shares.shape[1]).index_add(0, place, shares)
    return Entries(shares, pairs // max(nodes, 1), pairs % max(nodes, 1), False)


def explanation(deviation: Tensor, entries: Entries, context: GraphContext, k: int, rank: Rank) -> Explanation:
    """The explanation of deviations (G, L, H) and attention."""
    flat = deviation.flatten(1)  # (G, L · H)
    sizes, graph = context.sizes, context.graph
    by_key = rank == "keys" or (rank == "reference" and entries.dense)
    shares = entries.shares if by_key else _by_key(entries, len(graph))
    salience = shares.new_zeros(len(graph), shares.shape[1])
    salience = salience.index_add(0, entries.key if by_key else entries.query, shares)

    heads = top_heads(flat, k)
    known, picked = heads >= 0, heads.clamp(min=0)
    entry_graph = graph[entries.key]
    top_shares = shares.gather(1, picked[entry_graph])  # (T, k)
    nodes = top_nodes(salience.gather(1, picked[graph]), graph, sizes)
    nodes = nodes.masked_fill(~known[..., None], -1)

    jaccard = _jaccard(nodes, sizes)
    expected = chance_jaccard(sizes)[:, None, None]
    corrected = torch.where(expected < 1, (jaccard - expected) / torch.where(expected < 1, 1 - expected, 1.0), 0.0)
    helps = flat.clamp(min=0)
    weighed = (salience * helps[graph]).sum(dim=1)  # (N,)
    whole = weighed.new_zeros(len(sizes)).index_add(0, graph, weighed)
    given = top_shares.new_zeros(len(sizes), heads.shape[1])
    own = (entries.key == entries.query).to(top_shares.dtype)
    given_to_self = given.index_add(0, entry_graph, top_shares * own[:, None])
    given = given.index_add(0, entry_graph, top_shares)
    return Explanation(
        deviation=deviation,
        specialization=specialization(flat),
        relative_specialization=specialization(flat) / (flat.abs().mean(dim=1) + 1e-12),
        focus=_mean_of_pairs(jaccard, known),
        chance_focus=_mean_of_pairs(corrected, known),
        correlation=_mean_of_pairs(_correlations(top_shares, entry_graph, sizes), known),
        top_heads=heads,
        top_nodes=nodes,
        importance=weighed / torch.where(whole > 0, whole, 1.0)[graph],
        self_share=(given_to_self / torch.where(given > 0, given, 1.0)).masked_fill(~known, 0.0),
        few_nodes=sizes < FEW_NODES,
    )


def specialization(deviation: Tensor) -> Tensor:
    """Standard deviation over heads, (G,) of (G, heads), with divisor `heads`; exactly 0 of equal deviations."""
    centred = deviation - deviation[:, :1]
    return centred.std(dim=1, correction=0)


def top_heads(deviation: Tensor, k: int) -> Tensor:
    """The k heads that help most, (G, k) of (G, heads): then those that harm least; -1 for want of others.

    Heads whose deviation is exactly 0 are never chosen.
    """
    k = min(k, deviation.shape[1])
    found, heads = deviation.masked_fill(deviation == 0, -torch.inf).sort(dim=1, descending=True, stable=True)
    return heads.masked_fill(found == -torch.inf, -1)[:, :k]


def top_nodes(salience: Tensor, graph: Tensor, sizes: Tensor) -> Tensor:
    """The tenth of each graph's nodes with the largest salience, one at least: (G, k, t) of (N, k).

    Numbers within the graph, the largest first, of equal ones the later; -1 where a graph has fewer than others.
    """
    first = sizes.cumsum(0) - sizes
    count = top_count(sizes)
    found = graph.new_full((len(sizes), salience.shape[1], int(count.max()) if len(count) else 0), -1)
    for head, column in enumerate(salience.unbind(1)):
        order = column.argsort(stable=True)
        order = order[graph[order].argsort(stable=True)]  # graph by graph, the smallest first
        from_end = (first + sizes)[graph] - 1 - torch.arange(len(order), device=order.device)
        chosen = from_end < count[graph]
        found[graph[chosen], head, from_end[chosen]] = (order - first[graph])[chosen]
    return found


def top_count(sizes: Tensor) -> Tensor:
    """How many nodes of a graph are top nodes."""
    return (sizes // NODE_SHARE).clamp(min=1)


def chance_jaccard(sizes: Tensor) -> Tensor:
    """The Jaccard index to be expected of two random sets of top nodes, (G,): the mean over the hypergeometric law."""
    n, t = sizes.double()[:, None], top_count(sizes).double()[:, None]
    shared = torch.arange(int(t.max()) + 1 if len(t) else 1, device=sizes.device).double()
    possible = (shared <= t) & (shared >= 2 * t - n)

    def log_choose(whole: Tensor, part: Tensor) -> Tensor:
        return torch.lgamma(whole + 1) - torch.lgamma(part + 1) - torch.lgamma((whole - part).clamp(min=0) + 1)

    rest = (t - shared).clamp(min=0)
    chance = torch.exp(log_choose(t, shared) + log_choose(n - t, rest) - log_choose(n, t))
    return (chance * shared / (2 * t - shared)).masked_fill(~possible, 0.0).sum(dim=1)


def _by_key(entries: Entries, nodes: int) -> Tensor:
    """Shares that add up to 1 over the queries of a key."""
    total = entries.shares.new_zeros(nodes, entries.shares.shape[1]).index_add(0, entries.key, entries.shares)
    return entries.shares / torch.where(total > 0, total, 1.0)[entries.key]


def _jaccard(nodes: Tensor, sizes: Tensor) -> Tensor:
    """Jaccard indices of the sets of top nodes, (G, k, k) of (G, k, t)."""
    same = (nodes[:, :, None, :, None] == nodes[:, None, :, None, :]) & (nodes >= 0)[:, :, None, :, None]
    shared = same.sum(dim=(3, 4)).double()
    return shared / (2 * top_count(sizes)[:, None, None] - shared)


def _correlations(shares: Tensor, graph: Tensor, sizes: Tensor) -> Tensor:
    """Correlations of the matrices of heads, (G, k, k) of cells (T, k), absent ones 0; 0 of constant matrices."""
    graphs, k = len(sizes), shares.shape[1]
    cells = sizes.double()[:, None] ** 2
    mean = shares.new_zeros(graphs, k).index_add(0, graph, shares) / cells
    products = (shares[:, :, None] * shares[:, None, :]).flatten(1)
    products = shares.new_zeros(graphs, k * k).index_add(0, graph, products).view(graphs, k, k)
    covariance = products - cells[..., None] * mean[:, :, None] * mean[:, None, :]
    size = products.diagonal(dim1=1, dim2=2)
    spread = covariance.diagonal(dim1=1, dim2=2)
    spread = torch.where(spread > 1e-10 * size, spread, 0.0).sqrt()  # what is left of a constant is rounding
    scale = spread[:, :, None] * spread[:, None, :]
    return torch.where(scale > 0, covariance / torch.where(scale > 0, scale, 1.0), 0.0)


def _mean_of_pairs(values: Tensor, known: Tensor) -> Tensor:
    """Mean of (G, k, k) over pairs of different known heads; 0 where there are fewer than two."""
    pairs = (known[:, :, None] & known[:, None, :]).triu(diagonal=1)
    return (values * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


def _against(error: Callable[[Tensor, Tensor], Tensor], targets: Tensor, outputs: Tensor) -> Tensor:
    return error(outputs, targets)


def _like(targets: Tensor, outputs: Tensor) -> Tensor:
    return targets.view(outputs.shape[-2:]).to(outputs.dtype)


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - _like(targets, outputs)).abs().nanmean(dim=-1)


def _probability(outputs: Tensor, targets: Tensor) -> Tensor:
    return (torch.sigmoid(outputs) - _like(targets, outputs)).abs().mean(dim=-1)


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = _like(targets, outputs)
    losses = F.softplus(outputs) - outputs * wanted.nan_to_num()
    return losses.masked_fill(wanted.isnan(), 0.0).sum(dim=-1) / (~wanted.isnan()).sum(dim=-1).clamp(min=1)


def _wrong_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = _like(targets, outputs)
    wrong = ((outputs > 0) != (wanted > 0.5)) & ~wanted.isnan()
    return wrong.sum(dim=-1).double() / (~wanted.isnan()).sum(dim=-1).clamp(min=1)


def _class_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = targets.view(-1, 1)
    classes = wanted.nan_to_num().long().expand(*outputs.shape[:-1], 1)
    losses = -outputs.log_softmax(dim=-1).gather(-1, classes)
    return losses.masked_fill(wanted.isnan(), 0.0).squeeze(-1)


def _wrong_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) != targets.view(-1)).double()


# The error of each row, (…, R) of outputs (…, R, outputs) and targets.
ERRORS: dict[tuple[ErrorKind, Task], Callable[[Tensor, Tensor], Tensor]] = {
    ("soft", "regression"): _absolute,
    ("soft", "binary"): _cross_entropies,
    ("soft", "multilabel"): _cross_entropies,
    ("soft", "multiclass"): _class_losses,
    ("reference", "regression"): _absolute,
    ("reference", "binary"): _probability,
    ("reference", "multilabel"): _wrong_labels,
    ("reference", "multiclass"): _wrong_classes,
}
