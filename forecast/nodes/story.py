"""States of nodes as a kind of data: how labelled events are fitted, scored, judged again and tried.

The encoder learns links first, or comes from a stored model of links; then it is frozen, and a head learns the states.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..config import RunConfig
from ..data.cards import PARTS
from ..data.events import EventTable
from ..errors import DataError, UsageError
from ..kinds import Clock, Outcome, Progress, Sample, Silent, not_explained
from ..links import story as links
from ..links.champion import as_known, made_up
from .settings import CONTROL

if TYPE_CHECKING:
    from graphs.node_rules import NodeRule
    from graphs.todyformer import NodeStates, TodyformerEncoder

    from ..links.fitted import FittedLinks
    from ..tracking import TrackedRun
    from ..training import Curve
    from .batches import Parts
    from .fitted import FittedNodes


@dataclass(frozen=True, eq=False)
class Read:
    """A checked stream of labelled events, and the configuration with everything filled in that it decides."""

    config: RunConfig
    links: links.Read
    encoder: "TodyformerEncoder | None"  # the one that is taken; None: one is trained

    @property
    def events(self) -> EventTable:
        return self.links.events

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The parts `data` and `split` of a fit's document."""
        return {**self.links.facts, "labelled": labelled(self.events)}

    @property
    def fingerprint(self) -> str:
        """Of every value and of how it is read."""
        return self.events.fingerprint


def read(config: RunConfig, source: Any) -> Read:
    """Read and check the events of a path, a frame or a catalogued data set, and the encoder that is to be taken.

    Raises DataError for a table without labels, a label that is neither 0 nor 1, and a part without one of both;
    UsageError for an encoder of other events.
    """
    found = links.read(config, source)
    _require_labels(found.events)
    encoder = None
    if config.train.encoder is not None:
        encoder = _stored(config, found).network.encoder
        settings = {**asdict(encoder.config), "pair_history": "none"}
        for name, value in config.settings.items():
            if name in settings and name != "pair_history" and value != settings[name]:
                raise UsageError(
                    f"model.{name} is {value}, but the encoder of {config.train.encoder} has {settings[name]}.",
                    f"Leave model.{name} out.",
                )
        found = replace(found, config=replace(found.config, settings=settings))
    return Read(found.config, found, encoder)


def labelled(events: EventTable) -> dict[str, dict[str, int]]:
    """How many labels each part has, and how many of them are 1."""
    labels = events.labels
    assert labels is not None
    return {
        part: {"labels": int(np.isfinite(some).sum()), "positives": int((some == 1).sum())}
        for part, some in zip(PARTS, np.split(labels, events.borders), strict=True)
    }


def explainer() -> NoReturn:
    """Refuse: what an answer about events rests on is not measured."""
    not_explained("states of nodes")


def _require_labels(events: EventTable) -> None:
    labels, origin = events.labels, events.table.origin
    if labels is None:
        raise DataError(
            f"{origin}: there is no column of labels, which tell the state of each event's source.",
            "Name it: --set data.label_col=…",
        )
    odd = np.isfinite(labels) & (labels != 0) & (labels != 1)
    if odd.any():
        place = int(odd.argmax())
        raise DataError(
            f"{events.table.where(int(events.store.order[place]))}: the label is {labels[place]:g}; a state is 0 or 1.",
            "Write 1 for the state that is to be told and 0 for all others, or name another column: "
            "--set data.label_col=…",
        )
    for part, counts in labelled(events).items():
        if not 0 < counts["positives"] < counts["labels"]:
            raise DataError(
                f"{origin}: {counts['positives']:,} of the {counts['labels']:,} labels of the {part} part are 1; "
                "there is nothing to tell apart.",
                "Give more events, or other shares: --set data.split=[0.6,0.2,0.2]",
            )


def _stored(config: RunConfig, found: links.Read) -> "FittedLinks":
    """The model of links whose encoder is taken, which must have learned from the training part of these events."""
    from ..bundle import kind_of_folder, open_folder
    from ..versions import fetch

    name = str(config.train.encoder)
    folder = Path(name) if Path(name).is_dir() else fetch(name)
    if kind_of_folder(folder) != "links":
        raise UsageError(f"train.encoder {name} is no model of links.", "Name one that was fitted with --task link.")
    fitted: FittedLinks = open_folder(folder)
    own = (found.fingerprint, list(found.facts["split"]["train"]))
    if (fitted.facts["fingerprint"], list(fitted.facts["trained_on"])) != own:
        raise UsageError(
            f"train.encoder {name} was trained on other events, or on another part of these.",
            "Fit it on this table with the same settings of data, or leave it out: an encoder is then trained first.",
        )
    return fitted


def require_buildable(found: Read) -> None:
    """Raise UsageError where the network cannot be built for these events."""
    links.require_buildable(found.links)


