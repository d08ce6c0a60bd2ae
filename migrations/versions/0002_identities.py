"""Identities of what belongs together, who verified, void receipts, and what was given twice.

A migration changes the schema only, stays readable by the release before it, never calls code of
the product, and is never edited once it has shipped. Each of its steps does nothing where it has
been done: MySQL and MariaDB keep what a migration had done when it died.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0002"
down_revision = "0001"
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


def _add(table: str, column: sa.Column[Any]) -> None:
    there = {known["name"] for known in sa.inspect(op.get_bind()).get_columns(table)}
    if column.name not in there:
        op.add_column(table, column)


def upgrade() -> None:
    _create(
        "identities",
        sa.Column("kind", _string(32), nullable=False),
        sa.Column("name", _string(64), nullable=False),
        sa.Column("identity", TEXT, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_identities"),
    )
    _create(
        "void_receipts",
        sa.Column("receipt_id", sa.BigInteger, nullable=False, autoincrement=False),
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
        sa.Column("repeated", sa.BigInteger),
        sa.Column("voided_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("receipt_id", "voided_at", name="pk_void_receipts"),
    )
    _add("verifications", sa.Column("verified_by", _string(64)))
    _add("receipts", sa.Column("repeated", sa.BigInteger))
    _add("queries", sa.Column("failed_at", TIME))


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM queries WHERE failed_at IS NOT NULL"))
    op.drop_column("queries", "failed_at")
    op.drop_column("receipts", "repeated")
    op.drop_column("verifications", "verified_by")
    op.drop_table("void_receipts")
    op.drop_table("identities")
