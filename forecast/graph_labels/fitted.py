"""FittedGraphs: a trained network of graphs with labels, as a folder of JSON and safetensors.

This module and what it imports is inference code that travels inside registered models: neither Lightning nor MLflow,
and everything of this package relatively.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graphs.darts_gt import DartsGT, DartsGTConfig, GraphDataShape, GraphTransformer
from graphs.graph_batch import GraphBatch
from graphs.graph_store import GraphStore
from graphs.graph_tasks import GraphTask
from graphs.positions import with_eigenvectors, with_walks

from ..data import table
from ..data.graph_table import read_graphs
from ..errors import DataError
from ..folder import not_as_said, read_folder, write_folder
from .features import FeatureError, Features

CELLS = 2**15  # nodes and edges that are answered for at once, if no graph has more


@dataclass(frozen=True)
class Reader:
    """How graphs become what the network reads: features of nodes and edges, and positions of nodes."""

    nodes: Features
    edges: Features
    positions: str  # "none", "rwse" or "lappe"
    position_count: int

    def read(self, store: GraphStore) -> tuple[GraphStore, dict[str, int]]:
        """The graphs as the network reads them, and how many codes of nodes and of edges stand beyond its tables.

        Raises `FeatureError` for features of another form.
        """
        store, beyond = self.with_features(store)
        return self.with_positions(store), beyond

    def with_features(self, store: GraphStore) -> tuple[GraphStore, dict[str, int]]:
        """The same without positions."""
        found, beyond = {}, {}
        for name, values, features in (
            ("nodes", store.nodes, self.nodes),
            ("edges", store.edge_features, self.edges),
        ):
            try:
                found[name], beyond[name] = features.read(values)
            except FeatureError as error:
                raise FeatureError(f"of {name}: {error}") from error
        return dataclasses.replace(store, nodes=found["nodes"], edge_features=found["edges"]), beyond

    def with_positions(self, store: GraphStore) -> GraphStore:
        """The graphs with the positions of their nodes."""
        if self.positions == "rwse":
            return with_walks(store, range(1, self.position_count + 1))
        if self.positions == "lappe":
            return with_eigenvectors(store, self.position_count)
        return store


@dataclass(frozen=True)
class Targets:
    """What is told: the task, the names of the targets, and the scale on which values are learned."""

    task: GraphTask
    names: tuple[str, ...]
    centre: tuple[float, ...]  # of each output
    scale: tuple[float, ...]

    def learned(self, targets: Tensor) -> Tensor:
        """Targets on the scale of the network's outputs."""
        if self.task.name != "graph_regression":
            return targets
        return (targets - torch.tensor(self.centre)) / torch.tensor(self.scale)

    def restored(self, outputs: Tensor) -> Tensor:
        """Outputs of the network on the scale of the targets."""
        return outputs * torch.tensor(self.scale) + torch.tensor(self.centre)


