"""A lake and its ledger are those of the last load, or nothing is claimed of them.

Whatever an operator moves, copies, restores or writes into the configuration: what does not belong
together is refused with 78, and `migrate --adopt` ends in a lake that holds all that was shown.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.app import clock
from etl.database import schema
from etl.database.engine import open_engine
from etl.destinations import Fence
from etl.destinations.lake import binding
from etl.destinations.lake.binding import Binding
from etl.destinations.lake.staging import Staging
from etl.destinations.lake.storage import Storage, storage_of
from etl.errors import ConfigurationError, LeaseHeld
from etl.model import WRITER, Stream
from etl.operations import export, recognition, verify
from etl.operations.streams import Failure
from etl.operations.streams import held as streams_held
from etl.window import Window
from tests.export.test_crashes import Died, dying_at
from tests.support import buckets
from tests.support.commands import audit_etl, environment, start
from tests.support.daemons import QUICK, Daemon, until
from tests.support.destination_contents import audits_in, audits_in_lake
from tests.support.known_organizations import BEGIN, COUNT, Served, Stage, ids, staged
from tests.support.live_organization import copy_at, living
from tests.support.places import Place
from tests.support.simulated_organization import NOW

lakes = pytest.mark.parametrize("place", ["parquet", "parquet+s3"], indirect=True)
local = pytest.mark.parametrize("place", ["parquet"], indirect=True)
#: What every refusal has in it.
REFUSAL = "(do not belong together|are not of the same moment|cannot be compared).*--adopt"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


@pytest.fixture
def served(stage: Stage) -> Served:
    return stage.organisation(1)


def lake_of(variables: Mapping[str, str]) -> Path:
    return Path(variables["AUDIT_ETL_DESTINATION"].removeprefix("parquet://"))


def state_of(variables: Mapping[str, str]) -> Path:
    return Path(variables["AUDIT_ETL_LEDGER"].removeprefix("sqlite:///"))


def another(variables: Mapping[str, str], name: str) -> dict[str, str]:
    """The variables with another lake beside this one."""
    url = variables["AUDIT_ETL_DESTINATION"]
    return {**variables, "AUDIT_ETL_DESTINATION": f"{url}-{name}"}


def other_state(variables: Mapping[str, str], name: str = "other") -> dict[str, str]:
    state = state_of(variables)
    return {**variables, "AUDIT_ETL_LEDGER": f"sqlite:///{state.with_name(f'{name}.db')}"}


def copy(source: Mapping[str, str], target: Mapping[str, str]) -> None:
    """Copy a lake, file by file, in place of what is there."""
    one, two = source["AUDIT_ETL_DESTINATION"], target["AUDIT_ETL_DESTINATION"]
    if not one.startswith("parquet+s3"):
        shutil.rmtree(lake_of(target), ignore_errors=True)
        shutil.copytree(lake_of(source), lake_of(target))
        return
    name, _, prefix = one.removeprefix("parquet+s3://").partition("/")
    buckets.empty(f"{two}/")
    for key in buckets.keys(f"{one}/"):
        path = key.removeprefix(f"{prefix}/")
        buckets.client().put_object(
            Bucket=name,
            Key=f"{two.removeprefix(f'parquet+s3://{name}/')}/{path}",
            Body=buckets.content(one, path),
        )


def copy_state(source: Mapping[str, str], target: Mapping[str, str]) -> None:
    """Copy the state as a backup does: whole."""
    state_of(target).unlink(missing_ok=True)
    engine = sa.create_engine(source["AUDIT_ETL_LEDGER"], poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{state_of(target)}'")


def held(variables: Mapping[str, str], scratch: Path) -> set[str]:
    found = [audit.id for audit in audits_in_lake(storage(variables, scratch))]
    assert len(set(found)) == len(found)
    return set(found)


def storage(variables: Mapping[str, str], scratch: Path) -> Storage:
    return storage_of(variables["AUDIT_ETL_DESTINATION"], os.environ, scratch)


def refused(stage: Stage, variables: Mapping[str, str]) -> str:
    """Why neither a run, nor a backfill, nor a verification, nor `status` goes on."""
    reasons, span = list[str](), Window(BEGIN, NOW)
    with stage.app(variables) as app:
        app.prepare()
        streams = [Stream("default")]
        for use in (
            lambda: export.run(app),
            lambda: export.backfill(app, span, streams),
            lambda: verify.verify(app, span, streams, repair=False),
            app.require_identity,
        ):
            with pytest.raises(ConfigurationError, match=REFUSAL) as caught:
                use()
            reasons.append(str(caught.value))
    return reasons[-1]


@lakes
def test_another_lake_with_the_same_state_is_refused(
    stage: Stage, served: Served, place: Place, tmp_path: Path
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    asked = served.simulator.requests.total()
    empty, filled = another(first, "empty"), another(first, "filled")
    stage.run(other_state(filled))

    for lake in (empty, filled):
        refused(stage, lake)

    assert held(empty, tmp_path) == set()
    assert served.simulator.requests.total() < 2 * asked + 2
    assert stage.run(first)
    assert ids(place) == served.shown()


@lakes
def test_one_lake_with_two_states_is_refused(stage: Stage, served: Served, place: Place) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    used = other_state(first, "used")
    stage.run(another(used, "of-its-own"))

    for state in (other_state(first), used):
        refused(stage, state)

    assert stage.run(first)


@lakes
def test_a_lake_that_moves_with_its_file_goes_on_and_the_old_place_no_longer_does(
    stage: Stage, served: Served, place: Place, tmp_path: Path
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    moved = another(first, "moved")
    copy(first, moved)

    assert stage.run(moved)
    stage.clock.move(hours=6)
    assert sum(receipt.new_events for receipt in stage.run(moved)) > 0

    assert held(moved, tmp_path) == served.shown()
    assert "are not of the same moment" in refused(stage, first)


@lakes
@pytest.mark.parametrize("restored", ["lake", "state"])
def test_one_of_the_two_from_a_backup_is_refused_and_both_go_on(
    stage: Stage, served: Served, place: Place, tmp_path: Path, restored: str
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    backup = other_state(another(first, "backup"), "backup")
    copy(first, backup)
    copy_state(first, backup)
    stage.clock.move(hours=6)
    stage.run(first)
    assert held(first, tmp_path) > held(backup, tmp_path)

    one, other = (copy, copy_state) if restored == "lake" else (copy_state, copy)
    one(backup, first)
    assert "are not of the same moment" in refused(stage, first)

    other(backup, first)
    stage.run(first)
    assert ids(place) == served.shown()


@lakes
def test_a_backup_of_one_of_the_two_goes_on_if_nothing_was_published_since(
    stage: Stage, served: Served, place: Place
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    backup = other_state(another(first, "backup"), "backup")
    copy(first, backup)
    copy_state(first, backup)
    stage.run(first)  # asks again, finds nothing new

    copy_state(backup, first)
    assert stage.run(first)
    copy(backup, first)
    assert stage.run(first)
    assert ids(place) == served.shown()


@lakes
def test_an_adopted_lake_gets_everything_since_the_beginning(
    stage: Stage, served: Served, place: Place, tmp_path: Path
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    stage.clock.move(hours=6)
    new = another(first, "new") | {"AUDIT_ETL_START": "1h"}

    told = stage.adopt(new)

    assert f"default/* will be asked for again from {BEGIN:%Y-%m-%dT%H:%M:%SZ} on" in told
    stage.run(new)
    assert held(new, tmp_path) == served.shown()
    assert "as before" in stage.adopt(new)
    assert "do not belong" in refused(stage, first)
    assert "will be asked for again" in stage.adopt(first)
    stage.run(first)
    assert ids(place) == served.shown()


@lakes
def test_adopting_what_belongs_together_changes_nothing(
    stage: Stage, served: Served, place: Place
) -> None:
    first = served.variables | dict(place.variables)
    assert "recorded as" in stage.adopt(first)
    stage.run(first)

    assert stage.adopt(first).startswith("organisation default is ")
    assert stage.adopt(first).endswith(", as before")

    assert sum(receipt.events for receipt in stage.run(first)) < COUNT / 2


@local
def test_a_state_is_not_adopted_while_it_loads(stage: Stage, served: Served, place: Place) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    with stage.app(first) as app, stage.app(another(first, "new")) as other:
        other.holder = "elsewhere/1/0"
        with streams_held(app, WRITER, timedelta(0)), pytest.raises(LeaseHeld):
            list(recognition.adopt(other))

    assert stage.run(first)


@local
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"lake": 1}', b'{"lake": "a", "ledger": "b"}', b"\xff"]
)
def test_a_damaged_file_is_refused(
    stage: Stage, served: Served, place: Place, content: bytes
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    (lake_of(first) / binding.PATH).write_bytes(content)

    assert "cannot be compared" in refused(stage, first)

    stage.adopt(first)
    stage.run(first)
    assert ids(place) == served.shown()


def test_tables_are_not_taken_for_the_lake_of_their_database_nor_the_other_way_round(
    stage: Stage, served: Served, database_url: str, tmp_path: Path
) -> None:
    lake = served.variables | {
        "AUDIT_ETL_DESTINATION": f"parquet://{tmp_path / 'lake'}",
        "AUDIT_ETL_LEDGER": database_url,
    }
    tables = served.variables | {"AUDIT_ETL_DESTINATION": database_url}
    with stage.app(lake) as app:
        app.migrate()
    stage.run(lake)

    with pytest.raises(ConfigurationError, match=r"progress of a lake.*migrate --adopt"):
        stage.run(tables)
    stage.adopt(tables)
    stage.run(tables)

    engine = open_engine(database_url)
    assert {audit.id for audit in audits_in(engine)} == served.shown()
    engine.dispose()
    assert "do not belong together" in refused(stage, lake)
    unmarked = another(lake, "unmarked")
    assert "audits of its own" in refused(stage, unmarked)


@local
def test_files_of_which_the_state_knows_nothing_are_refused(
    stage: Stage, served: Served, place: Place
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    (lake_of(first) / binding.PATH).unlink()  # as a lake of 0.1.0 has none

    assert "the ledger has no receipt" in refused(stage, other_state(first))


@local
def test_receipts_without_files_are_refused(stage: Stage, served: Served, place: Place) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    (lake_of(first) / binding.PATH).unlink()
    forget(place)
    loaded = len(ids(place))
    [first_day, *_] = sorted((lake_of(first) / "audit_events").glob("*/*"))
    shutil.rmtree(first_day)

    told = f"{loaded} audits of default were loaded, and the lake holds "
    assert told in refused(stage, first)

    shutil.rmtree(lake_of(first) / "audit_events")
    assert f"{told}0. " in refused(stage, first)


def forget(place: Place) -> None:
    """Take out what 0.1.0 has not."""
    with place.destination.ledger.engine.begin() as connection:
        connection.execute(sa.delete(schema.identities))


@local
def test_an_empty_lake_of_a_quiet_organisation_is_its_state_s(stage: Stage, place: Place) -> None:
    quiet = stage.organisation(1, count=0)
    first = quiet.variables | dict(place.variables)
    for _ in range(2):
        assert stage.run(first)
    (lake_of(first) / binding.PATH).unlink()
    forget(place)

    assert stage.run(first)


@local
def test_a_lake_that_lost_its_file_is_refused(stage: Stage, served: Served, place: Place) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    (lake_of(first) / binding.PATH).unlink()

    assert "the lake has no _audit_etl.json" in refused(stage, first)


@lakes
@pytest.mark.parametrize("moment", ["while pages are read", "before the first file"])
def test_another_state_that_adopts_a_lake_stops_the_load_that_is_at_work(
    stage: Stage, served: Served, place: Place, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = served.variables | dict(place.variables)
    second = other_state(first)
    stage.run(first)
    stage.clock.move(hours=30)
    told: list[str] = []

    def adopted(_: object = None) -> None:
        if not told:
            told.append(stage.adopt(second))

    def advance(self: Binding, staging: Staging, fence: Fence) -> str:
        generation = real(self, staging, fence)
        adopted()
        return generation

    real = Binding.advance
    reading = moment == "while pages are read"
    if not reading:
        monkeypatch.setattr(Binding, "advance", advance)
    with stage.app(first) as app:
        watch = adopted if reading else lambda _: None
        [outcome] = export.run(app, watch=watch)

    assert told
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, ConfigurationError)
    stage.run(second)
    assert ids(place) == served.shown()


@pytest.mark.slow
@lakes
def test_of_two_processes_with_a_state_each_that_begin_a_lake_at_once_one_has_it(
    place: Place,
) -> None:
    with living() as organisation:
        variables = dict(place.variables)
        url = variables.pop("AUDIT_ETL_DESTINATION")
        envs = [organisation.environment(url, **variables)]
        envs.append(organisation.environment(url, **other_state(variables)))
        with ExitStack() as stack:
            both = [stack.enter_context(start("run", env=env)) for env in envs]
            errors = [process.communicate(timeout=120)[1] for process in both]
        statuses = [process.returncode for process in both]
        again = [audit_etl("run", env=env) for env in envs]

        winner = [result.returncode for result in again].index(0)
        with copy_at(envs[winner]["AUDIT_ETL_LEDGER"], organisation) as copied:
            watermark = copied.watermark
        assert watermark is not None
        shown = organisation.simulator.log.truth(organisation.begin, watermark.reached, clock())
        assert {audit["id"] for audit in shown} <= ids(place)

    assert sorted(result.returncode for result in again) == [0, 78], again
    assert statuses[winner] == 0, errors
    # A bucket has no lock: what the loser finds in place is not what it has put there.
    assert statuses[1 - winner] in {69, 75, 78}, errors


@pytest.mark.slow
def test_a_daemon_whose_lake_is_gone_loads_nothing_elsewhere_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    lake, aside = tmp_path / "lake", tmp_path / "aside"
    state = f"sqlite:///{tmp_path / 'state.db'}"
    with living() as organisation:
        env = organisation.environment(f"parquet://{lake}", AUDIT_ETL_LEDGER=state)
        with (
            Daemon(tmp_path / "log", env, QUICK) as daemon,
            copy_at(state, organisation, lake=lake) as copied,
        ):
            until(copied.caught_up, "the daemon has caught up")
            lake.rename(aside)
            lake.mkdir()  # where a disk is no longer mounted
            daemon.says("Mount it if it is not mounted")
            receipts = copied.receipts
            daemon.says("Mount it if it is not mounted", times=daemon.log.count("Mount it") + 2)
            assert not [path for path in lake.rglob("*") if path.suffix == ".parquet"]
            assert copied.receipts == receipts

            shutil.rmtree(lake)
            aside.rename(lake)
            until(lambda: copied.receipts > receipts, "the daemon goes on")
            assert daemon.ended() == 0
            copied.keeps_its_promises()


@pytest.mark.slow
@pytest.mark.timeout(900)
@local
def test_dying_at_any_step_of_an_adoption_and_adopting_again_ends_in_the_same_lake(
    stage: Stage,
    served: Served,
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    backup = other_state(first, "backup")
    copy_state(first, backup)
    step, died = 0, True
    while died:
        step += 1
        new = another(first, f"new-{step}")
        copy_state(backup, first)
        try:
            with dying_at(step, sa.Engine, monkeypatch):
                stage.adopt(new)
            died = False
        except Died:
            stage.adopt(new)
        stage.run(new)
        assert held(new, tmp_path) == served.shown(stage.watermark(new))
    assert step > 20


@local
def test_the_commands_refuse_and_adopt(stage: Stage, served: Served, place: Place) -> None:
    first = served.variables | dict(place.variables)
    stage.run(first)
    new = environment(**another(first, "new"))
    span = ["--from", f"{BEGIN:%Y-%m-%d}", "--to", f"{NOW:%Y-%m-%d}"]

    for command in (["run"], ["daemon"], ["backfill", *span], ["verify", *span], ["status"]):
        result = audit_etl(*command, env=new)
        assert result.returncode == 78, result
        assert f"the lake {lake_of(new)} and its ledger, " in result.stderr
        assert "do not belong together: the lake has no _audit_etl.json." in result.stderr
        assert "or run `audit-etl migrate --adopt`, which keeps all files" in result.stderr
    checked = audit_etl("check", env=new)
    assert checked.returncode == 78
    assert "failed   identity: the lake " in checked.stdout

    adopted = audit_etl("migrate", "--adopt", env=new)
    assert adopted.returncode == 0, adopted.stderr
    assert f"the lake {lake_of(new)} and the database " in adopted.stdout
    again = json.loads(audit_etl("migrate", "--adopt", "--json", env=new).stdout)
    assert len(again["adopted"]) == 1
    assert "ok       identity: " in audit_etl("check", env=new).stdout
    with stage.app(new) as app:
        watermark = app.ledger.watermark(Stream("default"))
        with app.engine.connect() as connection:
            void = connection.execute(sa.select(schema.void_receipts.c.voided_at)).all()
    assert watermark is not None
    assert watermark.reached == watermark.begins_at == BEGIN
    assert len(void) == 1
