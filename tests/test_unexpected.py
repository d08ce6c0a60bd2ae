"""An unexpected error shows where it came from, and no value: no audit, no parameter, no secret."""

import asyncio
import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import requests
import sqlalchemy as sa

from etl.errors import UsageError
from etl.monitoring import health
from etl.monitoring.health import Monitor, serve_health
from etl.telemetry.logs import formatter
from etl.unexpected import traceback_of
from tests import TOP
from tests.support.commands import environment
from tests.support.log_capture import everything_to

NAME = "Jane Doe"
#: Errors as libraries raise them: each has the name in its message.
ERRORS: dict[str, Callable[[], object]] = {
    "a key": lambda: dict[str, str]()[NAME],
    "a number": lambda: int(NAME),
    "bytes": lambda: (NAME.encode() + b"\xff").decode(),
    "Arrow": lambda: pa.array([NAME], pa.int64()),
    "a statement": lambda: (
        sa.create_engine("sqlite://").connect().execute(sa.text("SELECT :a FROM no"), {"a": NAME})
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_frames_and_classes_are_told_and_no_values(name: str) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        ERRORS[name]()
    caught.value.add_note(NAME)
    after = RuntimeError(NAME)
    after.__cause__ = caught.value
    both = ExceptionGroup(NAME, [after, UsageError("write one SELECT")])

    told = traceback_of(both)

    assert NAME not in told
    assert f"\n{type(caught.value).__name__}" in told.replace(
        f"{type(caught.value).__module__}.", ""
    )
    assert "test_frames_and_classes" in told
    assert "RuntimeError\n" in told
    assert "etl.errors.UsageError: write one SELECT\n" in told


#: What a program does before it is the command line: something in it fails with the name.
BREAK = f"""
import sys, threading
import etl.app, etl.operations.query
from etl.cli import main
def fails(*_, **__):
    raise ValueError({NAME!r})
def in_a_thread(*_, **__):
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    fails()
"""
PLACES = {
    "run": ("etl.app.App.__enter__ = fails", "run"),
    "run, in a thread": ("etl.app.App.__enter__ = in_a_thread", "run"),
    "query": ("etl.operations.query.answer = fails", "query"),
    "daemon, in a thread": ("from etl.operations import export\nexport.run = fails", "daemon"),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_command_prints_values(place: str, tmp_path: Path) -> None:
    env = environment(
        AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path}/a.db",
        AUDIT_ETL_START="2026-01-01",
        GENESYSCLOUD_REGION="us-east-1",
        GENESYSCLOUD_OAUTHCLIENT_ID="made-up-client",
        GENESYSCLOUD_OAUTHCLIENT_SECRET="made-up-secret",
        PYTHONPATH=str(TOP),
        AUDIT_ETL_HEALTH_ADDRESS="127.0.0.1:0",
    )
    broken, command = PLACES[place]
    arguments = [command, "SELECT 1"] if command == "query" else [command]
    migrated = [sys.executable, "-m", "etl", "migrate"]
    subprocess.run(migrated, env=env, check=True, capture_output=True, cwd=tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", f"{BREAK}{broken}\nmain()", *arguments],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\nValueError\n") == (2 if place == "run, in a thread" else 1)
    assert "Please report it" in done.stderr
    assert "in fails" in done.stderr
    assert NAME not in done.stderr + done.stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_no_log_line_has_values(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    async def fails(*_: object) -> None:
        raise ValueError(NAME)

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(terminal=terminal))
    monkeypatch.setattr(health._Looks, "seen", fails)
    with everything_to(handler):
        with serve_health(("127.0.0.1", 0), Monitor()) as url:
            answer = requests.get(f"{url}/metrics", timeout=10)
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")

        async def forgotten() -> None:
            task = asyncio.create_task(fails())
            await asyncio.wait([task])

        asyncio.run(forgotten())
        try:
            int(NAME)
        except ValueError:
            logging.getLogger("etl.x").exception("ours")

    told = written.getvalue()
    assert "in fails" in told
    assert told.count("ValueError") >= 3
    assert "ours" in told
    assert NAME not in told
