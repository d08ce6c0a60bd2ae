"""When an organisation's audits happen, and when each can first be asked for.

Offices are busy on weekday mornings and afternoons and quiet at night and at weekends. Stamps are
whole seconds, as in every live record known; some fall on the edge of a minute, an hour or a day,
where windows meet.
"""

from bisect import bisect_right
from datetime import UTC, datetime
from itertools import accumulate
from math import exp, log
from random import Random
from typing import Final

from etl.simulator.entities import version_4

_HOUR: Final = 3600
#: How busy each hour of a day is.
_WORKDAY: Final = (
    *(2, 2, 2, 2, 2, 3, 6, 18, 40, 60, 62, 55),
    *(42, 50, 60, 58, 45, 28, 14, 8, 6, 5, 4, 3),
)
_WEEKEND: Final = tuple(max(1, weight // 8) for weight in _WORKDAY)
#: How often an instant is drawn back to the edge before it: a day's, an hour's, a minute's.
_EDGES: Final = ((0.002, 24 * _HOUR), (0.007, _HOUR), (0.02, 60))

_SOON_MS: Final = 170_000
_LATE_SECONDS: Final = (15 * 60, 10 * 24 * _HOUR)

ID_BITS: Final = 128


def event_keys(rng: Random, count: int, start: int, end: int) -> list[int]:
    """`count` sorted numbers, each a second of `[start, end)` above the 128 bits of an id.

    Args:
        rng: the only source of chance.
        start: seconds since 1970, inside.
        end: seconds since 1970, outside, later than `start`.
    """
    hours = range(start - start % _HOUR, end, _HOUR)
    bounds = list(accumulate(_weight(hour, start, end) for hour in hours))
    result: list[int] = []
    while len(result) < count:
        place = rng.random() * bounds[-1]
        hour = hours[min(bisect_right(bounds, place), len(hours) - 1)]
        first, last = max(hour, start), min(hour + _HOUR, end)
        second = max(start, _at_edge(rng, first + int(rng.random() * (last - first))))
        result.extend(
            second << ID_BITS | version_4(rng.getrandbits(ID_BITS)) for _ in range(_burst(rng))
        )
    return sorted(result[:count])


def delay_ms(rng: Random, late_share: float) -> int:
    """Milliseconds from an audit's time until it can be asked for.

    Up to three minutes; for `late_share` of the audits, from 0 to 1, between 15 minutes and ten
    days, short delays being more frequent.
    """
    if rng.random() < late_share:
        shortest, longest = _LATE_SECONDS
        return int(1000 * exp(log(shortest) + rng.random() * log(longest / shortest)))
    return 1000 + int(_SOON_MS * rng.random() ** 2)


def _weight(hour: int, start: int, end: int) -> float:
    moment = datetime.fromtimestamp(hour, UTC)
    weights = _WEEKEND if moment.weekday() >= 5 else _WORKDAY
    return weights[moment.hour] * (min(hour + _HOUR, end) - max(hour, start)) / _HOUR


def _at_edge(rng: Random, second: int) -> int:
    chance = rng.random()
    for share, length in _EDGES:
        if chance < share:
            return second - second % length
        chance -= share
    return second


def _burst(rng: Random) -> int:
    """One action in eight writes several audits at once."""
    return 1 if rng.random() < 0.875 else 2 + int(3 * rng.random())
