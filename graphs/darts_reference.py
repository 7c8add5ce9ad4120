"""Weights of DARTS-GT under its authors' names, for the networks here: whole ones, layers, search layers."""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from .graph_batch import GraphError

Network = TypeVar("Network", bound=nn.Module)

# What the authors' names are turned into, in this order; the first rule that fits a part of a name is used for it.
RULES = (
    (r"^discrete_sequential\.", "layers."),
    (r"\bkv_model\.(\d+)\.", r"structure.operators.\1."),
    (r"\bkv_model\.", "structure.operator."),
    (r"\balpha$", "structure.alpha"),
    (r"\bnorm1_kv\.", "structure.norm."),
    (r"\bnorm1_attn\.", "norm_attention."),
    (r"\bnorm2\.", "norm_out."),
    (r"\bff_linear1\.", "expand."),
    (r"\bff_linear2\.", "contract."),
    (r"\bedge_processor\.", "edge_network."),
    (r"\bq_projection\.", "query_network."),
    (r"\bself_attn\.W_k\.", "attention.key."),
    (r"\bself_attn\.W_v\.", "attention.value."),
    (r"\bself_attn\.(W_o|out_proj)\.", "attention.out."),
    (r"^encoder\.node_encoder\.encoder1\.(encoder|atom_embedding_list\.(?P<n>\d+))\.", "node_features.tables."),
    (r"^encoder\.edge_encoder\.(encoder|bond_embedding_list\.(?P<n>\d+))\.", "edge_features.tables."),
    (r"^encoder\.node_encoder\.linear_x\.", "node_features.linear."),
    (r"^encoder\.node_encoder\.(encoder2\.)?raw_norm\.", "positions.norm."),
    (r"^encoder\.node_encoder\.(encoder2\.)?linear_A\.", "positions.expand."),
    (r"^encoder\.node_encoder\.(encoder2\.)?pe_encoder\.1\.", "positions.contract."),
    (r"^encoder\.node_encoder\.(encoder2\.)?pe_encoder\.", "positions.linear."),
    (r"^post_mp\.layer_post_mp\.model\.0\.Layer_(\d+)\.layer\.model\.", r"head.hidden.\1."),
    (r"^post_mp\.layer_post_mp\.model\.\d+\.model\.", "head.out."),
)
STACKED = re.compile(r"^(.*)self_attn\.in_proj_(weight|bias)$")  # maps of queries, keys and values, one above the other


def own_names(name: str) -> tuple[str, ...]:
    """The name here of the authors' weight `name`; three where it is the stack of theirs, top first."""
    if stacked := STACKED.match(name):
        start = _own_name(stacked[1])
        return tuple(f"{start}attention.{part}.{stacked[2]}" for part in ("query", "key", "value"))
    return (_own_name(name),)


def _own_name(name: str) -> str:
    if read_out := re.match(r"^post_mp\.FC_layers\.(\d+)\.(.*)$", name):
        return f"head.{2 * int(read_out[1])}.{read_out[2]}"  # activations stand between
    for rule, own in RULES:
        if found := re.search(rule, name):
            number = f"{found['n'] or 0}." if "n" in found.re.groupindex else ""
            name = name[: found.start()] + found.expand(own) + number + name[found.end() :]
    return name


def load_reference_weights(net: Network, state_dict: Mapping[str, Tensor]) -> Network:
    """`net` with the weights of the authors' `state_dict` copied in, converted to its precision and device.

    `net` is a `DartsGT`, a `Supernet`, or one of their layers, whose weights then have no prefix. Raises `GraphError`
    that lists, by the names here, what is missing, left over or of another size; `net` is then as it was.
    """
    own = net.state_dict()
    weights: dict[str, Tensor] = {}
    for name, weight in state_dict.items():
        names = own_names(name)
        parts = (weight,) if len(names) == 1 else weight.chunk(len(names))
        weights.update(zip(names, parts, strict=True))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    faults = {
        "missing": sorted(own.keys() - weights.keys()),
        "left over": sorted(weights.keys() - own.keys()),
        "of another size": [
            f"{name} {shapes[name]} for {tuple(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if own[name].shape != weights[name].shape
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{fault} {', '.join(which)}" for fault, which in faults.items() if which)
        raise GraphError(
            f"Weights do not fit {type(net).__name__}: {told}.",
            "Build the network with the settings that the weights were trained with.",
        )
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    return net
