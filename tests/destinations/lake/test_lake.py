"""What holds of a lake beyond the contract of destinations: its files, and who reads them."""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from etl.app import App, clock
from etl.config import load
from etl.destinations.lake import parquet as destination_module
from etl.destinations.lake.background import Early
from etl.destinations.lake.columns import COLUMNS, VERSION, VERSION_KEY
from etl.destinations.lake.local_storage import LOCK
from etl.destinations.lake.parquet import ParquetDestination
from etl.destinations.lake.storage import Storage, storage_of
from etl.errors import DestinationUnavailable, LeaseHeld, SchemaBehind
from etl.ledger import leases, processes
from etl.model import WRITER
from etl.operations import query
from etl.records import Batch
from etl.simulator import AuditLog, Simulator
from etl.sizes import Sizes
from tests import TOP
from tests.support import buckets
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment
from tests.support.destination_contents import audits_in_lake
from tests.support.places import Place
from tests.support.samples import (
    LOADED_AT,
    audits,
    batch,
    draft,
    hours,
    load_into,
    record,
    unfenced,
)

DOCUMENT = (TOP / "docs" / "lake.md").read_text()
SHOWN = [record(f"{n:02}", n * 6) for n in range(20)]  # five days, four audits on each
FIVE_DAYS = hours(0, 120)
#: Run with more and more room, telling each exit status, until it is enough.
FULL_DISK = """
mount -t tmpfs -o size=64k none {disk}
for size in 64k 2m 4m 6m 8m 12m 16m 20m 24m 64m; do
    mount -o remount,size=$size {disk}
    {program} run >/dev/null; status=$?
    echo $status
    test $status = 0 && break
done
cp -r {disk}/lake {copy}
"""
local = pytest.mark.parametrize("place", ["parquet"], indirect=True)
lakes = pytest.mark.parametrize("place", ["parquet", "parquet+s3"], indirect=True)


@pytest.fixture
def filled(place: Place) -> Place:
    load_into(place.destination, draft(FIVE_DAYS), [batch(*SHOWN)], lambda _: None)
    return place


