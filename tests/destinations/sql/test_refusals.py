"""What an operator added to the tables and refuses a row is named at once, without the row."""

import sqlite3

import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.database.refusals import refusal
from etl.database.remedies import holds_no_value
from etl.database.transactions import ATTEMPTS, transact
from etl.destinations.sql.destination import SqlDestination
from etl.errors import DestinationUnavailable
from tests.support.commands import audit_etl
from tests.support.destination_contents import audits_in
from tests.support.live_organization import living
from tests.support.operator_actions import statements
from tests.support.samples import LOADED_AT, STREAM, batch, draft, hours, load_into, record

TRIGGER = "CREATE TRIGGER stop BEFORE INSERT ON audit_events"
#: A function that refuses a row in PostgreSQL by what it executes.
FUNCTION = (
    "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {} RETURN NEW; END'; "
    f"{TRIGGER} FOR EACH ROW EXECUTE FUNCTION stop()"
)
PARTITIONED = (
    "ALTER TABLE audit_events RENAME TO before; CREATE TABLE audit_events "
    "(LIKE before INCLUDING DEFAULTS, PRIMARY KEY ({key})) PARTITION BY {by}; "
    "CREATE TABLE audits_of_others PARTITION OF audit_events FOR VALUES {values}"
)
BY_ORGANIZATION = PARTITIONED.format(
    key="organization, id", by="LIST (organization)", values="IN ('other')"
)
BY_TIME = PARTITIONED.format(
    key="organization, id, event_date",
    by="RANGE (event_date)",
    values="FROM ('2020-01-01') TO ('2021-01-01')",
)
IN_MARIADB = "ALTER TABLE audit_property_changes PARTITION BY LIST COLUMNS (organization) "

