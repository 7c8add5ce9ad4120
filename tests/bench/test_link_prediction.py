"""Memory of ranking and scoring with a stored model of links. Run with `make bench`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 150  # MB above the model and its queries, for a million scores and for four million alike
pytestmark = pytest.mark.bench

ASK = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, polars as pl, torch
from forecast.data.nodes import nodes_of
from forecast.data.times import TimeType
from forecast.links.fitted import FittedLinks
from forecast.links.stream import Ends
from graphs.events import EventStore
from graphs.todyformer import GraphShape, Todyformer, TodyformerConfig
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
torch.set_num_threads(1)
draw, count, many = np.random.default_rng(0), 40_000, int(sys.argv[2])
src, dst, time = draw.integers(2_000, size=count), draw.integers(20_000, size=count), np.arange(count)
src[:2_000], dst[:20_000] = np.arange(2_000), np.arange(20_000)
ids = pl.Series(np.arange(20_000))
nodes = nodes_of(ids[:2_000], ids, bipartite=True)
ends = nodes.source_nodes(pl.Series(src)), nodes.destination_nodes(pl.Series(dst))
store = EventStore.of(*ends, time, nodes=len(nodes))
config = TodyformerConfig(window=1024, patches=8, width=32)
model = FittedLinks.of("todyformer", Todyformer(GraphShape.of(store, 1024), config), nodes,
                       Ends("src", "dst", "t", ()), TimeType(pl.Int64()), store, {})
asked = pl.DataFrame({"src": draw.integers(2_000, size=many), "dst": draw.integers(20_000, size=many)})
asked = asked.with_columns(t=pl.lit(count + 1))
model.predict(asked.head(2))
model.predict(asked.head(2).select("src", "t"), top_k=10)
before = peak()
if sys.argv[3] == "ranked":
    assert len(model.predict(asked.select("src", "t"), top_k=10)) == 10 * many
else:
    assert len(model.predict(asked)) == many
print(peak() - before)
"""


def growth(queries: int, kind: str) -> float:
    """MB by which the peak rises, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, ROOT, str(queries), kind], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def test_a_million_scores_are_made_in_bounded_memory(capsys: pytest.CaptureFixture[str]) -> None:
    found = {queries: growth(queries, "ranked") for queries in (50, 200)}  # of 20,000 destinations each
    with capsys.disabled():
        print(
            f"\n  ranking 1 and 4 million pairs: {found[50]:.0f} and {found[200]:.0f} MB more, target < {LIMIT}", end=""
        )
    assert max(found.values()) < LIMIT


def test_many_pairs_are_scored_in_bounded_memory(capsys: pytest.CaptureFixture[str]) -> None:
    found = growth(200_000, "scored")
    with capsys.disabled():
        print(f"\n  scoring 200,000 pairs: {found:.0f} MB more, target < {LIMIT}", end="")
    assert found < LIMIT
