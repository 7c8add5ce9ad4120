"""Shares within groups of rows: softmax where each row belongs to one of many groups of any size."""

import torch
from torch import Tensor


def segment_softmax(logits: Tensor, group: Tensor, groups: int) -> Tensor:
    """Shares (m, A) that add up to 1 in each group, a column at a time, of logits (m, A); `group` (m,) int64."""
    where = group[:, None].expand_as(logits)
    peak = logits.new_zeros(groups, logits.shape[1]).scatter_reduce(
        0, where, logits.detach(), "amax", include_self=False
    )
    raised = torch.exp(logits - peak[group])
    total = torch.zeros_like(peak).index_add(0, group, raised)
    return raised / total.index_select(0, group)
