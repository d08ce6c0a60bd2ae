"""Events of the client for metrics, sent as they happen and from any thread."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requested:
    """A request was sent, and answered or not.

    Attributes:
        operation: method and path, ids left out.
        status: of the answer; None if there was none.
        seconds: until the answer was read, or the request had failed.
    """

    operation: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Waited:
    """A request was held back for the rate budget, for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A query of this process took so many seconds from its creation to its success."""

    seconds: float


Event = Requested | Waited | Succeeded

#: Must neither raise nor wait.
Tell = Callable[[Event], None]


def to_nobody(_event: Event) -> None:
    """Tell nobody."""
