"""Training: the best weights are kept, schedules are the papers', and a killed run ends as an unbroken one."""

import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forecast.config import TrainConfig, resolve
from forecast.data.windows import Window, WindowDataset, WindowShape
from forecast.errors import ArtifactError, ForecastError, UsageError
from forecast.models import ITransformer, ITransformerConfig
from forecast.tasks.series import LOSSES, SCHEDULES, OptimConfig, SeriesForecaster, SeriesLoss
from forecast.training import KeepBest, train

Windows = Callable[..., WindowDataset]
Weights = dict[str, Tensor]
SHAPE = WindowShape(8, 4, 2, 2, 0)


def waves(make_frame: Windows, make_windows: Windows) -> tuple[WindowDataset, WindowDataset]:
    """Noisy waves: 149 windows to train on, 49 to validate on."""
    steps = np.arange(160)[:, None]
    values = np.sin(steps / np.array([3.0, 5.0])) + 0.2 * np.random.default_rng(0).normal(size=(160, 2))
    return make_windows(make_frame(values), 8, 4), make_windows(make_frame(values[100:]), 8, 4)


@pytest.fixture(scope="module")
def parts(make_frame: Windows, make_windows: Windows) -> tuple[WindowDataset, WindowDataset]:
    return waves(make_frame, make_windows)


class Map(nn.Module):
    """The smallest network: one linear map with dropout, shared by the variates."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.dropout = nn.Linear(8, 4), nn.Dropout(0.2)

    def forward(self, window: Window) -> Tensor:
        out: Tensor = self.map(self.dropout(window.past.transpose(1, 2))).transpose(1, 2)
        return out


class Scripted(nn.Module):
    """Forecasts so that the validation loss of epoch e is `losses[e]`; its one weight counts the epochs."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.losses, self.epoch = losses, 0

    def forward(self, window: Window) -> Tensor:
        if self.training:
            return torch.zeros(len(window.past), 4, 2) + 0 * self.weight
        return torch.full((len(window.past), 4, 2), math.sqrt(self.losses[self.epoch])) + 0 * self.weight


def config(**settings: object) -> TrainConfig:
    return TrainConfig(
        **{"epochs": 3, "epoch_batches": None, "averaging": 0, "device": "cpu", "batch_size": 32, **settings}
    )


def run(
    network: nn.Module, parts: tuple[WindowDataset, WindowDataset], settings: TrainConfig, **options: object
) -> tuple[Weights, list[tuple[int, float, float]], int]:
    """Train and give the weights, the curve and the best epoch."""
    curve, best = train(network, *parts, settings, **options)
    return {key: value.clone() for key, value in network.state_dict().items()}, curve, best


