"""From when on an organisation's audits are kept. Older ones were removed on purpose.

An operator writes the row, see docs/operating.md. What was removed is never queried again and never
counts as loaded, as verified or as missing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from etl.database.schema import retention
from etl.database.transactions import reading
from etl.errors import ConfigurationError
from etl.window import floor_second, iso_utc

#: Before every window; the year 1 is more than some databases take.
EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_REMEDY: Final = "correct kept_from in the table retention, or delete the row"


def kept_from(connection: sa.Connection, organization: str) -> datetime | None:
    """The first instant whose audits are kept; None if none were removed on purpose.

    Windows have whole seconds: a second of which a part was removed counts as removed.

    Raises:
        ConfigurationError: the row holds no time, which SQLite allows.
    """
    query = sa.select(retention.c.kept_from).where(retention.c.organization == organization)
    try:
        found = connection.execute(query).scalar()
    except ValueError as error:
        raise ConfigurationError(
            f"organisation {organization}: kept_from is no time ({error}): {_REMEDY}"
        ) from None
    return None if found is None else floor_second(found + timedelta(microseconds=999_999))


def start_of(connection: sa.Connection, organization: str) -> datetime:
    """As `kept_from`; before every window if none were removed on purpose."""
    return kept_from(connection, organization) or EARLIEST


def start_by(engine: sa.Engine, organization: str, now: datetime) -> datetime:
    """As `start_of`, for a load or a comparison.

    Raises:
        ConfigurationError: see `kept_from`; or it is in the future, so it cannot be true.
    """
    with reading(engine) as connection:
        start = start_of(connection, organization)
    if start > now:
        raise ConfigurationError(
            f"organisation {organization}: kept_from is {iso_utc(start)}, which is in the future. "
            f"Nothing is loaded or compared until it is corrected: {_REMEDY}"
        )
    return start
