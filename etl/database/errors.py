"""Errors of database drivers in our words, without a value of the rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import exc

from etl.database.refusals import is_duplicate, refusal
from etl.database.remedies import CONFLICTS, DEMOTED, codes_of, holds_no_value, remedy
from etl.errors import DestinationUnavailable


class Contended(DestinationUnavailable):
    """The database undid a transaction in favour of another one's."""


@contextmanager
def translated(engine: sa.Engine, *, asked: bool = False) -> Iterator[None]:
    """Give the driver's errors inside the block as `DestinationUnavailable`.

    Args:
        asked: a user's own question runs in it: the error may quote values of the rows.

    Raises:
        DestinationUnavailable: the database failed, or a rule refuses the rows.
        sqlalchemy.exc.IntegrityError: a key is there already.
    """
    try:
        yield
    except exc.IntegrityError as error:
        if is_duplicate(error):
            raise
        raise refused(engine, error) from None  # its text may hold the rows' values
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
    rule, cure = refusal(error)
    kind = DestinationUnavailable if codes_of(error).isdisjoint(CONFLICTS) else Contended
    return kind(
        f"{name_of(engine)} refuses rows: {rule}; nothing that was in work counts as "
        f"done. {cure}, then run the same command again"
    )


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
