"""Whether each service may be asked for by its name."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from etl.errors import NotPermitted, RateLimited
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import Inquiry, Shown
from etl.window import Window
from etl.wire import CANCELLED, FAILED

#: So many queries one after the other are more than a run ever creates within a minute.
_MANY: Final = 24


def services(
    inquiry: Inquiry, names: Sequence[str], window: Window, left: Callable[[], int]
) -> Iterator[Finding]:
    """Whether each service may be asked for by its name.

    Args:
        inquiry: asks.
        names: of the services, those that are shown least often first.
        window: a short one.
        left: how many requests may still be spent on it.
    """
    asked, failed, refused = 0, 0, []
    for name in names:
        if left() <= 0:
            break
        try:
            state = inquiry.api.create_query(window, name).state
        except (NotPermitted, Refused):
            refused.append(name)
        except RateLimited:
            break
        else:
            failed += state in {FAILED, CANCELLED}
        asked += 1
    limits = inquiry.limited
    yield finding(
        "queries in a row",
        False if limits else None if asked < _MANY else True,
        f"{asked} were created, and {limits} requests of the probe were answered with 429",
        "nothing to change: audit-etl waits as it is told",
        quota=max(1, asked),
    )
    rest = len(names) - asked
    yield finding(
        "services",
        False if refused else None if failed or rest or not names else True,
        f"{len(refused)} of {asked} were refused, {failed} failed, {rest} were not asked for",
        f"export all services as *, or leave out {', '.join(refused)}",
        refused_services=len(refused),
    )


def least_shown_first(names: Collection[str], audits: Sequence[Shown]) -> list[str]:
    """The services, those first of which the sample shows fewest audits."""
    counts = Counter(audit.service for audit in audits)
    return sorted(names, key=lambda name: (counts[name], name))
