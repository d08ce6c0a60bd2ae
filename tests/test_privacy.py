"""Audits are personal data: whatever the program makes of them is for its owner only."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.config import load
from etl.records import Batch
from tests.commands import audit_etl, environment
from tests.conftest import Place
from tests.samples import batch, draft, hours, load_into, record


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
