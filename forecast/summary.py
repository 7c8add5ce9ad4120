"""What a fit tells: the document of `--json`, flat values for tracking, and the pages of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import sensors_page
from .data import calendar
from .explanation_page import CAPTION, heat
from .fitted import Fitted
from .importance import permutation_importance, seconds_of_a_pass, sources_of
from .prepare import Prepared
from .report import Example, Heat, Report, Score
from .scoring import METRICS, Scores, finite

if TYPE_CHECKING:
    from graphs.architecture import Architecture

_EXAMPLES = 6  # forecasts drawn in the report
_INPUTS, _WINDOWS, _REPEATS, _SECONDS = 64, 64, 2, 2.0  # of importance in the report, at most


def document(
    run_id: str,
    prepared: Prepared,
    scores: Mapping[str, Scores],
    best_epoch: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Give the document that `forecast fit --json` prints, before registration."""
    facts = dict(prepared.read.facts)
    model = prepared.read.config.name
    return {
        "run": run_id,
        "model": model,
        "data": {key: value for key, value in facts.items() if key != "split"},
        "split": facts["split"],
        "windows": {
            "train": len(prepared.train),
            "validation": len(prepared.validation),
            "test": len(prepared.test),
        },
        "lookback": prepared.shape.lookback,
        "horizon": prepared.shape.horizon,
        "season": prepared.season,
        "best_epoch": best_epoch,
        "scores": {name: _told(score) for name, score in scores.items()},
        "coverage": {str(level): share for level, share in scores[model].coverage.items()},
        "registered": None,
        "seconds": dict(seconds),
    }


def _told(score: Scores) -> dict[str, Any]:
    found: dict[str, Any] = {"scaled": finite(score.scaled), "original": finite(score.original)}
    steps = {str(step): finite(errors) for step, errors in score.steps.items()}
    return {**found, "steps": steps} if steps else found


def search(found: "Architecture", controls: Mapping[str, Scores]) -> dict[str, Any]:
    """Give what the document says of a search: how sure it was, and how one operator in every layer does instead."""
    return {"search": told(found), "controls": {name: _told(score) for name, score in controls.items()}}


