"""Whatever a host answers, an operation gives a value or an error of ours, and shows no secret."""

import gzip
import logging
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.errors import AuditEtlError
from etl.genesys.audits import AuditApi
from etl.genesys.client.retries import Patience
from etl.genesys.query import AuditSource
from etl.source import Asked
from tests.support.malformed import ROUGH, SHAPES, damaged, fragments, in_bytes, mutated, texts
from tests.support.samples import hours
from tests.support.scripted_server import SECRET, Organization, Reply, Seen, Time, connected

WINDOW = hours(0, 1)
BRIEF = Patience(
    connect_seconds=2,
    read_seconds=2,
    outage_seconds=10,
    brief_tries=2,
    rate_seconds=10,
    poll_seconds=30,
)
#: What an answer holds where it quotes the request's credentials, or names a place to go on at.
CREDENTIALS, HERE = "<credentials>", "<here>"
BASIC = b64encode(f"the-client:{SECRET}".encode()).decode()
SIGNATURE = "d0ubtful"

OPERATIONS: dict[str, Callable[[AuditSource, AuditApi], object]] = {
    "sign in": lambda source, _: source.sign_in(),
    "service mapping": lambda source, _: source.service_mapping(),
    "realtime services": lambda source, _: source.recent.services(),
    "ask": lambda source, _: source.ask(WINDOW, "Quality"),
    "pages": lambda source, _: list(source.pages(Asked(WINDOW, "q1", "Queued"))),
    "pages of a finished query": lambda source, _: list(
        source.pages(Asked(WINDOW, "q1", "Succeeded"))
    ),
    "glimpse": lambda source, _: source.recent.page(WINDOW, None, 1, 500),
    "related": lambda source, _: source.recent.related("a"),
    "download": lambda _, api: list(
        api.download(f"{api.transport.endpoints.api}/large.json?X-Amz-Signature={SIGNATURE}")
    ),
}
STATES = ["Queued", "Running", "Succeeded", "Failed", "Cancelled", "Sleeping", CREDENTIALS]
URLS = [
    f"{HERE}/large.json?X-Amz-Signature={SIGNATURE}",
    f"{HERE}?X-Amz-Signature={SIGNATURE}",
    f"http://user:{SIGNATURE}@127.0.0.1:1/x",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:1\x00/x",
    "http://[::1",
    "http://" + "a" * 70 + ".invalid/",
    "https://127.0.0.1:1/x",
    f"https://{CREDENTIALS}.invalid:1/x",
    "file:///etc/passwd",
    "//127.0.0.1:1/x",
    "",
    "\x00",
]
#: Bodies as they should be, to be mutated.
BODIES: tuple[dict[str, Any], ...] = (
    {"access_token": "a-token", "token_type": "bearer", "expires_in": 86400},
    *({"id": "q1", "state": state} for state in STATES),
    {"id": CREDENTIALS, "state": "Queued"},
    {"id": "q1", "pageSize": 500, "entities": [SHAPES[0]], "cursor": "next"},
    {"id": "q1", "pageSize": 500, "entities": [], "pageNumber": 1, "total": 5, "pageCount": 2},
    *({"id": "q1", "pageSize": 500, "downloadUrl": url} for url in URLS),
    {"services": [{"name": "Quality", "entities": [{"name": "Form", "actions": ["Create"]}]}]},
    {"message": f"no, {CREDENTIALS}", "code": "no.way", "status": 400, "contextId": CREDENTIALS},
    {"message": "wait [7] seconds", "code": "too.many.requests", "status": 429},
    {"error": "invalid_client", "description": CREDENTIALS, "error_description": CREDENTIALS},
)
LENGTHS = ["", "-1", "0", "7", "1e9", "999999999", "9" * 400, "nan", "0.5", "a"]
DATES = ["", " ", "Wed, 31 Feb 2026 25:61:61 GMT", "1 Jan 0001 00:00:00 +2359", ":", ",,,"]
DATES += ["Fri, 01 May 2026 12:00:00 GMT", "Sat, 31 Dec 9999 23:59:59 -2359", "1 2 3 4 5 6 7"]
HEADERS = {
    "Retry-After": [*LENGTHS, *DATES],
    "Date": DATES,
    "inin-ratelimit-count": LENGTHS,
    "inin-ratelimit-allowed": LENGTHS,
    "inin-ratelimit-reset": LENGTHS,
    "ININ-Correlation-Id": [CREDENTIALS, "\xff\x85", "x" * 4000],
    "Location": [f"{HERE}/elsewhere", "//127.0.0.1:1/", ""],
    "Set-Cookie": ["a=b; Domain=.invalid; Max-Age=x", "\xff=;;;", "="],
    "Content-Type": ["application/json; charset=utf-7", "text/html", "/"],
    "Content-Encoding": [
        "gzip",
        "deflate",
        "gzip, gzip",
        "br",
        "zstd",
        "x",
        ",".join(["gzip"] * 9),
    ],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity"],
    "WWW-Authenticate": ["Basic realm=x", "Negotiate", 'Digest nonce=""'],
    "Connection": ["close", "upgrade"],
    "Content-Range": ["bytes 0-1/2"],
}
STATUSES = [200] * 12 + [202] * 2 + [302] * 3 + [201, 204, 206, 300, 301, 304, 307, 308, 400, 401]
STATUSES += [403, 404, 405, 407, 408, 409, 410, 413, 415, 418, 422, 429, 429, 500, 501, 502, 503]
STATUSES += [504, 511, 599, 600, 999, 101]

