from pathlib import Path

import pytest

from etl.config import load
from tests.support.commands import audit_etl, environment
from tests.support.configurations import LAKE_STATE, from_environment, refused


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("sqlite:///audits.db", "sqlite:///audits.db"),
        ("sqlite:////var/lib/audits.db", "sqlite:////var/lib/audits.db"),
        ("postgres://u:p%40@h/d", "postgresql+psycopg://u:p%40@h/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+psycopg://h/d?sslmode=require"),
        ("postgresql+psycopg:///d", "postgresql+psycopg:///d"),
        ("PostgreSQL://u@[::1]:5432/d", "postgresql+psycopg://u@[::1]:5432/d"),
        ("mysql://u:p@h:3306/d", "mysql+pymysql://u:p@h:3306/d"),
        ("mysql+pymysql://h/d", "mysql+pymysql://h/d"),
        ("mysql://u@h:/d", "mysql+pymysql://u@h/d"),
        ("postgresql://u:p@[::1]:/d?a=b", "postgresql+psycopg://u:p@[::1]/d?a=b"),
        ("sqlite:///audits.db?timeout=5", "sqlite:///audits.db?timeout=5"),
        (" mariadb://h/d\n", "mariadb+pymysql://h/d"),
        ("mariadb+pymysql://u@server:p@h/d", "mariadb+pymysql://u@server:p@h/d"),
    ],
)
def test_a_database_is_opened_with_the_driver_that_we_ship_and_holds_the_state(
    given_url: str, url: str
) -> None:
    settings = from_environment(AUDIT_ETL_DESTINATION=given_url)

    assert (settings.destination, settings.ledger) == (url, url)


@pytest.mark.parametrize(
    ("lake", "state"),
    [
        ("parquet:///srv/lake", "sqlite:////srv/lake/_state.db"),
        ("parquet:///srv/lake/", "sqlite:////srv/lake/_state.db"),
        ("parquet:///srv/la%20ke+", "sqlite:////srv/la%2520ke+/_state.db"),
    ],
)
def test_a_local_lake_holds_its_state(lake: str, state: str) -> None:
    settings = from_environment(AUDIT_ETL_DESTINATION=lake)

    assert (settings.destination, settings.ledger) == (lake, state)


@pytest.mark.parametrize("was_there", [False, True])
def test_a_local_lake_and_its_state_are_in_the_folder_as_it_is_written(
    tmp_path: Path, was_there: bool
) -> None:
    folder, before = tmp_path / "la%20ke", tmp_path / "la ke" / "_state.db"
    if was_there:
        before.parent.mkdir()
        before.touch()

    done = audit_etl(
        "migrate", env=environment(AUDIT_ETL_DESTINATION=f"parquet://{folder}"), cwd=tmp_path
    )

    assert (folder / "_state.db").exists() is not was_there
    assert before.exists() is was_there
    assert done.returncode == (78 if was_there else 0), done.stderr
    if was_there:
        assert f"in {before}, where" in done.stderr
        assert f"in {folder / '_state.db'}: stop" in done.stderr


def test_a_remote_lake_needs_a_state_elsewhere(tmp_path: Path) -> None:
    remote = "parquet+s3://bucket/prefix"

    settings = from_environment(AUDIT_ETL_DESTINATION=remote, AUDIT_ETL_LEDGER=LAKE_STATE)

    assert (settings.destination, settings.ledger) == (remote, LAKE_STATE)
    reason = (
        "must be set, since a remote lake cannot hold it: for example "
        "sqlite:////var/lib/audit-etl/ledger.db or postgresql+psycopg://USER@HOST/DATABASE"
    )
    assert refused(environment={"AUDIT_ETL_DESTINATION": remote}) == [f"ledger: {reason}"]
    assert refused(tmp_path, f'destination = "{remote}"') == [f"ledger: {reason}"]


