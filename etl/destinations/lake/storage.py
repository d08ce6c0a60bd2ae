"""The files of a lake, in a local folder or a bucket. A file is published whole or not at all."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake import bucket as bucket_module
from etl.destinations.lake.bucket import Bucket
from etl.destinations.lake.columns import KEY, require_known
from etl.destinations.lake.layout import (
    MARKER,
    TRIAL,
    TRIAL_CONTENT,
    is_partition,
    organization_of,
    span_of,
)
from etl.destinations.lake.local_storage import LocalStorage
from etl.destinations.lake.remote_file import RemoteFile
from etl.destinations.lake.store_errors import Replaced, StoreError
from etl.errors import ConfigurationError, DestinationUnavailable
from etl.window import iso_utc

#: Where uploads wait in a bucket, one of each organisation: a thread publishes file after file.
_ASIDE: Final = "_staging"
#: How often a file is read from its start while writers replace it.
READINGS: Final = 3

T = TypeVar("T")


class Storage(Protocol):
    """The files of one lake, by their path below its top."""

    name: str
    #: Folder for files that are not published yet; on the lake's file system if it is local.
    staging: Path

    def reach(self) -> None:
        """Raise if the files cannot be listed; there need not be any."""
        ...

    def source(self, path: str) -> RemoteFile | pa.NativeFile:
        """Return the file at `path` as it is now; a later version is never mixed in."""
        ...

    def open(self, path: str) -> pq.ParquetFile | None:
        """The file that is published as `path`; None if there is none.

        It must read column by column: Arrow's `pre_buffer` would keep all that was read.
        """
        ...

    def read(self, path: str) -> bytes | None:
        """What the small file that is published as `path` holds; None if there is none."""
        ...

    def files(self) -> list[str]:
        """The paths of all published files with audits, sorted."""
        ...

    def try_writing(self) -> str | None:
        """Publish a small file and remove it; return a message if it could not be removed."""
        ...

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """Make the staged file the one at `path`. Returns once it is durable, and checked.

        A reader sees the former file or this one, at every instant and after any crash.

        Args:
            staged: a whole file in `staging`; it is gone afterwards from a local lake.
            confirm: called last before; if it raises, nothing has changed.
        """
        ...


class ObjectStorage:
    """A prefix in a bucket of an S3-compatible object store."""

    def __init__(self, name: str, bucket: Bucket, staging: Path) -> None:
        self.name = f"s3://{name}"
        self.staging = staging
        self._bucket = bucket

    def reach(self) -> None:
        """See `Storage`."""
        self._bucket.reach()

    def source(self, path: str) -> RemoteFile:
        """See `Storage`."""
        return RemoteFile(self._bucket, path)

    def open(self, path: str) -> pq.ParquetFile | None:
        """See `Storage`."""
        file = self._bucket.open(path)
        return None if file is None else pq.ParquetFile(file, pre_buffer=False)

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        file = self._bucket.open(path)
        return None if file is None else bytes(file.read())

    def files(self) -> list[str]:
        """See `Storage`; an error if the bucket does not exist."""
        found = self._bucket.files("audit_events", MARKER)
        return [path for path in found if is_partition(path)]

    def try_writing(self) -> str | None:
        """See `Storage`: an object, which only `check` wants to delete."""
        with NamedTemporaryFile(prefix="audit-etl-check-") as file:
            file.write(TRIAL_CONTENT)
            file.flush()
            self.publish(Path(file.name), TRIAL, lambda: None)
        try:
            self._bucket.delete(TRIAL)
        except StoreError as error:
            return f"the object {TRIAL} stays, which is harmless: {error}"
        return None

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """See `Storage`: upload the file aside, and have the store put it in place.

        An upload that the store cuts short, or loses, harms nothing that is published. An object
        store has no lock: a process that is paused between the confirmation and the copy, for
        longer than its lease lasts, still replaces the file.
        """
        owner = path.split("/")[:2][-1]  # an organisation's folder, or the file itself at the top
        aside = f"{_ASIDE}/{owner}"
        self._bucket.put(aside, staged)
        confirm()
        self._bucket.move(aside, path, staged)


def storage_of(url: str, environment: Mapping[str, str], scratch: Path) -> Storage:
    """The storage that a `parquet:` or `parquet+s3:` URL names.

    Args:
        url: the destination. What follows `://` is taken literally: `#` and `%` are characters.
        environment: see `Bucket`.
        scratch: a local folder for uploads to a bucket.

    Raises:
        ConfigurationError: the URL names no bucket, or no prefix that can be.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "parquet":
        return LocalStorage(Path(rest))
    bucket, _, path = rest.partition("/")
    prefix = path.strip("/")
    if not bucket:
        raise ConfigurationError("destination: write parquet+s3://BUCKET/PREFIX")
    name = f"{bucket}/{prefix}".rstrip("/")
    return ObjectStorage(name, Bucket(bucket, prefix, environment, bucket_module.PATIENCE), scratch)


def of_one_version(read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What `read` gives of one file, and once more from its start if that is replaced meanwhile.

    Raises:
        Replaced: it was replaced after it had given something, or too often.
    """
    for left in reversed(range(READINGS)):
        given = False
        try:
            for item in read():
                given = True
                yield item
        except Replaced:
            if given or not left:
                raise
        else:
            return


@contextmanager
def published(storage: Storage, path: str) -> Iterator[pq.ParquetFile | None]:
    """The file that is published as `path`, open in the block; None if there is none.

    Raises:
        DestinationUnavailable: it is there, and is no whole file of audits.
        SchemaBehind: a newer program wrote it.
    """
    try:
        file = storage.open(path)
        with file or nullcontext():
            if file is not None:
                _require_audits(file, path)
            yield file
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, StoreError) or getattr(error, "errno", None) is not None:
            raise  # the disk or the store failed, not the file
        raise _damaged(storage, path, str(error)) from error


def _require_audits(file: pq.ParquetFile, path: str) -> None:
    require_known(file.schema_arrow, path)
    missing = [name for name in KEY if name not in file.schema_arrow.names]
    if missing:
        raise pa.ArrowInvalid(f"it has no column {' and no column '.join(missing)}")


def _damaged(storage: Storage, path: str, reason: str) -> DestinationUnavailable:
    """Return the error for a published file that is not a whole file of audits."""
    span, why = span_of(path), " ".join(reason.split()).rstrip(".")
    return DestinationUnavailable(
        f"{storage.name}/{path} is no whole file of audits: {why}. "
        "Restore it from a backup. If there is none, remove it and run `audit-etl verify --from "
        f"{iso_utc(span.start)} --to {iso_utc(span.end)} --organization {organization_of(path)} "
        "--repair`, without --to if that is yet to come: it loads what the organisation still "
        "shows. Nothing that was in work counts as done"
    )


@contextmanager
def translated(storage: Storage) -> Iterator[None]:
    """Raise errors of files and of the object store as `DestinationUnavailable`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DestinationUnavailable(
            f"the lake {storage.name} failed: {reason}; nothing that was in work counts as done, "
            "run the same command again when it is repaired"
        ) from error
