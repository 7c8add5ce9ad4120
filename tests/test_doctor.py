"""doctor: the facts of real files, the clean table, strengths and outliers, the suggested fit, and both pages."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forecast
from forecast.cli import main
from forecast.config import flags, resolve
from forecast.data import table
from forecast.data.frame import SeriesFrame, fingerprint, frame_series, understand
from forecast.errors import DataError, UsageError
from forecast.prepare import prepare, read
from forecast.strengths import outliers, strength

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("FORECAST_DATA") or ROOT.parent / "shared" / "data")
AIR = ROOT / "datasets" / "AirPassengers.csv"
ODD = ("outliers", "suspected-missing-code")  # which of the two a far value is called is not a fact of a file


class Facts(NamedTuple):
    """What is true of a file, from its description and from counting with polars alone."""

    layout: str
    freq: str
    series: int
    rows: int
    first: str
    last: str
    repairs: dict[str, int] = {}  # noqa: RUF012 – by kind; the column of published hold-outs aside
    odd: frozenset[tuple[str, float, int]] = frozenset()  # column, value and count of values that stand far apart
    missing: dict[str, int] = {}  # noqa: RUF012
    left_out: tuple[str, ...] = ()
    warnings: frozenset[tuple[str, str]] = frozenset()  # kind and column of all other warnings


# The weekly and the competition series have values that stand apart, too; those are left to the tests of the rule.
FACTS = {
    "ltsf/ETTh1.csv": Facts("wide", "h", 1, 17420, "2016-07-01T00:00:00", "2018-06-26T19:00:00"),
    "ltsf/ETTh1.parquet": Facts("wide", "h", 1, 17420, "2016-07-01T00:00:00", "2018-06-26T19:00:00"),
    "ltsf/ETTh2.parquet": Facts("wide", "h", 1, 17420, "2016-07-01T00:00:00", "2018-06-26T19:00:00"),
    "ltsf/ETTm1.parquet": Facts("wide", "15min", 1, 69680, "2016-07-01T00:00:00", "2018-06-26T19:45:00"),
    "ltsf/exchange_rate.parquet": Facts("wide", "D", 1, 7588, "1990-01-01T00:00:00", "2010-10-10T00:00:00"),
    "ltsf/national_illness.csv": Facts("wide", "W-TUE", 1, 966, "2002-01-01T00:00:00", "2020-06-30T00:00:00"),
    "ltsf/national_illness.parquet": Facts("wide", "W-TUE", 1, 966, "2002-01-01T00:00:00", "2020-06-30T00:00:00"),
    "ltsf/solar_AL_last10608.parquet": Facts("wide", "1", 1, 10608, "41952", "52559"),
    "ltsf/weather.parquet": Facts(
        *("wide", "10min", 1, 52696, "2020-01-01T00:10:00", "2021-01-01T00:00:00"),
        repairs={"duplicates-merged": 1, "gap-filled": 9},
        odd=frozenset(
            {("wv (m/s)", -9999, 1), ("max. PAR (\ufffdmol/m\ufffd/s)", -9999, 30), ("OT", -9999, 50)},
        ),
    ),
    "many_series/hospital.parquet": Facts("channels", "MS", 767, 64428, "2000-01-01T00:00:00", "2006-12-01T00:00:00"),
    "many_series/m3_monthly.parquet": Facts(
        "channels", "MS", 1428, 167562, "1857-01-01T00:00:00", "2005-02-01T00:00:00"
    ),
    "many_series/m3_other.parquet": Facts("channels", "1", 174, 13325, "1", "104"),
    "many_series/m3_quarterly.parquet": Facts(
        *("channels", "QS", 756, 37004, "1946-01-01T00:00:00", "1996-07-01T00:00:00"),
        odd=frozenset({("y", 701.58, 4)}),
    ),
    "many_series/m3_yearly.parquet": Facts(
        *("channels", "YS", 645, 18319, "1811-01-01T00:00:00", "2001-01-01T00:00:00"), odd=frozenset({("y", 1558, 1)})
    ),
    "many_series/m4_hourly.parquet": Facts(
        *("channels", "h", 414, 373372, "2009-06-01T12:00:00", "2017-12-12T11:00:00"), odd=frozenset({("y", 7038, 1)})
    ),
    "many_series/tourism_monthly.parquet": Facts(
        "channels", "MS", 366, 109280, "1979-01-01T00:00:00", "2007-09-01T00:00:00"
    ),
    "many_series/us_births.parquet": Facts("channels", "D", 1, 7305, "1969-01-01T00:00:00", "1988-12-31T00:00:00"),
    "real_csv/AirPassengers.csv": Facts("wide", "MS", 1, 144, "1949-01-01T00:00:00", "1960-12-01T00:00:00"),
    "real_csv/EPF_FR_BE.csv": Facts("channels", "h", 2, 32160, "2015-01-01T00:00:00", "2016-10-31T23:00:00"),
    "real_csv/PJMW_hourly.csv": Facts(
        *("wide", "h", 1, 143206, "2002-04-01T01:00:00", "2018-08-03T00:00:00"),
        repairs={"sorted": 5951, "clock-change": 4 + 29, "gap-filled": 1},
    ),
    "real_csv/aus_tourism_quarters.csv": Facts(
        *("channels", "QS", 304, 24320, "1998-01-01T00:00:00", "2017-10-01T00:00:00"),
        repairs={"column-dropped": 1},
        left_out=("State",),  # each region lies in one state
        warnings=frozenset({("text-column", "State")}),
    ),
    "real_csv/co2.csv": Facts(
        *("wide", "MS", 1, 741, "1958-03-01T00:00:00", "2020-04-01T00:00:00"), repairs={"gap-filled": 5}
    ),
    "real_csv/daily_min_temperatures.csv": Facts(
        *("wide", "D", 1, 3650, "1981-01-01T00:00:00", "1990-12-31T00:00:00"), repairs={"gap-filled": 2}
    ),
    "real_csv/metro_traffic_volume.csv": Facts(
        *("wide", "h", 1, 48204, "2012-10-02T09:00:00", "2018-09-30T23:00:00"),
        repairs={"column-dropped": 3, "duplicates-merged": 7629 - 6, "clock-change": 9, "gap-filled": 11976 - 3},
        odd=frozenset({("temp", 0, 10), ("rain_1h", 9831.3, 1)}),
        left_out=("holiday", "weather_main", "weather_description"),
        warnings=frozenset(
            {("text-column", "holiday"), ("text-column", "weather_main"), ("text-column", "weather_description")}
        ),
    ),
    "real_csv/monthly_milk_incomplete.csv": Facts(
        *("wide", "MS", 1, 155, "1962-01-01T00:00:00", "1975-12-01T00:00:00"), repairs={"gap-filled": 13}
    ),
    "real_csv/pedestrian.csv": Facts(
        *("channels", "h", 4, 66037, "2014-12-31T13:00:00", "2016-12-31T12:00:00"),
        repairs={"column-dropped": 2, "gap-filled": 5 + 2 + 2978 + 26},
        left_out=("Date", "Time"),
    ),
    "real_csv/peyton_manning.csv": Facts(
        *("wide", "D", 1, 2905, "2007-12-10T00:00:00", "2016-01-20T00:00:00"), repairs={"gap-filled": 59}
    ),
    "real_csv/stocks_long.csv": Facts("channels", "MS", 5, 560, "2000-01-01T00:00:00", "2010-03-01T00:00:00"),
    "real_csv/vic_elec.csv": Facts(
        *("wide", "30min", 1, 52608, "2011-12-31T13:00:00", "2014-12-31T12:30:00"),
        repairs={"column-dropped": 2},
        left_out=("Date", "Holiday"),
    ),
    "real_csv/yosemite_temps.csv": Facts(
        *("wide", "5min", 1, 18721, "2017-05-01T00:00:00", "2017-07-05T00:00:00"), missing={"y": 12}
    ),
    "spatiotemporal/england_covid.parquet": Facts("wide", "1", 1, 61, "0", "60"),
    "spatiotemporal/hungary_chickenpox.parquet": Facts("wide", "1", 1, 521, "0", "520"),
    "spatiotemporal/metr_la_week1.parquet": Facts(
        "wide", "5min", 1, 2016, "2012-03-01T00:00:00", "2012-03-07T23:55:00"
    ),
    "wide/electricity_weekly.parquet": Facts(
        *("wide", "W-SUN", 1, 156, "2012-01-01T00:00:00", "2014-12-21T00:00:00"),
        odd=frozenset({("T3", 38309, 9), ("T119", 2289, 1)}),
    ),
    "wide/fred_md.parquet": Facts("wide", "MS", 1, 728, "1959-01-01T00:00:00", "2019-08-01T00:00:00"),
    "wide/solar_weekly.parquet": Facts("wide", "W-SUN", 1, 52, "2006-01-01T00:00:00", "2006-12-24T00:00:00"),
    "wide/traffic_weekly.parquet": Facts("wide", "W-THU", 1, 104, "2015-01-01T00:00:00", "2016-12-22T00:00:00"),
}
NO_SERIES = {
    "spatiotemporal/metr_la_edges.parquet": "--edges",
    "spatiotemporal/hungary_chickenpox_edges.parquet": "--edges",
    "spatiotemporal/england_covid_edges.parquet": "--edges",
    "spatiotemporal/metr_la_sensors.parquet": "--static",
}
KEYS = ["kind", "layout", "rows", "series", "format", "columns", "freq", "freq_share", "span", "missing", "repairs"]
KEYS += ["warnings", "suggest"]


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs {name} in FORECAST_DATA or ../shared/data")
    return SHARED / name


def framed(source: Any, **options: Any) -> tuple[SeriesFrame, table.Table]:
    found = table.read(source)
    return frame_series(found, understand(found, **options)), found


def summed(entries: list[dict[str, Any]]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry["kind"]] = kinds.get(entry["kind"], 0) + entry["count"]
    return kinds


# Real files


@pytest.mark.parametrize("name", FACTS)
def test_every_shared_file_gives_its_known_facts(name: str) -> None:
    path, facts = shared(name), FACTS[name]
    document = forecast.doctor(path).document
    found = [r for r in document["repairs"] if r["first"] != "is_test"]
    odd = {
        (w["column"], float(w["value"].split(" in ")[0]), w["count"]) for w in document["warnings"] if w["kind"] in ODD
    }
    if name == "wide/traffic_weekly.parquet":
        odd = set()  # 862 sensors, nine of which have weeks that stand apart
    others = {(w["kind"], w["column"]) for w in document["warnings"] if w["kind"] not in (*ODD, "short-series")}
    left_out = tuple(column for column in document["columns"]["left_out"] if column != "is_test")
    assert document["kind"] == "series"
    assert Facts(
        document["layout"], document["freq"], document["series"], document["rows"], *document["span"],
        summed(found), frozenset(odd), {k: n for k, n in document["missing"].items() if n and not odd}, left_out,
        frozenset(others),
    ) == facts  # fmt: skip
    assert all(entry["first"] and entry["detail"] for entry in found)
    longer = {"real_csv/co2.csv": 3, "real_csv/peyton_manning.csv": 29, "real_csv/metro_traffic_volume.csv": 2588}
    if name in longer:
        steps = facts.rows - facts.repairs.get("duplicates-merged", 0) - 1
        steps -= 6 if "metro" in name else 0  # hours told twice when the clocks went back
        assert document["freq_share"] == pytest.approx(1 - longer[name] / steps, abs=1e-4)


def test_no_table_of_series_among_the_shared_files_is_forgotten() -> None:
    folders = ("ltsf", "wide", "many_series", "real_csv", "spatiotemporal")
    there = {f"{folder}/{path.name}" for folder in folders for path in (SHARED / folder).glob("*.*")}
    if not there:
        pytest.skip("the shared data are not here")
    assert there == {*FACTS, *NO_SERIES}


@pytest.mark.parametrize("name", NO_SERIES)
def test_a_graph_and_a_list_of_sensors_are_refused_with_the_option_they_belong_to(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(shared(name)), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["code"] == 3 and NO_SERIES[name] in told["hint"]


def test_edges_are_refused_but_series_that_only_sound_like_them_are_read() -> None:
    edges = pl.DataFrame({"Source": ["a", "b"], "Target": ["b", "c"], "weight": [1.0, 2.0]})
    with pytest.raises(DataError, match="two ends of an edge") as error:
        forecast.doctor(edges)
    assert "--edges" in error.value.hint
    with pytest.raises(DataError, match="an event between two nodes") as error:
        forecast.fit(edges.with_columns(t=pl.Series([1, 2])), "linear", horizon=1)
    assert "--model todyformer" in error.value.hint
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 3, 31), eager=True)
    long = pl.DataFrame({"source": ["a"] * 91 + ["b"] * 91, "ds": [*days, *days], "target": np.arange(182.0) ** 1.1})
    assert forecast.doctor(long).document["series"] == 2
    with pytest.raises(DataError, match="every row has"):
        forecast.doctor(pl.DataFrame({"station": ["x", "y", "z"], "height": [1.0, 2.0, 4.0]}))
    counted = pl.DataFrame({"id": range(50), "load": np.arange(50.0) ** 1.1})
    assert forecast.doctor(counted).document["rows"] == 50


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTS)
def test_a_short_fit_of_every_shared_file_runs(name: str, desk: Path) -> None:
    path = shared(name)
    document = forecast.doctor(path).document
    tiny = [f"model.{key}" for key in ("d_model=8", "d_ff=8", "heads=1", "layers=1")]
    run = forecast.fit(
        path, "itransformer", settings=[*tiny, "train.epochs=1", "train.epoch_batches=[1, 2]", "track.levels=[]"]
    )
    told = run.document
    assert told["data"]["freq"] == document["freq"] and told["data"]["span"] == document["span"]
    assert told["data"]["rows"] == document["rows"]
    assert (told["lookback"], told["horizon"]) == (document["suggest"]["lookback"], document["suggest"]["horizon"])
    assert all(np.isfinite(score["scaled"]["mse"]) for score in told["scores"].values())


# The document and the suggested fit


def test_the_document_has_the_parts_of_the_contract_and_is_json() -> None:
    document = forecast.doctor(AIR).document
    assert list(document) == KEYS
    assert list(document["columns"]) == ["id", "time", "values", "left_out"]
    assert list(document["format"]) == ["delimiter", "encoding", "decimal", "thousands", "header_row"]
    assert sorted(document["suggest"]) == ["command", "horizon", "lookback", "model"]
    assert json.loads(json.dumps(document)) == document
    assert document["columns"] == {"id": [], "time": ["Month"], "values": ["#Passengers"], "left_out": []}
    assert document["freq_share"] == 1.0 and document["missing"] == {} and document["repairs"] == []


def test_missing_counts_empty_cells_and_not_the_steps_without_a_row() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 4, 9), eager=True)
    wide = pl.DataFrame({"ds": days, "a": np.arange(100.0), "b": np.arange(100.0) ** 2})
    holes = wide.with_columns(pl.when(pl.int_range(100) % 10 == 3).then(None).otherwise(pl.col("a")).alias("a"))
    document = forecast.doctor(pl.concat([holes[:50], holes[55:]])).document
    assert document["missing"] == {"a": 9}  # of ten holes one lay among the rows that were taken out
    assert summed(document["repairs"]) == {"gap-filled": 5}
    assert document["rows"] == 95 and document["freq_share"] == pytest.approx(93 / 94, abs=1e-4)


def test_the_lengths_are_those_that_a_fit_chooses() -> None:
    for source in (AIR, ROOT / "datasets" / "ETTh1.csv"):
        chosen = read(resolve("linear", flags=flags()), source).config.data
        suggest = forecast.doctor(source).document["suggest"]
        assert (suggest["lookback"], suggest["horizon"]) == (chosen.lookback, chosen.horizon)
    suggest = forecast.doctor(AIR, horizon=3, lookback=7).document["suggest"]
    assert (suggest["lookback"], suggest["horizon"]) == (7, 3)


@pytest.mark.parametrize("rows", [12, 20, 33, 60, 200, 700])
def test_what_is_suggested_can_be_fitted_whatever_the_number_of_rows(rows: int) -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2024, 1, 1), eager=True)[:rows]
    values = np.random.default_rng(rows).normal(size=rows)
    suggest = forecast.doctor(pl.DataFrame({"ds": days, "y": values})).document["suggest"]
    lengths = {"horizon": suggest["horizon"], "lookback": suggest["lookback"]}
    read(resolve(suggest["model"], flags=flags(**lengths)), pl.DataFrame({"ds": days, "y": values}))


@pytest.mark.slow
def test_the_command_runs_as_printed_with_every_option_that_was_given(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = AIR.read_text().splitlines()
    rows = [f"{line.split(',')[0]};{line.split(',')[1]};{i % 7}" for i, line in enumerate(lines[1:])]
    Path("it's a file.csv").write_text("\n".join(["the month;my $value;x", *rows]) + "\n")
    given = ["--time-col", "the month", "--target", "my $value", "--freq", "MS", "--set", "train.seed=3"]
    assert main(["doctor", "it's a file.csv", *given, "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["suggest"]["command"]
    words = shlex.split(command)
    assert words[:3] == ["forecast", "fit", "it's a file.csv"]
    assert sorted(word for word in words if word in given) == sorted(given)
    assert main([*words[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["forecasts"] == ["my $value"]


def test_the_command_repeats_every_option_and_is_quoted_for_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "it's a file.csv"
    path.write_text(AIR.read_text().replace("#Passengers", "my $value"))
    command = forecast.doctor(
        path, target=("my $value",), time_col="Month", freq="MS", horizon=6, settings=["train.seed=3"]
    ).document["suggest"]["command"]
    words = shlex.split(command)
    assert words[:4] == ["forecast", "fit", str(path), "--model"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options | {"--lookback": "", "--model": ""} == {
        "--model": "", "--lookback": "", "--horizon": "6", "--target": "my $value", "--time-col": "Month",
        "--freq": "MS", "--set": "train.seed=3",
    }  # fmt: skip
    frame = pl.read_csv(AIR)
    assert forecast.doctor(frame, time_col="Month").document["suggest"]["command"].startswith("forecast.fit(frame, ")


def test_few_windows_call_for_a_baseline_and_many_for_a_network() -> None:
    rng = np.random.default_rng(0)

    def model(rows: int, variates: int, season: float = 0.0) -> str:
        hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2025, 1, 1), "1h", eager=True)[:rows]
        wave = season * np.sin(np.arange(rows) * 2 * np.pi / 24)[:, None]
        values = rng.normal(size=(rows, variates)) + wave
        frame = pl.DataFrame({"ds": hours, **{f"v{i}": values[:, i] for i in range(variates)}})
        return str(forecast.doctor(frame, horizon=12, lookback=24).document["suggest"]["model"])

    assert model(100, 1) == "naive"
    assert model(100, 1, season=3.0) == "seasonal-naive"
    assert model(400, 1) == "linear"
    assert model(100, 5) == "linear"
    assert model(2000, 5) == "itransformer"
    assert model(2000, 301) == "s-mamba"


def test_the_training_windows_of_a_published_split_are_counted_as_a_fit_has_them() -> None:
    found = forecast.doctor("airpassengers")
    windows = len(prepare(read(resolve("linear"), "airpassengers")).train)
    assert found.reason == f"only {windows} training windows of 1 variate"


def test_too_few_rows_for_any_window_give_no_command_but_the_reason() -> None:
    found = forecast.doctor(pl.DataFrame({"ds": ["2024-01-01", "2024-01-02", "2024-01-03"], "y": [1.0, 2.0, 4.0]}))
    assert found.document["suggest"] is None
    assert [w["kind"] for w in found.document["warnings"]] == ["short-series"]
    assert "3 rows" in found.text() and "3 rows" in found.html


def test_series_without_room_for_a_window_are_counted() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 12, 31), eager=True)
    parts = [
        pl.DataFrame({"unique_id": name, "ds": days[:rows], "y": np.random.default_rng(rows).normal(size=rows)})
        for name, rows in (("long", 300), ("brief", 9), ("less", 5))
    ]
    document = forecast.doctor(pl.concat(parts), horizon=7, lookback=14).document
    (entry,) = (*document["repairs"], *document["warnings"])
    assert (entry["kind"], entry["count"]) == ("series-dropped", 2)


def test_an_unknown_option_or_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="tagret"):
        forecast.doctor(AIR, tagret="y")
    with pytest.raises(UsageError, match='no column "y"'):
        forecast.doctor(AIR, target=("y",))


# Strengths


def test_season_and_trend_of_known_series_have_the_strength_they_were_made_with() -> None:
    rng, steps = np.random.default_rng(1), np.arange(600)
    noise, wave, slope = rng.normal(size=600), 3 * np.sin(steps * 2 * np.pi / 12), steps / 20
    assert max(strength(noise, (12, 50)).seasons.values()) < 0.1 and strength(noise, (12,)).trend < 0.1
    found = strength(noise + wave + slope, (12, 50))
    assert found.seasons[12] == pytest.approx(4.5 / 5.5, abs=0.05)  # variance of the wave over wave and noise
    assert found.seasons[12] > found.seasons[50] + 0.3
    assert found.trend == pytest.approx(slope.var() / (slope.var() + 1), abs=0.02)
    assert strength(slope, (12,)).seasons[12] < 1e-6 and strength(slope, (12,)).trend > 0.999
    assert strength(np.ones(600), (12,)) == ({12: 0.0}, 0.0)


def test_missing_values_do_not_move_a_strength_much_and_too_few_rows_give_none() -> None:
    rng, steps = np.random.default_rng(2), np.arange(600)
    values = rng.normal(size=600) + 3 * np.sin(steps * 2 * np.pi / 12)
    holes = np.where(rng.random(600) < 0.2, np.nan, values)
    assert strength(holes, (12,)).seasons[12] == pytest.approx(strength(values, (12,)).seasons[12], abs=0.05)
    assert strength(values[:35], (12,)).seasons == {}
    assert np.isnan(strength(np.full(100, np.nan), (12,)).trend)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 3.0, 1000.0]), st.sampled_from([-100.0, 0.0, 1e4]))
def test_strength_does_not_depend_on_the_unit(seed: int, scale: float, level: float) -> None:
    values = np.random.default_rng(seed).normal(size=80) + np.sin(np.arange(80) * 2 * np.pi / 7)
    one, other = strength(values, (7,)), strength(values * scale + level, (7,))
    assert one.seasons[7] == pytest.approx(other.seasons[7], abs=1e-6)
    assert one.trend == pytest.approx(other.trend, abs=1e-6)


# Outliers


def odd(
    values: np.ndarray, make_frame: Any, lengths: tuple[int, ...] = (), **codes: float
) -> list[tuple[str, float, int]]:
    found = outliers(make_frame(values.reshape(len(values), -1), lengths), codes)
    return [(one.name, one.value, one.count) for one in found]


@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "random_walk", "counts", "binary"])
def test_usual_data_have_no_outliers(draw: str, make_frame: Any) -> None:
    rng = np.random.default_rng(3)
    made = {
        "normal": rng.normal(size=(3000, 5)), "uniform": rng.random((3000, 5)),
        "exponential": rng.exponential(size=(3000, 5)),
        "random_walk": rng.normal(size=(3000, 5)).cumsum(axis=0), "counts": rng.poisson(0.3, (3000, 5)),
        "binary": (rng.random((3000, 5)) < 0.002).astype(float),
    }  # fmt: skip
    assert odd(made[draw], make_frame) == []


def test_values_that_stand_apart_are_found_counted_and_named_on_either_side(make_frame: Any) -> None:
    values = np.random.default_rng(4).normal(size=(2000, 3))
    values[[5, 70, 900], 0] = [-99, -80, 60]
    values[[5, 6], 2] = 1e6
    assert odd(values, make_frame) == [("v0", -99, 3), ("v2", 1e6, 2)]
    assert odd(values, make_frame, v2=1e6) == [("v0", -99, 3)]  # a suspected missing code is no outlier as well
    assert odd(values[:, 0], make_frame, (1000, 600, 400)) == [("v0", -99, 3)]


def test_a_level_of_its_own_is_no_outlier_and_neither_are_missing_values(make_frame: Any) -> None:
    values = np.random.default_rng(5).normal(size=2000)
    values[:300] = 50.0  # a seventh of the rows
    assert odd(values, make_frame) == []
    values = np.where(np.arange(2000) % 3 == 0, np.nan, np.random.default_rng(6).normal(size=2000))
    values[1000] = 77.0
    assert odd(values, make_frame) == [("v0", 77.0, 1)]
    assert odd(np.full(100, np.nan), make_frame) == []


# The clean table


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A clean table, and the same with rows shuffled, repeated and dropped."""
    rows, ids = draw(st.integers(24, 40)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    every = draw(st.sampled_from(["1h", "1d", "1w", "1mo", "15m"]))
    start = pl.datetime(2023, 1, 1)
    times = pl.datetime_range(start, start.dt.offset_by("1500d"), every, eager=True)[:rows]
    as_text = draw(st.sampled_from([None, "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S"]))
    times = times if as_text is None else times.dt.strftime(as_text)
    whole = draw(st.booleans())
    keys = [f"k{number}" for number in range(ids)] if draw(st.booleans()) else list(range(10, 10 + ids))
    parts = []
    for key in keys:
        values = rng.integers(-(2**40), 2**40, rows) if whole else rng.normal(size=rows) * 1e3
        parts.append(pl.DataFrame({"unique_id": key, "ds": times, "y": values}))
    clean = pl.concat(parts) if ids > 1 else parts[0].drop("unique_id")
    kept = rng.permutation(rows * ids)
    inner = (kept % rows > 0) & (kept % rows < rows - 1) & (rng.random(len(kept)) < 0.2)
    order = np.concatenate([kept[~inner], rng.choice(kept[~inner], draw(st.integers(0, 4)))])
    return clean, clean[order.tolist()]


@settings(max_examples=40, deadline=None)
@given(spoilt(), st.sampled_from([".csv", ".parquet"]))
def test_the_clean_table_needs_no_repair_and_is_the_same_frame(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[pl.DataFrame, pl.DataFrame], suffix: str
) -> None:
    clean, given = pair
    folder = tmp_path_factory.mktemp("fix")
    table.write(given, folder / f"given{suffix}")
    found = forecast.doctor(folder / f"given{suffix}")
    written = found.fix(folder / f"clean{suffix}")
    before, _ = framed(folder / f"given{suffix}")
    after, ledger = framed(folder / f"clean{suffix}")
    assert ledger.ledger.repairs == ()
    assert fingerprint(after) == fingerprint(before)
    assert forecast.doctor(folder / f"clean{suffix}").document["repairs"] == []
    back = table.read(folder / f"clean{suffix}").collect(*clean.columns)
    assert written == back.height == found.steps
    exact = table.read(folder / f"given{suffix}").collect(*clean.columns).unique()
    kept = back.drop_nulls("y")
    assert kept.columns == clean.columns and kept.sort(clean.columns[:-1]).equals(exact.sort(clean.columns[:-1]))


def test_numbers_that_no_repair_touched_keep_every_digit_and_their_type() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 30), eager=True)
    given = pl.DataFrame(
        {"ds": days, "people": np.arange(30) + 16_777_217, "exact": np.arange(30) / 3, "flag": np.arange(30) % 2 == 0}
    )
    given = given.reverse()
    clean = forecast.doctor(given, target=("people", "exact", "flag")).table
    assert clean.equals(given.sort("ds"))
    holes = given.filter(pl.int_range(30) != 5)
    clean = forecast.doctor(holes).table
    assert clean.schema["people"] == pl.Int64 and clean["people"].null_count() == 1
    assert clean.drop_nulls().equals(holes.drop("flag").sort("ds"))


