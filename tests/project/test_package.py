"""The package as it is installed: all that it needs travels in it, and it starts at once."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest

from etl.database.schema import HEAD
from tests import TOP
from tests.support.live_organization import Organisation, living
from tests.support.places import Place

#: What takes longer to import than a user waits for help.
SLOW = ["sqlalchemy", "pyarrow", "requests", "pydantic", "alembic", "starlette", "rich", "duckdb"]
SLOW += ["structlog", "prometheus_client", "uvicorn"]
#: Pinned for other systems, or brought by every environment.
ELSEWHERE = {"tzdata", "colorama", "pip", "setuptools"}


def runtime_parts() -> set[Path]:
    """What the pinned requirements of the runtime, and they alone, have installed here."""
    site = Path(sysconfig.get_path("purelib"))
    pins = (TOP / "requirements" / "runtime.txt").read_text()
    names = re.findall(r"^(\S+)==", pins, re.MULTILINE)
    found = (metadata.distribution(name) for name in names if name not in ELSEWHERE)
    files = (file for one in found for file in one.files or () if ".." not in file.parts)
    return {site / file.parts[0] for file in files if file.parts[0] != "__pycache__"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`audit-etl` from a built wheel, with its dependencies and nothing of this checkout."""
    home = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    subprocess.run([*build, "--outdir", home, TOP], check=True, capture_output=True)
    [wheel] = home.glob("audit_etl-*.whl")
    venv.create(home / "venv")
    [packages] = (home / "venv" / "lib").glob("python*/site-packages")
    for part in runtime_parts():
        (packages / part.name).symlink_to(part)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "venv"), "install", "--no-deps"]
    options = ["--disable-pip-version-check", "--quiet", "--no-index"]
    subprocess.run([*pip, *options, wheel], check=True)
    return home / "venv" / "bin" / "audit-etl"


def run(program: Path, *arguments: str, cwd: Path, **env: str) -> str:
    result = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={"PATH": os.defpath} | env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_wheel_is_all_that_an_environment_needs(program: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit-etl.toml"
    url = f"sqlite:///{tmp_path / 'a.db'}"

    file.write_text(run(program, "config", "--example", cwd=tmp_path))
    shown = run(program, "demo", "--audits", "300", "--directory", "demo", cwd=tmp_path)
    migrated = run(program, "migrate", cwd=tmp_path, AUDIT_ETL_DESTINATION=url)

    assert file.read_text() == (TOP / "config" / "audit-etl.toml").read_text()
    assert tomllib.loads(file.read_text()) == {}
    assert "rows in audit_events" in shown
    assert list(program.parent.parent.glob("lib/python*/site-packages/etl/py.typed"))
    assert HEAD in migrated
    found = run(program.parent / "python", "-c", "import etl; print(etl.__file__)", cwd=tmp_path)
    assert str(program.parent.parent) in found


@pytest.mark.slow
def test_no_command_needs_more_than_the_runtime(
    program: Path, tmp_path: Path, place: Place
) -> None:
    with living() as organisation:
        env = organisation.environment("") | dict(place.variables)
        span = span_of(organisation)
        for command in (["migrate"], ["check"], ["run"], ["status", "--json"], ["config"]):
            run(program, *command, cwd=tmp_path, **env)
        verified = run(program, "verify", *span, cwd=tmp_path, **env)
        for command in (["backfill", *span], ["services"]):
            run(program, *command, cwd=tmp_path, **env)
        asked = "SELECT count(*) AS n FROM audit_events"
        counted = run(program, "query", "--format", "csv", asked, cwd=tmp_path, **env)

    assert "300" in verified
    assert int(counted.split()[1]) >= 300


def span_of(organisation: Organisation) -> list[str]:
    end = organisation.begin + timedelta(minutes=5)
    return ["--from", organisation.begin.isoformat(), "--to", end.isoformat()]


@pytest.mark.slow
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("place", ["postgresql", "parquet"], indirect=True)
def test_without_a_temporary_folder_a_command_says_so_in_one_line(
    program: Path, tmp_path: Path, place: Place
) -> None:
    """All folders for temporary files can be read only; only the destination's own takes files."""
    script = "\n".join(
        [
            "for folder in /tmp /var/tmp /usr/tmp; do [ ! -d $folder ] || {",
            "mount --bind $folder $folder && mount -o remount,bind,ro $folder || exit 99; }; done",
            f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,rw {tmp_path} || exit 99",
            'exec "$@"',
        ]
    )

    def unable(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(program), *arguments]
        return subprocess.run(
            command, cwd="/proc", env=env, capture_output=True, text=True, timeout=120, check=False
        )

    with living() as organisation:
        env = organisation.environment("") | dict(place.variables)
        span = span_of(organisation)
        asked = ["query", "SELECT count(*) FROM audit_events"]
        ended = {
            command[0]: unable(*command)
            for command in (["check"], ["run"], ["status"], ["verify", *span], asked)
        }
        env["TMPDIR"] = str(tmp_path)
        mended = [unable(*command).returncode for command in (["run"], ["verify", *span], asked)]

    for name, done in ended.items():
        assert "Traceback" not in done.stderr, (name, done)
        assert done.returncode in {0, 69}, (name, done)
        told = done.stdout if name == "check" else done.stderr
        assert done.returncode == 0 or "set TMPDIR to a folder" in told, (name, done)
    assert ended["check"].returncode == 69
    assert ended["status"].returncode == 0
    assert mended == [0, 0, 0]


def test_a_run_loads_nothing_to_measure_or_to_serve_with() -> None:
    program = "import sys, etl.cli.export, etl.app\nprint(sorted(sys.modules))"

    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert "'etl.pipeline'" in shown
    for unused in ("prometheus_client", "uvicorn", "starlette", "etl.monitoring"):
        assert f"'{unused}'" not in shown


def test_help_loads_no_slow_library() -> None:
    program = (
        "import sys\nsys.argv = ['audit-etl', '--help']\nfrom etl.cli import main\n"
        "try:\n    main()\nfinally:\n    print(sorted(sys.modules))"
    )

    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert "Usage: audit-etl" in shown
    for slow in SLOW:
        assert f"'{slow}'" not in shown


#: What an installation takes from elsewhere must be what was pinned, or what is here already.
PINNED = re.compile(r"--require-hashes|--no-deps|'?\.\[|-r \S*PINS")


def test_all_that_is_installed_is_pinned_by_hash() -> None:
    lines = [
        line.strip()
        for file in ("Makefile", "Dockerfile", ".ci/run")
        for line in (TOP / file).read_text().replace("\\\n", " ").splitlines()
        if re.search(r"pip\b.* install |\$\(INSTALL\)", line) and ":=" not in line
    ]
    assert len(lines) >= 6
    assert [line for line in lines if not PINNED.search(line)] == []
    for file in (TOP / "requirements").iterdir():
        pins = file.read_text()
        assert len(re.findall(r"^\S+==", pins, re.M)) == len(re.findall(r"^\S", pins, re.M))
        assert all("--hash=sha256:" in pin for pin in re.split(r"^(?=\S)", pins, flags=re.M)[1:])


def test_no_text_installs_a_package_of_our_name_from_elsewhere() -> None:
    for folder in ("etl", "config", "."):
        for path in (TOP / folder).rglob("*") if folder != "." else TOP.glob("*.md"):
            if path.is_file() and path.suffix not in {".pyc", ".png"}:
                text = path.read_text(errors="replace")
                assert not re.search(r"pip install [^\n]*audit-etl\[", text), path
