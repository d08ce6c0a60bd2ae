"""Answers in the making: envelopes around records, and which records they hold."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from etl.simulator.asking import Asked, meets
from etl.simulator.organization import Organization
from etl.simulator.shapes import joined, unexpanded


@dataclass(frozen=True, slots=True)
class Answer:
    """What the organisation says: a status and a body of JSON."""

    status: int
    body: bytes


def told(status: int, body: Mapping[str, object]) -> Answer:
    """An answer of plain members."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def enveloped(head: Mapping[str, object], records: bytes) -> Answer:
    """An answer with `entities`, which are JSON already, after the members of `head`."""
    start = json.dumps({**head, "entities": []}, separators=(",", ":")).encode()
    return Answer(200, start.removesuffix(b"]}") + records + b"]}")


def records_at(organization: Organization, positions: Sequence[int], *, expand: bool) -> bytes:
    """The records at `positions` with commas between them, with user names if `expand`."""
    show = organization.show()
    return show.text(positions) if expand else joined(map(show.one, positions), unexpanded)


def found(
    organization: Organization, asked: Asked, services: Iterable[str] | None, since_ms: int = 0
) -> Sequence[int]:
    """Positions of what can be asked for now and meets the query, in the order asked for.

    Args:
        organization: which is asked.
        asked: the query.
        services: only these; None for all.
        since_ms: no audit is earlier, milliseconds since 1970.
    """
    show = organization.show()
    end_ms = asked.end_ms + (1 if organization.faults.include_interval_end else 0)
    start_ms = asked.start_ms + (1 if organization.faults.exclude_interval_start else 0)
    positions = show.between(max(start_ms, since_ms), end_ms, services)
    if asked.filters:
        positions = array(
            "q", (p for p in positions if meets(json.loads(show.one(p)), asked.filters))
        )
    positions = show.with_twins(positions)
    if organization.faults.shuffle:
        return _shuffled(organization, positions)
    return positions[::-1] if asked.descending else positions


def _shuffled(organization: Organization, positions: Sequence[int]) -> Sequence[int]:
    seed = f"{organization.faults.seed} order {len(organization.queries)}"
    mixed = array("q", positions)
    Random(seed).shuffle(mixed)  # noqa: S311 - repeatable, no secret
    return mixed
