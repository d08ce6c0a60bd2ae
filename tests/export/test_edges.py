"""Content is exact at the edges of each piece that loading into SQL is cut into."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from etl.destinations.sql import inserter
from etl.destinations.sql.destination import SqlDestination
from etl.destinations.sql.inserter import Step
from etl.genesys import query as query_module
from etl.genesys.client import downloads, exchange
from etl.ledger import figures, receipts
from etl.model import Stream
from etl.records import Batch
from etl.simulator import AuditLog, Faults
from etl.sizes import Sizes
from tests.support.destination_contents import rows, unraw
from tests.support.hostile_organization import World
from tests.support.operator_actions import statements
from tests.support.places import Place
from tests.support.samples import STREAM, audits, batch, draft, hours, load_into, record
from tests.support.simulated_organization import NOW, audit

N = 4
EDGES = [N - 1, N, N + 1, 2 * N, 2 * N + 1]
DATABASES = ["sqlite", "postgresql", "mariadb"]
DAY = timedelta(days=1)

every_database = pytest.mark.parametrize("standing_place", DATABASES, indirect=True)
only_mariadb = pytest.mark.parametrize("standing_place", ["mariadb"], indirect=True)
only_sqlite = pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)


def records(count: int, first: int = 0, **members: Any) -> list[dict[str, Any]]:
    """Records that are as long as each other."""
    return [record(f"{n:03}", n / 100, **members) for n in range(first, first + count)]


def pages(shown: Sequence[dict[str, Any]], size: int = 1) -> list[Batch]:
    return [batch(*shown[n : n + size]) for n in range(0, len(shown), size)]


def sql_of(place: Place) -> SqlDestination:
    """The destination, emptied."""
    assert isinstance(place.destination, SqlDestination)
    place.empty()
    return place.destination


def load_in_every_way(place: Place, count: int, **members: Any) -> None:
    """Load so many audits: new, with a late one, over orphans, and over early ones."""
    destination, shown = sql_of(place), records(count, **members)
    late = record("late", 0.5)
    rejected = [{"id": f"no time {n}"} for n in range(count)]

    def load(*more: dict[str, Any]) -> int:
        given = [*shown[: count // 2], *more, *shown[count // 2 :]]
        receipt = load_into(destination, draft(hours(0, 1)), pages(given))
        assert (receipt.events, receipt.repeated) == (count + len(more) - receipt.rejects, 0)
        return receipt.new_events

    assert load() == count
    assert place.audits() == audits(shown)
    assert load(late, *rejected) == 1
    assert place.audits() == audits([*shown, late])
    assert figures.rejects(destination.ledger.engine, "default") == count
    assert load(late, *rejected) == 0
    assert figures.rejects(destination.ledger.engine, "default") == count
    ids = [one["id"] for one in shown]
    assert sorted(h.id for h in destination.look_up("default", hours(0, 1), ids)) == ids

    statements(destination.ledger.engine, "DELETE FROM audit_events")
    assert load(late) == count + 1
    assert place.audits() == audits([*shown, late])

    place.empty()
    assert destination.load_early("default", audits(shown)) == count
    assert load(late) == count + 1
    assert place.audits() == audits([*shown, late])


#: As many bytes as `N` of the records have.
GROUP = N * len(batch(*records(1)).audits[0].raw)


@every_database
@pytest.mark.parametrize("size", [GROUP - 1, GROUP, GROUP + 1, 1])
def test_transactions(standing_place: Place, size: int) -> None:
    place = standing_place.cut(group_bytes=size)

    for count in EDGES:
        load_in_every_way(place, count)


@every_database
def test_listed_keys(standing_place: Place) -> None:
    place = standing_place.cut(listed_keys=N, held_rows=N)

    for count in EDGES:
        load_in_every_way(place, count)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The statements that insert rows, as they are executed."""
    steps: list[Step] = []
    execute = inserter._execute

    def noting(cursor: Any, step: Step) -> None:
        steps.append(step)
        execute(cursor, step)

    monkeypatch.setattr(inserter, "_execute", noting)
    return steps


def rows_in(executed: list[Step], table: str) -> list[int]:
    """How many rows each statement for a table had."""
    return [step.rows for step in executed if step.table.name == table]


@only_sqlite
@pytest.mark.parametrize("more", [-1, 0, 1, 23])
def test_values_of_sqlite(standing_place: Place, executed: list[Step], more: int) -> None:
    """A change has 6 or 8 values, a reject 5: their statements have other edges."""
    place = standing_place.cut(sqlite_values=24 * N + more)
    rows_max = N if more >= 0 else N // 2

    for count in (1, *EDGES, 4 * N - 1, 4 * N, 4 * N + 1, 8 * N, 8 * N + 1):
        executed.clear()
        load_in_every_way(place, count)
        together = rows_in(executed, "audit_events")
        assert max(together) == min(rows_max, 1 << ((count + 1).bit_length() - 1))
        assert all(number & (number - 1) == 0 for number in together)


