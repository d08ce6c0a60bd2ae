"""Whether an organisation is the one whose audits are stored under its name.

The vendor is asked at the first time, and when the OAuth client or its region is not the one that
was recorded; no other run costs a request. A rotated client of the same organisation is recorded
quietly. `adopt` is what an operator does about everything that was refused.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from etl.app import App
from etl.database.transactions import reading, transact
from etl.errors import ConfigurationError, NotPermitted, SourceBrokePromise, SourceUnavailable
from etl.genesys.query import AuditSource
from etl.ledger import claims, identities, leases
from etl.ledger.identities import CLIENT, ORGANIZATION
from etl.ledger.leases import Lease
from etl.model import WRITER, Stream
from etl.window import iso_utc

_LOG = logging.getLogger(__name__)

_LOOPBACK_PORT: Final = re.compile(r"(://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])):\d+")
#: An organisation that did not say which one it is, is asked again after so long.
UNTOLD_FOR: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Known:
    """What is recorded of an organisation.

    Attributes:
        id: the vendor's; empty if it is not known.
        client: the OAuth client, and where it asks.
        asked_at: when the vendor was last asked for the id.
    """

    id: str
    client: str
    asked_at: datetime


def recognise(app: App, name: str) -> None:
    """Return if the credentials of `name` are for the organisation that is stored under that name.

    Raises:
        ConfigurationError: they are not, or it cannot be found out; the message has the ways out.
        AuditEtlError: the organisation cannot be asked; see `Transport.call`.
    """
    source, now = app.source(name), app.now()
    everyone = _everyone(app)
    known = everyone.get(name)
    if not _is_settled(known, source.client, now):
        told = _asked(source, known)

        def work(connection: sa.Connection) -> dict[str, Known]:
            identities.ledger(connection, now)  # nobody else records an organisation meanwhile
            found = _known(connection)
            require_same(name, source.client, told, found.get(name))
            _keep(connection, name, Known(_id(told, found.get(name)), source.client, now))
            return _known(connection)

        everyone = transact(app.engine, work)
        if known and known.client != source.client:
            _LOG.info("organisation %s has a new OAuth client, %s", name, source.client)
    twins = twins_of(name, everyone[name].id, everyone)
    if twins and app.first_time("twins", name):
        _LOG.warning("%s", twins_text(name, twins))


def compare(app: App, name: str) -> list[str]:
    """As `recognise`, but record nothing; give the other names of the same organisation."""
    source, everyone = app.source(name), _everyone(app)
    known = everyone.get(name)
    told = None
    if not _is_settled(known, source.client, app.now()):
        told = _asked(source, known)
        require_same(name, source.client, told, known)
    return twins_of(name, _id(told, known), everyone)


def require_same(name: str, client: str, told: str | None, known: Known | None) -> None:
    """Return if an organisation is what is recorded under its name, if anything is. Pure.

    Args:
        client: the OAuth client that is configured, and where it asks.
        told: the vendor's id of the organisation of that client; None if it does not tell.
        known: what is recorded.

    Raises:
        ConfigurationError: it is another one, or it cannot be told.
    """
    if known is None:
        return
    same_place = _place(client) == _place(known.client)
    if told == known.id if told and known.id else same_place:
        return
    setting = f"organizations.{name}"
    which = (
        f"is now the organisation {told}, and its audits here are of {known.id}"
        if told and known.id
        else f"was asked as {known.client} and is now {client}, and which organisation that is "
        "cannot be found out"
    )
    raise ConfigurationError(
        f"organisation {name} {which}. Set {setting}.region and {setting}.client_id back, or give "
        "the other organisation a name of its own; to go on under this name, run "
        "`audit-etl migrate --adopt`"
    )


def _place(client: str) -> str:
    """The client and where it asks, without the port of this machine: a simulator's or a tunnel's.

    Such a port is another one at each start.
    """
    return _LOOPBACK_PORT.sub(r"\1", client)


def twins_of(name: str, own_id: str, everyone: Mapping[str, Known]) -> list[str]:
    """The other names under which audits of the same organisation are stored. Pure."""
    if not own_id:
        return []
    return sorted(other for other, k in everyone.items() if k.id == own_id and other != name)


def twins_text(name: str, twins: list[str]) -> str:
    """What to say of an organisation that has other names too."""
    return (
        f"organisation {name} is also stored as {', '.join(twins[:3])}: the credentials are of one "
        "organisation, so each of its audits is stored under each name. If it was renamed, give it "
        "its old name to go on there; if not, check its credentials"
    )


def _everyone(app: App) -> dict[str, Known]:
    with reading(app.engine) as connection:
        return _known(connection)


def _is_settled(known: Known | None, client: str, now: datetime) -> bool:
    """Whether there is nothing to ask."""
    if known is None or known.client != client:
        return False
    return bool(known.id) or now - known.asked_at < UNTOLD_FOR


def _asked(source: AuditSource, known: Known | None) -> str | None:
    return _told(source, must_answer=known is not None and known.client != source.client)


def _id(told: str | None, known: Known | None) -> str:
    """What is known of the vendor's id: what it told now, else what it told before."""
    return told or (known.id if known else "")


