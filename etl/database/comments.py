"""PostgreSQL's comments on our tables and their columns, for those who look at them there.

MySQL and MariaDB have none: a comment on a column there takes a definition of the whole column.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.schema import SetColumnComment, SetTableComment

from etl.database import descriptions, schema

#: The comments that this role may write, each with its table, and its column unless that is null.
_COMMENTS: Final = sa.text("""
WITH ours AS (
    SELECT oid, relname FROM pg_class
    WHERE relname = ANY(:names) AND relkind IN ('r', 'p')
    AND pg_table_is_visible(oid) AND pg_has_role(relowner, 'USAGE')
)
SELECT relname, NULL, obj_description(oid, 'pg_class') FROM ours
UNION ALL
SELECT relname, attname, col_description(oid, attnum)
FROM ours JOIN pg_attribute ON attrelid = oid
WHERE attnum > 0 AND NOT attisdropped
""")


def write(connection: sa.Connection) -> None:
    """Put the descriptions in the place of comments that differ; lock nothing if none does.

    Tables of another owner stay as they are: only their owner may comment on them.
    """
    found = connection.execute(_COMMENTS, {"names": list(schema.metadata.tables)})
    tables = _described().tables
    statements = []
    for table_name, column_name, text in found:
        table = tables[table_name]
        if column_name is None:
            if text != table.comment:
                statements.append(SetTableComment(table).compile(dialect=connection.dialect))
        elif column_name in table.c and text != table.c[column_name].comment:
            column = table.c[column_name]
            statements.append(SetColumnComment(column).compile(dialect=connection.dialect))
    if statements:  # at once: each alone would wait for the server
        connection.exec_driver_sql("; ".join(map(str, statements)))


def _described() -> sa.MetaData:
    """The names of our tables and columns, with the descriptions as their comments."""
    metadata = sa.MetaData()
    for name, table in schema.metadata.tables.items():
        columns: list[sa.Column[Any]] = [
            sa.Column(column, comment=descriptions.of_column(name, column))
            for column in table.c.keys()  # noqa: SIM118 - a collection, not a dict
        ]
        sa.Table(name, metadata, *columns, comment=descriptions.of_table(name))
    return metadata
