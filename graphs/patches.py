"""Windows of events, cut into patches: the graph that Todyformer's encoder reads, made of integers alone.

`window_rows` says which events a group of queries may see; `window_graph` cuts them into patches of equal size, in
time order, and lists one token for each (node, patch) that an event touches. All patches are one disjoint graph:
there is no loop over patches, nodes or events. Symbols: w events in the window, M patches, n distinct nodes,
T tokens, m messages.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .events import EventStore


class Sequences(NamedTuple):
    """The tokens of some nodes, a row each: which token stands where."""

    place: Tensor  # (nodes, length) int64 token; where absent, any token of the same node
    present: Tensor  # (nodes, length) bool
    tokens: Tensor  # (present ones,) int64: place[present]


class WindowGraph(NamedTuple):
    """A window of events as tokens and messages. Holds no parameters and nothing of the queries."""

    start: int  # rows start … cut - 1 of the store are in the window
    cut: int
    patches: int
    first_time: Tensor  # () time of the window's first event, in the store's type; 0 where the window is empty
    last_time: Tensor  # () time of its last event
    nodes: Tensor  # (n,) int64 ids, ascending
    node_time: Tensor  # (n,) time of each node's last event
    node_latest: Tensor  # (n,) int64 token of each node in the latest patch that has it
    token_node: Tensor  # (T,) int64 row in `nodes`; tokens are sorted by node, then patch
    token_patch: Tensor  # (T,) int64
    token_age: Tensor  # (T,) time from the node's last event in the patch to the window's last event
    event_age: Tensor  # (w,) time from each event to the window's last event
    event_features: Tensor  # (w, F)
    source: Tensor  # (m,) int64 token that sends
    target: Tensor  # (m,) int64 token that receives
    event: Tensor  # (m,) int64 event, 0 … w - 1
    role: Tensor  # (m,) int64: 0 where the sender is the event's source, 1 where its destination
    counts: Tensor  # (m, 3 or 4) int64: events of the sender, of the receiver, of the pair; common neighbours
    sequences: tuple[Sequences, ...]  # every node once


def window_rows(store: EventStore, before: float | Tensor, size: int, snap_ties: bool = True) -> tuple[int, int]:
    """First row and end of the last `size` events strictly before the time `before`.

    With `snap_ties`, a group of equal times that the start would cut in two is left out, so that the order of
    events of one time does not matter; unless that would leave less than half of `size`.
    """
    time = store.time
    cut = int(store.before(before))
    start = max(0, cut - size)
    if snap_ties and start and time[start - 1] == time[start]:
        after = int(torch.searchsorted(time, time[start], right=True))
        if 2 * (cut - after) >= size:
            start = after
    return start, cut


def patch_numbers(time: Tensor, patches: int, snap_ties: bool = True) -> Tensor:
    """The patch of each event of a window (w,): consecutive, equally large to within one, the last is `patches` - 1.

    With `snap_ties`, events of one time share the patch of the last of them; a patch may then be empty. A window
    of fewer events than patches fills the last ones.
    """
    events = len(time)
    filled = min(patches, events)
    last = torch.arange(events, device=time.device)
    if snap_ties:
        last = torch.searchsorted(time, time, right=True) - 1
    return (patches - filled) + last * filled // max(events, 1)


def running_counts(group: Tensor, when: Tensor, asked: Tensor, asked_when: Tensor) -> Tensor:
    """How many entries of the asked group there are up to the asked time, that time included: as `asked`, int64.

    Entry i belongs to the group `group[i]` at the rank `when[i]`, both (entries,) int64 and not negative.
    """
    span = int(torch.cat((when, asked_when)).amax()) + 1 if len(when) + len(asked_when) else 1
    keys = torch.sort(group * span + when).values
    upto = torch.searchsorted(keys, asked * span + asked_when, right=True)
    return upto - torch.searchsorted(keys, asked * span)


def common_neighbours(source: Tensor, destination: Tensor, when: Tensor, nodes: int) -> Tensor:
    """How many nodes have met both ends of each event up to its time, that time included: (w,) int64.

    Meetings count in either direction, a node is no neighbour of itself. `when` (w,) int64 are ranks of the times,
    not decreasing; ids are below `nodes`. Takes memory for one entry per event and neighbour of the end that has
    fewer of them.
    """
    apart = source != destination
    low, high = torch.minimum(source, destination)[apart], torch.maximum(source, destination)[apart]
    pairs, number = torch.unique(low * nodes + high, return_inverse=True)
    met = when.new_full((len(pairs),), len(source) + 1).scatter_reduce(0, number, when[apart], "amin")
    ends = torch.cat((pairs // nodes, pairs % nodes))
    order = torch.argsort(ends, stable=True)
    others = torch.cat((pairs % nodes, pairs // nodes))[order]
    met_others = torch.cat((met, met))[order]
    degree = torch.bincount(ends, minlength=nodes)
    offset = degree.cumsum(0) - degree

    swap = degree[source] > degree[destination]
    few, many = torch.where(swap, destination, source), torch.where(swap, source, destination)
    event = torch.repeat_interleave(torch.arange(len(source), device=source.device), degree[few])
    within = torch.arange(len(event), device=source.device)
    entry = within + (offset[few] - (degree[few].cumsum(0) - degree[few]))[event]
    third, third_met, other = others[entry], met_others[entry], many[event]
    key = torch.minimum(third, other) * nodes + torch.maximum(third, other)
    place = torch.searchsorted(pairs, key).clamp(max=max(len(pairs) - 1, 0))
    closed = (pairs[place] == key) & (third_met <= when[event]) & (met[place] <= when[event])
    return torch.zeros_like(source).index_add(0, event, closed.to(source.dtype))


def sequences(
    token_node: Tensor, token_patch: Tensor, nodes: int, patches: int, bucketed: bool
) -> tuple[Sequences, ...]:
    """The tokens of each node in a row, patch after patch.

    One table of `patches` columns with gaps where a node is absent, or, `bucketed`, up to three tables for nodes
    of one token, of at most a quarter of the patches, and of more, each as short as its fullest row.
    """
    count = torch.bincount(token_node, minlength=nodes)
    first = count.cumsum(0) - count
    if not bucketed:
        slot = token_node * patches + token_patch
        index = first.repeat_interleave(patches).index_copy(0, slot, torch.arange(len(slot), device=slot.device))
        present = torch.zeros_like(index, dtype=torch.bool).index_fill(0, slot, True)
        return (_table(index.view(nodes, patches), present.view(nodes, patches)),)
    tables = []
    for above, upto in ((0, 1), (1, patches // 4), (max(1, patches // 4), patches)):
        rows = torch.nonzero((count > above) & (count <= upto)).squeeze(1)
        if len(rows):
            column = torch.arange(int(count[rows].amax()), device=count.device)
            present = column < count[rows, None]
            tables.append(_table(first[rows, None] + torch.where(present, column, 0), present))
    return tuple(tables)


def _table(index: Tensor, present: Tensor) -> Sequences:
    return Sequences(index, present, index[present])


def window_graph(
    store: EventStore,
    before: float | Tensor,
    size: int,
    patches: int,
    *,
    snap_ties: bool = True,
    count_common: bool = False,
    bucketed: bool | None = None,
) -> WindowGraph:
    """The last `size` events strictly before the time `before`, as tokens of `patches` patches and their messages.

    `count_common` adds common neighbours to the counts. `bucketed` is the form of `sequences`; None takes buckets
    where they save more than three quarters of the table.
    """
    start, cut = window_rows(store, before, size, snap_ties)
    src, dst, time = store.src[start:cut], store.dst[start:cut], store.time[start:cut]
    events = cut - start
    row = torch.arange(events, device=src.device)
    patch = patch_numbers(time, patches, snap_ties)

    nodes, end = torch.unique(torch.cat((src, dst)), return_inverse=True)
    token, end_token = torch.unique(end * patches + torch.cat((patch, patch)), return_inverse=True)
    token_node, token_patch = token // patches, token % patches
    latest = row.new_zeros(len(nodes)).scatter_reduce(0, end, row.repeat(2), "amax")
    token_latest = row.new_zeros(len(token)).scatter_reduce(0, end_token, row.repeat(2), "amax")
    first_time, last_time = (time[0], time[-1]) if events else (time.new_zeros(()), time.new_zeros(()))

    # A self-loop sends one message and counts once in its node's degree.
    back = torch.nonzero(src != dst).squeeze(1)
    sender = torch.cat((row, back + events))  # place in `end`
    receiver = torch.cat((row + events, back))
    event = torch.cat((row, back))
    when = torch.searchsorted(time, time)  # equal times, equal rank
    entry = torch.cat((row, back + events))
    degree = running_counts(end[entry], when[event], end, when.repeat(2))
    low, high = torch.minimum(end[:events], end[events:]), torch.maximum(end[:events], end[events:])
    pair = low * len(nodes) + high
    counts = [degree[sender], degree[receiver], running_counts(pair, when, pair, when)[event]]
    if count_common:
        counts.append(common_neighbours(end[:events], end[events:], when, len(nodes))[event])

    if bucketed is None:
        bucketed = len(nodes) * patches > 4 * len(token)
    return WindowGraph(
        start=start,
        cut=cut,
        patches=patches,
        first_time=first_time,
        last_time=last_time,
        nodes=nodes,
        node_time=time[latest],
        node_latest=torch.bincount(token_node, minlength=len(nodes)).cumsum(0) - 1,
        token_node=token_node,
        token_patch=token_patch,
        token_age=last_time - time[token_latest],
        event_age=last_time - time,
        event_features=store.features[start:cut],
        source=end_token[sender],
        target=end_token[receiver],
        event=event,
        role=(sender >= events).long(),
        counts=torch.stack(counts, dim=1),
        sequences=sequences(token_node, token_patch, len(nodes), patches, bucketed),
    )
