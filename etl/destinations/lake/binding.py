"""The binding of a lake to its ledger, kept in a small file at the top of the lake.

The file names the lake, the ledger with its receipts, and the generation: a text that is new with
each load that publishes something. The ledger has the same three. So a wrong lake, a wrong ledger
and a restored backup of one of them are noticed before anything is loaded.

The ledger records a generation before the file has it, and drops the former one only after that, so
a process may die at any step. Only the lake's one writer changes the file.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple, NoReturn
from uuid import uuid4

import msgspec
import sqlalchemy as sa

from etl.database.errors import name_of
from etl.database.transactions import reading, transact
from etl.destinations import Fence
from etl.destinations.lake.layout import MARKER, organization_of
from etl.destinations.lake.staging import Staging
from etl.destinations.lake.storage import Storage, translated
from etl.errors import ConfigurationError
from etl.ledger import claims, identities
from etl.ledger.identities import LAKE, LEDGER
from etl.model import Stream
from etl.window import iso_utc

#: The file, below the top of the lake.
PATH: Final = MARKER
#: The kind of the ledger's two rows about generations, and their names: the one that the file had,
#: and the one that it has or is about to have.
GENERATION: Final = "generation"
BEFORE: Final = "before"
LATEST: Final = "latest"
#: Threads of this process load side by side; one of them changes the file at a time.
_CHANGING: Final = threading.Lock()


class Marker(msgspec.Struct, frozen=True):
    """The content of the file."""

    lake: str
    ledger: str
    generation: str


class _Rows(NamedTuple):
    """The ledger's rows; None and no generations if it knows no lake yet."""

    ledger: str | None
    lake: str | None
    generations: frozenset[str]


