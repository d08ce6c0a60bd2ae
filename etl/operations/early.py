"""Loading what the realtime query shows before a window brings it."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from etl.app import App
from etl.destinations import AnyDestination, LoadsEarly
from etl.errors import ConfigurationError
from etl.genesys.follower import Follower
from etl.operations.recognition import recognise
from etl.operations.tail import Asking
from etl.operations.warnings import warn_of_unconfirmed
from etl.records import read_records
from etl.window import floor_second, spanning

_LOG = logging.getLogger(__name__)

#: Of the time since the watermark, so much is loaded early at most; with what share of the budget.
EARLY_REACH: Final = timedelta(hours=1)
EARLY_SHARE: Final = 0.2


def load_early(destination: AnyDestination, organization: str, records: Iterable[bytes]) -> int:
    """Load records of the realtime query before a window brings them; give how many were new.

    They are confirmed by the windows: see `LoadsEarly`. Records that cannot be rows are left to the
    window that shows them.

    Raises:
        ConfigurationError: the destination takes none early; see `Place.no_early`.
        DestinationUnavailable: the database refused or lost the write.
    """
    if not isinstance(destination, LoadsEarly):
        raise ConfigurationError("audits cannot be loaded early into this destination")
    return destination.load_early(organization, read_records(records).audits)


def load_visible(app: App, organization: str) -> int:
    """Load early what is visible of the time since the watermarks; give how many were new.

    A service that the realtime query does not know, or not for this client, is left out and told
    of once: the windows bring it.

    It costs two or three requests and one for each 500 audits, of no more than a fifth of the
    organisation's rate budget. See `load_early`.

    Raises:
        Stopped: a signal asked to stop.
        AuditEtlError: the organisation or the destination is away; what was loaded is kept.
    """
    recognise(app, organization)
    streams = [stream for stream in app.streams() if stream.organization == organization]
    marks = [app.ledger.watermark(stream) for stream in streams]
    asking = Asking(app, organization, EARLY_SHARE, left_out=_not_early)
    services = [stream.service for stream in streams if stream.service is not None]
    questions = asking.questions(services)
    end = floor_second(asking.now())
    sure = (max(mark.begins_at, mark.reached) for mark in marks if mark)
    start = max(end - EARLY_REACH, min(sure, default=end))
    wanted = frozenset(services) if services else None
    destination = app.destination()
    loaded = sum(
        load_early(destination, organization, found)
        for window in spanning(start, end)
        for question in questions
        for found in Follower(asking.of(question), start, wanted).scan(window)
    )
    for stream in streams:
        warn_of_unconfirmed(app, stream)
    return loaded


def _not_early(organization: str, service: str, why: object) -> None:
    _LOG.warning(
        "organisation %s: service %s is not loaded early, the others are, and its windows bring it "
        "as ever: %s",
        organization,
        service,
        why,
    )
