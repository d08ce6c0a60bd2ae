"""No secret and no token is in any output or log, at any level, whatever goes wrong."""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
import requests

from etl.app import App, clock
from etl.cli import audit_etl as program
from etl.config import load
from etl.monitoring.health import Monitor, serve_health
from etl.operations import export
from etl.simulator import AuditLog, Faults, Simulator
from etl.telemetry.logs import formatter
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment
from tests.support.log_capture import everything_to

COMMANDS = [
    ["run", "--verbose"],
    ["run", "--verbose", "--json"],
    ["backfill", "--from", "1d", "--verbose"],
    ["check", "--verbose"],
    ["services", "--verbose"],
    ["tail", "--related", "none", "--verbose"],
    ["status", "--json"],
    ["config"],
    ["config", "--json"],
]
#: The commands as processes; `test_secrets_faults` tries an export under every fault there is.
FAULTS = [Faults(), Faults(token_dies_after=1), Faults(deny_permission=True)]
PASSWORD = "a-password-in-a-url"


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    now = clock()
    with AuditLog.generate(count=1_500, start=now - timedelta(days=1), end=now) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("faults", FAULTS, ids=str)
def test_no_secret_is_in_any_output(log: AuditLog, faults: Faults, tmp_path: Path) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET + "\n")
    simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET, faults=faults)
    with simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE=str(secret_file),
            AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
        )
        shown = ""
        for command in COMMANDS:
            result = audit_etl(*command, env=env)
            shown += result.stdout + result.stderr
    tokens = simulator.tokens.known()

    assert tokens
    assert CLIENT_ID in shown  # the commands did show what they had
    for secret in (SECRET, *tokens):
        assert secret not in shown


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
def test_no_secret_is_in_a_log_of_any_level_or_served(
    log: AuditLog, terminal: bool, tmp_path: Path
) -> None:
    written, monitor = io.StringIO(), Monitor()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(terminal=terminal))
    faults = Faults(token_dies_after=3, too_many_requests_every=5)
    simulator = Simulator(
        log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0, faults=faults
    )
    with simulator.serve() as url, serve_health(("127.0.0.1", 0), monitor) as health:
        settings = load(
            None,
            {
                "GENESYSCLOUD_REGION": url,
                "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
                "GENESYSCLOUD_OAUTHCLIENT_SECRET": SECRET,
                "AUDIT_ETL_DESTINATION": f"sqlite:///{tmp_path / 'a.db'}",
            },
        )
        with (
            everything_to(handler),
            App(settings, stop=threading.Event(), observer=monitor) as app,
        ):
            monitor.in_force(app)
            outcomes = list(export.run(app))
            served = [
                requests.get(health + path, timeout=10).text
                for path in ("/healthz", "/readyz", "/metrics")
            ]

    shown = written.getvalue() + "".join(served)
    assert outcomes
    assert "/api/v2/audits/query" in written.getvalue()  # urllib3 at DEBUG
    assert "audit_etl_requests_total" in shown
    assert simulator.tokens.known()
    for secret in (SECRET, *simulator.tokens.known()):
        assert secret not in shown


def test_a_password_in_a_url_is_masked_wherever_the_url_is_shown(tmp_path: Path) -> None:
    env = environment(
        GENESYSCLOUD_REGION="us-east-1",
        GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
        GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
        AUDIT_ETL_DESTINATION=f"postgresql+psycopg://audit:{PASSWORD}@127.0.0.1:9/audit",
    )

    results = [audit_etl(*command, env=env) for command in (["config"], ["status"], ["migrate"])]

    shown = "".join(result.stdout + result.stderr for result in results)
    assert "127.0.0.1:9" in shown
    assert PASSWORD not in shown


def test_the_configuration_shows_a_mask_for_the_secret() -> None:
    env = environment(GENESYSCLOUD_REGION="us-east-1", GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET)

    rows = json.loads(audit_etl("config", "--json", env=env).stdout)

    [row] = [row for row in rows if row["key"] == "organizations.default.client_secret"]
    assert row == {
        "key": "organizations.default.client_secret",
        "value": "********",
        "origin": "environment GENESYSCLOUD_OAUTHCLIENT_SECRET",
    }


def test_no_command_takes_a_secret_where_the_process_list_would_show_it() -> None:
    context = click.Context(program)
    named = [program.get_command(context, name) for name in program.list_commands(context)]
    commands = [program, *filter(None, named)]
    words = {word for c in commands for p in c.params for word in (p.name, *p.opts) if word}

    assert "--config" in words
    assert not [word for word in words if re.search("secret|token|password", word)]
