"""Which spans were compared with the source, when, and what was missing. Rows, kept for good."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from etl import __version__
from etl.database.schema import verifications
from etl.database.transactions import reading, transact
from etl.ledger.retention import start_of
from etl.ledger.rows import key_of, of, picked, window_key
from etl.model import Stream, Verification
from etl.window import Window

#: Only the last windows that were compared are read, at most so many.
WINDOWS_MAX: Final = 1_000
#: What rows name as the program that compared.
PROGRAM: Final = f"audit-etl {__version__}"
#: Columns of a verification that its dataclass has by the same names.
_COPIED: Final = ("events", "missing", "extra", "repaired", "verified_at", "verified_by")
#: 0.1.0 lost one id in 5,001 that a destination held of a window, and counted it as missing.
_SOUND_ROWS_MAX: Final = 5_000


def keep(engine: sa.Engine, found: Verification) -> None:
    """Keep what comparing a window has found."""
    row = key_of(found.stream) | window_key(found.window) | picked(found, *_COPIED)
    transact(engine, lambda connection: connection.execute(sa.insert(verifications), row))


def spans(engine: sa.Engine, stream: Stream) -> list[Verification]:
    """What the last verifications of the stream have found, newest first, windows joined to spans.

    A span is as old as its first window, and as doubtful as its most doubtful one. A window of
    which a part is no longer kept does not count: its figures are not those of the rest.
    """
    query = (
        sa.select(verifications)
        .where(*of(verifications, stream))
        .order_by(verifications.c.verification_id.desc())
        .limit(WINDOWS_MAX)
    )
    with reading(engine) as connection:
        kept = verifications.c.window_start >= start_of(connection, stream.organization)
        rows = connection.execute(query.where(kept)).mappings().all()
    return joined(_verification(stream, row) for row in reversed(rows))[::-1]


def joined(windows: Iterable[Verification]) -> list[Verification]:
    """Verifications in the order they were done; those of neighbouring windows are joined."""
    result: list[Verification] = []
    for found in windows:
        if result and _goes_on(result[-1], found):
            result[-1] = _together(result[-1], found)
        else:
            result.append(found)
    return result


def _goes_on(span: Verification, found: Verification) -> bool:
    return span.window.end == found.window.start and span.verified_by == found.verified_by


def _together(first: Verification, second: Verification) -> Verification:
    return replace(
        first,
        window=Window(first.window.start, second.window.end),
        events=first.events + second.events,
        missing=first.missing + second.missing,
        extra=first.extra + second.extra,
        repaired=first.repaired + second.repaired,
        doubtful=first.doubtful or second.doubtful,
    )


def _verification(stream: Stream, row: sa.RowMapping) -> Verification:
    return Verification(
        stream=stream,
        window=Window(row["window_start"], row["window_end"]),
        doubtful=row["verified_by"] is None and _miscounted(row),
        **{name: row[name] for name in _COPIED},
    )


def _miscounted(row: sa.RowMapping) -> bool:
    """Whether 0.1.0 may have counted audits as missing that the destination held."""
    events, missing = int(row["events"]), int(row["missing"])
    noted = events - missing + int(row["extra"])  # of more than those, one or more were lost
    return missing > 0 and (events > _SOUND_ROWS_MAX or noted >= _SOUND_ROWS_MAX)
