"""Tables that hold many years: keys in the order of time, and up to where a copy is kept.

Changes of an audit carry its time, which begins their key: they are inserted side by side, and a
year's can be found and removed. MySQL and MariaDB number the audits, so that rows do not lie in the
order of random ids. Changes of audits that somebody deleted alone have no time, and go.

A migration changes the schema only, stays readable by the release before it, never calls code of
the product, and is never edited once it has shipped. Each of its steps does nothing where it has
been done: MySQL and MariaDB keep what a migration had done when it died.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = (
    sa.String(23)
    .with_variant(postgresql.TIMESTAMP(timezone=True, precision=3), "postgresql")
    .with_variant(mysql.DATETIME(fsp=3), "mysql", "mariadb")
)
#: PostgreSQL's order of texts byte by byte.
BYTE_ORDER = "C"
NAME = sa.String(64).with_variant(sa.String(64, collation=BYTE_ORDER), "postgresql")
#: The tables of changes, and the columns of each that 0001 has given it.
CHANGES = {
    "audit_entity_changes": "organization, event_id, position, entity_type, entity_id, "
    "entity_name, old_values, new_values",
    "audit_property_changes": "organization, event_id, position, property, old_values, new_values",
}
OLD_KEY = ["organization", "event_id", "position"]
NEW_KEY = ["event_date", "organization", "event_id", "position"]
#: A table grows by insertions alone. PostgreSQL by itself waits for a tenth or a fifth of its rows,
#: which are more with each year.
VACUUM = {
    "autovacuum_vacuum_insert_scale_factor": "0.01",
    "autovacuum_analyze_scale_factor": "0.01",
}
NUMBERED = {"receipts": "receipt_id", "verifications": "verification_id"}
#: What gets into an index, of which PostgreSQL takes no long texts; `raw` has the whole of them.
CUT = {"audit_events": "client_id", "audit_entity_changes": "entity_id"}
#: By table, the columns of each index.
NEW_INDEXES = (
    ("audit_events", ("client_id", "event_date")),
    ("audit_entity_changes", ("entity_id", "event_date")),
)
#: Null in most rows, which then are in no index of it where the database can leave them out.
SELDOM = {"client_id"}


def upgrade() -> None:
    if _dialect() == "postgresql":
        # Row-level security raises an error instead of leaving rows out, and no other program can
        # insert rows while the tables are rewritten.
        op.execute("SET LOCAL row_security = off")
        op.execute(f"LOCK TABLE {', '.join(('audit_events', *CHANGES))} IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "retention",
        sa.Column("organization", NAME, nullable=False),
        sa.Column("kept_from", TIME, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("organization", name="pk_retention"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
        if_not_exists=True,
    )
    for table in CHANGES:
        _add_time(table)
    if _dialect() == "postgresql":
        _tell_postgresql()
    if _is_mysql():
        _number_audits()
    for table, columns in (*NEW_INDEXES, ("audit_events", _span())):
        _index(table, columns)
    _drop_index("audit_events", ("event_date",))
    if _dialect() == "sqlite":
        op.execute("PRAGMA analysis_limit = 1000")
        op.execute("ANALYZE")


def downgrade() -> None:
    _index("audit_events", ("event_date",))
    for table, columns in (*NEW_INDEXES, ("audit_events", _span())):
        _drop_index(table, columns)
    if _is_mysql():
        _forget_numbers()
    if _dialect() == "postgresql":
        for table in filter(_is_plain, ("audit_events", *CHANGES)):
            op.execute(f"ALTER TABLE {table} RESET ({', '.join(VACUUM)})")
    for table in CHANGES:
        _remove_time(table)
    op.drop_table("retention")


def _dialect() -> str:
    return op.get_bind().dialect.name


def _is_mysql() -> bool:
    return _dialect() in {"mysql", "mariadb"}


def _span() -> tuple[str, str]:
    """The columns of the index for a span of time, of one organisation or of all.

    SQLite takes an equality for better than a span, however many rows it has, and with statistics
    passes over a first column of few values. The others do neither.
    """
    is_sqlite = _dialect() == "sqlite"
    return ("organization", "event_date") if is_sqlite else ("event_date", "organization")


def _columns(table: str) -> set[str]:
    return {str(column["name"]) for column in sa.inspect(op.get_bind()).get_columns(table)}


def _key(table: str) -> list[str]:
    return list(sa.inspect(op.get_bind()).get_pk_constraint(table)["constrained_columns"])


def _add_time(table: str) -> None:
    """Give each change its audit's time, and begin the key with it."""
    if _key(table) == NEW_KEY:
        return
    if _dialect() == "postgresql":
        _rewrite_in_postgresql(table)
    elif _dialect() == "sqlite":
        _rewrite_in_sqlite(table, NEW_KEY)
    else:
        _rewrite_in_mysql(table)


