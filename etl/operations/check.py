"""What `check` looks at before the first run: one finding for each thing that can be wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from etl.app import App
from etl.database import connections, limits
from etl.database.errors import name_of
from etl.database.schema import HEAD
from etl.database.transactions import reading
from etl.database.versions import require_schema, schema_version
from etl.destinations import trials
from etl.errors import AuditEtlError, ConfigurationError
from etl.genesys.client.masking import SHORT
from etl.genesys.query import AuditSource
from etl.ledger import claims, retention
from etl.operations.recognition import compare, twins_text
from etl.operations.warnings import CLOCK_REMEDY, SKEW_MAX, claim_text, clock_text
from etl.window import TIME_TOLERANCE


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`.

    Attributes:
        about: what was looked at.
        verdict: `ok`, `warning` or `failed`.
        detail: what was seen, with the remedy unless all is well.
        exit_status: what a run would end with because of it; 0 unless failed.
    """

    about: str
    verdict: str
    detail: str
    exit_status: int = 0


def check(app: App) -> Iterator[Finding]:
    """Look at the credentials and the clock of each organisation, then write as a run does.

    Nothing of what is written stays.
    """
    yield _finding("configuration", lambda: _organizations(app))
    for name in app.settings.organizations:
        yield from _organization(app, name)
    with _left_as_it_was(app):
        yield from _destination(app)


def _destination(app: App) -> Iterator[Finding]:
    for about, look in app.place.checks():
        yield _finding(about, look)
    ledger = "destination" if app.place.holds_ledger else "ledger"
    reached = _finding(ledger, lambda: _reach(app))
    yield reached
    yield from _told("encryption", lambda: _encryption(app))
    if reached.verdict == "ok":
        yield from _tables(app)
    yield _finding("temporary files", _temporary)
    yield from _told("disk", lambda: _room(app))


def _tables(app: App) -> Iterator[Finding]:
    yield from _told("limits", lambda: _limits(app))
    schema = _finding("schema", lambda: _schema(app))
    yield schema
    if schema.verdict == "ok":
        yield _finding("writing", lambda: _write(app))
        yield from _told("connections", lambda: _connections(app))
    if schema.verdict == "ok" and app.has_tables():
        yield from _claims(app)
        yield _finding("identity", lambda: _identity(app))
        for name in app.settings.organizations:
            yield _recognised(app, name)
            yield from _told(f"{name}: retention", partial(_retention, app, name))


