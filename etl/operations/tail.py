"""`tail`: an organisation's realtime query followed, within a share of its rate budget."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from math import floor
from typing import Final, TypeVar

from etl.app import App
from etl.errors import AuditEtlError, NotPermitted, SourceBrokePromise, Stopped, UsageError
from etl.genesys.client.failures import Refused
from etl.genesys.follower import RECENT, Ask, Follower, FollowOptions, follow
from etl.genesys.realtime import RealtimePage
from etl.operations.selection import only_organization
from etl.window import WINDOW_MIN, Window, floor_second, format_duration
from etl.wire import REALTIME_DAYS

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: Is told of an organisation, a service of it and why that is left out.
LeftOut = Callable[[str, str, object], None]

#: What the realtime query can be asked for, less what passes while it is asked.
REACH_MAX: Final = timedelta(days=REALTIME_DAYS) - timedelta(hours=1)

#: The part of the share that rounds may take, and the part that finding late audits leaves free.
ROUNDS_PART: Final = 0.6
SPARE_PART: Final = 0.1
#: A request counts for a minute, and a part of a second for what was under way when it began.
MINUTE_SECONDS: Final = 60.5
#: Longer than that, so that what was waited for has passed, however the sum is rounded.
WAIT_SECONDS: Final = 61.0


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What a tail shall show.

    Attributes:
        services: only these; none for all that the realtime query knows.
        since: audits of that time or later; None for the organisation's now.
        reach: how late an audit may become visible to be shown all the same.
        share: the part of the organisation's rate budget that may be asked for, over 0, up to 1.
    """

    services: Sequence[str]
    since: datetime | None
    reach: timedelta
    share: float


def tail(app: App, request: TailRequest) -> Iterator[list[bytes]]:
    """Records that became visible, each once, after each request; ends when a signal asks for it.

    Raises:
        UsageError: the realtime query does not know a service, or does not go so far back; or
            several organisations are configured, and none of them is chosen.
        AuditEtlError: the organisation cannot be asked; see `Transport.call`.
    """
    organization = only_organization(app)
    now = app.time_of(organization)
    for word, length in (("--since", now - (request.since or now)), ("--reach", request.reach)):
        if length > REACH_MAX:
            raise UsageError(
                f"{word} {format_duration(length)}: the realtime query shows the last "
                f"{REALTIME_DAYS} days, {format_duration(REACH_MAX)} can be asked for; "
                "`audit-etl query` knows what was before"
            )
    try:
        yield from _followed(app, organization, request)
    except Stopped:
        return


def related(app: App, audit_id: str) -> tuple[bytes, ...]:
    """The audits that the same action wrote as the given one; see `RecentAudits.related`."""
    return app.source(only_organization(app)).recent.related(audit_id)


def _followed(app: App, organization: str, request: TailRequest) -> Iterator[list[bytes]]:
    left_out = None if request.services else _not_followed
    asking = Asking(app, organization, request.share, left_out)
    questions = asking.questions(request.services)
    wanted = frozenset(request.services) if request.services else None
    since = floor_second(min(request.since or asking.now(), asking.now()))
    followers = [Follower(asking.of(service), since, wanted) for service in questions]
    _LOG.info(
        "organisation %s: %d question(s), at most %d requests a minute, audits up to %s late",
        organization,
        len(questions),
        asking.a_minute,
        format_duration(request.reach),
    )
    options = FollowOptions(
        since=since,
        reach=max(request.reach, 2 * RECENT),
        now=asking.now,
        monotonic=app.monotonic,
        round_seconds=lambda: round_seconds(len(followers), asking.a_minute),
        has_spare=asking.has_spare,
        pause=app.stop.wait,
    )
    yield from follow(followers, options)


