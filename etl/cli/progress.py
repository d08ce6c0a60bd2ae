"""What a user sees while windows load: a bar on a terminal, plain lines when piped."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Protocol

import click

from etl.app import App
from etl.cli.shared import print_text
from etl.job import PageProgress
from etl.model import Receipt, Stream
from etl.plain import plain
from etl.window import Window, iso_utc

#: How often a window that takes long says how far it is, when piped.
LINE_SECONDS: Final = 10.0
#: A terminal of so many columns has room for more than the bar, the count and the time left.
WIDE: Final = 120


class Display(Protocol):
    """Whoever is told of pages, windows and failures as they come."""

    def watch(self, progress: PageProgress) -> None:
        """A page was read."""
        ...

    def loaded(self, receipt: Receipt) -> None:
        """A window was loaded whole."""
        ...

    def failed(self, stream: str, error: str) -> None:
        """A stream could not be brought up to date."""
        ...

    def close(self) -> None:
        """Nothing more is shown."""
        ...


@contextmanager
def display(
    app: App, as_json: bool, spans: Sequence[tuple[Stream, Window]] = ()
) -> Iterator[Display]:
    """A bar over `spans` on a terminal, else lines; with JSON asked for, lines go to stderr."""
    shown: Display
    if spans and sys.stderr.isatty() and not as_json:
        shown = Bar(app, spans)
    else:
        shown = Lines(to_stderr=as_json)
    try:
        yield shown
    finally:
        shown.close()


class Lines:
    """One line a window, and one every few seconds of a window that takes longer."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self._last_line = time.monotonic()

    def watch(self, progress: PageProgress) -> None:
        """See `Display`."""
        if time.monotonic() - self._last_line >= LINE_SECONDS:
            self._say(
                f"{progress.stream}  {progress.window}  at {iso_utc(progress.reached)}, "
                f"{progress.events} audits so far"
            )

    def loaded(self, receipt: Receipt) -> None:
        """See `Display`."""
        self._say(receipt_line(receipt))

    def failed(self, stream: str, error: str) -> None:
        """See `Display`."""
        click.echo(plain(f"audit-etl: {stream}: {error}"), err=True)

    def close(self) -> None:
        """See `Display`."""

    def _say(self, line: str) -> None:
        if self._to_stderr:
            click.echo(line, err=True)
        else:
            print_text(line)
        self._last_line = time.monotonic()


class Bar:
    """A bar of event time covered, with audits, requests left in this minute, and the end."""

    def __init__(self, app: App, spans: Sequence[tuple[Stream, Window]]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._app = app
        self._whole = sum(span.length.total_seconds() for _, span in spans)
        self._done = 0.0
        self._events = 0
        console = Console(stderr=True)
        self._wide = console.width >= WIDE
        name = Column(no_wrap=True, max_width=console.width // 3)
        wanted = [
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[events]} audits"),
            *([TextColumn("{task.fields[left]} requests left this minute")] if self._wide else []),
            TimeRemainingColumn(),
            TextColumn("left"),
        ]
        self._progress = Progress(*wanted, console=console, expand=True)
        self._task = self._progress.add_task("", total=self._whole, events=0, left="?")
        self._progress.start()

    def watch(self, progress: PageProgress) -> None:
        """See `Display`."""
        within = (progress.reached - progress.window.start).total_seconds()
        self._show(progress.stream, progress.reached, within, progress.events)

    def loaded(self, receipt: Receipt) -> None:
        """See `Display`."""
        self._done += receipt.window.length.total_seconds()
        self._events += receipt.events
        self._show(receipt.stream, receipt.window.end, 0.0, 0)
        self._say(receipt_line(receipt))

    def failed(self, stream: str, error: str) -> None:
        """See `Display`."""
        self._say(plain(f"audit-etl: {stream}: {error}"))

    def close(self) -> None:
        """See `Display`."""
        self._progress.stop()

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False)

    def _show(self, stream: Stream, reached: datetime, within: float, events: int) -> None:
        left = self._app.source(stream.organization).requests_left
        self._progress.update(
            self._task,
            description=f"{stream}  {iso_utc(reached)}" if self._wide else str(stream),
            completed=self._done + within,
            events=self._events + events,
            left="?" if left is None else left,
        )


def receipt_line(receipt: Receipt) -> str:
    """One line of a loaded window."""
    return (
        f"{receipt.stream}  {receipt.window}  {receipt.events} audits, "
        f"{receipt.new_events} new, {receipt.requests} requests"
    )
