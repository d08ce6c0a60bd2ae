"""`status`: how far each stream is sure."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import click

from etl import schedules
from etl.app import App
from etl.cli.coverage import LEGEND, line_of_days, plot
from etl.cli.shared import (
    age,
    app_of,
    common_options,
    organizations_option,
    print_json,
    print_table,
    print_text,
)
from etl.database.urls import masked
from etl.errors import DestinationUnavailable
from etl.ledger import coverage, status
from etl.ledger.coverage import Days
from etl.ledger.lateness import LateArrivals
from etl.ledger.status import StreamStatus
from etl.model import RETENTION, Stream, Verification
from etl.operations.warnings import claim_text
from etl.plain import plain
from etl.window import Window, floor_second, iso_utc

#: Of so many days it is shown how many audits there are: they must be counted.
COUNTED_DAYS: Final = 31
_HEADERS: Final = (
    *("stream", "watermark", "behind", "last receipt", "new", "gaps", "rejects"),
    "requests in 24h",
)
#: Spans of the last verifications that are shown of each stream; JSON has more.
VERIFIED_SHOWN: Final = 3


@click.command("status", epilog="Example: audit-etl status --json | jq '.streams[].watermark'")
@organizations_option
@common_options
@click.pass_context
def status_command(
    context: click.Context,
    *,
    organizations: Sequence[str],
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show each stream's watermark, how far behind it is, its last receipt, gaps and next run.

    Every audit of a stream before its watermark has been loaded, as far as the organisation
    showed it. A gap is time that no receipt covers: `audit-etl backfill` closes it, unless Genesys
    has forgotten it, after a year. Time after the last loaded instant is no gap: the watermark is
    behind. A terminal also has a plot of days, with the audits and the requests of each of the last
    31; JSON has them as data.
    """
    with app_of(context, config_path, verbose=verbose, organizations=organizations) as app:
        now = app.now()
        begin, there = app.settings.starts_at(now), _has_progress(app)
        found, apart = _gathered(app, begin, now, organizations) if there else ([], {})
        shown = found if as_json or sys.stdout.isatty() else []
        days = [_days(app, of_stream, begin, now) for of_stream in shown]
        place = _absolute(app.new_file() or app.settings.destination)
        next_run = _next_run(app, now)
        longest = max(schedule.lookback for schedule in app.settings.schedules)
    if as_json:
        parts = zip(found, days, strict=True)
        streams = [status.as_json(*part, longest, next_run) for part in parts]
        spans = [status.backfilled_as_json(*item) for item in apart.items()]
        print_json({"streams": streams, "backfilled": spans, "next_run": next_run, "now": now})
        return
    if not found:
        print_text(f"nothing has been loaded into {place} yet: start with `audit-etl run`")
        return
    print_table(_HEADERS, [_row(stream_status) for stream_status in found])
    _draw(shown, days)
    for stream_status in found:
        _show(stream_status, now, longest)
    _show_rest(apart, next_run)


def _next_run(app: App, now: datetime) -> datetime | None:
    fires = (schedules.next_firing(s, now) for s in app.settings.schedules)
    return min(filter(None, fires), default=None)


def _show_rest(apart: Mapping[Stream, Sequence[Window]], next_run: datetime | None) -> None:
    for stream, windows in apart.items():
        print_text(f"backfilled outside of the streams, {stream}: {', '.join(map(str, windows))}")
    if next_run:
        click.echo(f"next firing of the daemon, if it runs: {iso_utc(next_run)}")


def _gathered(
    app: App, begin: datetime, now: datetime, organizations: Sequence[str]
) -> tuple[list[StreamStatus], dict[Stream, list[Window]]]:
    """The streams, and what backfills have loaded beside them."""
    streams = app.streams()
    return (
        status.gather(app.ledger, streams, begin, now, organizations),
        status.backfilled(app.ledger, streams, organizations),
    )


def _absolute(place: Path | str) -> str:
    """A file by its whole path; of a URL, no more than a user may see."""
    return plain(str(place.absolute()) if isinstance(place, Path) else masked(place))


def _forgotten(gap: Window, now: datetime) -> str:
    return "" if gap.end > now - RETENTION else ", which Genesys has forgotten by now"


def _has_progress(app: App) -> bool:
    """Whether there is any to show, and it is about the destination that is configured.

    Raises:
        ConfigurationError: it is about another one.
    """
    if not app.has_tables():
        return False
    app.prepare()
    try:
        app.require_identity()
    except DestinationUnavailable as error:
        click.echo(
            f"audit-etl: whether this is the same destination is not known: {error}", err=True
        )
    return True


