import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from etl.config import Settings, load
from etl.config.sources import read_document
from etl.config.values import cron
from etl.errors import ConfigurationError
from tests.support.configurations import SECRET, from_environment, refused


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("lag", "10", "'10' is not a duration; write for example 10m, 1h, 3d, 6mo or 1y"),
        ("lag", "7301d", "must be from 0s to 20 years (7300d)"),
        ("lag", "9" * 30 + "d", "must be from 0s to 20 years (7300d)"),
        ("start", "9" * 30 + "d", "must be from 0s to 20 years (7300d)"),
        ("start", "1999-12-31", "must be in the year 2000 or later"),
        ("start", "0001-01-01T00:00:00+14:00", "must be in the year 2000 or later"),
        ("max_window", "59s", "must be from 1m to 30d"),
        ("max_window", "30d1s", "must be from 1m to 30d"),
        ("schedules", "[]", "must hold a schedule; leave it out to have the default ones"),
        ("schedules", '{"a": 1}', "must be a list"),
        ("organizations__x__services", "*,Routing", "has * and other names: * already asks for all "
         "services"),
        ("organizations__x__services", "A,A", "names a service twice"),
        ("organizations__x__services", ",", 'names no service; ["*"] asks for all of them'),
        ("organizations__x__services", "A B", "'A B' must be 1 to 64 letters, digits, _ . or -"),
        ("organizations__x__region", "us east", "must be a region (us-east-1), a domain "
         "(mypurecloud.de) or a URL"),
        ("organizations__x__region", "https://u:hunter2-Zq81@h", "must be a base URL such as "
         "http://127.0.0.1:8080, without user or query"),
        ("organizations__x__region", "ftp://h", "must be a base URL such as "
         "http://127.0.0.1:8080, without user or query"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(key: str, text: str, reason: str) -> None:
    variable = f"AUDIT_ETL_{key.upper()}"

    assert refused(environment={variable: text}) == [f"{variable}: {reason}"]


def test_lengths_of_time_may_be_at_their_limits() -> None:
    settings = from_environment(AUDIT_ETL_LAG="0s", AUDIT_ETL_MAX_WINDOW="1m", AUDIT_ETL_START="0s")

    assert (settings.lag, settings.max_window) == (timedelta(0), timedelta(minutes=1))
    with pytest.raises(ValidationError, match="must be from 0s"):
        Settings(lag=timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("* * * *", "is not a cron line such as 17 3 * * *: Wrong number of fields; got 4, "
         "expected 5"),
        ("61 * * * *", "is not a cron line such as 17 3 * * *: Error validating expression '61': "
         "the last value (61) is higher than the maximum value (59)"),
        ("0 4 * * 0", "must name its days of the week (sun, mon-fri), as numbers are ambiguous"),
        ("0 4 * * 7", "must name its days of the week (sun, mon-fri), as numbers are ambiguous"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 * * Sunday", "is not understood as 0 0 * * Sunday; write 0 0 * * sun"),
        ("0 0 1 sept *", "is not understood as 0 0 1 sept *; write 0 0 1 sep *"),
        ("@daily", "is not understood as @daily; write 0 0 * * *"),
    ],
)  # fmt: skip
def test_a_cron_line_that_would_not_fire_as_meant_is_refused(line: str, reason: str) -> None:
    text = json.dumps([{"name": "a", "cron": line, "lookback": "1h"}])

    assert refused(environment={"AUDIT_ETL_SCHEDULES": text}) == [
        f"AUDIT_ETL_SCHEDULES: schedules.0.cron: {reason}"
    ]


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("0 0 * * fri-mon", "0 0 * * fri,sat,sun,mon"),
        ("0 0 * * Friday-Monday,wed", "0 0 * * fri,sat,sun,mon,wed"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("0 20-4/3 * * *", "0 20,23,2 * * *"),
        ("0 0 1 nov-feb *", "0 0 1 nov,dec,jan,feb *"),
        ("0 0 1 11-2 *", "0 0 1 11,12,1,2 *"),
        ("0 0 30-2 * *", "0 0 30,31,1,2 * *"),
        ("@Weekly", "0 0 * * sun"),
        ("@yearly", "0 0 1 jan *"),
    ],
)
def test_a_cron_line_of_other_crons_is_told_as_one_that_works(line: str, written: str) -> None:
    with pytest.raises(ValueError, match=f"; write {re.escape(written)}$"):
        cron(line, ())

    assert cron(written, ()) == written


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ({}, "must be set if cron is not, and left out if cron is set"),
        ({"cron": "17 3 * * *", "interval": "1h"}, "must be set if cron is not, and left out if "
         "cron is set"),
        ({"interval": "0s"}, "must be at least 1s"),
        (
            {"interval": "soon"},
            "'soon' is not a duration; write for example 10m, 1h, 3d, 6mo or 1y",
        ),
    ],
)  # fmt: skip
def test_a_schedule_has_either_a_cron_line_or_an_interval(
    schedule: dict[str, str], reason: str
) -> None:
    text = json.dumps([{"name": "a", "lookback": "1h"} | schedule])

    assert refused(environment={"AUDIT_ETL_SCHEDULES": text}) == [
        f"AUDIT_ETL_SCHEDULES: schedules.0.interval: {reason}"
    ]


