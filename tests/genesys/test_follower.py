"""A tail shows each audit once, soon, within its share of requests, and forgets what is past."""

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.app import App, clock
from etl.config import load
from etl.errors import SourceBrokePromise, SourceUnavailable
from etl.genesys.follower import RECENT, Follower, FollowOptions, follow
from etl.genesys.realtime import RealtimePage, RecentAudits
from etl.operations.tail import MINUTE_SECONDS, Share, TailRequest, round_seconds, tail
from etl.simulator import AuditLog, Simulator
from etl.window import Window
from etl.wire import REALTIME_SERVICE_MAPPING_PATH
from tests.support import scripted_server as scripted
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment, start
from tests.support.hostile_organization import Waits
from tests.support.samples import BEGIN
from tests.support.simulated_organization import HandClock, audit

DAY = timedelta(days=1)
IDS = {"GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID, "GENESYSCLOUD_OAUTHCLIENT_SECRET": SECRET}


@dataclass
class Source:
    """A realtime query without HTTP: audits by number, each with its time and when it is visible.

    `counts` is off for a source that gives no totals, `closed` on for one whose interval includes
    its end, `page_max` small for one that finds pages too large.
    """

    audits: list[tuple[datetime, datetime]]
    now: datetime
    counts: bool = True
    closed: bool = False
    page_max: int = 500
    asked: int = 0
    sizes: list[int] = field(default_factory=list)

    def ask(self, window: Window, number: int, size: int) -> RealtimePage:
        self.asked += 1
        size = min(size, self.page_max)
        found = sorted(
            (at, n)
            for n, (at, visible) in enumerate(self.audits)
            if visible <= self.now and (at in window or (self.closed and at == window.end))
        )
        page = found[(number - 1) * size : number * size]
        self.sizes.append(len(page))
        records = tuple(json.dumps(audit(n, at)).encode() for at, n in page)
        return RealtimePage(records, size, len(found) if self.counts else None)


def numbers(records: Iterator[list[bytes]]) -> list[int]:
    return [int(json.loads(r)["id"][-12:]) for found in records for r in found]


def course(
    source: Source, rounds: int, *, since: datetime, reach: timedelta = DAY
) -> FollowOptions:
    """A tail of some rounds, a minute apart, on the source's own clock."""
    left = [rounds]

    def pause(seconds: float) -> bool:
        source.now += timedelta(seconds=seconds)
        left[0] -= 1
        return left[0] == 0

    return FollowOptions(
        since,
        reach,
        now=lambda: source.now,
        monotonic=lambda: (source.now - BEGIN).total_seconds(),
        round_seconds=lambda: 60.0,
        has_spare=lambda: True,
        pause=pause,
    )


_minutes = st.integers(0, 26 * 60)


@settings(deadline=None, max_examples=60)
@given(
    made=st.lists(st.tuples(_minutes, st.integers(0, 90)), max_size=60),
    counts=st.booleans(),
    closed=st.booleans(),
    page_max=st.sampled_from([1, 3, 500]),
)
@example(made=[(1416, 90)], counts=True, closed=True, page_max=1)  # late in a day without others
def test_each_audit_within_reach_is_shown_once(
    made: list[tuple[int, int]], counts: bool, closed: bool, page_max: int
) -> None:
    begun = BEGIN + 25 * timedelta(hours=1)
    audits = [
        (BEGIN + timedelta(minutes=at), BEGIN + timedelta(minutes=at + late)) for at, late in made
    ]
    source = Source(audits, begun, counts=counts, closed=closed, page_max=page_max)
    follower = Follower(source.ask, begun)

    shown = numbers(follow([follower], course(source, 190, since=begun, reach=DAY)))

    wanted = [
        n for n, (at, visible) in enumerate(audits) if visible > begun + RECENT or at >= begun
    ]
    assert len(shown) == len(set(shown))
    assert set(wanted) <= set(shown)
    assert all(audits[n][1] > begun or audits[n][0] >= begun for n in shown)


def test_what_there_is_since_the_start_comes_first_and_oldest_first() -> None:
    audits = [(BEGIN + timedelta(seconds=n), BEGIN) for n in range(3000)]
    source = Source(audits, BEGIN + timedelta(hours=1))

    shown = numbers(follow([Follower(source.ask, BEGIN)], course(source, 1, since=BEGIN)))

    assert shown == list(range(3000))


def test_more_audits_in_one_second_than_a_page_holds_are_all_shown() -> None:
    source = Source([(BEGIN, BEGIN)] * 1234, BEGIN + timedelta(minutes=1))

    shown = numbers(Follower(source.ask, BEGIN).scan(Window(BEGIN, BEGIN + DAY)))

    assert sorted(shown) == list(range(1234))


def test_a_quiet_round_is_one_request_and_one_late_audit_a_dozen_more() -> None:
    end = BEGIN + DAY
    audits = [(BEGIN + timedelta(seconds=8 * n), BEGIN) for n in range(10_000)]
    source = Source([*audits, (BEGIN + timedelta(hours=3), end + timedelta(minutes=9.5))], end)
    rounds = follow([Follower(source.ask, end)], course(source, 40, since=end))
    asked: list[int] = []
    for found in rounds:
        if found:
            break
        asked.append(int((source.now - end).total_seconds() // 60))

    assert asked.count(8) == 1
    assert asked.count(10) <= 12
    assert numbers(iter([found])) == [10_000]


def test_what_is_out_of_reach_is_forgotten() -> None:
    audits = [(BEGIN + timedelta(minutes=n), BEGIN) for n in range(2 * 24 * 60)]
    source = Source(audits, BEGIN + timedelta(hours=1))
    follower = Follower(source.ask, BEGIN)

    for _ in follow([follower], course(source, 8 * 60, since=BEGIN, reach=2 * RECENT)):
        kept = len(vars(follower)["_seen"]._seconds)
        assert kept <= 60 + 3 * RECENT.seconds / 60
    assert len(vars(follower)["_known"]) == 1


def test_a_service_that_is_not_wanted_is_not_shown() -> None:
    source = Source([(BEGIN, BEGIN)], BEGIN + DAY)

    for services, shown in ((frozenset({"ContactCenter"}), [0]), (frozenset({"Routing"}), [])):
        follower = Follower(source.ask, BEGIN, services)
        assert numbers(follower.scan(Window(BEGIN, BEGIN + DAY))) == shown


def test_a_record_without_an_id_is_shown_once() -> None:
    def ask(window: Window, number: int, size: int) -> RealtimePage:
        return RealtimePage((b'{"eventDate":"2026-03-01T00:00:00Z"}',), size, 1)

    follower = Follower(ask, BEGIN)

    shown = [found for _ in range(3) for found in follower.scan(Window(BEGIN, BEGIN + DAY))]

    assert shown == [[b'{"eventDate":"2026-03-01T00:00:00Z"}'], [], []]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3)), max_size=80), st.integers(1, 9))
