"""How each database keeps an instant."""

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Of `YYYY-MM-DD HH:MM:SS.mmm`.
_TIME_LENGTH: Final = 23


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime of whole milliseconds.

    TIMESTAMPTZ(3) on PostgreSQL, DATETIME(3) in UTC on MySQL and MariaDB, and on SQLite the text
    `YYYY-MM-DD HH:MM:SS.mmm`, which sorts as time does.
    """

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True, precision=3))
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=3))
        return dialect.type_descriptor(sa.String(_TIME_LENGTH))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """What the driver is given for `value`."""
        return None if value is None else bound_time(value, dialect.name)

    def process_result_value(
        self,
        value: datetime | str | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """The aware datetime of what the driver gave."""
        return None if value is None else read_time(value)


def bound_time(value: datetime, dialect_name: str) -> datetime | str:
    """`value`, an aware datetime, as a driver of the dialect takes it in plain SQL."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    if dialect_name == "sqlite":
        return text_time(value)
    if value.microsecond % 1000:
        value = value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value if dialect_name == "postgresql" else value.replace(tzinfo=None)


#: The numbers from 0, in two digits and in three.
_TWO: Final = [f"{number:02}" for number in range(60)]

_THREE: Final = [f"{number:03}" for number in range(1000)]


def text_time(value: datetime) -> str:
    """The text `YYYY-MM-DD HH:MM:SS.mmm` of an instant whose time zone is UTC.

    It is `isoformat(" ", "milliseconds")` without the offset, in half of the time.
    """
    return (
        f"{value.year:04}-{_TWO[value.month]}-{_TWO[value.day]} {_TWO[value.hour]}:"
        f"{_TWO[value.minute]}:{_TWO[value.second]}.{_THREE[value.microsecond // 1000]}"
    )


def read_time(value: datetime | str) -> datetime:
    """The aware UTC datetime of what a driver gave for a column of `UtcTime`."""
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
