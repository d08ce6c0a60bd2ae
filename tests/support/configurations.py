"""Configurations as tests make them, and the lines with which one is refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from etl.config import Settings, load
from etl.errors import ConfigurationError

#: Shown nowhere: `refused` looks for it in every message.
SECRET = "hunter2-Zq81"
LAKE_STATE = "sqlite:////srv/state.db"
IDS = {"GENESYSCLOUD_REGION": "us-east-1", "GENESYSCLOUD_OAUTHCLIENT_ID": "id-1"}
CREDENTIALS = IDS | {"GENESYSCLOUD_OAUTHCLIENT_SECRET": SECRET}


def from_environment(**variables: str) -> Settings:
    return load(None, variables)


def from_toml(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    path = folder / "c.toml"
    path.write_text(text)
    return load(path, environment or {})


def origins(settings: Settings) -> dict[str, str]:
    """Where the value of each dotted key came from."""
    return {key: origin for key, _, origin in settings.rows()}


def refused(
    folder: Path | None = None, toml: str = "", environment: Mapping[str, str] | None = None
) -> list[str]:
    """The lines of the refusal, with the file's path as FILE."""
    with pytest.raises(ConfigurationError) as caught:
        if folder is None:
            load(None, environment or {})
        else:
            from_toml(folder, toml, environment)
    assert SECRET not in str(caught.value)
    return str(caught.value).replace(str((folder or Path("/")) / "c.toml"), "FILE").split("\n")
