"""Which spans were compared with the source, when, and what was missing. Rows, kept for good."""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from etl.database import reading, transact
from etl.progress import Stream, Verification
from etl.schema import verifications
from etl.window import Window

#: Of so many windows that were compared last is told.
WINDOWS_MAX: Final = 1_000


def keep(engine: sa.Engine, found: Verification) -> None:
    """Keep what comparing a window has found."""
    row = {
        "organization": found.stream.organization,
        "stream": found.stream.name,
        "window_start": found.window.start,
        "window_end": found.window.end,
        "events": found.events,
        "missing": found.missing,
        "extra": found.extra,
        "repaired": found.repaired,
        "verified_at": found.verified_at,
    }
    transact(engine, lambda connection: connection.execute(sa.insert(verifications), row))


def spans(engine: sa.Engine, stream: Stream) -> list[Verification]:
    """What the last verifications of the stream have found, newest first, windows joined to spans.

    A span is as old as the first window of it.
    """
    query = (
        sa.select(verifications)
        .where(
            verifications.c.organization == stream.organization,
            verifications.c.stream == stream.name,
        )
        .order_by(verifications.c.verification_id.desc())
        .limit(WINDOWS_MAX)
    )
    with reading(engine) as connection:
        rows = connection.execute(query).mappings().all()
    return joined(_verification(stream, row) for row in reversed(rows))[::-1]


def joined(windows: Iterable[Verification]) -> list[Verification]:
    """Verifications in the order they were done, those of neighbouring windows as one."""
    result: list[Verification] = []
    for found in windows:
        if result and result[-1].window.end == found.window.start:
            result[-1] = _together(result[-1], found)
        else:
            result.append(found)
    return result


def _together(first: Verification, second: Verification) -> Verification:
    return Verification(
        stream=first.stream,
        window=Window(first.window.start, second.window.end),
        events=first.events + second.events,
        missing=first.missing + second.missing,
        extra=first.extra + second.extra,
        repaired=first.repaired + second.repaired,
        verified_at=first.verified_at,
    )


def _verification(stream: Stream, row: sa.RowMapping) -> Verification:
    return Verification(
        stream=stream,
        window=Window(row["window_start"], row["window_end"]),
        events=row["events"],
        missing=row["missing"],
        extra=row["extra"],
        repaired=row["repaired"],
        verified_at=row["verified_at"],
    )
