"""Rows on their way into a lake: sorted runs on the local disk, a folder for each load.

A folder belongs to one load and is named for its process, whose threads may load side by side.
What a dead process left is removed by the next load; nothing in here is ever read as part of the
lake.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import pyarrow as pa

from etl.destinations.lake.columns import COLUMNS
from etl.destinations.lake.merging import merged
from etl.errors import DestinationUnavailable

#: Rows of a run that are held in memory at once when it is merged.
RUN_ROWS: Final = 500
#: So many runs of a partition become one, so that few are merged at once whatever their number.
FAN_IN: Final = 16

_LOADS: Final = "load-"
#: Begins the folders of this process; its number would not do, for in a container that is always 1.
_OURS: Final = f"{_LOADS}{uuid4().hex}-"


class Staging:
    """A folder of sorted runs by partition, removed at the end of the block."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder = parent
        #: By partition: its runs, in lists by how often they have been merged.
        self._runs: dict[str, list[list[Path]]] = {}
        self._written = 0

    def __enter__(self) -> Self:
        try:
            _make_for_owner(self._parent)
            _require_own(self._parent)
            self._folder = Path(tempfile.mkdtemp(prefix=_OURS, dir=self._parent))
        except OSError as error:
            raise DestinationUnavailable(
                f"{self._parent} cannot be written: {error.strerror}; rows wait there on their way "
                "into the lake"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def partitions(self) -> list[str]:
        """The partitions that have runs, in order."""
        return sorted(self._runs)

    def spill(self, partition: str, rows: pa.Table) -> None:
        """Write rows, sorted by key, as one run of `partition`."""
        self._add(self._runs.setdefault(partition, []), 0, self._write([rows]))

    def runs(
        self, partition: str, columns: tuple[str, ...] | None = None
    ) -> list[Iterator[pa.Table]]:
        """The runs of `partition`, each a piece at a time; all columns unless some are named."""
        return [_pieces(path, columns) for path in chain.from_iterable(self._runs[partition])]

    def file(self, name: str) -> Path:
        """The path of a file of that name in the folder; nothing is created."""
        return self._folder / name

    def _add(self, levels: list[list[Path]], level: int, path: Path) -> None:
        """Add a run; where that makes `FAN_IN` of them, merge those into one of the next level."""
        if level == len(levels):
            levels.append([])
        levels[level].append(path)
        if len(levels[level]) == FAN_IN:
            together = self._write(merged(_pieces(run, None) for run in levels[level]))
            for run in levels[level]:
                run.unlink()
            levels[level] = []
            self._add(levels, level + 1, together)

    def _write(self, tables: Iterable[pa.Table]) -> Path:
        self._written += 1
        path = self.file(f"run-{self._written}.arrow")
        path.touch(mode=0o600)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, COLUMNS) as writer:
            for table in tables:
                writer.write_table(table, max_chunksize=RUN_ROWS)
        return path


def _pieces(path: Path, columns: tuple[str, ...] | None) -> Iterator[pa.Table]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            yield table.select(list(columns)) if columns else table


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


def clear(parent: Path) -> None:
    """Remove what dead processes left in `parent`; to be called by the lake's only writer."""
    for folder in parent.glob(f"{_LOADS}*"):
        if not folder.name.startswith(_OURS):
            shutil.rmtree(folder, ignore_errors=True)
