"""The recipes of docs/operating.md: each block is run as it stands there, with a real daemon."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.database.schema import HEAD, VERSION_TABLE, metadata
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests import TOP
from tests.database.test_upgrade import in_sqlite
from tests.fixtures.organization import BEGIN, audits_of
from tests.support import database_servers as servers
from tests.support.commands import audit_etl, environment
from tests.support.daemons import until
from tests.support.external_programs import lacking, program

OPERATING = (TOP / "docs" / "operating.md").read_text()

#: What stands for systemd: the same words, for one real daemon in this folder.
SYSTEMCTL = r"""#!/bin/bash
set -eu
[ "$2" = audit-etl ]
running() { [ -e daemon.pid ] && grep -qs '^State:.[^ZX]' "/proc/$(cat daemon.pid)/status"; }
case $1 in
    start) nohup audit-etl daemon < /dev/null >> daemon.log 2>&1 & echo $! > daemon.pid ;;
    stop) kill -TERM "$(cat daemon.pid)"; while running; do sleep 0.05; done; rm daemon.pid ;;
    reload) kill -HUP "$(cat daemon.pid)" ;;
    *) exit 64 ;;
esac
"""
#: A daemon that looks often, for tests that wait for it.
OFTEN = '[{"name": "often", "interval": "1s", "lookback": "0s"}]'


def blocks(title: str, text: str = OPERATING, language: str = "sh") -> list[str]:
    """The blocks of a language in the section with that title, in their order."""
    [section] = re.findall(rf"^### {title}\n(.*?)(?=^##)", text + "\n## ", re.M | re.S)
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", section, re.M | re.S)
    assert found, title
    return found


def test_the_restore_removes_each_table_that_a_newer_program_may_have_made() -> None:
    [listed] = re.findall(r"DROP TABLE IF EXISTS(.*?)CASCADE", OPERATING, re.S)
    assert set(re.findall(r"\w+", listed)) == {*metadata.tables, VERSION_TABLE}


@dataclass
class Machine:
    """A folder with a configuration and a daemon, and the organisation that it exports."""

    folder: Path
    env: dict[str, str]
    simulator: Simulator

    def run(self, block: str) -> None:
        """Run a block of a recipe; each of its commands must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)

    def audit_etl(self, *arguments: str, status: int = 0) -> str:
        done = audit_etl(*arguments, env=self.env, cwd=self.folder)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout

    def is_complete(self, organization: str = "default") -> None:
        """Return when the daemon has exported all, and nothing is missing."""
        log = self.folder / "daemon.log"
        told = len(log.read_text()) if log.exists() else 0
        until(lambda: "loaded" in log.read_text()[told:], "the daemon has loaded something")
        self.verified(organization)

    def verified(self, organization: str = "default") -> None:
        """Nothing that the organisation shows is missing."""
        span = ["--from", "4d", "--to", "1m", "--organization", organization]
        assert " 0 missing" in self.audit_etl("verify", *span)

    def counts(self, select: str) -> str:
        return self.audit_etl("query", "--format", "csv", select).split("\n")[1].strip()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without a destination yet; its daemon is killed in the end."""
    folder, bin_folder = tmp_path / "home", tmp_path / "bin"
    folder.mkdir()
    bin_folder.mkdir()
    scripts = {
        "systemctl": SYSTEMCTL,
        "audit-etl": f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m etl "$@"\n',
    }
    for name, text in scripts.items():
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    now = clock().replace(microsecond=0)
    log = AuditLog.generate(
        count=2000, start=now - timedelta(days=3), end=now + timedelta(hours=1), late_share=0
    )
    with log, (simulator := Simulator(log=log)).serve() as url:
        (folder / "secret").write_text(CLIENT_SECRET)
        (folder / "audit-etl.toml").write_text(configuration("default", url, "secret"))
        env = environment(
            AUDIT_ETL_CONFIG="audit-etl.toml",
            AUDIT_ETL_START=(now - timedelta(days=3)).isoformat(),
            AUDIT_ETL_LAG="10s",
            AUDIT_ETL_HEALTH_ADDRESS="off",
            AUDIT_ETL_SCHEDULES=OFTEN,
        )
        env["PATH"] = f"{bin_folder}:{env['PATH']}"
        yield Machine(folder, env, simulator)
        with suppress(OSError, ValueError):
            os.kill(int((folder / "daemon.pid").read_text()), signal.SIGKILL)


def configuration(name: str, region: str, secret_file: str) -> str:
    return (
        f'[organizations.{name}]\nregion = "{region}"\nclient_id = "{CLIENT_ID}"\n'
        f'client_secret_file = "{secret_file}"\n'
    )


@pytest.fixture(params=["sqlite", "postgresql", "parquet"])
def stored(request: pytest.FixtureRequest, machine: Machine) -> Iterator[str]:
    """The kind of destination that the machine's daemon fills, named as the recipes name it."""
    kind = str(request.param)
    with ExitStack() as stack:
        if kind == "postgresql":
            program("pg_dump", "postgresql-client")
            server = request.getfixturevalue("postgres_server")
            url = stack.enter_context(servers.fresh_database(server))
            machine.env["DATABASE"] = url.replace("+psycopg", "")
        else:
            url = "sqlite:///audits.db" if kind == "sqlite" else "parquet:///lake"
            url = url.replace(":///", f":///{machine.folder}/")
        machine.env["AUDIT_ETL_DESTINATION"] = url
        machine.audit_etl("migrate")
        machine.run("systemctl start audit-etl")
        machine.is_complete()
        yield kind
        with suppress(OSError, ValueError):
            os.kill(int((machine.folder / "daemon.pid").read_text()), signal.SIGKILL)


