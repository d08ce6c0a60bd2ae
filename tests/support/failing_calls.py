"""Runs commands in which a call of a library fails, each in a process forked from one that is warm.

Reads cases as JSON from its standard input, and writes what each ended in to its output.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import partialmethod
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import etl
from etl.cli import audit_etl
from etl.cli.ending import status_of
from etl.genesys.client.clock import Clock


def error_of(name: str) -> BaseException:
    """An error as its library raises it: `module:class`, and an errno or what it says."""
    path, _, said = name.partition(" ")
    module, _, kind = path.partition(":")
    found = getattr(import_module(module), kind)
    if said.isdigit():
        return found(int(said), os.strerror(int(said)))  # type: ignore[no-any-return]
    return found(said or "made up")  # type: ignore[no-any-return]


def replace(target: str, error: BaseException, marker: Path) -> None:
    """Have a function or method fail; it leaves a mark when it is called."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for part in owners:
        owner = getattr(owner, part)

    def fails(*_: object, **__: object) -> None:
        marker.touch()
        raise error

    setattr(owner, name, fails)


def ended(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a command ends in: its status, what it says, and whether it met the failure."""
    out, marker = folder / "out", folder / "met"
    marker.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        with out.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(case["env"])
        sys.argv = ["audit-etl", *case["command"]]
        replace(case["target"], error_of(case["error"]), marker)
        os._exit(_status())
    _, status = os.waitpid(child, 0)
    said = out.read_text(errors="replace")
    return {"status": os.waitstatus_to_exitcode(status), "said": said, "met": marker.exists()}


def _begin_quick(
    clock: Clock,
    begin: Callable[..., None],
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    pause: Callable[[float], bool],
) -> None:
    """Begin a clock whose time passes a thousand times as fast: nobody waits out an outage."""
    begin(clock, now, lambda: 1000 * monotonic(), lambda seconds: pause(seconds / 1000))


def _status() -> int:
    try:
        return status_of(audit_etl)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def main() -> None:
    """See the module."""
    for module in walk_packages(etl.__path__, "etl."):
        if module.name != "etl.__main__":
            import_module(module.name)  # so that each case begins warm
    Clock.__init__ = partialmethod(_begin_quick, Clock.__init__)  # type: ignore[assignment, method-assign]
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(ended(json.loads(line), Path(folder))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
