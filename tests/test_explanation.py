"""Explanations: what the forecasts use is found, what they do not use is not, and nothing is claimed beyond that."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

import forecast
from forecast import importance, report
from forecast.attention import attention_maps, profiles
from forecast.calibrate import LEVELS, Calibration
from forecast.cli import main
from forecast.data.covariates import Feature
from forecast.data.frame import Schema, SeriesFrame
from forecast.data.scale import Scaler
from forecast.data.windows import Window, WindowDataset, WindowShape
from forecast.errors import DataError, UsageError
from forecast.fitted import Fitted
from forecast.fitting import Run
from forecast.importance import Importance, Source, permutation_importance
from forecast.models.naive import NaiveConfig

ROOT = Path(__file__).parents[1]
ETTH1 = pl.read_csv(ROOT / "datasets" / "ETTh1.csv", try_parse_dates=True, n_rows=400)
VARIATES = tuple(ETTH1.columns[1:])
LOOKBACK, HORIZON = 24, 6
TINY = ("model.d_model=16", "model.d_ff=16", "model.heads=2", "model.layers=2", "train.epochs=1")
LAG = 8  # steps by which A follows B, not less than the horizon: B's past holds A's future
Rows = dict[tuple[str, str, str, str | None], float]
pytestmark = pytest.mark.usefixtures("desk")


class Forecast(nn.Module):
    """A network that is any function of the window."""

    any_variates = False

    def __init__(self, function: Callable[[Window], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, window: Window) -> Tensor:
        return self.function(window)


def model_of(
    network: Any,
    variates: Sequence[str],
    *,
    targets: int = 1,
    known: Sequence[str] = (),
    marks: Sequence[str] = (),
    layout: str = "wide",
    keys: Sequence[str] = ("",),
    std: float = 1.0,
    lookback: int = 12,
    horizon: int = HORIZON,
    **others: Any,
) -> Fitted:
    """A fitted model around a network: mean 0, one standard deviation for all."""
    values = tuple(variates) if layout != "panel" else ("y",)
    count, owners = len(variates), len(keys)
    return Fitted(
        name="naive",
        config=NaiveConfig(),
        shape=WindowShape(lookback, horizon, count, targets, len(marks), len(known)),
        schema=Schema(
            layout, None if layout == "wide" else "unique_id", "ds", values, targets, "h", known=tuple(known)
        ),
        marks=tuple(marks),
        keys=tuple(keys),
        variates=tuple(variates),
        scaler=Scaler(
            np.zeros((owners, count)), np.full((owners, count), std), np.array([[0.0], [1.0]]).repeat(len(known), 1)
        ),
        calibration=Calibration(LEVELS, np.zeros((len(LEVELS), horizon, targets)), np.zeros((len(LEVELS), horizon))),
        network=network,
        facts=others.pop("facts", {}),
        **others,
    )


def table_of(**columns: np.ndarray) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    return pl.DataFrame({"ds": [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(rows)], **columns})


def planted(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """A repeats B after `LAG` hours; B and C are noise."""
    b, c = np.random.default_rng(seed).standard_normal((2, rows + LAG))
    return table_of(A=b[:-LAG], B=b[LAG:], C=c[LAG:])


def follows(window: Window) -> Tensor:
    """The rule of `planted`: A's future is B's past; of B the mean is forecast, of C nothing is asked."""
    lookback = window.past.shape[1]
    future = window.past[:, lookback - LAG : lookback - LAG + HORIZON, 1]
    return torch.stack((future, torch.zeros_like(future)), dim=2)


def numbers(explanation: Any) -> Rows:
    found = explanation.table
    assert found.columns == ["kind", "measure", "source", "target", "value", "sd"]
    return {row[:4]: row[4] for row in found.iter_rows()}


# What is used


def test_a_planted_cause_is_found_and_what_is_not_used_has_an_importance_of_exactly_0() -> None:
    explanation = forecast.explain(model_of(Forecast(follows), "ABC", targets=2), planted())
    found = numbers(explanation)
    assert found["variate", "mse", "A", None] == found["variate", "mse", "C", None] == 0.0
    assert found["variate", "mae", "A", "A"] == found["variate", "mae", "C", "A"] == 0.0
    assert found["variate", "mse", "B", "B"] == 0.0
    # Two values of B that have nothing to do with each other differ by twice its variance.
    assert found["variate", "mse", "B", "A"] == pytest.approx(2.0, rel=0.15)
    assert found["variate", "mse", "B", None] == pytest.approx(found["variate", "mse", "B", "A"] / 2, rel=0.01)
    assert explanation.targets_that_use_others() == ["A"]
    assert "leans most on B" in explanation.headline()
    assert explanation.document()["importance"][1]["share"] == 1.0


def test_a_trained_network_is_explained_by_the_rule_that_made_its_data(make_network: Callable[..., nn.Module]) -> None:
    frame = planted(1500)
    shape = WindowShape(12, HORIZON, 3, 1, 0)
    network = make_network("itransformer", shape, d_model=32, d_ff=32, use_norm=False, dropout=0.0)
    rows = torch.from_numpy(frame.select("A", "B", "C").to_numpy()).float().unfold(0, 12 + HORIZON, 1).transpose(1, 2)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    seen, none = torch.ones(64, 12, 3, dtype=torch.bool), torch.empty(64, 12, 0)
    for index in torch.randint(1000, (150, 64), generator=torch.Generator().manual_seed(0)):
        batch = rows[index]
        loss = (network(Window.of(batch[:, :12], seen, none, none[:, :HORIZON])) - batch[:, 12:, :1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    explanation = forecast.explain(model_of(network.eval(), "ABC"), frame[1000:])
    found = numbers(explanation)
    b, c = (found["variate", "mse", name, "A"] for name in "BC")
    assert explanation.importance.base("mse") < 0.5, "the network has not learnt the rule"
    assert b > 1.0
    assert abs(c) < 0.05 * b
    assert explanation.targets_that_use_others() == ["A"]


def test_channel_wise_model_gains_nothing_from_other_variates_and_the_text_says_so() -> None:
    explanation = forecast.explain(
        model_of(Forecast(lambda w: w.past[:, -1:].expand(-1, HORIZON, -1)), "ABC", targets=3), planted()
    )
    others = [
        value
        for key, value in numbers(explanation).items()
        if key[1] in ("mse", "mae") and key[3] is not None and key[2] != key[3]
    ]
    assert others == [0.0] * 12
    assert "No target gains from another variate" in explanation.text()
    alone = forecast.explain(model_of(Forecast(lambda w: w.past[:, -1:].expand(-1, HORIZON, -1)), "A"), planted())
    assert "There is one variate" in alone.text()


@pytest.mark.parametrize(
    ("rises", "gains"),
    [([0.05, 0.06], True), ([0.005, 0.006], False), ([0.3, -0.1], False)],
    ids=["clear", "below 1 %", "within the noise of repeats"],
)
def test_target_gains_from_another_variate_only_by_a_clear_rise(rises: list[float], gains: bool) -> None:
    sources = (Source("variate", "A", 0), Source("variate", "B", 1), Source("calendar", "calendar", 0))
    rise = np.zeros((2, 3, 1))
    rise[:, 0], rise[:, 2] = 9.0, 9.0  # its own past and the calendar do not count
    rise[:, 1, 0] = rises
    found = Importance(sources, ("A",), 4, np.ones(1), {"mse": np.ones(1)}, {"mse": rise}, np.ones(1), rise)
    assert found.used_others().tolist() == [gains]


def test_model_that_uses_no_input_is_said_to_use_none() -> None:
    explanation = forecast.explain(model_of(Forecast(lambda w: torch.zeros(len(w.past), HORIZON, 1)), "AB"), planted())
    assert "uses no input" in explanation.headline()
    assert [row["share"] for row in explanation.document()["importance"]] == [0.0, 0.0]


def test_rise_is_that_of_a_plain_calculation_in_scaled_and_original_units(
    make_frame: Callable[..., SeriesFrame], make_windows: Callable[..., WindowDataset]
) -> None:
    """Of two windows each takes from the other: one exchange is possible, and it is worked out by hand."""
    values = np.random.default_rng(1).standard_normal((2 * 9, 2))
    values[[3, 7, 16], 0] = np.nan
    windows = make_windows(make_frame(values, (9, 9)), 6, 3)
    windows = WindowDataset(windows.buffer, torch.tensor([5, 14]), 6, 3, 2)  # one in each series
    scaler = Scaler(np.zeros((2, 2)), np.array([[2.0, 3.0], [5.0, 7.0]]))

    def network(past: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(6, 2) -> (3, 2): each forecast is a sum over both variates, and counts what was seen of the first."""
        return np.stack([past[:3].sum(1) + seen[:, 0].sum(), past[3:].sum(1)], axis=1)

    def forecaster(window: Window) -> Tensor:
        pairs = zip(window.past.numpy(), window.seen.numpy(), strict=True)
        return torch.from_numpy(np.stack([network(*pair) for pair in pairs]))

    sources = [Source("variate", name, number) for number, name in enumerate("ab")]
    found = permutation_importance(forecaster, windows, scaler, sources, "ab", repeats=2, seed=3)
    clean, seen = np.nan_to_num(values).astype(np.float32), ~np.isnan(values)
    past, was = (np.stack([part[0:6], part[9:15]]) for part in (clean, seen))
    truth, known = (np.stack([part[6:9], part[15:18]]) for part in (clean, seen))
    std = scaler.std[:, None]

    def errors(past: np.ndarray, was: np.ndarray) -> np.ndarray:
        error = (np.stack([network(*pair) for pair in zip(past, was, strict=True)]) - truth) * known
        return np.stack([(error**2).sum((0, 1)), (np.abs(error) * std).sum((0, 1))]) / known.sum((0, 1))

    for number in range(2):
        moved, moved_seen = past.copy(), was.copy()
        moved[..., number], moved_seen[..., number] = past[::-1, :, number], was[::-1, :, number]
        expected = errors(moved, moved_seen) - errors(past, was)
        for row, measure in enumerate(("mse", "mae")):
            mean, sd = found.by_target(measure)
            np.testing.assert_allclose(mean[number], expected[row], rtol=1e-5)
            assert (sd == 0).all()


