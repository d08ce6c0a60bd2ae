"""`verify`: a span asked for again, and its ids compared with the destination's."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import click

from etl.cli.export import failures_as_json, gathered
from etl.cli.progress import Display, display
from etl.cli.shared import (
    Duration,
    Instant,
    app_of,
    common_options,
    organizations_option,
    print_json,
    print_table,
)
from etl.errors import SourceBrokePromise
from etl.ledger.rows import key_of, picked, window_key
from etl.operations import selection, verify
from etl.operations.streams import Failure
from etl.operations.verifier import Verdict


@click.command("verify", epilog="Example: audit-etl verify --from 30d --to 7d --repair")
@click.option("--from", "start", type=Instant(), required=True, help="First instant, inclusive.")
@click.option(
    "--to", "end", type=Instant(), help="Last instant, exclusive. Default: now minus the lag."
)
@organizations_option
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Only this service; repeatable."
)
@click.option("--repair", is_flag=True, help="Load missing audits. Needs no further requests.")
@click.option(
    "--wait", type=Duration(), default="0s", help="With --repair: wait for the writer of a lake."
)
@common_options
@click.pass_context
def verify_command(
    context: click.Context,
    *,
    start: datetime,
    end: datetime | None,
    organizations: Sequence[str],
    services: Sequence[str],
    repair: bool,
    wait: timedelta,
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Ask for a span again and compare ids with the destination, by day and service.

    Missing is what the organisation shows and the destination does not hold. Extra is what it holds
    and the organisation does not show: forgotten there, as a rule, and kept here. Only ids are
    compared, not what an audit says. Costs as many
    requests as a backfill of the span. The result is kept for `audit-etl status`; --json names the
    first 1,000 missing and extra ids of each window. Exit status 65 if an audit is missing that was
    not repaired.
    """
    with app_of(context, config_path, verbose=verbose, organizations=organizations) as app:
        streams = selection.selected(app, services)
        span = selection.span_of(app, start, end, streams)
        with display(app, as_json, [(stream, span) for stream in streams]) as shown:
            outcomes = verify.verify(
                app, span, streams, repair=repair, wait=wait, watch=shown.watch
            )
            return _report(outcomes, shown, as_json)


def _report(outcomes: Iterable[Verdict | Failure], shown: Display, as_json: bool) -> int:
    """Show verdicts as they come, then the differences; give the exit status."""
    verdicts, failures = gathered(outcomes, shown, lambda verdict: verdict.receipt)
    if as_json:
        windows = [_as_json(verdict) for verdict in verdicts]
        print_json({"windows": windows, "failures": failures_as_json(failures)})
    else:
        _show(verdicts, failures)
    if failures:
        return failures[0].error.exit_status
    left = sum(v.verification.missing - v.verification.repaired for v in verdicts)
    return SourceBrokePromise.exit_status if left else 0


def _show(verdicts: Sequence[Verdict], failures: Sequence[Failure]) -> None:
    missing, extra = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for verdict in verdicts:
        for difference in verdict.differences:
            key = (
                difference.day,
                verdict.receipt.stream.organization,
                difference.service or "(no service)",
            )
            missing[key] += difference.missing
            extra[key] += difference.extra
    if missing:
        print_table(
            ("day", "organization", "service", "missing", "extra"),
            [(*key, str(missing[key]), str(extra[key])) for key in sorted(missing)],
        )
    click.echo(_sum(verdicts, failures))


def _sum(verdicts: Sequence[Verdict], failures: Sequence[Failure]) -> str:
    found = [verdict.verification for verdict in verdicts]
    missing = sum(v.missing for v in found)
    repaired = sum(v.repaired for v in found)
    requests = sum(verdict.receipt.requests for verdict in verdicts)
    text = (
        f"{sum(v.events for v in found)} audits compared, {missing} missing, {repaired} repaired, "
        f"{sum(v.extra for v in found)} extra, {requests} requests"
    )
    if moved := sum(verdict.moved for verdict in verdicts):
        text += f", {moved} held under another time or service than the organisation shows now"
    if failures:
        return f"not done: {len(failures)} failed; {text}"
    if missing > repaired:
        return f"incomplete: {text}; the same with --repair loads what is missing"
    return f"done: {text}"


def _as_json(verdict: Verdict) -> dict[str, object]:
    found = verdict.verification
    return {
        **key_of(found.stream),
        **window_key(found.window),
        **picked(found, "events", "missing", "extra", "repaired"),
        "moved": verdict.moved,
        "requests": verdict.receipt.requests,
        **picked(found, "verified_at", "verified_by"),
        "differences": [
            {"day": d.day, "service": d.service, "missing": d.missing, "extra": d.extra}
            for d in verdict.differences
        ],
        "missing_ids": verdict.missing_ids,
        "extra_ids": verdict.extra_ids,
    }
