"""Groups of batches: whole, in order, and dropped when their taker drops them."""

from datetime import UTC, datetime
from sys import getrefcount

from etl.destinations.sql.groups import grouped
from etl.records import Audit, Batch


def batch(*names: str) -> Batch:
    time = datetime(2026, 4, 1, tzinfo=UTC)
    return Batch(tuple(Audit(id=name, event_date=time, raw=b"12345678") for name in names))


def test_all_rows_come_once_in_their_order_and_one_group_is_the_last() -> None:
    batches = [batch("a", "b"), batch("c"), batch("d"), batch("e")]
    groups = [
        ([a.id for a in rows.audits], is_last) for rows, is_last in grouped(batches, size_bytes=16)
    ]
    assert groups == [(["a", "b"], False), (["c", "d"], False), (["e"], True)]


def test_a_group_that_was_dropped_is_freed_before_the_next_is_gathered() -> None:
    groups = grouped((batch(name) for name in "abc"), size_bytes=8)
    rows, _ = next(groups)
    audit = rows.audits[0]
    del rows
    alone = object()
    assert getrefcount(audit) == getrefcount(alone), "the generator keeps the group alive"
