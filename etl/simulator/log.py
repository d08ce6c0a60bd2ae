"""The audits of an organisation, on disk as ready JSON, found by time, service and visibility.

They lie in one unnamed temporary file in the order of time and id, with a comma after each: a page
of neighbours is a slice of that file. A million audits take 1.6 GB there and little memory.
"""

from __future__ import annotations

import json
import mmap
import re
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from operator import le
from typing import Any, Final, Self

from etl.simulator.entities import uuid, version_4
from etl.simulator.generation import Entry, entries
from etl.simulator.shapes import encoded
from etl.simulator.timestamps import milliseconds, read_instant

Record = dict[str, Any]

_CHUNK: Final = 2000
_HOME: Final = re.compile(rb'"userHomeOrgId":"([0-9a-f-]{36})"')


class AuditLog:
    """A fixed set of audits, each with the moment from which it can be asked for.

    Positions are counted from 0 in the order of time and id. Close it, or use it as a context, to
    give the disk space back.
    """

    def __init__(self, ordered: Iterable[Entry]) -> None:
        """Write down `ordered`, which must be in the order of time."""
        self._events = array("q")
        self._visible = array("q")
        self._offsets = array("q", [0])
        self._services: dict[str, array[int]] = {}
        with tempfile.TemporaryFile(prefix="audit-etl-simulator-") as file:
            waiting: list[bytes] = []
            for entry in ordered:
                self._note(entry)
                waiting.append(entry.record)
                if len(waiting) == _CHUNK:
                    file.write(b",".join(waiting) + b",")
                    waiting.clear()
            file.write(b",".join(waiting) + b",")
            file.flush()
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @classmethod
    def generate(
        cls,
        *,
        seed: int = 1,
        count: int = 10_000,
        start: datetime,
        end: datetime,
        late_share: float = 0.02,
    ) -> Self:
        """Make up `count` audits of `[start, end)`; the same arguments make the same bytes.

        Args:
            seed: chooses the organisation and what happens in it.
            start: with a time zone; no audit is earlier.
            end: with a time zone, later than `start`; every audit is earlier. It may lie in the
                future: a simulator that runs then goes on producing audits.
            late_share: how many audits can be asked for only 15 minutes to ten days after their
                time, from 0 to 1; the others can within three minutes.

        Raises:
            ValueError: `end` is not at least a second later than `start`, or a number is outside
                its range.
        """
        first, last = milliseconds(start) // 1000, milliseconds(end) // 1000
        if last <= first:
            raise ValueError(f"audits need some time to happen in, not {start} to {end}")
        if count < 0 or not 0 <= late_share <= 1:
            raise ValueError("give a count of 0 or more and a late share from 0 to 1")
        return cls(entries(seed, count, first, last, late_share))

    @classmethod
    def of(cls, records: Iterable[tuple[Mapping[str, object] | bytes, datetime]]) -> Self:
        """Exactly these audits, each with the time from which it can be asked for.

        A record is a mapping, or JSON text in UTF-8 that is served as it is. One without a readable
        `eventDate` is found by the time it becomes visible at.
        """
        return cls(
            sorted(
                (_entry(record, at) for record, at in records), key=lambda e: (e.event_ms, e.record)
            )
        )

    def __len__(self) -> int:
        return len(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def services(self) -> frozenset[str]:
        """Names of the services that wrote these audits."""
        return frozenset(self._services)

    @property
    def organization_id(self) -> str:
        """The organisation that the first audit names; if it names none, one made of its text."""
        first = self.one(0) if len(self) else b""
        named = _HOME.search(first)
        return (
            named[1].decode() if named else uuid(version_4(int(sha256(first).hexdigest()[:32], 16)))
        )

    def close(self) -> None:
        """Give the disk space back; nothing can be read afterwards."""
        self._text.close()

    def between(self, start_ms: int, end_ms: int, services: Iterable[str] | None) -> Sequence[int]:
        """Positions of the audits with `start_ms <= time < end_ms`, in order.

        Times are milliseconds since 1970. Only the audits of `services`; None for all.
        """
        first, last = bisect_left(self._events, start_ms), bisect_left(self._events, end_ms)
        if services is None:
            return range(first, last)
        found = array("q")
        for places in (self._services[name] for name in services if name in self._services):
            found.extend(places[bisect_left(places, first) : bisect_left(places, last)])
        return found if len(found) == 0 else array("q", sorted(found))

    def visible(self, positions: Sequence[int], at_ms: int) -> Sequence[int]:
        """Those of `positions` that can be asked for at `at_ms`."""
        moments = self._visible
        if isinstance(positions, range):
            hidden = max(moments[positions.start : positions.stop], default=at_ms) > at_ms
        else:
            hidden = True
        return array("q", (p for p in positions if moments[p] <= at_ms)) if hidden else positions

    def text(self, positions: Sequence[int]) -> bytes:
        """The records at `positions`, with commas between them."""
        if not positions:
            return b""
        first, last = positions[0], positions[-1]
        if last - first + 1 == len(positions) and _ascend(positions):
            return self._text[self._offsets[first] : self._offsets[last + 1] - 1]
        return b",".join([self.one(position) for position in positions])

    def one(self, position: int) -> bytes:
        """The record at `position`."""
        return self._text[self._offsets[position] : self._offsets[position + 1] - 1]

    def event_ms(self, position: int) -> int:
        """The time of the audit at `position`, milliseconds since 1970."""
        return self._events[position]

    def containing(self, needle: bytes) -> Iterator[int]:
        """Positions of the records with `needle` in their text; reads the whole log."""
        place = self._text.find(needle)
        while place >= 0:
            position = bisect_left(self._offsets, place + 1) - 1
            yield position
            place = self._text.find(needle, self._offsets[position + 1])

    def truth(self, start: datetime, end: datetime, at: datetime) -> Iterator[Record]:
        """Every audit of `[start, end)` that can be asked for at `at`, user names included."""
        within = self.between(milliseconds(start), milliseconds(end), None)
        for position in self.visible(within, milliseconds(at)):
            yield json.loads(self.one(position))

    def late(self, start: datetime, end: datetime, delay: timedelta) -> Iterator[Record]:
        """The audits of `[start, end)` that become visible `delay` or more after their time."""
        least = delay // timedelta(milliseconds=1)
        for position in self.between(milliseconds(start), milliseconds(end), None):
            if self._visible[position] - self._events[position] >= least:
                yield json.loads(self.one(position))

    def _note(self, entry: Entry) -> None:
        places = self._services.get(entry.service)
        if places is None:
            places = self._services[entry.service] = array("q")
        places.append(len(self._events))
        self._events.append(entry.event_ms)
        self._visible.append(entry.visible_ms)
        self._offsets.append(self._offsets[-1] + len(entry.record) + 1)


def _ascend(positions: Sequence[int]) -> bool:
    """Whether no position is smaller than the one before it."""
    return isinstance(positions, range) or all(map(le, positions, positions[1:]))


def _entry(record: Mapping[str, object] | bytes, visible_at: datetime) -> Entry:
    content: Any = json.loads(record) if isinstance(record, bytes) else record
    raw = record if isinstance(record, bytes) else encoded(record)
    visible_ms = milliseconds(visible_at)
    members: Mapping[str, object] = content if isinstance(content, Mapping) else {}
    try:
        event_ms = milliseconds(read_instant(str(members.get("eventDate"))))
    except ValueError:
        event_ms = visible_ms
    return Entry(event_ms, visible_ms, str(members.get("serviceName")), raw)
