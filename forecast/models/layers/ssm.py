"""The selective state space: the scan, plain and fast, and the Mamba block around it.

Source: Albert Gu, Tri Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
https://arxiv.org/abs/2312.00752; cited below by its sections. Authors' code:
https://github.com/state-spaces/mamba, version 1.2.0. Both scans here add a start state to it.

Differs from the authors' code: the scan runs over blocks that stay in the cache, and its backward pass
computes the states again from every few kept ones, so that memory does not grow with states times steps.
"""

import math
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, silu, softplus

from . import native_scan, torch_scan

_NAMESPACE = __name__.replace(".", "_")  # of the operators below: another one in a copy under another name
_NATIVE = native_scan.available()  # chosen once, when this is imported


def scan_path(device: str = "cpu") -> str:
    """How float32 is scanned on a kind of device: "native" (compiled here), "mamba_ssm" (the authors') or "torch"."""
    if device == "cuda" and _cuda_kernel() is not None:
        return "mamba_ssm"
    return "native" if device == "cpu" and _NATIVE else "torch"


def scan_note(device: str = "cpu") -> str:
    """The same in a line for users, who may want the fast path."""
    path = scan_path(device)
    hint = {
        "cpu": ", 2 to 4 times slower than native, which is built where forecast is installed beside a C compiler",
        "cuda": "; mamba_ssm, which is faster, is not installed or does not load",
    }
    return f"selective scan: {path}{hint.get(device, '') if path == 'torch' else ''}"


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803 (the paper's symbols)
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
) -> Any:
    """What `scan_reference` gives, many times faster; differentiable once.

    Takes and gives the layout of `scan_reference`; no copies are made of views of arrays whose channels are last.
    Computes in float32 or wider, whatever autocast says, and gives the output in the precision of `u`.
    """
    batch, channels, steps = u.shape
    inputs, outputs = (_by_groups(matrix, batch, steps) for matrix in (B, C))  # (L, B, G, N)
    # Channels of a group share B and C: groups are so many more items of the batch, P = B * G, of D / G channels.
    groups = max(inputs.shape[2], outputs.shape[2])

    def matrix(given: Tensor) -> Tensor:
        all_groups = given if groups == 1 else given.repeat_interleave(groups // given.shape[2], 2)
        return all_groups.flatten(1, 2)  # (L, P, N)

    def sequence(given: Tensor) -> Tensor:
        turned = given.permute(2, 0, 1)
        return turned if groups == 1 else turned.reshape(steps, batch * groups, channels // groups)  # (L, P, W)

    def constant(given: Tensor) -> Tensor:
        """Of (channels, ...): (1, W, ...) or, where channels of a group are told apart, (P, W, ...)."""
        if groups == 1:
            return given.unsqueeze(0)
        return given.unflatten(0, (groups, channels // groups)).repeat(batch, *(1 for _ in given.shape))

    start = None
    if initial_state is not None:
        start = initial_state.reshape(batch * groups, channels // groups, -1).transpose(1, 2)  # (P, N, W)
    out, last = _scan(
        sequence(u),
        sequence(delta),
        constant(A).transpose(1, 2),
        matrix(inputs),
        matrix(outputs),
        None if D is None else constant(D),
        None if z is None else sequence(z),
        None if delta_bias is None else constant(delta_bias),
        start,
        delta_softplus,
        last_needed=return_last_state,
    )
    out = (out if groups == 1 else out.reshape(steps, batch, channels)).permute(1, 2, 0)  # (B, channels, L)
    return (out, last.transpose(1, 2).reshape(batch, channels, -1)) if return_last_state else out


def scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803 (the paper's symbols)
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
) -> Any:
    """The scan step by step, to test against: (B, channels, L), and with `return_last_state` the last state.

    `u`, `delta`, `z` are (B, channels, L); `A` (channels, N); `D`, `delta_bias` (channels,); `B` and `C`
    (channels, N) constant, or (B, N, L), or (B, groups, N, L) for groups of neighbouring channels; states
    (B, channels, N). Source: §3.2, algorithm 2; §2, equation 2a and, simplified for B, equation 4.
    """
    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    if delta_softplus:
        dt = softplus(dt)
    inputs, outputs = (_by_channels(matrix, u) for matrix in (B, C))  # (B, channels, N, L)
    state = u.new_zeros(*u.shape[:2], A.shape[1]) if initial_state is None else initial_state
    read = []
    for step in range(u.shape[2]):
        decay = torch.exp(dt[:, :, step, None] * A)  # (B, channels, N)
        state = decay * state + (dt * u)[:, :, step, None] * inputs[..., step]
        read.append((state * outputs[..., step]).sum(2))
    out = torch.stack(read, dim=2)  # (B, channels, L)
    if D is not None:
        out = out + D[:, None] * u
    if z is not None:
        out = out * silu(z)
    return (out, state) if return_last_state else out


def _by_channels(matrix: Tensor, u: Tensor) -> Tensor:
    """B or C in any of its forms, written out: (B, channels, N, L)."""
    batch, channels, steps = u.shape
    if matrix.dim() == 2:
        return matrix[None, :, :, None].expand(batch, -1, -1, steps)
    grouped = matrix[:, None] if matrix.dim() == 3 else matrix
    return grouped.repeat_interleave(channels // grouped.shape[1], dim=1)


def _by_groups(matrix: Tensor, batch: int, steps: int) -> Tensor:
    """B or C in any of its forms, time first: (L, B, groups, N); a constant one has a group a channel."""
    if matrix.dim() == 2:
        return matrix.expand(steps, batch, -1, -1)
    grouped = matrix[:, None] if matrix.dim() == 3 else matrix
    return grouped.permute(3, 0, 1, 2)


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
    start: Tensor | None,
    soft: bool,
    *,
    last_needed: bool,
) -> tuple[Tensor, Any]:
    """The scan by the fastest path: arguments and results as those of `torch_scan.forward`."""
    given = _in_one_precision(u, delta, A, B, C, D, z, bias, start)
    if torch.compiler.is_compiling():
        out, last = _scan_op(*given, soft)
    elif not last_needed and start is None and _cuda_kernel_takes(given[0], A):
        out, last = _by_cuda_kernel(soft, *given[:-1]), None
    else:
        out, last = _Scan.apply(*given, soft)  # type: ignore[no-untyped-call]
    return out.to(u.dtype), last


def _in_one_precision(*given: Tensor | None) -> list[Any]:
    """The same in float64 where anything is, else in float32."""
    wide = any(tensor is not None and tensor.dtype == torch.float64 for tensor in given)
    return [None if tensor is None else tensor.to(torch.float64 if wide else torch.float32) for tensor in given]


def _path(u: Tensor) -> Any:
    """The module whose `forward` and `backward` compute the scan of `u`."""
    return native_scan if _NATIVE and u.device.type == "cpu" and u.dtype == torch.float32 else torch_scan


class _Scan(torch.autograd.Function):
    """The scan and its gradient. Saved for backward: the inputs, and the states of every few steps."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        *inputs, start, soft = given
        ctx.path, ctx.soft, ctx.started = _path(inputs[0]), soft, start is not None
        out, last, kept = ctx.path.forward(*inputs, start, soft)
        ctx.save_for_backward(*inputs, kept)
        ctx.set_materialize_grads(False)
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        grad_out = torch.zeros_like(given[0]) if grad_out is None else grad_out
        *gradients, of_start = ctx.path.backward(*given, ctx.soft, grad_out, grad_last)
        return *gradients, of_start if ctx.started else None, None


@torch.library.custom_op(f"{_NAMESPACE}::selective_scan", mutates_args=())
def _scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
    start: Tensor | None,
    soft: bool,
) -> tuple[Tensor, Tensor]:
    """The scan as one node of an exported or compiled graph. Without one, it would cost a small scan 40 % more."""
    out, last, _ = _path(u).forward(u, delta, A, B, C, D, z, bias, start, soft)
    return out.contiguous(), last.contiguous()


@_scan_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *others: Any) -> tuple[Tensor, Tensor]:  # noqa: N803
    return u.new_empty(u.shape), u.new_empty(u.shape[1], *A.shape[1:])


@torch.library.custom_op(f"{_NAMESPACE}::selective_scan_backward", mutates_args=())
def _scan_backward_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
    start: Tensor | None,
    soft: bool,
    grad_out: Tensor,
    grad_last: Tensor,
) -> list[Tensor]:
    """Gradients by all tensors that were given, in their order."""
    # What the forward pass kept depends on the path, so a graph cannot hold it.
    kept = _path(u).forward(u, delta, A, B, C, D, z, bias, start, soft)[2]
    found = _path(u).backward(u, delta, A, B, C, D, z, bias, kept, soft, grad_out, grad_last)
    given = (u, delta, A, B, C, D, z, bias, start)
    return [by.contiguous() for by, tensor in zip(found, given, strict=True) if tensor is not None]


@_scan_backward_op.register_fake
def _(*given: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in given[:9] if tensor is not None]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.soft = inputs
    ctx.save_for_backward(*tensors)


def _scan_op_backward(ctx: Any, grad_out: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    found = iter(_scan_backward_op(*ctx.saved_tensors, ctx.soft, grad_out, grad_last))
    return *(None if tensor is None else next(found) for tensor in ctx.saved_tensors), None


_scan_op.register_autograd(_scan_op_backward, setup_context=_keep_inputs)


@cache
def _cuda_kernel() -> Any:
    """The scan of the authors' package, or None where that is not installed or does not load."""
    try:
        return import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None


def _cuda_kernel_takes(u: Tensor, A: Tensor) -> bool:  # noqa: N803
    """Whether it computes this: it knows neither float64, nor more than 256 states, nor an A for each item."""
    wide = torch.float64 in (u.dtype, A.dtype)
    return u.is_cuda and not wide and A.shape[0] == 1 and A.shape[1] <= 256 and _cuda_kernel() is not None


def _by_cuda_kernel(
    soft: bool,
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """What is read, by the authors' kernel; it takes no start state, and lets no gradient through the last one."""
    # Not run where it was written, without a CUDA device: a test puts the plain scan in the kernel's place.
    u, delta, B, C = (given.permute(1, 2, 0) for given in (u, delta, B, C))  # noqa: N806 (time last)
    out: Tensor = _cuda_kernel()(
        u,
        delta,
        A[0].T.contiguous(),
        B,
        C,
        None if D is None else D[0],
        None if z is None else z.permute(1, 2, 0),
        None if bias is None else bias[0],
        soft,
    )
    return out.permute(2, 0, 1)


class MambaState(NamedTuple):
    """What a Mamba block keeps between steps."""

    recent: Tensor  # (B, d_inner, d_conv) last inputs of the convolution, oldest first
    scan: Tensor  # (B, d_inner, N)


class SelectiveChain(nn.Module):
    """A causal convolution and the selective scan that reads its own step sizes, inputs and outputs from it (§3.2).

    `width` channels, `d_state` is N; `d_conv` is the width of the convolution, in steps, and `rank` that of the
    projection to step sizes. Parameters have the authors' names.
    """

    def __init__(self, width: int, d_state: int, d_conv: int, rank: int) -> None:
        super().__init__()
        self._make(width, d_state, d_conv, rank)
        self._start_with_short_steps()

    def _make(self, width: int, d_state: int, d_conv: int, rank: int, conv_bias: bool = True) -> None:
        self.rank = rank
        # Holds the weights; applied below, channels last, which saves two transpositions.
        self.conv1d = nn.Conv1d(width, width, d_conv, groups=width, bias=conv_bias)
        self.x_proj = nn.Linear(width, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, width)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(width, 1))  # §3.6: A = -1, -2, ...
        self.D = nn.Parameter(torch.ones(width))

    @torch.no_grad()
    def _start_with_short_steps(self) -> None:
        """Draw dt from 0.001 to 0.1, evenly in its logarithm (§3.6)."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        dt = torch.empty_like(self.dt_proj.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp().clamp(min=1e-4)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt back

    def forward(self, inputs: Tensor, gate: Tensor) -> Tensor:
        """What the scan reads, times SiLU of the gate: (L, B, width), from (L, B, width) each."""
        before = pad(inputs.transpose(0, 1), (0, 0, self.conv1d.kernel_size[0] - 1, 0))
        return self._read(before, gate, None, last_needed=False)[0]

    def _read(self, before: Tensor, gate: Tensor, state: Tensor | None, *, last_needed: bool) -> tuple[Tensor, Any]:
        """Convolution and scan: (L, B, width), and the last state (B, N, width), which is also that of `state`.

        `before` are the inputs with the d_conv - 1 steps before them, items first: (B, d_conv - 1 + L, width).
        """
        taps, bias = self.conv1d.weight[:, 0], self.conv1d.bias  # (width, d_conv), (width,) or None
        mixed = taps.new_zeros(len(taps)) if bias is None else bias
        for lag in range(taps.shape[1]):
            mixed = torch.addcmul(mixed, before[:, lag : lag + gate.shape[0]], taps[:, lag])
        u = silu(mixed)  # (B, L, width)
        states = self.A_log.shape[1]
        dt, B, C = self.x_proj(u).split((self.rank, states, states), dim=2)  # noqa: N806
        return _scan(
            u.transpose(0, 1),
            torch.matmul(dt, self.dt_proj.weight.T).transpose(0, 1),
            -self.A_log.exp().T.unsqueeze(0),  # (1, N, width)
            B.transpose(0, 1),
            C.transpose(0, 1),
            self.D.unsqueeze(0),
            gate,
            self.dt_proj.bias.unsqueeze(0),  # added inside the scan, before softplus
            state,
            True,
            last_needed=last_needed,
        )


class MambaBlock(SelectiveChain):
    """A sequence read step by step, each output informed by all steps up to it: (B, L, D) in and out (§3.4).

    `d_state` is N; the scan runs in `expand * d_model` channels, d_inner; `d_conv` is the width of the causal
    convolution, in steps. `dt_rank` "auto" is d_model / 16, rounded up.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        inner = expand * d_model
        # Made in the authors' order, so that a seed draws the same initial weights.
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias)
        self._make(inner, d_state, d_conv, -(-d_model // 16) if dt_rank == "auto" else int(dt_rank), conv_bias)
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        self._start_with_short_steps()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """The whole sequence at once: (B, L, D) in and out."""
        inputs, gate = self.in_proj(x).transpose(0, 1).chunk(2, dim=2)  # (L, B, d_inner) each
        out: Tensor = self.out_proj(super().forward(inputs, gate).transpose(0, 1))
        return out

    def start(self, batch: int) -> MambaState:
        """The state before the first step: zeros."""
        inner, states = self.A_log.shape
        width = self.conv1d.kernel_size[0]
        return MambaState(self.A_log.new_zeros(batch, inner, width), self.A_log.new_zeros(batch, inner, states))

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The next step alone, (B, D) in and out, and the state after it; equals `forward` up to rounding."""
        inputs, gate = self.in_proj(x).chunk(2, dim=1)  # (B, d_inner) each
        recent = torch.cat((state.recent[..., 1:], inputs.unsqueeze(2)), dim=2)
        before, start = recent.transpose(1, 2), state.scan.transpose(1, 2)  # (B, d_conv, d_inner), (B, N, d_inner)
        mixed, last = self._read(before, gate.unsqueeze(0), start, last_needed=True)
        out: Tensor = self.out_proj(mixed[0])
        return out, MambaState(recent, last.transpose(1, 2))
