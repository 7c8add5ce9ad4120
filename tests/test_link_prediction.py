"""Stored models of links: the same answers from the folder alone, in any order, from nothing at or after the query."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import Tensor

from forecast.data.nodes import nodes_of
from forecast.data.times import TimeType
from forecast.errors import ArtifactError, DataError, UsageError
from forecast.links import answers
from forecast.links.answers import Past
from forecast.links.fitted import FittedLinks
from forecast.links.stream import Ends
from graphs.events import EventStore
from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig, View

LAST = 1_000  # the time of the last stored event
COUNT = 200


pytestmark = pytest.mark.usefixtures("one_thread")


def events(count: int = COUNT, seed: int = 0, last: int = LAST) -> pl.DataFrame:
    """Random events between u0 … u9 and p0 … p19, one feature; the last at `last`."""
    draw = np.random.default_rng(seed)
    time = np.sort(draw.integers(0, last, count))
    time[-1] = last
    src, dst = draw.integers(10, size=count), draw.integers(20, size=count)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in src],
            "page": [f"p{number}" for number in dst],
            "t": time,
            "weight": draw.normal(size=count).astype(np.float32),
        }
    )


def fitted(*, features: bool = False, bipartite: bool = True, numbers: bool = False, **settings: Any) -> FittedLinks:
    """A network of random weights on the events above, as a fit would store it."""
    table = events()
    if numbers:
        table = table.with_columns(pl.col("user", "page").str.slice(1).cast(pl.Int64))
    nodes = nodes_of(table["user"], table["page"], bipartite=bipartite)
    store = EventStore.of(
        nodes.source_nodes(table["user"]),
        nodes.destination_nodes(table["page"]),
        table["t"].to_numpy(),
        table["weight"].to_numpy() if features else None,
        nodes=len(nodes),
    )
    config = TodyformerConfig(**{"window": 40, "patches": 4, "width": 8, "blocks": 1, **settings})
    torch.manual_seed(0)
    network = Todyformer(GraphShape.of(store, config.window), config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    network.encoder.input.introduce(store)
    ends = Ends("user", "page", "t", ("weight",) if features else ())
    return FittedLinks.of("todyformer", network, nodes, ends, TimeType(pl.Int64()), store, {"fingerprint": "f"})


def queries(count: int = 12, seed: int = 1) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in draw.integers(10, size=count)],
            "page": [f"p{number}" for number in draw.integers(20, size=count)],
            "t": LAST + 1 + draw.integers(0, 60, count),
        }
    )


def since(count: int = 30, seed: int = 2) -> pl.DataFrame:
    """Events behind the stored ones, new nodes among them, and in no order."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in draw.integers(13, size=count)],
            "page": [f"p{number}" for number in draw.integers(25, size=count)],
            "t": LAST + draw.integers(0, 80, count),
            "weight": draw.normal(size=count).astype(np.float32),
        }
    )


# From the folder alone


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"features": True, "pair_history": "none", "node_input": "random"},
        {"pair_history": "window", "node_input": "embedding"},
        {"bipartite": False, "numbers": False},
        {"numbers": True},
        {"cut": "query"},
    ],
    ids=["all", "features", "window", "one-kind", "numbers", "own-cut"],
)
def test_saved_and_loaded_it_answers_the_same_bits(tmp_path: Path, given: dict[str, Any]) -> None:
    one = fitted(**given)
    one.save(tmp_path)
    other = FittedLinks.load(tmp_path)
    asked, history = queries(), since()
    if given.get("numbers"):
        asked, history = (t.with_columns(pl.col("user", "page").str.slice(1).cast(pl.Int64)) for t in (asked, history))
    for options in ({}, {"history": history}, {"top_k": 3}, {"top_k": 3, "history": history}):
        assert one.predict(asked, **options).equals(other.predict(asked, **options))
    assert json.loads((tmp_path / "model.json").read_text())["task"] == "links"


def test_ids_of_any_script_and_width_come_back(tmp_path: Path) -> None:
    ids = pl.Series("id", ["", "a\0b", "Łódź", "東京", "x" * 300])
    one = dataclasses.replace(fitted(), nodes=nodes_of(ids, ids, bipartite=True))
    one.save(tmp_path)
    nodes = FittedLinks.load(tmp_path).nodes
    assert nodes.sources.to_list() == one.nodes.sources.to_list()
    assert nodes.destinations is not None and nodes.destinations.to_list() == one.nodes.sources.to_list()


