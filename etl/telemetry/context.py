"""What the log lines of a window are about: they all carry it, whoever writes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from etl.errors import AuditEtlError

_ABOUT: Final[ContextVar[dict[str, str] | None]] = ContextVar("about", default=None)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Let every log line of this thread carry `fields` during the block, and none after it.

    Not to be used inside a generator, whose caller would carry them too. An error that leaves the
    block takes them along, for whoever tells of it.
    """
    held = dict(fields)
    token = _ABOUT.set(held)
    try:
        yield
    except AuditEtlError as error:
        error.about = error.about or held
        raise
    finally:
        _ABOUT.reset(token)


def note(**fields: str) -> None:
    """Add to what this thread's lines carry until the end of the block; nothing outside of one."""
    held = _ABOUT.get()
    if held is not None:
        held.update(fields)


def carried() -> Mapping[str, str]:
    """What a line that is written now carries."""
    return _ABOUT.get() or {}
