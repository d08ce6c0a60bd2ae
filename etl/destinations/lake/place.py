"""A lake before it is opened: a folder or a bucket. Its ledger is in a database of its own."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from etl.destinations import AnyDestination, Fence
from etl.destinations.place import Adopted, Clock, Place
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.sizes import Sizes

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

    from etl.destinations.lake.storage import Storage

_LOCAL: Final = "parquet"
#: The database with the ledger of a local lake, in the lake's folder.
_LEDGER: Final = "_state.db"


class LakePlace(Place):
    """See `Place`."""

    noun = "lake"
    no_early = "each audit would cost a lake a whole file"

    def __init__(self, url: str, partition: str, sizes: Sizes = Sizes()) -> None:
        super().__init__(url, partition, sizes)
        scheme, _, path = url.partition("://")
        self.folder = Path(path) if scheme == _LOCAL else None
        self._lock = threading.Lock()
        self._opened: Storage | None = None

    @classmethod
    def canonical(cls, scheme: str, rest: str) -> str:
        """See `Place.canonical`."""
        if scheme == _LOCAL:
            if not rest.startswith("/") or not rest.strip("/") or "?" in rest:
                raise ValueError("a local lake is a folder's full path: parquet:///var/lib/audits")
        elif rest.startswith(("/", "?")) or not rest:
            raise ValueError("a remote lake needs a bucket: parquet+s3://bucket/prefix")
        elif "@" in rest or "?" in rest:
            raise ValueError(
                "a remote lake is written parquet+s3://bucket/prefix; credentials, region and "
                "endpoint are taken from AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL_S3 and "
                "the like"
            )
        return f"{scheme}://{rest}"

    @classmethod
    def default_ledger(cls, url: str) -> str:
        """See `Place.default_ledger`."""
        scheme, _, rest = url.partition("://")
        if scheme != _LOCAL:
            raise ValueError(
                "must be set, since a remote lake cannot hold it: for example "
                "sqlite:////var/lib/audit-etl/ledger.db or postgresql+psycopg://USER@HOST/DATABASE"
            )
        folder = rest.rstrip("/").replace("%", "%25")  # a database's URL is decoded, a lake's not
        return f"sqlite:///{folder}/{_LEDGER}"

    def make_ready(self, ledger: str) -> None:
        """Make a local lake's folder, for its owner only: its ledger may lie there."""
        if self.folder is None:
            return
        if ledger == self.default_ledger(self.url):
            _require_moved(self.folder / _LEDGER)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationUnavailable(
                f"the lake {self.folder} cannot be made: {error.strerror}; check the folders above "
                "it"
            ) from None

    def require_identity(self, engine: "sa.Engine", now: Clock) -> None:
        """See `Place.require_identity`."""
        from etl.destinations.lake.binding import Binding

        Binding(self.storage(), engine, now).require()

    def adopt(self, engine: "sa.Engine", now: Clock, fence: Fence) -> Adopted | None:
        """See `Place.adopt`."""
        from etl.database.errors import name_of
        from etl.destinations.lake.binding import Binding
        from etl.destinations.lake.staging import Staging

        storage = self.storage()
        with Staging(storage.staging) as staging:
            restarted = Binding(storage, engine, now).adopt(staging, fence)
        if restarted is None:
            return None
        done = f"the lake {storage.name} and {name_of(engine)} now belong together"
        return Adopted(done, restarted)

    def open(self, engine: "sa.Engine", now: Clock) -> AnyDestination:
        """See `Place.open`."""
        from etl.destinations.lake.parquet import ParquetDestination

        self._files()
        return ParquetDestination(self.storage(), engine, self.partition, now, self.sizes)

    def reach(self) -> None:
        """See `Place.reach`; the folder, or the bucket's prefix, need not be there."""
        from etl.destinations.lake.storage import translated

        storage = self.storage()
        with translated(storage):
            storage.reach()

    @contextmanager
    def answer(self, engine: "sa.Engine", question: str) -> "Iterator[pa.RecordBatchReader]":  # noqa: ARG002 - the Protocol's
        """See `Place.answer`: DuckDB answers."""
        from etl.destinations.lake import reading

        storage, most = self.storage(), self.sizes
        with reading.connect(storage, most) as duck, reading.ask(duck, question, most) as reader:
            yield reader

    def checks(self) -> Iterable[tuple[str, Callable[[], str]]]:
        """See `Place.checks`."""
        return [(self.noun, self._try_writing)]

    def caveat(self) -> str | None:
        """See `Place.caveat`."""
        from etl.destinations.lake import access

        return None if self.folder else access.caveat(os.environ)

    def files_by_lack(self) -> Counter[tuple[str, ...]]:
        """See `Place.files_by_lack`; the footers of all files are read."""
        from etl.destinations.lake import reading

        return reading.files_by_lack(self.storage())

    def storage(self) -> "Storage":
        """The files, by one client for all threads."""
        from etl.destinations.lake.storage import storage_of
        from etl.destinations.trials import temporary_folder

        with self._lock:
            if self._opened is None:
                digest = sha256(self.url.encode()).hexdigest()[:12]
                scratch = temporary_folder() / f"audit-etl-{os.getuid()}-{digest}"
                self._opened = storage_of(self.url, os.environ, scratch)
            return self._opened

    def _files(self) -> list[str]:
        """The published files, all partitioned as the configuration says."""
        from etl.destinations.lake.layout import require_partition
        from etl.destinations.lake.storage import translated

        storage = self.storage()
        with translated(storage):
            files = storage.files()
            require_partition(files, self.partition)
        return files

    def _try_writing(self) -> str:
        from etl.destinations.lake.storage import translated

        storage, files = self.storage(), self._files()
        with translated(storage):
            left = storage.try_writing()
        said = f"{storage.name} holds {len(files)} files, and takes others"
        return f"{said}; {left}" if left else said


def _require_moved(state: Path) -> None:
    """Return unless the state lies where earlier versions put it, which took `%41` for `A`.

    Raises:
        ConfigurationError: it does; the message has the way out.
    """
    before = Path(unquote(str(state)))
    if before != state and before.exists() and not state.exists():
        raise ConfigurationError(
            f"the ledger of this lake is in {before}, where an earlier audit-etl has put it, and "
            f"belongs in {state}: stop every audit-etl, then move it there, and {before}-wal too "
            "if there is one"
        )


PLACE: Final = LakePlace
