"""How log lines look: JSON where stderr is piped, for machines, and readable on a terminal."""

import logging
import sys
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from etl.telemetry.context import carried


def configure_logging(*, verbose: bool) -> None:
    """Send log records to stderr: warnings and worse, and what else we do if `verbose`.

    Libraries that log requests or statements stay at WARNING whatever is asked for: at a lower
    level some of them would write headers or parameters.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(terminal=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("etl").setLevel(logging.INFO if verbose else logging.WARNING)
    # What it warns of is that it ignores an error which followed from the one that is told.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def formatter(*, terminal: bool) -> logging.Formatter:
    """Renders a record with its time, level and logger, what it carries, and its `extra`."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_ENRICHED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_ON_TERMINAL if terminal else _PIPED),
        ],
    )


def _carry(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    for name, text in carried().items():
        line.setdefault(name, text)
    return line


def _fold(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Shorten what a reader knows: our own loggers' names, and pairs that are read as one."""
    if str(line["logger"]).startswith("etl."):
        del line["logger"]
    for whole, first, second in _PAIRS:
        if first in line and second in line:
            line[whole] = f"{line.pop(first)}/{line.pop(second)}"
    return line


#: What a terminal shows of two fields, as `Stream` and `Window` are shown elsewhere.
_PAIRS: Final = (("stream", "organization", "stream"), ("window", "window_start", "window_end"))

_ENRICHED: Final[list[Processor]] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
    structlog.stdlib.ExtraAdder(),
    _carry,
    structlog.stdlib.add_logger_name,
]
# No traceback shows what variables held: the defaults of both renderers would.
_PIPED: Final[list[Processor]] = [
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(),
]
_ON_TERMINAL: Final[list[Processor]] = [
    structlog.processors.TimeStamper(fmt="%H:%M:%SZ", utc=True),
    _fold,
    structlog.dev.ConsoleRenderer(
        sort_keys=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    ),
]
