"""Values as drivers take them."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from etl.database.times import bound_time, read_time

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1001, 1, 2), datetime(9998, 12, 30), timezones=OFFSETS)


@given(INSTANTS)
def test_a_time_is_kept_to_the_millisecond_by_every_database(instant: datetime) -> None:
    utc = instant.astimezone(UTC)
    kept = utc.replace(microsecond=utc.microsecond // 1000 * 1000)

    assert {
        read_time(bound_time(instant, name)) for name in ("postgresql", "mariadb", "sqlite")
    } == {kept}
    assert bound_time(instant, "sqlite") == kept.replace(tzinfo=None).isoformat(" ", "milliseconds")