class Binding:
    """A lake and a ledger that should belong together.

    Args:
        engine: the ledger's database, its tables made.
    """

    def __init__(self, storage: Storage, engine: sa.Engine, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._engine = engine
        self._now = now

    def require(self) -> None:
        """Return if nothing shows that they do not belong together.

        Raises:
            ConfigurationError: it does; the message has the ways out.
            DestinationUnavailable: one of them cannot be read.
        """
        self._compare()

    def bind(self, staging: Staging, fence: Fence) -> None:
        """Bind them unless that was done, before the first file; for the lake's one writer.

        Raises:
            ConfigurationError: see `require`.
        """
        with _CHANGING:
            marker, rows = self._compare()
            if rows.lake is not None:
                return
            if marker is None:
                marker = self._new_marker(fence)
                self._write(staging, marker, lambda: self._require_absent(fence))
                self.confirm(fence)  # an object store has no lock: another one may have won
            self._record(marker, fence)

    def advance(self, staging: Staging, fence: Fence) -> str:
        """Give the lake its next generation, before a load publishes its first file."""
        with _CHANGING:
            before, _ = self._compare()
            if before is None:
                self._refuse_foreign()
            marker = Marker(before.lake, before.ledger, self._new_generation())

            def note(connection: sa.Connection) -> None:
                fence(connection)
                self._keep(connection, GENERATION, BEFORE, before.generation)
                self._keep(connection, GENERATION, LATEST, marker.generation)

            transact(self._engine, note)
            self._write(staging, marker, lambda: self.confirm(fence))
        return marker.generation

    def confirm(self, fence: Fence) -> None:
        """Return if this process is the lake's writer, and the lake still this ledger's.

        Raises:
            LeaseHeld: another process is its writer.
            ConfigurationError: another ledger has adopted it.
        """
        transact(self._engine, fence)
        marker = self._marker()
        if marker is None or marker.ledger != self._rows().ledger:
            self._refuse_foreign()

    def settle(self, connection: sa.Connection, generation: str) -> None:
        """In the transaction of a receipt: no generation before that one counts any more."""
        if identities.recorded(connection, GENERATION)[LATEST].text == generation:
            self._keep(connection, GENERATION, BEFORE, generation)

    def adopt(self, staging: Staging, fence: Fence) -> list[tuple[Stream, datetime]] | None:
        """Bind what does not belong together; None if it does. For the lake's one writer.

        All progress starts again, since the receipts may be about files that are not there. What
        is there stays, and loading it again adds nothing.

        Returns:
            the streams, each with the time from which it will be asked for again.
        """
        try:
            self._compare()
        except ConfigurationError:
            pass
        else:
            return None

        def restart(connection: sa.Connection) -> list[tuple[Stream, datetime]]:
            fence(connection)
            identities.forget(connection, LEDGER, "")  # a former lake's file names it
            identities.forget(connection, LAKE, "")
            return claims.restart(connection, None, self._now())

        restarted = transact(self._engine, restart)
        marker = self._new_marker(fence)
        self._write(staging, marker, lambda: transact(self._engine, fence))
        self._record(marker, fence)
        return restarted

    def _compare(self) -> tuple[Marker | None, _Rows]:
        """Read both sides as of one moment; raise unless they agree."""
        with translated(self._storage):
            marker = self._marker()
            while True:
                rows = self._rows()
                before, marker = marker, self._marker()
                if marker == before:  # else the writer was at work between the two
                    break
            if marker is None:
                self._require_unbound(rows)
            else:
                self._require_same(marker, rows)
            return marker, rows

    def _require_same(self, marker: Marker, rows: _Rows) -> None:
        if marker.ledger != rows.ledger or rows.lake not in {None, marker.lake}:
            self._refuse_foreign()
        if rows.lake is not None and marker.generation not in rows.generations:
            self._refuse(
                "are not of the same moment: one of them was restored from a backup, or a copy of "
                "one is in use elsewhere. Restore both from the same moment",
            )

    def _require_unbound(self, rows: _Rows) -> None:
        """Return if a lake without the file may be this ledger's: new, or made by 0.1.0."""
        if rows.lake is not None:
            self._refuse(
                f"do not belong together: the lake has no {PATH}. Mount it if it is not mounted; "
                "set destination to the lake of this ledger, or ledger to a new database"
            )
        files = self._storage.files()
        with reading(self._engine) as connection:
            if identities.holds_audits(connection):
                self._refuse(
                    "do not belong together: that database holds audits of its own, and its "
                    "receipts are about those. Set ledger to a database of the lake's own"
                )
            if files and not identities.is_begun(connection):
                self._refuse(
                    f"do not belong together: the lake holds {len(files)} files, and the ledger "
                    "has no receipt. Set ledger to the database that the lake was loaded with"
                )
            promised = identities.audits_by_receipts(connection)
        held = self._audits(files) if promised else Counter[str]()
        for organization, count in promised.items():
            if held[organization] < count:
                self._refuse(
                    f"do not belong together: by its receipts {count} audits of {organization} "
                    f"were loaded, and the lake holds {held[organization]}. Set destination to the "
                    "lake of this ledger, or restore its files"
                )

    def _audits(self, files: Iterable[str]) -> Counter[str]:
        """How many audits there are, by organisation; the footers of all files are read."""
        found: Counter[str] = Counter()
        for path in files:
            file = self._storage.open(path)
            if file is not None:
                with file:
                    found[organization_of(path)] += file.metadata.num_rows
        return found

    def _require_absent(self, fence: Fence) -> None:
        transact(self._engine, fence)
        if self._marker() is not None:
            self._refuse_foreign()

    def _refuse_foreign(self) -> NoReturn:
        self._refuse(
            f"do not belong together, by {PATH} in the lake. Set destination to the lake of "
            "this ledger, or ledger to the database that the lake was loaded with"
        )

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigurationError(
            f"the lake {self._storage.name} and its ledger, {name_of(self._engine)}, {what}; or "
            "run `audit-etl migrate --adopt`, which keeps all files and asks for everything again "
            "from the beginning of each stream"
        )

    def _marker(self) -> Marker | None:
        content = self._storage.read(PATH)
        try:
            return None if content is None else msgspec.json.decode(content, type=Marker)
        except msgspec.MsgspecError:
            self._refuse(f"cannot be compared: {PATH} in the lake is damaged. Restore that file")

    def _rows(self) -> _Rows:
        with reading(self._engine) as connection:
            ledgers, lakes, generations = (
                [found.text for found in identities.recorded(connection, kind).values()]
                for kind in (LEDGER, LAKE, GENERATION)
            )
        return _Rows(next(iter(ledgers), None), next(iter(lakes), None), frozenset(generations))

    def _new_marker(self, fence: Fence) -> Marker:
        def own(connection: sa.Connection) -> str:
            fence(connection)
            return identities.ledger(connection, self._now())

        return Marker(uuid4().hex, transact(self._engine, own), self._new_generation())

    def _new_generation(self) -> str:
        return f"{iso_utc(self._now())} {uuid4().hex[:12]}"

    def _write(self, staging: Staging, marker: Marker, confirm: Callable[[], None]) -> None:
        staged = staging.file(PATH)
        staged.touch(mode=0o600)
        staged.write_bytes(msgspec.json.format(msgspec.json.encode(marker), indent=1))
        with translated(self._storage):
            self._storage.publish(staged, PATH, confirm)

    def _record(self, marker: Marker, fence: Fence) -> None:
        def bound(connection: sa.Connection) -> None:
            fence(connection)
            self._keep(connection, LAKE, "", marker.lake)
            for name in (BEFORE, LATEST):
                self._keep(connection, GENERATION, name, marker.generation)

        transact(self._engine, bound)

    def _keep(self, connection: sa.Connection, kind: str, name: str, text: str) -> None:
        identities.record(connection, kind, name, text, self._now())
