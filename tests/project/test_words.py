"""What users read is plain English: none of the words that make a text sound translated."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import COMMANDS, audit_etl
from tests import TOP

#: Each has a plainer word: "with no result", "during", "again", "the process that", "no one", ...
GIVEAWAYS = re.compile(
    r"\b(?:albeit|all the same|amid|anew|befall\w*|beside|by and by|c[ao]me[s]? to nothing|"
    r"gone on with|half-way|hitherto|in its turn|in vain|is it for|it is for|lest|make good|"
    r"mend(?:s|ed|ing)?|no more than|nobody|of (?:no )?use to|outlasts?|shall|t(?:ells?|old) of|"
    r"thereof|thrice|what is so|whereof|whichever|whoever|whosoever)\b",
    re.IGNORECASE,
)
#: A clause with "who" as the subject of a sentence; a question ends with a question mark.
WHO = re.compile(
    r"(?:^|[.;:] |- )Who (?:asks|can|cannot|has|may|operates|reads|wants|writes)\b[^?]*$"
)
DOCSTRING_OWNERS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documents() -> Iterator[tuple[str, str]]:
    """The documents and the example of the configuration, each with its name."""
    names = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md"]
    for path in [*(TOP / name for name in names), *(TOP / "docs").glob("*.md")]:
        yield path.name, path.read_text()
    yield "audit-etl.toml", (TOP / "config" / "audit-etl.toml").read_text()
    changes = (TOP / "CHANGELOG.md").read_text().split("\n## ")
    [unreleased] = [part for part in changes if part.startswith("Unreleased")]
    yield "CHANGELOG.md", unreleased


def helps() -> Iterator[tuple[str, str]]:
    """What `--help` shows, of the program and of each command."""
    for words in ([], *([name] for name in COMMANDS)):
        yield (
            " ".join(["--help of", *words]),
            CliRunner().invoke(audit_etl, [*words, "--help"]).output,
        )


def literals(path: Path) -> Iterator[tuple[str, str]]:
    """The texts in a module that are not docstrings, each with its place."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, DOCSTRING_OWNERS) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield f"{path.relative_to(TOP)}:{node.lineno}", text


def found(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Where a word gives a text away, and what it is."""
    return [
        f"{name}: {match[0]!r} in {line.strip()[:100]!r}"
        for name, text in texts
        for line in text.splitlines()
        for pattern in (GIVEAWAYS, WHO)
        if (match := pattern.search(line))
    ]


def test_documents_are_plain_english() -> None:
    assert found(documents()) == []


def test_help_is_plain_english() -> None:
    assert found(helps()) == []


@pytest.mark.parametrize("folder", sorted(p.name for p in (TOP / "etl").iterdir()))
def test_messages_are_plain_english(folder: str) -> None:
    place = TOP / "etl" / folder
    for path in [place] if place.suffix == ".py" else sorted(place.rglob("*.py")):
        assert found(literals(path)) == []
