"""Errors that nobody expected, as text without values.

The message of a library's error may quote an audit, a parameter or a password. So only frames and
class names are shown, and the messages of our own errors.
"""

import sys
import threading
import traceback
from collections.abc import Iterator

from etl.errors import AuditEtlError


def traceback_of(error: BaseException) -> str:
    """The traceback of an error and of those before it, without their values."""
    return "".join(_lines(error, set()))


def hide_values_of_threads() -> None:
    """Print what threads and finalisers die of as `traceback_of` does, in place of all of it."""
    threading.excepthook = _print
    sys.unraisablehook = _print


def _print(of: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> None:
    error = of.exc_value or of.exc_type()
    if sys.stderr is not None and not isinstance(error, SystemExit):
        sys.stderr.write(traceback_of(error))


def _lines(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _lines(before, told)
        yield "\nand then:\n\n"
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _lines(one, told)
            yield "\nin a group:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _qualified(kind)
    yield f"{name}: {error}\n" if isinstance(error, AuditEtlError) else f"{name}\n"


def _qualified(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
