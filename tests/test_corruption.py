"""A clean table written with known faults gives the same frame, and the ledger reports exactly those faults."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corruption import FAULTS, Fault, check, damaged


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_fault_is_repaired_and_reported(fault: Fault, tmp_path: Path) -> None:
    for seed in range(8):
        check(damaged(seed, [fault]), tmp_path)


def test_a_clean_table_has_nothing_to_report(tmp_path: Path) -> None:
    for seed in range(8):
        table = check(damaged(seed, []), tmp_path)
        assert table.ledger.repairs == () and table.ledger.cautions == ()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), faults=st.sets(st.sampled_from(FAULTS), min_size=2))
def test_several_faults_at_once_are_repaired_and_each_is_reported(
    seed: int, faults: set[Fault], tmp_path: Path
) -> None:
    check(damaged(seed, faults), tmp_path)
