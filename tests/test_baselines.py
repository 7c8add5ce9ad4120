"""Baselines: naive and seasonal naive equal loops, missing values included; Linear equals least squares."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forecast.data.windows import Example, Target, Window, WindowShape
from forecast.errors import UsageError
from forecast.models.naive import Linear, LinearConfig, Naive, NaiveConfig, SeasonalNaive, SeasonalNaiveConfig
from forecast.prepare import Prepared
from forecast.scoring import score


def window(past: Tensor, seen: Tensor | None = None) -> Window:
    seen = torch.ones_like(past, dtype=torch.bool) if seen is None else seen
    return Window.of(past.masked_fill(~seen, 0.0), seen, past[..., :0], past[:, :0, :0])


def example(past: Tensor, future: Tensor, answered: Tensor | None = None) -> Example:
    answered = torch.ones_like(future, dtype=torch.bool) if answered is None else answered
    number = torch.arange(len(past))
    return Example(window(past), Target(future.masked_fill(~answered, 0.0), answered), number * 0, number)


@settings(max_examples=120, deadline=None)
@given(
    lookback=st.integers(1, 12),
    season=st.integers(1, 12),
    horizon=st.integers(1, 15),
    missing=st.sampled_from([0.0, 0.4, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
def test_naive_and_seasonal_naive_equal_loops(
    lookback: int, season: int, horizon: int, missing: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    past = torch.randn(3, lookback, 3, generator=draw)
    seen = torch.rand(past.shape, generator=draw) >= missing
    shape = WindowShape(lookback, horizon, 3, 2, 0)
    naive = Naive(shape, NaiveConfig())(window(past, seen))
    seasonal = SeasonalNaive(shape, SeasonalNaiveConfig(season=season))(window(past, seen))
    assert naive.shape == seasonal.shape == (3, horizon, 2)
    for b in range(3):
        for v in range(2):
            known = [t for t in range(lookback) if seen[b, t, v]]
            last = past[b, known[-1], v] if known else torch.tensor(0.0)
            assert (naive[b, :, v] == last).all()
            for h in range(horizon):
                # The same phase of the last period, of the one before, and so on.
                phases = [t for t in known if (lookback + h - t) % season == 0]
                assert seasonal[b, h, v] == (past[b, phases[-1], v] if phases else last)


@pytest.mark.parametrize("season", [0, -3])
def test_a_season_below_one_step_is_refused(season: int) -> None:
    with pytest.raises(UsageError, match=f"model.season is {season}; it must be at least 1"):
        SeasonalNaiveConfig(season=season)


def test_linear_equals_least_squares_with_an_intercept() -> None:
    draw = torch.Generator().manual_seed(0)
    past, future = torch.randn(60, 5, 2, generator=draw), torch.randn(60, 3, 2, generator=draw)
    linear = Linear(WindowShape(5, 3, 2, 2, 0), LinearConfig(ridge=0.0))
    linear.solve(example(past[rows], future[rows]) for rows in (slice(0, 50), slice(50, 60)))
    inputs = np.concatenate([past.transpose(1, 2).reshape(-1, 5), np.ones((120, 1))], axis=1).astype(np.float64)
    expected, *_ = np.linalg.lstsq(inputs, future.transpose(1, 2).reshape(-1, 3).double().numpy(), rcond=None)
    np.testing.assert_allclose(linear.weight.numpy(), expected, rtol=1e-4, atol=1e-6)
    other = torch.randn(4, 5, 2, generator=draw)
    forecast = linear(window(other)).numpy()
    by_hand = np.einsum("blv,lh->bhv", other, expected[:-1]) + expected[-1][None, :, None]
    np.testing.assert_allclose(forecast, by_hand, rtol=1e-4, atol=1e-5)


def test_linear_recovers_a_planted_map() -> None:
    draw = torch.Generator().manual_seed(1)
    planted, intercept = torch.randn(6, 4, generator=draw), torch.randn(4, generator=draw)
    past = torch.randn(200, 6, 1, generator=draw)
    future = (past[..., 0] @ planted + intercept)[..., None]
    linear = Linear(WindowShape(6, 4, 1, 1, 0), LinearConfig(ridge=1e-9))
    linear.solve([example(past, future)])
    assert torch.allclose(linear.weight, torch.cat([planted, intercept[None]]), atol=1e-4)


def test_linear_leaves_incomplete_answers_out_of_its_equations() -> None:
    draw = torch.Generator().manual_seed(2)
    past, future = torch.randn(80, 4, 2, generator=draw), torch.randn(80, 3, 2, generator=draw)
    shape = WindowShape(4, 3, 2, 2, 0)
    whole = Linear(shape, LinearConfig())
    whole.solve([example(past[:60], future[:60])])
    answered = torch.ones_like(future, dtype=torch.bool)
    answered[60:, 1] = False
    partly = Linear(shape, LinearConfig())
    partly.solve([example(past, future, answered)])
    assert torch.allclose(partly.weight, whole.weight, atol=1e-6)


def test_linear_stays_finite_on_constant_and_on_empty_training_windows() -> None:
    for past in (torch.zeros(20, 4, 1), torch.ones(20, 4, 1), torch.ones(0, 4, 1)):
        linear = Linear(WindowShape(4, 2, 1, 1, 0), LinearConfig())
        linear.solve([example(past, past[:, :2])])
        assert torch.isfinite(linear.weight).all()
        if len(past):
            assert torch.allclose(linear(window(past)), past[:, :2], atol=1e-3)


@pytest.mark.parametrize("season", [1, 24])
def test_linear_beats_the_naive_two_on_etth1(etth1: Prepared, season: int) -> None:
    few = etth1.test.thinned(300)
    linear = Linear(etth1.shape, LinearConfig())
    linear.solve(etth1.train.thinned(800).batches(64))
    naive = SeasonalNaive(etth1.shape, SeasonalNaiveConfig(season=season))
    scores = [score(model, few, etth1.scaler, etth1.naive_error).scaled["mse"] for model in (linear, naive)]
    assert scores[0] < 0.9 * scores[1]
