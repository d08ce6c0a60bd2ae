"""Old audits are removed as docs/operating.md says, by its own statements."""

import re
from datetime import datetime

import sqlalchemy as sa

from etl.destinations.lake.layout import span_of
from tests import TOP
from tests.support.operator_actions import Files, statements
from tests.support.places import Place

#: What stands in the recipe for the time, and for the organisation.
TIME = "2026-05-01 00:00:00"
ORGANIZATION = "default"


def _blocks() -> list[str]:
    operating = (TOP / "docs" / "operating.md").read_text()
    [section] = re.findall(r"^### Remove old audits\n(.*?)(?=^##)", operating, re.M | re.S)
    return re.findall(r"^ *```sql\n(.*?)^ *```", section, re.M | re.S)


FIRST, AGAIN, REMOVE = _blocks()


def _run(engine: sa.Engine, block: str, text: str, organization: str) -> None:
    made = block.replace(TIME, text).replace(f"'{ORGANIZATION}'", f"'{organization}'")
    statements(engine, *filter(str.strip, made.split(";\n")))


def keep_from(
    engine: sa.Engine, kept: datetime | str, organization: str = ORGANIZATION, block: str = FIRST
) -> None:
    """Write down from when on audits are kept."""
    text = kept if isinstance(kept, str) else f"{kept:%Y-%m-%d %H:%M:%S}"
    _run(engine, block, text, organization)


def remove(place: Place, kept: datetime, organization: str = ORGANIZATION) -> None:
    """Remove the audits before that: rows, or the folders of a lake whose days are over then."""
    engine = place.destination.ledger.engine
    if not place.variables["AUDIT_ETL_DESTINATION"].startswith("parquet"):
        _run(engine, REMOVE, f"{kept:%Y-%m-%d %H:%M:%S}", organization)
        return
    files = Files(place)
    for path in files.paths():
        if f"organization={organization}/" in path and span_of(path).end <= kept:
            files.delete(path)