@only_mariadb
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_bytes_of_mariadb(standing_place: Place, executed: list[Step], more: int) -> None:
    load_into(sql_of(standing_place), draft(hours(0, 1)), pages(records(1)))
    [alone] = [step for step in executed if step.table.name == "audit_events"]
    of_one = len(alone.statement.partition("VALUES ")[2].encode()) + 1
    place = standing_place.cut(mysql_bytes=N * of_one + more)
    rows_max = N if more >= 0 else N - 1

    for count in EDGES:
        executed.clear()
        load_into(sql_of(place), draft(hours(0, 1)), pages(records(count), count))
        whole, rest = divmod(count, rows_max)
        assert rows_in(executed, "audit_events") == [rows_max] * whole + [rest] * (rest > 0)
        assert place.audits() == audits(records(count))
        load_in_every_way(place, count)


@only_mariadb
@pytest.mark.parametrize("length", [*EDGES, 600])
@pytest.mark.parametrize("text", ["'", "\\", "é'", "\\'", "\U0001f9ea'", "'%s"])
def test_hexadecimal_characters(standing_place: Place, length: int, text: str) -> None:
    place = standing_place.cut(hexadecimal_characters=N)

    value = (text * length)[:length]
    load_in_every_way(place, 2, message={"message": value}, action=value)


class Windows:
    """An organisation with so many audits on each day, and a world whose windows are days."""

    counts = (*EDGES, 0, 1)
    begin = (NOW - (len(counts)) * DAY).replace(hour=0)

    @classmethod
    def made(cls) -> list[dict[str, Any]]:
        """The audits."""
        return [
            audit(100 * day + n, cls.begin + day * DAY + timedelta(minutes=n))
            for day, count in enumerate(cls.counts)
            for n in range(count)
        ]


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    made = Windows.made()
    with AuditLog.of((one, Windows.begin) for one in made) as log:
        yield log


def page_bytes() -> int:
    """How many bytes of records a page of `N` has."""
    return sum(len(json.dumps(one, separators=(",", ":"))) for one in Windows.made()[:N])


PIECES = {
    "one page waits": Sizes(waiting_bytes=1),
    "one page waits, just": Sizes(waiting_bytes=page_bytes()),
    "rows of one page wait": Sizes(decoded_bytes=1),
    "rows of a page and more": Sizes(decoded_bytes=page_bytes() + 1),
    "a transaction a page": Sizes(group_bytes=page_bytes()),
    "nothing else": Sizes(),
}
#: Of what the client reads at once.
BITES = {
    "a download bite by bite": (downloads, 97),
    "a download a page a bite": (downloads, page_bytes() + 1),
    "an answer bite by bite": (exchange, 97),
}


@every_database
@pytest.mark.parametrize("pieces", [*PIECES, *BITES])
@pytest.mark.parametrize("downloaded", [False, True])
def test_pages(
    hostile: World, monkeypatch: pytest.MonkeyPatch, pieces: str, *, downloaded: bool
) -> None:
    monkeypatch.setattr(query_module, "PAGE_SIZE_MAX", N)
    monkeypatch.setattr(downloads, "PAGE_SIZE_MAX", N)
    hostile.sizes = PIECES.get(pieces, Sizes())
    if pieces in BITES:
        client, size = BITES[pieces]
        monkeypatch.setattr(client, "_CHUNK_BYTES", size)
    hostile.settings = {"AUDIT_ETL_START": Windows.begin.isoformat()}
    if downloaded:
        hostile.settings |= {"AUDIT_ETL_ALLOW_REDIRECT": "true"}
        hostile.simulator.faults = Faults(redirect_over=1)

    outcome = hostile.run()
    again = hostile.run(lookback=99 * DAY)

    assert (outcome.status, again.status) == (0, 0)
    counts = {receipt.window.start: receipt.events for receipt in outcome.receipts}
    assert [counts[Windows.begin + day * DAY] for day in range(len(Windows.counts))] == list(
        Windows.counts
    )
    held = [unraw(one) for one in hostile.place.audits()]
    if not downloaded:
        assert held == [unraw(one) for one in rows(Windows.made())]
    assert [one.id for one in held] == sorted(one["id"] for one in Windows.made())
    assert sum(receipt.new_events for receipt in again.receipts) == 0


@only_sqlite
@pytest.mark.parametrize("count", [1, *EDGES])
def test_receipts_that_tell_the_density(
    standing_place: Place, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(receipts, "DENSITY_RECEIPTS", N)
    destination = sql_of(standing_place)
    for n in range(count):
        shown = pages([record(f"{n} {m}", n) for m in range(n)])
        load_into(destination, draft(hours(n, n + 1)), shown)
        load_into(destination, draft(hours(n, n + 1), stream=Stream("other")), [])

    told = range(max(0, count - N), count)
    assert destination.ledger.density(STREAM) == sum(told) / (3600 * len(told))
