"""Any status, headers and body: an operation reads a value of them or says what is wrong."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports(include=["etl", "email"]):
    from requests.structures import CaseInsensitiveDict

    from etl.genesys import audits
    from etl.genesys.client.auth import read_token
    from etl.genesys.client.budget import Budget
    from etl.genesys.client.clock import Clock
    from etl.genesys.client.failures import Answer, error_of, http_date, misshapen, read_refusal

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRET = "s3cret/of+the=client"
NAMES = ("Retry-After", "Date", "ININ-Correlation-Id", "inin-ratelimit-reset",
         "inin-ratelimit-count", "inin-ratelimit-allowed")  # fmt: skip
STATUSES = (200, 202, 302, 400, 401, 403, 404, 408, 413, 429, 500, 503)
READERS: tuple[Callable[[Answer], object], ...] = (
    audits._read_created,
    lambda answer: audits._read_results(answer, "q", may_be_large=True, first=True),
    audits._read_realtime,
    audits._read_mapping,
    lambda answer: read_token(answer.body, 0.0),
)


def conceal(text: str) -> str:
    """The text without the secret."""
    return text.replace(SECRET, "***")


def one_input(data: bytes) -> None:
    """Read an answer made of `data` in all the ways in which one is read."""
    provider = atheris.FuzzedDataProvider(data)
    status = STATUSES[provider.ConsumeIntInRange(0, len(STATUSES) - 1)]
    headers = CaseInsensitiveDict[str]()
    for name in NAMES:
        if provider.ConsumeBool():
            text = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 60)).decode("latin-1")
            headers[name] = text
            http_date(text)
    body = provider.ConsumeBytes(len(data))
    answer = Answer(status, headers, body)
    said = ""
    for read in READERS:
        try:
            read(answer)
        except (ValueError, RecursionError) as error:  # as `Transport` takes them
            said += str(misshapen("GET /x", answer, str(error), conceal))
    refusal = read_refusal("GET /x", answer, NOW, conceal)
    said += str(error_of(refusal, "acme", NOW))
    if SECRET in said or len(said) > 9000 or "\n" in said:
        raise AssertionError(said)
    budget = Budget("acme", Clock(lambda: NOW, lambda: 0.0, lambda _: False), 180)
    budget.heard(headers)
    if budget.remaining is not None and budget.remaining < 0:
        raise AssertionError("less than nothing is left")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
