"""The network in which DARTS-GT searches: every layer a mixture of all candidates, and how its two halves learn.

Paper and code are those of `graphs.darts_gt`. All layers are searched at once; weights learn on one part of the
training set, the logits of the mixtures on the other, a step each in turn, first order.

Two modes. "reference" is what the code does: batches of both parts in pairs until the shorter part ends; the logits'
step updates batch norm statistics; L2 of 1e-3 on the logits, which Adam rescales to full steps where their gradient
is small; their gradient is part of the norm that the weights' gradients are clipped by. "robust", ours and the
default: no batch is left out, statistics are frozen in the logits' step, no L2 on logits and a cosine decay of their
rate, only weights are clipped, and the logits rest while the weights warm up on equal shares.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from .architecture import Architecture
from .darts_gt import DartsGTConfig, GraphDataShape, GraphTransformer, norm
from .graph_batch import GraphBatch, GraphError
from .graph_context import GraphContext
from .graph_operators import OPERATORS, PUBLISHED, check_operators

Mode = Literal["robust", "reference"]
MixtureNorm = Literal["global", "none"]
Schedule = Literal["joint", "sequential"]

CHOICES = {"mode": Mode, "mixture_norm": MixtureNorm, "schedule": Schedule}
MIXTURE_DROPOUT = 0.3
LOGITS = ".structure.alpha"  # how the names of the logits end
REFERENCE_LOGIT_DECAY = 1e-3
PATIENCE, FACTOR = 10, 0.5  # of the weights' rate, on the loss over the logits' part


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search. Raises `GraphError` for what cannot be searched."""

    mode: Mode = "robust"
    candidates: tuple[str, ...] = PUBLISHED
    groups: tuple[int, ...] = ()  # how many layers in a row share one choice; empty: each has its own
    epochs: int = 30
    split: float = 0.6  # share of the training graphs that weights learn on; logits learn on the others
    weight_rate: float = 2.5e-3
    weight_decay: float = 3e-4
    logit_rate: float = 4e-4  # moves a logit by no more a step
    clip: float = 5.0  # norm of the weights' gradients
    logit_clip: float | None = None  # robust only, as all that follow
    warmup: float = 0.2  # share of the epochs in which shares are equal
    temperature: float = 1.0  # of the softmax at the end, from 1 at the start
    cost: float = 0.0  # loss a parameter of the operators, by their shares
    schedule: Schedule = "joint"  # "sequential": one layer after the other, those behind it on equal shares
    mixture_norm: MixtureNorm = "global"
    separate_norms: bool = False  # a batch norm for each candidate instead of one for all
    min_margin: float = 0.01  # layers decided by less are undecided
    min_evidence: float = 3.0  # and so are layers of less evidence, in deviations of a standard normal
    fallback: str | None = None  # the operator of undecided layers; None: the most probable one

    def __post_init__(self) -> None:
        check_operators(self.candidates, "search.candidates")
        if len(set(self.candidates)) != len(self.candidates) or len(self.candidates) < 2:
            raise GraphError(
                f"search.candidates names {', '.join(self.candidates) or 'nothing'}; two or more are needed.",
                f"Choose among {', '.join(OPERATORS)}.",
            )
        if self.fallback is not None and self.fallback not in self.candidates:
            raise GraphError(
                f'search.fallback "{self.fallback}" is no candidate.',
                f"Set it to {' or '.join(self.candidates)}.",
            )
        for name, kinds in CHOICES.items():
            if getattr(self, name) not in get_args(kinds):
                raise GraphError(
                    f'search.{name} "{getattr(self, name)}" is not known.',
                    f"Set search.{name} to {' or '.join(get_args(kinds))}.",
                )
        if not 0.0 < self.split < 1.0:
            raise GraphError(f"search.split is {self.split}; it must be between 0 and 1.", "Set search.split=0.6.")
        if not 0.0 <= self.warmup < 1.0:
            raise GraphError(
                f"search.warmup is {self.warmup}; it must be at least 0 and below 1.", "Set search.warmup=0.2."
            )
        if self.schedule == "sequential" and any(size > 1 for size in self.groups):
            raise GraphError(
                "search.schedule sequential decides layer by layer; search.groups lets layers share one choice.",
                "Set search.schedule=joint, or leave search.groups empty.",
            )
        if self.epochs < 1:
            raise GraphError(f"search.epochs is {self.epochs}; it must be at least 1.", "Set search.epochs=30.")

    @property
    def robust(self) -> bool:
        """Whether the search does not follow the authors' code to the letter."""
        return self.mode == "robust"

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which the logits rest; at least one is left for them."""
        return min(math.ceil(self.warmup * self.epochs), self.epochs - 1) if self.robust else 0


class Mixture(nn.Module):
    """Structure for the keys and values of a layer: all candidates, each normed, mixed by softmax(alpha).

    With `mixture_norm="global"`, as published, all entries of all candidates' results are standardised by one mean and
    one deviation, in evaluation too: a graph's result then depends on the others of its batch.
    """

    def __init__(self, config: DartsGTConfig, search: SearchConfig, alpha: nn.Parameter) -> None:
        super().__init__()
        self.operators = nn.ModuleList(
            OPERATORS[name](config.width, config.heads, config.dropout) for name in search.candidates
        )
        self.norm: nn.Module = norm(config.norm, config.width)
        if search.separate_norms:
            self.norm = nn.ModuleList(norm(config.norm, config.width) for _ in search.candidates)
        self.standardise = search.mixture_norm == "global"
        self.dropout = nn.Dropout(MIXTURE_DROPOUT)
        self.alpha = alpha
        self.temperature = 1.0
        self.fixed: Tensor | None = None  # shares that hold instead of the softmax
        self.sizes = [sum(weight.numel() for weight in operator.parameters()) for operator in self.operators]

    def shares(self) -> Tensor:
        """The share of each candidate, (M,)."""
        if self.fixed is not None:
            return self.fixed
        return torch.softmax(self.alpha / self.temperature, dim=0)

    def results(self, nodes: Tensor, context: GraphContext) -> Tensor:
        """What each candidate makes of the nodes, normed and standardised, (M, N, D)."""
        norms = self.norm if isinstance(self.norm, nn.ModuleList) else itertools.repeat(self.norm)
        results = torch.stack(
            [
                normed(operator(nodes, context.edges, context.edge_states))
                for operator, normed in zip(self.operators, norms, strict=False)
            ]
        )
        return (results - results.mean()) / (results.std() + 1e-8) if self.standardise else results

    def forward(self, nodes: Tensor, context: GraphContext) -> Tensor:
        """The mixture, (N, D)."""
        results: Tensor = self.dropout(self.results(nodes, context))
        mixed: Tensor = torch.tensordot(self.shares(), results, dims=1)
        return mixed


class Supernet(GraphTransformer):
    """The network of the search. `config.architecture` is not read."""

    def __init__(self, shape: GraphDataShape, config: DartsGTConfig, search: SearchConfig) -> None:
        groups = search.groups or (1,) * config.layers
        if sum(groups) != config.layers or min(groups) < 1:
            raise GraphError(
                f"search.groups {':'.join(map(str, groups))} does not add up to model.layers {config.layers}.",
                "Leave search.groups empty for one choice a layer.",
            )
        logits = [nn.Parameter(torch.randn(len(search.candidates)) * 1e-3) for _ in groups]
        mixtures = [
            Mixture(config, search, alpha) for alpha, size in zip(logits, groups, strict=True) for _ in range(size)
        ]
        super().__init__(shape, config, mixtures, source_dropout=0.0)
        self.search = search

    @property
    def mixtures(self) -> list[Mixture]:
        """The mixture of each layer."""
        return [cast(Mixture, layer.structure) for layer in self.each_layer()]

    def logits(self) -> list[nn.Parameter]:
        """What the choice is made by: one (M,) a group of layers."""
        return [weight for name, weight in self.named_parameters() if name.endswith(LOGITS)]

    def weights(self) -> list[nn.Parameter]:
        """Every other parameter."""
        return [weight for name, weight in self.named_parameters() if not name.endswith(LOGITS)]

    def probabilities(self) -> Tensor:
        """softmax(alpha) of each layer, (L, M) float64; shares that are fixed for now are not in it."""
        return torch.stack([mixture.alpha.detach().double().softmax(dim=0) for mixture in self.mixtures])

    def cost(self) -> Tensor:
        """Parameters of the operators, by their shares."""
        return torch.stack(
            [mixture.shares() @ mixture.alpha.new_tensor(mixture.sizes) for mixture in self.mixtures]
        ).sum()


class Optimizers(NamedTuple):
    """One for the weights and one for the logits; no parameter is in both."""

    weights: torch.optim.Adam
    logits: torch.optim.Adam


def optimizers(net: Supernet) -> Optimizers:
    """Adam for the weights and for the logits, as published but for the logits' L2, which robust mode leaves out."""
    search = net.search
    return Optimizers(
        torch.optim.Adam(net.weights(), lr=search.weight_rate, weight_decay=search.weight_decay),
        torch.optim.Adam(
            net.logits(),
            lr=search.logit_rate,
            betas=(0.5, 0.999),
            weight_decay=0.0 if search.robust else REFERENCE_LOGIT_DECAY,
        ),
    )


