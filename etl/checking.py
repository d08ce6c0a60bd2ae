"""What `check` looks at before the first run: one finding for each thing that can be wrong."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from etl.app import App
from etl.caveats import CLOCK_REMEDY, SKEW_MAX, clock_text
from etl.database import describe, reading, schema_version
from etl.errors import AuditEtlError, DestinationUnavailable, SchemaBehind
from etl.genesys.query import AuditSource
from etl.schema import HEAD


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
    """Look at the credentials and the clock of each organisation, then at the destination."""
    yield _finding("configuration", lambda: _organizations(app))
    for name in app.settings.organizations:
        yield from _organization(app, name)
    if app.is_lake():
        yield _finding("lake", lambda: _lake(app))
    yield _finding("state" if app.is_lake() else "destination", lambda: _reach(app))
    yield _finding("schema", lambda: _schema(app))


def _finding(about: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(about, "ok", look())
    except AuditEtlError as error:
        return Finding(about, "failed", str(error), error.exit_status)


def _organizations(app: App) -> str:
    app.settings.require_credentials()
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


def _clock(about: str, skew: timedelta | None) -> Finding:
    if skew is None:
        return Finding(about, "warning", "the organisation's answers carry no time to compare with")
    detail = clock_text(skew)
    if abs(skew) <= SKEW_MAX:
        return Finding(about, "ok", detail)
    return Finding(about, "warning", f"{detail}: {CLOCK_REMEDY}")


def _lake(app: App) -> str:
    from etl.destinations.lake.layout import require_partition
    from etl.destinations.lake.storage import LocalStorage, translated

    storage = app.storage()
    if isinstance(storage, LocalStorage):
        _require_writable(Path(storage.name))
    with translated(storage):
        files = storage.files()
    require_partition(files, app.settings.partition)
    return f"{storage.name} holds {len(files)} files"


def _require_writable(path: Path) -> Path:
    """The folder at `path`, or the nearest one above it that exists; we may make things there."""
    folder = next(above for above in (path, *path.absolute().parents) if above.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DestinationUnavailable(f"{folder} cannot be written by this user")
    return folder


def _reach(app: App) -> str:
    new = app.new_file()
    if new is not None:
        return f"{new} will be made in {_require_writable(new)}"
    with reading(app.engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    return f"{describe(app.engine)} answers"


def _schema(app: App) -> str:
    version = schema_version(app.engine) if app.new_file() is None else None
    if version == HEAD:
        return f"the tables are at schema {version}, the newest"
    if version is None and app.is_embedded():
        return "no tables yet; the first run makes them"
    raise SchemaBehind(
        f"the tables are at schema {version or 'nothing'}, this program writes {HEAD}: "
        "run `audit-etl migrate`"
    )
