"""Two daemons in containers that share the name of their host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.daemons import Daemon, until
from tests.support.live_organization import copy_at, living
from tests.support.networks import require

#: Where a command is the first process there is, as in a container.
ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def alone() -> list[str]:
    """What brings a command into a space of process numbers of its own."""
    require([*ALONE, "true"], "processes cannot be counted anew here: it takes root and unshare")
    return ALONE


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    with servers.fresh_database(postgres_server) as url:
        yield url


@pytest.mark.slow
def test_two_daemons_of_one_host_name_do_not_take_the_lease_from_each_other(
    url: str, tmp_path: Path, alone: list[str]
) -> None:
    with living() as organisation, copy_at(url, organisation) as copy:
        env = organisation.environment(url)
        assert audit_etl("migrate", env=env).returncode == 0
        with (
            Daemon(tmp_path / "a.log", env, entry=alone) as first,
            Daemon(tmp_path / "b.log", env, entry=alone) as second,
        ):
            waits = "default waits: daemon:default is held by process 1 on"
            until(lambda: (first.log + second.log).count(waits) >= 1, "one of the two waits")
            until(lambda: copy.receipts >= 5, "the other goes on")
            copy.keeps_its_promises()
            both = first.log + second.log

    assert both.count(waits) == 1
    assert "taken by another process" not in both
    assert "takes over" not in both
