"""Sinusoidal tables, and embeddings of the calendar by table rows."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...data.calendar import mark_names, mark_scale

# How many calendar features a window has tells which they are: those of days, hours, minutes or seconds.
CALENDARS: Mapping[int, tuple[str, ...]] = {len(names): names for names in map(mark_names, ("D", "h", "min", "s"))}
# Day of the year, from 0, on which each month begins, but for leap years.
MONTH_STARTS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def waves(rows: int, width: int) -> Tensor:
    """The sinusoidal table of positions, (rows, width) float32: sines in even columns, cosines in odd ones.

    Source: Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762, §3.5.
    """
    rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10_000.0) / width))
    angles = torch.arange(rows).float()[:, None] * rate  # (rows, width / 2)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[:, :width]


class FixedTable(nn.Module):
    """A sinusoidal row for each code, not trained: (…,) int64 gives (…, D)."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        self.rows = nn.Embedding.from_pretrained(waves(rows, d_model))

    def forward(self, codes: Tensor) -> Tensor:
        """The rows of `codes`."""
        rows: Tensor = self.rows(codes)
        return rows


class CalendarTables(nn.Module):
    """The sum of a table row for each calendar field: scaled features (B, L, K) give (B, L, D).

    The fields are month, day, weekday, hour and, where there are minutes, the quarter of an hour. K is one of
    `CALENDARS`; days have no hour and read as midnight. Tables are sinusoidal if `fixed`, else learned.
    """

    divisor: Tensor
    starts: Tensor

    def __init__(self, time_features: int, d_model: int, *, fixed: bool) -> None:
        super().__init__()
        self.names = CALENDARS[time_features]
        rows = {"minute": 4} if "minute" in self.names else {}
        rows |= {"hour": 24, "weekday": 7, "day": 32, "month": 13}  # codes of day and month begin at 1
        make = FixedTable if fixed else nn.Embedding
        self.tables = nn.ModuleDict({name: make(count, d_model) for name, count in rows.items()})
        self.register_buffer("divisor", torch.from_numpy(mark_scale(self.names)), persistent=False)
        self.register_buffer("starts", torch.tensor(MONTH_STARTS), persistent=False)

    def codes(self, time: Tensor) -> dict[str, Tensor]:
        """The calendar fields of (B, L, K) features, each (B, L) int64: months and days from 1, others from 0."""
        whole = ((time + 0.5) * self.divisor).round().long()
        found = dict(zip(self.names, whole.unbind(2), strict=True))
        day = found["day"]  # from 0, as is the day of the year
        # The day of the year on which the month began: from March on, one more in a leap year. The last usual
        # beginning that is not later is that of the month in either case.
        began = found["yearday"] - day
        fields = {"month": torch.bucketize(began, self.starts, right=True), "day": day + 1}
        fields |= {"weekday": found["weekday"], "hour": found.get("hour", torch.zeros_like(day))}
        return fields | ({"minute": found["minute"] // 15} if "minute" in found else {})

    def forward(self, time: Tensor) -> Tensor:
        """The sum of the rows of each step: (B, L, D)."""
        codes = self.codes(time)
        return torch.stack([table(codes[name]) for name, table in self.tables.items()]).sum(0)
