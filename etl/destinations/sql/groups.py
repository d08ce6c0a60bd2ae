"""Batches gathered into groups that are large enough to be worth a transaction or a file."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from etl.records import Audit, Batch, Reject


class Group(NamedTuple):
    """Some batches' rows, in their order.

    Attributes:
        rows: at least one, unless there are none at all.
        is_last: whether there are no more after these.
    """

    rows: Batch
    is_last: bool


def grouped(batches: Iterable[Batch], size_bytes: int) -> Iterator[Group]:
    """The batches' rows in groups whose raw JSON is about `size_bytes` together.

    There is exactly one last group, and it comes last; it is empty if all batches are. A group is
    given when the batch after it has come: whoever drops it then holds no two at a time.
    """
    audits: list[Audit] = []
    rejects: list[Reject] = []
    size = 0
    for batch in batches:
        if size >= size_bytes:
            yield Group(_drained(audits, rejects), is_last=False)
            size = 0
        audits.extend(batch.audits)
        rejects.extend(batch.rejects)
        size += batch.size
    yield Group(_drained(audits, rejects), is_last=True)


def _drained(audits: list[Audit], rejects: list[Reject]) -> Batch:
    """What was gathered; the lists are empty afterwards, and keep nothing of it alive."""
    batch = Batch(tuple(audits), tuple(rejects))
    audits.clear()
    rejects.clear()
    return batch
