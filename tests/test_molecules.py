"""Molecules written as SMILES are coded as in the Open Graph Benchmark."""

import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from forecast.data.graph_table import read_graphs
from forecast.errors import DataError
from graphs.graph_encoders import ATOM_TABLES, BOND_TABLES
from graphs.graph_store import GraphStore

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "graphs"


def same(one: GraphStore, other: GraphStore) -> bool:
    pairs = zip(one.batch(range(len(one))), other.batch(range(len(other))), strict=True)
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def test_without_rdkit_smiles_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DataError, match='column "smiles" holds molecules, and RDKit') as caught:
        read_graphs(pl.DataFrame({"smiles": ["CCO", "C", "N"], "y": [1.5, 2, 3]}))
    assert caught.value.hint == "pip install rdkit"


def test_acetate_and_chloroethene_have_the_codes_of_ogb() -> None:
    pytest.importorskip("rdkit", reason="needs RDKit")
    frame = pl.DataFrame({"SMILES": ["CC(=O)[O-]", "F/C=C/Cl", "[13CH4]"], "y": [1.5, 2.5, 3.5]})
    store = read_graphs(frame).store
    acetate, ethene, methane = (store.batch([number]) for number in range(3))
    # Atomic number - 1, chirality, bonds with hydrogens, charge + 5, hydrogens, radicals, hybrid, aromatic, in a ring.
    assert acetate.nodes.tolist() == [
        [5, 0, 4, 5, 3, 0, 2, 0, 0],
        [5, 0, 3, 5, 0, 0, 1, 0, 0],
        [7, 0, 1, 5, 0, 0, 1, 0, 0],
        [7, 0, 1, 4, 0, 0, 1, 0, 0],
    ]
    assert acetate.edges.tolist() == [[0, 1, 1, 2, 1, 3], [1, 0, 2, 1, 3, 1]]
    assert acetate.edge_features.tolist() == [[0, 0, 0]] * 2 + [[1, 0, 1]] * 2 + [[0, 0, 1]] * 2
    assert ethene.edge_features[2].tolist() == [1, 2, 0]  # a double bond, E
    assert methane.edges.shape == (2, 0) and methane.nodes[0, 4] == 4


@pytest.mark.parametrize(
    ("smiles", "told"), [("C1CC", '"C1CC" is no molecule'), (None, "no molecule is given"), ("", '"" is')]
)
def test_what_is_no_molecule_is_told_with_its_row(smiles: str | None, told: str) -> None:
    pytest.importorskip("rdkit", reason="needs RDKit")
    with pytest.raises(DataError, match=f"row 1: {told}"):
        read_graphs(pl.DataFrame({"smiles": ["CCO", smiles, "C"], "y": [1.5, 2, 3]}))


def test_molecules_of_molhiv_are_those_of_its_graphs() -> None:
    pytest.importorskip("rdkit", reason="needs RDKit")
    if not (SHARED / "molhiv.parquet").exists():
        pytest.skip("needs ../shared/data/graphs/molhiv.parquet")
    table = pl.scan_parquet(SHARED / "molhiv.parquet").gather_every(40).collect()
    given = read_graphs(table)
    made = read_graphs(table.select("split", "label", "smiles"))
    assert same(given.store, made.store) and made.task == given.task and not made.ledger.repairs
    assert (given.store.nodes.amax(0) < torch.tensor(ATOM_TABLES)).all()
    assert (given.store.edge_features.amax(0) < torch.tensor(BOND_TABLES)).all()
