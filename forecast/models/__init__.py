"""The networks, one file a paper. Names are resolved on first use, so that importing this loads no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .informer import Informer as Informer
    from .informer import InformerConfig as InformerConfig
    from .itransformer import ITransformer as ITransformer
    from .itransformer import ITransformerConfig as ITransformerConfig
    from .reference import load_reference_weights as load_reference_weights
    from .s_mamba import SMamba as SMamba
    from .s_mamba import SMambaConfig as SMambaConfig
    from .tsm2 import TSM2 as TSM2
    from .tsm2 import TSM2Config as TSM2Config

_HOMES = {
    "Informer": "informer",
    "InformerConfig": "informer",
    "ITransformer": "itransformer",
    "ITransformerConfig": "itransformer",
    "SMamba": "s_mamba",
    "SMambaConfig": "s_mamba",
    "TSM2": "tsm2",
    "TSM2Config": "tsm2",
    "load_reference_weights": "reference",
}

__all__ = [
    "TSM2",
    "ITransformer",
    "ITransformerConfig",
    "Informer",
    "InformerConfig",
    "SMamba",
    "SMambaConfig",
    "TSM2Config",
    "load_reference_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
