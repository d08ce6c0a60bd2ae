"""How a command ends: an error as one line and an exit status, a bug with its traceback."""

import sys
import traceback

import click

from etl import __version__
from etl.errors import AuditEtlError

#: Exit status of a bug, and of a pipe that its reader closed.
BUG = 1
#: Exit status of a command that a second Ctrl-C cut short, as shells have it.
INTERRUPTED = 130


def status_of(command: click.Command) -> int:
    """Run `command` on the process's arguments; give its exit status."""
    try:
        result = command.main(prog_name="audit-etl", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can tell a bug from a failure
        return _report(error)
    except KeyboardInterrupt:
        click.echo("audit-etl: interrupted; what was loaded is kept, run it again", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    """Say what ended the command; give the exit status for it."""
    if isinstance(error, AuditEtlError):
        click.echo(f"audit-etl: {error}", err=True)
        return error.exit_status
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, click.Abort):
        click.echo("audit-etl: interrupted; what was loaded is kept, run it again", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # the reader is gone: nobody is left to be told
        return BUG
    traceback.print_exception(error)
    click.echo(
        f"audit-etl: this is a bug in audit-etl {__version__}; what was loaded is kept. "
        "Please report it with the lines above.",
        err=True,
    )
    return BUG
