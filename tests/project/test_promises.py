"""Each promise of ARCHITECTURE.md has a test that holds it: one marked `promise("M3")`."""

import ast
import re
from collections.abc import Iterator

from tests import TOP


def promises() -> set[str]:
    text = (TOP / "ARCHITECTURE.md").read_text()
    return set(re.findall(r"^- (M\d+) ", text, re.MULTILINE))


def marks() -> Iterator[tuple[str, str]]:
    """Each promise that a test is marked with, and the test."""
    for path in sorted((TOP / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for call in node.decorator_list:
                    if ast.unparse(call).startswith("pytest.mark.promise("):
                        assert isinstance(call, ast.Call)
                        for name in call.args:
                            yield ast.literal_eval(name), f"{path}::{node.name}"


def test_each_promise_has_a_test_and_no_test_is_marked_with_another() -> None:
    held = dict(marks())

    assert len(promises()) >= 7
    assert held.keys() == promises(), held
