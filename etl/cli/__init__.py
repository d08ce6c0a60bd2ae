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
    "probe": "etl.cli.probe",
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
    "demo": "Export simulated audits into a new SQLite file. Needs no account.",
    "config": "Show each setting and where it came from. --example prints a commented file.",
    "probe": "Look at an organisation, and say what of it is not as expected.",
    "check": "Check credentials, permission, clock, schema and write access, and name each fix.",
    "run": "Export every stream once, up to now minus the lag.",
    "daemon": "Run the schedules until SIGTERM. SIGHUP reloads the configuration.",
    "backfill": "Export a time span, independent of the watermark.",
    "status": "Show each stream's watermark, gaps, rejects and requests, and its coverage.",
    "verify": "Compare a span's ids with the organisation. --repair loads missing audits.",
    "query": "Run one read-only SELECT on the destination.",
    "services": "Refresh the service mapping and show new entries.",
    "tail": "Follow the realtime query and print each new audit as a JSON line, within seconds.",
    "migrate": "Upgrade the tables to the newest schema. --adopt accepts what a run refused.",
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
    epilog="Exit status: 0 done; 1 a bug; 2 wrong usage; 65 the source's data is wrong or "
    "missing; 69 the source or the destination is not available; 75 try again later; "
    "77 not permitted; 78 wrong configuration; 130 interrupted; 141 the reader closed the pipe.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    help="The configuration file. Default: the one that AUDIT_ETL_CONFIG names, if any.",
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
