"""A page's bytes to typed rows. Pure: no clock, no input or output.

`split` and `split_results` cut an answer's body into records, `normalise` makes rows of them;
`keyed` reads only their keys, and `whole` the rest of one when its row is wanted. Two wire shapes
give the same rows: the API's (`eventDate`, `user`, `client`) and the bulk download's (`eventTime`,
`userId`, `clientId`).
The vendor's contract promises no member, so each may be absent, null, empty or of another type;
only the id and the time are needed, and a record without them becomes a `Reject`. `raw` keeps each
record as it was received.
"""

from etl.records.normalise import Unreadable, keyed, normalise, whole
from etl.records.pages import Page, split, split_array, split_results
from etl.records.rows import Audit, Batch, EntityChange, Keyed, PropertyChange, Records, Reject

__all__ = [
    "Audit",
    "Batch",
    "EntityChange",
    "Keyed",
    "Page",
    "PropertyChange",
    "Records",
    "Reject",
    "Unreadable",
    "keyed",
    "normalise",
    "split",
    "split_array",
    "split_results",
    "whole",
]
