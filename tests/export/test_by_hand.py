"""What an operator does by hand heals, or it is said what to do; nothing is lost by it."""

import io
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from etl.database import schema
from etl.destinations.sql.destination import SqlDestination
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.job import PageProgress
from etl.ledger.gaps import gaps_of
from etl.model import Receipt, Stream
from etl.operations import export, query
from etl.simulator import AuditLog, Faults
from etl.sizes import Sizes
from etl.window import Window, gaps
from tests.support.destination_contents import audits_in
from tests.support.hostile_organization import BEGIN, LAG, World, log_with_edges
from tests.support.operator_actions import Files, statements
from tests.support.samples import (
    LOADED_AT,
    STREAM,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)
from tests.support.simulated_organization import NOW

SHOWN = [record(f"{n:03}", n / 100, client={"id": ""}) for n in range(30)]
PAGES = [batch(*SHOWN[n : n + 10]) for n in range(0, 30, 10)]


@pytest.fixture
def tables(engine: sa.Engine) -> SqlDestination:
    """Empty tables of each kind, loaded in several transactions."""
    return SqlDestination(engine, lambda: LOADED_AT, Sizes(group_bytes=8_000))


@pytest.mark.parametrize("receipts", ["kept", "deleted"])
@pytest.mark.parametrize("which", ["id = '007'", "id < '012'", "id = id"])
def test_audits_that_were_deleted_alone_are_loaded_again(
    tables: SqlDestination, engine: sa.Engine, which: str, receipts: str
) -> None:
    other = draft(hours(0, 1), stream=Stream("other"))
    load_into(tables, other, PAGES, unfenced)
    load_into(tables, draft(hours(0, 1)), PAGES, unfenced)
    statements(engine, f"DELETE FROM audit_events WHERE organization = 'default' AND {which}")
    if receipts == "deleted":
        statements(engine, "DELETE FROM receipts")

    shown = [batch(*(r | {"propertyChanges": []} for r in SHOWN))]
    receipt = load_into(tables, draft(hours(0, 1)), shown, unfenced)

    held = audits_in(engine)
    assert [audit.id for audit in held] == [r["id"] for r in SHOWN]
    again = [audit for audit in held if not audit.property_changes]
    assert len(again) == receipt.new_events > 0
    assert audits_in(engine, "other") == audits(SHOWN)


def test_audits_that_were_loaded_early_and_deleted_alone_are_loaded_early_again(
    tables: SqlDestination, engine: sa.Engine
) -> None:
    tables.load_early("default", audits(SHOWN))
    statements(engine, "DELETE FROM audit_events WHERE id < '012'")

    assert tables.load_early("default", audits(SHOWN)) == 12
    assert audits_in(engine) == audits(SHOWN)


@pytest.mark.parametrize("table", ["early_audits", "audit_events"])
def test_a_mark_without_its_audit_and_an_audit_without_its_mark_are_no_obstacle(
    tables: SqlDestination, engine: sa.Engine, table: str
) -> None:
    tables.load_early("default", audits(SHOWN))
    statements(engine, f"DELETE FROM {table} WHERE id < '012'")

    load_into(tables, draft(hours(0, 1)), PAGES, unfenced)

    assert audits_in(engine) == audits(SHOWN)
    with engine.connect() as connection:
        left = connection.execute(sa.text("SELECT count(*) FROM early_audits")).scalar_one()
    assert left == 0


