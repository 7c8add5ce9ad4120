"""Positions of nodes that a later fit on the same graphs need not compute again.

They are kept in the user's cache folder, `$XDG_CACHE_HOME/forecast/positions` or `~/.cache/forecast/positions`, under a
hash of all edges and of what was computed; a file may be removed at any time. Predictions neither read nor write there.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from graphs.graph_store import GraphStore

from .fitted import Reader

FORMAT = 1  # raised when the same graphs get other numbers
WORTH = 2**16  # nodes; the positions of fewer are computed in less than a second


def with_kept_positions(store: GraphStore, reader: Reader) -> GraphStore:
    """The store with the positions that `reader` asks for: read where they are kept, else computed and kept."""
    if reader.positions == "none" or len(store.nodes) < WORTH:
        return reader.with_positions(store)
    path = folder() / f"{_fingerprint(store, reader)}.safetensors"
    if path.exists():
        try:
            return store.with_statistics(**load_file(path))
        except SafetensorError:
            pass  # a damaged file is written anew
    store = reader.with_positions(store)
    found = {name: getattr(store, name) for name in ("walks", "eigenvectors", "eigenvalues")}
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: values.contiguous() for name, values in found.items()}, beside)
        os.replace(beside, path)
    except (OSError, SafetensorError):
        # A home that cannot be written to, or is full, costs the next fit its time, and this one nothing.
        with contextlib.suppress(OSError):
            beside.unlink()
    return store


def folder() -> Path:
    """Where positions are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forecast" / "positions"


def _fingerprint(store: GraphStore, reader: Reader) -> str:
    digest = hashlib.sha256(f"{FORMAT} {reader.positions} {reader.position_count}".encode())
    for column in (store.node_offsets, store.edge_offsets, store.edges):
        digest.update(f" {tuple(column.shape)} ".encode() + column.contiguous().numpy().tobytes())
    return digest.hexdigest()
