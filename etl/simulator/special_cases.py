"""Audits of an unusual shape: sentinels, ids in property names, names made of ids.

Each shape was seen in live records or in the vendor's samples.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from etl.simulator.entities import Entity, EntityPool, listed, random_uuid, text

#: Makes the entity and the property changes of one audit, both as JSON text.
SpecialCase = Callable[[Random, EntityPool, Entity], tuple[str, str]]


def _someone(rng: Random, pool: EntityPool) -> str:
    return pool.users[int(rng.random() * len(pool.users))].id


def _member(old: str, new: str, suffix: str = "") -> SpecialCase:
    """A queue's member, named in the property: `QueueMember/<queue>:<user>`."""

    def make(rng: Random, pool: EntityPool, queue: Entity) -> tuple[str, str]:
        name = f"QueueMember/{queue.id}:{_someone(rng, pool)}{suffix}"
        change = f'{{"property":"{name}","oldValues":{old},"newValues":{new}}}'
        return queue.json, listed([change] * (1 + int(rng.random() * 2)))

    return make


def _role_member(rng: Random, pool: EntityPool, role: Entity) -> tuple[str, str]:
    """Who got the role, and where, is in the entity's name; no property changes."""
    division = "*" if rng.random() < 0.4 else random_uuid(rng)
    name = f"{_someone(rng, pool)}--{role.id}--{division}"
    return f'{{"id":"{role.id}","name":"{name}"}}', "[]"


def _group(rng: Random, pool: EntityPool, group: Entity) -> tuple[str, str]:
    """A count, an empty list of individuals, or the members in one bracketed text."""
    size = int(rng.random() * 90)
    change = (
        f'{{"property":"memberCount","oldValues":["{size}"],"newValues":["{size + 1}"]}}',
        '{"property":"individuals","oldValues":[],"newValues":[]}',
        f'{{"property":"group-membership","oldValues":[],"newValues":["[{_someone(rng, pool)}]"]}}',
    )[int(rng.random() * 3)]
    return f'{{"id":"{group.id}","name":""}}', listed([change])


def _directory_user(rng: Random, pool: EntityPool, user: Entity) -> tuple[str, str]:
    """A version that counts up, and JSON inside texts."""
    version = int(rng.random() * 900)
    phones = [f"+4930555{int(rng.random() * 10**4):04}" for _ in range(2)]
    book = [text(text([{"type": "WORK", "mediaType": "PHONE", "address": p}])) for p in phones]
    changes = [
        f'{{"property":"version","oldValues":["{version}"],"newValues":["{version + 1}"]}}',
        f'{{"property":"divisionId","oldValues":["{pool.home}"],'
        f'"newValues":["{random_uuid(rng)}"]}}',
        f'{{"property":"addresses","oldValues":[{book[0]}],"newValues":[{book[1]}]}}',
    ]
    return f'{{"id":"{user.id}","name":""}}', listed(changes[: 1 + int(rng.random() * 3)])


def _oauth_client_gone(_: Random, __: EntityPool, client: Entity) -> tuple[str, str]:
    """Changes that have new values only, or old ones only."""
    changes = [
        '{"property":"deleted_on","newValues":["2021-05-31T09:44:53Z"]}',
        '{"property":"scopes","oldValues":["users"]}',
    ]
    return client.json, listed(changes)


def _unchanged(_: Random, __: EntityPool, entity: Entity) -> tuple[str, str]:
    """Something was done, and no property says what."""
    return entity.json, "[]"


SPECIAL_CASES: Final[Mapping[tuple[str, str, str], SpecialCase]] = {
    ("ContactCenter", "Queue", "MemberAdd"): _member("[]", '["<queue member added>"]'),
    ("ContactCenter", "Queue", "MemberRemove"): _member('["<queue member deleted>"]', "[]"),
    ("ContactCenter", "Queue", "MemberUpdate"): _member('["true"]', '["false"]', ":joined"),
    ("PeoplePermissions", "Role", "MemberAdd"): _role_member,
    ("PeoplePermissions", "Role", "MemberRemove"): _role_member,
    ("PeoplePermissions", "AuthUser", "Authenticate"): _unchanged,
    ("PeoplePermissions", "OAuthClient", "Delete"): _oauth_client_gone,
    ("Groups", "DirectoryGroup", "Update"): _group,
    ("Directory", "User", "Update"): _directory_user,
    ("AnalyticsReporting", "Exports", "Create"): _unchanged,
}
