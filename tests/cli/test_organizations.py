"""`--organization`: one organisation of several, on each command, and a name that is none."""

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl.app import clock
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests.support.commands import audit_etl, environment, start
from tests.support.daemons import until

COMMANDS = {
    "run": [],
    "status": [],
    "check": [],
    "daemon": [],
    "services": [],
    "backfill": ["--from", "1d"],
    "verify": ["--from", "1d"],
    "probe": [],
    "tail": [],
}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of two organisations, of which only the first one answers."""
    now = clock().replace(microsecond=0)
    with (
        AuditLog.generate(count=200, start=now - timedelta(days=2), end=now) as log,
        Simulator(log=log).serve() as url,
    ):
        yield environment(
            AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
            AUDIT_ETL_START="1d",
            AUDIT_ETL_HEALTH_ADDRESS="off",
            **{
                f"AUDIT_ETL_ORGANIZATIONS__{name}__{key}": value
                for name, region in (("ACME", url), ("OTHER", "http://127.0.0.1:1"))
                for key, value in (
                    ("REGION", region),
                    ("CLIENT_ID", CLIENT_ID),
                    ("CLIENT_SECRET", CLIENT_SECRET),
                )
            },
        )


def test_only_the_named_organisation_is_asked_and_shown(two: dict[str, str]) -> None:
    assert audit_etl("run", env=two).returncode == 69, "the other one does not answer"

    run = audit_etl("run", "--organization", "acme", "--json", env=two)
    check = audit_etl("check", "--organization", "acme", env=two)
    status = audit_etl("status", "--organization", "acme", "--json", env=two)
    both = audit_etl("status", "--organization", "acme", "--organization", "other", env=two)

    assert run.returncode == 0
    assert {r["organization"] for r in json.loads(run.stdout)["receipts"]} == {"acme"}
    assert check.returncode == 0
    assert "other" not in check.stdout
    assert [s["organization"] for s in json.loads(status.stdout)["streams"]] == ["acme"]
    assert "other/*" in both.stdout


def test_streams_of_another_organisation_are_not_shown_though_they_were_run(
    two: dict[str, str],
) -> None:
    assert audit_etl("run", "--organization", "acme", env=two).returncode == 0

    status = audit_etl("status", "--organization", "other", env=two)

    assert "other/*" in status.stdout
    assert "acme" not in status.stdout


def loaded(env: dict[str, str]) -> list[str]:
    """The organisations of which something was loaded."""
    status = json.loads(audit_etl("status", "--json", env=env).stdout)
    return [s["organization"] for s in status["streams"] if s["last_receipt"]]


@pytest.mark.slow
def test_a_daemon_exports_the_named_organisation_alone(two: dict[str, str]) -> None:
    with start("daemon", "--organization", "acme", env=two) as daemon:
        try:
            until(lambda: loaded(two), "something was loaded")
            daemon.send_signal(signal.SIGTERM)
            log = daemon.communicate(timeout=30)[1]
        finally:
            daemon.kill()

    assert daemon.returncode == 0
    assert loaded(two) == ["acme"]
    assert "other" not in log


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_not_configured_is_blamed_on_the_command_line(
    two: dict[str, str], tmp_path: Path, command: str
) -> None:
    result = audit_etl(command, *COMMANDS[command], "--organization", "acne", env=two)

    assert result.returncode == 2, result.stderr
    assert (
        "--organization: there is no organisation 'acne' in the configuration; did you mean acme?"
        in result.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_unknown_is_blamed_where_it_was_named(two: dict[str, str]) -> None:
    only = [*("--organization", "acme"), "--from", "1d"]

    named = audit_etl("backfill", *only, "--service", "Routin", env=two)
    configured = audit_etl(
        "backfill", *only, env=two | {"AUDIT_ETL_ORGANIZATIONS__ACME__SERVICES": "Routin"}
    )

    assert named.returncode == 2
    assert "--service Routin: organisation acme does not know it" in named.stderr
    assert configured.returncode == 78
    assert "organizations.acme.services" in configured.stderr


def test_a_plan_has_the_minutes_that_its_requests_take(two: dict[str, str]) -> None:
    plan = ["backfill", "--from", "1y", "--dry-run", "--json"]

    result = audit_etl(*plan, env=two | {"AUDIT_ETL_MAX_WINDOW": "1h"})

    planned = json.loads(result.stdout)
    requests = [w["requests"] for w in planned["windows"] if w["organization"] == "acme"]
    assert planned["requests"] == 2 * sum(requests)
    assert planned["minutes"] == -(-sum(requests) // 300) > 80
