"""What a prediction rests on: head removal and its summaries, as the authors' code has them and as they must behave."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.darts_reference import load_reference_weights
from graphs.graph_batch import GraphBatch, GraphError
from graphs.graph_context import GraphContext
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
from tests.graph_parity import graph_batch

GOLDEN = Path(__file__).parent / "golden" / "graphs"
CASES = ["dense_binary", "dense_regression", "sparse_binary", "sparse_regression"]


class Ready(torch.nn.Module):
    """An encoder of what is encoded already."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def golden(case: str) -> tuple[DartsGT, GraphBatch, dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"interpretability_{case}.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        meta = json.loads(file.metadata()["meta"])
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
    params = {
        name.removeprefix("param.").replace("head.", "post_mp.layer_post_mp.model.0.model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("param.")
    }
    load_reference_weights(net, params)
    inputs = {name.removeprefix("input."): tensor for name, tensor in tensors.items() if name.startswith("input.")}
    return net, graph_batch(inputs), tensors, meta


@pytest.mark.parametrize("case", CASES)
def test_explanations_equal_the_authors(case: str) -> None:
    net, batch, tensors, meta = golden(case)
    found = explain(net, batch, tensors["input.y"], task=meta["task"], k=meta["k"], error="reference", rank="reference")
    # Theirs were made in single precision.
    torch.testing.assert_close(found.deviation, tensors["output.head_deviation"], rtol=0, atol=2e-6)
    torch.testing.assert_close(found.specialization, tensors["output.specialization"].double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.correlation, tensors["output.correlation"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.focus, tensors["output.focus"], rtol=0, atol=1e-12)
    assert torch.equal(found.top_heads, tensors["output.top_heads"])
    nodes = {
        f"{graph}.L{head // 4}_H{head % 4}": [node for node in found.top_nodes[graph, place].tolist() if node >= 0]
        for graph, heads in enumerate(found.top_heads.tolist())
        for place, head in enumerate(heads)
    }
    assert nodes == meta["top_nodes_per_head"]
    # The files hold what can tell a wrong answer: several values of focus, and top heads in each layer.
    assert found.deviation.abs().max() > 1e-3
