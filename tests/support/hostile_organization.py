"""A hostile organisation, a destination and a program between them, in one process and one time.

The program is the real one, driven by its operations over real HTTP. Only time is made: one clock
for both sides, which pauses move and which nobody waits for.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import count

import pytest
import sqlalchemy as sa

from etl.app import App
from etl.config import load
from etl.database.schema import audit_rejects
from etl.errors import AuditEtlError
from etl.genesys import paging
from etl.genesys import query as query_module
from etl.genesys.client.retries import Patience
from etl.model import Receipt, Stream
from etl.operations import export, selection, verify
from etl.operations.streams import Failure, Watch
from etl.operations.verifier import Verdict
from etl.records import Audit, read_records
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from etl.simulator.generation import Entry, entries
from etl.simulator.shapes import downloaded
from etl.simulator.timestamps import milliseconds
from etl.sizes import Sizes
from etl.window import Window
from tests.support.fault_matrix import Cell
from tests.support.places import Place
from tests.support.simulated_organization import NOW, HandClock, audit

LAG = timedelta(minutes=10)
BEGIN = NOW - timedelta(days=2)
#: A minute of the simulator's silence, or more, is this long for us.
SILENCE_SECONDS = 0.3


class Waits(threading.Event):
    """Pauses that only move the clock."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.move(seconds=timeout or 0)
        return self.is_set()


@dataclass
class Outcome:
    """What a run or a backfill came to.

    Attributes:
        span: what it had to bring.
        asked_again: whether it had to ask for all of that, loaded before or not.
        promised: what the organisation showed of a run's span from its begin to its end, by id.
        rejects: how many records of it cannot be rows.
        status: its exit status.
        error: what it said, if it was not done.
    """

    span: Window
    asked_again: bool
    promised: dict[str, Audit]
    rejects: int
    receipts: list[Receipt] = field(default_factory=list)
    error: AuditEtlError | None = None

    @property
    def status(self) -> int:
        return 0 if self.error is None else self.error.exit_status


def within(shown: dict[str, Audit], stream: Stream, window: Window) -> set[str]:
    """The ids of the stream's audits of that window."""
    return {
        audit.id
        for audit in shown.values()
        if audit.event_date in window and stream.service in {None, audit.service_name}
    }


@dataclass
class World:
    """One organisation, one destination.

    Attributes:
        settings: environment variables of the program's, beside those of the place.
        seen: every form in which each audit was ever shown, as rows, by id.
        read_seconds: of silence after which the client gives an answer up.
        processes: numbers of the processes that the program seems to run in, each in its own.
        unusable: whether it was ever shown a record that cannot be a row.
        sizes: of the pieces that work is cut into: transactions are small.
        open_starts: whether intervals were ever without the instant they start at.
    """

    simulator: Simulator
    clock: HandClock
    url: str
    place: Place
    settings: dict[str, str] = field(default_factory=dict)
    seen: dict[str, list[Audit]] = field(default_factory=dict)
    read_seconds: float = 10.0
    processes: Iterator[int] = field(default_factory=count)
    unusable: bool = False
    sizes: Sizes = Sizes(group_bytes=120_000)
    open_starts: bool = False

    def suffer(self, cell: Cell) -> None:
        """Let the cell's faults strike, the program set up for them."""
        self.settings = cell.settings
        self.read_seconds = SILENCE_SECONDS / 2 if "stall" in cell.faults else 10.0
        self.simulator.faults = cell.parsed()

    @contextmanager
    def app(self) -> Iterator[App]:
        variables = {
            "GENESYSCLOUD_REGION": self.url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "AUDIT_ETL_START": BEGIN.isoformat(),
            "AUDIT_ETL_MAX_WINDOW": "1d",
        }
        settings = load(None, variables | dict(self.place.variables) | self.settings)
        with App(
            settings,
            stop=Waits(self.clock),
            now=self.clock,
            monotonic=self.clock.monotonic,
            sizes=self.sizes,
            patience=Patience(read_seconds=self.read_seconds),
        ) as app:
            app.holder = f"elsewhere/{next(self.processes)}/0"
            yield app

    def run(self, lookback: timedelta | None = None, watch: Watch = lambda _: None) -> Outcome:
        """Bring every stream up to now less the lag, as `audit-etl run` does."""
        with self.app() as app:
            span = Window(BEGIN, self.until)
            outcomes = export.run(app, lookback=lookback, watch=watch)
            return self._outcome(app, span, outcomes, asked_again=False)

    def backfill(self, span: Window) -> Outcome:
        """Export a span, as `audit-etl backfill` does."""
        with self.app() as app:
            streams = selection.selected(app, ())
            outcomes = export.backfill(app, span, streams)
            return self._outcome(app, span, outcomes, asked_again=True)

    def verify(self, span: Window, *, repair: bool = False) -> tuple[list[Verdict], list[Failure]]:
        """Compare a span with the source, as `audit-etl verify` does."""
        with self.app() as app:
            streams = selection.selected(app, ())
            outcomes = list(verify.verify(app, span, streams, repair=repair))
        verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
        return verdicts, [outcome for outcome in outcomes if isinstance(outcome, Failure)]

    def _outcome(
        self,
        app: App,
        span: Window,
        outcomes: Iterator[Receipt | Failure],
        *,
        asked_again: bool,
    ) -> Outcome:
        # Of the two windows that meet there, one shows an audit: but none ends where all begins.
        first = BEGIN + timedelta(seconds=self.simulator.faults.exclude_interval_start)
        services = {stream.service for stream in app.streams()} - {self.refused}
        promised = {
            audit.id: audit
            for audit in self.shown(first, self.until).values()
            if None in services or audit.service_name in services
        }
        self.shown(
            BEGIN - 2 * timedelta(days=1), self.until
        )  # what answers of other times may hold
        result = Outcome(span, asked_again, promised, self.rejected(BEGIN, self.until))
        self.unusable = self.unusable or result.rejects > 0
        try:
            for outcome in outcomes:
                if isinstance(outcome, Receipt):
                    result.receipts.append(outcome)
                else:
                    result.error = result.error or outcome.error
        except AuditEtlError as error:
            result.error = error
        still = self.shown(BEGIN, self.until).keys()
        result.promised = {name: promised[name] for name in promised.keys() & still}
        return result

    @property
    def refused(self) -> str:
        """The service that the organisation does not let us ask for; empty if there is none."""
        return self.simulator.faults.forbidden_service

    @property
    def until(self) -> datetime:
        """Where a run of now ends."""
        ahead = timedelta(seconds=min(0, self.simulator.faults.clock_ahead))
        return (self.clock() + ahead - LAG).replace(microsecond=0)

    def shown(self, start: datetime, end: datetime) -> dict[str, Audit]:
        """What the organisation shows now of that span, one form of each, by id; see `seen`."""
        shown = {}
        downloads = self.simulator.faults.redirect_over
        for forms in self.simulator.truth(start, end):
            for form in [*forms, *(map(downloaded, forms) if downloads else ())]:
                row = row_of(form)
                if row is not None:
                    shown[row.id] = row
                    known = self.seen.setdefault(row.id, [])
                    known += [row] if row not in known else []
        return shown

    def rejected(self, start: datetime, end: datetime) -> int:
        """How many records of that span cannot be rows."""
        return sum(row_of(forms[0]) is None for forms in self.simulator.truth(start, end))

    def kept_aside(self) -> int:
        with self.place.destination.ledger.engine.connect() as connection:
            return int(
                connection.execute(sa.select(sa.func.count(audit_rejects.c.digest))).scalar_one()
            )


