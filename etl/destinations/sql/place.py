"""SQL tables before their database is opened; it is the ledger's, too."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from etl.database.urls import database_url
from etl.destinations import AnyDestination, Fence
from etl.destinations.place import Adopted, Clock, Place
from etl.model import WRITER, Stream
from etl.sizes import Sizes

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa


class SqlPlace(Place):
    """See `Place`."""

    noun = "database"
    holds_ledger = True
    one_writer = False

    def __init__(self, url: str, partition: str, sizes: Sizes = Sizes()) -> None:
        super().__init__(url, partition, sizes)
        self.dialect = url.partition("://")[0].partition("+")[0]

    @classmethod
    def canonical(cls, scheme: str, rest: str) -> str:
        """See `Place.canonical`."""
        return database_url(scheme, rest)

    @classmethod
    def default_ledger(cls, url: str) -> str:
        """See `Place.default_ledger`."""
        return url

    def require_identity(self, engine: "sa.Engine", now: Clock) -> None:  # noqa: ARG002
        """See `Place.require_identity`."""
        from etl.ledger import identities

        identities.require_tables(engine)

    def adopt(self, engine: "sa.Engine", now: Clock, fence: Fence) -> Adopted:
        """See `Place.adopt`."""
        from etl.database.errors import name_of
        from etl.database.transactions import transact
        from etl.ledger import claims, identities, leases
        from etl.ledger.identities import LAKE, LEDGER

        def work(connection: "sa.Connection") -> list[tuple[Stream, datetime]]:
            fence(connection)
            for kind in (LAKE, LEDGER):  # the lake's file names this ledger
                identities.forget(connection, kind, "")
            leases.forget(connection, WRITER)
            return claims.restart(connection, None, now())

        done = f"{name_of(engine)} now keeps audits, and the progress of no lake"
        return Adopted(done, transact(engine, work))

    def open(self, engine: "sa.Engine", now: Clock) -> AnyDestination:
        """See `Place.open`."""
        from etl.destinations.sql.destination import SqlDestination

        return SqlDestination(engine, now, self.sizes)

    def reach(self) -> None:
        """See `Place.reach`: there is nothing apart from the ledger's database."""

    def answer(
        self, engine: "sa.Engine", question: str
    ) -> AbstractContextManager["pa.RecordBatchReader"]:
        """See `Place.answer`: the server answers."""
        from etl.destinations.sql import answering

        return answering.answer(engine, question, self.sizes.batch_rows)


PLACE: Final = SqlPlace
