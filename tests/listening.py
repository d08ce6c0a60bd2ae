"""Hearing all that is logged, at every level."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def everything_to(*handlers: logging.Handler) -> Iterator[None]:
    """Let every logger log at every level, during the block."""
    root, ours = logging.getLogger(), logging.getLogger("etl")
    before = root.level, ours.level
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        root.setLevel(before[0])
        ours.setLevel(before[1])
