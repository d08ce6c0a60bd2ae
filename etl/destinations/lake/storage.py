"""Where a lake's files are: a local folder or a bucket. A file is published whole or not at all."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from etl.errors import ConfigurationError, DestinationUnavailable, LeaseHeld

#: The part of an upload, and how much of it is in memory.
UPLOAD_BYTES: Final = 16 * 1024 * 1024
#: The file of a local lake that is locked while a file is published.
LOCK: Final = "_lock"


class Storage(Protocol):
    """The files of one lake, by their path below its top."""

    name: str
    #: Where what is not published yet may lie: on the same file system if that matters.
    staging: Path
    filesystem: fs.FileSystem

    def absolute(self, path: str) -> str:
        """What `filesystem` calls the file that is published as `path`."""
        ...

    def open(self, path: str) -> pq.ParquetFile | None:
        """The file that is published as `path`; None if there is none."""
        ...

    def files(self) -> list[str]:
        """The paths of all published files, sorted."""
        ...

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """Make the staged file the one at `path`, durably.

        A reader sees the former file or this one, at every instant and after any crash.

        Args:
            staged: a whole file in `staging`; it is gone afterwards from a local lake.
            path: where it goes.
            confirm: called last before; if it raises, nothing has changed.
        """
        ...


class LocalStorage:
    """A folder on a local file system."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self.staging = root / "_staging"
        self.filesystem = fs.LocalFileSystem()
        self._root = root

    def absolute(self, path: str) -> str:
        """See `Storage`."""
        return str(self._root / path)

    def open(self, path: str) -> pq.ParquetFile | None:
        """See `Storage`."""
        target = self._root / path
        return pq.ParquetFile(target) if target.exists() else None

    def files(self) -> list[str]:
        """See `Storage`."""
        return sorted(
            str(file.relative_to(self._root))
            for file in self._root.glob("audit_events/**/*.parquet")
        )

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """See `Storage`: flush the file, make its folder, rename, flush the folder.

        The lock spans the confirmation and the rename: a process that is paused between the two,
        and so outlives its lease, keeps others from publishing what its file does not have.

        Raises:
            LeaseHeld: such a process is there.
        """
        target = self._root / path
        _flush(staged)
        _make_folders(target.parent, self._root)
        with _locked(self._root / LOCK):
            confirm()
            staged.replace(target)
        _flush(target.parent)


class ObjectStorage:
    """A prefix in a bucket of an S3-compatible object store."""

    def __init__(self, bucket_and_prefix: str, filesystem: fs.FileSystem, staging: Path) -> None:
        self.name = f"s3://{bucket_and_prefix}"
        self.staging = staging
        self._prefix = bucket_and_prefix
        self.filesystem = filesystem

    def absolute(self, path: str) -> str:
        """See `Storage`."""
        return f"{self._prefix}/{path}"

    def open(self, path: str) -> pq.ParquetFile | None:
        """See `Storage`."""
        target = f"{self._prefix}/{path}"
        if self.filesystem.get_file_info(target).type == fs.FileType.NotFound:
            return None
        return pq.ParquetFile(self.filesystem.open_input_file(target))

    def files(self) -> list[str]:
        """See `Storage`; an error if the bucket does not exist."""
        try:
            found = self.filesystem.get_file_info(
                fs.FileSelector(f"{self._prefix}/audit_events", recursive=True)
            )
        except FileNotFoundError:  # nothing there yet; a missing bucket is another error
            return []
        return sorted(
            info.path.removeprefix(f"{self._prefix}/")
            for info in found
            if info.path.endswith(".parquet")
        )

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """See `Storage`: one upload, which the store shows when it is complete.

        An object store has no lock: an upload that was confirmed completes even if the process
        is paused in it for longer than its lease lasts. The copy is Arrow's own: an exception
        inside a `with` on its output stream would complete the upload of half a file (arrow issue
        40502).
        """
        confirm()
        fs.copy_files(
            str(staged),
            f"{self._prefix}/{path}",
            source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=self.filesystem,
            chunk_size=UPLOAD_BYTES,
        )


def storage_of(url: str, environment: Mapping[str, str], scratch: Path) -> Storage:
    """The storage that a `parquet:` or `parquet+s3:` URL names.

    Args:
        url: the destination.
        environment: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and AWS_DEFAULT_REGION are
            read here; credentials as Arrow finds them: variables, profile, instance.
        scratch: a local folder for what is on its way to a bucket.

    Raises:
        ConfigurationError: the URL names no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme == "parquet":
        return LocalStorage(Path(parts.path))
    if not parts.netloc:
        raise ConfigurationError("destination: write parquet+s3://BUCKET/PREFIX")
    prefix = f"{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
    return ObjectStorage(prefix, filesystem(environment), scratch)


def filesystem(environment: Mapping[str, str]) -> fs.FileSystem:
    """The object store that the environment's AWS variables name."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint is None:
        return fs.S3FileSystem(region=region)
    scheme, _, host = endpoint.rpartition("://")
    return fs.S3FileSystem(
        region=region or "us-east-1",
        endpoint_override=host,
        scheme=scheme or "https",
    )


@contextmanager
def translated(storage: Storage) -> Iterator[None]:
    """Give errors of files and of the object store inside the block as `DestinationUnavailable`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DestinationUnavailable(
            f"the lake {storage.name} failed: {reason}; nothing that was in work counts as done, "
            "run the same command again when it is mended"
        ) from error


_LOCKED: Final = threading.Lock()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file in the block; the system frees it when the process ends.

    Threads of this process wait for each other: each publishes for another organisation.
    """
    with _LOCKED:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LeaseHeld(
                    f"the lake's lock {path} is held by a process that was paused in its work: let "
                    "it go on or end it, then run the same command again"
                ) from None
            yield
        finally:
            os.close(descriptor)


def _make_folders(folder: Path, root: Path) -> None:
    """Make `folder` and what is missing above it, durably, for their owner only."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        if folder == root:
            break
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        _flush(new.parent)


def _flush(path: Path) -> None:
    """Call fsync on a file, or on a folder, which makes renames in it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
