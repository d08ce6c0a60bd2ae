"""What PostgreSQL's planner knows of tables that a first load has just filled."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.database.engine import open_engine
from etl.destinations.sql import statistics
from etl.destinations.sql.destination import SqlDestination
from tests.support import migrations
from tests.support.database_servers import fresh_database
from tests.support.samples import BEGIN, LOADED_AT, batch, draft, hours, load_into, record


@pytest.fixture
def postgresql(postgres_server: str) -> Iterator[sa.Engine]:
    with fresh_database(postgres_server) as url:
        engine = open_engine(url)
        migrations.migrate(engine)
        with engine.begin() as connection:  # nobody else is to gather any
            for table in ("audit_events", "audit_property_changes", "audit_entity_changes"):
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        yield engine
        engine.dispose()


def known(engine: sa.Engine) -> set[str]:
    """The tables that there are statistics of."""
    with engine.connect() as connection:
        query = "SELECT DISTINCT tablename FROM pg_stats WHERE tablename LIKE 'audit_%%'"
        return set(connection.exec_driver_sql(query).scalars())


def load(engine: sa.Engine, hour: int, number: int) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT + timedelta(hours=hour))
    destination.ledger.begin(draft(hours(0, 1)).stream, BEGIN, LOADED_AT)
    shown = [record(f"{hour}-{n}", hour) for n in range(number)]
    load_into(destination, draft(hours(hour, hour + 1)), [batch(*shown)])


def rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        query = "SELECT reltuples FROM pg_class WHERE relname = 'audit_events'"
        return int(connection.exec_driver_sql(query).scalar_one())


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_large_first_load_gathers_statistics(postgresql: sa.Engine, more: int) -> None:
    number = statistics.ROWS_MIN + more
    load(postgresql, 0, number)

    if more < 0:
        assert known(postgresql) == set()
        return
    assert known(postgresql) == {
        "audit_events",
        "audit_property_changes",
        "audit_entity_changes",
    }
    assert rows(postgresql) == number


def test_a_load_gathers_statistics_that_it_has_made_useless(
    postgresql: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "GROWTH", 2)
    few = statistics.ROWS_MIN
    load(postgresql, 0, few)
    load(postgresql, 1, 2 * few)
    assert rows(postgresql) == few

    load(postgresql, 2, 2 * few + 1)
    assert rows(postgresql) == 5 * few + 1


def test_a_vacuum_at_work_holds_up_no_load(postgresql: sa.Engine) -> None:
    with postgresql.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE audit_events IN SHARE UPDATE EXCLUSIVE MODE")
        load(postgresql, 0, statistics.ROWS_MIN)
    assert "audit_events" not in known(postgresql)

    load(postgresql, 1, statistics.ROWS_MIN)
    assert "audit_events" in known(postgresql)


def test_sqlite_gathers_statistics_anew_when_there_is_twice_as_much(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'audits.db'}")
    migrations.migrate(engine)

    def known_rows() -> int | None:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("sqlite_stat1"):
                return None
            query = "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = 'audit_events'"
            return connection.exec_driver_sql(query).scalar()

    found = []
    for hour, number in enumerate((statistics.ROWS_MIN - 1, 1, statistics.ROWS_MIN - 1, 1)):
        load(engine, hour, number)
        found.append(known_rows())
    engine.dispose()

    first = statistics.ROWS_MIN
    assert found[:3] == [None, first, first]
    assert found[3] is not None  # an estimate, from a sample of the rows
    assert found[3] > first
