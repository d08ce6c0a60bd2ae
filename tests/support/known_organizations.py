"""Organisations, and a program's visits to them: what the tests of identities stand on."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from etl.app import App
from etl.config import load
from etl.model import Receipt, Stream
from etl.operations import export, recognition
from etl.operations.streams import Failure
from etl.simulator import CLIENT_ID, AuditLog, Simulator
from etl.window import Window
from tests.support.hostile_organization import LAG, Waits, resting
from tests.support.places import Place
from tests.support.simulated_organization import NOW, HandClock

BEGIN = NOW - timedelta(days=3)
SPAN = Window(BEGIN, NOW - LAG)
COUNT = 300


@dataclass
class Served:
    """A simulated organisation and how a program finds it."""

    simulator: Simulator
    url: str

    @property
    def variables(self) -> dict[str, str]:
        return {
            "GENESYSCLOUD_REGION": self.url,
            "GENESYSCLOUD_OAUTHCLIENT_ID": self.simulator.client_id,
            "GENESYSCLOUD_OAUTHCLIENT_SECRET": self.simulator.client_secret,
            "AUDIT_ETL_START": BEGIN.isoformat(),
        }

    @property
    def questions(self) -> int:
        """How often it was asked whose token it is."""
        return self.simulator.requests["token_info"]

    def shown(self, until: datetime | None = None) -> set[str]:
        """The ids of the audits that it shows before `until`; if none is given, by now."""
        now = self.simulator.now()
        truth = self.simulator.log.truth(BEGIN, until or now - LAG, now)
        return {audit["id"] for audit in truth}


@dataclass
class Stage:
    """Organisations and the program's visits to them, by one clock that moves by itself."""

    stack: ExitStack
    clock: HandClock = field(default_factory=HandClock)

    def organisation(self, seed: int, client_id: str = CLIENT_ID, count: int = COUNT) -> Served:
        """One whose audits are all visible at once; its id depends on the seed."""
        log = self.stack.enter_context(
            AuditLog.generate(
                seed=seed, count=count, start=BEGIN, end=NOW + timedelta(days=1), late_share=0
            )
        )
        simulator = Simulator(
            log=log, clock=self.clock, rest=resting(self.clock), client_id=client_id
        )
        return Served(simulator, self.stack.enter_context(simulator.serve()))

    def app(self, variables: Mapping[str, str]) -> App:
        return App(
            load(None, variables),
            stop=Waits(self.clock),
            now=self.clock,
            monotonic=self.clock.monotonic,
        )

    def run(self, variables: Mapping[str, str]) -> list[Receipt]:
        """Bring every stream up to date; raises why one could not be."""
        with self.app(variables) as app:
            return [done(outcome) for outcome in export.run(app)]

    def watermark(self, variables: Mapping[str, str]) -> datetime:
        """How far the stream `default/*` is sure."""
        with self.app(variables) as app:
            watermark = app.ledger.watermark(Stream("default"))
            assert watermark is not None
            return watermark.reached

    def adopt(self, variables: Mapping[str, str]) -> str:
        """As `migrate --adopt`; give what it says."""
        with self.app(variables) as app:
            app.migrate()
            return "\n".join(recognition.adopt(app))


def done(outcome: object) -> Receipt:
    """The receipt, or what was raised in its place."""
    if isinstance(outcome, Failure):
        raise outcome.error
    assert isinstance(outcome, Receipt)
    return outcome


def ids(place: Place, organization: str = "default") -> set[str]:
    """The ids of what is there, once each."""
    found = [audit.id for audit in place.audits(organization)]
    assert len(set(found)) == len(found)
    return set(found)


@contextmanager
def staged() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)
