"""What holds between the writers of a local lake, and between a file and the disk below it."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.destinations.lake.local_storage import LOCK, LocalStorage
from etl.destinations.lake.storage import translated
from etl.errors import DestinationUnavailable, LeaseHeld
from tests.support.places import Place
from tests.support.samples import STREAM, audits, batch, draft, hours, load_into, record, unfenced

local = pytest.mark.parametrize("place", ["parquet"], indirect=True)
PATH = "audit_events/organization=default/date=2026-03-01/audits.parquet"
FIRST, SECOND = record("first", 1), record("second", 2)
#: Loads two audits, and waits between them until it is told to go on.
WRITER = """
import os, sys
from pathlib import Path
from etl.database.engine import open_engine
from etl.destinations.lake.parquet import ParquetDestination
from etl.destinations.lake.storage import storage_of
from etl.sizes import Sizes
from tests.support.samples import LOADED_AT, batch, draft, hours, load_into, record

def pages():
    yield batch(record("first", 1))
    print("staged", flush=True)
    sys.stdin.readline()
    yield batch(record("second", 2))

storage = storage_of(sys.argv[1], os.environ, Path("unused"))
engine = open_engine(sys.argv[2])
destination = ParquetDestination(storage, engine, "day", lambda: LOADED_AT, Sizes())
load_into(destination, draft(hours(0, 24)), pages())
destination.close()
"""


@contextmanager
def writing(place: Place) -> "Iterator[subprocess.Popen[str]]":
    """Another process that is in the middle of a load."""
    arguments = [place.variables["AUDIT_ETL_DESTINATION"], place.variables["AUDIT_ETL_LEDGER"]]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "staged\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def staging(place: Place) -> Path:
    return Path(place.variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://")) / "_staging"


def load_another(place: Place) -> None:
    page = [batch(record("other", 30))]
    load_into(place.destination, draft(hours(24, 48)), page)


@pytest.mark.promise("M7")
@local
def test_a_writer_that_lost_its_lease_leaves_the_staging_of_the_one_that_holds_it(
    place: Place,
) -> None:
    def lost(_: object) -> None:
        raise LeaseHeld("taken by another process")

    with writing(place) as other:
        with pytest.raises(LeaseHeld):
            load_into(place.destination, draft(hours(24, 48)), [batch(record("x", 30))], lost)
        load_another(place)
        other.communicate("go on\n", timeout=240)

        assert other.returncode == 0

    assert place.audits() == audits([FIRST, record("other", 30), SECOND])
    assert list(staging(place).iterdir()) == []


@local
def test_what_a_killed_writer_has_staged_is_gone_after_the_next_load(place: Place) -> None:
    with writing(place) as other:
        other.send_signal(signal.SIGSTOP)
        load_another(place)
        left = list(staging(place).iterdir())
        other.kill()
        other.wait()

        load_another(place)

    assert len(left) == 2
    assert list(staging(place).iterdir()) == []


@contextmanager
def traced(steps: list[tuple[str, object]], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Note each flush, lock and rename, in their order."""
    flush, lock, rename = os.fsync, fcntl.flock, Path.replace

    def flushing(descriptor: int) -> None:
        flush(descriptor)
        steps.append(("flush", os.fstat(descriptor).st_ino))

    def locking(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        steps.append(("lock", os.fstat(descriptor).st_ino))

    def renaming(self: Path, target: Path) -> Path:
        steps.append(("rename", target))
        return rename(self, target)

    with patch.context() as here:
        here.setattr(os, "fsync", flushing)
        here.setattr(fcntl, "flock", locking)
        here.setattr(Path, "replace", renaming)
        yield


def staged(folder: Path, content: bytes = b"audits") -> Path:
    path = folder / "staged"
    path.write_bytes(content)
    return path


def test_a_file_is_flushed_then_confirmed_under_the_lock_then_renamed_and_its_folder_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    storage, steps, file = LocalStorage(lake), list[tuple[str, object]](), staged(tmp_path)
    inode = file.stat().st_ino

    with traced(steps, monkeypatch):
        storage.publish(file, PATH, lambda: steps.append(("confirm", None)))

    target = lake / PATH
    made = [("flush", target.parents[n].stat().st_ino) for n in (3, 2, 1)]
    assert steps == [
        ("flush", inode),
        *made,
        ("lock", (lake / LOCK).stat().st_ino),
        ("confirm", None),
        ("rename", target),
        ("flush", target.parent.stat().st_ino),
    ]


def test_nobody_else_has_the_lock_from_the_confirmation_to_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, rename = LocalStorage(tmp_path), Path.replace
    tried: list[str] = []

    def attempt(when: str) -> None:
        with (tmp_path / LOCK).open("r+") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(when)

    def renaming(self: Path, target: Path) -> Path:
        attempt("before the rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", renaming)

    storage.publish(staged(tmp_path), PATH, lambda: attempt("while it is confirmed"))

    assert tried == ["while it is confirmed", "before the rename"]


def test_a_file_that_is_shorter_in_its_place_than_it_was_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, rename = LocalStorage(tmp_path), Path.replace

    def losing(self: Path, target: Path) -> Path:
        os.truncate(self, 3)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", losing)

    with (
        pytest.raises(DestinationUnavailable, match="3 bytes instead of 6"),
        translated(storage),
    ):
        storage.publish(staged(tmp_path), PATH, lambda: None)


@pytest.mark.promise("M3", "M4")
@local
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_disk_that_fails_as_a_file_is_published_leaves_no_receipt(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync"), "rename": (Path, "replace")}[step], failing)
        with pytest.raises(DestinationUnavailable, match="Input/output error"):
            load_into(place.destination, draft(hours(0, 24)), [batch(FIRST)], unfenced)

    assert place.audits() == []
    assert place.destination.ledger.last_receipt(STREAM) is None
    load_into(place.destination, draft(hours(0, 24)), [batch(FIRST)], unfenced)
    assert place.audits() == audits([FIRST])


def test_a_folder_that_may_not_be_read_does_not_make_the_lake_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, scandir = LocalStorage(tmp_path), os.scandir
    assert storage.files() == []
    storage.publish(staged(tmp_path), PATH, lambda: None)

    def refused(folder: str) -> Any:
        if "date=" in str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    assert storage.files() == [PATH]
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DestinationUnavailable, match="Permission denied"), translated(storage):
        storage.files()
