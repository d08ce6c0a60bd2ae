"""A simulated organisation: its audits, limits, tokens and queries."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import compare_digest, token_hex
from typing import Final

from etl.simulator.catalogue import REALTIME_SERVICES, SERVICES
from etl.simulator.faults import Faults
from etl.simulator.log import AuditLog
from etl.simulator.log_view import LogView
from etl.simulator.operation_faults import Quota
from etl.simulator.query_request import QueryRequest
from etl.simulator.timestamps import milliseconds
from etl.simulator.tokens import Tokens
from etl.wire import INTERVAL_DAYS_MAX, QUEUED, RATE_PER_MINUTE, RUNNING

#: Made-up credentials that a simulated organisation accepts unless told otherwise.
CLIENT_ID: Final = "5e1f0a7e-0000-4000-8000-5151ab1e0000"
CLIENT_SECRET: Final = "simulated-secret-open-to-everyone"


def real_clock() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the simulator stands for a machine with its own clock


@dataclass(slots=True)
class Query:
    """An asynchronous query, its results fixed when it was created.

    Attributes:
        id: the transaction id.
        asked: what it asks for.
        positions: its results in the log, in the order asked for.
        created_ms: when it was created, milliseconds since 1970.
        ready_ms: when it ends.
        final_state: the state that it ends in; Running if it never ends.
        pages: how many pages were read.
        forgetful: its cursors are refused.
        spoilt: it includes the bad minute; see `Faults.bad_minute`.
    """

    id: str
    asked: QueryRequest
    positions: Sequence[int]
    created_ms: int
    ready_ms: int
    final_state: str
    pages: int = 0
    forgetful: bool = False
    spoilt: bool = False

    def state(self, now_ms: int) -> str:
        """How far it is: queued for a quarter of its time, then running, then what it ends in."""
        if now_ms >= self.ready_ms:
            return self.final_state
        queued_ms = (self.ready_ms - self.created_ms) // 4
        return QUEUED if now_ms < self.created_ms + queued_ms else RUNNING


@dataclass(frozen=True, slots=True)
class Download:
    """A part of a query's results, served without a token under its signature."""

    query: Query
    first: int
    last: int
    expires_ms: int


@dataclass(kw_only=True)
class Organization:
    """A simulated organisation.

    Attributes:
        log: its audits.
        clock: the time, aware, in UTC, by which its own clock goes, rightly or not. Everything
            that takes time is measured by it: queries, tokens, minutes of the rate limit. It may
            stand still.
        rest: lets seconds pass, for answers that take their time.
        client_id: the OAuth client that may ask.
        client_secret: its secret.
        organization_id: what the vendor calls it; that of its audits unless given.
        query_seconds: how long a query takes; 0 ends it before it is asked about.
        latency_seconds: how long each request is on its way before it is looked at.
        token_seconds: how long a token is good.
        allowed_per_minute: requests a minute that a token may make.
        answer_at_once: creating a query already tells how it ended (200 instead of 202).
        faults: what goes wrong; may be replaced at any time.
        requests: how often each operation was asked for, granted or not.
    """

    log: AuditLog
    clock: Callable[[], datetime] = real_clock
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep
    client_id: str = CLIENT_ID
    client_secret: str = field(default=CLIENT_SECRET, repr=False)
    organization_id: str = ""
    query_seconds: float = 0.0
    latency_seconds: float = 0.0
    token_seconds: int = 86_400
    allowed_per_minute: int = RATE_PER_MINUTE
    answer_at_once: bool = False
    faults: Faults = Faults()  # noqa: RUF009 - it is frozen
    requests: Counter[str] = field(default_factory=Counter, init=False)
    tokens: Tokens = field(default_factory=Tokens, init=False, repr=False)
    queries: dict[str, Query] = field(default_factory=dict, init=False, repr=False)
    downloads: dict[str, Download] = field(default_factory=dict, init=False, repr=False)
    asked: int = field(default_factory=int, init=False)
    quota: Quota = field(default_factory=Quota, init=False, repr=False)
    began_ms: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.began_ms = self.now_ms()
        self.organization_id = self.organization_id or self.log.organization_id

    def now(self) -> datetime:
        """The time by its clock."""
        return self.clock() + timedelta(seconds=self.faults.clock_ahead)

    def now_ms(self) -> int:
        """Milliseconds since 1970 by its clock."""
        return milliseconds(self.now())

    def view(self) -> LogView:
        """Its audits as they are shown now."""
        return LogView(self.log, self.faults, self.now_ms(), self.began_ms)

    def truth(self, start: datetime, end: datetime) -> Iterator[list[bytes]]:
        """Every audit of `[start, end)` that can be asked for now, in all forms it is shown in."""
        view = self.view()
        for position in view.between(milliseconds(start), milliseconds(end), None):
            yield view.forms(position)

    @property
    def allowed(self) -> int:
        """Requests a minute that a token may make now."""
        return self.faults.rate_limit or self.allowed_per_minute

    @property
    def days_max(self) -> int:
        """Days that an interval may have."""
        return self.faults.interval_days or INTERVAL_DAYS_MAX

    @property
    def services(self) -> frozenset[str]:
        """Every service that may be asked for."""
        known = frozenset(service.name for service in SERVICES) | self.log.services
        return frozenset(filter(self.view().has, known))

    @property
    def realtime_services(self) -> frozenset[str]:
        """Services that the realtime query knows: those unknown to the catalogue are among them."""
        return self.services - {s.name for s in SERVICES if s.name not in REALTIME_SERVICES}

    def knows(self, client_id: str, client_secret: str) -> bool:
        """Whether these are the client's id and secret."""
        return compare_digest(client_id.encode(), self.client_id.encode()) and compare_digest(
            client_secret.encode(), self.client_secret.encode()
        )

    def sign(self, download: Download) -> str:
        """A signature under which the download can be fetched."""
        signature = token_hex(32)
        self.downloads[signature] = download
        return signature
