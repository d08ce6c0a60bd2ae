"""How connections to a database are opened, kept alive and bounded in time.

A server whose machine is gone answers nothing, and TCP alone waits for it for two hours. So every
wait for a server ends: connecting, a peer that acknowledges nothing, and a statement that says
nothing. What the user's URL or environment sets wins over these defaults.
"""

import configparser
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from etl import encryption
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.abc import PQGen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a database is waited for, in seconds.

    Attributes:
        lock: for another session's lock.
        connect: for a server to accept a connection.
        dead: for a machine to acknowledge what was sent; also how often an idle one is probed.
        statement: for a server that is alive to say anything: a commit, the first row of an
            answer. The longest legitimate wait is a count over years of audits on a slow disk.
            Migrations and `query` have no such limit.
        pool: for a connection of this program's own to be given back.
    """

    lock: int = 30
    connect: int = 10
    dead: int = 60
    statement: int = 600
    pool: int = 30


TIMEOUTS: Final = Timeouts()

#: Probes of a silent machine before its connection counts as lost.
_PROBES: Final = 3

#: Settings of PostgreSQL that come from the user: from the URL, PGOPTIONS, ALTER ROLE or DATABASE.
_CHOSEN: Final = "'client', 'user', 'database', 'database user'"
_LOCAL: Final = "local settings"
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
#: How values come that psycopg can read; a role or a database may say otherwise.
_READABLE: Final = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres"}


def connect_arguments(url: sa.URL, timeouts: Timeouts) -> dict[str, Any]:
    """What the driver is given beside the URL, without what the user has set."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        ours: dict[str, Any] = {"timeout": timeouts.lock}
        given = set(url.query)
    elif backend == "postgresql":
        chosen = _postgresql_settings(url)
        ours = _postgresql_arguments(timeouts) | encryption.postgresql_arguments(chosen)
        given = set(chosen)
    else:
        ours = {
            "connect_timeout": timeouts.connect,
            "read_timeout": timeouts.connect,  # until it is connected, see `_prepare_mysql`
            "write_timeout": timeouts.statement,
            "charset": "utf8mb4",
            "use_unicode": True,
        }
        given = set(url.query)
    _require_once(url)
    _require_known(backend, url.query)
    ours = {key: value for key, value in ours.items() if key not in given - _REQUIRED}
    if backend in _MYSQL:
        ours |= encryption.mysql_arguments(_mysql_settings(url))
    return ours


#: What no URL or variable may change: rows are written in this encoding.
_REQUIRED: Final = frozenset({"client_encoding", "charset", "use_unicode"})
_MYSQL: Final = frozenset({"mysql", "mariadb"})
#: Arguments of PyMySQL that are no texts, or are not for a user to choose.
_NO_TEXTS: Final = frozenset(
    {"autocommit", "auth_plugin_map", "binary_prefix", "compress", "conv", "cursorclass"}
    | {"defer_connect", "named_pipe", "port", "ssl"}
)
#: Parameters of a URL that SQLAlchemy makes an argument `ssl` of.
_IN_SSL: Final = frozenset({"ssl_capath", "ssl_cipher", "ssl_check_hostname"})


def _require_once(url: sa.URL) -> None:
    """Return if no parameter has several values but the hosts of PostgreSQL."""
    for name, value in url.query.items():
        if not isinstance(value, str) and name != "host":
            raise ConfigurationError(f"the database URL has {name} more than once: leave one out")


def _require_known(backend: str, names: Iterable[str]) -> None:
    """Return if a URL may have parameters of these names; the driver has others, for programs."""
    if backend == "sqlite":
        return
    if backend == "postgresql":
        from psycopg import pq

        driver = "libpq"
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    else:
        from pymysql.connections import Connection

        driver = "PyMySQL"
        known = signature(Connection).parameters.keys() - _NO_TEXTS | _IN_SSL
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(
            f"the database URL has a parameter {' and '.join(unknown)}, which {driver} cannot take "
            "from a URL: correct its name, or leave it out (audit-etl handles transactions and "
            "rows itself, and prepares no statements)"
        )