def carry_out(found: Read, run: "TrackedRun", progress: Progress, clock: Clock) -> Outcome:
    """Train and score the network beside itself without the encoder and beside simple rules, on every label."""
    from . import report, summary
    from .batches import Parts
    from .fitted import Teller
    from .learning import without_blocks
    from .scoring import baselines, score

    config, events = found.config, found.events
    parts = Parts(events.store, events.store.labels[:, 0], *events.borders, config.train.batch_size)
    encoder = found.encoder
    if encoder is None:
        progress.stage(f"training the encoder of {config.name} on links, run {run.id}")
        encoder = _encoder(found, run, progress)
    progress.stage(f"training the head of {config.name} on {found.facts['labelled']['train']['labels']:,} labels")
    network, curve, best_epoch = _head(found, encoder, parts, run, progress)
    networks = {config.name: network}
    if config.model.blocks:
        progress.stage("training the same head without the encoder")
        networks[f"{config.name}{CONTROL}"], *_ = _head(found, without_blocks(encoder), parts, run, progress, CONTROL)
    clock.lap("train")

    progress.stage("scoring")
    rules: dict[str, NodeRule] = {name: Teller(one, parts.store) for name, one in networks.items()}
    rules |= baselines(parts)
    validation, test = (score(rules, parts, part) for part in ("validation", "test"))
    clock.lap("score")
    document = summary.document(run.id, found, validation, test, best_epoch, clock.seconds)
    page = summary.page(found, test, curve, document)
    return Outcome(
        fitted=_fitted(found, network),
        scores=test,
        metrics=summary.flat(config.name, validation, test),
        document=document,
        html=report.render(page),
        headline=report.verdict(page).headline,
    )


def judged(document: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Give the test values of `metric` from a fit's document, of the model and the simple rules, not of the control."""
    return links.judged(document, metric)


def rescore(champion: Any, found: Read, metric: str) -> float:
    """Give the champion's `metric` on the candidate's test labels, in the candidate's batches.

    Nodes that the champion does not know are new ones to it. Raises UsageError where the two do not compare.
    """
    from .batches import Parts
    from .scoring import score

    events = found.events
    store, _ = as_known(champion, champion.network.encoder.config.directed, events)
    parts = Parts(store, events.store.labels[:, 0], *events.borders, found.config.train.batch_size)
    return score({"champion": champion.rule(store)}, parts, "test")["champion"].values[metric]


def sample(fitted: "FittedNodes") -> Sample:
    """Make up queries of known nodes, soon after the last event."""
    return Sample(made_up(fitted).drop(fitted.ends.dst), {}, 1e-4)


def _encoder(found: Read, run: "TrackedRun", progress: Progress) -> "TodyformerEncoder":
    """Train an encoder on links, within half of the time limit."""
    from ..links.batches import Parts as LinkParts
    from ..links.learning import learn

    events, train = found.events, found.config.train
    parts = LinkParts.of(events.store, *events.borders, events.nodes.bipartite)
    network, *_ = learn(parts, found.config.model, _within(train, 2), **_followed(run, progress, "-links"))
    return network.encoder


def _head(
    found: Read, encoder: "TodyformerEncoder", parts: "Parts", run: "TrackedRun", progress: Progress, suffix: str = ""
) -> tuple["NodeStates", "Curve", int]:
    """Train a head, within a quarter of the time limit."""
    from .learning import learn

    return learn(encoder, parts, _within(found.config.train, 4), **_followed(run, progress, suffix))


def _within(train: Any, share: int) -> Any:
    """The settings with one of so many equal shares of the time limit."""
    return train if train.time_limit is None else replace(train, time_limit=train.time_limit / share)


def _followed(run: "TrackedRun", progress: Progress, suffix: str) -> dict[str, Any]:
    """How a training is resumed and told of; what it tells is told apart by `suffix`."""

    def told(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, {f"{name}{suffix}": value for name, value in values.items()})
        progress.epoch(number, values)

    checkpoint = run.checkpoint.with_stem(f"{run.checkpoint.stem}{suffix}")
    return {"checkpoint": checkpoint, "on_epoch": told, "bar": not isinstance(progress, Silent)}


def _fitted(found: Read, network: "NodeStates") -> "FittedNodes":
    from ..links.stream import Ends
    from .fitted import FittedNodes

    events, columns = found.events, found.events.columns
    return FittedNodes.of(
        found.config.name,
        network,
        events.nodes,
        Ends(columns.src, columns.dst, columns.time, columns.features),
        events.time_type,
        events.store,
        {
            "fingerprint": found.fingerprint,
            "span": found.facts["span"],
            "trained_on": found.facts["split"]["train"],
            "state": columns.label,
        },
    )