def test_no_minute_has_more_requests_than_the_share(
    steps: list[tuple[float, int]], a_minute: int
) -> None:
    share, now = Share(), 0.0
    sent: list[float] = []
    for pause, _ in steps:
        now += pause
        now += share.wait(now, a_minute)
        assert share.wait(now, a_minute) == 0
        share.sent(now, 1)
        sent.append(now)

    assert all(
        sum(1 for at in sent if first <= at < first + MINUTE_SECONDS) <= a_minute for first in sent
    )


def test_quiet_rounds_leave_a_part_of_the_share() -> None:
    assert 60 / round_seconds(1, 60) * 2 == pytest.approx(36)


@dataclass
class Organisation:
    """A simulated organisation in real time, and the environment that leads there."""

    simulator: Simulator
    env: dict[str, str]

    @property
    def requests(self) -> int:
        return sum(self.simulator.requests.values())


@contextmanager
def serving(log: AuditLog) -> Iterator[Organisation]:
    simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET)
    with simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
        )
        yield Organisation(simulator, env)


#: Seconds at which audits become visible while a tail runs, after those of the day before.
_VISIBLE = {f"{n:012}": 5 + n / 4 for n in range(48)}


def eventful(now: datetime) -> AuditLog:
    """1500 audits of the day before, and those that become visible soon, early and late ones."""
    rng = random.Random(5)
    before = [
        (audit(1000 + n, now - rng.random() * DAY), now - timedelta(minutes=1)) for n in range(1500)
    ]
    during = []
    for number, seconds in enumerate(_VISIBLE.values()):
        visible = now + timedelta(seconds=seconds)
        late = timedelta(seconds=rng.choice([60, 3600, 80_000]) if number % 12 == 0 else 2)
        during.append((audit(number, visible - late), visible))
    return AuditLog.of([*before, *during])


@pytest.fixture
def busy() -> Iterator[tuple[Organisation, datetime]]:
    now = clock()
    with eventful(now) as log, serving(log) as organisation:
        yield organisation, now