def _days(app: App, found: StreamStatus, begin: datetime, now: datetime) -> Days:
    """The days of a stream; none are counted if the destination is away."""
    covered = coverage.days_of(app.ledger, found.stream, begin if found.configured else now, now)
    days = [day for day, _ in covered[-COUNTED_DAYS:]]
    if not days:
        return Days(covered, [], {})
    until = floor_second(now) + timedelta(seconds=1)
    midnight = until.replace(hour=0, minute=0, second=0)
    span = Window(midnight - timedelta(days=len(days) - 1), until)
    try:
        return Days(covered, days, app.destination().audits_a_day(found.stream, span))
    except DestinationUnavailable as error:
        click.echo(f"audit-etl: audits a day are not known: {error}", err=True)
        return Days(covered, [], {})


def _draw(found: Sequence[StreamStatus], days: Sequence[Days]) -> None:
    width = shutil.get_terminal_size().columns
    for stream_status, of_stream in zip(found, days, strict=True):
        if of_stream.coverage:
            click.echo(f"\n{stream_status.stream}")
            click.echo(line_of_days(of_stream.coverage, width))
        if of_stream.counted:
            for counts, what in (
                (of_stream.audits, "audits"),
                (stream_status.requests_a_day, "requests"),
            ):
                click.echo(plot(of_stream.counted, counts, what, width))
    if days:
        click.echo(f"\n{LEGEND}")


def _row(found: StreamStatus) -> tuple[str, ...]:
    receipt = found.last_receipt
    return (
        f"{found.stream}{'' if found.configured else ' (not configured)'}",
        iso_utc(found.watermark.reached) if found.watermark else "never run",
        _behind(found.behind),
        iso_utc(floor_second(receipt.loaded_at)) if receipt else "-",
        str(receipt.new_events) if receipt else "-",
        str(len(found.gaps)),
        str(found.rejects),
        f"{found.requests}, minimum {found.least_requests}" if found.requests else "0",
    )


def _show(found: StreamStatus, now: datetime, longest: timedelta) -> None:
    """What the table has no room for."""
    if found.claimed_ahead:
        text = claim_text(found.claimed_ahead, now, "this machine's clock")
        print_text(f"{found.stream} is {text}")
    if found.kept_from:
        print_text(_kept(found.stream, found.kept_from, now))
    for gap in found.gaps:
        print_text(f"gap in {found.stream}: {gap}{_forgotten(gap, now)}")
    _show_late(found, longest)
    for verification in found.verified[:VERIFIED_SHOWN]:
        print_text(_verified(verification))


def _kept(stream: Stream, kept_from: datetime, now: datetime) -> str:
    text = f"{stream} is kept from {iso_utc(kept_from)}: older audits were removed on purpose"
    if kept_from <= now:
        return text
    return f"{text}; that is in the future, so nothing is loaded: correct it in the table retention"


def _behind(behind: timedelta | None) -> str:
    if behind is None:
        return "-"
    return age(behind) if behind >= timedelta(0) else f"{age(-behind)} ahead"


def _verified(found: Verification) -> str:
    text = (
        f"verified {found.stream}: {found.window} on {iso_utc(found.verified_at)}, "
        f"{found.events} audits, {found.missing} missing, {found.repaired} repaired, "
        f"{found.extra} extra"
    )
    if not found.doubtful:
        return text
    service = f" --service {found.stream.service}" if found.stream.service else ""
    return (
        f"{text}; doubtful: audit-etl 0.1.0 counted audits of large windows as missing that were "
        f"there, verify again: audit-etl verify --from {iso_utc(found.window.start)} "
        f"--to {iso_utc(found.window.end)} --organization {found.stream.organization}{service}"
    )


def _show_late(found: StreamStatus, longest: timedelta) -> None:
    if found.last_receipt is None:
        return
    by_service: dict[str, list[LateArrivals]] = {}
    for late in found.late:
        by_service.setdefault(late.service, []).append(late)
    if by_service:
        print_table(
            ("late, by service", "audits", "some later than"),
            [
                (
                    service or "(no service)",
                    str(sum(late.audits for late in steps)),
                    age(max(late.over for late in steps)),
                )
                for service, steps in by_service.items()
            ],
        )
    print_text(f"late arrivals of {found.stream}: {status.advice(found, longest)}")
    if found.early_unconfirmed:
        print_text(
            f"loaded early, {found.stream}: {found.early_unconfirmed} audits before its watermark "
            "were shown by no export yet; docs/decisions.md says what that can mean"
        )
