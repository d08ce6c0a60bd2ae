"""Which windows a run asks for, and in which order.

Windows come in the order of time. One that fails is set aside, and the others are asked for. After
a failure the newest comes next as long as nothing was loaded: it tells a window that fails from an
organisation that fails. What was set aside is asked for in parts after all others.
"""

from collections import deque
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from etl.losses import Failed, Losses
from etl.model import OpenQuery
from etl.window import Window, first_piece, gaps, last_piece, piece_for

#: So many halves of failed windows may fail in a run. A minute that always fails is found within a
#: month by fifteen.
HALVES_MAX: Final = 20
#: So many spans that failed in earlier runs may fail again in one.
AGAIN_MAX: Final = 4


class Agenda:
    """The windows that are to be asked for.

    Args:
        spans: the time, in pieces that do not overlap.
        left: queries that come first, each for its own window, inside of `spans`.
        density: audits a second that recent windows held; see `piece_for`.
        longest: no window is longer.
    """

    def __init__(
        self,
        spans: Iterable[Window],
        left: Sequence[OpenQuery],
        density: Callable[[], float | None],
        longest: timedelta,
    ) -> None:
        taken = [query.window for query in left]
        self._left = deque(left)
        self._spans = [rest for span in spans for rest in gaps(taken, span)]
        self._density = density
        self._longest = longest

    def take(self, *, newest: bool) -> tuple[Window, OpenQuery | None] | None:
        """The window to ask for next, and the query that is open for it; None after the last."""
        if self._left:
            query = self._left.popleft()
            return query.window, query
        if not self._spans:
            return None
        number = max(range(len(self._spans)), key=lambda n: self._spans[n].end) if newest else 0
        span = self._spans[number]
        cut = last_piece if newest else first_piece
        window = cut(span, piece_for(self._density(), self._longest), self._longest)
        self._spans[number : number + 1] = gaps([window], span)
        return window, None


class Parts:
    """Halves of windows that failed, halves of those of them that fail, and so on.

    The newer half comes first. A refused window may be older than the organisation accepts, and so
    may all before it. So its older half waits for all others. If that is refused too, like the time
    after it, its own older half is asked for, as a sample. If even that is refused, all that is
    older is lost without being asked for.

    Args:
        losses: told of what is asked for, and of what is lost without.
        failures: windows that failed, the newest first.
    """

    def __init__(self, losses: Losses, failures: Iterable[Failed]) -> None:
        self._losses = losses
        self._waiting: deque[Failed] = deque()
        self._older: list[Failed] = []
        self._sample: Failed | None = None
        self._asked = _Kind.HALF
        newer: Failed | None = None
        for failed in failures:
            beside = newer is not None and newer.refused and newer.window.start == failed.window.end
            self._cut(failed, self._older if failed.refused and beside else self._waiting)
            newer = failed
        self._older.sort(key=lambda half: half.window)

    def take(self) -> Window | None:
        """The window to ask for next; None after the last."""
        if self._waiting:
            self._asked = _Kind.HALF
            return self._waiting.popleft().window
        if self._sample is not None:
            self._asked, sample, self._sample = _Kind.SAMPLE, self._sample, None
            return sample.window
        self._asked = _Kind.OLDER
        return self._older.pop().window if self._older else None

    def learn(self, failed: Failed | None) -> int:
        """How the window that was taken has failed, if it has; give how many have."""
        if failed is None:
            return 0
        halves = failed.window.halves()
        if self._asked is _Kind.SAMPLE and failed.refused:
            self._lose(self._older)
            self._older = []
        elif self._may_be_too_old(failed) and halves:
            self._losses.take_up(failed.window)
            self._sample = replace(failed, window=halves[0])
            self._older.append(replace(failed, window=halves[1]))
        else:
            self._cut(failed, self._waiting)
        return 1

    def give_up(self) -> None:
        """Nothing more is asked for: what was not is lost."""
        sample = [] if self._sample is None else [self._sample]
        self._lose([*self._waiting, *sample, *self._older])

    def _may_be_too_old(self, failed: Failed) -> bool:
        after = self._losses.has_refused_at(failed.window.end)
        return self._asked is _Kind.OLDER and failed.refused and after

    def _cut(self, failed: Failed, place: MutableSequence[Failed]) -> None:
        """Have a window's halves asked for, if it can be cut: the newer one at its `place`."""
        halves = failed.window.halves()
        if halves is None:
            return
        self._losses.take_up(failed.window)
        older, newer = (replace(failed, window=half) for half in halves)
        place.append(newer)
        (self._older if failed.refused else self._waiting).append(older)

    def _lose(self, parts: Iterable[Failed]) -> None:
        for part in parts:
            self._losses.lose(part)


class _Kind(Enum):
    """What was asked for: see `Parts`."""

    HALF = auto()
    OLDER = auto()
    SAMPLE = auto()
