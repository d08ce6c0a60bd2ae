"""`config`: what is in force, or a commented file to start with."""

import click

from etl.app import clock
from etl.cli.shared import common_options, print_json, print_table, settings_of
from etl.config import example


@click.command("config", epilog="Example: audit-etl config --example > audit-etl.toml")
@click.option("--example", "show_example", is_flag=True, help="Print a commented file instead.")
@common_options
@click.pass_context
def config_command(
    context: click.Context,
    *,
    show_example: bool,
    config_path: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show each setting in force and where it came from, secrets masked."""
    del verbose
    if show_example:
        click.echo(example(), nl=False)
        return
    settings = settings_of(context, config_path)
    rows = settings.rows()
    if as_json:
        print_json([{"key": key, "value": value, "origin": origin} for key, value, origin in rows])
    else:
        print_table(("key", "value", "from"), rows)
    settings.require_started(clock())
