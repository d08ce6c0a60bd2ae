"""The composition root: settings become an organisation's client, a destination and a ledger.

The only module that reads the clock, and the only one that knows which class stands behind which
setting. It holds nothing that the ledger could tell.
"""

import gc
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import urlsplit

import sqlalchemy as sa

from etl import schema
from etl.config import Settings
from etl.database import open_engine, require_schema, schema_version
from etl.destinations import AnyDestination
from etl.destinations.sql import SqlDestination
from etl.errors import DestinationUnavailable, SchemaBehind
from etl.genesys.events import Event, to_nobody
from etl.genesys.query import AuditSource, connect
from etl.leases import TENURE, Shared, Tenure, this_process
from etl.ledger import Ledger
from etl.progress import Late, Stream

if TYPE_CHECKING:
    from etl.destinations.lake.storage import Storage


#: After how many new objects Python looks for circles among them: by itself it looks at the rows
#: of each page several times, which hold none and are freed without it.
GARBAGE_OBJECTS: Final = 50_000


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is where the clock is read


def _make_folder(lake: Path) -> None:
    """Make a local lake's folder, for its owner only: its state may lie there."""
    try:
        lake.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationUnavailable(
            f"the lake {lake} cannot be made: {error.strerror}; check the folders above it"
        ) from None


class Observer(Protocol):
    """Whoever counts what the work costs. Is called from any thread; neither raises nor waits."""

    def told(self, organization: str, event: Event) -> None:
        """The client of an organisation has sent, waited or seen a query succeed."""
        ...

    def came_late(self, stream: Stream, late: Late) -> None:
        """Audits were not there yet, although their time had been loaded before."""
        ...


class App:
    """One configuration at work. Nothing is connected before it is needed; close it at the end.

    May be used from several threads, one for each organisation.

    Attributes:
        settings: what the configuration says.
        now: the clock.
        stop: once set, every pause ends and work stops between two pages.
        observer: who counts; None if nobody does.
        tenure: how leases are held.
        holder: this process's name on a lease.
        writing: the lease of a destination that has one writer, shared by this app's threads.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        stop: threading.Event,
        now: Callable[[], datetime] = clock,
        observer: Observer | None = None,
        tenure: Tenure = TENURE,
    ) -> None:
        self.settings = settings
        self.now = now
        self.stop = stop
        self.observer = observer
        self.tenure = tenure
        self.holder = this_process()
        self.writing = Shared()
        self._lock = threading.RLock()
        self._to_close = ExitStack()
        self._sources: dict[str, AuditSource] = {}
        self._engine: sa.Engine | None = None
        self._told: set[tuple[str, ...]] = set()

    def __enter__(self) -> Self:
        gc.set_threshold(GARBAGE_OBJECTS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._to_close.close()

    @property
    def engine(self) -> sa.Engine:
        """The state database, which is the destination too if that is SQL."""
        with self._lock:
            if self._engine is None:
                if self.settings.destination.startswith("parquet:"):
                    _make_folder(Path(urlsplit(self.settings.destination).path))
                self._engine = open_engine(self.settings.state)
                self._to_close.callback(self._engine.dispose)
            return self._engine

    @property
    def ledger(self) -> Ledger:
        """Progress, as the state database has it."""
        return Ledger(self.engine)

    def destination(self) -> AnyDestination:
        """Where audits go, with its tables as this program needs them.

        Raises:
            SchemaBehind: a server's tables are missing or old: `audit-etl migrate` is to be run.
            ConfigurationError: the lake is partitioned otherwise than the configuration says.
            DestinationUnavailable: it cannot be reached.
        """
        self.prepare()
        if not self.is_lake():
            return SqlDestination(self.engine, self.now)
        from etl.destinations.lake.destination import ParquetDestination
        from etl.destinations.lake.layout import require_partition
        from etl.destinations.lake.storage import translated

        storage = self.storage()
        with translated(storage):
            require_partition(storage.files(), self.settings.partition)
        return ParquetDestination(storage, self.engine, self.settings.partition, self.now)

    def storage(self) -> "Storage":
        """The files of the lake that the configuration names."""
        from etl.destinations.lake.storage import storage_of

        digest = sha256(self.settings.destination.encode()).hexdigest()[:12]
        scratch = Path(tempfile.gettempdir()) / f"audit-etl-{os.getuid()}-{digest}"
        return storage_of(self.settings.destination, os.environ, scratch)

    def prepare(self) -> None:
        """Make the tables of an SQLite file; on a server, make sure that they are there."""
        try:
            require_schema(self.engine)
        except SchemaBehind:
            newer = (schema_version(self.engine) or "") > schema.HEAD
            if not self.is_embedded() or newer:
                raise
            with self._lock:  # Alembic is not made for threads
                self.migrate()

    def first_time(self, *subject: str) -> bool:
        """Whether nobody has asked so about `subject` since this app was made."""
        with self._lock:
            first = subject not in self._told
            self._told.add(subject)
        return first

    def migrate(self) -> tuple[str | None, str | None]:
        """Bring the tables to the newest schema; give the version before and after."""
        from etl import migration

        before = schema_version(self.engine)
        migration.upgrade(self.engine)
        return before, schema_version(self.engine)

    def is_lake(self) -> bool:
        """Whether audits go to Parquet files, and progress to a database of its own."""
        return self.settings.destination.startswith("parquet")

    def is_embedded(self) -> bool:
        """Whether the tables are in an SQLite file, which this program makes and migrates."""
        return sa.make_url(self.settings.state).get_backend_name() == "sqlite"

    def new_file(self) -> Path | None:
        """The SQLite file that the first run will make; None if it exists, or on a server."""
        path = Path(sa.make_url(self.settings.state).database or "")
        return path if self.is_embedded() and not path.exists() else None

    def has_tables(self) -> bool:
        """Whether there is anything to read yet; no file is made for the question."""
        return self.new_file() is None and schema_version(self.engine) is not None

    def streams(self) -> list[Stream]:
        """The streams that the configuration names."""
        return [
            Stream(name, service)
            for name, organization in self.settings.organizations.items()
            for service in organization.services
        ]

    def source(self, name: str) -> AuditSource:
        """The client of an organisation; its token is fetched with the first request.

        Raises:
            ConfigurationError: the organisation is unknown, or has no region or credentials.
        """
        with self._lock:
            return self._sources.get(name) or self._connected(name)

    def _connected(self, name: str) -> AuditSource:
        organization = self.settings.organization(name)
        api = connect(
            name,
            organization.region,
            organization.client_id,
            organization.client_secret.get_secret_value(),
            now=self.now,
            pause=self.stop.wait,
            tell=partial(self.observer.told, name) if self.observer else to_nobody,
        )
        self._to_close.callback(api.close)
        self._sources[name] = AuditSource(
            api,
            expand_user=self.settings.expand_user,
            allow_redirect=self.settings.allow_redirect,
        )
        return self._sources[name]
