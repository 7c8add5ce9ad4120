"""Compares the networks with reference tensors made by their authors' code: `python tests/parity.py FILE…`.

A file is one case: weights, inputs, and what the authors' code made of them (tests/golden/README.md explains
the names). The model, its settings and all sizes come from the file's metadata and tensors, never from its
name. The network is rebuilt in eval mode, in float32 and in float64, and every reference tensor is compared:
outputs, intermediate values, attention maps, and the gradients of sum(output ** 2).

An error is the largest absolute difference, divided by the largest absolute value of the reference tensor. A
file fails if a tensor is off, if it lacks one that its model must have, or holds one that is not understood.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

if __package__ is None:  # run as a program, from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from forecast.data.windows import Window, WindowShape
from forecast.errors import ForecastError
from forecast.models import (
    Informer,
    InformerConfig,
    ITransformer,
    ITransformerConfig,
    SMamba,
    SMambaConfig,
    load_reference_weights,
)
from forecast.models.layers.embed import MONTH_STARTS
from forecast.models.layers.prob_attention import FullHeads, ProbHeads, TopQueries
from forecast.models.layers.ssm import MambaBlock, selective_scan
from forecast.models.reference import translate
from graphs.graph_batch import GraphError
from tests import graph_parity
from tests.statistics_parity import reproduce_class_weights, reproduce_positions

Tensors = dict[str, Tensor]

# Float64 against float64: two correct programs differ by some 1e-15 of the peak, a wrong one by 1e-3 or more.
FLOAT64 = 1e-12
# Gradients that are 0 in exact arithmetic are rounding noise in any program; float32 noise may reach this
# share of the file's largest gradient.
FLOAT32_ZERO = 1e-6

# First part of a tensor's name -> what the report calls it.
FAMILIES = {
    "output": "outputs",
    "inter": "intermediates",
    "attn": "intermediates",
    "top_query": "intermediates",
    "last_state": "intermediates",
    "conv_state_f64": "intermediates",
    "ssm_state_f64": "intermediates",
    "grad": "gradients",
    "grad_param": "gradients",
}
MADE_FROM = ("param", "buffer", "input", "sample")  # given, not compared
TWINNED = ("output", "grad", "last_state")  # must be in the file in both precisions


class UnusableError(Exception):
    """The file cannot be judged; the message says why."""


@dataclass(frozen=True)
class Golden:
    """A reference file."""

    meta: Mapping[str, Any]
    tensors: Tensors

    def under(self, family: str) -> Tensors:
        """The tensors named `family` and a dot, without these."""
        start = f"{family}."
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}

    def setting(self, name: str) -> Any:
        """A setting of the authors' network. Raises `UnusableError` if the metadata lacks it."""
        settings = self.meta.get("config", {})
        if name not in settings:
            raise UnusableError(f"metadata lacks config.{name}")
        return settings[name]


@dataclass(frozen=True)
class Case:
    """How the files of one model are run, and the relative errors allowed against float32 references.

    `reproduce` gives, by the names of the file, what the network here makes of it in a precision; that is
    also what the file must hold.
    """

    reproduce: Callable[[Golden, torch.dtype], Tensors]
    values: float  # outputs, intermediate values, attention maps
    input_gradients: float
    weight_gradients: float
    zero_gradients: str | tuple[str, ...] = ()  # how the names end of weights whose gradient is 0 in exact arithmetic
    states: float | None = None  # states after the last step; None: as other values
    twinned: tuple[str, ...] = TWINNED

    def allows(self, name: str) -> float:
        """The error allowed to a tensor."""
        allowed = {"grad": self.input_gradients, "grad_param": self.weight_gradients}
        if self.states is not None:
            allowed["last_state"] = self.states
        return allowed.get(family(name), self.values)


@dataclass
class Result:
    """The verdict on one file; `worst` holds relative errors by (family, precision)."""

    path: Path
    case: str = "?"
    failures: list[str] = field(default_factory=list)
    worst: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures

    def __str__(self) -> str:
        errors = [
            f"{name} {self.worst[name, 'float32']:.1e} (float64 {self.worst[name, 'float64']:.1e})"
            for name in dict.fromkeys(FAMILIES.values())
            if {(name, "float32"), (name, "float64")} <= self.worst.keys()
        ]
        if self.passed:
            return "  ".join(["PASS", self.case, *errors])
        told = "; ".join(self.failures[:3]) + (f"; and {more} more" if (more := len(self.failures) - 3) > 0 else "")
        return " ".join("  ".join(["FAIL", self.case, *errors, f"{self.path}: {told}"]).split("\n"))


