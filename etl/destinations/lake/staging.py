"""Rows on their way into a lake: sorted runs on the local disk, a folder for each load.

A run is a file as it is published: the only one of a new partition needs no other step.

A folder belongs to one load and is named for its process, whose threads may load side by side. The
load keeps a file of that name locked. The system frees the lock when the process ends. So the next
load removes what dead processes left, and nothing else, even if its own lease is lost. Nothing in
here is ever read as part of the lake.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import uuid4

import pyarrow as pa

from etl.destinations.lake.merging import Key, Source, merged
from etl.destinations.lake.writing import Writer, opened, read
from etl.errors import DestinationUnavailable
from etl.sizes import Sizes

_LOADS: Final = "load-"
#: Ends the name of the file that says, by its lock, that a load is at work.
_LOCK: Final = ".lock"
#: Begins the folders of this process; its number would not do, for in a container that is always 1.
_OURS: Final = f"{_LOADS}{uuid4().hex}-"


class Part(NamedTuple):
    """Rows of one partition on their way into a run.

    Attributes:
        partition: its folders.
        rows: `COLUMNS`, sorted by key, each key once; at least one.
        first: the least key in them.
        last: the greatest.
    """

    partition: str
    rows: pa.Table
    first: Key
    last: Key


@dataclass(frozen=True, slots=True)
class Run:
    """Sorted rows in a file, each key once.

    Attributes:
        first: the least key in it.
    """

    path: Path
    first: Key
    sizes: Sizes

    def source(self, columns: tuple[str, ...] | None = None) -> Source:
        """The run, a piece at a time; all columns unless some are named."""
        return Source(self._pieces(columns), self.first)

    def _pieces(self, columns: tuple[str, ...] | None) -> Iterator[pa.Table]:
        with opened(self.path) as file:
            yield from read(file, self.sizes.run_rows, self.sizes.run_bytes, columns)


class Staging:
    """A folder of sorted runs by partition, removed at the end of the block."""

    def __init__(self, parent: Path, sizes: Sizes = Sizes()) -> None:
        self._parent = parent
        self._sizes = sizes
        self._folder = parent
        self._lock: int | None = None
        #: By partition: its runs, in lists by how often they have been merged.
        self._runs: dict[str, list[list[Run]]] = {}
        self._written = 0
        #: The last run, as long as more rows may follow in it.
        self._growing: _Growing | None = None

    def __enter__(self) -> Self:
        try:
            _make_for_owner(self._parent)
            _require_own(self._parent)
            _clear(self._parent)
            self._folder = self._parent / f"{_OURS}{uuid4().hex}"
            self._lock = _lock_of(self._folder)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            self._remove()
            raise DestinationUnavailable(
                f"{self._parent} cannot be written: {error.strerror}; rows wait there on their way "
                "into the lake"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._growing is not None:
            self._growing.file.abandon()
        self._remove()

    @property
    def partitions(self) -> list[str]:
        """The partitions that have rows, in order."""
        return sorted(self._runs)

    def add(self, part: Part) -> None:
        """Keep rows: in the last run if they go on in its order."""
        if self._growing is None or not self._growing.goes_on(part):
            self._finish()
            self._growing = self._new_run(part.partition, part.first)
        self._growing.add(part)

    def runs(self, partition: str) -> list[Run]:
        """The runs of `partition`; what is added to it later is not in them."""
        if self._growing is not None and self._growing.partition == partition:
            self._finish()
        return list(chain.from_iterable(self._runs[partition]))

    def file(self, name: str) -> Path:
        """The path of a file of that name in the folder; nothing is created."""
        return self._folder / name

    def _remove(self) -> None:
        if self._lock is not None:
            _remove_locked(self._folder, self._lock)
            self._lock = None

    def _new_run(self, partition: str, first: Key) -> "_Growing":
        self._runs.setdefault(partition, [])
        self._written += 1
        path = self.file(f"run-{self._written}.parquet")
        return _Growing(partition, path, first, self._sizes)

    def _finish(self) -> None:
        """Let no more rows follow in the last run."""
        if self._growing is not None:
            self._growing.file.close()
            self._keep(self._growing, level=0)
            self._growing = None

    def _keep(self, whole: "_Growing", level: int) -> None:
        """Add a run; where that makes `fan_in` of them, merge those into one of the next level."""
        levels = self._runs[whole.partition]
        if level == len(levels):
            levels.append([])
        runs = levels[level]
        runs.append(Run(whole.path, whole.first, self._sizes))
        if len(runs) == self._sizes.fan_in:
            together = self._new_run(whole.partition, min(run.first for run in runs))
            for rows in merged([run.source() for run in runs]):
                together.file.write(rows)
            together.file.close()
            for run in runs:
                run.path.unlink()
            levels[level] = []
            self._keep(together, level + 1)


class _Growing:
    """A run that is being written."""

    def __init__(self, partition: str, path: Path, first: Key, sizes: Sizes) -> None:
        self.partition = partition
        self.path = path
        self.first = first
        self.file = Writer(path, sizes)
        self._last = first

    def goes_on(self, part: Part) -> bool:
        """Whether these rows may follow."""
        return part.partition == self.partition and self._last < part.first

    def add(self, part: Part) -> None:
        self.file.write(part.rows)
        self._last = part.last


def _make_for_owner(folder: Path) -> None:
    """Make a folder and those above it that are missing; `parents=True` would open these to all."""
    if not folder.exists():
        _make_for_owner(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _require_own(folder: Path) -> None:
    """Audits wait in it: where all users write, somebody else may have made it to read them."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise DestinationUnavailable(
            f"{folder} is not this user's alone: remove it, or set TMPDIR to a folder that is"
        )


def _clear(parent: Path) -> None:
    """Remove what dead processes left in `parent`, and nothing of those that are at work."""
    left = {path.with_name(path.name.removesuffix(_LOCK)) for path in parent.glob(f"{_LOADS}*")}
    for folder in left:
        if folder.name.startswith(_OURS):
            continue
        lock = _taken(_lock_path(folder))
        if lock is not None:
            _remove_locked(folder, lock)


def _remove_locked(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        _lock_path(folder).unlink()
    os.close(lock)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _lock_of(folder: Path) -> int:
    """Lock the file that says that `folder` is in use; made before the folder is."""
    while True:
        lock = _taken(_lock_path(folder))
        if lock is not None and os.fstat(lock).st_nlink:
            return lock
        if lock is not None:  # another process has taken it for dead, between making and locking
            os.close(lock)


def _taken(path: Path) -> int | None:
    """The file at `path`, made if need be and locked; None if a living process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
