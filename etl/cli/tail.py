"""`tail`: audits as they become visible, as JSON lines."""

import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import click

from etl.cli.shared import Duration, Instant, app_of, common_options
from etl.operations import tail
from etl.operations.tail import TailRequest
from etl.plain import plain

#: How often a reader that pauses is looked at.
POLL_MILLISECONDS: Final = 200


@click.command("tail", epilog="Example: audit-etl tail --since 1h | jq -r '.eventDate, .action'")
@click.option("--since", type=Instant(), show_default="now", help="Start with audits of then.")
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable."
)
@click.option("--related", metavar="ID", help="Print the audits of the same action, and exit.")
@click.option("--organization", metavar="NAME", help="Needed where there are several.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="Use at most this part of the organisation's rate limit.",
)
@click.option(
    "--reach",
    type=Duration(),
    default="1d",
    show_default=True,
    help="Also show audits that become visible this late.",
)
@common_options
@click.pass_context
def tail_command(
    context: click.Context,
    *,
    since: datetime | None,
    services: Sequence[str],
    related: str | None,
    organization: str | None,
    share: float,
    reach: timedelta,
    config_path: str | None,
    as_json: bool,  # noqa: ARG001 - what it prints is JSON in any case
    verbose: bool,
) -> None:
    """Follow the realtime query and print each audit once, as it was received, a JSON line each.

    An audit is printed within seconds after it became visible, at the default share of 300
    requests a minute. With a reach of more than a day, late audits take longer. Needs no
    destination, writes nothing and moves no watermark. SIGINT, SIGTERM or a closed pipe end it.
    """
    named = [organization] if organization else []
    with app_of(context, config_path, verbose=verbose, organizations=named) as app:
        if related is not None:
            _print(tail.related(app, related), app.stop.is_set)
            return
        request = TailRequest(services, since, reach, share)
        for found in tail.tail(app, request):
            if not _print(found, app.stop.is_set):
                return


def _print(records: Iterable[bytes], stopped: Callable[[], bool]) -> bool:
    """Write each record on a line of its own, at once; false if nobody reads any more.

    A reader that pauses is waited for, but not when a signal asks to stop.
    """
    poll, output = select.poll(), sys.stdout.fileno()
    line = _on_terminal if os.isatty(output) else _in_one_line
    rest = memoryview(b"".join(line(record) + b"\n" for record in records))
    poll.register(output, select.POLLOUT)
    while True:
        ready = poll.poll(POLL_MILLISECONDS)
        if any(event & select.POLLERR for _, event in ready):
            return False
        if not rest:
            return True
        if ready:
            try:
                rest = rest[os.write(output, rest[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                return False
        elif stopped():
            return False


def _in_one_line(record: bytes) -> bytes:
    """A record as it was received: in JSON a line break can only stand between tokens."""
    return record.replace(b"\n", b" ").replace(b"\r", b" ")


def _on_terminal(record: bytes) -> bytes:
    return plain(_in_one_line(record).decode(errors="replace")).encode()
