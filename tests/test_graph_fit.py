"""A fit on graphs with labels, from a table to a registered model: what is told, kept, and never seen in training."""

import dataclasses
import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.config import from_dict, resolve
from forecast.console import Progress
from forecast.data.graph_table import GraphData, read_graphs
from forecast.data.made import made
from forecast.errors import DataError, UsageError
from forecast.gate import HIGHER
from forecast.graph_labels import kept_positions, learning, story
from forecast.graph_labels.baselines import BASELINES, baselines
from forecast.graph_labels.fitted import Reader, outputs
from forecast.graph_labels.settings import GraphTrack, GraphTrain
from forecast.kinds import kind_of
from forecast.searching import with_operators
from graphs.graph_operators import PUBLISHED
from graphs.graph_store import GraphStore
from graphs.graph_tasks import METRICS, TASKS, GraphTask
from tests.test_graph_prediction import molecules as identified
from tests.test_search import Stop

if TYPE_CHECKING:
    from mlflow import MlflowClient

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "graphs"
SMALL = ("model.layers=2", "model.width=8", "model.heads=2", "model.position_width=2", "model.position_count=4")
QUICK = (*SMALL, "model.search_epochs=2", "train.epochs=2", "train.learning_rate=1e-2", "train.warmup_epochs=1")
GINE = (*SMALL, "model.architecture=GINE", "train.epochs=2")


pytestmark = pytest.mark.usefixtures("one_thread")


def molecules(graphs: int = 120, seed: int = 0) -> pl.DataFrame:
    """Made-up molecules with a value, nested lists of codes."""
    return identified(graphs, seed).drop("graph_id")


def labelled() -> pl.DataFrame:
    """Two hundred of the real molecules of HIV where they are here, half of them positive; else made-up ones."""
    path = SHARED / "molhiv.parquet"
    if not path.exists():
        return molecules(200).with_columns(label=(pl.col("y") > pl.col("y").median()).cast(pl.Int8)).drop("y")
    table = pl.read_parquet(path).drop("smiles")
    halves = [table.filter(pl.col("label") == label).sample(100, seed=0) for label in (0, 1)]
    return pl.concat(halves).sample(fraction=1.0, shuffle=True, seed=0).drop("split")


def found_in(table: Any, *settings: str) -> story.Read:
    return story.read(resolve("darts-gt", settings=settings), table)