@pytest.mark.parametrize("ahead", [-5, 0, 5, 24 * 400])
def test_an_audit_is_shown_within_seconds_of_becoming_visible(ahead: int) -> None:
    by_hand = HandClock()
    begun, stop = by_hand(), Waits(by_hand)
    shown: dict[str, float] = {}
    with eventful(begun) as log:
        simulator = Simulator(log=log, clock=by_hand, client_id=CLIENT_ID, client_secret=SECRET)
        with (
            simulator.serve() as url,
            App(
                load(None, {"GENESYSCLOUD_REGION": url} | IDS),
                stop=stop,
                now=lambda: by_hand() + timedelta(hours=ahead),
                monotonic=by_hand.monotonic,
            ) as app,
        ):
            for found in tail(app, TailRequest((), None, DAY, 0.2)):
                seconds = (by_hand() - begun).total_seconds()
                shown |= {json.loads(record)["id"][-12:]: seconds for record in found}
                if seconds > 30:
                    stop.set()

    assert shown.keys() == _VISIBLE.keys()
    assert max(shown[name] - _VISIBLE[name] for name in shown) < 5


@pytest.mark.slow
def test_a_tail_of_an_eventful_time_shows_each_audit_once_and_writes_nothing(
    busy: tuple[Organisation, datetime], tmp_path: Path
) -> None:
    organisation, begun = busy
    shown: set[str] = set()
    with start("tail", env=organisation.env, cwd=tmp_path) as process:
        assert process.stdout is not None
        patience = threading.Timer(100, process.kill)
        patience.start()
        while len(shown) < len(_VISIBLE):
            line = process.stdout.readline()
            assert line, sorted(_VISIBLE.keys() - shown)
            name = json.loads(line)["id"][-12:]
            assert name not in shown
            shown.add(name)
        patience.cancel()
        seconds = (clock() - begun).total_seconds()
        requests = organisation.requests
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")
    assert shown == _VISIBLE.keys()
    assert requests <= 60 * (1 + seconds // 60)
    assert list(tmp_path.iterdir()) == []


def test_a_tail_stays_within_its_share_however_much_there_is_to_see(
    busy: tuple[Organisation, datetime],
) -> None:
    organisation, _ = busy
    arguments = ["tail", "--since", "1d", "--share", "0.01"]
    with start(*arguments, env=organisation.env) as process:
        reader = threading.Thread(target=process.communicate)
        reader.start()
        while organisation.requests < 3:
            assert process.poll() is None
            time.sleep(0.01)  # noqa: TID251 - waits for another process
        time.sleep(2)  # noqa: TID251 - in which it could ask for a hundred pages
        process.send_signal(signal.SIGINT)
        reader.join(timeout=20)

    assert process.returncode == 0
    assert organisation.requests == 3


def test_a_signal_ends_a_tail_whose_reader_has_paused(
    busy: tuple[Organisation, datetime],
) -> None:
    organisation, _ = busy
    with start("tail", "--since", "1d", env=organisation.env) as process:
        while organisation.requests < 3:
            time.sleep(0.01)  # noqa: TID251 - waits for another process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_tail_ends_when_its_reader_is_gone(busy: tuple[Organisation, datetime]) -> None:
    organisation, _ = busy
    with start("tail", "--since", "2h", env=organisation.env) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_audits_of_one_action_are_shown_at_once(tmp_path: Path) -> None:
    now = clock()
    action = {"initiatingAction": {"transactionId": "t1"}}
    made = [audit(n, now - timedelta(hours=n), **action) for n in (1, 2)] + [audit(3, now)]
    with AuditLog.of([(record, now) for record in made]) as log, serving(log) as organisation:
        found = audit_etl("tail", "--related", made[0]["id"], env=organisation.env)
        unknown = audit_etl("tail", "--related", "nothing", env=organisation.env)

    assert sorted(json.loads(line)["id"] for line in found.stdout.splitlines()) == sorted(
        [made[0]["id"], made[1]["id"]]
    )
    assert unknown.returncode == 2
    assert "the last 14 days" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--service", "contactcenter"], "did you mean ContactCenter?"),
        (["--since", "20d"], "the last 14 days"),
        (["--reach", "20d"], "the last 14 days"),
        (["--share", "0"], "0<x<=1"),
    ],
)
def test_what_a_tail_cannot_do_is_said(arguments: list[str], says: str) -> None:
    with AuditLog.of([(audit(1, clock()), clock())]) as log, serving(log) as organisation:
        result = audit_etl("tail", *arguments, env=organisation.env)

    assert result.returncode == 2
    assert says in result.stderr


REALTIME = "POST /api/v2/audits/query/realtime"


