"""What looks like SQL, in a name, an id or a record, is a text like any other."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from etl.database import schema
from etl.errors import AuditEtlError, ConfigurationError, UsageError
from etl.ledger import service_mapping, status
from etl.model import Receipt, ServiceAction, Stream
from etl.operations import export, query, selection, verify
from etl.operations.verifier import Verdict
from etl.simulator import AuditLog, Simulator
from etl.window import Window
from tests.support.hostile_organization import BEGIN, World, world
from tests.support.places import Place
from tests.support.samples import LOADED_AT, batch, draft, hours, load_into, record
from tests.support.simulated_organization import NOW, audit

HOSTILE = [
    "Robert'); DROP TABLE audit_events; --",
    'x" OR "1"="1',
    "100% %s %(id)s {0} :id ?1 $1 @x",
    "\\'; DELETE FROM receipts; /*",
    "`; TRUNCATE watermarks; #",
    '\\N\\.\\x00\t\r\n,"',
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
]
SPAN = Window(BEGIN, BEGIN + timedelta(days=1))


def shown() -> list[dict[str, Any]]:
    """Audits with each of the texts in each of their places."""
    return [
        audit(
            number,
            BEGIN + timedelta(hours=1, seconds=number),
            id=text.strip(),
            serviceName=text,
            action=text,
            entityType=text,
            entity={"id": text, "name": text},
            user={"id": text, "name": text},
            remoteIp=[text],
            context={text: text},
            message={"message": text, "messageParams": {text: text}},
            propertyChanges=[{"property": text, "oldValues": [text], "newValues": [text]}],
            entityChanges=[{"entityType": text, "entityId": text, "newValues": [text]}],
        )
        for number, text in enumerate(HOSTILE)
    ]


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.of([(record, BEGIN + timedelta(hours=2)) for record in shown()]) as log:
        yield log


@pytest.fixture
def hostile(log: AuditLog, standing_place: Place) -> Iterator[World]:
    simulator = Simulator(log=log)
    with simulator.serve() as url, world(log, (simulator, url), standing_place) as made:
        yield made


def test_records_full_of_sql_go_through_every_command_unharmed(hostile: World) -> None:
    expected = sorted(hostile.shown(BEGIN, NOW).values(), key=lambda audit: audit.id)
    assert len(expected) == len(HOSTILE)

    assert hostile.run().status == 0
    assert hostile.backfill(SPAN).status == 0
    with hostile.app() as app:
        streams = app.streams()
        verdicts = list(verify.verify(app, SPAN, streams, repair=True))
        statuses = status.gather(app.destination().ledger, streams, BEGIN, NOW)
        with query.answer(app, "SELECT id, action FROM audit_events") as reader:
            answered = {row["id"]: row["action"] for row in reader.read_all().to_pylist()}

    assert sorted(hostile.place.audits(), key=lambda audit: audit.id) == expected
    assert [(type(v), v.verification.missing) for v in verdicts if isinstance(v, Verdict)] == [
        (Verdict, 0)
    ]
    assert [found.stream for found in statuses] == streams
    assert answered == {text.strip(): text for text in HOSTILE}
    tables = sa.inspect(hostile.place.destination.ledger.engine).get_table_names()
    assert {"audit_events", "receipts", "watermarks"} <= set(tables)


def test_names_full_of_sql_are_kept_apart_in_every_table(standing_place: Place) -> None:
    standing_place.empty()
    destination, engine = standing_place.destination, standing_place.destination.ledger.engine
    streams = [Stream("acme", text.strip()) for text in HOSTILE]
    for stream in streams:
        destination.ledger.begin(stream, hours(0, 1).start, LOADED_AT)
        load_into(
            destination, draft(hours(0, 1), stream=stream), [batch(record("a"))], lambda _: None
        )
        service_mapping.refresh(
            engine, stream.service or "", [ServiceAction("a", "b", "c")], [], LOADED_AT
        )

    for stream in streams:
        watermark = destination.ledger.watermark(stream)
        assert watermark is not None
        assert watermark.reached == hours(0, 1).end
        assert len(service_mapping.known(engine, stream.service or "")) == 1
    assert {found.service for found in destination.ledger.streams()} == {
        stream.service for stream in streams
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_a_service_full_of_sql_on_the_command_line_is_a_service_like_any_other(
    hostile: World, text: str
) -> None:
    with hostile.app() as app:
        [stream] = selection.selected(app, (text,))
        [receipt] = export.backfill(app, SPAN, [stream])

    assert isinstance(receipt, Receipt)
    assert (receipt.stream.service, receipt.new_events) == (text, 1)
    assert [audit.service_name for audit in hostile.place.audits()] == [text]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
def test_an_organisation_or_a_setting_full_of_sql_is_refused(hostile: World, text: str) -> None:
    with hostile.app() as app, pytest.raises(AuditEtlError):
        app.settings.of_organizations([text])
    hostile.settings = {"AUDIT_ETL_ORGANIZATIONS__DEFAULT__SERVICES": text}
    with pytest.raises(ConfigurationError), hostile.app():
        pass


@pytest.mark.parametrize(
    "question",
    [
        "DROP TABLE audit_events",
        "SELECT 1; DELETE FROM audit_events",
        "WITH gone AS (DELETE FROM audit_events RETURNING id) SELECT * FROM gone",
        "SELECT 1; COMMIT; DROP TABLE audit_events",
        "/* SELECT */ UPDATE audit_events SET raw = ''",
    ],
)
def test_a_question_cannot_change_anything(hostile: World, question: str) -> None:
    hostile.run()
    before = hostile.place.audits()

    with hostile.app() as app, pytest.raises(UsageError), query.answer(app, question) as reader:
        reader.read_all()

    assert len(before) == len(HOSTILE)
    assert hostile.place.audits() == before
    with hostile.place.destination.ledger.engine.connect() as connection:
        assert connection.execute(sa.select(schema.receipts)).first() is not None