def fresh(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Map()


def small_transformer() -> nn.Module:
    torch.manual_seed(0)
    return ITransformer(SHAPE, ITransformerConfig(d_model=8, d_ff=8, heads=2, layers=1, dropout=0.2))


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def scripted(
    losses: list[float], make_frame: Windows, make_windows: Windows, **settings: object
) -> tuple[float, list[float], int]:
    """Train a network whose validation losses are `losses`; give the epoch whose weights it ends with."""
    zeros = make_windows(make_frame(np.zeros((30, 2))), 8, 4)
    network = Scripted(losses)

    def epoch_ended(epoch: int, metrics: Mapping[str, float]) -> None:
        network.epoch = epoch
        if epoch < len(losses):
            network.weight.data.fill_(epoch)  # the weights of the next epoch

    weights, curve, best = run(network, (zeros, zeros), config(**settings), on_epoch=epoch_ended)
    return weights["weight"].item() + 1, [loss for _, _, loss in curve], best


def test_the_best_weights_are_kept_not_the_last(make_frame: Windows, make_windows: Windows) -> None:
    kept, losses, best = scripted([3.0, 1.0, 2.0, 1.5], make_frame, make_windows, epochs=4)
    assert (kept, best) == (2, 2)
    assert losses == pytest.approx([3.0, 1.0, 2.0, 1.5])


def test_an_equal_validation_loss_is_not_better(make_frame: Windows, make_windows: Windows) -> None:
    kept, _, best = scripted([2.0, 1.0, 1.0, 1.0], make_frame, make_windows, epochs=4)
    assert (kept, best) == (2, 2)


@pytest.mark.parametrize(("patience", "epochs", "best_epoch"), [(1, 3, 2), (2, 4, 2), (3, 8, 5)])
def test_training_stops_after_epochs_without_a_better_loss(
    make_frame: Windows, make_windows: Windows, patience: int, epochs: int, best_epoch: int
) -> None:
    losses = [3.0, 2.0, 2.5, 2.0, 1.9, 1.95, 2.0, 2.0, 2.0, 2.0]
    kept, curve, best = scripted(losses, make_frame, make_windows, epochs=10, patience=patience)
    assert len(curve) == epochs
    assert kept == best == best_epoch


def test_a_nan_validation_loss_is_never_the_best_and_ends_the_run(make_frame: Windows, make_windows: Windows) -> None:
    with pytest.raises(ForecastError, match="validation loss became nan in epoch 2"):
        scripted([1.0, math.nan, 0.5], make_frame, make_windows)


@pytest.mark.parametrize("loss", [math.nan, 1.0, 2.0, math.inf])
def test_only_a_lower_loss_is_taken_as_best(loss: float) -> None:
    keep = KeepBest(config(), None, lambda epoch, metrics: None)
    keep.best, keep.best_epoch, keep.best_loss = {"weight": torch.tensor(1.0)}, 1, 1.0
    network = Map()
    trainer = type(
        "Trainer",
        (),
        {
            "callback_metrics": {"train_loss": torch.tensor(1.0), "val_mse": torch.tensor(loss)},
            "current_epoch": 1,
            "should_stop": False,
            "optimizers": [torch.optim.SGD(network.parameters(), lr=1.0)],
        },
    )()
    keep.on_train_epoch_end(trainer, SeriesForecaster(network, OptimConfig(1.0, 0.0, "constant", 3), SeriesLoss("mse")))
    assert (keep.best_epoch, keep.best_loss) == (1, 1.0)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("halving", [1, 1, 1 / 2, 1 / 4, 1 / 8]),
        ("constant", [1, 1, 1, 1, 1]),
        ("cosine", [0.5 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5)]),
    ],
)
def test_rates_of_the_epochs_follow_the_schedule(
    parts: tuple[WindowDataset, WindowDataset], schedule: str, factors: list[float]
) -> None:
    used: list[float] = []
    told: list[float] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: object, **options: object) -> object:
        used.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        run(
            fresh(),
            parts,
            config(epochs=5, patience=9, schedule=schedule, learning_rate=0.02),
            on_epoch=lambda epoch, metrics: told.append(metrics["learning_rate"]),
        )
    assert used == pytest.approx([0.02 * factor for factor in factors for _ in range(4)])
    assert told == pytest.approx([0.02 * factor for factor in factors])


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    one, *_ = run(fresh(), parts, config())
    torch.rand(17)  # what was drawn before does not matter
    network = fresh()
    torch.rand(5)
    again, *_ = run(network, parts, config())
    other, *_ = run(fresh(), parts, config(seed=7))
    assert same(one, again)
    assert not same(one, other)


def test_a_rate_that_blows_up_raises_an_error_that_names_the_epoch(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    with pytest.raises(ForecastError, match=r"training loss became (nan|inf) in epoch [12]\.") as raised:
        run(fresh(), parts, config(learning_rate=1e30))
    assert "train.learning_rate" in raised.value.hint


def test_a_network_that_turns_nan_raises_an_error_that_names_the_epoch(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    network = fresh()

    def spoil(epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == 2:
            network.map.weight.data[0, 0] = math.nan

    with pytest.raises(ForecastError, match="training loss became nan in epoch 3"):
        run(network, parts, config(epochs=5), on_epoch=spoil)


def test_time_limit_stops_training_and_the_weights_are_validated(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    began = time.monotonic()
    weights, curve, best = run(fresh(), parts, config(epochs=1000, patience=1000, time_limit=0.4))
    assert time.monotonic() - began < 20
    assert best >= 1 and len(curve) < 1000
    assert all(math.isfinite(loss) for *_, loss in curve)
    assert not same(weights, fresh().state_dict())


def test_a_time_limit_that_is_over_at_once_still_gives_validated_weights(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    weights, curve, best = run(fresh(), parts, config(epochs=50, time_limit=1e-9))
    assert len(curve) == best == 1
    assert math.isfinite(curve[0][2])
    assert not same(weights, fresh().state_dict())


def mse(network: nn.Module, data: WindowDataset) -> float:
    with torch.no_grad():
        every = data[torch.arange(len(data))]
        return (network.eval()(every.window) - every.target.values).square().mean().item()


def test_the_validation_loss_told_is_that_of_the_kept_weights_over_every_window(
    parts: tuple[WindowDataset, WindowDataset],
) -> None:
    for averaging in (0, 0.99):
        network = fresh()
        _, curve, best = run(network, parts, config(averaging=averaging))
        assert mse(network, parts[1]) == pytest.approx(curve[best - 1][2], rel=1e-5)


def test_averaging_keeps_the_running_average_of_the_weights(parts: tuple[WindowDataset, WindowDataset]) -> None:
    steps: list[Weights] = []
    network = fresh()
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: object, **options: object) -> object:
        result = step(self, *arguments, **options)
        steps.append({key: value.detach().clone() for key, value in network.state_dict().items()})
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        kept, _, best = run(network, parts, config(epochs=4, patience=9, averaging=0.8, learning_rate=0.01))
    assert len(steps) == 16
    average = dict(steps[0])
    for number, weights in enumerate(steps[: 4 * best], start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        average = {key: decay * average[key] + (1 - decay) * weights[key] for key in weights}
    for key, value in average.items():
        assert torch.allclose(kept[key], value, atol=1e-6), key
    assert not torch.allclose(kept["map.weight"], steps[4 * best - 1]["map.weight"], atol=1e-4)


def test_averaging_does_not_change_the_steps_of_training(parts: tuple[WindowDataset, WindowDataset]) -> None:
    _, plain, _ = run(fresh(), parts, config(patience=9))
    _, averaged, _ = run(fresh(), parts, config(patience=9, averaging=0.9))
    assert [train_loss for _, train_loss, _ in plain] == [train_loss for _, train_loss, _ in averaged]


@pytest.mark.parametrize(
    ("bounds", "batches"), [(None, 4), ((1, 1000), 4), ((4, 4), 4), ((6, 1000), 6), ((9, 9), 9), ((1, 3), 3)]
)
def test_an_epoch_is_one_pass_within_the_bounds_on_its_batches(
    parts: tuple[WindowDataset, WindowDataset], bounds: tuple[int, int] | None, batches: int
) -> None:
    # 149 windows are 4 full batches of 32.
    network = fresh()
    sizes: list[int] = []
    network.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0].past)) if module.training else None
    )
    run(network, parts, config(epochs=1, epoch_batches=bounds))
    assert sizes == [32] * batches


def test_a_training_part_smaller_than_a_batch_is_one_batch(parts: tuple[WindowDataset, WindowDataset]) -> None:
    network, sizes = fresh(), []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0].past)))
    run(network, parts, config(epochs=1, batch_size=500))
    assert sizes == [149, 49]


