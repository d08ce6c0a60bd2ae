"""The faults of a simulated organisation, each with its own switch, all off by default.

A fault is a member of `Faults` and a line where it strikes: `operation_faults` for a request, a
query or a page, `page_replacements` for a whole page, `record_faults` for a record and
`network_faults` for the bytes of an answer. The operations read the limits themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T", int, bool, str)

_SWITCH: Final = {"true": True, "yes": True, "on": True, "1": True, "": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)

_STATUSES: Final = {
    "server_error_status": (500, 502, 503, 504),
    "gateway_status": (413, 500, 502, 503, 504),
    "redirect_status": range(200, 400),
}
#: What may replace a page, see `page_replacements`.
NO_PAGES: Final = (
    "bare", "null", "state", "error", "values", "other", "realtime", "twice", "latin"
)  # fmt: skip
#: What the faults take whose values are words.
_CHOICES: Final = {
    "no_page_is": NO_PAGES,
    "bad_minute_does": ("fail", "refuse", "misshape", "break"),
}


class FaultDescription(NamedTuple):
    """A fault as help shows it; in what it does, N stands for its value."""

    name: str
    default: int | bool | str
    does: str


def _fault(default: T, does: str) -> T:
    """A member of `Faults`, told in one sentence without its subject's name."""
    made: Any = field(default=default, metadata={"does": does})
    return made  # type: ignore[no-any-return]  # `dataclass` takes it for the default


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which faults are on; `descriptions` tells what each member does.

    A number N of 0 is off. `_every` strikes each Nth request, query, download or audit, counted
    from the simulator's start: N=1 strikes each of them. With a `seed`, it strikes one in N at
    random instead, the same ones for the same seed. Pages are counted from 1 in each query.
    """

    seed: int = _fault(0, "`_every` strikes one in that many at random, by this seed")
    # requests, those for a token and for downloads included
    token_dies_after: int = _fault(0, "a token is refused with 401 after N requests")
    rate_limit: int = _fault(0, "N requests a minute are allowed to a token")
    too_many_requests_every: int = _fault(0, "each Nth request gets 429, its budget unspent")
    quota: int = _fault(0, "after N requests each gets 429 until retry_after seconds have passed")
    retry_after: int = _fault(1, "seconds that such a 429 asks for")
    retry_after_unsaid: bool = _fault(False, "a 429 has no Retry-After, only its text")
    retry_after_told: int = _fault(0, "seconds that a quota's 429 asks for, in place of the truth")
    reset_told: int = _fault(0, "seconds to a new minute by the headers, in place of the truth")
    server_error_every: int = _fault(0, "each Nth request gets server_error_status")
    server_error_status: int = _fault(503, "500, 502, 503 or 504")
    html_error_every: int = _fault(0, "each Nth request gets 502 with a page of HTML")
    html_page_every: int = _fault(0, "each Nth request gets 200 with a page of HTML")
    truncate_every: int = _fault(0, "each Nth answer's JSON is cut in half, its length as if whole")
    break_off_every: int = _fault(0, "the connection breaks in the middle of each Nth answer")
    reset_every: int = _fault(0, "each Nth request is done, its connection reset unanswered")
    stall_every: int = _fault(0, "each Nth answer comes only after stall_seconds")
    stall_seconds: int = _fault(300, "seconds of silence before such an answer")
    drip_every: int = _fault(0, "each Nth answer comes in drops over drip_seconds")
    drip_seconds: int = _fault(1800, "seconds that such an answer takes")
    # what is granted
    deny_permission: bool = _fault(False, "every request for audits gets 403 missing.permissions")
    token_info_status: int = _fault(0, "the question whose token it is gets this status, over 399")
    forbidden_service: str = _fault("", "a query for this service gets 403, one for all does not")
    realtime_named: bool = _fault(False, "a realtime query that names no service gets 400")
    new_service: str = _fault("", "a service that is unknown, and silent, until it appears")
    new_service_after: int = _fault(86_400, "seconds after the start when new_service appears")
    # queries
    interval_days: int = _fault(0, "an interval over N days is refused")
    include_interval_end: bool = _fault(False, "an interval includes the instant it ends at")
    exclude_interval_start: bool = _fault(False, "an interval lacks the instant it starts at")
    fail_query_every: int = _fault(0, "each Nth query ends Failed")
    cancel_query_every: int = _fault(0, "each Nth query ends Cancelled")
    stuck_query_every: int = _fault(0, "each Nth query is Running for ever")
    vanish_query_after_page: int = _fault(0, "a query is gone (404) once N pages of it were read")
    query_dies_after: int = _fault(0, "a query is gone (404) N seconds after it ended")
    other_time_every: int = _fault(0, "each Nth query answers about the day before its interval")
    shrink_again: bool = _fault(
        False, "of time that was read before only each tenth audit is shown"
    )
    refuse_days: int = _fault(0, "an interval that begins more than N days ago is refused")
    bad_minute: int = _fault(0, "the minute N minutes before the start spoils every query of it")
    bad_minutes: int = _fault(1, "so many minutes from then on do so")
    bad_minute_does: str = _fault("fail", "how: fail, refuse, misshape or break (500) its pages")
    # pages
    expire_cursor_every: int = _fault(0, "each Nth query's cursors are refused with 400")
    cursor_dies_after: int = _fault(0, "cursors are refused N seconds after their query ended")
    empty_page_with_cursor: int = _fault(0, "the Nth page of a query is empty, and more follow")
    last_page_with_cursor: bool = _fault(False, "the last page has a cursor to an empty page")
    repeat_cursor: int = _fault(0, "the Nth page's cursor leads to the Nth page again")
    repeat_page: int = _fault(0, "the Nth page comes again and again, each time with a new cursor")
    empty_pages_from: int = _fault(0, "from the Nth on pages are empty, and lead to more of them")
    no_page: int = _fault(0, "in place of a query's Nth page is something else, see no_page_is")
    no_page_every: int = _fault(0, "each Nth answer with a page is something else, see no_page_is")
    no_page_is: str = _fault(
        "bare",
        "bare, null, state, error, values, other (another query's page), realtime, twice (an empty "
        "list as well) or latin (no UTF-8)",
    )
    overlap: int = _fault(0, "a page begins with the last N records of the page before")
    shuffle: bool = _fault(False, "results are in no order, whatever was asked for")
    too_large_over: int = _fault(0, "a page of over N records gets 400 response.entity.too.large")
    gateway_over: int = _fault(0, "a page of over N records gets gateway_status with HTML")
    gateway_status: int = _fault(504, "413, 500, 502, 503 or 504")
    page_max: int = _fault(0, "a page holds N records at most, whatever is asked for")
    redirect_over: int = _fault(0, "more than N results are offered as downloads")
    redirect_status: int = _fault(302, "the status of such an offer, from 200 to 399")
    redirect_location: bool = _fault(False, "such an offer has a Location header as well")
    download_rows: int = _fault(5_000, "most records of one download")
    expire_download_every: int = _fault(0, "each Nth download's URL has expired")
    # audits
    late_every: int = _fault(0, "each Nth audit can be asked for late, by up to late_hours")
    late_hours: int = _fault(240, "hours that the latest of them are late")
    forget_days: int = _fault(0, "audits older than N days are forgotten")
    clock_ahead: int = _fault(0, "seconds that its clock is ahead of ours; behind, if negative")
    milliseconds: bool = _fault(False, "times of audits have milliseconds")
    twin_every: int = _fault(0, "each Nth audit is shown twice, with different content")
    huge_every: int = _fault(0, "each Nth audit weighs a megabyte more")
    odd_text_every: int = _fault(0, "each Nth audit has NUL, lone surrogates and bidi in its texts")
    absent_every: int = _fault(0, "each Nth audit lacks some of its members")
    null_every: int = _fault(0, "some members of each Nth audit are null")
    odd_type_every: int = _fault(0, "some members of each Nth audit are of another type")
    unknown_every: int = _fault(0, "each Nth audit has members and values that are not documented")
    unusable_every: int = _fault(0, "each Nth audit lacks its id or its time")

    @classmethod
    def parse(cls, assignments: Iterable[str], others: Faults | None = None) -> Faults:
        """Faults from texts such as `fail_query_every=3`, or `deny_permission` for a switch.

        Args:
            assignments: the texts; of two for one fault the later counts.
            others: give the faults that no text names.

        Raises:
            ValueError: a name is unknown (the message has the nearest right one) or a value does
                not fit it.
        """
        defaults = {fault.name: fault.default for fault in descriptions()}
        values: dict[str, int | bool | str] = {}
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            name = name.strip().replace("-", "_")
            if name not in defaults:
                raise ValueError(_unknown(name, list(defaults)))
            values[name] = _read(name, value.strip(), defaults[name])
        return replace(others or cls(), **values)  # type: ignore[arg-type]  # read by the defaults


def descriptions() -> Iterator[FaultDescription]:
    """Every fault, in the order of `Faults`."""
    usual = Faults()
    for member in fields(Faults):
        yield FaultDescription(member.name, getattr(usual, member.name), member.metadata["does"])


def strikes(faults: Faults, name: str, nth: int) -> bool:
    """Whether the fault `name`, one of those that end in `_every`, strikes the `nth` time."""
    every: int = getattr(faults, name)
    if every <= 0 or not faults.seed:
        return every > 0 and nth % every == 0
    chance = Random(f"{faults.seed} {name} {nth}").random()  # noqa: S311 - repeatable, no secret
    return chance * every < 1


def _unknown(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    return f"there is no fault {name!r}: {hint}"


def _read(name: str, value: str, default: object) -> int | bool | str:
    if isinstance(default, str):
        if value not in _CHOICES.get(name, (value,)):
            raise ValueError(f"the fault {name} takes one of {', '.join(_CHOICES[name])}")
        return value
    if isinstance(default, bool):
        if value.lower() not in _SWITCH:
            raise ValueError(f"the fault {name} is a switch: write {name}=true or {name}=false")
        return _SWITCH[value.lower()]
    digits = value.removeprefix("-") if name == "clock_ahead" else value
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"the fault {name} takes a number of 0 or more: write {name}=3")
    number = int(value)
    if name in _STATUSES and number not in _STATUSES[name]:
        *most, last = _STATUSES[name]
        few = f"{most[0]} to" if isinstance(_STATUSES[name], range) else f"{most}"[1:-1] + " or"
        raise ValueError(f"the fault {name} takes {few} {last}")
    return number
