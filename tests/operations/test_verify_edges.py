"""A verdict is exact at the edges of every piece that a comparison is cut into."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from etl import __version__
from etl.database.schema import verifications
from etl.database.transactions import transact
from etl.ledger import verifications as stored
from etl.model import Verification
from etl.operations.comparison import Comparison
from etl.operations.verifier import Verdict, Verifier
from etl.records import Batch
from etl.window import Window
from tests.support.commands import audit_etl, environment
from tests.support.places import Place
from tests.support.samples import (
    BEGIN,
    LOADED_AT,
    STREAM,
    batch,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)

PIECE = 4
EDGES = [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1]
DAY = timedelta(days=1)


def records(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Audits, a quarter of an hour after each other."""
    return [record(f"{n:03}", n / 4) for n in range(first, first + count)]


def pages(shown: Sequence[dict[str, Any]], size: int) -> list[Batch]:
    return [batch(*shown[n : n + size]) for n in range(0, len(shown), size)]


def verdicts(place: Place, windows: Sequence[Window], *given: list[Batch]) -> list[Verdict]:
    """The verdicts on windows, of which the source shows these pages."""
    told: list[Verdict] = []
    comparison = Comparison(ids_max=PIECE, noted_rows=PIECE)
    verifier = Verifier(place.destination, repair=False, tell=told.append, comparison=comparison)
    for window, shown in zip(windows, given, strict=True):
        load_into(verifier, draft(window, schedule="backfill"), shown, unfenced)
    return told


@pytest.fixture
def shared(standing_place: Place) -> Place:
    """A destination of each kind, emptied, and a comparison in small pieces."""
    standing_place.empty()
    return standing_place.cut(held_rows=PIECE)


@pytest.mark.parametrize("count", EDGES)
def test_nothing_is_missing_of_what_is_held_however_many_there_are(
    shared: Place, count: int
) -> None:
    shown = records(count)
    load_into(shared.destination, draft(hours(0, 24)), pages(shown, 100))

    [found] = verdicts(shared, [hours(0, 24)], pages(shown, 100))

    assert found.verification == Verification(
        STREAM, hours(0, 24), count, 0, 0, 0, LOADED_AT, f"audit-etl {__version__}"
    )
    assert found.differences == ()


@pytest.mark.parametrize("count", EDGES)
def test_all_is_missing_or_extra_of_what_only_one_side_has(shared: Place, count: int) -> None:
    load_into(shared.destination, draft(hours(0, 24)), pages(records(count), 100))
    others = records(count, first=50)

    [found] = verdicts(shared, [hours(0, 24)], pages(others, 100))

    said = found.verification
    assert (said.events, said.missing, said.extra) == (count, count, count)
    told = min(count, PIECE)
    assert found.missing_ids == tuple(r["id"] for r in others[:told])
    assert found.extra_ids == tuple(r["id"] for r in records(told))


@pytest.mark.parametrize("count", EDGES)
def test_neighbouring_windows_are_each_compared_with_their_own(shared: Place, count: int) -> None:
    windows = [hours(0, 1), hours(1, 30)]
    shown = records(4 + count)  # the fifth lies on the edge
    load_into(shared.destination, draft(hours(0, 30)), pages(shown, 100))

    found = verdicts(shared, windows, pages(shown[:4], 2), pages(shown[4:], 3))

    assert [v.verification.events for v in found] == [4, count]
    assert [v.differences for v in found] == [(), ()]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("count", EDGES)
def test_the_last_windows_that_were_verified_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(stored, "WINDOWS_MAX", PIECE)
    engine = place.destination.ledger.engine
    for n in range(count):
        stored.keep(engine, Verification(STREAM, hours(n, n + 1), 5, 0, 0, 0, LOADED_AT))

    [span] = stored.spans(engine, STREAM)

    told = min(count, PIECE)
    assert (span.window, span.events) == (hours(count - told, count), 5 * told)


def stored_by_0_1_0(
    engine: sa.Engine, window: Window, events: int, missing: int, extra: int
) -> None:
    row = {
        "organization": STREAM.organization,
        "stream": STREAM.name,
        "window_start": window.start,
        "window_end": window.end,
        "events": events,
        "missing": missing,
        "extra": extra,
        "repaired": missing,
        "verified_at": LOADED_AT,
    }
    transact(engine, lambda connection: connection.execute(sa.insert(verifications), row))


@pytest.mark.parametrize(
    ("events", "missing", "extra", "doubtful"),
    [
        (5001, 1, 0, True),
        (5001, 0, 0, False),
        (5000, 1, 0, False),
        (4000, 1, 1001, True),
        (4000, 1, 900, False),
    ],
)
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_verdict_of_0_1_0_is_doubtful_where_it_may_have_lost_an_id(
    place: Place, events: int, missing: int, extra: int, *, doubtful: bool
) -> None:
    engine = place.destination.ledger.engine
    stored_by_0_1_0(engine, hours(0, 24), events, missing, extra)
    stored_by_0_1_0(engine, hours(24, 48), 1, 0, 0)
    newer = Verification(STREAM, hours(48, 72), events, missing, extra, 0, LOADED_AT, "audit-etl 9")
    stored.keep(engine, newer)

    spans = stored.spans(engine, STREAM)

    assert [(s.window, s.doubtful) for s in spans] == [
        (hours(48, 72), False),
        (hours(0, 48), doubtful),
    ]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_status_says_which_verdicts_are_doubtful_and_what_to_do(place: Place) -> None:
    engine = place.destination.ledger.engine
    stored_by_0_1_0(engine, Window(BEGIN, BEGIN + DAY), 6000, 1, 0)
    env = environment(
        GENESYSCLOUD_OAUTHCLIENT_ID="i", GENESYSCLOUD_OAUTHCLIENT_SECRET="s", **place.variables
    )

    text = audit_etl("status", env=env)
    [stream] = json.loads(audit_etl("status", "--json", env=env).stdout)["streams"]

    [span] = stream["verified"]
    assert (span["doubtful"], span["verified_by"]) == (True, None)
    assert (
        "1 missing, 1 repaired, 0 extra; doubtful: audit-etl 0.1.0 counted audits of large windows "
        "as missing that were there, verify again: audit-etl verify --from "
        "2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --organization default\n"
    ) in text.stdout
