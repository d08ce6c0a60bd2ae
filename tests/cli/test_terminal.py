"""What a terminal shows is whole at 60, 80 and 100 columns."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl.app import clock
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator
from tests.support.commands import audit_etl, environment, on_a_terminal

WIDTHS = (60, 80, 100, 140)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an organisation that was exported."""
    folder: Path = tmp_path_factory.mktemp("terminal")
    now = clock().replace(microsecond=0)
    with (
        AuditLog.generate(count=3000, start=now - timedelta(days=40), end=now) as log,
        Simulator(log=log).serve() as url,
    ):
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
            AUDIT_ETL_DESTINATION=f"sqlite:///{folder / 'a.db'}",
            AUDIT_ETL_START="39d",
            AUDIT_ETL_MAX_WINDOW="2d",
            TERM="xterm",
        )
        assert audit_etl("run", env=env).returncode == 0
        yield env


@pytest.mark.parametrize("width", WIDTHS)
def test_the_status_is_whole(env: dict[str, str], width: int) -> None:
    screen = on_a_terminal("status", env=env, columns=width)

    lines = screen.splitlines()
    assert "…" not in screen
    assert max(map(len, lines)) <= width
    [watermark] = [word for word in screen.split() if word.endswith("Z") and "T" in word][:1]
    assert len(watermark) == len("2026-05-01T12:00:00Z")
    for text in ("behind", "last receipt", "gaps", "rejects", "requests in 24h", "minimum"):
        assert text in screen
    assert "audits a day" in screen
    assert "requests a day" in screen


@pytest.mark.parametrize("width", WIDTHS)
def test_the_configuration_is_whole(env: dict[str, str], width: int) -> None:
    screen = on_a_terminal("config", env=env, columns=width)

    assert "…" not in screen
    for text in (
        *("organizations.default.client_secret", CLIENT_ID, "GENESYSCLOUD_OAUTHCLIENT_SECRET"),
        *("schedules.reconcile.lookback", env["AUDIT_ETL_DESTINATION"]),
    ):
        assert text in screen
    assert CLIENT_SECRET not in screen


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_has_a_bar_a_count_and_the_time_left(env: dict[str, str], width: int) -> None:
    screen = on_a_terminal("backfill", "--from", "30d", env=env, columns=width)

    last = screen.split("100 %")[-2:]
    assert "━" in last[0], "a bar"
    assert "audits" in last[1]
    assert "left" in last[1]
    assert "0:0" in last[1] or "-:--" in last[1]