def root(place: Place) -> Path:
    return Path(place.variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://"))


def files(place: Place) -> list[Path]:
    return sorted((root(place) / "audit_events").glob("**/*.parquet"))


def asked(place: Place, question: str) -> list[dict[str, object]]:
    with (
        App(load(None, place.variables), stop=threading.Event()) as app,
        query.answer(app, question) as reader,
    ):
        rows: list[dict[str, object]] = reader.read_all().to_pylist()
        return rows


@local
def test_the_tree_is_a_file_for_each_day_in_the_order_of_time(filled: Place) -> None:
    found = [str(path.relative_to(root(filled))) for path in files(filled)]

    assert found == [
        f"audit_events/organization=default/date=2026-03-0{day}/audits.parquet"
        for day in range(1, 6)
    ]
    for path in files(filled):
        assert pq.read_schema(path).equals(COLUMNS)
        assert pq.read_schema(path).metadata[VERSION_KEY] == str(VERSION).encode()
        assert path.stat().st_mode & 0o077 == 0
        assert all(c.compression == "ZSTD" for c in _chunks(path))


def _chunks(path: Path) -> Iterator[pq.ColumnChunkMetaData]:
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            yield metadata.row_group(group).column(column)


@local
def test_a_question_about_a_day_opens_that_day_s_file_alone(filled: Place) -> None:
    day = "event_date >= '2026-03-03' AND event_date < '2026-03-04'"
    for path in files(filled):
        if "date=2026-03-03" not in str(path):
            path.write_bytes(b"whoever opens this fails")

    found = asked(filled, f"SELECT id FROM audit_events WHERE {day} ORDER BY id")

    assert [row["id"] for row in found] == ["08", "09", "10", "11"]
    with pytest.raises(DestinationUnavailable, match="Parquet"):
        asked(filled, "SELECT id FROM audit_events")


@lakes
def test_every_engine_of_the_readme_reads_the_tree(filled: Place, tmp_path: Path) -> None:
    if "AWS_ENDPOINT_URL" in filled.variables:
        fetch(filled, tmp_path / "lake")
    top = str(tmp_path / "lake")
    snippets = [
        s.replace("/srv/audits", top) for s in re.findall(r"```\w+\n(.*?)```", DOCUMENT, re.S)
    ]
    by_day, changes = [s for s in snippets if "read_parquet" in s]
    polars, arrow = [s for s in snippets if s.startswith("import ")]
    made: dict[str, Any] = {}

    exec(polars, made)
    exec(arrow, made)

    march = by_day.replace("2026-05-01", "2026-03-02")
    assert [row[2] for row in in_duckdb(march)] == [4, 4, 4, 4]
    fourth = in_duckdb(changes.replace("2026-05-04", "2026-03-04"))
    assert len(fourth) == 8
    assert fourth[0][3:] == ("name", ["Old\tone\n"], ["New \\N \\. one"])
    assert made["by_service"]["len"].to_list() == [4] * 5
    assert made["logins"].num_rows == 0
    assert made["audits"].count_rows() == len(SHOWN)


def fetch(place: Place, folder: Path) -> None:
    """Copy a bucket's lake into a folder."""
    storage = storage_of(place.variables["AUDIT_ETL_DESTINATION"], place.variables, folder)
    for path in storage.files():
        (folder / path).parent.mkdir(parents=True)
        content = buckets.content(place.variables["AUDIT_ETL_DESTINATION"], path)
        (folder / path).write_bytes(content)


def in_duckdb(question: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        rows = connection.sql(question).to_arrow_reader().read_all().to_pylist()
    return [tuple(row.values()) for row in rows]


def test_the_readme_s_table_for_athena_has_the_columns_of_the_files() -> None:
    statement = re.search(r"CREATE EXTERNAL TABLE audit_events \((.*?)\n\)", DOCUMENT, re.S)
    assert statement is not None

    told = re.sub(r"\s+", "", statement.group(1))

    assert told == ",".join(f"{field.name}{hive_type(field.type)}" for field in COLUMNS)


def hive_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map<{hive_type(kind.key_type)},{hive_type(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{f.name}:{hive_type(f.type)}' for f in kind)}>"
    return {pa.bool_(): "boolean", pa.string(): "string"}.get(kind, "timestamp")


@local
def test_a_reader_at_any_instant_sees_each_audit_once(place: Place) -> None:
    top = f"{root(place)}/audit_events"
    loaded, ended = [0], threading.Event()
    seen: list[tuple[int, int]] = []
    failures: list[Exception] = []

    def read() -> None:
        while not ended.is_set():
            least = loaded[0]
            try:
                ids = ds.dataset(top, partitioning="hive").to_table(columns=["id"])["id"]
            except (OSError, pa.ArrowException) as error:
                failures.append(error)
                return
            assert len(ids) == len(set(ids.to_pylist()))
            seen.append((least, len(ids)))

    load_into(place.destination, draft(hours(0, 1)), [batch(SHOWN[0])], lambda _: None)
    reader = threading.Thread(target=read)
    reader.start()
    for n in range(60):
        shown = [record(f"{n}-{m}", m * 6) for m in range(20)]
        load_into(place.destination, draft(FIVE_DAYS), [batch(*shown)], lambda _: None)
        loaded[0] = 20 * (n + 1)
    ended.set()
    reader.join()

    assert failures == []
    assert len(seen) > 10
    assert all(least <= count for least, count in seen)


@lakes
def test_a_partition_that_was_merged_before_its_last_audit_came_holds_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin = Early.begin

    def told(self: Early[object], partition: str) -> None:
        begun.append(partition)
        begin(self, partition)

    monkeypatch.setattr(Early, "begin", told)
    stray = record("stray", 1)
    pages = [batch(*SHOWN[:9]), batch(*SHOWN[9:15]), batch(stray), batch(*SHOWN[15:])]

    receipts = [load_into(place.destination, draft(FIVE_DAYS), pages, unfenced) for _ in range(2)]

    assert begun.count("date=2026-03-01") > 2, "no merge was begun too early"
    assert [receipt.new_events for receipt in receipts] == [len(SHOWN) + 1, 0]
    assert place.audits() == audits([*SHOWN, stray])


@local
def test_pages_that_go_back_in_time_become_a_file_in_order_with_each_audit_once(
    place: Place,
) -> None:
    hours_of_pages = [(3, 4, 4, 5), (1, 2, 3), (5, 6, 7), (2, 9, 8, 9)]
    pages = [batch(*(record(f"at {hour}", hour) for hour in page)) for page in hours_of_pages]

    receipt = load_into(place.destination, draft(FIVE_DAYS), pages, unfenced)

    [path] = files(place)
    assert pq.read_table(path)["id"].to_pylist() == [f"at {hour}" for hour in range(1, 10)]
    assert (receipt.events, receipt.new_events) == (14, 9)


@local
def test_an_audit_that_the_only_page_shows_twice_is_written_once(place: Place) -> None:
    page = batch(record("a", 1), record("b", 1), record("a", 1, action="Delete"))

    load_into(place.destination, draft(FIVE_DAYS), [page], unfenced)

    assert place.audits() == audits([record("a", 1), record("b", 1)])


@local
def test_a_partition_that_cannot_be_merged_ends_the_load_with_no_thread_left(
    filled: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(destination_module, "write", full)
        with pytest.raises(DestinationUnavailable, match="No space left"):
            load_into(
                filled.destination,
                draft(FIVE_DAYS),
                [batch(record("new", day * 24)) for day in range(5)],
                unfenced,
            )

    assert not [thread for thread in threading.enumerate() if "partitions" in thread.name]
    assert list((root(filled) / "_staging").iterdir()) == []
    assert filled.audits() == audits(SHOWN)


@local
def test_what_a_dead_process_left_is_gone_after_the_next_load(place: Place) -> None:
    left = root(place) / "_staging" / "load-of-the-dead" / "run-1.arrow"
    left.parent.mkdir(parents=True, mode=0o700)
    left.parent.parent.chmod(0o700)
    left.write_bytes(b"half a run")

    load_into(place.destination, draft(hours(0, 1)), [batch(SHOWN[0])], lambda _: None)

    assert list((root(place) / "_staging").iterdir()) == []


@local
def test_a_staging_folder_that_others_can_look_into_is_refused(place: Place) -> None:
    destination, staging = place.destination, root(place) / "_staging"

    def pages() -> Iterator[Batch]:
        yield batch(SHOWN[0])

    load_into(place.destination, draft(hours(0, 1)), pages(), lambda _: None)
    staging.rmdir()
    staging.symlink_to(root(place).parent)

    with pytest.raises(DestinationUnavailable, match="not this user's alone"):
        load_into(destination, draft(hours(0, 1)), pages(), lambda _: None)


@lakes
def test_a_file_of_older_columns_reads_as_null_and_is_made_whole_by_the_next_audit(
    filled: Place, tmp_path: Path
) -> None:
    storage = storage_of(filled.variables["AUDIT_ETL_DESTINATION"], os.environ, tmp_path)
    path = storage.files()[2]
    older = read(storage, path).drop_columns(["transaction_initiator", "context"])
    rewrite(storage, path, older, tmp_path)
    question = "SELECT COUNT(*) AS n FROM audit_events WHERE transaction_initiator IS NULL"
    env = environment(**filled.variables)

    missing = asked(filled, question)
    told = audit_etl("migrate", env=env).stdout
    load_into(filled.destination, draft(FIVE_DAYS), [batch(record("new", 50))], lambda _: None)

    assert missing == [{"n": 4}]
    assert "4 files of the lake: every column of today" in told
    assert "1 file of the lake: without transaction_initiator, context" in told
    assert read(storage, path).schema.equals(COLUMNS)
    assert len(filled.audits()) == len(SHOWN) + 1


@lakes
def test_a_file_of_a_newer_program_is_left_as_it_is(filled: Place, tmp_path: Path) -> None:
    storage = storage_of(filled.variables["AUDIT_ETL_DESTINATION"], os.environ, tmp_path)
    path = storage.files()[0]
    newer = read(storage, path).replace_schema_metadata({VERSION_KEY: str(VERSION + 1).encode()})
    rewrite(storage, path, newer, tmp_path)

    with pytest.raises(SchemaBehind, match="upgrade"):
        load_into(filled.destination, draft(hours(0, 1)), [batch(record("new"))], lambda _: None)

    assert read(storage, path).num_rows == 4
    migrated = audit_etl("migrate", env=environment(**filled.variables))
    assert migrated.returncode == 78
    assert "upgrade" in migrated.stderr


def read(storage: Storage, path: str) -> pa.Table:
    file = storage.open(path)
    assert file is not None
    with file:
        return file.read()


def rewrite(storage: Storage, path: str, table: pa.Table, folder: Path) -> None:
    pq.write_table(table, folder / "written.parquet")
    storage.publish(folder / "written.parquet", path, lambda: None)


@local
@pytest.mark.parametrize(
    ("partition", "second"),
    [("hour", "date=2026-03-01/hour=06"), ("month", "month=2026-03")],
)
def test_a_lake_by_hours_or_months_keeps_the_same_contract(
    place: Place, tmp_path: Path, partition: str, second: str
) -> None:
    engine = place.destination.ledger.engine
    storage = storage_of(place.variables["AUDIT_ETL_DESTINATION"], os.environ, tmp_path)
    destination = ParquetDestination(storage, engine, partition, lambda: LOADED_AT, Sizes())

    load_into(destination, draft(FIVE_DAYS), [batch(*SHOWN[:9])], lambda _: None)
    again = load_into(destination, draft(FIVE_DAYS), [batch(*SHOWN)], lambda _: None)

    paths = storage.files()
    assert f"audit_events/organization=default/{second}/audits.parquet" in paths
    assert len(paths) == {"hour": 20, "month": 1}[partition]
    assert sum(read(storage, path).num_rows for path in paths) == again.events == 20
    assert again.new_events == 11
    hour = "event_date >= '2026-03-01 06:00:00' AND event_date < '2026-03-01 07:00:00'"
    assert asked(place, f"SELECT id FROM audit_events WHERE {hour}") == [{"id": "01"}]


@local
def test_a_lake_is_not_partitioned_in_two_ways(filled: Place) -> None:
    env = environment(
        GENESYSCLOUD_REGION="http://127.0.0.1:9",
        GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
        GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
        AUDIT_ETL_PARTITION="month",
        **filled.variables,
    )

    refused = audit_etl("run", env=env)
    checked = audit_etl("check", env=env)

    assert refused.returncode == 78
    assert 'set partition = "day"' in refused.stderr
    assert 'set partition = "day"' in checked.stdout


@local
def test_a_process_paused_in_a_publication_lets_nobody_publish_what_it_does_not_have(
    filled: Place,
) -> None:
    paused = (root(filled) / LOCK).open("r+")
    fcntl.flock(paused, fcntl.LOCK_EX)
    try:
        with pytest.raises(LeaseHeld, match="paused"):
            load_into(
                filled.destination, draft(hours(0, 1)), [batch(record("new"))], lambda _: None
            )
    finally:
        paused.close()

    assert filled.audits() == audits(SHOWN)
    load_into(filled.destination, draft(hours(0, 1)), [batch(record("new"))], lambda _: None)
    assert len(filled.audits()) == len(SHOWN) + 1


@lakes
def test_the_second_writer_is_told_who_the_first_is(place: Place) -> None:
    engine = place.destination.ledger.engine
    now = clock()
    held = leases.acquire(engine, WRITER, processes.this_process(), now)
    with AuditLog.of([]) as log:
        simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET)
        with simulator.serve() as url:
            env = environment(
                GENESYSCLOUD_REGION=url,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
                **place.variables,
            )
            refused = [audit_etl("run", env=env), audit_etl("backfill", "--from", "1d", env=env)]
            leases.give_back(engine, held, now)
            done = audit_etl("run", env=env)

    for result in refused:
        assert result.returncode == 75
        assert f"process {os.getpid()} on" in result.stderr
        assert now.strftime("since %Y-%m-%dT%H:%M") in result.stderr
    assert done.returncode == 0


def test_a_bucket_that_is_not_there_is_said_before_anything_is_asked(
    s3_server: str, tmp_path: Path
) -> None:
    simulator = Simulator(log=AuditLog.of([]), client_id=CLIENT_ID, client_secret=SECRET)
    with simulator.log, simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
            AUDIT_ETL_DESTINATION="parquet+s3://no-such-bucket/audits",
            AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 'state.db'}",
            AWS_ENDPOINT_URL=s3_server,
            AWS_ACCESS_KEY_ID="made-up",
            AWS_SECRET_ACCESS_KEY="made-up-too",
        )
        result = audit_etl("run", env=env)
        checked = audit_etl("check", env=env)

    assert (result.returncode, checked.returncode) == (69, 69)
    assert "bucket does not exist" in result.stderr
    assert "bucket does not exist" in checked.stdout
    assert simulator.requests["query"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("mounts")
def test_a_full_disk_is_said_and_the_next_run_mends_it(tmp_path: Path) -> None:
    now = clock()
    begin = now.replace(microsecond=0) - timedelta(days=6)
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    with AuditLog.generate(count=6_000, start=begin, end=now) as log:
        simulator = Simulator(
            log=log,
            clock=lambda: now,
            client_id=CLIENT_ID,
            client_secret=SECRET,
            query_seconds=0,
        )
        with simulator.serve() as url:
            env = environment(
                GENESYSCLOUD_REGION=url,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
                AUDIT_ETL_DESTINATION=f"parquet://{disk}/lake",
                AUDIT_ETL_LEDGER=f"sqlite:///{tmp_path / 'state.db'}",
                AUDIT_ETL_START=begin.isoformat(),
                PYTHONPATH=str(Path.cwd()),
            )
            script = FULL_DISK.format(disk=disk, copy=copy, program=f"{sys.executable} -m etl")
            result = subprocess.run(
                ["unshare", "--mount", "sh", "-c", script], env=env, capture_output=True, text=True
            )
        env["AUDIT_ETL_DESTINATION"] = f"parquet://{copy}"  # the disk is not mounted here
        [stream] = json.loads(audit_etl("status", "--json", env=env).stdout)["streams"]
        until = datetime.fromisoformat(stream["watermark"])
        truth = sorted(str(shown["id"]) for shown in log.truth(begin, until, now))

    statuses = result.stdout.split()
    assert statuses[-1] == "0"
    assert "69" in statuses
    assert set(statuses) == {"69", "0"}
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    storage = storage_of(f"parquet://{copy}", os.environ, tmp_path)
    assert [audit.id for audit in audits_in_lake(storage)] == truth
    assert len(truth) > 5_000
