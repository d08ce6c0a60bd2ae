"""What the destination holds and what the source shows of a window, compared by id."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Generic, NamedTuple

from etl.destinations import Held, Prepared
from etl.errors import DestinationUnavailable
from etl.model import PendingReceipt

#: Of each window, so many missing and so many extra ids are told; they are counted in any case.
IDS_MAX: Final = 1_000
#: Ids that are noted together.
NOTED_ROWS: Final = 5_000

_TABLES: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE shown (id TEXT PRIMARY KEY, moment TEXT, service TEXT) WITHOUT ROWID;
    CREATE TABLE held (id TEXT PRIMARY KEY, moment TEXT, service TEXT) WITHOUT ROWID;
    CREATE TABLE early (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE inserted (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE loaded (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE found (id TEXT PRIMARY KEY, moment TEXT, service TEXT) WITHOUT ROWID;
    CREATE VIEW unknown AS SELECT * FROM shown
        WHERE id NOT IN (SELECT id FROM held) OR id IN (SELECT id FROM loaded);
    CREATE VIEW repaired AS SELECT * FROM unknown
        WHERE id IN (SELECT id FROM loaded) AND id IN (SELECT id FROM found);
    CREATE VIEW missing AS SELECT * FROM unknown
        WHERE id IN (SELECT id FROM loaded) OR id NOT IN (SELECT id FROM found);
    CREATE VIEW extra AS SELECT * FROM held WHERE id NOT IN (SELECT id FROM shown);
    CREATE VIEW moved AS SELECT shown.* FROM shown JOIN (
        SELECT * FROM held UNION ALL SELECT * FROM found WHERE id NOT IN (SELECT id FROM held)
    ) AS there ON shown.id = there.id
        WHERE shown.moment <> there.moment OR shown.service IS NOT there.service;
"""
#: Of `extra`, what the organisation has shown before and is sure to have kept.
_UNSHOWN: Final = """
    SELECT count(*) FROM extra WHERE moment >= ? AND id NOT IN (SELECT id FROM early)
"""
_LOADED: Final = """
    INSERT OR IGNORE INTO loaded SELECT id FROM inserted WHERE id NOT IN (SELECT id FROM held)
"""
_DIFFERENCES: Final = """
    SELECT substr(moment, 1, 10) AS day, service, sum(missing), sum(extra) FROM (
        SELECT moment, service, 1 AS missing, 0 AS extra FROM missing
        UNION ALL SELECT moment, service, 0, 1 FROM extra
    ) GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a day of a service lacks, or has and the source has not.

    Attributes:
        day: of the event time, UTC, `YYYY-MM-DD`.
    """

    day: str
    service: str | None
    missing: int
    extra: int


class Shown(NamedTuple, Generic[Prepared]):
    """A batch to be compared, and loaded if it shall be repaired.

    Attributes:
        audits: what tells which audits are in it.
        rejects: how many records cannot be rows.
        prepared: as the destination takes it; None if it is only compared.
    """

    audits: tuple[Held, ...]
    rejects: int
    prepared: Prepared | None


class Comparison:
    """The ids of one window after the other, in a temporary file that nobody else can open."""

    def __init__(self, ids_max: int = IDS_MAX, noted_rows: int = NOTED_ROWS) -> None:
        self._ids_max = ids_max
        self._noted_rows = noted_rows
        with _told():
            self._file = sqlite3.connect("", isolation_level=None)
            self._file.executescript(_TABLES)
        self._rejects = 0

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def begin(self) -> None:
        """Begin a window: forget the one before, but not what was loaded."""
        for table in ("shown", "held", "early", "found"):
            self._rows(f"DELETE FROM {table}")  # noqa: S608 - our own names
        self._rejects = 0

    def hold(self, audits: Iterable[Held]) -> None:
        """Note what the destination holds, and what of it was loaded early."""
        early: list[tuple[str]] = []

        def noted() -> Iterator[tuple[str, str, str | None]]:
            for audit in audits:
                if audit.early:
                    early.append((audit.id,))
                yield _row(audit)

        self._note("held", noted())
        self._note("early", early)

    def load(self, ids: Iterable[str]) -> None:
        """Note what a load has inserted, unless it has replaced what was held before."""
        self._note("inserted", ((audit_id,) for audit_id in ids))
        self._rows(_LOADED)
        self._rows("DELETE FROM inserted")

    def find(self, audits: Iterable[Held]) -> None:
        """Note what the destination holds by now, wherever."""
        self._note("found", map(_row, audits))

    def showing(
        self, batches: Iterable[Shown[Prepared]], pending: PendingReceipt
    ) -> Iterator[Shown[Prepared]]:
        """The batches, what they hold of the window noted as shown by the source."""
        for batch in batches:
            inside = (audit for audit in batch.audits if audit.event_date in pending.window)
            self._note("shown", map(_row, inside))
            self._rejects += batch.rejects
            yield batch

    def unshown(self, since: datetime) -> int:
        """How many audits that the source showed before it does not show now, at least.

        A record that cannot be a row may be any of them.

        Args:
            since: earlier ones it may have forgotten.
        """
        [(count,)] = self._rows(_UNSHOWN, since.isoformat())
        return max(0, int(str(count)) - self._rejects)

    def count(self, what: str) -> int:
        """How many ids are `shown`, `unknown`, `missing`, `repaired`, `extra` or `moved`."""
        [(count,)] = self._rows(f"SELECT count(*) FROM {what}")  # noqa: S608 - our own names
        return int(str(count))

    def ids(self, what: str) -> tuple[str, ...]:
        """The first ids that are `missing` or `extra`."""
        query = f"SELECT id FROM {what} ORDER BY moment, id LIMIT {self._ids_max}"  # noqa: S608 - ours
        return tuple(str(row[0]) for row in self._rows(query))

    def each(self, what: str) -> Iterator[str]:
        """All ids that are `missing` or `unknown`, read a piece at a time."""
        query = f"SELECT id FROM {what} WHERE id > ? ORDER BY id LIMIT {self._noted_rows}"  # noqa: S608 - ours
        last = ""
        while ids := [str(row[0]) for row in self._rows(query, last)]:
            yield from ids
            last = ids[-1]

    def differences(self) -> Iterator[Difference]:
        """What differs, by day and service."""
        for day, service, missing, extra in self._rows(_DIFFERENCES):
            name = None if service is None else str(service)
            yield Difference(str(day), name, int(str(missing)), int(str(extra)))

    def _note(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        left = iter(rows)
        while some := list(islice(left, self._noted_rows)):
            marks = ", ".join("?" * len(some[0]))
            with _told():
                self._file.execute("BEGIN")
                self._file.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})",  # noqa: S608 - our own names
                    some,
                )
                self._file.execute("COMMIT")

    def _rows(self, query: str, *values: str) -> list[tuple[object, ...]]:
        with _told():
            return self._file.execute(query, values).fetchall()


def _row(audit: Held) -> tuple[str, str, str | None]:
    return audit.id, audit.event_date.isoformat(), audit.service_name


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DestinationUnavailable(
            f"the temporary file that ids are compared in failed: {error}; it lies in the folder "
            "that TMPDIR names"
        ) from error
