"""The tree of errors and their exit statuses, as the documents have them."""

import re

from etl import errors
from etl.cli.ending import BUG, INTERRUPTED, READER_GONE
from etl.errors import AuditEtlError
from tests import TOP

#: Click's own, for a wrong command line.
USAGE = 2


def tree(error: type[AuditEtlError], depth: int = 0) -> list[tuple[int, str, int]]:
    """An error and all below it, each with its depth and its exit status."""
    below = [row for child in error.__subclasses__() for row in tree(child, depth + 1)]
    return [(depth, error.__name__, error.exit_status), *below]


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    assert errors.__doc__
    said, status = [], {0: BUG}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"([│ ]*)(?:├──|└──)? ?([A-Z]\w+)(?: +(\d+) .*|  .*)?$", line):
            depth = (found.start(2) + 2) // 4
            status[depth] = int(found[3]) if found[3] else status[depth - 1] if depth else BUG
            said.append((depth, found[2], status[depth]))

    assert said == [row for row in tree(AuditEtlError) if row[1] in vars(errors)]
    classes = {
        n
        for n, v in vars(errors).items()
        if isinstance(v, type) and v.__module__ == errors.__name__
    }
    assert classes == {name for _, name, _ in said}


def test_the_readme_has_each_exit_status() -> None:
    readme = (TOP / "README.md").read_text().split("## Exit status")[1]
    documented = {int(status) for status in re.findall(r"^\| (\d+)", readme, re.M)}
    raised = {status for _, _, status in tree(AuditEtlError)}

    assert documented == raised | {0, BUG, USAGE, INTERRUPTED, READER_GONE}