CONSTRAINT = "Remove that constraint, or make it accept every audit"
PARTITION = "Add the partition that is missing, or one for all other rows (DEFAULT, MAXVALUE)"
COLUMN = "Let that column be NULL, or drop it if it is none of audit-etl's"
OWN_TRIGGER = "Remove the trigger, or let it accept every audit"
#: The database, what was added, what is said of it, and what to do.
ADDED = {
    "check": (
        "postgresql",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (user_name NOT LIKE 'Ada%')",
        "constraint no_ada of table audit_events",
        CONSTRAINT,
    ),
    "check of a receipt": (
        "postgresql",
        "ALTER TABLE receipts ADD CONSTRAINT few CHECK (events < 2)",
        "constraint few of table receipts",
        CONSTRAINT,
    ),
    "check of a domain": (
        "postgresql",
        "CREATE DOMAIN not_ada AS TEXT CONSTRAINT no_ada CHECK (VALUE NOT LIKE 'Ada%'); "
        "ALTER TABLE audit_events ALTER user_name TYPE not_ada",
        "constraint no_ada at audit_events.user_name",
        CONSTRAINT,
    ),
    "exclusion": (
        "postgresql",
        "ALTER TABLE audit_events ADD CONSTRAINT one_name EXCLUDE USING btree (user_name WITH =)",
        "constraint one_name of table audit_events",
        CONSTRAINT,
    ),
    "foreign key at the commit": (
        "postgresql",
        "ALTER TABLE audit_property_changes ADD CONSTRAINT known FOREIGN KEY (property) "
        "REFERENCES names (name) DEFERRABLE INITIALLY DEFERRED",
        "constraint known of table audit_property_changes",
        CONSTRAINT,
    ),
    "column": (
        "postgresql",
        "ALTER TABLE audit_events ADD division TEXT NOT NULL",
        "column division of table audit_events",
        COLUMN,
    ),
    "partition by organisation": (
        "postgresql",
        BY_ORGANIZATION,
        "table audit_events has no partition for a row by (organization)",
        PARTITION,
    ),
    "partition by time": (
        "postgresql",
        BY_TIME,
        "table audit_events has no partition for a row by (event_date)",
        PARTITION,
    ),
    "trigger": (
        "postgresql",
        FUNCTION.format("RAISE EXCEPTION ''not %'', NEW.user_name;"),
        "SQLSTATE P0001 in the function stop() of a trigger",
        OWN_TRIGGER,
    ),
    "trigger with another state": (
        "postgresql",
        FUNCTION.format("RAISE EXCEPTION ''not %'', NEW.user_name USING ERRCODE = ''42501'';"),
        "SQLSTATE 42501 in the function stop() of a trigger",
        OWN_TRIGGER,
    ),
    "trigger that names a constraint": (
        "postgresql",
        FUNCTION.format("RAISE check_violation USING CONSTRAINT = NEW.user_name;"),
        "SQLSTATE 23514 in the function stop() of a trigger",
        OWN_TRIGGER,
    ),
    "trigger that fails": (
        "postgresql",
        FUNCTION.format("EXECUTE ''TABLE \"'' || NEW.user_name || ''\"'';"),
        "SQLSTATE 42P01 in the function stop() of a trigger",
        OWN_TRIGGER,
    ),
    "check in MariaDB": (
        "mariadb",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (user_name NOT LIKE 'Ada%')",
        "CONSTRAINT `no_ada` (error 4025) of table audit_events",
        CONSTRAINT,
    ),
    "foreign key in MariaDB": (
        "mariadb",
        "ALTER TABLE audit_property_changes MODIFY property VARCHAR(99) COLLATE utf8mb4_bin; "
        "ALTER TABLE audit_property_changes ADD CONSTRAINT known FOREIGN KEY (property) "
        "REFERENCES names (name)",
        "CONSTRAINT `known` (error 1452) of table audit_property_changes",
        CONSTRAINT,
    ),
    "column in MariaDB": (
        "mariadb",
        "ALTER TABLE audit_events ADD division INT NOT NULL",
        "Field 'division' (error 1364) of table audit_events",
        COLUMN,
    ),
    "column that takes no NULL in MariaDB": (
        "mariadb",
        "ALTER TABLE audit_events MODIFY client_id LONGTEXT NOT NULL",
        "Column 'client_id' (error 1048) of table audit_events",
        COLUMN,
    ),
    "partition in MariaDB": (
        "mariadb",
        f"{IN_MARIADB}(PARTITION others VALUES IN ('other'))",
        "table audit_property_changes has no partition for a row (error 1526)",
        PARTITION,
    ),
    "trigger in MariaDB": (
        "mariadb",
        f"{TRIGGER} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not Ada'",
        "a trigger of table audit_events (error 1644)",
        OWN_TRIGGER,
    ),
    "trigger with another number in MariaDB": (
        "mariadb",
        f"{TRIGGER} FOR EACH ROW SIGNAL SQLSTATE '45000' "
        "SET MESSAGE_TEXT = 'not Ada', MYSQL_ERRNO = 1142",
        "a trigger of table audit_events (error 1142)",
        OWN_TRIGGER,
    ),
    "trigger in SQLite": (
        "sqlite",
        f"{TRIGGER} BEGIN SELECT RAISE(ABORT, 'not into here'); END",
        "a trigger of table audit_events: not into here",
        OWN_TRIGGER,
    ),
}
SHOWN = [record(f"shown {n}", n / 10, client={"id": ""}) for n in range(9)]


@pytest.mark.parametrize(
    ("database_url", "added", "named", "cure"),
    ADDED.values(),
    indirect=["database_url"],
    ids=list(ADDED),
)
def test_what_refuses_a_row_is_named_at_once_with_its_cure(
    engine: sa.Engine, added: str, named: str, cure: str
) -> None:
    names = "CREATE TABLE names (name VARCHAR(99) PRIMARY KEY)"
    if engine.dialect.name == "mysql":
        names += " ENGINE=InnoDB COLLATE utf8mb4_bin"
    parts = [added] if "TRIGGER" in added else added.split("; ")
    statements(engine, names, *(part.replace(":", r"\:") for part in parts))
    destination = SqlDestination(engine, lambda: LOADED_AT)
    undone: list[object] = []
    event.listen(engine, "rollback", undone.append)

    with pytest.raises(DestinationUnavailable) as told:
        load_into(destination, draft(hours(0, 1)), [batch(*SHOWN)])

    text = str(told.value).replace(str(engine.url.database), "")
    assert f"refuses rows: {named}; nothing that was in work counts as done. {cure}, then" in text
    assert [value for value in ("Ada", "shown", "2026", "Wartezimmer") if value in text] == []
    assert audits_in(engine) == []
    assert destination.ledger.last_receipt(STREAM) is None
    assert len(undone) < ATTEMPTS


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_table_with_a_partition_for_each_row_is_loaded(engine: sa.Engine) -> None:
    added = f"{BY_ORGANIZATION}; CREATE TABLE rest PARTITION OF audit_events DEFAULT"
    if engine.dialect.name == "mysql":
        added = f"{IN_MARIADB}(PARTITION others VALUES IN ('other'), PARTITION rest DEFAULT)"
    statements(engine, *added.split("; "))
    destination = SqlDestination(engine, lambda: LOADED_AT)

    for _ in range(2):
        load_into(destination, draft(hours(0, 1)), [batch(*SHOWN)])

    assert [audit.id for audit in audits_in(engine)] == [shown["id"] for shown in SHOWN]