def adopt(app: App) -> Iterator[str]:
    """Take what the configuration names for what belongs together; give what was done, as it is.

    Progress that may not be true of it starts again. Nothing that is stored is removed.

    Raises:
        LeaseHeld: another process is loading.
        AuditEtlError: an organisation or the destination cannot be asked.
    """
    app.settings.require_credentials()
    yield from _adopt_destination(app)
    for name in app.settings.organizations:
        yield from _adopt_organization(app, name)


def _adopt_destination(app: App) -> Iterator[str]:
    try:
        app.require_identity()
    except ConfigurationError:
        with _quiet(app, [WRITER]) as [lease]:
            adopted = app.place.adopt(app.engine, app.now, lease.confirm)
        if adopted is not None:
            yield adopted.done
            yield from _restarts(adopted.restarted)


def _adopt_organization(app: App, name: str) -> Iterator[str]:
    source, now = app.source(name), app.now()
    told = _told(source, must_answer=True)
    streams = [stream for stream in app.ledger.streams() if stream.organization == name]
    names = [WRITER] if app.place.one_writer else [str(stream) for stream in streams]

    def work(connection: sa.Connection) -> tuple[str, list[tuple[Stream, datetime]]]:
        for lease in held:
            lease.confirm(connection)
        identities.ledger(connection, now)
        known = _known(connection).get(name)
        is_other = known is not None and told is not None and known.id not in {"", told}
        restarted = claims.restart(connection, name, now) if is_other else []
        _keep(connection, name, Known(_id(told, known), source.client, now))
        return _adopted(known, source.client, told), restarted

    with _quiet(app, names) as held:
        done, restarted = transact(app.engine, work)
    yield f"organisation {name} {done}"
    yield from _restarts(restarted)


def _adopted(known: Known | None, client: str, told: str | None) -> str:
    """What `adopt` did about an organisation."""
    if known is None:
        return f"is recorded as {told or client}"
    if told is not None and known.id not in {"", told}:
        return f"is now {told}; audits of {known.id}, which it was, stay under its name"
    if known.client == client:
        return f"is {told or client}, as before"
    if told is not None and known.id == told:
        return f"has a new OAuth client, {client}; its progress is kept"
    return f"is taken for the one that was asked as {known.client}; its progress is kept"


def _restarts(restarted: list[tuple[Stream, datetime]]) -> Iterator[str]:
    for stream, begins_at in restarted:
        yield f"{stream} will be asked for again from {iso_utc(begins_at)} on"


@contextmanager
def _quiet(app: App, names: list[str]) -> Iterator[list[Lease]]:
    """Hold these leases during the block: no run is at work then."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                leases.holding(
                    app.engine,
                    leases.acquire(app.engine, name, app.holder, app.now(), app.timing.length),
                    app.now,
                    app.timing,
                )
            )
            for name in names
        ]


def _told(source: AuditSource, *, must_answer: bool) -> str | None:
    """The vendor's id of the organisation; None if it does not answer that question.

    Args:
        must_answer: whether an outage is an error. At the first time it holds up nothing.
    """
    source.sign_in()
    try:
        return source.organization_id()
    except (NotPermitted, SourceBrokePromise):
        return None
    except SourceUnavailable:
        if must_answer:
            raise
        return None


def _known(connection: sa.Connection) -> dict[str, Known]:
    ids = identities.recorded(connection, ORGANIZATION)
    clients = identities.recorded(connection, CLIENT)
    return {
        name: Known(ids[name].text, client.text, ids[name].recorded_at)
        for name, client in clients.items()
        if name in ids
    }


def _keep(connection: sa.Connection, name: str, now_known: Known) -> None:
    at = now_known.asked_at
    identities.record(connection, CLIENT, name, now_known.client, at)
    identities.record(connection, ORGANIZATION, name, now_known.id, at)
