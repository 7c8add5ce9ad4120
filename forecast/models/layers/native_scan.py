"""The selective scan in compiled code (scan.c), for float32 on a CPU: as `torch_scan`, and equal to it up to rounding.

The kernel is built when the package is installed where there is a C compiler. Measured against numba, which was as
fast: that compiled for 15 s at its first use in every process, or 40 s with threads; a C compiler takes 1 s, once.
"""

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor

_INTERFACE = 2  # of scan.c: a kernel that was built from another version is not called
_WORTH_THREADS = 1 << 20  # steps × items × channels × states; with less, starting threads takes longer than it saves


def _load() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec(f"{__package__}._scan")
    if spec is None or spec.origin is None:
        return None
    kernel = ctypes.CDLL(spec.origin)
    if not hasattr(kernel, "scan_interface") or kernel.scan_interface() != _INTERFACE:
        return None
    for work in (kernel.scan_forward, kernel.scan_backward):
        work.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_ssize_t]
    return kernel


_KERNEL = _load()


def available() -> bool:
    """Whether the kernel was built with this package."""
    return _KERNEL is not None


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
    """What `torch_scan.forward` gives."""
    assert _KERNEL is not None
    by_step, by_item = _rows(u, delta, B, C, z), _rows(A, D, bias, start)
    steps, items, width = u.shape
    out = torch.empty_like(by_step[0] if by_step[4] is None else by_step[4])  # type: ignore[arg-type]
    last = u.new_empty(items, A.shape[1], width)
    kept = u.new_empty(-(-steps // _KERNEL.scan_chunk()) * items, A.shape[1], width)
    sizes = (steps, items, width, A.shape[1])
    _run(_KERNEL.scan_forward, sizes, soft, _packed(by_step, [*by_item, kept]), _packed([out], [last]))
    return out, last, kept


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
    """What `torch_scan.backward` gives."""
    assert _KERNEL is not None
    by_step, by_item, by_result = _rows(u, delta, B, C, z), _rows(A, D, bias), _rows(grad_out, grad_last)
    sizes = (*u.shape, A.shape[1])
    of_step = [None if given is None else torch.empty_like(given) for given in by_step]
    # One for each item. Torch adds them up, in an order that the number of threads does not change.
    of_item = [None if given is None else given.new_empty(u.shape[1], *given.shape[1:]) for given in by_item]
    start = u.new_empty(u.shape[1], *A.shape[1:])
    gradients = _packed(by_result[:1], by_result[1:]) + _packed(of_step, [*of_item, start])
    _run(_KERNEL.scan_backward, sizes, soft, _packed(by_step, [*by_item, None, kept]), gradients)
    grad_u, grad_delta, grad_b, grad_c, grad_z = of_step
    grad_a, grad_d, grad_bias = (
        made.sum(0, keepdim=True) if made is not None and given is not None and given.size(0) == 1 else made
        for made, given in zip(of_item, by_item, strict=True)
    )
    return grad_u, grad_delta, grad_a, grad_b, grad_c, grad_d, grad_z, grad_bias, start


def _rows(*given: Tensor | None) -> list[Tensor | None]:
    """The same with contiguous rows, as the kernel reads them."""
    return [tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous() for tensor in given]


def _packed(by_step: Sequence[Tensor | None], by_item: Sequence[Tensor | None]) -> list[int]:
    """Place and distances of steps (or rows) and of items: of (L, P, ...), then of (P or 1, N, W) or (P or 1, W)."""
    numbers: list[int] = []
    for given in by_step:
        numbers += (0, 0, 0) if given is None else (given.data_ptr(), *given.stride()[:2])
    for given in by_item:
        strides = (0, 0) if given is None else given.stride()
        item = 0 if given is None or given.size(0) == 1 else strides[0]
        numbers += (0 if given is None else given.data_ptr(), strides[-2], item)
    return numbers


def _run(kernel: Callable[..., int], sizes: tuple[int, ...], soft: bool, given: list[int], made: list[int]) -> None:
    """Call the kernel for all items, shared between as many threads as torch uses."""
    scan = (ctypes.c_ssize_t * (len(sizes) + 1 + len(given)))(*sizes, soft, *given)
    results = (ctypes.c_ssize_t * len(made))(*made)

    def call(first: int, last: int) -> None:
        if kernel(scan, results, first, last):
            raise MemoryError("no memory for the states of the selective scan")

    steps, items, width, states = sizes
    worth = steps * items * width * states >= _WORTH_THREADS
    threads = max(1, min(torch.get_num_threads(), items)) if worth else 1
    if threads == 1:
        call(0, items)
        return
    borders = [items * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(call, *pair) for pair in pairwise(borders)]:
            done.result()
