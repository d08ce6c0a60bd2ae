"""The first tables: audits, their changes, services, rejects, progress and leases.

A migration changes the schema only, stays readable by the release before it, never calls code of
the product, and is never edited once it has shipped. Each of its steps does nothing where it has
been done: MySQL and MariaDB keep what a migration had done when it died.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = (
    sa.String(23)
    .with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
    .with_variant(mysql.DATETIME(fsp=3), "mysql", "mariadb")
)
#: PostgreSQL's order of texts byte by byte.
BYTE_ORDER = "C"
TEXT = (
    sa.Text()
    .with_variant(sa.Text(collation=BYTE_ORDER), "postgresql")
    .with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
)
JSON = (
    sa.Text()
    .with_variant(postgresql.JSONB(), "postgresql")
    .with_variant(mysql.JSON(), "mysql", "mariadb")
)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _string(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation=BYTE_ORDER), "postgresql")


def _create(name: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        *items,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
        if_not_exists=True,
    )


def _index(name: str, table: str, columns: list[str], *, texts: str = "") -> None:
    """Create an index, of which MySQL and MariaDB hold the first characters of column `texts`."""
    there = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
    if name not in there:
        lengths = {texts: 100} if texts else None
        op.create_index(name, table, columns, mysql_length=lengths, mariadb_length=lengths)


def upgrade() -> None:
    _create(
        "audit_entity_changes",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("event_id", _string(255), nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("entity_type", TEXT),
        sa.Column("entity_id", TEXT),
        sa.Column("entity_name", TEXT),
        sa.Column("old_values", JSON),
        sa.Column("new_values", JSON),
        sa.PrimaryKeyConstraint(
            "organization", "event_id", "position", name="pk_audit_entity_changes"
        ),
    )
    _create(
        "audit_events",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("id", _string(255), nullable=False),
        sa.Column("event_date", TIME, nullable=False),
        sa.Column("service_name", TEXT),
        sa.Column("action", TEXT),
        sa.Column("entity_type", TEXT),
        sa.Column("entity_id", TEXT),
        sa.Column("entity_name", TEXT),
        sa.Column("level", TEXT),
        sa.Column("status", TEXT),
        sa.Column("application", TEXT),
        sa.Column("user_id", TEXT),
        sa.Column("user_name", TEXT),
        sa.Column("user_home_org_id", TEXT),
        sa.Column("client_id", TEXT),
        sa.Column("message", TEXT),
        sa.Column("transaction_id", TEXT),
        sa.Column("transaction_action", TEXT),
        sa.Column("transaction_initiator", sa.Boolean(create_constraint=False)),
        sa.Column("remote_ips", JSON),
        sa.Column("message_params", JSON),
        sa.Column("context", JSON),
        sa.Column("raw", TEXT, nullable=False),
        sa.Column("loaded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("organization", "id", name="pk_audit_events"),
    )
    _index(
        "ix_audit_events_entity_id_event_date",
        "audit_events",
        ["entity_id", "event_date"],
        texts="entity_id",
    )
    _index("ix_audit_events_event_date", "audit_events", ["event_date"])
    _index(
        "ix_audit_events_service_name_event_date",
        "audit_events",
        ["service_name", "event_date"],
        texts="service_name",
    )
    _index(
        "ix_audit_events_user_id_event_date",
        "audit_events",
        ["user_id", "event_date"],
        texts="user_id",
    )
    if op.get_bind().dialect.name == "postgresql":
        # An audit of the usual 2.5 KiB is stored as it is: to compress it took a quarter of the
        # time of a load, for an eighth of the disk.
        op.execute("ALTER TABLE audit_events SET (toast_tuple_target = 4080)")
    _create(
        "audit_property_changes",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("event_id", _string(255), nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("property", TEXT),
        sa.Column("old_values", JSON),
        sa.Column("new_values", JSON),
        sa.PrimaryKeyConstraint(
            "organization", "event_id", "position", name="pk_audit_property_changes"
        ),
    )
    _create(
        "audit_rejects",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("digest", _string(64), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("raw", TEXT, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("organization", "digest", name="pk_audit_rejects"),
    )
    _create(
        "audit_services",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("service", _string(128), nullable=False),
        sa.Column("entity_type", _string(128), nullable=False),
        sa.Column("action", _string(128), nullable=False),
        sa.Column("realtime", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("first_seen", TIME, nullable=False),
        sa.Column("last_seen", TIME, nullable=False),
        sa.PrimaryKeyConstraint(
            "organization", "service", "entity_type", "action", name="pk_audit_services"
        ),
    )
    _create(
        "early_audits",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("id", _string(255), nullable=False),
        sa.Column("loaded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("organization", "id", name="pk_early_audits"),
    )
    _create(
        "late_arrivals",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("stream", _string(128), nullable=False),
        sa.Column("month", _string(7), nullable=False),
        sa.Column("service", _string(128), nullable=False),
        sa.Column("over_seconds", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("audits", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "organization",
            "stream",
            "month",
            "service",
            "over_seconds",
            name="pk_late_arrivals",
        ),
    )
    _create(
        "leases",
        sa.Column("name", _string(200), nullable=False),
        sa.Column("holder", _string(255), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("acquired_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    _create(
        "queries",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("stream", _string(128), nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("query_id", _string(255), nullable=False),
        sa.Column("schedule", _string(64), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint(
            "organization", "stream", "window_start", "window_end", name="pk_queries"
        ),
    )
    _create(
        "receipts",
        sa.Column("receipt_id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("stream", _string(128), nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("query_id", _string(255), nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("new_events", sa.BigInteger, nullable=False),
        sa.Column("rejects", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("schedule", _string(64), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("loaded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("receipt_id", name="pk_receipts"),
    )
    _index(
        "ix_receipts_stream_window",
        "receipts",
        ["organization", "stream", "window_end", "window_start"],
    )
    _create(
        "verifications",
        sa.Column("verification_id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("stream", _string(128), nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
        sa.Column("extra", sa.BigInteger, nullable=False),
        sa.Column("repaired", sa.BigInteger, nullable=False),
        sa.Column("verified_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("verification_id", name="pk_verifications"),
    )
    _index("ix_verifications_stream", "verifications", ["organization", "stream"])
    _create(
        "watermarks",
        sa.Column("organization", _string(64), nullable=False),
        sa.Column("stream", _string(128), nullable=False),
        sa.Column("begins_at", TIME, nullable=False),
        sa.Column("watermark", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("organization", "stream", name="pk_watermarks"),
    )


def downgrade() -> None:
    op.drop_table("watermarks")
    op.drop_table("verifications")
    op.drop_table("receipts")
    op.drop_table("queries")
    op.drop_table("leases")
    op.drop_table("late_arrivals")
    op.drop_table("early_audits")
    op.drop_table("audit_services")
    op.drop_table("audit_rejects")
    op.drop_table("audit_property_changes")
    op.drop_table("audit_events")
    op.drop_table("audit_entity_changes")
