"""Configuration: what wins over what, what is refused and how, and the files that ship."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from forecast.config import SECTIONS, RunConfig, flags, from_dict, resolve, schema
from forecast.errors import UsageError
from forecast.registry import MODELS

ROOT = Path(__file__).parents[1]
OWN = ("tsm2", "darts-gt", "todyformer")  # folders of settings without a table of their paper
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))
BY_HORIZON = [
    (path, horizon) for path in SHIPPED for horizon in yaml.safe_load(path.read_text("utf-8")).get("horizons") or [None]
]
FILE = """
data: {horizon: 24, lookback: 48}
model: {name: itransformer, d_model: 64, d_ff: 64, layers: 2}
train: {epochs: 7, seed: 1}
horizons:
  24: {}
  48:
    model: {layers: 3}
    train: {epochs: 9, batch_size: 8}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "configs").as_posix()


def test_defaults_hold_where_nothing_is_given() -> None:
    config = resolve("itransformer")
    assert config == RunConfig(name="itransformer", settings={})
    assert (config.train.epochs, config.data.horizon, config.model.d_model) == (30, None, 128)


def test_a_file_wins_over_defaults(file: Path) -> None:
    config = resolve(file=file)
    assert (config.name, config.model.d_model, config.train.epochs) == ("itransformer", 64, 7)
    assert (config.train.batch_size, config.model.heads) == (32, 8)  # not in the file


@pytest.mark.parametrize("given", [{"settings": ["data.horizon=48"]}, {"flags": {"data": {"horizon": 48}}}])
def test_the_section_of_the_chosen_horizon_wins_over_the_file(file: Path, given: dict[str, Any]) -> None:
    config = resolve(file=file, **given)
    assert (config.model.layers, config.train.epochs, config.train.batch_size) == (3, 9, 8)
    assert (config.data.horizon, config.model.d_model, config.train.seed) == (48, 64, 1)


def test_a_horizon_without_a_section_has_the_settings_of_the_file(file: Path) -> None:
    config = resolve(file=file, settings=["data.horizon=36"])
    assert (config.data.horizon, config.model.layers, config.train.epochs) == (36, 2, 7)


def test_set_wins_over_the_horizon_section_and_flags_over_set(file: Path) -> None:
    config = resolve(
        file=file,
        settings=["data.horizon=48", "train.epochs=11", "model.layers=5", "train.epochs=12"],
        flags=flags(epochs=13, seed=None),
    )
    assert (config.train.epochs, config.model.layers, config.train.batch_size) == (13, 5, 8)
    assert config.train.seed == 1  # a flag that was not given changes nothing
    assert resolve(file=file, settings=["data.horizon=36"], flags=flags(horizon=48)).train.epochs == 9


def test_the_result_is_frozen(file: Path) -> None:
    config = resolve(file=file)
    for part in (config, *(getattr(config, section) for section in SECTIONS)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("model: {name: itransformer, d_modle: 4}", "model.d_modle is not a setting of itransformer", "model.d_model"),
        ("model: {name: itransformer}\ntrain: {epoch: 4}", "train.epoch is not a setting of train", "train.epochs"),
        ("model: {name: itransformer}\ndata: {lookbak: 4}", "data.lookbak is not a setting of data", "data.lookback"),
        ("model: {name: itransformer}\ntrian: {epochs: 4}", "trian is not a section", "train"),
        ("model: {name: naive, d_model: 4}", "model.d_model is not a setting of naive", ""),
        (
            "data: {horizon: 8}\nmodel: {name: itransformer}\nhorizons: {8: {train: {epochz: 4}}}",
            "horizons.8: train.epochz is not a setting of train",
            "train.epochs",
        ),
    ],
)
def test_unknown_key_in_a_file_names_the_file_and_the_nearest_key(
    tmp_path: Path, content: str, message: str, hint: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        _ = resolve(file=path).model
    assert str(path) in raised.value.message and message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("setting", "hint"),
    [("model.d_modle=4", "model.d_model?"), ("modell.d_model=4", "model?"), ("train.sed=1", "train.seed?")],
)
def test_unknown_key_in_set_names_set_and_the_nearest_key(setting: str, hint: str) -> None:
    with pytest.raises(UsageError, match=r"^--set: .* is not a") as raised:
        _ = resolve("itransformer", settings=[setting]).model
    assert hint in raised.value.hint


@pytest.mark.parametrize("setting", ["train.epochs", "epochs=4", "=4", "train.=4", ".epochs=4", "train.epochs=[1"])
def test_set_that_is_no_assignment_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        resolve("itransformer", settings=[setting])


