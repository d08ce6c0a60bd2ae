"""Faults of records; the same for the same record and seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, Final

from etl.simulator.faults import Faults, strikes
from etl.simulator.shapes import encoded

Record = dict[str, Any]
RecordFault = Callable[[Random, Record], None]

#: What a megabyte more weighs.
HUGE_BYTES: Final = 1_000_000
#: Right-to-left marks that reorder what a terminal shows, NUL, and halves of a surrogate pair.
_ODD: Final = (
    "\u202eevil\u202c",
    "a\x00b",
    "\ud83d",
    "x\udc00\ud800y",
    "\u2066\ufeff\u200f",
    "\x1b[2J",
)
_OTHER_TYPES: Final[tuple[object, ...]] = (
    *(0, -1.5, 10**30, True, "text"),
    *([], ["x", 1, None], {"a": {"b": [None]}}),
)
_WHOLE_SECOND: Final = re.compile(rb'("eventDate":"[0-9-]{10}T[0-9:]{8})Z')
#: Without these a record cannot be a row.
_NEEDED: Final = frozenset({"id", "eventDate"})


def with_faults(faults: Faults, nth: int, record: bytes) -> bytes:
    """The `nth` audit of a log, counted from 1, as it is shown."""
    struck = [apply for name, apply in _FAULTS.items() if strikes(faults, name, nth)]
    if faults.milliseconds:
        record = _WHOLE_SECOND.sub(rb"\g<1>.%03dZ" % (nth % 1000), record, count=1)
    if not struck:
        return record
    members: Any = json.loads(record)
    if not isinstance(members, dict):
        return record
    rng = Random(f"{faults.seed} record {nth}")  # noqa: S311 - repeatable, no secret
    for apply in struck:
        apply(rng, members)
    return encoded(members)


def twin(record: bytes) -> bytes:
    """Another audit with the same id and time."""
    members: Record = json.loads(record)
    changes = [{"property": "twin", "oldValues": [], "newValues": ["another content"]}]
    return encoded(members | {"action": "Twin", "propertyChanges": changes})


def any_on(faults: Faults) -> bool:
    """Whether any record may be shown otherwise than it was written."""
    return faults.milliseconds or any(getattr(faults, name) for name in _FAULTS)


def _huge(rng: Random, record: Record) -> None:
    text = "Größe 📏 " * (HUGE_BYTES // 15)
    place = rng.randrange(4)
    if place == 0:
        record["propertyChanges"] = [{"property": "p", "oldValues": [text], "newValues": []}]
    elif place == 1:
        record["entity"] = {"id": text, "name": text[: HUGE_BYTES // 2]}
    elif place == 2:
        record["context"] = {"huge": text}
    else:
        record["message"] = {"message": text}


def _odd_text(rng: Random, record: Record) -> None:
    odd = "".join(rng.sample(_ODD, len(_ODD)))
    record["entity"] = {"id": odd, "name": odd}
    record["serviceName"] = f"{record.get('serviceName')}{odd}"
    record["context"] = {odd: odd}
    record["remoteIp"] = [odd]
    record["propertyChanges"] = [{"property": odd, "oldValues": [odd], "newValues": None}]
    record["entityChanges"] = [{"entityType": odd, "entityId": odd, "newValues": [odd, ""]}]


def _absent(rng: Random, record: Record) -> None:
    for name in _some(rng, record):
        del record[name]


def _null(rng: Random, record: Record) -> None:
    for name in _some(rng, record):
        record[name] = None


def _odd_type(rng: Random, record: Record) -> None:
    for name in _some(rng, record):
        record[name] = rng.choice(_OTHER_TYPES)


def _unknown(rng: Random, record: Record) -> None:
    record["level"] = "COSMIC"
    record["status"] = "SCHRÖDINGER"
    record["action"] = "Teleport"
    record["futureMember"] = {"since": 2027, "values": [1, "two", None]}
    record["entity"] = {"id": "e", "name": "n", "selfUri": "/x", "galaxy": rng.random()}
    record["propertyChanges"] = [{"property": "p", "newValues": ["x"], "confidence": 0.5}, {}]


def _unusable(rng: Random, record: Record) -> None:
    for name in rng.choice((("id",), ("eventDate",), ("id", "eventDate"))):
        record[name] = rng.choice((None, "", " ", [], "yesterday" if name == "eventDate" else {}))


def _some(rng: Random, record: Record) -> list[str]:
    names = sorted(record.keys() - _NEEDED)
    return rng.sample(names, rng.randint(1, len(names))) if names else []


#: In the order in which they are applied, so that none undoes what another has done to the record.
_FAULTS: Final[dict[str, RecordFault]] = {
    "unknown_every": _unknown,
    "odd_text_every": _odd_text,
    "huge_every": _huge,
    "odd_type_every": _odd_type,
    "null_every": _null,
    "absent_every": _absent,
    "unusable_every": _unusable,
}
