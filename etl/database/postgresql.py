"""Connections to PostgreSQL, directly or through a pooler."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from etl.database.timeouts import PROBES, Timeouts, probe_seconds
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.abc import PQGen

T = TypeVar("T")

#: Settings of PostgreSQL that come from the user: from the URL, PGOPTIONS, ALTER ROLE or DATABASE.
_CHOSEN: Final = "'client', 'user', 'database', 'database user'"

_LOCAL: Final = "local settings"

#: How values come that psycopg can read; a role or a database may say otherwise.
_READABLE: Final = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres"}


def arguments(timeouts: Timeouts) -> dict[str, Any]:
    """What psycopg is given."""
    return {
        "connect_timeout": timeouts.connect,
        "keepalives": 1,
        "keepalives_idle": probe_seconds(timeouts) * PROBES,
        "keepalives_interval": probe_seconds(timeouts),
        "keepalives_count": PROBES,
        "tcp_user_timeout": timeouts.dead * 1000,
        "fallback_application_name": "audit-etl",
        "client_encoding": "utf8",  # else the environment's, or the database's
        "prepare_threshold": None,  # a pooler gives each transaction another session
    }


def settings(in_url: dict[str, str]) -> dict[str, str]:
    """What the user sets: in the URL, by variables such as PGSSLMODE, or in a service's file."""
    from psycopg import conninfo, pq

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


def _connect(
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


def _prepare(timeouts: Timeouts, driver: "Connection[Any]", record: Any) -> None:  # noqa: ANN401
    """Keep what each transaction begins with, and let the server notice that we are gone.

    Not in the startup packet, which PgBouncer refuses; not for the session, which it shares.
    """
    seconds = probe_seconds(timeouts)
    for_session = {
        "tcp_keepalives_idle": str(seconds * PROBES),
        "tcp_keepalives_interval": str(seconds),
        "tcp_keepalives_count": str(PROBES),
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


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info[_LOCAL])


def watch(engine: sa.Engine, timeouts: Timeouts) -> None:
    """See `connections.watch`."""
    event.listen(engine, "do_connect", partial(_connect, timeouts))
    event.listen(engine, "connect", partial(_prepare, timeouts))
    event.listen(engine, "begin", _begin)
