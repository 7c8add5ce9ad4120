"""Compares the networks with reference tensors made by their authors' code: `python tests/parity.py FILE…`.

A file is one case: weights, inputs, and what the authors' code made of them (tests/golden/README.md explains
the names). The model, its settings and all sizes come from the file's metadata and tensors, never from its
name. The network is rebuilt in eval mode, in float32 and in float64, and every reference tensor is compared:
outputs, intermediate values, attention maps, and the gradients of sum(output ** 2).

An error is the largest absolute difference, divided by the largest absolute value of the reference tensor. A
file fails if a tensor is off, if it lacks one that its model must have, or holds one that is not understood.
"""

import argparse
import importlib.util
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

if importlib.util.find_spec("forecast") is None:
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from forecast.data.windows import Window, WindowShape
from forecast.errors import ForecastError
from forecast.models import ITransformer, ITransformerConfig, load_reference_weights
from forecast.models.reference import translate

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
    "grad": "gradients",
    "grad_param": "gradients",
}
MADE_FROM = ("param", "buffer", "input")  # given, not compared
TWINNED = ("output", "grad")  # must be in the file in both precisions


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
    zero_gradients: str  # how the names end of weights whose gradient is 0 in exact arithmetic

    def allows(self, name: str) -> float:
        """The error allowed to a tensor."""
        allowed = {"grad": self.input_gradients, "grad_param": self.weight_gradients}
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
    """iTransformer: `x_enc` (B, L, V) and marks (B, L, K); intermediate values are of all V + K tokens."""
    inputs = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in golden.under("input").items()}
    if "x_enc" not in inputs or inputs.keys() - {"x_enc", "x_mark_enc"}:
        raise UnusableError(f"inputs are {', '.join(inputs) or 'absent'}; x_enc and perhaps x_mark_enc are known")
    past = inputs["x_enc"]
    marks = inputs.get("x_mark_enc", past.new_zeros(*past.shape[:2], 0))
    horizon, variates = golden.setting("pred_len"), past.shape[2]
    config = ITransformerConfig(
        d_model=golden.setting("d_model"),
        d_ff=golden.setting("d_ff"),
        heads=golden.setting("n_heads"),
        layers=golden.setting("e_layers"),
        dropout=golden.setting("dropout"),
        activation=golden.setting("activation"),
        use_norm=bool(golden.setting("use_norm")),
    )
    net = ITransformer(WindowShape(golden.setting("seq_len"), horizon, variates, variates, marks.shape[2]), config)
    weights = golden.under("param")
    load_reference_weights(net.to(dtype).eval(), weights)
    window = Window(
        past=past,
        seen=torch.ones_like(past, dtype=torch.bool),
        past_time=marks,
        future_time=marks.new_zeros(marks.shape[0], horizon, marks.shape[2]),
    )

    names = net.reference_names
    stages = [
        "enc_embedding",
        *(f"encoder.attn_layers.{i}" for i in range(config.layers)),
        "encoder",
        "projector",
    ]
    with collected(net, {f"inter.{stage}": str(translate(names, stage)) for stage in stages}) as made:
        output = net(window)
    output.square().sum().backward()

    made["output"] = output.detach()
    made |= {f"grad.{name}": tensor.grad for name, tensor in inputs.items() if tensor.grad is not None}
    if golden.setting("output_attention") or golden.under("attn"):
        with torch.no_grad():
            made |= {f"attn.{layer}": shares for layer, shares in enumerate(net.attention_maps(window))}
    if golden.meta.get("inputs", {}).get("pgrad") or golden.under("grad_param"):
        for name, weight in weights.items():
            module, _, kind = name.rpartition(".")
            gradient = net.get_parameter(f"{translate(names, module)}.{kind}").grad
            assert gradient is not None  # every weight takes part in the output
            made[f"grad_param.{name}"] = gradient.reshape(weight.shape)
    return made


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
    if not isinstance(meta, dict) or "model" not in meta:
        raise UnusableError('metadata "meta" names no model')
    return Golden(meta, tensors)


def check(path: str | Path) -> Result:
    """Rebuild the network of a reference file and compare every tensor that the authors' code made."""
    result = Result(Path(path))
    try:
        golden = read(result.path)
        result.case = str(golden.meta.get("case", "?"))
        case = CASES.get(golden.meta["model"])
        if case is None:
            raise UnusableError(f'model "{golden.meta["model"]}" is unknown; known: {", ".join(CASES)}')
        for dtype in (torch.float32, torch.float64):
            compare(golden, case, dtype, result)
    except (UnusableError, ForecastError) as error:
        result.failures.append(str(error))
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:  # metadata and tensors disagree
        result.failures.append(f"cannot be run: {error!r}")
    return result


def compare(golden: Golden, case: Case, dtype: torch.dtype, result: Result) -> None:
    """Add to `result` what the case's network in `dtype` makes of a file, beside what the file says."""
    made = case.reproduce(golden, dtype)
    references = {name: t for name, t in golden.tensors.items() if family(name) not in MADE_FROM}
    double = dtype == torch.float64
    wanted = made.keys() | {twin(name) for name in made if family(name) in TWINNED}
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
        elif peak(reference) == 0.0:
            error = peak(own) / max(largest, 1e-300)
            allowed = FLOAT64 if double else FLOAT32_ZERO
        else:
            error = peak(own.double() - reference.double()) / peak(reference)
            allowed = FLOAT64 if against != name else case.allows(name)
        if not error <= allowed:  # so that NaN fails
            result.failures.append(f"{against} is off by {error:.1e} in {precision}, allowed {allowed:.0e}")
        key = FAMILIES[family(name)], precision
        result.worst[key] = max(result.worst.get(key, 0.0), math.inf if math.isnan(error) else error)


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
