"""explain on graphs: what heads do and which nodes they look at, from a stored model and a table of graphs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.cli import main
from forecast.errors import UsageError
from forecast.graph_labels.explained import GraphExplanation
from forecast.graph_labels.fitted import FittedGraphs
from forecast.graph_layout import layout
from tests.test_graph_prediction import molecules, untrained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fitted() -> FittedGraphs:
    """A model with random weights: what is promised of explanations holds for it, too."""
    return untrained(molecules())


def explained(fitted: Any, data: Any, **options: Any) -> GraphExplanation:
    found = forecast.explain(fitted, data, **options)
    assert isinstance(found, GraphExplanation)
    return found


def test_answers_are_the_predictions_and_nodes_are_those_of_their_graph(fitted: FittedGraphs) -> None:
    table = molecules(12, seed=3)
    found = explained(fitted, table)
    np.testing.assert_allclose(found.answers[:, 0], fitted.predict(table)["y"].to_numpy(), rtol=1e-4, atol=1e-5)
    document = json.loads(json.dumps(found.document()))
    assert [graph["id"] for graph in document["graphs"]] == table["graph_id"].to_list()
    for graph, size in zip(document["graphs"], table["node_feat"].list.len(), strict=True):
        assert np.shape(graph["deviation"]) == (2, 2) and len(graph["importance"]) == size
        nodes = {node for head in graph["top_heads"] for node in head["top_nodes"]} | set(graph["top_nodes"])
        assert nodes <= set(range(size))
        assert sum(graph["importance"]) == pytest.approx(1, abs=1e-5) or not any(graph["importance"])


def test_a_head_without_an_output_changes_nothing_and_is_never_on_top(fitted: FittedGraphs) -> None:
    weight = [part for name, part in fitted.network.named_modules() if name.endswith(".out")][-1].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, :4] = 0  # of the first of two heads, in the last layer
    try:
        found = explained(fitted, molecules(10, seed=4))
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert not found.heads.deviation[:, 1, 0].any() and found.heads.deviation[:, 0].any()
    assert 2 not in found.heads.top


def test_without_labels_heads_are_told_by_how_far_answers_move(fitted: FittedGraphs) -> None:
    found = explained(fitted, molecules(8, seed=5).drop("y"))
    assert not found.heads.labelled and found.truth is None
    assert (found.heads.deviation >= 0).all() and "no labels" in found.page()


def test_a_number_of_graphs_is_evenly_spaced(fitted: FittedGraphs) -> None:
    found = explained(fitted, molecules(21, seed=6), graphs=3)
    assert list(found.ids) == ["m0", "m10", "m20"]
    with pytest.raises(UsageError, match="nothing to explain"):
        forecast.explain(fitted, molecules(4), graphs=0)
    with pytest.raises(UsageError, match="no ranking 'best'"):
        forecast.explain(fitted, molecules(4), ranking="best")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--windows is not an option"):
        forecast.explain(fitted, molecules(4), windows=4)


def test_the_command_writes_a_page_a_table_and_a_document(
    fitted: FittedGraphs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted.save(tmp_path / "model")
    molecules(6, seed=7).write_parquet(tmp_path / "graphs.parquet")
    words = ["explain", str(tmp_path / "model"), str(tmp_path / "graphs.parquet")]
    assert main([*words, "-o", str(tmp_path / "why.html"), "--quiet"]) == 0
    page = (tmp_path / "why.html").read_text()
    assert page.rstrip().endswith("</html>") and "<script" not in page and page.count("<figure>") >= 2
    assert main([*words, "-o", str(tmp_path / "why.csv"), "--quiet"]) == 0
    table = pl.read_csv(tmp_path / "why.csv")
    assert table.columns == ["graph_id", "measure", "place", "value"]
    assert (table["measure"] == "deviation").sum() == 6 * 4
    capsys.readouterr()
    assert main([*words, "--ranking", "reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranking"] == "reference"


def test_the_drawing_keeps_paths_straight_and_parts_apart() -> None:
    path = np.stack((np.arange(6), np.arange(1, 7)))
    places = layout(9, np.concatenate((path, [[7], [8]]), axis=1))  # a path of seven nodes, and a pair beside it
    assert places.shape == (9, 2) and np.isfinite(places).all()
    steps = np.linalg.norm(np.diff(places[:7], axis=0), axis=1)
    np.testing.assert_allclose(steps, 1, atol=0.05)
    assert np.linalg.norm(places[0] - places[6]) == pytest.approx(6, rel=0.05)
    assert places[7:, 0].min() >= places[:7, 0].max() + 0.9
    assert np.array_equal(places, layout(9, np.concatenate((path, [[7], [8]]), axis=1)))
