"""Log lines: what they carry, how they look, and that a window has one."""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl.app import clock
from etl.errors import SourceUnavailable
from etl.simulator import AuditLog, Faults, Simulator
from etl.telemetry import logs
from etl.telemetry.context import carried, carrying, note
from etl.window import Window, by_density
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment

ABOUT = {"organization", "stream", "window_start", "window_end", "schedule"}
LOG = logging.getLogger("tests.telemetry")


@pytest.fixture(params=[False, True], ids=["piped", "terminal"])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What `LOG` writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logs.formatter(terminal=request.param))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield text
    LOG.removeHandler(handler)


def test_a_line_carries_what_it_is_about_until_the_block_ends(written: io.StringIO) -> None:
    with carrying({"stream": "a stream"}):
        note(query_id="q-1")
        LOG.info("inside %s", "it", extra={"events": 7})
    LOG.info("after it")

    inside, after = written.getvalue().splitlines()
    assert all(word in inside for word in ("inside it", "a stream", "query_id", "q-1", "events"))
    assert "after it" in after
    assert "stream" not in after


def test_a_line_on_a_terminal_folds_what_is_read_as_one() -> None:
    record = logging.makeLogRecord(
        {"name": "etl.pipeline", "levelno": 20, "levelname": "INFO", "msg": "window loaded"}
    )
    fields = {"organization": "acme", "stream": "*", "window_start": "10:00", "window_end": "11:00"}

    with carrying({**fields, "query_id": "q-1"}):
        line = re.sub(r"\x1b\[\d+m", "", logs.formatter(terminal=True).format(record))

    assert re.fullmatch(r"\d\d:\d\d:\d\dZ \[info +\] window loaded +query_id=q-1 .*", line)
    assert line.endswith(" stream=acme/* window=10:00/11:00")


def test_a_traceback_shows_no_variables(written: io.StringIO) -> None:
    def fail(secret: str) -> None:
        raise RuntimeError(f"{len(secret)} characters")

    try:
        fail(SECRET)
    except RuntimeError:
        LOG.exception("it failed")

    assert f"{len(SECRET)} characters" not in written.getvalue()
    assert "RuntimeError" in written.getvalue()
    assert "in fail" in written.getvalue()
    assert SECRET not in written.getvalue()


def test_a_line_on_a_pipe_is_one_json_object() -> None:
    record = logging.makeLogRecord(
        {"name": "urllib3", "levelno": 30, "levelname": "WARNING", "msg": "two\nlines: %s"}
    )
    record.args = ("ü",)

    line = logs.formatter(terminal=False).format(record)

    found = json.loads(line)
    assert "\n" not in line
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "two\nlines: ü", "level": "warning", "logger": "urllib3"}


def test_threads_carry_what_is_theirs_alone() -> None:
    seen: dict[str, dict[str, str]] = {}
    meet = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with carrying({"organization": name}):
            meet.wait()
            note(query_id=f"of {name}")
            meet.wait()
            seen[name] = dict(carried())

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {n: {"organization": n, "query_id": f"of {n}"} for n in ("a", "b")}
    assert carried() == {}


def test_an_error_takes_along_what_it_is_about() -> None:
    with (
        pytest.raises(SourceUnavailable) as caught,
        carrying({"stream": "s"}),
        carrying({"stream": "inner"}),
    ):
        note(query_id="q")
        raise SourceUnavailable("gone")

    assert caught.value.about == {"stream": "inner", "query_id": "q"}
    assert SourceUnavailable("another").about == {}


def test_a_piped_run_logs_each_window_once_and_all_that_befalls_it_with_its_fields(
    tmp_path: Path,
) -> None:
    now = clock()
    with AuditLog.generate(count=3_000, start=now - timedelta(days=2), end=now) as log:
        simulator = Simulator(
            log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0,
            faults=Faults(too_many_requests_every=9),
        )  # fmt: skip
        with simulator.serve() as url:
            env = environment(
                GENESYSCLOUD_REGION=url,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
                AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
                AUDIT_ETL_START="2d",
                AUDIT_ETL_MAX_WINDOW="12h",
            )
            result = audit_etl("run", "--verbose", env=env)

    lines = [json.loads(line) for line in result.stderr.splitlines()]
    loaded = [line for line in lines if line["level"] == "info"]
    befell = [line for line in lines if line["level"] == "warning"]
    assert result.returncode == 0
    windows = re.findall(r"^default/\*  (\S+)/(\S+)  \d+ audits, ", result.stdout, re.MULTILINE)
    span = Window(*map(datetime.fromisoformat, (windows[0][0], windows[-1][1])))
    asked = [str(window) for window in by_density(span, None, timedelta(hours=12))]
    assert ["/".join(window) for window in windows] == asked
    assert len(loaded) == len(windows)
    assert befell
    for line in loaded:
        assert line.keys() >= ABOUT | {"query_id", "correlation_id", "seconds", "requests"}
    assert len({line["query_id"] for line in loaded}) == len(loaded)
    for line in befell:
        assert line.keys() >= ABOUT
    assert sum(line["events"] for line in loaded) > 2_500
