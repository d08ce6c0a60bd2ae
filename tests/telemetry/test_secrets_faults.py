"""Whatever goes wrong at the source, no secret is in a log, an error, a table or a file."""

import io
import logging
import traceback
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog
from etl.telemetry.logs import formatter
from tests.support.fault_matrix import CELLS, Cell
from tests.support.hostile_organization import World, log_with_edges
from tests.support.log_capture import everything_to
from tests.support.places import Place

BASIC = b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with log_with_edges(seed=12, audits=120, late_share=0) as log:
        yield log


@pytest.mark.parametrize("standing_place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name.replace("`", ""))
def test_no_fault_brings_a_secret_to_light(hostile: World, cell: Cell) -> None:
    hostile.suffer(cell)
    written = io.StringIO()
    handlers = [logging.StreamHandler(written), logging.StreamHandler(written)]
    for handler, terminal in zip(handlers, (True, False), strict=True):
        handler.setFormatter(formatter(terminal=terminal))

    with everything_to(*handlers):
        error = hostile.run().error

    told = "".join(traceback.format_exception(error)) if error else ""
    shown = "\n".join((written.getvalue(), told, repr(error), *contents(hostile.place)))
    simulator = hostile.simulator
    assert "POST /oauth/token" in written.getvalue()  # urllib3 at DEBUG
    assert simulator.tokens.known() or cell.status == 69
    assert bool(simulator.downloads) == ("redirect_over" in cell.faults)
    for secret in (CLIENT_SECRET, BASIC, *simulator.tokens.known(), *simulator.downloads):
        assert secret not in shown


def contents(place: Place) -> Iterator[str]:
    """All rows of all tables, and the bytes of the database's files."""
    engine = place.destination.ledger.engine
    with engine.connect() as connection:
        for table in sa.inspect(engine).get_table_names():
            yield from map(str, connection.exec_driver_sql(f"SELECT * FROM {table}"))
    path = Path(engine.url.database or "")
    for file in path.parent.glob(f"{path.name}*"):
        yield file.read_bytes().decode("latin-1")
