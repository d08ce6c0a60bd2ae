"""`check`: one line for each thing that can be wrong before the first run."""

import click

from etl.checking import check
from etl.cli.shared import app_of, common_options, print_json


@click.command("check", epilog="Example: audit-etl check && audit-etl run")
@common_options
@click.pass_context
def check_command(
    context: click.Context, *, config_path: str | None, as_json: bool, verbose: bool
) -> int:
    """Check credentials, permission, clock skew, destination and schema version, with remedies.

    Costs two requests an organisation, and changes nothing.
    """
    with app_of(context, config_path, verbose=verbose) as app:
        findings = []
        for finding in check(app):
            findings.append(finding)
            if not as_json:
                click.echo(f"{finding.verdict:<8} {finding.about}: {finding.detail}")
    failed = [finding.exit_status for finding in findings if finding.verdict == "failed"]
    if as_json:
        print_json([{"about": f.about, "verdict": f.verdict, "detail": f.detail} for f in findings])
    return failed[0] if failed else 0
