"""The readers of docs/lake.md keep an organisation's name as the text that it is."""

import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from etl.destinations.lake.columns import table_of
from etl.destinations.lake.writing import write
from etl.sizes import Sizes
from tests import TOP
from tests.support.samples import LOADED_AT, batch, record

DOCUMENT = (TOP / "docs" / "lake.md").read_text()
NAMES = ["007", "1e5", "true", "2026-03-02", "null", "nan"]


@pytest.fixture
def snippets(tmp_path: Path) -> list[str]:
    """The document's readers, of a lake of organisations whose names look like other things."""
    for name in NAMES:
        folder = tmp_path / f"audit_events/organization={name}/date=2026-03-02"
        folder.mkdir(parents=True)
        rows: pa.Table = table_of(list(batch(record(f"a-{name}", 24)).audits), LOADED_AT)
        write(folder / "audits.parquet", [rows], Sizes())
    found = re.findall(r"```\w+\n(.*?)```", DOCUMENT, re.S)
    return [snippet.replace("/srv/audits", str(tmp_path)) for snippet in found]


def test_duckdb(snippets: list[str]) -> None:
    questions = [s for s in snippets if "read_parquet" in s]
    assert len(questions) == 2
    for question in questions:
        source = re.search(r"read_parquet\(.*?\}\)", question, re.S)
        assert source is not None
        relation = duckdb.sql(f"SELECT DISTINCT organization FROM {source[0]}")
        assert relation is not None
        rows = relation.fetchall()
        assert sorted(str(row[0]) for row in rows) == sorted(NAMES)


def test_polars(snippets: list[str]) -> None:
    made: dict[str, Any] = {}
    [snippet] = [s for s in snippets if s.startswith("import polars")]
    exec(snippet, made)

    assert sorted(made["audits"].collect()["organization"].to_list()) == sorted(NAMES)


def test_pyarrow(snippets: list[str]) -> None:
    made: dict[str, Any] = {}
    [snippet] = [s for s in snippets if s.startswith("import pyarrow")]
    exec(snippet, made)

    assert sorted(made["audits"].to_table()["organization"].to_pylist()) == sorted(NAMES)
