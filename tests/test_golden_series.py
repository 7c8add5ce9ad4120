"""The series networks compute what their authors' code computes; tests/parity.py notices when they do not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from forecast.data.windows import WindowShape
from forecast.errors import ArtifactError
from forecast.models import ITransformer, ITransformerConfig, load_reference_weights
from tests.parity import check

HERE = Path(__file__).parent
FILES = sorted(path for path in (HERE / "golden").glob("*/*.safetensors") if path.parent.name != "graphs")
NORM_MARKS = HERE / "golden" / "itransformer" / "norm_marks.safetensors"
ATTENTION_MAPS = HERE / "golden" / "itransformer" / "attention_maps.safetensors"
INFORMER = HERE / "golden" / "informer" / "prob_distil_mix.safetensors"
INFORMER_MAPS = HERE / "golden" / "informer" / "prob_attention_maps.safetensors"
INFORMER_TABLES = HERE / "golden" / "informer" / "prob_embed_learned_h.safetensors"
PROB = HERE / "golden" / "informer_attention" / "prob_self_causal.safetensors"
S_MAMBA = HERE / "golden" / "s_mamba" / "norm_marks.safetensors"
MAMBA = HERE / "golden" / "mamba_block" / "default.safetensors"
SCAN = HERE / "golden" / "selective_scan" / "last_state_in_loss.safetensors"

Change = Callable[[dict[str, Tensor], dict[str, Any]], None]


def open_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["meta"])  # noqa: SIM118


def changed(source: Path, folder: Path, change: Change) -> Path:
    tensors, meta = open_golden(source)
    change(tensors, meta)
    path = folder / "changed.safetensors"
    save_file(tensors, path, metadata={"meta": json.dumps(meta)})
    return path


def authors_weights() -> dict[str, Tensor]:
    tensors, _ = open_golden(NORM_MARKS)
    return {name.removeprefix("param."): tensor for name, tensor in tensors.items() if name.startswith("param.")}


def network_of_norm_marks() -> ITransformer:
    return ITransformer(WindowShape(48, 24, 7, 7, 4), ITransformerConfig(d_model=32, d_ff=48, heads=4))


def test_reference_files_are_here_and_small() -> None:
    assert len(FILES) >= 12
    assert sum(path.stat().st_size for path in FILES) <= 12e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_network_equals_the_authors_code(path: Path) -> None:
    result = check(path)
    assert result.passed, str(result)
    families = {"outputs", "intermediates", "gradients"}
    if open_golden(path)[1]["model"] == "FullAttention":
        families.remove("intermediates")  # a formula in one step
    assert {family for family, _ in result.worst} == families
    assert {precision for _, precision in result.worst} == {"float32", "float64"}


def test_file_name_does_not_matter(tmp_path: Path) -> None:
    assert check(changed(NORM_MARKS, tmp_path, lambda tensors, meta: None)).passed


@pytest.mark.parametrize(
    ("source", "name", "by"),
    [
        (NORM_MARKS, "param.projector.weight", 1e-3),
        (NORM_MARKS, "param.encoder.attn_layers.1.conv2.weight", 1e-3),
        (NORM_MARKS, "input.x_mark_enc", 1e-3),
        (NORM_MARKS, "output", 1e-4),
        (NORM_MARKS, "output_f64", 1e-9),
        (NORM_MARKS, "output_f64", torch.nan),
        (NORM_MARKS, "inter.encoder.attn_layers.0", 1e-3),
        (NORM_MARKS, "grad.x_enc", 1e-1),
        (NORM_MARKS, "grad_f64.x_mark_enc", 1e-7),
        (NORM_MARKS, "grad_param.encoder.norm.weight", 1e-1),
        (NORM_MARKS, "grad_param.encoder.attn_layers.0.attention.key_projection.bias", 1e-3),
        (NORM_MARKS, "grad_param.encoder.attn_layers.0.attention.key_projection.bias", torch.nan),
        (ATTENTION_MAPS, "attn.1", 1e-4),
        (INFORMER, "param.decoder.layers.0.cross_attention.out_projection.weight", 1e-3),
        (INFORMER, "buffer.encoder.conv_layers.0.norm.running_var", 1e-2),
        (INFORMER, "input.x_mark_dec", 1e-2),
        (INFORMER, "input.x_dec", 1e-2),
        (INFORMER, "inter.dec_embedding", 1e-3),
        (INFORMER, "top_query.1", 1),
        (INFORMER, "grad_f64.x_dec", 1e-7),
        (INFORMER, "grad_param.encoder.conv_layers.0.downConv.weight", 1e-1),
        (INFORMER_MAPS, "attn.0", 1e-4),
        (INFORMER_TABLES, "input.x_mark_dec", -1),
        (PROB, "input.values", 1e-3),
        (PROB, "top_query.0", 1),
        (PROB, "output_f64", 1e-9),
        (PROB, "grad.keys", 1e-2),
        (S_MAMBA, "param.encoder.attn_layers.0.attention_r.A_log", 1e-2),
        (S_MAMBA, "inter.encoder.attn_layers.1", 1e-3),
        (S_MAMBA, "grad_param.encoder.attn_layers.1.attention.dt_proj.weight", 1e-7),
        (MAMBA, "param.conv1d.weight", 1e-3),
        (MAMBA, "conv_state_f64", 1e-10),
        (MAMBA, "ssm_state_f64", 1e-10),
        (MAMBA, "grad_param_f64.A_log", 1e-9),
        (SCAN, "input.delta_bias", 1e-3),
        (SCAN, "last_state", 1e-3),
        (SCAN, "last_state_f64", 1e-9),
        (SCAN, "grad_f64.B", 1e-8),
    ],
)
def test_one_wrong_number_fails_the_file(tmp_path: Path, source: Path, name: str, by: float) -> None:
    def disturb(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        tensors[name].view(-1)[-1] += by

    assert not check(changed(source, tmp_path, disturb)).passed


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (NORM_MARKS, "param.encoder.norm.bias"),
        (NORM_MARKS, "input.x_enc"),
        (NORM_MARKS, "output"),
        (NORM_MARKS, "output_f64"),
        (NORM_MARKS, "inter.projector"),
        (NORM_MARKS, "inter.encoder.attn_layers.1"),
        (NORM_MARKS, "grad.x_mark_enc"),
        (NORM_MARKS, "grad_f64.x_enc"),
        (NORM_MARKS, "grad_param.projector.bias"),
        (ATTENTION_MAPS, "attn.0"),
        (INFORMER, "buffer.encoder.conv_layers.0.norm.running_mean"),
        (INFORMER, "input.x_mark_dec"),
        (INFORMER, "sample.1"),
        (INFORMER, "top_query.2"),
        (INFORMER, "inter.decoder"),
        (INFORMER, "grad_param.projection.bias"),
        (INFORMER_MAPS, "attn.1"),
        (PROB, "input.keys"),
        (PROB, "sample.0"),
        (PROB, "top_query.0"),
        (S_MAMBA, "param.encoder.attn_layers.0.attention.D"),
        (MAMBA, "ssm_state_f64"),
        (MAMBA, "grad_param_f64.x_proj.weight"),
        (MAMBA, "input.hidden_states"),
        (SCAN, "last_state_f64"),
        (SCAN, "grad.A"),
        (SCAN, "input.delta"),
    ],
)
def test_file_that_lacks_a_tensor_fails_and_says_which(tmp_path: Path, source: Path, name: str) -> None:
    def drop(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        del tensors[name]

    result = check(changed(source, tmp_path, drop))
    assert not result.passed
    assert name.removeprefix("param.").removeprefix("buffer.").removeprefix("input.") in str(result)


def test_file_that_lacks_all_promised_weight_gradients_fails(tmp_path: Path) -> None:
    def drop(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        for name in [name for name in tensors if name.startswith("grad_param.")]:
            del tensors[name]

    assert "grad_param.projector.bias is absent" in check(changed(NORM_MARKS, tmp_path, drop)).failures


def test_tensor_that_is_not_understood_fails_the_file(tmp_path: Path) -> None:
    def add(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        tensors["last_state"] = torch.zeros(3)

    assert check(changed(NORM_MARKS, tmp_path, add)).failures == ["last_state is not understood"]


def test_scan_with_another_loss_fails(tmp_path: Path) -> None:
    def alter(loss: str) -> Change:
        return lambda tensors, meta: meta.update(loss=loss)

    assert "grad.A is off" in str(check(changed(SCAN, tmp_path, alter("sum(output**2)"))))
    assert 'loss "sum(output)" is unknown' in str(check(changed(SCAN, tmp_path, alter("sum(output)"))))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("model", "Prophet", '"Prophet" is unknown'),
        ("d_model", 64, "of another size"),
        ("e_layers", 3, "missing encoder.attn_layers.2"),
        ("e_layers", 1, "left over encoder.attn_layers.1"),
        ("seq_len", 47, "of another size"),
        ("n_heads", 5, "not a multiple"),
        ("d_ff", None, "lacks config.d_ff"),
        ("use_norm", False, "output is off"),
        ("activation", "relu", "output is off"),
    ],
)
def test_metadata_that_does_not_fit_fails_with_the_reason(tmp_path: Path, key: str, value: object, told: str) -> None:
    def alter(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        where = meta if key == "model" else meta["config"]
        where[key] = value
        if value is None:
            del where[key]

    result = check(changed(NORM_MARKS, tmp_path, alter))
    assert not result.passed
    assert told in "; ".join(result.failures)
    assert "\n" not in str(result)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("factor", 4, "sample.0 is (48, 12); here (48, 16)"),
        ("label_len", 49, "longer than data.lookback"),
        ("label_len", 23, "sample.2 is (48, 12); here (47, 12)"),
        ("e_layers", 3, "missing encoder.attn_layers.2"),
        ("e_layers", [2], "left over encoder.attn_layers.0"),
        ("d_layers", 2, "missing decoder.layers.1"),
        ("distil", False, "left over encoder.conv_layers.0"),
        ("attn", "full", "sample.0 is not understood"),
        ("embed", "fixed", "missing dec_embedding.temporal_embedding.day_embed.emb.weight"),
        ("mix", False, "output is off"),
    ],
)
def test_informer_metadata_that_does_not_fit_fails_with_the_reason(
    tmp_path: Path, key: str, value: object, told: str
) -> None:
    def alter(tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        meta["config"][key] = value

    result = check(changed(INFORMER, tmp_path, alter))
    assert not result.passed
    assert told in "; ".join(result.failures)


def test_what_is_no_reference_file_fails_with_the_reason(tmp_path: Path) -> None:
    absent, cut, bare, text = (tmp_path / name for name in ("absent", "cut", "bare", "text"))
    cut.write_bytes(NORM_MARKS.read_bytes()[:100_000])
    save_file({"output": torch.zeros(1)}, bare)
    save_file({"output": torch.zeros(1)}, text, metadata={"meta": "iTransformer"})
    for path, told in (
        (absent, "cannot be read"),
        (cut, "cannot be read"),
        (bare, "names no model"),
        (text, "is not JSON"),
    ):
        assert told in str(check(path)), path


def test_program_counts_and_exits_accordingly_from_any_folder(tmp_path: Path) -> None:
    def run(*files: Path) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, HERE / "parity.py", *files], cwd=tmp_path, capture_output=True, text=True
        )
        return done.returncode, done.stdout.splitlines()

    code, lines = run(NORM_MARKS, tmp_path / "absent.safetensors")
    assert code == 1
    assert [line[:4] for line in lines[:2]] == ["PASS", "FAIL"]
    assert lines[2:] == ["1 passed, 1 failed"]
    code, lines = run(NORM_MARKS)
    assert code == 0
    assert lines[1:] == ["1 passed, 0 failed"]


def test_authors_weights_that_do_not_fit_are_named_and_leave_the_network_alone() -> None:
    weights = authors_weights()
    weights["encoder.attn_layers.0.conv1.bias"] = torch.zeros(3)
    weights["decoder.weight"] = weights.pop("projector.weight")
    net = network_of_norm_marks()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ArtifactError) as caught:
        load_reference_weights(net, weights)
    assert "missing projector.weight" in caught.value.message
    assert "left over decoder.weight" in caught.value.message
    assert "of another size encoder.attn_layers.0.conv1.bias (3,) for (48,)" in caught.value.message
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_loading_returns_the_network_and_copies_the_weights() -> None:
    weights = authors_weights()
    net = network_of_norm_marks()
    assert load_reference_weights(net, weights) is net
    weights["projector.weight"].zero_()
    assert net.project.weight.abs().max() > 0
    assert torch.equal(net.layers[1].expand.weight, weights["encoder.attn_layers.1.conv1.weight"][..., 0])