def test_unknown_option_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="fit: horizn is not an option") as raised:
        flags(horizn=4)
    assert "horizon" in raised.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", "many"),
        ("train.epochs", "2.5"),
        ("train.epochs", "[3]"),
        ("data.horizon", "[24]"),
        ("train.schedule", "linear"),
        ("train.precision", "fp8"),
        ("train.learning_rate", "fast"),
        ("data.horizon", "24h"),
        ("data.split", "[0.7, 0.3]"),
        ("data.dates", "year-first"),
        ("data.strict", "perhaps"),
        ("model.heads", "two"),
        ("model.use_norm", "3"),
        ("track.levels", "[high]"),
        ("track.metric", "mape"),
    ],
)
def test_values_of_a_wrong_type_are_refused_with_key_and_value(key: str, value: str) -> None:
    with pytest.raises(UsageError) as raised:
        _ = resolve("itransformer", settings=[f"{key}={value}"]).model
    assert f"--set: {key} is " in raised.value.message
    assert repr(yaml.safe_load(value)).strip("[]'") in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "setting",
    [
        "data.lookback=0",
        "data.horizon=-1",
        "train.epochs=0",
        "train.batch_size=0",
        "train.epoch_batches=[0,5]",
        "train.epoch_batches=[5,4]",
        "train.learning_rate=0",
        "train.learning_rate=.nan",
        "train.learning_rate=.inf",
        "train.patience=0",
        "train.time_limit=-5",
        "train.time_limit=.nan",
        "train.weight_decay=-1",
        "train.averaging=1",
        "train.averaging=-0.1",
        "train.averaging=.nan",
        "data.split=[0.5,0.5,0.5]",
        "data.split=[1,0,0]",
        "data.split=[.nan,0.5,0.5]",
        "track.levels=[49]",
        "track.levels=[100]",
        "model.heads=3",
        "model.layers=0",
        "model.dropout=1",
        "model.activation=tanh",
    ],
)
def test_values_that_no_run_can_use_are_refused(setting: str) -> None:
    with pytest.raises(UsageError) as raised:
        _ = resolve("itransformer", settings=[setting]).model
    assert setting.partition("=")[0].partition(".")[2].rstrip("s") in raised.value.message.lower()


def test_what_the_networks_of_graphs_refuse_keeps_its_hint() -> None:
    with pytest.raises(UsageError) as raised:
        _ = resolve("todyformer", settings=["model.width=10"]).model
    assert raised.value.message == "todyformer: model.width 10 is not a multiple of model.global_heads 4."
    assert raised.value.hint == "Set model.width=12, or another number of heads."


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- a list",
        "data: [1, 2]",
        "model: {name: itransformer",
        "model: 3",
        "1: {}",
        "horizons: [24]",
        "data: {horizon: 24}\nhorizons: {24: 3}",
        "data: {horizon: 24}\nhorizons: {24: {train: 3}}",
        "data: {1: 2}",
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"wrong\.yaml"):
        resolve("itransformer", file=path)


def test_an_empty_section_of_a_file_is_taken_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    content = "data:\nmodel: {name: itransformer}\ntrain: # nothing yet\nhorizons:\npublished:\n"
    path.write_text(content, encoding="utf-8")
    assert resolve(file=path) == resolve("itransformer")


def test_the_model_must_be_named_and_be_that_of_the_file(file: Path) -> None:
    with pytest.raises(UsageError, match="No model was named"):
        resolve()
    with pytest.raises(UsageError, match="settings of itransformer, not of linear"):
        resolve("linear", file=file)
    with pytest.raises(UsageError, match="no model called 'itransfomer'") as raised:
        resolve("itransfomer")
    assert raised.value.hint == "Did you mean itransformer?"
    with pytest.raises(UsageError, match="no model called"):
        resolve(settings=["model.name=s_mamba"])


def test_commas_separate_several_values() -> None:
    config = resolve("itransformer", settings=["data.target=OT,HUFL", "track.levels=60,90", "data.split=0.6,0.2,0.2"])
    assert (config.data.target, config.track.levels) == (("OT", "HUFL"), (60, 90))
    assert config.data.split == (0.6, 0.2, 0.2)
    assert resolve("itransformer", settings=["train.epoch_batches=5,9"]).train.epoch_batches == (5, 9)
    flagged = resolve("itransformer", flags=flags(target="OT", variates="OT, HUFL", levels="80"))
    assert (flagged.data.target, flagged.data.variates, flagged.track.levels) == (("OT",), ("OT", "HUFL"), (80,))
    listed = resolve("itransformer", flags=flags(target=["a,b", "c"]))
    assert listed.data.target == ("a,b", "c")  # a list is taken as it stands: names may hold commas


