"""An organisation is the one whose audits are stored under its name, or nothing is asked of it."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.database import schema
from etl.errors import AuditEtlError, ConfigurationError, SourceUnavailable
from etl.operations import early, recognition
from etl.operations.recognition import Known, require_same, twins_of
from etl.simulator import CLIENT_ID, CLIENT_SECRET, Faults
from tests.support.commands import audit_etl, environment
from tests.support.known_organizations import BEGIN, COUNT, Served, Stage, ids, staged
from tests.support.places import Place
from tests.support.simulated_organization import NOW


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


def test_other_credentials_under_a_name_are_refused(stage: Stage, place: Place) -> None:
    first, other = stage.organisation(1), stage.organisation(2)
    stage.run(first.variables | dict(place.variables))
    before = place.audits()

    with pytest.raises(ConfigurationError, match="is now the organisation"):
        stage.run(other.variables | dict(place.variables))

    assert other.simulator.requests["query"] == 0
    assert place.audits() == before
    assert stage.run(first.variables | dict(place.variables))
    assert ids(place) == first.shown()


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_no_command_takes_other_credentials(stage: Stage, place: Place) -> None:
    first, other = stage.organisation(1), stage.organisation(2)
    stage.run(first.variables | dict(place.variables))
    env = environment(**{**other.variables, **place.variables})

    for command in (
        ["run"],
        ["backfill", "--from", f"{BEGIN:%Y-%m-%d}", "--to", f"{NOW:%Y-%m-%d}"],
        ["verify", "--from", f"{BEGIN:%Y-%m-%d}", "--to", f"{NOW:%Y-%m-%d}", "--repair"],
        ["services"],
        ["check"],
    ):
        result = audit_etl(*command, env=env)
        assert result.returncode == ConfigurationError.exit_status, result
        text = result.stdout + result.stderr
        assert "organisation default is now the organisation " in text
        assert "organizations.default.client_id back" in text
        assert "`audit-etl migrate --adopt`" in text

    assert other.simulator.requests["query"] == 0


def test_a_new_client_of_the_same_organisation_costs_one_question_and_nothing_else(
    stage: Stage, place: Place
) -> None:
    first = stage.organisation(1)
    stage.run(first.variables | dict(place.variables))
    stage.run(first.variables | dict(place.variables))
    assert first.questions == 1
    rotated = stage.organisation(1, client_id="another-client")  # and another address

    for _ in range(2):
        receipts = stage.run(rotated.variables | dict(place.variables))
        assert receipts

    assert rotated.questions == 1
    assert ids(place) == first.shown()


def test_a_region_may_be_written_in_any_way(stage: Stage, tmp_path: Path) -> None:
    ways = ["eu-central-1", "mypurecloud.de", "https://api.mypurecloud.de", "LOGIN.mypurecloud.de"]
    variables = stage.organisation(1).variables | destination(tmp_path)
    with ExitStack() as stack:
        apps = [
            stack.enter_context(stage.app(variables | {"GENESYSCLOUD_REGION": w})) for w in ways
        ]
        assert {app.source("default").client for app in apps} == {
            f"{CLIENT_ID} at https://api.mypurecloud.de"
        }


def destination(folder: Path) -> dict[str, str]:
    return {"AUDIT_ETL_DESTINATION": f"sqlite:///{folder / 'audits.db'}"}


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_an_organisation_that_does_not_say_who_it_is_is_known_by_its_client(
    stage: Stage, tmp_path: Path, status: int
) -> None:
    first = stage.organisation(1)
    first.simulator.faults = Faults(token_info_status=status)
    variables = first.variables | destination(tmp_path)

    assert stage.run(variables)
    assert stage.run(variables)

    asked = first.questions
    first.simulator.client_id = "another-client"
    with pytest.raises(SourceUnavailable if status >= 500 else ConfigurationError) as refused:
        stage.run(first.variables | destination(tmp_path))
    assert first.questions > asked
    if status < 500:
        assert "cannot be found out" in str(refused.value)


def test_an_organisation_that_did_not_say_who_it_is_is_asked_again_after_a_day(
    stage: Stage, tmp_path: Path
) -> None:
    served = stage.organisation(1)
    variables = served.variables | destination(tmp_path)
    served.simulator.faults = Faults(token_info_status=404)
    for hours, asked in ((0, 1), (12, 1), (13, 2), (1, 2)):
        stage.clock.move(hours=hours)
        stage.run(variables)
        assert served.questions == asked

    served.simulator.faults = Faults()
    for hours, asked in ((1, 2), (24, 3), (48, 3)):
        stage.clock.move(hours=hours)
        stage.run(variables)
        assert served.questions == asked
    rotated = stage.organisation(1, client_id="another-client")
    assert stage.run(rotated.variables | destination(tmp_path))


def test_a_question_that_meets_the_rate_limit_waits_as_any_request_does(
    stage: Stage, tmp_path: Path
) -> None:
    served = stage.organisation(1)
    served.simulator.faults = Faults(quota=9, retry_after=5)
    served.simulator.quota.granted = 9

    assert stage.run(served.variables | destination(tmp_path))

    assert served.questions == 2


OLD = Known("id-1", "client at url", NOW)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (None, None),
        ("id-2", None),
        (None, OLD),
        ("id-2", Known("", "client at url", NOW)),
        ("id-1", Known("id-1", "another", NOW)),
    ],
)
def test_what_is_the_same_passes(told: str | None, known: Known | None) -> None:
    require_same("default", "client at url", told, known)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("id-2", Known("id-1", "another", NOW)),
        (None, Known("id-1", "another", NOW)),
        ("id-2", Known("id-1", "client at url", NOW)),
        ("id-1", Known("", "another", NOW)),
        (None, Known("", "client at http://127.0.0.1:1/x", NOW)),
        (None, Known("", "another", NOW)),
    ],
)
def test_what_is_not_known_to_be_the_same_is_refused(told: str | None, known: Known) -> None:
    with pytest.raises(ConfigurationError, match="migrate --adopt"):
        require_same("default", "client at url", told, known)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_port_of_this_machine_tells_no_two_organisations_apart(host: str) -> None:
    known = Known("", f"client at http://{host}:1234", NOW)

    require_same("default", f"client at http://{host}:80", None, known)
    require_same("default", f"client at http://{host}", None, known)
    for other in (f"other at http://{host}:1234", "client at https://h.example:1234"):
        with pytest.raises(ConfigurationError, match="cannot be found out"):
            require_same("default", other, None, known)
    with pytest.raises(ConfigurationError, match="is now the organisation id-2"):
        named = Known("id-1", known.client, NOW)
        require_same("default", f"client at http://{host}:80", "id-2", named)


def test_names_of_one_organisation_are_twins_unless_it_is_unknown() -> None:
    everyone = {"a": OLD, "b": OLD, "c": Known("", "x", NOW), "d": Known("", "x", NOW)}

    assert twins_of("a", "id-1", everyone) == ["b"]
    assert twins_of("c", "", everyone) == []


def named(served: Served, *names: str) -> dict[str, str]:
    """The variables of an organisation under names of its own."""
    credentials = {
        "REGION": served.url,
        "CLIENT_ID": served.simulator.client_id,
        "CLIENT_SECRET": CLIENT_SECRET,
    }
    return {
        f"AUDIT_ETL_ORGANIZATIONS__{name}__{key}": value
        for name in names
        for key, value in credentials.items()
    } | {"AUDIT_ETL_START": BEGIN.isoformat()}


def test_a_second_name_of_an_organisation_is_warned_of(
    stage: Stage, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    served = stage.organisation(1)
    stage.run(named(served, "OLD") | dict(place.variables))
    assert "also stored" not in caplog.text

    stage.run(named(served, "NEW") | dict(place.variables))

    [warning] = [r.getMessage() for r in caplog.records if "also stored" in r.getMessage()]
    assert warning.startswith("organisation new is also stored as old: ")
    assert ids(place, "old") == ids(place, "new") == served.shown()
    env = environment(**named(served, "NEW"), **place.variables)
    result = audit_etl("check", env=env)
    assert "warning  new: identity: organisation new is also stored as old" in result.stdout


def test_of_two_threads_that_meet_an_organisation_both_go_on(stage: Stage, place: Place) -> None:
    served = stage.organisation(1)
    variables = named(served, "A", "B") | dict(place.variables)
    barrier, refused = threading.Barrier(4), list[AuditEtlError]()
    with stage.app(variables) as app:
        app.prepare()

        def meet(name: str) -> None:
            barrier.wait()
            try:
                recognition.recognise(app, name)
            except AuditEtlError as error:
                refused.append(error)

        threads = [threading.Thread(target=meet, args=(name,)) for name in "abab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with app.engine.connect() as connection:
            rows = connection.execute(sa.select(schema.identities)).all()
    assert not refused
    assert sorted((row.kind, row.name) for row in rows) == [
        ("client", "a"),
        ("client", "b"),
        ("ledger", ""),
        ("organization", "a"),
        ("organization", "b"),
    ]


def test_adopted_credentials_of_another_organisation_bring_all_of_its_audits(
    stage: Stage, place: Place
) -> None:
    first, other = stage.organisation(1), stage.organisation(2)
    stage.run(first.variables | dict(place.variables))
    former = first.shown()
    stage.clock.move(hours=1)
    variables = other.variables | dict(place.variables)

    told = stage.adopt(variables)

    assert "organisation default is now " in told
    assert f"default/* will be asked for again from {BEGIN:%Y-%m-%dT%H:%M:%SZ} on" in told
    stage.run(variables)
    assert ids(place) == former | other.shown()
    assert stage.adopt(variables).endswith(", as before")
    with pytest.raises(ConfigurationError):
        stage.run(first.variables | dict(place.variables))


def test_an_adopted_client_of_which_nothing_is_known_keeps_the_progress(
    stage: Stage, tmp_path: Path
) -> None:
    served = stage.organisation(1)
    served.simulator.faults = Faults(token_info_status=404)
    stage.run(served.variables | destination(tmp_path))
    served.simulator.client_id = "another-client"
    variables = served.variables | destination(tmp_path)

    assert "its progress is kept" in stage.adopt(variables)

    assert sum(receipt.events for receipt in stage.run(variables)) < COUNT / 2


def test_a_schedule_that_loads_early_does_not_load_another_organisation(
    stage: Stage, tmp_path: Path
) -> None:
    first, other = stage.organisation(1), stage.organisation(2)
    stage.run(first.variables | destination(tmp_path))

    with (
        stage.app(other.variables | destination(tmp_path)) as app,
        pytest.raises(ConfigurationError),
    ):
        early.load_visible(app, "default")
    assert other.simulator.requests["realtime"] == 0


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb", "parquet"], indirect=True)
def test_an_organisation_that_is_renamed_by_hand_as_the_readme_says_goes_on(
    stage: Stage, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    served = stage.organisation(1)
    stage.run(named(served, "OLD") | dict(place.variables))
    with place.destination.ledger.engine.begin() as connection:
        for table in schema.metadata.tables.values():
            if "organization" in table.c:
                was = table.c.organization == "old"
                connection.execute(sa.update(table).where(was).values(organization="new"))
        rows = schema.identities
        of_names = rows.c.kind.in_(["organization", "client"])
        connection.execute(sa.update(rows).where(of_names).values(name="new"))
    lake = Path(place.variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://"))
    if lake.is_dir():
        (lake / "audit_events/organization=old").rename(lake / "audit_events/organization=new")
    stage.clock.move(hours=2)

    receipts = stage.run(named(served, "NEW") | dict(place.variables))

    assert sum(receipt.events for receipt in receipts) < len(served.shown()) / 2
    assert ids(place, "new") == served.shown()
    assert ids(place, "old") == set()
    assert served.questions == 1
    assert "also stored" not in caplog.text


def test_identities_that_were_deleted_by_hand_are_recorded_again(
    stage: Stage, place: Place
) -> None:
    served = stage.organisation(1)
    variables = served.variables | dict(place.variables)
    stage.run(variables)
    with place.destination.ledger.engine.begin() as connection:
        connection.execute(sa.delete(schema.identities))

    if "parquet" in place.variables["AUDIT_ETL_DESTINATION"]:
        with pytest.raises(ConfigurationError, match="do not belong together"):
            stage.run(variables)
        stage.adopt(variables)

    stage.run(variables)
    assert ids(place) == served.shown()
    assert served.questions == 2
