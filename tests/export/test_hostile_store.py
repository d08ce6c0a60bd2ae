"""Every fault of an object store, while an organisation is exported into a bucket of it."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from moto.s3 import models

from etl.destinations.lake import bucket as bucket_module
from etl.destinations.lake.bucket import Patience
from etl.errors import AuditEtlError
from etl.simulator import AuditLog
from etl.window import Window
from tests.export.test_hostile import assert_that_nothing_is_claimed_falsely
from tests.support.commands import audit_etl
from tests.support.faulty_object_store import Store, meddled
from tests.support.hostile_organization import BEGIN, Outcome, World, log_with_edges
from tests.support.live_organization import PAST, living
from tests.support.object_store_faults import CELLS, TOKEN, StoreCell
from tests.support.places import Place

DAY = timedelta(days=1)
in_a_bucket = pytest.mark.parametrize("standing_place", ["parquet+s3"], indirect=True)


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=12, audits=90, late_share=0) as log:
        yield log


@pytest.fixture
def store(
    standing_place: Place, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """The store as the program sees it; `standing_place` sees it as it is."""
    with meddled(s3_server) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        yield store


def prepared_for(cell: StoreCell, patch: pytest.MonkeyPatch) -> None:
    """Little patience, and files in parts if the cell is about those."""
    seconds = 0.5 if cell.fault.silent else 30
    patience = Patience(5, request_seconds=seconds, retries=2, retry_seconds=20, pause_seconds=0.01)
    patch.setattr(bucket_module, "PATIENCE", patience)
    if cell.in_parts:
        patch.setattr(bucket_module, "UPLOAD_BYTES", 4_000)
        patch.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", 1)


def attempted(world: World, lookback: timedelta | None) -> Outcome:
    """A run; one that fails before anything is asked promises nothing."""
    try:
        return world.run(lookback)
    except AuditEtlError as error:
        return Outcome(Window(BEGIN, world.until), False, {}, 0, error=error)


@in_a_bucket
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_nothing_counts_that_the_store_has_not_confirmed(
    cell: StoreCell, hostile: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cell.finds_files:
        assert hostile.run().status == 0
        hostile.clock.move(hours=1)
    store.suffer(cell.fault)
    lookback = 2 * DAY if cell.finds_files else None

    with monkeypatch.context() as patch:
        prepared_for(cell, patch)
        outcome = attempted(hostile, lookback)

    assert store.struck > 0 or "STREAMING" in cell.name
    assert outcome.status == cell.status, outcome.error
    assert_that_nothing_is_claimed_falsely(hostile, outcome)
    if cell.status == 0:
        return
    text = str(outcome.error)
    assert cell.told in text
    assert "the lake s3://" in text
    assert "run the same command again" in text
    assert "\n" not in text
    assert TOKEN not in text
    assert not any(part in text for part in ("?", "made-up", "<"))
    store.suffer()
    hostile.clock.move(hours=1)
    again = hostile.run(2 * DAY)
    assert again.status == 0, again.error
    assert_that_nothing_is_claimed_falsely(hostile, again)


@pytest.mark.slow
def test_a_process_whose_upload_is_refused_ends_with_69_and_the_next_one_brings_all(
    bucket: str, s3_server: str, tmp_path: Path
) -> None:
    fault = next(cell.fault for cell in CELLS if cell.id == "put: 400 ExpiredToken")
    with meddled(s3_server) as store, living() as organisation:
        env = organisation.environment(
            bucket,
            AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 'state.db'}",
            AWS_ENDPOINT_URL=store.url,
            AWS_ACCESS_KEY_ID="made-up",
            AWS_SECRET_ACCESS_KEY="made-up-too",
            AWS_SESSION_TOKEN=TOKEN,
        )
        store.suffer(fault)
        refused, told = audit_etl("run", env=env), audit_etl("status", "--json", env=env)
        store.suffer()
        done = audit_etl("run", env=env)
        question = "SELECT COUNT(*) AS n FROM audit_events"
        asked = audit_etl("query", question, env=env)

    assert (refused.returncode, done.returncode) == (69, 0), done.stderr
    assert "ExpiredToken: no; set AWS_ACCESS_KEY_ID" in refused.stderr
    assert not any(text in refused.stderr for text in (TOKEN, "Traceback", "made-up"))
    [stream] = json.loads(told.stdout)["streams"]
    assert datetime.fromisoformat(stream["watermark"]) == organisation.begin
    assert int(asked.stdout.split()[-1]) > PAST.total_seconds() - 60, asked.stderr