def _of_audits(table: str) -> str:
    """A query for the changes of a table and their audits' times."""
    columns = ", ".join(f"c.{name}" for name in CHANGES[table].split(", "))
    return (
        f"SELECT {columns}, e.event_date FROM {table} AS c JOIN audit_events AS e "  # noqa: S608 - our names
        "ON e.organization = c.organization AND e.id = c.event_id"
    )


def _rewrite_in_postgresql(table: str) -> None:
    # An UPDATE would leave each row there twice. Rights, triggers and views of the table stay.
    columns = f"{CHANGES[table]}, event_date"
    triggers = _triggers_in_postgresql(table)
    for name in triggers:
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
    op.execute(f"CREATE TABLE new_{table} AS {_of_audits(table)}")
    op.execute(f"TRUNCATE {table}")
    op.execute(
        f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}, "
        "ADD COLUMN event_date TIMESTAMP(3) WITH TIME ZONE NOT NULL"
    )
    op.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new_{table} "  # noqa: S608 - our names
        f"ORDER BY {', '.join(NEW_KEY)}"
    )
    op.create_primary_key(f"pk_{table}", table, NEW_KEY)
    op.drop_table(f"new_{table}")
    for name, enable in triggers.items():
        op.execute(f"ALTER TABLE {table} {enable} TRIGGER {name}")


def _triggers_in_postgresql(table: str) -> dict[str, str]:
    """The enabled triggers of a user: their quoted names, and the word that enables each again."""
    query = (
        "SELECT quote_ident(tgname), tgenabled::text FROM pg_trigger "  # noqa: S608 - our names
        f"WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal AND tgenabled <> 'D'"
    )
    enable = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    return {str(name): enable[kind] for name, kind in op.get_bind().execute(sa.text(query))}


def _rewrite_in_sqlite(table: str, key: list[str]) -> None:
    """Rebuild the table: with the new key and the time, or with the old key and without it."""
    added = (
        "SELECT sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL "  # noqa: S608 - our names
        f"AND tbl_name = '{table}'"
    )
    by_others = op.get_bind().execute(sa.text(added)).scalars().all()
    op.execute("PRAGMA legacy_alter_table = ON")  # views of the table stay as they are
    is_new = key == NEW_KEY
    own = CHANGES[table].split(", ")[len(OLD_KEY) :]
    op.create_table(
        f"new_{table}",
        sa.Column("organization", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text) for name in own),
        *([sa.Column("event_date", TIME, nullable=False)] if is_new else []),
        sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"),
        sqlite_with_rowid=not is_new,
    )
    rows = _of_audits(table) if is_new else f"SELECT {CHANGES[table]} FROM {table}"  # noqa: S608 - our names
    order = "e.event_date, c.organization, c.event_id, c.position" if is_new else ", ".join(key)
    op.execute(f"INSERT INTO new_{table} {rows} ORDER BY {order}")
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)
    op.execute("PRAGMA legacy_alter_table = OFF")
    for statement in by_others:
        op.get_bind().exec_driver_sql(statement)


def _rewrite_in_mysql(table: str) -> None:
    if "event_date" not in _columns(table):
        op.add_column(table, sa.Column("event_date", TIME))
    op.execute(
        f"UPDATE {table} AS c JOIN audit_events AS e "  # noqa: S608 - our names
        "ON e.organization = c.organization AND e.id = c.event_id "
        "SET c.event_date = e.event_date WHERE c.event_date IS NULL"
    )
    op.execute(
        f"DELETE c FROM {table} AS c LEFT JOIN audit_events AS e "
        "ON e.organization = c.organization AND e.id = c.event_id "
        "WHERE c.event_date IS NULL AND e.id IS NULL"
    )
    op.execute(
        f"ALTER TABLE {table} MODIFY event_date DATETIME(3) NOT NULL, DROP PRIMARY KEY, "
        f"ADD PRIMARY KEY ({', '.join(f'`{name}`' for name in NEW_KEY)})"
    )


def _remove_time(table: str) -> None:
    if _dialect() == "sqlite":
        _rewrite_in_sqlite(table, OLD_KEY)
    elif _dialect() == "postgresql":
        op.drop_constraint(f"pk_{table}", table)
        op.drop_column(table, "event_date")
        op.create_primary_key(f"pk_{table}", table, OLD_KEY)
    else:
        key = ", ".join(f"`{name}`" for name in OLD_KEY)
        op.execute(
            f"ALTER TABLE {table} DROP PRIMARY KEY, DROP COLUMN event_date, ADD PRIMARY KEY ({key})"
        )


