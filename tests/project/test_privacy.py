"""Audits are personal data: whatever the program makes of them is for its owner only."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.config import load
from etl.database.engine import open_engine
from etl.database.transactions import reading
from etl.errors import DestinationUnavailable
from etl.records import Batch
from tests.support.commands import audit_etl, environment
from tests.support.places import Place
from tests.support.samples import batch, draft, hours, load_into, record


@pytest.fixture
def careless() -> Iterator[None]:
    """A umask that takes no permission away."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What lies below the folder and is more than its owner's."""
    found = [path for path in folder.rglob("*") if path.lstat().st_mode & 0o077]
    return [f"{path} {stat.filemode(path.lstat().st_mode)}" for path in found]


@pytest.mark.parametrize("place", ["sqlite", "parquet"], indirect=True)
def test_every_file_of_a_destination_is_its_owner_s_alone_at_any_time(
    careless: None, place: Place, tmp_path: Path
) -> None:
    names: set[str] = set()

    def pages() -> Iterator[Batch]:
        for number in range(3):
            assert open_to_others(tmp_path) == []
            names.update(path.name.split("-")[-1] for path in tmp_path.rglob("*"))
            yield batch(record(f"a{number}"))

    receipt = load_into(place.destination, draft(hours(0, 1)), pages(), lambda _: None)

    names.update(path.name.split("-")[-1] for path in tmp_path.rglob("*"))
    assert receipt.new_events == 3
    assert {"wal", "shm"} <= names
    assert "lake" not in names or {"_staging", "_lock", "audits.parquet"} <= names
    assert open_to_others(tmp_path) == []


