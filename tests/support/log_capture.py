"""Hearing all that is logged, at every level."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Our own, and those whose lines would show a secret: the vendor's SDK silences some of them.
_NAMES: Final = (None, "etl", "urllib3", "urllib3.connectionpool", "requests", "sqlalchemy")


@contextmanager
def everything_to(*handlers: logging.Handler) -> Iterator[None]:
    """Let every logger log at every level, during the block."""
    loggers = [logging.getLogger(name) for name in _NAMES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    root = loggers[0]
    for handler in handlers:
        root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.propagate = True
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
