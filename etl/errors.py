"""Every error that a user can meet, grouped by what to do about it.

AuditEtlError
├── UsageError               2   the command line asks for something impossible
├── SourceBrokePromise      65   the source's answers contradict its contract: report it
├── Unavailable             69   something that an export needs does not answer: run again later
│   ├── SourceUnavailable
│   │   └── QueryFailed          a query has no result: retried, then split in halves
│   │       ├── WindowTooLong    the organisation takes no interval of that length: split
│   │       └── AnswerDoubtful   an answer is whole but cannot be complete: retried, then accepted
│   ├── DestinationUnavailable
│   └── AuditTooLarge            the database takes no statement that holds it: its window fails
├── TryAgainLater           75   nothing is wrong, but it cannot be done now
│   ├── RateLimited              the organisation has no requests left until a given time
│   ├── LeaseHeld                another process exports this stream
│   └── Stopped                  a signal stopped the process; everything loaded is kept
├── NotPermitted            77   the credentials are rejected, or lack a permission
│   └── ServiceRefused           the organisation refuses one service
└── ConfigurationError      78   a setting is wrong or missing
    ├── UnknownService           the organisation does not know a service
    └── SchemaBehind             the destination's tables have another version

A message says what failed, with the value, and what to do next. Whatever is not an
`AuditEtlError` is a bug in audit-etl (exit status 1). No message may hold a token, a secret or a
URL with a query string.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar


class AuditEtlError(Exception):
    """Base of every error that a user can meet.

    Attributes:
        exit_status: the process's own.
        about: what the log line that tells of it carries: the window that it befell.
    """

    exit_status: ClassVar[int] = 1
    about: Mapping[str, str] = MappingProxyType({})


class UsageError(AuditEtlError):
    """The command line asks for something that cannot be done."""

    exit_status = 2


class SourceBrokePromise(AuditEtlError):
    """The source's data contradicts its contract; nothing of the window is recorded as done."""

    exit_status = 65


class Unavailable(AuditEtlError):
    """Something that an export needs does not answer; the same run later may succeed."""

    exit_status = 69


class SourceUnavailable(Unavailable):
    """The organisation cannot be reached, or answers with server errors for too long."""


class QueryFailed(SourceUnavailable):
    """One query ended without a result: Failed, Cancelled, never finished, or vanished."""


class WindowTooLong(QueryFailed):
    """The organisation refuses an interval of that length; asking again would not help."""


class AnswerDoubtful(QueryFailed):
    """A whole answer shows less than the destination holds of its window, or only other times."""


class DestinationUnavailable(Unavailable):
    """The database or the file system of the destination refused or lost a write or a read."""


class AuditTooLarge(Unavailable):
    """The database's settings let no statement hold one audit; all others can be loaded.

    Attributes:
        key: the audit's id, or the digest of a reject.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class TryAgainLater(AuditEtlError):
    """Nothing is broken, but it cannot be done now."""

    exit_status = 75


class RateLimited(TryAgainLater):
    """The organisation asks us to wait for longer than a run should hold on.

    Attributes:
        until: UTC instant, by our clock, before which the organisation will refuse again.
        seconds: how long that is from now on.
    """

    def __init__(self, message: str, until: datetime, seconds: float) -> None:
        super().__init__(message)
        self.until = until
        self.seconds = seconds


class LeaseHeld(TryAgainLater):
    """Another process holds the lease of this stream."""


class Stopped(TryAgainLater):
    """A signal asked the process to stop; what was loaded so far is kept."""


class NotPermitted(AuditEtlError):
    """The organisation refuses these credentials, or they lack a permission."""

    exit_status = 77


class ServiceRefused(NotPermitted):
    """The organisation refuses one service to a client that it lets ask for audits."""


class ConfigurationError(AuditEtlError):
    """A setting is wrong, missing or unknown."""

    exit_status = 78


class UnknownService(ConfigurationError):
    """The organisation does not know a service that is asked for."""


class SchemaBehind(ConfigurationError):
    """The destination's tables are not of the version that this program writes."""
