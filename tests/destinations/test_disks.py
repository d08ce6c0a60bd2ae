"""Disks of a destination that are full or read-only: told in one line, mended by the next run."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.live_organization import Copy, Organisation, copy_at, living
from tests.support.recovery import claims_nothing_false, fails, next_run, next_run_completes
from tests.support.small_disks import Disk, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("mounts")]


@pytest.fixture
def organisation() -> Iterator[Organisation]:
    """Of which eight minutes are some twenty megabytes."""
    with living(size=20_000) as organisation:
        yield organisation


@contextmanager
def copy_on(disk: Disk, organisation: Organisation) -> Iterator[Copy]:
    """What is in the SQLite file of that disk."""
    with TemporaryDirectory() as folder:  # SQLite would not find it behind /proc
        shutil.copytree(disk.seen, folder, dirs_exist_ok=True)
        with copy_at(f"sqlite:///{folder}/audits.db", organisation) as copy:
            yield copy


def next_run_on_the_disk_completes(
    disk: Disk, organisation: Organisation, env: dict[str, str]
) -> None:
    """As `next_run_completes`."""
    with copy_on(disk, organisation) as copy:
        claims_nothing_false(copy)
    asked_at = next_run(env, disk.entry())
    with copy_on(disk, organisation) as copy:
        assert copy.is_complete(asked_at)


def test_a_disk_that_is_read_only_is_told(organisation: Organisation, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    env = organisation.environment(f"sqlite:///{folder}/audits.db")
    with small_disk(folder, "64m") as disk:
        next_run(env, disk.entry())
        disk.remount("ro")

        fails(
            "run", env=env, entry=disk.entry(), says="check that its folder exists and is writable"
        )

        disk.remount("rw")
        next_run_on_the_disk_completes(disk, organisation, env)


@pytest.mark.parametrize("free", [0, 40_000, 400_000, 4_000_000, 16_000_000])
def test_a_full_disk_of_sqlite_is_told_and_the_next_run_mends_it(
    organisation: Organisation, tmp_path: Path, free: int
) -> None:
    folder = tmp_path / "disk"
    env = organisation.environment(f"sqlite:///{folder}/audits.db")
    with small_disk(folder, "200m") as disk:
        disk.fill(leaving=free)

        fails("run", env=env, entry=disk.entry(), says="when there is room on its disk")

        disk.clear()
        next_run_on_the_disk_completes(disk, organisation, env)


@pytest.mark.parametrize("free", [0, 2_000_000, 10_000_000])
def test_a_full_disk_of_postgresql_is_told_and_the_next_run_mends_it(
    organisation: Organisation, tmp_path: Path, free: int
) -> None:
    with servers.own_postgres(tmp_path, disk_size="200m") as server:
        assert server.disk is not None
        env = organisation.environment(server.url)
        assert audit_etl("migrate", env=env).returncode == 0
        server.disk.fill(leaving=free)

        fails("run", env=env, says="run the same command again when ")

        server.disk.clear()
        server.start()
        with copy_at(server.url, organisation) as copy:
            next_run_completes(copy, env)
