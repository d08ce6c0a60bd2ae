"""`probe`: what an organisation does, beside what audit-etl expects."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import click

from etl import __version__
from etl.app import App
from etl.cli.shared import Duration, app_of, common_options, print_json, print_text
from etl.errors import SourceBrokePromise, Stopped, UsageError
from etl.operations.probe import EXPECTED, REQUESTS_MAX, Finding, Verdict, probe
from etl.plain import plain
from etl.private import open_private


@click.command("probe", epilog="Example: audit-etl probe --output probe.json")
@click.option(
    "--hold",
    type=Duration(),
    default="1m",
    show_default=True,
    help="How long to wait before looking again: for late audits, and at what still lives.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="Write a report without personal data to a new file, fit for a bug report.",
)
@click.option("--organization", metavar="NAME", help="Needed where there are several.")
@common_options
@click.pass_context
def probe_command(
    context: click.Context,
    *,
    hold: timedelta,
    output: str | None,
    organization: str | None,
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Look at an organisation, and say what of it is not as audit-etl expects.

    Reads only: at most 80 requests, which take some minutes, and no destination. Each expectation
    is confirmed, contradicted or unknown, with what to do. The report holds counts and
    lengths, but nothing that an audit says; `simulate --like FILE` behaves like it. Exit status 65
    if anything is contradicted.
    """
    if hold < timedelta(seconds=1):
        raise UsageError("--hold: wait a second or longer, or there is nothing to see later")
    named = [organization] if organization else []
    with (
        _report_file(output) as file,
        app_of(context, config_path, verbose=verbose, organizations=named) as app,
    ):
        findings = _found(app, hold, show=not as_json)
        report = _report(findings, hold)
        if as_json:
            remedies = {found.about: found.remedy for found in findings if found.remedy}
            print_json({**report, "remedies": remedies})
        if file is not None:
            json.dump(report, file, indent=2, ensure_ascii=False)
            file.write("\n")
    contradicted = [found for found in findings if found.verdict is Verdict.CONTRADICTED]
    return SourceBrokePromise.exit_status if contradicted else 0


def _found(app: App, hold: timedelta, *, show: bool) -> list[Finding]:
    findings = []
    try:
        for found in probe(app, hold):
            findings.append(found)
            if show:
                _show(found)
    except Stopped:
        raise Stopped("stopped as asked; no report was written: start the probe again") from None
    return findings


def _show(found: Finding) -> None:
    remedy = f"; {found.remedy}" if found.remedy else ""
    print_text(
        plain(f"{found.verdict:<12} {found.about}: {EXPECTED[found.about]}; {found.seen}{remedy}")
    )


def _report(findings: Sequence[Finding], hold: timedelta) -> Mapping[str, object]:
    """A report for others: no remedy, for it may name services, and no time."""
    return {
        "audit_etl": __version__,
        "requests_at_most": REQUESTS_MAX,
        "hold_seconds": hold.total_seconds(),
        "findings": [
            {
                "about": found.about,
                "expected": EXPECTED[found.about],
                "verdict": found.verdict,
                "seen": found.seen,
                "measured": found.measured,
            }
            for found in findings
        ],
    }


@contextmanager
def _report_file(output: str | None) -> Iterator[IO[str] | None]:
    """The file for the report, for its owner alone; none is left behind if the probe fails.

    Raises:
        UsageError: it is there already, or cannot be written.
    """
    if output is None:
        yield None
        return
    path = Path(output)
    try:
        file = os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
    except BaseException:
        path.unlink()
        raise
