"""Loading into SQL, beyond the contract: its transactions, its look-ups and early audits."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database.schema import early_audits
from etl.database.transactions import transact
from etl.destinations.sql import destination as sql_module
from etl.destinations.sql import keys
from etl.destinations.sql.destination import SqlDestination
from etl.errors import SourceUnavailable
from etl.records import Batch
from etl.sizes import Sizes
from tests.contracts.destination import watermark
from tests.support.destination_contents import audits_in
from tests.support.samples import (
    BEGIN,
    HOUR,
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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_journal_of_one_window_is_in_the_file_once_the_next_is_loaded(
    engine: sa.Engine,
) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    for hour, name in ((0, "first"), (1, "second")):
        window = hours(hour, hour + 1)
        load_into(destination, draft(window), [batch(record(name, hour + 0.5))], unfenced)

    without_journal = f"file:{engine.url.database}?immutable=1"
    with closing(sqlite3.connect(without_journal, uri=True)) as file:
        written = file.execute("SELECT id FROM audit_events ORDER BY id").fetchall()

    assert written == [("first",)]


def test_ids_are_looked_up_once_one_of_them_is_there(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT, Sizes(group_bytes=2_000))
    shown = [record(f"{n:03}", n / 100) for n in range(60)]
    pages = [batch(*shown[n : n + 10]) for n in range(0, 60, 10)]
    looked_up = attempts = 0

    def look_up(*asked: Any) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        return keys.absent_of(*asked)

    def attempt(engine: sa.Engine, work: Callable[[sa.Connection], Any]) -> Any:
        def once(connection: sa.Connection) -> Any:
            nonlocal attempts
            attempts += 1
            return work(connection)

        return transact(engine, once)

    def broken_off() -> Iterator[Batch]:
        yield from pages[:3]
        raise SourceUnavailable("gone")

    monkeypatch.setattr(sql_module, "absent_of", look_up)
    monkeypatch.setattr(sql_module, "transact", attempt)
    with pytest.raises(SourceUnavailable):
        load_into(destination, draft(hours(0, 1)), broken_off(), unfenced)
    assert (looked_up, attempts) == (0, 2)

    receipt = load_into(destination, draft(hours(0, 1)), pages, unfenced)

    assert audits_in(engine) == audits(shown)
    assert receipt.new_events == 40
    assert (looked_up, attempts) == (len(pages), 2 + 1 + len(pages))

    load_into(destination, draft(hours(0, 1)), pages, unfenced)

    assert (looked_up, attempts) == (2 * len(pages), 2 + 1 + 2 * len(pages))


@pytest.mark.promise("M2", "M7")
def test_two_loads_at_once_into_sql_hold_each_audit_once(
    engine: sa.Engine,
) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT, Sizes(group_bytes=5_000))
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    shown = [record(f"{n:03}", n / 200) for n in range(200)]
    pages = [batch(*shown[n : n + 5]) for n in range(0, 200, 5)]
    failures: list[BaseException] = []

    def load(window_end: int, order: int) -> None:
        try:
            load_into(destination, draft(hours(0, window_end)), pages[::order], unfenced)
        except BaseException as error:  # noqa: BLE001 - the test reports whatever a thread met
            failures.append(error)

    threads = [threading.Thread(target=load, args=(n, order)) for n, order in ((1, 1), (2, -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert audits_in(engine) == audits(shown)
    assert watermark(destination) == BEGIN + 2 * HOUR


def test_what_is_loaded_early_gives_way_to_what_a_window_shows(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    poor = record("a") | {"user": {"id": "u1"}, "propertyChanges": [], "entityChanges": []}

    early = [destination.load_early("default", audits([poor, record("b")])) for _ in range(2)]
    held = audits_in(engine)
    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert early == [2, 0]
    assert held == audits([poor, record("b")])
    assert audits_in(engine) == audits([record("a"), record("b")])
    assert watermark(destination) == BEGIN + HOUR
    with engine.connect() as connection:
        left = connection.execute(sa.text("SELECT id FROM early_audits")).scalars().all()
    assert left == ["b"]


def test_changes_that_only_the_early_record_had_give_way_with_it(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    poor = record("a") | {"propertyChanges": [], "entityChanges": []}

    destination.load_early("default", audits([record("a")]))
    load_into(destination, draft(hours(0, 1)), [batch(poor)], unfenced)

    assert audits_in(engine) == audits([poor])


def test_an_early_audit_of_another_organisation_with_that_id_stays(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    for organization in ("default", "other"):
        destination.load_early(organization, audits([record("a"), record("b")]))

    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert audits_in(engine, "other") == audits([record("a"), record("b")])
    assert audits_in(engine, "default") == audits([record("a"), record("b")])
    with engine.connect() as connection:
        query = sa.select(early_audits.c.organization, early_audits.c.id)
        left = sorted(map(tuple, connection.execute(query)))
    assert left == [("default", "b"), ("other", "a"), ("other", "b")]


def test_what_a_window_has_brought_is_not_loaded_early_again(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    load_into(destination, draft(hours(0, 1)), [batch(record("a"))], unfenced)

    assert destination.load_early("default", audits([record("a") | {"status": "FAILURE"}])) == 0

    assert audits_in(engine) == audits([record("a")])


def test_an_audit_that_moved_in_time_by_hand_is_found_where_it_is(engine: sa.Engine) -> None:
    destination = SqlDestination(engine, lambda: LOADED_AT)
    load_into(destination, draft(hours(0, 2)), [batch(record("a"), record("b", 1))])
    tables = ("audit_events", "audit_property_changes", "audit_entity_changes")
    with engine.begin() as connection:
        for table in tables:
            key = "id" if table == "audit_events" else "event_id"
            moved = f"UPDATE {table} SET event_date = '2020-01-01 00:00:00' WHERE {key} = 'a'"
            connection.exec_driver_sql(moved)

    again = load_into(destination, draft(hours(0, 2)), [batch(record("a"), record("b", 1))])

    assert (again.events, again.new_events) == (2, 0)
    assert sorted(audit.id for audit in audits_in(engine)) == ["a", "b"]
