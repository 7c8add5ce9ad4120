"""Series on a graph of sensors: the graph, the network on it, and what nothing after an origin may change."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import forecast
from forecast.cells import entries_of, planned
from forecast.cli import main
from forecast.config import from_dict, resolve
from forecast.data.windows import Target, Window, WindowShape
from forecast.diagnosis import doctor
from forecast.errors import DataError, UsageError
from forecast.fitted import Fitted
from forecast.kinds import kind_of
from forecast.models.darts_gt import SensorDartsGT, SensorDartsGTConfig
from forecast.models.darts_gt_labels import LabelDartsGTConfig
from forecast.prepare import Prepared, prepare, read
from forecast.registry import build, find
from forecast.sensor_heads import sensor_heads
from forecast.series import as_fitted
from forecast.tasks.series import SeriesLoss, masked_loss
from forecast.training import train
from graphs.sensor_graph import SensorGraph

ROOT = Path(__file__).parents[1]
TABLE = pl.read_csv(ROOT / "datasets/ETTh1.csv", try_parse_dates=True, n_rows=300)
NAMES = TABLE.columns[1:]
EDGES = pl.DataFrame({"src": NAMES, "dst": [*NAMES[1:], NAMES[0]], "weight": np.linspace(0.2, 1.0, 7)})
SMALL = {"architecture": "GINE", "width": 16, "heads": 2, "position_width": 4}
SHARED = ROOT.parent / "shared/data/spatiotemporal"


@pytest.fixture
def edges(tmp_path: Path) -> str:
    EDGES.write_csv(tmp_path / "edges.csv")
    return str(tmp_path / "edges.csv")


def prepared(table: Any = TABLE, model: dict[str, Any] | None = None, **data: Any) -> Prepared:
    settings = [f"model.{name}={json.dumps(value)}" for name, value in {**SMALL, **(model or {})}.items()]
    given = {"lookback": 12, "horizon": 6, "marks": "none", **data}
    return prepare(read(resolve("darts-gt", settings=settings, flags={"data": given}), table))


def network_of(made: Prepared) -> SensorDartsGT:
    torch.manual_seed(0)
    network: SensorDartsGT = build(find("darts-gt"), made.shape, made.read.config.model, made.read.graph)
    return network.eval()


def path_of(sensors: int) -> SensorGraph:
    """Sensors in a row, each linked with the next in both directions."""
    at = np.arange(sensors - 1)
    return SensorGraph.of(sensors, np.stack([at, at + 1]), np.full(sensors - 1, 0.5))


def window(sensors: int, batch: int = 3, seed: int = 0) -> Window:
    draw = torch.Generator().manual_seed(seed)
    past = torch.randn(batch, 12, sensors, generator=draw)
    return Window.of(past, torch.ones_like(past, dtype=torch.bool), torch.zeros(batch, 12, 0), torch.zeros(batch, 6, 0))


def on_path(sensors: int, **settings: Any) -> SensorDartsGT:
    torch.manual_seed(0)
    config = SensorDartsGTConfig(**{**SMALL, **settings})
    return SensorDartsGT(WindowShape(12, 6, sensors, sensors, 0), config, path_of(sensors)).eval()


# Which graph


def test_edges_are_the_graph_and_what_was_read_is_told(edges: str) -> None:
    made = prepared(edges=edges)
    told = made.read.facts["graph"]
    assert (told["source"], told["sensors"], told["edges"], told["weights"]) == (edges, 7, 14, True)
    assert made.read.graph is not None and made.read.graph.edges[:, 2].tolist() == [2, 3]
    other = Path(edges).with_name("other.csv")
    EDGES[::-1].with_columns(weight=pl.lit(1.0)).write_csv(other)
    prints = [prepared(edges=one).read.fingerprint for one in (None, edges, str(other))]
    assert len(set(prints)) == 3  # a run goes on, and is found done, on the same graph alone


def test_repairs_of_the_edges_are_in_the_ledger_of_the_fit(tmp_path: Path) -> None:
    pl.concat([EDGES, EDGES[:2]]).write_csv(tmp_path / "edges.csv")
    facts = prepared(edges=str(tmp_path / "edges.csv")).read.facts
    assert [(one["kind"], one["count"], one["first"]) for one in facts["repairs"]] == [
        ("duplicates-merged", 2, "edges.csv, line 9")
    ]


@pytest.mark.parametrize("wrong", [1e6, np.nan])
def test_without_edges_the_training_part_alone_decides_who_are_neighbours(wrong: float) -> None:
    made = prepared()
    assert made.read.facts["graph"]["source"] == "correlation"
    end = int(made.read.split.train_end[0])
    spoilt = TABLE.with_columns(
        pl.when(pl.int_range(len(TABLE)) < end).then(pl.col(NAMES)).otherwise(wrong).name.keep()
    )
    graph = read_graph(spoilt, made)
    assert made.read.graph is not None
    assert torch.equal(graph.edges, made.read.graph.edges)
    assert torch.equal(graph.edge_features, made.read.graph.edge_features)


def read_graph(table: pl.DataFrame, made: Prepared) -> SensorGraph:
    from forecast.data.table import Ledger
    from forecast.prepare import interpret
    from forecast.sensors import sensor_graph

    frame = interpret(made.read.config, table).frame
    data, end = made.read.config.data, int(made.read.split.train_end[0])
    return sensor_graph(data, frame, (), end, Ledger(), "table")[0]


def test_what_no_graph_can_be_of_is_refused(edges: str) -> None:
    long = TABLE.unpivot(index="date", variable_name="id").filter(
        pl.col("id").ne("OT") | pl.col("date").gt(TABLE["date"][150])
    )
    with pytest.raises(DataError, match="do not share one time axis"):
        prepared(long, id_col="id", lookback=4, horizon=2)
    with pytest.raises(DataError, match="one variate alone"):
        prepared(TABLE[["date", "OT"]])
    with pytest.raises(DataError, match="is no variate of the series"):
        prepared(TABLE.rename({"OT": "oil"}), edges=edges)
    with pytest.raises(UsageError, match="itransformer takes no graph: it cannot use --edges") as caught:
        resolve("itransformer", flags={"data": {"edges": edges}})
    assert "darts-gt" in caught.value.hint


def test_the_command_line_says_which_model_takes_edges(capsys: pytest.CaptureFixture[str], edges: str) -> None:
    assert main(["fit", "ETTh1", "--model", "itransformer", "--edges", edges]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "takes no graph" in said[0] and "--model darts-gt" in said[1]
    assert main(["fit", "ETTh1", "--model", "darts-gt", "--edges", edges, "--precision", "bf16"]) == 2
    assert "fp32" in capsys.readouterr().err


def test_real_graphs_are_read_and_one_that_changes_daily_is_refused() -> None:
    if not SHARED.exists():
        pytest.skip("needs ../shared/data/spatiotemporal")
    given = {"lookback": 4, "horizon": 2}
    pox = prepared(
        SHARED / "hungary_chickenpox.parquet", edges=str(SHARED / "hungary_chickenpox_edges.parquet"), **given
    )
    assert pox.read.facts["graph"] | {"source": "", "sha256": ""} == {
        "source": "", "sensors": 20, "edges": 82, "weights": False, "sha256": "",
    }  # fmt: skip
    with torch.no_grad():
        assert network_of(pox)(pox.test[torch.arange(3)].window).shape == (3, 2, 20)
    with pytest.raises(DataError, match="this graph changes over time"):
        prepared(SHARED / "england_covid.parquet", edges=str(SHARED / "england_covid_edges.parquet"), **given)


# Which task, which settings


def test_a_model_of_two_tasks_is_for_series_where_lengths_or_edges_are_given() -> None:
    for data in ({"horizon": 3}, {"lookback": 3}, {"edges": "e.csv"}, {"kind": "series"}):
        assert resolve("darts-gt", flags={"data": data}).task == "series"
    assert resolve("darts-gt").task == resolve("darts-gt", flags={"data": {"kind": "graphs"}}).task == "graphs"
    assert resolve("itransformer").task == "series"
    assert find("darts-gt", "graphs").task == "graphs" and find("darts-gt").task == "series"


def test_defaults_of_the_model_stand_behind_files_and_flags(tmp_path: Path) -> None:
    series = ["data.kind=series"]
    assert (resolve("darts-gt", settings=series).train.loss, resolve("itransformer").train.loss) == ("mae", "mse")
    (tmp_path / "own.yaml").write_text("data: {kind: series}\nmodel: {name: darts-gt}\ntrain: {loss: mse}\n")
    assert resolve(file=tmp_path / "own.yaml").train.loss == "mse"
    assert resolve("darts-gt", settings=[*series, "train.batch_size=5"]).train.batch_size == 5
    config = resolve("darts-gt", settings=["model.architecture=GINE,GATV2"], flags={"data": {"horizon": 3}})
    assert from_dict(config.to_dict()).model == config.model and config.model.operators == ("GINE", "GATV2")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"width": 30, "heads": 4}, "model.width 30 is not a multiple of model.heads 4"),
        ({"architecture": "gin"}, '"gin" is no operator'),
        ({"architecture": ("GINE", "GATV2", "GINE")}, "names 3 operators; model.layers is 2"),
        ({"candidates": ("GINE",)}, "model.candidates names GINE; two or more are needed"),
        ({"search_split": 1.0}, "model.search_split is 1.0"),
        ({"search_fallback": "GAT2"}, 'model.search_fallback "GAT2" is no candidate'),
        ({"search_stride": 0}, "model.search_stride is 0"),
        ({"node_embedding": -1}, "model.node_embedding is -1"),
    ],
)
def test_wrong_settings_are_refused_by_their_names(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        SensorDartsGTConfig(**{**SMALL, **settings})
    assert told in caught.value.message and caught.value.hint
    if not {"search_stride", "node_embedding"} & settings.keys():  # graphs have the others too
        with pytest.raises(UsageError) as caught:
            LabelDartsGTConfig(**{"layers": 2, **settings})
        assert told in caught.value.message and caught.value.hint


def test_an_architecture_that_is_not_settled_builds_no_network() -> None:
    with pytest.raises(UsageError, match="does not name operators yet"):
        on_path(3, architecture="random")


# Whom a forecast depends on


def test_a_forecast_depends_on_sensors_within_two_hops_a_layer_and_on_these() -> None:
    network, given = on_path(9, layers=1), window(9)
    with torch.no_grad():
        before = network(given)
        for sensor in range(9):
            past = given.past.clone()
            past[:, :, sensor] += 1.0
            moved = (network(given._replace(past=past)) != before).flatten(0, 1).any(dim=0)
            assert moved.tolist() == [abs(other - sensor) <= 2 for other in range(9)]


def test_sensors_in_another_order_have_the_same_forecasts() -> None:
    graph, given, order = path_of(6), window(6), torch.tensor([3, 0, 5, 1, 4, 2])
    config, shape = SensorDartsGTConfig(**{**SMALL, "architecture": "GATV2"}), WindowShape(12, 6, 6, 6, 0)
    torch.manual_seed(0)
    network = SensorDartsGT(shape, config, graph).eval()
    place = order.argsort()
    turned = SensorGraph(6, place[graph.edges], graph.edge_features, graph.walks[order])
    other = SensorDartsGT(shape, config, turned).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        forecast = other(given._replace(past=given.past[..., order], seen=given.seen[..., order]))
        assert torch.allclose(forecast, network(given)[..., order], atol=1e-5)


@pytest.mark.parametrize("architecture", ["GINE", "CustomGatedGCN", "GATV2", "None"])
def test_weights_serve_a_graph_of_fewer_sensors(architecture: str) -> None:
    large, small = (on_path(sensors, architecture=architecture, layers=1) for sensors in (8, 5))
    small.load_state_dict(large.state_dict())
    with torch.no_grad():
        assert small(window(5)).shape == (3, 6, 5)
        # Two hops from where the path was cut, and on the positions they had, sensors forecast as they did.
        graph = SensorGraph(5, small.graph.edges, small.graph.edge_features, large.graph.walks[:5])
        cut = SensorDartsGT(small.shape, small.config, graph).eval()
        cut.load_state_dict(large.state_dict())
        given = window(8)
        first = given._replace(past=given.past[..., :5], seen=given.seen[..., :5])
        assert torch.allclose(cut(first)[..., :3], large(given)[..., :3], atol=1e-6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        on_path(5, node_embedding=8).load_state_dict(on_path(8, node_embedding=8).state_dict())


def test_a_code_of_each_sensor_tells_sensors_apart_that_are_otherwise_alike() -> None:
    ring = SensorGraph.of(5, np.stack([np.arange(5), (np.arange(5) + 1) % 5]))
    alike = window(5)._replace(past=torch.ones(3, 12, 5) * torch.randn(3, 12, 1))
    for width in (0, 8):
        torch.manual_seed(0)
        config = SensorDartsGTConfig(**{**SMALL, "node_embedding": width})
        network = SensorDartsGT(WindowShape(12, 6, 5, 5, 0), config, ring).eval()
        with torch.no_grad():
            forecast = network(alike)
        assert torch.allclose(forecast, forecast[..., :1].expand_as(forecast), atol=1e-5) == (width == 0)


# Missing values, shifts, the future


def test_forecasts_start_from_the_last_value_that_was_seen() -> None:
    network, given = on_path(4), window(4)
    seen = given.seen.clone()
    seen[0, 8:, 1] = False
    seen[1, :, 2] = False
    last = network.features(given._replace(seen=seen))[..., 24]
    assert last[0].tolist() == [
        *given.past[0, 11, :1].tolist(),
        float(given.past[0, 7, 1]),
        *given.past[0, 11, 2:].tolist(),
    ]
    assert last[1, 2] == 0
    head = network.transformer.head[-1]
    with torch.no_grad():
        head.weight.zero_(), head.bias.zero_()
        forecast = network(given._replace(seen=seen))
    assert torch.equal(forecast, last[:, None].expand(-1, 6, -1))


def test_shifting_all_values_shifts_the_forecasts() -> None:
    made, moved = prepared(), prepared(TABLE.with_columns(pl.col(NAMES) + 50.0))
    network, index = network_of(made), torch.arange(0, len(made.test), 5)
    with torch.no_grad():
        pair = [
            one.scaler.invert(network(one.test[index].window).double().numpy(), one.test[index].series.numpy())
            for one in (made, moved)
        ]
    np.testing.assert_allclose(pair[1] - pair[0], 50.0, atol=1e-2)
    assert np.abs(pair[0]).max() > 1


def test_values_that_were_not_seen_have_no_part_in_the_loss() -> None:
    for kind, by_hand in (("mae", np.abs), ("mse", np.square)):
        forecast = torch.randn(2, 3, 4, requires_grad=True)
        target = Target(torch.randn(2, 3, 4), torch.rand(2, 3, 4) > 0.4)
        loss = masked_loss(kind, forecast, target)
        (gradient,) = torch.autograd.grad(loss, forecast)
        assert ((gradient == 0) == ~target.seen).all()
        error = (forecast.detach() - target.values)[target.seen].numpy()
        assert loss.item() == pytest.approx(by_hand(error).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_the_loss_is_in_units_of_the_table_where_it_is_asked_for(kind: str) -> None:
    """The loss, its validation, and which weights it moves, are those of errors that were scaled back."""
    made = prepared(TABLE.with_columns(pl.col("HUFL") * 1000.0))
    std = made.scaler.std
    config = dataclasses.replace(made.read.config.train, loss=kind, epochs=1, device="cpu")
    assert config.units == "original"  # of this model
    loss, example = SeriesLoss.of(config, std), made.train[torch.arange(5)]
    network = network_of(made)
    forecast = network(example.window)
    by_hand = masked_loss(
        kind,
        torch.from_numpy(made.scaler.invert(forecast.detach().double().numpy(), example.series.numpy())),
        Target(
            torch.from_numpy(made.scaler.invert(example.target.values.double().numpy(), example.series.numpy())),
            example.target.seen,
        ),
    )
    assert loss(forecast, example.target, example.series).item() * loss.unit == pytest.approx(by_hand.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss(forecast, example.target, example.series), forecast)
    weight = gradient.abs().sum((0, 1))
    assert weight[0] > 0.9 * weight.sum()  # a thousand times the units of the others

    heard: dict[str, float] = {}
    train(network, made.train, made.validation, config, loss=loss, on_epoch=lambda number, values: heard.update(values))
    network.eval()
    with torch.no_grad():
        batch = made.validation[torch.arange(len(made.validation))]
        error = SeriesLoss(kind, torch.from_numpy(std).float())(network(batch.window), batch.target, batch.series)
    assert heard[f"val_{kind}"] == pytest.approx(error.item(), rel=1e-4)
    scaled = SeriesLoss.of(dataclasses.replace(config, units="scaled"), std)
    assert scaled(forecast, example.target, example.series) == masked_loss(kind, forecast, example.target)


@pytest.mark.parametrize("wrong", [1e9, np.nan])
def test_later_data_change_neither_a_window_nor_its_forecast(wrong: float) -> None:
    made = prepared()
    network, number = network_of(made), torch.tensor([4])
    origin = int(made.test.origins[4])
    later = TABLE.with_columns(
        pl.when(pl.int_range(len(TABLE)) <= origin).then(pl.col(NAMES)).otherwise(wrong).name.keep()
    )
    if np.isnan(wrong):  # an answer must be seen for a score
        later = pl.concat([later[:-1], TABLE[-1:]])
    changed = prepared(later)
    before, after = made.test[number].window, changed.test[number].window
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with torch.no_grad():
        assert torch.equal(network(before), network_of(changed)(after))


# What the forecasts rest on


def test_heads_are_told_as_what_their_removal_does_to_the_error_in_units_of_the_table() -> None:
    holes = TABLE.with_columns(pl.when(pl.int_range(len(TABLE)) % 7 == 3).then(None).otherwise("OT").alias("OT"))
    made = prepared(holes)
    network = network_of(made)
    data = made.test.thinned(9)
    example = data[torch.arange(9)]
    assert 0 < int((~example.target.seen).sum()) < example.target.seen.numel() / 2

    def errors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The MAE of each window, of each step, of each sensor."""
        with torch.no_grad():
            forecast = network(example.window).double().numpy()
        scale = made.scaler.std[example.series.numpy()][:, None]
        off = np.abs(forecast - example.target.values.double().numpy()) * scale
        known = np.ma.array(off, mask=~example.target.seen.numpy())
        return known.mean((1, 2)).filled(np.nan), known.mean((0, 2)).filled(np.nan), known.mean((0, 1)).filled(np.nan)

    told = sensor_heads(network, data, made.scaler, NAMES)
    found, (before, steps, sensors) = told.heads, errors()
    assert found.size == pytest.approx(before.mean(), rel=1e-5)
    assert told.step_errors == pytest.approx(steps, rel=1e-5) and told.sensor_errors == pytest.approx(sensors, rel=1e-5)
    for layer, part in enumerate(network.transformer.each_layer()):
        weight = part.attention.out.weight
        kept, width = weight.detach().clone(), weight.shape[1] // SMALL["heads"]
        for head in range(SMALL["heads"]):
            with torch.no_grad():
                weight[:, head * width : (head + 1) * width] = 0
                rise, at_step, of_sensor = (a - b for a, b in zip(errors(), (before, steps, sensors), strict=True))
                weight.copy_(kept)
            assert np.abs(rise).max() > 1e-4 < np.abs(at_step).max()
            np.testing.assert_allclose(found.deviation[:, layer, head], rise, atol=2e-5)
            np.testing.assert_allclose(told.by_step[layer, head], at_step, atol=2e-5)
            np.testing.assert_allclose(told.by_sensor[layer, head], of_sensor, atol=2e-5)


