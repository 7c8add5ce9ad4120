"""The audit of models of links: it passes what reads the past alone, and finds what does not."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import forecast
from forecast.cli import main
from forecast.errors import DataError, UsageError
from forecast.links import answers
from forecast.links.answers import Past
from graphs.todyformer import Encoding, Todyformer, View
from tests.test_link_prediction import PeeksAtFeatures, PeeksAtPairs, SeesItsOwnMoment, events, fitted

STREAM = events(400, seed=5)


@pytest.mark.parametrize(
    "given",
    [
        {"features": True},
        {"pair_history": "none", "node_input": "random"},
        {"bipartite": False},
        {"numbers": True},
        {"features": True, "cut": "query"},
    ],
    ids=["features", "no-pairs", "one-kind", "numbers", "own-cut"],
)
def test_a_model_that_reads_the_past_alone_is_clean(given: dict[str, object]) -> None:
    table = STREAM
    if given.get("numbers"):
        table = table.with_columns(pl.col("user", "page").str.slice(1).cast(pl.Int64))
    found = forecast.audit(fitted(**given), table, origins=4)  # type: ignore[arg-type]
    assert found.clean, found.text()
    document = found.document()
    assert document["kind"] == "events"
    assert {check["name"] for check in document["checks"]} >= {"as they are", "other ends", "other times", "the answer"}
    assert all(check["compared"] > 0 and not check["moved"] for check in document["checks"])
    assert len(found.origins) == 4


@pytest.mark.parametrize("leaky", [PeeksAtPairs, PeeksAtFeatures, SeesItsOwnMoment])
def test_a_leak_is_found_and_named(monkeypatch: pytest.MonkeyPatch, leaky: type[Past]) -> None:
    monkeypatch.setattr("forecast.links.stream.Past", leaky)
    found = forecast.audit(fitted(features=True), STREAM, origins=4)
    assert not found.clean
    assert found.error is not None and found.error.exit_code == 4
    leak = found.leaks[0]
    assert leak.origin in found.origins
    assert " → " in leak.series and leak.origin in found.error.message
    assert leak.before != leak.after


def test_a_cut_that_reaches_beyond_the_query_is_found_in_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(cut="query")
    assert forecast.audit(model, STREAM, origins=2).clean
    honest = Todyformer.score

    def late(net: Todyformer, view: View, encoding: Encoding, src: Tensor, dst: Tensor, time: Tensor) -> Tensor:
        """A moment too late where the window ends before the query, as it does in a batch alone."""
        own = view.pairs is not None and int(view.pairs.store.before(time.min())) == view.cut
        return honest(net, view, encoding, src, dst, time if own else time + 1)

    monkeypatch.setattr(Todyformer, "score", late)
    found = forecast.audit(model, STREAM, origins=2)
    assert "the answer" in {leak.check for leak in found.leaks}


def test_a_stranger_that_depends_on_who_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = answers.Group.__init__

    def behind_all(group: answers.Group, *given: object) -> None:
        real(group, *given)  # type: ignore[arg-type]
        group.stranger = group.known + len(given[2])  # type: ignore[arg-type]

    monkeypatch.setattr(answers.Group, "__init__", behind_all)
    stream = STREAM.with_columns(page=pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit("new")).otherwise("page"))
    stream = stream.with_columns(page=pl.when(pl.int_range(pl.len()) == 399).then(pl.lit("late")).otherwise("page"))
    names = {leak.check for leak in forecast.audit(fitted(node_input="random"), stream, origins=4).leaks}
    assert names


def test_scores_that_move_in_the_last_bit_alone_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    honest = type(model).predict

    def counts(self: object, data: pl.DataFrame, **options: object) -> pl.DataFrame:
        found: pl.DataFrame = honest(self, data, **options)  # type: ignore[arg-type]
        history = options.get("history")
        late = 0 if history is None else history.filter(pl.col("t") >= data["t"].min()).height  # type: ignore[attr-defined]
        scores = found["score"].to_numpy().copy()
        scores[0] = np.nextafter(scores[0], np.float32(np.inf)) if late else scores[0]
        return found.with_columns(pl.Series("score", scores))

    monkeypatch.setattr(type(model), "predict", counts)
    found = forecast.audit(model, STREAM, origins=2)
    assert {check.moved > 0 for check in found.checks} == {True}


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(DataError, match='no column "page"'):
        forecast.audit(fitted(), STREAM.drop("page"))
    with pytest.raises(DataError, match="too few to be cut"):
        forecast.audit(fitted(), STREAM.head(5).with_columns(t=pl.lit(7)))
    with pytest.raises(DataError, match="no node of the first events"):
        forecast.audit(fitted(), STREAM.with_columns(user=pl.lit("nobody")))
    with pytest.raises(UsageError, match="no"):
        forecast.audit(fitted(), STREAM, static=STREAM)


def test_the_command_prints_the_checks_and_ends_with_4_for_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    STREAM.write_parquet("stream.parquet")
    fitted().save(Path("model"))
    assert main(["audit", "model", "stream.parquet", "--origins", "2"]) == 0
    assert "clean: 4 checks passed" in capsys.readouterr().out
    monkeypatch.setattr("forecast.links.stream.Past", PeeksAtPairs)
    assert main(["audit", "model", "stream.parquet", "--origins", "2", "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == 4 and not document["clean"]


def test_the_model_is_not_changed_by_its_audit() -> None:
    model = fitted()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    past = dataclasses.astuple(model.past)
    forecast.audit(model, STREAM, origins=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert all(
        torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
        for one, two in zip(dataclasses.astuple(model.past), past, strict=True)
    )
