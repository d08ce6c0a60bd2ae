"""Groups of records of which some cannot be rows, or are larger than the database takes."""

from collections.abc import Callable
from typing import TypeVar

from etl.destinations.sql.rows import digest_of
from etl.errors import AuditTooLarge
from etl.records import Batch, Keyed, Records, Unreadable, normalise, whole

T = TypeVar("T")


def fitting(load: Callable[[Records], T], group: Records, left_out: list[AuditTooLarge]) -> T:
    """Load a group. It is read whole first if it holds a record that cannot be a row.

    Audits that are too large for the database are added to `left_out` instead.
    """
    while True:
        try:
            return load(group)
        except Unreadable:
            group = _read_whole(group)
        except AuditTooLarge as error:
            rest = _without(group, error.key)
            if rest.size == group.size:
                raise  # it is none of the group
            left_out.append(error)
            group = rest


def _without(group: Records, key: str) -> Records:
    audits = tuple(audit for audit in group.audits if audit.id != key)
    rejects = tuple(reject for reject in group.rejects if digest_of(reject) != key)
    return Records(audits, rejects)


def _read_whole(group: Records) -> Records:
    read = [_row_of(record) for record in group.audits]
    audits = (audit for batch in read for audit in batch.audits)
    rejects = (reject for batch in read for reject in batch.rejects)
    return Records(tuple(audits), (*group.rejects, *rejects))


def _row_of(record: Keyed) -> Batch:
    try:
        return Batch((whole(record),))
    except Unreadable:
        return normalise([record.raw])
