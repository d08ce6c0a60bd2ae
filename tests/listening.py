"""Hearing all that is logged, at every level."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Those whose level somebody may have set: our own, and whose lines would show a secret.
_NAMES: Final = (None, "etl", "urllib3", "urllib3.connectionpool", "requests", "sqlalchemy")


@contextmanager
def everything_to(*handlers: logging.Handler) -> Iterator[None]:
    """Let every logger log at every level, during the block."""
    loggers = [logging.getLogger(name) for name in _NAMES]
    before = [(logger.level, logger.disabled) for logger in loggers]
    root = loggers[0]
    for handler in handlers:
        root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        for logger, (level, disabled) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.disabled = disabled
