"""doctor on graphs says what a table holds and what can be told of it, and names a fit that can be run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import forecast
from forecast.cli import main
from forecast.data.made import made
from forecast.errors import DataError, UsageError
from forecast.graph_labels.diagnosis import GraphDiagnosis


def graphs(count: int = 60, seed: int = 0) -> pl.DataFrame:
    """Rings with a chord, whose nodes are numbers; every tenth has a node that no edge reaches."""
    draw = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        ring = np.arange(int(draw.integers(3, 9)))
        ends = np.stack((ring, np.roll(ring, -1)))
        alone = number % 10 == 0
        rows.append(
            {
                "edge_index": np.concatenate((ends, ends[::-1]), axis=1).tolist(),
                "node_feat": draw.normal(size=(len(ring) + alone, 2)).tolist(),
                "y": float(len(ring)) if number else None,
            }
        )
    return pl.DataFrame(rows)


def doctor(data: Any, **options: Any) -> GraphDiagnosis:
    found = forecast.doctor(data, **options)
    assert isinstance(found, GraphDiagnosis)
    return found


def test_the_document_counts_what_the_table_holds() -> None:
    table = graphs()
    document = json.loads(json.dumps(doctor(table).document))
    kept = table.drop_nulls("y")
    sizes = kept["node_feat"].list.len()
    assert (document["kind"], document["graphs"], document["nodes"]) == ("graphs", 59, sizes.sum())
    assert document["edges"] == kept["edge_index"].list.first().list.len().sum()
    assert document["isolated_nodes"] == 5  # the sixth is in the graph without a target
    assert (document["self_loops"], document["missing_targets"]) == (0, 0)
    assert document["node_features"] == {"columns": 2, "read_as": "linear"}
    assert document["edge_features"] == {"columns": 0, "read_as": "dummy"}
    assert (document["task"], document["metric"]) == ("graph_regression", "mae")
    assert document["targets"] == [{"name": "y", "known": 59, "range": [kept["y"].min(), kept["y"].max()]}]
    assert sum(document["parts"].values()) == 59
    assert [repair["kind"] for repair in document["repairs"]] == ["graphs-dropped"]


@pytest.mark.parametrize(
    ("targets", "task", "told"),
    [
        ([0, 1, 1, 1], "graph_binary", {"known": 4, "ones": 0.75}),
        ([0, 1, 2, 1], "graph_multiclass", {"known": 4, "classes": [1, 2, 1]}),
        ([0.5, 1, 2, None], "graph_regression", {"known": 3, "range": [0.5, 2.0]}),
    ],
)
def test_targets_are_described_as_their_task_has_it(targets: list[Any], task: str, told: dict[str, Any]) -> None:
    table = graphs(41).slice(1).with_columns(pl.Series("y", targets * 10))
    found = doctor(table)
    known = {key: value * 10 if key == "known" else value for key, value in told.items()}
    known = {key: [10 * count for count in value] if key == "classes" else value for key, value in known.items()}
    assert found.document["task"] == task
    assert found.document["targets"] == [{"name": "y", **known}]


def test_classes_of_nodes_are_counted_over_all_nodes() -> None:
    table = made("pattern", 12, 0)
    found = doctor(table)
    classes = table["y"].list.explode().value_counts().sort("y")["count"].to_list()
    assert found.document["task"] == "node_classification"
    assert found.document["targets"][0]["classes"] == classes


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_text_fits_the_terminal_and_tells_the_command(width: int) -> None:
    found = doctor(graphs())
    lines = found.text(width).splitlines()
    assert max(len(line) for line in lines[1:-1]) <= width
    assert lines[-1].strip() == found.document["suggest"]["command"]


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    found = doctor(graphs())
    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page == found.html and page.rstrip().endswith("</html>")
    assert "<script" not in page and not re.search(r'(?:src|href)="(?!#)', page)
    assert "59 graphs" in page and "graphs-dropped" in page


def test_the_command_can_be_typed_again_with_what_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my graphs.parquet"
    graphs().write_parquet(path)
    assert main(["doctor", str(path), "--set", "data.split_seed=3", "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["suggest"]["command"]
    assert shlex.split(command) == [
        *["forecast", "fit", str(path), "--model", "darts-gt", "--set", "data.split_seed=3"]
    ]


def test_a_kind_that_is_named_is_believed_and_an_unknown_one_refused(tmp_path: Path) -> None:
    links = pl.DataFrame({"src": [1, 2] * 30, "dst": [3, 4] * 30, "t": range(60), "value": np.arange(60.0)})
    assert forecast.doctor(links).document["kind"] == "events"
    assert forecast.doctor(links, kind="events").document["kind"] == "events"
    found = forecast.doctor(links.rename({"src": "here", "dst": "there"}), kind="series")
    assert found.document["kind"] == "series"
    with pytest.raises(DataError, match="edge_index"):
        forecast.doctor(links, kind="graphs")
    with pytest.raises(UsageError, match="--kind foo"):
        forecast.doctor(links, kind="foo")  # type: ignore[arg-type]


def test_a_model_of_series_refuses_graphs_and_names_the_model_that_takes_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    graphs().write_parquet(tmp_path / "g.parquet")
    assert main(["fit", str(tmp_path / "g.parquet"), "--model", "linear", "--horizon", "2"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'g.parquet'}: each row holds a graph, and none a series.",
        "Use --model darts-gt, without what is of series, as --edges, --lookback and --horizon.",
    ]


def test_there_is_no_clean_copy_of_graphs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    graphs().write_parquet(tmp_path / "g.parquet")
    assert main(["doctor", str(tmp_path / "g.parquet"), "--fix", str(tmp_path / "clean.parquet")]) == 2
    assert "no clean copy" in capsys.readouterr().err and not (tmp_path / "clean.parquet").exists()