class Asking:
    """Asks one organisation's realtime query, no more often than its share allows.

    Args:
        share: see `TailRequest`.
        left_out: told of a service that the realtime query does not know, or refuses, and why; the
            others go on. None if that is an error.
    """

    def __init__(self, app: App, organization: str, share: float, left_out: LeftOut | None) -> None:
        self._app = app
        self._organization = organization
        self._source = app.source(organization)
        self._share_of = share
        self._share = Share()
        self._left_out = left_out
        self._questions: list[str | None] = [None]
        self._refused: set[str] = set()

    @property
    def a_minute(self) -> int:
        """Requests that may be sent in any minute."""
        return max(1, floor(self._share_of * self._source.recent.requests_a_minute))

    def has_spare(self) -> bool:
        """Whether there is room for a request beyond what the rounds need."""
        return self._share.count(self._app.monotonic()) < (1 - SPARE_PART) * self.a_minute

    def now(self) -> datetime:
        """The organisation's time."""
        return self._source.now()

    def questions(self, wanted: Sequence[str]) -> list[str | None]:
        """The services to ask for, one question each; None asks for all at once.

        Several services are one question too, unless the organisation wants a service named.
        """
        self._held(self._source.sign_in)  # the later questions are about the organisation's time
        self._questions = [None] if not wanted and self._takes_all() else self._named(wanted)
        return self._questions

    def _named(self, wanted: Sequence[str]) -> list[str | None]:
        known = self._held(self._source.recent.services)
        if not known and not wanted:
            raise SourceBrokePromise(
                f"organisation {self._organization}: the realtime query wants a service named and "
                "its service mapping names none; please report it"
            )
        asked: list[str | None] = []
        for service in dict.fromkeys(wanted or sorted(known)):
            if service in known:
                asked.append(service)
            elif self._left_out is None:
                raise UsageError(_unknown(service, sorted(known)))
            else:
                self._tell_of(service, "the realtime query does not know it")
        return [None] if len(asked) > 1 and wanted and self._takes_all() else asked

    def _tell_of(self, service: str, why: object) -> None:
        if self._left_out and self._app.first_time("left out", self._organization, service):
            self._left_out(self._organization, service, why)

    def of(self, service: str | None) -> Ask:
        """The question for one service, or for all."""

        def ask(window: Window, number: int, size: int) -> RealtimePage:
            try:
                page = self._held(lambda: self._source.recent.page(window, service, number, size))
            except (Refused, NotPermitted) as error:
                if service is None or not self._may_leave_out(service, error):
                    raise
                self._tell_of(service, error)
                return RealtimePage((), size, 0)
            self._refused.discard(service or "")
            return page

        return ask

    def _may_leave_out(self, service: str, error: AuditEtlError) -> bool:
        """Whether others go on without that service: whose refusal may be about it alone."""
        cause = error if isinstance(error, Refused) else error.__cause__
        if not isinstance(cause, Refused) or cause.refusal.status not in {400, 403}:
            return False
        self._refused.add(service)
        return self._left_out is not None and len(self._refused) < len(self._questions)

    def _takes_all(self) -> bool:
        """Whether the organisation answers a question that names no service."""
        end = floor_second(self.now())
        try:
            self.of(None)(Window(end - WINDOW_MIN, end), 1, 1)
        except Refused as error:
            if error.refusal.status != 400:
                raise
            if self._app.first_time("named", self._organization):
                _LOG.warning("%s: each service is asked for by itself, which takes longer", error)
            return False
        return True

    def _held(self, request: Callable[[], T]) -> T:
        """Do `request` once the share has room for it; count what it cost.

        Raises:
            Stopped: a signal asked to stop meanwhile.
        """
        while (wait := self._share.wait(self._app.monotonic(), self.a_minute)) > 0.0:
            if self._app.stop.wait(wait):
                raise Stopped("stopped as asked")
        before, at = self._source.requests, self._app.monotonic()
        try:
            return request()
        finally:
            self._share.sent(at, self._source.requests - before)


def _not_followed(organization: str, service: str, why: object) -> None:
    _LOG.warning(
        "organisation %s: service %s is not followed, the others are: %s",
        organization,
        service,
        why,
    )


def _unknown(service: str, known: Sequence[str]) -> str:
    near = get_close_matches(service, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
    return (
        f"--service {service}: the realtime query does not know it, and upper and lower case "
        f"matter; {hint}"
    )


class Share:
    """Requests held to a number in any minute, by the monotonic clock."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque()

    def count(self, now: float) -> int:
        """How many were sent in the last minute."""
        while self._sent and self._sent[0] <= now - MINUTE_SECONDS:
            self._sent.popleft()
        return len(self._sent)

    def wait(self, now: float, a_minute: int) -> float:
        """Seconds until another request may be sent; 0 if it may now."""
        if self.count(now) < a_minute:
            return 0.0
        return self._sent[-a_minute] + WAIT_SECONDS - now

    def sent(self, now: float, count: int) -> None:
        """Note that `count` requests were sent by `now`."""
        self._sent.extend(itertools.repeat(now, count))


def round_seconds(questions: int, a_minute: int) -> float:
    """How long a round takes at least: in each, a question costs a request, or two with news."""
    return 60 * 2 * questions / (ROUNDS_PART * a_minute)
