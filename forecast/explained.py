"""An explanation as what it is wanted for: lines of text, a table, a JSON document, a page."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from . import explanation_page
from .attention import AttentionMap, Profile
from .data import table
from .importance import MEASURES, Importance
from .scoring import finite
from .sensor_heads import SensorHeads

_TOP = 10  # inputs and targets that are named

NOTE = (
    "Importance is how much the error rises when one input is exchanged between windows.",
    "It says what this model uses, not what causes what; inputs that carry the same information share it.",
)


class Explained(ABC):
    """What every explanation can be made into; each kind of model has its own."""

    library: table.Library

    @abstractmethod
    def text(self) -> str:
        """Give what matters most as lines of text."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Give what `forecast explain --json` prints."""

    @abstractmethod
    def page(self) -> str:
        """Give the HTML page: what matters, and what it does not show."""

    @abstractmethod
    def rows(self) -> pl.DataFrame:
        """Give a row for each number."""

    @property
    def table(self) -> Any:
        """Every number in a row of its own, in the frame library that the data came in, polars for a path."""
        return table.to_library(self.rows(), self.library)

    def save(self, path: str | Path) -> None:
        """Write the page (.html) or the table (.csv, .parquet); the path holds the old file or the whole new one."""
        path = table.require_writable(path, ".html")
        if path.suffix.lower() != ".html":
            table.write(self.rows(), path)
            return
        with table.replacing(path) as file:
            file.write(self.page().encode())


