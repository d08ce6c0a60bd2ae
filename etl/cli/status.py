"""`status`: how far each stream is sure."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import click

from etl import lateness, schedules, status
from etl.app import App
from etl.cli.coverage import LEGEND, line_of_days, plot
from etl.cli.shared import age, app_of, common_options, print_json, print_table
from etl.errors import DestinationUnavailable
from etl.lateness import LateArrivals
from etl.progress import Receipt, Verification
from etl.status import Coverage, StreamStatus
from etl.window import Window, floor_second, stamp

#: Of so many days it is shown how many audits there are: they must be counted.
COUNTED_DAYS: Final = 31


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a stream.

    Attributes:
        coverage: how much of each is loaded, in order.
        counted: those of them whose audits were counted.
        audits: how many; a day of none is absent.
    """

    coverage: Sequence[tuple[date, Coverage]]
    counted: Sequence[date]
    audits: Mapping[date, int]


#: Spans of the last verifications that are shown of each stream; JSON has more.
VERIFIED_SHOWN: Final = 3


@click.command("status", epilog="Example: audit-etl status --json | jq '.streams[].watermark'")
@common_options
@click.pass_context
def status_command(
    context: click.Context, *, config_path: str | None, as_json: bool, verbose: bool
) -> None:
    """Show each stream's watermark, how far behind it is, its last receipt, gaps and next run.

    Every audit of a stream before its watermark has been loaded, as far as the organisation
    showed it. A gap is time that no receipt covers: `audit-etl backfill` closes it, unless
    Genesys has forgotten it, after a year. On a terminal the days of each stream are drawn, with
    the audits of each of the last 31; JSON has the same as data.
    """
    with app_of(context, config_path, verbose=verbose) as app:
        now = app.now()
        found = status.gather(app.ledger, app.streams(), now) if app.has_tables() else []
        shown = found if as_json or sys.stdout.isatty() else []
        days = [_days(app, stream_status, now) for stream_status in shown]
        fires = [schedules.next_firing(s, now) for s in app.settings.schedules]
        next_run = min((moment for moment in fires if moment), default=None)
        longest = max(schedule.lookback for schedule in app.settings.schedules)
    if as_json:
        streams = [
            _as_json(s)
            | {"late": _late(s, longest)}
            | {"next_run": next_run if s.configured else None, "days": _days_as_json(d)}
            for s, d in zip(found, days, strict=True)
        ]
        print_json({"streams": streams, "next_run": next_run, "now": now})
        return
    if not found:
        click.echo("nothing was loaded yet: `audit-etl run` starts with the last 30 days")
        return
    print_table(
        (
            "stream",
            "watermark",
            "behind",
            "last receipt",
            "new",
            "gaps",
            "rejects",
            "requests in 24h",
        ),
        [_row(stream_status) for stream_status in found],
    )
    _draw(shown, days)
    for stream_status in found:
        for gap in stream_status.gaps:
            click.echo(f"gap in {stream_status.stream}: {gap}")
        _show_late(stream_status, longest)
        for verification in stream_status.verified[:VERIFIED_SHOWN]:
            click.echo(_verified(verification))
    if next_run:
        click.echo(f"the daemon, if it runs, next asks at {stamp(next_run)}")


def _days(app: App, found: StreamStatus, now: datetime) -> Days:
    """The days of a stream; none are counted if the destination is away."""
    coverage = status.days_of(app.ledger, found.stream, now)
    days = [day for day, _ in coverage[-COUNTED_DAYS:]]
    if not days:
        return Days(coverage, [], {})
    until = floor_second(now) + timedelta(seconds=1)
    midnight = until.replace(hour=0, minute=0, second=0)
    span = Window(midnight - timedelta(days=len(days) - 1), until)
    try:
        return Days(coverage, days, app.destination().audits_a_day(found.stream, span))
    except DestinationUnavailable as error:
        click.echo(f"audit-etl: audits a day are not known: {error}", err=True)
        return Days(coverage, [], {})


def _draw(found: Sequence[StreamStatus], days: Sequence[Days]) -> None:
    width = shutil.get_terminal_size().columns
    for stream_status, of_stream in zip(found, days, strict=True):
        if of_stream.coverage:
            click.echo(f"\n{stream_status.stream}")
            click.echo(line_of_days(of_stream.coverage, width))
        if of_stream.counted:
            click.echo(plot(of_stream.counted, of_stream.audits))
    if days:
        click.echo(f"\n{LEGEND}")


def _row(found: StreamStatus) -> tuple[str, ...]:
    receipt = found.last_receipt
    return (
        f"{found.stream}{'' if found.configured else ' (not configured)'}",
        stamp(found.mark.watermark) if found.mark else "never run",
        age(found.behind) if found.behind else "-",
        stamp(receipt.loaded_at) if receipt else "-",
        str(receipt.new_events) if receipt else "-",
        str(len(found.gaps)),
        str(found.rejects),
        f"{found.requests}, at least {found.least_requests}" if found.requests else "0",
    )


def _as_json(found: StreamStatus) -> dict[str, object]:
    return {
        "organization": found.stream.organization,
        "stream": found.stream.name,
        "configured": found.configured,
        "begins_at": found.mark.begins_at if found.mark else None,
        "watermark": found.mark.watermark if found.mark else None,
        "behind_seconds": found.behind,
        "last_receipt": _receipt(found.last_receipt) if found.last_receipt else None,
        "gaps": [{"start": gap.start, "end": gap.end} for gap in found.gaps],
        "rejects": found.rejects,
        "requests_in_24h": found.requests,
        "least_requests_in_24h": found.least_requests,
        "verified": [
            {
                "start": span.window.start,
                "end": span.window.end,
                "events": span.events,
                "missing": span.missing,
                "extra": span.extra,
                "repaired": span.repaired,
                "verified_at": span.verified_at,
            }
            for span in found.verified
        ],
    }


def _verified(found: Verification) -> str:
    return (
        f"verified {found.stream}: {found.window} on {stamp(found.verified_at)}, "
        f"{found.events} audits, {found.missing} missing, {found.repaired} repaired, "
        f"{found.extra} extra"
    )


def _late(found: StreamStatus, longest: timedelta) -> dict[str, object]:
    return {
        "new_events": found.new_events,
        "arrivals": [
            {"service": late.service, "over_seconds": late.over, "audits": late.audits}
            for late in found.late
        ],
        "advice": _advice(found, longest),
    }


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
    click.echo(f"late arrivals of {found.stream}: {_advice(found, longest)}")


def _advice(found: StreamStatus, longest: timedelta) -> str:
    return lateness.advice(found.late, found.new_events, longest)


def _days_as_json(days: Days) -> list[dict[str, object]]:
    counted = frozenset(days.counted)
    return [
        {
            "day": day.isoformat(),
            "coverage": coverage,
            "audits": days.audits.get(day, 0) if day in counted else None,
        }
        for day, coverage in days.coverage
    ]


def _receipt(receipt: Receipt) -> dict[str, object]:
    return {
        "window_start": receipt.window.start,
        "window_end": receipt.window.end,
        "events": receipt.events,
        "new_events": receipt.new_events,
        "requests": receipt.requests,
        "least_requests": receipt.least_requests,
        "schedule": receipt.schedule,
        "loaded_at": receipt.loaded_at,
    }