def family(name: str) -> str:
    """The first part of a tensor's name."""
    return name.partition(".")[0]


def twin(name: str) -> str:
    """The name of a tensor's float64 version."""
    first, dot, rest = name.partition(".")
    return f"{first}_f64{dot}{rest}"


@contextmanager
def collected(net: nn.Module, modules: Mapping[str, str]) -> Iterator[Tensors]:
    """While open, collects what modules return; `modules` maps the name to keep it under to the path."""
    kept: Tensors = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: kept.update({name: output.detach()})

    hooks = [net.get_submodule(path).register_forward_hook(keep(name)) for name, path in modules.items()]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def reproduce_itransformer(golden: Golden, dtype: torch.dtype) -> Tensors:
    """iTransformer, and its attention maps where the file asks for them."""
    config = ITransformerConfig(heads=golden.setting("n_heads"), **common_settings(golden))
    made, net, window = reproduce_variate_tokens(
        golden, dtype, lambda shape: ITransformer(shape, config), config.layers
    )
    if golden.setting("output_attention") or golden.under("attn"):
        assert isinstance(net, ITransformer)
        with torch.no_grad():
            made |= {f"attn.{layer}": shares for layer, shares in enumerate(net.attention_maps(window))}
    return made


def reproduce_s_mamba(golden: Golden, dtype: torch.dtype) -> Tensors:
    """S-Mamba; the width of its convolution and its expansion are fixed, here as in the authors' network."""
    config = SMambaConfig(d_state=golden.setting("d_state"), **common_settings(golden))
    return reproduce_variate_tokens(golden, dtype, lambda shape: SMamba(shape, config), config.layers)[0]


def common_settings(golden: Golden) -> dict[str, Any]:
    """What the settings of networks of variate tokens have in common."""
    return {
        "d_model": golden.setting("d_model"),
        "d_ff": golden.setting("d_ff"),
        "layers": golden.setting("e_layers"),
        "dropout": golden.setting("dropout"),
        "activation": golden.setting("activation"),
        "use_norm": bool(golden.setting("use_norm")),
    }


def reproduce_variate_tokens(
    golden: Golden, dtype: torch.dtype, build: Callable[[WindowShape], ITransformer | SMamba], layers: int
) -> tuple[Tensors, nn.Module, Window]:
    """`x_enc` (B, L, V) and marks (B, L, K); intermediate values are of all V + K tokens."""
    inputs = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in golden.under("input").items()}
    if "x_enc" not in inputs or inputs.keys() - {"x_enc", "x_mark_enc"}:
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; x_enc and perhaps x_mark_enc are known")
    past = inputs["x_enc"]
    marks = inputs.get("x_mark_enc", past.new_zeros(*past.shape[:2], 0))
    horizon, variates = golden.setting("pred_len"), past.shape[2]
    net = build(WindowShape(golden.setting("seq_len"), horizon, variates, variates, marks.shape[2]))
    weights = golden.under("param")
    load_reference_weights(net.to(dtype).eval(), weights)
    window = Window.of(
        past=past,
        seen=torch.ones_like(past, dtype=torch.bool),
        past_time=marks,
        future_time=marks.new_zeros(marks.shape[0], horizon, marks.shape[2]),
    )

    names = net.reference_names
    stages = ["enc_embedding", *(f"encoder.attn_layers.{i}" for i in range(layers)), "encoder", "projector"]
    with collected(net, {f"inter.{stage}": str(translate(names, stage)) for stage in stages}) as made:
        output = net(window)
    output.square().sum().backward()

    made["output"] = output.detach()
    made |= {f"grad.{name}": tensor.grad for name, tensor in inputs.items() if tensor.grad is not None}
    if golden.meta.get("inputs", {}).get("pgrad") or golden.under("grad_param"):
        for name, weight in weights.items():
            module, _, kind = name.rpartition(".")
            gradient = net.get_parameter(f"{translate(names, module)}.{kind}").grad
            assert gradient is not None  # every weight takes part in the output
            made[f"grad_param.{name}"] = gradient.reshape(weight.shape)
    return made, net, window


