import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.config import Settings, load
from etl.database.urls import masked
from etl.errors import ConfigurationError
from tests.support.configurations import CREDENTIALS, IDS, LAKE_STATE, SECRET, from_environment


def test_the_rows_show_every_value_with_its_origin_and_no_secret() -> None:
    destination = f"postgresql://etl:{SECRET}@db/audits?sslmode=require&sslpassword={SECRET}"
    shown = "postgresql+psycopg://etl:***@db/audits?sslmode=require&sslpassword=***"

    settings = load(None, CREDENTIALS | {"AUDIT_ETL_DESTINATION": destination})

    assert settings.rows() == [
        ("destination", shown, "environment AUDIT_ETL_DESTINATION"),
        ("ledger", shown, "default"),
        ("organizations.default.region", "us-east-1", "environment GENESYSCLOUD_REGION"),
        ("organizations.default.client_id", "id-1", "environment GENESYSCLOUD_OAUTHCLIENT_ID"),
        (
            "organizations.default.client_secret",
            "********",
            "environment GENESYSCLOUD_OAUTHCLIENT_SECRET",
        ),
        ("organizations.default.services", "*", "default"),
        ("start", "30d", "default"),
        ("lag", "10m", "default"),
        ("max_window", "30d", "default"),
        ("schedules.frequent.cron", "*/15 * * * *", "default"),
        ("schedules.frequent.lookback", "1h", "default"),
        ("schedules.settle.cron", "17 3 * * *", "default"),
        ("schedules.settle.lookback", "3d", "default"),
        ("schedules.reconcile.cron", "41 4 * * sun", "default"),
        ("schedules.reconcile.lookback", "14d", "default"),
        ("expand_user", "true", "default"),
        ("allow_redirect", "false", "default"),
        ("partition", "day", "default"),
        ("concurrency", "8", "default"),
        ("max_behind", "6h", "default"),
        ("health_address", "127.0.0.1:9464", "default"),
    ]


def test_a_secret_that_is_not_set_is_shown_as_such() -> None:
    (row,) = [row for row in load(None, IDS).rows() if "client_secret" in row[0]]

    assert row == ("organizations.default.client_secret", "", "not set")
    assert load(None, {}).rows()[2] == ("organizations", "", "not set")


def test_schedules_tell_their_origin_together() -> None:
    text = json.dumps([{"name": "a", "cron": "17 3 * * *", "lookback": "1h"}])

    rows = from_environment(AUDIT_ETL_SCHEDULES=text).rows()

    assert [row for row in rows if row[0].startswith("schedules")] == [
        ("schedules.a.cron", "17 3 * * *", "environment AUDIT_ETL_SCHEDULES"),
        ("schedules.a.lookback", "1h", "environment AUDIT_ETL_SCHEDULES"),
    ]


secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24FF), min_size=8, max_size=20
).map(lambda text: "Zq" + text)


@given(password=secrets, place=st.sampled_from(["postgresql", "mysql", "parquet+s3", "sqlite", ""]))
def test_no_password_of_a_url_is_shown_whatever_is_in_it(password: str, place: str) -> None:
    url = f"{place}://user:{password}@host/data"

    assert password not in masked(url)
    try:
        settings = load(None, {"AUDIT_ETL_DESTINATION": url, "AUDIT_ETL_LEDGER": LAKE_STATE})
    except ConfigurationError as error:
        assert password not in str(error)
    else:
        assert password not in f"{settings!r} {settings} {settings.rows()}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgresql://u@server:p@ss@h/d", "postgresql://u@server:***@h/d"),
        ("postgresql://u:@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://u@h:5432/d?application_name=a",
            "postgresql://u@h:5432/d?application_name=a",
        ),
        (
            "parquet+s3://id:key@bucket/p?Secret_Key=x&region=y",
            "parquet+s3://id:***@bucket/p?Secret_Key=***&region=y",
        ),
        ("sqlite:////srv/a:b@c/audits.db", "sqlite:////srv/a:b@c/audits.db"),
        ("mysql://u@h/d?%70asswd=s3cret&charset=utf8", "mysql://u@h/d?%70asswd=***&charset=utf8"),
        ("postgresql://u@h/d?%2570assword=s3cret", "postgresql://u@h/d?%2570assword=***"),
        (
            "mysql://u@h/d?init_command=SET%20PASSWORD='s3cret=1'&%73sl_ca=/ca.pem",
            "mysql://u@h/d?init_command=***&%73sl_ca=/ca.pem",
        ),
    ],
)
def test_a_url_is_shown_but_for_its_secrets(url: str, shown: str) -> None:
    assert masked(url) == shown


@given(secret=secrets)
def test_no_client_secret_is_shown_whatever_is_in_it(secret: str) -> None:
    variables = IDS | {"GENESYSCLOUD_OAUTHCLIENT_SECRET": secret}

    settings = load(None, variables)

    organization = settings.organization("default")
    assert organization.client_secret.get_secret_value() == secret
    assert secret not in f"{settings!r} {settings} {settings.rows()} {organization!r}"
    with pytest.raises(ConfigurationError) as caught:
        load(None, variables | {"AUDIT_ETL_LAG": "x"})
    assert secret not in str(caught.value)


def test_settings_made_by_hand_hide_a_refused_url_too() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(destination=f"oracle://u:{SECRET}@h/d")

    assert SECRET not in str(caught.value)


def test_settings_are_not_changed_after_they_were_checked() -> None:
    settings = load(None, {})

    with pytest.raises(ValidationError, match="frozen"):
        settings.lag = timedelta(0)
