"""How a command ends: an error as one line and an exit status, a bug with its frames."""

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Final

import click

from etl import __version__
from etl.errors import AuditEtlError, Unavailable
from etl.plain import plain_lines
from etl.unexpected import hide_values_of_threads, traceback_of

#: Exit status of a bug.
BUG = 1
#: Exit status when the reader of a pipe has closed it, as shells have it.
READER_GONE = 141
#: Exit status of a command that a second Ctrl-C cut short, as shells have it.
INTERRUPTED = 130
#: What Python says where the system lets this user or container have no more threads.
_NO_THREAD: Final = "can't start new thread"
_SHORT: Final = (
    "this machine gives no more memory or threads: raise the limits of the user or the container "
    "(memory, pids), then run the same command again; what was loaded is kept"
)


def status_of(command: click.Command) -> int:
    """Run `command` on the process's arguments; give its exit status.

    What it printed has been written when this returns 0.
    """
    _make_printable()
    hide_values_of_threads()
    try:
        result = _run(command)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can tell a bug from a failure
        return _report(error)
    except KeyboardInterrupt:
        click.echo("audit-etl: interrupted; what was loaded is kept, run it again", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _run(command: click.Command) -> object:
    """Run `command`; of a closed pipe click makes an exit status 1, which means a bug here."""
    try:
        return command.main(prog_name="audit-etl", standalone_mode=False)
    except SystemExit as ended:
        if ended.code == 0:  # what completes a word in a shell ends so
            return 0
        raise BrokenPipeError from None


def _make_printable() -> None:
    """Let any text be printed: as UTF-8 into pipes and files, escaped on a terminal without it.

    What is printed to an output that is closed from the start is dropped.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _leave_output() -> None:
    """Let Python not try once more, at its end, to print what could not be printed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def _report(error: Exception) -> int:
    """Say what ended the command; give the exit status for it."""
    if isinstance(error, AuditEtlError):
        click.echo(f"audit-etl: {plain_lines(str(error))}", err=True)
        return error.exit_status
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, click.Abort):
        click.echo("audit-etl: interrupted; what was loaded is kept, run it again", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _leave_output()  # the reader is gone: nobody is left to be told
        return READER_GONE
    if (told := _surroundings(error)) is not None:
        click.echo(f"audit-etl: {told}", err=True)
        _leave_output()
        return Unavailable.exit_status
    click.echo(traceback_of(error), nl=False, err=True)
    click.echo(
        f"audit-etl: this is a bug in audit-etl {__version__}; what was loaded is kept. "
        "Please report it with the lines above.",
        err=True,
    )
    return BUG


def _surroundings(error: Exception) -> str | None:
    """What the system refused, and what to do about it; None if it is something else."""
    if isinstance(error, MemoryError) or _NO_THREAD in str(error):
        return _SHORT
    if not isinstance(error, OSError):
        return None
    where = f"{error.filename}: " if error.filename else ""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    remedy = "make room" if full else "see that it exists and that this user may use it"
    return (
        f"{where}{error.strerror or type(error).__name__}: {remedy}, then run the same command "
        "again; the output so far is not whole"
    )
