"""Times as the vendor's API writes them, and as the simulator counts them, in milliseconds."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(instant: datetime) -> int:
    """Whole milliseconds from 1970 to `instant`, which must have a time zone."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def iso_utc(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds, as in the API's `startDate`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_instant(text: str) -> datetime:
    """ISO 8601 with a zone, or without one, then UTC: the vendor's own samples leave it out.

    Raises:
        ValueError: the text is something else.
    """
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
