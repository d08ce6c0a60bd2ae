"""Addresses and names that are not this machine's own: name spaces, which take root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.external_programs import lacking

#: An address in `network`, which is no loopback address.
ADDRESS = "10.9.8.7"
_SETUP = f"ip address add {ADDRESS}/32 dev lo && ip link set lo up"
_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


def require(command: list[str], reason: str) -> None:
    """Go on if a command works here; else the test is skipped, or fails, for that reason."""
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        lacking(reason)


@contextmanager
def network() -> Iterator[list[str]]:
    """A network of its own with `ADDRESS`; what brings a command into it."""
    require(
        ["unshare", "--net", "sh", "-c", _SETUP],
        "no network can be made here: it takes root, unshare and iproute2",
    )
    command = ["unshare", "--net", "sh", "-c", f"{_SETUP} && echo made && exec cat"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "made\n"
        yield ["nsenter", "--target", str(holder.pid), "--net"]
        holder.stdin.close()


def with_names(folder: Path, *names: str) -> list[str]:
    """What has a command find `names` at 127.0.0.1."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    entry = ["unshare", "--mount", "sh", "-c", _HOSTS, str(hosts)]
    require([*entry, "true"], "names cannot be given here: it takes root and unshare")
    return entry
