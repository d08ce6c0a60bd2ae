"""How a setting's value is shown, without secrets."""

from datetime import datetime, timedelta

from pydantic import SecretStr

from etl.database.urls import masked
from etl.window import format_duration, iso_utc


def shown(value: object) -> str:
    """A value as `audit-etl config` shows it."""
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return iso_utc(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else masked(str(value))
