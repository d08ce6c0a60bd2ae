"""One organisation's realtime query: what is visible of the last 14 days, without waiting."""

from dataclasses import dataclass

from etl.errors import UsageError
from etl.genesys.audits import AuditApi
from etl.genesys.client.failures import Refused
from etl.genesys.paging import SIZE_FLOOR
from etl.window import Window
from etl.wire import RATE_PER_MINUTE


@dataclass(frozen=True, slots=True)
class RealtimePage:
    """One answer of the realtime query.

    Attributes:
        records: each audit's JSON, as received, oldest first.
        page_size: audits that it could have held: fewer than asked for if those were too large.
        total: audits of the whole window, as the organisation counts them; None if it does not.
    """

    records: tuple[bytes, ...]
    page_size: int
    total: int | None


class RecentAudits:
    """The realtime query of one organisation. See `Transport.call` for the errors."""

    def __init__(self, api: AuditApi, *, expand_user: bool) -> None:
        self._api = api
        self._expand_user = expand_user

    @property
    def requests_a_minute(self) -> int:
        """Requests that the token is granted: as its answers say, before that as documented."""
        return self._api.transport.budget.allowed or RATE_PER_MINUTE

    def services(self) -> frozenset[str]:
        """The services that the realtime query knows: by reports fewer than the others."""
        return frozenset(kind.service for kind in self._api.realtime_service_mapping())

    def page(
        self, window: Window, service: str | None, page_number: int, page_size: int
    ) -> RealtimePage:
        """The audits of `window` that are visible now, one page of them.

        Args:
            window: within the last 14 days, else less is shown.
            service: one service; None for all, which the contract allows and nobody has confirmed.
            page_number: from 1.
            page_size: up to 500; halved until the answer is not too large, or passes what stands
                before the organisation.

        Raises:
            Refused: the organisation does not take the question; its status is 400.
        """
        size = page_size

        def smaller(failures: int) -> int:
            nonlocal size
            size = max(min(page_size, SIZE_FLOOR), page_size >> max(0, failures - 1))
            return size

        while True:
            try:
                page, total = self._api.realtime(
                    window,
                    service,
                    page_number=page_number,
                    page_size=smaller,
                    expand_user=self._expand_user,
                )
            except Refused as error:
                if not error.refusal.too_large or size == 1:
                    raise
                page_size = size // 2
            else:
                return RealtimePage(page.records, size, total)

    def related(self, audit_id: str) -> tuple[bytes, ...]:
        """The audits that the same action wrote as the given one, that one included.

        Raises:
            UsageError: there is no such audit, or it is older than 14 days.
        """
        try:
            return self._api.related(audit_id, expand_user=self._expand_user).records
        except Refused as error:
            if error.refusal.status not in {400, 404}:
                raise
            raise UsageError(
                f"organisation {self._api.organization}: {error.refusal}; the realtime query shows "
                "audits of the last 14 days, of the services in its own mapping"
            ) from error
