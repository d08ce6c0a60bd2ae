"""What `status` draws on a terminal: a line of days for each stream, and a plot of audits a day."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from etl.ledger.coverage import Coverage

#: The worst first: it is what one character shows of several days.
SIGNS: Final = {
    Coverage.GAP: "░",
    Coverage.NOT_YET: "-",
    Coverage.PARTLY: "▒",
    Coverage.BEYOND_RETENTION: "·",
    Coverage.LOADED: "█",
}
LEGEND: Final = "  ".join(f"{sign} {coverage}" for coverage, sign in SIGNS.items())
_BARS: Final = "▁▂▃▄▅▆▇█"


def line_of_days(days: Sequence[tuple[date, Coverage]], width: int) -> str:
    """A character a day, with the first and the last day; several days a character if need be.

    Args:
        days: in order, at least one.
        width: of the terminal, in characters.
    """
    first, last = days[0][0].isoformat(), days[-1][0].isoformat()
    each = -(-len(days) // max(1, width - len(first) - len(last) - 2))
    worst = list(SIGNS)
    signs = [
        SIGNS[min((coverage for _, coverage in days[n : n + each]), key=worst.index)]
        for n in range(0, len(days), each)
    ]
    line = f"{first} {''.join(signs)} {last}"
    return _captioned(line, f"{each} days a character", width) if each > 1 else line


def plot(days: Sequence[date], counts: Mapping[date, int], what: str, width: int) -> str:
    """A bar for each day, and what the highest stands for; a day without any is blank.

    Args:
        days: in order, at least one.
        counts: of these days.
        what: is counted.
        width: of the terminal, in characters: a longer line is broken after its days.
    """
    highest = max((counts.get(day, 0) for day in days), default=0)
    if not highest:
        return _captioned(f"{days[0]} {' ' * len(days)} {days[-1]}", f"no {what}", width)
    bars = [
        _BARS[(count * len(_BARS) - 1) // highest] if (count := counts.get(day, 0)) else " "
        for day in days
    ]
    line = f"{days[0]} {''.join(bars)} {days[-1]}"
    return _captioned(line, f"at most {highest} {what} a day", width)


def _captioned(line: str, caption: str, width: int) -> str:
    """The line with what explains it, on a line of its own if it does not fit."""
    whole = f"{line}, {caption}"
    return whole if len(whole) <= width else f"{line},\n  {caption}"
