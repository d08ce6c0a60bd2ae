"""How a lake's files are written: how large they are, and what a reader need not read of them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.destinations.lake import writing
from etl.destinations.lake.columns import table_of
from etl.destinations.lake.writing import FILTER, FILTERED, opened, write
from etl.records import read_records
from etl.simulator import AuditLog
from etl.sizes import Sizes
from tests.support.places import Place
from tests.support.samples import BEGIN, LOADED_AT, batch, draft, hours, load_into, record

#: Audits of a busy day, and the most bytes that one may take.
A_DAY: Final = 33_000
BYTES: Final = 300
#: As many ids as a filter is made for, and a row group's rows where files are cut small.
FEW, MANY = 4, FILTER["ndv"]
#: An id between those of `row` that none of them is.
ABSENT: Final = str(UUID(int=(1 << 127) + 1))


def id_of(number: int) -> str:
    """An id, spread over all that are possible as those of an organisation are."""
    return str(UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))


def row(number: int) -> dict[str, Any]:
    name = id_of(number)
    return record(name, number / 1_000, entity={"id": name}, user={"id": name})


def written(path: Path, count: int, sizes: Sizes = Sizes()) -> Path:
    """A file of so many audits."""
    audits = batch(*map(row, range(count))).audits
    rows: pa.Table = table_of(audits, LOADED_AT)
    write(path, [rows], sizes)
    return path


def chunks(path: Path) -> Iterator[pq.ColumnChunkMetaData]:
    with opened(path) as file:
        for group in map(file.metadata.row_group, range(file.num_row_groups)):
            yield from map(group.column, range(group.num_columns))


def filtered(path: Path) -> list[str]:
    """The columns with a filter, as often as there are row groups."""
    return [c.path_in_schema for c in chunks(path) if c.bloom_filter_length]


def found(path: Path, column: str, value: str) -> int:
    question = f"SELECT count(*) FROM read_parquet('{path}') WHERE {column} = ?"
    return int(duckdb.execute(question, [value]).fetchall()[0][0])


def without_pages(path: Path, column: str) -> None:
    """Overwrite the values of a column, so that it cannot be read."""
    content = bytearray(path.read_bytes())
    for chunk in chunks(path):
        if chunk.path_in_schema == column:
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            content[start : start + chunk.total_compressed_size] = bytes(
                chunk.total_compressed_size
            )
    path.write_bytes(content)


def test_an_audit_of_a_busy_day_takes_300_bytes_at_most(tmp_path: Path) -> None:
    end = BEGIN + timedelta(days=1)
    with AuditLog.generate(count=A_DAY, start=BEGIN, end=end, late_share=0.0) as log:
        pages = [
            [log.one(n) for n in range(first, min(first + 1_000, len(log)))]
            for first in range(0, len(log), 1_000)
        ]
    write(tmp_path / "f", (table_of(read_records(p).audits, LOADED_AT) for p in pages), Sizes())

    assert (tmp_path / "f").stat().st_size <= BYTES * len(log)


@pytest.mark.parametrize("column", FILTERED)
def test_a_reader_passes_over_row_groups_without_an_id(tmp_path: Path, column: str) -> None:
    path = written(tmp_path / "f", 100)
    assert all(
        c.statistics.min < ABSENT < c.statistics.max
        for c in chunks(path)
        if c.path_in_schema == column
    )
    assert (found(path, column, id_of(7)), found(path, column, ABSENT)) == (1, 0)
    without_pages(path, column)

    assert found(path, column, ABSENT) == 0
    with pytest.raises(duckdb.Error):
        found(path, column, id_of(7))


def test_without_a_filter_it_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FILTERED", ())
    path = written(tmp_path / "f", 100)
    without_pages(path, "id")

    assert filtered(path) == []
    with pytest.raises(duckdb.Error):
        found(path, "id", ABSENT)


@pytest.mark.parametrize("count", [7, 8, 9, 16, 17, 100])
def test_row_groups_are_nearly_full(tmp_path: Path, count: int) -> None:
    rows: pa.Table = table_of(batch(*map(row, range(count))).audits, LOADED_AT)
    size = table_of(batch(*map(row, range(8))).audits, LOADED_AT).nbytes
    pieces = [rows.slice(n, 5) for n in range(0, count, 5)]
    write(tmp_path / "f", pieces, Sizes(row_group_bytes=size))

    with opened(tmp_path / "f") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert file.read()["id"].to_pylist() == rows["id"].to_pylist()
    assert all(7 <= group <= 9 for group in groups[:-1])


@pytest.mark.parametrize("count", [FEW - 1, FEW, FEW + 1, 2 * FEW, 2 * FEW + 1])
def test_each_row_group_has_filters(tmp_path: Path, count: int) -> None:
    path = written(tmp_path / "f", count, Sizes(row_group_rows=FEW))

    with opened(path) as file:
        assert filtered(path) == sorted(FILTERED, key=file.schema_arrow.names.index) * (
            file.num_row_groups
        )
    for column in FILTERED:
        assert [found(path, column, id_of(n)) for n in range(count)] == [1] * count


@pytest.mark.parametrize("count", [MANY - 1, MANY, MANY + 1, 2 * MANY, 2 * MANY + 1])
def test_a_filter_of_many_ids_hides_none(tmp_path: Path, count: int) -> None:
    path = written(tmp_path / "f", count, Sizes(row_group_bytes=1 << 30))
    some = [*range(0, count, 100), count - 1]

    assert filtered(path) == [*FILTERED]
    assert [found(path, "id", id_of(n)) for n in some] == [1] * len(some)


@pytest.mark.parametrize("standing_place", ["parquet"], indirect=True)
def test_a_file_of_0_1_0_is_merged_into_one_of_today(standing_place: Place) -> None:
    standing_place.empty()
    load_into(standing_place.destination, draft(hours(0, 24)), [batch(*map(row, range(9)))])
    before = standing_place.audits()
    [path] = Path(
        standing_place.variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://")
    ).rglob("audits.parquet")
    with opened(path) as file:
        rows = file.read()
    pq.write_table(rows, path, compression="zstd", compression_level=1)
    assert (filtered(path), standing_place.audits()) == ([], before)

    load_into(standing_place.destination, draft(hours(0, 24)), [batch(*map(row, range(10)))])

    assert len(standing_place.audits()) == 10
    assert all(audit in standing_place.audits() for audit in before)
    assert set(filtered(path)) == {*FILTERED}
    assert {chunk.compression for chunk in chunks(path)} == {"ZSTD"}
