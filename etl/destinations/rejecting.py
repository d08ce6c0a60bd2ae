"""Rejects on their way into `audit_rejects`."""

from datetime import datetime

import sqlalchemy as sa

from etl import schema
from etl.destinations.inserting import Inserter
from etl.destinations.presence import absent_of
from etl.destinations.rows import digest_of, reject_rows
from etl.records import Batch


def insert_rejects(
    connection: sa.Connection,
    inserter: Inserter,
    organization: str,
    group: Batch,
    received_at: datetime,
) -> None:
    """Keep the group's rejects aside, each once however often the source shows it."""
    rejects = {digest_of(reject): reject for reject in reversed(group.rejects)}
    absent = absent_of(connection, schema.audit_rejects.c.digest, organization, rejects)
    rows = reject_rows(
        organization, {digest: rejects[digest] for digest in absent}, received_at, inserter.bound
    )
    inserter.insert(connection, (schema.audit_rejects, rows))