def reproduce_mamba(golden: Golden, dtype: torch.dtype) -> Tensors:
    """A Mamba block on `hidden_states` (B, L, D), at once and step by step, with the states that are left."""
    inputs = golden.under("input")
    if inputs.keys() != {"hidden_states"}:
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; hidden_states is needed")
    hidden = inputs["hidden_states"].to(dtype, copy=True).requires_grad_()
    settings = ("d_model", "d_state", "d_conv", "expand", "dt_rank", "conv_bias", "bias")
    net = MambaBlock(**{name: golden.setting(name) for name in settings}).to(dtype).eval()
    net.load_state_dict(golden.under("param"))
    output = net(hidden)
    output.square().sum().backward()
    made = {f"grad_param.{name}": weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
    assert hidden.grad is not None
    made["grad.hidden_states"] = hidden.grad

    state, steps = net.start(len(hidden)), []
    with torch.no_grad():
        for step in hidden.unbind(1):
            out, state = net.step(step, state)
            steps.append(out)
    stepwise = torch.stack(steps, dim=1)
    # The file has one output for both ways: the one that is farther off is compared.
    theirs = golden.tensors["output_f64"]
    made["output"] = max((output.detach(), stepwise), key=lambda own: peak(own.double() - theirs))
    return made | {"conv_state_f64": state.recent, "ssm_state_f64": state.scan}


def reproduce_scan(golden: Golden, dtype: torch.dtype) -> Tensors:
    """The selective scan: `u`, `delta`, `z` (B, channels, L), `A` (channels, N) and the rest as they come."""
    inputs = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in golden.under("input").items()}
    needed, optional = {"u", "delta", "A", "B", "C"}, {"D", "z", "delta_bias", "initial_state"}
    if not needed <= inputs.keys() <= needed | optional:
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; u, delta, A, B and C are needed")
    output, last = selective_scan(**inputs, delta_softplus=golden.setting("delta_softplus"), return_last_state=True)
    losses = {
        "sum(output**2)": output.square().sum(),
        "sum(output**2) + sum(last_state**2)": output.square().sum() + last.square().sum(),
    }
    if golden.meta.get("loss") not in losses:
        raise UnusableError(f'loss "{golden.meta.get("loss")}" is unknown; known: {", ".join(losses)}')
    losses[golden.meta["loss"]].backward()
    made = {f"grad.{name}": tensor.grad for name, tensor in inputs.items() if tensor.grad is not None}
    return made | {"output": output.detach(), "last_state": last.detach()}


