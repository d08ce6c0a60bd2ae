"""What the audits of an answer show: their order, their members, their times and ids."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from etl.operations.probe.findings import NOTHING, Finding, finding
from etl.operations.probe.inquiry import Answered, Shown
from etl.records import MEMBERS

#: Names of members that are told: those that a program would give.
_MEMBER: Final = re.compile(r"[a-z][A-Za-z]{0,39}")


def looked_at(answered: Answered) -> Iterator[Finding]:
    """What the audits of a page show; without any, nothing."""
    audits, count = answered.shown, len(answered.shown)
    if not count:
        return
    yield _members(audits)
    unusable = sum(audit.id is None for audit in audits)
    yield finding(
        "usable audits", not unusable, f"{unusable} of {count} have none",
        "look at audit_rejects: what cannot be a row is kept there",
        unusable_every=count // max(1, unusable),
    )  # fmt: skip
    times = [audit.at for audit in audits if audit.at is not None]
    if not times:
        return
    disorder = sum(later < earlier for earlier, later in pairwise(times))
    yield finding(
        "order", None if len(set(times)) == 1 else not disorder,
        f"{disorder} of {len(times)} audits are earlier than the one before",
        NOTHING, shuffle=True,
    )  # fmt: skip
    fine = sum(moment.microsecond > 0 for moment in times)
    yield finding(
        "whole seconds", not fine, f"{fine} of {len(times)} have milliseconds",
        "nothing to change: times are kept to the millisecond", milliseconds=True,
    )  # fmt: skip


def ids_of(audits: Sequence[Shown]) -> Finding:
    """Whether an id stands for two audits in one answer."""
    contents: dict[str, set[bytes]] = {}
    for audit in audits:
        if audit.id is not None:
            contents.setdefault(audit.id, set()).add(audit.raw)
    twice = sum(len(records) > 1 for records in contents.values())
    return finding(
        "ids (A1)", not twice if contents else None,
        f"{twice} of {len(contents)} ids stand for two audits",
        "please report it: of two audits with one id the first is kept",
        twin_every=len(audits) // max(1, twice),
    )  # fmt: skip


def outside(answered: Answered) -> int:
    """How many audits of an answer are not of its interval; one at its end is."""
    window = answered.window
    return sum(
        audit.at is not None and not window.start <= audit.at <= window.end
        for audit in answered.shown
    )


def _members(audits: Sequence[Shown]) -> Finding:
    odd = [audit.members - MEMBERS for audit in audits]
    struck = sum(map(bool, odd))
    names = sorted({name for found in odd for name in found if _MEMBER.fullmatch(name)})
    kept = f" ({', '.join(names[:20])})" if names else ""
    return finding(
        "members", not struck, f"{struck} of {len(audits)} audits have other members",
        f"nothing to change: the column raw keeps them{kept}; please report them",
        unknown_every=len(audits) // max(1, struck),
    )  # fmt: skip
