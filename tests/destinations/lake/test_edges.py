"""Content is exact at the edges of each piece that a lake, or an answer, is cut into."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from etl.app import App
from etl.cli import audit_etl
from etl.cli import query as query_command
from etl.config import load
from etl.destinations.lake.columns import table_of
from etl.operations import query
from tests.support.places import Place
from tests.support.samples import LOADED_AT, audits, batch, draft, hours, load_into, record

N = 4
EDGES = [N - 1, N, N + 1, 2 * N, 2 * N + 1]
#: Of runs: as many of those that were merged are merged again.
RUNS = [*EDGES, N * N - 1, N * N, N * N + 1, 2 * N * N, 2 * N * N + 1]
#: As many bytes as `N` of the records have.
SIZE = table_of(batch(*(record(f"{n:03}", n / 100) for n in range(N))).audits, LOADED_AT).nbytes

Records = list[dict[str, Any]]
only_a_lake = pytest.mark.parametrize("standing_place", ["parquet"], indirect=True)


def records(count: int, first: int = 0) -> Records:
    """Records of one day, as long as each other."""
    return [record(f"{n:03}", n / 100) for n in range(first, first + count)]


#: In which order a source may show its records.
ORDERS: dict[str, Callable[[Records], Records]] = {
    "forwards": lambda shown: shown,
    "backwards": lambda shown: shown[::-1],
    "by turns": lambda shown: shown[::2] + shown[1::2],
}


def load_in_every_way(place: Place, count: int, order: str, size: int = 1) -> None:
    """Load so many audits: new, then each of them twice, then with late ones among them."""
    shown, late = records(count), [record("late", 0.005), record("last", 23)]

    def load(given: Sequence[dict[str, Any]]) -> tuple[int, int]:
        shuffled = ORDERS[order](list(given))
        pages = [batch(*shuffled[n : n + size]) for n in range(0, len(given), size)]
        receipt = load_into(place.destination, draft(hours(0, 24)), pages)
        assert (receipt.events, receipt.rejects) == (len(given), 0)
        return receipt.new_events, receipt.repeated

    place.empty()
    assert load(shown) == (count, 0)
    assert place.audits() == audits(shown)
    assert load([*shown, *shown]) == (0, count)
    assert load([*shown, *late]) == (2, 0)
    assert place.audits() == sorted(audits([*shown, *late]), key=lambda audit: audit.id)
    held = place.destination.held("default", hours(0, 24), None)
    assert sorted(one.id for one in held) == sorted(r["id"] for r in [*shown, *late])


@only_a_lake
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", RUNS)
def test_runs(standing_place: Place, count: int, order: str) -> None:
    load_in_every_way(standing_place.cut(fan_in=N), count, order)


@only_a_lake
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", EDGES)
@pytest.mark.parametrize("size", [1, N])
def test_rows_of_pieces(standing_place: Place, count: int, order: str, size: int) -> None:
    place = standing_place.cut(fan_in=2, run_rows=N, read_rows=N, row_group_rows=N)

    load_in_every_way(place, count, order, size)


@only_a_lake
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bytes_max", [1, SIZE - 1, SIZE, SIZE + 1])
def test_bytes_of_pieces(standing_place: Place, bytes_max: int, order: str) -> None:
    place = standing_place.cut(run_bytes=bytes_max, read_bytes=bytes_max, row_group_bytes=bytes_max)

    for count in EDGES:
        load_in_every_way(place, count, order, 3)


def answered(place: Place, question: str) -> list[pa.RecordBatch]:
    """The answer to a question, as it comes."""
    with (
        App(load(None, place.variables), stop=threading.Event(), sizes=place.sizes) as app,
        query.answer(app, question) as reader,
    ):
        return list(reader)


def rows_of(parts: list[pa.RecordBatch]) -> Records:
    return [row for part in parts for row in part.to_pylist()]


@pytest.mark.parametrize("count", [0, 1, *EDGES])
def test_answers(standing_place: Place, count: int) -> None:
    standing_place.empty()
    load_into(standing_place.destination, draft(hours(0, 24)), [batch(*records(count))])
    question = "SELECT * FROM audit_events WHERE id < '900' ORDER BY event_date"
    expected = audits(records(count))
    whole = rows_of(answered(standing_place, question))

    parts = answered(standing_place.cut(batch_rows=N, answer_rows=N), question)

    rest = [count % N] if count % N else []
    assert [part.num_rows for part in parts] == [N] * (count // N) + rest
    told = rows_of(parts)
    assert told == whole
    assert [row["id"] for row in told] == [one.id for one in expected]
    assert [row["raw"] for row in told] == [one.raw.decode() for one in expected]
    assert [row["entity_id"] for row in told] == [one.entity_id for one in expected]


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("count", [1, *EDGES])
def test_tables(standing_place: Place, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    standing_place.empty()
    load_into(standing_place.destination, draft(hours(0, 24)), [batch(*records(count))])
    monkeypatch.setattr(query_command, "TABLE_ROWS", N)
    question = "SELECT id FROM audit_events ORDER BY id"

    shown = CliRunner().invoke(
        audit_etl, ["query", question, "--format", "table"], env=standing_place.variables
    )

    lines = [line.strip() for line in shown.stdout.splitlines() if line.strip()]
    ids = [one["id"] for one in records(count)]
    expected = [["id", "---", *ids[n : n + N]] for n in range(0, count, N)]
    assert lines == [line for part in expected for line in part]
