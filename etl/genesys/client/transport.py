"""Requests with the token, within the rate budget, and with retries.

A POST is retried like a GET: a query that is created twice costs a request, not correctness. The
last failure becomes an error of `etl.errors`.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from requests.auth import AuthBase

from etl.errors import AuditEtlError, ConfigurationError, NotPermitted
from etl.genesys.client.auth import Authorization, OAuthClient, Token, Tokens, read_token
from etl.genesys.client.budget import Budget
from etl.genesys.client.clock import Clock
from etl.genesys.client.events import Requested, Tell, Waited, to_nobody
from etl.genesys.client.exchange import Call, Exchange
from etl.genesys.client.failures import (
    Answer,
    Failure,
    NoAnswer,
    Refusal,
    Refused,
    error_of,
    misshapen,
    read_refusal,
    shortened,
)
from etl.genesys.client.masking import mask
from etl.genesys.client.regions import Endpoints
from etl.genesys.client.retries import Patience, Retries
from etl.telemetry.context import note
from etl.wire import CORRELATION_HEADER, TOKEN_PATH

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: Reads an answer; raises ValueError if the body is not what was asked for.
Reader = Callable[[Answer], T]
#: The request to send after so many failures that a smaller answer may not meet.
Requests = Callable[[int], Call]

OK: Final = frozenset({200})

_TOKEN_CALL: Final = Call(
    "POST",
    TOKEN_PATH,
    body=b"grant_type=client_credentials",
    content_type="application/x-www-form-urlencoded",
)


class Transport:
    """Speaks to one organisation, from any number of threads.

    Attributes:
        organization: the organisation's name in the configuration.
        budget: what may still be sent this minute.
        tell: is told of each request.
    """

    def __init__(
        self,
        organization: str,
        endpoints: Endpoints,
        client: OAuthClient,
        clock: Clock,
        patience: Patience,
        tell: Tell = to_nobody,
    ) -> None:
        self.organization = organization
        self.endpoints = endpoints
        self.clock = clock
        self.patience = patience
        self.exchange = Exchange(clock, patience)
        self.budget = Budget(organization, clock, patience.rate_seconds)
        self.tell = tell
        self._client = client
        self._tokens = Tokens(clock, self._fetch_token)
        self._answered: set[str] = set()

    def call(self, call: Call | Requests, read: Reader[T], accept: frozenset[int] = OK) -> T:
        """Send an API request until it is answered with a status in `accept`; give what it says.

        Raises:
            NotPermitted: the client, or a fresh token of it, is refused, or lacks the permission.
            RateLimited: the organisation wants more time than a run should wait.
            SourceUnavailable: it did not answer, or with server errors only, for too long.
            Refused: any other answer; 400 and 404 among them.
            Stopped: a signal asked to stop; nothing is sent after that.
        """
        outcome = self._persist(
            lambda failures: self._attempt(
                call if isinstance(call, Call) else call(failures), read, accept
            ),
            after_rate_limit=self.budget.refused,
        )
        if isinstance(outcome, Refusal | NoAnswer):
            raise error_of(outcome, self.organization, self.clock.now())
        return outcome

    def sign_in(self) -> None:
        """Hold a token that is good for some time yet; see `call` for the errors."""
        self._tokens.current()

    def renew_token(self) -> None:
        """Fetch another token than the one at hand; see `call` for the errors."""
        self._tokens.renew()

    @property
    def client(self) -> str:
        """The OAuth client's id and the address of the API that it is for."""
        return f"{self._client.id} at {self.endpoints.api}"

    def conceal(self, text: str) -> str:
        """`text` without the secret and the token, should an answer have quoted one."""
        for secret in (self._client.secret, self._client.basic):
            text = mask(text, secret)
        return self._tokens.conceal(text)

    def _persist(
        self, attempt: Callable[[int], T | Failure], after_rate_limit: Callable[[float], None]
    ) -> T | Failure:
        retries = Retries(self.patience, self.clock.monotonic)
        heavy = 0
        while True:
            outcome = attempt(heavy)
            if not isinstance(outcome, Refusal | NoAnswer):
                return outcome
            heavy += outcome.may_be_its_size
            answered = isinstance(outcome, NoAnswer) and outcome.host in self._answered
            seconds = retries.pause_after(outcome, answered=answered)
            if seconds is None:
                return outcome
            _LOG.warning(
                "organisation %s: %s; next attempt in %g s", self.organization, outcome, seconds
            )
            if isinstance(outcome, Refusal) and outcome.status == 429:
                after_rate_limit(seconds)
            else:
                self.clock.wait(seconds)

    def _attempt(self, call: Call, read: Reader[T], accept: frozenset[int]) -> T | Failure:
        token = self._tokens.current()
        outcome = self._send(call, token)
        if isinstance(outcome, Answer) and outcome.status == 401:
            refusal = self._refusal(call, outcome)
            if refusal.code == "ip.not.authorized":
                return refusal
            outcome = self._send(call, self._tokens.instead_of(token))
        return self._understood(self.endpoints.api, call, outcome, read, accept)

    def _send(self, call: Call, token: Token) -> Answer | Failure:
        waited = self.budget.take()
        if waited:
            self.tell(Waited(waited))
        auth = Authorization(f"Bearer {token.text}")
        outcome = self._exchange(self.endpoints.api, call, auth)
        if isinstance(outcome, Answer):
            self.budget.heard(outcome.headers)
            trace = outcome.headers.get(CORRELATION_HEADER)
            if trace:
                note(correlation_id=shortened(self.conceal(trace)))
        return outcome

    def _exchange(self, base: str, call: Call, auth: AuthBase) -> Answer | Failure:
        began = time.monotonic()
        outcome = self.exchange.send(base, call, auth)
        status = None if isinstance(outcome, NoAnswer) else outcome.status
        self.tell(Requested(call.operation, status, time.monotonic() - began))
        return outcome

    def _understood(
        self,
        base: str,
        call: Call,
        outcome: Answer | Failure,
        read: Reader[T],
        accept: frozenset[int],
    ) -> T | Failure:
        """What `read` makes of an answer, or how that failed."""
        if not isinstance(outcome, Answer):
            return outcome
        host = urlsplit(base).hostname or ""
        if outcome.status not in accept:
            if _is_of_a_firewall(outcome):
                return _no_json(call, host, outcome)
            refusal = self._refusal(call, outcome)
            if refusal.code is not None:
                self._answered.add(host)
            return refusal
        try:
            result = read(outcome)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            reason = str(error)
        else:
            self._answered.add(host)
            return result
        if _is_json(outcome.body):
            return misshapen(call.operation, outcome, reason, self.conceal)
        return _no_json(call, host, outcome)

    def _refusal(self, call: Call, answer: Answer) -> Refusal:
        return read_refusal(call.operation, answer, self.clock.now(), self.conceal)

    def _fetch_token(self) -> Token:
        outcome = self._persist(lambda _: self._attempt_token(), after_rate_limit=self.clock.wait)
        if isinstance(outcome, Refusal | NoAnswer):
            raise self._login_error(outcome)
        self.budget.forget()
        return outcome

    def _attempt_token(self) -> Token | Failure:
        base = self.endpoints.login
        outcome = self._exchange(base, _TOKEN_CALL, Authorization(f"Basic {self._client.basic}"))
        if isinstance(outcome, Answer) and outcome.status == 200:
            refusal = self._refusal(_TOKEN_CALL, outcome)
            if refusal.code is not None:  # whatever else is in it
                return refusal
        return self._understood(
            base, _TOKEN_CALL, outcome, lambda a: read_token(a.body, self.clock.monotonic()), OK
        )

    def _login_error(self, failure: Failure) -> AuditEtlError:
        """The error of a token that could not be had."""
        settings = f"organizations.{self.organization}"
        host = urlsplit(self.endpoints.login).hostname
        error = error_of(failure, self.organization, self.clock.now())
        if isinstance(failure, NoAnswer):
            return error
        if failure.status in {400, 401, 403} or (failure.status == 200 and failure.code):
            error = NotPermitted(
                f"organisation {self.organization} refused its OAuth client at {host}: "
                f"{failure}; the vendor answers the same for a wrong secret and for a "
                f"right one in the wrong region, so check {settings}.region, .client_id "
                "and .client_secret (GENESYSCLOUD_REGION, GENESYSCLOUD_OAUTHCLIENT_ID, "
                "GENESYSCLOUD_OAUTHCLIENT_SECRET), and that its grant is Client Credentials"
            )
        elif 300 <= failure.status < 500 and failure.status not in {407, 408, 429}:
            error = ConfigurationError(
                f"organisation {self.organization}: {host} does not answer as a login "
                f"host of Genesys Cloud does: {failure}; check {settings}.region "
                "(GENESYSCLOUD_REGION)"
            )
        else:
            return error
        error.__cause__ = Refused(failure, self.organization)
        return error


def _is_json(body: bytes) -> bool:
    """Whether it is JSON in any encoding, wrongly encoded texts in it included."""
    try:
        json.loads(body.decode(json.detect_encoding(body), "replace"), strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _no_json(call: Call, host: str, answer: Answer) -> NoAnswer:
    return NoAnswer(
        call.operation,
        host,
        f"answered {answer.status} with something other than JSON",
        "see whether a proxy, a firewall or a sign-in page answers in its place",
    )


def _is_of_a_firewall(answer: Answer) -> bool:
    """Whether it forbids, but not as the organisation does, which says why in JSON."""
    return answer.status in {401, 403} and not _is_json(answer.body)
