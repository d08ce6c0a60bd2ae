"""What the settings of a database's server keep a run from doing, told before it happens."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from etl.database.errors import name_of
from etl.database.mysql import PACKET_BYTES
from etl.errors import ConfigurationError, DestinationUnavailable

#: Rows of the largest audits that are known fit such a packet; it is MariaDB's default.
PACKET_BYTES_ADVISED: Final = 16 * 1024 * 1024
#: A transaction, or a count over years of audits, may take so long on a slow disk.
SECONDS_ADVISED: Final = 600

#: Settings that end a statement or a transaction, and how many seconds of them one is.
_POSTGRESQL_LIMITS: Final = """
SELECT name, setting::bigint / 1000.0 FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout') AND setting::bigint > 0
"""
_MARIADB_LIMITS: Final = "SELECT 'max_statement_time', @@max_statement_time"
_MYSQL_LIMITS: Final = "SELECT 'max_execution_time', @@max_execution_time / 1000"

#: What a server of MySQL or MariaDB cannot have: not each has each of these variables.
_UNUSABLE: Final = """
SHOW VARIABLES WHERE variable_name IN ('log_bin', 'binlog_format', 'innodb_page_size')
"""
#: What the keys of our tables need.
_PAGE_BYTES: Final = 16 * 1024


def require_usable(connection: sa.Connection) -> None:
    """Return if the server and the database can hold audits at all.

    Raises:
        ConfigurationError: a PostgreSQL database does not hold every character; on MySQL and
            MariaDB the tables see to that.
        DestinationUnavailable: the server refuses each write, or the tables' keys.
    """
    if connection.dialect.name == "postgresql":
        _require_unicode(connection)
    elif connection.dialect.name != "sqlite":
        _require_writable(connection)


def _require_unicode(connection: sa.Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"{name_of(connection.engine)} has the encoding {encoding}, which does not hold every "
            "character of an audit: create it with CREATE DATABASE ... ENCODING 'UTF8' "
            "TEMPLATE template0"
        )


def _require_writable(connection: sa.Connection) -> None:
    of_server = {str(name): value for name, value in connection.exec_driver_sql(_UNUSABLE)}
    if of_server.get("log_bin") == "ON" and of_server.get("binlog_format") == "STATEMENT":
        raise DestinationUnavailable(
            f"{name_of(connection.engine)} takes no writes: binlog_format is STATEMENT, and "
            "transactions are READ COMMITTED; set it to MIXED or ROW in the server's configuration"
        )
    if (size := int(of_server.get("innodb_page_size", _PAGE_BYTES))) < _PAGE_BYTES:
        raise DestinationUnavailable(
            f"{name_of(connection.engine)} takes no keys as long as audit-etl's: innodb_page_size "
            f"is {size}; use a server whose data folder was made with {_PAGE_BYTES} or more"
        )


def database_warnings(connection: sa.Connection) -> Iterator[str]:
    """Warnings about the session's limits. Each names the setting, its value and what to set."""
    packet = connection.info.get(PACKET_BYTES)
    if packet is not None and packet < PACKET_BYTES_ADVISED:
        yield (
            f"max_allowed_packet is {packet} bytes: an audit that is larger as SQL cannot be "
            f"loaded, and its window fails; set it to {PACKET_BYTES_ADVISED} in the server's "
            "configuration"
        )
    query = _limits(connection.dialect)
    for name, seconds in connection.exec_driver_sql(query) if query else ():
        if 0 < seconds < SECONDS_ADVISED:
            yield (
                f"{name} is {seconds:g} seconds: a statement that takes longer ends the run; set "
                "it to 0 for this user"
            )


def _limits(dialect: sa.Dialect) -> str | None:
    if dialect.name == "postgresql":
        return _POSTGRESQL_LIMITS
    if dialect.name == "sqlite":
        return None
    return _MARIADB_LIMITS if getattr(dialect, "is_mariadb", False) else _MYSQL_LIMITS
