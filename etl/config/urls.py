"""The URLs of databases and lakes: which are understood, and how one is shown. Pure.

SQLAlchemy is not asked, because importing it takes longer than most commands do.
"""

import re
from difflib import get_close_matches
from typing import Final

#: Schemes of databases, and the driver that each is opened with.
_DATABASES: Final = {
    "sqlite": "sqlite",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql+pymysql": "mysql+pymysql",
    "mysql": "mysql+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
    "mariadb": "mariadb+pymysql",
}
_LOCAL_LAKE: Final = "parquet"
_REMOTE_LAKE: Final = "parquet+s3"

#: What SQLAlchemy can take apart behind `://`: user and password, host, port, database, query.
_SERVER: Final = re.compile(
    r"(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?\]]+\]|[^/:?@]*)(?::\d{0,5})?(?:/[^?]*)?(?:\?.*)?"
)
#: Up to the last `@`: a password may hold one, though it should be written %40.
_PASSWORD: Final = re.compile(r"(://[^:/?]*):.*@", re.DOTALL)
_SECRET_PARAMETER: Final = re.compile(
    r"([?&][^=&]*(?:pass|secret|token|key|credential)[^=&]*=)[^&]*", re.IGNORECASE
)


def destination_url(text: str) -> str:
    """`text` with the scheme of the driver that we ship, if audits can go there.

    Raises:
        ValueError: they cannot; the message repeats nothing of the URL but its scheme.
    """
    scheme, rest = _parted(text, [*_DATABASES, _LOCAL_LAKE, _REMOTE_LAKE])
    if scheme == _LOCAL_LAKE:
        if not rest.startswith("/") or not rest.strip("/") or "?" in rest:
            raise ValueError("a local lake is a folder's full path: parquet:///var/lib/audits")
    elif scheme == _REMOTE_LAKE:
        if rest.startswith(("/", "?")) or not rest:
            raise ValueError("a remote lake needs a bucket: parquet+s3://bucket/prefix")
        if "@" in rest or "?" in rest:
            raise ValueError(
                "a remote lake is written parquet+s3://bucket/prefix; credentials, region and "
                "endpoint are taken from AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_REGION, "
                "AWS_ENDPOINT_URL_S3 and the like"
            )
    else:
        return _database_url(scheme, rest)
    return f"{scheme}://{rest}"


def state_url(text: str) -> str:
    """`text` with the scheme of the driver that we ship, if it names a database.

    Raises:
        ValueError: it does not; the message repeats nothing of the URL but its scheme.
    """
    return _database_url(*_parted(text, _DATABASES))


def default_state(destination: str) -> str:
    """Where progress is kept if no setting says so; `destination` is one of `destination_url`.

    Raises:
        ValueError: a remote lake has no such place.
    """
    scheme, _, rest = destination.partition("://")
    if scheme == _REMOTE_LAKE:
        raise ValueError(
            "must be set, since a remote lake cannot hold it: for example "
            "sqlite:////var/lib/audit-etl/state.db or postgresql+psycopg://USER@HOST/DATABASE"
        )
    return f"sqlite:///{rest.rstrip('/')}/_state.db" if scheme == _LOCAL_LAKE else destination


def is_database(url: str) -> bool:
    """Whether `url`, one of `destination_url`, is a database and not a lake."""
    return url.partition("://")[0] in _DATABASES


def masked(url: str) -> str:
    """`url` with `***` for its password and for parameters that sound like secrets."""
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def _parted(text: str, schemes: list[str] | dict[str, str]) -> tuple[str, str]:
    scheme, colon, rest = text.strip().partition("://")
    if not colon:
        raise ValueError("must be a URL such as sqlite:///audits.db")
    scheme = scheme.lower()
    if scheme in schemes:
        return scheme, rest
    near = get_close_matches(scheme, schemes, n=1, cutoff=0.0)[0]
    known = scheme if re.fullmatch(r"[a-z0-9+.-]{1,30}", scheme) else "its scheme"
    raise ValueError(f"{known}:// is not understood here; did you mean {near}://?")


def _database_url(scheme: str, rest: str) -> str:
    if scheme == "sqlite":
        file = rest.partition("?")[0].removeprefix("/")
        if not rest.startswith("/"):
            raise ValueError("an SQLite file is written with three slashes: sqlite:///audits.db")
        if file in {"", ":memory:"}:
            raise ValueError("must name a file, such as sqlite:///audits.db: memory keeps nothing")
    elif not _SERVER.fullmatch(rest):
        raise ValueError(
            "its user, host or port cannot be read; in a password write @ as %40, : as %3A, / as "
            "%2F and % as %25"
        )
    return f"{_DATABASES[scheme]}://{rest}"