def test_every_epoch_draws_other_batches_that_hold_each_window_at_most_once(
    make_frame: Windows, make_windows: Windows
) -> None:
    numbered = make_windows(make_frame(np.tile(np.arange(45.0)[:, None], 2)), 8, 4)  # 34 windows
    network, drawn = fresh(), []
    network.register_forward_pre_hook(
        lambda module, inputs: drawn.append(inputs[0].past[:, 0, 0].int().tolist()) if module.training else None
    )
    run(network, (numbered, numbered), config(epochs=2, batch_size=16))
    epochs = [drawn[0] + drawn[1], drawn[2] + drawn[3]]
    assert all(len(set(epoch)) == 32 for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"averaging": 0.9, "schedule": "cosine", "epoch_batches": (5, 6)},
        {"schedule": "halving", "weight_decay": 0.1, "patience": 1, "learning_rate": 0.1},
    ],
    ids=["plain", "averaging-cosine", "halving-patience"],
)
def test_a_run_stopped_after_any_epoch_ends_with_the_weights_of_an_unbroken_one(
    parts: tuple[WindowDataset, WindowDataset], tmp_path: Path, settings: dict[str, object]
) -> None:
    chosen = config(**{"epochs": 4, "patience": 9, **settings})
    whole, curve, best = run(small_transformer(), parts, chosen)
    checkpoint, copies = tmp_path / "run.ckpt", []

    def copy(epoch: int, metrics: Mapping[str, float]) -> None:
        """The file as it stands when epoch `epoch` has ended: its own checkpoint, which only the last does without."""
        copies.append(shutil.copy(checkpoint, tmp_path / f"{epoch}.ckpt"))

    kept, *_ = run(small_transformer(), parts, chosen, checkpoint=checkpoint, on_epoch=copy)
    assert same(kept, whole)
    assert len(copies) == len(curve)
    for stopped in [*copies, checkpoint]:
        torch.rand(3)
        resumed, again, best_again = run(small_transformer(), parts, chosen, checkpoint=Path(stopped))
        assert same(resumed, whole)
        assert (again, best_again) == (curve, best)


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import test_training as here
from conftest import _frame, _windows
from pathlib import Path
from typing import Any
parts = here.waves(_frame, _windows)
network, batches = here.small_transformer(), []
def count(module, inputs):
    if module.training:
        batches.append(1)
        if len(batches) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
