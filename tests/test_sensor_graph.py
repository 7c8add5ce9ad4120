"""The fixed graph of sensors: windows repeat it, neighbours are the nearest, and a file of edges is checked."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from forecast.data.edges import read_edges
from forecast.errors import DataError
from graphs.graph_batch import GraphError
from graphs.graph_store import GraphFaultError, GraphStore
from graphs.positions import with_walks
from graphs.sensor_graph import (
    SensorGraph,
    correlations,
    great_circle,
    nearest_by_correlation,
    nearest_by_distance,
)

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "spatiotemporal"
EDGES = [[0, 1, 1, 2, 3], [1, 2, 0, 2, 0]]  # one pair both ways, one self-loop
WEIGHTS = [0.5, 0.25, 0.75, 9.0, 1.0]


def pairs(graph: SensorGraph) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in graph.edges.T.tolist()]


# The graph


def test_edges_keep_their_direction_and_run_back_marked() -> None:
    graph = SensorGraph.of(4, EDGES, WEIGHTS)
    given = [(0, 1), (1, 2), (1, 0), (3, 0)]
    assert pairs(graph) == given + [(b, a) for a, b in given]
    assert graph.edge_features.tolist() == [[w, flag] for flag in (0, 1) for w in (0.5, 0.25, 0.75, 1.0)]
    alone = SensorGraph.of(4, EDGES, WEIGHTS, add_reverse=False)
    assert pairs(alone) == given and alone.edge_features.tolist() == graph.edge_features[:4].tolist()


def test_without_weights_no_edge_comes_twice() -> None:
    graph = SensorGraph.of(4, EDGES)
    assert sorted(pairs(graph)) == [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (3, 0)]
    assert graph.edge_features.shape == (6, 0)
    assert sorted(pairs(SensorGraph.of(4, EDGES, add_reverse=False))) == [(0, 1), (1, 0), (1, 2), (3, 0)]


def test_walks_are_those_of_the_graph_without_directions() -> None:
    both = torch.tensor([(0, 1), (1, 0), (1, 2), (2, 1), (3, 0), (0, 3)]).T
    wanted = with_walks(GraphStore.of(torch.zeros(4, 0), both, [4], [6]), range(1, 17)).walks
    for weights in (None, WEIGHTS):
        for add_reverse in (True, False):
            assert torch.equal(SensorGraph.of(4, EDGES, weights, add_reverse=add_reverse).walks, wanted)
    assert (wanted[:, 1] > 0).all() and SensorGraph.of(4, EDGES, steps=(2, 4)).walks.shape == (4, 2)


@pytest.mark.parametrize("edges", [np.zeros((2, 0), dtype=int), [[1, 1], [1, 1]]])
def test_sensors_without_edges_are_a_graph(edges: Any) -> None:
    graph = SensorGraph.of(3, edges)
    assert graph.edges.shape == (2, 0) and (graph.walks == 0).all()
    assert graph.batch(torch.ones(2, 3, 1)).edges.shape == (2, 0)


def test_wrong_edges_and_weights_are_refused() -> None:
    with pytest.raises(GraphFaultError, match="edge 2 joins node 4; the nodes are 0 … 3"):
        SensorGraph.of(4, [[0, 1, 4], [1, 0, 0]])
    with pytest.raises(GraphFaultError, match="a feature of edge 1 is not finite"):
        SensorGraph.of(4, [[0, 1], [1, 0]], [1.0, np.nan])
    with pytest.raises(GraphError, match="the graphs have 2 edges"):
        SensorGraph.of(4, [[0, 1], [1, 0]], [1.0])


# Windows


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_batch_of_windows_is_the_graph_as_often(weights: list[float] | None) -> None:
    graph = SensorGraph.of(4, EDGES, weights)
    windows = torch.arange(3 * 4 * 2.0).view(3, 4, 2)
    batch = graph.batch(windows)
    assert torch.equal(batch.nodes, windows.flatten(0, 1)) and batch.offsets.tolist() == [0, 4, 8, 12]
    links = graph.edges.shape[1]
    for number in range(3):
        part = slice(number * links, (number + 1) * links)
        assert torch.equal(batch.edges[:, part], graph.edges + 4 * number)
        assert torch.equal(batch.edge_features[batch.edge_rows[part]], graph.edge_features)
        assert torch.equal(batch.walks[4 * number : 4 * number + 4], graph.walks)
    assert batch.edges.shape == (2, 3 * links) and batch.eigenvectors.shape == (12, 0)


def test_the_edges_of_a_batch_size_are_built_once() -> None:
    graph = SensorGraph.of(4, EDGES, WEIGHTS)
    one, again, other = (graph.batch(torch.randn(size, 4, 2)) for size in (3, 3, 2))
    assert one.edges is again.edges and one.edge_features is again.edge_features and one.walks is again.walks
    assert one.edges.shape != other.edges.shape and not torch.equal(one.nodes, again.nodes)


def test_windows_of_other_sensors_are_refused() -> None:
    with pytest.raises(GraphError, match="window has 5 sensors, the graph 4"):
        SensorGraph.of(4, EDGES).batch(torch.zeros(2, 5, 1))


# Neighbours


def test_neighbours_by_distance_are_the_nearest_and_weigh_more_the_nearer() -> None:
    places = torch.tensor(np.random.default_rng(0).normal(size=(12, 2)))
    distances = torch.cdist(places, places)
    edges, weights = nearest_by_distance(distances, 3)
    assert edges.shape == (2, 36)
    for sensor in range(12):
        own = edges[1] == sensor
        sources = edges[0, own].tolist()
        others = [other for other in np.argsort(distances[sensor].numpy(), kind="stable") if other != sensor]
        assert sources == others[:3]
        assert (weights[own].diff() <= 0).all() and ((weights[own] > 0) & (weights[own] <= 1)).all()


def test_there_are_no_more_neighbours_than_sensors() -> None:
    edges, weights = nearest_by_distance(np.ones((3, 3)) - np.eye(3), 8)
    assert sorted(map(tuple, edges.T.tolist())) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert torch.isfinite(weights).all() and (weights > 0).all()
    assert nearest_by_distance(np.zeros((2, 2)))[1].tolist() == [1, 1]
    with pytest.raises(GraphError, match="no number of neighbours"):
        nearest_by_distance(np.zeros((2, 2)), 0)


def test_distances_along_the_earth_are_known() -> None:
    # Los Angeles, New York, Sydney; the distances are those of the usual tables, on a sphere.
    away = great_circle([34.05, 40.71, -33.87], [-118.24, -74.01, 151.21])
    assert away[0, 1] == pytest.approx(3936, abs=5) and away[0, 2] == pytest.approx(12_061, rel=0.002)
    assert torch.allclose(away, away.T) and (away.diagonal() == 0).all()


def with_gaps() -> Tensor:
    values = torch.tensor(np.random.default_rng(1).normal(size=(60, 6)))
    values[:, 1] = values[:, 0] * 2 + 0.1 * values[:, 1] + 1e4  # far from 0
    values[5:20, 0] = torch.nan
    values[10:40, 3] = torch.nan
    return values


def test_correlations_are_those_of_pandas_pair_by_pair() -> None:
    values = with_gaps()
    wanted = pl.from_numpy(values.numpy()).to_pandas().corr().to_numpy()
    assert np.allclose(correlations(values), wanted, atol=1e-9)


def test_neighbours_by_correlation_leave_out_what_does_not_change_or_is_never_seen() -> None:
    values = with_gaps()
    values[:, 4] = 0.1  # its mean is not exactly 0.1
    values[:, 5] = torch.nan
    edges, weights = nearest_by_correlation(values, 8)
    assert set(edges.flatten().tolist()) == {0, 1, 2, 3} and edges.shape == (2, 12)
    assert edges[:, edges[1] == 0][0, 0] == 1 and weights[edges[1] == 0][0] > 0.9
    assert torch.isfinite(weights).all()


# The file of edges

NAMES = ["a", "b", "c", "d"]


def table(**columns: Any) -> pl.DataFrame:
    given = {"src": list("abbcd"), "dst": list("bcaca"), "weight": WEIGHTS} | columns
    return pl.DataFrame({name: column for name, column in given.items() if column is not None}, strict=False)


@pytest.mark.parametrize(("src", "dst"), [("src", "dst"), ("Source", "Target"), ("from", "to")])
def test_a_table_of_edges_is_the_graph_of_the_variates(src: str, dst: str, tmp_path: Path) -> None:
    wanted = SensorGraph.of(4, EDGES, WEIGHTS)
    frame = table().rename({"src": src, "dst": dst})
    frame.write_csv(tmp_path / "edges.csv")
    frame.write_parquet(tmp_path / "edges.parquet")
    for source in (frame, frame.to_pandas(), tmp_path / "edges.csv", tmp_path / "edges.parquet"):
        graph, read = read_edges(source, NAMES)
        assert torch.equal(graph.edges, wanted.edges) and torch.equal(graph.edge_features, wanted.edge_features)
        assert not read.ledger.repairs
    assert read_edges(table(weight=None), NAMES)[0].edge_features.shape == (6, 0)


def test_numbered_variates_are_found_by_their_names() -> None:
    names = ["773869", "767541"]
    for ends in ([773869, 767541], [773869.0, 767541.0], ["773869", " 767541"]):
        frame = pl.DataFrame({"src": ends, "dst": ends[::-1]})
        assert sorted(pairs(read_edges(frame, names)[0])) == [(0, 1), (1, 0)]


def test_repeated_edges_are_merged_and_other_columns_left_out_which_is_told() -> None:
    frame = pl.concat([table(), table()[1:3]]).with_columns(note=pl.lit("x"), day=pl.lit(3))
    graph, read = read_edges(frame, NAMES)
    assert torch.equal(graph.edges, SensorGraph.of(4, EDGES, WEIGHTS).edges)
    assert [(one.kind, one.count, one.first) for one in read.ledger.repairs] == [
        ("column-dropped", 1, "note"),
        ("column-dropped", 1, "day"),
        ("duplicates-merged", 2, "row 5"),
    ]


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (table(src=list("abbxd")), 'row 3: "x" in column "src" is no variate of the series'),
        (table(dst=list("bcxyx")), r'row 2: "x" \(and 1 more\) in column "dst" is no variate'),
        (table(src=["a", None, "b", "c", "d"]), 'row 1: "src" is empty'),
        (table(src=list("abbca"), dst=list("bcacb")), 'no edge names 1 of the 4 variates: "d"'),
        (table(weight=[1, 2, None, 3, 4]), 'row 2: the weight "weight" is empty or not finite'),
        (table(weight=[1, 2, float("inf"), 3, 4]), 'row 2: the weight "weight" is empty or not finite'),
        (table(weight=list("12345")), 'the weight "weight" holds String, not numbers'),
        (table(src=list("abbad"), dst=list("bcaba")), 'row 3: "a" to "b" weighs 9, in an earlier row 0.5'),
        (table(src=None), 'no columns "src" and "dst"'),
        (table(day=[0, 0, 1, 1, 2]), '"day" has 3 different values: this graph changes over time'),
        (table(seen=["2020-01-01"] * 3 + ["2020-01-02"] * 2), '"seen" has 2 different values: this graph changes'),
    ],
)
def test_a_file_of_edges_that_does_not_fit_is_refused(frame: pl.DataFrame, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_edges(frame, NAMES)
    assert caught.value.hint and "\n" not in caught.value.message


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs ../shared/data/spatiotemporal/{name}")
    return SHARED / name


@pytest.mark.parametrize(
    ("name", "table_name", "edges", "width"),
    [("metr_la", "metr_la_week1", 2 * (1722 - 207), 2), ("hungary_chickenpox", "hungary_chickenpox", 82, 0)],
)
def test_published_sensor_graphs_fit_their_series(name: str, table_name: str, edges: int, width: int) -> None:
    variates = list(pl.read_parquet_schema(shared(f"{table_name}.parquet")))[1:]
    graph, read = read_edges(shared(f"{name}_edges.parquet"), variates)
    assert graph.sensors == len(variates) and graph.edges.shape[1] == edges
    assert graph.edge_features.shape[1] == width and not read.ledger.repairs
    assert ((graph.walks >= 0) & (graph.walks <= 1)).all() and (graph.walks[:, 1:] > 0).any()


def test_a_graph_that_changes_by_the_day_is_refused() -> None:
    variates = [str(number) for number in range(129)]
    with pytest.raises(DataError, match='"day" has 61 different values: this graph changes over time') as caught:
        read_edges(shared("england_covid_edges.parquet"), variates)
    assert "mean weight" in caught.value.hint


def test_sensors_near_each_other_are_neighbours_in_los_angeles() -> None:
    sensors = pl.read_parquet(shared("metr_la_sensors.parquet"))
    values = pl.read_parquet(shared("metr_la_week1.parquet"))[:1411, 1:].to_numpy()  # the training part
    away = great_circle(sensors["latitude"], sensors["longitude"])
    edges, weights = nearest_by_distance(away)
    assert edges.shape == (2, 207 * 8) and float(away[edges[0], edges[1]].mean()) < 0.3 * float(away.mean())
    related, strength = nearest_by_correlation(values)
    assert related.shape[1] == 207 * 8 and float(strength.mean()) > float(correlations(torch.tensor(values)).mean())
    assert ((weights > 0) & (weights <= 1)).all()