@dataclass(frozen=True, eq=False)
class FittedGraphs:
    """A network called `name`, and how its graphs are read and its answers told. `facts` tell of the making."""

    name: str
    network: DartsGT
    reader: Reader
    targets: Targets
    facts: Mapping[str, Any]

    @property
    def task(self) -> str:
        """What it forecasts, as the registry says it."""
        return "graphs"

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` takes beside data, as MLflow passes it, with the defaults."""
        return {"chances": True}

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        described = {
            "task": self.task,
            "model": {"name": self.name, **dataclasses.asdict(self.network.config)},
            "shape": self.network.shape._asdict(),
            "reader": dataclasses.asdict(self.reader),
            "targets": dataclasses.asdict(self.targets),
            "facts": dict(self.facts),
        }
        write_folder(folder, described, dict(self.network.state_dict()))

    @classmethod
    def load(cls, folder: Path | str) -> "FittedGraphs":
        """Read what `save` wrote; raises ArtifactError when a file is missing, damaged or of a newer format."""
        folder = Path(folder)
        described, tensors = read_folder(folder)
        try:
            return cls._of(described, tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another shape
            raise not_as_said(folder, error) from error

    @classmethod
    def _of(cls, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "FittedGraphs":
        model, reader, targets = (dict(described[part]) for part in ("model", "reader", "targets"))
        name = model.pop("name")
        network = DartsGT(GraphDataShape(**described["shape"]), DartsGTConfig(**model))
        network.load_state_dict(tensors)
        for part in ("nodes", "edges"):
            lists = {key: tuple(value) for key, value in reader[part].items() if isinstance(value, list)}
            reader[part] = Features(**{**reader[part], **lists})
        lists = {key: tuple(value) for key, value in targets.items() if isinstance(value, list)}
        return cls(
            name,
            network.eval(),
            Reader(**reader),
            Targets(**{**targets, **lists, "task": GraphTask(**targets["task"])}),
            described["facts"],
        )

    def answers(self, store: GraphStore) -> tuple[Tensor, dict[str, int]]:
        """Outputs on the scale of the targets, (G, outputs) or (N, outputs), and codes beyond the tables.

        Raises `FeatureError` for graphs with other features.
        """
        read, beyond = self.reader.read(store)
        return self.targets.restored(outputs(self.network, read)), beyond

    def predict(
        self, data: Any, *, chances: bool = True, told: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Any:
        """What the network says of each graph of `data` (path, polars, pandas, or a list of PyG's `Data`).

        A row a graph, or a row a node where nodes are told apart, in the order given: `graph_id` (the table's own id,
        or the number of the row) and a column a target. It holds the value; the chance of label 1; or of more than two
        classes the likeliest, and with `chances` its chance in a second column, `…_chance`. What is said of a graph
        depends on no other. Comes back in the frame library that was given, polars for a path or list.

        Codes beyond the tables of the network are read as the last of their table, which is told as a warning. Raises
        DataError, naming the row, for graphs that cannot be read, as those without nodes, and for features that differ
        from those of the training. `told` is called with what was read: source, rows, graphs, nodes, repairs, warnings.
        """
        listed = isinstance(data, Sequence) and not isinstance(data, str)
        source = data if listed else table.read(data)
        graphs = read_graphs(source, labelled=False)
        try:
            found, beyond = self.answers(graphs.store)
        except FeatureError as error:
            raise DataError(
                f"{graphs.origin}: features {error}.", "Give graphs with the features that the model was trained on."
            ) from error
        for part, count in beyond.items():
            if count:
                graphs.ledger.caution("codes-clipped", part, "beyond the tables, read as the last of them", count)
        if told is not None:
            told(
                {
                    "source": graphs.origin,
                    "rows": len(graphs),
                    "graphs": len(graphs),
                    "nodes": len(graphs.store.nodes),
                    **graphs.ledger.to_dict(),
                    "unseen": [],
                }
            )
        ids = graphs.ids.alias("graph_id")
        if self.targets.task.of_nodes:
            ids = ids.gather(np.repeat(np.arange(len(graphs)), graphs.store.sizes.numpy()))
        answer = pl.DataFrame([ids, *self._columns(found, chances=chances)])
        return table.to_library(answer, "polars" if listed else source.library)

    def _columns(self, found: Tensor, *, chances: bool) -> list[pl.Series]:
        """Columns of the targets from outputs."""
        task, names = self.targets.task, self.targets.names
        told = task.predicted(found)
        if task.name in ("graph_multiclass", "node_classification") and task.outputs > 1:
            chance, choice = told.max(dim=1)
            told_chance = [pl.Series(f"{names[0]}_chance", chance.numpy())] if chances else []
            return [pl.Series(names[0], choice.numpy()), *told_chance]
        return [pl.Series(name, column.numpy()) for name, column in zip(names, told.unbind(dim=1), strict=True)]


@torch.inference_mode()
def outputs(network: GraphTransformer, store: GraphStore) -> Tensor:
    """Outputs of a network in evaluation mode for all graphs that it can read: (G, outputs) or (N, outputs)."""
    device = next(network.parameters()).device
    return torch.cat([network(batch_on(device, store, graphs)).cpu() for graphs in chunks(store, CELLS)])


def chunks(store: GraphStore, cells: int) -> Sequence[Tensor]:
    """Numbers of all graphs in order, with about as many nodes and edges together, or a single graph."""
    size = store.sizes + store.edge_offsets.diff()
    _, counts = torch.unique_consecutive((size.cumsum(0) - size) // cells, return_counts=True)
    return torch.arange(len(store)).split(counts.tolist())


def batch_on(device: torch.device, store: GraphStore, graphs: Tensor) -> GraphBatch:
    """Some graphs of a store as a batch on a device."""
    return store.batch(graphs).to(device)