def reproduce_informer(golden: Golden, dtype: torch.dtype) -> Tensors:
    """Informer and its stack: `x_enc` (B, L, V), `x_dec` (B, start + H, V), marks of both; recorded key samples."""
    inputs = {name: tensor.to(dtype, copy=True) for name, tensor in golden.under("input").items()}
    if inputs.keys() != {"x_enc", "x_mark_enc", "x_dec", "x_mark_dec"}:
        needed = "x_enc, x_mark_enc, x_dec and x_mark_dec are needed"
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; {needed}")
    scaled = golden.setting("embed") == "timeF"
    leaves = {name: t.requires_grad_() for name, t in inputs.items() if scaled or "mark" not in name}
    past, past_time = inputs["x_enc"], inputs["x_mark_enc"]
    begun, time = inputs["x_dec"], inputs["x_mark_dec"]
    if not scaled:
        past_time, time = features_of_codes(past_time), features_of_codes(time)
    layers = golden.setting("e_layers")
    config = InformerConfig(
        d_model=golden.setting("d_model"),
        d_ff=golden.setting("d_ff"),
        heads=golden.setting("n_heads"),
        decoder_layers=golden.setting("d_layers"),
        start_token=golden.setting("label_len"),
        attention=golden.setting("attn"),
        **{name: golden.setting(name) for name in ("factor", "distil", "mix", "embed", "dropout", "activation")},
        **({"stack": tuple(layers)} if isinstance(layers, list) else {"layers": layers}),
    )
    lookback, horizon = golden.setting("seq_len"), golden.setting("out_len")
    shape = WindowShape(lookback, horizon, golden.setting("enc_in"), golden.setting("c_out"), past_time.shape[2])
    net = Informer(shape, config)
    weights = golden.under("param")
    load_reference_weights(net.to(dtype).eval(), weights | golden.under("buffer"))
    feed_samples(net, golden)

    stages = ["enc_embedding", "encoder", "dec_embedding", "decoder"]
    with collected(net, {f"inter.{stage}": str(translate(net.reference_names, stage)) for stage in stages}) as made:
        net.complete(past, past_time, begun, time).square().sum().backward()
    made |= {f"grad.{name}": tensor.grad for name, tensor in leaves.items() if tensor.grad is not None}
    if golden.meta.get("config", {}).get("pgrad") or golden.under("grad_param"):
        for name, weight in weights.items():
            module, _, kind = name.rpartition(".")
            gradient = net.get_parameter(f"{translate(net.reference_names, module)}.{kind}").grad
            assert gradient is not None  # every weight takes part in the output
            made[f"grad_param.{name}"] = gradient.reshape(weight.shape)
    start = begun.shape[1] - horizon
    window = Window.of(past, torch.ones_like(past, dtype=torch.bool), past_time, time[:, start:])
    with torch.no_grad():
        # From the window alone, so that the network's own start token and zeros are compared too.
        made["output"] = net(window)
        made |= {f"top_query.{call}": chosen for call, chosen in enumerate(net.selected_queries(window))}
        if golden.setting("output_attention") or golden.under("attn"):
            made |= {f"attn.{layer}": shares for layer, shares in enumerate(net.attention_maps(window))}
    return made


def features_of_codes(marks: Tensor) -> Tensor:
    """The scaled time features of a window that mean the authors' month, day, weekday, hour and quarter-hour."""
    month, day, weekday, hour = marks[..., :4].unbind(-1)
    yearday = month.new_tensor(MONTH_STARTS)[month.long() - 1] + day - 1
    minute = [marks[..., 4] * 15 / 59] if marks.shape[-1] == 5 else []
    return torch.stack([*minute, hour / 23, weekday / 6, (day - 1) / 30, yearday / 365], dim=-1) - 0.5


def feed_samples(net: nn.Module, golden: Golden) -> None:
    """Let ProbSparse attention look at the keys that the authors' code drew, in the order of its calls."""
    tops, samples = [part for part in net.modules() if isinstance(part, TopQueries)], golden.under("sample")
    drawn = {str(call): top for call, top in enumerate(tops)}
    faults = [f"sample.{call} is absent" for call in sorted(drawn.keys() - samples.keys())]
    faults += [f"sample.{call} is not understood" for call in sorted(samples.keys() - drawn.keys())]
    if faults:
        raise UnusableError("; ".join(faults))
    for call, top in drawn.items():
        sample = samples[call]
        if sample.shape != top.sample.shape:
            raise UnusableError(f"sample.{call} is {tuple(sample.shape)}; here {tuple(top.sample.shape)}")
        top.sample = sample


def reproduce_attention(golden: Golden, dtype: torch.dtype) -> Tensors:
    """Informer's attention without projections: queries (B, Q, A, E), keys and values (B, C, A, E)."""
    inputs = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in golden.under("input").items()}
    if inputs.keys() != {"queries", "keys", "values"}:
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; queries, keys and values are needed")
    query, key, value = (inputs[name].transpose(1, 2) for name in ("queries", "keys", "values"))
    causal, factor = golden.setting("mask_flag"), golden.setting("factor")
    net: nn.Module
    if golden.meta["model"] == "FullAttention":
        net = FullHeads(0.0, causal=causal)
    else:
        net = ProbHeads(query.shape[2], key.shape[2], factor, 0, causal=causal)
    feed_samples(net.eval(), golden)
    tops = {f"top_query.{call}": name for call, name in enumerate(dict(net.named_children()))}
    with collected(net, tops) as made:
        output = net(query, key, value).transpose(1, 2)
    output.square().sum().backward()
    made["output"] = output.detach()
    return made | {f"grad.{name}": tensor.grad for name, tensor in inputs.items() if tensor.grad is not None}


