"""The search of DARTS-GT: mixtures, who learns from which step, what it finds, and what is kept of it."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphs.architecture import Architecture, evidence, random_operators, vote
from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.darts_search import (
    SearchConfig,
    Supernet,
    asked,
    begin_epoch,
    choose_by_removal,
    excess,
    logit_step,
    mean_loss,
    optimizers,
    pairs,
    search_architecture,
    split_graphs,
    weight_step,
)
from graphs.graph_batch import GraphBatch, GraphError
from graphs.graph_context import EdgeStates
from graphs.graph_operators import GINE, OPERATORS

THREE = ("GINE", "CustomGatedGCN", "GATV2")
SHAPE = GraphDataShape(4, 1, 1)
Labels = Callable[[Tensor, torch.Generator], Tensor]


def planted(sums: Tensor, generator: torch.Generator) -> Tensor:
    """Whether the features of a node's incoming edges add up to more than 0."""
    return (sums > 0).float()


def noise(sums: Tensor, generator: torch.Generator) -> Tensor:
    """Labels of nothing."""
    return torch.randint(0, 2, sums.shape, generator=generator).float()


def labelled(seed: int, batches: int, labels: Labels = planted, graphs: int = 16) -> list[tuple[GraphBatch, Tensor]]:
    """Batches of graphs of 12 nodes with two incoming edges each, and a label for each node."""
    generator = torch.Generator().manual_seed(seed)
    nodes = 12 * graphs
    target = torch.arange(nodes).repeat_interleave(2)
    none = torch.zeros(nodes, 0)
    found = []
    for _ in range(batches):
        source = torch.randint(0, 12, (2 * nodes,), generator=generator) + target // 12 * 12
        features = torch.randn(2 * nodes, 1, generator=generator)
        sums = torch.zeros(nodes, 1).index_add(0, target, features)
        states = torch.randn(nodes, 4, generator=generator)
        offsets = torch.arange(0, nodes + 1, 12)
        batch = GraphBatch(states, torch.stack((source, target)), features, offsets, none, none, none)
        found.append((batch, labels(sums, generator)))
    return found


def config(layers: int = 1, **settings: Any) -> DartsGTConfig:
    """A small plain network, whose edge features reach the answer through operators alone."""
    return DartsGTConfig(
        **{
            "layers": layers,
            "width": 8,
            "heads": 2,
            "flavour": "plain",
            "attention_self_loops": True,
            "query_projection_sparse": True,
            "attention_dropout": 0.0,
            "edge_features": "linear",
            "head": "inductive_node",
            **settings,
        }
    )


def supernet(layers: int = 1, seed: int = 0, **search: Any) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(SHAPE, config(layers), SearchConfig(**search))


def snapshot(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in parameters]


