"""Graphs made ready for a network: parts, what is read of them, and batches of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from graphs.darts_gt import GraphDataShape
from graphs.graph_store import GraphStore, rows_of
from graphs.graph_tasks import GraphTask

from ..data.graph_table import GraphTable
from ..models.darts_gt_labels import LabelDartsGTConfig
from ..tasks.graph_labels import GraphExample
from .features import FeatureError, Features
from .fitted import Reader, Targets
from .kept_positions import with_kept_positions


@dataclass(frozen=True)
class Prepared:
    """The graphs of a fit as the network reads them, with everything that the training part alone decides."""

    parts: Mapping[str, GraphStore]  # train, validation, test; features as they are learned, targets as given
    reader: Reader
    targets: Targets
    clipped: Mapping[str, int]  # codes of nodes and of edges beyond their tables

    @classmethod
    def of(cls, graphs: GraphTable, config: LabelDartsGTConfig) -> "Prepared":
        """Ready graphs, with positions; encoders and head are settled. Raises `FeatureError`."""
        assert graphs.task is not None
        store, train = graphs.store, torch.from_numpy(graphs.parts["train"])
        known = []
        for name, kind, values, offsets in (
            ("nodes", config.node_features, store.nodes, store.node_offsets),
            ("edges", config.edge_features, store.edge_features, store.edge_offsets),
        ):
            try:
                known.append(Features.of(kind, values[rows_of(offsets, train)[0]]))
            except FeatureError as error:
                raise FeatureError(f"model.{name.removesuffix('s')}_features: {error}") from error
        reader = Reader(known[0], known[1], config.positions, config.position_count)
        read, clipped = reader.with_features(store)
        read = with_kept_positions(read, reader)
        parts = {part: read.select(rows) for part, rows in graphs.parts.items()}
        return cls(parts, reader, _targets(graphs.task, graphs.targets, parts["train"].targets), clipped)

    @property
    def task(self) -> GraphTask:
        return self.targets.task

    @property
    def shape(self) -> GraphDataShape:
        """What the network must know of the data."""
        return GraphDataShape(
            self.reader.nodes.width,
            self.task.outputs,
            edge_features=self.reader.edges.width,
            walks=self.parts["train"].walks.shape[1],
        )

    def examples(self, part: str) -> "LabelledGraphs":
        """The graphs of a part with their targets on the scale of the network's outputs."""
        store = self.parts[part]
        return LabelledGraphs(store, self.targets.learned(store.targets), torch.arange(len(store)))


def _targets(task: GraphTask, names: tuple[str, ...], known: Tensor) -> Targets:
    """The targets, and the scale of values by the training part: mean 0 and deviation 1 over those that are there."""
    centre, scale = torch.zeros(task.outputs), torch.ones(task.outputs)
    if task.name == "graph_regression":
        values = known.double()
        centre = values.nanmean(dim=0).nan_to_num()
        deviation = (values - centre).square().nanmean(dim=0).sqrt().nan_to_num()
        scale = torch.where(deviation > 0, deviation, 1.0)
    return Targets(task, names, tuple(centre.tolist()), tuple(scale.tolist()))


class LabelledGraphs(Dataset[GraphExample]):
    """Some graphs of a store; indexed with a whole batch of numbers at once."""

    def __init__(self, store: GraphStore, targets: Tensor, graphs: Tensor) -> None:
        self.store, self.targets, self.graphs = store, targets, graphs

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: Tensor) -> GraphExample:
        chosen = self.graphs[index]
        rows = rows_of(self.store.node_offsets, chosen)[0] if self.store.of_nodes else chosen
        return GraphExample(self.store.batch(chosen), self.targets[rows])

    def numbers(self, batch_size: int) -> tuple[Tensor, ...]:
        """Every number once, in order."""
        return torch.arange(len(self)).split(batch_size)

    def part(self, index: Tensor) -> "LabelledGraphs":
        """Some of these graphs."""
        return LabelledGraphs(self.store, self.targets, self.graphs[index])
