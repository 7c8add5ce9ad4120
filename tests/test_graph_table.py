"""Tables of graphs: every usual form reads alike, faults name their row, and what is left out is told."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from forecast.data.graph_table import GraphData, GraphTable, read_graphs
from forecast.errors import DataError, UsageError
from graphs.graph_store import GraphStore

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "graphs"

# Carbon monoxide, water, helium, ethene without hydrogen, cyclopropane: atoms by number and charge, bonds by order.
MOLECULES: list[dict[str, Any]] = [
    {"node_feat": [[6, -1], [8, 1]], "edge_index": [[0, 1], [1, 0]], "edge_feat": [[3], [3]], "y": 1},
    {
        "node_feat": [[8, 0], [1, 0], [1, 0]],
        "edge_index": [[0, 1, 0, 2], [1, 0, 2, 0]],
        "edge_feat": [[1], [1], [1], [1]],
        "y": 0,
    },
    {"node_feat": [[2, 0]], "edge_index": [[], []], "edge_feat": [], "y": 0},
    {"node_feat": [[6, 0], [6, 0]], "edge_index": [[0, 1], [1, 0]], "edge_feat": [[2], [2]], "y": 1},
    {
        "node_feat": [[6, 0], [6, 0], [6, 0]],
        "edge_index": [[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]],
        "edge_feat": [[1]] * 6,
        "y": 1,
    },
]
TYPES = {
    "node_feat": pl.List(pl.List(pl.Int64)),
    "edge_index": pl.List(pl.List(pl.Int64)),
    "edge_feat": pl.List(pl.List(pl.Int64)),
}


def table(**columns: Any) -> pl.DataFrame:
    """The molecules as nested lists, with other columns put in, or taken out by None."""
    given = {name: [one[name] for one in MOLECULES] for name in MOLECULES[0]} | columns
    kept = {name: column for name, column in given.items() if column is not None}
    schema = {name: kind for name, kind in TYPES.items() if name in kept and name not in columns}
    return pl.DataFrame(kept, schema_overrides=schema, strict=False)


def flat(**columns: Any) -> pl.DataFrame:
    """The molecules with lists written row by row, and the numbers of nodes and edges."""

    def joined(lists: list[Any]) -> list[int]:
        return [number for one in lists for number in one]

    written: dict[str, Any] = {
        name: [joined(one[name]) for one in MOLECULES] for name in ("node_feat", "edge_index", "edge_feat")
    }
    written["num_nodes"] = [len(one["node_feat"]) for one in MOLECULES]
    written["num_edges"] = [len(one["edge_feat"]) for one in MOLECULES]
    written["y"] = [one["y"] for one in MOLECULES]
    return pl.DataFrame({**written, **columns})


def same(one: GraphStore, other: GraphStore) -> bool:
    return all(torch.equal(vars(one)[name], vars(other)[name]) for name in vars(one))


def replaced(name: str, row: int, value: Any) -> dict[str, Any]:
    column = [one[name] for one in MOLECULES]
    column[row] = value
    return {name: column}


# Forms


def test_nested_lists_are_read_graph_by_graph() -> None:
    read = read_graphs(table())
    batch = read.store.batch(range(5))
    assert batch.nodes.tolist() == [node for one in MOLECULES for node in one["node_feat"]]
    assert batch.edge_features.tolist() == [edge for one in MOLECULES for edge in one["edge_feat"]]
    for number, one in enumerate(MOLECULES):
        assert read.store.batch([number]).edges.tolist() == one["edge_index"]
    assert read.store.targets.tolist() == [[one["y"]] for one in MOLECULES]
    assert read.task is not None and (read.task.name, read.task.outputs) == ("graph_binary", 1)
    assert read.targets == ("y",) and read.ids.to_list() == [0, 1, 2, 3, 4] and not read.ledger.repairs


def test_lists_written_row_by_row_read_alike_from_any_source(tmp_path: Path) -> None:
    wanted = read_graphs(table()).store
    flat().write_parquet(tmp_path / "flat.parquet")
    table().write_parquet(tmp_path / "nested.parquet")
    sources: list[Any] = [flat(), tmp_path / "flat.parquet", str(tmp_path / "nested.parquet"), table().to_pandas()]
    for source in sources:
        assert same(read_graphs(source).store, wanted)


def test_columns_go_by_the_names_of_others() -> None:
    names = {"node_feat": "x", "edge_index": "Edge_Index", "edge_feat": "edge_attr", "y": "label"}
    read = read_graphs(table(graph_id=list("abcde")).rename(names))
    assert same(read.store, read_graphs(table()).store)
    assert read.targets == ("label",) and read.ids.to_list() == list("abcde")


def test_edge_features_and_targets_as_single_numbers_or_lists_in_lists() -> None:
    scalars = table(edge_feat=[[edge[0] for edge in one["edge_feat"]] for one in MOLECULES])
    assert same(read_graphs(scalars).store, read_graphs(table()).store)
    assert same(read_graphs(table(y=[[[one["y"]]] for one in MOLECULES])).store, read_graphs(table()).store)
    assert same(
        read_graphs(table(y=pl.Series([[one["y"]] for one in MOLECULES], dtype=pl.Array(pl.Int64, 1)))).store,
        read_graphs(table()).store,
    )


def test_without_edge_features_their_width_is_zero() -> None:
    store = read_graphs(table(edge_feat=None)).store
    assert store.edge_features.shape == (14, 0) and store.batch([1]).edges.shape == (2, 4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_list_of_pyg_graphs_reads_like_the_table() -> None:
    read = read_graphs(table())
    again = read_graphs(read.store.to_data())
    assert torch.equal(again.store.batch(range(5)).edges, read.store.batch(range(5)).edges)
    assert again.task == read.task and again.targets == ("y",) and len(again) == 5
    data = read.store.to_data()
    data[3].edge_index[0, 1] = 9
    with pytest.raises(DataError, match=r"<list>, graph 3: edge 1 joins node 9; the nodes are 0 … 1"):
        read_graphs(data)
    with pytest.raises(DataError, match="<list>, graph 1: a int is no graph"):
        read_graphs([data[0], 3])


# Faults


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (table(**replaced("edge_index", 3, [[0, 2], [1, 0]])), "row 3: edge 1 joins node 2; the nodes are 0 … 1"),
        (table(**replaced("edge_index", 1, [[0, 1, 0, 2]] * 3)), 'row 1: "edge_index" has 3 lists, not the sources'),
        (
            table(**replaced("edge_index", 1, [[0, 1, 0], [1]])),
            'row 1: "edge_index" has 4 numbers, not as many sources',
        ),
        (table(**replaced("edge_index", 4, None)), 'row 4: "edge_index" is empty'),
        (table(**replaced("edge_index", 0, [[0, None], [1, 0]])), 'row 0: "edge_index" has a number that is absent'),
        (
            table(**replaced("edge_index", 0, [[0, 0.5], [1, 0]])),
            'row 0: "edge_index" has a number that is absent or not',
        ),
        (table(**replaced("node_feat", 2, [])), "row 2: the graph has no nodes"),
        (
            table(**replaced("node_feat", 3, [[6, 0], [6]])),
            'row 3: "node_feat" has 3 numbers for 2 nodes, not 2 for each',
        ),
        (
            table(**replaced("node_feat", 3, [[6, 0, 0], [6]])),
            'row 3: "node_feat" has 4 numbers for 2 nodes, not 2 for',
        ),
        (
            table(**replaced("node_feat", 1, [[8.5, 0], [1, np.nan], [1, 0]])),
            "row 1: a feature of node 1 is not finite",
        ),
        (table(**replaced("edge_feat", 0, [[3], [None]])), "row 0: a feature of edge 1 is not finite"),
        (table(**replaced("edge_feat", 3, [[2]])), 'row 3: "edge_feat" has 1 edges, edge_index 2'),
        (
            table(**replaced("edge_feat", 4, [[1, 1]] * 6)),
            'row 4: "edge_feat" has 12 numbers for 6 edges, not 1 for each',
        ),
        (table(**replaced("y", 2, float("inf"))), "row 2: its target is infinite"),
        (table(num_nodes=[2, 3, 1, 3, 3]), 'row 3: "node_feat" has 2 nodes, not 3'),
        (flat(num_nodes=[2, 3, 1, 2, 2]), 'row 4: "node_feat" has 6 numbers for 2 nodes, not 2 for each'),
        (flat(num_nodes=[2, 3, None, 2, 3]), "row 2: the graph has no nodes"),
        (flat().drop("num_nodes"), 'column "node_feat" holds flat lists, and no column says how many nodes'),
        (table(edge_index=None), r'no column "edge_index" \(or edges\)'),
        (table(node_feat=None), r'no column "node_feat" \(or x, node_attr'),
        (table(y=None), r"no column of targets \(y, label"),
        (table(y=[None] * 5), "No graph has a target"),
        (table(y=list("abbab")), 'the target "y" holds String, not numbers'),
        (
            table(edge_index=[1] * 5),
            'column "edge_index" holds Int64, not a list',
        ),
        (table(node_feat=["[[1]]"] * 5), 'column "node_feat" holds String, not a list'),
        (table(node_feat=[["C", "O"]] * 5), 'the lists of column "node_feat" hold String, not numbers'),
        (table(y=[[0, 1], [0, 1], [1], [1, 1], [0, 0]]), 'row 2: "y" has 1 targets, others 2'),
        (table(split=["train", "train", "valid", "test", "holdout"]), 'row 4: "holdout" in column "split" is no part'),
        (table(split=["train"] * 4 + ["test"]), "no graph is for validation; there are 5 with targets"),
    ],
)
def test_a_fault_is_told_with_its_row(frame: pl.DataFrame, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_graphs(frame)
    assert caught.value.message.startswith("<frame>") and caught.value.hint and "\n" not in caught.value.message


def test_a_file_and_its_row_are_named(tmp_path: Path) -> None:
    table(**replaced("edge_index", 3, [[0, 2], [1, 0]])).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet, row 3: edge 1 joins node 2"):
        read_graphs(tmp_path / "bad.parquet")


def test_named_columns_must_be_there() -> None:
    for data in (GraphData(target=("yy",)), GraphData(split_col="fold")):
        with pytest.raises(UsageError, match="there is no column"):
            read_graphs(table(), data)


# Tasks


def task(y: list[Any], **data: Any) -> tuple[str, int]:
    found = read_graphs(table(y=y), GraphData(**data)).task
    assert found is not None
    return found.name, found.outputs


def test_the_task_is_told_by_the_targets() -> None:
    assert task([1, 0, 0, 1, 1]) == ("graph_binary", 1)
    assert task([True, False, False, True, True]) == ("graph_binary", 1)
    assert task([0.0, 1, None, 1, 1]) == ("graph_binary", 1)
    assert task([1, 0, 2, 1, 1]) == ("graph_multiclass", 3)
    assert task([1.5, 0, 2, 1, 1]) == ("graph_regression", 1)
    assert task([12, 40, 7, 7, 1]) == ("graph_regression", 1)
    assert task([[0, 1], [1, None], [0, 0], None, [1, 1]]) == ("graph_multilabel", 2)
    assert task([[0.2, 1], [1, None], [0, 0], [0, 3], [1, 1]]) == ("graph_regression", 2)
    assert task([[0, 1], [1, 2, 2], [0], [0, 0], [1, 2, 0]]) == ("node_classification", 3)
    assert task([[0, 1], [1, 0, 0], [0], None, [1, 1, 0]]) == ("node_classification", 1)


def test_the_task_can_be_named_against_the_looks() -> None:
    assert task([1, 0, 0, 1, 1], task="graph_regression") == ("graph_regression", 1)
    assert task([1, 0, 0, 1, 1], task="graph_multiclass") == ("graph_multiclass", 2)
    assert task([4, 0, 2, 1, 1], task="graph_multiclass") == ("graph_multiclass", 5)
    assert task([1, 0, 0, 1, 1], task="graph_multilabel") == ("graph_multilabel", 1)


@pytest.mark.parametrize(
    ("y", "name", "told"),
    [
        ([1, 0, 2, 1, 1], "graph_binary", "row 2: the target 2 is no label 0 or 1"),
        ([1, 0, 0.5, 1, 1], "graph_multiclass", "row 2: the target 0.5 is no class"),
        ([1, 0, 0, -1, 1], "graph_multiclass", "row 3: the target -1 is no class"),
        ([[0, 1], [1, 2, 2], [0], [0, 0.5], [1, 2, 0]], "node_classification", "row 3: the target 0.5 is no class"),
        ([[0, 1]] * 5, "graph_binary", "A graph has 2 targets, the task is graph_binary"),
        ([1, 0, 0, 1, 1], "node_classification", "Targets are of graphs, the task is node_classification"),
        ([[0, 1], [1, 2], [0], [0, 0], [1, 2, 0]], "node_classification", 'row 1: "y" has 2 targets for 3 nodes'),
    ],
)
def test_targets_that_do_not_fit_the_named_task_are_refused(y: list[Any], name: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        task(y, task=name)


def test_as_many_targets_as_nodes_in_every_graph_are_asked_about() -> None:
    two = table(y=[[0, 1], [1, 1], [0, 1], [1, 0], [0, 0]]).with_columns(
        node_feat=pl.Series([[[6, 0], [6, 0]]] * 5),
        edge_index=pl.Series([[[0], [1]]] * 5),
        edge_feat=pl.Series([[[1]]] * 5),
    )
    with pytest.raises(DataError, match='every "y" has 2 numbers, and every graph 2 nodes'):
        read_graphs(two)
    assert read_graphs(two, GraphData(task="node_classification")).store.targets.shape == (10,)
    assert read_graphs(two, GraphData(task="graph_multilabel")).store.targets.shape == (5, 2)


def test_several_columns_are_several_targets() -> None:
    read = read_graphs(
        table(gap=[0.1, 0.2, 0.3, None, 0.5], mass=[28, 18, 4, 28, 42]), GraphData(target=("gap", "mass"))
    )
    assert read.targets == ("gap", "mass") and read.store.targets.shape == (5, 2)
    assert read.task is not None and read.task.name == "graph_regression"
    assert read_graphs(table(y=[[0, 1]] * 5)).targets == ("y_0", "y_1")


# Losses and metrics of a task


@pytest.mark.parametrize(
    ("y", "best", "metric"),
    [
        ([1.5, 0, 2, 1, 1], [[1.5], [0], [2], [1], [1]], {"mae": 0, "r2": 1}),
        ([1, 0, None, 1, 1], [[9], [-9], [0], [9], [9]], {"auc": 1, "ap": 1}),
        ([[0, 1], [1, None], [0, 0], None, [1, 1]], [[-9, 9], [9, 0], [-9, -9], [0, 0], [9, 9]], {"ap": 1, "auc": 1}),
        ([1, 0, 2, 1, 1], [[0, 9, 0], [9, 0, 0], [0, 0, 9], [0, 9, 0], [0, 9, 0]], {"accuracy": 1}),
        ([[0, 1], [1, 0, 1], [0], None, [1, 1, 0]], None, {"accuracy_sbm": 1, "accuracy": 1}),
    ],
)
def test_a_task_scores_right_answers_best(y: list[Any], best: Any, metric: dict[str, float]) -> None:
    read = read_graphs(table(y=y))
    assert read.task is not None
    targets = read.store.targets
    outputs = (targets.nan_to_num()[:, None] * 18 - 9) if best is None else torch.tensor(best, dtype=torch.float32)
    if len(outputs) > len(targets):  # a graph without a target was left out
        outputs = outputs[[row for row, one in enumerate(y) if one is not None]]
    assert outputs.shape[1] == read.task.outputs and read.task.metric == next(iter(metric))
    assert read.task.scores(outputs, targets) == pytest.approx(metric)
    worse = read.task.scores(-outputs, targets)[read.task.metric]
    assert (worse < metric[read.task.metric]) == read.task.higher_is_better
    assert read.task.loss(outputs, targets) < read.task.loss(-outputs, targets)
    chances = read.task.predicted(outputs)
    assert chances.shape == outputs.shape
    assert read.task.name == "graph_regression" or bool(((chances >= 0) & (chances <= 1)).all())


# Parts and repairs


def test_parts_are_those_of_the_column() -> None:
    read = read_graphs(table(split=["test", "Train", "val", "train ", "training"]))
    assert {part: rows.tolist() for part, rows in read.parts.items()} == {
        "train": [1, 3, 4],
        "validation": [2],
        "test": [0],
    }
    drawn = read_graphs(table(split=["test"] * 5), GraphData(split_col="none"))
    assert sorted(np.concatenate(list(drawn.parts.values())).tolist()) == [0, 1, 2, 3, 4]
    assert not read.ledger.repairs and not drawn.ledger.repairs


def many(count: int = 100) -> pl.DataFrame:
    return pl.concat([table()] * (count // 5))


def drawn(seed: int, **data: Any) -> GraphTable:
    return read_graphs(many(), GraphData(split_seed=seed, **data))


def test_parts_are_drawn_by_the_seed_where_no_column_tells_them() -> None:
    one, again, other = drawn(1).parts, drawn(1).parts, drawn(2).parts
    assert all(np.array_equal(one[part], again[part]) for part in one)
    assert not np.array_equal(one["test"], other["test"])
    assert sorted(np.concatenate(list(one.values())).tolist()) == list(range(100))
    assert [len(rows) for rows in one.values()] == [80, 10, 10]
    assert [len(rows) for rows in drawn(1, split=(0.5, 0.25, 0.25)).parts.values()] == [50, 25, 25]


def test_graphs_without_a_target_are_left_out_and_told() -> None:
    read = read_graphs(
        table(y=[1, None, 0, None, 1], graph_id=list("abcde"), split=["train", "test", "val", "val", "test"])
    )
    assert read.ids.to_list() == ["a", "c", "e"] and len(read) == 3 and read.store.sizes.tolist() == [2, 1, 3]
    assert {part: rows.tolist() for part, rows in read.parts.items()} == {"train": [0], "validation": [1], "test": [2]}
    assert [vars(entry) for entry in read.ledger.repairs] == [
        {"kind": "graphs-dropped", "count": 2, "first": "row 1", "detail": "without a target"}
    ]


def test_for_a_prediction_targets_do_not_matter() -> None:
    for frame in (table(), table(y=None), table(y=[None] * 5), table(y=list("abcde"), split=["?"] * 5)):
        read = read_graphs(frame, labelled=False)
        assert len(read) == 5 and read.task is None and not read.parts and not read.ledger.repairs
        assert torch.equal(read.store.batch([4]).nodes, torch.tensor(MOLECULES[4]["node_feat"]))


def test_columns_that_are_no_part_of_a_graph_are_told() -> None:
    read = read_graphs(table(weight=[28.0, 18, 4, 28, 42], num_edges=[2, 4, 0, 2, 6]))
    assert [(entry.kind, entry.first) for entry in read.ledger.repairs] == [("column-dropped", "weight")]


def test_edges_that_only_run_one_way_are_cautioned_about() -> None:
    one_way = [
        [[edge[0] for edge in zip(*one["edge_index"], strict=True) if edge[0] < edge[1]]] * 1 for one in MOLECULES
    ]
    ends = [[edge[1] for edge in zip(*one["edge_index"], strict=True) if edge[0] < edge[1]] for one in MOLECULES]
    read = read_graphs(table(edge_index=[[a[0], b] for a, b in zip(one_way, ends, strict=True)], edge_feat=None))
    absent = [("class-absent", 1)] * 2  # parts of one molecule each have one class
    assert [(one.kind, one.count) for one in read.ledger.cautions] == [("one-way-edges", 7), *absent]
    assert [(one.kind, one.count) for one in read_graphs(table()).ledger.cautions] == absent


# Real data


@pytest.mark.parametrize(
    ("name", "task", "nodes", "edges", "parts", "positives"),
    [
        ("molhiv", "graph_binary", 1_049_163, 2_259_376, [32_901, 4_113, 4_113], [1_232, 81, 130]),
        pytest.param(
            *("peptides_func", "graph_multilabel", 2_344_859, 4_773_974, [10_873, 2_331, 2_331], None),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_published_numbers_of_graphs(
    name: str, task: str, nodes: int, edges: int, parts: list[int], positives: list[int] | None
) -> None:
    if not (SHARED / f"{name}.parquet").exists():
        pytest.skip(f"needs ../shared/data/graphs/{name}.parquet")
    read = read_graphs(SHARED / f"{name}.parquet")
    assert read.task is not None and read.task.name == task
    assert (len(read.store.nodes), read.store.edges.shape[1]) == (nodes, edges)
    assert [len(rows) for rows in read.parts.values()] == parts
    if positives:
        assert [int(read.store.targets_of(rows).sum()) for rows in read.parts.values()] == positives
    assert not read.ledger.cautions and read.store.edge_features.shape[1] == 3 and read.store.nodes.shape[1] == 9
