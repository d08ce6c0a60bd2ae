"""`check` is green where a run can work and red where it cannot, and leaves nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from etl.app import App
from etl.config import load
from etl.database import schema
from etl.destinations import trials
from etl.operations.check import Finding, check
from tests.support import buckets
from tests.support import database_servers as servers
from tests.support.commands import audit_etl
from tests.support.database_sessions import role
from tests.support.live_organization import Organisation, living
from tests.support.small_disks import small_disk

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)


@pytest.fixture(scope="module")
def organisation() -> Iterator[Organisation]:
    with living() as organisation:
        yield organisation


def found(env: Mapping[str, str]) -> dict[str, Finding]:
    """What `check` finds, by what it is about."""
    with App(load(None, env), stop=Event()) as app:
        return {finding.about: finding for finding in check(app)}


def verdicts(findings: dict[str, Finding]) -> set[str]:
    return {finding.verdict for finding in findings.values()} - {"warning"}


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.select(table))]
            for name, table in schema.metadata.tables.items()
        }


def test_what_a_run_can_write_to_is_ok_and_stays_as_it_was(
    organisation: Organisation, database_url: str
) -> None:
    env = organisation.environment(database_url)
    assert audit_etl("migrate", env=env).returncode == 0
    empty = found(env)
    assert verdicts(empty) == {"ok"}
    assert audit_etl("run", env=env).returncode == 0
    before = content(database_url)

    findings = found(env)

    assert verdicts(findings) == {"ok"}
    assert "was inserted, updated and deleted" in findings["writing"].detail
    assert content(database_url) == before


def test_tables_that_are_newer_than_the_program_take_a_newer_program(
    organisation: Organisation, database_url: str
) -> None:
    env = organisation.environment(database_url)
    assert audit_etl("migrate", env=env).returncode == 0
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_etl_version SET version_num = '9999'")

    assert found(env)["schema"].detail.endswith("install the newer audit-etl")


@pytest.mark.parametrize("name", ["audits.db", "it's a 100% new #1.db"])
def test_a_new_file_is_tried_and_not_left(
    organisation: Organisation, tmp_path: Path, name: str
) -> None:
    findings = found(organisation.environment(f"sqlite:///{tmp_path / name}"))

    assert verdicts(findings) == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_empty_is_tried_and_stays_empty(
    organisation: Organisation, tmp_path: Path
) -> None:
    path = tmp_path / "audits.db"
    path.touch()

    findings = found(organisation.environment(f"sqlite:///{path}"))

    assert verdicts(findings) == {"ok"}
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []


def test_a_missing_folder_of_a_file_is_told_as_a_run_tells_it(
    organisation: Organisation, tmp_path: Path
) -> None:
    env = organisation.environment(f"sqlite:///{tmp_path / 'missing' / 'audits.db'}")

    checked, run = audit_etl("check", env=env), audit_etl("run", env=env)

    assert checked.returncode == run.returncode == 69
    assert "does not exist" in checked.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("kind", ["new file", "file", "lake"])
def test_a_disk_that_is_read_only_is_told(
    organisation: Organisation, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "disk"
    url = f"parquet://{folder}" if kind == "lake" else f"sqlite:///{folder}/audits.db"
    state = f"sqlite:///{tmp_path}/state.db" if kind == "lake" else url
    env = organisation.environment(url, AUDIT_ETL_LEDGER=state)
    with small_disk(folder, "64m") as disk:
        if kind == "file":
            assert audit_etl("run", env=env, entry=disk.entry()).returncode == 0
        disk.remount("ro")

        result = audit_etl("check", env=env, entry=disk.entry())

    assert result.returncode == 69, result.stdout
    assert "failed" in result.stdout


@pytest.mark.parametrize("command", ["config", "check", "run", "daemon"])
def test_a_beginning_in_the_future_is_a_wrong_setting(
    organisation: Organisation, tmp_path: Path, command: str
) -> None:
    url = f"sqlite:///{tmp_path / 'audits.db'}"
    env = organisation.environment(url)
    env["AUDIT_ETL_START"] = "2099-01-01"

    result = audit_etl(command, env=env)

    assert result.returncode == 78
    assert "2099-01-01T00:00:00Z lies in the future" in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


ALL = ("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {it}",)


@on_postgresql
@pytest.mark.parametrize(
    "lacking",
    [
        "REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM {it}",
        "REVOKE INSERT ON audit_entity_changes FROM {it}",
        "REVOKE UPDATE ON watermarks FROM {it}",
        "REVOKE DELETE ON early_audits FROM {it}",
        "REVOKE INSERT ON receipts FROM {it}",
        "REVOKE UPDATE ON leases FROM {it}",
        "ALTER ROLE {it} SET default_transaction_read_only = on",
    ],
)
def test_a_role_that_lacks_a_right_of_a_run_is_told(
    organisation: Organisation, database_url: str, lacking: str
) -> None:
    assert audit_etl("migrate", env=organisation.environment(database_url)).returncode == 0
    before = content(database_url)

    with role(database_url, *ALL) as url:
        granted = found(organisation.environment(url))
    with role(database_url, *ALL, lacking) as url:
        findings = found(organisation.environment(url))

    assert verdicts(granted) == {"ok"}
    assert findings["writing"].verdict == "failed"
    assert findings["writing"].exit_status == 69
    assert "grant SELECT, INSERT, UPDATE and DELETE" in findings["writing"].detail
    assert content(database_url) == before


@on_mariadb
def test_a_user_of_mariadb_who_may_only_read_is_told(
    organisation: Organisation, database_url: str
) -> None:
    assert audit_etl("migrate", env=organisation.environment(database_url)).returncode == 0

    with role(database_url, "GRANT SELECT ON {database}.* TO {it}") as url:
        findings = found(organisation.environment(url))

    assert findings["writing"].verdict == "failed"


@on_postgresql
@pytest.mark.parametrize(("limit", "verdict"), [(30, None), (10, "warning"), (1, "failed")])
def test_too_few_connections_are_told_with_the_concurrency_that_fits(
    organisation: Organisation, database_url: str, limit: int, verdict: str | None
) -> None:
    assert audit_etl("migrate", env=organisation.environment(database_url)).returncode == 0

    with role(database_url, *ALL, f"ALTER ROLE {{it}} CONNECTION LIMIT {limit}") as url:
        findings = found(organisation.environment(url))

    about = findings.get("connections")
    assert (about.verdict if about else None) == verdict
    if about and verdict == "warning":
        assert "set concurrency to 3" in about.detail


@on_mariadb
def test_connections_of_mariadb_are_counted(organisation: Organisation, database_url: str) -> None:
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)

    free = trials.connections_free(engine)

    assert free is not None
    assert free > 0


def test_a_local_lake_that_is_new_is_tried_and_not_left(
    organisation: Organisation, tmp_path: Path
) -> None:
    lake = tmp_path / "lakes" / "lake"

    for state in ("", f"sqlite:///{tmp_path / 'state.db'}"):
        findings = found(organisation.environment(f"parquet://{lake}", AUDIT_ETL_LEDGER=state))
        assert verdicts(findings) == {"ok"}
        assert list(tmp_path.iterdir()) == []


def test_a_lake_with_files_stays_as_it_was(organisation: Organisation, tmp_path: Path) -> None:
    env = organisation.environment(f"parquet://{tmp_path / 'lake'}")
    assert audit_etl("run", env=env).returncode == 0

    def files() -> list[str]:
        return sorted(str(p) for p in tmp_path.rglob("*") if "_state.db-" not in p.name)

    before = files()
    findings = found(env)

    assert verdicts(findings) == {"ok"}
    assert files() == before


def test_a_lake_below_a_file_is_told(organisation: Organisation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = f"sqlite:///{tmp_path / 'state.db'}"
    env = organisation.environment(
        f"parquet://{tmp_path / 'file' / 'lake'}", AUDIT_ETL_LEDGER=state
    )

    checked, run = audit_etl("check", env=env), audit_etl("run", env=env)

    assert checked.returncode == run.returncode == 69


def test_a_bucket_is_written_to_and_left_as_it_was(
    organisation: Organisation, bucket: str, tmp_path: Path
) -> None:
    env = organisation.environment(bucket, AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 's.db'}")

    findings = found(env)

    assert verdicts(findings) == {"ok"}
    assert buckets.keys(bucket) == {}


def test_a_folder_for_temporary_files_that_is_gone_is_told(
    organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    findings = found(organisation.environment(f"sqlite:///{tmp_path / 'a.db'}"))

    assert findings["temporary files"].verdict == "failed"
    assert "TMPDIR" in findings["temporary files"].detail


def test_a_disk_with_little_room_is_warned_of(
    organisation: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "ROOM_BYTES", 1 << 60)

    findings = found(organisation.environment(f"sqlite:///{tmp_path / 'a.db'}"))

    assert findings["disk"].verdict == "warning"
    assert "MiB left" in findings["disk"].detail


@pytest.mark.slow
def test_a_standby_is_told(organisation: Organisation, tmp_path: Path) -> None:
    with servers.own_postgres(tmp_path) as server:
        assert audit_etl("migrate", env=organisation.environment(server.url)).returncode == 0
        standby = server.make_standby()
        try:
            standby.start()
            findings = found(organisation.environment(standby.url))
        finally:
            standby.stop()

    assert findings["writing"].verdict == "failed"
    assert "use the primary" in findings["writing"].detail


def test_a_database_that_does_not_hold_every_character_is_told_before_its_tables_are_made(
    organisation: Organisation, postgres_server: str
) -> None:
    options = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with servers.fresh_database(postgres_server, options) as url:
        findings = found(organisation.environment(url))

    assert findings["limits"].verdict == "failed"
    assert "has the encoding LATIN1" in findings["limits"].detail
    assert "create it with CREATE DATABASE" in findings["limits"].detail