def test_the_state_of_a_database_is_in_that_database() -> None:
    both = {"AUDIT_ETL_DESTINATION": "postgres://h/d", "AUDIT_ETL_LEDGER": "postgresql://h/d"}

    assert load(None, both).ledger == "postgresql+psycopg://h/d"
    assert refused(environment=both | {"AUDIT_ETL_LEDGER": LAKE_STATE}) == [
        "AUDIT_ETL_LEDGER: must be left out or equal the destination if that is SQL: audits and "
        "watermark are committed together"
    ]


SERVER = (
    "its user, host or port cannot be read; in a password write @ as %40, : as %3A, / as %2F and "
    "% as %25"
)

PATH = "must name a file by its path, such as sqlite:///audits.db"
TIMEOUT = "an SQLite file takes timeout=SECONDS alone: leave out"


KNOWN = (
    "write one of sqlite:///FILE postgresql://USER@HOST/DATABASE mysql://USER@HOST/DATABASE "
    "parquet:///FOLDER parquet+s3://BUCKET/PREFIX"
)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("audits.db", "must be a URL such as sqlite:///audits.db"),
        ("u:hunter2-Zq81://x", f"its scheme:// is not understood here; {KNOWN}"),
        ("snowflake://u:hunter2-Zq81@h/d", f"snowflake:// is not understood here; {KNOWN}"),
        (
            "postgresql+psycopg2://u:hunter2-Zq81@h/d",
            "postgresql+psycopg2:// is not understood here; did you mean postgresql://?",
        ),
        (
            "mysql+mysqlconnector://u:hunter2-Zq81@h/d",
            "mysql+mysqlconnector:// is not understood here; did you mean mysql://?",
        ),
        (
            "mariadb+mariadbconnector://u:hunter2-Zq81@h/d",
            "mariadb+mariadbconnector:// is not understood here; did you mean mariadb://?",
        ),
        (
            "jdbc:mysql://h/d?password=hunter2-Zq81",
            "a URL of JDBC is not understood here; write it without jdbc:, as "
            "postgresql:// or mysql:// and USER@HOST/DATABASE",
        ),
        ("parket:///a", "parket:// is not understood here; did you mean parquet://?"),
        ("s3://b/p", "s3:// is not understood here; did you mean parquet+s3://?"),
        ("sqlite://a.db", "an SQLite file is written with three slashes: sqlite:///audits.db"),
        ("sqlite://", "an SQLite file is written with three slashes: sqlite:///audits.db"),
        (
            "sqlite:///:memory:",
            "must name a file, such as sqlite:///audits.db: memory keeps nothing",
        ),
        ("sqlite:///file:a.db?uri=true", PATH),
        ("sqlite:///%00a.db", PATH),
        ("sqlite:///a.db?mode=rwc&uri=true", f"{TIMEOUT} mode"),
        ("sqlite:///a.db?timeout=1&foo", f"{TIMEOUT} foo"),
        ("mysql://h:99999/d", "its port is not between 1 and 65535"),
        ("postgresql://u@h:1,h:0/d", "its port is not between 1 and 65535"),
        ("postgresql://u:hunter2@Zq81:x@h/d", SERVER),
        ("postgresql://u:hunter2-Zq81@h:port/d", SERVER),
        ("parquet://lake", "a local lake is a folder's full path: parquet:///var/lib/audits"),
        ("parquet:///", "a local lake is a folder's full path: parquet:///var/lib/audits"),
        ("parquet:///a?b", "a local lake is a folder's full path: parquet:///var/lib/audits"),
        ("parquet+s3:///p", "a remote lake needs a bucket: parquet+s3://bucket/prefix"),
    ],
)
def test_a_destination_that_cannot_be_is_refused_without_its_password(
    url: str, reason: str
) -> None:
    lines = refused(environment={"AUDIT_ETL_DESTINATION": url})

    assert [line.partition("did you")[0] for line in lines] == [
        f"AUDIT_ETL_DESTINATION: {reason}".partition("did you")[0]
    ]
    if "its scheme" not in reason:
        assert lines == [f"AUDIT_ETL_DESTINATION: {reason}"]