def test_covariates_and_the_calendar_are_exchanged_over_lookback_and_horizon() -> None:
    draw = np.random.default_rng(0)
    table = table_of(y=draw.standard_normal(300), promo=draw.standard_normal(300), price=draw.standard_normal(300))

    def network(window: Window) -> Tensor:
        """The first half of the horizon follows the plan, the second the hour of the day."""
        half = HORIZON // 2
        return torch.cat((window.known[:, -HORIZON:-half, :1], window.future_time[:, half:, :1]), dim=1)

    fitted = model_of(Forecast(network), ["y"], known=["promo", "price"], marks=["hour", "weekday"])
    found = forecast.explain(fitted, table)
    rises = {(row["kind"], row["name"]): row["mse"] for row in found.document()["importance"]}
    assert list(rises) == [("variate", "y"), ("known", "promo"), ("known", "price"), ("calendar", "calendar")]
    assert rises["variate", "y"] == rises["known", "price"] == 0.0
    assert rises["known", "promo"] != 0.0
    assert rises["calendar", "calendar"] != 0.0
    assert "promo (known)" in found.text()


@pytest.mark.parametrize("layout", ["channels", "panel"])
def test_static_features_are_exchanged_between_series(layout: str) -> None:
    draw, ids = np.random.default_rng(0), ["a", "b", "c"]
    table = pl.concat(
        [
            table_of(y=number + 0.1 * draw.standard_normal(60)).with_columns(unique_id=pl.lit(key))
            for number, key in enumerate(ids)
        ]
    )
    per_series = layout == "channels"

    def network(window: Window) -> Tensor:
        return window.static[..., 0][:, None].expand(-1, HORIZON, -1)

    fitted = model_of(
        Forecast(network),
        ["y"] if per_series else ids,
        targets=1 if per_series else 3,
        layout=layout,
        keys=ids if per_series else [""],
        features=(Feature("size", None, 0.0, 1.0), Feature("kind", "shop", 0.0, 1.0)),
        static=np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]], np.float32),
    )
    document = forecast.explain(fitted, table).document()
    rises = {(row["kind"], row["name"]): row["mse"] for row in document["importance"]}
    assert document["error"]["mse"] < 0.1
    assert rises.pop(("static", "size")) > 0.5
    assert set(rises.values()) == {0.0} and ("static", "kind=shop") in rises


