"""What the log lines of a window are about: they all carry it, whoever writes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from etl.errors import AuditEtlError

_ABOUT: Final[ContextVar[dict[str, str] | None]] = ContextVar("about", default=None)


@contextmanager
def carrying(held: dict[str, str]) -> Iterator[None]:
    """Let every log line of this thread carry `held` during the block, and none after it.

    What is noted in the block is added to `held`, which may be carried again. Not to be used inside
    a generator, whose caller would carry it too. An error that leaves the block takes it along, for
    whoever tells of it.
    """
    token = _ABOUT.set(held)
    try:
        yield
    except AuditEtlError as error:
        error.about = error.about or held
        raise
    finally:
        _ABOUT.reset(token)


def note(**fields: str) -> None:
    """Add to what lines of the block carry until its end; nothing outside of one.

    A thread that was made in the block adds to the same.
    """
    held = _ABOUT.get()
    if held is not None:
        held.update(fields)


def carried() -> Mapping[str, str]:
    """What a line that is written now carries."""
    return _ABOUT.get() or {}
