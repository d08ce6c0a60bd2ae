"""Batches gathered into groups that are large enough to be worth a transaction or a file."""

from collections.abc import Iterable, Iterator

from etl.records import Audit, Batch, Reject


def grouped(batches: Iterable[Batch], size_bytes: int) -> Iterator[Batch]:
    """The batches' rows, in order, in groups whose raw JSON is about `size_bytes` together."""
    audits: list[Audit] = []
    rejects: list[Reject] = []
    size = 0
    for batch in batches:
        audits.extend(batch.audits)
        rejects.extend(batch.rejects)
        size += sum(len(a.raw) for a in batch.audits) + sum(len(r.raw) for r in batch.rejects)
        if size >= size_bytes:
            yield Batch(tuple(audits), tuple(rejects))
            audits, rejects, size = [], [], 0
    if audits or rejects:
        yield Batch(tuple(audits), tuple(rejects))
