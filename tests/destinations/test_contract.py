"""Every kind of destination keeps the contract."""

import pytest

from etl.destinations.lake import staging
from etl.destinations.sql import destination as sql_module
from etl.destinations.sql import inserter, keys
from tests.contracts.destination import DestinationContract


class TestEachKind(DestinationContract):
    @pytest.fixture
    def small_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sql_module, "GROUP_BYTES", 2_000)
        monkeypatch.setattr(keys, "LISTED_KEYS", 3)
        monkeypatch.setattr(inserter, "SQLITE_VALUES", 60)
        monkeypatch.setattr(inserter, "MYSQL_BYTES", 4_000)
        monkeypatch.setattr(staging, "FAN_IN", 3)
