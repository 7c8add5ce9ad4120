"""The networks, one file a paper. Names are resolved on first use, so that importing this loads no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .itransformer import ITransformer as ITransformer
    from .itransformer import ITransformerConfig as ITransformerConfig
    from .reference import load_reference_weights as load_reference_weights

_HOMES = {
    "ITransformer": "itransformer",
    "ITransformerConfig": "itransformer",
    "load_reference_weights": "reference",
}

__all__ = ["ITransformer", "ITransformerConfig", "load_reference_weights"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
