"""The search for operators on windows: which of them it sees, that it goes on where it stopped, what a fit tells."""

import dataclasses
import html
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import forecast
from forecast import searching, tracking
from forecast.config import resolve
from forecast.console import Progress
from forecast.data.windows import Example, Target, Window, WindowBuffer, WindowDataset
from forecast.errors import DataError, UsageError
from forecast.kinds import Silent
from forecast.models.darts_gt import SensorDartsGT, SensorDartsGTConfig
from forecast.prepare import Prepared, prepare, read
from forecast.registry import BASELINES, build, find
from forecast.scoring import score
from forecast.searching import judged, parted, search, shuffled
from forecast.sensors import with_named_operators
from forecast.series import _minutes
from forecast.tasks.series import SeriesLoss
from forecast.training import train
from graphs.architecture import Architecture, vote
from graphs.darts_search import Supernet

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets/ETTh1.csv", try_parse_dates=True, n_rows=300)
NAMES = TABLE.columns[1:]
SMALL = {"width": 16, "heads": 2, "position_width": 4, "candidates": ["GINE", "None"], "search_stride": 1}
SHORT = ("train.epochs=1", "train.epoch_batches=[3,3]")


class StoppedError(Exception):
    pass


def settings_of(**model: Any) -> list[str]:
    return [f"model.{name}={json.dumps(value)}" for name, value in {**SMALL, **model}.items()]


def prepared(table: Any = TABLE, model: Mapping[str, Any] = {}, **train: Any) -> Prepared:
    chosen = {"search_epochs": 3, "search_warmup": 0.3, "architecture": "search", **model}
    given = {"data": {"lookback": 12, "horizon": 6, "marks": "none"}, "train": {"device": "cpu", **train}}
    return prepare(read(resolve("darts-gt", settings=settings_of(**chosen), flags=given), table))


@pytest.fixture(scope="module")
def unbroken() -> Architecture:
    return search(prepared())


def same(one: Architecture, other: Architecture) -> bool:
    """Bit for bit, but for the time that it took."""
    return dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)


# What it sees


@given(
    count=st.integers(1, 200), lookback=st.integers(1, 12), horizon=st.integers(1, 12),
    share=st.floats(0.1, 0.9), stride=st.integers(1, 5),
)  # fmt: skip
def test_the_parts_share_no_step_and_the_choice_learns_on_the_later_one(
    count: int, lookback: int, horizon: int, share: float, stride: int
) -> None:
    rows, none = count + lookback + horizon - 1, torch.zeros(0)
    values = torch.zeros(rows, 1)
    buffer = WindowBuffer(
        values, None, values[:, :0].short(), none, torch.tensor([0, rows]), values[:, :0].clone(), none
    )
    at = torch.arange(lookback - 1, lookback - 1 + count)
    whole = WindowDataset(buffer, at, lookback, horizon, 1)
    try:
        learned, held = parted(whole, share, stride)
    except DataError:
        first = int(share * count)
        assert first < 1 or first + lookback + horizon - 1 >= count
        return
    last_of_learned, first_of_held = int(learned.origins[-1]) + horizon, int(held.origins[0]) - lookback + 1
    assert last_of_learned < first_of_held
    unused = int(held.origins[0]) - int(at[int(share * count)])
    assert unused == lookback + horizon - 1  # and no more is left out than must be
    assert set(learned.origins.tolist()) | set(held.origins.tolist()) <= set(at.tolist())


@pytest.mark.parametrize(("rows", "size"), [(300, 16), (300, 3), (160, 16)])
def test_batches_that_are_judged_share_no_answer_and_none_is_of_a_single_window(rows: int, size: int) -> None:
    _, held = parted(prepared(TABLE[:rows], {"search_stride": 2}).train, 0.3, 2)
    batches = list(judged(held, size))
    assert 1 < len(batches) <= 12
    for one, other in itertools.pairwise(batches):
        assert int(other.origin[0]) >= int(one.origin[-1]) + held.horizon
    for batch in batches:
        assert 1 < len(batch.origin) <= size and set(batch.origin.tolist()) <= set(held.origins.tolist())


def test_changes_since_the_last_value_change_places_and_levels_do_not() -> None:
    values, last = torch.randn(9, 6, 3, dtype=torch.float64), 1e3 * torch.randn(9, 1, 3, dtype=torch.float64)
    seen = torch.rand(9, 6, 3) > 0.3
    batch = Example(prepared().train[torch.arange(9)].window, Target(last + values, seen), *torch.zeros(2, 9).long())
    one, again = (shuffled(batch, last, torch.Generator().manual_seed(4)) for _ in range(2))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(order, torch.arange(9))
    torch.testing.assert_close(one.values - last, values[order], rtol=0, atol=1e-9)
    assert torch.equal(one.seen, seen[order]) and torch.equal(one.values, again.values)


