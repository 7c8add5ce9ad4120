"""Graphs with labels as a kind of data: how they are read, fitted, scored, judged again and tried."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..config import RunConfig
from ..data.graph_table import GraphTable, read_graphs
from ..errors import DataError, UsageError
from ..kinds import Clock, Outcome, Progress, Sample, Silent
from ..sensors import with_named_operators

if TYPE_CHECKING:
    from graphs.architecture import Architecture

    from ..tracking import TrackedRun
    from .batches import Prepared
    from .explained import GraphExplanation
    from .features import Features
    from .fitted import FittedGraphs
    from .learning import Learned

_TRIED, _LARGEST = 8, 9  # graphs of the self-test, and nodes of the largest


@dataclass(frozen=True, eq=False)
class Read:
    """Checked graphs, and the configuration with everything filled in that they decide."""

    config: RunConfig
    graphs: GraphTable

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The parts `data` and `split` of a fit's document."""
        graphs, config = self.graphs, self.config
        assert graphs.task is not None
        return {
            "kind": "graphs",
            "source": graphs.origin,
            "rows": len(graphs),
            "graphs": len(graphs),
            "nodes": len(graphs.store.nodes),
            "edges": graphs.store.edges.shape[1],
            "task": graphs.task.name,
            "targets": list(graphs.targets),
            "outputs": graphs.task.outputs,
            "node_features": [graphs.store.nodes.shape[1], config.model.node_features],
            "edge_features": [graphs.store.edge_features.shape[1], config.model.edge_features],
            **graphs.ledger.to_dict(),
            "split_by": f"column {graphs.split_col}" if graphs.split_col else f"seed {config.data.split_seed}",
            "split": {part: len(rows) for part, rows in graphs.parts.items()},
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of every value and of the parts."""
        store, digest = self.graphs.store, hashlib.sha256()
        columns = (store.nodes, store.edges, store.edge_features, store.node_offsets, store.edge_offsets, store.targets)
        for column in (*(one.numpy() for one in columns), *self.graphs.parts.values()):
            digest.update(f"{column.dtype}{column.shape}".encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @cached_property
    def prepared(self) -> "Prepared":
        """The graphs as the network reads them. Raises UsageError where it cannot be built for them."""
        import torch

        from graphs.darts_gt import DartsGT
        from graphs.graph_batch import GraphError

        from .batches import Prepared
        from .features import FeatureError

        try:
            prepared = Prepared.of(self.graphs, self.config.model)
            with torch.device("meta"):
                DartsGT(prepared.shape, self.config.model.network())
        except FeatureError as error:
            raise UsageError(f"darts-gt: {error}.", "Leave it out, or set it to linear.") from error
        except GraphError as error:
            raise UsageError(error.message, error.hint) from error
        return prepared


def read(config: RunConfig, source: Any) -> Read:
    """Read and check the graphs of a path, a frame or a list of PyG's `Data`. Raises DataError and UsageError."""
    from graphs.graph_tasks import METRICS

    from .features import edge_kind, node_kind

    if source is None:
        raise UsageError("No data were given.", "Name a file with one graph a row.")
    graphs = read_graphs(source, config.data)
    task, model = graphs.task, config.model
    assert task is not None
    metric = task.metric if config.track.metric == "auto" else config.track.metric
    if metric not in METRICS[task.name]:
        raise UsageError(
            f"track.metric is {metric}, which does not judge {task.name}.",
            f"Set track.metric to {' or '.join(METRICS[task.name])}.",
        )
    if not graphs.store.nodes.shape[1]:
        raise DataError(f"{graphs.origin}: the nodes have no features.", "Give each at least one, as a constant.")
    head = "inductive_node" if task.of_nodes else "san_graph"
    if (model.head if model.head != "auto" else head) not in (
        ("inductive_node",) if task.of_nodes else ("san_graph", "graph")
    ):
        raise UsageError(f"darts-gt: model.head {model.head} is not for {task.name}.", f"Set model.head={head}.")
    found = model.settled(node_kind(graphs.store.nodes), edge_kind(graphs.store.edge_features), head)
    config = replace(
        config,
        settings={**config.settings, **found},
        data=replace(config.data, task=task.name),
        track=replace(config.track, metric=metric),
    )
    return Read(with_named_operators(config), graphs)


def require_buildable(found: Read) -> None:
    """Raise UsageError where the network cannot be built for these graphs."""
    _ = found.prepared


def carry_out(found: Read, run: "TrackedRun", progress: Progress, clock: Clock) -> Outcome:
    """Search the operators, train the network with them, and score it beside controls and baselines."""
    from .. import searching
    from ..training import cut
    from . import report, summary
    from .baselines import baselines
    from .fitted import FittedGraphs, outputs
    from .learning import learn, search

    config = found.config
    prepared = found.prepared
    for part, count in prepared.clipped.items():
        if count:
            found.graphs.ledger.caution("codes-clipped", part, "beyond the tables, read as the last of them", count)
    progress.stage("fitting the baselines")
    rules = baselines(prepared)
    clock.lap("baselines")

    def find_operators(config: RunConfig, **options: Any) -> "Architecture":
        return search(prepared, config.model, config.train, **options)

    config, sought = searching.settled(config, find_operators, run, progress)
    found = replace(found, config=config)
    clock.lap("search")
    operators = ", ".join(config.model.network().operators)
    progress.stage(f"training {config.name} with {operators}, run {run.id}")
    learned = _learned(found, prepared, run, progress)
    clock.lap("train")
    trained = {config.name: learned}
    if sought is not None:

        def learn_control(config: RunConfig, checkpoint: Path) -> "Learned":
            return learn(prepared, config.model, config.train, checkpoint=checkpoint)

        trained |= searching.controls(config, sought, learned, learn_control, run, progress)
    clock.lap("controls")

    progress.stage("scoring")
    told = {
        name: {part: prepared.targets.restored(outputs(network, store)) for part, store in prepared.parts.items()}
        for name, (network, *_) in trained.items()
    }
    told |= {
        name: {part: rule(prepared.parts[part]) for part in ("validation", "test")} for name, rule in rules.items()
    }
    scores = {
        part: {name: prepared.task.scores(said[part], prepared.parts[part].targets) for name, said in told.items()}
        for part in ("validation", "test")
    }
    clock.lap("score")
    document = summary.document(run.id, found, scores, learned, sought, clock.seconds)
    short = [] if sought is None else searching.cut(sought, config)
    short += cut({name: (one.curve, one.best_epoch) for name, one in trained.items()}, config.train)
    if short:
        document["cut_short"] = short
    page = summary.page(found, prepared, told[config.name]["test"], learned, document)
    fitted = FittedGraphs(
        config.name,
        learned.network,
        prepared.reader,
        prepared.targets,
        {
            "fingerprint": found.fingerprint,
            "trained_on": len(prepared.parts["train"]),
            **({} if sought is None else {"search": document["search"]}),
        },
    )
    return Outcome(
        fitted=fitted,
        scores=document["scores"],
        metrics=summary.flat(config.name, scores),
        document=document,
        html=report.render(page),
        headline=report.verdict(page).headline,
    )


def judged(document: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Give the test values of `metric` by method from a fit's document: the model's and the baselines'."""
    return {
        who: float("nan") if values[metric] is None else values[metric] for who, values in document["scores"].items()
    }


def rescore(champion: "FittedGraphs", found: Read, metric: str) -> float:
    """Give the champion's `metric` on the candidate's test graphs. Raises UsageError where the two do not compare."""
    from .features import FeatureError

    graphs, task = found.graphs, champion.targets.task
    if task != graphs.task or champion.targets.names != graphs.targets:
        raise UsageError("tells other targets", "Register under another name, or use --force.")
    test = graphs.store.select(graphs.parts["test"])
    try:
        outputs, _ = champion.answers(test)
    except FeatureError:
        raise UsageError("takes other features", "Register under another name, or use --force.") from None
    return task.scores(outputs, test.targets)[metric]


def sample(fitted: "FittedGraphs") -> Sample:
    """Make up small graphs with features as the network knows them; one has a single node and no edge."""
    draw = np.random.default_rng(0)
    sizes = [1, *draw.integers(2, _LARGEST + 1, size=_TRIED - 1).tolist()]
    edges = [draw.integers(size, size=(2, 3 * (size - 1))) for size in sizes]
    columns = [
        _made_up("node_feat", fitted.reader.nodes, sizes, draw),
        pl.Series("edge_index", [pairs.tolist() for pairs in edges], dtype=pl.List(pl.List(pl.Int64))),
    ]
    if fitted.reader.edges.columns:
        columns.append(_made_up("edge_feat", fitted.reader.edges, [pairs.shape[1] for pairs in edges], draw))
    return Sample(pl.DataFrame(columns), {}, 1e-4)


def explainer() -> Callable[..., "GraphExplanation"]:
    """Give the function that explains a stored model of graphs with labels."""
    from .explanation import explain

    return explain


def _made_up(name: str, features: "Features", counts: Sequence[int], draw: np.random.Generator) -> pl.Series:
    """A column of features, a list a graph."""
    if features.tables:
        codes = [draw.integers(features.tables, size=(rows, features.columns)).tolist() for rows in counts]
        return pl.Series(name, codes, dtype=pl.List(pl.List(pl.Int64)))
    numbers = [draw.normal(size=(rows, features.columns)) * features.scale + features.centre for rows in counts]
    return pl.Series(name, [one.tolist() for one in numbers], dtype=pl.List(pl.List(pl.Float64)))


def _learned(found: Read, prepared: "Prepared", run: "TrackedRun", progress: Progress) -> "Learned":
    from .learning import learn

    def on_epoch(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, values)
        progress.epoch(number, values)

    bar = not isinstance(progress, Silent)
    config = found.config
    return learn(prepared, config.model, config.train, checkpoint=run.checkpoint, on_epoch=on_epoch, bar=bar)
