"""Molecules written as SMILES become graphs of atoms and bonds, coded as in the Open Graph Benchmark.

Hu et al. 2020, arXiv:2005.00687; the codes are positions in the lists of its package. RDKit reads the molecules; it is
not a requirement of this package.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from ..errors import DataError
from .table import Table

SMILES = ("smiles", "smi", "canonical_smiles")

# RDKit's names, in the order of their codes; what is not listed is the code behind them.
_CHIRALITY = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
_HYBRIDS = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")


def with_graphs(table: Table, smiles: str) -> Table:
    """The table with the columns `num_nodes`, `node_feat`, `edge_index` and `edge_feat` of its molecules.

    Nine codes an atom, without hydrogens that SMILES leaves out, and three a bond, which runs both ways. Valences that
    RDKit doubts are taken as they are. Raises DataError without RDKit, and for the first row that is no molecule.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise DataError(
            f'{table.origin}: column "{smiles}" holds molecules, and RDKit, which reads them, is not installed.',
            "pip install rdkit",
        ) from error
    written = table.collect(pl.col(smiles).cast(pl.String)).to_series()
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    with rdBase.BlockLogs():  # what is wrong is said here
        for row, text in enumerate(written):
            molecule = _molecule(Chem, text)
            if molecule is None or not molecule.GetNumAtoms():
                told = "no molecule is given" if text is None else f'"{text[:60]}" is no molecule'
                raise DataError(f"{table.where(row)}: {told}.", "Correct the SMILES or leave the row out.")
            for name, column in zip(columns, _graph(molecule), strict=True):
                columns[name].append(column)
    made = [pl.Series(name, column, dtype=_TYPES[name]) for name, column in columns.items()]
    return replace(table, data=table.data.with_columns(made), schema={**table.schema, **_TYPES})


_TYPES: Mapping[str, pl.DataType] = {
    "num_nodes": pl.Int64(),
    "node_feat": pl.List(pl.Int16()),
    "edge_index": pl.List(pl.Int32()),
    "edge_feat": pl.List(pl.Int8()),
}


def _molecule(chem: Any, text: str | None) -> Any:
    """RDKit's molecule, None where the text is none."""
    if text is None:
        return None
    molecule = chem.MolFromSmiles(text)
    if molecule is not None:
        return molecule
    molecule = chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return None
    molecule.UpdatePropertyCache(strict=False)
    failed = chem.SanitizeMol(molecule, chem.SANITIZE_ALL ^ chem.SANITIZE_PROPERTIES, catchErrors=True)
    return None if failed else molecule


def _graph(molecule: Any) -> tuple[int, list[int], list[int], list[int]]:
    """Number of atoms, codes of atoms, sources and then targets of bonds, codes of bonds; row by row."""
    atoms = [code for atom in molecule.GetAtoms() for code in _atom(atom)]
    source: list[int] = []
    target: list[int] = []
    bonds: list[int] = []
    for bond in molecule.GetBonds():
        one, other = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        source += (one, other)
        target += (other, one)
        bonds += _bond(bond) * 2
    return molecule.GetNumAtoms(), atoms, source + target, bonds


def _atom(atom: Any) -> list[int]:
    number = atom.GetAtomicNum()
    return [
        number - 1 if 1 <= number <= 118 else 118,
        _code(str(atom.GetChiralTag()), _CHIRALITY),
        min(atom.GetTotalDegree(), 11),
        atom.GetFormalCharge() + 5 if -5 <= atom.GetFormalCharge() <= 5 else 11,
        min(atom.GetTotalNumHs(), 9),
        min(atom.GetNumRadicalElectrons(), 5),
        _code(str(atom.GetHybridization()), _HYBRIDS),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    ]


def _bond(bond: Any) -> list[int]:
    return [
        _code(str(bond.GetBondType()), _BONDS),
        _code(str(bond.GetStereo()), _STEREO),
        int(bond.GetIsConjugated()),
    ]


def _code(name: str, known: tuple[str, ...]) -> int:
    return known.index(name) if name in known else len(known)
