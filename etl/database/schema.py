"""The tables, declared once: Alembic, the loaders and the documents all read this.

Texts have no length limit but for what a primary key needs. Times are UTC. What the contract
calls JSON is JSONB on PostgreSQL, JSON on MySQL and MariaDB, text on SQLite. Identifiers compare
byte by byte on every database, so that two ids that differ only in case are two ids.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from etl.database.times import UtcTime

#: The migration that this version of the program needs; a test holds it against `migrations/`.
HEAD: Final = "0003"

#: What one kind of database has in place of what is declared here: 0003 says why.
DIFFERENT: Final = {
    "row_id",
    "uq_audit_events_organization_id",
    "ix_audit_events_event_date_organization",
    "ix_audit_events_organization_event_date",
}

#: Where Alembic keeps the version of these tables: other programs have an `alembic_version`.
VERSION_TABLE: Final = "audit_etl_version"

#: The version of tables that stand without that one: 0.1.0 kept it in `alembic_version`.
FIRST: Final = "0001"

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

#: How much of a text an index of MySQL or MariaDB holds, in characters.
_INDEXED_CHARACTERS: Final = 100


def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        *items,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
        sqlite_with_rowid=not name.endswith("_changes"),
    )


#: PostgreSQL's order of texts byte by byte. Another order comes from the system's libraries, whose
#: update can leave an index unsorted: a key that is there would not be found, and inserted again.
_BYTE_ORDER: Final = "C"


def _string(length: int) -> sa.String:
    """A text of up to `length` characters."""
    in_bytes = sa.String(length, collation=_BYTE_ORDER)
    return sa.String(length).with_variant(in_bytes, "postgresql")


_Text = (
    sa.Text()
    .with_variant(sa.Text(collation=_BYTE_ORDER), "postgresql")
    .with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
)
_Json = (
    sa.Text()
    .with_variant(postgresql.JSONB(), "postgresql")
    .with_variant(mysql.JSON(), "mysql", "mariadb")
)
_Name = _string(64)

#: `Column.info` of a JSON column: what it holds, for destinations that have types for it.
SHAPE: Final = "shape"
TEXTS: Final = {SHAPE: "list of texts"}
TEXT_MAP: Final = {SHAPE: "map of texts"}
_Id = _string(255)


def _index(table: str, *columns: str) -> sa.Index:
    """An index for one of docs/questions.md; texts count for their first characters on MySQL."""
    lengths = {name: _INDEXED_CHARACTERS for name in columns[:1] if name != "event_date"}
    return sa.Index(
        f"ix_{table}_{'_'.join(columns)}", *columns, mysql_length=lengths, mariadb_length=lengths
    )


audit_events: Final = _table(
    "audit_events",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("id", _Id, primary_key=True),
    sa.Column("event_date", UtcTime(), nullable=False),
    sa.Column("service_name", _Text),
    sa.Column("action", _Text),
    sa.Column("entity_type", _Text),
    sa.Column("entity_id", _Text),
    sa.Column("entity_name", _Text),
    sa.Column("level", _Text),
    sa.Column("status", _Text),
    sa.Column("application", _Text),
    sa.Column("user_id", _Text),
    sa.Column("user_name", _Text),
    sa.Column("user_home_org_id", _Text),
    sa.Column("client_id", _Text),
    sa.Column("message", _Text),
    sa.Column("transaction_id", _Text),
    sa.Column("transaction_action", _Text),
    sa.Column("transaction_initiator", sa.Boolean(create_constraint=False)),
    sa.Column("remote_ips", _Json, info=TEXTS),
    sa.Column("message_params", _Json, info=TEXT_MAP),
    sa.Column("context", _Json, info=TEXT_MAP),
    sa.Column("raw", _Text, nullable=False),
    sa.Column("loaded_at", UtcTime(), nullable=False),
    _index("audit_events", "event_date", "organization"),
    _index("audit_events", "service_name", "event_date"),
    _index("audit_events", "entity_id", "event_date"),
    _index("audit_events", "user_id", "event_date"),
    _index("audit_events", "client_id", "event_date"),
)


def _changes(name: str, own: list[sa.Column[Any]], *indexes: sa.Index) -> sa.Table:
    """A table of an audit's changes, side by side in the order of its time.

    By id alone, which has no order, each insertion would change another page.
    """
    return _table(
        name,
        sa.Column("organization", _Name, nullable=False),
        sa.Column("event_id", _Id, nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        *own,
        sa.Column("old_values", _Json, info=TEXTS),
        sa.Column("new_values", _Json, info=TEXTS),
        sa.Column("event_date", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("event_date", "organization", "event_id", "position"),
        *indexes,
    )


audit_property_changes: Final = _changes("audit_property_changes", [sa.Column("property", _Text)])

audit_entity_changes: Final = _changes(
    "audit_entity_changes",
    [sa.Column(name, _Text) for name in ("entity_type", "entity_id", "entity_name")],
    _index("audit_entity_changes", "entity_id", "event_date"),
)

early_audits: Final = _table(
    "early_audits",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("id", _Id, primary_key=True),
    sa.Column("loaded_at", UtcTime(), nullable=False),
)

audit_services: Final = _table(
    "audit_services",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("service", _string(128), primary_key=True),
    sa.Column("entity_type", _string(128), primary_key=True),
    sa.Column("action", _string(128), primary_key=True),
    sa.Column("realtime", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("first_seen", UtcTime(), nullable=False),
    sa.Column("last_seen", UtcTime(), nullable=False),
)


def _number(name: str) -> sa.Column[int]:
    """A number that the database gives each row."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, sa.Identity(), primary_key=True)


