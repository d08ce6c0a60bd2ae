"""What the commands share: their common options, the app of the configuration, and output."""

import json
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from etl.app import App, clock
from etl.config import Settings, load
from etl.errors import UsageError
from etl.plain import plain, plain_lines
from etl.telemetry import configure_logging
from etl.window import format_duration, iso_utc, parse_duration, parse_instant

Command = Callable[..., Any]

#: How often a command that waits looks whether a signal has come.
LOOK_SECONDS: Final = 0.5


def common_options(command: Command) -> Command:
    """`--config`, `--json` and `--verbose`, which every command that reports has."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Log progress on stderr."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text."),
        click.option(
            "--config",
            "config_path",
            type=click.Path(dir_okay=False),
            help="The configuration file. Default: the one that AUDIT_ETL_CONFIG names, if any.",
        ),
    ):
        command = option(command)
    return command


def organizations_option(command: Command) -> Command:
    """`--organization`, which may be given several times."""
    return click.option(
        "--organization",
        "organizations",
        multiple=True,
        metavar="NAME",
        help="Only this organisation; repeatable.",
    )(command)


def settings_of(
    context: click.Context, config_path: str | None, organizations: Collection[str] = ()
) -> Settings:
    """The configuration in force, with the organisations alone that the command line names.

    Raises:
        ConfigurationError: it is wrong.
        UsageError: an organisation is not in it.
    """
    path = config_path or context.obj
    return load(Path(path) if path else None, os.environ).of_organizations(organizations)


class Stop(threading.Event):
    """An event that signals set while the main thread waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as any event does, but look up often: a signal just before does not end a wait."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_SECONDS if end is None else end - time.monotonic()
            if super().wait(max(0.0, min(left, LOOK_SECONDS))):
                return True
            if end is not None and left <= 0.0:
                return False


@contextmanager
def app_of(
    context: click.Context,
    config_path: str | None,
    *,
    verbose: bool,
    organizations: Collection[str] = (),
) -> Iterator[App]:
    """The app of the configuration in force, stopped by SIGINT and SIGTERM between two pages."""
    configure_logging(verbose=verbose)
    stop = Stop()
    asked = False

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not here: this interrupts the main thread, which may be inside the event, its lock held.
        threading.Thread(target=stop.set, daemon=True).start()

    before = {name: signal.signal(name, ask_to_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with App(settings_of(context, config_path, organizations), stop=stop) as app:
            yield app
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class Instant(click.ParamType[datetime]):
    """A time on the command line: ISO 8601, or relative to now."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The instant in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value, clock())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[timedelta]):
    """A length of time on the command line."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The length of time."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)


def print_json(value: object) -> None:
    """Print a value as JSON: times in ISO 8601 UTC, lengths of time in seconds."""

    def convert(odd: object) -> object:
        if isinstance(odd, datetime):
            return iso_utc(odd)
        if isinstance(odd, timedelta):
            return odd.total_seconds()
        raise UsageError(f"{type(odd)} has no JSON form")

    click.echo(plain_lines(json.dumps(value, default=convert, indent=2, ensure_ascii=False)))


def terminal_width() -> int | None:
    """The columns of the terminal that is printed on; None if it is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headers, or each row as a block of its own if a terminal is too narrow.

    Nothing is cut. What cells hold is shown as it is: nothing that acts on a terminal.
    """
    lines = [headers, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    width = terminal_width()
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        click.echo("\n".join(_block(headers, row, width) for row in lines[1:]))
        return
    for line in lines:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def _block(headers: Sequence[str], row: Sequence[str], width: int) -> str:
    """A row on as many lines as it needs: its first cell, then each other one with its header."""
    first, *others = row
    lines = [first]
    for header, cell in zip(headers[1:], others, strict=True):
        part = f"{header}: {cell}"
        if len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


def print_text(text: str) -> None:
    """Print a sentence, on a terminal broken between words."""
    width = terminal_width()
    if width is None:
        click.echo(text)
        return
    click.echo(
        textwrap.fill(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    )


def age(length: timedelta) -> str:
    """A length of time in its two largest units, such as `3d4h` or `12m30s`."""
    text = format_duration(timedelta(seconds=int(length.total_seconds())))
    units = [n for n, character in enumerate(text) if character.isalpha()]
    return text if len(units) <= 2 else text[: units[1] + 1]
