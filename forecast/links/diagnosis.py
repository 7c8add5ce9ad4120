"""doctor on events: what a stream of links holds, how much of it repeats, and which fit to run next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..data import table
from ..data.events import EventTable
from ..diagnosis_text import fit_command
from . import diagnosis_page, diagnosis_text
from .settings import LinkTrain

STRETCHES = 120  # of the time, in which events are counted
_WINDOWS = [2**power for power in range(10, 15)]  # events; more is slow without an accelerator
_HELD = 0.8  # share of events whose known source should have its last event in the window


@dataclass(frozen=True)
class EventDiagnosis:
    """What `forecast doctor` found in a table of events: `document` is what its `--json` prints."""

    document: Mapping[str, Any]
    events: EventTable
    reason: str  # why this window is suggested

    @property
    def html(self) -> str:
        """The page: no scripts, no requests."""
        return diagnosis_page.render(self)

    @property
    def table(self) -> Any:
        """The clean table, in the frame library that the data came in; polars for a path."""
        return table.to_library(self._clean, self.events.table.library)

    def text(self, width: int = 80) -> str:
        """Give the page as lines of text of at most `width` characters, the command to run and names aside."""
        return diagnosis_text.text(self, width)

    def fix(self, path: str | Path) -> int:
        """Write the clean table (.csv or .parquet), in one go, and give its number of rows."""
        table.write(self._clean, path)
        return self._clean.height

    def save(self, path: str | Path) -> None:
        """Write the HTML page; the path holds the old file or the whole new one."""
        with table.replacing(Path(path)) as file:
            file.write(self.html.encode())

    @cached_property
    def _clean(self) -> pl.DataFrame:
        """The used columns of every event as they were given, by time."""
        columns = self.events.columns
        used = [columns.src, columns.dst, columns.time, *columns.features]
        used += [] if columns.label is None else [columns.label]
        names = {columns.src: "src", columns.dst: "dst", columns.time: "t"} if columns.src.isdigit() else {}
        return self.events.table.collect(*used)[self.events.store.order.numpy()].rename(names)

    @cached_property
    def over_time(self) -> tuple[np.ndarray, np.ndarray]:
        """Events in each of equal stretches of the time: where they begin, (M,) datetime64[us] or numbers; (M,)."""
        times = self.events.store.time.numpy()
        counts, edges = np.histogram(times, bins=min(STRETCHES, len(np.unique(times))))
        begins = edges[:-1]
        return begins if self.events.time_type.steps else begins.astype(np.int64).astype("datetime64[us]"), counts

    @cached_property
    def degrees(self) -> dict[str, np.ndarray]:
        """Events of each source and of each destination, (N,) each, of those that have any."""
        ends = {"sources": self.events.store.src, "destinations": self.events.store.dst}
        return {name: nodes.unique(return_counts=True)[1].numpy() for name, nodes in ends.items()}


def diagnose(source: Any, found: EventTable, settings: Sequence[str], options: Mapping[str, Any]) -> EventDiagnosis:
    """Describe events that were read; `source`, `settings` and `options` are as given, for the command to run next."""
    window, held = suggested_window(found)
    chosen = [*settings, *([] if any(s.startswith("model.window=") for s in settings) else [f"model.window={window}"])]
    facts = found.facts
    keys = ["kind", "rows", "events", "nodes", "sources", "destinations", "bipartite", "directed"]
    first, second = found.borders
    ends = {"source": found.store.src.numpy(), "destination": found.store.dst.numpy()}
    document = {
        **{key: facts[key] for key in keys},
        "format": found.table.format,
        "columns": facts["columns"],
        "time": "numbers" if found.time_type.steps else "calendar",
        **{key: facts[key] for key in ("span", "times", "pairs", "repeats", "surprise")},
        "new_nodes": {
            name: round(1 - float(np.isin(nodes[second:], nodes[:first]).mean()), 4) for name, nodes in ends.items()
        },
        **{key: facts[key] for key in ("split", "parts")},
        **found.ledger.to_dict(),
        "suggest": {
            "model": "todyformer",
            "window": window,
            "command": fit_command(source, "todyformer", chosen, options, "frame"),
        },
    }
    told = f"{held:.0%} of the events of a known source have its last one in the {window:,} events before their batch"
    return EventDiagnosis(document, found, told)


def suggested_window(found: EventTable) -> tuple[int, float]:
    """How many events a network should read before each batch, and the share of events that this serves.

    The least power of two, from 1,024 to 16,384 and no more than there are training events, in which 80 % of the
    events whose source was seen before its batch find the last event of that source. Counted before the test part.
    """
    src, size = found.store.src.numpy()[: found.borders[1]], LinkTrain.batch_size
    batch = np.arange(len(src)) // size
    # Sources of each batch, by source, then batch: an entry of the same source above tells when it was last seen.
    keys, where, counts = np.unique(src * (batch[-1] + 1) + batch, return_inverse=True, return_counts=True)
    last = np.zeros(len(keys), np.int64)
    last[where] = np.arange(len(src))  # of positions that rise, the last one stays
    owner, begin = keys // (batch[-1] + 1), keys % (batch[-1] + 1) * size
    again = owner[1:] == owner[:-1]
    apart, weight = (begin[1:] - last[:-1])[again], counts[1:][again]
    fitting = [window for window in _WINDOWS if window <= found.borders[0]] or [found.borders[0]]
    shares = [float(weight[apart <= window].sum() / max(weight.sum(), 1)) for window in fitting]
    place = next((place for place, share in enumerate(shares) if share >= _HELD), len(fitting) - 1)
    return fitting[place], shares[place]
