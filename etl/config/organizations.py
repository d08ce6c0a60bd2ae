"""The settings of one organisation, and what it still needs before it can be asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from etl.config import values
from etl.errors import ConfigurationError
from etl.model import ALL_SERVICES

DEFAULT: Final = "default"

#: The names that the vendor's own Terraform provider uses; they fill organisation `default`.
VENDOR_VARIABLES: Final = {
    "GENESYSCLOUD_REGION": "region",
    "GENESYSCLOUD_OAUTHCLIENT_ID": "client_id",
    "GENESYSCLOUD_OAUTHCLIENT_SECRET": "client_secret",
}

FROZEN: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What `setting_rows` says is the default of a setting whose default is no value."""

    text: str


def _variable(key: str) -> Otherwise:
    names = {field: variable for variable, field in VENDOR_VARIABLES.items()}
    return Otherwise(f"env {names[key]}")


class OrganizationSettings(BaseModel):
    """One organisation; a text that is empty is not set."""

    model_config = FROZEN

    region: Annotated[str, AfterValidator(values.region), _variable("region")] = Field(
        default="",
        description="Where the organisation lives: an AWS region (us-east-1), a domain "
        "(mypurecloud.de), or a base URL that serves both /oauth/token and /api.",
    )
    client_id: Annotated[str, _variable("client_id")] = Field(
        default="", description="The id of an OAuth client with the grant Client Credentials."
    )
    client_secret: Annotated[SecretStr, _variable("client_secret")] = Field(
        default=SecretStr(""),
        description="Its secret: from the environment, or from the file that client_secret_file "
        "names.",
    )
    services: Annotated[
        tuple[str, ...], BeforeValidator(values.listed), AfterValidator(values.services)
    ] = Field(
        default=(ALL_SERVICES,),
        description="* asks for all services in one query; names make one stream of each.",
    )

    def lacking(self, name: str) -> list[str]:
        """What this organisation, called `name`, needs before it can be asked, and how to set it.

        Each is `KEY (set ... or ...)`.
        """
        unset = {
            "region": not self.region,
            "client_id": not self.client_id,
            "client_secret": not self.client_secret.get_secret_value(),
        }
        return [_remedy(name, key) for key, missing in unset.items() if missing]


def _remedy(name: str, key: str) -> str:
    vendors = [variable for variable, field in VENDOR_VARIABLES.items() if field == key]
    variable = f"AUDIT_ETL_ORGANIZATIONS__{name.upper()}__{key.upper()}"
    in_toml = f"{key}_file" if key == "client_secret" else key
    ways = [*(vendors if name.lower() == DEFAULT else []), variable]
    return f"{key} (set {', '.join(ways)} or organizations.{name}.{in_toml})"


def require_credentials(organizations: Mapping[str, OrganizationSettings]) -> None:
    """Return if each of `organizations` has a region and credentials.

    Raises:
        ConfigurationError: it says which variables or keys to set, one organisation a line.
    """
    lines = [
        f"organisation {name} lacks {', '.join(lacking)}"
        for name, organization in organizations.items()
        if (lacking := organization.lacking(name))
    ]
    if lines:
        raise ConfigurationError("\n".join(lines))