@pytest.mark.parametrize("pair_history", ["none", "window", "all"])
def test_what_is_stored_answers_as_the_whole_stream_does(pair_history: str) -> None:
    """The window and what else is kept give the scores of the network on all events."""
    model, table = fitted(features=True, pair_history=pair_history), events()
    store = EventStore.of(
        model.nodes.source_nodes(table["user"]),
        model.nodes.destination_nodes(table["page"]),
        table["t"].to_numpy(),
        table["weight"].to_numpy(),
        nodes=len(model.nodes),
    )
    asked = queries()
    view = History(store, model.network.config).until(LAST + 1)
    with torch.inference_mode():
        found = model.network.score(
            view,
            model.network.encoder(view.graph),
            torch.tensor(model.nodes.source_nodes(asked["user"])),
            torch.tensor(model.nodes.destination_nodes(asked["page"]))[:, None],
            torch.tensor(asked["t"].to_numpy()),
        )
    np.testing.assert_array_equal(model.predict(asked)["score"].to_numpy(), found[:, 0].numpy())
    assert len(model.past) == (COUNT if pair_history == "all" else 41)


@pytest.mark.parametrize("damage", ["no-json", "cut", "another-shape", "newer"])
def test_a_damaged_folder_is_an_artifact_error(tmp_path: Path, damage: str) -> None:
    fitted().save(tmp_path)
    path, numbers = tmp_path / "model.json", tmp_path / "model.safetensors"
    if damage == "no-json":
        path.unlink()
    elif damage == "cut":
        numbers.write_bytes(numbers.read_bytes()[:200])
    else:
        old, new = {"another-shape": ('"width": 8', '"width": 16'), "newer": ('"format": 1', '"format": 2')}[damage]
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    with pytest.raises(ArtifactError):
        FittedLinks.load(tmp_path)


# What comes back


def test_rows_come_back_in_their_order_and_types_with_a_score() -> None:
    model, asked = fitted(), queries().with_columns(note=pl.lit("kept"), page=pl.col("page").cast(pl.Categorical))
    answer = model.predict(asked)
    assert answer.drop("score").equals(asked)
    assert answer.columns == ["user", "page", "t", "note", "score"]
    in_pandas = model.predict(queries().to_pandas())
    assert isinstance(in_pandas, pd.DataFrame)
    np.testing.assert_array_equal(in_pandas["score"], answer["score"].to_numpy())


def test_where_nothing_has_happened_since_the_history_may_have_no_row(tmp_path: Path) -> None:
    model, asked = fitted(), queries()
    since().clear().write_csv(tmp_path / "since.csv")
    for history in (since().clear(), tmp_path / "since.csv"):
        assert model.predict(asked, history=history).equals(model.predict(asked))


