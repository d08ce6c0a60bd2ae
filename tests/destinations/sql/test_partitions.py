"""Tables in partitions by month, as docs/operating.md makes them of PostgreSQL's."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import pytest
import sqlalchemy as sa

from etl.database.engine import open_engine
from etl.database.versions import require_schema
from etl.destinations.sql.destination import SqlDestination
from etl.errors import DestinationUnavailable
from tests.contracts.destination import watermark
from tests.destinations.sql.test_plans import asked, plan
from tests.project.test_recipes import blocks
from tests.support import migrations
from tests.support.database_servers import fresh_database
from tests.support.destination_contents import audits_in
from tests.support.samples import (
    BEGIN,
    LOADED_AT,
    STREAM,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
)

DAY: Final = 24
#: Hours of `BEGIN`, which is the first of March, to the middle of April.
APRIL: Final = 45 * DAY


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


@pytest.fixture
def partitioned(postgres_server: str) -> Iterator[sa.Engine]:
    """Tables with the partitions of the document, in a session of another time zone than theirs."""
    tables, months, _ = blocks("Months as partitions", language="sql")
    with fresh_database(postgres_server) as url:
        engine = open_engine(url)
        migrations.migrate(engine)
        run(engine, tables.replace("BEGIN;", "", 1).replace("COMMIT;", ""))
        run(engine, "SET LOCAL TIME ZONE 'America/New_York'", months)
        yield engine
        engine.dispose()


def loaded(engine: sa.Engine) -> SqlDestination:
    """A destination with audits of March and April."""
    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record("march", 1), record("end", 31 * DAY - 1 / 3600), record("april", APRIL)]
    load_into(destination, draft(hours(0, APRIL + 1)), [batch(*shown)])
    assert audits_in(engine) == audits(sorted(shown, key=lambda one: str(one["id"])))
    return destination


def test_months_are_loaded_found_again_and_dropped_in_no_time(partitioned: sa.Engine) -> None:
    destination = loaded(partitioned)
    require_schema(partitioned)
    with partitioned.connect() as connection:
        march = "SELECT count(*) FROM audit_events_2026_03"
        assert connection.exec_driver_sql(march).scalar() == 2

    again = load_into(destination, draft(hours(0, 2)), [batch(record("march", 1))])
    assert (again.events, again.new_events) == (1, 0)

    *_, drop = blocks("Months as partitions", language="sql")
    began = time.monotonic()
    run(partitioned, drop.replace("2026_01", "2026_03"))
    assert time.monotonic() - began < 5
    assert audits_in(partitioned) == audits([record("april", APRIL)])


def test_a_look_up_of_ids_reads_the_partitions_of_its_time_alone(partitioned: sa.Engine) -> None:
    destination = loaded(partitioned)

    with asked(partitioned) as found:
        load_into(destination, draft(hours(0, 2)), [batch(record("march", 1))])

    [statement] = [one for one in found if "json_array_elements_text" in one[0]]
    read = plan(partitioned, *statement)
    assert "audit_events_2026_03" in read
    assert "audit_events_2026_04" not in read


def test_an_audit_without_a_partition_is_refused_until_there_is_one(
    partitioned: sa.Engine,
) -> None:
    destination = loaded(partitioned)
    window = hours(APRIL + 1, 800 * DAY)
    shown = record("far", 799 * DAY)

    with pytest.raises(DestinationUnavailable, match="partition"):
        load_into(destination, draft(window), [batch(shown)])
    assert watermark(destination) == BEGIN + timedelta(hours=APRIL + 1)

    _, months, _ = blocks("Months as partitions", language="sql")
    run(partitioned, months.replace("2027-12-01", "2028-12-01"))
    load_into(destination, draft(window), [batch(shown)])
    assert watermark(destination) == BEGIN + timedelta(days=800)
    assert [one.id for one in audits_in(partitioned)] == ["april", "end", "far", "march"]


def test_what_changed_its_time_is_there_twice_and_told(partitioned: sa.Engine) -> None:
    """What an id's uniqueness rests on there: that an audit's time never changes (A2)."""
    destination = loaded(partitioned)

    load_into(destination, draft(hours(APRIL + 1, 60 * DAY)), [batch(record("march", 50 * DAY))])

    held = [one.id for one in destination.look_up("default", hours(0, 1), ["march"])]
    assert held == ["march", "march"]
