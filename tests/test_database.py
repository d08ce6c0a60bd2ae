"""A transaction that lost against another is tried again, on what the other left."""

import sqlalchemy as sa

from etl.database import transact
from etl.schema import early_audits
from tests.samples import LOADED_AT

ROW = {"organization": "default", "id": "a", "loaded_at": LOADED_AT}


def test_a_transaction_that_met_a_key_of_another_runs_again(engine: sa.Engine) -> None:
    attempts = 0

    def work(connection: sa.Connection) -> int:
        nonlocal attempts
        attempts += 1
        for _ in range(2 if attempts == 1 else 1):  # the first time, as if another had been first
            connection.execute(sa.insert(early_audits), ROW)
        return attempts

    assert transact(engine, work) == 2

    with engine.connect() as connection:
        ids = connection.execute(sa.select(early_audits.c.id)).scalars().all()
    assert ids == ["a"]
