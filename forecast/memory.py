"""Memory of the host while networks are trained.

Each step of a training asks for the same large blocks. glibc takes blocks beyond 32 MB from the system anew each time
and gives the end of its heap back whenever it can, so that the system fills the same pages with zeros step after step:
a fifth of the time of training iTransformer on 207 variates, where it was measured.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of malloc.h
_KEPT = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # never give back; no blocks apart from the heap
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, memory that is freed stays with the process to be used again; it goes back at the end.

    Does nothing where the C library is not glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    for option, value in _KEPT.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)
