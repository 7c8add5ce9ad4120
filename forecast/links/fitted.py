"""FittedLinks: a trained network of links with the events it looks back on, as a folder of JSON and safetensors.

This module and what it imports is inference code that travels inside registered models: neither Lightning nor MLflow,
and everything of this package relatively.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from graphs.events import EventStore
from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig

from ..data import table
from ..data.nodes import Nodes, plain_ids
from ..data.times import TimeType
from ..errors import UsageError
from ..folder import not_as_said, read_folder, write_folder
from .answers import Past, Ranker, groups
from .stream import Ends, Stream, whole


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedLinks(Stream):
    """A network called `name`, the ids of its nodes, and the stream it continues.

    All events are stored where the network knows the whole past of a pair, else its window and one. `facts` are plain
    values about the making.
    """

    name: str
    network: Todyformer
    facts: Mapping[str, Any]

    @property
    def task(self) -> str:
        """What it forecasts, as the registry says it."""
        return "links"

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` takes beside data, as MLflow passes it, with the defaults."""
        return {"top_k": 0}

    @classmethod
    def of(
        cls,
        name: str,
        network: Todyformer,
        nodes: Nodes,
        ends: Ends,
        time_type: TimeType,
        store: EventStore,
        facts: Mapping[str, Any],
    ) -> "FittedLinks":
        """A trained network and as much of `store`, the stream to continue, as its predictions need."""
        config = network.config
        kept = cls.kept(store, config.window, len(nodes), entire=config.pair_history == "all")
        return cls(name=name, network=network.eval(), nodes=nodes, ends=ends, time_type=time_type, facts=facts, **kept)

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        described = {
            "task": self.task,
            "model": {"name": self.name, **dataclasses.asdict(self.network.config)},
            "shape": self.network.shape._asdict(),
            **self.described(),
            "facts": dict(self.facts),
        }
        weights = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        write_folder(folder, described, weights | self.tensors())

    @classmethod
    def load(cls, folder: Path | str) -> "FittedLinks":
        """Read what `save` wrote; raises ArtifactError when a file is missing, damaged or of a newer format."""
        folder = Path(folder)
        described, tensors = read_folder(folder)
        try:
            settings = dict(described["model"])
            name = settings.pop("name")
            network = Todyformer(GraphShape(**described["shape"]), TodyformerConfig(**settings))
            network.load_state_dict(
                {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
            )
            return cls(name=name, network=network.eval(), facts=described["facts"], **cls.read(described, tensors))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another shape
            raise not_as_said(folder, error) from error

    def rule(self, store: EventStore) -> Ranker:
        """The network as a rule on batches of another stream, whose nodes have the numbers of this model."""
        return Ranker(self.network, History(store, self.network.config))

    def predict(
        self,
        data: Any,
        *,
        top_k: int = 0,
        history: Any = None,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Score the links that `data` (path, polars or pandas) asks about, or rank the destinations of its sources.

        Without `top_k`, each row (src, dst, t) comes back with its `score`, all columns and the order kept. With it,
        each row (src, t) gives `top_k` rows: src, t, `rank` from 1, dst, `score`; of equal scores the destination with
        the smaller id first, those that came since the fit behind. A score is a logit: of two destinations of one query
        the higher is the likelier, by exp(difference) where the network was trained with the softmax loss. All comes
        back in the frame library that was given, polars for a path.

        A query is answered from the events strictly before its time: those stored with the model and those of
        `history`, a table of what happened since, which must not begin before the stored ones end and may go on
        behind the queries. An answer depends on no other row. An id that no such event has shown is a stranger: it
        scores as a node without a past, which a popular destination may still beat others with; it is never among
        the ranked ones. Raises DataError, naming the row, for a query that is not later than the last stored event and
        for cells that are missing or of another type; UsageError for a `top_k` below 0. `told` is called with what was
        read: source, rows, repairs, warnings, and the ids that are strangers as `unseen`.
        """
        if top_k < 0:
            raise UsageError(f"Of each ranking {top_k} were asked for.", "Ask for --top-k 1 or more.")
        read = table.read(data)
        names = self.columns(read, ("src", "time") if top_k else ("src", "dst", "time"))
        frame, where = whole(read, list(names.values()))
        times = self.times(frame[names["time"]], where)
        self.require_later(times, where)
        past = self.with_history(history)
        directory = past.directory
        src = directory.source_nodes(plain_ids(frame[names["src"]], where))
        nodes = {"src": src}
        if not top_k:
            dst = nodes["dst"] = directory.destination_nodes(plain_ids(frame[names["dst"]], where))
        if told is not None:
            unseen = [frame[names[end]].filter(pl.Series(found == directory.stranger)) for end, found in nodes.items()]
            strangers = pl.concat([ids.cast(pl.String).alias("id") for ids in unseen]).unique(maintain_order=True)
            read_facts = {"source": read.origin, "rows": read.rows, **read.ledger.to_dict()}
            told({**read_facts, "events": len(past.store) - len(self.past), "unseen": strangers.to_list()})
        if not top_k:
            scores = np.empty(len(times), np.float32)
            with torch.inference_mode():
                for rows, group in groups(self.network.encoder, past, torch.from_numpy(times)):
                    scores[rows] = group.pairs(self.network, src[rows], dst[rows], torch.from_numpy(times[rows]))
            answer = read.data.collect().with_columns(pl.Series("score", scores))
        else:
            answer = self._ranked(past, frame, names, src, times, top_k)
        return table.to_library(answer, read.library)

    def _ranked(
        self, past: Past, frame: pl.DataFrame, names: Mapping[str, str], src: np.ndarray, times: np.ndarray, top_k: int
    ) -> pl.DataFrame:
        """The first `top_k` destinations of every query, in the order of the queries."""
        query, rank, score, ids = [], [], [], []
        with torch.inference_mode():
            for rows, group in groups(self.network.encoder, past, torch.from_numpy(times)):
                found = group.best(self.network, src[rows], torch.from_numpy(times[rows]), top_k)
                query.append(rows[found.query])
                rank.append(found.rank)
                score.append(found.score)
                ids.append(group.ids.gather(found.place))
        order = np.lexsort((np.concatenate(rank), np.concatenate(query)))
        usual = "dst" if names["src"] == "src" else self.ends.dst
        return frame.select(names["src"], names["time"])[np.concatenate(query)[order]].with_columns(
            pl.Series("rank", np.concatenate(rank)[order], dtype=pl.Int64),
            pl.concat(ids).gather(order).alias(usual),
            pl.Series("score", np.concatenate(score)[order]),
        )