def reproduce_graph_layer(golden: Golden, dtype: torch.dtype) -> Tensors:
    """A layer of DARTS-GT, or of its search."""
    return graph_parity.reproduce_layer(golden.meta, golden.under("param"), golden.under("input"), dtype)


def reproduce_graph_model(golden: Golden, dtype: torch.dtype) -> Tensors:
    """DARTS-GT as a whole."""
    return graph_parity.reproduce_model(golden.meta, golden.under("param"), golden.under("input"), dtype)


def reproduce_graph_explanation(golden: Golden, dtype: torch.dtype) -> Tensors:
    """What the removal of every head of DARTS-GT tells; the network in single precision, as theirs was."""
    return graph_parity.reproduce_explanation(golden.meta, golden.under("param"), golden.under("input"))


def reproduce_graph_positions(golden: Golden, dtype: torch.dtype) -> Tensors:
    """Random-walk and Laplacian statistics of a few graphs; always computed in double precision."""
    return reproduce_positions(golden.under("input"), golden.tensors)


def reproduce_weighted_classes(golden: Golden, dtype: torch.dtype) -> Tensors:
    """Losses and accuracies weighted by class."""
    return reproduce_class_weights(golden.under("input"), dtype)


# Allowed: about ten times the difference between the authors' float32 and float64 results.
CASES: Mapping[str, Case] = {
    "iTransformer": Case(
        reproduce_itransformer,
        values=3e-6,
        input_gradients=1e-5,
        weight_gradients=1e-5,
        # What is added to all keys alike shifts all scores of a query alike, and softmax ignores that.
        zero_gradients=".key_projection.bias",
    ),
    **{
        model: Case(
            reproduce_informer,
            values=3e-6,
            input_gradients=1e-5,
            weight_gradients=1e-5,
            zero_gradients=".key_projection.bias",
        )
        for model in ("Informer", "InformerStack")
    },
    **{
        model: Case(
            reproduce_attention,
            values=3e-6,
            input_gradients=5e-6,
            weight_gradients=0.0,  # it has none
            zero_gradients=".key_projection.bias",
        )
        for model in ("FullAttention", "ProbAttention")
    },
    # The weakest gradients, of dt_proj.weight, are small next to what they are sums of.
    "S_Mamba": Case(reproduce_s_mamba, values=3e-6, input_gradients=1e-5, weight_gradients=2e-5),
    "Mamba": Case(
        reproduce_mamba,
        values=4e-6,
        input_gradients=5e-6,
        weight_gradients=1e-5,
        twinned=(*TWINNED, "grad_param"),
    ),
    # Long sequences: states that hardly decay add up the rounding of thousands of steps.
    "selective_scan_ref": Case(
        reproduce_scan,
        values=4e-6,
        input_gradients=1.5e-5,
        weight_gradients=0.0,  # it has no weights
        states=1e-5,
    ),
    **{
        f"DARTS-GT {kind} layer": Case(
            reproduce_graph_layer,
            values=5e-6,
            input_gradients=1e-5,
            weight_gradients=1e-5,
            zero_gradients=graph_parity.ZERO_GRADIENTS,
        )
        for kind in ("discrete", "search")
    },
    "DARTS-GT whole model": Case(reproduce_graph_model, values=1e-5, input_gradients=0.0, weight_gradients=0.0),
    **{
        f"graphs/interpretability_{kind}": Case(
            reproduce_graph_explanation, values=1e-5, input_gradients=0.0, weight_gradients=0.0, twinned=()
        )
        for kind in ("dense_binary", "dense_regression", "sparse_binary", "sparse_regression")
    },
    # No networks, so their files name no model; single precision only. Zero entries of eigenvectors are noise of 1e-9.
    "graphs/posenc_stats": Case(
        reproduce_graph_positions, values=1e-6, input_gradients=0.0, weight_gradients=0.0, twinned=()
    ),
    "graphs/sbm_loss_and_accuracy": Case(
        reproduce_weighted_classes, values=1e-6, input_gradients=1e-6, weight_gradients=0.0, twinned=()
    ),
}


