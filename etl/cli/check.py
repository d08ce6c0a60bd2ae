"""`check`: one line for each thing that can be wrong before the first run."""

from collections.abc import Sequence

import click

from etl.cli.shared import app_of, common_options, organizations_option, print_json, print_text
from etl.operations.check import check
from etl.plain import plain_lines


@click.command("check", epilog="Example: audit-etl check && audit-etl run")
@organizations_option
@common_options
@click.pass_context
def check_command(
    context: click.Context,
    *,
    organizations: Sequence[str],
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Check credentials, permission, clocks, schema and writing, with remedies.

    Writes where a run writes, and leaves nothing there. Costs two requests an
    organisation, and a third one if its OAuth client is new.
    """
    with app_of(context, config_path, verbose=verbose, organizations=organizations) as app:
        findings = []
        for finding in check(app):
            findings.append(finding)
            if not as_json:
                for line in plain_lines(finding.detail).split("\n"):
                    print_text(f"{finding.verdict:<8} {finding.about}: {line}")
    failed = [finding.exit_status for finding in findings if finding.verdict == "failed"]
    if as_json:
        print_json([{"about": f.about, "verdict": f.verdict, "detail": f.detail} for f in findings])
    return failed[0] if failed else 0
