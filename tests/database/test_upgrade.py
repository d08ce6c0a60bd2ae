"""What release 0.1.0 wrote is migrated and gone on with: nothing is lost, doubled or forgotten.

`fixtures/0.1.0` holds what that release wrote; see its README.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from etl.app import App
from etl.config import load
from etl.database import migration, schema
from etl.database.engine import open_engine
from etl.database.migration import config_of
from etl.database.versions import schema_version
from etl.destinations.lake import binding
from etl.destinations.lake.local_storage import LocalStorage
from etl.errors import ConfigurationError, SchemaBehind
from etl.ledger import identities, status
from etl.model import Stream
from etl.operations import export, query, verify
from etl.operations.verifier import Verdict
from etl.records import Audit
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from etl.window import Window
from tests import TOP
from tests.database.test_migrations import dies_at
from tests.fixtures.organization import BEGIN, LAG, NOW, audits_of
from tests.support import database_servers as servers
from tests.support import migrations
from tests.support.commands import audit_etl, environment
from tests.support.destination_contents import audits_in, audits_in_lake
from tests.support.hostile_organization import Waits, resting
from tests.support.known_organizations import done
from tests.support.migrations import comments, described
from tests.support.simulated_organization import HandClock

MADE = TOP / "tests" / "fixtures" / "0.1.0"
LATER = NOW + timedelta(hours=8)
NAMES = ("default", "acme")
STREAMS = [Stream("acme", "ContactCenter"), Stream("acme", "Directory"), Stream("default")]
SPAN = Window(BEGIN, LATER - LAG)


@dataclass
class Old:
    """A destination as 0.1.0 left it, and the organisations that it was exported from."""

    variables: dict[str, str]
    audits: Callable[[str], list[Audit]]
    stack: ExitStack
    clock: HandClock = field(default_factory=lambda: HandClock(LATER))

    def __post_init__(self) -> None:
        for name in NAMES:
            log = self.stack.enter_context(AuditLog.of(audits_of(name)))
            simulator = Simulator(log=log, clock=self.clock, rest=resting(self.clock))
            key = f"AUDIT_ETL_ORGANIZATIONS__{name.upper()}__"
            self.variables |= {
                f"{key}REGION": self.stack.enter_context(simulator.serve()),
                f"{key}CLIENT_ID": CLIENT_ID,
                f"{key}CLIENT_SECRET": CLIENT_SECRET,
            }
        self.variables |= {
            "AUDIT_ETL_ORGANIZATIONS__ACME__SERVICES": "ContactCenter,Directory",
            "AUDIT_ETL_START": BEGIN.isoformat(),
        }

    def app(self, **changed: str) -> App:
        return App(
            load(None, self.variables | changed),
            stop=Waits(self.clock),
            now=self.clock,
            monotonic=self.clock.monotonic,
        )

    def run(self, **changed: str) -> None:
        with self.app(**changed) as app:
            for outcome in export.run(app, lookback=timedelta(days=3)):
                done(outcome)

    def rows(self, *tables: str) -> dict[str, list[dict[str, Any]]]:
        """The rows of tables of the state database."""
        engine = open_engine(self.variables.get("AUDIT_ETL_LEDGER") or self.destination)
        with engine.connect() as connection:
            found = {
                name: [
                    dict(row)
                    for row in connection.execute(sa.text(f"SELECT * FROM {name}")).mappings()
                ]
                for name in tables
            }
        engine.dispose()
        return found

    @property
    def destination(self) -> str:
        return self.variables["AUDIT_ETL_DESTINATION"]


#: What upgrades fill in rows that are there; `audits_in` looks at these.
FILLED = {"event_date"}


def as_before(after: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the columns of before, in an order of their own; what is new is null."""
    columns = set(before[0] if before else [])
    new = {name for row in after for name in row} - columns - FILLED
    assert not any(row[name] is not None for row in after for name in new)
    return in_order([{name: row[name] for name in row if name in columns} for row in after])


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in an order that does not depend on where the database keeps them."""
    return sorted(rows, key=repr)


def truth(name: str, window: Window) -> set[str]:
    """The ids of the audits of a span that can be asked for by now."""
    return {
        str(record["id"])
        for record, at in audits_of(name)
        if "id" in record and at <= LATER and _instant(record) in window
    }


def _instant(record: Mapping[str, object]) -> datetime:
    return datetime.fromisoformat(str(record["eventDate"]))


def in_sqlite(dump: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    connection.executescript((MADE / dump).read_text())
    connection.close()


def on_server(dump: str, url: str) -> None:
    """Make the tables as 0.1.0 does, and put its rows in."""
    engine = open_engine(url)
    with engine.begin() as connection:
        command.upgrade(config_of(connection), "0001")
        table, columns = "", list[str]()
        for line in (MADE / dump).read_text().splitlines():
            content = json.loads(line)
            if isinstance(content, dict):
                table, columns = content["table"], content["columns"]
            elif table != "alembic_version":
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(f"`{c}`" if engine.name == "mysql" else c for c in columns)
                connection.exec_driver_sql(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})",
                    tuple(_plain(value) for value in content),
                )
        if engine.name == "postgresql":  # as its own dumps do
            for name, key in (("receipts", "receipt_id"), ("verifications", "verification_id")):
                serial = f"pg_get_serial_sequence('{name}', '{key}')"
                connection.exec_driver_sql(f"SELECT setval({serial}, max({key})) FROM {name}")
    engine.dispose()


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value


@contextmanager
def filled(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of a database that 0.1.0 filled."""
    if kind == "sqlite":
        in_sqlite("sqlite.sql", folder / "audits.db")
        yield f"sqlite:///{folder / 'audits.db'}"
        return
    fixture = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[kind]
    with servers.fresh_database(request.getfixturevalue(fixture)) as url:
        on_server(f"{kind}.jsonl", url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "parquet"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    with ExitStack() as stack:
        if request.param == "parquet":
            lake = tmp_path / "lake"
            shutil.copytree(MADE / "lake", lake)
            in_sqlite("lake-state.sql", lake / "_state.db")
            variables = {
                "AUDIT_ETL_DESTINATION": f"parquet://{lake}",
                "AUDIT_ETL_LEDGER": f"sqlite:///{lake / '_state.db'}",
            }
            storage = LocalStorage(lake)
            yield Old(variables, lambda name: audits_in_lake(storage, name), stack)
            return
        url = stack.enter_context(filled(request.param, request, tmp_path))
        engine = open_engine(url)
        stack.callback(engine.dispose)
        yield Old({"AUDIT_ETL_DESTINATION": url}, lambda name: audits_in(engine, name), stack)


def test_a_server_of_0_1_0_is_refused_until_it_is_migrated(old: Old) -> None:
    with old.app() as app:
        assert schema_version(app.engine) == "0001"
        if app.is_embedded():
            app.prepare()
            assert schema_version(app.engine) == schema.HEAD
            return
        with pytest.raises(SchemaBehind, match="run `audit-etl migrate`"):
            list(export.run(app))


def test_migrating_changes_no_row_and_status_tells_the_same(old: Old) -> None:
    tables = sorted(set(schema.metadata.tables) - {"identities", "retention", "void_receipts"})
    before, audits = old.rows(*tables), {name: old.audits(name) for name in NAMES}

    migrated = audit_etl("migrate", env=environment(**old.variables))
    assert migrated.returncode == 0, migrated.stderr
    assert f"went from schema 0001 to {schema.HEAD}" in migrated.stdout

    after = old.rows(*tables)
    for name in tables:
        assert as_before(after[name], before[name]) == in_order(before[name])
    assert {name: old.audits(name) for name in NAMES} == audits
    told = audit_etl("status", "--json", env=environment(**old.variables))
    assert told.returncode == 0, told.stderr
    streams = {(s["organization"], s["stream"]): s for s in json.loads(told.stdout)["streams"]}
    assert sorted(streams) == [(s.organization, s.name) for s in STREAMS]
    of_default = streams["default", "*"]
    [watermark] = [row for row in before["watermarks"] if row["organization"] == "default"]
    assert of_default["watermark"][:19] == str(watermark["watermark"]).replace(" ", "T")[:19]
    assert of_default["rejects"] == 1
    assert [v["missing"] for v in of_default["verified"]] == [0]
    assert len(of_default["gaps"]) == 1


@pytest.mark.parametrize("old", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_changes_whose_audit_somebody_deleted_do_not_hinder_an_upgrade(old: Old) -> None:
    before = {name: {audit.id: audit for audit in old.audits(name)} for name in NAMES}
    gone = min(audit.id for audit in before["default"].values() if audit.entity_changes)
    engine = open_engine(old.destination)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM audit_events WHERE id = :id"), {"id": gone})
    engine.dispose()

    with old.app() as app:
        app.migrate()

    after = {name: {audit.id: audit for audit in old.audits(name)} for name in NAMES}
    assert before["default"].pop(gone).property_changes
    before["acme"].pop(gone, None)
    assert after == before
    old.run()
    assert truth("default", SPAN) <= {audit.id for audit in old.audits("default")}


@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_nobody_adds_changes_while_their_tables_are_written_anew(old: Old) -> None:
    first, other = open_engine(old.destination), open_engine(old.destination)
    refused = []

    def add(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("TRUNCATE"):
            table = statement.split()[1]
            insert = f"INSERT INTO {table} (organization, event_id, position) VALUES ('o', 'x', 0)"
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"), other.begin() as c:
                c.exec_driver_sql("SET LOCAL lock_timeout = '300ms'")
                c.exec_driver_sql(insert)
            refused.append(table)

    sa.event.listen(first, "before_cursor_execute", add)
    migration.upgrade(first)

    assert sorted(refused) == ["audit_entity_changes", "audit_property_changes"]
    for engine in (first, other):
        engine.dispose()


@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_triggers_of_a_user_stay_and_see_nothing_of_an_upgrade(old: Old) -> None:
    table = "audit_property_changes"
    before = old.audits("default")
    engine = open_engine(old.destination)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE seen (event_id text)",
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO seen VALUES (NEW.event_id); RETURN NULL; END'",
            *(
                f'CREATE TRIGGER "It sees {kind}" BEFORE INSERT ON {table} FOR EACH ROW '
                "EXECUTE FUNCTION see()"
                for kind in ("all", "more", "less")
            ),
            f'ALTER TABLE {table} ENABLE ALWAYS TRIGGER "It sees more"',
            f'ALTER TABLE {table} DISABLE TRIGGER "It sees less"',
        ):
            connection.exec_driver_sql(statement)

    migration.upgrade(engine)

    assert old.audits("default") == before
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM seen").scalar() == 0
        modes = "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        found = [tuple(row) for row in connection.exec_driver_sql(modes)]
    engine.dispose()
    assert found == [("It sees all", "O"), ("It sees less", "D"), ("It sees more", "A")]


@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_an_id_longer_than_an_index_takes_is_cut_by_an_upgrade(old: Old) -> None:
    engine = open_engine(old.destination)
    long = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) AS n)"
    columns = {"audit_events": "client_id", "audit_entity_changes": "entity_id"}
    with engine.begin() as connection:
        for table, column in columns.items():
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = {long}")

    migration.upgrade(engine)

    with engine.connect() as connection:
        for table, column in columns.items():
            lengths = f"SELECT DISTINCT length({column}) FROM {table}"
            assert connection.exec_driver_sql(lengths).scalars().all() == [512]
    engine.dispose()


