"""The URLs of databases: which are understood, and how one is shown. Pure.

SQLAlchemy is not asked, because importing it takes longer than most commands do.
"""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Final
from urllib.parse import unquote, unquote_plus

#: Schemes of databases, and the driver that each is opened with.
DRIVERS: Final = {
    "sqlite": "sqlite",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql+pymysql": "mysql+pymysql",
    "mysql": "mysql+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
}
#: How they are written.
FORMS: Final = ("sqlite:///FILE", "postgresql://USER@HOST/DATABASE", "mysql://USER@HOST/DATABASE")

#: How much a scheme must look like another one for that to be suggested, 0 to 1.
_ALIKE: Final = 0.7

_UNREADABLE: Final = (
    "its user, host or port cannot be read; in a password write @ as %40, : as %3A, / as %2F and % "
    "as %25"
)
#: What SQLAlchemy can take apart behind `://`: user and password, host, port, database, query.
_SERVER: Final = re.compile(
    r"(?P<server>(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?\]]+\]|[^/:?@]*))(?::(?P<port>\d{0,5}))?"
    r"(?P<rest>(?:/[^?]*)?(?:\?.*)?)"
)
_USER: Final = re.compile(r"^[^:/]*(?::[^@]*)?@")
#: The same as libpq writes it: several servers, of which the first that suits is taken, or the
#: folder of a socket.
_SEVERAL: Final = re.compile(
    r"(?P<user>(?:[^:/]*(?::[^@]*)?@)?)(?P<hosts>[^/?@]+,[^/?@]+|%2[Ff][^/?@]*)(?P<path>(?:/[^?]*)?)(?P<query>(?:\?.*)?)"
)
_HOST: Final = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{0,5}))?")
_PORT_MAX: Final = 65535
#: Up to the last `@`: a password may hold one, though it should be written %40.
_PASSWORD: Final = re.compile(r"(://[^:/?]*):.*@", re.DOTALL)
_PARAMETER: Final = re.compile(r"([?&])([^=&]*)=([^&]*)")
#: Parameters of the drivers that hold no secret; any other's value is not shown.
_HARMLESS: Final = frozenset(
    """
    application_name autocommit channel_binding charset client_encoding collation
    connect_timeout gssencmode host hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval load_balance_hosts max_allowed_packet options port prepare_threshold
    read_default_file read_default_group read_timeout region require_auth service ssl_ca
    ssl_capath ssl_cert ssl_check_hostname ssl_cipher ssl_disabled ssl_key ssl_verify_cert
    ssl_verify_identity sslcert sslcrl sslkey sslmode sslnegotiation sslrootcert
    target_session_attrs tcp_user_timeout timeout unix_socket user write_timeout
    """.split()  # noqa: SIM905 - as a text they can be read
)


def ledger_url(text: str) -> str:
    """`text` with the scheme of the driver that we ship, if it names a database.

    Raises:
        ValueError: it does not; the message repeats nothing of the URL but its scheme, or what
            an SQLite file has no parameter for.
    """
    return database_url(*parted(text, DRIVERS, FORMS))


def masked(url: str) -> str:
    """`url` with `***` for its password and for parameters that may hold a secret."""
    return _PARAMETER.sub(_parameter, _PASSWORD.sub(r"\1:***@", url))


def _parameter(found: re.Match[str]) -> str:
    before, name, value = found.groups()
    shown = value if unquote_plus(name).lower() in _HARMLESS else "***"
    return f"{before}{name}={shown}"


def parted(text: str, schemes: Collection[str], forms: Iterable[str]) -> tuple[str, str]:
    """The scheme of a URL, and what follows `://`.

    Raises:
        ValueError: it is none of `schemes`; the message names `forms`, or the nearest scheme.
    """
    scheme, colon, rest = text.strip().partition("://")
    if scheme.lower().startswith("jdbc:"):
        raise ValueError(
            "a URL of JDBC is not understood here; write it without jdbc:, as postgresql:// or "
            "mysql:// and USER@HOST/DATABASE"
        )
    if not colon:
        raise ValueError("must be a URL such as sqlite:///audits.db")
    scheme = scheme.lower()
    if scheme in schemes:
        return scheme, rest
    near = [right for right in schemes if right.endswith(f"+{scheme}")]
    near += [right for right in schemes if right == scheme.partition("+")[0]]  # another driver
    near += get_close_matches(scheme, schemes, n=1, cutoff=_ALIKE)
    known = scheme if re.fullmatch(r"[a-z0-9+.-]{1,30}", scheme) else "its scheme"
    if near:
        raise ValueError(f"{known}:// is not understood here; did you mean {near[0]}://?")
    raise ValueError(f"{known}:// is not understood here; write one of {' '.join(forms)}")


def database_url(scheme: str, rest: str) -> str:
    """A database's URL with the scheme of the driver that we ship; see `ledger_url`."""
    if scheme == "sqlite":
        _require_file(rest)
    elif "@" in _USER.sub("", rest, count=1):
        raise ValueError(_UNREADABLE)  # what follows could be a part of the password
    elif scheme.startswith("postgres") and (several := _SEVERAL.fullmatch(rest)):
        rest = _as_parameters(several)
    elif server := _SERVER.fullmatch(rest):
        port = _port(server["port"])
        rest = server["server"] + (f":{port}" if port else "") + server["rest"]
    else:
        raise ValueError(_UNREADABLE)
    return f"{DRIVERS[scheme]}://{rest}"


def _require_file(rest: str) -> None:
    """Return if what follows `sqlite://` is the path of a file."""
    path, _, query = rest.partition("?")
    file = unquote(path.removeprefix("/"))
    if not path.startswith("/"):
        raise ValueError("an SQLite file is written with three slashes: sqlite:///audits.db")
    if file in {"", ":memory:"}:
        raise ValueError("must name a file, such as sqlite:///audits.db: memory keeps nothing")
    if file.startswith("file:") or "\0" in file:
        raise ValueError("must name a file by its path, such as sqlite:///audits.db")
    for name in re.findall(r"([^&=]+)[^&]*", query):
        if name != "timeout":
            raise ValueError(f"an SQLite file takes timeout=SECONDS alone: leave out {name}")


def _as_parameters(url: re.Match[str]) -> str:
    """What SQLAlchemy reads in place of libpq's list of servers, or its folder of a socket."""
    parts = [_HOST.fullmatch(host) for host in url["hosts"].split(",")]
    found = [part for part in parts if part]
    if len(found) < len(parts):
        raise ValueError("its servers are written HOST:PORT,HOST:PORT")
    hosts = ",".join(part[1].strip("[]") for part in found)
    ports = ",".join(_port(part[2]) for part in found)
    port = f"&port={ports}" if ports.strip(",") else ""
    more = url["query"].replace("?", "&", 1)
    return f"{url['user']}{url['path'] or '/'}?host={hosts}{port}{more}"


def _port(text: str | None) -> str:
    """A port as it was written; empty if none was."""
    if text and not 0 < int(text) <= _PORT_MAX:
        raise ValueError(f"its port is not between 1 and {_PORT_MAX}")
    return text or ""
