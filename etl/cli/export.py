"""`run` and `backfill`."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import click

from etl.cli.progress import Display, display
from etl.cli.shared import (
    Duration,
    Instant,
    app_of,
    common_options,
    organizations_option,
    print_json,
    print_table,
    print_text,
)
from etl.ledger.rows import key_of, picked, window_key
from etl.model import Receipt
from etl.operations import export, selection
from etl.operations.selection import Planned
from etl.operations.streams import Failure, Outcome
from etl.wire import RATE_PER_MINUTE

#: What is told of a receipt.
_RECEIPT: Final = (
    *("query_id", "events", "new_events", "rejects", "requests", "least_requests"),
    *("schedule", "started_at", "loaded_at"),
)


@click.command("run", epilog="Example: audit-etl run --lookback 3d")
@click.option(
    "--schedule",
    metavar="NAME",
    help="Use this schedule's lookback. Default: the shortest lookback, and whatever part of "
    "another schedule's lookback is due.",
)
@click.option("--lookback", type=Duration(), help="Query this much loaded time again.")
@click.option(
    "--wait",
    type=Duration(),
    default="0s",
    help="Wait this long for a stream that another process exports.",
)
@organizations_option
@common_options
@click.pass_context
def run_command(
    context: click.Context,
    *,
    schedule: str | None,
    lookback: timedelta | None,
    wait: timedelta,
    organizations: Sequence[str],
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Export every stream from its watermark minus the lookback to now minus the lag, and exit.

    For cron and Kubernetes CronJobs. Safe to repeat, to interrupt and to run in parallel.
    """
    with (
        app_of(context, config_path, verbose=verbose, organizations=organizations) as app,
        display(app, as_json) as shown,
    ):
        outcomes = export.run(
            app, schedule=schedule, lookback=lookback, wait=wait, watch=shown.watch
        )
        return _report(outcomes, shown, as_json)


@click.command("backfill", epilog="Example: audit-etl backfill --from 90d --to 30d --dry-run")
@click.option("--from", "start", type=Instant(), required=True, help="First instant, inclusive.")
@click.option(
    "--to", "end", type=Instant(), help="Last instant, exclusive. Default: now minus the lag."
)
@organizations_option
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable."
)
@click.option(
    "--wait", type=Duration(), default="0s", help="Wait this long for the writer of a lake."
)
@click.option("--dry-run", is_flag=True, help="Show the windows and their cost; query nothing.")
@common_options
@click.pass_context
def backfill_command(
    context: click.Context,
    *,
    start: datetime,
    end: datetime | None,
    organizations: Sequence[str],
    services: Sequence[str],
    wait: timedelta,
    dry_run: bool,
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Export a time span, independent of the watermark.

    TIME is ISO 8601 (2026-05-01, 2026-05-01T12:00:00Z), today, yesterday, now, or a length of
    time before now (7d, 12h, 6mo, 1y). Safe to repeat, to overlap and to run next to the daemon.
    """
    with app_of(context, config_path, verbose=verbose, organizations=organizations) as app:
        streams = selection.selected(app, services)
        span = selection.span_of(app, start, end, () if dry_run else streams)
        if dry_run:
            _show_plan(selection.plan(app, span, streams), as_json)
            return 0
        with display(app, as_json, [(stream, span) for stream in streams]) as shown:
            outcomes = export.backfill(app, span, streams, wait=wait, watch=shown.watch)
            return _report(outcomes, shown, as_json)


def _report(outcomes: Iterable[Receipt | Failure], shown: Display, as_json: bool) -> int:
    """Show outcomes as they come, then the sum; give the exit status of the first failure."""
    receipts, failures = gathered(outcomes, shown, lambda receipt: receipt)
    if as_json:
        found = [_receipt(receipt) for receipt in receipts]
        print_json({"receipts": found, "failures": failures_as_json(failures)})
    else:
        print_text(_sum(receipts, failures))
    return failures[0].error.exit_status if failures else 0


def gathered(
    outcomes: Iterable[Outcome | Failure], shown: Display, receipt_of: Callable[[Outcome], Receipt]
) -> tuple[list[Outcome], list[Failure]]:
    """Show outcomes as they come; give them all, those of streams that failed apart."""
    done: list[Outcome] = []
    failures: list[Failure] = []
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            failures.append(outcome)
            shown.failed(str(outcome.stream), str(outcome.error))
        else:
            done.append(outcome)
            shown.loaded(receipt_of(outcome))
    shown.close()
    return done, failures


def failures_as_json(failures: Sequence[Failure]) -> list[dict[str, object]]:
    """What `--json` tells of streams that failed."""
    return [
        {
            "organization": failure.stream.organization,
            "stream": failure.stream.name,
            "error": str(failure.error),
            "exit_status": failure.error.exit_status,
        }
        for failure in failures
    ]


def _sum(receipts: Sequence[Receipt], failures: Sequence[Failure]) -> str:
    events = sum(receipt.events for receipt in receipts)
    new = sum(receipt.new_events for receipt in receipts)
    rejects = sum(receipt.rejects for receipt in receipts)
    requests = sum(receipt.requests for receipt in receipts)
    kept_aside = f", {rejects} records kept aside in audit_rejects" if rejects else ""
    text = f"{_windows(len(receipts))}, {events} audits, {new} new, {requests} requests{kept_aside}"
    return f"not done: {len(failures)} failed; {text}" if failures else f"done: {text}"


def _receipt(receipt: Receipt) -> dict[str, object]:
    return key_of(receipt.stream) | window_key(receipt.window) | picked(receipt, *_RECEIPT)


def _show_plan(planned: Sequence[Planned], as_json: bool) -> None:
    least, minutes = sum(plan.requests for plan in planned), selection.minutes_of(planned)
    if as_json:
        windows = [
            key_of(plan.stream) | window_key(plan.window) | picked(plan, "events", "requests")
            for plan in planned
        ]
        print_json({"windows": windows, "requests": least, "minutes": minutes})
        return
    print_table(
        ("stream", "window", "audits, about", "requests, at least"),
        [
            (
                str(plan.stream),
                str(plan.window),
                "unknown" if plan.events is None else str(plan.events),
                str(plan.requests),
            )
            for plan in planned
        ],
    )
    print_text(
        f"{_windows(len(planned))}, at least {least} requests, which take {minutes} min or more "
        f"at {RATE_PER_MINUTE} a minute; nothing was queried"
    )


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count} windows"
