import re
from pathlib import Path

import pytest

from tests.support.configurations import SECRET, refused


@pytest.mark.parametrize(
    ("variable", "right"),
    [
        ("AUDIT_ETL_LGA", "AUDIT_ETL_LAG"),
        ("AUDIT_ETL_DESTINATON_FILE", "AUDIT_ETL_DESTINATION_FILE"),
        ("audit_etl_maxwindow", "AUDIT_ETL_MAX_WINDOW"),
        ("AUDIT_ETL_CONFIGURATION", "AUDIT_ETL_CONFIG"),
        ("AUDIT_ETL_REGION", "AUDIT_ETL_ORGANIZATIONS__DEFAULT__REGION"),
        ("AUDIT_ETL_CLIENT_SECRET_FILE", "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_SECRET_FILE"),
        (
            "AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_SECERT",
            "AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_SECRET",
        ),
        ("AUDIT_ETL_ORGANIZATION__ACME__REGION", "AUDIT_ETL_ORGANIZATIONS__ACME__REGION"),
        ("AUDIT_ETL_SCHEDULES__0__CRON", "AUDIT_ETL_SCHEDULES"),
        ("AUDIT_ETL_", None),
        ("AUDIT_ETL_ORGANIZATIONS", None),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_right_one(
    variable: str, right: str | None
) -> None:
    (line,) = refused(environment={variable: SECRET})

    found = re.fullmatch(rf"{variable}: no such setting; did you mean (AUDIT_ETL_[A-Z_]+)\?", line)
    assert found is not None
    assert right in {None, found[1]}


@pytest.mark.parametrize(
    "variable",
    [
        "AUDIT_ETL_PORT",
        "AUDIT_ETL_SERVICE_HOST",
        "AUDIT_ETL_METRICS_SERVICE_PORT_HTTP",
        "AUDIT_ETL_PORT_9090_TCP_ADDR",
    ],
)
def test_a_service_link_of_kubernetes_is_refused_with_the_way_to_be_rid_of_it(
    variable: str,
) -> None:
    assert refused(environment={variable: "10.0.0.1"}) == [
        f"{variable}: no such setting; it looks like a Kubernetes service link: set "
        "enableServiceLinks: false in the pod's spec"
    ]


def test_unknown_keys_are_refused_with_the_nearest_right_ones(tmp_path: Path) -> None:
    toml = """
lagg = "1m"
region = "us-east-1"
client_secret = "hunter2-Zq81"
organisations = {}
[organizations.default]
regoin = "us-east-1"
secret_file = "x"
[[schedules]]
name = "a"
crn = "17 3 * * *"
lookback = "1h"
"""

    assert set(refused(tmp_path, toml)) == {
        "FILE, line 2: lagg: no such setting; did you mean lag?",
        "FILE, line 3: region: no such setting; did you mean organizations.default.region?",
        "FILE, line 4: client_secret: no such setting; did you mean "
        "organizations.default.client_secret_file?",
        "FILE, line 5: organisations: no such setting; did you mean organizations?",
        "FILE, line 7: organizations.default.regoin: no such setting; did you mean region?",
        "FILE, line 8: organizations.default.secret_file: no such setting; did you mean "
        "client_secret_file?",
        "FILE, line 11: schedules.0.crn: no such setting; did you mean cron?",
        "FILE, line 9: schedules.0.interval: must be set if cron is not, and left out if cron is "
        "set",
    }


def test_a_secret_in_the_file_is_refused_with_the_ways_to_give_it(tmp_path: Path) -> None:
    assert refused(tmp_path, f'[organizations.acme]\nclient_secret = "{SECRET}"') == [
        "FILE, line 2: organizations.acme.client_secret: a secret does not belong in this file; "
        "set AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_SECRET, or client_secret_file to the path of a "
        "file that holds it"
    ]


def test_everything_that_is_wrong_is_told_at_once_a_line_each(tmp_path: Path) -> None:
    toml = """
lag = 600
start = "tomorrow"
max_window = "31d"
partition = "week"
expand_user = "perhaps"
schedules = "daily"
organizations = 3
"""
    variables = {
        "AUDIT_ETL_ALLOW_REDIRECT": "si",
        "AUDIT_ETL_LAGG": "1m",
        "AUDIT_ETL_LEDGER": "oracle://u:hunter2-Zq81@h/x",
    }

    assert set(refused(tmp_path, toml, variables)) == {
        "AUDIT_ETL_LAGG: no such setting; did you mean AUDIT_ETL_LAG?",
        "AUDIT_ETL_LEDGER: oracle:// is not understood here; write one of sqlite:///FILE "
        "postgresql://USER@HOST/DATABASE mysql://USER@HOST/DATABASE",
        "AUDIT_ETL_ALLOW_REDIRECT: must be true or false",
        "FILE, line 2: lag: must be a length of time as text, such as 10m, 1h or 3d",
        "FILE, line 3: start: must be a time (2026-05-01, 2026-05-01T12:00:00Z) or a length of "
        "time before the first run (30d)",
        "FILE, line 4: max_window: must be from 1m to 30d",
        "FILE, line 5: partition: must be hour, day or month",
        "FILE, line 6: expand_user: must be true or false",
        "FILE, line 7: schedules: is not JSON: Expecting value at character 1",
        "FILE, line 8: organizations: must be a table, such as [organizations.default]",
    }


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ("begin", "is called start since 0.2.0"),
        ("behind_limit", "is called max_behind since 0.2.0"),
        ("state", "is called ledger since 0.2.0"),
        ("state_file", "is called ledger_file since 0.2.0"),
    ],
)
def test_a_setting_of_0_1_0_is_told_by_its_new_name(tmp_path: Path, old: str, said: str) -> None:
    variable, told = f"AUDIT_ETL_{old.upper()}", said.split()[2].upper()

    assert refused(tmp_path, f'{old} = "1d"') == [f"FILE, line 1: {old}: {said}"]
    assert refused(environment={variable: "1d"}) == [
        f"{variable}: is called AUDIT_ETL_{told} since 0.2.0"
    ]


def test_a_setting_that_went_is_told(tmp_path: Path) -> None:
    toml = '[[schedules]]\nname = "a"\ncron = "0 * * * *"\nlookback = "1h"\njitter = "1m"'

    [problem] = refused(tmp_path, toml)

    assert problem.startswith("FILE, line 5: schedules.0.jitter: is not a setting since 0.2.0")
