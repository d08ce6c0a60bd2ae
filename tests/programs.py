"""Programs that are no Python packages, which some tests stand on."""

import shutil

import pytest

from tests.conftest import REQUIRE_ALL


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped where it is not, and fails where it must be."""
    path = shutil.which(name)
    if path is None:
        reason = f"no {name} on this machine (Debian's package {package} has it)"
        if REQUIRE_ALL:
            pytest.fail(reason)
        pytest.skip(reason)
    return path
