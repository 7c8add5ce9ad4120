"""Splits are disjoint, ordered in time and cover every row; published borders want the published table."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.data.frame import SeriesFrame
from forecast.data.split import by_fraction, published
from forecast.errors import DataError

Frames = Callable[..., SeriesFrame]
ETT = np.array([[0, 8640], [8640, 11520], [11520, 14400]])

shares = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4), fractions=shares, horizon=st.integers(1, 40))
def test_parts_are_disjoint_ordered_and_cover_every_row(
    make_frame: Frames, lengths: list[int], fractions: tuple[float, float, float], horizon: int
) -> None:
    frame = make_frame(np.zeros((sum(lengths), 1)), lengths)
    split = by_fraction(frame, fractions, horizon)
    for series, (first, end) in enumerate(zip(frame.offsets[:-1], frame.offsets[1:], strict=True)):
        edges = [*split.train[series], *split.validation[series], *split.test[series]]
        assert edges[0] == first and edges[-1] == end
        assert edges == sorted(edges)
        assert edges[1] == edges[2] and edges[3] == edges[4]
    assert (split.train_end == split.train[:, 1]).all()


@pytest.mark.parametrize(
    ("rows", "borders"),
    [  # the published row counts: int(0.7 n) and int(0.2 n), the rest between them
        (7588, (5311, 6071)),
        (52696, (36887, 42157)),
        (26304, (18412, 21044)),
        (17544, (12280, 14036)),
    ],
)
def test_shares_of_70_10_20_cut_where_the_published_loaders_do(
    make_frame: Frames, rows: int, borders: tuple[int, int]
) -> None:
    split = by_fraction(make_frame(np.zeros((rows, 1))), (0.7, 0.1, 0.2), 96)
    assert (split.train[0, 1], split.test[0, 0]) == borders


def test_shares_that_only_rounding_makes_fractional_lose_no_row(make_frame: Frames) -> None:
    # 0.7 * 10 and 0.6 * 5 are a little below 7 and 3 or above, as floats.
    for rows, fractions, train in ((10, (0.7, 0.1, 0.2), 7), (50, (0.58, 0.22, 0.2), 29), (100, (0.29, 0.5, 0.21), 29)):
        assert by_fraction(make_frame(np.zeros((rows, 1))), fractions, 1).train[0, 1] == train


def test_short_series_give_validation_and_test_one_horizon_before_training_gets_a_row(make_frame: Frames) -> None:
    split = by_fraction(make_frame(np.zeros((60, 1)), [30, 20, 8, 2]), (0.7, 0.1, 0.2), 10)
    lengths = [np.diff(part, axis=1)[:, 0].tolist() for part in (split.train, split.validation, split.test)]
    assert lengths[0] == [10, 0, 0, 0]
    assert lengths[1] == [10, 10, 8, 2]
    assert lengths[2] == [10, 10, 0, 0]


def test_published_borders_are_taken_as_they_stand(make_frame: Frames) -> None:
    split = published(make_frame(np.zeros((17420, 1))), ETT, "etth1")
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == (
        [[0, 8640]],
        [[8640, 11520]],
        [[11520, 14400]],
    )


@pytest.mark.parametrize("lengths", [[14399], [14400, 14400]])
def test_published_borders_refuse_a_short_table_and_several_series(make_frame: Frames, lengths: list[int]) -> None:
    with pytest.raises(DataError, match="published split of etth1 needs 14400 rows in one series"):
        published(make_frame(np.zeros((sum(lengths), 1)), lengths), ETT, "etth1")
