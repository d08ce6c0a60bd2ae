"""Questions to a destination: one SELECT, answered as a stream of Arrow batches. Read-only."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pyarrow as pa

from etl.app import App
from etl.destinations.questions import accepted


@contextmanager
def answer(app: App, question: str) -> Iterator[pa.RecordBatchReader]:
    """The answer to `question`, to be read inside the block.

    It is asked over `audit_events`, `audit_property_changes` and `audit_entity_changes`, with the
    same columns for every destination. No two columns of the answer have the same name.

    Raises:
        UsageError: the SQL is refused, or would change something.
        ConfigurationError: there is no destination to ask.
        DestinationUnavailable: the destination was lost before the last row.
    """
    question = accepted(question, app.place.dialect)
    app.require_tables()
    with app.place.answer(app.engine, question) as reader:
        yield _with_distinct_names(reader)


def _with_distinct_names(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The answer with `id_2`, `id_3`, ... in place of the second, third, ... column named `id`."""
    names, taken = list[str](), set(reader.schema.names)
    for name in reader.schema.names:
        free = (f"{name}_{number}" for number in count(2) if f"{name}_{number}" not in taken)
        names.append(next(free) if name in names else name)
        taken.add(names[-1])
    if names == reader.schema.names:
        return reader
    fields = [field.with_name(name) for field, name in zip(reader.schema, names, strict=True)]
    schema = pa.schema(fields)
    return pa.RecordBatchReader.from_batches(
        schema, (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)
    )
