"""Die at every step of a load, one after the other; then start again.

The healing lookback is off: what a death damages would stay damaged. After each death the watermark
must not lead what is held, and no audit may be there twice; after the restart the content must be
that of a load which nobody disturbed.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import obstore
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from etl.destinations.sql import inserter
from etl.simulator import AuditLog, Faults
from tests.support.hostile_organization import World, log_with_edges
from tests.support.places import Place
from tests.support.samples import (
    BEGIN,
    LOADED_AT,
    STREAM,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
)
from tests.support.simulated_organization import NOW

WINDOWS = [hours(0, 30), hours(30, 48)]
#: Two windows over two days: the first has audits of both, the second adds to the second day.
SHOWN = [
    [record(f"a{n:02}", n * 1.5) for n in range(20)],
    [record(f"b{n:02}", 30 + n * 1.5) for n in range(12)],
]


class Died(BaseException):
    """The process is no more; nothing in it may run on."""


def die() -> None:
    """Die as by an error that nobody expects: blocks end on the way out."""
    raise Died


def be_killed() -> None:
    """Die as by the power's failing: nothing runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def dying_at(
    step: int,
    engine: sa.Engine | type[sa.Engine],
    monkeypatch: pytest.MonkeyPatch,
    death: Callable[[], None] = die,
) -> Iterator[None]:
    """Die before the `step`th of the visible steps of whatever runs in the block."""
    counted = 0

    def next_step(*_args: object, **_named: object) -> None:
        nonlocal counted
        counted += 1
        if counted == step:
            death()

    def stepping(owner: Any, name: str) -> None:
        real: Callable[..., Any] = vars(owner)[name]

        def wrapped(*args: Any, **named: Any) -> Any:
            next_step()
            return real(*args, **named)

        patch.setattr(owner, name, wrapped)

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "mkdir"),
            (pq.ParquetWriter, "write_table"),
            (pq.ParquetWriter, "close"),
            (obstore, "put"),
            (obstore, "copy"),
            (obstore, "head"),
            (inserter, "_copy"),
            (inserter, "_execute"),
        ):
            stepping(owner, name)
        event.listen(engine, "before_cursor_execute", next_step)
        event.listen(engine, "commit", next_step)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", next_step)
            event.remove(engine, "commit", next_step)


def load_all(place: Place) -> None:
    place.destination.ledger.begin(STREAM, BEGIN, LOADED_AT)
    for window, shown in zip(WINDOWS, SHOWN, strict=True):
        pages = [batch(*shown[n : n + 5]) for n in range(0, len(shown), 5)]
        load_into(place.destination, draft(window), pages, lambda _: None)


def assert_that_the_watermark_does_not_lead(place: Place) -> None:
    watermark = place.destination.ledger.watermark(STREAM)
    held = [audit.id for audit in place.audits()]
    assert len(held) == len(set(held))
    if watermark is not None:
        proved = [
            a.id for shown in SHOWN for a in audits(shown) if a.event_date < watermark.reached
        ]
        assert set(proved) <= set(held)


def load_and_die(place: Place, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Load until the `step`th step; give whether the load ended before that."""
    engine = place.destination.ledger.engine
    try:
        with dying_at(step, engine, monkeypatch):
            load_all(place)
    except Died:
        engine.dispose()
        return False
    return True


def load_and_be_killed(place: Place, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The same in a process of its own."""
    engine = place.destination.ledger.engine
    engine.dispose()
    child = os.fork()
    if child == 0:
        with suppress(BaseException), dying_at(step, engine, monkeypatch, be_killed):
            load_all(place)
            os._exit(0)
        os._exit(1)
    _, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == 0
    return not os.WIFSIGNALED(ended)


@pytest.mark.promise("M2", "M3", "M6")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dying_at_any_step_and_starting_again_ends_in_the_same_content(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_that_any_death_is_mended(place, monkeypatch, load_and_die)


@pytest.mark.promise("M2", "M3", "M6")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child only loads, and dies
@pytest.mark.parametrize("place", ["sqlite", "postgresql", "parquet"], indirect=True)
def test_being_killed_at_any_step_and_starting_again_ends_in_the_same_content(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_that_any_death_is_mended(place, monkeypatch, load_and_be_killed)


def assert_that_any_death_is_mended(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Callable[[Place, int, pytest.MonkeyPatch], bool],
) -> None:
    place = place.cut(group_bytes=8_000)
    step, finished = 0, False
    while not finished:
        step += 1
        finished = attempt(place, step, monkeypatch)
        assert_that_the_watermark_does_not_lead(place)

        load_all(place)
        assert place.audits() == audits(SHOWN[0] + SHOWN[1])
        watermark = place.destination.ledger.watermark(STREAM)
        assert watermark is not None
        assert watermark.reached == WINDOWS[-1].end
        place.empty()

    assert step > 20


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=19, audits=300, late_share=0) as log:
        yield log


@pytest.mark.slow
@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
@pytest.mark.parametrize("lookback", ["0s", "20h"])
def test_a_death_costs_no_audit_that_became_visible_before_the_restart(
    hostile: World, lookback: str
) -> None:
    """A run, then a later one that does not look back: the first dies after each of its pages."""
    hostile.settings = {
        "AUDIT_ETL_SCHEDULES": f'[{{"name": "s", "interval": "1h", "lookback": "{lookback}"}}]',
        "AUDIT_ETL_MAX_WINDOW": "8h",
    }
    hostile.simulator.faults = Faults(late_every=3, late_hours=40)
    lives, pages, died = [], 0, True
    while died:
        pages += 1
        died = _dies_after(hostile, pages)
        hostile.clock.move(hours=5)
        assert hostile.run().status == 0
        lives.append({audit.id for audit in hostile.place.audits()})
        hostile.place.empty()
        hostile.clock.now = NOW

    *with_a_death, without = lives
    assert len(with_a_death) > 5
    for pages, held in enumerate(with_a_death, 1):
        assert without <= held, f"lost by a death after page {pages}: {without - held}"


def _dies_after(world: World, pages: int) -> bool:
    """Run, and die when so many pages are loaded; false if there are not so many."""
    left = pages

    def watch(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    try:
        world.run(watch=watch)
    except Died:
        return True
    return False
