from datetime import timedelta
from pathlib import Path

import pytest

from etl.config import load
from tests.support.configurations import CREDENTIALS, SECRET, from_toml, origins, refused


@pytest.mark.parametrize(
    ("content", "value"),
    [
        *(("s3", "s3"), ("s3\n", "s3"), ("s3\r\n", "s3"), (" s3 \t\r\n\n", "s3")),
        *(("s 3\r", "s 3"), ("\ufeffs3\r\n", "s3")),
    ],
)
def test_a_file_gives_its_content_without_blanks_around_it_or_a_mark(
    tmp_path: Path, content: str, value: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    toml = f'[organizations.default]\nclient_secret_file = "{file}"\n'
    ours = "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_SECRET_FILE"
    vendors = "GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE"
    key = "organizations.default.client_secret"

    found = {
        origins(settings)[key]: settings.organizations["default"].client_secret.get_secret_value()
        for settings in (
            from_toml(tmp_path, toml),
            load(None, {ours: str(file)}),
            load(None, {vendors: str(file)}),
        )
    }

    assert found == {
        f"file named by client_secret_file in {tmp_path / 'c.toml'}": value,
        f"file named by {ours}": value,
        f"file named by {vendors}": value,
    }


def test_any_setting_may_be_in_a_file(tmp_path: Path) -> None:
    for name, content in (("d", "postgres://u:p@h/d\n"), ("l", "3m\n"), ("s", "A,B\n")):
        (tmp_path / name).write_text(content)

    settings = from_toml(
        tmp_path,
        f'lag_file = "{tmp_path}/l"\n[organizations.x]\nservices_file = "{tmp_path}/s"',
        {"AUDIT_ETL_DESTINATION_FILE": f"{tmp_path}/d"},
    )

    assert settings.destination == "postgresql+psycopg://u:p@h/d"
    assert settings.lag == timedelta(minutes=3)
    assert settings.organizations["x"].services == ("A", "B")


def test_a_file_that_a_variable_overrides_need_not_be_there(tmp_path: Path) -> None:
    toml = '[organizations.default]\nclient_secret_file = "/nowhere/secret"\n'

    settings = from_toml(tmp_path, toml, CREDENTIALS)

    assert settings.organization("default").client_secret.get_secret_value() == SECRET


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    variables = {
        "AUDIT_ETL_DESTINATION_FILE": "/nowhere/url",
        "AUDIT_ETL_LEDGER": "sqlite:///other.db",
        "AUDIT_ETL_LAG_FILE": str(tmp_path),
        "AUDIT_ETL_START_FILE": f"{tmp_path}/empty",
        "AUDIT_ETL_PARTITION_FILE": f"{tmp_path}/binary",
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_SECRET_FILE": SECRET,
    }

    assert refused(tmp_path, 'max_window_file = "/\\u0000"\nexpand_user_file = 1', variables) == [
        "FILE, line 1: max_window: the file /\0 cannot be read: embedded null byte",
        "FILE, line 2: expand_user: must be the path of a file, as text",
        "AUDIT_ETL_DESTINATION_FILE: the file /nowhere/url cannot be read: "
        "No such file or directory",
        f"AUDIT_ETL_LAG_FILE: the file {tmp_path} cannot be read: Is a directory",
        f"AUDIT_ETL_START_FILE: the file {tmp_path}/empty is empty",
        f"AUDIT_ETL_PARTITION_FILE: the file {tmp_path}/binary cannot be read: "
        "it is UTF-16 text or no text: save it as UTF-8",
        "AUDIT_ETL_ORGANIZATIONS__DEFAULT__CLIENT_SECRET_FILE: the file that it names cannot be "
        "read: No such file or directory",
    ]


def test_a_setting_and_its_file_in_one_source_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of the file")
    toml = f'lag = "1m"\nlag_file = "{file}"\n'
    variables = {
        "AUDIT_ETL_DESTINATION": "sqlite:///a.db",
        "AUDIT_ETL_DESTINATION_FILE": str(file),
        "AUDIT_ETL_PARTITION": "day",
        "audit_etl_partition": "hour",
        "GENESYSCLOUD_OAUTHCLIENT_SECRET": SECRET,
        "GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE": str(file),
    }

    assert refused(tmp_path, toml, variables) == [
        "FILE, line 2: lag_file: lag is set already by FILE; keep one of them",
        "GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE: organizations.default.client_secret is set already "
        "by environment GENESYSCLOUD_OAUTHCLIENT_SECRET; keep one of them",
        "AUDIT_ETL_DESTINATION_FILE: destination is set already by environment "
        "AUDIT_ETL_DESTINATION; keep one of them",
        "audit_etl_partition: partition is set already by environment AUDIT_ETL_PARTITION; "
        "keep one of them",
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_secret_in_utf_16_is_refused_by_name(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET.encode(encoding))

    assert refused(tmp_path, f'[organizations.default]\nclient_secret_file = "{file}"', {}) == [
        f"FILE, line 2: organizations.default.client_secret: the file {file} cannot be read: it is "
        "UTF-16 text or no text: save it as UTF-8"
    ]


def test_a_variable_from_a_file_of_windows_is_read_as_meant() -> None:
    variables = {name: f"{value}\r" for name, value in CREDENTIALS.items()}

    organization = load(None, variables | {"AUDIT_ETL_LAG": " 5m\r\n"}).organization("default")

    assert organization == load(None, CREDENTIALS).organization("default")