#: Which blocks of a recipe are for which kind of destination.
PLACES = {"sqlite": 0, "postgresql": 1, "parquet": 2}


@pytest.mark.slow
def test_an_organisation_is_probed(machine: Machine) -> None:
    machine.run(blocks("Probe an organisation")[0])

    assert '"verdict": "confirmed"' in (machine.folder / "probe.json").read_text()
    assert [path.name for path in machine.folder.glob("*.db")] == []


def test_the_shell_completes_commands(machine: Machine) -> None:
    machine.run(blocks("Shell completion")[0])
    asked = "COMP_WORDS=(audit-etl sta); COMP_CWORD=1; _audit_etl_completion audit-etl"
    machine.run(f'. ./audit-etl-complete.bash; {asked}; [ "${{COMPREPLY[*]}}" = status ]')


def test_the_settings_of_mysql_are_ones_that_it_has(mariadb_server: str) -> None:
    [block] = blocks("MySQL and MariaDB", language="ini")
    engine = sa.create_engine(mariadb_server)
    with engine.connect() as connection:
        for name in re.findall(r"^(\w+) = ", block, re.M):
            shown = connection.execute(sa.text("SHOW VARIABLES LIKE :name"), {"name": name}).all()
            assert len(shown) == 1, name
    engine.dispose()


def test_a_proxy_and_a_ca_leave_this_machine_alone(machine: Machine) -> None:
    if not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        lacking("no /etc/ssl/certs/ca-certificates.crt (Debian's package ca-certificates has it)")
    [block] = blocks("A proxy, or a CA of your own")
    machine.env["AUDIT_ETL_DESTINATION"] = f"sqlite:///{machine.folder}/audits.db"

    machine.run(f"{block}\naudit-etl check > told 2>&1\naudit-etl run >> told 2>&1")

    assert "password" not in (machine.folder / "told").read_text()


