"""Every kind of destination keeps the contract."""

import pytest

from etl.destinations import AnyDestination
from tests.contracts.destination import DestinationContract
from tests.support.places import Place


class TestEachKind(DestinationContract):
    @pytest.fixture
    def small_pieces(self, place: Place) -> AnyDestination:
        small = place.cut(
            group_bytes=2_000, listed_keys=3, sqlite_values=60, mysql_bytes=4_000, fan_in=3
        )
        return small.destination
