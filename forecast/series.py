"""Series as a kind of data: how windows of them are fitted, scored, judged again and tried."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .config import RunConfig
from .data import calendar
from .data.week import MINUTE
from .errors import UsageError
from .kinds import Clock, Outcome, Progress, Sample, Silent
from .prepare import Prepared, Read, fit_scaler, prepare, read, window_shape
from .prepare import require_buildable as _require_buildable
from .registry import BASELINES, build, config_class, find

if TYPE_CHECKING:
    import torch

    from graphs.architecture import Architecture

    from .explained import Explanation
    from .fitted import Fitted
    from .tracking import TrackedRun
    from .training import Curve

LEADS = (15, 30, 60)  # minutes

__all__ = ["carry_out", "explainer", "judged", "read", "require_buildable", "rescore", "sample"]


def require_buildable(found: Read) -> None:
    """Raise UsageError where the network cannot be built for windows of these data."""
    _require_buildable(found.config, window_shape(found), found.graph)


def carry_out(found: Read, run: "TrackedRun", progress: Progress, clock: Clock) -> Outcome:
    """Train and score the model beside the baselines on every window."""
    from . import report, scoring, summary
    from .training import cut

    config = found.config
    prepared = prepare(found)
    progress.stage("scoring the baselines")
    networks = {name: solved_baseline(name, prepared) for name in BASELINES}
    clock.lap("baselines")
    sought = None
    if find(config.name, "series").on_graph:
        from . import searching

        def find_operators(config: RunConfig, **options: Any) -> "Architecture":
            return searching.search(searching.configured(prepared, config), **options)

        config, sought = searching.settled(config, find_operators, run, progress)
        prepared = searching.configured(prepared, config)
        clock.lap("search")
    progress.stage(f"training {config.name}, run {run.id}")
    network, curve, best_epoch = _trained(config.name, networks, prepared, run, progress)
    clock.lap("train")
    controls: dict[str, tuple[Any, Curve, int]] = {}
    if sought is not None:
        learn = partial(searching.learned, prepared)
        controls = searching.controls(config, sought, (network, [], 0), learn, run, progress)
    clock.lap("controls")

    progress.stage("scoring")
    fitted = as_fitted(network, prepared, sought)
    scores = {}
    uniform = {name: control for name, (control, _, _) in controls.items()}
    for name, forecaster in {config.name: network, **networks, **uniform}.items():
        scores[name] = scoring.score(
            scoring.on_device(forecaster),
            prepared.test.with_lookback(forecaster.shape.lookback),
            prepared.scaler,
            prepared.naive_error,
            calibration=fitted.calibration if forecaster is network else None,
            levels=config.track.levels,
            steps=_minutes(found),
        )
    beside = {name: scores.pop(name) for name in controls}
    network.cpu()
    clock.lap("score")
    document = summary.document(run.id, prepared, scores, best_epoch, clock.seconds)
    trained = {config.name: (curve, best_epoch)} | {name: (own, best) for name, (_, own, best) in controls.items()}
    short = cut(trained, config.train)
    if sought is not None:
        document |= summary.search(sought, beside)
        short = searching.cut(sought, config) + short
    if short:
        document["cut_short"] = short
    page = summary.page(prepared, scores, {**networks, config.name: network}, fitted, curve, document)
    metrics = summary.flat({**scores, **beside})
    return Outcome(fitted, scores, metrics, document, report.render(page), report.verdict(page).headline)


def judged(document: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Give the errors by forecaster from a fit's document; NaN, which JSON has not, where nothing was seen."""
    from .scoring import METRICS

    values = {who: scores[METRICS[metric]][metric] for who, scores in document["scores"].items()}
    return {who: float("nan") if value is None else value for who, value in values.items()}


def rescore(champion: Any, found: Read, metric: str) -> float:
    """Give the champion's error on the candidate's test windows, on the candidate's scaled axis.

    Raises UsageError when the champion forecasts another step or horizon, or looks further back than the windows go.
    """
    from .scoring import score

    step, horizon = found.frame.frequency.alias, found.config.data.horizon
    if (champion.schema.freq, champion.shape.horizon) != (step, horizon):
        raise UsageError(
            f"forecasts {champion.shape.horizon} steps of {champion.schema.freq}, not {horizon} of {step}",
            "Register under another name, or use --force.",
        )
    names, targets = tuple(str(name) for name in found.frame.names), found.frame.schema.targets
    if names[:targets] != tuple(champion.variates[: champion.shape.targets]):
        raise UsageError("forecasts other columns", "Register under another name, or use --force.")
    if not champion.network.any_variates and names != tuple(champion.variates):
        raise UsageError("takes other columns", "Register under another name, or use --force.")
    if tuple(getattr(champion.schema, "known", ())) != found.frame.schema.known:
        raise UsageError("takes other known-future columns", "Register under another name, or use --force.")
    if tuple(getattr(champion, "features", ())) != found.features:
        raise UsageError("takes other static features", "Register under another name, or use --force.")
    own = fit_scaler(found)
    prepared = prepare(found, champion)
    scores = score(champion.network, prepared.test, prepared.scaler, prepared.naive_error, reference=own)
    return scores.metric(metric)


