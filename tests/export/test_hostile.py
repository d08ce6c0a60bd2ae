"""Every fault against every destination: nothing lost, nothing doubled, nothing claimed falsely."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl.app import clock
from etl.model import Stream
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from etl.window import Window
from tests.support.commands import audit_etl, environment
from tests.support.fault_matrix import CELLS, Cell, mixture
from tests.support.hostile_organization import BEGIN, Outcome, World, log_with_edges, within
from tests.support.simulated_organization import NOW

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=11, audits=360, late_share=0) as log:
        yield log


def assert_that_nothing_is_claimed_falsely(world: World, outcome: Outcome) -> None:
    """Each audit held is one that was shown, and there once; what was promised is there.

    Promised is every window with a receipt, all before a watermark, and if a run says that it is
    done, whatever it had to bring.
    """
    held = world.place.audits()
    ids = [audit.id for audit in held]
    assert len(ids) == len(set(ids)), "doubled"
    for audit in held:
        assert audit in world.seen.get(audit.id, []), f"never shown: {audit}"
    for receipt in outcome.receipts:
        proved = within(outcome.promised, receipt.stream, receipt.window)
        assert proved <= set(ids), f"lost behind {receipt}"
    if outcome.status == 0:
        assert outcome.promised.keys() <= set(ids), "lost although the run says that it is done"
        assert world.kept_aside() >= outcome.rejects, "not kept aside"
    assert world.unusable or world.kept_aside() == 0, "kept aside without a reason"
    ledger = world.place.destination.ledger
    for stream in ledger.streams():
        watermark = ledger.watermark(stream)
        assert watermark is not None
        assert watermark.reached <= world.until
        if stream.service == world.refused:
            assert watermark.reached == BEGIN, "claimed of a service that was refused"
            continue
        assert outcome.status != 0 or watermark.reached >= outcome.span.end
        proved = within(
            outcome.promised, stream, Window(BEGIN - DAY, max(BEGIN, watermark.reached))
        )
        assert proved <= set(ids), "lost before the watermark"


def assert_that_a_run_without_faults_completes(world: World) -> None:
    world.simulator.faults = Faults()
    world.clock.move(hours=3)
    outcome = world.run(lookback=5 * DAY)
    assert outcome.status == 0, outcome.error
    assert_that_nothing_is_claimed_falsely(world, outcome)


@pytest.mark.promise("M1", "M2", "M3", "M4")
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name.replace("`", ""))
def test_nothing_is_lost_doubled_or_claimed_falsely(hostile: World, cell: Cell) -> None:
    hostile.suffer(cell)

    outcome = hostile.run()

    assert outcome.status == cell.status, outcome.error
    assert_that_nothing_is_claimed_falsely(hostile, outcome)
    if "again" in cell.faults:
        again = hostile.run(lookback=5 * DAY)
        assert again.status == 0
        assert hostile.place.audits() == sorted(outcome.promised.values(), key=lambda a: a.id)
    if outcome.status != 0:
        assert_that_a_run_without_faults_completes(hostile)


def test_a_refused_service_is_told_of_and_alone_it_is_a_failure(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    services = "AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES"
    hostile.simulator.faults = Faults(forbidden_service="Directory")

    hostile.settings = {services: "ContactCenter,Directory"}
    both = hostile.run()
    told = [record.getMessage() for record in caplog.records if "Directory" in record.getMessage()]
    hostile.settings = {services: "Directory"}
    alone = hostile.run()

    assert (both.status, alone.status) == (0, 77)
    [warning] = told
    assert "is not exported, the other services are" in warning
    assert "take 'Directory' out of organizations.default.services" in warning


@pytest.mark.parametrize("seed", range(4))
def test_faults_that_meet_are_survived_or_told_of(hostile: World, seed: int) -> None:
    cell = mixture(seed)
    hostile.suffer(cell)

    for _ in range(2):
        outcome = hostile.run()
        assert outcome.status in {0, 65, 69, 75, 77}, f"{cell.name}: {outcome.error!r}"
        assert_that_nothing_is_claimed_falsely(hostile, outcome)
        hostile.clock.move(hours=1)

    assert_that_a_run_without_faults_completes(hostile)


@pytest.mark.promise("M5")
def test_what_the_source_forgets_stays(hostile: World) -> None:
    hostile.run()
    before = hostile.place.audits()
    hostile.simulator.faults = Faults(forget_days=1, twin_every=2)
    hostile.clock.move(hours=1)

    outcome = hostile.run(lookback=5 * DAY)

    assert outcome.status == 0
    after = {audit.id: audit for audit in hostile.place.audits()}
    assert [after[audit.id] for audit in before] == before
    assert len(after) > len(before)


def test_a_service_that_appears_tomorrow_is_exported_then(hostile: World) -> None:
    hostile.settings = {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "ContactCenter,Directory"}
    hostile.simulator.faults = Faults(new_service="Directory", new_service_after=86_400)
    today = hostile.run()
    hostile.clock.move(hours=40)
    hostile.simulator.tokens.revoke_all()

    tomorrow = hostile.run()

    assert today.status == 78
    assert "'Directory'" in str(today.error)
    assert {audit.service_name for audit in hostile.place.audits()} >= {"Directory"}
    assert tomorrow.status == 0
    assert within(tomorrow.promised, Stream("default", "Directory"), Window(BEGIN, NOW + 2 * DAY))


@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
def test_what_arrives_up_to_a_week_late_is_there_after_the_schedules_lookbacks(
    hostile: World,
) -> None:
    hostile.simulator.faults = Faults(late_every=3, late_hours=160)
    first = hostile.run()
    for _ in range(20):
        hostile.clock.move(hours=23)
        assert hostile.run().status == 0

    held = {audit.id for audit in hostile.place.audits()}

    assert len(first.promised) < len(held)
    assert hostile.shown(BEGIN, NOW + 2 * DAY).keys() == held


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "status", "says"),
    [
        (Faults(server_error_every=4, truncate_every=5), 0, "done: "),
        (Faults(repeat_cursor=1), 65, "same cursor twice"),
        (Faults(fail_query_every=1), 69, "ended as Failed"),
        (Faults(quota=2, retry_after=7200), 75, "no more requests before"),
        (Faults(deny_permission=True), 77, "audits:audit:view"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_process_ends_with_the_status_of_what_happened(
    faults: Faults, status: int, says: str, tmp_path: Path
) -> None:
    now = clock()
    with AuditLog.generate(count=900, start=now - DAY, end=now) as log:
        simulator = Simulator(log=log, answer_at_once=True, faults=faults)
        with simulator.serve() as url:
            result = audit_etl(
                "run",
                env=environment(
                    GENESYSCLOUD_REGION=url,
                    GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                    GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
                    AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
                ),
            )

    assert result.returncode == status, result.stderr
    assert says in result.stdout + result.stderr
    assert ("done: " in result.stdout.split("not ")[0]) == (status == 0)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_the_receipts_of_a_lookback_by_hand_say_so(hostile: World) -> None:
    first, again = hostile.run(), hostile.run(lookback=DAY)

    assert {receipt.schedule for receipt in first.receipts} == {"frequent"}
    assert {receipt.schedule for receipt in again.receipts} == {"manual"}
