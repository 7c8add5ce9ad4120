"""What a prediction rests on: head removal and its summaries, as the authors' code has them and as they must behave."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.graph_batch import GraphBatch, GraphError
from graphs.head_removal import remove_heads
from graphs.interpretability import (
    ERRORS,
    attention_entries,
    chance_jaccard,
    explain,
    explanation,
    specialization,
    top_count,
    top_heads,
    top_nodes,
)
from tests.graph_parity import explained, top_nodes_by_head

GOLDEN = Path(__file__).parent / "golden" / "graphs"
CASES = ["dense_binary", "dense_regression", "sparse_binary", "sparse_regression"]


def golden(case: str) -> tuple[DartsGT, GraphBatch, dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"interpretability_{case}.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        meta = json.loads(file.metadata()["meta"])
    params, inputs = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in ("param.", "input.")
    )
    net, batch = explained(meta, params, inputs)
    return net, batch, tensors, meta


@pytest.mark.parametrize("case", CASES)
def test_explanations_equal_the_authors(case: str) -> None:
    net, batch, tensors, meta = golden(case)
    # In double precision machines do not differ; theirs is single: 2.1e-6 away at errors of up to 2.6.
    in_double = {
        name: part.double() for name, part in batch._asdict().items() if part is not None and part.is_floating_point()
    }
    found = explain(
        net.double(),
        batch._replace(**in_double),
        tensors["input.y"],
        task=meta["task"],
        k=meta["k"],
        error="reference",
        rank="reference",
    )
    torch.testing.assert_close(found.deviation, tensors["output.head_deviation"], rtol=0, atol=2.1e-6)
    torch.testing.assert_close(found.specialization, tensors["output.specialization"].double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.correlation, tensors["output.correlation"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.focus, tensors["output.focus"], rtol=0, atol=1e-12)
    assert torch.equal(found.top_heads, tensors["output.top_heads"])
    assert top_nodes_by_head(found) == meta["top_nodes_per_head"]
    # The files hold what can tell a wrong answer: several values of focus, and top heads in each layer.
    assert found.deviation.abs().max() > 1e-3


def random_batch(sizes: tuple[int, ...], edges: int = 3) -> GraphBatch:
    """Random graphs with so many edges a node; loops and repeated edges as they fall."""
    generator = torch.Generator().manual_seed(5)
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    graph = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    target = torch.randint(0, int(offsets[-1]), (edges * int(offsets[-1]),), generator=generator)
    drawn = torch.rand(len(target), generator=generator)
    source = offsets[graph[target]] + (drawn * torch.tensor(sizes)[graph[target]]).long()
    none = torch.zeros(int(offsets[-1]), 0)
    return GraphBatch(
        nodes=torch.randn(int(offsets[-1]), 3, generator=generator),
        edges=torch.stack((source, target)),
        edge_features=torch.randn(len(target), 2, generator=generator),
        offsets=offsets,
        walks=none,
        eigenvectors=none,
        eigenvalues=none,
    )


def random_network(**settings: Any) -> DartsGT:
    torch.manual_seed(3)
    config = DartsGTConfig(
        **{
            "architecture": ("GINE", "CustomGatedGCN", "GATV2"),
            "layers": 3,
            "width": 9,
            "heads": 3,
            "edge_features": "linear",
            **settings,
        }
    )
    return DartsGT(GraphDataShape(3, 2, 2, last=0 if config.head == "forecast" else None), config).double().eval()


KINDS = [
    {"attention": "dense", "flavour": "plain"},
    {"attention": "sparse", "flavour": "edge"},
    {"attention": "sparse", "flavour": "edge", "head": "forecast", "attention_self_loops": True},
    {"attention": "dense", "flavour": "qproj", "head": "inductive_node", "head_layers": 2},
]
SIZES = (7, 1, 12, 4)


def masks_without_each_head(layers: int = 3, heads: int = 3) -> list[Tensor]:
    """For each layer and head, a mask that takes out that head alone."""
    return list(1 - torch.eye(layers * heads, dtype=torch.float64).view(-1, layers, heads))


# Property 12


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_heads_removed_together_equal_heads_removed_one_by_one(settings: dict[str, Any]) -> None:
    net, batch = random_network(**settings), random_batch(SIZES)
    with torch.no_grad():
        plain = net(batch)
        naive = torch.stack([net(batch, mask) for mask in masks_without_each_head()]).unflatten(0, (3, 3))
        weights = net.attention(batch)
    assert (naive - plain).abs().amax(dim=(2, 3)).min() > 1e-6  # every head brings something
    for copies in (None, 1, 2):
        removal = remove_heads(net.train(), batch, copies)
        torch.testing.assert_close(removal.outputs, plain, rtol=0, atol=1e-12)
        torch.testing.assert_close(removal.without, naive, rtol=0, atol=1e-12)
    assert net.training  # it is left as it was
    for own, other in zip(removal.weights, weights, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("copies", [None, 2])
def test_removing_every_head_runs_only_the_layers_behind_it(copies: int | None) -> None:
    """Nodes through layers: one pass through all, and H copies through what lies behind each layer (12.1)."""
    net, batch, layers, heads = random_network(flavour="plain"), random_batch(SIZES), 3, 3
    passed = {"operator and attention": 0, "rest of the layer": 0}

    def count(part: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(module: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            passed[part] += len(out)

        return add

    for layer in net.each_layer():
        layer.structure.register_forward_hook(count("operator and attention"))
        layer.expand.register_forward_hook(count("rest of the layer"))
    remove_heads(net, batch, copies)
    nodes = sum(SIZES)
    assert passed["operator and attention"] == nodes * (layers + heads * layers * (layers - 1) // 2)
    assert passed["rest of the layer"] == nodes * (layers + heads * layers * (layers + 1) // 2)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_mask_equals_columns_of_zeros_and_ones_change_nothing(settings: dict[str, Any]) -> None:
    net, batch = random_network(**settings), random_batch(SIZES)
    with torch.no_grad():
        assert torch.equal(net(batch, torch.ones(3, 3, dtype=torch.float64)), net(batch))
        masked = net(batch, masks_without_each_head()[4])
        net.layers[1].attention.out.weight[:, 3:6] = 0.0
        torch.testing.assert_close(net(batch), masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_without_heads_attention_is_its_output_bias(settings: dict[str, Any]) -> None:
    net, batch = random_network(**settings), random_batch(SIZES)
    with torch.no_grad():
        masked = net(batch, torch.zeros(3, 3, dtype=torch.float64))
        for layer in net.layers:
            layer.attention.out.weight.zero_()
        torch.testing.assert_close(net(batch), masked, rtol=0, atol=1e-12)


# Property 13


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_dead_head_deviates_by_exactly_nothing(settings: dict[str, Any]) -> None:
    net, batch = random_network(**settings).float(), random_batch(SIZES)
    with torch.no_grad():
        net.layers[1].attention.out.weight[:, 3:6] = 0.0
    rows = len(net(batch))
    for task, targets in (("regression", torch.randn(rows, 2)), ("multilabel", (torch.randn(rows, 2) > 0).float())):
        found = explain(net, batch, targets, task=task)
        assert (found.deviation[:, 1, 1] == 0).all()
        others = found.deviation.flatten(1)[:, [i for i in range(9) if i != 4]]
        assert (others != 0).any(dim=0).all()
        assert not (found.top_heads == 4).any()


def test_specialization_is_of_differences_and_scales_with_the_error() -> None:
    deviation = torch.randn(20, 12, dtype=torch.float64)
    same = torch.full((3, 12), 0.1, dtype=torch.float64)
    assert torch.equal(specialization(same), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(specialization(deviation + 7.0), specialization(deviation))
    torch.testing.assert_close(specialization(-3.0 * deviation), 3.0 * specialization(deviation))
    torch.testing.assert_close(specialization(deviation), torch.from_numpy(deviation.numpy().std(axis=1)))
    net, batch = random_network(**KINDS[0]), random_batch(SIZES)
    targets = torch.randn(4, 2, dtype=torch.float64)
    before = explain(net, batch, targets)
    with torch.no_grad():
        net.head.out.weight *= 5.0
        net.head.out.bias *= 5.0
    after = explain(net, batch, 5.0 * targets)
    torch.testing.assert_close(after.specialization, 5.0 * before.specialization)
    torch.testing.assert_close(after.relative_specialization, before.relative_specialization)


def test_top_heads_help_then_harm_least_and_never_do_nothing() -> None:
    deviation = torch.tensor([[0.0, 2.0, -1.0, 3.0, -0.5], [0.0, 0.0, 0.0, -1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]])
    assert top_heads(deviation, 3).tolist() == [[3, 1, 4], [3, -1, -1], [0, 1, -1]]
    assert top_heads(deviation, 9).shape == (3, 5)


# Property 14


def test_top_nodes_are_the_heaviest_tenth_of_each_graph() -> None:
    sizes = torch.tensor([25, 1, 9, 40])
    graph = torch.repeat_interleave(torch.arange(4), sizes)
    salience = torch.rand(75, 3)
    found = top_nodes(salience, graph, sizes)
    assert found.shape == (4, 3, 4)
    for number, part in enumerate(salience.split(sizes.tolist())):
        for head in range(3):
            wanted = part[:, head].argsort(descending=True)[: max(1, len(part) // 10)].tolist()
            assert found[number, head].tolist() == wanted + [-1] * (4 - len(wanted))


def with_deviations(batch: GraphBatch, net: DartsGT, deviation: Tensor, rank: Any = "keys") -> Any:
    removal = remove_heads(net, batch)
    return explanation(deviation, attention_entries(removal.weights, removal.context), removal.context, 3, rank)


@pytest.mark.parametrize("attention", ["dense", "sparse"])
def test_focus_and_correlation_are_means_over_pairs_of_top_heads(attention: str) -> None:
    """Against the definitions, graph by graph and pair by pair, on whole matrices."""
    net = random_network(attention=attention, attention_self_loops=attention == "sparse")
    batch = random_batch((30, 11, 45))
    deviation = torch.randn(3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for rank in ("keys", "queries"):
        found = with_deviations(batch, net, deviation, rank)
        with torch.no_grad():
            weights = net.attention(batch)
            _, context = net.encode(batch)
        for graph, (start, end) in enumerate(itertools.pairwise(batch.offsets.tolist())):
            matrices, sets = [], []
            for head in found.top_heads[graph].tolist():
                layer, number = divmod(head, 3)
                if attention == "dense":
                    matrix = weights[layer][graph, number, : end - start, : end - start]
                else:
                    matrix = torch.zeros(len(batch.nodes), len(batch.nodes), dtype=torch.float64)
                    key, query = context.attention_edges
                    matrix.index_put_((query, key), weights[layer][:, number], accumulate=True)
                    matrix = matrix[start:end, start:end]
                if rank == "queries":
                    matrix = matrix / matrix.sum(dim=0, keepdim=True)
                mass = matrix.sum(dim=0 if rank == "keys" else 1)
                sets.append(set(mass.argsort()[-max(1, (end - start) // 10) :].tolist()))
                matrices.append(matrix.flatten())
            pairs = list(itertools.combinations(range(3), 2))
            focus = sum(len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs) / 3
            correlation = sum(float(torch.corrcoef(torch.stack((matrices[a], matrices[b])))[0, 1]) for a, b in pairs)
            assert found.focus[graph].item() == pytest.approx(focus, abs=1e-12)
            assert found.correlation[graph].item() == pytest.approx(correlation / 3, abs=1e-9)
    assert ((found.focus >= 0) & (found.focus <= 1)).all()
    assert found.few_nodes.tolist() == [False, True, False]


def test_focus_is_one_of_equal_heads_and_zero_of_a_single_one() -> None:
    net, batch = random_network(architecture="GINE", attention="sparse", layers=1), random_batch((30, 40))
    with torch.no_grad():
        for linear in (net.layers[0].attention.key, net.layers[0].attention.value):
            linear.weight.copy_(linear.weight[:3].repeat(3, 1))
            linear.bias.copy_(linear.bias[:3].repeat(3))
    net.layers[0].attention.weights = lambda query, source, context: (  # heads that look at the same nodes
        torch.ones(context.attention_edges.shape[1], 3, dtype=torch.float64)
        / torch.bincount(context.attention_edges[1])[context.attention_edges[1], None]
    )
    same = with_deviations(batch, net, torch.ones(2, 1, 3, dtype=torch.float64))
    assert same.focus.tolist() == [1.0, 1.0]
    torch.testing.assert_close(same.chance_focus, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(same.correlation, torch.ones(2, dtype=torch.float64))
    lonely = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], dtype=torch.float64)
    alone = with_deviations(batch, net, lonely)
    assert alone.focus.tolist() == alone.correlation.tolist() == [0.0, 0.0]
    assert alone.top_heads.tolist() == [[0, -1, -1], [-1, -1, -1]]
    assert (alone.top_nodes[0, 1:] == -1).all() and (alone.top_nodes[1] == -1).all()
    torch.testing.assert_close(
        alone.importance.split([30, 40])[0].sum(), torch.tensor(1.0, dtype=torch.float64)
    )  # and the second graph, which no head helps, has none
    assert alone.importance[30:].abs().sum() == 0


def test_focus_corrected_for_chance_is_nothing_of_random_sets() -> None:
    sizes = torch.tensor([25, 40, 61])
    draws = 20_000
    expected = chance_jaccard(sizes)
    for size, wanted, count in zip(sizes.tolist(), expected.tolist(), top_count(sizes).tolist(), strict=True):
        sets = torch.rand(2, draws, size, generator=torch.Generator().manual_seed(2)).argsort(dim=2) < count
        shared = (sets[0] & sets[1]).sum(dim=1).double()
        jaccard = shared / (2 * count - shared)
        error = float(jaccard.std()) / draws**0.5
        assert abs(float(jaccard.mean()) - wanted) < 4 * error
    assert chance_jaccard(torch.tensor([1, 15])).tolist() == pytest.approx([1.0, 1 / 15])


# What is ours


def test_attention_to_oneself_is_told_apart() -> None:
    net = random_network(attention="sparse", attention_self_loops=True, layers=1, architecture="GINE")
    batch = random_batch((20, 1))
    found = explain(net, batch, torch.randn(2, 2))
    assert (found.self_share[0] > 0.02).all() and (found.self_share[0] < 0.9).all()
    known = found.top_heads[1] >= 0
    assert torch.equal(found.self_share[1], known.double())  # a single node has itself alone


def test_without_targets_a_deviation_is_how_far_the_prediction_moves() -> None:
    net, batch = random_network(**KINDS[1]), random_batch(SIZES)
    found = explain(net, batch)
    removal = remove_heads(net, batch)
    moved = (removal.without - removal.outputs).abs().mean(dim=3).permute(2, 0, 1)
    torch.testing.assert_close(found.deviation, moved)
    assert (found.deviation >= 0).all()


def test_answers_of_nodes_are_judged_graph_by_graph() -> None:
    net, batch = random_network(**KINDS[3]), random_batch(SIZES)
    targets = torch.randn(24, 2, dtype=torch.float64)
    found = explain(net, batch, targets)
    removal = remove_heads(net, batch)
    for graph, (start, end) in enumerate(itertools.pairwise(batch.offsets.tolist())):
        errors = (removal.without[:, :, start:end] - targets[start:end]).abs().mean(dim=(2, 3))
        plain = (removal.outputs[start:end] - targets[start:end]).abs().mean()
        torch.testing.assert_close(found.deviation[graph], errors - plain)


def test_errors_of_each_task_by_hand() -> None:
    z = torch.tensor([[0.5, -2.0], [1.0, 3.0]], dtype=torch.float64)
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0]], dtype=torch.float64)
    p = torch.sigmoid(z)
    classes = torch.tensor([0, 0])
    assert ERRORS["reference", "multilabel"](z, labels).tolist() == [0.0, 0.5]
    assert ERRORS["reference", "multiclass"](z, classes).tolist() == [0.0, 1.0]
    wanted = torch.stack((-p[0, 0].log(), (-(1 - p[1, 0]).log() - p[1, 1].log()) / 2))
    torch.testing.assert_close(ERRORS["soft", "multilabel"](z, labels), wanted)
    torch.testing.assert_close(ERRORS["soft", "multiclass"](z, classes), -z.softmax(1)[:, 0].log())
    one = z[:, :1], torch.tensor([1.0, 0.0])
    torch.testing.assert_close(ERRORS["reference", "binary"](*one), torch.stack((1 - p[0, 0], p[1, 0])))
    torch.testing.assert_close(ERRORS["soft", "binary"](*one), -torch.stack((p[0, 0], 1 - p[1, 0])).log())
    torch.testing.assert_close(ERRORS["soft", "regression"](z, z + 2.0), torch.full((2,), 2.0, dtype=torch.float64))


def test_one_top_head_is_refused() -> None:
    with pytest.raises(GraphError, match="k is 1"):
        explain(random_network(), random_batch(SIZES), k=1)