def test_schedules_need_names_of_their_own() -> None:
    one = {"name": "a", "cron": "17 3 * * *", "lookback": "1h"}

    assert refused(environment={"AUDIT_ETL_SCHEDULES": json.dumps([one, one])}) == [
        "AUDIT_ETL_SCHEDULES: has two schedules of one name"
    ]
    assert refused(
        environment={"AUDIT_ETL_SCHEDULES": json.dumps([one | {"name": "backfill"}])}
    ) == [
        "AUDIT_ETL_SCHEDULES: schedules.0.name: 'backfill' is what other receipts are "
        "called; choose another"
    ]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a" * 65])
def test_an_organisation_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, f"\n[organizations.{json.dumps(name, ensure_ascii=False)}]") == [
        f"FILE, line 2: organizations.{name}: {name!r} must be 1 to 64 letters, digits, _ . or -"
    ]


def test_an_organisation_that_a_variable_names_is_refused_alike() -> None:
    assert refused(environment={"AUDIT_ETL_ORGANIZATIONS__A/B__REGION": "us-east-1"}) == [
        "AUDIT_ETL_ORGANIZATIONS__A/B__REGION: organizations.a/b: "
        "'a/b' must be 1 to 64 letters, digits, _ . or -"
    ]


def test_two_organisations_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    toml = "[organizations.Acme]\n[organizations.ACME]\n"

    assert refused(tmp_path, toml) == [
        "FILE: organizations: has two names that differ in nothing but case"
    ]


def test_an_organisation_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, '[organizations]\nregion = "us-east-1"\n') == [
        "FILE, line 2: organizations.region: must be a table, such as [organizations.default]"
    ]


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    for path, reason in (
        ("/nowhere.toml", "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (str(tmp_path / "binary"), "cannot be read: it is not UTF-8 text: save it as UTF-8"),
    ):
        assert refused(environment={"AUDIT_ETL_CONFIG": path}) == [
            f"the configuration file {path} {reason}"
        ]
        with pytest.raises(ConfigurationError, match=reason):
            load(Path(path), {})


def test_a_file_of_windows_is_read_as_meant(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'\xef\xbb\xbflag = "3m "\r\n[organizations.a]\r\nregion = "us-east-1 "\r\n')

    settings = load(path, {})

    assert settings.lag == timedelta(minutes=3)
    assert settings.organizations["a"].region == "us-east-1"


def test_a_slip_in_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, f'lag = "1m"\ndestination = "{SECRET}\n')

    assert line.startswith("the configuration file FILE is not TOML: ")
    assert "line 2" in line


def test_the_lines_of_keys_are_found_however_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '# lag = 1\n\n  lag = "1m"\norganizations.a.region = "x"\n[organizations . "b.c"]\n'
        '"client_id" = "1"\n[[ schedules ]]\nname = "a"\n[[schedules]]\nname = "b"\n'
    )

    assert read_document(path).lines == {
        "lag": 3,
        "organizations.a.region": 4,
        "organizations.b.c": 5,
        "organizations.b.c.client_id": 6,
        "schedules": 7,
        "schedules.0": 7,
        "schedules.0.name": 8,
        "schedules.1": 9,
        "schedules.1.name": 10,
    }


@pytest.mark.parametrize(("text", "number"), [("1", 1), (" 8 ", 8), ("40", 40)])
def test_a_number_of_organisations_at_once_is_read(text: str, number: int) -> None:
    settings = load(None, {"AUDIT_ETL_CONCURRENCY": text})

    assert settings.concurrency == number
    assert settings.connections == 4 + 2 * number


@pytest.mark.parametrize("text", ["0", "41", "-1", "1.5", "many", "true", "1e1"])
def test_a_number_of_organisations_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match="CONCURRENCY: must be a whole number from 1 to 40"
    ):
        load(None, {"AUDIT_ETL_CONCURRENCY": text})
