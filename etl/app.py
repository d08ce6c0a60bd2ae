"""The composition root: settings become an organisation's client, a destination and a ledger.

The only module that reads the clock. It holds nothing that the ledger could tell.
"""

import gc
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self

import sqlalchemy as sa

from etl.config import Settings
from etl.database import schema
from etl.database.engine import open_engine
from etl.database.errors import name_of
from etl.database.versions import require_schema, schema_version
from etl.destinations import AnyDestination
from etl.destinations.kinds import kind_of
from etl.errors import ConfigurationError, SchemaBehind
from etl.genesys.audits import AuditApi
from etl.genesys.client.auth import OAuthClient
from etl.genesys.client.clock import Clock
from etl.genesys.client.events import Event, Tell, to_nobody
from etl.genesys.client.retries import Patience
from etl.genesys.query import AuditSource, connect
from etl.ledger.leases import LEASE_TIMING, LeaseTiming, Shared
from etl.ledger.processes import this_process
from etl.ledger.receipts import Ledger
from etl.model import Discrepancy, Late, Stream
from etl.sizes import Sizes

#: After how many new objects Python looks for circles among them: by itself it looks at the rows
#: of each page several times, which hold none and are freed without it.
GARBAGE_OBJECTS: Final = 50_000
#: Linux counts the time that the machine slept by a clock of its own.
_ELAPSED: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is where the clock is read


def monotonic() -> float:
    """Seconds since some instant, whatever is done to the clock."""
    return time.clock_gettime(_ELAPSED)


class Observer(Protocol):
    """Whoever counts what the work costs. Is called from any thread; neither raises nor waits."""

    def told(self, organization: str, event: Event) -> None:
        """The client of an organisation has sent, waited or seen a query succeed."""
        ...

    def came_late(self, stream: Stream, late: Late) -> None:
        """Audits were not there yet, although their time had been loaded before."""
        ...

    def answered_oddly(self, stream: Stream, found: Discrepancy) -> None:
        """An answer was not what it should have been."""
        ...


class App:
    """One configuration at work. Nothing is connected before it is needed; close it at the end.

    May be used from several threads, one for each organisation.

    Attributes:
        settings: what the configuration says.
        place: where audits go, before it is opened.
        now: this machine's clock.
        monotonic: seconds since some instant, by which lengths of time are measured.
        stop: once set, every pause ends and work stops between two pages.
        observer: who counts; None if nobody does.
        timing: how leases are held.
        patience: how long an organisation is waited for.
        holder: this process's name on a lease.
        writing: the lease of a destination that has one writer, shared by this app's threads.
    """

    def __init__(  # noqa: PLR0913 - all but the first two have a default, and names
        self,
        settings: Settings,
        *,
        stop: threading.Event,
        now: Callable[[], datetime] = clock,
        monotonic: Callable[[], float] = monotonic,
        observer: Observer | None = None,
        timing: LeaseTiming = LEASE_TIMING,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
        sizes: Sizes = Sizes(),
    ) -> None:
        self.settings = settings
        self.place = kind_of(settings.destination)(settings.destination, settings.partition, sizes)
        self.now = now
        self.monotonic = monotonic
        self.stop = stop
        self.observer = observer
        self.timing = timing
        self.patience = patience
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

    def __exit__(self, *_: object) -> None:
        self._to_close.close()

    @property
    def engine(self) -> sa.Engine:
        """The ledger database, which is the destination too if that is SQL."""
        with self._lock:
            if self._engine is None:
                self.place.make_ready(self.settings.ledger)
                self._engine = open_engine(self.settings.ledger, self.settings.connections)
                self._to_close.callback(self._engine.dispose)
            return self._engine

    @property
    def ledger(self) -> Ledger:
        """Progress, as the ledger database has it."""
        return Ledger(self.engine)

    def destination(self) -> AnyDestination:
        """Where audits go, with its tables as this program needs them.

        Raises:
            SchemaBehind: a server's tables are missing or old: `audit-etl migrate` is to be run.
            ConfigurationError: the ledger is about another destination, or the destination was laid
                out by other settings.
            DestinationUnavailable: it cannot be reached.
        """
        self.prepare()
        self.require_identity()
        return self.place.open(self.engine, self.now)

    def require_identity(self) -> None:
        """Return if the receipts are about the destination that the configuration names.

        Raises:
            ConfigurationError: they are not; the message has the ways out.
            DestinationUnavailable: it cannot be reached.
        """
        self.place.require_identity(self.engine, self.now)

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
        from etl.database import migration

        before = schema_version(self.engine)
        migration.upgrade(self.engine)
        return before, schema_version(self.engine)

    def is_embedded(self) -> bool:
        """Whether the tables are in an SQLite file, which this program makes and migrates."""
        return sa.make_url(self.settings.ledger).get_backend_name() == "sqlite"

    def file(self) -> Path:
        """The SQLite file of the ledger, if it is one."""
        return Path(sa.make_url(self.settings.ledger).database or "")

    def new_file(self) -> Path | None:
        """The SQLite file that the first run will make; None if it exists, or on a server."""
        path = self.file()
        return path if self.is_embedded() and not path.exists() else None

    def has_tables(self) -> bool:
        """Whether there is anything to read yet; no file is made for the question."""
        return self.new_file() is None and schema_version(self.engine) is not None

    def require_tables(self) -> None:
        """Return if there is anything to read yet; no file is made for the question.

        Raises:
            ConfigurationError: there is not; the message says where it was looked for.
        """
        new = self.new_file()
        if new is not None:
            raise ConfigurationError(
                f"there is no database at {new.absolute()}: nothing has been loaded there. Set "
                "destination (AUDIT_ETL_DESTINATION), or ledger, to where your audits are; a "
                "relative path counts from the current folder"
            )
        if schema_version(self.engine) is None:
            raise SchemaBehind(
                f"{name_of(self.engine)} holds no tables of audit-etl: set destination "
                "(AUDIT_ETL_DESTINATION) to where your audits are, or run `audit-etl migrate`"
            )

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

    def time_of(self, organization: str) -> datetime:
        """The organisation's time; ours, if it has not been asked for anything yet."""
        with self._lock:
            source = self._sources.get(organization)
        return source.now() if source else self.now()

    def connect(self, name: str, clock: Clock, patience: Patience, tell: Tell) -> AuditApi:
        """A client of an organisation beside the one that `source` gives; close it.

        See `etl.genesys.query.connect` for the arguments.

        Raises:
            ConfigurationError: see `source`.
        """
        organization = self.settings.organization(name)
        return connect(
            name,
            organization.region,
            OAuthClient(organization.client_id, organization.client_secret.get_secret_value()),
            clock,
            patience=patience,
            tell=tell,
        )

    def _connected(self, name: str) -> AuditSource:
        clock = Clock(self.now, self.monotonic, self.stop.wait)
        tell = partial(self.observer.told, name) if self.observer else to_nobody
        api = self.connect(name, clock, self.patience, tell)
        self._to_close.callback(api.close)
        self._sources[name] = AuditSource(
            api,
            expand_user=self.settings.expand_user,
            allow_redirect=self.settings.allow_redirect,
        )
        return self._sources[name]
