"""A page's bytes to typed rows. Pure: no clock, no input or output.

`split` and `split_results` cut an answer's body into records, `reader` makes rows of them: no other
module does. Two wire shapes give the same rows: the API's (`eventDate`, `user`, `client`) and the
bulk download's (`eventTime`, `userId`, `clientId`).

The vendor's contract promises no member, so each may be absent, null, empty or of another type;
only the id and the time are needed, and a record without them becomes a `Reject`. `raw` keeps each
record as it was received.
"""

from etl.records.pages import Page, split, split_array, split_results
from etl.records.reader import MEMBERS, read_record, read_records
from etl.records.rows import Audit, Batch, EntityChange, PropertyChange, Reject

__all__ = [
    "MEMBERS",
    "Audit",
    "Batch",
    "EntityChange",
    "Page",
    "PropertyChange",
    "Reject",
    "read_record",
    "read_records",
    "split",
    "split_array",
    "split_results",
]