def tailing(server: scripted.Organization, *services: str) -> list[dict[str, Any]]:
    """The questions of a tail that is stopped by its first records."""
    stop = threading.Event()
    with App(load(None, {"GENESYSCLOUD_REGION": server.url} | IDS), stop=stop) as app:
        request = TailRequest(services, clock() - timedelta(minutes=30), DAY, 1.0)
        for found in tail(app, request):
            if found:
                stop.set()
    return [json.loads(seen.body) for seen in server.seen if seen.line.startswith(REALTIME)]


def test_an_organisation_that_wants_a_service_is_asked_for_each() -> None:
    mapping = {"services": [{"name": "Routing"}, {"name": "Directory"}]}
    record = audit(1, clock() - timedelta(minutes=10))
    with scripted.organization() as server:
        server.script(REALTIME, scripted.error(400, "bad.request", "serviceName is required"))
        server.script(f"GET {REALTIME_SERVICE_MAPPING_PATH}", scripted.Reply(body=mapping))
        empty, full = ({"entities": e, "total": len(e)} for e in ([], [record]))
        server.script(REALTIME, scripted.Reply(body=empty), scripted.Reply(body=full))
        asked = tailing(server)

    assert [question.get("serviceName") for question in asked] == [None, "Directory", "Routing"]


def test_one_service_that_is_refused_does_not_end_a_tail_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mapping = {"services": [{"name": "Routing"}, {"name": "Directory"}]}
    record = audit(1, clock() - timedelta(minutes=10))
    with scripted.organization() as server:
        server.script(REALTIME, scripted.error(400, "bad.request", "serviceName is required"))
        server.script(f"GET {REALTIME_SERVICE_MAPPING_PATH}", scripted.Reply(body=mapping))
        server.script(REALTIME, scripted.error(403, "not.authorized", "Directory is closed"))
        server.script(REALTIME, scripted.Reply(body={"entities": [record], "total": 1}))
        asked = tailing(server)

    assert [question.get("serviceName") for question in asked] == [None, "Directory", "Routing"]
    assert "service Directory is not followed, the others are" in caplog.text


def test_an_organisation_without_a_service_to_name_cannot_be_followed() -> None:
    with scripted.organization() as server:
        server.script(REALTIME, scripted.error(400, "bad.request", "serviceName is required"))
        server.script(f"GET {REALTIME_SERVICE_MAPPING_PATH}", scripted.Reply(body={"services": []}))
        with pytest.raises(SourceBrokePromise, match="its service mapping names none"):
            tailing(server)


def test_a_page_that_passes_no_gateway_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    record = audit(1, clock() - timedelta(minutes=10))
    window = Window(clock().replace(microsecond=0) - DAY, clock().replace(microsecond=0))
    time = scripted.Time()
    with scripted.organization() as server, scripted.connected(server, time) as api:
        server.script(REALTIME, *[scripted.Reply(504)] * 3)
        server.script(REALTIME, scripted.Reply(body={"entities": [record], "total": 1}))
        glimpse = RecentAudits(api, expand_user=False).page(window, None, 1, 500)
        server.script(REALTIME, *[scripted.Reply(500)] * 3)
        with pytest.raises(SourceUnavailable):
            RecentAudits(api, expand_user=False).page(window, None, 1, 30)

    sizes = [json.loads(s.body)["pageSize"] for s in server.seen if s.line.startswith(REALTIME)]
    assert sizes == [500, 500, 250, 125, 30, 30, 25]
    assert (glimpse.page_size, glimpse.total, len(glimpse.records)) == (125, 1, 1)


def test_pages_that_are_too_large_are_halved() -> None:
    record = audit(1, clock() - timedelta(minutes=10))
    with scripted.organization() as server:
        server.script(REALTIME, scripted.Reply(body={"entities": [], "total": 0}))
        server.script(REALTIME, *[scripted.error(400, "response.entity.too.large")] * 2)
        server.script(REALTIME, scripted.Reply(body={"entities": [record], "total": 1}))
        asked = tailing(server)

    assert [question["pageSize"] for question in asked] == [1, 500, 250, 125]


def test_one_of_several_organisations_has_to_be_named() -> None:
    settings = {"REGION": "us-east-1", "CLIENT_ID": "made-up", "CLIENT_SECRET": SECRET}
    variables = {
        f"AUDIT_ETL_ORGANIZATIONS__{name}__{key}": value
        for name in ("ACME", "BETA")
        for key, value in settings.items()
    }

    result = audit_etl("tail", env=environment(**variables))

    assert result.returncode == 2
    assert "--organization: name one of acme, beta" in result.stderr