def same(one: list[Tensor], other: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Property 7


@pytest.mark.parametrize("choice", [0, 1, 2])
def test_one_large_logit_leaves_that_operator(choice: int) -> None:
    net = supernet().double().eval()
    batch = labelled(0, 1)[0][0]
    mixture = net.mixtures[0]
    with torch.no_grad():
        nodes, context = net.encode(batch)
        nodes = nodes.double()
        results = mixture.results(nodes, context)
        assert abs(float(results.mean())) < 1e-12 and abs(float(results.std()) - 1) < 1e-6  # one scale for all
        mixture.alpha.zero_()
        torch.testing.assert_close(mixture(nodes, context), results.mean(dim=0), rtol=0, atol=1e-12)
        mixture.alpha[choice] = 40.0
        torch.testing.assert_close(mixture(nodes, context), results[choice], rtol=0, atol=1e-12)
        mixture.alpha.normal_()
        before = mixture(nodes, context)
        mixture.alpha += 3.0
        torch.testing.assert_close(mixture(nodes, context), before, rtol=0, atol=1e-12)
        torch.testing.assert_close(mixture.shares().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_gradients_of_logits_add_up_to_nothing() -> None:
    net = supernet(layers=2).double().eval()
    batch, target = labelled(0, 1)[0]
    F.binary_cross_entropy_with_logits(net(batch), target.double()).backward()
    for alpha in net.logits():
        assert alpha.grad is not None
        assert abs(float(alpha.grad.sum())) < 1e-15 < float(alpha.grad.abs().max())


def test_layers_of_a_group_share_their_logits() -> None:
    net = supernet(layers=4, groups=(3, 1))
    assert [len(alpha) for alpha in net.logits()] == [3, 3]
    assert len({id(mixture.alpha) for mixture in net.mixtures}) == 2
    with torch.no_grad():
        net.logits()[0][2] = 9.0
    assert net.probabilities().argmax(dim=1).tolist()[:3] == [2, 2, 2]
    with pytest.raises(GraphError, match="3:2 does not add up"):
        supernet(layers=4, groups=(3, 2))


# Property 8


@pytest.mark.parametrize("mode", ["robust", "reference"])
def test_each_step_moves_its_own_half(mode: str) -> None:
    net = supernet(layers=2, mode=mode).train()
    ours = optimizers(net)
    (batch, target), (held, held_target) = labelled(1, 2)
    held_by = [[id(p) for group in each.param_groups for p in group["params"]] for each in ours]
    assert sorted(held_by[0] + held_by[1]) == sorted(id(p) for p in net.parameters())
    assert held_by[1] == [id(alpha) for alpha in net.logits()] and len(held_by[1]) == 2

    weights, logits = snapshot(net.weights()), snapshot(net.logits())
    logit_step(net, ours.logits, lambda: F.binary_cross_entropy_with_logits(net(held), held_target))
    assert same(weights, net.weights()) and not same(logits, net.logits())
    moved = snapshot(net.logits())
    weight_step(net, ours.weights, lambda: F.binary_cross_entropy_with_logits(net(batch), target))
    assert same(moved, net.logits()) and not same(weights, net.weights())


def test_operators_with_a_parameter_called_alpha_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(GINE):
        def __init__(self, width: int, heads: int, dropout: float) -> None:
            super().__init__(width, heads, dropout)
            self.alpha = nn.Parameter(torch.ones(1))

    monkeypatch.setitem(OPERATORS, "Scaled", Scaled)
    net = supernet(candidates=("GINE", "Scaled"))
    assert len(net.logits()) == 1
    assert any(weight.shape == (1,) for weight in net.weights())


@pytest.mark.parametrize("mode", ["robust", "reference"])
def test_statistics_follow_the_logits_batch_in_reference_mode_alone(mode: str) -> None:
    net = supernet(mode=mode).train()
    before = {name: tensor.clone() for name, tensor in net.named_buffers()}
    held, target = labelled(1, 1)[0]
    step = optimizers(net).logits
    logit_step(net, step, lambda: F.binary_cross_entropy_with_logits(net(held), target))
    moved = [name for name, tensor in net.named_buffers() if not torch.equal(before[name], tensor)]
    assert bool(moved) is (mode == "reference")
    with torch.no_grad():  # and they follow again afterwards
        net(held)
    assert any(not torch.equal(before[name], tensor) for name, tensor in net.named_buffers())


def test_logits_count_in_the_clipped_norm_in_reference_mode_alone() -> None:
    """Their gradient, of both steps, shrinks that of the weights."""
    (batch, target), (held, held_target) = labelled(1, 2)

    def clipped(mode: str) -> float:
        net = supernet(mode=mode, clip=1e-3).eval()
        ours = optimizers(net)
        loss = F.binary_cross_entropy_with_logits
        logit_step(net, ours.logits, lambda: 50 * loss(net(held), held_target))
        weight_step(net, ours.weights, lambda: loss(net(batch), target))
        return float(torch.stack([p.grad.norm() for p in net.weights() if p.grad is not None]).norm())

    assert clipped("robust") == pytest.approx(1e-3, rel=1e-3)
    assert clipped("reference") < 0.95e-3


def test_reference_mode_pulls_logits_back_and_robust_mode_does_not() -> None:
    def pulled(mode: str) -> float:
        net = supernet(mode=mode)
        with torch.no_grad():
            net.logits()[0].copy_(torch.tensor([1.0, 0.0, 0.0]))
        step = optimizers(net).logits
        net.logits()[0].grad = torch.zeros(3)
        step.step()
        return float(net.logits()[0].detach()[0]) - 1.0

    assert pulled("robust") == 0.0
    assert pulled("reference") == pytest.approx(-4e-4, rel=1e-3)  # a whole step, however weak the pull


# Property 9


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(GINE):
        def forward(self, nodes: Tensor, edges: Tensor, states: EdgeStates) -> Tensor:
            return super().forward(nodes, edges, EdgeStates(torch.zeros_like(states.each())))

    monkeypatch.setitem(OPERATORS, "Blind", Blind)


def found(seed: int, labels: Labels, batches: int, epochs: int, rate: float) -> Architecture:
    data = labelled(seed, batches, labels)
    settings = {"epochs": epochs, "logit_rate": rate, "min_margin": 0.05, "weight_rate": 1e-2}
    net = supernet(seed=seed, candidates=("Blind", "GINE"), **settings)
    cut = int(0.6 * batches)
    return search_architecture(net, data[:cut], data[cut:], F.binary_cross_entropy_with_logits)


@pytest.mark.usefixtures("blind")
def test_the_operator_that_reads_edges_wins_where_the_label_is_of_edges() -> None:
    architecture = found(0, planted, batches=20, epochs=8, rate=4e-3)
    assert architecture.operators == ("GINE",)
    assert architecture.undecided == ()


@pytest.mark.usefixtures("blind")
def test_labels_of_nothing_leave_the_layer_undecided_however_large_the_margin() -> None:
    architecture = found(0, noise, batches=20, epochs=4, rate=2e-2)
    assert architecture.margins[0] > architecture.min_margin
    assert architecture.undecided == (0,)


@pytest.mark.slow
@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_decides_what_is_planted(seed: int) -> None:
    architecture = found(seed, planted, batches=30, epochs=10, rate=4e-3)
    assert architecture.operators == ("GINE",)
    assert architecture.margins[0] > 0.05 and architecture.undecided == ()


@pytest.mark.slow
@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_decides_nothing_of_noise(seed: int) -> None:
    """With margins as large as those of what is planted, at the same settings."""
    assert found(seed, noise, batches=30, epochs=10, rate=4e-3).undecided == (0,)


def test_evidence_is_students_t_as_a_normal_deviation_as_rare() -> None:
    """Against quantiles: t of 4 and of 60 batches that a normal deviation beyond 3 and 2 is as rare as."""
    for batches, t, z in ((4, 9.2184, 3.0), (60, 2.0451, 1.9766), (60, -2.0451, -1.9766)):
        draws = torch.randn(batches, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        draws = (draws - draws.mean()) / draws.std() * math.sqrt(batches) + t  # mean t, error of the mean 1
        more = torch.zeros(batches, 2, 3, dtype=torch.float64)
        more[:, 1, 2], more[:, 1, 0], more[:, 1, 1] = draws, 1e9, 0.0  # the third candidate counts for nothing
        table = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.4, 0.5]], dtype=torch.float64)
        none, sure = evidence(more, table)
        assert none == 0.0 and sure == pytest.approx(z, rel=0.02)
    assert evidence(more[:1], table) == (0.0, 0.0)


