"""Groups of records of which some are larger than the database takes."""

from collections.abc import Callable
from typing import TypeVar

from etl.destinations.sql.rows import digest_of
from etl.errors import AuditTooLarge
from etl.records import Batch

T = TypeVar("T")


def fitting(load: Callable[[Batch], T], group: Batch, left_out: list[AuditTooLarge]) -> T:
    """Load a group. Audits that are too large for the database are added to `left_out` instead."""
    while True:
        try:
            return load(group)
        except AuditTooLarge as error:
            rest = Batch(
                tuple(audit for audit in group.audits if audit.id != error.key),
                tuple(reject for reject in group.rejects if digest_of(reject) != error.key),
            )
            if rest.size == group.size:
                raise  # it is none of the group
            left_out.append(error)
            group = rest
