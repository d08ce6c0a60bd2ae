"""The roles of docs/operating.md can do their commands and no others."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.database.engine import open_engine
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests import TOP
from tests.support.commands import audit_etl, environment, start
from tests.support.daemons import until
from tests.support.operator_actions import delete_audits
from tests.support.roles import COMMANDS, Roles, roles_of

BOTH = pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)

#: What only an owner may do.
DEFINING = (
    "CREATE TABLE more (n INTEGER)",
    "ALTER TABLE audit_events ADD more INTEGER",
    "CREATE INDEX more ON audit_events (loaded_at)",
    "DROP TABLE late_arrivals",
    "TRUNCATE TABLE late_arrivals",
)
#: What a reader may not do, either.
WRITING = (
    "INSERT INTO leases SELECT * FROM leases",
    "UPDATE audit_events SET action = 'x'",
    "DELETE FROM audit_events",
)


@dataclass
class Site:
    """An organisation, and a database with its roles."""

    roles: Roles
    env: dict[str, str]
    folder: Path

    def audit_etl(self, role: str, *arguments: str, status: int = 0) -> str:
        """What a command says that runs as the role."""
        done = audit_etl(*arguments, env=self.env_of(role))
        assert done.returncode == status, (role, done)
        return done.stdout + done.stderr

    def env_of(self, role: str) -> dict[str, str]:
        return self.env | {"AUDIT_ETL_DESTINATION": self.roles.url(role)}

    def migrate(self) -> None:
        self.audit_etl("owner", "migrate")

    def refuses(self, role: str, statements: tuple[str, ...]) -> None:
        """Fail if the role may execute one of the statements."""
        for statement in statements:
            with pytest.raises(sa.exc.DBAPIError, match=r"denied|must be owner"):
                self.roles.execute(statement, role=role)


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    now = clock().replace(microsecond=0)
    log = AuditLog.generate(
        count=300, start=now - timedelta(days=1), end=now + timedelta(hours=1), late_share=0
    )
    with log, Simulator(log=log).serve() as url, roles_of(database_url) as roles:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
            AUDIT_ETL_START=(now - timedelta(days=1)).isoformat(),
            AUDIT_ETL_LAG="1s",
            AUDIT_ETL_HEALTH_ADDRESS="off",
        )
        yield Site(roles, env, tmp_path)


@BOTH
@pytest.mark.slow
def test_each_role_does_its_commands_and_no_others(site: Site) -> None:
    site.roles.make()
    site.migrate()
    commands(site)

    assert " 0 new" not in site.audit_etl("writer", "run")
    site.audit_etl("writer", "backfill", "--from", "1d")
    engine = open_engine(site.roles.url("writer"))
    delete_audits(engine, f"{{id}} = '{an_id(engine)}'")
    engine.dispose()
    told = site.audit_etl("writer", "verify", "--from", "1d", "--repair")
    assert re.search(r"\b([1-9]\d*) missing, \1 repaired", told), told  # some may come late
    for command in ("status", "services", "check"):
        site.audit_etl("writer", command)
    the_daemon_works(site)
    site.refuses("writer", DEFINING)

    assert int(site.audit_etl("reader", "query", "SELECT count(*) FROM audit_events").split()[1])
    site.audit_etl("reader", "status")
    site.audit_etl("reader", "backfill", "--from", "1d", "--dry-run")
    for command in ("run", "check"):
        said = site.audit_etl("reader", command, status=69)
        assert "grant SELECT, INSERT, UPDATE and DELETE" in said
    site.refuses("reader", DEFINING + WRITING)


def an_id(engine: sa.Engine) -> str:
    """The id of an audit of a time that verify looks at."""
    query = "SELECT id FROM audit_events ORDER BY event_date DESC LIMIT 1 OFFSET 100"
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(query).scalar_one())


def commands(site: Site) -> None:
    """Run the commands of the document."""
    script = site.folder / "audit-etl"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m etl "$@"\n')
    script.chmod(0o755)
    env = site.env_of("writer") | {"OWNER": site.roles.url("owner")}
    env["PATH"] = f"{site.folder}{os.pathsep}{env['PATH']}"
    subprocess.run(["bash", "-euc", COMMANDS], env=env, check=True, capture_output=True)


def the_daemon_works(site: Site) -> None:
    """It loads something, and ends well when it is asked to."""
    count = "SELECT count(*) FROM receipts"
    engine = open_engine(site.roles.url("reader"))

    def receipts() -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(count).scalar_one())

    before = receipts()
    with start("daemon", env=site.env_of("writer")) as process:
        try:
            until(lambda: receipts() > before, "the daemon loads as the writer")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    engine.dispose()


@BOTH
@pytest.mark.slow
def test_a_writer_is_told_who_migrates_and_the_grants_cover_what_that_makes(site: Site) -> None:
    site.roles.make()
    assert "has no tables yet: run `audit-etl migrate` once" in site.audit_etl(
        "writer", "run", status=78
    )
    assert "when the user in the URL owns the tables" in site.audit_etl(
        "writer", "migrate", status=69
    )
    site.migrate()
    site.roles.execute("UPDATE audit_etl_version SET version_num = '0001'")
    who = f"`audit-etl migrate` as {site.roles.name('owner')}, which owns the tables"
    if site.roles.kind != "postgresql":
        who = "`audit-etl migrate` with a user that may create and alter tables"

    for role, command in (("writer", "run"), ("writer", "check"), ("reader", "status")):
        assert who in site.audit_etl(role, command, status=78)
    assert "which owns" not in site.audit_etl("owner", "run", status=78)
    assert "when the user in the URL owns the tables" in site.audit_etl(
        "writer", "migrate", status=69
    )

    site.audit_etl("owner", "migrate")
    site.roles.execute("CREATE TABLE of_a_later_version (n INTEGER)", role="owner")
    for statement in ("INSERT INTO {} VALUES (1)", "UPDATE {} SET n = 2", "DELETE FROM {}"):
        with pytest.raises(sa.exc.DBAPIError, match="denied"):
            site.roles.execute(statement.format("of_a_later_version"), role="reader")
        site.roles.execute(statement.format("of_a_later_version"), role="writer")
    site.roles.execute("SELECT n FROM of_a_later_version", role="reader")


@BOTH
@pytest.mark.slow
def test_tables_that_are_there_get_the_grants(site: Site) -> None:
    owner = site.roles.name("owner")
    if site.roles.kind == "postgresql":
        made = f"CREATE ROLE {owner}"
        site.roles.execute(f"{made} LOGIN", f"GRANT CREATE ON SCHEMA public TO {owner}")
    else:
        made = f"CREATE USER {owner}"
        site.roles.execute(
            f"{made}@'%' IDENTIFIED BY 'a-password'",
            f"GRANT ALL ON {site.roles.admin.url.database}.* TO {owner}@'%'",
        )
    site.migrate()

    site.roles.make(leave_out=made)

    site.audit_etl("writer", "run")
    site.audit_etl("reader", "status")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_row_level_security_that_stops_a_writer_is_named(site: Site) -> None:
    site.roles.make()
    site.migrate()
    site.roles.execute("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY")

    said = site.audit_etl("writer", "run", status=69)

    remedy = f"run ALTER ROLE {site.roles.name('writer')} BYPASSRLS"
    assert said.strip().endswith(remedy)
    site.roles.execute(remedy.removeprefix("run "))
    site.audit_etl("writer", "run")
