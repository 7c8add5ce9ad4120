"""What nodes and pairs did before a moment: a few numbers each, for the decoder of Todyformer.

Not in the paper: ours. The strongest simple rules on graphs where pairs recur are "the latest partner first" and, for
pairs that never met, "who is popular lately first". Most recurring pairs last met outside of any window that an encoder
can read, and attention cannot count.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .events import EventStore
from .history import GroupedEvents

PAIR_FEATURES = 7
LOOKBACKS = (1 / 64, 1 / 16, 1 / 4, 1)  # in windows; all of the past comes on top
NODE_FEATURES = 2 * (len(LOOKBACKS) + 1) + 1


class PairFeatures(NamedTuple):
    """What is told of the P pairs that met, of all that are scored; of the others there is nothing to tell."""

    row: Tensor  # (P,) int64 query
    column: Tensor  # (P,) int64 candidate
    values: Tensor  # (P, F)


class Met(NamedTuple):
    """Whom some nodes have met."""

    row: Tensor  # (P,) int64 which of the nodes that were asked for
    partner: Tensor  # (P,) int64 id; ascending within a row
    number: Tensor  # (P,) int64 how often they met
    last: Tensor  # (P,) int64 position of their latest event


class Partners:
    """The partners of each node side by side, and when they met.

    `node`, `partner` and `event` (M,) are the entries, `event` a position in `store`. Memory: 40 bytes an entry and 56
    a pair.
    """

    def __init__(self, store: EventStore, node: Tensor, partner: Tensor, event: Tensor) -> None:
        nodes, count = max(store.nodes, 1), len(store)
        self.nodes, self.moment = store.nodes, store.before(store.time)  # (E,) the same for events of one time
        pairs, number = torch.unique(node * nodes + partner, return_inverse=True)
        self.partner, self.offsets = pairs % nodes, torch.searchsorted(pairs, torch.arange(store.nodes + 2) * nodes)
        self.meetings = GroupedEvents(number, event, len(pairs), count)
        self.events = GroupedEvents(node, event, store.nodes, count)
        first = self.meetings.event[self.meetings.offsets[:-1]]
        self.beginnings = GroupedEvents(pairs // nodes, first, store.nodes, count)

    def met(self, nodes: Tensor, cut: Tensor | int) -> Met:
        """Whom `nodes` (B,) had met before `cut`, one for all or one each, (B,): all of them, row by row."""
        inside = nodes.clamp(max=self.nodes)  # one past the last has no partners
        first, end = self.offsets[inside], self.offsets[(inside + 1).clamp(max=self.nodes + 1)]
        size = end - first
        row = torch.repeat_interleave(size)
        pair = torch.arange(len(row)) + (first - size.cumsum(0) + size)[row]
        begin, upto = self.meetings.span(pair, torch.as_tensor(cut).expand(len(nodes))[row])
        there = upto > begin
        return Met(row[there], self.partner[pair[there]], (upto - begin)[there], self.meetings.event[upto[there] - 1])

    def later_partners(self, nodes: Tensor, last: Tensor, cut: Tensor | int) -> Tensor:
        """How many partners `nodes` (P,) met later than event `last` (P,) and before `cut`, one for all or (P,).

        Takes memory for all partners of each distinct (node, cut).
        """
        step = len(self.moment) + 1
        asked, group = torch.unique(nodes * step + cut, return_inverse=True)
        met = self.met(asked // step, asked % step)
        keys = (met.row * step + self.moment[met.last]).sort().values
        upto = torch.searchsorted(keys, group * step + self.moment[last], right=True)
        return torch.searchsorted(keys, (group + 1) * step) - upto

    def later_events(self, nodes: Tensor, last: Tensor, cut: Tensor | int) -> Tensor:
        """How many events `nodes` (P,) had later than event `last` (P,) and before `cut`, one for all or (P,)."""
        after = torch.minimum(torch.searchsorted(self.moment, self.moment[last], right=True), torch.as_tensor(cut))
        return self.events.count(nodes, cut) - self.events.count(nodes, after)


class PairTable:
    """The meetings of every pair and the activity of every node.

    Undirected, (u, v) and (v, u) are one pair. `reciprocal` tells of (v, u) beside (u, v), for directed graphs where
    the one answers the other. `window` is the unit of the lookbacks, in events. All is asked as of a cut, one for all
    or one for each, as positions in `store`.
    """

    def __init__(self, store: EventStore, window: int, *, directed: bool = True, reciprocal: bool = False) -> None:
        self.store, self.directed = store, directed
        self.lookbacks = [max(1, int(window * share)) for share in LOOKBACKS]
        event = torch.arange(len(store))
        if directed:
            sent, received = (
                Partners(store, *ends, event) for ends in ((store.src, store.dst), (store.dst, store.src))
            )
            self.roles: tuple[Partners, ...] = (sent, received)
            self.sides = ((sent, received), (received, sent)) if reciprocal else ((sent, received),)
        else:
            other = store.src != store.dst
            ends = torch.cat((store.src, store.dst[other])), torch.cat((store.dst, store.src[other]))
            both = Partners(store, *ends, torch.cat((event, event[other])))
            self.roles, self.sides = (both,), ((both, both),)

    def features(self, src: Tensor, dst: Tensor, time: Tensor, cut: Tensor | int, unit: float) -> PairFeatures:
        """What the first `cut` events, of all or of each (B,), tell of pairs that met.

        Pairs are those of src (B,) at time (B,) with dst (B, K) or (1, K).

        Seven numbers: 1; log1p of the time since they met last in `unit`, divided by 10; log1p of how often they met;
        1 / (1 + the number of partners that the source met later); the share of the source's events that were theirs;
        log1p of how many events the source had later, and of how many the destination, divided by 3. "Later" goes by
        time, so that events of one time count alike. Undirected they are the mean of the views from both ends;
        reciprocal, those of (v, u) follow, and each half is 0 where there is nothing to tell.
        """
        cut = torch.as_tensor(cut).expand(len(src))
        span = max(self.store.nodes, int(dst.max()) + 1 if dst.numel() else 0)
        found = [self._met(own, other, src, time, cut, unit) for own, other in self.sides]
        keys = [met.row * span + met.partner for met, _ in found]
        known, place = torch.unique(torch.cat(keys), return_inverse=True)
        values = torch.zeros(len(known), len(found), PAIR_FEATURES)
        for side, (rows, (_, told)) in enumerate(zip(place.split([len(key) for key in keys]), found, strict=True)):
            values[rows, side] = told
        asked = (torch.arange(len(src))[:, None] * span + dst).flatten()
        if not len(known):
            return PairFeatures(known, known, values.flatten(1))
        at = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
        hit = (known[at] == asked).nonzero().squeeze(1)
        return PairFeatures(hit // dst.shape[1], hit % dst.shape[1], values[at[hit]].flatten(1))

    def _met(
        self, own: Partners, other: Partners, src: Tensor, time: Tensor, cuts: Tensor, unit: float
    ) -> tuple[Met, Tensor]:
        met = own.met(src, cuts)
        node, last, cut = src[met.row], met.last, cuts[met.row]
        gap = (time[met.row] - self.store.time[last]).float()
        near, there = own.later_partners(node, last, cut), other.later_events(met.partner, last, cut)
        told = self._told(met, gap / unit, own.events.count(node, cut), near, own.later_events(node, last, cut), there)
        if self.directed:
            return met, told
        near, there = other.later_partners(met.partner, last, cut), own.later_events(node, last, cut)
        count = other.events.count(met.partner, cut)
        back = self._told(met, gap / unit, count, near, other.later_events(met.partner, last, cut), there)
        return met, (told + back) / 2

    @staticmethod
    def _told(met: Met, gap: Tensor, count: Tensor, partners: Tensor, here: Tensor, there: Tensor) -> Tensor:
        return torch.stack(
            (
                torch.ones_like(gap),
                torch.log1p(gap) / 10,
                torch.log1p(met.number.float()),
                1 / (1 + partners.float()),
                met.number / count,
                torch.log1p(here.float()) / 3,
                torch.log1p(there.float()) / 3,
            ),
            dim=1,
        )

    def activity(self, nodes: Tensor, cut: Tensor | int, unit: float) -> Tensor:
        """What the first `cut` events tell of `nodes`: (…, F) float32, 0 for those without events.

        The shape of `nodes` and that of a tensor `cut` broadcast; a row of nodes (1, K) at a column of cuts (B, 1) is
        the fast one of many nodes. For each role, sender and receiver: log1p of how many events the node had among the
        last ones, for each lookback and at all, divided by 3; the same of how many new partners it met; 1 - log1p of
        the time since its last event in `unit`, divided by 10. A lookback that would begin within a time takes in all
        events of that time.
        """
        time, cut = self.store.time, torch.as_tensor(cut)
        shape = torch.broadcast_shapes(nodes.shape, cut.shape)
        if not len(time):
            return torch.zeros(*shape, NODE_FEATURES * len(self.roles))
        cut = cut.view(*[1] * (len(shape) - cut.dim()), *cut.shape)
        begins = [self.roles[0].moment[(cut - length).clamp(min=0)] for length in self.lookbacks]  # 0 where it is less
        ends = torch.stack((*begins, cut))
        table = len(shape) == 2 and nodes.shape[0] == 1 and cut.shape[1] == 1
        now = time[(cut - 1).clamp(min=0)]
        told = []
        for role in self.roles:
            events, partners = (
                kind.counts(nodes[0], ends.flatten()).view(-1, *shape) if table else kind.count(nodes, ends)
                for kind in (role.events, role.beginnings)
            )
            for number in (events, partners):
                within = torch.cat((number[-1] - number[:-1], number[-1:]))  # (lookbacks + 1, …)
                told.append(torch.log1p(within.float()) / 3)
            last = role.events.nth(nodes, events[-1])
            age = (now - time[last]).float() / unit
            told.append(torch.where(last >= 0, 1 - torch.log1p(age) / 10, 0.0)[None])
        return torch.cat(told).movedim(0, -1)
