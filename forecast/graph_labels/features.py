"""What a network reads of nodes and edges: codes within the tables it has learned, or features on one scale."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphs.graph_encoders import ATOM_TABLES, BOND_TABLES

MOST_TYPES = 256  # one column of more codes than this is an amount
_STRANGE = 0.01  # share of codes beyond the tables of atoms and bonds up to which they are atoms and bonds
_FIXED = {"atom": ATOM_TABLES, "bond": BOND_TABLES}


class FeatureError(ValueError):
    """Features that a network cannot read; the message says why."""


@dataclass(frozen=True)
class Features:
    """How the columns of nodes, or of edges, are read.

    With `tables`, columns are codes, each below the size of its table; else they are numbers, of which `centre` is
    subtracted before they are divided by `scale`.
    """

    kind: str  # of the encoder: "atom", "bond", "type_dict", "linear", "pre_layer", "dummy"
    columns: int  # of the data
    tables: tuple[int, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def of(cls, kind: str, values: Tensor) -> "Features":
        """How to read features (R, C) of the training part for an encoder. Raises `FeatureError` where it cannot."""
        columns = values.shape[1]
        tables: tuple[int, ...] = ()
        centre, scale = torch.zeros(columns), torch.ones(columns)
        if kind in _FIXED or kind == "type_dict":
            wanted = len(_FIXED.get(kind, (0,)))
            if columns != wanted or values.is_floating_point():
                what = "numbers with decimals" if values.is_floating_point() else f"{columns} columns"
                raise FeatureError(f"{kind} reads {wanted} column{'s' * (wanted > 1)} of codes, not {what}")
            tables = _FIXED.get(kind) or (int(values.max()) + 1 if len(values) else 1,)
        elif kind != "dummy" and len(values) and not bool(((values == 0) | (values == 1)).all()):
            # Flags and one-hot columns are read as they are, as published.
            numbers = values.double()
            centre, deviation = numbers.mean(dim=0), numbers.std(dim=0, correction=0)
            scale = torch.where(deviation > 0, deviation, 1.0)
        return cls(kind, columns, tables, tuple(centre.tolist()), tuple(scale.tolist()))

    @property
    def width(self) -> int:
        """What a network calls the number of columns; the number of types for one table of them."""
        return self.tables[0] if self.kind == "type_dict" else self.columns

    def read(self, values: Tensor) -> tuple[Tensor, int]:
        """The features (R, C) as the network takes them, and how many codes stand beyond the tables.

        Such a code becomes the last of its table, where the tables of molecules have what is rare. Raises
        `FeatureError` for another number of columns, and for codes that are not whole.
        """
        if not len(values):  # a table without edges does not tell how many features they would have
            values = values.new_zeros(0, self.columns)
        if values.shape[1] != self.columns:
            raise FeatureError(f"there are {values.shape[1]} features, not {self.columns}")
        if self.kind == "dummy":
            return values[:, :0].float(), 0
        if not self.tables:
            return (values.float() - torch.tensor(self.centre)) / torch.tensor(self.scale), 0
        if values.is_floating_point():
            if not bool((values == values.round()).all()):
                raise FeatureError("there are codes that are not whole")
            values = values.int()
        last = torch.tensor(self.tables, dtype=torch.int64) - 1
        beyond = int(((values > last) | (values < 0)).sum())
        return (torch.where((values > last) | (values < 0), last, values) if beyond else values), beyond


def node_kind(values: Tensor) -> str:
    """The encoder for features of nodes (N, C): atoms by nine columns of codes, types by one, else numbers."""
    return _kind(values, "atom") or "linear"


def edge_kind(values: Tensor) -> str:
    """The encoder for features of edges (E, F): bonds by three columns of codes, types by one; none, or numbers."""
    if not values.shape[1]:
        return "dummy"
    return _kind(values, "bond") or "linear"


def _kind(values: Tensor, fixed: str) -> str | None:
    """Whether columns are codes of the `fixed` tables, or of types; None where they are numbers."""
    if values.is_floating_point() or not len(values) or int(values.min()) < 0:
        return None
    if values.shape[1] == len(_FIXED[fixed]):
        beyond = values > torch.tensor(_FIXED[fixed]) - 1
        return fixed if float(beyond.float().mean()) <= _STRANGE else None
    return "type_dict" if values.shape[1] == 1 and int(values.max()) < MOST_TYPES else None
