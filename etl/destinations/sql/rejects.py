"""Rejects on their way into `audit_rejects`."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from etl.database import schema
from etl.destinations.sql.inserter import Inserter
from etl.destinations.sql.keys import Scope, absent_of
from etl.destinations.sql.rows import digest_of, reject_rows
from etl.records import Reject


def insert_rejects(
    connection: sa.Connection,
    inserter: Inserter,
    organization: str,
    rejects: Sequence[Reject],
    received_at: datetime,
) -> None:
    """Keep rejects aside, each once however often the source shows it."""
    if not rejects:
        return
    by_digest = {digest_of(reject): reject for reject in reversed(rejects)}
    scope = Scope(connection, organization, inserter.sizes.listed_keys)
    absent = absent_of(scope, schema.audit_rejects.c.digest, by_digest)
    new = {digest: by_digest[digest] for digest in absent}
    rows = reject_rows(organization, new, received_at, inserter.bound)
    inserter.insert(connection, (schema.audit_rejects, rows))
