"""The report of a run: an honest page that stands alone."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from forecast import figures
from forecast.report import Example, Report, Score, render, verdict

# Box and Jenkins, monthly airline passengers in thousands, 1949 to 1952
PASSENGERS = np.array(
    [
        [112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118],
        [115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114, 140],
        [145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166],
        [171, 180, 193, 181, 183, 218, 230, 242, 209, 191, 172, 194],
    ],
    dtype=float,
).ravel()
MONTHS = np.datetime64("1949-01") + np.arange(48)
PAST, TRUTH = PASSENGERS[:36], PASSENGERS[36:]
SEASONAL = PASSENGERS[24:36]
GROWN = SEASONAL * (PASSENGERS[24:36].sum() / PASSENGERS[12:24].sum())
FORECASTS = {"grown": GROWN, "naive": np.full(12, PAST[-1]), "seasonal-naive": SEASONAL}
VOID = {"meta", "link", "br", "hr", "img", "input"}


def score(forecast: np.ndarray, windows: int = 1) -> Score:
    error = forecast - TRUTH
    scaled = error / PAST.std()
    return Score(
        windows,
        {"mse": float((scaled**2).mean()), "mae": float(np.abs(scaled).mean())},
        {"mae": float(np.abs(error).mean()), "rmse": float((error**2).mean() ** 0.5)},
    )


EXAMPLE = Example(
    title="passengers",
    unit_note="thousands",
    past_times=MONTHS[:36],
    past=PAST,
    future_times=MONTHS[36:],
    truth=TRUTH,
    forecast=GROWN,
    bands={80: (GROWN - 12, GROWN + 12), 95: (GROWN - 20, GROWN + 20)},
    baseline_name="seasonal-naive",
    baseline=SEASONAL,
)
REPORT = Report(
    title="Airline passengers",
    model="grown",
    facts={"data file": "passengers.csv", "step": "1 month"},
    scores={name: score(forecast) for name, forecast in FORECASTS.items()},
    metric="mse",
    by_step={name: ((forecast - TRUTH) / PAST.std()) ** 2 for name, forecast in FORECASTS.items()},
    by_variate={
        "passengers": {"grown": 7.0, "naive": 33.0, "seasonal-naive": 27.0},
        "flights": {"grown": 3.5, "naive": 2.0, "seasonal-naive": 3.0},
    },
    curve=[(1, 0.9, 0.8), (2, 0.5, 0.6), (3, 0.4, 0.7)],
    best_epoch=2,
    coverage={80: 0.81, 95: 0.94},
    repairs=[{"kind": "sorted", "count": 1200, "first": "line 14", "detail": "put in order"}],
    cautions=[],
    examples=[EXAMPLE],
    config="model:\n  name: grown\n",
    command="forecast fit passengers.csv --model grown",
)
WORDS = replace(REPORT, examples=[], by_step={}, curve=[])  # no figures, which take most of the time


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag closes another than the last one opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.words.append(data.strip())

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


@cache
def page() -> str:
    return render(REPORT)


def with_mse(**values: float) -> Report:
    return replace(WORDS, scores={name: Score(1200, {"mse": value}, {}) for name, value in values.items()})


def table(html: str, heading: str) -> list[list[str]]:
    """The cells of each body row of the first table after a heading."""
    body = html.split(f"<h2>{heading}</h2>")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body, flags=re.S)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_page_closes_every_tag_and_uses_every_id_once() -> None:
    read = Page(render(replace(REPORT, examples=[EXAMPLE, EXAMPLE])))
    assert read.open == []
    ids = read.values("id")
    assert ids and len(ids) == len(set(ids))
    assert {href[1:] for href in read.values("href")} <= set(ids)


def test_page_has_no_scripts_and_refers_to_nothing_outside_itself() -> None:
    html = page()
    read = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert not read.values("src")
    assert all(href.startswith("#") for href in read.values("href"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "//" not in html and "@import" not in html


def test_names_from_the_data_are_escaped_wherever_they_stand() -> None:
    nasty = "<script>alert(1)</script> & \"q\" 'a' \x00\ud800\ufffd"
    report = replace(
        REPORT,
        title=nasty,
        model=nasty,
        facts={nasty: nasty},
        scores={nasty: score(GROWN), f"b{nasty}": score(SEASONAL)},
        by_step={nasty: REPORT.by_step["grown"]},
        by_variate={nasty: {nasty: 1.0}, f"2{nasty}": {f"b{nasty}": 2.0}},
        repairs=[{nasty: nasty}],
        cautions=[{"value": [nasty, None]}],
        examples=[replace(EXAMPLE, title=nasty, unit_note=nasty, baseline_name=f"b{nasty}")],
        config=nasty,
        command=nasty,
    )
    html = render(report)
    read = Page(html)
    html.encode("utf-8")
    assert read.open == [] and "script" not in read.tags
    assert "\x00" not in html and "<script>alert(1)</script> & \"q\" 'a' \ufffd\ufffd\ufffd" in read.text


def test_same_report_gives_the_same_page_whatever_the_settings_of_matplotlib() -> None:
    first = page()
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.ymargin": 0.4, "ytick.major.size": 9}):
        assert render(REPORT) == first
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert not re.search(r"20\d\d-\d\d-\d\dT", first)


def test_import_loads_no_matplotlib_and_rendering_no_pyplot() -> None:
    program = (
        "import sys; from forecast import figures, report; assert 'matplotlib' not in sys.modules;"
        "figures.curve_figure([(1, 2.0, 3.0)], 1); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("values", "word", "said"),
    [
        (
            {"grown": 0.3, "naive": 0.5, "linear": 0.4},
            "better",
            "grown is 25.0% better than the best baseline, linear: scaled MSE 0.300 against 0.400",
        ),
        (
            {"grown": 0.45, "naive": 0.5, "linear": 0.4},
            "worse",
            "grown is 12.5% worse than the best baseline, linear: scaled MSE 0.450 against 0.400",
        ),
        (
            {"grown": 1.0, "naive": 0.25},
            "worse",
            "grown is worse than the best baseline, naive, with 4.0 times its error: scaled MSE 1.000 against 0.250",
        ),
        (
            {"grown": 0.1, "naive": 0.0},
            "worse",
            "grown is worse than the best baseline, naive: scaled MSE 0.100 against 0.000",
        ),
        (
            {"grown": 0.40001, "naive": 0.4},
            "even",
            "grown does no better than the best baseline, naive: scaled MSE 0.400 against 0.400",
        ),
        (
            {"grown": 0.5, "naive": float("nan")},
            "open",
            "grown, with no baseline to compare, has scaled MSE 0.500",
        ),
        (
            {"grown": float("inf"), "naive": 0.4},
            "open",
            "grown has no finite scaled MSE",
        ),
    ],
)
def test_headline_says_how_the_model_did(values: dict[str, float], word: str, said: str) -> None:
    report = with_mse(**values)
    headline = f"{said} on 1,200 test windows."
    assert verdict(report)[:2] == (word, headline)
    assert f"<h1>{headline}</h1>" in render(report)


def test_deciding_metric_is_the_one_in_original_units_where_both_exist() -> None:
    scores = {"grown": Score(1, {"mae": 9.0}, {"mae": 0.8}), "naive": Score(1, {"mae": 1.0}, {"mae": 1.6})}
    report = replace(WORDS, metric="mae", scores=scores)
    assert verdict(report).headline == (
        "grown is 50.0% better than the best baseline, naive: MAE 0.800 against 1.600 on 1 test window."
    )
    assert "<th>MAE</th><th>MAE<span" in render(report)


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        (np.array(["2018-06-26T20", "2018-06-26T21"], dtype="datetime64[ns]"), "2018-06-26 20:00"),
        (np.array(["2018-06-26", "2018-06-27"], dtype="datetime64[us]"), "2018-06-26"),
        (
            np.array(["2018-06-26T20:00:05", "2018-06-26T20:00:06"], dtype="datetime64[s]"),
            "2018-06-26 20:00:05",
        ),
        (np.array([1440, 1441]), "1,440"),
    ],
)
def test_a_forecast_says_from_when_it_runs(times: np.ndarray, shown: str) -> None:
    past = times[0] - (times[1] - times[0]) * np.arange(36, 0, -1)
    two = {80: (GROWN[:2] - 12, GROWN[:2] + 12)}
    short = {"truth": TRUTH[:2], "forecast": GROWN[:2], "baseline": SEASONAL[:2], "bands": two}
    example = replace(EXAMPLE, past_times=past, future_times=times, **short)
    assert f"thousands · from {shown} · MAE" in render(replace(WORDS, examples=[example]))


def test_a_lost_comparison_is_said_plainly() -> None:
    worse = render(with_mse(grown=0.5, naive=0.4))
    assert "has not earned its place" in worse
    assert "has not earned its place" not in render(with_mse(grown=0.3, naive=0.4))


def test_scores_mark_the_best_of_each_column_and_show_what_is_missing_as_a_dash() -> None:
    scores = {
        "grown": Score(8, {"mse": 0.3, "mae": float("nan")}, {"rmse": 1234.5}),
        "naive": Score(8, {"mse": 0.31, "mae": 0.5}, {"rmse": float("inf")}),
    }
    html = render(replace(WORDS, scores=scores))
    rows = table(html, "Scores on the test part")
    assert rows == [["grown", "0.300", "–", "1,234"], ["naive", "0.310", "0.500", "–"]]
    assert re.findall(r'class="best"><b>([^<]*)', html) == ["0.300", "1,234", "0.500"]
    assert html.count('<tr class="model">') == 1


def test_unequal_numbers_of_windows_are_shown() -> None:
    scores = {"grown": score(GROWN, 8), "naive": score(SEASONAL, 9)}
    html = render(replace(WORDS, scores=scores))
    assert "not scored on the same number of windows" in html
    assert [row[1] for row in table(html, "Scores on the test part")] == ["8", "9"]


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        ({"examples": []}, "Forecasts on test windows"),
        ({"by_step": {}}, "<b>Error by horizon step</b>"),
        ({"by_step": {"grown": np.array([0.4])}}, "<b>Error by horizon step</b>"),
        ({"by_step": {"grown": np.full(4, np.nan)}}, "<b>Error by horizon step</b>"),
        ({"curve": []}, "<b>Training</b>"),
        ({"curve": [], "by_step": {}}, "Errors and training"),
        ({"by_variate": {"passengers": {"grown": 1.0}}}, "Error by variate"),
        ({"coverage": {}}, "Do the intervals hold?"),
        ({"facts": {}}, "<h2>Data</h2>"),
        ({"config": ""}, "<details>"),
        ({"scores": {}, "by_step": {}}, "Scores on the test part"),
    ],
)
def test_a_part_is_there_only_when_it_has_data(without: dict[str, object], missing: str) -> None:
    assert missing in page()
    html = render(replace(REPORT, **without))  # type: ignore[arg-type]
    assert missing not in html
    assert Page(html).open == []


def test_figures_take_every_colour_from_the_style_sheet() -> None:
    html = page()
    drawings = re.findall(r'<svg class="plot".*?</svg>', html, flags=re.S)
    assert len(drawings) == 3
    used = {role for drawing in drawings for role in re.findall(r"var\(--(\w+)\)", drawing)}
    assert {"ink", "muted", "rule", "model"} <= used
    assert not any(re.search(r": *#[0-9a-f]{3,6}\b", drawing) for drawing in drawings)
    for scheme in re.findall(r":root\{([^}]*--bg[^}]*)\}", html):
        assert used <= set(re.findall(r"--(\w+):", scheme))


def test_a_method_looks_the_same_in_every_legend() -> None:
    html = page()
    keys = re.findall(r'<line [^>]*style="([^"]*)"/></svg>([^<]*)', html)
    drawn = {name: {style for style, other in keys if other == name} for _, name in keys}
    assert {name: len(styles) for name, styles in drawn.items()} == dict.fromkeys(drawn, 1)
    assert [name for _, name in keys].count("seasonal-naive") == 2
    assert len({style for styles in drawn.values() for style in styles}) == len(drawn) - 1  # model and validation


def test_looks_stay_distinct_for_as_many_baselines_as_there_are_colours() -> None:
    looks = figures.looks("m", ["m", *"abcde"])
    assert looks["m"] == figures.MODEL
    assert len({look.role for look in looks.values()}) == 6


def strokes(svg: str, role: str) -> list[str]:
    return re.findall(rf'<path d="([^"]*)"[^>]*fill: none; stroke: var\(--{role}\)', svg)


def draw(**changes: object) -> str:
    values: dict[str, object] = {
        "times": MONTHS,
        "measured": PASSENGERS,
        "forecast": GROWN,
        "bands": EXAMPLE.bands,
        "baseline": SEASONAL,
        "look": figures.Look("b1"),
    }
    return figures.forecast_figure("k", "l", **values | changes)  # type: ignore[arg-type]


def test_missing_truth_leaves_a_gap_and_a_lone_value_a_dot() -> None:
    whole, holed = PASSENGERS, PASSENGERS.copy()
    holed[40:43] = np.nan
    assert [path.count("M") for path in strokes(draw(measured=whole), "ink")] == [1]
    assert [path.count("M") for path in strokes(draw(measured=holed), "ink")] == [2]
    lone = PASSENGERS.copy()
    lone[[40, 42]] = np.nan
    assert draw(measured=lone).count("<use") == draw(measured=whole).count("<use") + 1


def test_one_step_ahead_is_drawn_as_dots_and_bars() -> None:
    one = {80: (GROWN[:1] - 12, GROWN[:1] + 12)}
    svg = draw(times=MONTHS[:37], measured=PASSENGERS[:37], forecast=GROWN[:1], bands=one, baseline=SEASONAL[:1])
    assert re.search(r"stroke: var\(--model\); stroke-opacity: 0.2; stroke-width: 5", svg)
    assert len(re.findall(r"<use [^>]*fill: var\(--(?:model|b1)\)", svg)) == 2


def test_values_that_are_all_missing_or_infinite_still_give_a_figure() -> None:
    nothing = np.full(12, np.nan)
    svg = draw(measured=np.full(48, np.inf), forecast=nothing, baseline=nothing, bands={80: (nothing, nothing)})
    assert strokes(svg, "model") == []


@pytest.mark.parametrize(
    ("start", "minutes"),
    [
        ("2020-02-27T13:30", 1),
        ("2019-12-31T23:59", 15),
        ("2020-02-27T13:30", 90),
        ("2018-01-17T05:00", 240),
        ("2020-02-27T13:30", 480),
        ("2019-01-24T00:00", 720),
        ("2019-01-20T00:00", 1440),
        ("2019-12-31T23:59", 7 * 1440),
        ("2020-02-27T13:30", 31 * 1440),
        ("2020-02-27T13:30", 366 * 1440),
    ],
)
def test_labels_of_dates_do_not_touch(start: str, minutes: int) -> None:
    times = np.datetime64(start) + np.arange(48) * np.timedelta64(minutes, "m")
    svg = draw(times=times)
    baseline = r'translate\(([\d.]+) ([\d.]+)\)">(\d\d \w+|\w+ \d{4}|\d{4}|\d\d:\d\d:\d\d)<'
    centred = r'text-anchor: middle[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>(\d\d \w+|\w+ \d{4}|\d{4}|\d\d:\d\d:\d\d)<'
    width = 5.5  # of a letter at this size, generously
    left = [(float(x), len(text) * width) for x, _, text in re.findall(baseline, svg)]
    left += [(float(x) - len(text) * width / 2, len(text) * width) for x, _, text in re.findall(centred, svg)]
    assert len(left) >= 2
    for (a, size), (b, _) in pairwise(left):
        assert a + size < b


def test_variates_beyond_the_worst_twenty_are_summarised() -> None:
    errors = {f"v{i:03d}": {"grown": 100.0 + i, "seasonal-naive": 150.0} for i in range(100)}
    html = render(replace(WORDS, by_variate=errors))
    rows = table(html, "Error by variate")
    assert [row[0] for row in rows] == [f"v{i:03d}" for i in range(99, 79, -1)]
    assert rows[0][:4] == ["v099", "199.0", "150.0", "+32.7%"]
    assert "grown is better on 50 of 100 variates." in html
    assert "Not listed: 80 more, median change −7.0%." in html


def test_coverage_off_by_more_than_three_points_is_said_in_words() -> None:
    fine = render(WORDS)
    assert "Every level is met within 3 points." in fine
    off = render(replace(WORDS, coverage={80: 0.741, 95: 0.985, 50: float("nan")}))
    assert "The 80% intervals hold 74.1% of the truth, 5.9 points too few: they are too narrow." in off
    assert "The 95% intervals hold 98.5% of the truth, 3.5 points too many: they are too wide." in off
    assert "Every level" not in off
    assert table(off, "Do the intervals hold?")[0][:3] == ["50%", "–", "–"]


def test_every_repair_is_listed_and_their_absence_is_said() -> None:
    assert table(render(WORDS), "Repairs") == [["sorted", "1,200", "line 14", "put in order"]]
    many = [{"kind": "gap-filled", "count": i, "detail": None} for i in range(60)]
    assert len(table(render(replace(WORDS, repairs=many)), "Repairs")) == 60
    none = render(replace(WORDS, repairs=[]))
    assert "<h2>Repairs</h2>\n<p>None: the data was used as it was read.</p>" in none


def test_twelve_long_examples_stay_under_two_megabytes() -> None:
    times = np.datetime64("2016-07-01T00") + np.arange(1440)
    series = np.tile(PASSENGERS, 30) + np.random.default_rng(0).normal(0, 5, 1440)
    long = replace(
        EXAMPLE,
        past_times=times[:720],
        past=series[:720],
        future_times=times[720:],
        truth=series[720:],
        forecast=series[:720] + 3,
        baseline=series[:720],
        bands={level: (series[:720] - level, series[:720] + level) for level in (50, 80, 95)},
    )
    assert len(render(replace(REPORT, examples=[long] * 12)).encode()) < 2_000_000
