"""What an operator does to a destination with other programs than ours."""

from pathlib import Path

import sqlalchemy as sa

from tests.support import buckets
from tests.support.places import Place

CHILDREN = ("audit_property_changes", "audit_entity_changes")


def statements(engine: sa.Engine, *given: str) -> None:
    """Run SQL, all of it in one transaction."""
    with engine.begin() as connection:
        for statement in given:
            connection.execute(sa.text(statement))


def delete_audits(engine: sa.Engine, where: str) -> None:
    """Delete audits with their changes; `where` is a condition on their id as `{id}`."""
    statements(
        engine,
        f"DELETE FROM audit_events WHERE {where.format(id='id')}",
        *(f"DELETE FROM {table} WHERE {where.format(id='event_id')}" for table in CHILDREN),
    )


class Files:
    """The files of a lake."""

    def __init__(self, place: Place) -> None:
        self._url = place.variables["AUDIT_ETL_DESTINATION"]
        self._root = Path(self._url.removeprefix("parquet://"))
        bucket, _, self._prefix = self._url.removeprefix("parquet+s3://").partition("/")
        self._bucket = bucket if self._url.startswith("parquet+s3") else ""

    def path(self, part: str) -> str:
        """The one path that has `part` in it."""
        [found] = [path for path in self.paths() if part in path]
        return found

    def content(self, path: str) -> bytes:
        """What is in a file."""
        return buckets.content(self._url, path) if self._bucket else self._file(path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """Put something else in the place of a file."""
        if self._bucket:
            key = f"{self._prefix}/{path}"
            buckets.client().put_object(Bucket=self._bucket, Key=key, Body=content)
        else:
            self._file(path).parent.mkdir(exist_ok=True)
            self._file(path).write_bytes(content)

    def delete(self, path: str) -> None:
        """Delete a file."""
        if self._bucket:
            buckets.client().delete_object(Bucket=self._bucket, Key=f"{self._prefix}/{path}")
        else:
            self._file(path).unlink()

    def _file(self, path: str) -> Path:
        return self._root / path

    def paths(self) -> list[str]:
        """The paths of all files."""
        if self._bucket:
            return [key.removeprefix(f"{self._prefix}/") for key in buckets.keys(self._url)]
        return [str(file.relative_to(self._root)) for file in self._root.rglob("*.parquet")]
