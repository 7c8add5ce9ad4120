"""DARTS-GT's network: what must not matter to it, how far it sees, and what it refuses."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphs.darts_gt import DartsGT, DartsGTConfig, DartsLayer, GraphDataShape, SingleOperator
from graphs.darts_search import SearchConfig, Supernet
from graphs.graph_attention import DenseAttention, SparseAttention
from graphs.graph_batch import GraphBatch, GraphError
from graphs.graph_context import EdgeStates, GraphContext
from graphs.graph_encoders import LaplacianEncoder
from graphs.graph_heads import NormedMLP, pool

THREE = ("GINE", "CustomGatedGCN", "GATV2")
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64 sums in another order


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def single(nodes: int, edges: int, *, walks: int = 0, vectors: int = 0) -> GraphBatch:
    """A random directed graph with features, loops and repeated edges as they fall."""
    ends = torch.randint(0, nodes, (2, edges)) if edges else torch.zeros(2, 0, dtype=torch.int64)
    few = min(nodes, vectors)
    padding = torch.full((nodes, vectors - few), torch.nan)
    return GraphBatch(
        nodes=torch.randn(nodes, 3),
        edges=ends,
        edge_features=torch.randn(edges, 2),
        offsets=torch.tensor([0, nodes]),
        walks=torch.rand(nodes, walks),
        eigenvectors=torch.cat((torch.randn(nodes, few), padding), dim=1),
        eigenvalues=torch.cat((torch.rand(1, few).expand(nodes, -1), padding), dim=1),
    )


def join(graphs: list[GraphBatch]) -> GraphBatch:
    starts = torch.tensor([0] + [len(graph.nodes) for graph in graphs]).cumsum(0)
    parts = {name: torch.cat([getattr(graph, name) for graph in graphs]) for name in ("nodes", "edge_features")}
    stats = {name: torch.cat([getattr(g, name) for g in graphs]) for name in ("walks", "eigenvectors", "eigenvalues")}
    edges = torch.cat([graph.edges + start for graph, start in zip(graphs, starts, strict=False)], dim=1)
    return GraphBatch(edges=edges, offsets=starts, **parts, **stats)


def several(**statistics: int) -> list[GraphBatch]:
    return [single(n, e, **statistics) for n, e in ((5, 12), (1, 0), (9, 20), (1, 2), (3, 0), (2, 5))]


def network(**settings: Any) -> DartsGT:
    """A small network in float64 and evaluation mode, whose norms are not at their initial values."""
    config = DartsGTConfig(
        **{"architecture": THREE, "layers": 3, "width": 8, "heads": 2, "edge_features": "linear", **settings}
    )
    shape = GraphDataShape(3, 2, 2, walks=4 if config.positions == "rwse" else 0)
    net = DartsGT(shape, config).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net


VARIANTS = [
    {"flavour": flavour, "attention": attention, **extra}
    for flavour in ("plain", "edge", "qproj")
    for attention, extra in (
        ("dense", {}),
        ("sparse", {}),
        ("sparse", {"attention_self_loops": True, "query_projection_sparse": True}),
    )
] + [{"attention": "sparse", "norm": "layer", "architecture": "None"}]
BOTH = ["dense", "sparse"]


def relabelled(batch: GraphBatch, to: Tensor) -> GraphBatch:
    """Node i of a single graph becomes node to[i]."""
    order = to.argsort()
    rows = {name: getattr(batch, name)[order] for name in ("nodes", "walks", "eigenvectors", "eigenvalues")}
    return batch._replace(edges=to[batch.edges], **rows)


# Property 1


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("positions", ["none", "rwse", "lappe"])
def test_names_of_nodes_do_not_matter(settings: dict[str, Any], positions: str) -> None:
    batch = single(9, 25, walks=4, vectors=12)
    to = torch.randperm(9)
    for head in ("graph", "inductive_node"):
        net = network(**settings, positions=positions, position_width=4, head=head, head_layers=2)
        with torch.no_grad():
            out, other = net(batch), net(relabelled(batch, to))
        torch.testing.assert_close(other, out if head == "graph" else out[to.argsort()], **EXACT)
        assert out.std() > 1e-3


# Property 2


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_graph_does_not_depend_on_its_companions(settings: dict[str, Any]) -> None:
    graphs = several(vectors=4)
    net = network(**settings, positions="lappe", position_width=4)
    with torch.no_grad():
        together, alone = net(join(graphs)), torch.cat([net(graph) for graph in graphs])
    torch.testing.assert_close(together, alone, **EXACT)
    for pooling in ("sum", "max"):
        net = network(**settings, pooling=pooling)
        with torch.no_grad():
            torch.testing.assert_close(net(join(graphs)), torch.cat([net(graph) for graph in graphs]), **EXACT)


@pytest.mark.parametrize("attention", BOTH)
def test_the_search_depends_on_companions_unless_it_does_not_standardise(attention: str) -> None:
    graphs = several()
    config = DartsGTConfig(width=8, heads=2, layers=2, attention=attention, edge_features="linear")

    def difference(**settings: Any) -> float:
        torch.manual_seed(1)
        net = Supernet(GraphDataShape(3, 2, 2), config, SearchConfig(**settings)).double().eval()
        with torch.no_grad():
            return float((net(join(graphs)) - torch.cat([net(graph) for graph in graphs])).abs().nan_to_num(1.0).max())

    assert difference(mixture_norm="none") < 1e-10
    assert difference(mixture_norm="none", separate_norms=True) < 1e-10
    assert difference() > 1e-3


# Property 3


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_order_of_edges_does_not_matter(settings: dict[str, Any]) -> None:
    batch = join(several())
    order = torch.randperm(batch.edges.shape[1])
    other = batch._replace(edges=batch.edges[:, order], edge_features=batch.edge_features[order])
    net = network(**settings)
    with torch.no_grad():
        torch.testing.assert_close(net(other), net(batch), **EXACT)


# Property 4


def test_sparse_attention_on_complete_graphs_is_dense_attention() -> None:
    graphs = [single(n, 0) for n in (4, 1, 6)]
    for i, graph in enumerate(graphs):
        pairs = torch.cartesian_prod(torch.arange(len(graph.nodes)), torch.arange(len(graph.nodes)))
        edges = pairs[pairs[:, 0] != pairs[:, 1]].T
        graphs[i] = graph._replace(edges=edges, edge_features=torch.randn(edges.shape[1], 2))
    batch = join(graphs)
    dense = network(attention="dense", flavour="qproj")
    sparse = network(attention="sparse", flavour="qproj", attention_self_loops=True, query_projection_sparse=True)
    sparse.load_state_dict(dense.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(sparse(batch), dense(batch), **EXACT)
    for layer in sparse.layers:  # and the equality is not for want of a query
        nn.init.normal_(layer.attention.query.weight)
    with torch.no_grad():
        assert (sparse(batch) - dense(batch)).abs().max() > 1e-6


# Property 5


def reach(net: DartsGT, batch: GraphBatch) -> Tensor:
    """Whether node j matters to node i's output, (N, N) bool [i, j], by the gradient."""
    nodes = batch.nodes.double().requires_grad_()
    outputs = net(batch._replace(nodes=nodes))
    wave = torch.rand(outputs.shape[1], dtype=outputs.dtype)
    rows = [torch.autograd.grad(row @ wave, nodes, retain_graph=True)[0] for row in outputs]
    return torch.stack(rows).abs().sum(dim=2) > 0


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("operator", THREE)
def test_sparse_layers_see_two_hops_each(operator: str, layers: int) -> None:
    line = torch.stack((torch.arange(11), torch.arange(1, 12)))  # 0 -> 1 -> … -> 11
    batch = single(12, 11)._replace(edges=line)
    net = network(attention="sparse", architecture=operator, layers=layers, head="inductive_node")
    seen = reach(net, batch)
    behind = torch.arange(12)[:, None] - torch.arange(12)[None, :]  # hops from j to i
    assert not seen[(behind < 0) | (behind > 2 * layers)].any()
    assert seen[(behind >= 0) & (behind <= 2 * layers)].float().mean() > 0.9


