"""The audit: honest models pass bit by bit, every kind of leak that is built in is found, its numbers are counted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import forecast
from forecast.audited import Audit
from forecast.cli import main
from forecast.config import resolve
from forecast.data.frame import SeriesFrame
from forecast.data.scale import Scaler
from forecast.data.windows import Window
from forecast.errors import DataError, GateError, UsageError
from forecast.fitted import Fitted
from forecast.prepare import prepare, read
from forecast.registry import BASELINES, MODELS
from forecast.series import as_fitted, solved_baseline

ROOT = Path(__file__).parents[1]
ETTH1 = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", n_rows=400)
LOOKBACK, HORIZON = 24, 12
SERIES = [name for name, spec in MODELS.items() if spec.task == "series"]
Networks = Callable[..., nn.Module]


def fitted_on(data: Any, name: str, make_network: Networks | None = None, **options: Any) -> Fitted:
    """The model as a fit leaves it, its network untrained: what it reads is the same."""
    chosen = {"lookback": LOOKBACK, "horizon": HORIZON, **options}
    prepared = prepare(read(resolve(name, flags={"data": chosen}), data))
    if name in BASELINES:
        return as_fitted(solved_baseline(name, prepared), prepared)
    assert make_network is not None
    return as_fitted(make_network(name, prepared.shape).eval(), prepared)


@pytest.fixture(scope="module")
def naive() -> Fitted:
    return fitted_on(ETTH1, "naive")


@pytest.fixture(scope="module")
def stored(naive: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    naive.save(folder)
    return folder


def stores(ids: tuple[int, ...] = (300, 220, 260), **columns: np.ndarray) -> pl.DataFrame:
    """Long rows of several real series of different lengths, from variates of ETTh1."""
    parts = [
        pl.DataFrame(
            {"shop": f"s{number}", "ds": ETTH1["date"][:length], "y": ETTH1[ETTH1.columns[number + 1]][:length]}
        )
        for number, length in enumerate(ids)
    ]
    return pl.concat(parts).with_columns(pl.Series(name, values) for name, values in columns.items())


class Leaky(nn.Module):
    """A network with a function that does more than it should."""

    any_variates = True

    def __init__(self, network: nn.Module, function: Callable[[Window, Tensor], Tensor]) -> None:
        super().__init__()
        self.shape, self.config, self.network, self.function = network.shape, network.config, network, function

    def forward(self, window: Window) -> Tensor:
        return self.function(window, self.network(window))


def behind(part: Tensor) -> Tensor:
    """What lies behind the lookback in the memory of a batch: (B, H, V)."""
    batch, lookback, variates = part.shape
    return part.as_strided((batch, lookback + HORIZON, variates), part.stride())[:, lookback:]


def names(found: Audit) -> dict[str, int]:
    return {check.name: check.moved for check in found.checks}


# Honest models


@pytest.mark.parametrize("name", SERIES)
def test_every_honest_model_is_clean_to_the_last_bit(name: str, make_network: Networks) -> None:
    found = forecast.audit(fitted_on(ETTH1, name, make_network), ETTH1, origins=3)
    assert names(found) == dict.fromkeys(("as they are", "missing", "huge", "random", "shuffled", "scaler"), 0)
    assert found.clean and found.error is None
    assert [check.compared for check in found.checks[:-1]] == [3 * HORIZON * 7] * 5
    assert found.checks[-1].compared == 7 and found.checks[-1].not_checked is None


def test_series_of_different_lengths_are_each_cut_at_their_own_origins() -> None:
    table = stores()
    found = forecast.audit(fitted_on(table, "linear"), table.sample(fraction=1, shuffle=True, seed=1), origins=4)
    assert found.clean
    assert found.checks[0].compared == 4 * HORIZON * 3
    assert found.checks[-1].compared == 3, "the scaler of each series was checked"
    assert found.about["series"] == 3


def test_ids_that_are_variates_of_a_panel_are_clean(make_network: Networks) -> None:
    table = stores((300, 300, 300))
    model = fitted_on(table, "itransformer", make_network)
    assert model.schema.layout == "panel"
    found = forecast.audit(model, table, origins=3)
    assert found.clean and found.checks[0].compared == 3 * HORIZON * 3


def test_series_that_the_model_has_not_met_is_scaled_by_rows_before_the_origin_alone() -> None:
    model = fitted_on(stores((300, 220)), "linear", short_series="drop")
    found = forecast.audit(replace(model, schema=replace(model.schema, layout="channels")), stores(), origins=3)
    assert {name: moved for name, moved in names(found).items() if name != "scaler"} == dict.fromkeys(
        ("as they are", "missing", "huge", "random", "shuffled"), 0
    )


def test_numbers_with_decimal_commas_and_a_date_beside_a_clock_are_changed_too(tmp_path: Path) -> None:
    moment = ETTH1["date"].str.split(" ")
    table = pl.DataFrame(
        {"Date": moment.list.get(0), "Time": moment.list.get(1)}
        | {name: ETTH1[name].round(3).cast(pl.String).str.replace(".", ",", literal=True) for name in ("HUFL", "OT")}
    )
    file = tmp_path / "comma.csv"
    table.write_csv(file, separator=";")
    model = fitted_on(file, "linear")
    assert model.variates == ("HUFL", "OT")
    assert forecast.audit(model, file, origins=2).clean
    peeks = replace(model, network=Leaky(model.network, lambda window, out: out + behind(window.past)))
    assert names(forecast.audit(peeks, file, origins=2))["huge"] == 2 * 2 * HORIZON


def test_known_covariates_may_be_used_and_other_columns_of_the_future_may_not(make_network: Networks) -> None:
    rows = np.arange(400)
    table = ETTH1.select("date", "OT", "HUFL").with_columns(promo=pl.Series(rows % 5 == 0).cast(pl.Int8))
    options = {"target": ("OT",), "variates": ("HUFL",), "known_future": ("promo",)}
    model = fitted_on(table, "itransformer", make_network, **options)
    found = forecast.audit(model, table, origins=2)
    assert found.clean and found.warnings == []
    assert {"not forecast", "beside known covariates"} <= names(found).keys()
    assert "promo" in found.notes[0] and "may use" in found.notes[0]

    class Greedy(Fitted):
        def predict(self, data: Any, **options: Any) -> Any:
            """Adds the last value of a column that is not known in advance."""
            return super().predict(data, **options).with_columns(pl.col("yhat") + data["HUFL"].fill_null(0.0)[-1])

    greedy = Greedy(**vars(model))
    assert names(forecast.audit(greedy, table, origins=2))["beside known covariates"] == 2 * HORIZON


@pytest.mark.parametrize(("lag", "when"), [(0, "at the same time"), (3, "3 steps earlier"), (-2, "2 steps later")])
def test_known_covariate_that_repeats_a_target_is_warned_of(lag: int, when: str) -> None:
    table = ETTH1.select("date", "OT").with_columns(plan=-2 * pl.col("OT").shift(-lag).fill_null(0.0) + 7)
    model = fitted_on(table, "naive", target=("OT",), known_future=("plan",))
    warnings = forecast.audit(model, table, origins=1).warnings
    assert len(warnings) == 1 and f"plan repeats OT {when}" in warnings[0]


def test_covariate_that_repeats_a_target_from_a_horizon_ago_is_no_leak() -> None:
    table = ETTH1.select("date", "OT").with_columns(before=pl.col("OT").shift(HORIZON).fill_null(0.0))
    model = fitted_on(table, "naive", target=("OT",), known_future=("before",))
    assert forecast.audit(model, table, origins=1).warnings == []


# Leaks


def test_network_that_reads_behind_its_window_is_caught_and_named(naive: Fitted) -> None:
    peeks = replace(naive, network=Leaky(naive.network, lambda window, out: out + 1e-6 * behind(window.past)))
    found = forecast.audit(peeks, ETTH1, origins=2)
    assert not found.clean and isinstance(found.error, GateError) and found.error.exit_code == 4
    leak = next(leak for leak in found.leaks if leak.check == "huge")
    assert (leak.series, leak.step) == ("HUFL", 1)
    assert leak.origin == found.origins[0] and leak.origin in leak.message
    assert leak.before is not None and leak.after is not None and abs(leak.after - leak.before) > 1e20
    assert "knows the future" in found.error.message and "LEAK" in found.text()
    assert found.checks[2].moved == found.checks[2].compared


def test_network_that_asks_only_whether_later_values_are_there_is_caught(naive: Fitted) -> None:
    def asks(window: Window, out: Tensor) -> Tensor:
        return out if 0 in window.seen.stride() else out + behind(window.seen).float()  # stride 0: all were seen

    gaps = ETTH1.with_columns(
        pl.when(pl.int_range(pl.len()) % 10 == 3).then(None).otherwise(pl.col("HUFL")).alias("HUFL")
    )
    moved = names(forecast.audit(replace(naive, network=Leaky(naive.network, asks)), gaps, origins=2))
    assert moved["as they are"] > 0 and moved["missing"] == 0


def test_one_column_that_leaks_into_another_is_caught_with_the_series_it_moves(naive: Fitted) -> None:
    def peeks(window: Window, out: Tensor) -> Tensor:
        out = out.clone()
        out[..., 4] += behind(window.past)[..., 2]
        return out

    found = forecast.audit(replace(naive, network=Leaky(naive.network, peeks)), ETTH1, origins=2)
    assert {leak.series for leak in found.leaks} == {naive.variates[4]}
    assert names(found)["huge"] == 2 * HORIZON


def test_model_that_scales_by_all_rows_it_is_given_is_caught(naive: Fitted) -> None:
    class Rescaling(Fitted):
        def scaler_for(self, frame: SeriesFrame, end: Any = None) -> tuple[Scaler, np.ndarray]:
            return Scaler.fit(frame, frame.offsets[1:]), np.arange(len(frame.names))

    model = Rescaling(**vars(fitted_on(ETTH1, "linear")))
    found = forecast.audit(model, ETTH1, origins=2)
    assert min(names(found)[way] for way in ("as they are", "huge", "random", "shuffled")) > 0


@pytest.mark.parametrize("share", [0.75, 1.0])
def test_scaler_fitted_beyond_the_training_part_is_caught(naive: Fitted, share: float) -> None:
    frame = read(resolve("naive"), ETTH1).frame
    rows = int(400 * share)
    found = forecast.audit(replace(naive, scaler=Scaler.fit(frame, np.array([rows]))), ETTH1, origins=1)
    assert [leak.check for leak in found.leaks] == ["scaler"]
    assert f"up to {ETTH1['date'][rows - 1]}" in found.leaks[0].message
    assert f"ends by {ETTH1['date'][279]}" in found.leaks[0].message  # 70 % of the rows


def test_scaler_of_one_of_many_series_that_saw_its_test_part_is_caught() -> None:
    table = stores()
    model = fitted_on(table, "naive")
    all_rows = Scaler.fit(frame := read(resolve("naive"), table).frame, frame.offsets[1:])
    mean, std = model.scaler.mean.copy(), model.scaler.std.copy()
    mean[1], std[1] = all_rows.mean[1], all_rows.std[1]
    found = forecast.audit(replace(model, scaler=Scaler(mean, std, model.scaler.known)), table, origins=1)
    assert [(leak.check, leak.series) for leak in found.leaks] == [("scaler", "s1")]


def test_scaler_that_is_of_no_rows_at_all_is_caught_on_the_data_of_the_fit_and_not_judged_on_others(
    naive: Fitted,
) -> None:
    wrong = replace(naive, scaler=Scaler(naive.scaler.mean + 0.1, naive.scaler.std, naive.scaler.known))
    assert [leak.check for leak in forecast.audit(wrong, ETTH1, origins=1).leaks] == ["scaler"]
    other = ETTH1.with_columns(pl.col("HUFL") + 1)
    found = forecast.audit(naive, other, origins=1)
    assert found.clean and "not the data of the fit" in str(found.checks[-1].not_checked)


def test_scaler_is_checked_on_longer_data_and_not_where_the_training_part_is_absent(naive: Fitted) -> None:
    longer = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", n_rows=500)
    assert forecast.audit(naive, longer, origins=1).checks[-1].compared == 7
    recent = forecast.audit(naive, longer[200:], origins=1)
    assert recent.clean and "the data reach from" in str(recent.checks[-1].not_checked)
    assert "not checked" in recent.text()


# Origins and documents


def test_origins_are_seeded_and_spread_over_the_data(naive: Fitted) -> None:
    one, same, other = (forecast.audit(naive, ETTH1, origins=4, seed=seed).origins for seed in (1, 1, 2))
    assert one == same != other
    rows = [ETTH1["date"].index_of(time) for time in one]
    room = (400 - HORIZON) - (LOOKBACK - 1)
    assert all(
        LOOKBACK - 1 + number * room / 4 - 1 <= row <= LOOKBACK - 1 + (number + 1) * room / 4
        for number, row in enumerate(rows)
    )


def test_origin_whose_row_is_missing_moves_to_the_row_before_it(naive: Fitted) -> None:
    table = ETTH1.filter((pl.int_range(pl.len()) % 3 > 0) | (pl.int_range(pl.len()) < 50))
    found = forecast.audit(naive, table, origins=5)
    assert found.clean and set(found.origins) <= set(table["date"])


def test_document_is_plain_json_and_says_what_was_not_shown(naive: Fitted) -> None:
    found = forecast.audit(naive, ETTH1, origins=2)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["clean"] and document["error"] is None and document["leaks"] == []
    assert document["data"]["rows"] == 400 and len(document["origins"]) == 2
    assert "weights" in document["notes"][-1]


def test_data_without_room_for_an_origin_are_refused(naive: Fitted) -> None:
    with pytest.raises(DataError, match="12 rows"):
        forecast.audit(naive, ETTH1[:12])
    with pytest.raises(UsageError, match="0 origins"):
        forecast.audit(naive, ETTH1, origins=0)


def test_command_prints_the_checks_and_a_leak_ends_with_code_4_and_two_lines(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.csv"
    ETTH1.write_csv(data)
    assert main(["audit", str(stored), str(data), "--origins", "2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["audit", str(stored), str(data), "--origins", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"]
    model = Fitted.load(stored)
    leaky = tmp_path / "leaky"
    every = Scaler.fit(read(resolve("naive"), ETTH1).frame, np.array([400]))
    replace(model, scaler=every).save(leaky)
    assert main(["audit", str(leaky), str(data), "--origins", "1"]) == 4
    out, err = capsys.readouterr()
    assert "LEAK" in out and err.splitlines()[-2].startswith(f"{data}: naive scales")
    assert err.splitlines()[-1].startswith("Fit the model again: forecast fit")
    assert main(["audit", str(leaky), str(data), "--origins", "1", "--json"]) == 4
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] == 4 and printed.err == ""


def test_thread_count_is_left_alone(naive: Fitted) -> None:
    before = torch.get_num_threads()
    forecast.audit(naive, ETTH1, origins=1)
    assert torch.get_num_threads() == before
