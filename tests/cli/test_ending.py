"""How a command ends when its output cannot be written: never as a bug, never as a success."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests import TOP
from tests.support.commands import environment
from tests.support.places import Place
from tests.support.samples import batch, draft, hours, load_into, record

NAME = "Łódź 東京 ☎"


def shell(script: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash in which `audit-etl` is the command under test."""
    command = f'audit_etl() {{ "{sys.executable}" -m etl "$@"; }}; {script}'
    return subprocess.run(
        ["bash", "-c", command],
        env=dict(env) | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def variables(standing_place: Place) -> dict[str, str]:
    standing_place.empty()
    shown = [record(f"a{n:04}", n % 24, entity={"id": "e", "name": NAME}) for n in range(2_000)]
    load_into(standing_place.destination, draft(hours(0, 24)), [batch(*shown)], lambda _: None)
    return environment() | dict(standing_place.variables)


@pytest.mark.parametrize("standing_place", ["sqlite", "parquet"], indirect=True)
@pytest.mark.parametrize("form", ["csv", "jsonl", "table"])
def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(
    variables: dict[str, str], form: str
) -> None:
    done = shell(
        f'audit_etl query --format {form} "SELECT * FROM audit_events" | head -1; '
        "exit ${PIPESTATUS[0]}",
        variables,
    )

    assert (done.returncode, done.stderr) == (141, b"")
    assert done.stdout.count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "command",
    [
        'query --format csv "SELECT id FROM audit_events"',
        'query --format jsonl "SELECT 1 AS one"',
        "status --json",
        "config --example",
        "--help",
    ],
)
def test_output_to_a_full_disk_is_no_success_and_no_bug(
    variables: dict[str, str], command: str
) -> None:
    done = shell(f"audit_etl {command} > /dev/full", variables)

    assert done.returncode == 69, done
    assert b"No space left on device: make room" in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_piped_output_is_utf_8_whatever_the_locale(variables: dict[str, str], form: str) -> None:
    env = variables | {"PYTHONIOENCODING": "latin-1"}

    done = shell(f'audit_etl query --format {form} "SELECT entity_name FROM audit_events"', env)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().count(NAME) == 2_000


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_a_closed_output_is_no_bug(variables: dict[str, str]) -> None:
    done = shell('audit_etl query "SELECT 1" >&-', variables)

    assert b"Traceback" not in done.stderr