def logit_step(net: Supernet, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Tensor:
    """One step of the logits alone; `loss` runs the network on a batch of their part. Gives the loss."""
    search, logits = net.search, net.logits()
    with frozen_statistics(net, search.robust):
        total = loss()
    penalised = total + search.cost * net.cost() if search.robust and search.cost else total
    optimizer.zero_grad()
    torch.autograd.backward(penalised, inputs=logits)
    if search.robust and search.logit_clip is not None:
        nn.utils.clip_grad_norm_(logits, search.logit_clip)
    optimizer.step()
    return total.detach()


def weight_step(net: Supernet, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Tensor:
    """One step of the weights alone; `loss` runs the network on a batch of their part. Gives the loss.

    Called after `logit_step`: in reference mode the logits' gradient of both counts when gradients are clipped.
    """
    search, weights = net.search, net.weights()
    total = loss()
    optimizer.zero_grad()
    if search.robust:
        torch.autograd.backward(total, inputs=weights)
        nn.utils.clip_grad_norm_(weights, search.clip)
    else:
        total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), search.clip)
    optimizer.step()
    return total.detach()


@contextmanager
def frozen_statistics(net: nn.Module, frozen: bool = True) -> Iterator[None]:
    """While open, batch norms in training norm by the batch, and do not follow it with their running statistics."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)] if frozen else []
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True


def begin_epoch(net: Supernet, optimizer: torch.optim.Optimizer, epoch: int) -> bool:
    """Set shares, temperature and the logits' rate for an epoch, counted from 0. Gives whether the logits learn in it.

    In reference mode nothing changes and they always do.
    """
    search = net.search
    if not search.robust:
        return True
    learning, at = search.epochs - search.warmup_epochs, epoch - search.warmup_epochs
    progress = max(at, 0) / max(1, learning - 1)
    for group in optimizer.param_groups:
        group["lr"] = search.logit_rate * 0.5 * (1 + math.cos(math.pi * max(at, 0) / learning))
    mixtures = net.mixtures
    turn = max(at, 0) * len(mixtures) // learning if search.schedule == "sequential" else None
    for layer, mixture in enumerate(mixtures):
        mixture.temperature = 1.0 + (search.temperature - 1.0) * progress
        if at < 0 or (turn is not None and layer > turn):
            mixture.fixed = torch.full_like(mixture.alpha, 1 / len(mixture.alpha)).detach()
        elif turn is not None and layer < turn:
            mixture.fixed = one_hot(int(mixture.alpha.argmax()), mixture)
        else:
            mixture.fixed = None
    return at >= 0


def one_hot(choice: int, mixture: Mixture) -> Tensor:
    """Shares of a mixture that give all to one candidate."""
    shares = torch.zeros_like(mixture.alpha).detach()
    shares[choice] = 1.0
    return shares


def split_graphs(count: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers 0 … count-1 in two random parts, the first of floor(share count)."""
    order = torch.randperm(count, generator=generator)
    first = int(share * count)
    return order[:first], order[first:]


