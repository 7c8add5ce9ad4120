"""Neighbours that are learned: who leads whom is found, edges go where the numbers say, a stored model keeps them."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.config import resolve
from forecast.errors import UsageError
from forecast.models.darts_gt import SensorDartsGT
from forecast.prepare import Prepared, prepare, read
from forecast.registry import build, find
from forecast.training import train
from graphs.graph_batch import GraphBatch
from graphs.learned_graph import LearnedNeighbours
from graphs.sensor_graph import SensorGraph

SMALL = ["model.architecture=GINE", "model.width=16", "model.heads=2", "model.position_width=4", "data.marks=none"]
FEW = {"lookback": 4, "horizon": 1, "graph": "none"}


def led(rows: int = 900) -> pl.DataFrame:
    """Four series of noise, and four that follow one of them each a step later."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows + 1, 8)).astype(np.float32)
    values[1:, 4:] = values[:-1, :4] + 0.1 * rng.normal(size=(rows, 4))
    time = np.datetime64("2024-01-01", "us") + np.arange(rows) * np.timedelta64(1, "h")
    return pl.DataFrame({"time": time, **{f"s{number}": values[1:, number] for number in range(8)}})


def prepared(table: Any, *settings: str, **data: Any) -> Prepared:
    return prepare(read(resolve("darts-gt", settings=[*SMALL, *settings], flags={"data": {**FEW, **data}}), table))


def network_of(made: Prepared, seed: int = 0) -> SensorDartsGT:
    torch.manual_seed(seed)
    network: SensorDartsGT = build(find("darts-gt"), made.shape, made.read.config.model, made.read.graph)
    return network


def test_who_leads_whom_is_learned() -> None:
    """The best neighbour of each follower is its leader, and it is forecast better than without neighbours."""
    errors = {}
    for neighbours in (0, 4):
        settings = ["train.epochs=15", "train.learning_rate=5e-3", "train.batch_size=32", "train.epoch_batches=null"]
        made = prepared(led(), f"model.learned_neighbours={neighbours}", "train.patience=15", *settings)
        network = network_of(made)
        curve, _ = train(network, made.train, made.validation, made.read.config.train)
        errors[neighbours] = min(point[2] for point in curve)
    assert errors[4] < 0.8 * errors[0]  # half of the series cannot be forecast by anything
    assert network.learned is not None
    with torch.no_grad():
        edges, weights = network.eval().learned()
    for follower in range(4, 8):
        of = edges[1] == follower
        assert int(edges[0][of][weights[of].argmax()]) == follower - 4
        assert float(weights[of].max()) > 0.9


def test_each_sensor_has_as_many_neighbours_as_asked_for_and_never_itself() -> None:
    learned = LearnedNeighbours(6, 3)
    torch.nn.init.normal_(learned.service)
    for training in (True, False):
        edges, weights = learned.train(training)()
        assert torch.equal(edges[1].bincount(), torch.full((6,), 3)) and not (edges[0] == edges[1]).any()
        assert len(set(zip(*edges.tolist(), strict=True))) == 18
        assert ((weights > 0) & (weights <= 1)).all()
    scores = learned.service.detach().clone().fill_diagonal_(-torch.inf)
    best = {(int(source), target) for target in range(6) for source in scores[target].topk(3).indices}
    assert set(zip(*edges.tolist(), strict=True)) == best
    assert LearnedNeighbours(3, 8)()[0].shape == (2, 6)


def test_in_training_every_pair_is_tried_and_better_ones_more_often() -> None:
    torch.manual_seed(0)
    learned = LearnedNeighbours(5, 1)
    with torch.no_grad():
        learned.service[0, 1] = 0.2
    drawn = torch.zeros(5, 5)
    for _ in range(2000):
        source, target = learned()[0]
        drawn[target, source] += 1 / 2000
    wanted = torch.softmax(10 * learned.service.detach().fill_diagonal_(-torch.inf), dim=1)
    assert torch.allclose(drawn, wanted, atol=0.04)


@pytest.mark.parametrize("weights", [None, np.full(3, 0.5)])
def test_learned_edges_stand_beside_those_that_are_given(weights: Any) -> None:
    graph = SensorGraph.of(4, np.array([[0, 1, 2], [1, 2, 3]]), weights)
    learned = LearnedNeighbours(4, 2).eval()
    before = graph.batch(torch.randn(3, 4, 5))
    both: GraphBatch = learned.beside(before)
    edges, strength = learned()
    count, given = before.edges.shape[1], graph.edges.shape[1]
    assert torch.equal(both.edges[:, :count], before.edges)
    assert both.edges.shape[1] == count + 3 * 8 and both.edge_rows is not None and both.edge_weights is not None
    features = both.edge_features[both.edge_rows]
    for window in range(3):
        new = slice(count + 8 * window, count + 8 * (window + 1))
        assert torch.equal(both.edges[:, new], edges + 4 * window)
        assert torch.equal(features[new], torch.stack((strength, torch.zeros(8), torch.ones(8)), dim=1))
        assert torch.equal(both.edge_weights[new], strength)
        old = features[given * window : given * (window + 1)]
        wanted = torch.tensor([[1.0, 0.0]]).expand(given, -1) if weights is None else graph.edge_features
        assert torch.equal(old[:, :2], wanted) and not old[:, 2].any()
    assert (both.edge_weights[:count] == 1).all()


def test_attention_is_weighed_by_how_well_neighbours_serve() -> None:
    """Attention with weights is attention without them, times the weights, made to add up to 1 again."""
    made = prepared(led(120), "model.learned_neighbours=3", "model.layers=1")
    network = network_of(made).eval()
    assert network.learned is not None
    torch.nn.init.normal_(network.learned.service, std=0.2)
    batch = network.batch(made.test[torch.arange(2)].window)
    assert batch.edge_weights is not None
    with torch.no_grad():
        (weighed,), (plain,) = (
            network.transformer.attention(one) for one in (batch, batch._replace(edge_weights=None))
        )
    target = torch.cat((batch.edges[1], torch.arange(len(batch.nodes))))  # then one loop a node
    expected = plain * torch.cat((batch.edge_weights, torch.ones(len(batch.nodes))))[:, None]
    total = torch.zeros(len(batch.nodes), expected.shape[1]).index_add(0, target, expected)
    assert not torch.allclose(weighed, plain, atol=1e-3)
    assert torch.allclose(weighed, expected / total[target], atol=1e-6)


def test_a_stored_model_keeps_its_neighbours_and_tells_them() -> None:
    table = led(200)
    options = [*SMALL, "model.learned_neighbours=2", "train.epochs=1", "data.graph=none"]
    run = forecast.fit(
        table, "darts-gt", settings=options, lookback=4, horizon=2, register="learned-neighbours", force=True
    )
    assert forecast.predict("models:/learned-neighbours@champion", table).equals(run.predict(table))
    with torch.no_grad():
        edges, weights = run.fitted.network.learned()
    told = forecast.explain("models:/learned-neighbours@champion", table, windows=4, repeats=2).document()[
        "learned_neighbours"
    ]
    found = {(target, source): weight for target, of in told.items() for source, weight in of.items()}
    names = table.columns[1:]
    wanted = {(names[b], names[a]): w for a, b, w in zip(*edges.tolist(), weights.tolist(), strict=True)}
    assert found == pytest.approx(wanted) and len(found) == 16


def test_dense_attention_has_no_use_for_learned_neighbours() -> None:
    with pytest.raises(UsageError, match="no use for learned neighbours"):
        prepared(led(120), "model.learned_neighbours=2", "model.attention=dense")
