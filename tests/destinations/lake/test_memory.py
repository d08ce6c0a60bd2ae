"""Nothing that is held in memory grows with a partition of a lake, nor with an answer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from etl.destinations.lake.columns import table_of
from etl.destinations.lake.writing import cut, opened, read, write
from etl.sizes import Sizes
from tests import TOP
from tests.support.large_lake import peak_of
from tests.support.samples import BEGIN, LOADED_AT, batch, record

#: Of a process, in MiB: the bound of a load, and how much ten times as many rows may add.
MOST, GROWTH = 250, 1.15
SIZES = 20_000, 200_000


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tick", "query"])
def test_a_partition_that_is_ten_times_as_large_takes_no_more_memory(what: str) -> None:
    small, large = (peak_of(what, size) for size in SIZES)

    assert large < MOST
    assert large < GROWTH * small


def test_arrow_takes_its_memory_from_the_system() -> None:
    code = "import etl.cli.{0}, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("ARROW_")}
    for command in ("query", "export"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(command)],
            check=True,
            capture_output=True,
            text=True,
            cwd=TOP,
            env=env,
        )
        assert done.stdout == "system\n"


def rows_of(count: int, text: str = "x") -> pa.Table:
    shown = [record(f"{n:05}", n / 60, context={"text": text}) for n in range(count)]
    return table_of(batch(*shown).audits, LOADED_AT)


def ids(tables: Iterator[pa.Table]) -> list[str]:
    return [str(value) for table in tables for value in table["id"].to_pylist()]


BYTES = Sizes().read_bytes
#: Around one and two pieces of three rows.
EDGES = [2, 3, 4, 6, 7]


@pytest.mark.parametrize("count", EDGES)
@pytest.mark.parametrize("group", [2, 3, 100])
def test_each_row_is_read_once_and_in_order_at_the_edges_of_pieces_and_groups(
    tmp_path: Path, count: int, group: int
) -> None:
    write(tmp_path / "f", iter([rows_of(count)]), Sizes(row_group_rows=group))
    with opened(tmp_path / "f") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert (sum(groups), max(groups) <= group, min(groups) > 0) == (count, True, True)
        for most in (1, 2, 3, 4):
            pieces = list(read(file, most, BYTES))
            assert ids(iter(pieces)) == [f"{n:05}" for n in range(count)]
            assert max(piece.num_rows for piece in pieces) <= most
        late = ids(
            read(file, 1_000, BYTES, ["event_date", "id"], BEGIN + timedelta(minutes=count - 1))
        )
        assert late[-1] == f"{count - 1:05}"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_large_rows_are_pieces_and_row_groups_of_their_own(tmp_path: Path, count: int) -> None:
    rows = rows_of(count, "y" * 9_000)

    assert [piece.num_rows for piece in cut(rows, 100, 10_000)] == [1] * count
    assert ids(cut(rows, 100, 10_000)) == ids(iter([rows]))
    write(tmp_path / "f", iter([rows]), Sizes(row_group_bytes=10_000))
    with opened(tmp_path / "f") as file:
        assert file.num_row_groups == count
        assert ids(read(file, 1_000, BYTES)) == [f"{n:05}" for n in range(count)]


def test_nothing_is_cut_of_nothing() -> None:
    assert list(cut(rows_of(1).slice(0, 0), 10, 10)) == []
