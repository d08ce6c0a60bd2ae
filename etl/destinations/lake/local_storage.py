"""A lake in a folder of a local file system."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from etl.destinations.lake.layout import TRIAL, TRIAL_CONTENT, is_partition
from etl.errors import ConfigurationError, LeaseHeld

#: The file of a local lake that is locked while a file is published.
LOCK: Final = "_lock"
#: Threads of this process wait for each other: each publishes for another organisation.
_LOCKED: Final = threading.Lock()


class LocalStorage:
    """A folder on a local file system."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self.staging = root / "_staging"
        self._root = root

    def reach(self) -> None:
        """See `Storage`."""
        self._root.exists()

    def source(self, path: str) -> pa.NativeFile:
        """See `Storage`."""
        return pa.OSFile(str(self._root / path))

    def open(self, path: str) -> pq.ParquetFile | None:
        """See `Storage`."""
        target = self._root / path
        return pq.ParquetFile(target, pre_buffer=False) if target.exists() else None

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        target = self._root / path
        return target.read_bytes() if target.exists() else None

    def files(self) -> list[str]:
        """See `Storage`; a folder that may not be read is an error, `glob` would pass it over.

        Raises:
            ConfigurationError: a folder is a link, which a listing does not follow.
        """
        top = self._root / "audit_events"
        if not top.exists():
            return []
        found = []
        for folder, folders, names in os.walk(top, onerror=_raise):
            for name in folders:
                _require_no_link(Path(folder, name))
            paths = (str(Path(folder, name).relative_to(self._root)) for name in names)
            found += [path for path in paths if is_partition(path)]
        return sorted(found)

    def try_writing(self) -> str | None:
        """See `Storage`: in the folders that there are, from where files are staged."""
        name = f"{TRIAL}-{uuid4().hex}"
        staged = _nearest(self.staging) / name
        target = _nearest(self._root / "audit_events") / name
        try:
            staged.write_bytes(TRIAL_CONTENT)
            _flush(staged)
            staged.replace(target)
            _require_size(target, len(TRIAL_CONTENT))
            _flush(target.parent)
        finally:
            for left in (staged, target):
                with suppress(OSError):  # it is not there, or its disk is read-only
                    left.unlink()
        return None

    def publish(self, staged: Path, path: str, confirm: Callable[[], None]) -> None:
        """See `Storage`: flush the file, make its folder, rename, flush the folder.

        The lock spans the confirmation and the rename: a process that is paused between the two,
        and so outlives its lease, keeps others from publishing what its file does not have.

        Raises:
            LeaseHeld: such a process is there.
        """
        target = self._root / path
        size = staged.stat().st_size
        _flush(staged)
        _make_folders(target.parent, self._root)
        with _locked(self._root / LOCK):
            confirm()
            staged.replace(target)
            _require_size(target, size)
        _flush(target.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file in the block; the system frees it when the process ends."""
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


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists, in which it would be made."""
    return next(above for above in (folder, *folder.absolute().parents) if above.exists())


def _require_no_link(folder: Path) -> None:
    if folder.is_symlink():
        raise ConfigurationError(
            f"{folder} is a symbolic link, behind which files cannot be replaced in one step: move "
            "the folder back, mount the other disk there, or move the whole lake and set the "
            "destination"
        )


def _raise(error: OSError) -> None:
    raise error


def _require_size(file: Path, size: int) -> None:
    found = file.stat().st_size
    if found != size:
        raise OSError(f"{file} has {found} bytes instead of {size} after it was moved there")


def _make_folders(folder: Path, root: Path) -> None:
    """Make `folder` and what is missing above it, durably, for their owner only."""
    if not folder.exists():
        if folder != root:
            _make_folders(folder.parent, root)
        folder.mkdir(mode=0o700, exist_ok=True)
        _flush(folder.parent)


def _flush(path: Path) -> None:
    """Call fsync on a file, or on a folder, which makes renames in it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
