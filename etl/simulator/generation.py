"""Audits as an organisation writes them: the shapes, the empty marks and the oddities of live ones.

A record is put together from pieces that are JSON text already; see `etl.simulator.entities`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final, NamedTuple

from etl.simulator.catalogue import SERVICES, Service
from etl.simulator.entities import (
    Entity,
    EntityPool,
    listed,
    make_entities,
    pool_of,
    random_uuid,
    uuid,
)
from etl.simulator.event_times import ID_BITS, delay_ms, event_keys
from etl.simulator.special_cases import SPECIAL_CASES, SpecialCase

#: Services whose audits the platform writes itself more often, or less, than the usual half.
_SYSTEM_SHARE: Final = {
    "AnalyticsReporting": 0.1,
    "Directory": 0.85,
    "Groups": 0.8,
    "Presence": 0.97,
    "Routing": 0.7,
    "SCIM": 0.9,
    "TaskManagement": 0.8,
    "Triggers": 0.95,
}
_CHANGES: Final = (0,) * 8 + (1,) * 16 + (2,) * 16 + (3,) * 9 + (4,) * 7 + (6,) * 5 + (9,) * 3
_APPLICATIONS: Final = ('""',) * 8 + ('"Genesys Cloud Admin"', '"Collaborate Desktop"')
_GONE: Final = frozenset({"Delete", "Remove", "Unassign", "HardDelete"})
_NEW: Final = frozenset({"Create", "Add", "Assign", "Upload"})


class Entry(NamedTuple):
    """An audit in the log: its record and what is needed to find it.

    Attributes:
        event_ms: time of the audit, milliseconds since 1970.
        visible_ms: when it can first be asked for, milliseconds since 1970.
        service: name of the service that wrote it.
        record: the audit as JSON, user names included.
    """

    event_ms: int
    visible_ms: int
    service: str
    record: bytes


@dataclass(frozen=True, slots=True)
class _Kind:
    """One action on one type of entity in one service, with what its records share."""

    service: str
    entity_type: str
    action: str
    system_share: float
    entities: tuple[Entity, ...]
    changes: tuple[str, ...]
    special_case: SpecialCase | None


class _Transaction(NamedTuple):
    """What the audits of one action have in common; `id` is empty where there is one audit only."""

    second: int
    id: str
    action: str
    actor: Entity
    correlation: str


def entries(seed: int, count: int, start: int, end: int, late_share: float) -> Iterator[Entry]:
    """`count` audits in the order of their time and id, the same for the same arguments.

    Args:
        seed: chooses the organisation and what happens in it.
        start: seconds since 1970; no audit is earlier.
        end: seconds since 1970; every audit is earlier.
        late_share: how many become visible late, from 0 to 1.
    """
    rng = Random(f"audits {seed}")  # noqa: S311 - repeatable, and nothing here is a secret
    keys = event_keys(rng, count, start, end)
    writer = _Writer(rng, pool_of(seed))
    for place, key in enumerate(keys):
        second = key >> ID_BITS
        following = keys[place + 1] >> ID_BITS if place + 1 < count else 0
        service, record = writer.write(key, followed=following == second)
        event_ms = second * 1000
        yield Entry(event_ms, event_ms + delay_ms(rng, late_share), service, record.encode())


class _Writer:
    """Writes one record after another; consecutive audits of one second may be one transaction."""

    def __init__(self, rng: Random, pool: EntityPool) -> None:
        self._rng = rng
        self._pool = pool
        self._kinds = _kinds(rng, pool)
        self._transaction = _Transaction(-1, "", "", pool.users[0], "")
        self._stamped = (-1, "")

    def write(self, key: int, *, followed: bool) -> tuple[str, str]:
        """The service and the record of the audit with this key."""
        rng = self._rng
        kind = self._kinds[int(rng.random() * len(self._kinds))]
        identity, second = uuid(key & (1 << ID_BITS) - 1), key >> ID_BITS
        joining = self._transaction.second == second
        if not joining:
            self._transaction = self._begin(second, kind.action, followed=followed)
        deed = self._transaction
        entity, changes = self._entity_and_changes(kind)
        people = self._people(kind, deed.actor)
        initiating = (
            f'{{"transactionId":"{deed.id}","actionContext":"{deed.action}"}}' if deed.id else "{}"
        )
        initiator = "true" if deed.id and not joining else "false"
        record = (
            f'{{"id":"{identity}","userHomeOrgId":"{self._pool.home}",{people},'
            f'"serviceName":"{kind.service}",{self._when(second)},{self._message()}'
            f'"action":"{kind.action}","entity":{entity},"entityType":"{kind.entity_type}",'
            f'"status":"{self._status(kind)}",'
            f'"application":{_APPLICATIONS[int(rng.random() * len(_APPLICATIONS))]},'
            f'"initiatingAction":{initiating},"transactionInitiator":{initiator},'
            f'"propertyChanges":{changes},"context":{self._context(kind, deed)},'
            f'"entityChanges":{self._entity_changes()}}}'
        )
        return kind.service, record

    def _begin(self, second: int, action: str, *, followed: bool) -> _Transaction:
        rng, pool = self._rng, self._pool
        crowd = pool.users if rng.random() < 0.93 else pool.machines
        actor = crowd[int(rng.random() * len(crowd))]
        identity = random_uuid(rng) if followed else ""
        return _Transaction(second, identity, action, actor, random_uuid(rng))

    def _when(self, second: int) -> str:
        if self._stamped[0] != second:
            moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._stamped = (second, f'"eventDate":"{moment}"')
        return self._stamped[1]

    def _entity_and_changes(self, kind: _Kind) -> tuple[str, str]:
        """The entity and the property changes."""
        rng = self._rng
        entity = kind.entities[int(rng.random() * len(kind.entities))]
        if kind.special_case:
            return kind.special_case(rng, self._pool, entity)
        size = len(kind.changes)
        amount = _CHANGES[int(rng.random() * len(_CHANGES))]
        return entity.json, listed([kind.changes[int(rng.random() * size)] for _ in range(amount)])

    def _people(self, kind: _Kind, actor: Entity) -> str:
        """Everything from the user to the level: live SYSTEM rows have an empty user."""
        chance = self._rng.random()
        if chance < kind.system_share:
            level = "SYSTEM" if chance > 0.002 else "GENESYS_INTERNAL"
            return f'"user":{{}},"client":{{"id":""}},"remoteIp":[],"level":"{level}"'
        addresses = self._pool.addresses[int(self._rng.random() * len(self._pool.addresses))]
        client = actor.id if actor in self._pool.machines else ""
        return (
            f'"user":{actor.json},"client":{{"id":"{client}"}},"remoteIp":{addresses},'
            '"level":"USER"'
        )

    def _message(self) -> str:
        messages = self._pool.messages
        chance = self._rng.random()
        if chance > 0.4:
            return ""
        return f'"message":{messages[int(chance * 2.5 * len(messages))]},'

    def _status(self, kind: _Kind) -> str:
        if kind.action == "AuthenticationFailed":
            return "FAILURE"
        chance = self._rng.random()
        return "SUCCESS" if chance > 0.03 else "FAILURE" if chance > 0.01 else "WARNING"

    def _context(self, kind: _Kind, deed: _Transaction) -> str:
        chance = self._rng.random()
        if chance < 0.3:
            return "{}"
        if chance < 0.6:
            return f'{{"correlationId":"{deed.correlation}"}}'
        return (
            f'{{"correlationId":"{deed.correlation}","auditType":"{kind.entity_type.upper()}",'
            f'"userid":"{deed.actor.id}","sourceService":"{kind.service}",'
            f'"organizationId":"{self._pool.home}","requestId":"{deed.correlation}-1"}}'
        )

    def _entity_changes(self) -> str:
        rng, pool = self._rng, self._pool.entity_changes
        if rng.random() > 0.12:
            return "[]"
        return listed([pool[int(rng.random() * len(pool))] for _ in range(1 + rng.randrange(4))])


def _kinds(rng: Random, pool: EntityPool) -> list[_Kind]:
    """Every kind as often as it is frequent: a fair draw from the list is a weighted one."""
    result = []
    for service in SERVICES:
        shares = _falling(len(service.entities), 4 * service.share)
        for entity, share in zip(service.entities, shares, strict=True):
            found = make_entities(rng, entity.name, 40 if share > 200 else 8)
            for action, often in zip(
                entity.actions, _falling(len(entity.actions), share), strict=True
            ):
                result += [_kind(pool, service, entity.name, action, found)] * often
    return result


def _kind(
    pool: EntityPool, service: Service, entity_type: str, action: str, found: tuple[Entity, ...]
) -> _Kind:
    changes = pool.deleted if action in _GONE else pool.created if action in _NEW else pool.updated
    return _Kind(
        service.name,
        entity_type,
        action,
        _SYSTEM_SHARE.get(service.name, 0.5),
        found,
        changes,
        SPECIAL_CASES.get((service.name, entity_type, action)),
    )


def _falling(parts: int, whole: int) -> list[int]:
    """`whole` in `parts`, each about half of the one before and none of them empty."""
    weights = [2 ** (parts - place) for place in range(parts)]
    return [max(1, whole * weight // sum(weights)) for weight in weights]
