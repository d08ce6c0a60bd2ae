"""An organisation as one finds them: it refuses a service, its clock is off, and it forgets."""

import json
import re
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from etl.app import clock
from etl.database.engine import open_engine
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from etl.window import Window
from tests.support.commands import audit_etl, environment
from tests.support.destination_contents import audits_in, rows, unraw

SERVICES = ("ContactCenter", "Directory", "Quality")


def test_a_stranger_s_organisation_is_exported_with_three_warnings_and_no_failure(
    tmp_path: Path,
) -> None:
    now = clock()
    faults = Faults(forbidden_service="Quality", clock_ahead=-240, forget_days=365)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with AuditLog.generate(count=3_000, start=now - timedelta(days=420), end=now) as log:
        simulator = Simulator(log=log, faults=faults)
        with simulator.serve() as region:
            env = environment(
                GENESYSCLOUD_REGION=region,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
                AUDIT_ETL_DESTINATION=url,
                AUDIT_ETL_START="410d",
                AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES=",".join(SERVICES),
            )
            result = audit_etl("run", env=env)
            again = audit_etl("run", env=env)
            status = audit_etl("status", env=env)
            span = Window(
                (now - timedelta(days=364)).replace(microsecond=0),
                (now - timedelta(hours=1)).replace(microsecond=0),
            )
            shown = rows([json.loads(forms[0]) for forms in simulator.truth(span.start, span.end)])

    engine = open_engine(url)
    held = [audit for audit in audits_in(engine) if audit.event_date in span]
    with engine.connect() as connection:
        services = connection.execute(
            sa.text("SELECT DISTINCT service_name FROM audit_events ORDER BY 1")
        ).scalars()
        assert list(services) == ["ContactCenter", "Directory"]
    engine.dispose()
    assert (result.returncode, again.returncode) == (0, 0), result.stderr
    assert [unraw(audit) for audit in held] == [
        unraw(audit) for audit in shown if audit.service_name in {"ContactCenter", "Directory"}
    ]
    warnings = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert len(warnings) == 3, result.stderr
    clocks, year, refused = sorted(warnings, key=lambda line: "year" in line or "Quality" in line)
    # The organisation tells its time in whole seconds, and takes a while to.
    assert re.search(
        r"ours is (3m59s|4m(\d+s)?) ahead of the organisation's: set it by NTP", clocks
    )
    assert "keeps audits for about a year" in year
    assert "Quality is not exported, the other services are" in refused
    assert "403" in refused
    assert "done: " in result.stdout
    assert "Quality" in status.stdout
