"""`demo`: from a simulated organisation into a fresh SQLite file, and a look at what landed."""

import sqlite3
import sys
import tempfile
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from etl.app import App, clock
from etl.cli.progress import receipt_line
from etl.cli.shared import print_table
from etl.config import load
from etl.operations import export
from etl.operations.streams import Failure
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Simulator

#: What the demo asks, and what it would be asked for.
_QUESTIONS: Final = (
    (
        "Who changed the most?",
        "SELECT user_name, COUNT(*) AS changes FROM audit_events "
        "WHERE user_name IS NOT NULL GROUP BY user_name ORDER BY changes DESC LIMIT 3",
    ),
    (
        "What happened to roles and permissions?",
        "SELECT entity_type, action, COUNT(*) AS audits FROM audit_events WHERE service_name = "
        "'PeoplePermissions' GROUP BY entity_type, action ORDER BY audits DESC LIMIT 5",
    ),
    (
        "What was changed last, from what to what?",
        "SELECT e.event_date, e.entity_type, p.property, p.old_values, p.new_values "
        "FROM audit_events e JOIN audit_property_changes p "
        "ON p.organization = e.organization AND p.event_date = e.event_date AND p.event_id = e.id "
        "WHERE p.property = 'name' ORDER BY e.event_date DESC LIMIT 3",
    ),
)


@click.command("demo", epilog="Example: audit-etl demo --audits 50000")
@click.option("--audits", type=click.IntRange(1), default=5_000, show_default=True)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the SQLite file. Default: a new temporary folder.",
)
def demo_command(*, audits: int, directory: Path | None) -> int:
    """Try it without an account: needs nothing but this machine, and takes a few seconds.

    Starts the simulator, exports from it through a real query, poll and page cycle over HTTP into
    a fresh SQLite file, runs again to show that nothing is there twice, and answers questions.
    """
    folder = directory or Path(tempfile.mkdtemp(prefix="audit-etl-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "audits.db"
    now = clock().replace(microsecond=0)
    click.echo(f"1. Generating {audits} audits of the last 7 days and serving them over HTTP")
    with AuditLog.generate(count=audits, start=now - timedelta(days=7), end=now) as log:
        simulator = Simulator(log=log, query_seconds=0.5)
        with simulator.serve() as url:
            click.echo(f"   a simulated organisation answers at {url}")
            click.echo(f"2. Exporting into {path}")
            status = _export(path, url)
            counts = [f"{n} {name.replace('_', ' ')}" for name, n in simulator.requests.items()]
            click.echo(f"   requests by operation: {', '.join(counts)}")
            click.echo("3. Exporting again: nothing is stored twice")
            status = status or _export(path, url)
    if status == 0:
        _look(path, audits)
    return status


def _export(path: Path, url: str) -> int:
    """Run as a user would, with the four variables; give the exit status."""
    variables = {
        "GENESYSCLOUD_REGION": url,
        "GENESYSCLOUD_OAUTHCLIENT_ID": CLIENT_ID,
        "GENESYSCLOUD_OAUTHCLIENT_SECRET": CLIENT_SECRET,
        "AUDIT_ETL_DESTINATION": f"sqlite:///{path.absolute()}",
    }
    with App(load(None, variables), stop=threading.Event()) as app:
        for outcome in export.run(app):
            if isinstance(outcome, Failure):
                click.echo(f"audit-etl: {outcome.error}", err=True)
                return outcome.error.exit_status
            click.echo(f"   {receipt_line(outcome)}")
    return 0


def _look(path: Path, made: int) -> None:
    click.echo(f"4. What is now in {path}")
    with closing(sqlite3.connect(path)) as database:
        for table in ("audit_events", "audit_property_changes", "audit_entity_changes"):
            [[count]] = database.execute(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - ours
            click.echo(f"   {count:>7} rows in {table}")
            if table == "audit_events" and count < made:
                click.echo(
                    f"   {made - count:>7} audits are younger than the lag; a later run loads them"
                )
        for question, select in _QUESTIONS:
            click.echo(f"\n{question}")
            cursor = database.execute(select)
            headers = [column[0] for column in cursor.description]
            print_table(headers, [[_short(cell) for cell in row] for row in cursor])
    for line in _next_steps(path):
        click.echo(line)


def _short(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _next_steps(path: Path) -> list[str]:
    _, select = _QUESTIONS[0]
    command = sys.argv[0] if Path(sys.argv[0]).name == "audit-etl" else "python -m etl"
    destination = f"AUDIT_ETL_DESTINATION=sqlite:///{path.absolute()}"
    return [
        "",
        "Query it with audit-etl or with any SQLite client:",
        f'  {destination} {command} query "{select}"',
        f"  {destination} {command} status",
        f"  sqlite3 {path}",
        "Your own organisation: set the four variables that `audit-etl --help` names.",
    ]
