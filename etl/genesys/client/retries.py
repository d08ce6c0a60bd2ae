"""Timeouts, retries and polling: all the client's numbers in one value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from etl.genesys.client.failures import Failure, NoAnswer


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the client goes on when an organisation is slow, absent or asks it to wait.

    Attributes:
        connect_seconds: to reach a host.
        read_seconds: between two parts of an answer.
        answer_seconds: from the end of a request to the end of its answer.
        download_seconds: the same for a download: 8 GiB at 2 MB a second take no longer.
        first_pauses: seconds between the attempts at a host that never answered before.
        outage_pauses: seconds between attempts while a host that did answer is down, one for each
            `outage_step` of the outage, the last to its end. These are the vendor's own SDK's.
        outage_step: seconds after which the next of `outage_pauses` counts.
        outage_seconds: length of an outage after which a request fails.
        brief_tries: attempts at a request that fails with 408, 500 or another unusual server error,
            or whose answer is JSON but not what the contract promises.
        rate_seconds: no request waits longer for the rate limit, all its waits added up; the
            vendor's SDK gives up there too.
        rate_pause_min: seconds to wait at least after a first 429, whatever it says; after each
            further one twice as long.
        poll_first: seconds before the first poll, while nothing is known of how long queries take.
        poll_growth: by what each further pause is longer.
        poll_pause_max: seconds that no pause is longer than.
        poll_first_max: seconds that no first pause is longer than, however slow queries are.
        poll_seconds: of waiting after which a query fails.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    answer_seconds: float = 300.0
    download_seconds: float = 4200.0
    first_pauses: tuple[float, ...] = (1.0, 2.0)
    outage_pauses: tuple[float, ...] = (3.0, 9.0, 27.0)
    outage_step: float = 300.0
    outage_seconds: float = 900.0
    brief_tries: int = 3
    rate_seconds: float = 180.0
    rate_pause_min: float = 1.0
    poll_first: float = 0.5
    poll_growth: float = 1.5
    poll_pause_max: float = 10.0
    poll_first_max: float = 60.0
    poll_seconds: float = 1800.0

    @property
    def timeout(self) -> tuple[float, float]:
        """The connect and the read timeout, as `requests` takes them."""
        return self.connect_seconds, self.read_seconds

    def poll_pauses(self, expected: float | None) -> Iterator[float]:
        """The pauses between the polls of one query, without end.

        Args:
            expected: seconds that queries of this client took of late; None if it saw none. The
                first poll then comes a little before that, so that a query that is faster than the
                last ones shows it.
        """
        pause = self.poll_first
        if expected is not None:
            pause = max(self.poll_first, min(0.95 * expected, self.poll_first_max))
            yield pause
            pause = max(self.poll_first, pause / 4)
        while True:
            yield min(pause, self.poll_pause_max)
            pause = min(pause * self.poll_growth, self.poll_pause_max)


#: Answers that a whole deployment gives while it is down.
_OUTAGE: Final = frozenset({502, 503, 504})


class Retries:
    """What one call has used of its patience, by the monotonic clock."""

    def __init__(self, patience: Patience, monotonic: Callable[[], float]) -> None:
        self._patience = patience
        self._monotonic = monotonic
        self._outage_began: float | None = None
        self._paused = 0.0
        self._first = 0
        self._brief = 0
        self._rate_pause = patience.rate_pause_min
        self._rate_paused = 0.0

    def pause_after(self, failure: Failure, *, answered: bool) -> float | None:
        """Seconds to wait before the next attempt; None if there should be none.

        Args:
            failure: what the last attempt came to.
            answered: whether the host has ever answered this client.
        """
        if isinstance(failure, NoAnswer):
            return self._in_outage() if answered else self._at_first()
        if failure.status == 429:
            return self._rate_limited(failure.retry_after)
        if failure.status in _OUTAGE:
            return self._in_outage()
        if failure.may_be_its_size or failure.misshapen:
            return self._briefly()
        return None

    def _at_first(self) -> float | None:
        self._first += 1
        pauses = self._patience.first_pauses
        return pauses[self._first - 1] if self._first <= len(pauses) else None

    def _briefly(self) -> float | None:
        self._brief += 1
        return self._patience.outage_pauses[0] if self._brief < self._patience.brief_tries else None

    def _in_outage(self) -> float | None:
        now = self._monotonic()
        if self._outage_began is None:
            self._outage_began = now
        # The monotonic clock may stand still in a pause; what we waited for has passed.
        elapsed = max(now - self._outage_began, self._paused)
        if elapsed >= self._patience.outage_seconds:
            return None
        pauses = self._patience.outage_pauses
        pause = pauses[min(int(elapsed // self._patience.outage_step), len(pauses) - 1)]
        self._paused += pause
        return pause

    def _rate_limited(self, retry_after: float | None) -> float | None:
        least = max(self._patience.rate_pause_min, retry_after or 0.0)
        left = self._patience.rate_seconds - self._rate_paused
        if least > left:
            return None
        pause = min(max(least, self._rate_pause), left)
        self._rate_pause *= 2
        self._rate_paused += pause
        return pause