@dataclass(frozen=True)
class Explanation(Explained):
    """What a model's forecasts use, on some windows of some data."""

    model: str
    source: str  # of the data
    span: tuple[str, str]  # first and last time that the windows forecast
    unseen: bool  # none of the windows forecasts a step of the training part
    repeats: int
    seed: int
    importance: Importance
    attention: tuple[AttentionMap, ...]
    profiles: tuple[Profile, ...]
    library: table.Library
    sensors: SensorHeads | None = None  # of a model on a graph

    def rows(self) -> pl.DataFrame:
        """Give a row a number: kind, measure, source, target (empty: all of them), value, sd."""
        found = self.importance
        kinds = [source.kind for source in found.sources]
        names = [source.name for source in found.sources]
        parts = []
        for measure in MEASURES:
            parts.append(_part(kinds, measure, names, [None], *found.overall(measure)))
            parts.append(_part(kinds, measure, names, found.targets, *found.by_target(measure)))
        steps = [f"step {band}" for band in found.bands()]
        parts.append(_part(kinds, "mse by step, per cent", names, steps, found.by_band(), found.by_band() * np.nan))
        if self.sensors is not None:
            sensors, attended, labels = self.sensors, self.sensors.attended, self.sensors.labels()
            deviation, kind = sensors.heads.deviation, ["head"] * len(labels)
            parts.append(_part(kind, "mae", labels, [None], deviation.mean(0).ravel(), deviation.std(0).ravel()))
            for told, rises in ((sensors.steps(), sensors.by_step), (sensors.targets(), sensors.by_sensor)):
                rises = rises.reshape(len(labels), -1)
                parts.append(_part(kind, "mae", labels, told, rises, rises * np.nan))
            alone = [np.full(len(attended), np.nan)]
            parts.append(_part(["sensor"] * len(attended), "attended", self.variates(), [None], attended, *alone))
        for layer in self.attention:  # a row takes from the columns: these are the sources
            kind = ["attention"] * len(layer.tokens)
            parts.append(_part(kind, f"layer {layer.layer}", layer.tokens, layer.tokens, layer.share.T, layer.sd.T))
        for profile in self.profiles:
            steps = [f"{step:g}" for step in profile.steps.round(2)]
            kind = [profile.measure] * len(steps)
            parts.append(_part(kind, profile.place, steps, [None], profile.share, profile.sd))
        return pl.concat(parts)

    def document(self) -> dict[str, Any]:
        """Give what `forecast explain --json` prints."""
        found = self.importance
        rises = {measure: found.overall(measure) for measure in MEASURES}
        by_target, share = found.by_target("mse")[0], found.share()
        bands, by_band = found.bands(), found.by_band()
        return {
            "model": self.model,
            "data": {"source": self.source, "windows": found.windows, "span": list(self.span), "unseen": self.unseen},
            "repeats": self.repeats,
            "seed": self.seed,
            "error": {measure: found.base(measure) for measure in MEASURES},
            "importance": [
                {
                    "kind": source.kind,
                    "name": source.name,
                    "share": float(share[number]),
                    **{measure: float(mean[number]) for measure, (mean, _) in rises.items()},
                    **{f"{measure}_sd": float(sd[number]) for measure, (_, sd) in rises.items()},
                    "targets": finite(dict(zip(found.targets, by_target[number].tolist(), strict=True))),
                    "steps": finite(dict(zip(bands, by_band[number].tolist(), strict=True))),
                }
                for number, source in enumerate(found.sources)
            ],
            "targets_that_use_others": self.targets_that_use_others(),
            "attention": [
                {"layer": layer.layer, "tokens": layer.tokens, "share": layer.share.tolist()}
                for layer in self.attention
            ],
            "profiles": [
                {
                    "measure": profile.measure,
                    "place": profile.place,
                    "steps": profile.steps.tolist(),
                    "share": profile.share.tolist(),
                }
                for profile in self.profiles
            ],
            **({} if self.sensors is None else self._sensors(self.sensors)),
            "note": " ".join(NOTE),
        }

    def _sensors(self, sensors: SensorHeads) -> dict[str, Any]:
        return {
            "heads": sensors.document(),
            "attended": dict(zip(self.variates(), sensors.attended.tolist(), strict=True)),
            **({"learned_neighbours": sensors.neighbours()} if sensors.learned else {}),
        }

    def variates(self) -> list[str]:
        """Give the names of the variates, in their order."""
        return [source.name for source in self.importance.sources if source.kind == "variate"]

    def targets_that_use_others(self) -> list[str]:
        """Give the targets that gain from a variate other than themselves."""
        used = self.importance.used_others()
        return [name for name, gains in zip(self.importance.targets, used, strict=True) if gains]

    def headline(self) -> str:
        """Give the input that the forecasts lean on most, in a sentence."""
        mean, base = self.importance.overall("mse")[0], self.importance.base("mse")
        most = int(mean.argmax())
        if mean[most] <= 0:
            return f"{self.model} uses no input: exchanging any of them leaves its error as it is."
        label, numbers = self.importance.sources[most].label, f"{base + mean[most]:.3g} instead of {base:.3g}"
        return f"{self.model} leans most on {label}: with it exchanged, MSE is {numbers}."

    def about_others(self) -> str:
        """Say whether the targets gain from other variates."""
        targets, used = self.importance.targets, self.targets_that_use_others()
        if sum(source.kind == "variate" for source in self.importance.sources) < 2:
            return "There is one variate: nothing to gain from another."
        if not used:
            return "No target gains from another variate: exchanging one raises no other's MSE by more than 1 %."
        names = ", ".join(used[:_TOP]) + (f" and {len(used) - _TOP} more" if len(used) > _TOP else "")
        return f"{len(used)} of {len(targets)} targets gain from another variate: {names}."

    def text(self) -> str:
        """Give the inputs that matter most as lines of text."""
        found, label = self.importance, "input"
        (mse, mse_sd), (mae, _), share = found.overall("mse"), found.overall("mae"), found.share()
        order = np.argsort(-mse, kind="stable")[:_TOP]
        names = [found.sources[number].label for number in order]
        width = max(len(name) for name in (label, *names))
        part = "after the training part" if self.unseen else "training part included"
        lines = [
            f"{self.model} on {self.source}: {found.windows:,} windows, {self.span[0]} to {self.span[1]}, {part}",
            f"MSE {found.base('mse'):.4g} scaled, MAE {found.base('mae'):.4g}; with one input exchanged they rise by",
            "",
            f"{label:<{width}}{'MSE':>12}{'±':>11}{'share':>8}{'MAE':>12}",
        ]
        for number, name in zip(order, names, strict=True):
            numbers = f"{mse[number]:>12.4g}{mse_sd[number]:>11.2g}{share[number]:>8.1%}{mae[number]:>12.4g}"
            lines.append(f"{name:<{width}}{numbers}")
        if len(order) < len(mse):
            lines.append(f"… and {len(mse) - len(order):,} more, together {1 - share[order].sum():.1%}")
        lines += ["", *self._by_step(order)]
        if self.sensors is not None:
            lines += ["", *self.sensors.heads.lines()]
        return "\n".join([*lines, "", self.about_others(), *NOTE])

    def _by_step(self, order: np.ndarray) -> list[str]:
        """The largest inputs by the step that is forecast, at the first, a middle and the last band of steps."""
        bands, rise = self.importance.bands(), self.importance.by_band()
        at = sorted({0, len(bands) // 2, len(bands) - 1})
        names = [self.importance.sources[number].label for number in order]
        title = "MSE rises in per cent at step"
        width = max(len(name) for name in (title, *names))
        lines = [f"{title:<{width}}" + "".join(f"{bands[band]:>12}" for band in at)]
        for number, name in zip(order, names, strict=True):
            lines.append(f"{name:<{width}}" + "".join(f"{rise[number, band]:>12.1f}" for band in at))
        return lines

    def page(self) -> str:
        """Give the HTML page: heat maps of importance and attention, selected queries, what they show and do not."""
        return explanation_page.render(self)


def _part(
    kinds: Sequence[str],
    measure: str,
    sources: Sequence[str],
    targets: Sequence[str | None],
    value: np.ndarray,
    sd: np.ndarray,
) -> pl.DataFrame:
    """Give the rows of numbers (sources, targets), or (sources,) over all targets."""
    rows = np.repeat(np.arange(len(sources)), len(targets))
    columns = np.tile(np.arange(len(targets)), len(sources))
    return pl.DataFrame(
        {
            "kind": pl.Series(kinds, dtype=pl.String).gather(rows),
            "measure": pl.repeat(measure, len(rows), dtype=pl.String, eager=True),
            "source": pl.Series(sources, dtype=pl.String).gather(rows),
            "target": pl.Series(targets, dtype=pl.String).gather(columns),
            "value": value.reshape(-1),
            "sd": sd.reshape(-1),
        }
    ).with_columns(pl.col("value", "sd").fill_nan(None))
