"""What an audit's text holds never acts on a terminal, nor on what draws tables there."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.app import clock
from etl.database import migration
from etl.database.engine import open_engine
from etl.ledger import service_mapping
from etl.model import ServiceAction
from etl.plain import plain, plain_lines
from etl.simulator import AuditLog, Simulator
from tests.support.commands import CLIENT_ID, SECRET, audit_etl, environment, on_a_terminal
from tests.support.simulated_organization import audit

#: Clears the screen, sets a title, moves up; C1's way to do so; turns the direction of writing.
ACTS = "\x1b[2J\x1b]0;pwned\x07\x9b1A\u202e\u2066\x7f\r\nforged line"
#: Two marks of rich's, of which the second one closes what was never opened.
MARKS = "[bold]loud[/bold] [/x] :warning:"
NAME = MARKS + ACTS
HARMFUL = ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e", "\u2066", "\x7f", "\nforged")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an organisation whose names would act, exported into a database."""
    begin = clock().replace(microsecond=0) - timedelta(hours=1)
    shown = [
        audit(n, begin + timedelta(seconds=n), serviceName=NAME, entity={"id": "e", "name": NAME})
        for n in range(3)
    ]
    log = AuditLog.of((record, begin) for record in shown)
    simulator = Simulator(log=log, client_id=CLIENT_ID, client_secret=SECRET, query_seconds=0)
    folder = tmp_path_factory.mktemp("plain")
    with simulator.log, simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=SECRET,
            AUDIT_ETL_DESTINATION=f"sqlite:///{folder}/audits.db",
            AUDIT_ETL_START="2h",
            TERM="xterm",
        )
        assert audit_etl("run", env=env).returncode == 0
        yield env


def require_harmless(screen: str) -> None:
    assert [harm for harm in HARMFUL if harm in screen] == []


def undrawn(screen: str) -> str:
    """A screen without the line breaks of a table that is too wide for it."""
    return "".join(screen.split())


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_a_question_shows_names_and_does_not_obey_them(
    variables: dict[str, str], form: str
) -> None:
    question = "SELECT id, entity_name FROM audit_events"

    screen = on_a_terminal("query", "--format", form, question, env=variables)

    require_harmless(screen)
    assert screen.count(MARKS) == 3
    assert "\\u001b[2J" in screen
    assert "\\u202e" in screen


def test_what_another_program_reads_is_what_is_there(variables: dict[str, str]) -> None:
    question = "SELECT entity_name FROM audit_events"

    lines = audit_etl("query", "--format", "jsonl", question, env=variables).stdout.splitlines()
    cells = audit_etl("query", "--format", "csv", question, env=variables).stdout

    assert [json.loads(line)["entity_name"] for line in lines] == [NAME] * 3
    assert cells.count(NAME.replace("\r\n", "\n")) == 3 or cells.count(NAME) == 3


def test_a_verdict_is_not_hidden_by_the_name_of_a_service(
    variables: dict[str, str], tmp_path: Path
) -> None:
    empty = variables | {"AUDIT_ETL_DESTINATION": f"sqlite:///{tmp_path}/empty.db"}
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    migration.upgrade(engine)
    engine.dispose()

    screen = on_a_terminal("verify", "--from", "2h", "--to", "20m", env=empty, status=65)

    require_harmless(screen)
    assert "[/x]" in undrawn(screen)
    assert "incomplete: 3 audits compared, 3 missing" in screen


def test_services_are_listed_whatever_they_are_called(variables: dict[str, str]) -> None:
    engine = open_engine(variables["AUDIT_ETL_DESTINATION"])
    odd = [ServiceAction(NAME[:100], "[/y]\x1b[2J", "\u202e")]
    service_mapping.refresh(engine, "default", odd, [], clock())
    engine.dispose()

    screen = on_a_terminal("services", env=variables)

    require_harmless(screen)
    assert "[/x]" in undrawn(screen)


def test_an_audit_that_is_followed_is_still_json(variables: dict[str, str]) -> None:
    ids = [json.loads(line)["id"] for line in questions(variables)]

    screen = on_a_terminal("tail", "--related", ids[0], env=variables)

    require_harmless(screen)
    assert [json.loads(line)["entity"]["name"] for line in screen.splitlines()] == [NAME]


def questions(variables: dict[str, str]) -> list[str]:
    question = "SELECT id FROM audit_events ORDER BY id"
    return audit_etl("query", "--format", "jsonl", question, env=variables).stdout.splitlines()


def test_an_address_in_brackets_is_no_markup() -> None:
    env = environment(AUDIT_ETL_HEALTH_ADDRESS="[fe80::1]:9464", TERM="xterm")

    assert "[fe80::1]:9464" in on_a_terminal("config", env=env)


@given(st.text())
def test_any_text_is_printable_afterwards_and_json_the_same(text: str) -> None:
    assert plain(text).isprintable()
    assert json.loads(plain(json.dumps(text, ensure_ascii=False))) == text
    assert plain_lines(f"a\n{text}").startswith("a\n")


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_a_printable_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text
