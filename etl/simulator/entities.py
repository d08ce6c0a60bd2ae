"""The people, machines and things of an organisation's audits, and their changes.

Everything is made up, drawn once from a seed, and kept as JSON text ready to be put together:
a record made of ready pieces costs a tenth of one that is encoded member by member.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

Values = tuple[list[str], list[str]]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GIVEN: Final = _words(
    "Ana Björn Chiara Daan Élodie Fatma Grzegorz Hélène Iñaki João Kateřina Łukasz Márta Noé Oğuz "
    "Priya Quentin Renée Søren Tomáš Ulrike Věra Wójciech Xiùyīng Yūki Zoë Иван Ольга 伟 美咲 지우"
)
_FAMILY: Final = _words(
    "Andersson O'Brien Çelik D'Angelo Eriksen Fernández Grünwald Horváth Ivanov Jørgensen Kowalski "
    "Lindström Müller Núñez Østergaard Papadopoulos Quintero Rossi Şahin Tanaka Übel Vondráček "
    "Weiß Yilmaz Żółć Петров 张 佐藤 김 Smith Jones de-la-Cruz"
)
_ODD_NAMES: Final = (
    'Anna "Nan" Berg',
    "Bot 🤖 Nightly",
    "Zoe\u0308 Decomposed",
    "  spaced  out  ",
    "Sales\\EMEA",
    "שרה לוי",
    "tab\there",
    "A" * 120,
)
_TOPICS: Final = _words(
    "Billing Claims Dispatch Escalation Fraud Gold Hotline Inbound Night Orders Priority Refunds "
    "Retention Sales Support Technical VIP Warranty Überlauf Приём 予約"
)
_PLACES: Final = _words("Berlin Dublin Kraków Lyon Málaga Osaka Praha Reykjavík Seoul Zürich")


def text(value: object) -> str:
    """`value` as compact JSON, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def uuid(bits: int) -> str:
    """128 bits written as a UUID."""
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def random_uuid(rng: Random) -> str:
    """A UUID of version 4 that depends on nothing but `rng`."""
    return uuid(version_4(rng.getrandbits(128)))


def version_4(bits: int) -> int:
    """`bits` with the marks of a random UUID in their places."""
    return bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62


@dataclass(frozen=True, slots=True)
class Entity:
    """A person, a queue, a flow: its id and its reference as JSON text."""

    id: str
    json: str


@dataclass(frozen=True, slots=True)
class EntityPool:
    """What the audits of an organisation draw from: people, things, changes; one for each seed.

    Attributes:
        home: id of the organisation.
        users: people, with their names.
        machines: OAuth clients that act as users; nobody can name them.
        addresses: `remoteIp` arrays of people.
        created, updated, deleted: property changes that go with what happened.
        entity_changes: things that changed along with another.
        messages: `message` objects.
    """

    home: str
    users: tuple[Entity, ...]
    machines: tuple[Entity, ...]
    addresses: tuple[str, ...]
    created: tuple[str, ...]
    updated: tuple[str, ...]
    deleted: tuple[str, ...]
    entity_changes: tuple[str, ...]
    messages: tuple[str, ...]


@lru_cache(maxsize=8)
def pool_of(seed: int) -> EntityPool:
    """The pool that belongs to `seed`."""
    rng = Random(f"cast {seed}")  # noqa: S311 - repeatable, and nothing here is a secret
    users = tuple(_user(rng, number) for number in range(240))
    changes = [_change(rng, users) for _ in range(600)]
    return EntityPool(
        home=random_uuid(rng),
        users=users,
        machines=tuple(_machine(rng) for _ in range(9)),
        addresses=tuple(_addresses(rng) for _ in range(300)),
        created=tuple(_property(name, [], new) for name, (_, new) in changes),
        updated=tuple(_property(name, old, new) for name, (old, new) in changes),
        deleted=tuple(_property(name, old, []) for name, (old, _) in changes),
        entity_changes=tuple(_entity_change(rng) for _ in range(200)),
        messages=tuple(_message(rng) for _ in range(120)),
    )