def log_with_edges(seed: int, audits: int, late_share: float) -> AuditLog:
    """Audits from a day before `BEGIN` to two days after `NOW`, some where windows meet."""
    start, end = BEGIN - timedelta(days=1), NOW + timedelta(days=2)
    made = list(entries(seed, audits, int(start.timestamp()), int(end.timestamp()), late_share))
    for number, edge in enumerate((BEGIN, BEGIN + timedelta(days=1), NOW - LAG)):
        ms = milliseconds(edge)
        text = json.dumps(audit(number, edge, user={"id": "u", "name": "Edge Case"}))
        made.append(Entry(ms, ms, "ContactCenter", text.encode()))
    return AuditLog(sorted(made))


@lru_cache(5000)
def row_of(form: bytes) -> Audit | None:
    """The row that a record should become; None if it cannot be one."""
    row = next(iter(read_records([form]).audits), None)
    members = json.loads(form)
    name, time = members.get("id"), members.get("eventDate") or members.get("eventTime")
    usable = isinstance(name, str) and name.strip() and isinstance(time, str) and time[:1] == "2"
    assert (row is not None) == bool(usable), form
    return row


def in_small_pieces(patch: pytest.MonkeyPatch) -> None:
    """Make pages small, so that few audits take many of them; see also `World.sizes`."""
    patch.setattr(query_module, "PAGE_SIZE_MAX", 40)
    patch.setattr(paging, "BARREN_PAGES_MAX", 20)


def resting(clock: HandClock) -> Callable[[float], Awaitable[None]]:
    """How the simulator lets seconds pass."""

    async def rest(seconds: float) -> None:
        clock.move(seconds=seconds)
        await asyncio.sleep(SILENCE_SECONDS if seconds >= 60 else 0)

    return rest


@contextmanager
def world(log: AuditLog, served: tuple[Simulator, str], place: Place) -> Iterator[World]:
    """The organisation that is served, as new, and the place, emptied."""
    clock = HandClock()
    fresh = Simulator(log=log, clock=clock, rest=resting(clock), query_seconds=2)
    vars(served[0]).update(vars(fresh))
    place.empty()
    with pytest.MonkeyPatch.context() as patch:
        in_small_pieces(patch)
        made = World(served[0], clock, served[1], place)
        yield made