@pytest.mark.parametrize("old", ["sqlite"], indirect=True)
def test_views_triggers_and_indexes_of_a_user_outlive_an_upgrade_of_a_file(old: Old) -> None:
    table = "audit_property_changes"
    engine = open_engine(old.destination)
    theirs = {"theirs_view", "theirs_index", "theirs_trigger"}
    with engine.begin() as connection:
        for statement in (
            f"CREATE VIEW theirs_view AS SELECT property FROM {table}",
            f"CREATE INDEX theirs_index ON {table} (property)",
            "CREATE TABLE seen (event_id TEXT)",
            f"CREATE TRIGGER theirs_trigger AFTER INSERT ON {table} "
            "BEGIN INSERT INTO seen VALUES (new.event_id); END",
        ):
            connection.exec_driver_sql(statement)

    migration.upgrade(engine)

    with engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all()
        count = connection.exec_driver_sql("SELECT count(*) FROM theirs_view").scalar()
        seen = connection.exec_driver_sql("SELECT count(*) FROM seen").scalar()
    engine.dispose()
    assert theirs <= set(names)
    assert count == sum(len(a.property_changes) for name in NAMES for a in old.audits(name))
    assert seen == 0


@pytest.mark.parametrize("numbered", ["by itself", "without a sequence of its own"])
@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_receipts_get_numbers_after_an_upgrade_however_they_were_numbered(
    old: Old, numbered: str
) -> None:
    engine = open_engine(old.destination)
    before = max(row["receipt_id"] for row in old.rows("receipts")["receipts"])
    alter = "ALTER TABLE receipts ALTER receipt_id"
    with engine.begin() as connection:
        if numbered == "by itself":
            connection.exec_driver_sql(f"{alter} DROP DEFAULT")
            start = f"(START WITH {before + 1})"
            connection.exec_driver_sql(f"{alter} ADD GENERATED BY DEFAULT AS IDENTITY {start}")
        else:
            connection.exec_driver_sql("ALTER SEQUENCE receipts_receipt_id_seq OWNED BY NONE")

    migration.upgrade(engine)
    old.run()

    numbers = [row["receipt_id"] for row in old.rows("receipts")["receipts"]]
    assert len(numbers) == len(set(numbers))
    assert max(numbers) > before
    engine.dispose()