def test_repeated_rows_become_their_mean_and_columns_left_out_stay_out() -> None:
    days = ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03", "2024-01-04"]
    given = pl.DataFrame({"ds": days, "y": [1, 2, 5, 4, 8], "note": ["a", "b", "c", "d", "e"]})
    clean = forecast.doctor(given).table
    assert clean.to_dict(as_series=False) == {"ds": [*days[:2], *days[3:]], "y": [1.0, 3.5, 4.0, 8.0]}


def test_text_that_was_read_as_numbers_is_written_as_numbers(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-{day:02};{day},5\n" for day in range(31, 0, -1))
    (tmp_path / "given.csv").write_text(f"ds;y\n{rows}")
    found = forecast.doctor(tmp_path / "given.csv")
    assert found.document["format"]["decimal"] == ","
    found.fix(tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_text().splitlines()[:3] == ["ds,y", "2024-01-01,1.5", "2024-01-02,2.5"]


def test_a_file_without_a_header_gets_one_that_reads_back(tmp_path: Path) -> None:
    (tmp_path / "given.csv").write_text("".join(f"{step},{step**1.5}\n" for step in (3, 2, 4, 5, 6, 7, 8, 10)))
    found = forecast.doctor(tmp_path / "given.csv", time_col="0")
    found.fix(tmp_path / "clean.csv")
    before, _ = framed(tmp_path / "given.csv", time_col="0")
    after, ledger = framed(tmp_path / "clean.csv")
    assert after.schema.time == "ds" and ledger.ledger.repairs == ()
    assert np.array_equal(before.values, after.values, equal_nan=True)


def test_times_and_ids_come_back_in_the_form_they_came_in(tmp_path: Path) -> None:
    months = [f"{name} {year}" for year in (2020, 2021) for name in ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul")]
    months += ["Aug 2020", "Sep 2020", "Oct 2020", "Nov 2020", "Dec 2020"]
    given = pl.DataFrame(
        {"store": pl.Series([7] * 19 + [3] * 19, dtype=pl.Int16), "month": months * 2, "sold": np.arange(38.0) ** 1.1}
    )
    clean = forecast.doctor(given, id_col="store").table
    assert clean.schema == given.schema
    assert clean["store"].to_list() == [3] * 19 + [7] * 19
    assert clean["month"][:3].to_list() == ["Jan 2020", "Feb 2020", "Mar 2020"]
    zoned = pl.datetime_range(
        pl.datetime(2024, 3, 1), pl.datetime(2024, 4, 30), "1d", time_zone="Europe/Berlin", eager=True
    )
    local = pl.DataFrame({"ds": zoned, "y": np.arange(61.0) ** 1.1}).filter(pl.int_range(61) != 40)
    clean = forecast.doctor(local).table
    assert clean["ds"].equals(zoned) and clean["y"].null_count() == 1


def test_pandas_comes_back_as_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    given = pandas.DataFrame({"ds": pandas.date_range("2024-01-01", periods=40), "y": np.arange(40.0) ** 1.1})
    assert isinstance(forecast.doctor(given[::-1]).table, pandas.DataFrame)


# Pages


def messy(path: Path) -> Path:
    rng = np.random.default_rng(7)
    hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 6, 1), "1h", eager=True)
    wave = np.sin(np.arange(len(hours)) * 2 * np.pi / 24)
    given = pl.DataFrame(
        {
            "time": hours,
            "load of the <b>house</b> & its garden, measured in the cellar": wave + rng.normal(size=len(hours)),
            "heat": np.where(np.arange(len(hours)) == 99, 1e5, rng.normal(size=len(hours))),
            "weather": np.where(wave > 0, "fair", "foul"),
        }
    )  # fmt: skip
    order = np.flatnonzero((np.arange(len(hours)) < 500) | (np.arange(len(hours)) > 900))
    order[10:12] = order[[11, 10]]
    given[np.append(order, 2000).tolist()].write_csv(path)
    return path


def test_the_text_page_fits_its_width_and_says_all_that_the_document_says(tmp_path: Path) -> None:
    found = forecast.doctor(messy(tmp_path / "messy.csv"))
    for width in (80, 60, 120):
        text = found.text(width)
        lines = [line for line in text.splitlines() if "forecast fit" not in line and str(tmp_path) not in line]
        assert max(map(len, lines)) <= width
        for entry in (*found.document["repairs"], *found.document["warnings"]):
            assert entry["kind"] in text and f"{entry['count']:,}" in text
        assert found.document["suggest"]["command"] in text
        flat = " ".join(text.split())
        assert all(repair["first"] in flat for repair in found.document["repairs"])
        assert "1 hour (h)" in flat and "season of 24 steps, a day" in flat


def test_the_html_page_is_self_contained_and_marks_gaps_and_merged_rows(tmp_path: Path) -> None:
    found = forecast.doctor(messy(tmp_path / "messy.csv"))
    page = found.html
    assert page == forecast.doctor(tmp_path / "messy.csv").html
    assert "<script" not in page and not re.findall(r"(?:src|href)=\"(?!#)", page) and "url(http" not in page
    assert "<b>house</b>" not in page and "&lt;b&gt;house&lt;/b&gt; &amp; its garden" in page
    assert page.count('<svg class="plot"') == 2
    assert page.count("var(--b1)") >= 2 and ">missing<" in page and ">merged rows<" in page
    for entry in (*found.document["repairs"], *found.document["warnings"]):
        assert entry["kind"] in page
    clean = forecast.doctor(AIR).html
    assert ">missing<" not in clean and ">merged rows<" not in clean


def test_many_series_are_sampled_and_the_rest_is_counted() -> None:
    rng = np.random.default_rng(8)
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 2, 29), eager=True)
    wide = pl.DataFrame({"ds": days, **{f"v{i}": rng.normal(size=60) for i in range(40)}})
    found = forecast.doctor(wide)
    assert len(found.sketches) == 12 and found.sketches[0].name == "v0" and found.sketches[-1].name == "v39"
    assert "28 are not drawn" in found.html and "more" in found.text()