def test_a_sensor_without_edges_is_attended_to_by_itself_alone() -> None:
    made = prepared()
    graph = SensorGraph.of(7, np.stack([np.arange(5), np.arange(1, 6)]))  # the last sensor is alone
    torch.manual_seed(0)
    network = build(find("darts-gt"), made.shape, made.read.config.model, graph).eval()
    attended = sensor_heads(network, made.test.thinned(5), made.scaler, NAMES).attended
    assert attended[6] == pytest.approx(1 / 7, abs=1e-6)  # its own share as one of seven that attend
    assert np.ptp(attended[:6]) > 0.01
    assert attended.sum() == pytest.approx(1, abs=1e-6)


def test_the_report_of_a_fit_tells_what_each_head_does(edges: str) -> None:
    config = [f"model.{name}={json.dumps(value)}" for name, value in SMALL.items()]
    run = forecast.fit(
        TABLE, model="darts-gt", lookback=12, horizon=6, edges=edges, settings=[*config, "train.epochs=1"]
    )
    assert ">Heads</h2>" in run.report
    assert all(f"layer {layer}: GINE" in run.report for layer in (1, 2))


# Storing and predicting


def test_the_graph_travels_with_the_model_and_other_sensors_are_refused(edges: str, tmp_path: Path) -> None:
    made = prepared(edges=edges)
    fitted = as_fitted(network_of(made), made)
    fitted.save(tmp_path / "model")
    loaded = Fitted.load(tmp_path / "model")
    assert loaded.graph is not None and made.read.graph is not None
    for part in ("edges", "edge_features", "walks"):
        assert torch.equal(getattr(loaded.graph, part), getattr(made.read.graph, part))
    forecast = fitted.predict(TABLE)
    assert forecast.equals(loaded.predict(TABLE)) and len(forecast) == 7 * 6
    assert (
        loaded.predict(TABLE.select("date", *NAMES[::-1]))
        .sort("unique_id", "ds")
        .equals(forecast.sort("unique_id", "ds"))
    )
    with pytest.raises(DataError, match="OT"):
        loaded.predict(TABLE.drop("OT"))
    with pytest.raises(DataError, match="'sensor 8', are no sensors of the model's graph"):
        loaded.predict(TABLE.with_columns(pl.lit(1.0).alias("sensor 8")))