def told(found: "Architecture") -> dict[str, Any]:
    """Give an architecture in plain values, without its trajectory; layers are counted from 1."""
    return {
        "operators": list(found.operators),
        "candidates": list(found.candidates),
        "probabilities": [list(row) for row in found.probabilities],
        "margins": list(found.margins),
        "min_margin": found.min_margin,
        "evidence": list(found.evidence),
        "min_evidence": found.min_evidence,
        "undecided": [layer + 1 for layer in found.undecided],
        "verdicts": list(found.verdicts),
        "epochs": len(found.trajectory),
    }


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give nested settings, or scores by forecaster, under dotted names: `model.d_model`, `test.mse`, `naive.mse`."""
    found: dict[str, Any] = {}
    for number, (part, entry) in enumerate(values.items()):
        if isinstance(entry, Scores):
            place = "test" if number == 0 else part  # the model comes first
            found |= {f"{place}.{name}": entry.metric(name) for name in METRICS}
            found[f"{place}.mae_scaled"] = entry.scaled["mae"]
            found |= {
                f"{place}.{name}_at_{step}": error for step, at in entry.steps.items() for name, error in at.items()
            }
            found |= {f"{place}.coverage_{level}": share for level, share in entry.coverage.items()}
        else:
            found |= {f"{part}.{key}": value for key, value in entry.items()}
    return found


def page(
    prepared: Prepared,
    scores: Mapping[str, Scores],
    networks: Mapping[str, Any],
    fitted: Fitted,
    curve: Sequence[tuple[int, float, float]],
    document: Mapping[str, Any],
) -> Report:
    """Give what the HTML report of a fit shows."""
    config, facts = prepared.read.config, prepared.read.facts
    metric = config.track.metric
    baselines = {name: score for name, score in scores.items() if name != config.name}
    best = min(baselines, key=lambda name: baselines[name].metric(metric))
    names = fitted.variates[: prepared.shape.targets]
    use, use_note = _use(prepared, networks[config.name], fitted)
    shown = {
        "Data": f"{facts['source']} ({facts['rows']:,} rows, {facts['layout']})",
        "Span": " to ".join(facts["span"]),
        "Step": facts["freq"],
        "Series, variates": f"{facts['series']:,}, {facts['variates']:,}",
        "Lookback, horizon": f"{prepared.shape.lookback} → {prepared.shape.horizon} steps",
        "Windows": ", ".join(f"{count:,} {part}" for part, count in document["windows"].items()),
        "Season": f"{prepared.season} steps" if prepared.season > 1 else "none",
        "Cut short by the time limit": "; ".join(document.get("cut_short", ["nothing"])),
        "Seed": str(config.train.seed),
        "Seconds of training": str(document["seconds"]["train"]),
        "Run": document["run"],
        "Fingerprint": prepared.read.fingerprint[:16],
    }
    return Report(
        title=f"{config.name} on {Path(facts['source']).name}",
        model=config.name,
        facts=shown,
        scores={name: Score(s.windows, s.scaled, s.original) for name, s in scores.items()},
        metric=metric,
        by_step={name: score.by_step for name, score in scores.items()},
        by_variate={
            name: {who: float(score.by_variate[column]) for who, score in scores.items()}
            for column, name in enumerate(names)
        },
        curve=curve,
        best_epoch=document["best_epoch"],
        coverage=scores[config.name].coverage,
        repairs=facts["repairs"],
        cautions=facts["warnings"],
        examples=_examples(prepared, networks[config.name], networks[best], best, fitted),
        config=config.to_yaml(),
        command=f"forecast fit {facts['source']} --config config.yaml",
        use=use,
        use_note=use_note,
        more={**sensors_page.sections(document), "Heads": _heads(prepared, networks[config.name])},
    )


def _heads(prepared: Prepared, network: Any) -> str:
    """Give what each head of a network on a graph does for evenly spaced test windows, as HTML."""
    if prepared.read.graph is None:
        return ""
    from .sensor_heads import sensor_heads  # and with it the networks on graphs, which no other model needs

    data = prepared.test.thinned(_WINDOWS)
    if not any(bool(batch.target.seen.any()) for batch in data.batches(_WINDOWS)):
        return ""
    names = tuple(map(str, prepared.read.frame.names))
    return sensor_heads(network, data, prepared.scaler, names).section()


def _use(prepared: Prepared, network: Any, fitted: Fitted) -> tuple[Heat | None, str]:
    """Give the heat map of permutation importance and its caption, or why it is left out; a small part of a fit."""
    data = prepared.test.with_lookback(network.shape.lookback).thinned(_WINDOWS)
    sources = sources_of(fitted, fitted.variates)
    if len(data) < 2:
        return None, ""
    if len(sources) > _INPUTS:
        return None, f"Left out for more than {_INPUTS} inputs: forecast explain measures and shows it."
    seconds = seconds_of_a_pass(network, data) * _REPEATS * len(sources)
    if seconds > _SECONDS:
        return None, f"Left out, as it would take {seconds:.0f} s here: forecast explain measures and shows it."
    found = permutation_importance(
        network, data, prepared.scaler, sources, fitted.variates[: data.targets], repeats=_REPEATS
    )
    return heat(found), f"{CAPTION} On {len(data)} test windows; forecast explain takes more and tells more."


def _examples(prepared: Prepared, network: Any, baseline: Any, name: str, fitted: Fitted) -> list[Example]:
    """Draw evenly spaced test windows, going through the variates; not chosen by how well they came out."""
    count = min(_EXAMPLES, len(prepared.test))
    index = torch.linspace(0, len(prepared.test) - 1, count).round().long()
    own, wider = (prepared.test.with_lookback(one.shape.lookback) for one in (network, baseline))
    with torch.inference_mode():
        batch = prepared.test[index]
        forecasts = [
            prepared.scaler.invert(forecaster(data[index].window).double().numpy(), batch.series.numpy())
            for forecaster, data in ((network, own), (baseline, wider))
        ]
    targets, lookback = prepared.shape.targets, prepared.shape.lookback
    frame = prepared.read.frame
    examples = []
    for row in range(count):
        variate, series = row % targets, int(batch.series[row])
        std, mean = prepared.scaler.std[series, variate], prepared.scaler.mean[series, variate]
        steps = int(batch.origin[row]) - frame.offsets[series] + 1 + np.arange(-lookback, prepared.shape.horizon)
        times = calendar.times_at(frame.start[series], steps, frame.frequency, frame.time_type.zone)
        if frame.frequency.unit != "step":
            times = times.astype("datetime64[us]")
        past = batch.window.past[row, :, variate].double().numpy() * std + mean
        truth = batch.target.values[row, :, variate].double().numpy() * std + mean
        past[~batch.window.seen[row, :, variate].numpy()] = np.nan
        truth[~batch.target.seen[row, :, variate].numpy()] = np.nan
        half = {
            level: fitted.calibration.half_width(level, np.array([variate]))[:, 0] * std
            for level in prepared.read.config.track.levels
        }
        forecast = forecasts[0][row, :, variate]
        label = fitted.variates[variate] if frame.schema.layout != "channels" else fitted.keys[series]
        examples.append(
            Example(
                title=label or "value",
                unit_note="",
                past_times=times[:lookback],
                past=past,
                future_times=times[lookback:],
                truth=truth,
                forecast=forecast,
                bands={level: (forecast - width, forecast + width) for level, width in half.items()},
                baseline_name=name,
                baseline=forecasts[1][row, :, variate],
            )
        )
    return examples
