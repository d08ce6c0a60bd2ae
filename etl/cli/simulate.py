"""`simulate`: an organisation over HTTP on this machine."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from etl.app import clock
from etl.cli.shared import Duration
from etl.errors import DestinationUnavailable, UsageError
from etl.simulator import CLIENT_ID, CLIENT_SECRET, LOOPBACK, AuditLog, Faults, Simulator, run
from etl.simulator.catalogue import SERVICES
from etl.simulator.faults import descriptions
from etl.wire import RATE_PER_MINUTE


class _WithFaults(click.Command):
    """A command whose help ends with the list of faults."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command`."""
        with formatter.section("Faults, all off by default (a number N of 0 is off)"):
            formatter.write_dl(
                [
                    (name, f"{does}; {default} by default" if default else does)
                    for name, default, does in descriptions()
                ]
            )
        super().format_epilog(ctx, formatter)


@click.command(
    "simulate", cls=_WithFaults, epilog="Example: audit-etl simulate --audits 100000 --past 30d"
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--host", default=LOOPBACK, show_default=True, help="The address to listen on.")
@click.option("--audits", type=click.IntRange(0), default=20_000, show_default=True)
@click.option(
    "--past", type=Duration(), default="7d", show_default=True, help="How far back they reach."
)
@click.option(
    "--ahead",
    type=Duration(),
    default="1d",
    show_default=True,
    help="How far ahead: audits go on appearing for so long.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses what happens.")
@click.option(
    "--query-seconds",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="How long a query takes.",
)
@click.option(
    "--latency",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds before each answer.",
)
@click.option("--rate-limit", type=click.IntRange(1), help="Requests a minute. Default: 300.")
@click.option("--like", metavar="FILE", help="Behave as the report of `audit-etl probe` says.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=VALUE",
    help="Something that goes wrong, see below; repeatable.",
)
def simulate_command(
    *,
    like: str | None,
    port: int,
    host: str,
    audits: int,
    past: timedelta,
    ahead: timedelta,
    seed: int,
    query_seconds: float,
    latency: float,
    rate_limit: int | None,
    faults: Sequence[str],
) -> None:
    """Serve a simulated organisation over HTTP until it is stopped.

    It answers as the vendor's contract says, with made-up audits: the same seed makes the same.
    Nothing of it leaves this machine unless --host says so, and its credentials are no secret.
    """
    measured = _measured(like) if like else {}
    limited = int(measured.pop("rate_limit", RATE_PER_MINUTE))
    seen = _parsed("--like", [f"{name}={value}" for name, value in measured.items()], Faults())
    wrong = _parsed("--fault", faults, seen)
    now = clock().replace(microsecond=0)
    with AuditLog.generate(seed=seed, count=audits, start=now - past, end=now + ahead) as log:
        simulator = Simulator(
            log=log,
            query_seconds=query_seconds,
            latency_seconds=latency,
            allowed_per_minute=limited if rate_limit is None else rate_limit,
            faults=wrong,
        )
        try:
            run(simulator, host=host, port=port, announce=_announce)
        except OSError as error:
            raise DestinationUnavailable(
                f"cannot listen on {host} port {port}: {error.strerror}; choose another --port"
            ) from None


def _parsed(option: str, texts: Sequence[str], others: Faults) -> Faults:
    try:
        return Faults.parse(texts, others)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _measured(path: str) -> dict[str, str | int]:
    """What a probe's report has measured, by the names of the faults that do the same."""
    try:
        report = json.loads(Path(path).read_bytes())
        measured = {k: v for found in report["findings"] for k, v in found["measured"].items()}
        int(measured.get("rate_limit", 0))
    except OSError as error:
        raise UsageError(f"--like: {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"--like: {path} is no report of `audit-etl probe --output`") from None
    if measured.pop("refused_services", 0):
        measured["forbidden_service"] = SERVICES[0].name
    return measured


def _announce(url: str) -> None:
    click.echo(
        "# A simulated organisation is running; stop it with Ctrl-C. In another terminal:\n"
        f"export GENESYSCLOUD_REGION={url}\n"
        f"export GENESYSCLOUD_OAUTHCLIENT_ID={CLIENT_ID}\n"
        f"export GENESYSCLOUD_OAUTHCLIENT_SECRET={CLIENT_SECRET}\n"
        "audit-etl run"
    )