def sample(fitted: "Fitted") -> Sample:
    """Make up one lookback of noise around the training means, on the time axis of the training data.

    Where there are known covariates the horizon follows, with empty targets.
    """
    schema, rows = fitted.schema, fitted.shape.lookback
    if schema.known:
        rows += fitted.shape.horizon
    series = len(fitted.variates) if schema.layout == "panel" else 1
    noise = np.random.default_rng(0).standard_normal((rows, len(fitted.variates)))
    values = fitted.scaler.mean[0] + fitted.scaler.std[0] * noise  # (L, V)
    values[fitted.shape.lookback :] = np.nan
    columns: dict[str, Any] = {}
    if schema.id is not None:
        columns[schema.id] = np.repeat((fitted.variates if schema.layout == "panel" else fitted.keys)[:series], rows)
    if schema.time is not None:
        frequency, first = calendar.parse(schema.freq), fitted.facts["span"][0]
        integer = frequency.unit == "step"
        start = np.array([int(first) if integer else np.datetime64(first, "us").astype(np.int64)])
        zone = fitted.facts.get("zone")  # where a month begins depends on it
        times = np.tile(calendar.times_at(start, np.arange(rows), frequency, zone), series)
        columns[schema.time] = times if integer else pl.Series(times.astype("datetime64[us]"))
        if zone is not None:
            columns[schema.time] = columns[schema.time].dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    if schema.layout == "panel":
        columns[schema.values[0]] = values.T.reshape(-1)
    else:
        columns |= {name: values[:, number] for number, name in enumerate(schema.values)}
    mean, std = fitted.scaler.known
    columns |= {name: mean[number] + std[number] * noise[:, 0] for number, name in enumerate(schema.known)}
    return Sample(pl.DataFrame(columns), {"levels": [80]}, 1e-4 * float(fitted.scaler.std.min()))


def explainer() -> Callable[..., "Explanation"]:
    """Give the function that explains a stored model of series."""
    from .series_explanation import explain

    return explain


def _trained(
    name: str, networks: Mapping[str, Any], prepared: Prepared, run: "TrackedRun", progress: Progress
) -> tuple[Any, list[tuple[int, float, float]], int]:
    """Give the network of `name` with its best weights, the training curve, and the epoch that was best."""
    import torch

    from .models.layers.ssm import SelectiveChain, scan_note
    from .tasks.series import SeriesLoss
    from .training import train

    config = prepared.read.config
    if name in networks:
        return networks[name], [], 0
    torch.manual_seed(config.train.seed)
    network = build(find(name, "series"), prepared.shape, config.model, prepared.read.graph)
    if any(isinstance(part, SelectiveChain) for part in network.modules()):
        on_cuda = config.train.device != "cpu" and torch.cuda.is_available()
        progress.stage(scan_note("cuda" if on_cuda else "cpu"))

    def told(number: int, values: Mapping[str, float]) -> None:
        run.epoch(number, values)
        progress.epoch(number, values)

    curve, best = train(
        network,
        prepared.train,
        prepared.validation,
        config.train,
        loss=SeriesLoss.of(config.train, prepared.scaler.std[:, : prepared.shape.targets]),
        checkpoint=run.checkpoint,
        on_epoch=told,
        bar=not isinstance(progress, Silent),
    )
    return network.eval(), curve, best


def solved_baseline(name: str, prepared: Prepared) -> "torch.nn.Module":
    """Build and solve one baseline on the training windows; a season longer than the lookback widens its window."""
    spec = find(name, "series")
    shape, settings = prepared.shape, config_class(spec)()
    if name == prepared.read.config.name:
        settings = prepared.read.config.model
    if name == "seasonal-naive":
        parts = (prepared.validation, prepared.test)
        season = settings.season or prepared.season
        if any(len(part.with_lookback(season)) < len(part) for part in parts):
            if settings.season:
                raise UsageError(
                    f"A season of {season} steps does not fit before the first forecast of every series.",
                    "Choose a shorter model.season, or leave it out.",
                )
            season = 1
        settings = dataclasses.replace(settings, season=season)
        shape = dataclasses.replace(shape, lookback=max(shape.lookback, season))
    network = build(spec, shape, settings)
    network.solve(prepared.train.thinned(max(1, 1_000_000 // shape.targets)).batches(64))
    return network


def _minutes(found: Read) -> tuple[int, ...]:
    """The steps 15, 30 and 60 minutes ahead, at which traffic is reported, for data of a few minutes a step."""
    frequency, horizon = found.frame.frequency, found.config.data.horizon
    if frequency.unit != "us" or frequency.slots or any(minutes * MINUTE % frequency.count for minutes in LEADS):
        return ()
    steps = tuple(minutes * MINUTE // frequency.count for minutes in LEADS)
    return steps if horizon is not None and steps[-1] <= horizon else ()


def as_fitted(network: Any, prepared: Prepared, sought: "Architecture | None" = None) -> "Fitted":
    from .calibrate import calibrate
    from .fitted import Fitted
    from .scoring import on_device
    from .summary import told

    config, frame = prepared.read.config, prepared.read.frame
    calibration = calibrate(on_device(network), prepared.validation.with_lookback(network.shape.lookback), 64)
    return Fitted(
        name=config.name,
        config=network.config,
        shape=network.shape,
        schema=frame.schema,
        marks=prepared.read.marks,
        keys=tuple(str(key) for key in frame.keys),
        variates=tuple(str(name) for name in frame.names),
        scaler=prepared.scaler,
        calibration=calibration,
        network=network,
        facts={
            "fingerprint": prepared.read.fingerprint,
            "span": prepared.read.facts["span"],
            "zone": frame.time_type.zone,
            "trained_on": prepared.read.facts["split"]["train"],
            "left_out": prepared.read.facts["left_out"],
            **({} if sought is None else {"search": told(sought)}),
        },
        features=prepared.read.features,
        static=np.concatenate(frame.static),
        graph=prepared.read.graph,
    )
