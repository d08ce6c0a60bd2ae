"""The vendor's error answers: status, code and text as its Swagger lists them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from etl.wire import RETRY_AFTER_HEADER, TOO_LARGE_CODE

PERMISSION: Final = "audits:audit:view"


class ApiError(Exception):
    """The request is not granted.

    Attributes:
        status: of HTTP.
        code: the vendor's, in the body.
        message: the vendor's, in the body.
        headers: to send with the refusal.
        limit: the key and value of the limit that was exceeded.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        limit: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.limit = limit

    def body(self, correlation: str) -> dict[str, object]:
        """The vendor's `ErrorBody`."""
        body: dict[str, object] = {
            "message": self.message,
            "code": self.code,
            "status": self.status,
            "messageParams": {},
            "contextId": correlation,
            "details": [],
            "errors": [],
        }
        if self.limit:
            key, value = self.limit
            body["limit"] = {"key": key, "namespace": "platform.api", "value": value}
        return body


class HtmlPage(Exception):
    """A gateway or a sign-in page answers in place of the API, with HTML.

    Attributes:
        status: of HTTP; 200 is that of a page to sign in on.
        page: the HTML.
    """

    def __init__(self, status: int) -> None:
        title = "Sign in" if status == 200 else f"{status} {HTTPStatus(status).phrase}"
        super().__init__(title)
        self.status = status
        self.page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n"
            f"<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        )


def bad_request(message: str) -> ApiError:
    """The request makes no sense."""
    return ApiError(400, "bad.request", message)


def too_long(days_max: int) -> ApiError:
    """The interval is missing or over the limit; one text for both, as observed."""
    return bad_request(
        "You must specify a search interval as part of your query that does not exceed "
        f"{days_max} days."
    )


def invalid_date() -> ApiError:
    """A time that is not ISO 8601."""
    example = "yyyy-MM-ddTHH:mm:ss.SSSZ"
    return ApiError(
        400, "invalid.date", f"Dates must be specified as ISO-8601 strings. For example: {example}"
    )


def invalid_value(value: object, field: str, allowed: str) -> ApiError:
    """A member of the body outside its list."""
    return ApiError(
        400,
        "invalid.value",
        f"Value [{value}] is not valid for field type [{field}]. Allowable values are: {allowed}",
    )


def invalid_parameter(value: str, parameter: str, allowed: str) -> ApiError:
    """A query parameter outside its range."""
    return ApiError(
        400,
        "invalid.query.param.value",
        f"Value [{value}] is not valid for parameter [{parameter}]. "
        f"Allowable values are: {allowed}",
    )


def too_large() -> ApiError:
    """A page of so many records would be over the size limit."""
    return ApiError(
        400,
        TOO_LARGE_CODE,
        "The response is over the size limit. Reduce pageSize or expand list to reduce response "
        "size if applicable",
    )


def no_token() -> ApiError:
    """No bearer token came."""
    return ApiError(
        401,
        "authentication.required",
        "No authentication bearer token specified in authorization header.",
    )


def bad_token() -> ApiError:
    """The token is unknown or no longer good."""
    return ApiError(401, "bad.credentials", "Invalid login credentials.")


def no_permission() -> ApiError:
    """The OAuth client's roles do not open the audits."""
    return ApiError(
        403,
        "missing.permissions",
        "Unable to perform the requested action. You are missing the following permission(s): "
        f"[{PERMISSION}]",
    )


def not_found() -> ApiError:
    """There is no such thing, or it is gone."""
    return ApiError(404, "not.found", "The requested resource was not found.")


def conflict() -> ApiError:
    """The query is in a state in which it has no results."""
    return ApiError(
        409,
        "request.conflict",
        "The request conflicts with the current state of the target resource.",
    )


def not_json() -> ApiError:
    """The body is not declared as JSON."""
    return ApiError(
        415,
        "unsupported.media.type",
        "Unsupported Media Type - Unsupported or incorrect media type, such as an incorrect "
        "Content-Type value in the header.",
    )


def too_many(allowed: int, seconds: int, *, header: bool = True) -> ApiError:
    """No requests are left for this token; the text gives the seconds even without the header."""
    return ApiError(
        429,
        "too.many.requests.retry.after",
        f"Rate limit exceeded the maximum. Retry the request in [{seconds}] seconds",
        headers={RETRY_AFTER_HEADER: str(seconds)} if header else {},
        limit=("client.credentials.token.rate.per.minute", allowed),
    )


def server_error(status: int) -> ApiError:
    """The service fails, or is down for a moment; 502 is said by what stands before it."""
    return ApiError(status, *_SERVER_ERRORS[status])


_SERVER_ERRORS: Final = {
    500: (
        "internal.server.error",
        "The server encountered an unexpected condition which prevented it from fulfilling the "
        "request.",
    ),
    502: ("bad.gateway", "Bad Gateway"),
    503: (
        "service.unavailable",
        "Service Unavailable - The server is currently unavailable (because it is overloaded or "
        "down for maintenance).",
    ),
    504: ("request.timeout", "The request timed out."),
}
