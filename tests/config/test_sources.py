import json
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from etl.config import OrganizationSettings, Schedule, Settings, load
from etl.window import format_duration
from tests.support.configurations import CREDENTIALS, SECRET, from_environment, from_toml, origins


def test_a_variable_overrides_the_file_and_each_value_tells_where_it_came_from(
    tmp_path: Path,
) -> None:
    toml = 'lag = "1m"\nmax_window = "2d"\n'

    settings = from_toml(tmp_path, toml, {"AUDIT_ETL_LAG": "2m"})

    assert (settings.lag, settings.max_window) == (timedelta(minutes=2), timedelta(days=2))
    told = origins(settings)
    assert [told[key] for key in ("lag", "max_window", "start")] == [
        "environment AUDIT_ETL_LAG",
        str(tmp_path / "c.toml"),
        "default",
    ]


def test_the_file_is_the_one_of_the_argument_else_of_the_variable_else_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, lag in (("config", "1m"), ("a", "2m"), ("b", "3m")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "audit-etl.toml").write_text(f'lag = "{lag}"')
    monkeypatch.chdir(tmp_path)
    named = {"AUDIT_ETL_CONFIG": str(tmp_path / "a/audit-etl.toml")}

    assert load(tmp_path / "b/audit-etl.toml", named).lag == timedelta(minutes=3)
    assert load(None, named).lag == timedelta(minutes=2)
    assert load(None, {}).lag == timedelta(minutes=10)
    assert load(None, {"AUDIT_ETL_CONFIG": ""}).lag == timedelta(minutes=10)