def read(path: Path) -> Golden:
    """The file's metadata and tensors. Raises `UnusableError`."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("meta", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise UnusableError(f"cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise UnusableError(f'metadata "meta" is not JSON: {error}') from error
    if isinstance(meta, dict) and (model := graph_parity.model_of(meta)):
        return Golden({**meta, "model": model}, graph_parity.known_names(tensors))
    if not isinstance(meta, dict) or not (meta.keys() & {"model"} or meta.get("case") in CASES):
        raise UnusableError('metadata "meta" names no model')
    return Golden(meta, tensors)


def check(path: str | Path) -> Result:
    """Rebuild the network of a reference file and compare every tensor that the authors' code made."""
    result = Result(Path(path))
    try:
        golden = read(result.path)
        result.case = str(golden.meta.get("case", "?"))
        model = golden.meta.get("model", golden.meta.get("case"))
        case = CASES.get(model)
        if case is None:
            raise UnusableError(f'model "{model}" is unknown; known: {", ".join(CASES)}')
        for dtype in (torch.float32, torch.float64):
            compare(golden, case, dtype, result)
    except (UnusableError, ForecastError, GraphError) as error:
        result.failures.append(str(error))
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:  # metadata and tensors disagree
        result.failures.append(f"cannot be run: {error!r}")
    return result


def compare(golden: Golden, case: Case, dtype: torch.dtype, result: Result) -> None:
    """Add to `result` what the case's network in `dtype` makes of a file, beside what the file says."""
    made = case.reproduce(golden, dtype)
    references = {name: t for name, t in golden.tensors.items() if family(name) not in MADE_FROM}
    double = dtype == torch.float64
    wanted = made.keys() | {twin(name) for name in made if family(name) in case.twinned}
    known = wanted | {twin(name) for name in made}
    faults = [f"{name} is absent" for name in sorted(wanted - references.keys())]
    faults += [f"{name} is not understood" for name in sorted(references.keys() - known)]
    result.failures += [fault for fault in faults if fault not in result.failures]

    largest = max((peak(t) for name, t in references.items() if name.startswith("grad")), default=0.0)
    precision = str(dtype).removeprefix("torch.")
    for name, own in made.items():
        against = twin(name) if double and twin(name) in references else name
        if against not in references:
            continue
        reference = references[against]
        if own.shape != reference.shape:
            result.failures.append(f"{against} is {tuple(reference.shape)}; here {tuple(own.shape)}")
            continue
        if name.startswith("grad_param.") and name.endswith(case.zero_gradients):
            error = (peak(own) if double else peak(own) + peak(reference)) / max(largest, 1e-300)
            allowed = FLOAT64 if double else FLOAT32_ZERO
        elif peak(_told(reference)) == 0.0:
            error = peak(own) / max(largest, 1e-300)
            allowed = FLOAT64 if double else FLOAT32_ZERO
        else:
            padding = own.isnan() & reference.isnan()
            error = peak((own.double() - reference.double()).masked_fill(padding, 0)) / peak(_told(reference))
            allowed = FLOAT64 if double and family(against).endswith("_f64") else case.allows(name)
        if not error <= allowed:  # so that NaN fails
            result.failures.append(f"{against} is off by {error:.1e} in {precision}, allowed {allowed:.0e}")
        key = FAMILIES[family(name)], precision
        result.worst[key] = max(result.worst.get(key, 0.0), math.inf if math.isnan(error) else error)


def _told(tensor: Tensor) -> Tensor:
    """The values that are not padding."""
    return tensor[~tensor.isnan()]


def peak(tensor: Tensor) -> float:
    """The largest absolute value; 0 of no values."""
    return tensor.abs().max().item() if tensor.numel() else 0.0


def main() -> int:
    """Print a line a file, then the count; 0 if all pass."""
    parser = argparse.ArgumentParser(description="Compare the networks with reference tensors.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="safetensors file in the format of tests/golden")
    passed = failed = 0
    for path in parser.parse_args().files:
        result = check(path)
        print(result, flush=True)
        passed, failed = passed + result.passed, failed + (not result.passed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
