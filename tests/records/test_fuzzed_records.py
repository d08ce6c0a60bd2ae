"""Whatever arrives is one row that every database holds or one reject, and costs no other."""

import contextlib
import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.database import schema
from etl.database.times import UtcTime
from etl.destinations.sql.rows import bound_for, rows_of
from etl.ledger.service_mapping import known, refresh
from etl.model import ServiceAction
from etl.records import (
    Audit,
    Batch,
    Reject,
    lenient,
    read_records,
    split,
    split_array,
    split_results,
)
from etl.records.lenient import clean
from tests.support.malformed import (
    CURIOSITIES,
    ROUGH,
    SHAPES,
    in_bytes,
    nested,
    records,
    renamed,
    texts,
    values,
    written,
)
from tests.support.places import Place
from tests.support.samples import LOADED_AT, draft, hours, load_into

#: What PostgreSQL holds in one entry of an index, and the columns that have one.
INDEX_BYTES_MAX = 2704
INDEXED = {column for index in schema.audit_events.indexes for column in index.columns}


def test_every_curiosity_in_every_place_is_a_row_or_a_reject() -> None:
    for shape in SHAPES:
        for name in shape:
            for curiosity in CURIOSITIES:
                check(in_bytes(written(shape, {(name,): curiosity})))


@given(records)
@example(b'{"id":"a","eventDate":"2026-03-01","context":{"a":' + nested(200).encode() + b"}}")
@example(b'{"id":"a","eventDate":"1000-01-01T00:00:00+14:00"}')
@example(b'{"id":"a","eventDate":"9998-12-31T23:59:59.9999999-23:59"}')
@settings(max_examples=400)
def test_a_mutated_audit_is_one_row_or_one_reject(record: bytes) -> None:
    check(record)


@given(st.binary(max_size=200) | values.map(lambda v: in_bytes(json.dumps(v, ensure_ascii=False))))
def test_any_bytes_and_any_json_are_one_row_or_one_reject(record: bytes) -> None:
    check(record)


def check(record: bytes) -> None:
    """Normalise a record: it is in the batch once, its text is kept, a row can be stored."""
    batch = read_records([record])
    found: Audit | Reject
    [found] = batch.audits or batch.rejects
    assert len(batch.audits) + len(batch.rejects) == 1
    assert found.raw.decode() == record.decode("utf-8", "replace").replace("\x00", "\\u0000")
    if isinstance(found, Audit):
        assert_that_every_database_holds(found)
    else:
        assert_is_text(found.reason, schema.audit_rejects.c.reason)
        assert_is_text(found.raw.decode(), schema.audit_rejects.c.raw)


def assert_that_every_database_holds(audit: Audit) -> None:
    bound = bound_for("mariadb")._replace(time=lambda instant: instant)
    for table, rows in rows_of("acme", [audit], LOADED_AT, bound):
        for row in rows:
            for column, value in zip(table.c, row, strict=True):
                assert_fits(value, column)


def assert_fits(value: object, column: sa.Column[Any]) -> None:
    if value is None:
        assert column.nullable, column
    elif isinstance(column.type, UtcTime):
        assert isinstance(value, datetime)
        assert value.tzinfo is UTC
        assert value.microsecond % 1000 == 0
        assert 1000 <= value.year <= 9999
    elif isinstance(column.type, sa.Boolean):
        assert isinstance(value, bool)
    elif isinstance(column.type, sa.Integer):
        assert isinstance(value, int)
    else:
        assert_is_text(value, column)


def assert_is_text(value: object, column: sa.Column[Any]) -> None:
    assert isinstance(value, str), column
    assert "\x00" not in value, column
    size = len(value.encode())
    assert column not in INDEXED or size < INDEX_BYTES_MAX - 64
    if isinstance(column.type, sa.String) and column.type.length is not None:
        assert 0 < len(value) <= column.type.length, column
        assert value == value.strip(), column
    shape = column.info.get(schema.SHAPE)
    if shape is not None:
        inner = json.loads(value)
        assert isinstance(inner, list if shape == schema.TEXTS[schema.SHAPE] else dict)
        assert not any("\x00" in text for text in inner if text), "JSONB does not hold it"


