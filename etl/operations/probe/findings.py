"""What a probe finds: an expectation, the verdict on it, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """Whether an organisation does what audit-etl expects of it."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNKNOWN = "unknown"


#: What audit-etl expects, in the order of the report. A1 to A4 are ARCHITECTURE's.
EXPECTED: Final[Mapping[str, str]] = {
    "clock": "its clock and this machine's differ by a minute at most",
    "rate limit": "a token has at least 300 requests a minute",
    "interval length": "a query takes an interval as long as max_window",
    "all services": "a query that names no service shows them all",
    "queries": "a query succeeds within half an hour",
    "page size": "a page holds up to 500 audits",
    "large results": "a download is offered with status 302, without a location header",
    "order": "results come in the order of time, as asked for",
    "members": "an audit has the documented members, and no others",
    "usable audits": "each audit has an id and a time",
    "whole seconds": "times of audits are whole seconds",
    "ids (A1)": "an id stands for one audit",
    "times (A2)": "an audit's time never changes",
    "answers (A3)": "an answer has the audits of its interval, and again each of them later on",
    "lateness (A4)": "audits become visible within the lag",
    "interval start": "an interval includes the instant at which it starts",
    "interval end": "an interval leaves out the instant at which it ends",
    "last page": "the last page has no cursor",
    "realtime": "the realtime query takes no service, and shows audits that the export shows",
    "services": "a query is taken for each service by its name",
    "queries in a row": "dozens of queries may be created within a minute",
    "life of a query": "its results can be read as long as the probe looks",
    "life of a cursor": "it leads to the next page as long as the probe looks",
}

Measured = Mapping[str, int | float | bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one expectation.

    Attributes:
        about: its name, one of `EXPECTED`.
        verdict: what it came to.
        seen: what was seen, in words: counts, lengths and names of members, but no value that an
            audit holds.
        remedy: what to do about a contradiction; empty if there is none.
        measured: what makes the simulator do the same, by the names of its faults.
    """

    about: str
    verdict: Verdict
    seen: str
    remedy: str = ""
    measured: Measured = field(default_factory=dict)


def finding(
    about: str, ok: bool | None, seen: str, remedy: str = "", **measured: float | bool
) -> Finding:
    """A finding that confirms or contradicts; None leaves it unknown.

    Args:
        about: the expectation.
        ok: whether it was met.
        seen: see `Finding`.
        remedy: kept only for a contradiction.
        measured: kept only for a contradiction.
    """
    if ok is None:
        return Finding(about, Verdict.UNKNOWN, seen)
    if ok:
        return Finding(about, Verdict.CONFIRMED, seen)
    return Finding(about, Verdict.CONTRADICTED, seen, remedy, measured)


#: The remedy of a contradiction that does no harm.
NOTHING: Final = "nothing to change: audit-etl does not depend on it"