ADDED = [
    (
        "sqlite",
        "CREATE TRIGGER stop BEFORE INSERT ON audit_events WHEN NEW.user_name LIKE 'Ada%' "
        "BEGIN SELECT RAISE(ABORT, 'not into here'); END",
        "not into here",
    ),
    (
        "postgresql",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (user_name NOT LIKE 'Ada%')",
        "no_ada of table audit_events",
    ),
    (
        "postgresql",
        "ALTER TABLE audit_events ALTER COLUMN client_id SET NOT NULL",
        "client_id of table audit_events",
    ),
    (
        "postgresql",
        "ALTER TABLE audit_property_changes ADD CONSTRAINT known FOREIGN KEY (property) "
        "REFERENCES properties (name)",
        "known of table audit_property_changes",
    ),
    (
        "mariadb",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (user_name NOT LIKE 'Ada%')",
        "no_ada",
    ),
    ("mariadb", "ALTER TABLE audit_events ADD UNIQUE KEY one_name (user_name(20))", "one_name"),
    ("mariadb", "ALTER TABLE audit_events MODIFY client_id LONGTEXT NOT NULL", "client_id"),
    (
        "mariadb",
        "ALTER TABLE audit_events MODIFY user_name INT",
        "user_name` at row 1 (error 1366)",
    ),
    (
        "mariadb",
        "ALTER TABLE audit_events MODIFY user_name DATE",
        "user_name` at row 1 (error 1292)",
    ),
    (
        "mariadb",
        "ALTER TABLE audit_events MODIFY user_name VARCHAR(3)",
        "user_name' at row 1 (error",
    ),
    (
        "mariadb",
        "ALTER TABLE audit_events MODIFY user_name ENUM('Eve')",
        "user_name' at row 1 (error 1265)",
    ),
    (
        "mariadb",
        "CREATE TRIGGER stop BEFORE INSERT ON audit_events FOR EACH ROW "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not Ada'",
        "(error 1644)",
    ),
    (
        "postgresql",
        "CREATE TYPE few AS ENUM ('Eve'); "
        "ALTER TABLE audit_events ALTER user_name TYPE few USING 'Eve'",
        "SQLSTATE 22P02 at audit_events.user_name",
    ),
    (
        "postgresql",
        "ALTER TABLE audit_events ALTER user_name TYPE integer USING 0",
        "SQLSTATE 22P03 at audit_events.user_name",
    ),
    (
        "postgresql",
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM NEW.user_name::integer; RETURN NEW; END'; "
        "CREATE TRIGGER stop BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION stop()",
        "SQLSTATE 22P02",
    ),
    (
        "postgresql",
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''not %'', NEW.user_name; END'; "
        "CREATE TRIGGER stop BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION stop()",
        "SQLSTATE P0001",
    ),
]


@pytest.mark.parametrize(
    ("database_url", "added", "named"), ADDED, indirect=["database_url"], ids=lambda v: v[:12]
)
def test_a_constraint_that_somebody_added_is_named_without_the_rows_values(
    tables: SqlDestination, engine: sa.Engine, added: str, named: str
) -> None:
    statements(engine, "CREATE TABLE properties (name VARCHAR(99) PRIMARY KEY)", added)

    with pytest.raises(DestinationUnavailable) as told:
        load_into(tables, draft(hours(0, 1)), PAGES, unfenced)

    text = str(told.value).replace(str(engine.url.database), "")
    assert named in text
    assert "run the same command again" in text
    assert not [
        value for value in ("Ada", "000", "Wartezimmer") if value in text.replace(named, "")
    ]
    assert audits_in(engine) == []
    assert tables.ledger.last_receipt(STREAM) is None


LEAVING_OUT = [
    (
        "sqlite",
        "CREATE TRIGGER drop_007 BEFORE INSERT ON audit_events WHEN NEW.id = '007' "
        "BEGIN SELECT RAISE(IGNORE); END",
    ),
    (
        "postgresql",
        "CREATE FUNCTION drop_007() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.event_id = ''007'' THEN RETURN NULL; END IF; RETURN NEW; END'; "
        "CREATE TRIGGER drop_007 BEFORE INSERT ON audit_entity_changes "
        "FOR EACH ROW EXECUTE FUNCTION drop_007()",
    ),
]


@pytest.mark.parametrize(
    ("database_url", "added"), LEAVING_OUT, indirect=["database_url"], ids=["sqlite", "postgresql"]
)
def test_a_trigger_that_leaves_out_rows_makes_no_receipt(
    tables: SqlDestination, engine: sa.Engine, added: str
) -> None:
    statements(engine, added)

    with pytest.raises(DestinationUnavailable, match=r"the database took \d+ of \d+ rows of audit"):
        load_into(tables, draft(hours(0, 1)), PAGES, unfenced)

    assert audits_in(engine) == []
    assert tables.ledger.last_receipt(STREAM) is None


DAY = timedelta(days=1)
LAKES = ["parquet", "parquet+s3"]
OLD_DAY = Window(NOW.replace(hour=0) - DAY, NOW.replace(hour=0))
BEHIND = Window(BEGIN, NOW - LAG)


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=23, audits=300, late_share=0) as log:
        yield log


def exported(world: World) -> None:
    """Export all that is due; a quarter of an hour passes."""
    assert world.run().status == 0
    world.clock.move(minutes=15)


def is_complete(world: World) -> bool:
    """Whether a run ends well, and all that it promises is held, once."""
    outcome = world.run()
    held = [audit.id for audit in world.place.audits()]
    return (
        outcome.status == 0 and len(set(held)) == len(held) and outcome.promised.keys() <= set(held)
    )


