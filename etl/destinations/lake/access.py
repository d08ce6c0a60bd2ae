"""What the environment says of a bucket: where it is, and how it is asked. Pure, but for a CA file.

The client reads the AWS variables by itself, too. What is decided here is handed to it, so that
it cannot take one for something else: it has other words for yes, and panics over a carriage
return.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from etl.encryption import bucket_caveat, is_loopback, require_certificates, require_https
from etl.errors import ConfigurationError

#: What counts as nothing around a value: a carriage return comes with files from Windows.
_BLANKS: Final = " \t\r\n"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{1,254}", re.ASCII)
_REGION: Final = re.compile(r"[\w-]*", re.ASCII)
_ENDPOINT: Final = re.compile(
    r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?(/[\w./-]*)?", re.ASCII | re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"\[|[\d.]+(?![\w.-])", re.ASCII)
#: Variables that name an endpoint, the first that counts first.
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_TOKEN: Final = "AWS_SESSION_TOKEN"
_VIRTUAL: Final = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"
_SWITCH: Final = {"": False} | {
    word: on
    for on, words in ((True, "true 1 yes on"), (False, "false 0 no off"))
    for word in words.split()
}


@dataclass(frozen=True, slots=True)
class Access:
    """How a bucket is asked.

    Attributes:
        region: that requests are signed for.
        endpoint: as the client takes it; empty for AWS's own.
        virtual: whether the host names the bucket, and not the path.
        keys: an access key and its secret; None where a role gives them.
        token: that belongs to `keys`; empty if none does.
        authorities: certificates that are trusted besides the system's; empty for none.
        proxy: the variable whose proxy is asked for the bucket; empty if none is.
    """

    region: str
    endpoint: str
    virtual: bool
    keys: tuple[str, str] | None = field(repr=False)
    token: str = field(repr=False)
    authorities: bytes = field(repr=False)
    proxy: str

    @property
    def on_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        return is_loopback(urlsplit(self.endpoint).hostname or "")


def access_to(name: str, environment: Mapping[str, str]) -> Access:
    """How the bucket `name` is asked in this environment.

    Raises:
        ConfigurationError: a variable cannot be used, or the name cannot be a bucket's.
    """
    given = _stripped(environment)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"destination: {name!r} cannot be the name of a bucket")
    region = _region(given)
    endpoint = _endpoint(given)
    if not endpoint and any(variable in given for variable in _ENDPOINTS):
        endpoint = f"https://s3.{region}.amazonaws.com"  # the client takes an empty one for a URL
    virtual = _switched(_VIRTUAL, given)
    return Access(
        region=region,
        endpoint=_with_bucket(name, endpoint) if virtual else endpoint,
        virtual=virtual,
        keys=_keys(given),
        token=_word(_TOKEN, given),
        authorities=_authorities(given.get("AWS_CA_BUNDLE", "")),
        proxy=_proxy(endpoint or f"https://s3.{region}.amazonaws.com", given),
    )


def caveat(environment: Mapping[str, str]) -> str | None:
    """What the user has chosen in place of verified TLS; None if nothing."""
    return bucket_caveat(_endpoint(_stripped(environment)))


def no_authorities(environment: Mapping[str, str]) -> str:
    """Why the client has found no certificates of the system's: it takes OpenSSL's variables."""
    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    named = [f"{name}={environment[name]}" for name in variables if environment.get(name)]
    if not named:
        return "this machine has no CA certificates; name a file of them in SSL_CERT_FILE"
    return f"no certificate in PEM is in {' or '.join(named)}; correct or unset it"


def _stripped(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip(_BLANKS) for name, value in environment.items()}


def _word(variable: str, given: Mapping[str, str]) -> str:
    """A value that goes into a request; never shown."""
    value = given.get(variable, "")
    if not value.isprintable():
        raise ConfigurationError(
            f"{variable} has a control character in it: give it again, on one line"
        )
    return value


def _switched(variable: str, given: Mapping[str, str]) -> bool:
    value = given.get(variable, "")
    if value.lower() not in _SWITCH:
        raise ConfigurationError(f"{variable} must be true or false, not {value!r}")
    return _SWITCH[value.lower()]


def _region(given: Mapping[str, str]) -> str:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        region = given.get(variable, "")
        if not _REGION.fullmatch(region):
            raise ConfigurationError(
                f"{variable} must be a region such as eu-central-1, not {region!r}"
            )
        if region:
            return region
    return "us-east-1"


def _keys(given: Mapping[str, str]) -> tuple[str, str] | None:
    """The access key and its secret. A profile is refused.

    The client would pass over a profile and use other credentials than the user has named.
    """
    key, secret = (_word(variable, given) for variable in _KEYS)
    if key and secret:
        return key, secret
    if given.get("AWS_PROFILE") and not key:
        raise ConfigurationError(
            "AWS_PROFILE is set, but profiles are not read: give what `aws configure "
            "export-credentials --format env` prints, as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
            "and AWS_SESSION_TOKEN, or unset it to use the role of this machine or container"
        )
    for variable, value in zip(_KEYS, (key, secret), strict=True):
        if not value and any(other in given for other in _KEYS):
            raise ConfigurationError(
                f"{variable} is empty or not set: set {' and '.join(_KEYS)}, or unset both to use "
                "the role of this machine or container"
            )
    return None


def _endpoint(given: Mapping[str, str]) -> str:
    """The endpoint that the AWS variables name; empty for AWS itself."""
    for variable in _ENDPOINTS:
        value = given.get(variable, "")
        if value:
            endpoint = value if "://" in value else f"https://{value}"
            if not _is_url(endpoint):
                raise ConfigurationError(
                    f"{variable} must be a URL such as https://s3.example.com:9000"
                )
            require_https(variable, endpoint, given)
            return endpoint.rstrip("/")
    return ""


def _is_url(endpoint: str) -> bool:
    """Whether the client can make URLs of it (it panics otherwise)."""
    try:
        _ = urlsplit(endpoint).port
    except ValueError:  # the port is out of range, or no address stands in brackets
        return False
    return _ENDPOINT.fullmatch(endpoint) is not None


def _with_bucket(name: str, endpoint: str) -> str:
    """The endpoint with the bucket in its host, as the client then takes it: it adds none."""
    scheme, _, place = endpoint.partition("://")
    if not place or place.startswith(f"{name}."):
        return endpoint
    if _ADDRESS.match(place):
        raise ConfigurationError(
            f"{_VIRTUAL} puts the bucket's name before the host, and {endpoint} has an address "
            "there: name the host, or unset it"
        )
    return f"{scheme}://{name}.{place}"


def _authorities(bundle: str) -> bytes:
    if not bundle:
        return b""
    require_certificates("AWS_CA_BUNDLE", bundle)
    return Path(bundle).read_bytes()


def _proxy(endpoint: str, given: Mapping[str, str]) -> str:
    """The variable whose proxy the client asks for `endpoint`; empty if it asks none."""
    url = urlsplit(endpoint)
    host, own = url.hostname or "", f"{url.scheme}_proxy"
    excluded = given.get("NO_PROXY", given.get("no_proxy", ""))
    if is_loopback(host) or proxy_bypass_environment(host, {"no": excluded}):
        return ""
    names = (own.upper(), own, "ALL_PROXY", "all_proxy")
    return next((name for name in names if given.get(name)), "")
