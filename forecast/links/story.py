"""Links as a kind of data: how a stream of events is fitted, scored, judged again and tried."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from ..config import RunConfig
from ..data import catalogue
from ..data.candidates import listed_candidates
from ..data.events import EventTable, read_events
from ..errors import UsageError
from ..kinds import Clock, Outcome, Progress, Sample, Silent, not_explained
from .champion import as_known, made_up
from .settings import CONTROL

if TYPE_CHECKING:
    from graphs.evaluation import LinkRule
    from graphs.todyformer import Todyformer, TodyformerConfig

    from ..tracking import TrackedRun
    from .batches import Parts
    from .fitted import FittedLinks


@dataclass(frozen=True, eq=False)
class Read:
    """A checked stream of events, and the configuration with everything filled in that it decides."""

    config: RunConfig
    events: EventTable
    source: str  # as it was given: a path, the name of a catalogued set, or "<frame>"

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The parts `data` and `split` of a fit's document."""
        return {**self.events.facts, "source": self.source}

    @cached_property
    def parts(self) -> "Parts":
        """The stream cut by time, and whom its events are ranked among. Raises DataError for wrong candidates."""
        from .batches import Parts

        events = self.events
        return Parts.of(events.store, *events.borders, events.nodes.bipartite, listed_candidates(events))

    @property
    def fingerprint(self) -> str:
        """Of every value and of how it is read."""
        return self.events.fingerprint


def read(config: RunConfig, source: Any) -> Read:
    """Read and check the events of a path, a frame or a catalogued data set. Raises DataError and UsageError."""
    if source is None:
        raise UsageError("No data were given.", "Name a file, or one of `forecast datasets`.")
    events = read_events(source, config.data)
    if not events.directed:
        config = replace(config, settings={**config.settings, "directed": False})
    card = catalogue.named(source)
    return Read(config, events, card.name if card is not None else events.table.origin)


def require_buildable(found: Read) -> None:
    """Raise UsageError where the network cannot be built for these events."""
    from graphs.events import EventError
    from graphs.todyformer import GraphShape, Todyformer

    try:
        Todyformer(GraphShape(1, found.events.store.features.shape[1]), found.config.model)
    except EventError as error:
        raise UsageError(error.message, error.hint) from None


def carry_out(found: Read, run: "TrackedRun", progress: Progress, clock: Clock) -> Outcome:
    """Train and score the network beside itself without the encoder and beside simple rules, on every event."""
    from graphs.todyformer import History

    from . import report, summary
    from .answers import Ranker
    from .learning import without_encoder
    from .scoring import baselines, score

    config, parts = found.config, found.parts
    progress.stage(f"training {config.name}, run {run.id}")
    network, curve, best_epoch = _trained(found, parts, config.model, run, progress)
    networks = {config.name: network}
    if config.model.blocks:
        progress.stage("training the same decoder without the encoder")
        networks[f"{config.name}{CONTROL}"], *_ = _trained(
            found, parts, without_encoder(config.model), run, progress, CONTROL
        )
    clock.lap("train")

    progress.stage("scoring")
    rules: dict[str, LinkRule] = {name: Ranker(one, History(parts.store, one.config)) for name, one in networks.items()}
    rules |= baselines(parts, config.train.batch_size, config.model.cut)
    validation, test = (
        score(
            rules,
            parts,
            *ends,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            shares=networks if config.train.loss == "softmax" else (),
        )
        for ends in ((parts.validation, parts.test), (parts.test, len(parts.store)))
    )
    clock.lap("score")
    document = summary.document(run.id, found, parts, validation, test, best_epoch, clock.seconds)
    page = summary.page(found, parts, test, curve, document)
    return Outcome(
        fitted=_fitted(found, network),
        scores=test,
        metrics=summary.flat(config.name, validation, test),
        document=document,
        html=report.render(page),
        headline=report.verdict(page).headline,
    )


def judged(document: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Give the test values of `metric` from a fit's document, of the model and the simple rules.

    Without the control: it says what the encoder is worth, and is no rule that one could use instead of training.
    """
    control = f"{document['model']}{CONTROL}"
    return {who: values[metric] for who, values in document["scores"].items() if who != control}


def rescore(champion: Any, found: Read, metric: str) -> float:
    """Give the champion's `metric` on the candidate's test events, in the candidate's batches.

    Nodes that the champion does not know are new ones to it. Raises UsageError where the two do not compare.
    """
    import torch

    from graphs.events import LinkBatch

    from .scoring import score

    store, parts = found.events.store, found.parts
    renamed, to_champion = as_known(champion, champion.network.config.directed, found.events)
    rule = champion.rule(renamed)

    def champions(batch: LinkBatch) -> torch.Tensor:
        negatives = torch.where(batch.negatives < 0, -1, to_champion[batch.negatives.clamp(min=0)])
        src, dst = to_champion[batch.src], to_champion[batch.dst]
        named = batch._replace(src=src, dst=dst, negatives=negatives, negative_src=to_champion[batch.negative_src])
        scores: torch.Tensor = rule(named)
        return scores

    train = found.config.train
    scores = score({"champion": champions}, parts, parts.test, len(store), batch_size=train.batch_size, seed=train.seed)
    return scores["champion"].metric(metric)


def sample(fitted: "FittedLinks") -> Sample:
    """Make up queries between known nodes, soon after the last event."""
    return Sample(made_up(fitted), {}, 1e-4)


def explainer() -> NoReturn:
    """Refuse: what an answer about events rests on is not measured."""
    not_explained("links")


def _trained(
    found: Read,
    parts: "Parts",
    model: "TodyformerConfig",
    run: "TrackedRun",
    progress: Progress,
    suffix: str = "",
) -> tuple["Todyformer", list[tuple[int, float, float]], int]:
    """Train one of the two networks, each within half of the time limit; what it tells is told apart by `suffix`."""
    from .learning import learn

    train = found.config.train
    if train.time_limit is not None and found.config.model.blocks:
        train = replace(train, time_limit=train.time_limit / 2)

    def told(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, {f"{name}{suffix}": value for name, value in values.items()})
        progress.epoch(number, values)

    checkpoint = run.checkpoint.with_stem(f"{run.checkpoint.stem}{suffix}")
    return learn(parts, model, train, checkpoint=checkpoint, on_epoch=told, bar=not isinstance(progress, Silent))


def _fitted(found: Read, network: "Todyformer") -> "FittedLinks":
    from .fitted import FittedLinks
    from .stream import Ends

    events, columns = found.events, found.events.columns
    return FittedLinks.of(
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
        },
    )