@pytest.mark.parametrize(("path", "horizon"), BY_HORIZON, ids=[f"{relative(p)}-{h}" for p, h in BY_HORIZON])
def test_shipped_setting_resolves_and_comes_back_from_its_yaml(path: Path, horizon: int | None, tmp_path: Path) -> None:
    config = resolve(file=path, flags=flags(horizon=horizon))
    assert config.name in MODELS
    assert horizon is None or config.data.horizon == horizon
    special = (yaml.safe_load(path.read_text("utf-8")).get("horizons") or {}).get(horizon) or {}
    for section, values in special.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml(), encoding="utf-8")
    assert resolve(file=again).to_dict() == config.to_dict()
    assert from_dict(yaml.safe_load(config.to_yaml())).to_dict() == config.to_dict()


def test_all_published_horizons_have_scores_and_settings() -> None:
    assert len(SHIPPED) >= 13
    for path in SHIPPED:
        content = yaml.safe_load(path.read_text("utf-8"))
        scores = content.get("published")
        assert scores is None or scores.keys() == content["horizons"].keys(), relative(path)
        assert scores is not None or path.parent.name in (*OWN, "configs"), relative(path)


def faults(value: Any, rule: dict[str, Any], at: str = "$") -> list[str]:
    """What of `value` a JSON schema refuses; the keywords that ours uses."""
    handled = {
        "$schema", "title", "description", "default", "type", "const", "enum", "anyOf", "oneOf", "properties",
        "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems",
    }  # fmt: skip
    assert rule.keys() <= handled, f"{at}: this check does not know {rule.keys() - handled}"
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    found = []
    kind = rule.get("type")
    if kind == "null" and value is not None:
        return [f"{at}: not null"]
    if kind in kinds and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{at}: {value!r} is no {kind}"]
    if "const" in rule and value != rule["const"]:
        found.append(f"{at}: {value!r} is not {rule['const']!r}")
    if "enum" in rule and value not in rule["enum"]:
        found.append(f"{at}: {value!r} is none of {rule['enum']}")
    for key in ("anyOf", "oneOf"):
        if key in rule:
            fits = [not faults(value, option, at) for option in rule[key]]
            if not any(fits) or (key == "oneOf" and sum(fits) != 1):
                found.append(f"{at}: fits {sum(fits)} of {key}")
    if isinstance(value, dict):
        known = rule.get("properties", {})
        found += [f"{at}: lacks {key}" for key in rule.get("required", []) if key not in value]
        for key, entry in value.items():
            if key in known:
                found += faults(entry, known[key], f"{at}.{key}")
            elif rule.get("additionalProperties") is False:
                found.append(f"{at}: {key} is unknown")
    if isinstance(value, list):
        rules = rule.get("prefixItems") or [rule.get("items", {})] * len(value)
        found += [f for n, (v, r) in enumerate(zip(value, rules, strict=False)) for f in faults(v, r, f"{at}[{n}]")]
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            found.append(f"{at}: {len(value)} entries")
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_the_schema_takes_every_shipped_setting_and_its_resolved_form(path: Path) -> None:
    rule = schema()
    assert faults(yaml.safe_load(path.read_text("utf-8")), rule) == []
    assert faults(yaml.safe_load(resolve(file=path).to_yaml()), rule) == []


def test_the_schema_refuses_what_resolving_refuses() -> None:
    rule = schema()
    for wrong in (
        {"model": {"name": "itransformer", "d_modle": 4}},
        {"model": {"name": "nonesuch"}},
        {"model": {"d_model": 4}},
        {"train": {"epochs": "many"}},
        {"train": {"epoch": 3}},
        {"trian": {}},
        {"train": {"schedule": "linear"}},
    ):
        assert faults(wrong, rule), wrong


def test_the_schema_has_every_model_and_every_setting() -> None:
    rules = [rule for task in schema()["anyOf"] for rule in task["properties"]["model"]["oneOf"]]
    models = {rule["properties"]["name"]["const"]: rule for rule in rules}
    assert models.keys() == MODELS.keys()
    for name in MODELS:
        fields = {field.name for field in dataclasses.fields(resolve(name).model)}
        assert models[name]["properties"].keys() == {"name", *fields}