def test_dense_layers_see_their_graph_and_no_other() -> None:
    batch = join([single(4, 6), single(6, 0)])
    graph = batch.graph
    seen = reach(network(attention="dense", architecture="GINE", layers=1, head="inductive_node"), batch)
    assert torch.equal(seen, graph[:, None] == graph[None, :])


# Property 6


@pytest.mark.parametrize("loops", [False, True])
def test_sparse_attention_adds_up_to_one_where_there_is_an_edge(loops: bool) -> None:
    batch = join(several())
    net = network(attention="sparse", attention_self_loops=loops)
    with torch.no_grad():
        _, context = net.encode(batch)
        for weights in net.attention(batch):
            total = torch.zeros(len(batch.nodes), 2, dtype=torch.float64)
            total.index_add_(0, context.attention_edges[1], weights)
            asked = torch.bincount(context.attention_edges[1], minlength=len(total)) > 0
            torch.testing.assert_close(total, asked[:, None].double().expand(-1, 2), **EXACT)
    assert bool(asked.all()) is loops


def test_dense_attention_adds_up_to_one_over_the_nodes_of_the_graph() -> None:
    batch = join(several())
    net = network(attention="dense")
    sizes = batch.offsets.diff()
    with torch.no_grad():
        weights = net.attention(batch)
    assert len(weights) == 3
    present = torch.arange(9) < sizes[:, None]
    for layer in weights:
        torch.testing.assert_close(layer.sum(dim=3), present[:, None].double().expand(-1, 2, -1), **EXACT)
        assert (layer >= 0).all()
        assert layer.masked_select(~present[:, None, None, :]).abs().sum() == 0


