"""The event store: a stream of timed links as sorted columns, cut anywhere without a copy.

An event is `(src, dst, time)` with optional features and labels. Repeated pairs, events at the same time and self-loops
are events like any other. Positions 0 … E-1 count events in time order; a *cut* is a position that stands for the
events before it, and `EventStore.before` turns times into cuts that hold strictly earlier events only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

ROW_LIMIT = 2**31  # the product of two positions, a key of the indices, must fit in int64


class EventError(ValueError):
    """Events or queries that cannot be used. The message names the column and row, the hint what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\n{hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, eq=False)
class EventStore:
    """A stream of E events over nodes 0 … `nodes`-1, by time; same times in the order of the rows they came from.

    Made by `EventStore.of`, which checks and sorts; the plain constructor trusts its columns. Slices, `until` and
    `window` are views of the same memory.
    """

    src: Tensor  # (E,) int64
    dst: Tensor  # (E,) int64
    time: Tensor  # (E,) int64 or float64, in the unit of the source, non-decreasing
    features: Tensor  # (E, F) float32; F may be 0
    labels: Tensor  # (E, Y) float32, NaN where there is none; Y may be 0
    order: Tensor  # (E,) int64: the row that each event came from
    nodes: int

    @classmethod
    def of(
        cls, src: Any, dst: Any, time: Any, features: Any = None, labels: Any = None, nodes: int | None = None
    ) -> "EventStore":
        """A checked store of the given columns, tensors or arrays, which it copies and sorts by time, stably.

        `src`, `dst` are whole numbers (E,) from 0; `time` (E,) whole numbers or floats, from 0; `features` (E, F) or
        (E,); `labels` (E, Y) or (E,). `nodes` is at least the largest id plus 1, the default. Raises `EventError` for
        columns of different lengths, ids that are no whole numbers or below 0 or not below `nodes`, times below 0 or
        not finite, features not finite.
        """
        ids = {"src": _whole(src, "src"), "dst": _whole(dst, "dst")}
        times = _times(time, "time")
        given = {**ids, "time": times}
        width = {"features": _wide(features, "features", len(times)), "labels": _wide(labels, "labels", len(times))}
        for name, column in {**given, **width}.items():
            if len(column) != len(times):
                raise EventError(
                    f"Column {name} has {len(column)} rows, column time {len(times)}.", "Give all columns one length."
                )
        _refuse(~torch.isfinite(width["features"]).all(dim=1), "features", width["features"], "is not finite")
        needed = max((int(column.max()) + 1 for column in ids.values() if len(column)), default=0)
        if nodes is not None and nodes < needed:
            for name, column in ids.items():
                _refuse(column >= nodes, name, column, f"is not below nodes = {nodes}")
        if len(times) >= ROW_LIMIT:
            raise EventError(f"{len(times)} events are more than {ROW_LIMIT - 1}.", "Leave out the oldest.")
        order = torch.argsort(times, stable=True)
        columns = {name: column[order] for name, column in {**given, **width}.items()}
        return cls(**columns, order=order, nodes=needed if nodes is None else nodes)

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice) -> "EventStore":
        """The events of a slice without a step, as a view; `nodes` stays."""
        if rows.step not in (None, 1):
            raise EventError(f"A step of {rows.step} is not a stretch of time.", "Slice without a step.")
        return EventStore(
            self.src[rows],
            self.dst[rows],
            self.time[rows],
            self.features[rows],
            self.labels[rows],
            self.order[rows],
            self.nodes,
        )

    def before(self, times: Any) -> Tensor:
        """How many events are strictly earlier than each of `times`, of any shape: a cut each, int64.

        Whole and broken times mix: against stored whole numbers, 3.5 means before 4. Raises `EventError` for times that
        are not finite.
        """
        # Not as_tensor alone: it makes float32 of Python's numbers, which is minutes off at a Unix time.
        asked = times if isinstance(times, Tensor) else torch.as_tensor(np.asarray(times))
        if asked.is_floating_point():
            _refuse(~torch.isfinite(asked.reshape(-1)), "time", asked.reshape(-1), "is not finite")
            if not self.time.is_floating_point():
                asked = asked.double().ceil().clamp(-(2.0**62), 2.0**62)
        return torch.searchsorted(self.time, asked.to(self.time.dtype).contiguous(), side="left")

    def until(self, time: float) -> "EventStore":
        """The events strictly before `time`, as a view."""
        return self[: int(self.before(time))]

    def window(self, cut: int, length: int) -> "EventStore":
        """The last `length` events before position `cut`, fewer where the stream begins, as a view."""
        return self[max(0, cut - length) : cut]

    def append(self, later: "EventStore") -> "EventStore":
        """A new store of these events, then `later` ones; rows are counted on. Both keep what they are.

        Raises `EventError` where `later` begins before these end, or has other features, labels or type of time.
        """
        for name in ("features", "labels"):
            own, new = getattr(self, name).shape[1], getattr(later, name).shape[1]
            if own != new:
                raise EventError(f"The new events have {new} {name}, the stored {own}.", "Give the same columns.")
        if self.time.dtype != later.time.dtype:
            raise EventError(
                f"The new times are {_kind(later.time)}, the stored {_kind(self.time)}.", "Give times of one type."
            )
        if len(self) and len(later) and later.time[0] < self.time[-1]:
            row = int(later.order[0])
            raise EventError(
                f"Column time, row {row}: {later.time[0].item()} is before the last stored, {self.time[-1].item()}.",
                "Append only what comes after, or build the store anew from all events.",
            )
        rows = int(self.order.max()) + 1 if len(self) else 0
        return EventStore(
            torch.cat((self.src, later.src)),
            torch.cat((self.dst, later.dst)),
            torch.cat((self.time, later.time)),
            torch.cat((self.features, later.features)),
            torch.cat((self.labels, later.labels)),
            torch.cat((self.order, later.order + rows)),
            max(self.nodes, later.nodes),
        )

    def to_temporal_data(self) -> "TemporalData":
        """The same events as PyG's `TemporalData`: `src`, `dst`, `t`; `msg`, `y` where there are features, labels."""
        from torch_geometric.data import TemporalData

        data = TemporalData(src=self.src, dst=self.dst, t=self.time)
        if self.features.shape[1]:
            data.msg = self.features
        if self.labels.shape[1]:
            data.y = self.labels.squeeze(1) if self.labels.shape[1] == 1 else self.labels
        return data

    @classmethod
    def from_temporal_data(cls, data: "TemporalData", nodes: int | None = None) -> "EventStore":
        """A store of `src`, `dst`, `t` of PyG's `TemporalData`, of `msg` as features and `y` as labels; no others."""
        return cls.of(data.src, data.dst, data.t, data.get("msg"), data.get("y"), nodes)