@pytest.mark.parametrize("wrong", [1e6, -3.0])
def test_what_comes_after_training_does_not_move_the_search(unbroken: Architecture, wrong: float) -> None:
    end = int(prepared().read.split.train_end[0])
    later = pl.when(pl.int_range(len(TABLE)) < end).then(pl.col(NAMES)).otherwise(wrong)
    assert same(search(prepared(TABLE.with_columns(later.name.keep()))), unbroken)


def test_too_few_windows_for_a_search_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="cannot be parted for a search") as caught:
        search(prepared(TABLE[:60]))
    assert "model.architecture=GINE" in caught.value.hint


# How it goes on


def test_the_choice_rests_while_the_weights_warm_up_and_moves_then(unbroken: Architecture) -> None:
    assert len(unbroken.trajectory) == 3 and len(unbroken.evidence) == 2
    drawn = np.array(unbroken.trajectory)
    assert np.abs(drawn[0] - 0.5).max() < 1e-3 and np.abs(drawn[1] - drawn[0]).max() > 1e-3


def test_a_search_that_was_stopped_ends_as_an_unbroken_one(unbroken: Architecture, tmp_path: Path) -> None:
    def stop(number: int, values: Mapping[str, float]) -> None:
        assert values["search_loss"] > 0
        if number == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        search(prepared(), checkpoint=tmp_path / "search.ckpt", on_epoch=stop)
    told: list[int] = []
    resumed = search(prepared(), checkpoint=tmp_path / "search.ckpt", on_epoch=lambda number, _: told.append(number))
    assert told == [3] and same(resumed, unbroken)


def test_another_seed_searches_otherwise_and_the_same_one_alike(unbroken: Architecture) -> None:
    assert same(search(prepared()), unbroken)
    assert not same(search(prepared(seed=7)), unbroken)


def test_a_time_limit_ends_the_search_which_then_is_undecided() -> None:
    found = search(prepared(time_limit=1e-6))
    assert len(found.trajectory) == 1 and found.undecided == (0, 1)


def test_codes_of_sensors_are_weights_of_the_search_and_the_choice_is_not() -> None:
    made = prepared(model={"node_embedding": 3})
    network: SensorDartsGT = build(find("darts-gt"), made.shape, made.read.config.model, made.read.graph)
    assert isinstance(network.transformer, Supernet)
    weights, logits = (
        {id(one) for one in part} for part in (network.transformer.weights(), network.transformer.logits())
    )
    assert weights | logits == {id(one) for one in network.parameters()} and not weights & logits
    assert id(network.transformer.node_features.codes.weight) in weights
    assert len(logits) == made.read.config.model.layers


# Operators that are given


def test_operators_by_chance_depend_on_the_seed_alone() -> None:
    drawn = {}
    for seed in range(8):
        flags = {"train": {"seed": seed}, "data": {"horizon": 6}}
        config = resolve("darts-gt", settings=["model.architecture=random", "model.layers=4"], flags=flags)
        settled = with_named_operators(config).model
        assert settled == with_named_operators(config).model and len(settled.operators) == 4
        drawn[seed] = settled.operators
    assert len(set(drawn.values())) > 4


def test_a_file_that_holds_no_architecture_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "architecture.json"
    config = resolve("darts-gt", settings=[f"model.architecture={broken}"])
    with pytest.raises(UsageError, match="cannot be read"):
        with_named_operators(config)
    broken.write_text('{"operators": ["GINE"]}')
    with pytest.raises(UsageError, match=str(broken)):
        with_named_operators(config)


def test_a_file_of_another_depth_than_was_asked_for_is_refused(unbroken: Architecture, tmp_path: Path) -> None:
    stored, layers = tmp_path / "architecture.json", len(unbroken.operators)
    stored.write_text(unbroken.to_json())
    for asked in ((), (f"model.layers={layers}",)):
        config = resolve("darts-gt", settings=[f"model.architecture={stored}", *asked])
        assert with_named_operators(config).model.operators == unbroken.operators
    config = resolve("darts-gt", settings=[f"model.architecture={stored}", f"model.layers={layers + 2}"])
    with pytest.raises(UsageError, match=f"holds {layers} operators; model.layers is {layers + 2}"):
        with_named_operators(config)


# What a fit makes of it


