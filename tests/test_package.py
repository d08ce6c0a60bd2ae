"""The package as it is installed: all that it needs travels in it, and it starts at once."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
#: What takes longer to import than a user waits for help.
SLOW = ["sqlalchemy", "pyarrow", "requests", "pydantic", "alembic", "starlette", "rich", "duckdb"]
SLOW += ["structlog", "prometheus_client", "uvicorn"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`audit-etl` from a built wheel, in an environment that has nothing of this checkout."""
    home = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    subprocess.run([*build, "--outdir", home, TOP], check=True, capture_output=True)
    [wheel] = home.glob("audit_etl-*.whl")
    venv.create(home / "venv", with_pip=True)
    [packages] = (home / "venv" / "lib").glob("python*/site-packages")
    # The dependencies, which the pinned requirements installed; a folder that a .pth file names is
    # not looked through for .pth files of its own, such as the one that leads to this checkout.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([home / "venv" / "bin" / "python", "-m", *install, wheel], check=True)
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
    assert "0001" in migrated
    found = run(program.parent / "python", "-c", "import etl; print(etl.__file__)", cwd=tmp_path)
    assert str(program.parent.parent) in found


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
