"""With fifty organisations in a database, no question of the documents or of ours reads it all."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.database.engine import open_engine
from etl.destinations.sql.destination import SqlDestination
from etl.destinations.sql.statistics import ROWS_MIN
from etl.model import Stream
from etl.window import Window
from tests import TOP
from tests.support import copied_audits, database_servers
from tests.support.copied_audits import Copy
from tests.support.migrations import migrate
from tests.support.samples import BEGIN, LOADED_AT, audits, batch, draft, load_into, record

ORGANISATIONS: Final = 50
#: Too few for the load to gather statistics.
AUDITS: Final = ROWS_MIN - 1
MONTHS: Final = 24
MONTH: Final = Window(BEGIN, BEGIN + timedelta(days=28))
DAY: Final = Window(BEGIN + timedelta(days=9), BEGIN + timedelta(days=10))
QUESTIONS: Final = re.findall(
    r"```sql\n(SELECT.*?)```", (TOP / "docs" / "questions.md").read_text(), re.DOTALL
)
#: What the documents' questions name, and what is there in its place.
NAMED: Final = {
    "1c977cba-edc2-4d2f-8acc-00474c3a9f22": "entity 7",
    "9dbc4590-04da-465d-9b58-01ea003b40d0": "user 7",
    "2026-05-01": "2026-03-01",
    "2026-06-01": "2026-03-29",
}
#: What filters by the other indexes there are.
FURTHER: Final = (
    "SELECT id FROM audit_events WHERE client_id = 'client 7' AND event_date >= '2026-03-01'",
    "SELECT event_id FROM audit_entity_changes WHERE entity_id = 'member 7'",
    "SELECT id FROM audit_events WHERE organization = 'organisation 7' "
    "AND event_date >= '2026-03-02' AND event_date < '2026-03-03'",
    "SELECT raw FROM audit_events WHERE organization = 'organisation 7' AND id = 'a'",
)
OF_ALL: Final = (
    "SELECT id FROM audit_events WHERE event_date >= '2026-03-02' AND event_date < '2026-03-03'"
)
#: What `EXPLAIN` says where a table, or all of an organisation, is read from its first row on.
WHOLE: Final = {
    "sqlite": re.compile(r"SCAN \w+\b(?! VIRTUAL)|\(organization=\?\)"),
    "postgresql": re.compile(r"Seq Scan on audit_\w+"),
    "mysql": re.compile(r"'\w+', '(?:ALL|index)'"),
}


def shown(number: int) -> dict[str, Any]:
    """An audit of many users, entities and services, two in a hundred by an OAuth client."""
    services = ("ContactCenter", "PeoplePermissions", "Directory", "Routing")
    return record(
        f"{number:05}",
        number * 28 * 24 / AUDITS,
        serviceName=services[number % len(services)],
        entity={"id": f"entity {number % 97}"},
        user={"id": f"user {number}"},
        client={"id": f"client {number % 7}"} if number % 50 == 0 else None,
        entityChanges=[{"entityId": f"member {number % 83}"}],
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def crowded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sa.Engine]:
    """A database of fifty organisations and two years, without statistics at first."""
    if request.param == "sqlite":
        yield from _filled(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'audits.db'}")
        return
    fixture = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[request.param]
    with database_servers.fresh_database(request.getfixturevalue(fixture)) as url:
        yield from _filled(url)


def _filled(url: str) -> Iterator[sa.Engine]:
    engine = open_engine(url)
    migrate(engine)
    if engine.dialect.name == "postgresql":
        for table in ("audit_events", *(child.name for child in copied_audits.CHILDREN)):
            with engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    destination = SqlDestination(engine, lambda: LOADED_AT)
    load_into(destination, draft(MONTH), [batch(*map(shown, range(AUDITS)))])
    for number in range(1, ORGANISATIONS):
        days = MONTH.length.days * (number % MONTHS)
        copied_audits.add(engine, Copy(MONTH, number, days, f"organisation {number}"))
    yield engine
    engine.dispose()


@contextmanager
def asked(engine: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """What the block asks of the audits' tables, and what it deletes there."""
    found: list[tuple[str, Any]] = []

    def note(*call: Any) -> None:
        _, _, statement, parameters, *_ = call
        if statement.startswith(("SELECT", "DELETE")) and " audit_" in statement:
            found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def plan(engine: sa.Engine, statement: str, parameters: Any = ()) -> str:
    """How the database would answer."""
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters or None).all()
        return "\n".join(
            f"{row.table!r}, {row.type!r}, {row.key}, {row.rows}"
            if engine.dialect.name == "mysql"
            else str(row[-1])
            for row in rows
        )


def require_sought(engine: sa.Engine, statement: str, parameters: Any = ()) -> None:
    """Return if no table of audits is read whole."""
    found = plan(engine, statement, parameters)
    assert not WHOLE[engine.dialect.name].search(found), f"{statement}\n{found}"


def ours(engine: sa.Engine) -> list[tuple[str, Any]]:
    """What the program itself asks: each look-up, comparison and count, and what gives way."""
    destination = SqlDestination(engine, lambda: LOADED_AT)
    some = [shown(number) for number in range(100)]
    with asked(engine) as found:
        load_into(destination, draft(DAY), [batch(*some)])
        load_into(destination, draft(DAY), [batch(*some)])
        list(destination.held("default", DAY, None))
        list(destination.held("default", DAY, "Directory"))
        list(destination.look_up("default", DAY, ["00001", "absent"]))
        destination.count(Stream("default"), DAY)
        destination.audits_a_day(Stream("default"), DAY)
        early = record("early", 30)
        destination.load_early("default", audits([early]))
        load_into(destination, draft(DAY), [batch(early)])
    with engine.begin() as connection:
        for table in copied_audits.CHILDREN:
            connection.execute(sa.delete(table).where(table.c.event_id == "early"))
        connection.exec_driver_sql("DELETE FROM audit_events WHERE id = 'early'")
    return found


@pytest.mark.parametrize("has_statistics", [False, True])
def test_nothing_reads_a_table_of_fifty_organisations_whole(
    crowded: sa.Engine, has_statistics: bool
) -> None:
    if has_statistics:
        tables = "audit_events, audit_property_changes, audit_entity_changes"
        with crowded.begin() as connection:
            kind = crowded.dialect.name
            statement = {"sqlite": "ANALYZE", "postgresql": f"ANALYZE {tables}"}.get(kind)
            connection.exec_driver_sql(statement or f"ANALYZE TABLE {tables}")
    assert len(QUESTIONS) == 3

    for question in QUESTIONS:
        for name, there in NAMED.items():
            question = question.replace(name, there)
        require_sought(crowded, question)
    for question in FURTHER:
        require_sought(crowded, question)
    if has_statistics or crowded.dialect.name != "sqlite":  # which has some from a 1,000 audits on
        require_sought(crowded, OF_ALL)
    own = ours(crowded)
    assert len(own) > 10
    for statement, parameters in own:
        require_sought(crowded, statement, parameters)


def test_a_question_without_an_index_is_told_apart(crowded: sa.Engine) -> None:
    with pytest.raises(AssertionError):
        require_sought(crowded, "SELECT id FROM audit_events WHERE message = 'changed'")
