"""How one setting's value is read: lengths of time, names, lists, cron lines. Pure.

Each function takes what TOML or a variable gave, and raises ValueError with a sentence that
begins where the setting's name ends.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from etl.model import ALL_SERVICES
from etl.window import floor_second, parse_duration

#: No length of time is longer, and no stream begins earlier, so that arithmetic stays in range.
LONGEST: Final = timedelta(days=20 * 365)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)

#: What counts as nothing around a text of a file or a variable.
BLANKS: Final = " \t\r\n"

_START: Final = (
    "must be a time (2026-05-01, 2026-05-01T12:00:00Z) or a length of time before the first run "
    "(30d)"
)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def nearest(word: str, right: Iterable[str]) -> str:
    """The one of `right`, of which there must be one, that looks most like `word`."""
    return get_close_matches(word, list(right), n=1, cutoff=0.0)[0]


def name(value: str) -> str:
    """`value`, if it can be a folder, a primary key and a part of a variable's name."""
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} must be 1 to 64 letters, digits, _ . or -")
    return value


def text_of(data: bytes) -> str:
    """The text in a file, without the mark that editors on Windows put before UTF-8.

    Raises:
        ValueError: it is not UTF-8; the message says what it is, if that can be told.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:64]:
        raise ValueError("it is UTF-16 text or no text: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text: save it as UTF-8") from None


def duration(value: object) -> timedelta:
    """A length of time from 0s to 20 years."""
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except OverflowError:
            value = timedelta.max
    if not isinstance(value, timedelta):
        raise ValueError("must be a length of time as text, such as 10m, 1h or 3d")  # noqa: TRY004 - pydantic collects ValueErrors
    if not timedelta(0) <= value <= LONGEST:
        raise ValueError("must be from 0s to 20 years (7300d)")
    return value


def interval(value: object) -> timedelta | None:
    """A length of time from 1s to 20 years; empty is not set."""
    if value is None or value == "":
        return None
    length = duration(value)
    if length < timedelta(seconds=1):
        raise ValueError("must be at least 1s")
    return length


def start(value: object) -> datetime | timedelta:
    """An instant in UTC, or how long before the first run."""
    if isinstance(value, str):
        value = _start_text(value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError(_START)  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        instant = floor_second(value if value.tzinfo else value.replace(tzinfo=UTC))
    except OverflowError:
        instant = datetime.min.replace(tzinfo=UTC)
    if instant < EARLIEST:
        raise ValueError("must be in the year 2000 or later")
    return instant


def _start_text(text: str) -> datetime | timedelta:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    try:
        return parse_duration(text)
    except OverflowError:
        return timedelta.max
    except ValueError:
        raise ValueError(_START) from None


def listed(value: object) -> object:
    """Text as the list that it means, JSON or separated by commas; all else as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return from_json(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def from_json(value: object) -> object:
    """Text as the JSON that it is; all else as it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    return parsed


def services(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names`, if they make streams that do not ask for the same audits."""
    if not names:
        raise ValueError('names no service; ["*"] asks for all of them')
    if ALL_SERVICES in names and len(names) > 1:
        raise ValueError("has * and other names: * already asks for all services")
    if len(set(names)) < len(names):
        raise ValueError("names a service twice")
    return names if names == (ALL_SERVICES,) else tuple(name(service) for service in names)


def region(text: str) -> str:
    """`text`, if it looks like an AWS region, a domain or a base URL; empty is not set."""
    text = text.strip()
    if "://" not in text:
        if text and not re.fullmatch(r"[A-Za-z0-9.-]+", text):
            raise ValueError("must be a region (us-east-1), a domain (mypurecloud.de) or a URL")
        return text
    url = urlsplit(text)
    plain = not (url.username or url.password or url.query or url.fragment)
    if url.scheme not in {"http", "https"} or not url.hostname or not plain:
        raise ValueError("must be a base URL such as http://127.0.0.1:8080, without user or query")
    return text


#: More at once would need more connections than a server usually takes.
CONCURRENCY_MAX: Final = 40


def concurrency(value: object) -> int:
    """A whole number from 1 to `CONCURRENCY_MAX`."""
    text = str(value).strip() if isinstance(value, int | str) else ""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= CONCURRENCY_MAX:
        raise ValueError(f"must be a whole number from 1 to {CONCURRENCY_MAX}")
    return int(text)


#: An address that nothing listens on.
OFF: Final = "off"


def address(text: str) -> str:
    """`text`, if it is HOST:PORT or `off`."""
    text = text.strip()
    if text != OFF:
        host_and_port(text)
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """The two parts of an address; the host of an IPv6 one stands in brackets."""
    url = urlsplit(f"//{text}")
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or port is None or url.netloc != text or url.username is not None:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464, or off")
    return host, port


_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
#: What each field of a cron line counts through, by numbers or by names.
_FIELDS: Final = (
    (tuple(map(str, range(60))),),
    (tuple(map(str, range(24))),),
    (tuple(map(str, range(1, 32))),),
    (tuple(map(str, range(1, 13))), _MONTHS),
    (_DAYS,),
)
_RANGE: Final = re.compile(r"(\w+)-(\w+)(?:/(\d+))?")
_WORD: Final = re.compile(rf"\b({'|'.join((*_DAYS, *_MONTHS))})[a-z]+")
_SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 jan *",
    "@annually": "0 0 1 jan *",
}


def _written_out(text: str) -> str:
    """A cron line without what only other crons take: long names, ranges over the end, `@daily`."""
    text = _WORD.sub(r"\1", _SHORT.get(text, text))
    parts = text.split()
    if len(parts) != len(_FIELDS):
        return text
    fields = zip(parts, _FIELDS, strict=True)
    return " ".join(_RANGE.sub(partial(_listed, counts), part) for part, counts in fields)


def _listed(counts: tuple[tuple[str, ...], ...], found: re.Match[str]) -> str:
    """A range as the list that it means, if it ends before it begins; else as it is."""
    first, last, step = found.groups()
    for values in counts:
        if first in values and last in values and values.index(first) > values.index(last):
            passed = values[values.index(first) :] + values[: values.index(last) + 1]
            return ",".join(passed[:: int(step or 1) or 1])
    return found[0]


def cron(text: str, known: Iterable[str]) -> str:
    """A cron line of five fields, if it ever fires; those in `known` are not looked at."""
    text = " ".join(text.split())
    if text in known:
        return text
    if re.search(r"\d", "".join(text.split()[4:])):
        raise ValueError("must name its days of the week (sun, mon-fri), as numbers are ambiguous")
    understood = _written_out(text.lower())
    if understood != text.lower():
        raise ValueError(f"is not understood as {text}; write {understood}")
    from etl.schedules import cron_trigger

    try:
        trigger = cron_trigger(text)
    except ValueError as error:
        raise ValueError(f"is not a cron line such as 17 3 * * *: {error}") from None
    if trigger.get_next_fire_time(None, EARLIEST) is None:
        raise ValueError("never fires")
    return text
