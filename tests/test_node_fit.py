"""A fit on states of nodes, from a table of events to a registered model, and what may reach its answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.config import resolve
from forecast.errors import DataError, GateError, UsageError
from forecast.nodes import story

SMALL = ("data.task=node", "model.width=8", "model.window=128", "model.patches=4", "model.blocks=1")
OPTIONS: dict[str, Any] = {"epochs": 2, "seed": 1}
COUNT = 1_500


def stream(seed: int = 0) -> pl.DataFrame:
    """Events of 30 sources; those of the first six are in state 1 half of the time."""
    draw = np.random.default_rng(seed)
    src = draw.integers(30, size=COUNT)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in src],
            "item": [f"i{number}" for number in draw.integers(10, size=COUNT)],
            "t": np.sort(draw.integers(0, 100_000, COUNT)),
            "label": ((src < 6) & (draw.random(COUNT) < 0.5)).astype(np.int64),
        }
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Also for the fit that the tests share: sums of several threads differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nodes"))
        patch.setenv("MLFLOW_TRACKING_URI", address)
        yield forecast.fit(stream(), "todyformer", settings=SMALL, register="states", force=True, **OPTIONS)


def test_every_method_is_scored_on_every_labelled_event_beside_a_control(run: Any) -> None:
    document = run.document
    rules = {"class-prior", "last-label", "positive-rate", "activity"}
    assert set(document["scores"]) == {"todyformer", "todyformer-no-encoder", *rules}
    assert document["scores"]["class-prior"]["auc"] == 0.5
    assert document["scores"]["positive-rate"]["auc"] > 0.8  # a source's share of states tells its next ones
    borders = np.quantile(stream()["t"], [0.85])
    assert document["labelled"]["test"]["labels"] == (stream()["t"].to_numpy() > borders[0]).sum()
    assert "todyformer-no-encoder" not in story.judged(document, "auc")


def test_the_gate_refuses_what_a_rule_does_better(run: Any, address: str) -> None:
    if run.document["scores"]["todyformer"]["auc"] < run.document["scores"]["positive-rate"]["auc"]:
        with pytest.raises(GateError, match="does not beat the best baseline"):
            forecast.register(run, name="honest")
    assert "forced" in run.registered.reason or run.registered.decision == "promoted"


def test_the_registered_model_answers_as_the_one_just_trained_whatever_the_order(run: Any) -> None:
    asked = pl.DataFrame({"user": ["u1", "u29", "u3", "nobody"], "t": [100_001, 100_050, 100_002, 100_001]})
    one, other = run.predict(asked), forecast.predict("models:/states@champion", asked)
    assert one.columns == ["user", "t", "score"]
    np.testing.assert_allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-5)
    assert one["score"].is_between(0, 1).all()
    assert run.predict(asked.reverse())["score"].to_list() == one["score"].reverse().to_list()


def test_no_event_at_or_after_a_query_moves_its_answer(run: Any) -> None:
    since = stream(3).with_columns(pl.col("t") % 200 + 100_000).sort("t").drop("label").gather_every(5)
    asked = pl.DataFrame({"user": ["u1", "u2", "u28"], "t": [100_100] * 3})
    before = run.predict(asked, history=since.filter(pl.col("t") < 100_100))
    assert run.predict(asked, history=since).equals(before)
    turned = since.with_columns(user=pl.when(pl.col("t") >= 100_100).then(pl.lit("u1")).otherwise("user"))
    assert run.predict(asked, history=turned).equals(before)
    assert not run.predict(asked, history=since.filter(pl.col("t") < 100_050)).equals(before)


def test_labels_of_the_test_part_never_reach_training(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    border = np.quantile(stream()["t"], 0.85)
    turned = stream().with_columns(label=pl.when(pl.col("t") > border).then(1 - pl.col("label")).otherwise("label"))
    other = forecast.fit(turned, "todyformer", settings=SMALL, **OPTIONS)
    weights = run.fitted.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in other.fitted.network.state_dict().items())
    assert other.document["scores"]["todyformer"] != run.document["scores"]["todyformer"]


def test_a_stream_without_labels_and_an_audit_of_states_are_refused(run: Any) -> None:
    with pytest.raises(DataError, match="label"):
        story.read(resolve("todyformer", settings=SMALL), stream().drop("label"))
    with pytest.raises(UsageError, match="cannot be audited"):
        forecast.audit(run, stream())
