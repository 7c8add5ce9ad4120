"""Weights trained by the authors' code, under the authors' names, for the networks here."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import ArtifactError


class Published(Protocol):
    """A network that knows what the authors call its modules.

    It may also have `reference_unused`: authors' modules whose weights their forward pass never uses.
    """

    reference_names: ClassVar[Mapping[str, str]]  # authors' module path -> path here; {i} stands for a number


Network = TypeVar("Network", bound=nn.Module)


def pattern(path: str) -> str:
    """A module path with {i} in place of each number."""
    return ".".join("{i}" if part.isdigit() else part for part in path.split("."))


def translate(names: Mapping[str, str], path: str) -> str | None:
    """What the table `names` gives for a module path, its numbers carried over; None if it is not there."""
    there = names.get(pattern(path))
    if there is None:
        return None
    for number in filter(str.isdigit, path.split(".")):
        there = there.replace("{i}", number, 1)
    return there


def load_reference_weights(net: Network, state_dict: Mapping[str, Tensor]) -> Network:
    """`net` with the weights of the authors' `state_dict` copied in, converted to its precision and device.

    Convolutions of width 1, weight (out, in, 1), become linear layers, (out, in). Weights that the network says
    are unused are passed over. Raises `ArtifactError` that lists, by the authors' names, what is missing, left
    over or of another size; `net` is then as it was.
    """
    # Where two names lead to one module, the later row of the table is the one that holds the weights.
    theirs = {here: there for there, here in cast(Published, net).reference_names.items()}
    pairs: dict[str, Tensor] = {}
    for name, own in net.state_dict().items():
        module, _, kind = name.rpartition(".")
        pairs[f"{translate(theirs, module)}.{kind}"] = own

    unused = tuple(f"{module}." for module in getattr(net, "reference_unused", ()))
    state_dict = {name: weight for name, weight in state_dict.items() if not pattern(name).startswith(unused)}
    resized = []
    weights: dict[str, Tensor] = {}
    for name in pairs.keys() & state_dict.keys():
        own, weight = pairs[name], state_dict[name]
        if weight.dim() == own.dim() + 1 and weight.shape[-1] == 1:
            weight = weight.squeeze(-1)
        if weight.shape != own.shape:
            resized.append(f"{name} {tuple(weight.shape)} for {tuple(own.shape)}")
        weights[name] = weight
    faults = {
        "missing": sorted(pairs.keys() - state_dict.keys()),
        "left over": sorted(state_dict.keys() - pairs.keys()),
        "of another size": sorted(resized),
    }
    if any(faults.values()):
        told = "; ".join(f"{fault} {', '.join(which)}" for fault, which in faults.items() if which)
        raise ArtifactError(
            f"Weights do not fit {type(net).__name__}: {told}.",
            "Build the network with the settings that the weights were trained with.",
        )
    with torch.no_grad():
        for name, weight in weights.items():
            pairs[name].copy_(weight)
    return net
