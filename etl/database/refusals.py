"""What refuses rows: the rule that a driver's error names and its remedy, without a value of a row.

Operators add constraints, triggers, columns and partitions to the tables.
"""

import re
import sqlite3
from collections.abc import Set
from typing import Any, Final

from sqlalchemy import exc

from etl.database.remedies import codes_of, raised_by_author

#: Codes of a key that is there already. Only these can be cured by trying again.
_DUPLICATES: Final = frozenset(
    {"23505", 1062, 1586}
    | {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE}
    | {sqlite3.SQLITE_CONSTRAINT_ROWID}
)
_TRIGGERS: Final = frozenset(
    {"P0001", "P0004", 1642, 1643, 1644, sqlite3.SQLITE_CONSTRAINT_TRIGGER}
)

#: What cures a refusal, by its codes; what is refused for another reason has a changed type.
_CURES: Final[tuple[tuple[frozenset[object], str], ...]] = (
    (_TRIGGERS, "Remove the trigger, or let it accept every audit"),
    (
        frozenset({"23502", 1048, 1364, sqlite3.SQLITE_CONSTRAINT_NOTNULL}),
        "Let that column be NULL, or drop it if it is none of audit-etl's",
    ),
    (
        frozenset({"23503", "23505", "23514", "23P01", 1062, 1216, 1217, 1451, 1452, 1586})
        | {3819, 4025, sqlite3.SQLITE_CONSTRAINT},
        "Remove that constraint, or make it accept every audit",
    ),
)
_ANOTHER_TYPE: Final = (
    "Remove constraints and triggers that were added to audit-etl's tables, or make them accept "
    "every audit, and give changed columns their types back"
)
_PARTITION: Final = (
    "Add the partition that is missing, or one for all other rows (DEFAULT, MAXVALUE)"
)
#: MySQL and MariaDB: no partition takes the row.
_NO_PARTITION: Final = frozenset({1526, 1591})

#: Where MySQL and MariaDB name a constraint, a key or a column: the last such words are theirs.
_NAMED: Final = re.compile(
    r"(CONSTRAINT `[^`]+`|[Cc]onstraint '[^']+'|for key '[^']+'|Column '[^']+'|Field '[^']+'"
    r"|column (?:'[^']+'|`[^`]+`(?:\.`[^`]+`)*) at row \d+$)"
)
#: Where PostgreSQL names the table and the column of a row that it cannot read.
_COPIED: Final = re.compile(r"COPY (\w+), line \d+(?:, column (\w+))?")
#: Where it names the columns of a partition's key, before their values.
_KEY: Final = re.compile(r"\((.*?)\) = \(")
#: Where it names the function of a trigger; the words around it are in the server's language.
_FUNCTION: Final = re.compile(r'^(?:\w+ )?PL/\S+ (?:function )?"?([\w.$]+(?:\(\))?)', re.MULTILINE)
#: The table of a statement of ours.
_STATEMENT: Final = re.compile(r"(?:INSERT(?: OR FAIL)? INTO|UPDATE|DELETE FROM) (\w+)")
#: From this version on the text of RAISE in a trigger may be made of the row's values.
_RAISE_COMPUTES: Final = (3, 47)


def is_duplicate(error: exc.DBAPIError) -> bool:
    """Whether a key is there already, as another process may have inserted it meanwhile."""
    return not codes_of(error).isdisjoint(_DUPLICATES)


def refusal(error: exc.DBAPIError) -> tuple[str, str]:
    """What refuses the rows, and what to do about it."""
    diagnosed = getattr(error.orig, "diag", None)
    if diagnosed is not None:
        return _of_postgresql(diagnosed, type(error.orig).__name__)
    found = _STATEMENT.match(error.statement or "")
    table = f"table {found[1]}" if found else "a table"
    code, *told = error.orig.args if error.orig else ()
    said = str(told[0] if told else code)
    codes = codes_of(error)
    if codes & _NO_PARTITION:
        return f"{table} has no partition for a row (error {code})", _PARTITION
    if codes & _TRIGGERS or raised_by_author(error.orig):
        return f"a trigger of {table}{_words_of_trigger(code)}", _cure(_TRIGGERS)
    if isinstance(code, int):
        named = _NAMED.findall(said)
        rule = named[-1].removeprefix("for ") if named else "a value or a constraint"
        return f"{rule} (error {code}) of {table}", _cure(codes)
    return said.partition("\n")[0], _cure(codes)


def _words_of_trigger(code: object) -> str:
    """Which error a trigger raised. SQLite has only its words."""
    if isinstance(code, int):
        return f" (error {code})"
    return "" if sqlite3.sqlite_version_info >= _RAISE_COMPUTES else f": {code}"


def _of_postgresql(diagnosed: Any, kind: str) -> tuple[str, str]:  # noqa: ANN401
    """What its fields name; those of an error that a function raises are the function's own."""
    state = f"SQLSTATE {diagnosed.sqlstate}" if diagnosed.sqlstate else kind
    context = diagnosed.context or ""
    function = _FUNCTION.search(context)
    within = f" in the function {function[1]} of a trigger" if function else ""
    cure = _cure(_TRIGGERS if function else {diagnosed.sqlstate})
    if raised_by_author(diagnosed):
        return f"{state}{within or ' of a trigger'}", _cure(_TRIGGERS)
    if diagnosed.source_function == "ExecFindPartition":
        key = _KEY.search(diagnosed.message_detail or "")
        by = f" by ({key[1]})" if key else ""
        return f"table {diagnosed.table_name} has no partition for a row{by}{within}", _PARTITION
    rule = state
    if name := diagnosed.constraint_name or diagnosed.column_name:
        rule = f"{'constraint' if diagnosed.constraint_name else 'column'} {name}"
    copied = _COPIED.match(context)
    if diagnosed.table_name:
        rule = f"{rule} of table {diagnosed.table_name}"
    elif copied:
        rule = f"{rule} at {'.'.join(filter(None, copied.groups()))}"
    return f"{rule}{within}", cure


def _cure(codes: Set[object]) -> str:
    return next((cure for known, cure in _CURES if known & codes), _ANOTHER_TYPE)
