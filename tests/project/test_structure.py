"""The package stays readable: modules and functions are short, and each says what it returns."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[2] / "etl"
MODULE_LINES_MAX = 300
MEDIAN_LINES_MAX = 110
FUNCTION_LINES_MAX = 40

MODULES = {
    str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
LINES = {name: len(text.splitlines()) for name, text in MODULES.items()}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, text in MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.lineno} {node.name}", node


def test_no_module_is_long() -> None:
    assert {name: lines for name, lines in LINES.items() if lines > MODULE_LINES_MAX} == {}


def test_most_modules_are_short() -> None:
    assert median(LINES.values()) <= MEDIAN_LINES_MAX


def test_no_function_is_long() -> None:
    lines = {place: (node.end_lineno or 0) - node.lineno + 1 for place, node in functions()}

    assert len(lines) > 1000
    assert {place: count for place, count in lines.items() if count > FUNCTION_LINES_MAX} == {}


def test_every_function_says_what_it_returns() -> None:
    assert [place for place, node in functions() if node.returns is None] == []