# Beside other commands


def test_doctor_suggests_the_model_for_the_graph(edges: str) -> None:
    found = doctor(TABLE, edges=edges, lookback=12, horizon=6)
    assert found.document["suggest"]["model"] == "darts-gt"
    assert found.document["graph"]["edges"] == 14
    assert f"edges='{edges}'" in found.document["suggest"]["command"]
    assert doctor(TABLE, lookback=12, horizon=6).document["suggest"]["model"] != "darts-gt"


def test_a_comparison_gives_edges_to_the_models_that_take_them(edges: str) -> None:
    axes: dict[str, Any] = {"horizon": (6,), "lookback": (12,), "seed": None}
    cells = planned([(None, TABLE)], entries_of("darts-gt,itransformer"), axes, False, (), {"edges": edges})
    assert [cell.config.data.edges for cell in cells] == [edges, None]
    assert cells[0].data.ground == cells[1].data.ground
    with pytest.raises(UsageError, match="takes no graph"):
        planned([(None, TABLE)], entries_of("itransformer"), axes, False, (), {"edges": edges})


def test_the_gate_sees_the_model_and_the_baselines_and_no_control() -> None:
    scores = {"scaled": {"mse": 1.0}, "original": {"mae": 2.0}}
    document = {"scores": {"darts-gt": scores, "naive": scores}, "controls": {"all-GINE": scores}}
    assert kind_of("series").judged(document, "mse") == {"darts-gt": 1.0, "naive": 1.0}


