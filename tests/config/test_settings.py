import re
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from etl.config import OrganizationSettings, Settings, example, load, setting_rows
from etl.errors import ConfigurationError
from etl.resources import resource_path
from tests.support.configurations import CREDENTIALS, SECRET, from_toml, origins


def test_without_file_and_variables_the_defaults_are_those_of_the_contract() -> None:
    settings = load(None, {})

    assert settings.model_dump() == {
        "destination": "sqlite:///audits.db",
        "ledger": "sqlite:///audits.db",
        "organizations": {},
        "start": timedelta(days=30),
        "lag": timedelta(minutes=10),
        "max_window": timedelta(days=30),
        "schedules": tuple(
            {
                "name": name,
                "cron": cron,
                "interval": None,
                "lookback": timedelta(hours=lookback),
                "early": False,
            }
            for name, cron, lookback in (
                ("frequent", "*/15 * * * *", 1),
                ("settle", "17 3 * * *", 3 * 24),
                ("reconcile", "41 4 * * sun", 14 * 24),
            )
        ),
        "expand_user": True,
        "allow_redirect": False,
        "partition": "day",
        "concurrency": 8,
        "max_behind": timedelta(hours=6),
        "health_address": "127.0.0.1:9464",
    }
    assert set(origins(settings).values()) == {"default", "not set"}


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert tomllib.loads(example()) == {}


def test_the_example_with_every_line_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    uncommented = re.sub(r"^#(?=[a-z\[])", "", example(), flags=re.MULTILINE)

    settings = from_toml(tmp_path, uncommented)

    organization = OrganizationSettings()
    assert settings.model_dump() == Settings(organizations={"default": organization}).model_dump()
    tables = tomllib.loads(uncommented)
    keys = set(tables) - {"organizations", "schedules"}
    keys |= {f"organizations.NAME.{key}" for key in tables["organizations"]["default"]}
    keys |= {f"schedules.{key}" for schedule in tables["schedules"] for key in schedule}
    described = {key for key, _, _ in setting_rows()}
    assert keys == described - {"organizations.NAME.client_secret"} | {
        "organizations.NAME.client_secret_file"
    }


def test_the_example_tells_every_meaning_in_the_words_of_describe() -> None:
    prose = " ".join(re.sub(r"^# ?", "", example(), flags=re.MULTILINE).split())

    assert [key for key, _, meaning in setting_rows() if meaning not in prose] == []
    assert all(meaning.endswith(".") for _, _, meaning in setting_rows())


def test_the_example_is_the_file_of_the_checkout() -> None:
    assert example() == (resource_path("config") / "audit-etl.toml").read_text()
    assert max(map(len, example().splitlines())) <= 100


def test_describe_has_every_key_and_its_default_in_the_order_of_the_contract() -> None:
    assert [(key, default) for key, default, _ in setting_rows()] == [
        ("destination", "sqlite:///audits.db"),
        (
            "ledger",
            "the destination if it is SQL, sqlite:///<lake>/_state.db for a local lake, required "
            "for a remote one",
        ),
        ("organizations.NAME.region", "env GENESYSCLOUD_REGION"),
        ("organizations.NAME.client_id", "env GENESYSCLOUD_OAUTHCLIENT_ID"),
        ("organizations.NAME.client_secret", "env GENESYSCLOUD_OAUTHCLIENT_SECRET"),
        ("organizations.NAME.services", "*"),
        ("start", "30d"),
        ("lag", "10m"),
        ("max_window", "30d"),
        ("schedules.name", "frequent, settle, reconcile"),
        ("schedules.cron", "*/15 * * * *, 17 3 * * *, 41 4 * * sun"),
        ("schedules.interval", "not set"),
        ("schedules.lookback", "1h, 3d, 14d"),
        ("schedules.early", "false"),
        ("expand_user", "true"),
        ("allow_redirect", "false"),
        ("partition", "day"),
        ("concurrency", "8"),
        ("max_behind", "6h"),
        ("health_address", "127.0.0.1:9464"),
    ]


def test_a_configuration_of_defaults_is_read_without_the_slow_libraries() -> None:
    script = (
        "import sys, etl.config\n"
        "etl.config.load(None, {'AUDIT_ETL_DESTINATION': 'postgresql://h/d'})\n"
        "slow = {'sqlalchemy', 'apscheduler', 'alembic', 'requests', 'pyarrow'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_credentials_the_configuration_loads_and_tells_what_is_missing() -> None:
    settings = load(None, {})

    with pytest.raises(ConfigurationError) as caught:
        settings.require_credentials()
    assert str(caught.value) == (
        "organisation default lacks "
        "region (set GENESYSCLOUD_REGION, AUDIT_ETL_ORGANIZATIONS__DEFAULT__REGION "
        "or organizations.default.region), "
        "client_id (set GENESYSCLOUD_OAUTHCLIENT_ID, "
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_ID or organizations.default.client_id), "
        "client_secret (set GENESYSCLOUD_OAUTHCLIENT_SECRET, "
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_SECRET "
        "or organizations.default.client_secret_file)"
    )
    with pytest.raises(ConfigurationError, match="organisation default lacks region"):
        settings.organization("acme")


def test_each_organisation_that_lacks_something_has_a_line(tmp_path: Path) -> None:
    toml = '[organizations.default]\n[organizations.acme]\nregion = "us-east-1"\n'
    variables = CREDENTIALS | {"AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_SECRET": SECRET}
    del variables["GENESYSCLOUD_REGION"]

    settings = from_toml(tmp_path, toml, variables)

    with pytest.raises(ConfigurationError) as caught:
        settings.require_credentials()
    assert str(caught.value).split("\n") == [
        "organisation default lacks region (set GENESYSCLOUD_REGION, "
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__REGION or organizations.default.region)",
        "organisation acme lacks client_id (set AUDIT_ETL_ORGANIZATIONS__ACME__CLIENT_ID or "
        "organizations.acme.client_id)",
    ]
    with pytest.raises(ConfigurationError, match="organisation acme lacks client_id"):
        settings.organization("acme")


def test_with_credentials_an_organisation_is_given_and_an_unknown_one_is_not() -> None:
    settings = load(None, CREDENTIALS)

    settings.require_credentials()
    assert settings.organization("default") is settings.organizations["default"]
    with pytest.raises(ConfigurationError, match="no organisation 'acme'; there are: default"):
        settings.organization("acme")
