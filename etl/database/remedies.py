"""What a driver's error means: which codes are whose fault, and what a user can do about them."""

import re
import sqlite3
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

#: Codes of a transaction that lost against another: try it again.
CONFLICTS: Final = frozenset({"40001", "40P01", 1213})

#: Codes of a server that takes no writes, or no longer, and may have handed over to another one.
DEMOTED: Final = frozenset({"25006", "57P01", "57P02", "57P03", 1053, 1290, 1792, 1836, 1047, 1927})

#: Classes of SQLSTATE, and codes of MySQL, MariaDB and PyMySQL, that are about connections,
#: permissions, room, locks, poolers and the names of tables: they quote nothing of a row.
_CLASSES: Final = frozenset(
    ("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")
)

_NUMBERS: Final = frozenset(
    {0, *range(1000, 1048), *range(1049, 1055), *range(1059, 1062), 1071, 1091, 1113, 1118}
    | {*range(1129, 1134), *range(1141, 1148), 1152, *range(1156, 1162), *range(1180, 1185)}
    | {1194, 1195, 1197, 1206, 1213, 1227, 1317, 1370, 1412, 1449, 1615, 1820, 1862, 1927}
    | {*range(2000, 3000), 3098, 3100, 3101, 3159, 4031}
)

#: What a user can do about a server without verified TLS.
_TLS: Final = (
    "the server offers TLS with a certificate for that host whose CA is known: give the CA with "
    "`?{ca}` in the URL, or set `?{none}` if anyone on the network may read what travels"
)

#: Codes of what a user can mend, patterns of what servers say where a failed connection has no
#: code, and the state in which the command may be run again.
_MENDED: Final[tuple[tuple[set[object], tuple[str, ...], str], ...]] = (
    ({"55P03", 1205, sqlite3.SQLITE_BUSY}, (), "the other session, which holds a lock, has ended"),
    (
        set(),
        ("row-level security",),
        "no row-level security applies to this user: run ALTER ROLE {user} BYPASSRLS",
    ),
    (
        set(),
        ("must be owner of", "permission denied for schema", "(CREATE|ALTER|DROP|INDEX) command"),
        "the user in the URL owns the tables: `audit-etl migrate` makes and alters them, all other "
        "commands only read and write rows (docs/operating.md, Roles)",
    ),
    (
        {"25006", "42501", 1044, 1142, 1143, 1290, 1792, 1836, sqlite3.SQLITE_READONLY},
        (),
        "this user may write to it (grant SELECT, INSERT, UPDATE and DELETE; if the server is "
        "read-only, use the primary; if default_transaction_read_only or transaction_read_only is "
        "on, turn it off for this user)",
    ),
    (
        {"53100", 1021, 1114, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE},
        (),
        "there is room on its disk",
    ),
    (
        {"53300", 1040, 1203, 1226},
        ("too many clients", "connection slots are reserved", "too many connections"),
        "fewer connections are open: lower `concurrency`, or let the server take more",
    ),
    (
        set(),
        (
            "server does not support SSL",
            "SSL error: certificate verify failed",
            "server certificate for",
            "root certificate file",
        ),
        _TLS.format(ca="sslrootcert=FILE", none="sslmode=disable"),
    ),
    (
        set(),
        ("SSL is required but the server", "CERTIFICATE_VERIFY_FAILED"),
        _TLS.format(ca="ssl_ca=FILE", none="ssl_disabled=true"),
    ),
    (
        set(),
        ('role "(?P<user>.*)" does not exist',),
        "there is such a role: look at the user in the URL, or run `createuser {user}`",
    ),
    (
        {"28P01", "28000", 1045, 1698, 3118, 4151},
        (
            "password authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            "not permitted to log in",
        ),
        "this user may log in: look at the user and the password in the URL",
    ),
    (
        {"42P01", "42703", 1054, 1146},
        ("no such table", "no column named", "no such column"),
        "its tables are whole: bring back from a backup what was dropped",
    ),
    (
        {"3D000"},
        ('FATAL:  database "(?P<database>.*)" does not exist',),
        "there is such a database: look at the URL, or run `createdb {database}`",
    ),
    (
        {1049},
        ("Unknown database '(?P<database>.*)'",),
        "there is such a database: look at the URL, or run CREATE DATABASE `{database}`",
    ),
    (
        set(),
        ("not known", "failed to resolve host", "could not translate host name", "in name resolut"),
        "the name of its host can be resolved: look at the host in the URL",
    ),
    (
        set(),
        ("Connection refused", "Can't connect .*No such file", "connection to server on socket"),
        "a server listens there: start it, or look at host, port and socket in the URL",
    ),
    (
        set(),
        ("invalid response to SSL negotiation", "expected authentication request"),
        "the URL's port is a PostgreSQL server's: another kind of server answers there",
    ),
    (
        set(),
        ("Lost connection to MySQL server during query .timed out",),
        "the server answers in time; if it never did, see that the URL's port is that of MySQL or "
        "MariaDB",
    ),
    (
        set(),
        (
            "invalid connection option",
            "invalid .* value: ",
            "bad value for ",
            "invalid value for parameter",
            "invalid port number",
            "invalid integer value",
            "unrecognized configuration parameter",
            "invalid command-line argument",
        ),
        "the URL's parameters and the PG* variables are such as libpq and the server know: fix or "
        "leave out the one that is named",
    ),
    (
        set(),
        ("session is (not )?read-only", "server is (not )?in hot standby"),
        "a server answers that target_session_attrs takes: look at it in the URL and at "
        "PGTARGETSESSIONATTRS; audit-etl needs one that takes writes (read-write)",
    ),
    (
        set(),
        ("gssencmode", "GSSAPI", "channel binding", "authentication method req", "sslnegotiation"),
        "the URL and the PG* variables ask only for what the server offers: correct or leave out "
        "gssencmode, channel_binding, require_auth or sslnegotiation (PGGSSENCMODE and the like)",
    ),
    ({"53400"}, (), "temp_file_limit is larger: raise it for this user, or set it to -1"),
    ({1665}, (), "the server's binlog_format is MIXED or ROW: set it in its configuration"),
    (
        {1071},
        (),
        "the server's innodb_page_size is 16k or more: that is chosen when its data folder is made",
    ),
    (
        set(),
        ("init_connect",),
        "init_connect works for this user: correct or empty it in the server's configuration",
    ),
    (
        {"57014", 1969, 3024},
        (),
        "statements may take longer: raise statement_timeout (PostgreSQL), max_statement_time or "
        "max_execution_time (MariaDB, MySQL) for this user, or set it to 0",
    ),
    ({1153}, (), "max_allowed_packet is larger: raise it in the server's configuration"),
    ({"3F000"}, (), "search_path of this user names a schema that exists"),
    (
        set(),
        ("unsupported startup parameter",),
        "the URL, PGOPTIONS and the PG* variables hold no such parameter: PgBouncer refuses it; "
        "set it with ALTER ROLE ... SET, or name it in PgBouncer's ignore_startup_parameters",
    ),
    (set(), ("statement pooling mode",), "PgBouncer has pool_mode session or transaction"),
)