#: What tests read of each kind after an upgrade that died.
DUMPED = ("audit_events", "audit_property_changes", "audit_entity_changes", "receipts")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_an_upgrade_that_died_at_any_statement_is_whole_after_the_next(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    step, whole = 1, None
    while True:
        with ExitStack() as stack:
            url = stack.enter_context(filled(kind, request, tmp_path / str(step)))
            first, other = open_engine(url), open_engine(url)
            stack.callback(first.dispose)
            stack.callback(other.dispose)
            died = dies_at(step, first)

            migration.upgrade(other)

            with other.begin() as connection:
                connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
                found = {
                    name: sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {name}")))
                    for name in DUMPED
                }
            migrations.check(other)
            assert whole is None or found == whole
            whole = found
            audits_in(other)
        if not died:
            break
        step += 1
    assert step > 30


@pytest.mark.parametrize("old", ["postgresql"], indirect=True)
def test_postgresql_shows_each_description_after_the_upgrade(old: Old) -> None:
    with old.app() as app:
        app.migrate()

        assert comments(app.engine) == described()


def test_a_file_of_0_1_0_needs_no_migration_to_be_looked_at(old: Old) -> None:
    with old.app() as app:
        if not app.is_embedded():
            return
    told = audit_etl("status", env=environment(**old.variables))
    assert told.returncode == 0, told.stderr
    assert "default/*" in told.stdout


def test_the_new_release_goes_on_where_0_1_0_was_killed(old: Old) -> None:
    before = {name: old.audits(name) for name in NAMES}
    receipts = old.rows("receipts")["receipts"]
    with old.app() as app:
        app.migrate()

    old.run()

    for name in NAMES:
        held = {audit.id: audit for audit in old.audits(name)}
        assert len(held) == len(old.audits(name))
        assert {audit.id: held[audit.id] for audit in before[name]} == {
            audit.id: audit for audit in before[name]
        }
        assert truth(name, SPAN) <= held.keys()
    rows = old.rows("receipts", "void_receipts", "audit_rejects", "early_audits")
    kept = {row["receipt_id"]: row for row in rows["receipts"]}
    assert as_before([kept[row["receipt_id"]] for row in receipts], receipts) == in_order(receipts)
    assert len(kept) > len(receipts)
    assert (rows["void_receipts"], rows["early_audits"]) == ([], [])
    assert len(rows["audit_rejects"]) == 1
    old.clock.move(hours=12)
    old.run()
    assert old.rows("queries")["queries"] == []


def test_everything_is_verified_and_asked_about_afterwards(old: Old) -> None:
    with old.app() as app:
        app.migrate()
    old.run()

    with old.app() as app:
        verdicts = list(verify.verify(app, SPAN, STREAMS, repair=False))
        assert all(isinstance(verdict, Verdict) for verdict in verdicts), verdicts
        found = [v.verification for v in verdicts if isinstance(v, Verdict)]
        assert {(v.missing, v.extra) for v in found} == {(0, 0)}
        assert sum(v.events for v in found) == sum(len(truth(name, SPAN)) for name in NAMES)
        question = "SELECT organization, COUNT(*) AS n FROM audit_events GROUP BY organization"
        with query.answer(app, question) as answer:
            counts = {row["organization"]: row["n"] for row in answer.read_all().to_pylist()}
        streams = status.gather(app.ledger, app.streams(), BEGIN, app.now())
    assert counts == {name: len(old.audits(name)) for name in NAMES}
    for stream in streams:
        assert stream.watermark is not None
        assert stream.watermark.begins_at == BEGIN
        assert stream.watermark.reached > NOW


def test_identities_are_recorded_by_the_first_run(old: Old) -> None:
    with old.app() as app:
        app.migrate()
    assert old.rows("identities")["identities"] == []

    old.run()
    old.run()

    found = {(row["kind"], row["name"]) for row in old.rows("identities")["identities"]}
    of_all = {("ledger", ""), *((kind, n) for kind in ("organization", "client") for n in NAMES)}
    of_lakes = {("lake", ""), ("generation", "before"), ("generation", "latest")}
    assert found == (of_all | of_lakes if "parquet" in old.destination else of_all)


lakes = pytest.mark.parametrize("old", ["parquet"], indirect=True)


@lakes
@pytest.mark.parametrize("there", ["nothing", "a few audits"])
def test_a_state_of_0_1_0_is_not_bound_to_another_lake(
    old: Old, tmp_path: Path, there: str
) -> None:
    other = tmp_path / "other"
    if there != "nothing":
        day = "audit_events/organization=default/date=2026-05-08"
        shutil.copytree(MADE / "lake" / day, other / day)
        day = day.replace("default", "acme")
        shutil.copytree(MADE / "lake" / day, other / day)

    with pytest.raises(ConfigurationError, match=r"audits of \w+ were loaded, and the lake holds"):
        old.run(AUDIT_ETL_DESTINATION=f"parquet://{other}")

    assert not (other / binding.PATH).exists()
    old.run()


@lakes
def test_a_lake_of_0_1_0_is_not_bound_to_another_state(old: Old, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the ledger has no receipt"):
        old.run(AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 'other.db'}")

    old.run()
    assert identities.LAKE in {row["kind"] for row in old.rows("identities")["identities"]}


@pytest.mark.parametrize("old", ["sqlite"], indirect=True)
def test_tables_of_0_1_0_are_not_taken_for_a_lake_s_state_nor_the_other_way_round(
    old: Old, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="holds audits of its own"):
        old.run(AUDIT_ETL_DESTINATION=f"parquet://{tmp_path}/new", AUDIT_ETL_LEDGER=old.destination)
    in_sqlite("lake-state.sql", tmp_path / "state.db")
    with pytest.raises(ConfigurationError, match="keeps the progress of a lake"):
        old.run(AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'state.db'}")


@lakes
def test_a_state_of_0_1_0_that_served_two_lakes_is_parted_as_the_readme_says(
    old: Old, tmp_path: Path
) -> None:
    lake = Path(old.destination.removeprefix("parquet://"))
    other = {"AUDIT_ETL_LEDGER": f"sqlite:///{tmp_path / 'acme.db'}"}
    other["AUDIT_ETL_DESTINATION"] = f"parquet://{tmp_path / 'acme'}"
    (tmp_path / "acme" / "audit_events").mkdir(parents=True)
    name = "audit_events/organization=acme"
    (lake / name).rename(tmp_path / "acme" / name)
    with pytest.raises(ConfigurationError, match="audits of acme were loaded"):
        old.run()
    with pytest.raises(ConfigurationError, match="audits of default were loaded"):
        old.run(AUDIT_ETL_DESTINATION=other["AUDIT_ETL_DESTINATION"])

    shutil.copy(lake / "_state.db", tmp_path / "acme.db")
    for state, of_the_other in (
        (old.variables["AUDIT_ETL_LEDGER"], "acme"),
        (other["AUDIT_ETL_LEDGER"], "default"),
    ):
        engine = open_engine(state)
        with engine.begin() as connection:
            for table in schema.metadata.tables.values():
                if "organization" in table.c:
                    theirs = table.c.organization == of_the_other
                    connection.execute(sa.delete(table).where(theirs))
        engine.dispose()

    for changed, organization in (({}, "default"), (other, "acme")):
        with old.app(**changed) as app:
            back = timedelta(days=3)
            for outcome in export.run(app, organization=organization, lookback=back):
                done(outcome)
    storage = LocalStorage(tmp_path / "acme")
    assert truth("acme", SPAN) <= {audit.id for audit in audits_in_lake(storage, "acme")}