def _tell_postgresql() -> None:
    """Have tables vacuumed as they grow, and numbers made by the table itself."""
    connection = op.get_bind()
    known = set(connection.execute(sa.text("SELECT name FROM pg_settings")).scalars())
    options = ", ".join(f"{name} = {value}" for name, value in VACUUM.items() if name in known)
    for table in filter(_is_plain, ("audit_events", *CHANGES)):
        op.execute(f"ALTER TABLE {table} SET ({options})")
    methods = "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'"
    if "lz4" in (connection.execute(sa.text(methods)).scalar() or ()):
        op.execute("ALTER TABLE audit_events ALTER COLUMN raw SET COMPRESSION lz4")
        if _is_plain("audit_events"):
            op.execute("ALTER TABLE audit_events RESET (toast_tuple_target)")
    for table, column in NUMBERED.items():
        _number_by_identity(table, column)
    for table, column in CUT.items():
        long = f"SELECT 1 FROM {table} WHERE length({column}) > 512 LIMIT 1"  # noqa: S608 - our names
        if connection.execute(sa.text(long)).first() is not None:
            # After an UPDATE an index would hold what was there before, too.
            kind = f'text COLLATE "{BYTE_ORDER}" USING left({column}, 512)'
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {kind}")


def _is_plain(table: str) -> bool:
    """Whether nobody has partitioned the table: storage parameters are those of partitions then."""
    kind = sa.text(f"SELECT relkind = 'r' FROM pg_class WHERE oid = '{table}'::regclass")  # noqa: S608 - our names
    return bool(op.get_bind().execute(kind).scalar_one())


def _number_by_identity(table: str, column: str) -> None:
    connection = op.get_bind()
    is_done = (
        "SELECT attidentity <> '' FROM pg_attribute "  # noqa: S608 - our names
        f"WHERE attrelid = '{table}'::regclass AND attname = '{column}'"
    )
    if connection.execute(sa.text(is_done)).scalar_one():
        return
    next_one = f"SELECT coalesce(max({column}), 0) + 1 FROM {table}"  # noqa: S608 - our names
    sequence = sa.text(f"SELECT pg_get_serial_sequence('{table}', '{column}')")
    name = connection.execute(sequence).scalar_one()
    op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT")
    if name is not None:
        given = f"SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM {name}"  # noqa: S608 - our names
        next_one = f"SELECT greatest(({next_one}), ({given}))"
    start = connection.execute(sa.text(next_one)).scalar_one()
    if name is not None:
        op.execute(f"DROP SEQUENCE {name}")
    op.execute(
        f"ALTER TABLE {table} ALTER COLUMN {column} "
        f"ADD GENERATED BY DEFAULT AS IDENTITY (START WITH {start})"
    )


def _number_audits() -> None:
    if "row_id" not in _columns("audit_events"):
        op.execute(
            "ALTER TABLE audit_events "
            "ADD COLUMN row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE FIRST, "
            "DROP PRIMARY KEY, ADD PRIMARY KEY (row_id), "
            "ADD UNIQUE KEY uq_audit_events_organization_id (organization, id)"
        )


def _forget_numbers() -> None:
    if "row_id" in _columns("audit_events"):
        op.execute(
            "ALTER TABLE audit_events DROP PRIMARY KEY, DROP COLUMN row_id, "
            "DROP INDEX uq_audit_events_organization_id, ADD PRIMARY KEY (organization, id)"
        )


def _name(table: str, columns: tuple[str, ...]) -> str:
    return f"ix_{table}_{'_'.join(columns)}"


def _has_index(table: str, columns: tuple[str, ...]) -> bool:
    indexes = sa.inspect(op.get_bind()).get_indexes(table)
    return _name(table, columns) in {index["name"] for index in indexes}


def _index(table: str, columns: tuple[str, ...]) -> None:
    """Create an index, of which MySQL and MariaDB hold the first characters of a text."""
    if not _has_index(table, columns):
        texts = {name: 100 for name in columns[:1] if name not in {"event_date", "organization"}}
        some = sa.text(f"{columns[0]} IS NOT NULL") if columns[0] in SELDOM else None
        op.create_index(
            _name(table, columns),
            table,
            list(columns),
            mysql_length=texts,
            mariadb_length=texts,
            postgresql_where=some,
            sqlite_where=some,
        )


def _drop_index(table: str, columns: tuple[str, ...]) -> None:
    if _has_index(table, columns):
        op.drop_index(_name(table, columns), table)