Item = TypeVar("Item", covariant=True)


class Batches(Protocol[Item]):
    """Batches that can be gone through again, a data loader or a list."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Item]: ...


def pairs(first: Batches[Any], second: Batches[Any], mode: Mode) -> Iterator[tuple[Any, Any]]:
    """Batches of both in pairs for an epoch: until the shorter one ends, or robust, with the shorter one from anew."""
    if mode == "reference":
        return zip(first, second, strict=False)
    steps = max(len(first), len(second)) if len(first) and len(second) else 0
    return itertools.islice(zip(_again(first), _again(second), strict=False), steps)


def _again(batches: Batches[Any]) -> Iterator[Any]:
    while True:
        yield from batches


Batch = tuple[GraphBatch, Tensor]  # graphs and their targets
Loss = Callable[[Tensor, Tensor], Tensor]  # of outputs and targets


@torch.no_grad()
def mean_loss(net: GraphTransformer, batches: Batches[Batch], loss: Loss) -> float:
    """The loss in evaluation mode, mean over graphs."""
    net.eval()
    total = graphs = 0.0
    for batch, target in batches:
        size = len(batch.offsets) - 1
        total += float(loss(net(batch), target)) * size
        graphs += size
    return total / max(graphs, 1.0)


def excess(outputs: Tensor, target: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
    """How much larger the loss of outputs is where the rows of the targets have changed places at random."""
    order = torch.randperm(len(target), generator=generator).to(target.device)
    return loss(outputs, target[order]) - loss(outputs, target)


def asked(net: Supernet, batches: Iterable[Any], more: Callable[[Any, torch.Generator], Tensor]) -> Tensor:
    """How much more each batch's own targets ask for each candidate than the same targets shuffled do, (B, L, M).

    `more` runs the network on a batch and gives the loss on its targets, shuffled, less that on its own, as `excess`
    does. A batch takes half as long as a step of the search.

    Ours. Both are gradients of the logits, in evaluation mode, with the weights as they are. Alone, the gradient of
    the own targets tells nothing: where there is nothing to learn, it still asks at every batch for the operator that
    has learned less noise, and Adam makes whole steps of it. Shuffled targets ask for that one just as well, so the
    difference has mean 0 over batches, whatever the weights have become, unless an operator knows of the targets.
    Fixed shares are set free for this; the random state is left alone.
    """
    net.eval()
    generator = torch.Generator()  # of its own, and the same in each call
    mixtures = net.mixtures
    logits = [mixture.alpha for mixture in mixtures]
    fixed = [mixture.fixed for mixture in mixtures]
    differences = []
    try:
        for mixture in mixtures:
            mixture.fixed = None
        for batch in batches:
            differences.append(torch.stack(torch.autograd.grad(more(batch, generator), logits)))
    finally:
        for mixture, shares in zip(mixtures, fixed, strict=True):
            mixture.fixed = shares
    return torch.stack(differences) if differences else net.probabilities().new_zeros(0, *net.probabilities().shape)


def search_architecture(
    net: Supernet,
    weight_batches: Batches[Batch],
    logit_batches: Batches[Batch],
    loss: Loss,
    max_seconds: float = math.inf,
) -> Architecture:
    """Search, and choose the most probable operator of each layer. Stops after the epoch that reaches `max_seconds`."""
    start, search = time.monotonic(), net.search
    weights, logits = optimizers(net)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(weights, factor=FACTOR, patience=PATIENCE)
    trajectory = []
    for epoch in range(search.epochs):
        learning = begin_epoch(net, logits, epoch)
        net.train()
        for (batch, target), (held_batch, held_target) in pairs(weight_batches, logit_batches, search.mode):
            if learning:
                logit_step(net, logits, lambda b=held_batch, t=held_target: loss(net(b), t))  # type: ignore[misc]
            weight_step(net, weights, lambda b=batch, t=target: loss(net(b), t))  # type: ignore[misc]
        schedule.step(mean_loss(net, logit_batches, loss))
        trajectory.append(net.probabilities())
        if time.monotonic() - start >= max_seconds:
            break
    return Architecture.of(
        net.probabilities(),
        search.candidates,
        asked=asked(net, logit_batches, lambda batch, draw: excess(net(batch[0]), batch[1], loss, draw)),
        min_margin=search.min_margin,
        min_evidence=search.min_evidence,
        fallback=search.fallback,
        trajectory=trajectory,
        seconds=time.monotonic() - start,
    )


def choose_by_removal(net: Supernet, held_out: Callable[[], float], tune: Callable[[], None]) -> tuple[str, ...]:
    """The operator of each layer whose removal from the trained mixture raises the held-out loss most; ours to offer.

    `held_out` gives the loss of the network as it stands, `tune` trains its weights a little; it is called after each
    layer is decided. Layers are decided from the first to the last, and stay fixed. Follows Wang et al. 2021,
    https://arxiv.org/abs/2108.04392.
    """
    chosen = []
    for mixture in net.mixtures:
        shares = mixture.shares().detach()
        losses = []
        for choice in range(len(shares)):
            rest = shares.clone()
            rest[choice] = 0.0
            mixture.fixed = rest / rest.sum()
            losses.append(held_out())
        best = max(range(len(losses)), key=losses.__getitem__)
        mixture.fixed = one_hot(best, mixture)
        chosen.append(net.search.candidates[best])
        tune()
    return tuple(chosen)
