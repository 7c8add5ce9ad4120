"""DARTS-GT computes what its authors' code computes; layers ship with the tests, whole models are too large to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.darts_reference import load_reference_weights
from graphs.darts_search import SearchConfig, Supernet
from graphs.graph_batch import GraphError
from tests.parity import check
from tests.test_golden_series import Change, changed

HERE = Path(__file__).parent
FILES = sorted((HERE / "golden" / "graphs").glob("darts_*.safetensors"))
LARGE = HERE.parents[1] / "shared" / "golden" / "graphs"
GATED = HERE / "golden" / "graphs" / "darts_layer_edge_sparse_customgatedgcn.safetensors"
DENSE = HERE / "golden" / "graphs" / "darts_layer_qproj_dense_gatv2.safetensors"
SEARCH = HERE / "golden" / "graphs" / "darts_search_layer_plain_dense.safetensors"


def test_every_flavour_attention_and_operator_has_a_file() -> None:
    assert len([path for path in FILES if path.name.startswith("darts_layer_")]) == 18
    assert len([path for path in FILES if path.name.startswith("darts_search_layer_")]) == 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_layer_equals_the_authors(path: Path) -> None:
    result = check(path)
    assert result.passed, result.failures
    assert result.worst["outputs", "float64"] < 1e-14
    assert result.worst["gradients", "float64"] < 1e-6  # weights' gradients are stored in float32


@pytest.mark.parametrize("model", ["zinc", "pattern", "molhiv", "peptides_func"])
def test_model_equals_the_authors_at_every_stage(model: str) -> None:
    path = LARGE / f"darts_model_{model}.safetensors"
    if not path.exists():
        pytest.skip("needs ../shared/golden/graphs")
    result = check(path)
    assert result.passed, result.failures
    assert result.worst["outputs", "float64"] < 1e-12


def drop(name: str) -> Change:
    return lambda tensors, meta: tensors.pop(name)


def scale(name: str, by: float) -> Change:
    return lambda tensors, meta: tensors.update({name: tensors[name] * by})


def setting(name: str, value: object) -> Change:
    return lambda tensors, meta: meta.update({name: value})


@pytest.mark.parametrize(
    ("source", "change", "told"),
    [
        (GATED, drop("output64"), "output_f64 is absent"),
        (GATED, drop("grad.param.edge_gate"), "grad_param.edge_gate is absent"),
        (GATED, drop("output.attention_edges"), "attn.attention_edges is absent"),
        (GATED, drop("param.norm2.weight"), "missing norm_out.weight"),
        (GATED, scale("grad.param.kv_model.A.weight", 1.001), "grad_param.kv_model.A.weight is off"),
        (GATED, scale("output64", 1 + 1e-9), "output_f64 is off"),
        (GATED, setting("params_without_gradient", []), "without gradient: ['kv_model.bn_edge_e"),
        (GATED, setting("variant", "plain"), "left over edge_gate"),
        (GATED, setting("operator", "GINE"), "missing structure.operator.eps"),
        (GATED, setting("heads", 2), "output is off"),
        (DENSE, setting("attention", "sparse"), "left over"),
        (DENSE, scale("output.attention", 1.001), "attn.attention is off"),
        (DENSE, scale("grad.param.self_attn.in_proj_weight", 1.001), "in_proj_weight is off"),
        (SEARCH, setting("operators", ["CustomGatedGCN", "GINE", "GATV2"]), "missing"),
        (SEARCH, scale("grad.param.alpha", 1.001), "grad_param.alpha is off"),
    ],
)
def test_file_that_differs_fails_and_says_where(source: Path, change: Change, told: str, tmp_path: Path) -> None:
    assert told in "; ".join(check(changed(source, tmp_path, change)).failures)


def authors_weights() -> dict[str, Tensor]:
    golden = load_file(GATED)
    return {name.removeprefix("param."): golden[name] for name in golden if name.startswith("param.")}


def test_authors_weights_that_do_not_fit_are_named_and_leave_the_network_alone() -> None:
    config = DartsGTConfig(width=16, heads=4, layers=1, architecture="CustomGatedGCN")
    layer = DartsGT(GraphDataShape(3, 1), config).layers[0]
    weights = authors_weights()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    weights["norm2.weight"] = torch.ones(3)
    weights["norm3.weight"] = weights.pop("edge_gate")
    with pytest.raises(GraphError) as caught:
        load_reference_weights(layer, weights)
    assert "missing edge_gate" in caught.value.message
    assert "left over norm3.weight" in caught.value.message
    assert "of another size norm_out.weight (3,) for (16,)" in caught.value.message
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


# The counts in the authors' logs: the size of a layer, of an operator, of an encoder and of a head, added up by hand
# below, and what the networks here are made of.
SPARSE = {"attention": "sparse"}
ATOM_RWSE = {"node_features": "atom", "edge_features": "bond", "positions": "rwse"}
ATOM_LAPPE = {"node_features": "atom", "edge_features": "bond", "positions": "lappe", "position_width": 16}
PEPTIDES = {"flavour": "qproj", "attention": "dense", "width": 120, "head": "graph", "head_layers": 1, **ATOM_LAPPE}
LETTERS = {"G": "GINE", "C": "CustomGatedGCN", "V": "GATV2"}


def molecule_codes(width: int, positions: int) -> int:
    return 174 * (width - positions) + 13 * width


def random_walks(steps: int, width: int) -> int:
    return 2 * steps + steps * width + width


def laplacian(width: int) -> int:
    return (2 * 2 * width + 2 * width) + (2 * width * width + width)


def halving(width: int, outputs: int) -> int:
    half, quarter = width // 2, width // 4
    return width * half + half + half * quarter + quarter + quarter * outputs + outputs


def layered(width: int, outputs: int, layers: int) -> int:
    return (layers - 1) * (width * width + width) + width * outputs + outputs


PUBLISHED: dict[str, tuple[int, str, GraphDataShape, dict[str, Any], int]] = {
    "ZINC": (
        411_309,
        "GGCVVVCG",
        GraphDataShape(28, 1, 4, 20),
        {
            "node_features": "type_dict",
            "edge_features": "type_dict",
            "positions": "rwse",
            "position_width": 28,
            "head": "san_graph",
            "pooling": "sum",
            **SPARSE,
        },
        28 * 36 + 4 * 64 + random_walks(20, 28) + halving(64, 1),
    ),
    "PATTERN": (
        323_895,
        "VGVCCV",
        GraphDataShape(3, 1),
        {"positions": "lappe", "head": "inductive_node", "head_layers": 3, **SPARSE},
        (3 * 48 + 48) + 64 + laplacian(16) + layered(64, 1, 3),
    ),
    "CLUSTER": (
        515_510,
        "VVCCCGGCCCCCCCCC",
        GraphDataShape(7, 6),
        {"width": 48, "heads": 8, "positions": "lappe", "head": "inductive_node", "head_layers": 3, **SPARSE},
        (7 * 32 + 32) + 48 + laplacian(16) + layered(48, 6, 3),
    ),
    "MolHIV": (
        348_113,
        "CGCVGVGG",
        GraphDataShape(9, 1, 3, 16),
        {"flavour": "plain", "position_width": 16, "head": "san_graph", **ATOM_RWSE, **SPARSE},
        molecule_codes(64, 16) + random_walks(16, 16) + halving(64, 1),
    ),
    "MolPCBA": (
        5_892_956,
        "GGGC",
        GraphDataShape(9, 128, 3, 16),
        {"flavour": "plain", "width": 384, "position_width": 20, **ATOM_RWSE, **SPARSE},
        molecule_codes(384, 20) + random_walks(16, 20) + layered(384, 128, 1),
    ),
    "MalNet-Tiny": (
        206_217,
        "CGGG",
        GraphDataShape(5, 5),
        {"node_features": "pre_layer", "head_layers": 3, "pooling": "max", **SPARSE},
        (5 * 64 + 2 * 64) + 64 + layered(64, 5, 3),
    ),
    "Peptides-func": (
        459_250,
        "CC",
        GraphDataShape(9, 10, 3),
        PEPTIDES,
        molecule_codes(120, 16) + laplacian(16) + layered(120, 10, 1),
    ),
    "Peptides-struct": (
        415_331,
        "CG",
        GraphDataShape(9, 11, 3),
        PEPTIDES,
        molecule_codes(120, 16) + laplacian(16) + layered(120, 11, 1),
    ),
}


def operator_size(name: str, width: int) -> int:
    quadratic, linear = {"GINE": (2, 2), "CustomGatedGCN": (5, 9), "GATV2": (3, 4)}[name]
    return quadratic * width**2 + linear * width


def layer_size(config: DartsGTConfig) -> int:
    """A layer without its operators."""
    width = config.width
    attention = (4 if config.attention == "dense" else 3) * (width**2 + width)
    extra = {"plain": 0, "edge": 2 * width**2 + 2 * width + 1, "qproj": 2 * width**2 + 2 * width}
    return 6 * width + 4 * width**2 + 3 * width + attention + extra[config.flavour]


def count(net: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("data", PUBLISHED)
def test_parameters_are_as_many_as_published(data: str) -> None:
    published, letters, shape, settings, around = PUBLISHED[data]
    names = tuple(LETTERS[letter] for letter in letters)
    config = DartsGTConfig(architecture=names, layers=len(names), **settings)
    by_hand = around + sum(layer_size(config) + operator_size(name, config.width) for name in names)
    assert count(DartsGT(shape, config)) == by_hand == published


def test_supernet_has_as_many_parameters_as_published() -> None:
    _, letters, shape, settings, around = PUBLISHED["ZINC"]
    config = DartsGTConfig(layers=len(letters), **settings)
    operators = sum(operator_size(name, 64) for name in LETTERS.values())
    by_hand = around + 8 * (layer_size(config) + operators + 3)
    assert count(Supernet(shape, config, SearchConfig())) == by_hand == 641_989
