"""The daemon: schedules wake a worker for each organisation, until a signal ends it.

A worker does what `audit-etl run` does, for its organisation. It is the ledger that says what is
due, so a firing says no more than that it is time to look, and there is no job store.
"""

from etl.daemon.observer import Observer
from etl.daemon.serving import serve
from etl.daemon.worker import Worker

__all__ = ["serve", "Worker", "Observer"]