@pytest.mark.parametrize("standing_place", LAKES, indirect=True)
def test_a_lake_s_file_that_was_deleted_is_found_missing_and_loaded_again(
    hostile: World, caplog: pytest.LogCaptureFixture
) -> None:
    exported(hostile)
    before = hostile.place.audits()
    files = Files(hostile.place)
    files.delete(files.path("2026-05-07"))
    lost = sum(audit.event_date in OLD_DAY for audit in before)

    assert hostile.run().status == 0
    found, _ = hostile.verify(BEHIND)
    repaired, failures = hostile.verify(BEHIND, repair=True)

    assert sum(v.verification.missing for v in found) == lost > 0
    assert [v.verification.repaired for v in repaired] == [v.verification.missing for v in found]
    assert failures == []
    told = re.findall(r"(\d+) audits are new although fewer were held", caplog.text)
    assert sum(map(int, told)) == lost
    assert late_arrivals(hostile) == 0
    assert is_complete(hostile)


def late_arrivals(world: World) -> int:
    with world.place.destination.ledger.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT COUNT(*) FROM late_arrivals")).scalar_one())


def foreign(_: bytes) -> bytes:
    """A Parquet file of somebody else's."""
    made = io.BytesIO()
    pq.write_table(pa.table({"event": ["x"]}), made)
    return made.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "overwritten": lambda content: (
        content[:4] + bytes(len(content) // 2) + content[len(content) // 2 + 4 :]
    ),
    "foreign": foreign,
}


