"""The only place where bytes become rows: a typed decode, and a lenient one where that fails."""

from collections.abc import Iterable
from typing import Final

import msgspec

from etl.records import lenient
from etl.records.normalise import audit_of
from etl.records.rows import Audit, Batch, Reject
from etl.records.shapes import WireAudit, wire_of

#: The members that the contract gives an audit, nested ones left out.
MEMBERS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(WireAudit))
_DECODER: Final = msgspec.json.Decoder(WireAudit)
#: How JSON writes the character that not every database takes.
_NUL: Final = b"\\u0000"


def read_records(records: Iterable[bytes]) -> Batch:
    """Rows of `records`, in their order; each record is in the batch once, as row or as reject."""
    audits: list[Audit] = []
    rejects: list[Reject] = []
    for row in map(read_record, records):
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            audits.append(row)
    return Batch(tuple(audits), tuple(rejects))


def read_record(record: bytes) -> Audit | Reject:
    """The row of one record, or why it cannot be one."""
    try:
        wire = _DECODER.decode(record)
        plain = _is_plain(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _lenient_row(record)
    return audit_of(wire, record) if plain else _lenient_row(record)


def _is_plain(record: bytes) -> bool:
    """Whether no text of it holds NUL.

    Raises:
        UnicodeDecodeError: it is no UTF-8; the decoder looks at no text that it steps over.
    """
    if not record.isascii():
        record.decode()
    first = record.find(b"\\")  # a single byte is looked for much faster than several
    return first < 0 or record.find(_NUL, first, record.rfind(b"\\") + len(_NUL)) < 0


def _lenient_row(record: bytes) -> Audit | Reject:
    text = record.decode("utf-8", "replace").replace("\x00", "\\u0000")
    raw = text.encode()
    try:
        wire = wire_of(lenient.read_object(text))
    except ValueError as error:
        return Reject(str(error), raw)
    except RecursionError:  # what could be read may still be too deep to be written again
        return Reject(lenient.TOO_DEEP, raw)
    return audit_of(wire, raw)
