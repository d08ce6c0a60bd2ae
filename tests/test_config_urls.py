from pathlib import Path

import pytest

from etl.config import load
from tests.configured import LAKE_STATE, from_environment, refused


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
        (" mariadb://h/d\n", "mariadb+pymysql://h/d"),
        ("mariadb+pymysql://u@server:p@h/d", "mariadb+pymysql://u@server:p@h/d"),
    ],
)
def test_a_database_is_opened_with_the_driver_that_we_ship_and_holds_the_state(
    given_url: str, url: str
) -> None:
    settings = from_environment(AUDIT_ETL_DESTINATION=given_url)

    assert (settings.destination, settings.state) == (url, url)


@pytest.mark.parametrize(
    ("lake", "state"),
    [
        ("parquet:///srv/lake", "sqlite:////srv/lake/_state.db"),
        ("parquet:///srv/lake/", "sqlite:////srv/lake/_state.db"),
    ],
)
def test_a_local_lake_holds_its_state(lake: str, state: str) -> None:
    settings = from_environment(AUDIT_ETL_DESTINATION=lake)

    assert (settings.destination, settings.state) == (lake, state)


def test_a_remote_lake_needs_a_state_elsewhere(tmp_path: Path) -> None:
    remote = "parquet+s3://bucket/prefix"

    settings = from_environment(AUDIT_ETL_DESTINATION=remote, AUDIT_ETL_STATE=LAKE_STATE)

    assert (settings.destination, settings.state) == (remote, LAKE_STATE)
    reason = (
        "must be set, since a remote lake cannot hold it: for example "
        "sqlite:////var/lib/audit-etl/state.db or postgresql+psycopg://USER@HOST/DATABASE"
    )
    assert refused(environment={"AUDIT_ETL_DESTINATION": remote}) == [f"state: {reason}"]
    assert refused(tmp_path, f'destination = "{remote}"') == [f"state: {reason}"]


def test_the_state_of_a_database_is_in_that_database() -> None:
    both = {"AUDIT_ETL_DESTINATION": "postgres://h/d", "AUDIT_ETL_STATE": "postgresql://h/d"}

    assert load(None, both).state == "postgresql+psycopg://h/d"
    assert refused(environment=both | {"AUDIT_ETL_STATE": LAKE_STATE}) == [
        "AUDIT_ETL_STATE: must be left out or equal the destination if that is SQL: audits and "
        "watermark are committed together"
    ]


SERVER = (
    "its user, host or port cannot be read; in a password write @ as %40, : as %3A, / as %2F and "
    "% as %25"
)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("audits.db", "must be a URL such as sqlite:///audits.db"),
        ("u:hunter2-Zq81://x", "its scheme:// is not understood here; did you mean sqlite://?"),
        (
            "postgresql+psycopg2://u:hunter2-Zq81@h/d",
            "postgresql+psycopg2:// is not understood here; did you mean postgresql+psycopg://?",
        ),
        ("parket:///a", "parket:// is not understood here; did you mean parquet://?"),
        ("s3://b/p", "s3:// is not understood here; did you mean parquet+s3://?"),
        ("sqlite://a.db", "an SQLite file is written with three slashes: sqlite:///audits.db"),
        ("sqlite://", "an SQLite file is written with three slashes: sqlite:///audits.db"),
        (
            "sqlite:///:memory:",
            "must name a file, such as sqlite:///audits.db: memory keeps nothing",
        ),
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
