"""What an object store refuses, and why it cannot be asked, in one line without secrets."""

import re
from typing import Final

_CREDENTIALS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN if they are temporary"
)
_PERMISSION: Final = (
    "allow these credentials to list the bucket and to get and put objects in it (s3:ListBucket, "
    "s3:GetObject, s3:PutObject)"
)
_REGION: Final = "set AWS_REGION to the bucket's region"
_ROOM: Final = "make room in the store, or raise its quota"
#: What to do, by a part of the store's code for the error, or else of the HTTP status.
_REMEDIES: Final = {
    "Token": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "RequestTimeTooSkewed": "set this machine's clock",
    "NoSuchBucket": "create the bucket, or correct the setting destination",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "Quota": _ROOM,
    "StorageFull": _ROOM,
    "507": _ROOM,
    "412": "another process has replaced it meanwhile: run the same command again",
    "NotImplemented": "use a store that supports multipart uploads and copies",
    "401": _CREDENTIALS,
    "403": _PERMISSION,
}
_STATUS: Final = re.compile(r"status code: (\d{3}[\w ]*)")
_CODE: Final = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")
_URL: Final = re.compile(r"(https?://[^/\s]+)\S*")
#: What the client's nested errors say in words; the innermost comes last.
_CAUSE: Final = re.compile(r'(?:message|error): "([^"]*)"')
_TLS: Final = re.compile(r"error: (Invalid\w+)\(\s*(\w+)")


class StoreError(OSError):
    """What the store said, or why it could not be asked, and what to do. One line, no secrets."""


class Replaced(StoreError):
    """The object is no longer the one that was read: a writer has put another in its place."""


def reason_of(error: Exception, proxy: str = "") -> str:
    """An error of obstore's in one line: the store's own words, if it has answered.

    The text of the error quotes the whole answer, in which AWS repeats an expired token, and URLs
    with their queries. Neither is passed on. `proxy` is the variable that names the proxy on the
    way to the store, empty if there is none.
    """
    first, _, nested = str(error).partition("\n\nDebug source:")
    url = _URL.search(first)
    host = url[1] if url else "the store"
    if "169.254." in host:
        return f"no credentials were found; {_CREDENTIALS}"
    return _answer(first) or _silence(host, first, nested, proxy) or _plain(first)


def _answer(text: str) -> str:
    """What the store answered; empty if it did not."""
    found = [pattern.search(text) for pattern in (_STATUS, _CODE, _MESSAGE)]
    words = [" ".join(match[1].split()) for match in found if match]
    known = (f"; {remedy}" for part, remedy in _REMEDIES.items() if part in " ".join(words[:2]))
    return ": ".join(filter(None, words))[:300] + next(known, "") if words else ""


def _silence(host: str, text: str, nested: str, proxy: str) -> str:
    """Why there is no answer; empty if there is one."""
    way = f" through the proxy that {proxy} names" if proxy else ""
    if "kind: Timeout" in nested:
        return f"{host} did not answer in time{way}"
    if "Tunnel" in nested:
        return (
            f"{host} cannot be reached: the proxy that {proxy or 'HTTPS_PROXY'} names opens no "
            "connection to it; give it a user and a password (http://USER:PASSWORD@HOST:PORT, with "
            "@ as %40), allow that host there, or name it in NO_PROXY"
        )
    if "kind: Connect" in nested:
        causes = _CAUSE.findall(nested)
        if causes and proxy:
            remedy = "correct it, or name that host in NO_PROXY"
            return f"{host} cannot be reached{way}: {causes[-1]}; {remedy}"
        causes = causes or [": ".join(told) for told in _TLS.findall(nested)]
        return f"{host} cannot be reached: {causes[-1] if causes else 'no connection'}"
    if "configured region" in text:
        return f"{host} does not have the bucket; {_REGION}"
    return f"the connection to {host} was lost" if "HTTP error" in text else ""


def _plain(text: str) -> str:
    return " ".join(_URL.sub(r"\1", text.removeprefix("Generic S3 error: ")).split())[:300]
