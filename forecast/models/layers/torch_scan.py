"""The selective scan in plain torch, for any device and precision: outputs, and gradients written out.

Arrays have time first, (L, P, ·), so that one step of all items is one slice, and channels last, so that every
operation runs along them. Items are independent: blocks of items run one after the other, and in each, chunks of
steps. Work on whole chunks is elementwise; only the recurrence goes step by step.
"""

import math
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

# Values of one working array. On a CPU a few such arrays should stay in the cache: half of this took up to a third
# longer, twice as much took no less. A GPU wants as much as possible at once.
_BLOCK_VALUES = {"cpu": 1 << 18}
_BLOCK_VALUES_ELSEWHERE = 1 << 25
# At least this many steps between two kept states: what is kept for backward is that much less than all states.
_STEPS = 8


def _outside_autocast(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The same in the precision of its arguments, whatever autocast says."""

    @wraps(compute)
    def exact(*given: Any) -> Any:
        device = given[0].device.type
        if not torch.is_autocast_enabled(device):
            return compute(*given)
        with torch.autocast(device, enabled=False):
            return compute(*given)

    return exact


@_outside_autocast
def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803 (the paper's symbols)
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
    start: Tensor | None,
    soft: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What is read (L, P, W), the last state (P, N, W), and the state before each chunk, for `backward`.

    `u`, `delta`, `z` are (L, P, W); `A` (1 or P, N, W), `B` and `C` (L, P, N), `D` and `bias` (1 or P, W), `start`
    (P, N, W). All are of one precision. `soft` puts `delta` and its bias through softplus.
    """
    blocks, A = _Blocks(u, A.shape[1]), A.contiguous()  # noqa: N806
    out = torch.empty_like(u if z is None else z)
    last = u.new_zeros(u.shape[1], *A.shape[1:]) if start is None else torch.empty_like(start)
    kept = u.new_empty(blocks.chunks, *last.shape)
    decay_room, state_room = blocks.room(0), blocks.room(1)
    for p in blocks.items():
        state = last[p] if start is None else start[p]
        for number, t in enumerate(blocks.steps()):
            kept[number, p] = state
            _, dt = _step_sizes(delta[t, p], _of(bias, p), soft)
            now = u[t, p]
            states, _ = _states(dt, dt * now, _of(A, p), B[t, p], kept[number, p], decay_room, state_room)
            read = _read(C[t, p], states[1:], now, _of(D, p))
            out[t, p] = read if z is None else read.mul_(silu(z[t, p]))
            state = states[-1]
        last[p] = state
    return out, last, kept


@_outside_autocast
def backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    z: Tensor | None,
    bias: Tensor | None,
    kept: Tensor,
    soft: bool,
    grad_out: Tensor,
    grad_last: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients by all that `forward` was given, in its order, but `soft`; from those by what it gave."""
    blocks, A = _Blocks(u, A.shape[1]), A.contiguous()  # noqa: N806
    decay_room, state_room, room = blocks.room(0), blocks.room(1), blocks.room(0)
    grad_u, grad_delta, grad_b, grad_c = (torch.empty_like(given) for given in (u, delta, B, C))
    grad_z = None if z is None else torch.empty_like(z)
    grad_a, grad_d, grad_bias = (None if given is None else torch.zeros_like(given) for given in (A, D, bias))
    grad_start = u.new_zeros(kept.shape[1:]) if grad_last is None else grad_last.clone()
    for p in blocks.items():
        carry = grad_start[p]  # gradient of the state before the steps that are done
        for number, t in reversed(list(enumerate(blocks.steps()))):
            # Forward once more, from the kept state.
            now, rates = u[t, p], _of(A, p)  # (K, P, W), (1 or P, N, W)
            before, dt = _step_sizes(delta[t, p], _of(bias, p), soft)
            given = dt * now
            states, decay = _states(dt, given, rates, B[t, p], kept[number, p], decay_room, state_room)
            grad = grad_out[t, p]  # (K, P, W), of what is read from the states, once the gate is undone
            if z is not None and grad_z is not None:
                read = _read(C[t, p], states[1:], now, _of(D, p))
                grad_z[t, p] = torch.ops.aten.silu_backward(read.mul_(grad), z[t, p])
                grad = grad * silu(z[t, p])
            grad_c[t, p] = _by_matrix(grad, states[1:])

            # Gradient of each state: by what is read from it, and by the state after it.
            grads = _shaped(room, decay.shape)
            torch.mul(C[t, p].unsqueeze(3), grad.unsqueeze(2), out=grads)  # (K, P, N, W)
            grads[-1].add_(carry)
            each = grads.unbind()
            for earlier, factor, later in zip(each[-2::-1], decay.unbind()[:0:-1], each[::-1], strict=False):
                earlier.addcmul_(factor, later)
            torch.mul(decay[0], grads[0], out=carry)

            grad_b[t, p] = _by_matrix(given, grads)
            grad_input = torch.matmul(B[t, p].unsqueeze(2), grads).squeeze(2)  # (K, P, W), of dt * u
            exponent = decay.mul_(grads).mul_(states[:-1])  # gradient of dt * A
            grad_dt = torch.mul(exponent, rates, out=grads).sum(2).addcmul_(grad_input, now)
            _add(grad_a, exponent.mul_(dt.unsqueeze(2)), p)
            grad_now = grad_input.mul_(dt)
            if D is not None:
                _add(grad_d, grad * now, p)
                grad_now.addcmul_(grad, _of(D, p))
            grad_u[t, p] = grad_now
            if soft:
                grad_dt = torch.ops.aten.softplus_backward(grad_dt, before, 1.0, 20.0)  # torch's own bounds
            _add(grad_bias, grad_dt, p)
            grad_delta[t, p] = grad_dt
    return grad_u, grad_delta, grad_a, grad_b, grad_c, grad_d, grad_z, grad_bias, grad_start


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


def _add(total: Tensor | None, of_steps: Tensor, items: slice) -> None:
    """Add (K, P, ...) summed over steps to the rows of `items`, or over items too where all share one row."""
    if total is not None and total.shape[0] == 1:
        total += of_steps.sum((0, 1))
    elif total is not None:
        total[items] += of_steps.sum(0)


def _step_sizes(delta: Tensor, bias: Tensor | None, soft: bool) -> tuple[Tensor, Tensor]:
    """The steps' lengths dt before and after softplus: (K, P, W) each."""
    before = delta if bias is None else delta + bias
    return before, softplus(before) if soft else before


def _states(
    dt: Tensor,
    given: Tensor,
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
    torch.mul(B.unsqueeze(3), given.unsqueeze(2), out=states[1:])
    each = states.unbind()
    for before, factor, after in zip(each, decay.unbind(), each[1:], strict=False):
        after.addcmul_(factor, before)
    return states, decay


def _by_matrix(grad: Tensor, states: Tensor) -> Tensor:
    """Gradient of B or C: (K, P, W) and (K, P, N, W) summed over channels, (K, P, N)."""
    return torch.matmul(grad.unsqueeze(2), states.transpose(2, 3)).squeeze(2)  # the other way round: 5 times slower


def _read(C: Tensor, states: Tensor, u: Tensor, D: Tensor | None) -> Tensor:  # noqa: N803
    """What is read from the states, before the gate: (K, P, W)."""
    read = torch.matmul(C.unsqueeze(2), states).squeeze(2)
    return read if D is None else read.addcmul_(u, D)
