"""Organisations that refuse services: a run that brings nothing of one does not end well."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from etl.app import App
from etl.config import load
from etl.errors import ServiceRefused
from etl.model import Stream
from etl.operations import export
from etl.operations.streams import Failure
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from tests.support.simulated_organization import NOW, HandClock, audit

MEMBERS = {"CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, "SERVICES": "Quality"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Two organisations, of which `refusing` refuses the only service that is asked for."""
    clock = HandClock()
    with AuditLog.of([(audit(1, NOW, serviceName="Quality"), NOW)]) as log:
        refusing, open_to_all = (
            Simulator(log=log, clock=clock, query_seconds=0, faults=faults)
            for faults in (Faults(forbidden_service="Quality"), Faults())
        )
        with refusing.serve() as refusing_url, open_to_all.serve() as open_url:
            urls = {"OPEN": open_url, "REFUSING": refusing_url}
            variables = {
                f"AUDIT_ETL_ORGANIZATIONS__{name}__{key}": value
                for name, url in urls.items()
                for key, value in ({"REGION": url} | MEMBERS).items()
            }
            variables["AUDIT_ETL_DESTINATION"] = f"sqlite:///{tmp_path / 'audits.db'}"
            stop, monotonic = Event(), clock.monotonic
            with App(load(None, variables), stop=stop, now=clock, monotonic=monotonic) as app:
                yield app


def test_a_wholly_refused_organisation_is_a_failure_though_another_was_exported(app: App) -> None:
    outcomes = list(export.run(app))

    [failure] = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.stream == Stream("refusing", "Quality")
    assert isinstance(failure.error, ServiceRefused)
    assert failure.error.exit_status == 77
    assert {o.stream.organization for o in outcomes if not isinstance(o, Failure)} == {"open"}