def test_a_fit_searches_trains_and_tells_of_the_controls(desk: Path, tmp_path: Path) -> None:
    settings = [*settings_of(search_epochs=2, min_margin=0.5), *SHORT]
    run = forecast.fit(TABLE, "darts-gt", lookback=12, horizon=6, marks="none", settings=settings)
    document = run.document
    assert list(document["scores"]) == ["darts-gt", *BASELINES] == list(run.scores)
    found = document["search"]
    assert list(document["controls"]) == ["all-GINE", "all-None"] and found["undecided"] == [1, 2]
    kept = tracking.run_text(run.id, "architecture.json")
    architecture = Architecture.from_json(kept)
    for layer, (verdict, operator) in enumerate(zip(found["verdicts"], found["operators"], strict=True)):
        assert verdict.startswith("undecided: margin ") and f"evidence {found['evidence'][layer]:.1f}" in verdict
        assert verdict.endswith(f"; filled with {operator}, the most probable")
        assert html.escape(verdict) in run.report and verdict in json.loads(kept)["verdicts"]
    assert list(architecture.operators) == found["operators"] and len(architecture.trajectory) == 2
    assert run.fitted.facts["search"] == found
    assert run.fitted.config.operators == architecture.operators
    assert "The search" in run.report and "undecided" in run.report and "all-None" in run.report
    metrics = tracking.stored_run(run.id).data.metrics
    assert {"search_loss", "test.mae", "all-GINE.mse"} <= metrics.keys()

    # What was found, given as a file, is trained to the same weights, with no search before it.
    (tmp_path / "found.json").write_text(kept)
    model = {"architecture": str(tmp_path / "found.json")}
    made = prepared(model=model, epochs=1, epoch_batches=(3, 3), device="auto")
    torch.manual_seed(made.read.config.train.seed)
    network = build(find("darts-gt"), made.shape, made.read.config.model, made.read.graph)
    settled, std = made.read.config.train, made.scaler.std
    train(network, made.train, made.validation, settled, loss=SeriesLoss.of(settled, std))
    weights, others = run.fitted.network.state_dict(), network.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


class Stop(Silent):
    """Ends a fit as Ctrl-C would, at a stage."""

    def __init__(self, at: str) -> None:
        self.at = at

    def stage(self, text: str) -> None:
        if self.at in text:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("at", ["search epoch 2", "training darts-gt", "training the control"])
def test_a_fit_that_was_stopped_goes_on_to_the_same_model_and_controls(
    desk: Path, client: Any, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*settings_of(search_epochs=3), "train.epochs=2", "train.epoch_batches=[3,3]"]
    given: dict[str, Any] = {"lookback": 12, "horizon": 6, "marks": "none", "settings": settings}
    whole = forecast.fit(TABLE, "darts-gt", **given)
    with pytest.raises(KeyboardInterrupt):
        forecast.fit(TABLE, "darts-gt", progress=Stop(at), **given)
    if at != "search epoch 2":  # a search that had ended is not carried out again
        monkeypatch.setattr(searching, "search", None)
    (killed,) = client.search_runs(["1"], "attributes.status = 'KILLED'", max_results=1)
    resumed = forecast.fit(TABLE, resume=killed.info.run_id)
    assert resumed.document["scores"] == whole.document["scores"]
    assert resumed.document["controls"] == whole.document["controls"]
    assert resumed.document["search"] == whole.document["search"]
    weights, others = (one.fitted.network.state_dict() for one in (whole, resumed))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_of_several_searches_a_resumed_fit_repeats_none(
    desk: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*settings_of(search_epochs=2, search_seeds=2, layers=1), *SHORT]
    with pytest.raises(KeyboardInterrupt):
        forecast.fit(
            TABLE, "darts-gt", lookback=12, horizon=6, marks="none", settings=settings, progress=Stop("search 1 found")
        )
    (killed,) = client.search_runs(["1"], "attributes.status = 'KILLED'", max_results=1)
    seeds, whole = [], searching.search

    def heard(made: Prepared, **options: Any) -> Architecture:
        seeds.append(made.read.config.train.seed)
        return whole(made, **options)

    monkeypatch.setattr(searching, "search", heard)
    resumed = forecast.fit(TABLE, resume=killed.info.run_id)
    assert seeds == [2024] and resumed.document["search"]["operators"]


def test_a_time_limit_ends_in_a_model_that_forecasts_and_tells_what_was_cut(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*settings_of(layers=1, search_epochs=3), "train.epochs=4"]
    given: dict[str, Any] = {"lookback": 12, "horizon": 6, "marks": "none", "settings": settings}
    run = forecast.fit(TABLE, "darts-gt", time_limit=1e-6, progress=Progress(), **given)
    (own,) = run.document["search"]["operators"]
    (other,) = {"GINE", "None"} - {own}
    cut = ["search after 1 of 3 epochs", "darts-gt after 1 of 4 epochs", f"all-{other} after 1 of 4 epochs"]
    assert run.document["cut_short"] == cut
    assert "; ".join(cut) in run.report and f"cut short by the time limit: {'; '.join(cut)}" in capsys.readouterr().out
    assert len(run.predict(TABLE)) == 6 * len(NAMES) and run.document["scores"]["darts-gt"]["original"]["mae"] > 0


