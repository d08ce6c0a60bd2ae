"""The windows that a run could not load: what is kept of them, and what is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from etl.errors import (
    AuditEtlError,
    AuditTooLarge,
    QueryFailed,
    SourceBrokePromise,
    SourceUnavailable,
    WindowTooLong,
)
from etl.model import FailedWindow, Stream
from etl.window import Window, format_duration, joined, without

#: If so many windows fail and none is loaded, the organisation fails. Fewer are enough of those of
#: which a page could not be read: that was tried for minutes.
ALONE_MAX: Final = 8
UNANSWERED_MAX: Final = 3
#: What befalls one window whatever the others do.
_OF_ONE_WINDOW: Final = (QueryFailed, SourceBrokePromise, AuditTooLarge)
#: So many spans are named in an error.
NAMED_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Failed:
    """A window that was asked for in vain.

    Attributes:
        query_id: of the last query; empty if none was accepted.
    """

    window: Window
    error: AuditEtlError
    query_id: str

    @property
    def refused(self) -> bool:
        """Whether the organisation did not even accept a query: it may be too old."""
        return not self.query_id

    @property
    def may_pass(self) -> bool:
        """Whether it is worth while to ask again at once."""
        return isinstance(self.error, QueryFailed) and not isinstance(self.error, WindowTooLong)

    @property
    def concerns_others(self) -> bool:
        """Whether other windows would fail the same: an outage, a permission, a rate limit."""
        if isinstance(self.error, _OF_ONE_WINDOW):
            return False
        return self.refused or not isinstance(self.error, SourceUnavailable)

    @property
    def unanswered(self) -> bool:
        """Whether a page could not be read, which was tried for minutes."""
        return not isinstance(self.error, _OF_ONE_WINDOW)


class Losses:
    """The windows that a run could not load.

    Args:
        known: windows that failed in earlier runs.
        keep: keeps a window for later runs.
        forget: drops one that was kept.
    """

    def __init__(
        self,
        stream: Stream,
        known: Sequence[FailedWindow],
        keep: Callable[[Failed], None],
        forget: Callable[[Window], None],
    ) -> None:
        self._stream = stream
        self._known = list(known)
        self._keep = keep
        self._forget = forget
        self._lost: dict[Window, Failed] = {}
        self._loaded: list[Window] = []
        self._errors: list[AuditEtlError] = []
        self._unanswered = 0

    @property
    def needs_proof(self) -> bool:
        """Whether something failed, and it is open if the organisation shows anything at all."""
        return bool(self._lost) and not self._loaded

    def load(self, window: Window) -> None:
        """A window was loaded: so it is not the organisation that fails, if others do."""
        if not self._loaded:
            self._keep_lost()
        self._loaded.append(window)

    def _keep_lost(self) -> None:
        for failed in self._lost.values():
            self._keep(failed)

    def lose(self, failed: Failed) -> None:
        """A window has failed.

        Raises:
            AuditEtlError: so many have failed, and nothing was loaded, that others would fail too.
        """
        self._errors.append(failed.error)
        self._unanswered += failed.unanswered
        of_source = sum(not isinstance(error, AuditTooLarge) for error in self._errors)
        hopeless = of_source >= ALONE_MAX or self._unanswered >= UNANSWERED_MAX
        if hopeless and not self._loaded:
            raise failed.error
        self._lost[failed.window] = failed
        if self._loaded or isinstance(failed.error, AuditTooLarge):
            self._keep(failed)

    def lose_again(self, failed: Failed) -> None:
        """Time that failed in an earlier run has failed once more; its windows stay kept."""
        if any(known.window == failed.window for known in self._known):
            self._keep(failed)  # in the place of the query that was just remembered
        if not any(k.excused and k.window.overlaps(failed.window) for k in self._known):
            self._errors.append(failed.error)

    def take_up(self, window: Window) -> None:
        """A window is asked for in parts: they are lost, or they are not."""
        self._lost.pop(window, None)
        self._known = [known for known in self._known if known.window != window]
        self._forget(window)

    def get(self, window: Window) -> Failed | None:
        """How the window failed in this run, if it is lost."""
        return self._lost.get(window)

    def has_refused_at(self, moment: datetime) -> bool:
        """Whether a window was refused that starts then."""
        return any(f.refused and f.window.start == moment for f in self._lost.values())

    def newest_first(self) -> list[Failed]:
        """The windows that failed in this run."""
        return sorted(self._lost.values(), key=lambda failed: failed.window, reverse=True)

    def regions(self) -> list[Window]:
        """The spans that failed in earlier runs, the newest first, those that were refused last."""
        refused = joined(known.window for known in self._known if known.refused)
        others = joined(known.window for known in self._known if not known.refused)
        return [*reversed(others), *reversed(refused)]

    def largest_in(self, region: Window) -> list[Window]:
        """The longest window of a region that failed, if it is worth to be asked for in parts."""
        inside = [k.window for k in self._known if k.window in region and not k.refused]
        return sorted(inside, key=lambda window: window.length)[-1:]

    def error(self) -> AuditEtlError | None:
        """What to tell at the end of the run; it names the spans that are not loaded.

        They are kept for later runs.
        """
        if not self._loaded:
            self._keep_lost()
        known = [known.window for known in self._known if not known.excused]
        spans = joined([*self._lost, *without(known, self._loaded)])
        broken = [error for error in self._errors if isinstance(error, SourceBrokePromise)]
        if spans:
            cause = next(iter([*broken, *self._errors]), None)
            return _error(self._stream, spans, cause, others=bool(self._loaded))
        if broken:
            return _caused(
                f"{self._stream}: all was read, in shorter windows, but an answer contradicts the "
                f"vendor's contract: {broken[0]}",
                broken[0],
            )
        return None


def _error(
    stream: Stream, spans: Sequence[Window], cause: AuditEtlError | None, *, others: bool
) -> AuditEtlError:
    names = ", ".join(f"{span} ({format_duration(span.length)})" for span in spans[-NAMED_MAX:])
    more = f" and {len(spans) - NAMED_MAX} older spans" if len(spans) > NAMED_MAX else ""
    beside = ", other windows were" if others else ""
    text = (
        f"{stream}: {names}{more} could not be loaded{beside}. Each run tries them again last; "
        "`audit-etl status` names the gaps"
    )
    if cause is None:
        return SourceUnavailable(f"{text}. This run has not tried them")
    return _caused(f"{text}. Why: {cause}", cause)


def _caused(text: str, cause: AuditEtlError) -> AuditEtlError:
    kinds = (SourceBrokePromise, AuditTooLarge, SourceUnavailable)
    error = next((kind for kind in kinds if isinstance(cause, kind)), SourceUnavailable)(text)
    error.__cause__ = cause
    error.about = cause.about
    return error