def _finding(about: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(about, "ok", look())
    except AuditEtlError as error:
        return Finding(about, "failed", str(error), error.exit_status)


def _told(about: str, look: Callable[[], str | None]) -> Iterator[Finding]:
    """A finding only if something is to be said: a warning, or a failure."""
    try:
        warning = look()
    except AuditEtlError as error:
        yield Finding(about, "failed", str(error), error.exit_status)
        return
    if warning is not None:
        yield Finding(about, "warning", warning)


@contextmanager
def _left_as_it_was(app: App) -> Iterator[None]:
    """Remove the folder of a destination afterwards if only this look has made it."""
    place = app.place.folder
    missing = [] if place is None else [p for p in (place, *place.parents) if not p.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):  # it was not made, or there is something in it
                folder.rmdir()


def _organizations(app: App) -> str:
    app.settings.require_credentials()
    for name, organization in app.settings.organizations.items():
        if len(organization.client_secret.get_secret_value()) < SHORT:
            raise ConfigurationError(
                f"the client_secret of organisation {name} has fewer than {SHORT} characters: the "
                "vendor's are longer, and one so short cannot be cut out of every text it may "
                "appear in; give the whole of it"
            )
    app.settings.require_started(app.now())
    names = ", ".join(app.settings.organizations)
    return f"organisations: {names}"


def _organization(app: App, name: str) -> Iterator[Finding]:
    try:
        source = app.source(name)
        source.sign_in()
    except AuditEtlError as error:
        yield Finding(f"{name}: credentials", "failed", str(error), error.exit_status)
        return
    yield Finding(f"{name}: credentials", "ok", "the organisation gave a token")
    yield _finding(f"{name}: permission", lambda: _permission(source))
    yield _clock(f"{name}: clock", source.clock_skew)


def _permission(source: AuditSource) -> str:
    services = {action.service for action in source.service_mapping()}
    left = source.requests_left
    budget = "" if left is None else f"; {left} requests left in this minute"
    return f"audits:audit:view is granted, {len(services)} services can be asked for{budget}"


#: What a missing time means, and what to do about it.
_NO_TIME: Final = (
    "the organisation's answers carry no Date that can be right: exports go by this machine's "
    "clock, so see that NTP sets it, and which proxy takes the Date header out"
)


def _clock(about: str, skew: timedelta | None) -> Finding:
    if skew is None:
        return Finding(about, "warning", _NO_TIME)
    detail = clock_text(skew)
    if abs(skew) <= SKEW_MAX:
        return Finding(about, "ok", detail)
    return Finding(about, "warning", f"{detail}: {CLOCK_REMEDY}")


def _claims(app: App) -> Iterator[Finding]:
    """The streams that are marked as loaded beyond their organisation's time."""
    for stream in app.streams():
        now, claimed = app.time_of(stream.organization), claims.claimed_until(app.engine, stream)
        if claimed is not None and claimed > now + TIME_TOLERANCE:
            yield Finding(
                f"{stream}: watermark",
                "warning",
                claim_text(claimed, now, "the organisation's clock"),
            )


def _reach(app: App) -> str:
    new = app.new_file()
    if new is None:
        with reading(app.engine) as connection:
            connection.exec_driver_sql("SELECT 1")
        return f"{name_of(app.engine)} answers"
    if new.parent == app.place.folder:
        return f"{new} will be made in the {app.place.noun}"
    trials.try_new_file(new)
    return f"{new} can be made"


def _encryption(app: App) -> str | None:
    ledger = None if app.is_embedded() else connections.caveat(app.engine.url)
    found = (ledger, app.place.caveat())
    return "; ".join(text for text in found if text) or None


def _limits(app: App) -> str | None:
    if app.new_file() is not None:
        return None
    with reading(app.engine) as connection:
        limits.require_usable(connection)
        return "; ".join(limits.database_warnings(connection)) or None


def _write(app: App) -> str:
    if app.new_file() is not None:
        return "the first run can create the file"
    if schema_version(app.engine) is None:
        trials.try_file(app.engine)
        return "tables can be made"
    trials.try_tables(app.engine, app.now(), audits=app.place.holds_ledger)
    return "a row of each table was inserted, updated and deleted, then rolled back"


def _connections(app: App) -> str | None:
    if app.new_file() is not None:
        return None
    return trials.require_connections(app.engine, app.settings.connections)


def _temporary() -> str:
    return f"{trials.try_temporary_folder()} takes them"


def _room(app: App) -> str | None:
    """Of the disks of this machine that a run writes to."""
    places = [trials.temporary_folder(), app.place.folder]
    if app.is_embedded():
        places.append(app.file().absolute().parent)
    return trials.short_of_room(place for place in places if place is not None and place.is_dir())


def _schema(app: App) -> str:
    if app.is_embedded() and not app.has_tables():
        return "no tables yet; the first run makes them"
    require_schema(app.engine)
    return f"the tables are at schema {HEAD}, the newest"


def _retention(app: App, name: str) -> None:
    retention.start_by(app.engine, name, app.time_of(name))


def _identity(app: App) -> str:
    app.require_identity()
    return "the receipts, if there are any, are about this destination"


def _recognised(app: App, name: str) -> Finding:
    about = f"{name}: identity"
    try:
        twins = compare(app, name)
    except AuditEtlError as error:
        return Finding(about, "failed", str(error), error.exit_status)
    if twins:
        return Finding(about, "warning", twins_text(name, twins))
    return Finding(about, "ok", "the audits that are stored under this name, if any, are of it")
