"""A daemon whose machine's clock is set while it runs."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl.daemon.steps import STEP_MIN, Steps
from tests.support.daemons import Daemon, until
from tests.support.live_organization import Organisation, copy_at, living
from tests.support.simulated_organization import NOW, HandClock

#: The same program, on a machine whose clock is as far ahead as a file says.
SETTABLE = """
import os
from datetime import datetime, timedelta
from pathlib import Path
from apscheduler.schedulers import base
from etl import app
from etl.cli import main

class Shown(datetime):
    @classmethod
    def now(cls, tz=None):
        ahead = Path(os.environ["AHEAD"]).read_text()
        return super().now(tz) + timedelta(seconds=int(ahead))

app.datetime = base.datetime = Shown
main()
"""


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "said"), [(-18_000, "back by 5h"), (10_800, "ahead by 3h")])
def test_a_daemon_goes_on_when_the_clock_is_set(
    organisation: Organisation, tmp_path: Path, seconds: int, said: str
) -> None:
    url, ahead = f"sqlite:///{tmp_path / 'audits.db'}", tmp_path / "ahead"
    ahead.write_text("0")
    env = organisation.environment(url) | {"AHEAD": str(ahead)}
    with (
        Daemon(tmp_path / "log", env, SETTABLE) as daemon,
        copy_at(url, organisation) as copy,
    ):
        until(lambda: copy.receipts >= 3, "it is at work")
        (tmp_path / "set").write_text(str(seconds))
        (tmp_path / "set").rename(ahead)
        daemon.says(f"the clock was set {said}")
        before = copy.receipts

        until(lambda: copy.goes_on(before + 3), "it goes on")
        copy.keeps_its_promises()
        (tmp_path / "set").write_text("0")
        (tmp_path / "set").rename(ahead)
        daemon.says("the clock was set", times=2)
        before = copy.receipts
        until(lambda: copy.goes_on(before + 3), "it goes on once the clock is right")
        copy.keeps_its_promises()

        assert daemon.ended() == 0
    assert "void" not in daemon.log


@pytest.mark.parametrize("seconds", [-3 * 3600, -3, 3, 86_400])
def test_a_step_of_the_clock_is_noticed_once(seconds: int) -> None:
    clock, ahead = HandClock(), [timedelta(0)]
    steps = Steps(lambda: clock() + ahead[0], clock.monotonic)
    clock.move(seconds=0.5)
    before = steps.since_last_look()
    ahead[0] = timedelta(seconds=seconds)
    clock.move(seconds=0.5)

    assert before is None
    assert steps.since_last_look() == ahead[0]
    assert steps.since_last_look() is None


def test_time_that_passes_and_a_clock_that_is_corrected_bit_by_bit_are_no_step() -> None:
    clock, ahead = HandClock(NOW), [timedelta(0)]
    steps = Steps(lambda: clock() + ahead[0], clock.monotonic)
    seen = []
    for seconds in (0.5, 3600, 0.5, 8 * 3600):
        clock.move(seconds=seconds)
        ahead[0] += STEP_MIN - timedelta(milliseconds=1)
        seen.append(steps.since_last_look())

    assert seen == [None] * 4
