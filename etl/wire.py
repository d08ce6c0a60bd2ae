"""The names that travel between a client and a Genesys Cloud organisation.

Paths, headers, states and limits of the vendor's audit API, as its Swagger contract and its
public SDK 269.0.0 give them. Nothing here does anything: it is what the client and the
simulator must agree on, and the only module that they share.
"""

from typing import Final

TOKEN_PATH: Final = "/oauth/token"
TOKEN_INFO_PATH: Final = "/api/v2/tokens/me"
SERVICE_MAPPING_PATH: Final = "/api/v2/audits/query/servicemapping"
QUERY_PATH: Final = "/api/v2/audits/query"
REALTIME_PATH: Final = "/api/v2/audits/query/realtime"
REALTIME_RELATED_PATH: Final = "/api/v2/audits/query/realtime/related"
REALTIME_SERVICE_MAPPING_PATH: Final = "/api/v2/audits/query/realtime/servicemapping"


def query_path(transaction_id: str) -> str:
    """Path of one query's state; `transaction_id` must already be URL-safe."""
    return f"{QUERY_PATH}/{transaction_id}"


def results_path(transaction_id: str) -> str:
    """Path of one query's results; `transaction_id` must already be URL-safe."""
    return f"{QUERY_PATH}/{transaction_id}/results"


QUEUED: Final = "Queued"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
CANCELLED: Final = "Cancelled"

CORRELATION_HEADER: Final = "ININ-Correlation-Id"
RATE_ALLOWED_HEADER: Final = "inin-ratelimit-allowed"
RATE_COUNT_HEADER: Final = "inin-ratelimit-count"
RATE_RESET_HEADER: Final = "inin-ratelimit-reset"
RETRY_AFTER_HEADER: Final = "Retry-After"

TOO_LARGE_CODE: Final = "response.entity.too.large"

#: The largest page that the results operation serves; its default is 25.
PAGE_SIZE_MAX: Final = 500
PAGE_SIZE_DEFAULT: Final = 25
#: Requests a minute that the vendor documents for one token.
RATE_PER_MINUTE: Final = 300
#: The vendor refuses an interval longer than this many days, by its own error text.
INTERVAL_DAYS_MAX: Final = 31
#: How many days back the realtime query looks.
REALTIME_DAYS: Final = 14
