"""Transactions that are retried, connections to read from, and SQLite's checkpoints."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from etl.database.connections import without_limit
from etl.database.errors import Contended, refused, translated

#: How often a transaction is tried that others keep getting in the way of.
ATTEMPTS: Final = 10

Result = TypeVar("Result")


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
                raise refused(engine, error) from None  # its text may hold the rows' values
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