@pytest.fixture(scope="module")
def run(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fit"))
        patch.setenv("MLFLOW_TRACKING_URI", address)
        yield forecast.fit(labelled(), "darts-gt", settings=QUICK, register="molecules", force=True)


def test_the_document_tells_scores_controls_and_the_search(run: Any) -> None:
    document = run.document
    assert list(document["scores"]) == ["darts-gt", *BASELINES] == list(run.scores)
    assert list(document["controls"]) == [f"all-{operator}" for operator in PUBLISHED]
    assert set(document["validation"]) == {*document["scores"], *document["controls"]}
    for scores in (*document["scores"].values(), *document["controls"].values()):
        assert tuple(scores) == METRICS["graph_binary"] and all(0 <= value <= 1 for value in scores.values())
    assert document["scores"]["prior"]["auc"] == 0.5
    assert document["split"] == {"train": 160, "validation": 20, "test": 20}
    assert document["metric"] == "auc" and document["data"]["task"] == "graph_binary"
    found = document["search"]
    assert document["operators"] == found["operators"] and len(found["margins"]) == len(found["evidence"]) == 2
    for number, verdict in enumerate(found["verdicts"], start=1):
        assert verdict.startswith("undecided: " if number in found["undecided"] else "decided: ")
        assert html.escape(verdict) in run.report
    assert "cut_short" not in document
    assert json.loads(json.dumps(document)) == document


def test_controls_are_no_part_of_the_gate(run: Any) -> None:
    assert set(story.judged(run.document, "auc")) == {"darts-gt", *BASELINES}
    assert {metric for metrics in METRICS.values() for metric in metrics} - HIGHER == {"mae"}


def test_what_is_told_is_what_is_tracked(run: Any, client: "MlflowClient") -> None:
    stored = client.get_run(run.id)
    for metric in ("auc", "ap"):
        assert stored.data.metrics[f"test.{metric}"] == pytest.approx(run.document["scores"]["darts-gt"][metric])
        assert stored.data.metrics[f"linear.{metric}"] == pytest.approx(run.document["scores"]["linear"][metric])
        assert stored.data.metrics[f"all-GINE.{metric}"] == pytest.approx(run.document["controls"]["all-GINE"][metric])
    assert stored.data.tags["mlflow.note.content"].startswith("darts-gt ")
    assert Path(run.document["report"]).read_text() == run.report
    architecture = json.loads((Path(run.document["report"]).parent / "architecture.json").read_text())
    assert architecture["operators"] == run.document["operators"]
    for heading in ("Scores on the test part", "The search", "Do the chances hold?", "Training"):
        assert heading in run.report


def test_the_registered_model_answers_as_the_one_just_trained(run: Any, desk: Path) -> None:
    # Registering runs the stored model where neither forecast nor graphs can be imported.
    assert run.registered.alias == "champion"
    asked = labelled().drop("label").head(9)
    one, other = run.predict(asked), forecast.predict("models:/molecules@champion", asked)
    assert one.columns == ["graph_id", "label"] == other.columns
    assert one["graph_id"].to_list() == list(range(9)) and one["label"].is_between(0, 1).all()
    np.testing.assert_allclose(one["label"].to_numpy(), other["label"].to_numpy(), atol=1e-5)
    with pytest.raises(UsageError, match="--horizon is not an option"):
        forecast.predict("models:/molecules@champion", asked, horizon=3)


def test_a_champion_is_judged_on_the_candidates_test_graphs(run: Any) -> None:
    found = found_in(labelled(), *QUICK)
    for metric in ("auc", "ap"):
        again = story.rescore(run.fitted, found, metric)
        assert again == pytest.approx(run.document["scores"]["darts-gt"][metric], abs=1e-6)
    with pytest.raises(UsageError, match="tells other targets"):
        story.rescore(run.fitted, found_in(labelled().rename({"label": "y"}), *QUICK), "auc")
    bare = labelled().drop("edge_feat")
    with pytest.raises(UsageError, match="takes other features"):
        story.rescore(run.fitted, found_in(bare, *QUICK), "auc")


def test_what_chance_and_labels_of_the_test_part_are_never_reaches_training() -> None:
    table = molecules().with_columns(split=pl.Series(["train"] * 80 + ["validation"] * 20 + ["test"] * 20))
    in_test = pl.col("split") == "test"
    other = table.with_columns(y=pl.when(in_test).then(-1000 * pl.col("y")).otherwise("y"))
    weights, searched, answers = [], [], []
    for one in (table, other):
        found = found_in(one, *QUICK)
        config, prepared = found.config, found.prepared
        searched.append(learning.search(prepared, config.model, config.train).probabilities)
        named = with_operators(config, ("GINE", "GATV2"))
        weights.append(learning.learn(prepared, named.model, config.train).network.state_dict())
        answers.append([rule(prepared.parts["test"]) for rule in baselines(prepared).values()])
    assert searched[0] == searched[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(*pair) for pair in zip(*answers, strict=True))


def test_the_same_operators_give_the_same_weights_whether_a_search_ran_before_or_not() -> None:
    config, prepared = (found := found_in(molecules(), *GINE)).config, found.prepared
    first = learning.learn(prepared, config.model, config.train).network.state_dict()
    searching = resolve("darts-gt", settings=QUICK)
    learning.search(prepared, dataclasses.replace(searching.model, node_features="type_dict"), searching.train)
    again = learning.learn(prepared, config.model, config.train).network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = learning.learn(prepared, config.model, dataclasses.replace(config.train, seed=7)).network.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


class StopError(Exception):
    """Ends a training after an epoch."""


def stop(number: int, values: Mapping[str, float]) -> None:
    if number == 2:
        raise StopError


def test_what_was_stopped_and_resumed_ends_as_if_unbroken(tmp_path: Path) -> None:
    config, prepared = (found := found_in(molecules(), *QUICK, "model.search_epochs=3")).config, found.prepared
    train = dataclasses.replace(config.train, epochs=3)
    whole = learning.search(prepared, config.model, train)
    path = tmp_path / "search.ckpt"
    with pytest.raises(StopError):
        learning.search(prepared, config.model, train, checkpoint=path, on_epoch=stop)
    assert path.exists()
    resumed = learning.search(prepared, config.model, train, checkpoint=path)
    assert dataclasses.replace(resumed, seconds=whole.seconds) == whole and len(whole.trajectory) == 3
    assert len(whole.evidence) == 2
    named = with_operators(config, ("GATV2", "CustomGatedGCN")).model
    first = learning.learn(prepared, named, train)
    path = tmp_path / "last.ckpt"
    with pytest.raises(StopError):
        learning.learn(prepared, named, train, checkpoint=path, on_epoch=stop)
    second = learning.learn(prepared, named, train, checkpoint=path)
    states = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.curve == second.curve


@pytest.mark.slow
@pytest.mark.parametrize("at", ["search epoch 2", "training darts-gt", "training the control"])
def test_a_fit_that_was_stopped_goes_on_to_the_same_model_and_controls(
    desk: Path, client: "MlflowClient", at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*QUICK, "model.search_epochs=3")
    whole = forecast.fit(molecules(), "darts-gt", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        forecast.fit(molecules(), "darts-gt", settings=settings, progress=Stop(at))
    (killed,) = client.search_runs(["1"], "attributes.status = 'KILLED'", max_results=1)
    if at != "search epoch 2":  # a search that had ended is not carried out again
        monkeypatch.setattr(learning, "search", None)
    resumed = forecast.fit(molecules(), resume=killed.info.run_id)
    for part in ("search", "scores", "validation", "controls"):
        assert resumed.document[part] == whole.document[part]
    weights, others = (one.fitted.network.state_dict() for one in (whole, resumed))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_time_limit_ends_in_a_model_that_answers_and_tells_what_was_cut(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (*SMALL, "model.search_epochs=3", "train.epochs=4", "train.batch_size=16", "model.candidates=GINE,None")
    run = forecast.fit(molecules(), "darts-gt", settings=settings, time_limit=1e-6, progress=Progress())
    cut = run.document["cut_short"]
    assert cut[:2] == ["search after 1 of 3 epochs", "darts-gt after 1 of 4 epochs"]
    assert {"all-GINE after 1 of 4 epochs", "all-None after 1 of 4 epochs"} >= set(cut[2:]) > set()
    assert "; ".join(cut) in run.report and f"cut short by the time limit: {'; '.join(cut)}" in capsys.readouterr().out
    assert run.document["search"]["undecided"] == [1, 2] and len(run.document["search"]["evidence"]) == 2
    assert run.predict(molecules(5, seed=1))["y"].is_finite().all()


@pytest.mark.parametrize("kind", ["rwse", "lappe"])
def test_positions_are_computed_once_for_the_same_edges(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_positions, "WORTH", 1)
    table, settings = molecules(30), (*GINE, f"model.positions={kind}")
    first = found_in(table, *settings).prepared.parts["train"]
    (kept,) = kept_positions.folder().iterdir()

    def again(table: pl.DataFrame, *settings: str) -> GraphStore:
        return found_in(table, *settings).prepared.parts["train"]

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "with_positions", None)
        relabelled = again(table.with_columns(y=pl.col("y") + 1), *settings)
        for name in ("walks", "eigenvectors", "eigenvalues"):
            assert torch.equal(getattr(first, name).nan_to_num(9), getattr(relabelled, name).nan_to_num(9))
        for other, changed in ((table[::-1], settings), (table, (*settings, "model.position_count=5"))):
            with pytest.raises(TypeError):  # another order, another count: computed, not read
                again(other, *changed)
    kept.write_bytes(b"damaged")
    assert torch.equal(again(table, *settings).walks, first.walks) and kept.stat().st_size > 100
    assert [path.suffix for path in kept.parent.iterdir()] == [".safetensors"]
    kept.unlink(), kept.parent.rmdir(), kept.parent.touch()  # where nothing can be kept, a fit goes on
    assert torch.equal(again(table, *settings).walks, first.walks)


def test_a_linear_model_finds_what_is_linear_in_counts_and_means() -> None:
    table = molecules(200)
    said = table.with_columns(y=3 * pl.col("node_feat").list.len().log1p() + 7)
    prepared = found_in(said, *GINE).prepared
    test = prepared.parts["test"]
    rules = baselines(prepared)
    errors = {name: prepared.task.scores(rule(test), test.targets)["mae"] for name, rule in rules.items()}
    assert errors["linear"] < 0.02 < errors["prior"]
    assert rules["prior"](test)[0, 0] == prepared.parts["train"].targets.nanmedian()


def test_of_several_labels_those_that_are_missing_count_nowhere() -> None:
    table = molecules().with_columns(a=(pl.col("y") > 0).cast(pl.Int8), b=(pl.col("y") > 0.5).cast(pl.Int8)).drop("y")
    gaps = table.with_columns(b=pl.when(pl.int_range(pl.len()) % 3 > 0).then("b"))
    found = found_in(gaps, *GINE, "data.target=a,b")
    assert found.facts["task"] == "graph_multilabel" and found.config.track.metric == "ap"
    learned = learning.learn(found.prepared, found.config.model, found.config.train)
    assert all(np.isfinite(loss) for _, loss, _ in learned.curve)
    said = baselines(found.prepared)["prior"](found.prepared.parts["test"])[0].sigmoid()
    train = gaps[found.graphs.parts["train"]]
    np.testing.assert_allclose(said.numpy(), [train["a"].mean(), train["b"].mean()], atol=1e-6)


NEGATIVE = "model.search_nan_labels=negative"  # as the authors' search has it


@pytest.mark.parametrize(
    ("work", "settings", "gaps_pull"),
    [
        ("search", QUICK, False),
        ("search", (*QUICK, NEGATIVE), True),
        ("learn", GINE, False),
        ("learn", (*GINE, NEGATIVE), False),
    ],
)
def test_labels_that_are_missing_pull_on_no_output_unless_it_is_asked_for(
    work: str, settings: tuple[str, ...], gaps_pull: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = molecules(60).with_columns(a=(pl.col("y") > 0).cast(pl.Int8), b=(pl.col("y") > 0.5).cast(pl.Int8)).drop("y")
    gaps = table.with_columns(b=pl.when(pl.int_range(pl.len()) % 3 > 0).then("b"))
    found = found_in(gaps, *settings, "data.target=a,b")
    pulls: list[tuple[torch.Tensor, torch.Tensor]] = []
    whole = GraphTask.loss

    def overheard(task: GraphTask, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = whole(task, outputs, targets)
        if loss.requires_grad:
            pulls.append((torch.autograd.grad(loss, outputs, retain_graph=True)[0], targets))
        return loss

    monkeypatch.setattr(GraphTask, "loss", overheard)
    getattr(learning, work)(found.prepared, found.config.model, found.config.train)
    if gaps_pull:
        # Evidence, which their code has not, is taken from the labels that there are.
        steps = [pull for pull, targets in pulls if not targets.isnan().any()]
        assert len(steps) > 3 and all((pull != 0).all() for pull in steps)
        return
    assert sum(int(targets.isnan().sum()) for _, targets in pulls) > 10
    assert all(torch.equal(pull == 0, targets.isnan()) for pull, targets in pulls)


def test_two_numbers_that_are_no_classes_are_told() -> None:
    for values, told in (((1, 2), True), ((-1, 1), True), ((0, 1), False)):
        labels = [values[number % 2] for number in range(60)]
        found = found_in(molecules(60).with_columns(y=pl.Series(labels)), *GINE)
        warned = [one["value"] for one in found.facts["warnings"] if one["kind"] == "two-values"]
        assert len(warned) == told
        assert not told or f"only {values[0]} and {values[1]}, read as numbers" in warned[0]


def test_where_the_metric_says_nothing_on_validation_the_loss_chooses_the_epoch() -> None:
    parts = ["train"] * 80 + ["validation"] * 20 + ["test"] * 20
    table = molecules().with_columns(split=pl.Series(parts), y=(pl.col("y") > 0).cast(pl.Int8))
    one_class = table.with_columns(y=pl.when(pl.col("split") == "validation").then(0).otherwise("y"))
    for said, by in ((table, "auc"), (one_class, "loss")):
        found = found_in(said, *GINE)
        learned = learning.learn(found.prepared, found.config.model, found.config.train)
        assert learned.validated_by == by and learned.best_epoch in (1, 2)


def test_graphs_of_one_node_without_edges_with_loops_and_repeated_edges_are_searched_and_trained_on() -> None:
    table = molecules(100)
    odd = pl.DataFrame(
        {
            "node_feat": [[[1]], [[1], [2]], [[1], [2]], [[3], [2]]] * 5,
            "edge_index": [[[], []], [[], []], [[0, 0, 1, 1], [1, 1, 0, 0]], [[0, 1, 1], [0, 1, 0]]] * 5,
            "edge_feat": [[], [], [[1]] * 4, [[2]] * 3] * 5,
            "y": [0.1, 0.2, 0.3, 0.4] * 5,
        },
        schema=table.schema,
    )
    found = found_in(pl.concat([table, odd]), *QUICK)
    prepared, config = found.prepared, found.config
    sought = learning.search(prepared, config.model, config.train)
    assert np.isfinite(sought.probabilities).all() and np.isfinite(sought.evidence).all()
    learned = learning.learn(prepared, with_operators(config, sought.operators).model, config.train)
    assert all(np.isfinite(loss) and np.isfinite(value) for _, loss, value in learned.curve)
    assert outputs(learned.network, prepared.reader.read(read_graphs(odd, labelled=False).store)[0]).isfinite().all()


@pytest.mark.parametrize("absent", ["train", "validation", "test"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_a_part_has_not_is_learned_and_scored_without(absent: str, classes: int) -> None:
    """The last class: the loss chooses the epoch where AUC cannot, and a score of nothing is no number."""
    parts = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    labels = [number % classes for number in range(100)]
    told = [min(label, classes - 2) if part == absent else label for part, label in zip(parts, labels, strict=True)]
    table = molecules(100).with_columns(split=pl.Series(parts), y=pl.Series(told))
    found = found_in(table, *QUICK, "model.layers=1", "model.search_epochs=1", "train.epochs=1")
    assert [one["value"] for one in found.facts["warnings"] if one["kind"] == "class-absent"] == [
        f"class {classes - 1} is not in the {absent} part"
    ]
    prepared, config = found.prepared, found.config
    assert (prepared.task.name, prepared.task.outputs) == (
        ("graph_binary", 1) if classes == 2 else ("graph_multiclass", 3)
    )
    sought = learning.search(prepared, config.model, config.train)
    assert np.isfinite(sought.probabilities).all() and np.isfinite(sought.evidence).all()
    learned = learning.learn(prepared, with_operators(config, sought.operators).model, config.train)
    assert learned.validated_by == ("accuracy" if classes == 3 else "loss" if absent == "validation" else "auc")
    test = prepared.parts["test"]
    answers = [rule(test) for rule in baselines(prepared).values()] + [outputs(learned.network, test)]
    for answer in answers:
        scores = prepared.task.scores(answer, test.targets)
        assert answer.isfinite().all()
        assert all(np.isfinite(value) != (classes == 2 and absent == "test") for value in scores.values())


def test_a_fit_whose_test_part_has_one_class_says_that_nothing_can_be_said(desk: Path) -> None:
    parts = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    one = pl.when(pl.col("split") == "test").then(0).otherwise(pl.int_range(100) % 2)
    run = forecast.fit(
        molecules(100).with_columns(split=pl.Series(parts)).with_columns(y=one), "darts-gt", settings=GINE
    )
    assert run.document["scores"]["darts-gt"] == {"auc": None, "ap": None}
    assert "Nothing can be said of darts-gt" in run.report


def test_a_network_learns_what_no_linear_model_of_means_can_tell() -> None:
    """Which of two rings a graph is: one of ten nodes, or two of five; all means and counts are equal."""
    ring = [[i, (i + 1) % 10] for i in range(10)]
    pair = [[i, 5 * (i // 5) + (i + 1) % 5] for i in range(10)]
    label = np.random.default_rng(0).integers(2, size=150)
    edges = [np.array([ring, pair][one]).T for one in label]
    table = pl.DataFrame(
        {
            "node_feat": [[[1.0]] * 10] * 150,
            "edge_index": [np.hstack([one, one[::-1]]).tolist() for one in edges],
            "y": label,
        }
    )
    settings = ("model.position_count=6", "train.epochs=8", "train.learning_rate=1e-2", "train.batch_size=16")
    found = found_in(table, *GINE, *settings)
    prepared = found.prepared
    learned = learning.learn(prepared, found.config.model, found.config.train)
    assert max(value for _, _, value in learned.curve) == 1.0
    test = prepared.parts["test"]
    assert prepared.task.scores(baselines(prepared)["linear"](test), test.targets)["auc"] == pytest.approx(0.5, abs=0.2)


def test_encoders_and_head_follow_from_the_data_and_may_be_set() -> None:
    def kinds(table: pl.DataFrame, *settings: str) -> tuple[str, str, str]:
        model = found_in(table, *settings).config.model
        return model.node_features, model.edge_features, model.head

    table = molecules(30)
    atoms = table.with_columns(
        node_feat=pl.Series([[[5, 0, 4, 5, 3, 0, 2, 0, 0]] * len(one) for one in table["node_feat"]]),
        edge_feat=pl.Series([[[0, 0, 0]] * len(one) for one in table["edge_feat"]]),
    )
    amounts = table.with_columns(node_feat=pl.Series([[[0.5, 2.0]] * len(one) for one in table["node_feat"]]))
    assert kinds(atoms) == ("atom", "bond", "san_graph")
    assert kinds(table) == ("type_dict", "type_dict", "san_graph")
    assert kinds(amounts.drop("edge_feat")) == ("linear", "dummy", "san_graph")
    assert kinds(made("pattern", 12, 0)) == ("linear", "dummy", "inductive_node")
    assert kinds(atoms, "model.node_features=linear", "model.head=graph") == ("linear", "bond", "graph")
    with pytest.raises(UsageError, match=r"model\.node_features: atom reads 9 columns of codes, not 1 columns"):
        story.require_buildable(found_in(table, "model.node_features=atom"))
    with pytest.raises(UsageError, match=r"model\.head inductive_node is not for graph_regression"):
        found_in(table, "model.head=inductive_node")


def test_the_kind_of_data_decides_which_settings_there_are() -> None:
    assert resolve("darts-gt").task == "graphs" and isinstance(resolve("darts-gt").train, GraphTrain)
    assert resolve("darts-gt", settings=["data.horizon=3"]).task == "series"
    assert resolve("darts-gt", settings=["data.kind=series"]).task == "series"
    config = resolve("darts-gt", settings=["train.batch_size=7", "track.metric=ap"])
    assert from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert kind_of(config.task) is story
    for settings in (["train.epochs=0"], ["train.horizon=3"], ["track.metric=mse"], ["model.heads=5"], ["data.freq=h"]):
        with pytest.raises(UsageError):
            _ = resolve("darts-gt", settings=settings).model


def test_names_of_tasks_and_metrics_are_the_same_everywhere() -> None:
    assert set(TASKS) == set(get_args(get_args(get_type_hints(GraphData)["task"])[0]))
    known = {metric for metrics in METRICS.values() for metric in metrics}
    assert known | {"auto"} == set(get_args(get_type_hints(GraphTrack)["metric"]))
    targets = {"graph_multiclass": torch.tensor([[0.0], [1.0]]), "node_classification": torch.tensor([0.0, 1.0])}
    for name in TASKS:
        outputs = 2 if name == "graph_multiclass" else 1
        target = targets.get(name, torch.tensor([[0.0], [1.0]]))
        assert tuple(GraphTask(name, outputs).scores(torch.eye(2)[:, :outputs], target)) == METRICS[name]


def test_a_metric_of_another_task_and_data_of_another_kind_are_refused(desk: Path) -> None:
    with pytest.raises(UsageError, match=r"track\.metric is auc, which does not judge graph_regression"):
        found_in(molecules(), "track.metric=auc")
    with pytest.raises(DataError, match="edge_index"):
        forecast.fit(pl.DataFrame({"ds": ["2020-01-01"], "y": [1.0]}), "darts-gt")
    with pytest.raises(UsageError, match="width"):
        forecast.fit(molecules(), "darts-gt", settings=("model.width=10",))
