"""Trains Todyformer on a file of events and ranks all destinations: `python tests/bench/link_training.py FILE`.

A plain loop, for choosing defaults and for figures beside the simple rules: 70 / 15 / 15 at time quantiles, batches of
200 events that share one window, the weights of the best validation MRR. Every event is ranked against all nodes, or
against all destinations with `--bipartite`, but its true ones. Settings of the network are `--set width=32 blocks=0`;
blocks=0 is the decoder without the encoder.
"""

import argparse
import ast
import math
import time

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graphs.evaluation import rank_links, separate_links
from graphs.events import EventStore, LinkBatch, split_at_quantiles, stretches
from graphs.history import PairHistory
from graphs.link_heads import binary_loss, softmax_loss
from graphs.metrics import reciprocal_rank
from graphs.negatives import AllDestinations, random_negatives
from graphs.neighbors import NeighborIndex
from graphs.pair_rules import batch_numbers, pair_recency, recency_then_popularity
from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig


def with_partners(batch: LinkBatch, near: Tensor, stands_for: float) -> tuple[LinkBatch, Tensor]:
    """The batch with `near` (B, k), of which -1 is absent, as further negatives, and the weights of all negatives.

    A drawn negative stands for `stands_for` candidates, a partner for itself; what is in twice counts once, and the
    destination itself not at all.
    """
    twice = torch.triu(near[:, :, None] == near[:, None, :], 1).any(2)
    drawn = torch.full(batch.negatives.shape, stands_for) * (batch.negatives[:, :, None] != near[:, None, :]).all(2)
    negatives = torch.cat((batch.negatives, near.masked_fill(twice, -1)), dim=1)
    weight = torch.cat((drawn, torch.ones(near.shape)), dim=1) * (negatives >= 0) * (negatives != batch.dst[:, None])
    return batch._replace(negatives=negatives, negative_src=batch.src[:, None].expand_as(negatives)), weight


class Ranker:
    """A network as a rule that ranks links, in eval mode and without gradients."""

    def __init__(self, net: Todyformer, history: History) -> None:
        self.net, self.history = net.eval(), history

    @torch.no_grad()
    def __call__(self, batch: LinkBatch) -> Tensor:
        return self.net(self.history.until(batch.time[0]), batch)


def rank(net: Todyformer, history: History, everyone: AllDestinations, first: int, end: int, every: int) -> float:
    parts = list(stretches(history.store, first, end))[::every]
    return reciprocal_rank(rank_links(Ranker(net, history), map(everyone, parts)))


def train(store: EventStore, config: TodyformerConfig, args: argparse.Namespace) -> None:
    first, second = split_at_quantiles(store)
    training = store[:first]
    everyone = AllDestinations(store, torch.unique(store.dst) if args.bipartite else torch.arange(store.nodes))
    pool = torch.unique(training.dst if args.bipartite else torch.cat((training.src, training.dst)))
    torch.manual_seed(args.seed)
    net = Todyformer(GraphShape.of(training, config.window), config)
    net.encoder.input.introduce(training)
    history, partners = History(store, config), NeighborIndex(store, "src" if args.bipartite else "both")
    optimiser = torch.optim.Adam(net.parameters(), lr=args.rate)
    parts = [part for part in stretches(store, 0, first) if part.cut]
    stands_for = len(pool) / args.negatives  # of the nodes that are no partners, each drawn one
    best, kept, began = (-1.0, -1), net.state_dict(), time.perf_counter()
    for epoch in range(args.epochs):
        order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(args.seed * 1000 + epoch)).tolist()
        net.train()
        total = 0.0
        for step, number in enumerate(order):
            batch = random_negatives(store, parts[number], pool, args.negatives, (args.seed, epoch))
            batch, weight = with_partners(
                batch, partners.recent_at(batch.src, batch.cut, args.partners).nodes, stands_for
            )
            scores = net(history.until(batch.time[0]), batch)
            loss = softmax_loss(scores, weight) if args.loss == "softmax" else binary_loss(scores)
            done = (epoch + step / len(parts)) / args.epochs
            for group in optimiser.param_groups:
                group["lr"] = args.rate * (1 + math.cos(math.pi * done)) / 2
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            total += loss.item()
        score = rank(net, history, everyone, first, second, args.every)
        print(
            f"epoch {epoch}: loss {total / len(parts):.4f}, validation MRR {score:.4f}, "
            f"{time.perf_counter() - began:.0f} s, {time.process_time():.0f} s of one core",
            flush=True,
        )
        if score > best[0]:
            best, kept = (score, epoch), {name: tensor.clone() for name, tensor in net.state_dict().items()}
        elif epoch - best[1] >= args.patience:
            break
    net.load_state_dict(kept)
    test = rank(net, history, everyone, second, len(store), 1)
    pairs = (random_negatives(store, part, pool, 1, args.seed) for part in stretches(store, second, len(store)))
    precision = separate_links(Ranker(net, history), pairs).average_precision
    print(
        f"epoch {best[1]}: validation MRR {best[0]:.4f}, test MRR {test:.4f}, test AP {precision:.4f} of all events; "
        f"{sum(p.numel() for p in net.parameters())} weights, {time.process_time():.0f} s of one core",
        flush=True,
    )


def rules(store: EventStore, args: argparse.Namespace) -> None:
    """Prints the MRR of the simple rules on the same batches and with the same cut."""
    first, second = split_at_quantiles(store)
    everyone = AllDestinations(store, torch.unique(store.dst) if args.bipartite else torch.arange(store.nodes))
    pairs, numbers = PairHistory(store), batch_numbers((0, first, second, len(store)))
    for name, rule in (
        ("pair recency", pair_recency(pairs)),
        ("and popularity", recency_then_popularity(pairs, numbers)),
    ):
        found = [
            reciprocal_rank(rank_links(rule, map(everyone, list(stretches(store, *part))[:: args.every])))
            for part in ((first, second), (second, len(store)))
        ]
        print(f"{name}: validation MRR {found[0]:.4f}, test MRR {found[1]:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="Parquet with src, dst, t")
    parser.add_argument("--bipartite", action="store_true", help="only those that are ever destinations are ranked")
    parser.add_argument("--rules", action="store_true", help="score the simple rules and stop")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3, help="first learning rate; it falls to 0 by a half cosine")
    parser.add_argument("--negatives", type=int, default=30)
    parser.add_argument("--partners", type=int, default=10, help="latest partners that are negatives, too")
    parser.add_argument("--loss", choices=("softmax", "binary"), default="softmax")
    parser.add_argument("--every", type=int, default=1, help="validate on every so many batches")
    args = parser.parse_args()
    table = pl.read_parquet(args.file)
    src, dst = table["src"].to_numpy(), table["dst"].to_numpy()
    _, dense = np.unique(np.concatenate((src, dst)), return_inverse=True)
    store = EventStore.of(dense[: len(src)], dense[len(src) :], table["t"].to_numpy())
    torch.set_num_threads(1)
    if args.rules:
        rules(store, args)
        return
    settings = {}
    for item in args.set:
        name, _, value = item.partition("=")
        settings[name] = ast.literal_eval(value) if value[:1].isdigit() or value in ("True", "False") else value
    train(store, TodyformerConfig(**settings), args)


if __name__ == "__main__":
    main()
