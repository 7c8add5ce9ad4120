"""A network of links is trained on what came before, by (seed, epoch) alone, and resumed bit by bit."""

import dataclasses
import math
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.config import resolve
from forecast.data.events import EventData
from forecast.errors import DataError, ForecastError, UsageError
from forecast.links import batches
from forecast.links.answers import Ranker
from forecast.links.batches import LinkData, Parts, RankedLinks, TrainingLinks, with_partners
from forecast.links.learning import learn, without_encoder
from forecast.links.scoring import score
from forecast.links.settings import LinkTrack, LinkTrain, check
from forecast.tasks.links import LinkExample, LinkForecaster, LinkOptim
from graphs.events import EventStore, LinkBatch
from graphs.todyformer import Cut, GraphShape, History, Todyformer, TodyformerConfig

TINY = TodyformerConfig(window=64, patches=4, width=8, blocks=1)


pytestmark = pytest.mark.usefixtures("one_thread")


def habits(count: int = 600, seed: int = 0, nodes: int = 30) -> EventStore:
    """A stream in which sources repeat their last destination four times out of five; some events share a time."""
    draw = torch.Generator().manual_seed(seed)
    src = torch.randint(nodes, (count,), generator=draw)
    other, again = torch.randint(nodes, (count,), generator=draw), torch.rand(count, generator=draw) < 0.8
    last = torch.arange(nodes).flip(0)
    dst = other.clone()
    for row in range(count):
        dst[row] = last[src[row]] if again[row] else other[row]
        last[src[row]] = dst[row]
    time = torch.randint(0, 3, (count,), generator=draw).cumsum(0)
    return EventStore.of(src, dst, time, nodes=nodes)


def parts_of(store: EventStore) -> Parts:
    return Parts.of(store, int(0.7 * len(store)), int(0.85 * len(store)), False)


def settings(**given: Any) -> LinkTrain:
    chosen = {"epochs": 3, "batch_size": 20, "negatives": 5, "partners": 3, "device": "cpu", "patience": 9}
    return LinkTrain(**{**chosen, **given})


