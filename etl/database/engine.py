"""Engines for the databases that hold audits and progress, and their errors in our words.

SQLite is opened in WAL mode, for its owner only, and every writing transaction begins IMMEDIATE:
two processes wait for each other instead of failing. On a server every transaction is READ
COMMITTED, whatever its default: it sees what the one that it waited for has written.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from etl.database import schema
from etl.database.connections import TIMEOUTS, Timeouts, connect_arguments, watch, without_limit
from etl.errors import ConfigurationError, DestinationUnavailable, SchemaBehind
from etl.private import make_private

#: Connections of one engine at most. No thread waits for a second one while it holds one, so any
#: number is enough to go on; this many let nobody wait.
CONNECTIONS: Final = 20

#: Of an SQLite file in memory, at most: ids come in no order, and with SQLite's own 2 MiB each
#: transaction reads the pages of its indexes anew (a fifth fewer rows a second at 50,000 audits).
SQLITE_CACHE_KIB: Final = 32 * 1024

#: Of a new SQLite file: SQLite's own 4 KiB hold one audit of the usual 2.5 KiB each, and no two.
#: These take a third less time to insert, and an eighth less of the disk. Twice as large ones gain
#: 4 % up to a million audits; but ids come in no order, so that in a file of many millions there is
#: a page to write for nearly each index entry, and the larger it is the more is written.
SQLITE_PAGE_BYTES: Final = 16 * 1024

#: Of the journal, in pages of 16 KiB, before it is written into the file: some transactions' worth,
#: for each writes much of the indexes anew. It stays that large on the disk.
SQLITE_WAL_PAGES: Final = 6_000

#: How often a transaction is tried that others keep getting in the way of.
ATTEMPTS: Final = 10

#: Where MySQL and MariaDB name a constraint, a key or a column: the last such words are theirs.
_NAMED: Final = re.compile(
    r"(CONSTRAINT `[^`]+`|[Cc]onstraint '[^']+'|for key '[^']+'|Column '[^']+'"
    r"|column (?:'[^']+'|`[^`]+`(?:\.`[^`]+`)*) at row \d+$)"
)
#: Where PostgreSQL names the table and the column of a row that it cannot read.
_COPIED: Final = re.compile(r"COPY (\w+), line \d+(?:, column (\w+))?")

_EXTRAS: Final = {"psycopg": "postgresql", "pymysql": "mysql"}


Result = TypeVar("Result")


class Contended(DestinationUnavailable):
    """The database undid a transaction in favour of another one's."""


def open_engine(
    url: str, connections: int = CONNECTIONS, timeouts: Timeouts = TIMEOUTS
) -> sa.Engine:
    """An engine for `url`; nothing is connected yet, but an SQLite file exists afterwards.

    Args:
        url: of SQLAlchemy's kind.
        connections: how many it opens at most; whoever needs another waits for one.
        timeouts: how long the database is waited for.

    Raises:
        ConfigurationError: the URL cannot be read, or its driver is not installed.
        DestinationUnavailable: the folder of an SQLite file cannot be written.
    """
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed, **_options(parsed, connections, timeouts))
    except exc.ArgumentError as error:
        raise ConfigurationError(f"the database URL cannot be read: {error}") from None
    except exc.NoSuchModuleError as error:
        raise ConfigurationError(f"the database URL names an unknown driver: {error}") from None
    except ValueError as error:
        named = [name for name, value in parsed.query.items() if repr(value) in str(error)]
        raise ConfigurationError(
            f"the parameter {' or '.join(named) or error} of the database URL has no value that "
            "its driver takes: correct it, or leave it out"
        ) from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name), "all")
        raise ConfigurationError(
            f"the driver {error.name} is not installed: run pip install '.[{extra}]' in the "
            "checkout of audit-etl"
        ) from None
    except ImportError as error:
        raise ConfigurationError(
            f"the database's driver cannot be loaded: {str(error).splitlines()[0]}; take "
            "PSYCOPG_IMPL out of the environment, or install what it asks for"
        ) from None
    if engine.dialect.name == "sqlite":
        _adopt_plain_values()
        _create_for_owner(parsed)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        watch(engine, timeouts)
    return engine


