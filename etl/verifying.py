"""Whether a destination holds what the source shows: ids compared, window by window.

A window is asked for as an export asks for it, and by the same code: `Verifier` stands where the
destination would. What the destination holds and what the source shows is noted in a temporary
file, so that a window of any size is compared in a few megabytes of memory. With a repair, the
audits that the source shows are loaded in the same pass: no request is sent twice.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Generic, NamedTuple, Self

from etl import verified
from etl.destinations import Destination, Fence, Held, Prepared
from etl.errors import DestinationUnavailable
from etl.progress import Draft, Receipt, Stream, Verification
from etl.records import Records, whole
from etl.window import Window

#: Of each window, so many missing and so many extra ids are told; they are counted in any case.
IDS_MAX: Final = 1_000
#: Ids that are noted together.
NOTED_ROWS: Final = 5_000

_TABLES: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE shown (id TEXT PRIMARY KEY, moment TEXT, service TEXT) WITHOUT ROWID;
    CREATE TABLE held (id TEXT PRIMARY KEY, moment TEXT, service TEXT) WITHOUT ROWID;
    CREATE TABLE arrived (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE VIEW missing AS SELECT * FROM shown
        WHERE id NOT IN (SELECT id FROM held) AND id NOT IN (SELECT id FROM arrived);
    CREATE VIEW extra AS SELECT * FROM held WHERE id NOT IN (SELECT id FROM shown);
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing one window has found.

    Attributes:
        receipt: what was asked; with a repair, the one that was written.
        differences: days and services that differ, in order.
        missing_ids: the first `IDS_MAX`, by event time.
        extra_ids: the first `IDS_MAX`, by event time.
    """

    verification: Verification
    receipt: Receipt
    differences: tuple[Difference, ...]
    missing_ids: tuple[str, ...]
    extra_ids: tuple[str, ...]


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


class Verifier(Generic[Prepared]):
    """A destination that is compared with what it is given. See `Destination`.

    Args:
        destination: the one to compare.
        repair: also load what it is given.
        now: the clock.
        tell: called with the verdict on each window once that is kept.
    """

    def __init__(
        self,
        destination: Destination[Prepared],
        *,
        repair: bool,
        now: Callable[[], datetime],
        tell: Callable[[Verdict], None],
    ) -> None:
        self.ledger = destination.ledger
        self.one_writer = destination.one_writer
        self.takes_keys = False  # a verdict names services
        self._destination = destination
        self._repair = repair
        self._now = now
        self._tell = tell

    def prepared(self, batch: Records) -> Shown[Prepared]:
        """See `Destination.prepared`."""
        audits = map(whole, batch.audits)
        return Shown(
            tuple(Held(a.id, a.event_date, a.service_name) for a in audits),
            len(batch.rejects),
            self._destination.prepared(batch) if self._repair else None,
        )

    def load(self, draft: Draft, batches: Iterable[Shown[Prepared]], fence: Fence) -> Receipt:
        """Compare one window, and load it if it shall be repaired.

        Afterwards the verdict is kept. If it raises, none is; what was loaded is there. Audits that
        another process loads meanwhile are not told as missing.
        """
        with _Comparison() as comparison:
            comparison.hold(self._held(draft))
            shown = comparison.showing(batches)
            if self._repair:
                prepared = (batch.prepared for batch in shown if batch.prepared is not None)
                receipt = self._destination.load(draft, prepared, fence)
            else:
                receipt = self._read(draft, shown)
                if comparison.count("missing"):
                    comparison.arrive(self._held(draft))
            verdict = self._verdict(receipt, comparison)
        verified.keep(self.ledger.engine, verdict.verification)
        self._tell(verdict)
        return receipt

    def held(self, organization: str, window: Window, service: str | None) -> Iterator[Held]:
        """See `Destination.held`."""
        return self._destination.held(organization, window, service)

    def audits_a_day(self, stream: Stream, span: Window) -> Mapping[date, int]:
        """See `Destination.audits_a_day`."""
        return self._destination.audits_a_day(stream, span)

    def close(self) -> None:
        """See `Destination.close`."""
        self._destination.close()

    def _held(self, draft: Draft) -> Iterator[Held]:
        return self.held(draft.stream.organization, draft.window, draft.stream.service)

    def _read(self, draft: Draft, batches: Iterable[Shown[Prepared]]) -> Receipt:
        """Read the query to its end; the receipt says what it gave and is written nowhere."""
        events = rejects = 0
        for batch in batches:
            events, rejects = events + len(batch.audits), rejects + batch.rejects
        self.ledger.forget_query(draft.stream, draft.window)
        return draft.receipt(events=events, new_events=0, rejects=rejects, loaded_at=self._now())

    def _verdict(self, receipt: Receipt, comparison: "_Comparison") -> Verdict:
        missing = comparison.count("missing")
        return Verdict(
            Verification(
                stream=receipt.stream,
                window=receipt.window,
                events=comparison.count("shown"),
                missing=missing,
                extra=comparison.count("extra"),
                repaired=missing if self._repair else 0,
                verified_at=self._now(),
            ),
            receipt,
            tuple(comparison.differences()),
            comparison.ids("missing"),
            comparison.ids("extra"),
        )


class _Comparison:
    """The ids of one window, held and shown, in a temporary file that nobody else can open."""

    def __enter__(self) -> Self:
        with _told():
            self._file = sqlite3.connect("", isolation_level=None)
            self._file.executescript(_TABLES)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def hold(self, audits: Iterable[Held]) -> None:
        """Note what the destination holds."""
        self._note("held", (_row(*audit) for audit in audits))

    def arrive(self, audits: Iterable[Held]) -> None:
        """Note what the destination holds by now."""
        self._note("arrived", ((audit.id,) for audit in audits))

    def showing(self, batches: Iterable[Shown[Prepared]]) -> Iterator[Shown[Prepared]]:
        """The batches, each noted as shown by the source."""
        for batch in batches:
            self._note("shown", (_row(*audit) for audit in batch.audits))
            yield batch

    def count(self, what: str) -> int:
        """How many ids are `shown`, `missing` or `extra`."""
        [(count,)] = self._rows(f"SELECT count(*) FROM {what}")  # noqa: S608 - our own names
        return int(str(count))

    def ids(self, what: str) -> tuple[str, ...]:
        """The first ids that are `missing` or `extra`."""
        query = f"SELECT id FROM {what} ORDER BY moment, id LIMIT {IDS_MAX}"  # noqa: S608 - ours
        return tuple(str(row[0]) for row in self._rows(query))

    def differences(self) -> Iterator[Difference]:
        """What differs, by day and service."""
        for day, service, missing, extra in self._rows(_DIFFERENCES):
            name = None if service is None else str(service)
            yield Difference(str(day), name, int(str(missing)), int(str(extra)))

    def _note(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        left = iter(rows)
        while some := [row for row, _ in zip(left, range(NOTED_ROWS), strict=False)]:
            marks = ", ".join("?" * len(some[0]))
            with _told():
                self._file.execute("BEGIN")
                self._file.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})",  # noqa: S608 - our own names
                    some,
                )
                self._file.execute("COMMIT")

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        with _told():
            return self._file.execute(query).fetchall()


def _row(audit_id: str, event_date: datetime, service: str | None) -> tuple[str, str, str | None]:
    return audit_id, event_date.isoformat(), service


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DestinationUnavailable(
            f"the temporary file that ids are compared in failed: {error}; it lies in the folder "
            "that TMPDIR names"
        ) from error