@pytest.mark.parametrize("history", [None, since()], ids=["stored", "since"])
def test_an_answer_depends_on_no_other_row_and_on_no_order(
    monkeypatch: pytest.MonkeyPatch, history: pl.DataFrame | None
) -> None:
    model, asked = fitted(), queries(40)
    whole = model.predict(asked, history=history)["score"].to_numpy()
    mixed = np.random.default_rng(3).permutation(len(asked))
    np.testing.assert_allclose(
        model.predict(asked[mixed], history=history)["score"].to_numpy(), whole[mixed], atol=1e-5
    )
    for row in (0, 17):
        alone = model.predict(asked[row : row + 1], history=history)["score"][0]
        assert alone == pytest.approx(whole[row], abs=1e-5)
    if history is not None:
        mixed = np.random.default_rng(4).permutation(len(history))
        again = model.predict(asked, history=history.with_columns(t=pl.col("t"))[mixed].sort("t"))["score"].to_numpy()
        np.testing.assert_allclose(again, whole, atol=1e-5)
    monkeypatch.setattr(answers, "_PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(answers, "_SCORES_AT_ONCE", 50)
    np.testing.assert_allclose(model.predict(asked, history=history)["score"].to_numpy(), whole, atol=1e-5)


@pytest.mark.parametrize("bipartite", [True, False])
def test_a_ranking_is_the_order_of_the_scores_of_all_destinations(bipartite: bool) -> None:
    model, asked = fitted(bipartite=bipartite), queries(5)
    known = model.nodes.destinations if bipartite else model.nodes.sources
    assert known is not None
    ranked = model.predict(asked.select("user", "t"), top_k=4)
    assert ranked.columns == ["user", "t", "rank", "page", "score"]
    assert ranked["rank"].to_list() == [1, 2, 3, 4] * 5
    pairs = asked.select("user", "t").join(known.alias("page").to_frame(), how="cross")
    scores = model.predict(pairs)["score"].to_numpy().reshape(5, -1)
    for row in range(5):
        best = np.argsort(-scores[row], kind="stable")[:4]
        mine = ranked[4 * row : 4 * row + 4]
        assert (mine["user"] == asked["user"][row]).all() and (mine["t"] == asked["t"][row]).all()
        np.testing.assert_allclose(mine["score"].to_numpy(), scores[row][best], atol=1e-5)
        close = np.isclose(np.sort(scores[row])[::-1][:4], scores[row][best], atol=1e-5)
        assert close.all() and len(set(mine["page"])) == 4


def test_equal_scores_are_ranked_by_id_and_more_than_there_are_gives_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    monkeypatch.setattr(
        model.network, "score", lambda view, encoding, src, dst, time: torch.zeros(len(src), dst.shape[1])
    )
    ranked = model.predict(queries(2).select("user", "t"), top_k=50)
    assert model.nodes.destinations is not None
    assert ranked["page"].to_list() == 2 * model.nodes.destinations.to_list()
    assert ranked["rank"].to_list() == 2 * list(range(1, len(model.nodes.destinations) + 1))


def test_ids_that_no_event_has_shown_score_finitely_and_alike_and_are_told() -> None:
    model, heard = fitted(), []
    asked = pl.DataFrame({"user": ["new", "newer", "u1"], "page": ["p1", "p1", "never"], "t": [LAST + 5] * 3})
    scores = model.predict(asked, told=heard.append)["score"]
    assert scores.is_finite().all() and scores[0] == scores[1]
    assert heard[0]["unseen"] == ["new", "newer", "never"]
    assert heard[0]["rows"] == 3


def test_a_node_that_history_shows_is_no_stranger_any_more_and_can_be_ranked() -> None:
    model = fitted()
    history = pl.DataFrame({"user": ["new"] * 3, "page": ["fresh"] * 3, "t": [LAST + 1, LAST + 2, LAST + 3]})
    asked = pl.DataFrame({"user": ["new", "new"], "page": ["fresh"] * 2, "t": [LAST + 1, LAST + 9]})
    before, after = model.predict(asked, history=history)["score"]
    assert before == pytest.approx(model.predict(asked[:1])["score"][0], abs=1e-6) != after
    ranked = model.predict(asked.select("user", "t"), top_k=99, history=history)
    shown = ranked.group_by("t", maintain_order=True).agg(pl.col("page").is_in(["fresh"]).any())
    assert shown["page"].to_list() == [False, True]


def test_times_of_a_calendar_are_read_as_at_the_fit() -> None:
    model = dataclasses.replace(fitted(), time_type=TimeType(pl.Datetime("us")))
    asked = queries().with_columns(pl.col("t").cast(pl.Datetime("us")))
    np.testing.assert_array_equal(model.predict(asked)["score"], fitted().predict(queries())["score"])
    with pytest.raises(DataError, match="times of a calendar"):
        model.predict(queries())


# What is refused


@pytest.mark.parametrize(
    ("asked", "options", "error", "message"),
    [
        ({"t": [LAST + 1, LAST]}, {}, DataError, "row 1: the query at 1000 is not later than the last event"),
        ({"t": [LAST + 1, None]}, {}, DataError, 'row 1: there is no "t"'),
        ({"user": ["u1", None]}, {}, DataError, 'row 1: there is no "user"'),
        ({"t": [LAST + 1.5, float("nan")]}, {}, DataError, "row 1: the time nan"),
        ({"t": [LAST + 1.5, LAST + 2]}, {}, DataError, "row 0: the time 1001.5 .* is a fraction"),
        ({}, {"top_k": -1}, UsageError, "Of each ranking -1"),
        ({"t": None}, {}, DataError, 'no column "t", the time'),
        ({"page": None}, {}, DataError, 'no column "page", the destination'),
    ],
)
def test_queries_that_cannot_be_answered_are_refused_by_row(
    asked: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    columns: dict[str, Any] = {"user": ["u1", "u2"], "page": ["p1", "p2"], "t": [LAST + 1, LAST + 2], **asked}
    table = pl.DataFrame({name: values for name, values in columns.items() if values is not None}, strict=False)
    with pytest.raises(error, match=message) as raised:
        fitted().predict(table, **options)
    assert raised.value.hint  # type: ignore[attr-defined]


def test_history_that_does_not_follow_is_refused_by_row() -> None:
    early = since().with_columns(t=pl.when(pl.int_range(pl.len()) == 4).then(LAST - 1).otherwise("t"))
    with pytest.raises(DataError, match="row 4: the event at 999 is before the last event"):
        fitted().predict(queries(), history=early)
    bad = since().with_columns(weight=pl.when(pl.int_range(pl.len()) == 6).then(np.inf).otherwise("weight"))
    with pytest.raises(DataError, match='row 6: the feature "weight" is inf'):
        fitted(features=True).predict(queries(), history=bad)
    with pytest.raises(DataError, match='no column "weight", a feature'):
        fitted(features=True).predict(queries(), history=since().drop("weight"))


# Nothing at or after the query


Answer = Callable[[pl.DataFrame], np.ndarray]  # the scores of queries at one time, given events since the fit


def leaks(answer: Answer, history: pl.DataFrame, time: int) -> list[str]:
    """Which changes of what happened at or after `time` reach the answers."""
    past, rest = history.filter(pl.col("t") < time), history.filter(pl.col("t") >= time)
    assert len(past) and len(rest)
    draw = np.random.default_rng(8)
    changed = {
        "deleted": past,
        "other ends": pl.concat([past, rest.with_columns(user=pl.lit("u3"), page=pl.col("page").shuffle(seed=1))]),
        "other features": pl.concat([past, rest.with_columns(weight=pl.lit(1e6, pl.Float32))]),
        "other times": pl.concat([past, rest.with_columns(t=pl.lit(time) + draw.integers(0, 9, len(rest)))]),
        "new nodes": pl.concat([past, rest.with_columns(user=pl.lit("zz"), page=pl.lit("zzz"))]),
        "more": pl.concat([past, *[rest] * 5]),
    }
    before = answer(history)
    return [kind for kind, table in changed.items() if not np.array_equal(answer(table), before)]


TIME = LAST + 40
ASKED = pl.DataFrame({"user": ["u1", "u2", "u12", "zz"], "page": ["p1", "p24", "p3", "zzz"], "t": [TIME] * 4})


@pytest.mark.parametrize("node_input", ["zeros", "random", "embedding"])
@pytest.mark.parametrize("pair_history", ["none", "window", "all"])
def test_no_event_at_or_after_the_query_moves_a_bit(node_input: str, pair_history: str) -> None:
    model = fitted(features=True, node_input=node_input, pair_history=pair_history)
    assert leaks(lambda history: model.predict(ASKED, history=history)["score"].to_numpy(), since(), TIME) == []

    def ranked(history: pl.DataFrame) -> np.ndarray:
        return model.predict(ASKED.select("user", "t"), top_k=99, history=history).drop("user").to_numpy()

    assert leaks(ranked, since(), TIME) == []


def test_an_event_before_the_query_moves_the_scores() -> None:
    model = fitted()
    one = model.predict(ASKED, history=since())["score"]
    other = model.predict(ASKED, history=since().filter(pl.col("t") < TIME - 20))["score"]
    assert not one.equals(other)


class PeeksAtPairs(Past):
    """Counts the meetings of pairs over all events, not those before the query."""

    def view(self, history: History, time: Tensor) -> View:
        return super().view(history, time)._replace(cut=len(self.store))


class PeeksAtFeatures(Past):
    """Takes the features of the last events, whatever the query's time."""

    def view(self, history: History, time: Tensor) -> View:
        found = super().view(history, time)
        last = self.features[len(self.features) - len(found.graph.event_features) :]
        return found._replace(graph=found.graph._replace(event_features=last))


class SeesItsOwnMoment(Past):
    """Includes events of the very time of the query; the network's own check would refuse the window alone."""

    def view(self, history: History, time: Tensor) -> View:
        return super().view(history, time)._replace(cut=int(self.store.before(time + 1)))


@pytest.mark.parametrize("leaky", [PeeksAtPairs, PeeksAtFeatures, SeesItsOwnMoment])
def test_a_model_that_leaks_is_caught(monkeypatch: pytest.MonkeyPatch, leaky: type[Past]) -> None:
    monkeypatch.setattr("forecast.links.stream.Past", leaky)
    model = fitted(features=True)
    history = since().with_columns(t=pl.when(pl.int_range(pl.len()) < 6).then(TIME).otherwise("t"))
    met = pl.DataFrame(
        {"user": ["u1"], "page": ["p1"], "t": [TIME], "weight": [0.5]}, schema_overrides={"weight": pl.Float32}
    )
    history = pl.concat([history, met])
    assert leaks(lambda table: model.predict(ASKED, history=table)["score"].to_numpy(), history, TIME) != []


def test_a_stranger_whose_number_depends_on_what_comes_later_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of ids are a function of their numbers: strangers behind the new nodes of the future would leak."""
    real = answers.Group.__init__

    def behind_all(group: Any, view: Any, encoding: Any, directory: Any, cut: int) -> None:
        real(group, view, encoding, directory, cut)
        group.stranger = len(directory)

    monkeypatch.setattr(answers.Group, "__init__", behind_all)
    model = fitted(features=True, node_input="random")
    assert leaks(lambda table: model.predict(ASKED, history=table)["score"].to_numpy(), since(), TIME) != []