def _options(url: sa.URL, connections: int, timeouts: Timeouts) -> dict[str, Any]:
    # The last one given back is the next one taken: each of SQLite's fills a cache of its own.
    options = {
        "connect_args": connect_arguments(url, timeouts),
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": timeouts.pool,
        "pool_use_lifo": True,
    }
    if url.get_backend_name() == "sqlite":
        return options
    options |= {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if url.get_backend_name() != "postgresql":
        options["pool_recycle"] = 3600
    return options


def _adopt_plain_values() -> None:
    """Let `sqlite3` take these as they are: by itself it tries other forms of each value anew."""
    nothing: dict[None, None] = {}
    sqlite3.register_adapter(type(None), nothing.get)
    sqlite3.register_adapter(bool, int)
    sqlite3.register_adapter(bytes, bytes.__bytes__)


def _create_for_owner(url: sa.URL) -> None:
    """Create an SQLite file that only its owner can read: audits hold personal data."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    try:
        make_private(path)
    except OSError as error:
        raise DestinationUnavailable(
            f"the SQLite file {path} cannot be opened: {error.strerror}; "
            "check that its folder exists and is writable"
        ) from None


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - any driver
    connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA page_size={SQLITE_PAGE_BYTES}")  # of a new file; another keeps its own
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={SQLITE_WAL_PAGES}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("in_transaction", True):
        return
    reading = options.get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def transact(engine: sa.Engine, work: Callable[[sa.Connection], Result]) -> Result:
    """Run `work` in one transaction, committed when it returns; nothing is kept if it raises.

    Two processes may load the same audits at once: when a key that `work` found absent has been
    inserted meanwhile, or the database undid the transaction in favour of another one's, `work`
    runs again on what is there now. It must be repeatable.

    Raises:
        DestinationUnavailable: the database cannot be reached, is full or read-only, lost the
            connection, refused for the sake of others too often, or another session held a lock
            for too long; or a constraint or a trigger refuses the rows at every attempt.
    """
    attempt = 1
    while True:
        try:
            with translated(engine), engine.begin() as connection:
                return work(connection)
        except exc.IntegrityError as error:
            if attempt == ATTEMPTS:
                raise _refused(engine, error) from None  # its text may hold the rows' values
        except Contended:
            if attempt == ATTEMPTS:
                raise
        attempt += 1


@contextmanager
def checkpointed(engine: sa.Engine) -> Iterator[None]:
    """Let a thread write what SQLite's journal holds into its file while the block runs.

    Afterwards the next transaction may begin the journal anew, instead of whichever transaction
    fills it having to wait for the disk. Nothing happens on other databases, nor to what others
    are reading.

    Raises:
        DestinationUnavailable: the file cannot be written; what is in the journal stays there.
    """
    if engine.dialect.name != "sqlite":
        yield
        return
    with ThreadPoolExecutor(1, "checkpoint") as pool:
        written = pool.submit(_checkpoint, engine)
        yield
        written.result()


def _checkpoint(engine: sa.Engine) -> None:
    with translated(engine), engine.connect() as connection:
        outside = connection.execution_options(in_transaction=False)
        outside.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to read from, which holds up no writer; see `transact` for its errors."""
    with translated(engine), engine.connect() as connection:
        yield connection.execution_options(reading=True)


@contextmanager
def read_only(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection on which the database itself refuses every change."""
    options = engine.connect().execution_options(reading=True)
    with options as connection, without_limit(connection):
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        elif engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")  # see a pager
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        else:
            connection.exec_driver_sql("SET SESSION sql_mode = ''")  # `questions` goes by it
            connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            connection.rollback()  # it holds from the next transaction on
        try:
            yield connection
        finally:
            connection.invalidate()  # not to be handed to a writer


@contextmanager
def translated(engine: sa.Engine, *, asked: bool = False) -> Iterator[None]:
    """Give the driver's errors inside the block as `DestinationUnavailable`.

    Args:
        engine: of the connections in it.
        asked: a user's own question runs in it: the error may quote values of the rows.
    """
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.TimeoutError as error:
        raise DestinationUnavailable(
            f"all {_size(engine)} connections of this program to {name_of(engine)} have been in "
            "use for too long; nothing that was in work counts as done, run the same command "
            "again, with a lower `concurrency` if it happens again"
        ) from error
    except exc.DBAPIError as error:
        codes = _codes(error)
        if codes & _DEMOTED:
            engine.dispose()  # whoever connects anew may reach the server that took over
        if not asked and not _holds_no_value(error):
            raise _refused(engine, error) from None
        kind = DestinationUnavailable if codes.isdisjoint(_CONFLICTS) else Contended
        raise kind(
            f"{name_of(engine)} failed: {_first_line(error)}; nothing that was in work counts as "
            f"done, run the same command again when {_mended(codes, str(error.orig), engine.url)}"
        ) from error


def _refused(engine: sa.Engine, error: exc.DBAPIError) -> DestinationUnavailable:
    """What nothing of ours can satisfy, without a value of the rows."""
    return DestinationUnavailable(
        f"{name_of(engine)} refuses rows: {_rule(error)}; nothing that was in work counts as "
        "done. Remove constraints and triggers that were added to audit-etl's tables, or make them "
        "accept every audit, and give changed columns their types back, then run the same command "
        "again"
    )


def _rule(error: exc.DBAPIError) -> str:
    """Which rule or column of which table refuses, by the driver's error.

    PostgreSQL and SQLite name a constraint without values; all others may tell a value first.
    """
    own = error.orig
    diagnosed = getattr(own, "diag", None)
    if diagnosed is not None:
        state = f"SQLSTATE {diagnosed.sqlstate}" if diagnosed.sqlstate else type(own).__name__
        rule = diagnosed.constraint_name or diagnosed.column_name or state
        if diagnosed.table_name:
            return f"{rule} of table {diagnosed.table_name}"
        copied = _COPIED.match(diagnosed.context or "")
        return f"{state} at {'.'.join(filter(None, copied.groups()))}" if copied else str(rule)
    code, *told = own.args if own else ()
    if isinstance(code, int):
        named = _NAMED.findall(str(told[0]) if told else "")
        return f"{named[-1] if named else 'a value or a constraint'} (error {code})"
    return _first_line(error)


def _holds_no_value(error: exc.DBAPIError) -> bool:
    """Whether the driver's words are about the server, not about what the rows hold.

    SQLite's are, and those of drivers, which have no code. A server's are by their code.
    """
    own = error.orig
    code = own.args[0] if own and own.args else None
    if isinstance(code, int):  # PyMySQL's, whose SQLSTATE is often HY000
        return code in _NUMBERS or any(code in known for known, _, _ in _MENDED)
    if state := getattr(own, "sqlstate", None):
        return state[:2] in _CLASSES and state != "42601"  # which quotes a statement
    return not isinstance(error, exc.DataError)


def _size(engine: sa.Engine) -> int:
    return engine.pool.size() if isinstance(engine.pool, sa.QueuePool) else 1


def name_of(engine: sa.Engine) -> str:
    """The database as a user knows it, without a password."""
    url = engine.url
    hosts = url.query.get("host", "")
    if not url.host and hosts:  # several of PostgreSQL, of which one takes writes
        url = url.set(host="HOSTS")
    text = url.set(query={}).render_as_string(hide_password=True)
    joined = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"the database {text.replace('HOSTS', joined)}"


def _first_line(error: exc.DBAPIError) -> str:
    """What the driver says, in one line: its text without SQLAlchemy's SQL and parameters."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__


#: Codes of a transaction that lost against another: try it again.
_CONFLICTS: Final = frozenset({"40001", "40P01", 1213})

#: Codes of a server that takes no writes, or no longer, and may have handed over to another one.
_DEMOTED: Final = frozenset(
    {"25006", "57P01", "57P02", "57P03", 1053, 1290, 1792, 1836, 1047, 1927}
)

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
    (
        {"55P03", 1205, sqlite3.SQLITE_BUSY},
        (),
        "the other session, which holds a lock, has ended",
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
        {"42P01", 1146},
        ("no such table",),
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
        "the URL's parameters and the PG* variables are such as libpq and the server know: mend or "
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
    (
        {"53400"},
        (),
        "temp_file_limit is larger: raise it for this user, or set it to -1",
    ),
    (
        {1665},
        (),
        "the server's binlog_format is MIXED or ROW: set it in its configuration",
    ),
    (
        {1071},
        (),
        "the server's innodb_page_size is 16k or more: that is chosen when its data folder is made",
    ),
    (
        set(),
        ("init_connect",),
        "init_connect works for this user: mend or empty it in the server's configuration",
    ),
    (
        {"57014", 1969, 3024},
        (),
        "statements may take longer: raise statement_timeout (PostgreSQL), max_statement_time or "
        "max_execution_time (MariaDB, MySQL) for this user, or set it to 0",
    ),
    (
        {1153},
        (),
        "max_allowed_packet is larger: raise it in the server's configuration",
    ),
    (
        {"3F000"},
        (),
        "search_path of this user names a schema that exists",
    ),
    (
        set(),
        ("unsupported startup parameter",),
        "the URL, PGOPTIONS and the PG* variables hold no such parameter: PgBouncer refuses it; "
        "set it with ALTER ROLE ... SET, or name it in PgBouncer's ignore_startup_parameters",
    ),
    (
        set(),
        ("statement pooling mode",),
        "PgBouncer has pool_mode session or transaction",
    ),
)


def _codes(error: exc.DBAPIError) -> set[object]:
    """What the driver calls the error: an SQLSTATE, MySQL's number, or SQLite's codes for it."""
    own = error.orig
    code = getattr(own, "sqlite_errorcode", 0)
    codes = {getattr(own, "sqlstate", None), code, code & 0xFF}
    return codes | set(own.args[:1] if own else ())


def _mended(codes: set[object], said: str, url: sa.URL) -> str:
    """When the command may be run again."""
    for known, words, when in _MENDED:
        found = [match for word in words if (match := re.search(word, said))]
        if found or known & codes:
            named = {"database": url.database, "user": url.username}
            return when.format(**named | (found[0].groupdict() if found else {}))
    return "it is mended"


def schema_version(engine: sa.Engine) -> str | None:
    """The migration that the database is at; None if it holds no tables of ours."""
    with reading(engine) as connection:
        return version_in(connection)


def version_in(connection: sa.Connection) -> str | None:
    """See `schema_version`."""
    inspector = sa.inspect(connection)
    if inspector.has_table(schema.VERSION_TABLE):
        query = f"SELECT version_num FROM {schema.VERSION_TABLE}"  # noqa: S608 - our name
        row = connection.exec_driver_sql(query).first()
        return None if row is None else str(row[0])
    first = ("audit_events", "receipts", "watermarks", "verifications", "alembic_version")
    return schema.FIRST if all(map(inspector.has_table, first)) else None


def require_schema(engine: sa.Engine) -> None:
    """Return if the tables are of the version that this program writes.

    Raises:
        SchemaBehind: they are not; the message says what to do.
    """
    version = schema_version(engine)
    if version == schema.HEAD:
        return
    if version is None:
        raise SchemaBehind(f"{name_of(engine)} has no tables yet: run `audit-etl migrate` once")
    if version < schema.HEAD:
        raise SchemaBehind(
            f"{name_of(engine)} is at schema {version}, this program writes {schema.HEAD}: "
            "run `audit-etl migrate`"
        )
    raise SchemaBehind(
        f"{name_of(engine)} is at schema {version}, newer than {schema.HEAD} of this program: "
        "install the newer audit-etl"
    )
