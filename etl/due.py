"""What is due: how far an export may go, and what a run asks for, in which order. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.model import FailedWindow, Watermark
from etl.window import CLOCKS_AGREE, Window, advance, floor_second, gaps, spanning, without


class Lookback(NamedTuple):
    """How much loaded time a schedule asks for again.

    Attributes:
        schedule: its name.
        length: how far back from the end of what is loaded.
        asked: windows whose query was created since the schedule last fired.
    """

    schedule: str
    length: timedelta
    asked: Sequence[Window] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """What a run asks for.

    Attributes:
        schedule: the one that asks for the most.
        spans: in the order in which to ask, none of them twice.
        failed: what failed in earlier runs and was not loaded since, asked for after all others.
    """

    schedule: str
    spans: list[Window]
    failed: list[FailedWindow]


def horizon(theirs: datetime, ours: datetime, lag: timedelta) -> datetime:
    """The latest instant that a window may end at: `lag` before now.

    Now is the organisation's time, which its audits are stamped in: a window that reached into its
    future would be recorded as loaded before its audits exist. A clock of ours that is a little
    behind may be right, and is held to; one that is far behind is wrong.
    """
    a_little_behind = timedelta(0) < theirs - ours <= CLOCKS_AGREE
    return floor_second((ours if a_little_behind else theirs) - lag)


def loaded_to(watermark: Watermark, loaded: Iterable[Window]) -> datetime:
    """The end of all that has a receipt: the watermark, or later if there is a gap at it.

    Args:
        loaded: windows with a receipt that lie after the watermark.
    """
    return max([watermark.reached, *(window.end for window in loaded)])


def due(
    watermark: Watermark,
    loaded: Sequence[Window],
    failed: Sequence[FailedWindow],
    until: datetime,
    shortest: Lookback,
    longer: Iterable[Lookback],
) -> Due:
    """What to ask for: new time first, with the shortest lookback, then gaps, then other lookbacks.

    What was loaded beyond a gap is not asked for again, though the watermark stays at the gap.

    Args:
        watermark: where the stream starts, and how far it is sure.
        loaded: windows with a receipt that lie after the watermark.
        failed: windows that failed in earlier runs and were not loaded since.
        until: the horizon.
        shortest: goes with new time; what was asked since its last firing does not matter.
        longer: the others, the shortest first; each asks for what was not asked since its firing.
    """
    last = loaded_to(watermark, loaded)
    recent = spanning(max(watermark.begins_at, last - shortest.length), until)
    spans = [*recent, *without(without(spanning(watermark.reached, last), loaded), recent)]
    schedule = shortest.schedule
    for lookback in longer:
        missing = unasked(lookback, watermark.begins_at, last)
        if missing:
            schedule, spans = lookback.schedule, [*spans, *without(missing, spans)]
    refused = refused_to(failed, watermark)
    return Due(
        schedule,
        without(spans, (one.window for one in failed)),
        [replace(one, excused=one.window.end <= refused) for one in failed],
    )


def unasked(lookback: Lookback, begin: datetime, last: datetime) -> list[Window]:
    """The part of a lookback from `last` on that no query since the schedule's firing asked for."""
    return [
        gap
        for span in spanning(max(begin, last - lookback.length), last)
        for gap in gaps(lookback.asked, span)
    ]


def refused_to(failed: Iterable[FailedWindow], watermark: Watermark) -> datetime:
    """Up to where the organisation refuses to be asked, from the stream's beginning on: too old."""
    return advance(watermark.begins_at, (one.window for one in failed if one.refused))