@pytest.mark.parametrize("standing_place", LAKES, indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lake_s_file_that_was_damaged_is_named_and_heals_as_it_is_said(
    hostile: World, damage: str
) -> None:
    exported(hostile)
    destination, files = hostile.place.destination, Files(hostile.place)
    path = files.path("2026-05-07")
    files.write(path, DAMAGES[damage](files.content(path)))
    told = []

    outcome = hostile.run(lookback=3 * DAY)
    told.append(outcome.error)
    for use in (
        lambda: hostile.verify(BEHIND),
        lambda: hostile.verify(BEHIND, repair=True),
        lambda: destination.audits_a_day(Stream("default"), BEHIND),  # as `status` does
    ):
        with pytest.raises(DestinationUnavailable) as error:
            use()
        told.append(error.value)

    for error_told in told:
        assert isinstance(error_told, DestinationUnavailable)
        assert f"{path} is no whole file of audits" in str(error_told)
        assert (
            "remove it and run `audit-etl verify --from 2026-05-07T00:00:00Z --to "
            "2026-05-08T00:00:00Z --organization default --repair`"
        ) in str(error_told)
    files.delete(path)
    [verdict], failures = hostile.verify(OLD_DAY, repair=True)
    assert verdict.verification.repaired > 0
    assert failures == []
    assert is_complete(hostile)


@pytest.mark.parametrize("standing_place", LAKES, indirect=True)
def test_files_that_lie_beside_those_of_a_lake_are_left_alone(hostile: World) -> None:
    exported(hostile)
    files = Files(hostile.place)
    path = files.path("2026-05-07")
    content = files.content(path)
    for stray in (
        path.replace("audits.parquet", "audits (copy).parquet"),
        path.replace("date=2026-05-07", "date=2026-05-07.bak"),
        "audit_events/notes.parquet",
    ):
        files.write(stray, content)

    found, failures = hostile.verify(BEHIND, repair=True)

    assert [v.differences for v in found] == [() for _ in found]
    assert failures == []
    assert is_complete(hostile)


PROGRESS = {
    "receipts": ["DELETE FROM receipts"],
    "the first receipt": ["DELETE FROM receipts WHERE window_start < '2026-05-07'"],
    "the last receipt": ["DELETE FROM receipts WHERE window_start > '2026-05-07'"],
    "watermarks": ["DELETE FROM watermarks"],
    "receipts and watermarks": ["DELETE FROM receipts", "DELETE FROM watermarks"],
    "queries": ["DELETE FROM queries"],
    "leases": ["DELETE FROM leases"],
}


@pytest.mark.parametrize("what", PROGRESS)
def test_progress_that_was_deleted_is_asked_for_again(hostile: World, what: str) -> None:
    exported(hostile)
    ledger = hostile.place.destination.ledger
    statements(ledger.engine, *PROGRESS[what])
    proved = ledger.windows(STREAM)
    watermark = ledger.watermark(STREAM)
    if watermark is not None:
        unproved = list(gaps(proved, Window(watermark.begins_at, watermark.reached)))
        assert gaps_of(ledger.engine, STREAM) == unproved
        assert bool(unproved) == ("receipt" in what)

    assert is_complete(hostile)

    assert gaps_of(ledger.engine, STREAM) == []
    assert late_arrivals(hostile) == 0


def test_rejects_that_were_deleted_are_kept_aside_again(hostile: World) -> None:
    hostile.simulator.faults = Faults(unusable_every=5)
    exported(hostile)
    kept = hostile.kept_aside()
    statements(hostile.place.destination.ledger.engine, "DELETE FROM audit_rejects")

    hostile.run(lookback=3 * DAY)

    assert hostile.kept_aside() >= kept > 0


def test_a_lease_that_was_deleted_while_it_is_held_ends_the_run_and_no_other(
    hostile: World,
) -> None:
    engine = hostile.place.destination.ledger.engine

    def delete(_: PageProgress) -> None:
        statements(engine, "DELETE FROM leases")

    outcome = hostile.run(watch=delete)

    assert outcome.status == 75
    assert is_complete(hostile)


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_an_older_backup_that_was_restored_goes_on_from_there(
    hostile: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exported(hostile)
    live = str(hostile.place.destination.ledger.engine.url.database)
    with closing(sqlite3.connect(live)) as now, closing(sqlite3.connect(tmp_path / "b")) as backup:
        now.backup(backup)
        hostile.clock.move(hours=30)
        exported(hostile)
        backup.backup(now)

    assert is_complete(hostile)

    assert late_arrivals(hostile) == 0
    assert "fewer were held" not in caplog.text


@pytest.mark.parametrize("standing_place", ["sqlite", "postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("tables", ["audit_events", "all"])
def test_an_organisation_that_was_renamed_in_the_tables_loses_nothing(
    hostile: World, tables: str
) -> None:
    exported(hostile)
    before = hostile.place.audits()
    engine = hostile.place.destination.ledger.engine
    names = [
        table.name
        for table in schema.metadata.tables.values()
        if "organization" in table.c and tables in {"all", table.name}
    ]
    statements(engine, *(f"UPDATE {name} SET organization = 'renamed'" for name in names))

    outcome = hostile.run(lookback=3 * DAY)

    assert outcome.status == 0
    assert outcome.promised.keys() <= {audit.id for audit in hostile.place.audits()}
    with engine.connect() as connection:
        renamed = "SELECT id FROM audit_events WHERE organization = 'renamed'"
        assert set(connection.execute(sa.text(renamed)).scalars()) == {a.id for a in before}
    if tables == "all":
        assert hostile.place.audits("renamed") == before


@pytest.mark.parametrize("standing_place", ["parquet"], indirect=True)
@pytest.mark.parametrize("level", [0, 1], ids=["an organisation", "a day"])
def test_a_folder_that_was_moved_and_linked_is_refused_not_overlooked(
    hostile: World, tmp_path: Path, level: int
) -> None:
    assert hostile.run().status == 0
    lake = Path(hostile.place.variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://"))
    moved = sorted((lake / "audit_events").glob("/".join("*" * (level + 1))))[0]
    moved.rename(tmp_path / "moved")
    moved.symlink_to(tmp_path / "moved")

    hostile.clock.move(minutes=15)
    with pytest.raises(ConfigurationError, match=f"{moved} is a symbolic link"):
        hostile.run()
    with (
        hostile.app() as app,
        pytest.raises(ConfigurationError, match="is a symbolic link"),
        query.answer(app, "SELECT count(*) FROM audit_events"),
    ):
        pass
    moved.unlink()
    (tmp_path / "moved").rename(moved)
    hostile.clock.move(minutes=15)
    healed = hostile.run()
    assert healed.status == 0
    assert healed.promised.keys() <= {audit.id for audit in hostile.place.audits()}


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_lookback_of_nothing_counts_beside_a_schedule(hostile: World) -> None:
    assert hostile.run().status == 0
    hostile.clock.move(hours=1)
    with hostile.app() as app:
        watermark = app.ledger.watermark(STREAM)
        assert watermark is not None
        found = list(export.run(app, schedule="settle", lookback=timedelta(0)))

    windows = [outcome.window for outcome in found if isinstance(outcome, Receipt)]
    assert windows
    assert all(window.start >= watermark.reached for window in windows)
