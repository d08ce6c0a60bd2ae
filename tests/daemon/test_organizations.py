"""Several organisations in one daemon: what happens to one is nothing to the others."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from etl.simulator.faults import Faults
from tests.support.commands import CLIENT_ID, SECRET
from tests.support.daemons import Daemon, until
from tests.support.live_organization import Organisation, copy_at, living

TROUBLED = {
    "denied": Faults(deny_permission=True),
    "limited": Faults(too_many_requests_every=1, retry_after=1000),
    "slow": Faults(too_many_requests_every=2, retry_after=60),
    "stuck": Faults(stuck_query_every=1),
}


@pytest.fixture
def organisations() -> Iterator[dict[str, Organisation]]:
    """Two that work and four that do not, by name."""
    with ExitStack() as stack:
        made = {name: stack.enter_context(living()) for name in ("one", *TROUBLED, "two")}
        for name, faults in TROUBLED.items():
            made[name].simulator.faults = faults
        yield made


def credentials(organisations: dict[str, Organisation]) -> dict[str, str]:
    return {
        f"AUDIT_ETL_ORGANIZATIONS__{name.upper()}__{key}": value
        for name, organisation in organisations.items()
        for key, value in (
            ("REGION", organisation.url),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", SECRET),
        )
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_neither_failure_nor_slowness_of_one_organisation_holds_up_another(
    organisations: dict[str, Organisation], tmp_path: Path, kind: str
) -> None:
    lake = tmp_path / "lake"
    state = f"sqlite:///{tmp_path / 'state.db'}"
    url = state if kind == "sqlite" else f"parquet://{lake}"
    env = organisations["one"].environment(
        url, AUDIT_ETL_LEDGER=state, **credentials(organisations)
    )
    for variable in ("REGION", "OAUTHCLIENT_ID", "OAUTHCLIENT_SECRET"):
        del env[f"GENESYSCLOUD_{variable}"]  # or there is an organisation `default` as well
    with Daemon(tmp_path / "log", env) as daemon, ExitStack() as stack:
        copies = {
            name: stack.enter_context(
                copy_at(state, organisations[name], name, lake if kind == "parquet" else None)
            )
            for name in ("one", "two")
        }
        until(lambda: organisations["stuck"].simulator.queries, "one waits for its query")

        for copy in copies.values():
            until(partial(copy.goes_on, copy.receipts + 2), "the others go on")

        assert daemon.ended() == 0
    for name in TROUBLED:
        assert not copies["one"].count(
            f"SELECT COUNT(*) FROM receipts WHERE organization = '{name}'"
        )
    for copy in copies.values():
        copy.keeps_its_promises()
    assert "Traceback" not in daemon.log
