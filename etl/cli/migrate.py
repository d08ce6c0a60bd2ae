"""`migrate`: the tables of the newest schema."""

from collections import Counter
from collections.abc import Sequence

import click

from etl.cli.shared import app_of, common_options, print_json
from etl.database.errors import name_of
from etl.operations import recognition


@click.command("migrate", epilog="Example: audit-etl migrate")
@click.option(
    "--adopt",
    is_flag=True,
    help="Also accept the destination, the ledger and the organisations of the configuration "
    "after a run has refused them. Removes no audit.",
)
@common_options
@click.pass_context
def migrate_command(
    context: click.Context, *, adopt: bool, config_path: str | None, as_json: bool, verbose: bool
) -> None:
    """Bring the destination's tables to the newest schema; nothing changes if they are there.

    To be run once before the first `run` on a server, and after each upgrade of audit-etl.

    With --adopt, an organisation's new OAuth client is accepted. Receipts that are about another
    lake, or about an organisation that says it is another one, are void: each stream is asked for
    again from where it began, and what is there already is not loaded twice. Of an organisation
    that does not say who it is, progress stays.
    """
    with app_of(context, config_path, verbose=verbose) as app:
        before, after = app.migrate()
        place = name_of(app.engine)
        files = app.place.files_by_lack()
        if not as_json:
            _show(place, before, after, files)
        adopted = []
        for line in recognition.adopt(app) if adopt else ():
            adopted.append(line)
            if not as_json:
                click.echo(line)
    if as_json:
        older = [{"files": n, "lacking": list(names)} for names, n in files.items()]
        print_json({"before": before, "after": after, "lake": older, "adopted": adopted})


def _show(
    place: str, before: str | None, after: str | None, files: Counter[tuple[str, ...]]
) -> None:
    if before == after:
        click.echo(f"{place} is at schema {after}, the newest")
    else:
        click.echo(f"{place} went from schema {before or 'nothing'} to {after}")
    for names, count in files.items():
        click.echo(_needs(names, count))


def _needs(names: Sequence[str], count: int) -> str:
    files = "1 file of the lake" if count == 1 else f"{count} files of the lake"
    if not names:
        return f"{files}: every column of today"
    return (
        f"{files}: without {', '.join(names)}, which read as null there; nothing needs to be done, "
        "a file is written with every column when it gets another audit"
    )
