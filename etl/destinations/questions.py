"""What `query` accepts: one SELECT over audit-etl's tables, whose functions only read. Pure.

A read-only transaction refuses to change tables, but a function may still write a file, end a
session or ask another server, and SELECT can write files by itself. The server is given exactly
the tokens that were looked at, without comments: some servers execute those, or end them elsewhere.
"""

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from etl.database import schema
from etl.errors import UsageError
from etl.plain import plain

if TYPE_CHECKING:
    from sqlglot import Token, exp

#: Our names for databases, and the parser's.
_DIALECTS: Final = {"postgresql": "postgres", "mariadb": "mysql"}
_TABLES: Final = frozenset(schema.metadata.tables)
#: Those that a lake has too.
_ASKED: Final = ("audit_events", "audit_property_changes", "audit_entity_changes")

#: Functions of MySQL and MariaDB that only read and that the parser does not know by itself. What
#: neither knows may have any effect: LOAD_FILE, GET_LOCK, a function that somebody has installed.
_READING: Final = frozenset(
    """
    adddate addtime bin charset connection_id conv crc32 export_set extractvalue field find_in_set
    format_bytes found_rows from_days inet_aton inet_ntoa inet6_aton inet6_ntoa is_ipv4 is_ipv6
    json_array json_arrayagg json_compact json_contains json_contains_path json_depth json_detailed
    json_equals json_exists json_insert json_length json_loose json_merge json_merge_patch
    json_normalize json_overlaps json_pretty json_query json_quote json_replace json_search
    json_unquote json_valid make_set makedate microsecond mid now oct octet_length ord period_add
    period_diff quote sec_to_time strcmp subdate subtime sysdate system_user time_format time_to_sec
    timediff to_seconds unix_timestamp user values weekday weight_string yearweek
    """.split()  # noqa: SIM905 - as a text they can be read
)
#: What may stand in FROM with arguments: it makes rows of what it is given, and reads nothing else.
_MAKING_ROWS: Final = frozenset(
    """
    exploding_generate_series generate_series generateseries json_array_elements
    json_array_elements_text j_s_o_n_table json_each json_each_text json_object_keys json_table
    json_tree
    jsonb_array_elements jsonb_array_elements_text jsonb_each jsonb_each_text jsonb_object_keys
    range regexp_split_to_table string_to_table unnest
    """.split()  # noqa: SIM905 - as a text they can be read
)


def accepted(question: str, database: str) -> str:
    """The question as a database may be asked it.

    Args:
        database: SQLAlchemy's name of its kind, or `duckdb`.

    Raises:
        UsageError: it is not one SELECT, reads other tables, or may do more than read.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what is refused here
    dialect = sqlglot.Dialect.get_or_raise(_DIALECTS.get(database, database))
    try:
        tokens = dialect.tokenize(question)
        found = [tree for tree in dialect.parse(question) if tree]
    except (SqlglotError, RecursionError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise UsageError(f"that is not a question that can be read: {reason[0]}") from None
    if len(found) != 1 or any(token.token_type.name == "HINT" for token in tokens):
        raise UsageError("that is not a question: write one SELECT, without hints")
    _require_reading(found[0])
    if dialect.__class__.__name__ == "MySQL":
        _require_known_functions(found[0])
    return _without_comments(question, tokens)


def _without_comments(question: str, tokens: "list[Token]") -> str:
    """The tokens as they stand in the question, with a blank where something was between them.

    Never a new line: after one, PostgreSQL goes on with the text before it, the parser does not.

    Raises:
        UsageError: two texts follow each other: servers read them as one, or otherwise.
    """
    text, end = "", 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and _is_text(before) and _is_text(token):
            raise UsageError("write two texts that belong together as one, or join them with ||")
        text += " " if token.start > end else ""
        text += question[token.start : token.end + 1]
        end = token.end + 1
    return text.strip()


def _is_text(token: "Token") -> bool:
    return token.token_type.name.endswith("STRING")


def _require_reading(tree: "exp.Expr") -> None:
    from sqlglot import exp

    changing = (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock, exp.NextValueFor)
    queries = [tree, *(part.this for part in tree.find_all(exp.CTE))]
    if tree.find(*changing) or not all(
        isinstance(query, exp.Query | exp.Values) for query in queries
    ):
        raise UsageError(
            "that is not a question: write one SELECT, without INTO, FOR UPDATE or anything that "
            "changes data"
        )
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier):
            _require_known(table)
        elif isinstance(table.this, exp.Func):
            _require_rows_made(table.this)
    if any(part.args.get("field") for part in tree.find_all(exp.In)):
        raise UsageError("write IN (...) with values or a SELECT, not with the name of a table")


def _require_rows_made(function: "exp.Func") -> None:
    name = function.name if function.key == "anonymous" else function.sql_name()
    if name.lower() not in _MAKING_ROWS:
        raise UsageError(
            f"`query` asks no rows of {plain(name)}(): write the name of one of audit-etl's tables"
        )


def _require_known(table: "exp.Table") -> None:
    known = {*_TABLES, *_named_around(table)}
    if not (table.db or table.catalog) and _folded(table.this) in known:
        return
    raise UsageError(
        f"{plain(table.sql())} is not one of audit-etl's tables: write {', '.join(_ASKED)} or "
        "another one of docs/tables.md, without a schema; ask the database's own client for others"
    )


def _folded(name: "exp.Expr") -> str:
    return name.name if name.args.get("quoted") else name.name.lower()


def _named_around(table: "exp.Table") -> Iterator[str]:
    """What WITH names where `table` stands: all that is before it, or is recursive."""
    from sqlglot import exp

    inside: exp.Expr = table
    around = table.parent
    while around is not None:
        named = around.args.get("with_") if isinstance(around, exp.Query) else None
        if isinstance(around, exp.With):
            place = next(n for n, cte in enumerate(around.expressions) if cte is inside)
            seen = around.expressions if around.recursive else around.expressions[:place]
        elif named is not None and inside is not named:
            seen = named.expressions
        else:
            seen = []
        yield from (_folded(cte.args["alias"].this) for cte in seen)
        inside, around = around, around.parent


def _require_known_functions(tree: "exp.Expr") -> None:
    from sqlglot import exp

    called = {part.name for part in tree.find_all(exp.Anonymous)}
    unknown = sorted(name for name in called if name.lower() not in _READING)
    if unknown:
        raise UsageError(
            f"`query` does not call {plain(', '.join(unknown))}: it may do more than read; ask the "
            "database's own client"
        )


def words(question: str) -> list[str]:
    """What could be the name of a function, in lower case.

    Raises:
        UsageError: names are written in a way that hides them.
    """
    if re.search(r'\bU&"', question, re.I):
        raise UsageError('write names as they are, without U&""')
    return sorted({word.lower() for word in re.findall(r"[^\W\d][\w$]*", question)})
