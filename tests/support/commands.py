"""The command line as a user meets it: a process of its own, with an environment of its own."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests import TOP

SECRET = "a-secret-that-must-never-be-seen"
CLIENT_ID = "made-up-client"


def environment(**variables: str) -> dict[str, str]:
    """A clean environment with `variables`: nothing of the machine's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | variables


def start(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, entry: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """Start a command, its output piped; `entry` brings it to where it shall run."""
    return subprocess.Popen(
        [*entry, sys.executable, "-m", "etl", *arguments],
        env=dict(env) | {"PYTHONPATH": str(TOP)},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def audit_etl(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, entry: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, at most two minutes."""
    with start(*arguments, env=env, cwd=cwd, entry=entry) as process:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def on_a_terminal(
    *arguments: str, env: Mapping[str, str], status: int = 0, columns: int = 80
) -> str:
    """What a command that ends with `status` shows on a terminal of so many columns."""
    near, far = pty.openpty()
    with os.fdopen(near, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "etl", *arguments],
            env=dict(env) | {"PYTHONPATH": str(TOP), "COLUMNS": str(columns)},
            stdin=far,
            stdout=far,
            stderr=far,
        )
        os.close(far)
        shown = b""
        with suppress(OSError):  # the terminal's other end is closed
            while data := screen.read(65536):
                shown += data
        assert process.wait(60) == status, shown
    return shown.decode()