@given(st.lists(records, max_size=6), st.sampled_from(['"next"', "null", '"\\ud800"']))
@settings(max_examples=200)
def test_a_page_that_can_be_read_loses_no_record(parts: list[bytes], cursor: str) -> None:
    whole = [part for part in parts if is_json(part)]
    objects = any(part.lstrip().startswith(b"{") for part in whole)
    for shown, comma in ((parts, b", "), (whole, b", "), (whole, b",")):
        body = b'{"id":"q","entities":[%s],"cursor":%s}' % (comma.join(shown), cursor.encode())
        try:
            page = split_results(body, "q", first=True)
        except ValueError:
            deep = any(part.count(b"[") > 100 for part in whole)
            assert shown is not whole or deep or not objects
            continue
        batch = read_records(page.records)
        assert len(batch.audits) + len(batch.rejects) == len(page.records)
        assert shown is not whole or len(page.records) == len(whole)


def is_json(record: bytes) -> bool:
    try:
        json.loads(record.decode(), strict=False)
    except (ValueError, RecursionError):
        return False
    return True


@given(st.binary(max_size=200) | values.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_a_page_or_a_value_error(body: bytes) -> None:
    for cut in (split, partial(split_results, query_id="q", first=True)):
        with contextlib.suppress(ValueError):
            assert cut(body).records is not None
    with contextlib.suppress(ValueError):
        assert all(page.records for page in split_array(iter([body]), 3))


@given(st.lists(values, max_size=6), st.integers(1, 9))
@example([1.5, -2e7, 3e-5], 3)
def test_a_download_is_the_same_however_its_bytes_arrive(shown: list[Any], size: int) -> None:
    shown = [{}, *shown]  # without an object it would be no download of audits
    body = in_bytes(json.dumps(shown))
    chunks = (body[start : start + size] for start in range(0, len(body), size))

    found = [record for page in split_array(chunks, 500) for record in page.records]

    assert found == [in_bytes(json.dumps(value)) for value in shown]


def test_a_download_s_value_that_does_not_end_is_not_read_over_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at = []

    class Counting:
        def raw_decode(self, text: str, start: int) -> tuple[Any, int]:
            looked_at.append(len(text) - start)
            return decoder.raw_decode(text, start)

    decoder = lenient.DECODER
    monkeypatch.setattr(lenient, "DECODER", Counting())
    chunks = [b'[{"a": "', *[b"x" * 1000] * 1000]

    with pytest.raises(ValueError, match="ends too early"):
        list(split_array(iter(chunks), 500))

    assert sum(looked_at) < 5_000_000


@given(shown=st.lists(st.lists(renamed(), min_size=1, max_size=40), min_size=1, max_size=3))
@settings(max_examples=12, phases=ROUGH, suppress_health_check=list(HealthCheck))
def test_every_row_is_stored_and_read_back_as_it_is(
    standing_place: Place, shown: list[list[str]]
) -> None:
    standing_place.empty()
    batches: list[Batch] = []
    expected: dict[str, Audit] = {}
    for batch in (read_records(map(in_bytes, page)) for page in shown):
        kept = []
        for audit in batch.audits:
            first = expected.setdefault(audit.id, audit)
            if audit.event_date == first.event_date:  # which the source promises
                kept.append(audit)
        batches.append(Batch(tuple(kept), batch.rejects))

    receipt = load_into(standing_place.destination, draft(hours(0, 1)), batches, lambda _: None)

    held = {audit.id: audit for audit in standing_place.audits()}
    assert held == expected
    assert receipt.new_events == len(expected)
    with standing_place.destination.ledger.engine.connect() as connection:
        aside = connection.execute(sa.select(schema.audit_rejects.c.raw)).scalars().all()
    assert sorted(aside) == sorted({reject.raw.decode() for b in batches for reject in b.rejects})


@given(shown=st.lists(st.tuples(texts, texts, st.sampled_from(["", "a", "a ", "A", "a\x00"]))))
@settings(max_examples=12, phases=ROUGH, suppress_health_check=list(HealthCheck))
@example(shown=[("a\x00b", "", "x"), ("a", "b ", ""), ("a", "b", ""), ("é" * 200, " ", "")])
def test_every_name_of_a_service_mapping_is_stored(
    standing_place: Place, shown: list[tuple[str, str, str]]
) -> None:
    standing_place.empty()
    engine = standing_place.destination.ledger.engine
    mapping = [ServiceAction(*map(clean, names)) for names in shown]

    new = refresh(engine, "acme", mapping, mapping[:1], LOADED_AT)

    assert sorted(kind.action for kind in known(engine, "acme")) == new
    assert refresh(engine, "acme", mapping, [], LOADED_AT) == []