def test_a_node_without_incoming_edges_gets_the_output_bias() -> None:
    batch = single(4, 2)._replace(edges=torch.tensor([[0, 1], [1, 2]]))
    context = GraphContext.of(batch, EdgeStates(torch.randn(2, 8)), dense=False, self_loops=False)
    attention = SparseAttention(8, 2, 0.0)
    states = torch.randn(4, 8)
    out = attention.join(attention.heads(states, states, context))
    alone = torch.tensor([True, False, False, True])
    assert torch.equal(out[alone], attention.out.bias.expand(2, -1))
    assert (out[~alone] - attention.out.bias).abs().amax(dim=1).min() > 1e-3


def test_fused_attention_equals_its_weights_times_its_values() -> None:
    batch = join(several())
    context = GraphContext.of(batch, EdgeStates(torch.randn(batch.edges.shape[1], 8)), dense=True, self_loops=False)
    attention = DenseAttention(8, 2, 0.0).double()
    query, source = torch.randn(2, len(batch.nodes), 8, dtype=torch.float64)
    heads = attention.heads(query, source, context)
    values = attention._padded(attention.value(source), context)
    plain = (attention.weights(query, source, context) @ values).transpose(1, 2)[context.present]
    torch.testing.assert_close(heads, plain, **EXACT)


# Property 15


def test_hidden_rows_of_the_head_have_length_one_so_scale_is_lost() -> None:
    head = NormedMLP(8, 3, layers=3).double()
    seen: list[Tensor] = []
    for linear in [*head.hidden[1:], head.out]:
        linear.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    rows = torch.cat((torch.randn(20, 8, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64)))
    for linear in head.hidden:
        nn.init.zeros_(linear.bias)
    out = head(rows)
    assert len(seen) == 2
    for hidden in seen:
        torch.testing.assert_close(hidden.norm(dim=1)[:-1], torch.ones(20, dtype=torch.float64), **EXACT)
        assert hidden[-1].norm() == 0
    torch.testing.assert_close(head(7.5 * rows), out, **EXACT)


def test_the_head_of_forecasts_keeps_scale_and_adds_the_last_value() -> None:
    settings = {"attention": "sparse", "layers": 1, "architecture": "GINE", "head": "forecast"}
    batch = join(several())
    net = network(**settings).double()
    before = net.head(torch.ones(1, 8, dtype=torch.float64)), net.head(1e3 * torch.ones(1, 8, dtype=torch.float64))
    assert before[1].abs().max() > 50 * before[0].abs().max()
    with torch.no_grad():
        plain = net(batch)
        assert plain.shape == (len(batch.nodes), 2)
        net.shape = net.shape._replace(last=1)
        torch.testing.assert_close(net(batch), plain + batch.nodes[:, 1:2], **EXACT)


# Property 17, what is of the network