def test_what_batches_ask_is_a_covariance_of_labels_and_outputs_for_every_layer_that_shares() -> None:
    """Of mean (1 - 2y) output, own and shuffled labels differ by nothing else; and nothing is left behind."""
    net, data = supernet(layers=3, groups=(2, 1), warmup=0.5, epochs=4).train(), labelled(0, 3, graphs=2)
    begin_epoch(net, optimizers(net).logits, 0)
    before, state = snapshot(net.logits()), torch.get_rng_state()
    fixed = [mixture.fixed for mixture in net.mixtures]

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return ((1 - 2 * target) * outputs).mean()

    for target in (lambda t: t, torch.ones_like):
        batches = [(batch, target(t)) for batch, t in data]
        more = asked(net, batches, lambda batch, draw: excess(net(batch[0]), batch[1], loss, draw))
        assert more.shape == (3, 3, 3) and torch.equal(more[:, 0], more[:, 1])
        assert more.sum(dim=2).abs().max() < 1e-6
        if target is torch.ones_like:
            assert more.abs().max() < 1e-7  # shuffling equal labels changes nothing
        else:
            assert more.abs().amax(dim=2).min() > 1e-5
    assert same(before, net.logits()) and torch.equal(state, torch.get_rng_state())
    assert all(mixture.fixed is kept for mixture, kept in zip(net.mixtures, fixed, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.usefixtures("blind")
def test_removing_the_operator_that_is_needed_hurts_most() -> None:
    data = labelled(0, 12)
    net = supernet(candidates=("Blind", "GINE"), weight_rate=1e-2)
    step = optimizers(net).weights

    def tune() -> None:
        net.train()
        for batch, target in data[:8]:
            weight_step(net, step, lambda b=batch, t=target: F.binary_cross_entropy_with_logits(net(b), t))

    for _ in range(6):
        tune()
    chosen = choose_by_removal(net, lambda: mean_loss(net, data[8:], F.binary_cross_entropy_with_logits), tune)
    assert chosen == ("GINE",)
    assert net.mixtures[0].shares().tolist() == [0.0, 1.0]


# Property 10


def test_the_most_probable_operator_is_chosen_and_the_first_of_equal_ones() -> None:
    table = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    architecture = Architecture.of(table, THREE)
    assert architecture.operators == ("CustomGatedGCN", "GINE", "GINE")
    assert architecture.margins == pytest.approx((0.2, 0.0, 0.0))
    assert architecture.undecided == (1, 2)
    assert architecture.entropies[2] == pytest.approx(math.log(3))
    kept = Architecture.of(table, THREE, fallback="GATV2")
    assert kept.operators == ("CustomGatedGCN", "GATV2", "GATV2")


def test_a_layer_is_decided_by_margin_and_evidence_together() -> None:
    table = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    more = torch.tensor([[[3.0, 0.0], [3.0, 0.0], [0.1, 0.0], [3.0, 0.0]]]) + torch.linspace(-1, 1, 8).view(8, 1, 1)
    more[:, :, 1] = 0.0
    architecture = Architecture.of(table, THREE[:2], asked=more, fallback="CustomGatedGCN")
    assert architecture.undecided == (1, 2, 3)  # no margin, no evidence, evidence against
    assert architecture.operators == ("GINE",) + ("CustomGatedGCN",) * 3
    assert architecture.verdicts[0].startswith("decided: margin 0.2000, evidence ")
    assert architecture.verdicts[1].startswith("undecided: margin 0.0000 < 0.01, evidence ")
    assert " < 3; filled with CustomGatedGCN, the fallback" in architecture.verdicts[2]
    assert architecture.evidence[0] == architecture.evidence[1] == -architecture.evidence[3] > 3.0
    plain = Architecture.of(table, THREE[:2])
    assert plain.undecided == (1,) and plain.verdicts[0] == "decided: margin 0.2000"
    assert plain.verdicts[1] == "undecided: margin 0.0000 < 0.01; filled with GINE, the most probable"
    assert Architecture.of(table, THREE[:2], asked=more, min_evidence=-9.0).undecided == (1,)


def test_an_architecture_survives_its_document() -> None:
    table = torch.rand(3, 3, dtype=torch.float64).softmax(dim=1)
    architecture = Architecture.of(
        table, THREE, asked=torch.randn(4, 3, 3), trajectory=[table, table], seconds=1.5, min_margin=0.02,
        min_evidence=2.5, fallback="GATV2",
    )  # fmt: skip
    assert Architecture.from_json(architecture.to_json()) == architecture
    document = json.loads(architecture.to_json())
    assert (
        document["verdicts"] == list(architecture.verdicts)
        and len(document["evidence"]) == 3
        and document["undecided"] == list(architecture.undecided)
    )
    older = {name: value for name, value in document.items() if "evidence" not in name}
    assert Architecture.from_json(json.dumps(older)).evidence == ()
    net = DartsGT(SHAPE, config(3, architecture=architecture.operators))
    names = [type(layer.structure.operator).__name__ for layer in net.layers]
    assert tuple(names) == architecture.operators


def test_operators_are_names_whatever_the_order_of_the_candidates() -> None:
    """MolHIV's published list begins with another operator than the others' do."""
    table = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    order = [1, 0, 2]
    permuted = tuple(THREE[i] for i in order)
    assert Architecture.of(table, permuted).operators == ("CustomGatedGCN", "GATV2")
    read = Architecture.from_json(Architecture.of(table, permuted).to_json())
    assert Architecture.of(table[:, order], THREE).operators == read.operators
    net = supernet(candidates=permuted)
    assert [type(operator).__name__ for operator in net.mixtures[0].operators] == list(permuted)


def test_documents_that_are_none_are_refused() -> None:
    document = json.loads(Architecture.of(torch.rand(2, 3), THREE).to_json())
    faults: list[tuple[Any, str]] = [
        ({**document, "operators": ["GINE", "GATV3"]}, "GATV3"),
        ({**document, "operators": ["GINE"]}, "1 operators and 2 layers"),
        ({**document, "operators": ["GINE", "None"]}, "None is no candidate"),
        ({key: value for key, value in document.items() if key != "candidates"}, "candidates"),
        ([1], "cannot be read"),
    ]
    for fault, told in faults:
        with pytest.raises(GraphError) as caught:
            Architecture.from_json(json.dumps(fault))
        assert told in caught.value.message and caught.value.hint
    with pytest.raises(GraphError, match="cannot be read"):
        Architecture.from_json("GINE, GINE")


def test_searches_vote_by_name_and_equal_votes_go_to_the_more_probable() -> None:
    first = Architecture.of(torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]]), THREE)
    second = Architecture.of(torch.tensor([[0.5, 0.4, 0.1], [0.9, 0.1, 0.0]]), ("CustomGatedGCN", "GINE", "GATV2"))
    third = Architecture.of(torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.1, 0.8]]), THREE)
    assert [each.operators for each in (first, second)] == [("GINE", "GINE"), ("CustomGatedGCN", "CustomGatedGCN")]
    assert vote([first, second, third]).operators == ("GINE", "CustomGatedGCN")
    assert vote([first]).operators == first.operators
    sure = [dataclasses.replace(each, evidence=(6.0, 3.0)) for each in (first, second, third)]
    assert vote(sure).evidence == (4.0, 1.0) and vote([first, *sure]).evidence == ()
    with pytest.raises(GraphError, match="cannot vote"):
        vote([first, Architecture.of(torch.rand(2, 2), THREE[:2])])


