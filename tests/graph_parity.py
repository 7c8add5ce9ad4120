"""DARTS-GT's layers, search layers, whole models and explanations for `tests/parity.py`, from files of graphs.

Those files have other names for the same things; `known_names` gives them the names of the others.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphs.darts_gt import DartsGT, DartsGTConfig, DartsLayer, GraphDataShape, GraphTransformer, SingleOperator
from graphs.darts_reference import load_reference_weights, own_names
from graphs.darts_search import Mixture, SearchConfig
from graphs.graph_batch import GraphBatch
from graphs.graph_context import EdgeStates, GraphContext
from graphs.interpretability import Explanation, explain

Tensors = dict[str, Tensor]

MODELS = ("discrete layer", "search layer", "whole model")  # how the metadata's kind begins
POOLING = {"add": "sum", "mean": "mean", "max": "max"}
# What is added to all keys alike shifts all scores of a query alike, and softmax ignores that.
ZERO_GRADIENTS = ".W_k.bias"


def model_of(meta: Mapping[str, Any]) -> str | None:
    """Which of `MODELS` a graph file is about, None for other files."""
    kind = str(meta.get("kind", ""))
    return next((f"DARTS-GT {model}" for model in MODELS if kind.startswith(model)), None)


def known_names(tensors: Tensors) -> Tensors:
    """The tensors of a graph file under the names of series files; float64 gradients stand for both precisions.

    In dense attention, what the authors' code has for queries that only pad a graph means nothing, and becomes 0.
    """
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        if name.startswith("grad.param."):
            renamed[name.replace("grad.param.", "grad_param.")] = tensor
        elif name.startswith("grad.input."):
            short = name.removeprefix("grad.input.")
            renamed |= {f"grad.{short}": tensor.float(), f"grad_f64.{short}": tensor}
        elif name == "output64":
            renamed["output_f64"] = tensor
        elif name.startswith("stage."):
            renamed[name.replace("stage.", "inter.")] = tensor
        elif name == "output.attention":
            sizes = torch.bincount(tensors["input.batch"])
            padding = torch.arange(tensor.shape[2]) >= sizes[:, None]
            renamed["attn.attention"] = tensor.masked_fill(padding[:, None, :, None], 0.0)
        elif name.startswith("output."):
            renamed[name.replace("output.", "attn.")] = tensor
        else:
            renamed[name] = tensor
    return renamed


def graph_batch(inputs: Mapping[str, Tensor]) -> GraphBatch:
    """The batch of a file's inputs; a table of edge codes may have lost its only column."""
    graph, nodes, edges = inputs["batch"], inputs["x"], inputs["edge_attr"]
    none = torch.zeros(len(nodes), 0)
    return GraphBatch(
        nodes=nodes,
        edges=inputs["edge_index"],
        edge_features=edges[:, None] if edges.dim() == 1 else edges,
        offsets=torch.cat((graph.new_zeros(1), torch.bincount(graph).cumsum(0))),
        walks=inputs.get("pestat_RWSE", none),
        eigenvectors=inputs.get("EigVecs", none),
        eigenvalues=inputs["EigVals"].squeeze(2) if "EigVals" in inputs else none,
    )


def reproduce_layer(meta: Mapping[str, Any], params: Tensors, inputs: Tensors, dtype: torch.dtype) -> Tensors:
    """A layer, with one operator or the mixture of the search: output, attention, all gradients.

    Raises `AttributeError` if other weights than the file says are without gradient.
    """
    config = DartsGTConfig(
        width=meta["dim"], heads=meta["heads"], layers=1, flavour=meta["variant"], attention=meta["attention"]
    )
    structure: nn.Module
    if "operators" in meta:
        search = SearchConfig(candidates=tuple(meta["operators"]))
        structure = Mixture(config, search, nn.Parameter(torch.zeros(len(search.candidates))))
    else:
        structure = SingleOperator(meta["operator"], config)
    layer = load_reference_weights(DartsLayer(config, structure), params).to(dtype).eval()
    nodes = inputs["x"].to(dtype, copy=True).requires_grad_()
    edge_features = inputs["edge_attr"].to(dtype, copy=True).requires_grad_()
    context = GraphContext.of(
        graph_batch(inputs),
        EdgeStates(edge_features),
        dense=config.attention == "dense",
        self_loops=config.attention_self_loops,
    )

    output = layer(nodes, context)
    wave = torch.arange(output.numel(), dtype=dtype).cos().view_as(output)
    ((output * wave).sum() + 0.5 * output.square().mean()).backward()
    assert nodes.grad is not None and edge_features.grad is not None  # both take part in every output
    made = {"output": output.detach(), "grad.x": nodes.grad, "grad.edge_attr": edge_features.grad}
    without = []
    own = dict(layer.named_parameters())
    for name, given in params.items():
        weights = [own[part] for part in own_names(name) if part in own]
        if not weights:
            continue  # a buffer
        grads = [weight.grad for weight in weights if weight.grad is not None]
        if grads:
            made[f"grad_param.{name}"] = torch.cat([grad.reshape(-1) for grad in grads]).view(given.shape)
        else:
            without.append(name)
    if sorted(without) != sorted(meta["params_without_gradient"]):
        raise AttributeError(f"without gradient: {without}, in the file {meta['params_without_gradient']}")
    if "operators" not in meta:
        with torch.no_grad():
            weights = layer.attention.weights(*layer.query_and_source(nodes, context), context)
        made["attn.attention" if config.attention == "dense" else "attn.attention_edges"] = weights
    return made


