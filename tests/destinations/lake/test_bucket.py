"""What holds of a bucket: nothing is taken for stored, or for absent, that the store has not shown.

The faults of a store while an export runs are in `test_hostile_store.py`.
"""

import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.s3 import models

from etl.destinations.lake import bucket as bucket_module
from etl.destinations.lake import reading
from etl.destinations.lake.bucket import END_BYTES, PATIENCE, READ_AHEAD, Bucket, Patience
from etl.destinations.lake.columns import COLUMNS
from etl.destinations.lake.layout import MARKER
from etl.destinations.lake.local_storage import LocalStorage
from etl.destinations.lake.remote_file import RemoteFile
from etl.destinations.lake.storage import ObjectStorage, storage_of, translated
from etl.destinations.lake.store_errors import StoreError
from etl.errors import ConfigurationError, DestinationUnavailable, LeaseHeld
from etl.sizes import Sizes
from tests.support import buckets
from tests.support.faulty_object_store import Answer, Fault, Store, cut, meddled, says, xml
from tests.support.object_store_faults import first_entries
from tests.support.samples import BEGIN

TOKEN = "the/session+token=="
QUICK = Patience(connect_seconds=5, request_seconds=30, retries=2, pause_seconds=0.01)
FOLDER = "audit_events/organization=default"
ASIDE = "_staging/organization=default"
PATH = f"{FOLDER}/date=2026-03-01/audits.parquet"


