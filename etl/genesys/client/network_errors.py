"""Explain a request that got no answer: the network, TLS, a proxy, or a file of our environment."""

import os
import re
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

from etl.errors import ConfigurationError
from etl.genesys.client.failures import NoAnswer, shortened


def no_answer_of(operation: str, url: str, error: OSError) -> NoAnswer:
    """Explain a request without an answer. Only the host of `url` is shown.

    Raises:
        ConfigurationError: a setting of our environment causes it.
    """
    host = urlsplit(url).hostname or "the host"
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL):
        raise ConfigurationError(
            f"{host} cannot be asked through the proxy that is set; see HTTPS_PROXY and ALL_PROXY"
        ) from None
    if not isinstance(error, requests.RequestException):
        raise _unreadable_bundle() from None
    _require_files(_root_cause(error))
    reason, remedy = _reason_and_remedy(error)
    return NoAnswer(operation, host, reason, remedy)


#: The variable that makes Python write TLS keys to a file.
_KEY_LOG: Final = "SSLKEYLOGFILE"
#: OpenSSL's reasons for a file without a certificate, and for an answer that is not TLS.
_NO_CERTIFICATE: Final = "NO_CERTIFICATE_OR_CRL_FOUND"
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


def _require_files(root: BaseException) -> None:
    """Raise ConfigurationError if a request failed for a file that our environment names."""
    if isinstance(root, OSError) and root.filename and root.filename == os.getenv(_KEY_LOG):
        raise ConfigurationError(
            f"{_KEY_LOG}: {root.filename} cannot be written: {root.strerror}; name another file, "
            "or unset it"
        ) from None
    if isinstance(root, ssl.SSLError) and root.reason == _NO_CERTIFICATE:
        raise _unreadable_bundle() from None


def _unreadable_bundle() -> ConfigurationError:
    """Return the error for a CA bundle that cannot be read."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    named = next((f"{name}: {os.environ[name]}" for name in names if os.getenv(name)), "certifi")
    return ConfigurationError(
        f"{named} has no certificate that can be read; name a file of certificates in PEM, or "
        "unset it"
    )


#: The text of `http.client` for a proxy that refuses CONNECT, with its status.
_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})")


def _reason_and_remedy(error: requests.RequestException) -> tuple[str, str]:
    """Return what happened, with the host as its subject, and a remedy."""
    root = _root_cause(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return _proxy_failure(root)
    network = "see the network, and HTTPS_PROXY if this machine needs a proxy"
    match root:
        case ssl.SSLError():
            return _server_tls(root)
        case socket.gaierror():
            return "has no address", "check the region, and HTTPS_PROXY if this machine needs one"
        case TimeoutError():
            return "did not answer in time", network
        case OSError(strerror=str(text)):
            return shortened(f"cannot be reached: {text}"), network
        case _:
            return "broke off its answer, or gave one that is not HTTP", network


def _root_cause(error: BaseException) -> BaseException:
    """Return the first cause. urllib3 keeps a TLS error behind a proxy only as an argument."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    inner = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) else None
    return inner if isinstance(inner, ssl.SSLError) else error


def _server_tls(root: ssl.SSLError) -> tuple[str, str]:
    """Explain a TLS error of the organisation, or of a firewall in front of it."""
    if root.reason in _NO_TLS:
        return "speaks no TLS there", (
            "write http:// only for a simulator on this machine; else correct the port, or "
            "HTTPS_PROXY"
        )
    return f"cannot be trusted: {_tls_reason(root)}", (
        "if a private CA signs on the way, as a proxy's or a firewall's, set "
        "REQUESTS_CA_BUNDLE to a file with its certificate"
    )


def _proxy_failure(root: BaseException) -> tuple[str, str]:
    """Explain a failure of the proxy, or of the way to it."""
    if isinstance(root, ssl.SSLError):
        return f"cannot be asked, for the proxy cannot be trusted: {_tls_reason(root)}", (
            "set REQUESTS_CA_BUNDLE to a file with the CA of the proxy, or write http:// in "
            "HTTPS_PROXY if it takes no TLS"
        )
    refused = _TUNNEL.search(str(root))
    if refused is None:
        return "cannot be reached through the proxy", "see HTTPS_PROXY and NO_PROXY"
    if refused[1] == "407":
        return "cannot be reached: the proxy asks for a user and a password (407)", (
            "write them into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT, with @ as %40"
        )
    if refused[1] == "403":
        return "cannot be reached: the proxy forbids it (403)", "have it allowed in the proxy"
    return f"cannot be reached: the proxy answers {refused[1]}", (
        "see that the proxy finds and reaches that host"
    )


def _tls_reason(error: ssl.SSLError) -> str:
    """Return the reason of a TLS error on one line."""
    words = getattr(error, "verify_message", "") or error.reason or "TLS failed"
    return shortened(str(words))
