"""`daemon`."""

import logging
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import click

from etl.cli.shared import organizations_option, settings_of
from etl.config import Settings
from etl.daemon import serve
from etl.monitoring.health import Monitor, serve_health
from etl.telemetry import configure_logging

#: Open files and connections that the daemon may have at once, if the system lets it.
FILES: Final = 65_536


@click.command("daemon", epilog="Example: audit-etl daemon --config /etc/audit-etl.toml")
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False),
    help="The configuration file. Default: the one that AUDIT_ETL_CONFIG names, if any.",
)
@organizations_option
@click.pass_context
def daemon_command(
    context: click.Context, *, config_path: str | None, organizations: Sequence[str]
) -> int:
    """Run the schedules until SIGTERM or SIGINT, which it obeys within five seconds.

    It begins by bringing every stream up to date, picks up late arrivals by the lookback of each
    schedule, and goes on after any outage. Of several daemons on one destination one works and the
    others wait to take over. SIGHUP reads the configuration again, but for health_address.
    """
    configure_logging(verbose=True)
    _raise_file_limit()
    monitor = Monitor()

    def settings() -> Settings:
        return settings_of(context, config_path, organizations)

    with serve_health(settings().health_endpoint, monitor):
        if not serve(settings, monitor):
            _leave()
    return 0


def _raise_file_limit() -> None:
    """Have descriptors to spare for the work, whoever connects to the health port."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it: then the limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave() -> None:
    """End the process beside a thread that hangs in a request; its window is asked for again.

    The interpreter's own way out would tear down what the thread still uses.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
