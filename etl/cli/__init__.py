"""The command line: parse, call one operation, show what it gives, end with its exit status.

Commands are imported when they run: `--help` must not pay for a database driver.
"""

import sys
from importlib import import_module

import click

from etl import __version__

#: Every command, in the order in which a newcomer meets them.
COMMANDS = {
    "demo": "etl.cli.demo",
    "config": "etl.cli.config",
    "check": "etl.cli.check",
    "run": "etl.cli.export",
    "daemon": "etl.cli.daemon",
    "backfill": "etl.cli.export",
    "status": "etl.cli.status",
    "verify": "etl.cli.verify",
    "query": "etl.cli.query",
    "services": "etl.cli.services",
    "tail": "etl.cli.tail",
    "migrate": "etl.cli.migrate",
    "simulate": "etl.cli.simulate",
}

SUMMARIES = {
    "demo": "Try it without an account: the simulator's audits into a fresh SQLite file.",
    "config": "Show the configuration in force and where each value came from.",
    "check": "Check credentials, permission, clock, destination and schema.",
    "run": "Bring every stream up to now less the lag, once, and exit.",
    "daemon": "Run the schedules until SIGTERM.",
    "backfill": "Export a span, whatever the watermark says.",
    "status": "Show how far each stream is sure, and what is missing.",
    "verify": "Ask for a span again and compare ids with the destination; repair it if asked to.",
    "query": "Ask the destination one SELECT, the same on every kind of destination.",
    "services": "Refresh the service mapping and show what is new in it.",
    "tail": "Follow the realtime query and print each new audit as a JSON line.",
    "migrate": "Bring the destination's tables to the newest schema.",
    "simulate": "Serve a simulated organisation over HTTP on this machine.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = vars(import_module(COMMANDS[cmd_name]))[f"{cmd_name}_command"]
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 1 a bug; 2 usage; 65 the source's data broke a promise; 69 the "
    "source or the destination is not available; 75 try again later; 77 not permitted; "
    "78 configuration.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    help="The configuration file; else the one that AUDIT_ETL_CONFIG names, else none.",
)
@click.version_option(__version__, prog_name="audit-etl")
@click.pass_context
def audit_etl(context: click.Context, config_path: str | None) -> None:
    """Copy the audit log of Genesys Cloud organisations into SQL tables or Parquet files.

    And keep that copy complete, for years.

    Start with `audit-etl demo`, which needs no account. For your organisation set
    GENESYSCLOUD_REGION, GENESYSCLOUD_OAUTHCLIENT_ID, GENESYSCLOUD_OAUTHCLIENT_SECRET and
    AUDIT_ETL_DESTINATION, then `audit-etl check`, `audit-etl migrate` and `audit-etl run`.
    """
    context.obj = config_path


def main() -> None:
    """Run the command line and end the process with the command's exit status."""
    from etl.cli.ending import status_of

    sys.exit(status_of(audit_etl))
