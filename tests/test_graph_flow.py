"""From stores to the network and back: what DARTS-GT says of a graph does not depend on how it got there."""

import pytest
import torch

from graphs import sbm
from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape
from graphs.graph_store import GraphStore
from graphs.graph_tasks import task_of
from graphs.molecule_like import molecule_like
from graphs.positions import with_eigenvectors, with_walks
from graphs.sensor_graph import SensorGraph

SMALL = {"layers": 2, "width": 16, "heads": 2, "position_width": 4, "attention_dropout": 0.0}


def molecules() -> tuple[GraphStore, DartsGT]:
    store = with_walks(molecule_like(12, seed=0), range(1, 9))
    config = DartsGTConfig(
        **SMALL, node_features="type_dict", edge_features="type_dict", positions="rwse", head="san_graph"
    )
    return store, DartsGT(GraphDataShape(28, task_of(store).outputs, 3, 8), config)


def communities() -> tuple[GraphStore, DartsGT]:
    store = with_eigenvectors(sbm.cluster(4, seed=0), 5)
    config = DartsGTConfig(**SMALL, positions="lappe", head="inductive_node", architecture="CustomGatedGCN")
    return store, DartsGT(GraphDataShape(7, task_of(store).outputs), config)


@pytest.mark.parametrize("make", [molecules, communities])
def test_a_graph_is_told_the_same_alone_and_in_any_batch(make: type[tuple[GraphStore, DartsGT]]) -> None:
    torch.manual_seed(0)
    store, network = make()
    network.double().eval()
    with torch.no_grad():
        together = network(store.batch([3, 0, 2]))
        alone = torch.cat([network(store.batch([graph])) for graph in (3, 0, 2)])
    assert torch.allclose(together, alone, atol=1e-9) and together.std() > 0


@pytest.mark.parametrize("make", [molecules, communities])
def test_training_on_batches_of_a_store_lowers_the_loss(make: type[tuple[GraphStore, DartsGT]]) -> None:
    torch.manual_seed(0)
    store, network = make()
    task = task_of(store)
    batch, targets = store.batch(range(len(store))), store.targets_of(range(len(store)))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = task.loss(network(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_a_window_of_sensors_is_forecast_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    graph = SensorGraph.of(5, [[0, 1, 2, 3], [1, 2, 3, 4]], [0.5, 1.0, 0.25, 0.75])
    config = DartsGTConfig(
        **SMALL, edge_features="linear", positions="rwse", head="forecast", attention_self_loops=True
    )
    network = DartsGT(GraphDataShape(6, 3, 2, 16, last=5), config).double().eval()
    windows = torch.randn(4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        together = network(graph.batch(windows)).view(4, 5, 3)
        alone = torch.stack([network(graph.batch(window[None])) for window in windows])
    assert torch.allclose(together, alone, atol=1e-9) and together.shape == (4, 5, 3)
