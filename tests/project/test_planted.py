"""The planted bugs have their places; `make planted` sees that a test notices each of them."""

import pytest

from tests import TOP
from tests.planted.__main__ import planted
from tests.planted.bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_a_program_that_does_something_else(bug: Bug) -> None:
    text = (TOP / bug.path).read_text()

    compile(planted(text, bug), bug.path, "exec")
    assert planted(text, bug) != text