bodies = st.one_of(
    mutated(BODIES).map(in_bytes),
    mutated(BODIES).flatmap(damaged),
    st.lists(mutated(SHAPES), max_size=3).map(lambda found: in_bytes(f"[{','.join(found)}]")),
    fragments.map(in_bytes),
    st.binary(max_size=80),
)
headers = st.dictionaries(st.sampled_from(list(HEADERS)), st.none(), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.sampled_from(HEADERS[name]) | texts.filter(_sendable) for name in names}
    )
)


def _sendable(text: str) -> bool:
    return all(" " <= c <= "\xff" for c in text)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """An answer of any kind."""
    reply = Reply(draw(st.sampled_from(STATUSES)), draw(bodies), draw(headers))
    if draw(st.integers(0, 9)) == 0:
        reply = replace(reply, cut=draw(st.integers(0, 40)))
    if draw(st.integers(0, 4)) == 0:
        reply = replace(reply, body=gzip.compress(reply.payload)[: draw(st.integers(5, 500))],
                        headers={**reply.headers, "Content-Encoding": "gzip"})  # fmt: skip
    return replace(reply, chunked=draw(st.integers(0, 4)) == 0)


class Whimsical(Organization):
    """A host that gives the same few answers to everything, again and again.

    Attributes:
        course: the answers to anything but a request for a token.
        entry: the answers to a request for a token; it signs clients in if there is none.
    """

    course: list[Reply]
    entry: list[Reply]

    def reply_to(self, seen: Seen) -> Reply:
        usual = super().reply_to(seen)
        replies = self.entry if seen.line == "POST /oauth/token" else self.course
        if not replies:
            return usual
        reply = replies[len(self.seen) % len(replies)]
        quoted = seen.headers.get("Authorization", "").partition(" ")[2]
        return replace(
            reply,
            body=self._filled(reply.payload.decode("latin-1"), quoted).encode("latin-1"),
            headers={name: self._filled(text, quoted) for name, text in reply.headers.items()},
        )

    def _filled(self, text: str, quoted: str) -> str:
        return text.replace(CREDENTIALS, quoted).replace(HERE, self.url)


@pytest.fixture(scope="module")
def host() -> Iterator[Whimsical]:
    server = Whimsical()
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@given(course=st.lists(replies(), min_size=1, max_size=4), entry=st.lists(replies(), max_size=2))
@example(course=[Reply(302, b"", {"Location": "\x80"})], entry=[])
@example(course=[Reply(200, b'{"id": "q1", "state": "<credentials>"}')], entry=[])
@example(course=[Reply(200, b'{"id": "<credentials>", "state": "Queued"}')], entry=[])
@settings(max_examples=60, phases=ROUGH, suppress_health_check=list(HealthCheck))
def test_any_answers_end_in_a_value_or_an_error_of_ours_without_a_secret(
    host: Whimsical, caplog: pytest.LogCaptureFixture, operation: str, course: list[Reply],
    entry: list[Reply],
) -> None:  # fmt: skip
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    host.seen, host.course, host.entry = [], course, entry if len(entry) == 2 else []
    said = ""
    with connected(host, Time(), BRIEF) as api:
        source = AuditSource(api, expand_user=True, allow_redirect=True)
        try:
            OPERATIONS[operation](source, api)
        except AuditEtlError as error:
            said = "\n".join(f"{each} {each!r} {vars(each)}" for each in causes(error))
    shown = said + caplog.text
    tokens = {s.headers.get("Authorization", "")[7:] for s in host.seen if s.line[-6:] != "/token"}
    for secret in {SECRET, BASIC, SIGNATURE, *tokens} - {"", "a-token"}:
        assert len(secret) < 8 or secret not in shown
    assert all(len(line) < 2000 for line in said.split("\n"))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