class LinkBatch(NamedTuple):
    """Queries that are scored together: who meets whom next, given the events before `cut`."""

    src: Tensor  # (B,) int64
    dst: Tensor  # (B,) int64: who was met
    time: Tensor  # (B,) as in the store
    negatives: Tensor  # (B, N) int64: who was not; -1 where there are fewer than N
    negative_src: Tensor  # (B, N) int64: the sources of the negatives; `src` for all where only the destination differs
    cut: int | Tensor  # position in the store: history is what comes before; a column (B, 1) for one each

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Sources and destinations to score, (B, 1 + N) each: the event's own first, then its negatives."""
        src = torch.cat((self.src[:, None], self.negative_src), dim=1)
        return src, torch.cat((self.dst[:, None], self.negatives), dim=1)


class Stretch(NamedTuple):
    """A batch of consecutive events `first` … `end`-1 and the cut up to which they may look."""

    first: int
    end: int
    cut: int


def stretches(store: EventStore, first: int, end: int, size: int = 200, *, strict: bool = True) -> Iterator[Stretch]:
    """Consecutive batches of `size` events that cover positions `first` … `end`-1; the last may be smaller.

    The cut of a batch is where its first event stands or, if `strict`, where events of that event's time begin, so that
    the order of rows within one time tells nothing. Published results of streaming rules are not strict.
    """
    for begin in range(first, end, size):
        cut = int(store.before(store.time[begin])) if strict else begin
        yield Stretch(begin, min(begin + size, end), cut)


def split_at_quantiles(store: EventStore, train: float = 0.70, validation: float = 0.15) -> tuple[int, int]:
    """Where validation and test begin: positions after the events at or before the time quantiles of the shares.

    The quantiles are those of the events' times, interpolated linearly as NumPy does; all events of one time fall into
    the same part.
    """
    if not len(store):
        return 0, 0
    times = store.time.double()
    every = torch.tensor(len(times))
    borders = torch.stack([quantile(times, share, every) for share in (train, train + validation)])
    first, second = torch.searchsorted(times, borders, side="right").tolist()
    return first, second


def quantile(ascending: Tensor, share: float, count: Tensor) -> Tensor:
    """The `share` quantile of the first `count` of sorted float64 values, linearly interpolated, shaped as `count`."""
    place = share * (count - 1).double()
    low = place.long()
    high = torch.minimum(low + 1, count - 1)
    return torch.lerp(ascending[low], ascending[high], place - low)


def _tensor(values: Any, name: str) -> Tensor:
    try:
        tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        kind = getattr(values, "dtype", type(values).__name__)
        raise EventError(f"Column {name} of type {kind} is not numeric.", "Give numbers.") from error
    if tensor.dim() == 0:
        raise EventError(f"Column {name} is a single value, {tensor.item()}.", "Give one value for each event.")
    return tensor


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _whole(values: Any, name: str) -> Tensor:
    tensor = _tensor(values, name)
    if len(tensor) and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        raise EventError(f"Column {name} is {_kind(tensor)}, not whole numbers.", "Number the nodes from 0.")
    tensor = _flat(tensor, name).to(torch.int64)
    _refuse(tensor < 0, name, tensor, "is below 0")
    return tensor


def _times(values: Any, name: str) -> Tensor:
    tensor = _flat(_tensor(values, name), name)
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise EventError(f"Column {name} is {_kind(tensor)}, which is no time.", "Give seconds or ticks from 0.")
    tensor = tensor.to(torch.float64 if tensor.is_floating_point() and len(tensor) else torch.int64)
    _refuse(~torch.isfinite(tensor), name, tensor, "is not finite")
    _refuse(tensor < 0, name, tensor, "is below 0")
    return tensor


def _flat(tensor: Tensor, name: str) -> Tensor:
    if tensor.dim() != 1:
        raise EventError(f"Column {name} has shape {tuple(tensor.shape)}.", "Give one value for each event.")
    return tensor


def _wide(values: Any, name: str, rows: int) -> Tensor:
    """The columns as float32 (E, width); no values are width 0."""
    if values is None:
        return torch.zeros(rows, 0)
    tensor = _tensor(values, name).to(torch.float32)
    if tensor.dim() > 2:
        raise EventError(f"Column {name} has shape {tuple(tensor.shape)}.", "Give one row for each event.")
    return tensor[:, None] if tensor.dim() == 1 else tensor


def _refuse(bad: Tensor, name: str, column: Tensor, why: str) -> None:
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise EventError(f"Column {name}, row {row}: {column[row].tolist()} {why}.", "Correct the row or leave it out.")
