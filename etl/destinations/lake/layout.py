"""The folders of a lake: what a path tells of the audits in its file."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from etl.errors import ConfigurationError
from etl.window import Window

#: The file at the top of a lake that says which ledger it belongs to.
MARKER: Final = "_audit_etl.json"
#: The file that `check` writes and removes.
TRIAL: Final = "_check"
TRIAL_CONTENT: Final = b"audit-etl check writes this and removes it\n"
#: The strftime format of a partition's folders, by the setting `partition`.
FOLDERS: Final = {"hour": "date=%Y-%m-%d/hour=%H", "day": "date=%Y-%m-%d", "month": "month=%Y-%m"}


def path_of(organization: str, folders: str) -> str:
    """The path of a partition's file below the top of the lake."""
    return f"audit_events/organization={organization}/{folders}/audits.parquet"


def partitions(span: Window, folders: str) -> Iterator[str]:
    """The folders of every partition that holds event time of `span`, in order."""
    moment, last = span.start, None
    while moment < span.end:
        folder = moment.strftime(folders)
        if folder != last:
            yield folder
        last = folder
        moment = moment.replace(minute=0, second=0) + timedelta(hours=1)


def organization_of(path: str) -> str:
    """The organisation whose audits the file at `path` holds."""
    return _folders(path)["organization"]


def span_of(path: str) -> Window:
    """The event time that the file at `path` holds."""
    folders = _folders(path)
    if "month" in folders:
        start = datetime.strptime(folders["month"], "%Y-%m").replace(tzinfo=UTC)
        return Window(start, (start + timedelta(days=32)).replace(day=1))
    start = datetime.strptime(folders["date"], "%Y-%m-%d").replace(tzinfo=UTC)
    if "hour" in folders:
        start += timedelta(hours=int(folders["hour"]))
        return Window(start, start + timedelta(hours=1))
    return Window(start, start + timedelta(days=1))


def is_partition(path: str) -> bool:
    """Whether the file at `path` is a partition's; what else lies there is nobody's audits."""
    try:
        span_of(path)
        folders = path.split("/", 2)[2].removesuffix("/audits.parquet")
        return path == path_of(organization_of(path), folders)
    except (IndexError, KeyError, ValueError):
        return False


def require_partition(paths: Iterable[str], partition: str) -> None:
    """Make sure that a lake with the files `paths` is partitioned by `partition`.

    Raises:
        ConfigurationError: a file is not, so the same audit would land in a second file.
    """
    for path in paths:
        folders = _folders(path)
        found = next((name for name in ("month", "hour") if name in folders), "day")
        if found != partition:
            raise ConfigurationError(
                f"the lake is partitioned by {found} ({path}), the setting partition says "
                f'{partition}: set partition = "{found}", or name an empty folder as destination '
                "and backfill it"
            )


def _folders(path: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in path.split("/") if "=" in part)