def make_entities(rng: Random, kind: str, count: int) -> tuple[Entity, ...]:
    """EntityPool of one type; some have a name and a link, some not."""
    result = []
    for _ in range(count):
        identity = random_uuid(rng)
        reference = {"id": identity}
        if rng.random() < 0.8:
            reference["name"] = rng.choice(["", _title(rng), _title(rng), _title(rng)])
        if rng.random() < 0.6:
            reference["selfUri"] = f"/api/v2/{kind.lower()}s/{identity}"
        result.append(Entity(identity, text(reference)))
    return tuple(result)


def _title(rng: Random) -> str:
    return f"{rng.choice(_PLACES)} {rng.choice(_TOPICS)} {rng.randrange(1, 40)}"


def _person(rng: Random) -> str:
    return f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"


def _user(rng: Random, number: int) -> Entity:
    identity = random_uuid(rng)
    name = _ODD_NAMES[number] if number < len(_ODD_NAMES) else _person(rng)
    link = f"/api/v2/users/{identity}"
    return Entity(identity, text({"id": identity, "name": name, "selfUri": link}))


def _machine(rng: Random) -> Entity:
    identity = random_uuid(rng)
    return Entity(identity, text({"id": identity}))


def _addresses(rng: Random) -> str:
    octet = rng.randrange(1, 255)
    choices = [f"203.0.113.{octet}", f"198.51.100.{octet}", f"2001:db8:{octet:x}::1"]
    return text(rng.sample(choices, rng.choice([1, 1, 1, 2])))


def _stamp(rng: Random) -> str:
    day, hour, minute = rng.randrange(1, 29), rng.randrange(24), rng.randrange(60)
    return f"2026-0{rng.randrange(1, 7)}-{day:02}T{hour:02}:{minute:02}:00.000Z"


def _change(rng: Random, users: tuple[Entity, ...]) -> tuple[str, Values]:
    """A property's name with the values before and after."""
    makers: list[tuple[str, Callable[[], str]]] = [
        ("name", lambda: _title(rng)),
        ("description", lambda: " ".join(_title(rng) for _ in range(rng.randrange(3, 20)))),
        ("version", lambda: str(rng.randrange(1, 900))),
        ("dateModified", lambda: _stamp(rng)),
        ("divisionId", lambda: random_uuid(rng)),
        ("modifiedBy", lambda: rng.choice(users).id),
        ("enabled", lambda: rng.choice(["true", "false"])),
        ("settings", lambda: text(_settings(rng))),
        ("addresses", lambda: text([_address(rng) for _ in range(rng.randrange(1, 4))])),
        ("mediaSettings.call.serviceLevel", lambda: text({"percentage": 0.8, "durationMs": 20000})),
        (
            "members",
            lambda: f"[{', '.join(rng.choice(users).id for _ in range(rng.randrange(4, 14)))}]",
        ),
        ("rules", lambda: text([_settings(rng) for _ in range(rng.randrange(2, 6))])),
    ]
    name, make = rng.choice(makers)
    return name, ([make()], [make()])


def _settings(rng: Random) -> dict[str, object]:
    return {
        "id": random_uuid(rng),
        "label": _title(rng),
        "timeoutSeconds": rng.randrange(5, 600),
        "overflow": {"enabled": rng.random() < 0.5, "target": None},
        "notes": f"{_title(rng)}; {_title(rng)}",
    }


def _address(rng: Random) -> dict[str, str]:
    kind = rng.choice(["WORK", "MOBILE", "HOME"])
    return {"type": kind, "mediaType": "PHONE", "address": f"+4930555{rng.randrange(10**4):04}"}


def _property(name: str, old: list[str], new: list[str]) -> str:
    return text({"property": name, "oldValues": old, "newValues": new})


def _entity_change(rng: Random) -> str:
    change = {
        "entityId": random_uuid(rng),
        "entityName": _title(rng),
        "entityType": rng.choice(["User", "Queue", "RoutingSkill", "Row"]),
        "oldValues": rng.choice([[], [_title(rng)]]),
        "newValues": [_title(rng)],
    }
    return text(change)


def _message(rng: Random) -> str:
    who, what = _person(rng), _title(rng)
    message = {
        "localizableMessageCode": f"audit.{rng.choice(_TOPICS).lower()}.changed",
        "message": f"{who} changed {what}",
        "messageWithParams": "{user} changed {entity}",
        "messageParams": {"user": who, "entity": what},
    }
    return text(message)


def listed(parts: Iterable[str]) -> str:
    """JSON texts as one JSON array."""
    return f"[{','.join(parts)}]"
