"""Forecasts of a backtest beside what came: errors by window and over all, coverage, and the rows of the table."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import torch

from .backtest_plan import Plan
from .data import calendar
from .data.keys import with_parts
from .data.scale import Scaler
from .data.times import restore
from .data.windows import Target
from .fitted import long_table, window_buffer
from .prepare import usual_season
from .scoring import Scores, Tally, finite, seasonal_error


class Judge:
    """Scores forecasts against the frame, on one axis for all windows: that of the rows before the first cutoff."""

    def __init__(self, plan: Plan, model: str, levels: tuple[int, ...]) -> None:
        """Get ready; the table has the forecasts of `model` as `yhat` with its intervals, of others a column each."""
        self.plan, self.model, self.levels, frame = plan, model, levels, plan.frame
        first, begin = plan.origins[0] + 1, frame.offsets[:-1]
        ends = np.minimum(np.where(first > 0, first, begin + plan.lookback), frame.offsets[1:])
        self.scaler = Scaler.fit(frame, ends, pooled=True)
        copy = replace(frame, values=frame.values.copy(), known=frame.known.copy())
        buffer = window_buffer(self.scaler.apply_(copy), ())
        self._answers = buffer.values
        self._seen = torch.ones_like(buffer.values, dtype=torch.bool) if buffer.seen is None else buffer.seen
        self._naive = seasonal_error(buffer, ends, usual_season(frame, ends))[:, : plan.targets]
        self._totals: dict[str, Tally] = {}
        self._windows = 0
        self._inside: dict[int, list[int]] = {}

    def _tally(self) -> Tally:
        return Tally(self.plan.horizon, self.plan.targets, self.scaler, self._naive)

    def window(
        self, number: int, forecasts: Mapping[str, pl.DataFrame]
    ) -> tuple[dict[str, Scores], dict[str, float | None], pl.DataFrame]:
        """Give the scores of each forecaster at one cutoff, the coverage of each level, and the rows of the table."""
        plan, frame = self.plan, self.plan.frame
        series = np.flatnonzero(plan.origins[number] >= 0)
        rows = plan.origins[number][series, None] + 1 + np.arange(plan.horizon)  # (S, H)
        target = Target(self._answers[rows][..., : plan.targets], self._seen[rows][..., : plan.targets])
        steps = rows - frame.offsets[series, None]
        times = calendar.times_at(frame.start[series, None], steps, frame.frequency, frame.time_type.zone)
        some = replace(frame, keys=frame.keys.gather(series))
        answers = frame.values[rows][..., : plan.targets].astype(np.float64)
        told = long_table(some, plan.targets, times, {"y": answers}).with_columns(pl.col("y").fill_nan(None))
        cutoff = np.repeat(plan.cutoffs[number][series], plan.targets * plan.horizon)
        told = told.with_columns(restore(cutoff, frame.time_type, "cutoff"), _steps())
        scores = {}
        for who, forecast in forecasts.items():
            column = "yhat" if who == self.model else who
            numbers = [name for name in forecast.columns if name.startswith("yhat_")] if who == self.model else []
            found = forecast.select("unique_id", _steps(), pl.col("yhat").alias(column), *numbers)
            told = told.join(found, on=["unique_id", "step"], how="left", maintain_order="left")
            blocks = told[column].to_numpy().reshape(len(series), plan.targets, plan.horizon)
            values = torch.from_numpy(blocks.transpose(0, 2, 1).copy())
            mean, std = (
                torch.from_numpy(part[series, None, : plan.targets]) for part in (self.scaler.mean, self.scaler.std)
            )
            scaled, tally = (values - mean) / std, self._tally()
            for one in (tally, self._totals.setdefault(who, self._tally())):
                one.add(scaled, target, torch.from_numpy(series))
            scores[who] = tally.scores(len(series), {})
        self._windows += len(series)
        coverage = {}
        for level in self.levels:
            inside = told.select(pl.col("y").is_between(f"yhat_lo_{level}", f"yhat_hi_{level}"))["y"].drop_nulls()
            share = [int(inside.sum()), len(inside)]
            total = self._inside.setdefault(level, [0, 0])
            total[0], total[1] = total[0] + share[0], total[1] + share[1]
            coverage[str(level)] = share[0] / share[1] if share[1] else float("nan")
        owner = some.keys if frame.schema.layout == "channels" else frame.names[: plan.targets]
        if plan.model is not None:
            told = told.with_columns(pl.lit(plan.seen(number)).alias("seen"))
        first = ["unique_id", "cutoff", "ds", "y"]
        table_rows = told.select(*first, pl.exclude(*first, "step"))
        return scores, finite(coverage), with_parts(table_rows, plan.read, frame.schema, owner)

    def overall(self) -> dict[str, Scores]:
        """Give the scores over all windows."""
        return {who: tally.scores(self._windows, {}) for who, tally in self._totals.items()}

    def coverage(self) -> dict[str, float | None]:
        """Give the share of answers inside each level's interval, over all windows."""
        return {str(level): inside / count if count else None for level, (inside, count) in self._inside.items()}


def _steps() -> pl.Expr:
    """Number the steps of each series' horizon from 0."""
    return pl.int_range(pl.len()).over("unique_id").alias("step")
