"""`services`: the service mapping, stored and refreshed."""

from collections.abc import Sequence

import click

from etl.app import App
from etl.cli.shared import app_of, common_options, organizations_option, print_json, print_table
from etl.ledger import service_mapping
from etl.ledger.service_mapping import KnownAction
from etl.model import ServiceAction
from etl.operations.recognition import recognise
from etl.plain import plain
from etl.window import iso_utc


@click.command("services", epilog="Example: audit-etl services --organization default --json")
@organizations_option
@common_options
@click.pass_context
def services_command(
    context: click.Context,
    *,
    organizations: Sequence[str],
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Ask each organisation which services, entity types and actions it audits, and store them.

    Shows what is new since the last time. Costs two requests an organisation; nothing of what is
    exported depends on it, for the stream `*` holds new services from their first day.
    """
    with app_of(context, config_path, verbose=verbose, organizations=organizations) as app:
        app.settings.require_credentials()
        app.prepare()
        found = [(name, *_refresh(app, name)) for name in app.settings.organizations]
    if as_json:
        print_json([_as_json(*organization_found) for organization_found in found])
        return
    for name, known, new in found:
        _show(name, known, new)


def _refresh(app: App, name: str) -> tuple[list[KnownAction], list[ServiceAction]]:
    recognise(app, name)
    source = app.source(name)
    new = service_mapping.refresh(
        app.engine, name, source.service_mapping(), source.realtime_service_mapping(), app.now()
    )
    return service_mapping.known(app.engine, name), new


def _show(name: str, known: Sequence[KnownAction], new: Sequence[ServiceAction]) -> None:
    by_service: dict[str, list[KnownAction]] = {}
    for kind in known:
        by_service.setdefault(kind.action.service, []).append(kind)
    print_table(
        ("service", "entity types", "actions", "realtime", "first seen", "last seen"),
        [
            (
                service,
                str(len({kind.action.entity_type for kind in kinds})),
                str(len(kinds)),
                "yes" if any(kind.realtime for kind in kinds) else "no",
                iso_utc(min(kind.first_seen for kind in kinds)),
                iso_utc(max(kind.last_seen for kind in kinds)),
            )
            for service, kinds in by_service.items()
        ],
    )
    click.echo(f"{name}: {len(by_service)} services, {len(known)} kinds of audit, {len(new)} new")
    if len(new) < len(known):
        for action in new:
            click.echo(plain(f"new: {action.service} {action.entity_type} {action.action}"))


def _as_json(
    name: str, known: Sequence[KnownAction], new: Sequence[ServiceAction]
) -> dict[str, object]:
    fresh = set(new)
    return {
        "organization": name,
        "actions": [
            {
                "service": kind.action.service,
                "entity_type": kind.action.entity_type,
                "action": kind.action.action,
                "realtime": kind.realtime,
                "first_seen": kind.first_seen,
                "last_seen": kind.last_seen,
                "new": kind.action in fresh,
            }
            for kind in known
        ],
        "new": len(new),
    }
