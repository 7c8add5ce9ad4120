"""Batch prediction for graphs: what comes back, from which input, and what is refused."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.cli import main
from forecast.config import resolve
from forecast.data.graph_table import read_graphs
from forecast.data.made import made
from forecast.errors import ArtifactError, DataError
from forecast.graph_labels import story
from forecast.graph_labels.fitted import FittedGraphs
from graphs.darts_gt import DartsGT
from graphs.molecule_like import molecule_like

SETTINGS = ("model.layers=2", "model.width=8", "model.heads=2", "model.position_width=2", "model.architecture=GATV2")


pytestmark = pytest.mark.usefixtures("one_thread")


def molecules(graphs: int = 40, seed: int = 0) -> pl.DataFrame:
    store = molecule_like(graphs, seed)
    nodes, links = ([*map(int, offsets)] for offsets in (store.node_offsets, store.edge_offsets))
    return pl.DataFrame(
        {
            "graph_id": [f"m{number}" for number in range(graphs)],
            "node_feat": [store.nodes[a:b].tolist() for a, b in itertools.pairwise(nodes)],
            "edge_index": [store.edges[:, a:b].tolist() for a, b in itertools.pairwise(links)],
            "edge_feat": [store.edge_features[a:b].tolist() for a, b in itertools.pairwise(links)],
            "y": store.targets[:, 0].numpy(),
        }
    )


def untrained(table: Any, *settings: str) -> FittedGraphs:
    """A model with random weights and running statistics: what is promised of predictions holds for it, too."""
    found = story.read(resolve("darts-gt", settings=[*SETTINGS, *settings]), table)
    prepared = found.prepared
    torch.manual_seed(0)
    network = DartsGT(prepared.shape, found.config.model.network())
    with torch.no_grad():
        network(prepared.examples("train")[torch.arange(8)].batch)
    return FittedGraphs("darts-gt", network.eval(), prepared.reader, prepared.targets, {})


@pytest.fixture(scope="module")
def fitted() -> FittedGraphs:
    return untrained(molecules())


def test_each_graph_gives_a_row_with_its_id_and_needs_no_label(fitted: FittedGraphs) -> None:
    answer = fitted.predict(molecules(7, seed=3).drop("y"))
    assert answer.columns == ["graph_id", "y"]
    assert answer["graph_id"].to_list() == [f"m{number}" for number in range(7)]
    assert answer["y"].is_finite().all() and answer["y"].n_unique() == 7
    numbered = fitted.predict(molecules(7, seed=3).drop("y", "graph_id"))
    assert numbered["graph_id"].to_list() == list(range(7))
    assert numbered["y"].equals(answer["y"])


def test_what_is_said_of_a_graph_depends_on_no_other(fitted: FittedGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    table = molecules(30, seed=4)
    whole = fitted.predict(table)["y"].to_numpy()
    np.testing.assert_allclose(fitted.predict(table.reverse())["y"].to_numpy(), whole[::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.predict(table[11:12])["y"].to_numpy(), whole[11:12], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("forecast.graph_labels.fitted.CELLS", 100)
    np.testing.assert_allclose(fitted.predict(table)["y"].to_numpy(), whole, rtol=1e-4, atol=1e-5)


def test_values_come_back_in_the_units_of_the_table() -> None:
    table = molecules()
    large = table.with_columns(y=1e6 + 1e5 * pl.col("y"))
    one, other = untrained(table).predict(table)["y"].to_numpy(), untrained(large).predict(table)["y"].to_numpy()
    np.testing.assert_allclose(other, 1e6 + 1e5 * one, rtol=1e-5)


def test_features_may_be_given_in_any_units() -> None:
    table = molecules()
    draw = np.random.default_rng(0)
    sizes = table["node_feat"].list.len().to_list()
    nodes = [draw.normal(size=(size, 2)) for size in sizes]
    plain = table.with_columns(node_feat=pl.Series([one.tolist() for one in nodes]))
    other = table.with_columns(node_feat=pl.Series([(1e4 * one + [7, 1e5]).tolist() for one in nodes]))
    np.testing.assert_allclose(
        untrained(plain).predict(plain)["y"].to_numpy(),
        untrained(other).predict(other)["y"].to_numpy(),
        rtol=1e-3,
        atol=1e-4,
    )


def test_a_model_on_disk_holds_no_pickle_and_answers_the_same(fitted: FittedGraphs, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}
    again = FittedGraphs.load(tmp_path / "model")
    table = molecules(9, seed=5)
    assert again.predict(table).equals(fitted.predict(table))
    assert again.reader == fitted.reader and again.targets == fitted.targets
    assert forecast.predict(tmp_path / "model", table).equals(fitted.predict(table))
    text = (tmp_path / "model" / "model.json").read_text()
    (tmp_path / "model" / "model.json").write_text(text.replace('"width": 8', '"width": 4'))
    with pytest.raises(ArtifactError):
        FittedGraphs.load(tmp_path / "model")


def test_answers_come_in_the_library_of_the_question(fitted: FittedGraphs, tmp_path: Path) -> None:
    table = molecules(5)
    expected = fitted.predict(table)
    table.write_parquet(tmp_path / "graphs.parquet")
    assert fitted.predict(tmp_path / "graphs.parquet").equals(expected)
    pandas = fitted.predict(pl.read_parquet(tmp_path / "graphs.parquet").to_pandas())
    assert type(pandas).__module__.startswith("pandas")
    np.testing.assert_array_equal(pandas["y"].to_numpy(), expected["y"].to_numpy())


def test_codes_beyond_the_tables_are_the_last_of_them_and_told(fitted: FittedGraphs) -> None:
    table, told = molecules(3), {}
    last = fitted.reader.nodes.tables[0] - 1

    def with_first(code: int) -> pl.DataFrame:
        return table.with_columns(node_feat=pl.Series([[[code], *nodes[1:]] for nodes in table["node_feat"].to_list()]))

    def tell(facts: Mapping[str, Any]) -> None:
        told.update(facts)

    answer = fitted.predict(with_first(10_000), told=tell)
    assert answer.equals(fitted.predict(with_first(last)))
    assert told["warnings"] == [
        {
            "kind": "codes-clipped",
            "column": "nodes",
            "value": "beyond the tables, read as the last of them",
            "count": 3,
        }
    ]
    assert told["graphs"] == 3 and told["repairs"] == []


def test_other_features_and_graphs_without_nodes_are_refused(fitted: FittedGraphs) -> None:
    table = molecules(3)
    wide = table.with_columns(
        node_feat=pl.Series([[one * 2 for one in nodes] for nodes in table["node_feat"].to_list()])
    )
    with pytest.raises(DataError, match="features of nodes: there are 2 features, not 1"):
        fitted.predict(wide)
    with pytest.raises(DataError, match="features of edges: there are 0 features, not 1"):
        fitted.predict(table.drop("edge_feat"))
    half = table.with_columns(node_feat=pl.Series([[[0.5]] * len(nodes) for nodes in table["node_feat"]]))
    with pytest.raises(DataError, match="codes that are not whole"):
        fitted.predict(half)
    empty = pl.concat([table, table[:1].with_columns(node_feat=pl.lit([], dtype=table.schema["node_feat"]))])
    with pytest.raises(DataError, match=r"row 3: the graph has no nodes"):
        fitted.predict(empty)


def test_a_graph_of_one_node_without_edges_is_answered(fitted: FittedGraphs) -> None:
    table = molecules(2)
    lone = table[:1].with_columns(
        node_feat=pl.Series([[[1]]]),
        edge_index=pl.Series([[[], []]], dtype=table.schema["edge_index"]),
        edge_feat=pl.Series([[]], dtype=table.schema["edge_feat"]),
    )
    assert fitted.predict(pl.concat([table, lone]))["y"].is_finite().all()
    assert fitted.predict(lone)["y"].is_finite().all()


def test_labels_of_nodes_give_a_row_a_node() -> None:
    table = made("pattern", 12, 0)
    answer = untrained(table).predict(table.drop("y"))
    sizes = table["num_nodes"].to_list()
    assert answer.columns == ["graph_id", "y"] and answer.height == sum(sizes)
    assert answer["graph_id"].to_list() == np.repeat(np.arange(12), sizes).tolist()
    assert answer["y"].is_between(0, 1).all()


def test_more_than_two_classes_give_the_likeliest_and_its_chance() -> None:
    table = made("cluster", 12, 0)
    answer = untrained(table).predict(table.drop("y"))
    assert answer.columns == ["graph_id", "y", "y_chance"]
    assert set(answer["y"].unique()) <= set(range(6)) and answer["y_chance"].is_between(1 / 6, 1).all()


def test_the_command_makes_graphs_and_predicts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up, model, out = tmp_path / "p.parquet", tmp_path / "model", tmp_path / "out.csv"
    assert main(["datasets", "make", "pattern", "-o", str(made_up), "--graphs", "14", "--seed", "3"]) == 0
    assert pl.read_parquet(made_up).equals(made("pattern", 14, 3))
    found = read_graphs(made_up)
    assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 10, "validation": 2, "test": 2}
    untrained(made_up).save(model)
    assert main(["predict", str(model), str(made_up), "-o", str(out)]) == 0
    assert pl.read_csv(out).height == len(found.store.nodes)
    assert f"14 graphs, {len(found.store.nodes):,} nodes" in capsys.readouterr().err
    assert main(["info", str(model)]) == 0
    assert "node classification" in capsys.readouterr().out
    assert main(["datasets", "make", "pattern", "-o", str(tmp_path / "p.csv")]) == 2
    assert main(["datasets", "make", "patern", "-o", str(made_up)]) == 2
    assert main(["datasets", "make", "cluster", "-o", str(made_up), "--graphs", "3"]) == 2


def test_made_tables_read_back_as_the_graphs_they_were_made_from() -> None:
    from graphs import sbm

    for name, make in (("pattern", sbm.pattern), ("cluster", sbm.cluster)):
        store, read = make(12, 5), read_graphs(made(name, 12, 5)).store
        for column in ("nodes", "edges", "node_offsets", "edge_offsets", "targets"):
            assert torch.equal(getattr(read, column).double(), getattr(store, column).double())
