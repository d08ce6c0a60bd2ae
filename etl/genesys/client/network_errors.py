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
from etl.genesys.client.failures import Mishap, shortened


def mishap_of(operation: str, url: str, error: OSError) -> Mishap:
    """What to tell of a request that came to nothing. Of `url`, only the host is told.

    Raises:
        ConfigurationError: it is our environment that is at fault.
    """
    host = urlsplit(url).hostname or "the host"
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL):
        raise ConfigurationError(
            f"{host} cannot be asked through the proxy that is set; see HTTPS_PROXY and ALL_PROXY"
        ) from None
    if not isinstance(error, requests.RequestException):
        raise _unreadable_bundle() from None
    _require_files(_root_of(error))
    reason, remedy = _told(error)
    return Mishap(operation, host, reason, remedy)


#: A variable that Python has TLS write its keys by.
_KEY_LOG: Final = "SSLKEYLOGFILE"


#: What OpenSSL says of a file that holds no certificate, and of an answer that is no TLS.
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
    """What to say of the certificates that `requests` takes, which cannot be read."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    named = next((f"{name}: {os.environ[name]}" for name in names if os.getenv(name)), "certifi")
    return ConfigurationError(
        f"{named} has no certificate that can be read; name a file of certificates in PEM, or "
        "unset it"
    )


#: How `http.client` tells of a proxy that does not connect us: its status, and its own words.
_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})")


def _told(error: requests.RequestException) -> tuple[str, str]:
    """What happened, about the host, and what to do about it."""
    root = _root_of(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return _of_proxy(root)
    network = "see the network, and HTTPS_PROXY if this machine needs a proxy"
    match root:
        case ssl.SSLError():
            return _of_server(root)
        case socket.gaierror():
            return "has no address", "check the region, and HTTPS_PROXY if this machine needs one"
        case TimeoutError():
            return "did not answer in time", network
        case OSError(strerror=str(text)):
            return shortened(f"cannot be reached: {text}"), network
        case _:
            return "broke off its answer, or gave one that is not HTTP", network


def _root_of(error: BaseException) -> BaseException:
    """What began it: of an error of TLS behind a proxy, urllib3 keeps that as an argument alone."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    inner = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) else None
    return inner if isinstance(inner, ssl.SSLError) else error


def _of_server(root: ssl.SSLError) -> tuple[str, str]:
    """What is wrong with the TLS of the organisation, or of what stands before it."""
    if root.reason in _NO_TLS:
        return "speaks no TLS there", (
            "write http:// only for a simulator on this machine; else correct the port, or "
            "HTTPS_PROXY"
        )
    return f"cannot be trusted: {_of_tls(root)}", (
        "if a private CA signs on the way, as a proxy's or a firewall's, set "
        "REQUESTS_CA_BUNDLE to a file with its certificate"
    )


def _of_proxy(root: BaseException) -> tuple[str, str]:
    """What a proxy, or the way to it, has come to."""
    if isinstance(root, ssl.SSLError):
        return f"cannot be asked, for the proxy cannot be trusted: {_of_tls(root)}", (
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


def _of_tls(error: ssl.SSLError) -> str:
    """What is wrong with a certificate, or with the TLS before one."""
    words = getattr(error, "verify_message", "") or error.reason or "TLS failed"
    return shortened(str(words))
