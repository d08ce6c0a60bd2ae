"""Where an organisation lives: from what a user writes as its region to two addresses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final
from urllib.parse import SplitResult, urlsplit

from etl.encryption import is_loopback
from etl.errors import ConfigurationError

#: AWS region → domain, as the vendor's Python SDK 269.0.0 lists them.
REGIONS: Final[Mapping[str, str]] = {
    "us-east-1": "mypurecloud.com",
    "us-east-2": "use2.us-gov-pure.cloud",
    "us-west-2": "usw2.pure.cloud",
    "ca-central-1": "cac1.pure.cloud",
    "sa-east-1": "sae1.pure.cloud",
    "mx-central-1": "mxc1.pure.cloud",
    "eu-west-1": "mypurecloud.ie",
    "eu-west-2": "euw2.pure.cloud",
    "eu-central-1": "mypurecloud.de",
    "eu-central-2": "euc2.pure.cloud",
    "me-central-1": "mec1.pure.cloud",
    "ap-south-1": "aps1.pure.cloud",
    "ap-northeast-1": "mypurecloud.jp",
    "ap-northeast-2": "apne2.pure.cloud",
    "ap-northeast-3": "apne3.pure.cloud",
    "ap-southeast-1": "apse1.pure.cloud",
    "ap-southeast-2": "mypurecloud.com.au",
    "eusc-de-east-1": "edee1.eusc-pure.cloud",
}

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"({_LABEL}\.)+{_LABEL}")
#: Hosts of a region that users copy from a browser or from another tool's configuration.
_HOST_PREFIX: Final = re.compile(r"(api|login|apps)\.(?=.+\.)")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The two addresses of an organisation, without a slash at their end.

    Attributes:
        login: serves `/oauth/token`.
        api: serves `/api`.
    """

    login: str
    api: str

    @property
    def on_loopback(self) -> bool:
        """Whether the API is served by this very machine: a simulator or a test."""
        return is_loopback(urlsplit(self.api).hostname or "")


def endpoints(region: str, setting: str = "region") -> Endpoints:
    """The addresses behind a region's name, a domain, or a base URL that serves both.

    Args:
        region: `eu-central-1`, `mypurecloud.de` or `http://127.0.0.1:8080`. A domain need not be
            one that is known here: the vendor opens new regions.
        setting: what to call the setting in an error.

    Raises:
        ConfigurationError: it is none of these, or plain http to another machine.
    """
    text = region.strip().rstrip("/").lower()
    if "://" in text:
        return _from_url(urlsplit(region.strip().rstrip("/")), setting)
    domain = REGIONS.get(text) or _HOST_PREFIX.sub("", text, count=1)
    if not _DOMAIN.fullmatch(domain):
        raise ConfigurationError(f"{setting} {region!r} is no region; {_advice(text)}")
    return Endpoints(login=f"https://login.{domain}", api=f"https://api.{domain}")


def _from_url(url: SplitResult, setting: str) -> Endpoints:
    host = url.hostname or ""
    if url.username is not None or url.query or url.fragment:
        raise ConfigurationError(f"{setting} must be an address alone: no user, query or fragment")
    try:
        port = url.port
    except ValueError:
        port = 0
    if url.scheme not in {"http", "https"} or not host or port == 0:
        raise ConfigurationError(
            f"{setting} is no address; write a region such as eu-central-1, a domain such as "
            "mypurecloud.de, or a base URL such as http://127.0.0.1:8080"
        )
    if url.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{setting} would send the client secret to {host} unencrypted; write https://, plain "
            "http is for this machine only"
        )
    if _HOST_PREFIX.match(host) and port is None:
        return endpoints(host, setting)
    base = f"{url.scheme}://{url.netloc.lower()}{url.path}"
    return Endpoints(login=base, api=base)


def _advice(text: str) -> str:
    nearest = get_close_matches(text.replace("_", "-"), [*REGIONS, *REGIONS.values()], n=1)
    question = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{question}Write one of {', '.join(REGIONS)}, or a domain such as mypurecloud.de"