@pytest.fixture
def store(bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    with meddled(s3_server) as store:
        yield store


@pytest.fixture
def opened(bucket: str, store: Store) -> Bucket:
    """The bucket through the proxy, its prefix `audits`."""
    return at(bucket, store)


def at(url: str, store: Store, patience: Patience = QUICK) -> Bucket:
    name, _, prefix = url.removeprefix("parquet+s3://").partition("/")
    return Bucket(name, prefix, {**os.environ, "AWS_ENDPOINT_URL": store.url}, patience)


def file_of(folder: Path, size: int) -> Path:
    path = folder / "staged"
    path.write_bytes(os.urandom(size))
    return path


def small_parts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let uploads be in parts of that size, and the store take them."""
    monkeypatch.setattr(bucket_module, "UPLOAD_BYTES", size)
    monkeypatch.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", 1)


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 0), (1, 0), (999, 0), (1000, 0), (1001, 2), (1999, 2), (2000, 2), (2001, 3)],
)
def test_a_file_is_uploaded_whole_whatever_its_size(
    size: int,
    parts: int,
    opened: Bucket,
    bucket: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_parts(monkeypatch, 1000)
    staged = file_of(tmp_path, size)

    opened.put(PATH, staged)

    assert buckets.content(bucket, PATH) == staged.read_bytes()
    assert store.seen["part"] == parts
    assert store.seen["put"] == (parts == 0)
    assert store.seen["head"] == 1


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def without(name: str) -> Any:
    """An answer without that header."""

    def strip(answer: Answer) -> Answer:
        kept = {n: v for n, v in answer.headers.items() if n.lower() != name}
        return replace(answer, headers=kept)

    return strip


COMPLETED = (
    b'<?xml version="1.0"?><CompleteMultipartUploadResult><ETag>"0-2"</ETag>'
    b"</CompleteMultipartUploadResult>"
)


@pytest.mark.parametrize(
    ("fault", "size", "says_so"),
    [
        (Fault("put", sent=half), 500, "250 bytes in the store instead of 500"),
        (Fault("part", sent=half), 2500, "1250 bytes in the store instead of 2500"),
        (Fault("put", reaches=False, answered=says(200, ETag='"0"')), 500, "does not have it"),
        (Fault("put", reaches=False, answered=says(200)), 500, "ETag Header missing"),
        (Fault("complete", reaches=False, answered=says(200, COMPLETED)), 2500, "does not have it"),
        (Fault("complete", reaches=False, answered=says(200)), 2500, "multipart response"),
        (Fault("complete", reaches=False, answered=says(200, xml("Slow"))), 2500, "multipart"),
        (Fault("complete", answered=says(200, b"<html>")), 2500, PATH),
        (Fault("head", answered=says(404)), 500, "does not have it"),
        (Fault("head", answered=says(200, b"x" * 499)), 500, "499 bytes"),
        (Fault("head", answered=without("content-length")), 500, "0 bytes"),
        (Fault("head", answered=says(403)), 500, "s3:GetObject"),
        (Fault("head", answered=cut), 500, "was lost"),
    ],
)
def test_an_upload_that_the_store_does_not_confirm_is_an_error(
    fault: Fault,
    size: int,
    says_so: str,
    opened: Bucket,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_parts(monkeypatch, 1000)
    store.suffer(fault)

    with pytest.raises(StoreError, match=says_so) as raised:
        opened.put(PATH, file_of(tmp_path, size))

    assert PATH in str(raised.value)


def test_an_object_of_the_same_size_that_is_not_ours_is_not_taken_for_it(
    opened: Bucket, bucket: str, store: Store, tmp_path: Path
) -> None:
    opened.put(PATH, file_of(tmp_path, 500))
    tag = '"00000000000000000000000000000000"'

    def other(answer: Answer) -> Answer:
        return replace(answer, headers={**answer.headers, "ETag": tag})

    store.suffer(Fault("head", answered=other))

    with pytest.raises(StoreError, match="ETag"):
        opened.put(PATH, file_of(tmp_path, 500))


def publish(client: Bucket, staged: Path, told: list[str] | None = None) -> None:
    steps = [] if told is None else told
    storage = ObjectStorage("lake", client, staged.parent)
    storage.publish(staged, PATH, lambda: steps.append("confirmed"))


@pytest.mark.parametrize("size", [1, 1000, 2500, END_BYTES - 1, END_BYTES, END_BYTES + 1])
def test_a_file_is_uploaded_aside_and_put_in_place_after_the_lease_was_confirmed(
    size: int,
    opened: Bucket,
    bucket: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_parts(monkeypatch, 2000)
    staged = file_of(tmp_path, size)

    publish(opened, staged, store.lines)

    assert buckets.keys(bucket) == {f"audits/{PATH}": size}
    assert buckets.content(bucket, PATH) == staged.read_bytes()
    confirmed = store.lines.index("confirmed")
    assert all(ASIDE in line for line in map(unquote, store.lines[:confirmed]))
    assert PATH in unquote(store.lines[confirmed + 1])


@pytest.mark.parametrize(
    "fault",
    [
        Fault("put", sent=half),
        Fault("part", sent=half),
        Fault("complete", reaches=False, answered=says(200, COMPLETED)),
        Fault("copy", reaches=False, answered=says(200)),
        Fault("copy", reaches=False, answered=says(500)),
    ],
)
def test_what_is_published_stays_whole_whatever_becomes_of_an_upload(
    fault: Fault,
    opened: Bucket,
    bucket: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_parts(monkeypatch, 1000)
    size = 500 if fault.step == "put" else 2500
    publish(opened, file_of(tmp_path, size))
    before = buckets.content(bucket, PATH)
    staged = file_of(tmp_path, size)  # as long: only its content tells it from the one before
    store.suffer(fault)

    with pytest.raises(StoreError):
        publish(opened, staged)

    assert buckets.content(bucket, PATH) == before
    store.suffer()
    publish(opened, staged)
    assert buckets.content(bucket, PATH) == staged.read_bytes()


def test_a_lease_that_is_lost_amid_an_upload_leaves_what_is_published(
    opened: Bucket, bucket: str, tmp_path: Path
) -> None:
    publish(opened, file_of(tmp_path, 10))
    before = buckets.content(bucket, PATH)

    def lost() -> None:
        raise LeaseHeld("lost")

    with pytest.raises(LeaseHeld):
        ObjectStorage("lake", opened, tmp_path).publish(file_of(tmp_path, 10), PATH, lost)

    assert buckets.content(bucket, PATH) == before


def test_credentials_that_may_not_delete_leave_one_upload_of_an_organisation(
    opened: Bucket, bucket: str, store: Store, tmp_path: Path
) -> None:
    store.suffer(Fault("delete", reaches=False, answered=says(403, xml("AccessDenied"))))

    for _ in range(2):
        publish(opened, file_of(tmp_path, 10))

    assert sorted(buckets.keys(bucket)) == [f"audits/{ASIDE}", f"audits/{PATH}"]
    assert opened.files("audit_events", MARKER) == [PATH]


@pytest.mark.parametrize("tag", ["{}", "W/{}", "plain", "none"])
def test_one_etag_in_another_form_or_none_is_no_difference(
    tag: str, opened: Bucket, store: Store, tmp_path: Path
) -> None:
    def formed(answer: Answer) -> Answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        given = headers.pop("etag")
        shown = {"plain": given.strip('"'), "none": ""}.get(tag, tag.format(given))
        return replace(answer, headers=headers | ({"etag": shown} if shown else {}))

    store.suffer(Fault("head", answered=formed))

    opened.put(PATH, file_of(tmp_path, 500))
    file = opened.open(PATH)

    assert file is not None
    assert len(file.read()) == 500


@pytest.mark.parametrize(
    ("answer", "says_so"),
    [
        (
            says(400, xml("ExpiredToken", "It expired.", Token=TOKEN)),
            "ExpiredToken: It expired.; set",
        ),
        (says(403, xml("RequestTimeTooSkewed")), "set this machine's clock"),
        (says(403, xml("AccessDenied", f"not with\n{TOKEN}")), "s3:PutObject"),
        (says(403, xml("QuotaExceeded")), "raise its quota"),
        (says(507, b"full"), "507 Insufficient Storage; make room"),
        (says(501, xml("NotImplemented")), "multipart uploads"),
        (says(503, xml("SlowDown", "Please reduce your rate.")), "SlowDown: Please reduce"),
        (says(301, xml("PermanentRedirect")), "AWS_REGION"),
        (says(500, b"<html>no\nway</html>"), "500 Internal Server Error"),
        (cut, "was lost"),
    ],
)
def test_what_a_store_says_is_one_line_with_a_remedy_and_without_secrets(
    answer: Any, says_so: str, bucket: str, store: Store, tmp_path: Path
) -> None:
    storage = ObjectStorage("lake", at(bucket, store), tmp_path)
    store.suffer(Fault("put", reaches=False, answered=answer))

    with pytest.raises(DestinationUnavailable, match=says_so) as raised, translated(storage):
        storage.publish(file_of(tmp_path, 10), PATH, lambda: None)

    text = str(raised.value)
    assert text.startswith(f"the lake s3://lake failed: {ASIDE} cannot be uploaded: ")
    assert "run the same command again" in text
    assert "\n" not in text
    assert TOKEN not in text
    assert "made-up" not in text


def test_no_query_of_a_url_is_shown(
    bucket: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 1000)
    for step in ("create", "part", "complete"):
        store.suffer(Fault(step, reaches=False, answered=cut))

        with pytest.raises(StoreError, match="was lost") as raised:
            at(bucket, store).put(PATH, file_of(tmp_path, 2500))

        assert "?" not in str(raised.value)


@pytest.mark.parametrize("step", ["put", "create", "part", "complete", "head", "list", "get"])
def test_a_silent_store_is_given_up(
    step: str, bucket: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = file_of(tmp_path, 10 if step == "put" else 2500)
    at(bucket, store).put(PATH, staged)
    small_parts(monkeypatch, 1000)
    impatient = replace(QUICK, request_seconds=0.3, retries=1)
    client = at(bucket, store, impatient)
    store.suffer(Fault(step, reaches=False, silent=True))

    with pytest.raises(StoreError, match="did not answer in time"):
        if step == "list":
            client.files("audit_events", MARKER)
        elif step == "get":
            RemoteFile(client, PATH).read()
        else:
            client.put(PATH, staged)


def test_the_program_waits_for_a_store_no_longer_than_a_few_minutes() -> None:
    assert PATIENCE.retry_seconds + PATIENCE.request_seconds <= 240
    assert PATIENCE.connect_seconds < PATIENCE.request_seconds


@pytest.mark.parametrize(
    "prefix", ["audits", "a/b", "team#7", "100%", "%23", "a b", "a+b&c=d", "Prüfung", "", "[x]*"]
)
def test_a_prefix_is_taken_literally(
    prefix: str, bucket: str, tmp_path: Path, store: Store
) -> None:
    name = bucket.removeprefix("parquet+s3://").partition("/")[0]
    storage = storage_of(f"parquet+s3://{name}/{prefix}", os.environ, tmp_path)
    staged = file_of(tmp_path, 10)

    storage.publish(staged, PATH, lambda: None)

    assert list(buckets.keys(f"parquet+s3://{name}")) == [f"{prefix}/{PATH}".lstrip("/")]
    assert storage.files() == [PATH]
    assert storage.name == f"s3://{name}/{prefix}".rstrip("/")


def test_a_local_folder_is_taken_literally(tmp_path: Path) -> None:
    storage = storage_of(f"parquet://{tmp_path}/team#7%20", os.environ, tmp_path)

    storage.publish(file_of(tmp_path, 10), PATH, lambda: None)

    assert (tmp_path / "team#7%20" / PATH).exists()
    assert storage.files() == [PATH]


@pytest.mark.parametrize(
    ("url", "variables", "says_so"),
    [
        ("parquet+s3:///audits", {}, "BUCKET/PREFIX"),
        ("parquet+s3://bucket/a//b", {}, "s3://bucket/a//b cannot be used"),
        ("parquet+s3://bucket/../b", {}, "cannot be used"),
        ("parquet+s3://buck et/b", {}, "'buck et' cannot be the name of a bucket"),
        ("parquet+s3://b#1/x", {}, "cannot be the name"),
        ("parquet+s3://bucket/x", {"AWS_ENDPOINT_URL": "http://[::1"}, "AWS_ENDPOINT_URL must"),
        ("parquet+s3://bucket/x", {"AWS_ENDPOINT_URL_S3": "ftp://h"}, "AWS_ENDPOINT_URL_S3 must"),
        ("parquet+s3://bucket/x", {"AWS_ENDPOINT_URL": "https://u:p@h"}, "must be a URL"),
        ("parquet+s3://bucket/x", {"AWS_REGION": "eu west"}, "AWS_REGION must"),
        ("parquet+s3://bucket/x", {"AWS_PROFILE": "audits"}, "profiles are not read"),
    ],
)
def test_what_cannot_be_a_bucket_is_refused(
    url: str, variables: dict[str, str], says_so: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=says_so):
        storage_of(url, variables, tmp_path)


def test_the_endpoint_for_s3_goes_before_the_general_one(
    bucket: str, s3_server: str, tmp_path: Path
) -> None:
    both = {"AWS_ENDPOINT_URL_S3": f"{s3_server}/", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}

    storage_of(bucket, both, tmp_path).reach()
    with pytest.raises(
        StoreError, match=r"http://127.0.0.1:9 cannot be reached: Connection refused"
    ):
        Bucket("bucket", "", {**both, "AWS_ENDPOINT_URL_S3": ""}, QUICK).reach()


def test_without_credentials_it_is_said_how_they_are_given(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.0.1:1")

    with pytest.raises(StoreError, match="no credentials were found; set AWS_ACCESS_KEY_ID"):
        Bucket("bucket", "", os.environ, replace(QUICK, retries=0, request_seconds=1)).reach()


# Listings.


def filled(client: Bucket, folder: Path, count: int) -> list[str]:
    paths = [f"{FOLDER}/date=2026-03-{n:02}/audits.parquet" for n in range(1, count + 1)]
    for path in paths:
        client.put(path, file_of(folder, 10))
    return paths


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_a_listing_that_is_cut_short_is_gone_on_with(
    count: int, opened: Bucket, store: Store, tmp_path: Path
) -> None:
    paths = filled(opened, tmp_path, count)
    store.suffer(Fault("list", answered=partial(first_entries, 2)))

    assert opened.files("audit_events", MARKER) == paths


@pytest.mark.parametrize("page", [b"<html>hello</html>", xml("InternalError")])
def test_a_gateway_that_says_yes_to_everything_is_no_empty_lake(
    page: bytes, opened: Bucket, store: Store, tmp_path: Path
) -> None:
    filled(opened, tmp_path, 1)
    store.suffer(
        *(Fault(step, reaches=False, answered=says(200, page)) for step in ("list", "head"))
    )

    with pytest.raises(StoreError, match="is it an object store"):
        opened.files("audit_events", MARKER)


@pytest.mark.parametrize("page", [b"<html>hello</html>", xml("InternalError")])
def test_a_listing_that_is_none_is_no_empty_lake_where_the_marker_is(
    page: bytes, opened: Bucket, store: Store, tmp_path: Path
) -> None:
    opened.put(MARKER, file_of(tmp_path, 10))
    assert opened.files("audit_events", MARKER) == []
    store.suffer(Fault("list", reaches=False, answered=says(200, page)))

    with pytest.raises(StoreError, match=f"lists nothing, but says that {MARKER} exists"):
        opened.files("audit_events", MARKER)


def test_an_empty_bucket_has_no_files_and_a_missing_one_is_an_error(
    opened: Bucket, store: Store
) -> None:
    assert opened.files("audit_events", MARKER) == []
    opened.reach()

    missing = Bucket("no-such-bucket", "", {"AWS_ENDPOINT_URL": store.url}, QUICK)
    for ask in (
        missing.reach,
        lambda: missing.files("audit_events", MARKER),
        lambda: missing.open(PATH),
    ):
        with pytest.raises(StoreError, match="bucket does not exist; create the bucket"):
            ask()


# Reading.


def test_a_file_that_is_listed_is_not_taken_for_absent(
    opened: Bucket, store: Store, tmp_path: Path
) -> None:
    opened.put(PATH, file_of(tmp_path, 10))
    store.suffer(Fault("head", answered=says(404)))

    with pytest.raises(StoreError, match=r"lists .* and says that it is not there"):
        opened.open(PATH)
    assert opened.open(PATH.replace("03-01", "03-02")) is None


@pytest.mark.parametrize(
    ("answered", "says_so"),
    [
        (lambda a: Answer(a.status, half(a.body), without("content-length")(a).headers), "5 bytes"),
        (lambda a: Answer(200, a.body), "cannot be read"),
        (lambda a: Answer(a.status, half(a.body), a.headers), "cannot be read"),
        (says(404, xml("NoSuchKey")), "NoSuchKey"),
        (says(200, b"<html>"), "cannot be read"),
    ],
)
def test_a_range_that_comes_in_part_or_not_at_all_is_an_error(
    answered: Any, says_so: str, opened: Bucket, store: Store, tmp_path: Path
) -> None:
    opened.put(PATH, file_of(tmp_path, 10))
    file = opened.open(PATH)
    assert file is not None
    store.suffer(Fault("get", answered=answered))

    with pytest.raises(StoreError, match=says_so):
        file.read(10)


def test_ranges_of_two_versions_are_not_mixed(opened: Bucket, store: Store, tmp_path: Path) -> None:
    opened.put(PATH, file_of(tmp_path, 3 * READ_AHEAD))
    file = opened.open(PATH)
    assert file is not None
    file.read(10)
    opened.put(PATH, file_of(tmp_path, 3 * READ_AHEAD))
    file.seek(2 * READ_AHEAD)

    with pytest.raises(StoreError, match="412"):
        file.read(10)


@pytest.mark.parametrize("ahead", [0, 7, 100])
def test_a_remote_file_reads_as_a_local_one(ahead: int, opened: Bucket, tmp_path: Path) -> None:
    staged = file_of(tmp_path, 50)
    opened.put(PATH, staged)
    moves = [
        (0, 0, 5),
        (5, 0, 7),
        (12, 0, 8),
        (3, 0, 2),
        (-4, 2, 9),
        (0, 2, 3),
        (-50, 2, -1),
        (1, 0, 0),
    ]

    with staged.open("rb") as local:
        remote = RemoteFile(opened, PATH, ahead=ahead)
        for offset, whence, size in moves:
            assert remote.seek(offset, whence) == local.seek(offset, whence)
            assert bytes(remote.read(size)) == local.read(size)
            assert remote.tell() == local.tell()


def test_a_column_is_read_without_the_others(
    opened: Bucket, bucket: str, store: Store, tmp_path: Path
) -> None:
    rows = 4_000
    table = pa.table(
        {
            "id": [f"{n:036}" for n in range(rows)],
            "raw": [os.urandom(400).hex() for _ in range(rows)],
        }
    )
    pq.write_table(table, tmp_path / "file", row_group_size=500)
    size = (tmp_path / "file").stat().st_size
    opened.put(PATH, tmp_path / "file")
    storage = ObjectStorage("lake", opened, tmp_path)

    def received(columns: list[str] | None) -> int:
        store.received.clear()
        file = storage.open(PATH)
        assert file is not None
        with file:
            read = list(file.iter_batches(100, columns=columns))
        assert sum(batch.num_rows for batch in read) == rows
        return store.received["get"]

    assert received(["id"]) < size * 0.7  # the file is small: what is read ahead counts for much
    assert received(None) < size * 1.1


def day_of(rows: int) -> pa.Table:
    """Rows of a lake's file, nearly all of it in `raw`."""
    numbers = range(rows)
    made = {
        "id": [f"{n:036}" for n in numbers],
        "event_date": [BEGIN + timedelta(seconds=n) for n in numbers],
        "service_name": ["ContactCenter" if n % 2 else "Directory" for n in numbers],
        "raw": [os.urandom(500).hex() for n in numbers],
    }
    filled = [
        pa.array(made[field.name], field.type) if field.name in made else pa.nulls(rows, field.type)
        for field in COLUMNS
    ]
    return pa.Table.from_arrays(filled, names=COLUMNS.names)


@pytest.fixture
def asked(opened: Bucket, tmp_path: Path) -> Iterator[Any]:
    """Asks a question of a lake with two files."""
    storage = ObjectStorage("lake", opened, tmp_path)
    for day in (1, 2):
        pq.write_table(day_of(4_000), tmp_path / "file", row_group_size=1_000)
        storage.publish(tmp_path / "file", PATH.replace("03-01", f"03-0{day}"), lambda: None)

    most = Sizes()

    def ask(question: str) -> list[dict[str, object]]:
        with reading.connect(storage, most) as duck, reading.ask(duck, question, most) as answer:
            rows: list[dict[str, object]] = answer.read_all().to_pylist()
            return rows

    yield ask


def replacing(storage: ObjectStorage, folder: Path, patch: pytest.MonkeyPatch, *at: int) -> None:
    """Have the first file replaced by one of twice the rows before these reads of the store."""
    reads, get = itertools.count(), Bucket.get

    def meanwhile(*arguments: Any) -> memoryview:
        if next(reads) in at:
            pq.write_table(day_of(8_000), folder / "other", row_group_size=1_000)
            storage.publish(folder / "other", PATH, lambda: None)
        return get(*arguments)

    patch.setattr(Bucket, "get", meanwhile)


@pytest.mark.parametrize("at", [(0,), (1,), (1, 3)])
def test_a_file_that_is_replaced_before_it_gave_a_row_is_read_anew(
    opened: Bucket, tmp_path: Path, asked: Any, monkeypatch: pytest.MonkeyPatch, at: tuple[int, ...]
) -> None:
    replacing(ObjectStorage("lake", opened, tmp_path), tmp_path, monkeypatch, *at)

    [row] = asked("SELECT COUNT(DISTINCT raw) AS n FROM audit_events")

    assert row == {"n": 12_000}


def test_a_file_that_is_replaced_amid_its_rows_is_no_answer(
    opened: Bucket, tmp_path: Path, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing(ObjectStorage("lake", opened, tmp_path), tmp_path, monkeypatch, 2)

    with pytest.raises(DestinationUnavailable, match="another process has replaced it meanwhile"):
        asked("SELECT raw FROM audit_events")


def test_a_local_file_that_is_replaced_is_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "lake" / PATH
    target.parent.mkdir(parents=True)
    pq.write_table(day_of(4_000), target, row_group_size=1_000)
    pq.write_table(day_of(8_000), tmp_path / "other", row_group_size=500)
    source = LocalStorage.source

    def meanwhile(storage: LocalStorage, path: str) -> pa.NativeFile:
        file = source(storage, path)
        (tmp_path / "other").replace(target)
        return file

    monkeypatch.setattr(LocalStorage, "source", meanwhile)
    storage = LocalStorage(tmp_path / "lake")

    question, most = "SELECT COUNT(DISTINCT raw) AS n FROM audit_events", Sizes()
    with reading.connect(storage, most) as duck, reading.ask(duck, question, most) as answer:
        assert answer.read_all().to_pylist() == [{"n": 4_000}]


def test_a_question_about_a_column_reads_that_column(asked: Any, store: Store, bucket: str) -> None:
    size = sum(buckets.keys(bucket).values())
    store.received.clear()

    [row] = asked("SELECT COUNT(*) AS n FROM audit_events WHERE service_name = 'Directory'")

    assert row == {"n": 4_000}
    assert store.received["get"] < size / 20


@pytest.mark.parametrize(
    ("step", "says_so"),
    [
        ("head", "audits.parquet cannot be looked up: 403 Forbidden; allow these credentials"),
        ("get", "audits.parquet cannot be read: 403 Forbidden: AccessDenied: no; allow these"),
    ],
)
def test_a_question_that_the_store_refuses_ends_in_one_line(
    step: str, says_so: str, asked: Any, store: Store
) -> None:
    store.suffer(Fault(step, reaches=False, answered=says(403, xml("AccessDenied"))))

    with pytest.raises(DestinationUnavailable, match=says_so) as raised:
        asked("SELECT id FROM audit_events")

    assert str(raised.value).startswith("the lake cannot be read: ")
    for unwanted in ("\n", "Traceback", "Buffer", "Detail"):
        assert unwanted not in str(raised.value)


def test_other_threads_go_on_while_a_store_is_waited_for(
    opened: Bucket, store: Store, tmp_path: Path
) -> None:
    """Among them the one that renews the lease."""
    began, went_on = threading.Event(), threading.Event()

    def hold(answer: Answer) -> Answer:
        began.set()
        assert went_on.wait(60)
        return answer

    def renew() -> None:
        assert began.wait(60)
        went_on.set()

    store.suffer(Fault("put", answered=hold))
    renewal = threading.Thread(target=renew)
    renewal.start()

    opened.put(PATH, file_of(tmp_path, 10))

    renewal.join()
    assert went_on.is_set()