def test_an_audit_finds_nothing_after_an_origin_in_a_forecast(edges: str) -> None:
    made = prepared(edges=edges)
    found = forecast.audit(as_fitted(network_of(made), made), TABLE, origins=2)
    assert found.clean and found.error is None


# Neighbours where no edges are given

PLACES = pl.DataFrame({"name": NAMES, "Latitude": [50.0, 50.1, 50.2, 50.3, 50.4, 50.5, 50.6], "lon": [8.0] * 7})


def placed(folder: Path, frame: pl.DataFrame = PLACES, **columns: str) -> str:
    frame.rename({"Latitude": "lat", **columns}).write_csv(folder / "places.csv")
    return str(folder / "places.csv")


def test_the_nearest_by_place_are_neighbours_where_it_is_asked_for(tmp_path: Path) -> None:
    made = prepared(static=placed(tmp_path), graph="distance", neighbours=1)
    graph, told = made.read.graph, made.read.facts["graph"]
    assert graph is not None and told["source"] == "distance" and told["sha256"]
    there = graph.edges[:, graph.edge_features[:, 1] == 0]
    assert all(abs(a - b) == 1 for a, b in there.T.tolist()) and there.shape[1] == 7
    assert made.shape.static == 2  # places are features of their sensors, too
    farther = prepared(static=placed(tmp_path), graph="distance", neighbours=3).read.graph
    assert farther is not None and farther.edges.shape[1] == 42
    by_values = prepared(static=placed(tmp_path)).read
    assert by_values.facts["graph"]["source"] == "correlation" and by_values.fingerprint != made.read.fingerprint