# Property 11


def test_the_same_seed_finds_the_same_and_a_search_leaves_no_trace() -> None:
    data = labelled(3, 4)

    def search() -> tuple[Architecture, dict[str, Tensor]]:
        net = supernet(seed=7, layers=2, epochs=2, logit_rate=1e-2)
        architecture = search_architecture(net, data[:2], data[2:], F.binary_cross_entropy_with_logits)
        return dataclasses.replace(architecture, seconds=0.0), net.state_dict()

    def retrained(operators: tuple[str, ...]) -> dict[str, Tensor]:
        torch.manual_seed(8)
        net = DartsGT(SHAPE, config(2, architecture=operators)).train()
        optimizer = torch.optim.Adam(net.parameters())
        for batch, target in data:
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(net(batch), target).backward()
            optimizer.step()
        return net.state_dict()

    first, weights = search()
    again, same_weights = search()
    assert first == again
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    read = Architecture.from_json(first.to_json())
    before = retrained(read.operators)
    search()
    after = retrained(read.operators)
    assert all(torch.equal(before[name], after[name]) for name in before)


# How a search goes


def test_no_batch_is_left_out_in_robust_mode() -> None:
    first, second = list("abcdef"), list("xyz")
    assert list(pairs(first, second, "reference")) == [("a", "x"), ("b", "y"), ("c", "z")]
    assert list(pairs(first, second, "robust")) == list(zip(first, "xyzxyz", strict=True))
    assert list(pairs(second, first, "robust")) == list(zip("xyzxyz", first, strict=True))
    assert list(pairs(first, [], "robust")) == []


