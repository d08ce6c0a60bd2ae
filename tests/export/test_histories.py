"""Random histories end equal to the truth.

AUDIT_ETL_TEST_HISTORIES says how many (60; `make histories` has 1,000), AUDIT_ETL_TEST_SEED=N
lives the one of that seed again.
"""

import os
from collections.abc import Iterator

import pytest

from etl.simulator import AuditLog, Simulator
from tests.support.hostile_organization import log_with_edges, world
from tests.support.places import KINDS, Place
from tests.support.random_histories import History

COUNT = int(os.environ.get("AUDIT_ETL_TEST_HISTORIES", "60"))
SEED = os.environ.get("AUDIT_ETL_TEST_SEED")
SEEDS = [int(SEED)] if SEED else range(COUNT)


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=5, audits=150, late_share=0.3) as log:
        yield log


@pytest.mark.promise("M1", "M2", "M3", "M6")
@pytest.mark.parametrize(
    ("standing_place", "seed"),
    sorted((KINDS[seed % len(KINDS)], seed) for seed in SEEDS),
    indirect=["standing_place"],
)
def test_a_random_history_ends_equal_to_the_truth(
    log: AuditLog,
    served: tuple[Simulator, str],
    standing_place: Place,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with world(log, served, standing_place) as made:
        history = History(made, seed, monkeypatch)
        try:
            history.live()
        except Exception as error:
            error.add_note("\n".join(history.told))
            error.add_note(f"live it again: AUDIT_ETL_TEST_SEED={seed} make histories")
            raise
