"""Errors of database drivers in our words, without a value of the rows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from etl.database.remedies import CONFLICTS, DEMOTED, codes_of, holds_no_value, remedy
from etl.errors import DestinationUnavailable

#: Where MySQL and MariaDB name a constraint, a key or a column: the last such words are theirs.
_NAMED: Final = re.compile(
    r"(CONSTRAINT `[^`]+`|[Cc]onstraint '[^']+'|for key '[^']+'|Column '[^']+'"
    r"|column (?:'[^']+'|`[^`]+`(?:\.`[^`]+`)*) at row \d+$)"
)

#: Where PostgreSQL names the table and the column of a row that it cannot read.
_COPIED: Final = re.compile(r"COPY (\w+), line \d+(?:, column (\w+))?")


class Contended(DestinationUnavailable):
    """The database undid a transaction in favour of another one's."""


@contextmanager
def translated(engine: sa.Engine, *, asked: bool = False) -> Iterator[None]:
    """Give the driver's errors inside the block as `DestinationUnavailable`.

    Args:
        asked: a user's own question runs in it: the error may quote values of the rows.
    """
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.TimeoutError as error:
        raise DestinationUnavailable(
            f"all {_size(engine)} connections of this program to {name_of(engine)} have been in "
            "use for too long; nothing that was in work counts as done, run the same command "
            "again, with a lower `concurrency` if it happens again"
        ) from error
    except exc.DBAPIError as error:
        codes = codes_of(error)
        if codes & DEMOTED:
            engine.dispose()  # whoever connects anew may reach the server that took over
        if not asked and not holds_no_value(error):
            raise refused(engine, error) from None
        kind = DestinationUnavailable if codes.isdisjoint(CONFLICTS) else Contended
        raise kind(
            f"{name_of(engine)} failed: {_first_line(error)}; nothing that was in work counts as "
            f"done, run the same command again when {remedy(codes, str(error.orig), engine.url)}"
        ) from error


def refused(engine: sa.Engine, error: exc.DBAPIError) -> DestinationUnavailable:
    """What nothing of ours can satisfy, without a value of the rows."""
    return DestinationUnavailable(
        f"{name_of(engine)} refuses rows: {_rule(error)}; nothing that was in work counts as "
        "done. Remove constraints and triggers that were added to audit-etl's tables, or make them "
        "accept every audit, and give changed columns their types back, then run the same command "
        "again"
    )


def _rule(error: exc.DBAPIError) -> str:
    """Which rule or column of which table refuses, by the driver's error.

    PostgreSQL and SQLite name a constraint without values; all others may tell a value first.
    """
    own = error.orig
    diagnosed = getattr(own, "diag", None)
    if diagnosed is not None:
        state = f"SQLSTATE {diagnosed.sqlstate}" if diagnosed.sqlstate else type(own).__name__
        rule = diagnosed.constraint_name or diagnosed.column_name or state
        if diagnosed.table_name:
            return f"{rule} of table {diagnosed.table_name}"
        copied = _COPIED.match(diagnosed.context or "")
        return f"{state} at {'.'.join(filter(None, copied.groups()))}" if copied else str(rule)
    code, *told = own.args if own else ()
    if isinstance(code, int):
        named = _NAMED.findall(str(told[0]) if told else "")
        return f"{named[-1] if named else 'a value or a constraint'} (error {code})"
    return _first_line(error)


def _size(engine: sa.Engine) -> int:
    return engine.pool.size() if isinstance(engine.pool, sa.QueuePool) else 1


def name_of(engine: sa.Engine) -> str:
    """The database as a user knows it, without a password."""
    url = engine.url
    hosts = url.query.get("host", "")
    if not url.host and hosts:  # several of PostgreSQL, of which one takes writes
        url = url.set(host="HOSTS")
    text = url.set(query={}).render_as_string(hide_password=True)
    joined = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"the database {text.replace('HOSTS', joined)}"


def _first_line(error: exc.DBAPIError) -> str:
    """What the driver says, in one line: its text without SQLAlchemy's SQL and parameters."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__
