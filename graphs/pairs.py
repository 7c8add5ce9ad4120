"""What two nodes had to do with each other before a moment: a few numbers a pair, for the decoder of Todyformer.

Not in the paper: ours. The strongest simple rule on graphs where pairs recur is "the latest partner first", and most
recurring pairs last met outside of any window that an encoder can read.
"""

import torch
from torch import Tensor

from .events import EventStore
from .history import PairHistory
from .neighbors import NeighborIndex

PAIR_FEATURES = 4


class PairTable:
    """The meetings of every pair and the departures of every node.

    Undirected, (u, v) and (v, u) are one pair. `reciprocal` tells of (v, u) beside (u, v), for directed graphs where
    the one answers the other.
    """

    def __init__(self, store: EventStore, *, directed: bool = True, reciprocal: bool = False) -> None:
        self.time, self.directed, self.reciprocal = store.time, directed, reciprocal
        self.pairs = PairHistory(store, directed=directed)
        self.partners = NeighborIndex(store, "src" if directed else "both").entries

    def features(self, src: Tensor, dst: Tensor, time: Tensor, cut: int, unit: float) -> Tensor:
        """What the first `cut` events tell of pairs: (B, K, 4) float32, for src and time (B,), dst (B, K) or (1, K).

        Whether they met, 0 or 1; log1p of the time since then in `unit`, divided by 10; log1p of how often they met;
        whether the source's latest event was with the destination, told by its time, so that events of one time count
        alike (undirected: the mean of both nodes' answers). The last three are 0 where the first is. Reciprocal, the
        same four of (v, u) follow.
        """
        source, dst = src[:, None].expand(-1, dst.shape[1]), dst.expand(len(src), -1)
        found = self._met(source, dst, time, cut, unit)
        return torch.cat((found, self._met(dst, source, time, cut, unit)), dim=2) if self.reciprocal else found

    def _met(self, u: Tensor, v: Tensor, time: Tensor, cut: int, unit: float) -> Tensor:
        found = torch.zeros(*u.shape, PAIR_FEATURES)
        times, last = self.pairs.meetings(u, v, cut)  # (B, K) each
        row, column = torch.nonzero(times, as_tuple=True)
        if len(row):
            met_at = self.time[last[row, column]]
            partner = (met_at == self._latest(u[row, column], cut)).float()
            if not self.directed:
                partner = (partner + (met_at == self._latest(v[row, column], cut)).float()) / 2
            gap = torch.log1p((time[row] - met_at).float() / unit) / 10
            count = torch.log1p(times[row, column].float())
            found[row, column] = torch.stack((torch.ones_like(gap), gap, count, partner), dim=1)
        return found

    def _latest(self, nodes: Tensor, cut: int) -> Tensor:
        return self.time[self.partners.last(nodes, cut)]