def codes_of(error: exc.DBAPIError) -> set[object]:
    """What the driver calls the error: an SQLSTATE, MySQL's number, or SQLite's codes for it."""
    own = error.orig
    code = getattr(own, "sqlite_errorcode", 0)
    codes = {getattr(own, "sqlstate", None), code, code & 0xFF}
    return codes | set(own.args[:1] if own else ())


def remedy(codes: set[object], said: str, url: sa.URL) -> str:
    """When the command may be run again."""
    for known, words, when in _MENDED:
        found = [match for word in words if (match := re.search(word, said))]
        if found or known & codes:
            named = {"database": url.database, "user": url.username}
            return when.format(**named | (found[0].groupdict() if found else {}))
    return "it is repaired"


def holds_no_value(error: exc.DBAPIError) -> bool:
    """Whether the driver's words are about the server, not about what the rows hold.

    SQLite's are, and those of drivers, which have no code. A server's are by their code.
    """
    own = error.orig
    code = own.args[0] if own and own.args else None
    if isinstance(code, int):  # PyMySQL's, whose SQLSTATE is often HY000
        ours = code in _NUMBERS or any(code in known for known, _, _ in _MENDED)
        return ours and not raised_by_author(own)
    if state := getattr(own, "sqlstate", None):
        if "PL/" in (own.diag.context or ""):  # type: ignore[union-attr] # a trigger's function
            return False
        return state[:2] in _CLASSES and state != "42601"  # which quotes a statement
    return not isinstance(error, exc.DataError)


def raised_by_author(said: object) -> bool:
    """Whether the author of a trigger chose an error's words, by RAISE or SIGNAL.

    Args:
        said: an error of MySQL and MariaDB, or the fields of one of PostgreSQL.
    """
    file = str(getattr(said, "source_file", None) or "")
    state = str(getattr(said, "sqlstate", None) or "")
    return file.startswith("pl") or (not file and state.startswith("45"))