# The command


def test_the_command_writes_the_page_and_the_clean_table_and_prints_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    messy(Path("messy.csv"))
    assert main(["doctor", "messy.csv", "--fix", "clean.parquet", "--html", "page.html", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and json.loads(out)["repairs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.parquet", "messy.csv", "page.html"]
    assert main(["doctor", "clean.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repairs"] == []
    assert main(["doctor", "messy.csv", "--fix", "clean.csv"]) == 0
    assert "clean table written to clean.csv" in capsys.readouterr().out
    assert main(["doctor", "messy.csv", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    messy(Path("messy.csv"))
    before = Path("messy.csv").read_bytes()
    for arguments in (["--fix", "messy.csv"], ["--fix", "clean.xlsx"], ["--html", "no/page.html"], ["--html", "p.pdf"]):
        assert main(["doctor", "messy.csv", *arguments]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 2
    assert Path("messy.csv").read_bytes() == before
    assert main(["doctor"]) == 2
    assert main(["doctor", "absent.csv"]) == 3


def test_a_catalogued_set_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "airpassengers", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 144 and document["suggest"]["command"].startswith("forecast fit airpassengers ")


def test_rows_of_the_future_stay_in_the_clean_table_and_out_of_the_facts() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 4, 9), eager=True)
    values = [*np.random.default_rng(9).normal(size=90), *[None] * 10]
    given = pl.DataFrame({"ds": days, "y": values, "promo": [day % 7 == 0 for day in range(100)]})
    found = forecast.doctor(given.reverse(), known_future=("promo",))
    assert found.table.equals(given)
    assert found.document["span"] == ["2024-01-01T00:00:00", "2024-03-30T00:00:00"]
    assert found.document["columns"]["known_future"] == ["promo"]
    assert "known_future=('promo',)" in found.document["suggest"]["command"]


def test_the_help_lists_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "doctor" in capsys.readouterr().out
