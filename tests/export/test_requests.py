"""An export asks the organisation for little more than the contract makes it ask for.

Nor does it open more of its database than it needs.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from math import ceil
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.app import App
from etl.config import load
from etl.model import Receipt
from etl.operations import export, selection
from etl.operations.streams import Failure
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from etl.simulator.generation import Entry
from etl.simulator.timestamps import milliseconds
from etl.window import Window
from etl.wire import PAGE_SIZE_MAX
from tests.support.hostile_organization import LAG, Waits, resting
from tests.support.simulated_organization import NOW, HandClock, audit

MONTH = Window(NOW - LAG - timedelta(days=30), NOW - LAG)
#: How long a query takes; the least would be one poll, whatever that is.
QUERY_SECONDS = 2


class Month:
    """An organisation of so many audits in a month, and the program's visits to it."""

    def __init__(self, stack: ExitStack, folder: Path, audits: int, query_seconds: float) -> None:
        log = stack.enter_context(AuditLog(spread(audits)))
        self.clock = HandClock()
        self.simulator = Simulator(
            log=log, clock=self.clock, rest=resting(self.clock), query_seconds=query_seconds
        )
        self._variables = {
            "GENESYSCLOUD_REGION": stack.enter_context(self.simulator.serve()),
            "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
            "AUDIT_ETL_START": MONTH.start.isoformat(),
            "AUDIT_ETL_DESTINATION": f"sqlite:///{folder / 'audits.db'}",
        }

    def process(self) -> App:
        """A program that has just been started, by the settings as they come."""
        return App(
            load(None, self._variables),
            stop=Waits(self.clock),
            now=self.clock,
            monotonic=self.clock.monotonic,
        )

    def tick(self, app: App) -> int:
        """Bring every stream up to now; give the requests that it took."""
        before = self.simulator.requests.total()
        for outcome in export.run(app):
            done(outcome)
        return self.simulator.requests.total() - before


def spread(audits: int) -> Iterator[Entry]:
    """Small audits, one as far from the next as the month allows."""
    for number in range(audits):
        at = (MONTH.start + MONTH.length * number / audits).replace(microsecond=0)
        record = json.dumps(audit(number, at)).encode()
        yield Entry(milliseconds(at), milliseconds(at), "ContactCenter", record)


def done(outcome: Receipt | Failure) -> Receipt:
    assert isinstance(outcome, Receipt), outcome
    return outcome


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
def test_a_busy_month_costs_at_most_two_in_a_hundred_more_requests_than_the_contract_makes_it_cost(
    stack: ExitStack, tmp_path: Path
) -> None:
    month = Month(stack, tmp_path, 200_000, QUERY_SECONDS)
    with month.process() as app:
        streams = selection.selected(app, ())
        receipts = [done(o) for o in export.backfill(app, MONTH, streams)]

    assert sum(receipt.new_events for receipt in receipts) == 200_000
    least = sum(2 + max(1, ceil(receipt.events / PAGE_SIZE_MAX)) for receipt in receipts)
    assert month.simulator.requests.total() <= 1.02 * least, month.simulator.requests
    assert least <= 1.02 * (2 + 200_000 / PAGE_SIZE_MAX), "windows too short to fill their pages"


def test_a_quiet_month_costs_a_dozen_requests(stack: ExitStack, tmp_path: Path) -> None:
    month = Month(stack, tmp_path, 3_000, QUERY_SECONDS)
    with month.process() as app:
        assert month.tick(app) <= 12, month.simulator.requests


def test_a_daemons_tick_with_nothing_new_costs_four_requests(
    stack: ExitStack, tmp_path: Path
) -> None:
    month = Month(stack, tmp_path, 100, QUERY_SECONDS)
    with month.process() as app:
        month.tick(app)
        month.clock.move(minutes=15)
        assert month.tick(app) <= 4, month.simulator.requests


@pytest.mark.parametrize("query_seconds", [0, 1, QUERY_SECONDS, 20])
def test_a_cron_jobs_tick_with_nothing_new_costs_four_requests(
    stack: ExitStack, tmp_path: Path, query_seconds: float
) -> None:
    month = Month(stack, tmp_path, 100, query_seconds)
    with month.process() as app:
        month.tick(app)
    month.clock.move(minutes=15)
    with month.process() as app:
        assert month.tick(app) <= 4, month.simulator.requests


def test_no_thread_but_the_one_that_loads_opens_the_database_beside_the_journals(
    stack: ExitStack, tmp_path: Path
) -> None:
    month = Month(stack, tmp_path, 3_000, QUERY_SECONDS)
    threads = set()

    def note(_connection: sa.Connection) -> None:
        threads.add(threading.current_thread().name)

    with month.process() as app:
        streams = selection.selected(app, ())
        event.listen(sa.Engine, "begin", note)
        stack.callback(event.remove, sa.Engine, "begin", note)
        for _ in range(2):
            assert sum(done(o).events for o in export.backfill(app, MONTH, streams)) == 3_000

    assert threads == {threading.current_thread().name, "checkpoint_0"}
