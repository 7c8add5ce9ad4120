"""What two nodes had to do with each other before a moment: four numbers a pair, for the decoder of Todyformer.

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
    """The meetings of every pair and the departures of every node; undirected, (u, v) and (v, u) are one pair."""

    def __init__(self, store: EventStore, *, directed: bool = True) -> None:
        self.time, self.directed = store.time, directed
        self.pairs = PairHistory(store, directed=directed)
        self.partners = NeighborIndex(store, "src" if directed else "both").entries

    def features(self, src: Tensor, dst: Tensor, time: Tensor, cut: int, unit: float) -> Tensor:
        """What the first `cut` events tell of pairs: (B, K, 4) float32, for src and time (B,), dst (B, K) or (1, K).

        Whether they met, 0 or 1; log1p of the time since then in `unit`, divided by 10; log1p of how often they met;
        whether the source's latest event was with the destination, told by its time, so that events of one time count
        alike (undirected: the mean of both nodes' answers). The last three are 0 where the first is.
        """
        found = torch.zeros(len(src), dst.shape[1], PAIR_FEATURES)
        times, last = self.pairs.meetings(src[:, None], dst, cut)  # (B, K) each
        row, column = torch.nonzero(times, as_tuple=True)
        if len(row):
            met_at = self.time[last[row, column]]
            partner = (met_at == self.time[self.partners.last(src[row], cut)]).float()
            if not self.directed:
                other = dst.expand(len(src), -1)[row, column]
                partner = (partner + (met_at == self.time[self.partners.last(other, cut)]).float()) / 2
            gap = torch.log1p((time[row] - met_at).float() / unit) / 10
            count = torch.log1p(times[row, column].float())
            found[row, column] = torch.stack((torch.ones_like(gap), gap, count, partner), dim=1)
        return found
