"""The documents say what is so: each command, setting, table and module that they name exists."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import COMMANDS, SUMMARIES, audit_etl
from tests import TOP

README = (TOP / "README.md").read_text()
DOCUMENTS = sorted([*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")])
ARCHITECTURE = (TOP / "ARCHITECTURE.md").read_text()
SECURITY = (TOP / "SECURITY.md").read_text()
#: The documents that tell how it is now.
ALL = "".join(path.read_text() for path in DOCUMENTS if path.name != "CHANGELOG.md")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(audit_etl, [name, "--help"])

    assert shown.exit_code == 0
    assert f"Example: audit-etl {name}" in " ".join(shown.output.split())


def test_help_lists_each_command_with_its_summary() -> None:
    shown = " ".join(CliRunner().invoke(audit_etl, ["--help"]).output.split())

    assert SUMMARIES.keys() == COMMANDS.keys()
    for name, summary in SUMMARIES.items():
        assert f"{name} {summary}" in shown


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_of_a_document_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]*)\)", path.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


def test_the_readme_is_one_that_is_read() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(etl(?:\.\w+)+)`", ALL))))
def test_each_module_that_the_documents_name_exists(name: str) -> None:
    assert find_spec(name) is not None


def test_each_layer_is_in_the_architecture() -> None:
    for path in (TOP / "etl").iterdir():
        if path.stem not in {"__init__", "__main__", "__pycache__", "py"}:
            assert f"`etl.{path.stem}`" in ARCHITECTURE, path.stem


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:etl|tests|config)/[\w/]+\.\w+)`", ALL)))
)
def test_each_file_that_the_documents_name_exists(name: str) -> None:
    assert (TOP / name).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+(?:\.py)?)`", ALL))))
def test_each_test_that_the_documents_name_exists(name: str) -> None:
    files = list((TOP / "tests").rglob("test_*.py"))

    assert files
    if name.endswith(".py"):
        assert name in {file.name for file in files}
    else:
        assert any(f"def {name}(" in file.read_text() for file in files)


def test_each_row_of_the_threat_model_names_a_test() -> None:
    rows = re.findall(r"^\|.*\|$", SECURITY, re.MULTILINE)[2:]

    assert len(rows) > 15
    for row in rows:
        assert re.search(r"`test_\w+(\.py)?`[^|]*\|$", row), row
