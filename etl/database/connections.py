"""How connections to a database are opened, kept alive and bounded in time.

A server whose machine is gone answers nothing, and TCP alone waits for it for two hours. So every
wait for a server ends: connecting, a peer that acknowledges nothing, and a statement that says
nothing. What the user's URL or environment sets wins over these defaults.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from etl import encryption
from etl.database import mysql, postgresql
from etl.database.timeouts import Timeouts
from etl.errors import ConfigurationError


def connect_arguments(url: sa.URL, timeouts: Timeouts) -> dict[str, Any]:
    """What the driver is given beside the URL, without what the user has set."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        ours: dict[str, Any] = {"timeout": timeouts.lock}
        given = set(url.query)
    elif backend == "postgresql":
        chosen = postgresql.settings(_in_url(url))
        ours = postgresql.arguments(timeouts) | encryption.postgresql_arguments(chosen)
        given = set(chosen)
    else:
        ours = {
            "connect_timeout": timeouts.connect,
            "read_timeout": timeouts.connect,  # until it is connected, see `mysql`
            "write_timeout": timeouts.statement,
            "charset": "utf8mb4",
            "use_unicode": True,
        }
        given = set(url.query)
    _require_once(url)
    _require_known(backend, url.query)
    ours = {key: value for key, value in ours.items() if key not in given - _REQUIRED}
    if backend in _MYSQL:
        ours |= encryption.mysql_arguments(mysql.settings(_in_url(url)))
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
        return encryption.postgresql_caveat(postgresql.settings(_in_url(url)))
    return encryption.mysql_caveat(mysql.settings(_in_url(url))) if backend in _MYSQL else None


def _in_url(url: sa.URL) -> dict[str, str]:
    query = {k: v if isinstance(v, str) else ",".join(v) for k, v in url.query.items()}
    return {"host": url.host, **query} if url.host else query


def watch(engine: sa.Engine, timeouts: Timeouts) -> None:
    """Have the engine's connections to a server prepared, and bounded in time."""
    if engine.dialect.name == "postgresql":
        postgresql.watch(engine, timeouts)
    else:
        event.listen(engine, "do_connect", partial(mysql.connect, engine.url, timeouts))


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
