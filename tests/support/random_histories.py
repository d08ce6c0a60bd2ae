"""Random lives of a program and its organisation: the same for the same seed.

Runs, backfills, deaths and other processes, in a world whose faults change. After each step nothing
may be claimed that is not so, and in the end all of it must be there.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from random import Random

import pytest
import sqlalchemy as sa

from etl.database.schema import receipts
from etl.destinations.lake.staging import Staging
from etl.ledger import leases, queries
from etl.simulator import Faults
from etl.simulator.timestamps import milliseconds
from etl.window import Window
from tests.export.test_crashes import Died, die, dying_at
from tests.support.fault_matrix import ALONE, CELLS, Cell
from tests.support.hostile_organization import BEGIN, Outcome, World, row_of

Act = Callable[[], Outcome]

DAY = timedelta(days=1)
#: Faults under which the truth is what the log says, whatever else goes wrong.
FAULTS = [
    cell
    for cell in CELLS
    if not cell.faults.startswith(ALONE)
    and not any(
        word in cell.faults for word in ("stuck", "unusable", "late_every", "forget", "service")
    )
]
#: The organisation's clock may be off by four minutes; an audit is seen by whoever asks later.
_CLOCKS = timedelta(minutes=5)
#: What a run or a backfill may end with: done, or one of the reasons that a user is told.
_TOLD = frozenset({0, 65, 69, 75, 77})
#: A death is at one of so many steps.
_STEPS = 80


class History:
    """One life, from an empty destination to the last audit."""

    def __init__(self, world: World, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.rng = Random(f"history {seed}")
        self.patch = patch
        self.told: list[str] = []
        patch.setattr(leases, "_SERVER_TIME", {})  # they end by the clock that all of this goes by
        window = self.rng.choice(["7h", "1d", "30d"])
        world.settings = {
            "AUDIT_ETL_MAX_WINDOW": window,
            "AUDIT_ETL_ALLOW_REDIRECT": self.rng.choice(["true", "false"]),
        }

    def live(self) -> None:
        """Take some steps, then let every fault end and everything become visible."""
        steps = [self.run, self.run, self.backfill, self.die, self.meet, self.change, self.wait]
        if not self.world.place.kind.one_writer:
            steps.append(self.race)
        for _ in range(self.rng.randint(4, 9)):
            step = self.rng.choice(steps)
            self.tell(f"{step.__name__}")
            step()
            self.check()
        self.world.simulator.faults = Faults()
        self.world.settings["AUDIT_ETL_MAX_WINDOW"] = "30d"
        self.world.clock.move(days=13)
        self.tell("the last run")
        last = self.world.run(lookback=16 * DAY)
        assert last.status == 0, last.error
        self.check()
        held = {audit.id for audit in self.world.place.audits()}
        lost = visible(self.world, last.span, self.world.clock()) - held
        assert not lost, f"lost in the end: {lost}"

    def tell(self, what: str) -> None:
        self.told.append(f"{self.world.clock():%d %H:%M:%S} {what}")

    def run(self) -> None:
        """A run, its healing lookback off as often as not."""
        lookback = self.rng.choice([timedelta(0), timedelta(hours=5), None])
        self.note(self.world.run(lookback=lookback))

    def backfill(self) -> None:
        """A backfill of any span, some of it before the stream's beginning."""
        self.note(self.world.backfill(self.span()))

    def die(self) -> None:
        """A run or a backfill that dies at any step, by an error or by the power's failing."""
        act = self.rng.choice([self.run, self.backfill])
        step, at_once = self.rng.randint(1, _STEPS), self.rng.random() < 0.5
        try:
            with dying(self.patch, step, at_once=at_once):
                act()
        except Died:
            self.tell(f"  died at step {step}")
        self.world.clock.move(seconds=self.rng.choice([1, 30, 90]))

    def meet(self) -> None:
        """A run between two pages of which another process acts; its lease may be over then."""
        span = self.span()
        others: list[Act] = [self.world.run, partial(self.world.backfill, span)]
        other = self.rng.choice(others)
        turn, pause = self.rng.randint(1, 6), self.rng.choice([0, 120])

        def watch(_: object) -> None:
            nonlocal turn
            turn -= 1
            if turn == 0:
                self.world.clock.move(seconds=pause)
                self.note(other())

        self.note(self.world.run(watch=watch))

    def race(self) -> None:
        """Two processes at once."""
        acts: list[Act] = [self.world.run, partial(self.world.backfill, self.span())]
        with ThreadPoolExecutor(len(acts)) as pool:
            for outcome in [pool.submit(act) for act in acts]:
                self.note(outcome.result())

    def change(self) -> None:
        """Other faults."""
        self.world.shown(BEGIN - DAY, self.world.until)
        cells = _compatible(self.rng.sample(FAULTS, self.rng.randint(0, 4)))
        seed = self.rng.randrange(1_000_000)
        faults = [f"seed={seed}", *(fault for cell in cells for fault in cell.faults.split())]
        self.world.simulator.faults = Faults.parse(faults)
        self.world.open_starts |= self.world.simulator.faults.exclude_interval_start
        self.tell(" ".join(faults))

    def wait(self) -> None:
        """Time passes."""
        self.world.clock.move(seconds=self.rng.choice([5, 600, 3600, 30_000, 90_000]))

    def span(self) -> Window:
        """Any span that a backfill may have."""
        latest = int((self.world.until - timedelta(minutes=5) - (BEGIN - DAY)).total_seconds())
        start = self.rng.randrange(latest - 60)
        end = self.rng.randint(start + 1, latest)
        return Window(BEGIN - DAY + timedelta(seconds=start), BEGIN - DAY + timedelta(seconds=end))

    def note(self, outcome: Outcome) -> None:
        self.tell(f"  {outcome.status} with {len(outcome.receipts)} receipts {outcome.error or ''}")
        assert outcome.status in _TOLD, outcome.error
        if outcome.status == 0:
            windows = sorted(receipt.window for receipt in outcome.receipts)
            if not outcome.asked_again:
                windows = [window for window, _ in proofs(self.world)]
                windows = sorted([*windows, *excused(self.world)])
            end = reached(outcome.span.start, windows)
            assert end >= outcome.span.end, "done, it says, but not all was asked for"

    def check(self) -> None:
        self.world.shown(BEGIN - DAY, self.world.until)
        assert_that_receipts_and_watermarks_are_true(self.world)


