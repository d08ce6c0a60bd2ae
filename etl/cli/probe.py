"""`probe`: what an organisation does, beside what audit-etl expects."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click

from etl import __version__
from etl.cli.shared import Duration, app_of, common_options, print_json, print_text
from etl.errors import SourceBrokePromise, UsageError
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
    "--output", metavar="FILE", help="Write a report without personal data, fit for a bug report."
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
    is confirmed, contradicted or unknown, with the setting to change. The report holds counts and
    lengths, but nothing that an audit says; `simulate --like FILE` behaves like it. Exit status 65
    if anything is contradicted.
    """
    if hold < timedelta(seconds=1):
        raise UsageError("--hold: wait a second or longer, or there is nothing to see later")
    named = [organization] if organization else []
    with app_of(context, config_path, verbose=verbose, organizations=named) as app:
        findings = []
        for found in probe(app, hold):
            findings.append(found)
            if not as_json:
                _show(found)
    if as_json:
        remedies = {found.about: found.remedy for found in findings if found.remedy}
        print_json({**_report(findings, hold), "remedies": remedies})
    if output is not None:
        _write(Path(output), _report(findings, hold))
    contradicted = [found for found in findings if found.verdict is Verdict.CONTRADICTED]
    return SourceBrokePromise.exit_status if contradicted else 0


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


def _write(path: Path, report: Mapping[str, object]) -> None:
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    try:
        with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written: {error.strerror}") from None