def test_importance_is_of_answers_that_were_measured() -> None:
    table = planted().with_columns(B=pl.lit(None, dtype=pl.Float64))
    fitted = model_of(Forecast(lambda w: w.past[:, -1:].expand(-1, HORIZON, -1)), "AB", targets=2)
    document = forecast.explain(fitted, table.select("ds", "A", "B")).document()
    assert document["importance"][0]["targets"]["B"] is None
    assert document["importance"][0]["mse"] == document["importance"][0]["targets"]["A"] != 0.0
    json.dumps(document, allow_nan=False)
    with pytest.raises(DataError, match="no value to forecast is known"):
        forecast.explain(model_of(fitted.network, "B"), table.select("ds", "B"))


# The same again


def test_same_seed_gives_the_same_numbers_whatever_the_order_of_rows_and_another_seed_others() -> None:
    fitted, table = model_of(Forecast(follows), "ABC", targets=2), planted()
    first = forecast.explain(fitted, table, seed=1).table
    assert_frame_equal(forecast.explain(fitted, table, seed=1).table, first, check_exact=True)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=2)
    assert_frame_equal(forecast.explain(fitted, shuffled, seed=1).table, first, check_exact=True)
    assert not first["value"].equals(forecast.explain(fitted, table, seed=2).table["value"])


