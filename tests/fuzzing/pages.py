"""Any bytes as an answer's body: read to a page and rows, or refused with a ValueError."""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["etl"]):
    from etl.records import Audit, Reject, read_records, split, split_array, split_results

HEADS = (b"", b'{"entities":[', b'{"id":"q","entities":[{"id":"a","eventDate":"2026-03-01",')


def one_input(data: bytes) -> None:
    """Read `data` in all the ways in which an answer is read."""
    provider = atheris.FuzzedDataProvider(data)
    head = HEADS[provider.ConsumeIntInRange(0, len(HEADS) - 1)]
    size = provider.ConsumeIntInRange(1, 64)
    body = head + provider.ConsumeBytes(len(data))
    with contextlib.suppress(ValueError):
        check(split(body).records)
    with contextlib.suppress(ValueError):
        check(split_results(body, "q", first=size % 2 == 0).records)
    with contextlib.suppress(ValueError):
        chunks = (body[start : start + size] for start in range(0, len(body), size))
        for page in split_array(chunks, 3):
            check(page.records)
    check((body,))


def check(records: tuple[bytes, ...]) -> None:
    """Each record is in the batch once, with a text that every database holds."""
    batch = read_records(records)
    if len(batch.audits) + len(batch.rejects) != len(records):
        raise AssertionError("a record was lost")
    rows: list[Audit | Reject] = [*batch.audits, *batch.rejects]
    for row in rows:
        if b"\x00" in row.raw:
            raise AssertionError("NUL")
        row.raw.decode()
    for audit in batch.audits:
        if audit.id != audit.id.strip() or not 1000 <= audit.event_date.year <= 9999:
            raise AssertionError("no database holds this")
        for value in (audit.action, audit.message, audit.entity_id, *(audit.context or ())):
            (value or "").encode()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
