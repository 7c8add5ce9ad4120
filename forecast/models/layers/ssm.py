"""The selective state space: the scan, plain and fast, and the Mamba block around it.

Source: Albert Gu, Tri Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
https://arxiv.org/abs/2312.00752; cited below by its sections. Authors' code:
https://github.com/state-spaces/mamba, version 1.2.0. Both scans here add a start state to it.

Differs from the authors' code: the scan runs over blocks that stay in the cache, and its backward pass
computes the states again from every few kept ones, so that memory does not grow with states times steps.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, silu, softplus

from . import native_scan

# Values of one working array of the fast scan. On a CPU a few such arrays should stay in the cache: half of this
# took up to a third longer, twice as much took no less. A GPU wants as much as possible at once.
_BLOCK_VALUES = {"cpu": 1 << 18}
_BLOCK_VALUES_ELSEWHERE = 1 << 25
# At least this many steps between two kept states: what is kept for backward is that much less than all states.
_STEPS = 8
_NATIVE = native_scan.available()  # chosen once, when this is imported
_SOFTPLUS_LINEAR = 20.0  # torch's softplus is the identity above


def scan_path() -> str:
    """How `selective_scan` computes float32 on a CPU: "native" (compiled code) or "torch" (as everything else)."""
    return "native" if _NATIVE else "torch"


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

    Takes and gives the layout of `scan_reference`; no copies are made of views of (L, B, channels) arrays.
    Computes in float32 or wider, whatever autocast says, and gives the output in the precision of `u`.
    """
    batch, channels, steps = u.shape
    kept = u.dtype
    given = [t for t in (u, delta, A, B, C, D, z, delta_bias, initial_state) if t is not None]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in given) else torch.float32
    matrices = [_by_groups(matrix.to(dtype), batch, steps) for matrix in (B, C)]  # (L, B, G, N)
    groups = max(matrix.shape[2] for matrix in matrices)
    # Channels of a group share B and C: groups are so many more items of the batch, P = B * G, of D / G channels.
    matrices = [m.repeat_interleave(groups // m.shape[2], 2).flatten(1, 2) for m in matrices]  # (L, P, N)

    def sequence(given: Tensor) -> Tensor:
        return given.to(dtype).permute(2, 0, 1).reshape(steps, batch * groups, channels // groups)  # (L, P, W)

    def constant(given: Tensor) -> Tensor:
        """Of (channels, ...): (1, W, ...) or, where channels of a group are told apart, (P, W, ...)."""
        split = given.to(dtype).unflatten(0, (groups, channels // groups))
        return split if groups == 1 else split.repeat(batch, *(1 for _ in given.shape))

    start = u.new_zeros(batch, channels, A.shape[1], dtype=dtype) if initial_state is None else initial_state.to(dtype)
    scan = _NativeScan if _NATIVE and u.device.type == "cpu" and dtype == torch.float32 else _Scan
    with torch.autocast(u.device.type, enabled=False):
        out, last = scan.apply(  # type: ignore[no-untyped-call]
            sequence(u),
            sequence(delta),
            constant(A).transpose(1, 2),
            *matrices,
            None if D is None else constant(D),
            None if z is None else sequence(z),
            None if delta_bias is None else constant(delta_bias),
            delta_softplus,
            start.reshape(batch * groups, channels // groups, -1).transpose(1, 2),
        )
    out = out.reshape(steps, batch, channels).permute(1, 2, 0).to(kept)  # (B, channels, L)
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


class _Scan(torch.autograd.Function):
    """The scan over (L, P, W) sequences, W channels last so that every operation runs along them.

    `A` is (1 or P, N, W), `B` and `C` (L, P, N), `D` and `bias` (1 or P, W), `start` (P, N, W); gives
    (L, P, W) and the last state. All are of one precision. Items are independent, so blocks of items run one
    after the other; in each, chunks of steps: elementwise work on whole chunks, the recurrence step by step.
    Saved for backward: the inputs and the state before each chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,  # noqa: N803
        B: Tensor,  # noqa: N803
        C: Tensor,  # noqa: N803
        D: Tensor | None,  # noqa: N803
        z: Tensor | None,
        bias: Tensor | None,
        soft: bool,
        start: Tensor,
    ) -> tuple[Tensor, Tensor]:
        steps, items, width = u.shape
        blocks = _Blocks(u, A.shape[1])
        out = u.new_empty(steps, items, width)
        last = torch.empty_like(start, memory_format=torch.contiguous_format)
        kept = u.new_empty(blocks.chunks, *start.shape)  # the state before each chunk
        decay_room, state_room = blocks.room(0), blocks.room(1)
        for p in blocks.items():
            state = start[p]
            for number, t in enumerate(blocks.steps()):
                kept[number, p] = state
                dt = _step_sizes(delta[t, p], _of(bias, p), soft)
                states, _ = _states(dt, u[t, p], _of(A, p), B[t, p], kept[number, p], decay_room, state_room)
                read = _read(C[t, p], states[1:], u[t, p], _of(D, p))
                out[t, p] = read if z is None else read * silu(z[t, p])
                state = states[-1]
            last[p] = state
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, kept)
        ctx.soft = soft
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, bias, kept = ctx.saved_tensors  # noqa: N806
        blocks = _Blocks(u, A.shape[1])
        decay_room, state_room, room = blocks.room(0), blocks.room(1), blocks.room(0)
        by_step = {name: torch.empty_like(given) for name, given in (("u", u), ("delta", delta), ("B", B), ("C", C))}
        by_channel = {
            name: torch.zeros_like(given) for name, given in (("A", A), ("D", D), ("bias", bias)) if given is not None
        }
        grad_z = None if z is None else torch.empty_like(z)
        grad_start = torch.empty_like(kept[0])
        for p in blocks.items():
            carry = grad_last[p]  # gradient of the state before the steps that are done
            for number, t in reversed(list(enumerate(blocks.steps()))):
                # Forward once more, from the kept state.
                dt = _step_sizes(delta[t, p], _of(bias, p), ctx.soft)
                now, decays = u[t, p], _of(A, p)  # (K, P, W), (1 or P, N, W)
                states, decay = _states(dt, now, decays, B[t, p], kept[number, p], decay_room, state_room)
                grad = grad_out[t, p]  # (K, P, W), of what is read from the states, once the gate is undone
                if z is not None and grad_z is not None:
                    read = _read(C[t, p], states[1:], now, _of(D, p))
                    grad_z[t, p] = torch.ops.aten.silu_backward(grad * read, z[t, p])
                    grad = grad * silu(z[t, p])
                by_step["C"][t, p] = torch.matmul(states[1:], grad.unsqueeze(3)).squeeze(3)

                # Gradient of each state: by what is read from it, and by the state after it.
                grads = _shaped(room, decay.shape)
                torch.mul(C[t, p].unsqueeze(3), grad.unsqueeze(2), out=grads)  # (K, P, N, W)
                grads[-1] += carry
                each = grads.unbind()
                for before, factor, after in zip(each[-2::-1], decay.unbind()[:0:-1], each[::-1], strict=False):
                    before.addcmul_(factor, after)
                carry = decay[0] * grads[0]

                by_step["B"][t, p] = torch.matmul(grads, (dt * now).unsqueeze(3)).squeeze(3)
                grad_input = torch.matmul(B[t, p].unsqueeze(2), grads).squeeze(2)  # (K, P, W), of dt * u
                exponent = decay.mul_(grads).mul_(states[:-1])  # gradient of dt * A
                grad_dt = torch.mul(exponent, decays, out=grads).sum(2) + grad_input * now
                by_channel["A"][_rows(A, p)] += _summed(exponent.mul_(dt.unsqueeze(2)), A)
                grad_now = grad_input * dt
                if D is not None:
                    grad_now += grad * _of(D, p)
                    by_channel["D"][_rows(D, p)] += _summed(grad * now, D)
                by_step["u"][t, p] = grad_now
                if ctx.soft:  # the derivative of softplus, by its value
                    grad_dt *= torch.expm1(-dt).neg_().masked_fill_(dt > _SOFTPLUS_LINEAR, 1.0)
                if bias is not None:
                    by_channel["bias"][_rows(bias, p)] += _summed(grad_dt, bias)
                by_step["delta"][t, p] = grad_dt
            grad_start[p] = carry
        return (
            by_step["u"],
            by_step["delta"],
            by_channel["A"],
            by_step["B"],
            by_step["C"],
            by_channel.get("D"),
            grad_z,
            by_channel.get("bias"),
            None,
            grad_start,
        )


class _NativeScan(torch.autograd.Function):
    """As `_Scan`, with the recurrence in compiled code, for float32 on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,  # noqa: N803
        B: Tensor,  # noqa: N803
        C: Tensor,  # noqa: N803
        D: Tensor | None,  # noqa: N803
        z: Tensor | None,
        bias: Tensor | None,
        soft: bool,
        start: Tensor,
    ) -> tuple[Tensor, Tensor]:
        dt = _step_sizes(delta, bias, soft)
        read, last, kept = native_scan.forward(dt, dt * u, A, B, C, start)
        if D is not None:
            read.addcmul_(u, D)
        ctx.save_for_backward(u, dt, A, B, C, D, z, bias, kept, None if z is None else read)
        ctx.soft = soft
        return read if z is None else read * silu(z), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        u, dt, A, B, C, D, z, bias, kept, read = ctx.saved_tensors  # noqa: N806
        grad, grad_z = grad_out, None
        if z is not None:
            grad_z = torch.ops.aten.silu_backward(grad_out * read, z)
            grad = grad_out * silu(z)
        grad_dt, grad_input, grad_a, grad_b, grad_c, grad_start = native_scan.backward(
            dt, dt * u, A, B, C, kept, grad, grad_last
        )
        grad_delta = grad_dt.addcmul_(grad_input, u)
        if ctx.soft:
            grad_delta *= torch.expm1(-dt).neg_()  # as in `_Scan`; its linear end differs by less than float32 tells
        grad_u = grad_input.mul_(dt)
        if D is not None:
            grad_u.addcmul_(grad, D)
        return (
            grad_u,
            grad_delta,
            grad_a,
            grad_b,
            grad_c,
            None if D is None else _summed(grad * u, D),
            grad_z,
            None if bias is None else _summed(grad_delta, bias),
            None,
            grad_start,
        )


class _Blocks:
    """How a scan over `u` (L, P, W) with N states is cut: slices of items, and in each slices of steps."""

    def __init__(self, u: Tensor, states: int) -> None:
        self.like = u
        self.length, self.batch, width = u.shape
        values = _BLOCK_VALUES.get(u.device.type, _BLOCK_VALUES_ELSEWHERE)
        least = min(_STEPS, self.length)
        self.at_once = min(self.batch, max(1, values // (least * states * width)))
        self.chunk = min(self.length, max(_STEPS, values // (max(1, self.at_once) * states * width)))
        self.step_values = self.at_once * states * width
        self.chunks = -(-self.length // self.chunk)

    def items(self) -> Iterator[slice]:
        """Slices of items, in order."""
        return (slice(first, first + self.at_once) for first in range(0, self.batch, max(1, self.at_once)))

    def steps(self) -> Iterator[slice]:
        """Slices of steps, in order."""
        return (slice(first, first + self.chunk) for first in range(0, self.length, self.chunk))

    def room(self, more: int) -> Tensor:
        """Memory for one array of a block, `more` steps longer, used again by every block: it stays cached."""
        return self.like.new_empty((self.chunk + more) * self.step_values)


def _shaped(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    return room[: math.prod(shape)].view(shape)


def _of(given: Tensor | None, items: slice) -> Any:
    """The rows of `items`, or the one row that all of them share."""
    return given if given is None or given.shape[0] == 1 else given[items]


def _rows(given: Tensor, items: slice) -> slice:
    return slice(None) if given.shape[0] == 1 else items


def _summed(of_steps: Tensor, given: Tensor) -> Tensor:
    """(K, P, ...) summed over steps, and over items where `given` is one row for all of them."""
    return of_steps.sum((0, 1)).unsqueeze(0) if given.shape[0] == 1 else of_steps.sum(0)


def _step_sizes(delta: Tensor, bias: Tensor | None, soft: bool) -> Tensor:
    """The steps' lengths dt: (K, P, W)."""
    before = delta if bias is None else delta + bias
    return softplus(before) if soft else before


def _states(
    dt: Tensor,
    u: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    start: Tensor,
    decay_room: Tensor,
    state_room: Tensor,
) -> tuple[Tensor, Tensor]:
    """All states of a chunk, `start` first: (K + 1, P, N, W), and what each keeps of the one before (K, P, N, W)."""
    shape = (*dt.shape[:2], B.shape[2], dt.shape[2])
    decay = _shaped(decay_room, shape)
    torch.mul(dt.unsqueeze(2), A, out=decay)
    decay.exp_()
    states = _shaped(state_room, (shape[0] + 1, *shape[1:]))
    states[0] = start
    torch.mul(B.unsqueeze(3), (dt * u).unsqueeze(2), out=states[1:])
    each = states.unbind()
    for before, factor, after in zip(each, decay.unbind(), each[1:], strict=False):
        after.addcmul_(factor, before)
    return states, decay


def _read(C: Tensor, states: Tensor, u: Tensor, D: Tensor | None) -> Tensor:  # noqa: N803
    """What is read from the states, before the gate: (K, P, W)."""
    read = torch.matmul(C.unsqueeze(2), states).squeeze(2)
    return read if D is None else read.addcmul_(u, D)


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
        # Holds the weights; applied below, time first, which saves two transpositions.
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
        before = pad(inputs, (0, 0, 0, 0, self.conv1d.kernel_size[0] - 1, 0))
        return self._scan(before, gate, None)[0]

    def _scan(self, before: Tensor, gate: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Convolution and scan: (L, B, width), and the last state; `before` has d_conv - 1 steps more in front."""
        length, weight = len(gate), self.conv1d.weight[:, 0]  # (width, d_conv)
        taps = [before[lag : lag + length] * weight[:, lag] for lag in range(weight.shape[1])]
        mixed = sum(taps[1:], taps[0])
        u = silu(mixed if self.conv1d.bias is None else mixed + self.conv1d.bias)  # (L, B, width)
        states = self.A_log.shape[1]
        dt, B, C = self.x_proj(u).split((self.rank, states, states), dim=2)  # noqa: N806
        scanned: tuple[Tensor, Tensor] = selective_scan(
            u.permute(1, 2, 0),
            # The bias is added inside the scan, before softplus.
            torch.matmul(dt, self.dt_proj.weight.T).permute(1, 2, 0),
            -self.A_log.exp(),
            B.permute(1, 2, 0),
            C.permute(1, 2, 0),
            self.D,
            gate.permute(1, 2, 0),
            self.dt_proj.bias,
            delta_softplus=True,
            initial_state=state,
            return_last_state=True,
        )
        out, last = scanned
        return out.permute(2, 0, 1), last


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
        inputs, gate = self.in_proj(x.transpose(0, 1)).chunk(2, dim=2)  # (L, B, d_inner) each
        out: Tensor = self.out_proj(super().forward(inputs, gate)).transpose(0, 1)
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
        mixed, last = self._scan(recent.permute(2, 0, 1), gate.unsqueeze(0), state.scan)
        out: Tensor = self.out_proj(mixed[0])
        return out, MambaState(recent, last)
