"""A source in memory, which answers as it is told: for tests of what stands on `etl.source`."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from etl.errors import AuditEtlError
from etl.records import Page
from etl.source import Asked
from etl.window import Window
from tests.support.samples import BEGIN, HOUR, batch

Record = dict[str, Any]


class ScriptedSource:
    """Shows the audits that it is given, two a page.

    Attributes:
        seconds_waited: what the rate budget is said to have held up.
        clock: the organisation's time.
        asked: the windows of all queries, in their order.
        read: the ids of the queries whose pages were read.
        refusals: what creating a query for a window raises, one error for each time.
        breaks: what a query for a window raises after its first page, one error for each time.
        answers: what a query for a window shows in place of its audits, one answer for each time.
    """

    def __init__(self, shown: Iterable[Record] = ()) -> None:
        self.shown = list(shown)
        self.seconds_waited = 0.0
        self.clock = BEGIN + 1000 * HOUR
        self.asked: list[Window] = []
        self.read: list[str] = []
        self.refusals: dict[Window, list[AuditEtlError]] = defaultdict(list)
        self.breaks: dict[Window, list[AuditEtlError]] = defaultdict(list)
        self.answers: dict[Window, list[list[Record]]] = defaultdict(list)

    def now(self) -> datetime:
        return self.clock

    def ask(self, window: Window, service: str | None) -> Asked:
        self.asked.append(window)
        if self.refusals[window]:
            raise self.refusals[window].pop(0)
        return Asked(window, f"query {len(self.asked)}", "Succeeded", self.clock)

    def pages(self, asked: Asked) -> Iterator[Page]:
        self.read.append(asked.query_id)
        found = self._found(asked.window)
        for start in range(0, max(len(found), 1), 2):
            more = start + 2 < len(found)
            records = tuple(
                json.dumps(one, ensure_ascii=False).encode() for one in found[start : start + 2]
            )
            yield Page(records, cursor=str(start) if more else None)
            if self.breaks[asked.window]:
                raise self.breaks[asked.window].pop(0)

    def _found(self, window: Window) -> list[Record]:
        if self.answers[window]:
            return self.answers[window].pop(0)
        return [one for one in self.shown if batch(one).audits[0].event_date in window]