network.register_forward_pre_hook(count)
here.run(network, parts, here.config(epochs=4, patience=9, averaging=0.9), checkpoint=Path(sys.argv[1]))
"""


def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_weights_of_an_unbroken_one(
    parts: tuple[WindowDataset, WindowDataset], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run.ckpt"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, checkpoint, "11", Path(__file__).parents[1], Path(__file__).parent],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint.exists()  # of the second epoch; the third was under way
    chosen = config(epochs=4, patience=9, averaging=0.9)
    resumed, again, _ = run(small_transformer(), parts, chosen, checkpoint=checkpoint)
    whole, curve, _ = run(small_transformer(), parts, chosen)
    assert same(resumed, whole)
    assert again == curve


def test_a_half_written_checkpoint_is_never_resumed_from(
    parts: tuple[WindowDataset, WindowDataset], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run.ckpt"
    checkpoint.with_suffix(".tmp").write_bytes(b"half")
    whole, *_ = run(small_transformer(), parts, config())
    kept, *_ = run(small_transformer(), parts, config(), checkpoint=checkpoint)
    assert same(kept, whole)


@pytest.fixture(scope="module")
def checkpoint(parts: tuple[WindowDataset, WindowDataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "run.ckpt"
    run(small_transformer(), parts, config(averaging=0.9), checkpoint=path)
    return path


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "zeros", "another-model", "foreign"])
def test_a_damaged_checkpoint_is_an_artifact_error(
    parts: tuple[WindowDataset, WindowDataset], checkpoint: Path, tmp_path: Path, damage: str
) -> None:
    path, whole = tmp_path / "run.ckpt", checkpoint.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"not a checkpoint at all\n" * 50)
        case "zeros":
            path.write_bytes(whole[:200] + bytes(len(whole) - 400) + whole[-200:])
        case "another-model":
            run(fresh(), parts, config(), checkpoint=path)
        case "foreign":
            torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ArtifactError, match=r"run\.ckpt is damaged") as raised:
        run(small_transformer(), parts, config(averaging=0.9), checkpoint=path)
    assert "--resume" in raised.value.hint


def test_the_checkpoint_holds_weights_and_plain_values_only(checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["epoch"] == 1  # counted from 0; the third epoch ended the run and needs no checkpoint


def test_bf16_trains_to_a_finite_loss_near_that_of_fp32(parts: tuple[WindowDataset, WindowDataset]) -> None:
    _, full, _ = run(small_transformer(), parts, config(epochs=4, learning_rate=1e-2))
    weights, half, _ = run(small_transformer(), parts, config(epochs=4, learning_rate=1e-2, precision="bf16"))
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert half[-1][2] == pytest.approx(full[-1][2], rel=0.1)
    assert half != full


def test_training_lowers_the_validation_loss(parts: tuple[WindowDataset, WindowDataset]) -> None:
    network = fresh()
    before = mse(network, parts[1])
    _, curve, best = run(network, parts, config(epochs=20, learning_rate=1e-2, averaging=0.9))
    assert curve[best - 1][2] == min(loss for *_, loss in curve) < 0.5 * before


@pytest.mark.parametrize("device", ["tpu9", "cuda:x", "gpus", ""])
def test_an_unknown_device_is_refused_before_anything_is_read(device: str) -> None:
    with pytest.raises(UsageError, match=r"train\.device"):
        resolve("itransformer", settings=[f"train.device={device!r}"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_cuda_device_that_is_not_there_is_refused(parts: tuple[WindowDataset, WindowDataset]) -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        run(fresh(), parts, config(device="cuda"))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("missing", [False, True])
def test_loss_is_the_mean_over_the_seen_answers(
    make_frame: Windows, make_windows: Windows, kind: str, missing: bool
) -> None:
    values = np.random.default_rng(1).normal(size=(30, 2))
    if missing:
        values[12:15] = np.nan
    data = make_windows(make_frame(values), 8, 4)
    batch = data[torch.arange(len(data))]
    network = fresh().eval()
    task = SeriesForecaster(network, OptimConfig(1e-3, 0.0, "constant", 1), SeriesLoss(kind))
    loss = task.training_step(batch, 0)
    error = (network(batch.window) - batch.target.values)[batch.target.seen]
    expected = {"mse": error.square(), "mae": error.abs()}[kind].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    answers = torch.where(batch.target.seen, batch.target.values, 1e9)
    spoilt = batch._replace(target=batch.target._replace(values=answers))
    assert task.training_step(spoilt, 0).item() == loss.item()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_begin_at_the_full_rate_and_never_rise(name: str) -> None:
    factors = [SCHEDULES[name](epoch, 10) for epoch in range(10)]
    assert factors[0] == 1
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert factors[-1] > 0


def test_weight_decay_pulls_at_matrices_only(make_network: Callable[..., nn.Module]) -> None:
    network = make_network("s-mamba", WindowShape(12, 4, 3, 3, 0))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    config = OptimConfig(learning_rate=0.1, weight_decay=0.5, schedule="constant", epochs=1)
    optimizer: Any = SeriesForecaster(network, config, SeriesLoss("mse")).configure_optimizers()["optimizer"]
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in network.named_parameters():
        kept = weight.ndim < 2 or name.endswith("A_log")
        torch.testing.assert_close(weight.detach(), before[name] * (1.0 if kept else 0.95))