def whole_model(meta: Mapping[str, Any], params: Tensors, inputs: Tensors) -> GraphTransformer:
    """The whole model of a file with its weights; what the settings do not say is read off the weights' names."""
    first = "discrete_sequential.0."
    flavours = {"edge": f"{first}edge_gate", "qproj": f"{first}q_projection.0.weight"}
    sizes = {name.removeprefix("encoder."): tuple(weight.shape) for name, weight in params.items()}
    features, feature_columns = "linear", inputs["x"].shape[1]
    if "node_encoder.encoder1.atom_embedding_list.0.weight" in sizes:
        features = "atom"
    elif "node_encoder.encoder1.encoder.weight" in sizes:
        features, feature_columns = "type_dict", sizes["node_encoder.encoder1.encoder.weight"][0]
    edges, edge_columns = "bond", 0
    if "edge_encoder.encoder.weight" in sizes:
        edge_columns = sizes["edge_encoder.encoder.weight"][0]
        edges = "dummy" if edge_columns == 1 else "type_dict"
    positions = "rwse" if meta["posenc"]["RWSE"] else "lappe"
    last = [name for name in params if name.startswith("post_mp.") and name.endswith(".bias")]
    width = [size for name, size in sizes.items() if name.endswith(("pe_encoder.bias", "pe_encoder.1.bias"))]
    config = DartsGTConfig(
        architecture=tuple(meta["architecture"]),
        layers=meta["layers"],
        width=meta["dim"],
        heads=meta["heads"],
        flavour=next((flavour for flavour, name in flavours.items() if name in params), "plain"),
        attention="sparse" if "Sparse" in meta["attention"] else "dense",
        node_features=features,
        edge_features=edges,
        positions=positions,
        position_width=width[0][0],
        head=meta["head"],
        head_layers=len(last),
        pooling=POOLING[meta["pooling"]],
    )
    outputs = min(len(params[name]) for name in last) if meta["head"] == "san_graph" else len(params[last[-1]])
    walks = inputs["pestat_RWSE"].shape[1] if positions == "rwse" else 0
    shape = GraphDataShape(feature_columns, outputs, edge_columns, walks)
    return load_reference_weights(DartsGT(shape, config), params)


def reproduce_model(meta: Mapping[str, Any], params: Tensors, inputs: Tensors, dtype: torch.dtype) -> Tensors:
    """A whole model: the nodes as encoded, after every layer, and the output. Raises `ValueError` for a wrong size."""
    net = whole_model(meta, params, inputs).to(dtype).eval()
    count = sum(weight.numel() for weight in net.parameters())
    if count != meta["parameters"]:
        raise ValueError(f"{count} parameters, in the file {meta['parameters']}")
    made = {}
    with torch.no_grad():
        nodes, context = net.encode(graph_batch(inputs))
        made["inter.encoder"] = nodes
        for number, layer in enumerate(net.layers):
            nodes = layer(nodes, context)
            made[f"inter.layer_{number}"] = nodes
        made["output"] = net(graph_batch(inputs))
    return made


class Ready(nn.Module):
    """An encoder of what is encoded already."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def explained(meta: Mapping[str, Any], params: Tensors, inputs: Tensors) -> tuple[DartsGT, GraphBatch]:
    """The network whose heads a file removes, in eval mode, and its graphs."""
    config = DartsGTConfig(
        architecture=("GINE", "GATV2", "CustomGatedGCN"),
        layers=3,
        width=16,
        heads=4,
        flavour="plain",
        attention=meta["attention"],
    )
    net = DartsGT(GraphDataShape(16, 1, 16), config)
    net.node_features = net.edge_features = Ready()
    named = {name.replace("head.", "post_mp.layer_post_mp.model.0.model."): weight for name, weight in params.items()}
    return load_reference_weights(net, named).eval(), graph_batch(inputs)


def reproduce_explanation(meta: Mapping[str, Any], params: Tensors, inputs: Tensors) -> Tensors:
    """What a removal of every head tells, and the answers with all of them; raises ValueError for other top nodes."""
    net, batch = explained(meta, params, inputs)
    found = explain(net, batch, inputs["y"], task=meta["task"], k=meta["k"], error="reference", rank="reference")
    if top_nodes_by_head(found) != meta["top_nodes_per_head"]:
        raise ValueError("the top heads have other top nodes")
    with torch.no_grad():
        answers = net(batch).flatten()
    names = ("correlation", "focus", "specialization", "top_heads")
    return {
        "output.baseline": answers,
        "output.head_deviation": found.deviation,
        **{f"output.{name}": getattr(found, name) for name in names},
    }


def top_nodes_by_head(found: Explanation) -> dict[str, list[int]]:
    """The top nodes of every graph's top heads, as the files name them."""
    return {
        f"{graph}.L{head // 4}_H{head % 4}": [node for node in found.top_nodes[graph, place].tolist() if node >= 0]
        for graph, heads in enumerate(found.top_heads.tolist())
        for place, head in enumerate(heads)
    }
