"""Destinations under test, empty, and a way to read each that is not its own."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from etl.database import schema
from etl.database.engine import open_engine
from etl.destinations import AnyDestination
from etl.destinations.kinds import kind_of
from etl.destinations.lake import binding
from etl.destinations.lake.parquet import ParquetDestination
from etl.destinations.lake.storage import storage_of
from etl.destinations.place import Place as Kind
from etl.destinations.sql.destination import SqlDestination
from etl.records import Audit
from etl.sizes import Sizes
from tests.support import buckets
from tests.support.destination_contents import audits_in, audits_in_lake
from tests.support.migrations import migrate
from tests.support.samples import LOADED_AT

#: The kinds that the fixture `place` makes.
KINDS = ["sqlite", "postgresql", "mariadb", "parquet", "parquet+s3"]


@dataclass(frozen=True)
class Place:
    """A destination under test, and a way to read it that is not its own.

    Attributes:
        make: makes it, so that its work is cut into pieces of those sizes.
        sizes: of the pieces of `destination`.
        destination: the one under test.
        variables: the environment in which a command finds it.
        audits: every audit that it holds, by id; a doubled one is there twice.
        empty_files: takes everything out that is not in the ledger's database.
    """

    make: Callable[[Sizes], AnyDestination]
    destination: AnyDestination
    variables: Mapping[str, str]
    audits: Callable[..., list[Audit]]
    empty_files: Callable[[], None] = lambda: None
    sizes: Sizes = Sizes()

    def cut(self, **sizes: int) -> "Place":
        """The same place, its destination made with these sizes, see `Sizes`."""
        made = replace(self.sizes, **sizes)
        return replace(self, sizes=made, destination=self.make(made))

    @property
    def kind(self) -> type[Kind]:
        """What is known of it without opening it."""
        return kind_of(self.variables["AUDIT_ETL_DESTINATION"])

    def empty(self) -> None:
        """Take everything out, as if nothing had been loaded yet."""
        with self.destination.ledger.engine.begin() as connection:
            for table in schema.metadata.tables.values():
                connection.execute(sa.delete(table))
        self.empty_files()


@contextmanager
def sql_place(url: str) -> Iterator[Place]:
    """The tables of an empty database; every row is loaded at `LOADED_AT`."""
    engine = open_engine(url)
    migrate(engine)
    make = partial(SqlDestination, engine, lambda: LOADED_AT)
    yield Place(
        make,
        make(Sizes()),
        {"AUDIT_ETL_DESTINATION": url},
        partial(audits_in, engine),
    )
    engine.dispose()


@contextmanager
def lake_place(url: str, tmp_path: Path) -> Iterator[Place]:
    """A lake in a folder or bucket, its ledger in `tmp_path`; rows are loaded at `LOADED_AT`."""
    storage = storage_of(url, os.environ, tmp_path / "scratch")
    state = f"sqlite:///{tmp_path / 'state.db'}"
    engine = open_engine(state)
    migrate(engine)
    variables = {"AUDIT_ETL_DESTINATION": url, "AUDIT_ETL_LEDGER": state}
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    make = partial(ParquetDestination, storage, engine, "day", lambda: LOADED_AT)
    with closing(make(Sizes())) as destination:
        yield Place(
            make,
            destination,
            variables | aws,
            partial(audits_in_lake, storage),
            partial(_empty_lake, url),
        )


def _empty_lake(url: str) -> None:
    if url.startswith("parquet+s3://"):
        buckets.empty(url)
    else:
        lake = Path(url.removeprefix("parquet://"))
        shutil.rmtree(lake / "audit_events", ignore_errors=True)
        (lake / binding.PATH).unlink(missing_ok=True)
