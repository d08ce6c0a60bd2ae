"""An organisation in which something happens every second, and what must hold of its copy.

Every audit can be asked for as soon as it has happened, and no schedule looks back: what a crash
damages would stay damaged.
"""

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from etl.app import clock
from etl.database.engine import open_engine
from etl.destinations.lake.local_storage import LocalStorage
from etl.ledger.receipts import Ledger
from etl.model import Stream, Watermark
from etl.records import Audit
from etl.simulator import AuditLog, Simulator
from etl.window import Window, gaps
from tests.support.commands import CLIENT_ID, SECRET, environment
from tests.support.destination_contents import audits_in, audits_in_lake, rows, unraw
from tests.support.simulated_organization import audit

PAST = timedelta(minutes=8)
AHEAD = timedelta(minutes=10)
EVERY_SECOND = [{"name": "frequent", "interval": "1s", "lookback": "0s"}]


@dataclass
class Organisation:
    """A simulated organisation, its address, and since when it has audits."""

    simulator: Simulator
    url: str
    begin: datetime

    def environment(self, destination: str, **more: str) -> dict[str, str]:
        """What a daemon needs to export it, every second."""
        return environment(
            GENESYSCLOUD_REGION=self.url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
            AUDIT_ETL_DESTINATION=destination,
            AUDIT_ETL_START=self.begin.isoformat(),
            AUDIT_ETL_LAG="1s",
            AUDIT_ETL_HEALTH_ADDRESS="off",
            **{"AUDIT_ETL_SCHEDULES": json.dumps(EVERY_SECOND)} | more,
        )


def simulator_of(
    begin: datetime, first: int = 0, size: int = 0, ahead: timedelta = AHEAD
) -> Simulator:
    """A simulated organisation with an audit every second.

    Args:
        begin: the time of the first.
        first: its number.
        size: about how many bytes each has; they do not compress.
        ahead: how long from now on it has audits.
    """
    changes: list[dict[str, Any]] = [{"property": "name", "oldValues": ["a"], "newValues": ["b"]}]
    noise = b64encode(random.Random(first).randbytes(size)).decode()
    seconds = int((PAST + ahead).total_seconds())
    moments = [(n, begin + timedelta(seconds=n)) for n in range(seconds)]
    log = AuditLog.of(
        (audit(first + n, at, propertyChanges=changes, context={"noise": noise[n:]}), at)
        for n, at in moments
    )
    return Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0)


@contextmanager
def living(size: int = 0, ahead: timedelta = AHEAD) -> Iterator[Organisation]:
    """An organisation at work; see `simulator_of`."""
    begin = clock().replace(microsecond=0) - PAST
    simulator = simulator_of(begin, size=size, ahead=ahead)
    with simulator.log, simulator.serve() as url:
        yield Organisation(simulator, url, begin)


class Copy:
    """The copy of an organisation in a database, or in a lake with that state, from outside."""

    def __init__(
        self, url: str, organisation: Organisation, name: str = "default", lake: Path | None = None
    ) -> None:
        self.engine = open_engine(url)
        self._organisation = organisation
        self._name = name
        self._lake = LocalStorage(lake) if lake else None

    @property
    def stream(self) -> Stream:
        """The one stream."""
        return Stream(self._name)

    def count(self, sql: str) -> int:
        """The number that a query gives; 0 while there are no tables yet."""
        try:
            with self.engine.connect() as connection:
                return int(connection.execute(sa.text(sql)).scalar_one() or 0)
        except sa.exc.DBAPIError:
            return 0

    @property
    def receipts(self) -> int:
        """How many windows were loaded."""
        return self.count(f"SELECT COUNT(*) FROM receipts WHERE organization = '{self._name}'")

    @property
    def leader(self) -> int:
        """The number of the process that does the daemon's work; 0 if there is none."""
        query = "SELECT MAX(holder) FROM leases WHERE name LIKE 'daemon:%'"
        try:
            with self.engine.connect() as connection:
                holder = connection.execute(sa.text(query)).scalar_one()
        except sa.exc.DBAPIError:
            return 0
        return int(holder.split("/")[1]) if holder else 0

    @property
    def watermark(self) -> Watermark | None:
        """How far the stream is sure."""
        return Ledger(self.engine).watermark(self.stream) if self.receipts else None

    def caught_up(self) -> bool:
        """Whether the watermark is a few seconds old at most."""
        watermark = self.watermark
        return watermark is not None and clock() - watermark.reached < timedelta(seconds=4)

    def is_complete(self, since: datetime) -> bool:
        """Whether it holds all until `since` at least; its promises must hold in any case."""
        self.keeps_its_promises()
        watermark = self.watermark
        return watermark is not None and watermark.reached >= since

    def goes_on(self, receipts: int) -> bool:
        """Whether there are more than so many receipts and the stream is up to date."""
        return self.receipts > receipts and self.caught_up()

    @property
    def audits(self) -> list[Audit]:
        """Every audit that it holds, by id."""
        if self._lake:
            return audits_in_lake(self._lake, self._name)
        return audits_in(self.engine, self._name)

    def keeps_its_promises(self) -> None:
        """Fail if an audit before the watermark is missing or differs, or a receipt is (M1-M4)."""
        watermark = self.watermark
        assert watermark is not None
        covered = Ledger(self.engine).windows(self.stream, watermark.begins_at, watermark.begins_at)
        assert list(gaps(covered, Window(watermark.begins_at, watermark.reached))) == []
        held = [audit for audit in self.audits if audit.event_date < watermark.reached]
        log = self._organisation.simulator.log
        truth = rows(log.truth(watermark.begins_at, watermark.reached, clock()))
        assert [unraw(a) for a in held] == [unraw(a) for a in truth]

    def close(self) -> None:
        """Give back connections."""
        self.engine.dispose()


@contextmanager
def copy_at(
    url: str, organisation: Organisation, name: str = "default", lake: Path | None = None
) -> Iterator[Copy]:
    """A copy, closed at the end."""
    found = Copy(url, organisation, name, lake)
    try:
        yield found
    finally:
        found.close()
