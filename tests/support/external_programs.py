"""Programs that are no Python packages, which some tests stand on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.daemons import until
from tests.support.database_servers import free_port, listens

#: Set by CI: what is missing is then a failure, not a skip.
REQUIRE_ALL = os.environ.get("AUDIT_ETL_TEST_REQUIRE_ALL") == "1"


def lacking(reason: str) -> NoReturn:
    """Skip the test for something that this machine lacks, or fail it where all must be there."""
    if REQUIRE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped where it is not, and fails where it must be."""
    path = shutil.which(name)
    if path is None:
        lacking(f"no {name} on this machine (Debian's package {package} has it)")
    return path


@contextmanager
def tinyproxy(folder: Path, *rules: str) -> Iterator[tuple[int, Path]]:
    """The port of a proxy that asks for a password (ada, lovelace-1815), and its log.

    Args:
        folder: for its configuration and its log.
        rules: further lines of its configuration.
    """
    port = free_port()
    configuration, log = folder / "tinyproxy.conf", folder / "log"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 30", "Allow 127.0.0.1"]
    lines += ["BasicAuth ada lovelace-1815", f'LogFile "{log}"', "LogLevel Connect", *rules]
    configuration.write_text("\n".join([*lines, ""]))
    command = [program("tinyproxy", "tinyproxy-bin"), "-d", "-c", str(configuration)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port), "tinyproxy listens")
            yield port, log
        finally:
            process.kill()
