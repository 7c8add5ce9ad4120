"""A fit on events, from a table to a registered model: what is told, what is kept, and how a champion is judged."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast import figures
from forecast.config import resolve
from forecast.errors import DataError, UsageError
from forecast.gate import HIGHER
from forecast.kinds import kind_of
from forecast.links import story
from forecast.links.fitted import FittedLinks
from forecast.links.scoring import BASELINES
from forecast.links.settings import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient

SMALL = ("model.window=64", "model.patches=4", "model.width=8", "model.blocks=1", "train.negatives=5")
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 25, "learning_rate": 1e-2, "device": "cpu"}
METHODS = ["todyformer", "todyformer-no-encoder", *BASELINES]


pytestmark = pytest.mark.usefixtures("one_thread")


def habits(rows: int = 500, seed: int = 0) -> pl.DataFrame:
    """People who mostly go where they went last, a step on; each time in a calendar."""
    draw = np.random.default_rng(seed)
    who, where, at = draw.integers(12, size=rows), np.zeros(rows, np.int64), np.zeros(12, np.int64)
    for row in range(rows):
        at[who[row]] = (at[who[row]] + 1) % 9 if draw.random() < 0.85 else draw.integers(9)
        where[row] = at[who[row]]
    seconds = 1_600_000_000 + np.cumsum(draw.integers(0, 3600, rows))
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in who],
            "item": [f"i{number}" for number in where],
            "t": pl.Series(seconds * 1_000_000).cast(pl.Datetime("us")),
        }
    )


def queries(table: pl.DataFrame, rows: int = 6) -> pl.DataFrame:
    return table.tail(rows).with_columns(pl.col("t") + pl.duration(days=60))


class Heard(story.Silent):
    """Notes what a fit says, and can stop it after an epoch."""

    def __init__(self, stop: int | None = None) -> None:
        self.stages: list[str] = []
        self.epochs: list[tuple[int, Mapping[str, float]]] = []
        self.stop = stop

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self.epochs.append((number, values))
        if len(self.epochs) == self.stop:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fit"))
        patch.setenv("MLFLOW_TRACKING_URI", address)
        yield forecast.fit(habits(), "todyformer", settings=SMALL, register="places", force=True, **OPTIONS)


def test_every_method_is_scored_on_every_event_of_validation_and_test(run: Any) -> None:
    document = run.document
    assert list(document["scores"]) == METHODS == list(document["validation"]) == list(run.scores)
    for scores in (*document["scores"].values(), *document["validation"].values()):
        assert tuple(scores) == METRICS and all(0 <= value <= 1 for value in scores.values())
    assert all(len(scores.ranks) == document["events"]["test"] for scores in run.scores.values())
    assert sum(document["events"].values()) == 500
    assert (document["candidates"], document["listed"], document["cut"]) == (9, False, "batch")
    assert set(document["split"]) == {"train", "validation", "test"}
    assert json.loads(json.dumps(document)) == document


def test_what_is_told_is_what_is_tracked(run: Any, client: "MlflowClient") -> None:
    stored = client.get_run(run.id)
    tracked = stored.data.metrics
    for metric in METRICS:
        name = metric.replace("@", "_at_")
        assert tracked[f"test.{name}"] == pytest.approx(run.document["scores"]["todyformer"][metric])
        assert tracked[f"validation.{name}"] == pytest.approx(run.document["validation"]["todyformer"][metric])
        assert tracked[f"pair-recency.{name}"] == pytest.approx(run.document["scores"]["pair-recency"][metric])
    assert len(client.get_metric_history(run.id, "val_mrr")) == 2
    assert len(client.get_metric_history(run.id, "val_mrr-no-encoder")) == 2
    assert stored.data.tags["mlflow.note.content"].startswith("todyformer ")
    assert Path(run.document["report"]).read_text() == run.report


def test_the_registered_model_answers_as_the_one_just_trained(run: Any, desk: Path) -> None:
    assert run.registered.alias == "champion"
    asked = queries(habits())
    one, other = run.predict(asked), forecast.predict("models:/places@champion", asked)
    np.testing.assert_allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-5)
    ranked = forecast.predict("models:/places@champion", asked.select("user", "t"), top_k=2)
    assert ranked.columns == ["user", "t", "rank", "item", "score"] and len(ranked) == 12
    assert ranked.schema["t"] == asked.schema["t"]
    with pytest.raises(UsageError, match="--horizon is not an option"):
        forecast.predict("models:/places@champion", asked, horizon=3)


def test_the_gate_compares_with_the_rules_and_not_with_the_control(run: Any) -> None:
    judged = story.judged(run.document, "mrr")
    assert judged.keys() == run.document["scores"].keys() - {"todyformer-no-encoder"}
    assert "recency-popularity" in judged and judged["todyformer"] == run.document["scores"]["todyformer"]["mrr"]


def test_a_champion_is_judged_on_the_candidates_test_events_by_its_own_ids(run: Any) -> None:
    config = resolve("todyformer", settings=SMALL, flags={"train": OPTIONS})
    found = story.read(config, habits())
    for metric in METRICS:
        again = story.rescore(run.fitted, found, metric)
        assert again == pytest.approx(run.document["scores"]["todyformer"][metric], abs=1e-6)
    # Ids that sort in another order, and further nodes that the champion does not know.
    longer = pl.concat([habits(), habits(200, seed=3).with_columns(pl.col("t") + pl.duration(days=100))])
    longer = longer.with_columns(item=pl.when(pl.int_range(pl.len()) > 650).then(pl.lit("a new one")).otherwise("item"))
    assert 0 < story.rescore(run.fitted, story.read(config, longer), "mrr") < 1


def test_a_champion_of_other_events_is_not_compared(run: Any) -> None:
    config = resolve("todyformer", settings=SMALL, flags={"train": OPTIONS})
    featured = habits().with_columns(weight=pl.lit(1.0))
    with pytest.raises(UsageError, match="takes other features"):
        story.rescore(run.fitted, story.read(config, featured), "mrr")
    ticks = habits().with_columns(pl.col("t").dt.epoch("s"))
    with pytest.raises(UsageError, match="tells time in another way"):
        story.rescore(run.fitted, story.read(config, ticks), "mrr")
    one_kind = resolve("todyformer", settings=SMALL, flags={"train": OPTIONS, "data": {"bipartite": "no"}})
    with pytest.raises(UsageError, match="another kind of graph"):
        story.rescore(run.fitted, story.read(one_kind, habits()), "mrr")


@pytest.mark.slow
def test_a_fit_that_was_stopped_and_resumed_ends_with_the_weights_of_an_unbroken_one(
    run: Any, desk: Path, client: "MlflowClient", tmp_path: Path
) -> None:
    path = tmp_path / "events.parquet"
    habits().write_parquet(path)
    for stop in (1, 3):  # in the training of the network, and in that of its control
        with pytest.raises(KeyboardInterrupt):
            forecast.fit(path, "todyformer", settings=SMALL, progress=Heard(stop), experiment=f"stop-{stop}", **OPTIONS)
        experiment = client.get_experiment_by_name(f"stop-{stop}")
        assert experiment is not None
        (stopped,) = client.search_runs([experiment.experiment_id])
        assert stopped.info.status == "KILLED"
        resumed = forecast.fit(resume=stopped.info.run_id)
        mine, theirs = (one.fitted.network.state_dict() for one in (run, resumed))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert resumed.document["scores"] == run.document["scores"]


def test_the_page_names_every_method_and_says_what_the_encoder_adds(run: Any) -> None:
    for name in METHODS:
        assert f">{name}</th>" in run.report
    assert "Without its encoder the same decoder reaches MRR" in run.report
    for heading in ("Scores on the test part", "Rankings", "Who is ranked well", "Do the shares hold?", "Data"):
        assert f"<h2>{heading}</h2>" in run.report
    assert run.report.count('<svg class="plot"') == 5
    assert "<script" not in run.report and "http" not in run.report.replace("http-equiv", "").replace("https://", "")


def test_made_up_queries_are_answered_whatever_times_are_like(run: Any, tmp_path: Path) -> None:
    for times in (
        pl.col("t"),
        pl.col("t").dt.epoch("s"),
        pl.col("t").dt.epoch("s").cast(pl.Float32),
        pl.col("t").dt.date(),
        pl.col("t").dt.strftime("%Y-%m-%d %H:%M:%S"),
    ):
        config = resolve("todyformer", settings=SMALL)
        found = story.read(config, habits().with_columns(times))
        fitted = story._fitted(found, run.fitted.network)
        fitted.save(tmp_path)
        sample = story.sample(FittedLinks.load(tmp_path))
        assert sample.table.equals(story.sample(fitted).table)
        answer = fitted.predict(sample.table, **sample.options)
        assert len(answer) == 20 and answer["score"].is_finite().all()


def test_the_gate_knows_that_more_is_better_and_settings_come_by_task() -> None:
    assert set(METRICS) <= HIGHER
    assert kind_of("links") is story
    config = resolve("todyformer", flags={"data": {"directed": False}, "track": {"metric": "hits@10"}})
    assert (config.train.batch_size, config.track.metric) == (200, "hits@10")
    found = story.read(dataclasses.replace(config), habits())
    assert found.config.model.directed is False  # one setting decides for reading and for the network
    with pytest.raises(UsageError, match=r"data\.horizon"):
        resolve("todyformer", flags={"data": {"horizon": 3}})


def test_a_network_that_cannot_be_built_is_refused_before_anything_is_tracked(desk: Path) -> None:
    with pytest.raises(UsageError, match="node_input"):
        forecast.fit(habits(), "todyformer", settings=("model.node_input=features",))
    with pytest.raises(UsageError, match="width"):
        forecast.fit(habits(), "todyformer", settings=("model.width=10",))
    with pytest.raises(DataError):
        forecast.fit(habits().head(1), "todyformer")


@pytest.mark.parametrize("span", [60, 86_400, 16_000_000])
def test_long_numbers_on_an_axis_of_time_do_not_run_into_each_other(span: int) -> None:
    times = 1_082_040_961.0 + np.linspace(0, span, 30)
    drawing = figures.lines_figure("time", "MRR", {"a": (times, np.ones(30))}, {"a": figures.MODEL}, "", "MRR")
    written = re.findall(r'anchor: middle[^>]* x="([\d.]+)"[^>]*rotate\(-0 [^>]*>([\d.]+)<', drawing)
    assert len(written) >= 2
    for (left, one), (right, other) in pairwise(written):
        assert float(right) - float(left) > 5.5 * (len(one) + len(other)) / 2  # a digit of 9 pixels is 5 wide
