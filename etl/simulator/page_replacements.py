"""Replacements for a page in an answer with status 200."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from etl.simulator.answers import Answer, json_answer, records_answer
from etl.simulator.errors import server_error


@dataclass(frozen=True, slots=True)
class Original:
    """The correct page, which is replaced.

    Attributes:
        head: its members but for the records, without a cursor.
        records: with commas between them.
        state: what the organisation says of the query.
    """

    head: Mapping[str, object]
    records: bytes
    state: Answer


def _error(page: Original) -> Answer:
    return json_answer(200, {**server_error(500).body("no-page"), "id": page.head["id"]})


def _other(page: Original) -> Answer:
    return records_answer({**page.head, "id": str(uuid5(NAMESPACE_OID, "another"))}, page.records)


def _realtime(page: Original) -> Answer:
    head = {"pageSize": page.head["pageSize"], "pageNumber": 1, "total": 1, "pageCount": 1}
    return records_answer(head, page.records)


def _twice(page: Original) -> Answer:
    body = records_answer(page.head, page.records).body
    return Answer(200, body.removesuffix(b"}") + b',"entities":[]}')


def _latin(page: Original) -> Answer:
    body = records_answer(page.head, page.records).body
    return Answer(200, body.replace(b'"id":"', b'"id":"\xfc', 2))


REPLACEMENTS: Final[Mapping[str, Callable[[Original], Answer]]] = {
    "bare": lambda page: json_answer(200, page.head),
    "null": lambda page: json_answer(200, {**page.head, "entities": None}),
    "state": lambda page: Answer(200, page.state.body),
    "error": _error,
    "values": lambda page: json_answer(200, {**page.head, "entities": ["a", "b", None]}),
    "other": _other,
    "realtime": _realtime,
    "twice": _twice,
    "latin": _latin,
}