@pytest.mark.slow
def test_a_comparison_ranks_the_model_beside_others_on_the_same_windows(desk: Path, tmp_path: Path) -> None:
    pl.DataFrame({"src": NAMES, "dst": [*NAMES[1:], NAMES[0]]}).write_csv(tmp_path / "edges.csv")
    settings = [*settings_of(architecture="GINE"), "model.d_model=16", "model.d_ff=16", *SHORT]
    given: dict[str, Any] = {"horizon": 6, "lookback": 12, "edges": str(tmp_path / "edges.csv")}
    found = forecast.compare(TABLE, "darts-gt,itransformer,s-mamba", settings=settings, **given)
    assert not found.failures
    (one,) = found.document["tables"]
    assert {row["model"] for row in one["rows"]} == {"darts-gt", "itransformer", "s-mamba", *BASELINES}
    assert len({row["windows"] for row in one["rows"]}) == 1


# Errors at single steps


def test_errors_at_single_steps_are_those_of_numpy_on_what_was_seen() -> None:
    values = TABLE.select(NAMES).to_numpy().astype(float)
    values[::7, 2] = np.nan
    values[::5, 3] = 0.0  # no percentage of nothing
    made = prepared(pl.DataFrame([TABLE["date"], *(pl.Series(n, c) for n, c in zip(NAMES, values.T, strict=True))]))

    def last(window: Window) -> torch.Tensor:
        return window.past[:, -1:].expand(-1, 6, -1)

    found = score(last, made.test, made.scaler, made.naive_error, steps=(1, 6), batch_size=5).steps
    rows = made.test.origins.numpy()
    scaled = (values - made.scaler.mean[0]) / made.scaler.std[0]
    past = np.nan_to_num(scaled[rows]) * made.scaler.std[0] + made.scaler.mean[0]
    for step in (1, 6):
        answer = values[rows + step]
        error = np.abs(past - answer)
        share = error / np.where(np.abs(answer) >= 1e-3, np.abs(answer), np.nan)
        wanted = [np.nanmean(error), np.nanmean(error**2) ** 0.5, 100 * np.nanmean(share)]
        assert list(found[step].values()) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("freq", "horizon", "steps"),
    [("5min", 12, (3, 6, 12)), ("5min", 11, ()), ("15min", 4, (1, 2, 4)), ("10min", 12, ()), ("h", 12, ())],
)
def test_traffic_is_told_at_quarter_half_and_full_hours(freq: str, horizon: int, steps: tuple[int, ...]) -> None:
    length = {"5min": "5m", "15min": "15m", "10min": "10m", "h": "1h"}[freq]
    times = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 6, 1), length, eager=True)[:300]
    table = TABLE.with_columns(date=times)
    flags = {"data": {"lookback": 12, "horizon": horizon}}
    assert _minutes(read(resolve("itransformer", flags=flags), table)) == steps


def test_several_searches_vote_and_each_is_kept(desk: Path) -> None:
    settings = [*settings_of(search_epochs=2, search_seeds=3, layers=1), *SHORT]
    run = forecast.fit(TABLE, "darts-gt", lookback=12, horizon=6, marks="none", settings=settings)
    kept = [Architecture.from_json(tracking.run_text(run.id, f"search-{number}.json")) for number in (1, 2, 3)]
    assert len({one.probabilities for one in kept}) == 3
    found = Architecture.from_json(tracking.run_text(run.id, "architecture.json"))
    assert found == vote(kept) and len(found.trajectory) == 2
    assert run.document["search"]["operators"] == list(found.operators) and "cut_short" not in run.document
    alone = search(prepared(model={"search_epochs": 2, "layers": 1}, seed=2024, epochs=1, epoch_batches=(3, 3)))
    assert alone.probabilities == kept[1].probabilities  # from the seed after the first


def test_every_setting_of_a_search_is_within_reach() -> None:
    named = {
        "search_groups": (2,),
        "search_schedule": "joint",
        "search_temperature": 0.2,
        "search_cost": 1e-6,
        "search_mixture_norm": "none",
        "search_separate_norms": True,
        "search_fallback": "GINE",
    }
    found = SensorDartsGTConfig(layers=2, **named).search  # type: ignore[arg-type]
    assert {f"search_{name}": getattr(found, name) for name in (key.removeprefix("search_") for key in named)} == named
    for wrong, told in (({"search_seeds": 0}, "search_seeds is 0"), ({"search_groups": (2, 1)}, "adds up to 3")):
        with pytest.raises(UsageError, match=told):
            SensorDartsGTConfig(layers=2, **wrong)  # type: ignore[arg-type]