@pytest.mark.parametrize("signs", ["batch", "graph"])
def test_signs_of_eigenvectors_are_drawn_in_training_alone(signs: str) -> None:
    batch = join(several(vectors=4))
    encoder = LaplacianEncoder(6, signs)
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))
    flipped = batch._replace(eigenvectors=batch.eigenvectors * torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    assert (encoder(flipped) - encoder(batch)).abs().max() > 1e-3
    assert encoder(batch).isfinite().all()  # though single nodes have three absent eigenvectors
    encoder.train()
    draws = [encoder(batch) for _ in range(40)]
    assert len({tuple(draw[0].tolist()) for draw in draws}) > 1
    # The first graph's five nodes and the third's nine: does the one's draw tell the other's?
    kinds = {(tuple(draw[0].tolist()), tuple(draw[6].tolist())) for draw in draws}
    both = len({tuple(draw[0].tolist()) for draw in draws})
    assert (len(kinds) == both) is (signs == "batch")


def test_what_is_expected_over_signs_does_not_depend_on_the_signs_that_were_computed() -> None:
    batch = join(several(vectors=2))
    flipped = batch._replace(eigenvectors=batch.eigenvectors * torch.tensor([-1.0, 1.0]))
    torch.manual_seed(0)
    encoder = LaplacianEncoder(6, "batch").train()
    with torch.no_grad():
        draws = [torch.stack([encoder(one) for _ in range(2000)]).double() for one in (batch, flipped)]
    means, noise = [draw.mean(0) for draw in draws], draws[0].std(0) * (2 / 2000) ** 0.5
    assert (draws[0].std(0) > 0.01).any()
    assert ((means[0] - means[1]).abs() <= 5 * noise + 1e-6).all()


# Property 22


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_degenerate_graphs_train(settings: dict[str, Any]) -> None:
    """Single nodes, no edges, repeated edges, loops: finite outputs and gradients."""
    doubled = single(3, 4)
    doubled = doubled._replace(
        edges=doubled.edges.repeat(1, 2), edge_features=torch.cat((doubled.edge_features, doubled.edge_features))
    )
    loops = single(2, 4)._replace(edges=torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0]]))
    for graphs in ([*several(), doubled, loops], [single(1, 0), single(1, 0)], [single(1, 3), single(4, 0)]):
        net = network(**settings, dropout=0.1).train()
        outputs = net(join(graphs))
        assert outputs.shape == (len(graphs), 2)
        outputs.square().sum().backward()
        assert outputs.isfinite().all()
        assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)


def test_loops_of_the_input_do_not_add_to_those_of_the_attention() -> None:
    batch = single(3, 4)._replace(edges=torch.tensor([[0, 1, 1, 2], [1, 1, 1, 2]]))
    context = GraphContext.of(batch, EdgeStates(torch.randn(4, 8)), dense=False, self_loops=True)
    assert sorted(map(tuple, context.attention_edges.T.tolist())) == [(0, 0), (0, 1), (1, 1), (2, 2)]


def test_a_mask_takes_heads_out_by_graph() -> None:
    graphs = several()
    net = network(attention="dense")
    masks = torch.randint(0, 2, (3, len(graphs), 2)).double()
    with torch.no_grad():
        together = net(join(graphs), masks)
        alone = torch.cat([net(graph, masks[:, i]) for i, graph in enumerate(graphs)])
        torch.testing.assert_close(together, alone, **EXACT)
        torch.testing.assert_close(net(join(graphs), torch.ones(3, 2).double()), net(join(graphs)), rtol=0, atol=0)


# Refusals