audit_rejects: Final = _table(
    "audit_rejects",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("digest", _string(64), primary_key=True),  # SHA-256 of raw: asked twice, kept once
    sa.Column("reason", _Text, nullable=False),
    sa.Column("raw", _Text, nullable=False),
    sa.Column("received_at", UtcTime(), nullable=False),
)

watermarks: Final = _table(
    "watermarks",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("stream", _string(128), primary_key=True),
    sa.Column("begins_at", UtcTime(), nullable=False),
    sa.Column("watermark", UtcTime(), nullable=False),
    sa.Column("updated_at", UtcTime(), nullable=False),
)

receipts: Final = _table(
    "receipts",
    _number("receipt_id"),
    sa.Column("organization", _Name, nullable=False),
    sa.Column("stream", _string(128), nullable=False),
    sa.Column("window_start", UtcTime(), nullable=False),
    sa.Column("window_end", UtcTime(), nullable=False),
    sa.Column("query_id", _Id, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("new_events", sa.BigInteger, nullable=False),
    sa.Column("rejects", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("schedule", _Name, nullable=False),
    sa.Column("started_at", UtcTime(), nullable=False),
    sa.Column("loaded_at", UtcTime(), nullable=False),
    #: NULL for 0.1.0, which did not count them.
    sa.Column("repeated", sa.BigInteger),
    sa.Index("ix_receipts_stream_window", "organization", "stream", "window_end", "window_start"),
)

#: Receipts of time that was not over when they were written, because a clock was wrong.
void_receipts: Final = _table(
    "void_receipts",
    sa.Column("receipt_id", sa.BigInteger, primary_key=True, autoincrement=False),
    *(
        sa.Column(column.name, column.type, nullable=column.nullable)
        for column in receipts.c
        if column.name != "receipt_id"
    ),
    # In the key, since SQLite gives the number of a receipt that was removed to another one.
    sa.Column("voided_at", UtcTime(), primary_key=True),
)

late_arrivals: Final = _table(
    "late_arrivals",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("stream", _string(128), primary_key=True),
    sa.Column("month", _string(7), primary_key=True),  # of the load, YYYY-MM
    sa.Column("service", _string(128), primary_key=True),
    sa.Column("over_seconds", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("audits", sa.BigInteger, nullable=False),
)

verifications: Final = _table(
    "verifications",
    _number("verification_id"),
    sa.Column("organization", _Name, nullable=False),
    sa.Column("stream", _string(128), nullable=False),
    sa.Column("window_start", UtcTime(), nullable=False),
    sa.Column("window_end", UtcTime(), nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("missing", sa.BigInteger, nullable=False),
    sa.Column("extra", sa.BigInteger, nullable=False),
    sa.Column("repaired", sa.BigInteger, nullable=False),
    sa.Column("verified_at", UtcTime(), nullable=False),
    #: The program that compared, with its version; NULL for 0.1.0.
    sa.Column("verified_by", _string(64)),
    sa.Index("ix_verifications_stream", "organization", "stream"),
)

queries: Final = _table(
    "queries",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("stream", _string(128), primary_key=True),
    sa.Column("window_start", UtcTime(), primary_key=True),
    sa.Column("window_end", UtcTime(), primary_key=True),
    sa.Column("query_id", _Id, nullable=False),
    sa.Column("schedule", _Name, nullable=False),
    sa.Column("asked_at", UtcTime(), nullable=False),
    #: When the window failed for good, the query asked again; NULL while it is under way.
    sa.Column("failed_at", UtcTime()),
)

#: Before which time an organisation's audits are no longer kept, because somebody removed them.
retention: Final = _table(
    "retention",
    sa.Column("organization", _Name, primary_key=True),
    sa.Column("kept_from", UtcTime(), nullable=False),
    sa.Column("recorded_at", UtcTime(), nullable=False),
)

#: What must be the same at each run: the ledger, the lake, the organisation behind a name.
identities: Final = _table(
    "identities",
    sa.Column("kind", _string(32), primary_key=True),
    sa.Column("name", _Name, primary_key=True),
    sa.Column("identity", _Text, nullable=False),
    sa.Column("recorded_at", UtcTime(), nullable=False),
)

leases: Final = _table(
    "leases",
    sa.Column("name", _string(200), primary_key=True),
    sa.Column("holder", _string(255), nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("acquired_at", UtcTime(), nullable=False),
    sa.Column("expires_at", UtcTime(), nullable=False),
)