def test_graphs_are_split_at_random_and_once() -> None:
    first, second = split_graphs(101, 0.6, torch.Generator().manual_seed(1))
    assert len(first) == 60
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(101))
    again, _ = split_graphs(101, 0.6, torch.Generator().manual_seed(1))
    other, _ = split_graphs(101, 0.6, torch.Generator().manual_seed(2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_logits_rest_on_equal_shares_while_weights_warm_up_then_slow_down() -> None:
    net = supernet(epochs=10, warmup=0.2, logit_rate=1e-2, temperature=0.2)
    step = optimizers(net).logits
    learns, rates, heats, even = [], [], [], []
    with torch.no_grad():
        net.logits()[0].copy_(torch.tensor([1.0, 0.0, 0.0]))
    for epoch in range(10):
        learns.append(begin_epoch(net, step, epoch))
        rates.append(step.param_groups[0]["lr"])
        heats.append(net.mixtures[0].temperature)
        even.append(bool(torch.allclose(net.mixtures[0].shares(), torch.tensor(1 / 3))))
    assert learns == [False] * 2 + [True] * 8
    assert even == [True] * 2 + [False] * 8
    assert rates[2] == 1e-2 and rates[2:] == sorted(rates[2:], reverse=True) and 0 < rates[-1] < 1e-3
    assert heats[2] == 1.0 and heats[-1] == pytest.approx(0.2)

    reference = supernet(epochs=10, mode="reference", warmup=0.2, temperature=0.2)
    step = optimizers(reference).logits
    assert all(begin_epoch(reference, step, epoch) for epoch in range(10))
    assert step.param_groups[0]["lr"] == 4e-4 and reference.mixtures[0].temperature == 1.0


def test_layers_in_sequence_are_decided_one_after_the_other() -> None:
    net = supernet(layers=3, epochs=6, warmup=0.0, schedule="sequential")
    step = optimizers(net).logits
    with torch.no_grad():
        for alpha in net.logits():
            alpha.copy_(torch.tensor([0.0, 1.0, 0.0]))
    third, chosen, free = [1 / 3] * 3, [0.0, 1.0, 0.0], torch.tensor([0.0, 1.0, 0.0]).softmax(0).tolist()
    for epoch, wanted in ((0, [free, third, third]), (3, [chosen, free, third]), (5, [chosen, chosen, free])):
        begin_epoch(net, step, epoch)
        for mixture, shares in zip(net.mixtures, wanted, strict=True):
            assert mixture.shares().tolist() == pytest.approx(shares)
    before = snapshot(net.logits())
    batch, target = labelled(0, 1)[0]
    logit_step(net, step, lambda: F.binary_cross_entropy_with_logits(net(batch), target))
    assert [torch.equal(a, b) for a, b in zip(before, net.logits(), strict=True)] == [True, True, False]


def test_a_cost_pulls_towards_small_operators() -> None:
    def shift(cost: float) -> Tensor:
        net = supernet(logit_rate=0.1, cost=cost).eval()
        before = net.probabilities()
        batch, target = labelled(0, 1)[0]
        logit_step(net, optimizers(net).logits, lambda: 0 * F.binary_cross_entropy_with_logits(net(batch), target))
        return (net.probabilities() - before)[0]

    sizes = supernet().mixtures[0].sizes
    assert sizes == [2 * 64 + 16, 5 * 64 + 72, 3 * 64 + 32]
    assert shift(0.0).abs().max() == 0
    assert shift(1.0)[0] > 1e-2 > 0 > shift(1.0)[1]


def test_a_search_stops_in_time_and_keeps_its_way() -> None:
    data = labelled(3, 4, graphs=2)
    loss = F.binary_cross_entropy_with_logits
    whole = search_architecture(supernet(layers=2, epochs=3), data[:2], data[2:], loss)
    assert len(whole.trajectory) == 3 and whole.trajectory[-1] == whole.probabilities
    cut = search_architecture(supernet(layers=2, epochs=3), data[:2], data[2:], loss, max_seconds=0.0)
    assert len(cut.trajectory) == 1 and len(cut.operators) == 2


def test_reference_mode_is_the_published_step_by_step() -> None:
    """Against the recipe written out: zip, logits by Adam with L2, accumulated gradient, one norm, Adam with L2."""
    data = labelled(4, 4, graphs=3)
    net = supernet(layers=2, epochs=1, mode="reference")
    other = copy.deepcopy(net)
    loss = F.binary_cross_entropy_with_logits
    torch.manual_seed(11)
    search_architecture(net, data[:3], data[3:], loss)

    torch.manual_seed(11)
    other.train()
    weights = torch.optim.Adam(other.weights(), lr=2.5e-3, weight_decay=3e-4)
    logits = torch.optim.Adam(other.logits(), lr=4e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    (batch, target), (held, held_target) = data[0], data[3]
    logits.zero_grad()
    loss(other(held), held_target).backward()
    logits.step()
    weights.zero_grad()
    loss(other(batch), target).backward()
    nn.utils.clip_grad_norm_(other.parameters(), 5.0)
    weights.step()
    for (name, own), reference in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-5, atol=1e-7, msg=name)


def test_random_operators_are_drawn_from_the_candidates() -> None:
    drawn = random_operators(THREE, 60, torch.Generator().manual_seed(1))
    assert len(drawn) == 60 and set(drawn) == set(THREE)
    assert drawn == random_operators(THREE, 60, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"candidates": ("GINE",)}, "two or more"),
        ({"candidates": ("GINE", "GINE")}, "two or more"),
        ({"candidates": ("GINE", "GAT2")}, '"GAT2" is no operator'),
        ({"fallback": "None"}, '"None" is no candidate'),
        ({"split": 1.0}, "search.split is 1.0"),
        ({"epochs": 0}, "search.epochs is 0"),
        ({"mode": "fast"}, 'search.mode "fast" is not known'),
        ({"warmup": 1.0}, "search.warmup is 1.0"),
        ({"schedule": "sequential", "groups": (2, 1)}, "share one choice"),
    ],
)
def test_searches_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError) as caught:
        SearchConfig(**settings)
    assert told in caught.value.message and caught.value.hint


def test_layers_that_a_vote_leaves_undecided_get_the_fallback_and_are_told_so() -> None:
    tables = [
        torch.tensor([[0.336, 0.332, 0.332], [0.1, 0.8, 0.1]]),
        torch.tensor([[0.335, 0.33, 0.335], [0.2, 0.7, 0.1]]),
    ]
    searches = [Architecture.of(table, THREE, fallback="GATV2") for table in tables]
    found = vote(searches)
    assert found.operators == ("GATV2", "CustomGatedGCN") and found.undecided == (0,)
    assert found.verdicts[0].endswith("; filled with GATV2, the fallback")