@pytest.mark.slow
def test_a_copy_that_was_restored_is_complete_again(stored: str, machine: Machine) -> None:
    if stored == "sqlite":
        program("sqlite3", "sqlite3")
    machine.run(blocks("Back up")[PLACES[stored]])
    held = machine.counts("SELECT count(*) FROM audit_events")
    machine.is_complete()

    machine.run(blocks("Restore")[PLACES[stored]])

    machine.is_complete()
    assert int(machine.counts("SELECT count(*) FROM audit_events")) >= int(held)
    ids = "SELECT count(*) - count(DISTINCT id) FROM audit_events"
    assert machine.counts(ids) == "0"


@pytest.mark.slow
def test_a_renamed_organisation_goes_on_under_its_new_name(stored: str, machine: Machine) -> None:
    machine.run("systemctl stop audit-etl")
    held = machine.counts("SELECT count(*) FROM audit_events")
    settings = machine.folder / "audit-etl.toml"
    settings.write_text(
        settings.read_text().replace("[organizations.default]", "[organizations.acme]")
    )
    [statements] = blocks("Rename an organisation", language="sql")
    if stored == "postgresql":
        (machine.folder / "rename.sql").write_text(statements)
        machine.run('psql -q --single-transaction -f rename.sql "$DATABASE"')
    else:
        path = "audits.db" if stored == "sqlite" else "lake/_state.db"
        with closing(sqlite3.connect(machine.folder / path)) as connection:
            connection.executescript(f"BEGIN; {statements} COMMIT;")
    if stored == "parquet":
        machine.run(blocks("Rename an organisation")[0])

    machine.run("systemctl start audit-etl")

    machine.is_complete("acme")
    renamed = "SELECT count(*) FROM audit_events WHERE organization = 'acme'"
    assert int(machine.counts(renamed)) >= int(held)
    assert machine.counts(renamed.replace("= 'acme'", "<> 'acme'")) == "0"
    assert machine.counts("SELECT count(*) - count(DISTINCT id) FROM audit_events") == "0"


@pytest.mark.slow
def test_old_audits_that_were_removed_do_not_come_back(stored: str, machine: Machine) -> None:
    day = f"{clock() - timedelta(days=1):%Y-%m-%d}"
    first, again, remove = (
        block.replace("2026-05-01", day) for block in blocks("Remove old audits", language="sql")
    )
    apply = blocks("Remove old audits")[PLACES[stored]].replace("2026-05-01", day)
    older = f"SELECT count(*) FROM audit_events WHERE event_date < '{day} 00:00:00+00'"
    newer = older.replace("<", ">=")
    held = int(machine.counts(newer))
    assert int(machine.counts(older)) > 0

    for statements in (first, again):
        (machine.folder / "kept.sql").write_text(statements)
        machine.run(apply)
    if stored != "parquet":
        (machine.folder / "kept.sql").write_text(remove)
        machine.run(apply.splitlines()[1])

    machine.is_complete()
    for command in (["backfill"], ["verify", "--repair"]):
        machine.audit_etl(*command, "--from", "4d", "--to", "1m", "--wait", "1m")
    machine.audit_etl("backfill", "--from", "3d", "--to", day, status=2)
    assert machine.counts(older) == "0"
    assert int(machine.counts(newer)) >= held
    assert f"is kept from {day}T00:00:00Z" in machine.audit_etl("status")


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("stored")
def test_a_secret_is_rotated_while_the_daemon_runs(machine: Machine) -> None:
    machine.simulator.client_secret = "another-secret-of-the-organisation"
    machine.simulator.tokens.revoke_all()
    (machine.folder / "new-secret").write_text(machine.simulator.client_secret)

    for block in blocks("Rotate the secret"):
        machine.run(block)

    machine.is_complete()


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("stored")
def test_an_organisation_is_added_and_taken_out_again(machine: Machine, tmp_path: Path) -> None:
    now = clock().replace(microsecond=0)
    with (
        AuditLog.generate(seed=2, count=500, start=now - timedelta(days=2), end=now) as log,
        Simulator(log=log).serve() as url,
    ):
        [toml] = blocks("Add an organisation", language="toml")
        settings = machine.folder / "audit-etl.toml"
        before = settings.read_text()
        (machine.folder / "acme-secret").write_text(CLIENT_SECRET)
        settings.write_text(before + toml.replace("eu-west-1", url))
        for block in blocks("Add an organisation"):
            machine.run(block)
        until(lambda: '"acme' in machine.audit_etl("status", "--json"), "acme is known")
        until(lambda: held(machine, "acme"), "the daemon has exported it")
        machine.verified("acme")

        settings.write_text(before)
        machine.run("systemctl reload audit-etl")
        until(lambda: "acme/* (not configured)" in machine.audit_etl("status"), "it is taken out")
        assert held(machine, "acme")
    machine.run("systemctl stop audit-etl")
    [renaming] = blocks("Rename an organisation", language="sql")
    with closing(sqlite3.connect(machine.folder / "audits.db")) as connection:
        for table in re.findall(r"UPDATE (\w+) SET organization", renaming):
            connection.execute(f"DELETE FROM {table} WHERE organization = 'acme'")
        connection.commit()
    assert not held(machine, "acme")
    assert "acme" not in machine.audit_etl("status")
    machine.verified()