def test_credentials_come_from_our_variables_then_the_vendors_then_the_file(tmp_path: Path) -> None:
    toml = '[organizations.default]\nregion = "eu-west-1"\nclient_id = "of-file"\n'
    vendors = {"GENESYSCLOUD_OAUTHCLIENT_ID": "of-vendor", "GENESYSCLOUD_REGION": "us-east-1"}
    ours = {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_ID": "ours"}

    def ids(environment: Mapping[str, str]) -> tuple[str, str]:
        organization = from_toml(tmp_path, toml, environment).organizations["default"]
        return organization.region, organization.client_id

    assert ids({}) == ("eu-west-1", "of-file")
    assert ids(vendors) == ("us-east-1", "of-vendor")
    assert ids(vendors | ours) == ("us-east-1", "ours")


def test_the_vendors_variables_make_the_organisation_default_if_there_is_none() -> None:
    settings = load(None, CREDENTIALS)

    assert settings.organization("default") == OrganizationSettings(
        region="us-east-1", client_id="id-1", client_secret=SecretStr(SECRET), services=("*",)
    )
    assert origins(settings)["organizations.default.client_id"] == (
        "environment GENESYSCLOUD_OAUTHCLIENT_ID"
    )


def test_the_vendors_variables_leave_other_organisations_alone(tmp_path: Path) -> None:
    toml = '[organizations.acme]\nregion = "eu-west-1"\n'

    assert list(from_toml(tmp_path, toml, CREDENTIALS).organizations) == ["acme"]
    by_variable = {"AUDIT_ETL_ORGANIZATIONS__ACME__REGION": "eu-west-1"}
    assert list(load(None, CREDENTIALS | by_variable).organizations) == ["acme"]
    both = from_toml(tmp_path, toml + "[organizations.Default]\n", CREDENTIALS).organizations
    assert [(name, both[name].client_id) for name in both] == [("acme", ""), ("Default", "id-1")]


def test_a_variable_finds_an_organisation_whatever_its_case(tmp_path: Path) -> None:
    toml = '[organizations.Acme_EU]\nregion = "eu-west-1"\n'
    variables = {
        "AUDIT_ETL_ORGANIZATIONS__ACME_EU__CLIENT_ID": "1",
        "audit_etl_organizations__acme_eu__services": "Routing",
        "AUDIT_ETL_ORGANIZATIONS__Other__CLIENT_ID": "2",
    }

    organizations = from_toml(tmp_path, toml, variables).organizations

    assert organizations == {
        "Acme_EU": OrganizationSettings(region="eu-west-1", client_id="1", services=("Routing",)),
        "other": OrganizationSettings(client_id="2"),
    }


def test_an_organisation_may_have_underscores_in_its_name(tmp_path: Path) -> None:
    toml = "[organizations.a__b]\n[organizations.c_]\n"
    variables = {
        "AUDIT_ETL_ORGANIZATIONS__A__B__REGION": "us-east-1",
        "AUDIT_ETL_ORGANIZATIONS__C___REGION": "us-west-2",
    }

    organizations = from_toml(tmp_path, toml, variables).organizations

    assert {name: o.region for name, o in organizations.items()} == {
        "a__b": "us-east-1",
        "c_": "us-west-2",
    }


@pytest.mark.parametrize(
    "text", ["Routing, Telephony", "Routing,Telephony,", '["Routing", "Telephony"]']
)
def test_a_list_is_read_from_commas_or_json(text: str) -> None:
    settings = from_environment(AUDIT_ETL_ORGANIZATIONS__X__SERVICES=text)

    assert settings.organizations["x"].services == ("Routing", "Telephony")


def test_schedules_come_whole_from_the_file_or_as_json_from_the_variable(tmp_path: Path) -> None:
    toml = '[[schedules]]\nname = "a"\ncron = "5  4 * * mon-fri"\nlookback = "0s"\n'
    text = json.dumps([{"name": "b", "cron": "0 * * * *", "lookback": "1d12h"}])

    a = Schedule(name="a", cron="5 4 * * mon-fri", lookback=timedelta(0))
    b = Schedule(name="b", cron="0 * * * *", lookback=timedelta(hours=36))
    assert from_toml(tmp_path, toml).schedules == (a,)
    assert from_toml(tmp_path, toml, {"AUDIT_ETL_SCHEDULES": text}).schedules == (b,)


def test_an_empty_text_is_not_set(tmp_path: Path) -> None:
    toml = 'destination = ""\n[organizations.default]\nclient_secret = ""\nclient_id = "1"\n'
    variables = {"AUDIT_ETL_LAG": "", "AUDIT_ETL_ORGANIZATIONS__ACME__REGION": ""}
    variables |= {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_ID": "", "GENESYSCLOUD_REGION": ""}

    settings = from_toml(tmp_path, toml, variables)

    expected = Settings(organizations={"default": OrganizationSettings(client_id="1")})
    assert settings.model_dump() == expected.model_dump()


def test_variables_of_others_and_of_the_projects_own_tests_are_ignored() -> None:
    others = {"AUDIT_ETL_TEST_POSTGRESQL": "1", "AUDIT_ETL_BENCH_ROWS": "2", "AUDIT_ETLX": "3"}

    assert load(None, others | {"GENESYSCLOUD_SDK_DEBUG": "1"}) == load(None, {})


lengths = st.integers(0, 30 * 86400).map(lambda seconds: timedelta(seconds=seconds))
names = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64)


@given(lag=lengths, begin=lengths, lookback=lengths)
def test_lengths_of_time_mean_the_same_in_file_and_environment_and_are_shown_as_written(
    tmp_path_factory: pytest.TempPathFactory, lag: timedelta, begin: timedelta, lookback: timedelta
) -> None:
    texts = {"lag": format_duration(lag), "start": format_duration(begin)}
    schedule = {"name": "a", "cron": "17 3 * * *", "lookback": format_duration(lookback)}
    by_variable = {f"AUDIT_ETL_{key.upper()}": text for key, text in texts.items()}
    by_variable["AUDIT_ETL_SCHEDULES"] = json.dumps([schedule])
    toml = "\n".join(f"{key} = {text!r}" for key, text in texts.items()) + "\n[[schedules]]\n"
    toml += "\n".join(f"{key} = {text!r}" for key, text in schedule.items())

    settings = load(None, by_variable)

    assert (settings.lag, settings.start) == (lag, begin)
    assert settings.schedules[0].lookback == lookback
    in_file = from_toml(tmp_path_factory.getbasetemp(), toml)
    assert in_file.model_dump() == settings.model_dump()
    shown = {key: text for key, text, _ in settings.rows()}
    assert shown | texts | {"schedules.a.lookback": schedule["lookback"]} == shown


@given(
    begin=st.datetimes(
        min_value=datetime(2000, 1, 2),
        max_value=datetime(9999, 12, 30),
        timezones=st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_begin_is_the_same_instant_in_file_and_environment(
    tmp_path_factory: pytest.TempPathFactory, begin: datetime
) -> None:
    whole = begin.replace(microsecond=0)

    by_variable = from_environment(AUDIT_ETL_START=begin.isoformat()).start
    as_text = from_toml(tmp_path_factory.getbasetemp(), f'start = "{begin.isoformat()}"').start
    as_time = from_toml(tmp_path_factory.getbasetemp(), f"start = {begin.isoformat()}").start

    assert by_variable == as_text == as_time == whole
    assert isinstance(by_variable, datetime)
    assert by_variable.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ['"2026-05-01"', "2026-05-01", "2026-05-01T00:00:00", '"2026-05-01T02:00+02:00"']
)
def test_begin_is_in_utc_unless_it_says_otherwise(tmp_path: Path, text: str) -> None:
    settings = from_toml(tmp_path, f"start = {text}")

    assert settings.start == datetime(2026, 5, 1, tzinfo=UTC)
    assert {key: shown for key, shown, _ in settings.rows()}["start"] == ("2026-05-01T00:00:00Z")


@given(name=names, region=st.sampled_from(["us-east-1", "mypurecloud.de", "http://127.0.0.1:81"]))
def test_an_organisation_of_any_allowed_name_is_found_by_variables(
    tmp_path_factory: pytest.TempPathFactory, name: str, region: str
) -> None:
    variables = {f"AUDIT_ETL_ORGANIZATIONS__{name.upper()}__REGION": region}

    settings = from_toml(
        tmp_path_factory.getbasetemp(), f"[organizations.{json.dumps(name)}]", variables
    )

    assert settings.organizations == {name: OrganizationSettings(region=region)}
