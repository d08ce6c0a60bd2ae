"""`query`: one SELECT, over the same relations whatever the destination."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final

import click
import pyarrow as pa
import pyarrow.parquet as pq

from etl.cli.shared import app_of, common_options
from etl.errors import DestinationUnavailable, UsageError
from etl.operations import query
from etl.plain import plain
from etl.private import open_private

#: Rows that are laid out together in a table, whose widths are theirs.
TABLE_ROWS: Final = 1_000


@click.command(
    "query",
    epilog='Example: audit-etl query "SELECT action, count(*) FROM audit_events GROUP BY action"',
)
@click.argument("question", metavar="SELECT")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl", "parquet"]),
    help="How to print the answer; a table on a terminal, else CSV.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file, for you alone.",
)
@common_options
@click.pass_context
def query_command(
    context: click.Context,
    *,
    question: str,
    form: str | None,
    output: Path | None,
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Ask the destination one SELECT, which only reads.

    Over audit_events, audit_property_changes and audit_entity_changes, with the same columns on
    every destination: an SQL server answers itself, DuckDB answers for a lake. Times are UTC.
    --json is the same as --format jsonl. The answer is streamed: it may be larger than memory.
    """
    form = "jsonl" if as_json else form
    on_terminal = output is None and sys.stdout.isatty()
    form = form or ("table" if on_terminal else "csv")
    if form == "parquet" and output is None:
        raise UsageError("--format parquet needs --output FILE")
    with (
        app_of(context, config_path, verbose=verbose) as app,
        query.answer(app, question) as reader,
        _opened(output) as text,
    ):
        _WRITERS[form](reader, text)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        with open(output, "w", newline="", encoding="utf-8", opener=_privately) as text:
            yield text
    except OSError as error:
        raise DestinationUnavailable(f"{output} cannot be written: {error.strerror}") from None


def _privately(path: str, flags: int) -> int:
    return open_private(Path(path), flags)


def _rows(reader: pa.RecordBatchReader) -> Iterator[dict[str, object]]:
    """The answer's rows, with times as SQLite keeps them: the same text on every destination."""
    for batch in reader:
        for row in batch.to_pylist():
            yield {name: _told(value) for name, value in row.items()}


def _told(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03}"
    return value


def _write_csv(reader: pa.RecordBatchReader, text: IO[str]) -> None:
    writer = csv.writer(text, lineterminator="\n")
    shown = plain if text.isatty() else str  # a file or another program gets what is there
    writer.writerow(map(shown, reader.schema.names))
    for row in _rows(reader):
        writer.writerow("" if value is None else shown(str(value)) for value in row.values())


def _write_json_lines(reader: pa.RecordBatchReader, text: IO[str]) -> None:
    for row in _rows(reader):
        text.write(plain(json.dumps(row, ensure_ascii=False, default=str)) + "\n")


def _write_parquet(reader: pa.RecordBatchReader, text: IO[str]) -> None:
    if not isinstance(text, TextIOWrapper):
        raise UsageError("--format parquet needs --output FILE")
    with pq.ParquetWriter(text.buffer, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _write_table(reader: pa.RecordBatchReader, text: IO[str]) -> None:
    names, part = [plain(name) for name in reader.schema.names], []
    for row in _rows(reader):
        part.append(["" if value is None else plain(str(value)) for value in row.values()])
        if len(part) == TABLE_ROWS:
            _write_part(names, part, text)
            part = []
    if part:
        _write_part(names, part, text)


def _write_part(names: list[str], rows: list[list[str]], text: IO[str]) -> None:
    widths = [max(len(line[n]) for line in [names, *rows]) for n in range(len(names))]
    for line in [names, ["-" * width for width in widths], *rows]:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text.write("  ".join(cells).rstrip() + "\n")


_WRITERS: Final[dict[str, Callable[[pa.RecordBatchReader, IO[str]], None]]] = {
    "table": _write_table,
    "csv": _write_csv,
    "jsonl": _write_json_lines,
    "parquet": _write_parquet,
}