@pytest.mark.parametrize(
    ("settings", "told", "hint"),
    [
        ({"width": 10, "heads": 4}, "model.width 10 is not a multiple of model.heads 4", "model.width=12"),
        ({"architecture": ("GINE", "GATV3"), "layers": 2}, '"GATV3" is no operator', "Did you mean GATV2?"),
        ({"architecture": "gine"}, '"gine" is no operator', "Did you mean GINE?"),
        ({"architecture": ("GINE",) * 3, "layers": 4}, "names 3 operators; model.layers is 4", "model.layers=3"),
        ({"attention": "full"}, 'model.attention "full" is not known', "dense or sparse"),
        ({"dropout": 1.0}, "model.dropout is 1.0", "model.dropout=0.1"),
        ({"layers": 0}, "model.layers is 0", "model.layers=1"),
        ({"positions": "rwse", "position_width": 64}, "leaves nothing of model.width 64", "model.position_width=16"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str, hint: str) -> None:
    with pytest.raises(GraphError) as caught:
        DartsGTConfig(**settings)
    assert told in caught.value.message
    assert hint in caught.value.hint


def test_batches_that_cannot_be_are_refused() -> None:
    def refused(net: DartsGT, batch: GraphBatch) -> str:
        with pytest.raises(GraphError) as caught:
            net(batch)
        assert caught.value.hint
        return caught.value.message

    assert "rwse needs 4" in refused(network(positions="rwse", position_width=4), single(5, 4))
    assert "lappe needs eigenvectors" in refused(network(positions="lappe", position_width=4), single(5, 4))
    assert "single node" in refused(network().train(), single(1, 0))
    network().eval()(single(1, 0))
    network(norm="layer", architecture="GINE").train()(single(1, 0))
    empty = single(5, 4)._replace(offsets=torch.tensor([0, 3, 3, 5]))
    assert "Graph 1 of the batch has no nodes" in refused(network(), empty)


# Learning


@pytest.mark.parametrize("settings", [VARIANTS[0], VARIANTS[5], VARIANTS[6]], ids=str)
def test_a_batch_is_learned_by_heart(settings: dict[str, Any]) -> None:
    batch = join([single(6, 12) for _ in range(8)])
    target = torch.randn(8, 2, dtype=torch.float64)
    net = network(**settings, layers=1, architecture="GINE", attention_dropout=0.0).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(60):
        loss = (net(batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * target.var()  # qproj drops keys and values all the while


@pytest.mark.parametrize("kind", ["mean", "sum", "max"])
def test_pooling_is_what_it_says(kind: Any) -> None:
    batch = join(several())
    states = torch.randn(len(batch.nodes), 4) - 5.0  # all below 0, so that a 0 to start from would show
    context = GraphContext.of(batch, EdgeStates(torch.zeros(batch.edges.shape[1], 4)), dense=False, self_loops=False)
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda rows: rows.mean(0),
        "sum": lambda rows: rows.sum(0),
        "max": lambda rows: rows.amax(0),
    }
    wanted = torch.stack([rules[kind](rows) for rows in states.split(batch.offsets.diff().tolist())])
    torch.testing.assert_close(pool(states, context, kind), wanted)


def test_dropout_of_keys_and_values_is_of_qproj_with_projected_queries_alone() -> None:
    def rate(**settings: Any) -> float:
        config = DartsGTConfig(layers=1, width=8, heads=2, **settings)
        return DartsLayer(config, SingleOperator("GINE", config), 0.2).source_dropout.p

    assert rate(flavour="qproj", attention="dense") == 0.2
    assert rate(flavour="qproj", attention="sparse", query_projection_sparse=True) == 0.2
    assert rate(flavour="qproj", attention="sparse") == 0.0
    assert rate(flavour="edge", attention="dense") == 0.0


def test_configs_are_frozen_and_compare_by_value() -> None:
    config = DartsGTConfig(architecture=THREE, layers=3)
    assert dataclasses.replace(config, layers=3) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.layers = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "columns", "tables"),
    [("bond", 3, (5, 6, 2)), ("type_dict", 4, (4,)), ("dummy", 0, (1,)), ("linear", 2, None)],
)
@pytest.mark.parametrize("operator", THREE)
def test_edges_of_the_same_features_may_be_encoded_once(
    kind: str, columns: int, tables: tuple[int, ...] | None, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients are those of edges encoded one by one: codes of few kinds, rows that edges share."""
    torch.manual_seed(1)
    config = DartsGTConfig(architecture=operator, layers=2, width=8, heads=2, edge_features=kind)
    net = DartsGT(GraphDataShape(3, 2, columns), config).double().eval()
    batch = join(several())
    edges = batch.edges.shape[1]
    rows = torch.randint(0, 4, (edges,))
    if tables is None:
        batch = batch._replace(edge_features=torch.randn(4, 2))
    else:
        codes = [torch.randint(0, size, (4,)) for size in tables] if columns else []
        batch = batch._replace(edge_features=torch.stack(codes, dim=1) if codes else torch.zeros(4, 0))
    alone = batch._replace(edge_features=batch.edge_features[rows])
    found = []
    for graphs in (batch._replace(edge_rows=rows), alone, alone):
        net.zero_grad()
        outputs = net(graphs)
        outputs.square().sum().backward()
        found.append([outputs.detach()] + [one.grad.clone() for one in net.parameters() if one.grad is not None])
        monkeypatch.setattr("graphs.graph_encoders.FEW_KINDS", 1 if len(found) == 2 else 256)
    for others in found[1:]:
        assert len(others) == len(found[0]) > 10
        assert all(
            torch.allclose(one, other, rtol=1e-9, atol=1e-12) for one, other in zip(found[0], others, strict=True)
        )


def test_a_code_beyond_its_table_is_refused() -> None:
    net = DartsGT(GraphDataShape(3, 2, 3), DartsGTConfig(edge_features="bond"))
    batch = single(4, 6)._replace(edge_features=torch.zeros(6, 3, dtype=torch.int64))
    batch.edge_features[2, 1] = 6
    with pytest.raises(GraphError, match=r"Edge 2 of the batch has code 6 in column 1; there are codes 0 … 5"):
        net(batch)