def held(machine: Machine, organization: str) -> int:
    of_it = f"WHERE organization = '{organization}'"
    return int(machine.counts(f"SELECT count(*) FROM audit_events {of_it}"))


@pytest.mark.slow
def test_a_file_of_0_1_0_is_upgraded_and_rolled_back(machine: Machine, tmp_path: Path) -> None:
    path = machine.folder / "audits.db"
    in_sqlite("sqlite.sql", path)
    with ExitStack() as stack:
        lines = []
        for name in ("default", "acme"):
            log = stack.enter_context(AuditLog.of(audits_of(name)))
            url = stack.enter_context(Simulator(log=log).serve())
            lines.append(configuration(name, url, "secret"))
        (machine.folder / "audit-etl.toml").write_text("\n".join(lines))
        machine.env["AUDIT_ETL_DESTINATION"] = f"sqlite:///{path}"
        machine.env["AUDIT_ETL_START"] = BEGIN.isoformat()
        machine.env["AUDIT_ETL_ORGANIZATIONS__ACME__SERVICES"] = "ContactCenter,Directory"
        assert "run `audit-etl migrate`" in machine.audit_etl("check", status=78)
        machine.run(blocks("Back up")[PLACES["sqlite"]])

        stop, upgrade = blocks("Upgrade")
        machine.run("systemctl start audit-etl")
        machine.run(stop)
        machine.run(upgrade)

        assert f"schema {HEAD}" in machine.audit_etl("check")
        until(lambda: machine.counts("SELECT count(*) FROM receipts") != "0", "receipts are there")
        machine.run(blocks("Restore")[PLACES["sqlite"]])
        machine.run(stop)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (
                "0001",
            )


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["sqlite", "parquet"], indirect=True)
def test_what_is_changed_loses_nothing(stored: str, machine: Machine) -> None:
    machine.run("systemctl stop audit-etl")
    changes = [
        {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "Routing,Directory"},
        {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "Routing,Directory,Architect"},
        {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": "Architect"},
        {},
        {"AUDIT_ETL_START": (clock() - timedelta(days=9)).isoformat()},
        {"AUDIT_ETL_START": "1h"},
        {"AUDIT_ETL_MAX_WINDOW": "1h", "AUDIT_ETL_LAG": "20s"},
    ]
    for change in changes:
        before = machine.counts("SELECT count(*) FROM audit_events")
        env, machine.env = machine.env, machine.env | change
        machine.audit_etl("run")
        machine.env = env
        assert int(machine.counts("SELECT count(*) FROM audit_events")) >= int(before)

    machine.audit_etl("run")
    machine.verified()
    if stored == "parquet":
        machine.env["AUDIT_ETL_PARTITION"] = "hour"
        machine.audit_etl("run", status=78)
    assert machine.counts("SELECT count(*) - count(DISTINCT id) FROM audit_events") == "0"
