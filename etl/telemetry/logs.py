"""How log lines look: JSON where stderr is piped, for machines, and readable on a terminal."""

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from etl.telemetry.context import carried
from etl.unexpected import traceback_of


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
    # So it is here, with a traceback: a connection that was lost is given back, and closed.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


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


def _without_values(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Drop the message that a library logs with an error: asyncio's has the error's values."""
    if line.get("exc_info") and not str(line["logger"]).startswith("etl."):
        line["event"] = f"an unexpected error in {line['logger']}"
        line.pop("message", None)  # another handler's rendering of the same
    return line


def _write_frames(to: TextIO, found: ExcInfo) -> None:
    to.write(traceback_of(found[1]))


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
    _without_values,
]
# No traceback shows what variables held, nor what an error quotes: both renderers' own would.
_PIPED: Final[list[Processor]] = [
    structlog.processors.ExceptionRenderer(lambda found: traceback_of(found[1])),
    structlog.processors.JSONRenderer(),
]
_ON_TERMINAL: Final[list[Processor]] = [
    structlog.processors.TimeStamper(fmt="%H:%M:%SZ", utc=True),
    _fold,
    structlog.dev.ConsoleRenderer(
        sort_keys=False, pad_event_to=0, exception_formatter=_write_frames
    ),
]