def test_without_any_edges_a_forecast_rests_on_the_sensor_alone() -> None:
    made = prepared(graph="none")
    assert made.read.facts["graph"]["edges"] == 0
    network, example = network_of(made), made.test[torch.arange(3)].window
    past = example.past.clone()
    past[..., 2] += 1.0
    with torch.no_grad():
        before, after = network(example), network(example._replace(past=past))
    assert (before != after).any(dim=(0, 1)).tolist() == [number == 2 for number in range(7)]


def test_settings_of_the_graph_that_do_not_go_together_are_refused(edges: str, tmp_path: Path) -> None:
    for data, told in (
        ({"edges": edges, "graph": "none"}, r"given by .*edges.csv and by data.graph=none"),
        ({"graph": "distance"}, "latitude and longitude of each variate: --static is not given"),
        ({"graph": "distance", "static": placed(tmp_path, lon="east")}, "places.csv has no such columns"),
        ({"neighbours": 0}, "data.neighbours is 0"),
    ):
        with pytest.raises(UsageError, match=told):
            prepared(**data)  # type: ignore[arg-type]
    wrong = PLACES.with_columns(pl.when(pl.col("name") == NAMES[3]).then(500.0).otherwise("lon").alias("lon"))
    with pytest.raises(DataError, match=f'lon of "{NAMES[3]}" is 500; degrees go to 180'):
        prepared(static=placed(tmp_path, wrong), graph="distance")


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/spatiotemporal")
def test_the_places_of_the_sensors_of_metr_la_are_read(tmp_path: Path) -> None:
    places = {"static": str(SHARED / "metr_la_sensors.parquet"), "graph": "distance"}
    made = prepared(str(SHARED / "metr_la_week1.parquet"), **places)
    given = prepared(str(SHARED / "metr_la_week1.parquet"), edges=str(SHARED / "metr_la_edges.parquet"))
    assert made.read.graph is not None and given.read.graph is not None
    nearest, roads = ({tuple(edge) for edge in one.read.graph.edges.T.tolist()} for one in (made, given))
    assert made.read.facts["graph"]["source"] == "distance"
    assert len(nearest & roads) > 0.5 * len(nearest)  # roads join what is near