def test_numbers_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, table = model_of(Forecast(follows), "ABC", targets=2), planted()
    first = forecast.explain(fitted, table).table
    monkeypatch.setattr(importance, "_BATCH", 7)
    assert_frame_equal(forecast.explain(fitted, table).table, first, rel_tol=1e-9)


def test_windows_are_evenly_spaced_and_after_the_training_part_where_there_are_any() -> None:
    facts = {"trained_on": ["2024-01-01T00:00:00", "2024-01-12T00:00:00"]}
    fitted, table = model_of(Forecast(follows), "ABC", targets=2, facts=facts), planted()
    explanation = forecast.explain(fitted, table, windows=10)
    assert (explanation.importance.windows, explanation.unseen) == (10, True)
    assert explanation.span == ("2024-01-12 01:00:00", str(table["ds"][-1]))
    early = forecast.explain(fitted, table[:100], windows=10)
    assert not early.unseen
    assert "training part included" in early.text()


def test_frame_library_that_was_given_comes_back() -> None:
    fitted = model_of(Forecast(follows), "ABC", targets=2)
    given = forecast.explain(fitted, planted().to_pandas()).table
    assert type(given).__module__.startswith("pandas")
    assert_frame_equal(pl.from_pandas(given), forecast.explain(fitted, planted()).table)


# Attention