def weights(network: Todyformer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What is learned from


def numbers(example: LinkExample) -> list[Tensor]:
    """Every tensor of an example but those of the pair table, which is asked as of the cut."""
    graph = [part for part in example.view.graph if isinstance(part, Tensor)]
    return [*graph, example.batch.src, example.batch.dst, example.batch.negatives, example.weight]


@pytest.mark.parametrize("number", [1, 7])
def test_an_example_shows_nothing_of_its_own_moment_or_later(number: int) -> None:
    store = habits()
    parts = parts_of(store)
    data = TrainingLinks(parts, History(store, TINY), settings())
    example = data[0, number]
    first = example.batch.time[0]
    assert example.batch.cut == int((store.time < first).sum()) == example.view.cut
    assert bool((store.time[: example.view.cut] < first).all())
    forged = dataclasses.replace(store, src=store.src.clone(), dst=store.dst.clone())
    asked = slice(data.batches[number].first, data.batches[number].end)
    later = torch.arange(len(store)) >= example.batch.cut
    later[asked] = False  # the answers stay, or there would be nothing to compare
    forged.src[later], forged.dst[later] = 0, 1
    pool = torch.unique(torch.cat((store.src[: parts.validation], store.dst[: parts.validation])))
    other = TrainingLinks(parts_of(forged), History(forged, TINY), settings())
    other.pool = pool  # who is drawn as a negative is known of the whole training part, as in every protocol
    for mine, theirs in zip(numbers(example), numbers(other[0, number]), strict=True):
        assert torch.equal(mine, theirs)


def test_partners_that_are_negatives_are_those_before_the_cut_of_each_event() -> None:
    store = habits()
    own = dataclasses.replace(TINY, cut="query")
    more = 0
    for config in (TINY, own):
        example = TrainingLinks(parts_of(store), History(store, config), settings())[0, 7]
        batch = example.batch
        for u, at, found in zip(batch.src, batch.time, batch.negatives[:, -3:], strict=True):
            past = store.time < (at if config is own else batch.time[0])
            met = set(store.dst[past & (store.src == u)].tolist()) | set(store.src[past & (store.dst == u)].tolist())
            assert set(found.tolist()) <= met | {-1}
            late = store.time[store.time < batch.time[0]].max()
            mine = (store.time > late) & past & ((store.src == u) | (store.dst == u))
            more += int(mine.sum())
    assert more  # some have an event within their batch, which the own cut shows


def test_an_example_depends_on_seed_and_epoch_alone() -> None:
    store = habits()
    data = TrainingLinks(parts_of(store), History(store, TINY), settings())
    first = data[3, 5].batch.negatives
    _ = data[0, 1]
    assert torch.equal(data[3, 5].batch.negatives, first)
    assert not torch.equal(data[4, 5].batch.negatives, first)
    other = TrainingLinks(parts_of(store), History(store, TINY), settings(seed=5))
    assert not torch.equal(other[3, 5].batch.negatives, first)


def test_every_epoch_has_every_batch_once_in_an_order_of_its_own() -> None:
    store = habits()
    parts, history = parts_of(store), History(store, TINY)
    training = TrainingLinks(parts, history, settings())
    data = LinkData(training, RankedLinks(parts, history, settings()), 0)
    orders = []
    for epoch in range(2):
        data.shuffled.set_epoch(epoch)
        orders.append(list(data.shuffled))
    assert all(sorted(number for _, number in order) == list(range(len(training))) for order in orders)
    assert [number for _, number in orders[0]] != [number for _, number in orders[1]]
    covered = sorted((part.first, part.end) for part in training.batches)
    assert covered[-1][1] == parts.validation  # consecutive, up to the border
    assert all(end == begin for (_, end), (begin, _) in pairwise(covered))
    assert covered[0][0] == 20  # the first batch has no past


def test_batches_with_less_history_than_asked_for_are_not_learned_from() -> None:
    store = habits()
    few = TrainingLinks(parts_of(store), History(store, TINY), settings(min_history=100))
    assert min(part.cut for part in few.batches) >= 100
    with pytest.raises(DataError, match="No batch of the 420 training events has 500 events before it"):
        learn(parts_of(store), TINY, settings(min_history=500))


def test_a_partner_counts_once_and_the_destination_not_at_all() -> None:
    batch = LinkBatch(
        src=torch.tensor([0]),
        dst=torch.tensor([4]),
        time=torch.tensor([9]),
        negatives=torch.tensor([[1, 2, 4]]),
        negative_src=torch.zeros(1, 3, dtype=torch.int64),
        cut=3,
    )
    found, weight = with_partners(batch, torch.tensor([[-1, 5, 2, 4, 2]]), 10.0)
    assert found.negatives.tolist() == [[1, 2, 4, -1, 5, -1, 4, 2]]
    # 2 is a partner: the drawn one gives way, and of two the later stays. 4 is the destination itself.
    assert weight.tolist() == [[10, 0, 0, 0, 1, 0, 0, 1]]


def test_validation_ranks_among_all_nodes_with_the_cut_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    store = habits()
    parts, history = parts_of(store), History(store, TINY)
    monkeypatch.setattr(batches, "CANDIDATES_AT_ONCE", 7 * 31)
    data = RankedLinks(parts, history, settings())
    examples = [data[number] for number in range(len(data))]
    assert [len(example.batch.src) for example in examples[:3]] == [7, 7, 6]
    assert len({example.view.cut for example in examples[:3]}) == 1
    assert torch.equal(torch.cat([example.batch.src for example in examples]), store.src[parts.validation : parts.test])
    some = RankedLinks(parts, history, settings(validation_batches=2))
    assert len({piece.cut for piece in some.pieces}) == 2


# Training


@pytest.mark.parametrize("cut", ["batch", "query"])
def test_the_best_epoch_is_the_one_of_the_highest_validation_mrr_and_its_weights_are_kept(cut: Cut) -> None:
    parts, config = parts_of(habits(300)), dataclasses.replace(TINY, cut=cut)
    network, curve, best = learn(parts, config, settings(epochs=3, learning_rate=3e-2))
    told = [value for *_, value in curve]
    assert told[best - 1] == max(told)
    rule = {"net": Ranker(network, History(parts.store, config))}
    found = score(rule, parts, parts.validation, parts.test, batch_size=20, seed=0)["net"]
    assert found.metric("mrr") == pytest.approx(max(told), abs=1e-6)


def test_a_habit_is_learned_and_beats_chance_by_far() -> None:
    _, curve, best = learn(parts_of(habits(800)), TINY, settings(epochs=3, learning_rate=2e-2))
    assert curve[best - 1][2] > 0.5  # chance among 30 nodes is 0.13
    assert curve[-1][1] < curve[0][1]


def test_training_stops_after_epochs_without_a_better_mrr() -> None:
    parts = parts_of(habits(200))
    _, curve, best = learn(parts, TINY, settings(epochs=50, patience=1, learning_rate=0.3))
    assert len(curve) == best + 1 < 50


@pytest.mark.parametrize("given", [{}, {"averaging": 0.9, "loss": "binary"}], ids=["plain", "averaging-binary"])
def test_a_run_stopped_after_any_epoch_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    parts, chosen = parts_of(habits(200)), settings(**given)
    config = dataclasses.replace(TINY, dropout=0.2)
    unbroken, curve, best = learn(parts, config, chosen)
    checkpoint, copies = tmp_path / "run.ckpt", []

    def copy(epoch: int, metrics: Mapping[str, float]) -> None:
        copies.append(shutil.copy(checkpoint, tmp_path / f"{epoch}.ckpt"))

    learn(parts, config, chosen, checkpoint=checkpoint, on_epoch=copy)
    assert len(copies) == len(curve) == 3
    for stopped in copies[:2]:
        torch.rand(3)
        resumed, again, best_again = learn(parts, config, chosen, checkpoint=Path(stopped))
        assert same(weights(resumed), weights(unbroken))
        assert (again, best_again) == (curve, best)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    parts = parts_of(habits(200))
    one, *_ = learn(parts, TINY, settings(epochs=1))
    torch.rand(7)
    again, *_ = learn(parts, TINY, settings(epochs=1))
    other, *_ = learn(parts, TINY, settings(epochs=1, seed=7))
    assert same(weights(one), weights(again))
    assert not same(weights(one), weights(other))


def test_a_time_limit_ends_training_with_validated_weights() -> None:
    parts = parts_of(habits(300))
    network, curve, best = learn(parts, TINY, settings(epochs=500, patience=500, time_limit=1e-9))
    assert len(curve) == best == 1
    assert math.isfinite(curve[0][2])
    assert network.training is False


def test_a_rate_that_blows_up_raises_an_error_that_names_the_epoch() -> None:
    with pytest.raises(ForecastError, match=r"loss became (nan|inf) in epoch [12]\."):
        learn(parts_of(habits(300)), TINY, settings(learning_rate=1e30, loss="binary"))


def test_the_rate_falls_by_half_a_cosine_over_all_steps() -> None:
    task = LinkForecaster(Todyformer(GraphShape(5), TINY), LinkOptim("softmax", 0.1, 10))
    made: Any = task.configure_optimizers()
    rates = []
    for _ in range(11):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)])


def test_the_control_has_the_same_decoder_and_no_block() -> None:
    parts = parts_of(habits(300))
    network, control = (learn(parts, config, settings(epochs=1))[0] for config in (TINY, without_encoder(TINY)))
    assert not any("blocks." in name for name in control.state_dict())
    decoder = {name: tensor.shape for name, tensor in network.decoder.state_dict().items()}
    assert {name: tensor.shape for name, tensor in control.decoder.state_dict().items()} == decoder


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"epochs": 0}, "train.epochs is 0"),
        ({"learning_rate": -1.0}, "train.learning_rate is -1.0"),
        ({"averaging": 1.0}, "train.averaging is 1.0"),
        ({"validation_batches": 0}, "train.validation_batches is 0"),
        ({"time_limit": 0.0}, "train.time_limit is 0.0"),
    ],
)
def test_settings_that_no_training_can_have_are_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        check(EventData(), settings(**given), LinkTrack())


@pytest.mark.parametrize("setting", ["precision=bf16", "device=cuda"])
def test_a_place_that_the_network_cannot_train_in_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=r"train\.(precision|device) is '(bf16|cuda)'"):
        resolve("todyformer", settings=[f"train.{setting}"])
