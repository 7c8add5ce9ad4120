"""DARTS-GT is worth more than trivial answers (specification, property 21), on small parts of public data."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import forecast
from forecast.data.made import made

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared/data"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("desk")]


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs ../shared/data/{name}")
    return SHARED / name


def fitted(data: Any, config: str | None, *settings: str, **options: Any) -> dict[str, Any]:
    """The document of a fit with one operator in every layer."""
    chosen = ("model.architecture=GINE", *settings)
    file = config and ROOT / "configs/darts-gt" / config
    run = forecast.fit(data, "darts-gt", config=file, settings=chosen, **options)
    return dict(run.document)


def test_an_hour_of_traffic_is_forecast_better_than_by_its_last_value() -> None:
    edges = str(shared("spatiotemporal/metr_la_edges.parquet"))
    scores = fitted(shared("spatiotemporal/metr_la_week1.parquet"), "metr-la.yaml", "train.epochs=4", edges=edges)[
        "scores"
    ]
    assert scores["darts-gt"]["steps"]["12"]["mae"] < scores["naive"]["steps"]["12"]["mae"]


def test_molecules_are_told_apart() -> None:
    table = pl.read_parquet(shared("graphs/molhiv.parquet"))
    train = table.filter(pl.col("split") == "train")
    active = train.filter(pl.col("label") == 1).sample(500, seed=0)
    rest = train.filter(pl.col("label") == 0).sample(1500, seed=0)
    some = pl.concat([active, rest, table.filter(pl.col("split") != "train")])
    found = fitted(some, "molhiv-small.yaml")
    assert found["split"]["test"] == 4113
    assert found["scores"]["darts-gt"]["auc"] > 0.65


def test_patterns_are_found() -> None:
    graphs = made("pattern", graphs=1000, seed=0)
    scores = fitted(graphs, None, "train.epochs=10", "track.metric=accuracy_sbm")["scores"]
    assert scores["darts-gt"]["accuracy_sbm"] > 0.75 > scores["prior"]["accuracy_sbm"]