def caveat(url: sa.URL) -> str | None:
    """What the user has chosen in place of verified TLS; None if nothing."""
    backend = url.get_backend_name()
    if backend == "postgresql":
        return encryption.postgresql_caveat(_postgresql_settings(url))
    return encryption.mysql_caveat(_mysql_settings(url)) if backend in _MYSQL else None


def _postgresql_arguments(timeouts: Timeouts) -> dict[str, Any]:
    return {
        "connect_timeout": timeouts.connect,
        "keepalives": 1,
        "keepalives_idle": _probe_seconds(timeouts) * _PROBES,
        "keepalives_interval": _probe_seconds(timeouts),
        "keepalives_count": _PROBES,
        "tcp_user_timeout": timeouts.dead * 1000,
        "fallback_application_name": "audit-etl",
        "client_encoding": "utf8",  # else the environment's, or the database's
        "prepare_threshold": None,  # a pooler gives each transaction another session
    }


def _probe_seconds(timeouts: Timeouts) -> int:
    """The interval of probes: half of `dead` passes before the first, half until the last."""
    return max(1, timeouts.dead // (2 * _PROBES))


def _postgresql_settings(url: sa.URL) -> dict[str, str]:
    """What the user sets: in the URL, by variables such as PGSSLMODE, or in a service's file."""
    from psycopg import conninfo, pq

    in_url = _in_url(url)
    asked = {"target_session_attrs": "nothing that libpq would connect to"}
    if "service" in in_url:
        asked["service"] = in_url["service"]
    unconnected = pq.PGconn.connect_start(conninfo.make_conninfo("", **asked).encode())
    known = {
        option.keyword.decode(): option.val.decode(errors="replace")
        for option in unconnected.info
        if option.val is not None and option.val != option.compiled
    }
    said = unconnected.error_message.decode(errors="replace").strip()
    unconnected.finish()
    if "target_session_attrs" not in known:  # nothing at all, then
        raise ConfigurationError(
            f"PostgreSQL's settings cannot be read: {said}; correct the service that the URL or "
            "PGSERVICE names, or its file (~/.pg_service.conf, PGSERVICEFILE)"
        )
    del known["target_session_attrs"]  # ours; a variable's would be in vain without a word
    return known | in_url


def _mysql_settings(url: sa.URL) -> dict[str, str]:
    """What the user sets: in the URL, or in the option file that it names."""
    given = _in_url(url)
    if not given.keys() & {"read_default_file", "read_default_group"}:
        return given
    group = given.get("read_default_group", "client")
    in_file = _in_option_file(Path(given.get("read_default_file", "/etc/my.cnf")), group)
    known = {name.replace("-", "_"): value for name, value in in_file.items() if value}
    if "socket" in known:
        known["unix_socket"] = known["socket"]
    return known | given


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


def _in_url(url: sa.URL) -> dict[str, str]:
    query = {k: v if isinstance(v, str) else ",".join(v) for k, v in url.query.items()}
    return {"host": url.host, **query} if url.host else query


def watch(engine: sa.Engine, timeouts: Timeouts) -> None:
    """Have the engine's connections to a server prepared, and bounded in time."""
    if engine.dialect.name == "postgresql":
        event.listen(engine, "do_connect", partial(_connect_postgresql, timeouts))
        event.listen(engine, "connect", partial(_prepare_postgresql, timeouts))
        event.listen(engine, "begin", _begin_postgresql)
    else:
        event.listen(engine, "do_connect", partial(_connect_mysql, engine.url, timeouts))


@contextmanager
def without_limit(connection: sa.Connection) -> Iterator[None]:
    """Let statements of this connection take as long as they want during the block."""
    attribute = {"postgresql": "statement_seconds", "sqlite": ""}.get(
        connection.dialect.name,
        "_read_timeout",  # PyMySQL has no other way
    )
    if not attribute:
        yield
        return
    driver: Any = connection.connection.driver_connection
    limit = getattr(driver, attribute)
    setattr(driver, attribute, None)
    try:
        yield
    finally:
        setattr(driver, attribute, limit)


def _connect_postgresql(
    timeouts: Timeouts,
    _dialect: object,
    _record: object,
    arguments: Sequence[Any],
    parameters: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - psycopg may be absent
    connection: Any = _bounded_connection().connect(*arguments, **parameters)
    connection.statement_seconds = timeouts.statement
    return connection


@cache
def _bounded_connection() -> Any:  # noqa: ANN401 - psycopg may be absent
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        """Ends a wait for a server that says nothing, though its machine may be alive."""

        statement_seconds: float | None = None

        def wait(self, gen: "PQGen[T]", *args: Any, **kwargs: Any) -> T:  # noqa: ANN401
            """Run what psycopg waits for; it comes back at least ten times a second."""
            return super().wait(self._bounded(gen), *args, **kwargs)

        def _bounded(self, gen: "PQGen[T]") -> "PQGen[T]":
            heard = monotonic()
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    limit = self.statement_seconds
                    if ready:
                        heard = monotonic()
                    elif limit is not None and monotonic() - heard > limit:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(
                            f"the server has said nothing for {limit:.0f} seconds"
                        )
                    wanted = gen.send(ready)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    return BoundedConnection


def _prepare_postgresql(timeouts: Timeouts, driver: "Connection[Any]", record: Any) -> None:  # noqa: ANN401
    """Keep what each transaction begins with, and let the server notice that we are gone.

    Not in the startup packet, which PgBouncer refuses; not for the session, which it shares.
    """
    seconds = _probe_seconds(timeouts)
    for_session = {
        "tcp_keepalives_idle": str(seconds * _PROBES),
        "tcp_keepalives_interval": str(seconds),
        "tcp_keepalives_count": str(_PROBES),
    }
    for_transaction = {
        "lock_timeout": f"{timeouts.lock}s",
        "idle_in_transaction_session_timeout": f"{timeouts.dead}s",
    }
    names = ", ".join(f"'{name}'" for name in for_session | for_transaction)
    with driver.cursor() as cursor:
        cursor.execute(
            f"SELECT name FROM pg_settings WHERE name IN ({names}) "  # noqa: S608 - our names
            f"AND source IN ({_CHOSEN})"
        )
        chosen = {name for (name,) in cursor.fetchall()}
        for name in for_session.keys() - chosen:
            cursor.execute(f"SELECT set_config('{name}', '{for_session[name]}', false)")
    driver.commit()
    ours = {name: value for name, value in for_transaction.items() if name not in chosen}
    record.info[_LOCAL] = "SELECT " + ", ".join(
        f"set_config('{name}', '{value}', true)" for name, value in (_READABLE | ours).items()
    )


def _begin_postgresql(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info[_LOCAL])


def _connect_mysql(
    url: sa.URL,
    timeouts: Timeouts,
    dialect: sa.Dialect,
    record: Any,  # noqa: ANN401
    arguments: Sequence[Any],
    parameters: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - PyMySQL may be absent
    """Connect, and prepare the session before SQLAlchemy asks it how names are quoted."""
    connection = _connected_by_pymysql(url, dialect.loaded_dbapi, arguments, parameters)
    _prepare_mysql(url, timeouts, connection, record)
    return connection


def _connected_by_pymysql(
    url: sa.URL,
    driver: Any,  # noqa: ANN401
    arguments: Sequence[Any],
    parameters: Mapping[str, Any],
) -> Any:  # noqa: ANN401
    """Connect; PyMySQL raises errors of no common class for parameters that it cannot use."""
    try:
        return driver.connect(*arguments, **parameters)
    except driver.Error:
        raise
    except RuntimeError as error:
        raise ConfigurationError(
            f"PyMySQL cannot log in: {error}. Run pip install '.[mysql]' in the checkout of "
            "audit-etl, or encrypt the connection"
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


def _prepare_mysql(url: sa.URL, timeouts: Timeouts, driver: Any, record: Any) -> None:  # noqa: ANN401
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
    seconds = _probe_seconds(timeouts)
    options = {
        "TCP_KEEPIDLE": seconds * _PROBES,
        "TCP_KEEPINTVL": seconds,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": timeouts.dead * 1000,
    }
    for name, value in options.items():
        with suppress(AttributeError, OSError):  # another system, or a Unix socket
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
