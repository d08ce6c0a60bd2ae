"""The faults of an object store that an export into a bucket is tried with.

`make docs` writes the table of them into docs/faults.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from tests.support.faulty_object_store import Answer, Fault, cut, says, xml

HEAD = "| what the store does | when | exit | what is said |"
#: How a step is called in the table.
STEPS = {
    "create": "an upload is begun",
    "part": "a part is sent",
    "complete": "the parts are completed",
    "put": "a small file is sent",
    "confirm": "the upload is confirmed",
    "copy": "it is put in place",
    "check": "its place is looked at",
    "compare": "its end is compared",
    "delete": "the upload is removed",
    "look": "a file is looked up",
    "list": "the bucket is listed",
    "get": "a file is read",
}
#: The method of those that are not named for it.
METHODS = {"confirm": "head", "check": "head", "compare": "get", "look": "head"}
#: Whether it asks for what was stored in the same run.
STORED = {"confirm": True, "check": True, "compare": True, "look": False, "get": False}
TOKEN = "a/made-up+session+token=="
UNDONE = (
    b'<?xml version="1.0"?><CompleteMultipartUploadResult><ETag>"0-2"</ETag>'
    b"</CompleteMultipartUploadResult>"
)
HTML = b"<html>\n<title>Hello</title>\n</html>"


@dataclass(frozen=True)
class StoreCell:
    """One fault at one step, in every request of that step unless it says otherwise.

    Attributes:
        step: a key of `STEPS`.
        name: what goes wrong.
        told: what is in the error of a run meanwhile; empty if the run does all that it has to.
        fault: as the proxy takes it.
    """

    step: str
    name: str
    told: str
    fault: Fault

    @property
    def id(self) -> str:
        return f"{self.step}: {self.name.replace('`', '')}"

    @property
    def status(self) -> int:
        """The exit status of a run meanwhile."""
        return 69 if self.told else 0

    @property
    def in_parts(self) -> bool:
        """Whether files are uploaded in parts."""
        return self.step in {"create", "part", "complete"}

    @property
    def finds_files(self) -> bool:
        """Whether it befalls a run that finds files there."""
        return self.step in {"look", "list", "get"}


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _without(answer: Answer, name: str) -> dict[str, str]:
    return {n: value for n, value in answer.headers.items() if n.lower() != name}


def _cut_half(answer: Answer) -> Answer:
    """The body breaks off."""
    return replace(answer, body=_half(answer.body))


def _short(answer: Answer) -> Answer:
    """Half of the body, well framed."""
    return Answer(answer.status, _half(answer.body), _without(answer, "content-length"))


def _other_bytes(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[::-1])


def _other_tag(answer: Answer) -> Answer:
    return replace(answer, headers=_without(answer, "etag") | {"ETag": f'"{"0" * 32}"'})


def first_entries(count: int, answer: Answer) -> Answer:
    """A listing that ends after some entries, as if nothing followed."""
    start, *entries = answer.body.split(b"<Contents>")
    end = b"</ListBucketResult>"
    kept = [entry.replace(end, b"") for entry in entries[:count]]
    return Answer(answer.status, b"<Contents>".join([start.replace(end, b""), *kept]) + end)


def _once(number: int) -> bool:
    return number < 1


def _twice(number: int) -> bool:
    return number < 2


def _after_two(number: int) -> bool:
    return number > 1


def _streaming(_: str, headers: Mapping[str, str]) -> bool:
    return any(value.startswith("STREAMING-") for value in headers.values())


def _aside(line: str, _: Mapping[str, str]) -> bool:
    return "/_staging/" in line


def _in_place(line: str, _: Mapping[str, str]) -> bool:
    return "/audit_events/" in line


def _refusal(status: int, code: str, message: str = "no", **members: str) -> Fault:
    return Fault("", reaches=False, answered=says(status, xml(code, message, **members)))


#: What a store can do to any request of an upload.
SENDING = [
    ("503 `SlowDown`, twice", "", replace(_refusal(503, "SlowDown"), strikes=_twice)),
    ("503 `SlowDown`, for ever", "SlowDown", _refusal(503, "SlowDown")),
    ("500, for ever", "InternalError", _refusal(500, "InternalError")),
    ("400 `ExpiredToken`", "AWS_SESSION_TOKEN", _refusal(400, "ExpiredToken", Token=TOKEN)),
    ("403 `AccessDenied`", "s3:PutObject", _refusal(403, "AccessDenied", f"not\n{TOKEN}")),
    ("403 `QuotaExceeded`", "raise its quota", _refusal(403, "QuotaExceeded")),
    ("507, no room", "make room", _refusal(507, "XMinioStorageFull")),
    ("403 `RequestTimeTooSkewed`", "this machine's clock", _refusal(403, "RequestTimeTooSkewed")),
    ("501 `NotImplemented`", "multipart uploads", _refusal(501, "NotImplemented")),
    ("200 with nothing", "when it is repaired", Fault("", reaches=False, answered=says(200))),
    ("200 with HTML", "when it is repaired", Fault("", reaches=False, answered=says(200, HTML))),
    (
        "200 with an error",
        "when it is repaired",
        Fault("", reaches=False, answered=says(200, xml("InternalError"))),
    ),
    ("cuts the connection", "was lost", Fault("", reaches=False, answered=cut)),
    ("is silent", "did not answer in time", Fault("", reaches=False, silent=True)),
]
#: What it can do to any request that asks for something.
ASKING = [
    ("503, twice", "", replace(_refusal(503, "SlowDown"), strikes=_twice)),
    ("503, for ever", "503 Service Unavailable", _refusal(503, "SlowDown")),
    ("403", "s3:GetObject", _refusal(403, "AccessDenied")),
    ("cuts the connection", "was lost", Fault("", reaches=False, answered=cut)),
    ("is silent", "did not answer in time", Fault("", reaches=False, silent=True)),
]

DONE_AND_CUT = Fault("", answered=cut)


def _cells(step: str, kinds: list[tuple[str, str, Fault]]) -> list[StoreCell]:
    """A cell of the step for each of the kinds."""
    method, stored = METHODS.get(step, step), STORED.get(step)
    where = {"confirm": _aside, "check": _in_place}.get(step)
    return [
        StoreCell(
            step,
            name,
            told,
            replace(fault, step=method, stored=stored, where=fault.where or where),
        )
        for name, told, fault in kinds
    ]


CELLS = [
    *_cells("create", SENDING),
    *_cells(
        "part",
        [
            *SENDING,
            (
                "503 after two parts",
                "SlowDown",
                replace(_refusal(503, "SlowDown"), strikes=_after_two),
            ),
            ("keeps half of it", "bytes in the store", Fault("", sent=_half)),
        ],
    ),
    *_cells(
        "complete",
        [
            *SENDING,
            ("404 `NoSuchUpload`", "NoSuchUpload", _refusal(404, "NoSuchUpload")),
            (
                "says that it is done, and it is not",
                "does not have it",
                Fault("", reaches=False, answered=says(200, UNDONE)),
            ),
            ("does it, then cuts the connection", "when it is repaired", DONE_AND_CUT),
            (
                "does it, and answers HTML",
                "when it is repaired",
                Fault("", answered=says(200, HTML)),
            ),
        ],
    ),
    *_cells(
        "put",
        [
            *SENDING,
            ("keeps half of it", "bytes in the store", Fault("", sent=_half)),
            (
                "says that it is done, and it is not",
                "does not have it",
                Fault("", reaches=False, answered=says(200, ETag='"0"')),
            ),
            ("does it, then cuts the connection, once", "", replace(DONE_AND_CUT, strikes=_once)),
            ("does it, then cuts the connection", "was lost", DONE_AND_CUT),
            (
                "501 to `STREAMING-UNSIGNED-PAYLOAD-TRAILER`",
                "",
                replace(_refusal(501, "NotImplemented"), where=_streaming),
            ),
        ],
    ),
    *_cells(
        "confirm",
        [
            *ASKING,
            ("404", "does not have it", Fault("", answered=says(404))),
            ("shows another size", "bytes in the store", Fault("", answered=says(200, b"x"))),
            ("shows another ETag", "has the ETag", Fault("", answered=_other_tag)),
        ],
    ),
    *_cells(
        "copy",
        [
            *SENDING,
            ("does it, then cuts the connection, once", "", replace(DONE_AND_CUT, strikes=_once)),
            ("does it, then cuts the connection", "was lost", DONE_AND_CUT),
        ],
    ),
    *_cells(
        "check",
        [
            *ASKING,
            ("404", "does not have it", Fault("", answered=says(404))),
            ("shows another size", "bytes in the store", Fault("", answered=says(200, b"x"))),
        ],
    ),
    *_cells(
        "compare",
        [
            *ASKING,
            ("gives other bytes", "another content", Fault("", answered=_other_bytes)),
        ],
    ),
    *_cells(
        "delete",
        [
            ("403", "", _refusal(403, "AccessDenied")),
            ("cuts the connection", "", Fault("", reaches=False, answered=cut)),
        ],
    ),
    *_cells(
        "look",
        [*ASKING, ("404 for what it lists", "it is not there", Fault("", answered=says(404)))],
    ),
    *_cells(
        "list",
        [
            *ASKING,
            ("404 `NoSuchBucket`", "create the bucket", _refusal(404, "NoSuchBucket")),
            ("200 with nothing", "cannot be listed", Fault("", answered=says(200))),
            ("ends after an entry", "", Fault("", answered=partial(first_entries, 1))),
        ],
    ),
    *_cells(
        "get",
        [
            *ASKING,
            ("404 `NoSuchKey`", "NoSuchKey", _refusal(404, "NoSuchKey")),
            ("200 with HTML", "cannot be read", Fault("", answered=says(200, HTML))),
            ("breaks off in the middle", "was lost", Fault("", answered=_cut_half)),
            ("half of what was asked for", "bytes came instead of", Fault("", answered=_short)),
        ],
    ),
]


def table() -> str:
    """The matrix, as Markdown: a row for all the steps at which a fault ends alike."""
    steps: dict[tuple[str, int, str], list[str]] = {}
    for cell in CELLS:
        steps.setdefault((cell.name, cell.status, cell.told), []).append(STEPS[cell.step])
    rows = [
        f"| {name} | {', '.join(when)} | {status} | {_quoted(told)} |"
        for (name, status, told), when in steps.items()
    ]
    return "\n".join([HEAD, "|---|---|---|---|", *rows])


def _quoted(told: str) -> str:
    return f'"{told}"' if told else "nothing"