@pytest.mark.parametrize("kind", ["sqlite", "parquet"])
def test_every_file_that_a_command_makes_is_its_owner_s_alone(
    careless: None, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    state = tmp_path / "place.db"
    env = environment(
        AUDIT_ETL_DESTINATION=f"sqlite:///{state}" if kind == "sqlite" else f"parquet://{place}"
    )

    assert audit_etl("migrate", env=env).returncode == 0
    for form in ("csv", "jsonl", "parquet"):
        asked = ["query", "SELECT 1 AS a", "--format", form, "--output", str(tmp_path / form)]
        result = audit_etl(*asked, env=env)
        assert result.returncode == 0, result.stderr

    assert {"csv", "jsonl", "parquet"} <= {path.name for path in tmp_path.iterdir()}
    assert open_to_others(tmp_path) == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody on this machine may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def written(path: Path, text: str, mode: int) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


URL = "postgresql://audit:hunter2@db.example/audit"


def test_a_configuration_with_a_password_that_all_can_read_is_warned_of(
    public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(public / "c.toml", f'destination = "{URL}"\n', 0o644)

    load(file, {})

    assert f"destination: everybody on this machine can read the file {file}" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_secret_s_file_that_all_can_read_is_warned_of(
    public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = written(public / "secret", "hunter2", 0o604)
    url = written(public / "url", URL, 0o604)

    load(None, {"GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE": str(secret),
                "AUDIT_ETL_DESTINATION_FILE": str(url)})  # fmt: skip

    for name, file in {"organizations.default.client_secret": secret, "destination": url}.items():
        assert f"{name}: everybody on this machine can read the file {file}" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("folder_mode", [0o700, 0o755])
def test_what_others_cannot_read_or_may_is_not_warned_of(
    public: Path, caplog: pytest.LogCaptureFixture, folder_mode: int
) -> None:
    public.chmod(folder_mode)
    mode = 0o640 if folder_mode == 0o755 else 0o644
    secret = written(public / "secret", "hunter2", mode)
    plain = written(public / "c.toml", 'destination = "sqlite:///a.db"\n', 0o644)

    load(plain, {"GENESYSCLOUD_OAUTHCLIENT_SECRET_FILE": str(secret)})

    assert caplog.text == ""


def as_of(user: int, path: Path) -> None:
    """Give a file, or a link, to another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, user, -1, follow_symlinks=False)


NOBODY = 65534


def test_a_database_that_others_can_read_is_made_private_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "audits.db"
    path.touch()
    path.chmod(0o664)

    done = audit_etl("migrate", env=environment(), cwd=tmp_path)

    assert done.returncode == 0
    assert f"{path} was open to other users: it is now for its owner only" in done.stderr
    assert open_to_others(tmp_path) == []
    assert "open to other users" not in audit_etl("migrate", env=environment(), cwd=tmp_path).stderr


def test_a_database_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audits.db"
    path.touch(mode=0o666)
    as_of(NOBODY, path)

    done = audit_etl("migrate", env=environment(), cwd=tmp_path)

    assert done.returncode == 69
    assert f"{path} belongs to another user (uid {NOBODY})" in done.stderr
    assert path.read_bytes() == b""


def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "elsewhere", tmp_path / "audits.db"
    link.symlink_to(target)
    as_of(NOBODY, link)

    done = audit_etl("migrate", env=environment(), cwd=tmp_path)

    assert done.returncode == 69
    assert not target.exists()


def test_a_link_of_one_s_own_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "audits.db").symlink_to(target)

    assert audit_etl("migrate", env=environment(), cwd=tmp_path).returncode == 0
    assert target.stat().st_size > 0


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_file_of_another_user_beside_a_database_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "audits.db").symlink_to(tmp_path / "elsewhere" / "a.db")
    theirs = tmp_path / "elsewhere" / f"a.db{ending}"
    theirs.touch()
    theirs.chmod(0o666)
    as_of(NOBODY, theirs)

    done = audit_etl("migrate", env=environment(), cwd=tmp_path)

    assert done.returncode == 69
    assert f"{theirs} belongs to another user (uid {NOBODY})" in done.stderr
    assert theirs.read_bytes() == b""
    assert not (tmp_path / "elsewhere" / "a.db").exists()


def test_a_link_in_the_place_of_a_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db-wal").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DestinationUnavailable, match=r"a\.db-wal is no file"):
        open_engine(f"sqlite:///{tmp_path / 'a.db'}")


def test_a_file_of_one_s_own_beside_a_database_is_made_private(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with reading(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE known (a)")
        for path in tmp_path.iterdir():
            path.chmod(0o666)

        open_engine(f"sqlite:///{tmp_path / 'a.db'}").dispose()

        assert {path.name for path in tmp_path.iterdir()} == {"a.db", "a.db-shm", "a.db-wal"}
        assert open_to_others(tmp_path) == []
    engine.dispose()


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "audits.db", "export PATH=/opt/bin\n", mode)

    done = audit_etl("migrate", env=environment(), cwd=tmp_path)

    assert done.returncode == 78
    assert done.stderr == (
        f"audit-etl: {path} is no SQLite database, and stays as it is: name another file, or one "
        "that does not exist yet\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert [file.name for file in tmp_path.iterdir()] == ["audits.db"]


def test_a_database_is_looked_at_without_losing_this_process_s_locks(tmp_path: Path) -> None:
    """Another process would take the database for idle, and delete its journal."""
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}")
    other = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0);"
        "c.execute('PRAGMA journal_mode=DELETE')"
    )
    with reading(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE known (a)")
        open_engine(f"sqlite:///{tmp_path / 'a.db'}").dispose()

        command = [sys.executable, "-c", other, str(tmp_path / "a.db")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert "database is locked" in done.stderr
    engine.dispose()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[Path, str], "subprocess.CompletedProcess[str]"]:
    """A question that is answered into a file, of a database without audits."""
    home = tmp_path / "home"
    home.mkdir()
    assert audit_etl("migrate", env=environment(), cwd=home).returncode == 0

    def ask(output: Path, form: str) -> "subprocess.CompletedProcess[str]":
        command = ("query", "SELECT 1 AS one", "--format", form, "--output", str(output))
        return audit_etl(*command, env=environment(), cwd=home)

    return ask


Ask = Callable[[Path, str], "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_answer_s_file_is_made_private(asked: Ask, tmp_path: Path, form: str) -> None:
    path = tmp_path / "answer"
    path.write_text("what was there, and longer than the answer that takes its place\n" * 99)
    path.chmod(0o666)

    done = asked(path, form)

    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "was open to other users" in done.stderr
    assert b"what was there" not in path.read_bytes()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_answer_goes_into_no_other_user_s_file(asked: Ask, tmp_path: Path, form: str) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "link"
    theirs.write_text("theirs")
    link.symlink_to(tmp_path / "mine")
    for path in (theirs, link):
        as_of(NOBODY, path)
        done = asked(path, form)
        assert (done.returncode, done.stdout) == (69, "")
        assert "belongs to another user" in done.stderr

    assert theirs.read_text() == "theirs"
    assert not (tmp_path / "mine").exists()


def test_an_answer_goes_into_no_other_user_s_pipe(asked: Ask, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o666)
    as_of(NOBODY, pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    done = asked(pipe, "csv")

    assert (done.returncode, os.read(reader, 100)) == (69, b"")
    assert f"{pipe} belongs to another user" in done.stderr
    os.close(reader)


def test_an_answer_goes_into_a_pipe_or_a_device_of_one_s_own(asked: Ask, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    assert asked(pipe, "csv").returncode == 0
    assert os.read(reader, 100) == b"one\n1\n"
    assert asked(Path("/dev/stdout"), "csv").stdout == "one\n1\n"
    assert asked(Path("/dev/null"), "csv").returncode == 0
    os.close(reader)