def _compatible(cells: list[Cell]) -> list[Cell]:
    """Of several kinds of pages that are none, the first.

    Together they would strike first pages, and a bare first page is that of a query without audits.
    """
    masks = [cell for cell in cells if "no_page" in cell.faults]
    return [cell for cell in cells if cell not in masks[1:]]


@contextmanager
def dying(patch: pytest.MonkeyPatch, step: int, *, at_once: bool) -> Iterator[None]:
    """Die before the `step`th step; nothing is cleared away if it is `at_once`."""
    with patch.context() as here:
        if at_once:
            here.setattr(leases, "give_back", lambda *_: die())
            here.setattr(Staging, "__exit__", lambda *_: None)
        with dying_at(step, sa.Engine, patch):
            yield


def assert_that_receipts_and_watermarks_are_true(world: World) -> None:
    """What a receipt proves is there, once, as it was shown; no watermark leads its receipts."""
    held = {}
    for audit in world.place.audits():
        assert audit.id not in held, f"doubled: {audit.id}"
        assert audit in world.seen[audit.id], f"never shown: {audit}"
        held[audit.id] = audit
    for window, started_at in proofs(world):
        lost = visible(world, window, started_at - _CLOCKS) - held.keys()
        assert not lost, f"lost behind the receipt of {window}: {lost}"
    ledger = world.place.destination.ledger
    for stream in ledger.streams():
        watermark = ledger.watermark(stream)
        if watermark is not None:
            end = reached(watermark.begins_at, [window for window, _ in proofs(world)])
            assert watermark.reached <= end, "the watermark leads the receipts"


def proofs(world: World) -> list[tuple[Window, datetime]]:
    """The windows that have a receipt, in order, each with the time at which it was asked for."""
    columns = receipts.c.window_start, receipts.c.window_end, receipts.c.started_at
    with world.place.destination.ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(*columns))
        return sorted((Window(start, end), asked_at) for start, end, asked_at in rows)


def excused(world: World) -> list[Window]:
    """Time from the streams' beginnings on that no query may be about: runs only warn of it."""
    ledger = world.place.destination.ledger
    found = list[Window]()
    for stream in ledger.streams():
        watermark = ledger.watermark(stream)
        refused = [
            failed.window for failed in queries.failed(ledger.engine, stream) if failed.refused
        ]
        if watermark is not None:
            found += [w for w in refused if w.end <= reached(watermark.begins_at, refused)]
    return found


def reached(start: datetime, windows: list[Window]) -> datetime:
    """How far the windows go on from `start` without a gap; they are in order."""
    for window in windows:
        if window.start <= start:
            start = max(start, window.end)
    return start


def visible(world: World, window: Window, at: datetime) -> set[str]:
    """Ids of the window's audits that could be asked for at that time.

    If intervals were ever without the instant they start at, nothing shows what lies just there,
    unless another window ends there.
    """
    log = world.simulator.log
    first = milliseconds(window.start) + world.open_starts
    positions = log.between(first, milliseconds(window.end), None)
    rows = (row_of(log.one(p)) for p in log.visible(positions, milliseconds(at)))
    return {row.id for row in rows if row is not None}
