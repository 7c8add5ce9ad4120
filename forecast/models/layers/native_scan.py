"""The recurrence of the selective scan in compiled code (scan.c), for float32 on a CPU.

The kernel is built when the package is installed where there is a C compiler. Measured against numba, which was as
fast: that compiled for 15 s at its first use in every process, or 40 s with threads; a C compiler takes 1 s, once.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor

_WORTH_THREADS = 1 << 20  # steps × items × channels × states; with less, starting threads takes longer than it saves


def _load() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec(f"{__package__}._scan")
    return None if spec is None or spec.origin is None else ctypes.CDLL(spec.origin)


_KERNEL = _load()


def available() -> bool:
    """Whether the kernel was built with this package."""
    return _KERNEL is not None


def forward(dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: N803
    """What is read (L, P, W), the last state (P, N, W), and what `backward` needs of the states between.

    `dt`, `x` (L, P, W); `A` (1 or P, N, W); `B`, `C` (L, P, N); `start` (P, N, W).
    """
    assert _KERNEL is not None
    steps, items, width = dt.shape
    given = [tensor.contiguous() for tensor in (dt, x, A, B, C, start)]
    read, last = dt.new_empty(dt.shape), dt.new_empty(start.shape)
    kept = dt.new_empty(-(-steps // _KERNEL.scan_chunk()), *start.shape)
    _run(_KERNEL.scan_forward, A, (steps, items, width), [*given, read, kept, last])
    return read, last, kept


def backward(
    dt: Tensor,
    x: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    kept: Tensor,
    grad_read: Tensor,
    grad_last: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by `dt`, `x`, `A`, `B`, `C` and the start state, given those by what `forward` gave."""
    assert _KERNEL is not None
    given = [tensor.contiguous() for tensor in (dt, x, A, B, C, kept, grad_read, grad_last)]
    by_step = [dt.new_empty(dt.shape), dt.new_empty(dt.shape)]
    by_item = dt.new_empty(kept.shape[1:])
    by_matrix = [B.new_zeros(B.shape), C.new_zeros(C.shape)]
    by_start = torch.empty_like(by_item)
    _run(_KERNEL.scan_backward, A, dt.shape, [*given, *by_step, by_item, *by_matrix, by_start])
    by_a = by_item.sum(0, keepdim=True) if A.shape[0] == 1 else by_item
    return by_step[0], by_step[1], by_a, by_matrix[0], by_matrix[1], by_start


def _run(kernel: Callable[..., int], A: Tensor, shape: tuple[int, ...], arrays: list[Tensor]) -> None:  # noqa: N803
    """Call the kernel for all items, shared between as many threads as torch uses."""
    steps, items, width = shape
    states = A.shape[1]
    sizes = (steps, items, width, states, 0 if A.shape[0] == 1 else states * width)

    def call(first: int, last: int) -> None:
        numbers = [ctypes.c_long(number) for number in (first, last, *sizes)]
        if kernel(*numbers, *(ctypes.c_void_p(array.data_ptr()) for array in arrays)):
            raise MemoryError("no memory for the states of the selective scan")

    worth = steps * items * width * states >= _WORTH_THREADS
    threads = max(1, min(torch.get_num_threads(), items)) if worth else 1
    borders = [items * number // threads for number in range(threads + 1)]
    if threads == 1:
        call(0, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(call, *pair) for pair in pairwise(borders)]:
            done.result()
