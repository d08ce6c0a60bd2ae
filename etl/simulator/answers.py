"""Answers: their JSON, and the records in them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from etl.simulator.organization import Organization
from etl.simulator.query_request import QueryRequest
from etl.simulator.shapes import encoded, joined, unexpanded


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body of JSON, and where else to look, if that is said."""

    status: int
    body: bytes
    location: str | None = None


def json_answer(status: int, body: Mapping[str, object]) -> Answer:
    """An answer of plain members."""
    return Answer(status, encoded(body))


def records_answer(head: Mapping[str, object], records: bytes) -> Answer:
    """An answer with `entities`, which are JSON already, after the members of `head`."""
    start = encoded({**head, "entities": []})
    return Answer(200, start.removesuffix(b"]}") + records + b"]}")


def records_at(organization: Organization, positions: Sequence[int], *, expand: bool) -> bytes:
    """The records at `positions` with commas between them, with user names if `expand`."""
    view = organization.view()
    return view.text(positions) if expand else joined(map(view.one, positions), unexpanded)


def find_positions(
    organization: Organization,
    asked: QueryRequest,
    services: Iterable[str] | None = None,
    since_ms: int = 0,
) -> Sequence[int]:
    """Return the positions of the visible audits that the query asks for, in its order.

    Args:
        services: only these if the query names none; None for all.
        since_ms: no audit is earlier, milliseconds since 1970.
    """
    view = organization.view()
    end_ms = asked.end_ms + (1 if organization.faults.include_interval_end else 0)
    start_ms = asked.start_ms + (1 if organization.faults.exclude_interval_start else 0)
    wanted = services if asked.service is None else [asked.service]
    positions = view.with_twins(view.between(max(start_ms, since_ms), end_ms, wanted))
    if organization.faults.shuffle:
        return _shuffled(organization, positions)
    return positions[::-1] if asked.descending else positions


def _shuffled(organization: Organization, positions: Sequence[int]) -> Sequence[int]:
    seed = f"{organization.faults.seed} order {len(organization.queries)}"
    mixed = array("q", positions)
    Random(seed).shuffle(mixed)  # noqa: S311 - repeatable, no secret
    return mixed
