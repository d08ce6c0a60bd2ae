"""Logs: what a command could not keep to itself, one line each, on stderr.

Modules log with `logging.getLogger(__name__)`, as libraries do. `context` says what a line is
about, `logs` how it looks. Metrics are `etl.monitoring`'s.
"""

from etl.telemetry.logs import configure_logging

__all__ = ["configure_logging"]
