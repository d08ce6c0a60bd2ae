"""A stand-in for a Genesys Cloud organisation, served over real HTTP on this machine.

Built from the vendor's published contract and from what was observed of live organisations, not
from this program's client: it shares `etl.wire` with it and nothing else, and the vendor's own SDK
reads the same audits from it. What nobody knows of the vendor is chosen here so that a client
cannot lean on it: the newest audits come first unless an order is asked for, cursors have
characters that a URL must escape, and a page that is asked for too early is a conflict.

An `AuditLog` holds what happened and when it becomes visible; a `Simulator` serves it; `Faults`
make it misbehave. It forgets nothing unless a fault makes it.
"""

from etl.simulator.faults import Faults
from etl.simulator.log import AuditLog
from etl.simulator.organization import CLIENT_ID, CLIENT_SECRET
from etl.simulator.server import LOOPBACK, Simulator, run

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "LOOPBACK", "AuditLog", "Faults", "Simulator", "run"]
