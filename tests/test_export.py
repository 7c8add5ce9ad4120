"""`torch.export`: every network becomes a graph that takes any batch, and any variates where the network does."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forecast.data.windows import Window, WindowShape
from forecast.models import (
    TSM2,
    Informer,
    InformerConfig,
    ITransformer,
    ITransformerConfig,
    SMamba,
    SMambaConfig,
    TSM2Config,
)

SHAPE = WindowShape(lookback=24, horizon=12, variates=5, targets=5, time_features=3)
NETWORKS: dict[str, tuple[Any, Any]] = {
    "informer": (Informer, InformerConfig(d_model=16, d_ff=24, heads=2, start_token=8)),
    "informer, full attention": (
        Informer,
        InformerConfig(d_model=16, d_ff=24, heads=2, start_token=8, attention="full"),
    ),
    "itransformer": (ITransformer, ITransformerConfig(d_model=16, d_ff=24, heads=2)),
    "s-mamba": (SMamba, SMambaConfig(d_model=16, d_ff=24, d_state=4, layers=1)),
    "tsm2": (TSM2, TSM2Config(d_model=16, patch_len=8, stride=4)),
    "tsm2 without scans": (
        TSM2,
        TSM2Config(d_model=16, patch_len=8, stride=4, token_mixer="linear", channel_mixer="mlp"),
    ),
}
SCANS = {"s-mamba": 2, "tsm2": 6}  # one a direction; in each of two blocks one over time, two over variates


class Unpacked(nn.Module):
    """A network that takes the tensors of a window one by one, as `torch.export` does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, past: Tensor, seen: Tensor, past_time: Tensor, future_time: Tensor) -> Tensor:
        out: Tensor = self.net(Window.of(past, seen, past_time, future_time))
        return out


def window(batch: int, variates: int) -> tuple[Tensor, ...]:
    """Noise of which a tenth is missing."""
    draw = torch.Generator().manual_seed(batch)
    past, chance = (torch.rand(batch, 24, variates, generator=draw) for _ in range(2))
    time = torch.rand(batch, 36, 3, generator=draw) - 0.5
    seen = chance <= 0.9
    return past.masked_fill(~seen, 0.0), seen, time[:, :24], time[:, 24:]


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_network_takes_any_batch_and_variates(name: str) -> None:
    build, config = NETWORKS[name]
    torch.manual_seed(1)
    net = Unpacked(build(SHAPE, config)).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    series = {0: batch, 2: torch.export.Dim("variates", min=1, max=1024)} if net.net.any_variates else {0: batch}
    sizes = {"past": series, "seen": series, "past_time": {0: batch}, "future_time": {0: batch}}
    exported = torch.export.export(net, window(4, 5), dynamic_shapes=sizes)
    scans = [node for node in exported.graph.nodes if "selective_scan" in str(node.target)]
    assert len(scans) == SCANS.get(name, 0)  # each one node: steps written out would fix their number
    run = exported.module()
    for size in ((1, 5), (9, 5), *([(9, 7), (3, 1), (2, 40)] if net.net.any_variates else [])):
        given = window(*size)
        assert torch.allclose(run(*given), net(*given), rtol=0, atol=1e-6), size


class WithCovariates(nn.Module):
    """The same of a window that has covariates, whose future is known, and static features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, past: Tensor, seen: Tensor, early: Tensor, late: Tensor, known: Tensor, static: Tensor) -> Tensor:
        out: Tensor = self.net(Window(past, seen, early, late, known, static))
        return out


@pytest.mark.parametrize("calendar", [False, True])
def test_exported_network_with_covariates_takes_any_batch_and_variates(calendar: bool) -> None:
    torch.manual_seed(1)
    shape = WindowShape(24, 12, variates=5, targets=5, time_features=3, known=2, static=2)
    net = WithCovariates(TSM2(shape, TSM2Config(d_model=16, patch_len=8, calendar=calendar))).eval()
    batch, variates = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("variates", min=1, max=64)
    series, rows = {0: batch, 2: variates}, {0: batch}
    sizes = (series, series, rows, rows, rows, {0: batch, 1: variates})

    def given(size: int, width: int) -> tuple[Tensor, ...]:
        return (*window(size, width), torch.randn(size, 36, 2), torch.randn(size, width, 2))

    run = torch.export.export(net, given(4, 5), dynamic_shapes=sizes).module()
    for size in ((1, 5), (9, 5), (3, 7), (2, 1)):
        values = given(*size)
        assert torch.allclose(run(*values), net(*values), rtol=0, atol=1e-6), size