def test_attention_is_the_mean_over_heads_and_windows_and_its_rows_sum_to_1(
    make_frame: Callable[..., SeriesFrame],
    make_windows: Callable[..., WindowDataset],
    make_network: Callable[..., nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = ("hour", "weekday")
    windows = make_windows(make_frame(np.random.default_rng(0).standard_normal((60, 3))), 24, 12, marks)
    network = make_network("itransformer", WindowShape(24, 12, 3, 3, 2), layers=2).eval()
    monkeypatch.setattr("forecast.attention._SQUARES", 100)  # four windows at once
    found = attention_maps(network, windows, ("v0", "v1", "v2", *marks))
    with torch.no_grad():
        expected = network.attention_maps(windows[torch.arange(len(windows))].window)
    assert [layer.layer for layer in found] == [1, 2]
    for layer, shares in zip(found, expected, strict=True):
        assert layer.tokens == ("v0", "v1", "v2", "hour", "weekday")
        np.testing.assert_allclose(layer.share.sum(1), 1.0, rtol=1e-6)
        np.testing.assert_allclose(layer.share, shares.mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose(layer.sd, shares.mean(1).std(0, correction=0), atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"layers": 2}, {"stack": (2, 1)}, {"layers": 2, "variant": "autoformer"}], ids=str
)
def test_selected_steps_are_the_share_of_heads_and_windows_that_selected_them(
    make_frame: Callable[..., SeriesFrame],
    make_windows: Callable[..., WindowDataset],
    make_network: Callable[..., nn.Module],
    settings: dict[str, Any],
) -> None:
    windows = make_windows(make_frame(np.random.default_rng(0).standard_normal((80, 3))), 24, 12)
    network = make_network("informer", WindowShape(24, 12, 3, 3, 0), factor=1, **settings).eval()
    found = profiles(network, windows)
    with torch.no_grad():
        chosen = network.selected_queries(windows[torch.arange(len(windows))].window)
    selected = [profile for profile in found if profile.measure == "selected"]
    encoders = [profile for profile in found if profile.measure == "received"]
    assert len(selected) == len(chosen) == len({profile.place for profile in selected})
    for profile, positions in zip(selected, chosen, strict=True):
        counts = np.bincount(positions.flatten(), minlength=len(profile.steps)) / (len(windows) * positions.shape[1])
        np.testing.assert_allclose(profile.share, counts, atol=1e-6)
    assert [profile.place for profile in selected[: len(encoders)]] == [profile.place for profile in encoders]
    for profile in encoders:
        assert profile.share.sum() == pytest.approx(1.0)
        assert profile.steps[-1] == 0
    assert encoders[0].steps.tolist() == list(range(-23, 1))
    assert selected[-1].steps.tolist() == list(range(-11, 13))  # half of the lookback, then the horizon
    if "stack" in settings:
        assert (encoders[2].place, encoders[2].steps[0]) == ("encoder 2 layer 1", -11)


def test_informer_with_full_attention_selects_nothing(
    make_frame: Callable[..., SeriesFrame],
    make_windows: Callable[..., WindowDataset],
    make_network: Callable[..., nn.Module],
) -> None:
    windows = make_windows(make_frame(np.random.default_rng(0).standard_normal((60, 3))), 24, 12)
    network = make_network("informer", WindowShape(24, 12, 3, 3, 0), attention="full").eval()
    assert {profile.measure for profile in profiles(network, windows)} == {"received"}
    assert attention_maps(network, windows, "abc") == ()
    assert profiles(make_network("s-mamba", WindowShape(24, 12, 3, 3, 0)), windows) == ()


# A stored model, the command and its page


@pytest.fixture(scope="module")
def run(store: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        return forecast.fit(ETTH1, "itransformer", lookback=LOOKBACK, horizon=HORIZON, settings=TINY)


def test_stored_model_explains_as_the_one_in_memory_and_the_command_as_python(run: Run) -> None:
    ETTH1.write_parquet("data.parquet")
    expected = forecast.explain(run, ETTH1).table
    address = f"runs:/{run.id}/forecaster"
    assert_frame_equal(forecast.explain(address, ETTH1).table, expected, check_exact=True)
    assert main(["explain", address, "data.parquet", "-o", "out.parquet", "--quiet"]) == 0
    assert_frame_equal(pl.read_parquet("out.parquet"), expected, check_exact=True)
    assert set(expected["kind"]) == {"variate", "calendar", "attention"}
    assert set(expected.filter(pl.col("kind") == "attention")["measure"]) == {"layer 1", "layer 2"}


def test_command_prints_a_table_or_one_document_and_writes_csv(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ETTH1.write_csv("data.csv")
    call = ["explain", f"runs:/{run.id}/forecaster", "data.csv", "--windows", "20"]
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert "8 inputs on 20 windows, 5 times" in err
    assert "not what causes what" in out and "calendar" in out
    assert main([*call, "--json", "-o", "out.csv"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["data"]["windows"] == 20 and document["output"] == "out.csv"
    stored = {row[:4]: row[4] for row in pl.read_csv("out.csv").iter_rows()}
    for row in document["importance"]:
        assert stored[row["kind"], "mse", row["name"], None] == pytest.approx(row["mse"])
    assert sum(row["share"] for row in document["importance"]) == pytest.approx(1.0)
    layer = np.array(document["attention"][1]["share"])
    assert stored["attention", "layer 2", "HULL", "OT"] == pytest.approx(layer[6, 1])
    assert main([*call, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_page_stands_alone_and_says_what_it_does_not_show(run: Run) -> None:
    ETTH1.write_csv("data.csv")
    assert main(["explain", f"runs:/{run.id}/forecaster", "data.csv", "-o", "out.html", "--quiet"]) == 0
    page = Path("out.html").read_text(encoding="utf-8")
    assert "//" not in page and "<script" not in page and "@import" not in page
    for words in ("From input to target", "Layer 1", "Layer 2", "not what causes what", *VARIATES):
        assert words in page, words
    assert [path.name for path in Path().iterdir() if path.suffix == ".tmp"] == []


def test_names_are_escaped_on_the_page() -> None:
    table = planted().rename({"A": "<script>A", "B": 'B & "b"'})
    explanation = forecast.explain(model_of(Forecast(follows), table.columns[1:], targets=2), table)
    page = explanation.page()
    assert "<script" not in page
    assert "&lt;script&gt;A" in page and "B &amp;" in page


def test_page_of_an_informer_draws_its_selected_queries(make_network: Callable[..., nn.Module]) -> None:
    network = make_network("informer", WindowShape(12, HORIZON, 3, 3, 0))
    page = forecast.explain(model_of(network.eval(), "ABC", targets=3), planted(100), windows=5).page()
    assert "Which steps attend" in page and "decoder layer 1 self-attention" in page
    assert page.count('<svg class="plot"') == 3


def test_heat_map_of_many_variates_keeps_those_that_hold_most_and_says_so() -> None:
    values = np.zeros((50, 40))
    values[np.arange(20, 50), np.arange(10, 40)] = np.arange(1.0, 31.0)
    names = [[f"{part}{number:02}" for number in range(size)] for part, size in (("row", 50), ("column", 40))]
    html = report.heat_map(report.Heat("", *names, values))
    assert [number for number in range(50) if f"row{number:02}<" in html] == list(range(20, 50))
    assert [number for number in range(40) if f"column{number:02}<" in html] == list(range(10, 40))
    assert "the 30 of 50 rows and 30 of 40 columns" in html


def test_report_of_a_fit_shows_what_its_forecasts_use(run: Run) -> None:
    section = run.report.split("<h2>What the forecasts use</h2>")[1].split("</section>")[0]
    assert section.count("<tr>") == 1 + len(VARIATES) + 1  # head, variates, calendar
    assert "exchanged between windows" in section


# What is refused


def test_data_that_are_too_short_are_refused_with_the_rows_that_are_needed(run: Run) -> None:
    short = ETTH1[: LOOKBACK + HORIZON]
    with pytest.raises(DataError) as refused:
        forecast.explain(run, short)
    assert "The series has 30 rows; two windows of lookback 24 + horizon 6 need 31" in refused.value.message
    assert "Give more of the past" in refused.value.hint
    assert forecast.explain(run, ETTH1[: LOOKBACK + HORIZON + 1]).importance.windows == 2


def test_other_columns_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="C"):
        forecast.explain(model_of(Forecast(follows), "ABC", targets=2), planted().drop("C"))
    table = pl.concat([planted().select("ds", y=name).with_columns(unique_id=pl.lit(name)) for name in "AC"])
    with pytest.raises(DataError, match="B, C"):
        forecast.explain(model_of(Forecast(follows), "AB", targets=2, layout="panel"), table)
    with pytest.raises(UsageError, match="the model has none"):
        forecast.explain(model_of(Forecast(follows), "ABC", targets=2), planted(), static="static.csv")


@pytest.mark.parametrize(
    ("call", "code", "what", "hint"),
    [
        (["data.csv", "-o", "out.png"], 2, "out.png: .png is not a format to write", ".html, .csv or .parquet"),
        (["data.csv", "-o", "no/out.html"], 2, "the folder no does not exist", "mkdir"),
        (["data.csv", "-o", "data.csv"], 2, "data.csv is the data", "another file"),
        (["data.csv", "--windows", "1"], 2, "1 windows", "2 windows or more"),
        (["nothing.csv"], 3, "nothing.csv: no such file", "Did you mean"),
        (["short.csv"], 3, "30 rows", "more of the past"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_two_lines_with_its_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str], call: list[str], code: int, what: str, hint: str
) -> None:
    ETTH1.write_csv("data.csv")
    ETTH1[:30].write_csv("short.csv")
    before = Path("data.csv").read_bytes()
    assert main(["explain", f"runs:/{run.id}/forecaster", *call, "--quiet"]) == code
    out, err = capsys.readouterr()
    first, second = err.rstrip("\n").split("\n")
    assert what in first and hint in second and out == ""
    assert Path("data.csv").read_bytes() == before


def test_model_that_is_not_there_exits_5(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ETTH1.write_csv("data.csv")
    assert main(["explain", "no-model", "data.csv"]) == 5
    assert "no model folder" in capsys.readouterr().err
