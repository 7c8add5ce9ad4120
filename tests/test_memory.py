"""Memory that is freed: kept while networks are trained, given back at the end."""

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from forecast import training
from forecast.memory import freed_memory_kept

PAGE = resource.getpagesize()
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)


def faults_of_a_block(megabytes: int) -> int:
    """Pages that the system fills when a block is asked for, written and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_large_blocks_are_filled_by_the_system_a_few_times_and_not_each_time() -> None:
    pages = (64 << 20) // PAGE

    def faults() -> int:
        return sum(faults_of_a_block(64) for _ in range(12))

    assert faults() > 10 * pages
    with freed_memory_kept():
        assert faults() < 4 * pages  # a few, as small blocks can come to lie where the large one was


@pytest.mark.parametrize("error", [None, KeyError])
def test_kept_memory_goes_back_at_the_end_however_that_comes(error: type[Exception] | None) -> None:
    try:
        with freed_memory_kept():
            blocks = [torch.ones(1 << 22) for _ in range(16)]
            del blocks
            inside = resident()
            if error is not None:
                raise error
    except KeyError:
        pass
    assert inside - resident() > 200 << 20


def test_networks_are_trained_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[str] = []

    @contextmanager
    def overheard() -> Iterator[None]:
        inside.append("enter")
        yield
        inside.append("leave")

    class Trainer:
        global_step = 0

        def __init__(self, **_: object) -> None:
            pass

        def fit(self, *_: object, **__: object) -> None:
            inside.append("fit")
            raise KeyError("as far as this test goes")

    monkeypatch.setattr(training, "freed_memory_kept", overheard)
    monkeypatch.setattr(training.L, "Trainer", Trainer)
    with pytest.raises(KeyError):
        training.train_task(None, None, training.TrainConfig(device="cpu"))  # type: ignore[arg-type]
    assert inside == ["enter", "fit"]
