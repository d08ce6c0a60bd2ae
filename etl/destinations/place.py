"""A destination before it is opened: what its URL says, and what it answers as it is."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from etl.destinations import AnyDestination, Fence
from etl.model import Stream
from etl.sizes import Sizes

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

Clock = Callable[[], datetime]


class Adopted(NamedTuple):
    """What `Place.adopt` did, as a sentence, and each stream with the time it starts again from."""

    done: str
    restarted: list[tuple[Stream, datetime]]


class Place(ABC):
    """Where audits go, as a URL names it. Nothing is opened before it is needed.

    Each kind of destination has one subclass, which `kinds` finds. It may be used by several
    threads. `engine` is always the ledger's database.

    Args:
        url: from `canonical`.
        partition: the setting.
        sizes: of the pieces that work is cut into.

    Attributes:
        noun: what messages call it.
        holds_ledger: whether audits and the ledger are committed together, in one database.
        one_writer: whether only one process may load at a time, whatever the stream.
        no_early: why audits cannot be loaded early; empty if they can.
        folder: the folder on this machine that it is in; None if there is none.
        dialect: the SQL that `answer` takes, by SQLAlchemy's name, or `duckdb`.
    """

    noun: ClassVar[str]
    holds_ledger: ClassVar[bool] = False
    one_writer: ClassVar[bool] = True
    no_early: ClassVar[str] = ""
    folder: Path | None = None
    dialect: str = "duckdb"

    def __init__(self, url: str, partition: str, sizes: Sizes = Sizes()) -> None:
        self.url = url
        self.partition = partition
        self.sizes = sizes

    @classmethod
    @abstractmethod
    def canonical(cls, scheme: str, rest: str) -> str:
        """The URL `scheme://rest` as everything else takes it.

        Raises:
            ValueError: it cannot be used; the message repeats no part that may be a secret.
        """

    @classmethod
    @abstractmethod
    def default_ledger(cls, url: str) -> str:
        """The database that has the ledger if no setting names one.

        Raises:
            ValueError: a setting must name it.
        """

    def make_ready(self, ledger: str) -> None:  # noqa: B027 - most need nothing
        """Make what must be there before the database at the URL `ledger` is opened."""

    @abstractmethod
    def require_identity(self, engine: "sa.Engine", now: Clock) -> None:
        """Return if the ledger's receipts are about this destination.

        Raises:
            ConfigurationError: they are not; the message has the ways out.
            DestinationUnavailable: it cannot be reached.
        """

    @abstractmethod
    def adopt(self, engine: "sa.Engine", now: Clock, fence: Fence) -> Adopted | None:
        """Make the ledger this destination's, after `require_identity` refused; keep all audits.

        Returns:
            None if there was nothing to do.
        """

    @abstractmethod
    def open(self, engine: "sa.Engine", now: Clock) -> AnyDestination:
        """The destination, ready to load.

        Raises:
            ConfigurationError: it was laid out by other settings.
            DestinationUnavailable: it cannot be reached.
        """

    @abstractmethod
    def reach(self) -> None:
        """Return if it answers now, apart from the ledger's database.

        Raises:
            DestinationUnavailable: it does not.
        """

    @abstractmethod
    def answer(
        self, engine: "sa.Engine", question: str
    ) -> AbstractContextManager["pa.RecordBatchReader"]:
        """The answer to one SELECT, to be read inside the block.

        Args:
            question: in `dialect`, from `questions.accepted`.

        Raises:
            UsageError: the SQL is refused.
            DestinationUnavailable: the destination was lost before the last row.
        """

    def checks(self) -> Iterable[tuple[str, Callable[[], str]]]:
        """What `check` tries besides the ledger's database: its name, and what tries it.

        Each trial leaves nothing, gives what was seen, and raises `AuditEtlError` if that is bad.
        """
        return ()

    def caveat(self) -> str | None:
        """What to say of an access that is not encrypted, apart from the ledger's database."""
        return None

    def files_by_lack(self) -> Counter[tuple[str, ...]]:
        """How many stored files lack which of today's columns."""
        return Counter()
