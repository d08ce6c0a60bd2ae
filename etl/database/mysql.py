"""Connections to MySQL and MariaDB."""

import configparser
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from etl.database.timeouts import PROBES, Timeouts, probe_seconds
from etl.errors import ConfigurationError
from etl.resources import how_to_install

#: What each session of MySQL and MariaDB has, whatever the server or `init_command` says: a text
#: too long for its column is an error, an empty one is no NULL, no answer is cut short, no unique
#: key goes unchecked, and a transaction ends as a whole.
_REQUIRED_IN_SESSION: Final = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
    "completion_type = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, "
    "sql_safe_updates = 0, unique_checks = 1, foreign_key_checks = 1"
)

#: Where a connection's `info` holds how many bytes a statement may have; only of MySQL and MariaDB.
PACKET_BYTES: Final = "max_allowed_packet"


def settings(in_url: dict[str, str]) -> dict[str, str]:
    """What the user sets: in the URL, or in the option file that it names."""
    if not in_url.keys() & {"read_default_file", "read_default_group"}:
        return in_url
    group = in_url.get("read_default_group", "client")
    in_file = _in_option_file(Path(in_url.get("read_default_file", "/etc/my.cnf")), group)
    known = {name.replace("-", "_"): value for name, value in in_file.items() if value}
    if "socket" in known:
        known["unix_socket"] = known["socket"]
    return known | in_url


def _in_option_file(path: Path, group: str) -> dict[str, str]:
    """What PyMySQL will find in an option file, if it can read that."""
    from pymysql.optionfile import Parser

    options = Parser()
    try:
        with path.expanduser().open() as file:
            options.read_file(file)
    except OSError as error:
        raise ConfigurationError(
            f"the option file {path} that the database URL names: {error.strerror}"
        ) from None
    except (configparser.Error, UnicodeDecodeError):  # their text repeats a line: a password
        raise ConfigurationError(
            f"the option file {path} that the database URL names cannot be understood: it has to "
            "be UTF-8 without a byte order mark, begin with a line such as [client], and have each "
            "name once"
        ) from None
    found = dict(options.items(group)) if options.has_section(group) else {}
    if not (found.get("port") or "0").strip("'\"").isdecimal():
        raise ConfigurationError(
            f"the option file {path} that the database URL names has a port that is no number"
        )
    return found


def connect(
    url: sa.URL,
    timeouts: Timeouts,
    dialect: sa.Dialect,
    record: Any,  # noqa: ANN401
    arguments: Sequence[Any],
    parameters: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - PyMySQL may be absent
    """Connect, and prepare the session before SQLAlchemy asks it how names are quoted.

    PyMySQL raises errors of no common class for parameters that it cannot use.
    """
    driver: Any = dialect.loaded_dbapi
    try:
        connection = driver.connect(*arguments, **parameters)
    except driver.Error:
        raise
    except RuntimeError as error:
        raise ConfigurationError(
            f"PyMySQL cannot log in: {error}. Encrypt the connection, or run "
            f"{how_to_install('mysql')}"
        ) from None
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        why = f" ({error.strerror or error})" if isinstance(error, OSError) else ""
        if isinstance(error, ValueError) and " should be " in str(error):
            why = f" ({error})"  # a bound
        raise ConfigurationError(
            f"PyMySQL cannot use a parameter of the database's URL, which has "
            f"{', '.join(url.query) or 'none'}{why}. It knows connect_timeout=SECONDS, "
            "unix_socket=FILE, ssl_ca=FILE, ssl_cert=FILE, ssl_key=FILE and the like; leave out "
            "those of other drivers"
        ) from None
    _prepare(url, timeouts, connection, record)
    return connection


def _prepare(url: sa.URL, timeouts: Timeouts, driver: Any, record: Any) -> None:  # noqa: ANN401
    """Bound the session's waits, where the URL's `init_command` wins; set what we need."""
    with driver.cursor() as cursor:
        cursor.execute(
            f"SET SESSION wait_timeout = {2 * timeouts.dead}, "
            f"innodb_lock_wait_timeout = {timeouts.lock}, lock_wait_timeout = {timeouts.lock}"
        )
        if command := url.query.get("init_command"):
            cursor.execute(command)
        cursor.execute("SET NAMES utf8mb4")
        cursor.execute(_REQUIRED_IN_SESSION)
        cursor.execute("SELECT @@max_allowed_packet, DATABASE()")
        packet, database = cursor.fetchone()
    if database is None:
        raise ConfigurationError(
            "the database URL names no database: write mysql://USER@HOST/DATABASE"
        )
    record.info[PACKET_BYTES] = int(packet)
    if "read_timeout" not in url.query:
        driver._read_timeout = timeouts.statement  # PyMySQL has no other way
    _probe(driver._sock, timeouts)


def _probe(sock: socket.socket, timeouts: Timeouts) -> None:
    """Have a silent peer probed, as libpq does by its own parameters."""
    seconds = probe_seconds(timeouts)
    options = {
        "TCP_KEEPIDLE": seconds * PROBES,
        "TCP_KEEPINTVL": seconds,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": timeouts.dead * 1000,
    }
    for name, value in options.items():
        with suppress(AttributeError, OSError):  # another system, or a Unix socket
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
