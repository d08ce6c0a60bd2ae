"""Plant each bug in a copy of the tree, run its tests, and say which of them noticed.

Exit status 1 if a bug was not noticed, or if a test falls without one. Arguments choose bugs by a
part of their name.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests import TOP
from tests.planted.bugs import BUGS, Bug

PARTS = (
    "etl",
    "tests",
    "migrations",
    "config",
    "docs",
    "pyproject.toml",
    "README.md",
    "ARCHITECTURE.md",
)
WORKERS = os.cpu_count() or 1
_FELL = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", re.MULTILINE)

Copies = SimpleQueue[Path]


def main(wanted: list[str]) -> int:
    """Plant the bugs; give the exit status."""
    bugs = [bug for bug in BUGS if not wanted or any(word in bug.name for word in wanted)]
    runs = runs_of(bugs)
    with (
        tempfile.TemporaryDirectory(prefix="audit-etl-planted-") as folder,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        copies = copied(Path(folder))
        noticed = list(pool.map(lambda bug: notices(copies, bug), bugs))
        fallen = list(filter(None, pool.map(lambda chosen: falls(copies, chosen), runs)))
    for bug in (bug for bug, seen in zip(bugs, noticed, strict=True) if not seen):
        say(f"nothing noticed: {bug.name}")
    say(f"{sum(noticed)} of {len(bugs)} planted bugs were noticed")
    for test in fallen:
        say(f"but without any bug there falls {test}")
    return 0 if all(noticed) and not fallen else 1


def runs_of(bugs: list[Bug]) -> list[tuple[str, ...]]:
    """What to give to pytest so that each test of the bugs runs, in as few runs as may be."""
    chosen = {bug.tests for bug in bugs}
    picky = {tests for tests in chosen if any(test.startswith("-") for test in tests)}
    plain = sorted({test for tests in chosen - picky for test in tests})
    parts = (tuple(plain[part::WORKERS]) for part in range(WORKERS))
    return [*filter(None, parts), *sorted(picky)]


def copied(folder: Path) -> Copies:
    """A copy of the tree for each worker."""
    copies: Copies = SimpleQueue()
    for number in range(WORKERS):
        copy = folder / str(number)
        copy.mkdir()
        for part in PARTS:
            if (TOP / part).is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(TOP / part, copy / part, ignore=unwanted)
            else:
                shutil.copy(TOP / part, copy / part)
        copies.put(copy)
    return copies


def notices(copies: Copies, bug: Bug) -> bool:
    """Whether a test falls once the bug is in a copy, which is whole again afterwards."""
    copy = copies.get()
    path = copy / bug.path
    text = path.read_text()
    path.write_text(planted(text, bug))
    began = time.monotonic()
    try:
        test = fell(copy, bug.tests)
    finally:
        path.write_text(text)
        copies.put(copy)
    say(f"{time.monotonic() - began:5.1f} s  {bug.name}: {test or 'NOT NOTICED'}")
    return test is not None


def falls(copies: Copies, tests: tuple[str, ...]) -> str | None:
    """The first test that falls although there is no bug; None if all stand."""
    copy = copies.get()
    try:
        return fell(copy, tests)
    finally:
        copies.put(copy)


def planted(text: str, bug: Bug) -> str:
    """The file's text with the bug in it."""
    for old, new in bug.edits:
        if text.count(old) != 1:
            raise ValueError(f"{bug.path} has {text.count(old)} places for: {bug.name}")
        text = text.replace(old, new)
    return text


def fell(copy: Path, tests: tuple[str, ...]) -> str | None:
    """The first test that falls in the copy; None if all stand."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(
        command,
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return None
    found = _FELL.search(result.stdout)
    if result.returncode != 1 or found is None:
        say(f"pytest {' '.join(tests)} did not run: {result.stdout[-2000:]}")
        return None
    return found[1]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
