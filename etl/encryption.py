"""TLS to databases and buckets: verified unless the host is this machine or the user chose less.

A server that offers no TLS, or whose offer is taken out on the way, must not get a password. What
the user sets in the URL, in an option file or in the environment is an explicit choice: it wins,
and `check` warns of it.
"""

import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi

from etl.errors import ConfigurationError

#: What libpq takes by itself for the certificates of the authorities to trust.
_LIBPQ_AUTHORITIES: Final = "~/.postgresql/root.crt"
#: Parameters of PyMySQL that our own context stands in for; SQLAlchemy keeps the others from it.
_REPLACED: Final = ("ssl_key_password", "ssl_verify_cert", "ssl_verify_identity")
_YES: Final = frozenset({"1", "true", "yes", "on"})


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or an address of this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_remote(hosts: str) -> bool:
    """Whether one of `hosts`, separated by commas, is another machine, and no Unix socket."""
    return any(
        host and not host.startswith(("/", "@")) and not is_loopback(host)
        for host in (part.strip().strip("[]") for part in hosts.split(","))
    )


def postgresql_arguments(settings: Mapping[str, str]) -> dict[str, str]:
    """What libpq is given in addition to `settings`, which the user has made."""
    mode = settings.get("sslmode")
    ours = {}
    if mode is None and _is_remote_postgresql(settings):
        mode = ours["sslmode"] = "verify-full"
    known = "sslrootcert" in settings or Path(os.path.expanduser(_LIBPQ_AUTHORITIES)).exists()  # noqa: PTH111 - a user without a home has none
    if mode in {"verify-ca", "verify-full"} and not known:
        ours["sslrootcert"] = ssl.get_default_verify_paths().cafile or certifi.where()
    return ours


def postgresql_caveat(settings: Mapping[str, str]) -> str | None:
    """What is less than verified TLS to a server of PostgreSQL; None if nothing is."""
    mode = settings.get("sslmode", "verify-full")
    if mode == "verify-full" or not _is_remote_postgresql(settings):
        return None
    return f"sslmode={mode}: {_RISKS.get(mode, _RISKS['disable'])}; set sslmode=verify-full"


#: What can be done to a connection to another machine.
_RISKS: Final = {
    "disable": "anyone on the network can read the password and the audits",
    "require": "anyone on the network can pretend to be the server",
    "verify-ca": "any other server with a certificate of the same CA can pretend to be this one",
}


def _is_remote_postgresql(settings: Mapping[str, str]) -> bool:
    return any(_is_remote(settings.get(name, "")) for name in ("host", "hostaddr"))


def mysql_arguments(settings: Mapping[str, str]) -> dict[str, Any]:
    """What PyMySQL is given in place of the `ssl_...` parameters of the URL and its option file.

    Raises:
        ConfigurationError: a certificate or a key that they name cannot be used.
    """
    chosen = any(name.startswith("ssl_") for name in settings)
    if not chosen and not _is_remote_mysql(settings):
        return {}
    if _is_on(settings, "ssl_disabled", default=False):
        return {"ssl_disabled": True}
    return dict.fromkeys(_REPLACED) | {"ssl_disabled": False, "ssl": _context(settings)}


def mysql_caveat(settings: Mapping[str, str]) -> str | None:
    """What is less than verified TLS to a server of MySQL or MariaDB; None if nothing is."""
    if not _is_remote_mysql(settings):
        return None
    if _is_on(settings, "ssl_disabled", default=False):
        return f"ssl_disabled=true: {_RISKS['disable']}; take it out of the URL"
    context = _context(settings)
    if context.verify_mode is ssl.CERT_NONE:
        return f"ssl_verify_cert=false: {_RISKS['require']}; take it out of the URL"
    if not context.check_hostname:
        return f"the host is not compared: {_RISKS['verify-ca']}; set ssl_check_hostname=true"
    return None


def _is_remote_mysql(settings: Mapping[str, str]) -> bool:
    return not settings.get("unix_socket") and _is_remote(settings.get("host", ""))


def _is_on(settings: Mapping[str, str], name: str, *, default: bool = True) -> bool:
    given = settings.get(name)
    return default if given is None else given.lower() in _YES


def _context(settings: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=settings.get("ssl_ca"), capath=settings.get("ssl_capath")
        )
        if "ssl_cert" in settings:
            password = settings.get("ssl_key_password", "")  # else it would be asked for
            context.load_cert_chain(settings["ssl_cert"], settings.get("ssl_key"), password)
        if "ssl_cipher" in settings:
            context.set_ciphers(settings["ssl_cipher"])
    except OSError as error:  # an ssl.SSLError is one, too
        raise ConfigurationError(
            f"the TLS settings of the database URL cannot be used ({error.strerror or error}): "
            "correct ssl_ca, ssl_capath, ssl_cert, ssl_key or ssl_cipher"
        ) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # MySQL's own certificates do not pass it
    names = ("ssl_check_hostname", "ssl_verify_identity", "ssl_verify_cert")
    context.check_hostname = all(_is_on(settings, name) for name in names)
    if not _is_on(settings, "ssl_verify_cert"):
        context.verify_mode = ssl.CERT_NONE
    return context


def require_https(name: str, endpoint: str, environment: Mapping[str, str]) -> None:
    """Return if a bucket may be reached at `endpoint`, which the variable `name` gives.

    Raises:
        ConfigurationError: it is http to another machine, and nothing allows that.
    """
    if _is_plain(endpoint) and not _is_on(environment, "AWS_ALLOW_HTTP", default=False):
        raise ConfigurationError(
            f"{name} is http:// to another machine: {_RISKS['disable']}. Write https://, or set "
            "AWS_ALLOW_HTTP=true if you accept that"
        )


def bucket_caveat(endpoint: str) -> str | None:
    """What is less than verified TLS to a bucket; None if nothing is."""
    if not _is_plain(endpoint):
        return None
    return f"AWS_ALLOW_HTTP: {_RISKS['disable']}; write https:// in the endpoint"


def _is_plain(endpoint: str) -> bool:
    url = urlsplit(endpoint)
    return url.scheme == "http" and _is_remote(url.hostname or "")


def require_certificates(variable: str, file: str) -> None:
    """Return if `file`, which the environment variable names, has certificates in PEM.

    Raises:
        ConfigurationError: it has none, or cannot be read.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        reason = "has no certificate in it"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    else:
        return
    raise ConfigurationError(
        f"{variable}: {file} {reason}; name a file of certificates in PEM, or unset it"
    )
