"""FittedNodes: a trained network of node states with the events it looks back on, as a folder of JSON and safetensors.

This module and what it imports is inference code that travels inside registered models: neither Lightning nor MLflow,
and everything of this package relatively.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graphs.events import EventStore
from graphs.node_rules import NodeBatch
from graphs.todyformer import GraphShape, History, NodeStates, TodyformerConfig, TodyformerEncoder

from ..data import table
from ..data.nodes import Nodes, plain_ids
from ..data.times import TimeType
from ..folder import not_as_said, read_folder, write_folder
from ..links.answers import groups
from ..links.stream import Ends, Stream, whole


class Teller:
    """A network as a rule on batches of a stream: in eval mode, on the events strictly before the batch's moment."""

    def __init__(self, network: NodeStates, store: EventStore) -> None:
        self.network = network.eval()
        # States do not ask what pairs did: no table of theirs is made.
        self.history = History(store, replace(network.encoder.config, pair_history="none"))

    @torch.inference_mode()
    def __call__(self, batch: NodeBatch) -> Tensor:
        """The probability of each node's state, (B,) float64."""
        # The first event behind a cut is the earliest of its batch.
        view = self.history.until(self.history.store.time[batch.cut])
        return _probability(self.network(view, batch.node, batch.time))


def _probability(scores: Tensor) -> Tensor:
    return torch.sigmoid(scores.squeeze(1).double())  # as float32, all that are nearly sure would be equal


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedNodes(Stream):
    """A network called `name` that tells states, the ids of its nodes, and the window and one event that it continues.

    `facts` are plain values about the making.
    """

    name: str
    network: NodeStates
    facts: Mapping[str, Any]

    @property
    def task(self) -> str:
        """What it forecasts, as the registry says it."""
        return "nodes"

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` takes beside data, as MLflow passes it: nothing."""
        return {}

    @classmethod
    def of(
        cls,
        name: str,
        network: NodeStates,
        nodes: Nodes,
        ends: Ends,
        time_type: TimeType,
        store: EventStore,
        facts: Mapping[str, Any],
    ) -> "FittedNodes":
        """A trained network and as much of `store`, the stream to continue, as its predictions need."""
        kept = cls.kept(store, network.encoder.config.window, len(nodes), entire=False)
        return cls(name=name, network=network.eval(), nodes=nodes, ends=ends, time_type=time_type, facts=facts, **kept)

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        encoder = self.network.encoder
        described = {
            "task": self.task,
            "model": {"name": self.name, **dataclasses.asdict(encoder.config)},
            "shape": encoder.shape._asdict(),
            **self.described(),
            "facts": dict(self.facts),
        }
        weights = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        write_folder(folder, described, weights | self.tensors())

    @classmethod
    def load(cls, folder: Path | str) -> "FittedNodes":
        """Read what `save` wrote; raises ArtifactError when a file is missing, damaged or of a newer format."""
        folder = Path(folder)
        described, tensors = read_folder(folder)
        try:
            settings = dict(described["model"])
            name = settings.pop("name")
            encoder = TodyformerEncoder(GraphShape(**described["shape"]), TodyformerConfig(**settings))
            network = NodeStates(encoder, 1)
            network.load_state_dict(
                {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
            )
            return cls(name=name, network=network.eval(), facts=described["facts"], **cls.read(described, tensors))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another shape
            raise not_as_said(folder, error) from error

    def rule(self, store: EventStore) -> Teller:
        """The network as a rule on batches of another stream, whose nodes have the numbers of this model."""
        return Teller(self.network, store)

    def predict(
        self, data: Any, *, history: Any = None, told: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Any:
        """The probability that each source of `data` (path, polars or pandas) is in the state at its time.

        Each row (src, t) comes back with its `score`, from 0 to 1, all columns and the order kept, in the frame library
        that was given, polars for a path. A row is answered from the events strictly before its time: those stored with
        the model and those of `history`, a table of what happened since, which must not begin before the stored ones
        end. An answer depends on no other row. An id that no such event has shown is a node without a past. Raises
        DataError, naming the row, for a time that is not later than the last stored event and for cells that are
        missing or of another type. `told` is called with what was read: source, rows, repairs, warnings, and the ids
        that are strangers as `unseen`.
        """
        read = table.read(data)
        names = self.columns(read, ("src", "time"))
        frame, where = whole(read, list(names.values()))
        times = self.times(frame[names["time"]], where)
        self.require_later(times, where)
        past = self.with_history(history)
        nodes = past.directory.source_nodes(plain_ids(frame[names["src"]], where))
        if told is not None:
            strangers = frame[names["src"]].filter(pl.Series(nodes == past.directory.stranger)).cast(pl.String)
            told(
                {
                    "source": read.origin,
                    "rows": read.rows,
                    **read.ledger.to_dict(),
                    "events": len(past.store) - len(self.past),
                    "unseen": strangers.unique(maintain_order=True).to_list(),
                }
            )
        scores = np.empty(len(times))
        with torch.inference_mode():
            for rows, group in groups(self.network.encoder, past, torch.from_numpy(times)):
                asked = group.nodes(nodes[rows])
                told_scores = self.network.score(group.encoding, asked, torch.from_numpy(times[rows]))
                scores[rows] = _probability(told_scores).numpy()
        return table.to_library(read.data.collect().with_columns(pl.Series("score", scores)), read.library)