#: What is added before a run, and what its message names.
BEFORE_RUN = [
    ("sqlite", ADDED["trigger in SQLite"][1], "not into here"),
    (
        "postgresql",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (raw = '') NOT VALID",
        "constraint no_ada of table audit_events",
    ),
    ("postgresql", BY_ORGANIZATION, "no partition for a row by (organization)"),
    (
        "mariadb",
        "ALTER TABLE audit_events ADD CONSTRAINT no_ada CHECK (raw = '')",
        "CONSTRAINT `no_ada` (error 4025)",
    ),
    ("mariadb", ADDED["partition in MariaDB"][1], "no partition for a row (error 1526)"),
    ("mariadb", ADDED["column in MariaDB"][1], "Field 'division' (error 1364)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database_url", "added", "named"), BEFORE_RUN, indirect=["database_url"], ids=lambda v: v[:9]
)
def test_a_run_and_a_backfill_end_with_one_line(engine: sa.Engine, added: str, named: str) -> None:
    statements(engine, *([added] if "TRIGGER" in added else added.split("; ")))
    with living() as source:
        env = source.environment(engine.url.render_as_string(hide_password=False))
        for command in (["run"], ["backfill", "--from", source.begin.isoformat()]):
            done = audit_etl(*command, env=env)

            assert (done.returncode, done.stderr.count("\n")) == (69, 1), done
            assert done.stderr.startswith("audit-etl: the database ")
            assert named in done.stderr
            assert "run the same command again" in done.stderr


def test_a_check_of_mysql_is_named() -> None:
    said = "Check constraint 'no_ada' is violated."
    error = sa.exc.DBAPIError.instance(
        "INSERT INTO audit_events", None, pymysql.err.OperationalError(3819, said), pymysql.Error
    )

    assert isinstance(error, sa.exc.DBAPIError)
    assert not holds_no_value(error)
    assert refusal(error) == (
        "constraint 'no_ada' (error 3819) of table audit_events",
        CONSTRAINT,
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_words_that_a_trigger_of_sqlite_may_have_made_of_a_row_are_not_told(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements(engine, ADDED["trigger in SQLite"][1])
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 47, 0))

    with pytest.raises(DestinationUnavailable, match="a trigger of table audit_events;"):
        load_into(SqlDestination(engine, lambda: LOADED_AT), draft(hours(0, 1)), [batch(*SHOWN)])


@pytest.mark.parametrize(
    ("values", "attempts"), [("('a', 2)", ATTEMPTS), ("('b', NULL)", 1)], ids=["key", "NULL"]
)
def test_only_a_key_that_is_there_is_tried_again(
    engine: sa.Engine, values: str, attempts: int
) -> None:
    tried: list[str] = []

    def work(connection: sa.Connection) -> None:
        tried.append(values)
        connection.exec_driver_sql(f"INSERT INTO numbers VALUES {values}")

    statements(
        engine,
        "CREATE TABLE numbers (name VARCHAR(9) PRIMARY KEY, n INTEGER NOT NULL)",
        "INSERT INTO numbers VALUES ('a', 1)",
    )

    with pytest.raises(DestinationUnavailable, match="refuses rows"):
        transact(engine, work)

    assert len(tried) == attempts
