"""A bucket of an S3-compatible object store. The only module that speaks to one.

An upload counts only once the store has confirmed it: the object's size and ETag are compared with
the file. Only then does the store copy the object over the published one, and the copy is compared
too.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from etl.destinations.lake.access import Access, access_to, no_authorities
from etl.destinations.lake.remote_file import RemoteFile
from etl.destinations.lake.store_errors import Replaced, StoreError, reason_of
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

#: The size of a part of an upload. A file that fits into one is sent in one request.
UPLOAD_BYTES: Final = 8 * 1024 * 1024
#: How many parts are sent at once. Each is in memory meanwhile.
UPLOADS: Final = 2
#: How much of a file's end is compared once it is in place: the footer that tells all of it.
END_BYTES: Final = 64 * 1024
#: The least that is read at once where reading goes on: a request takes as long as these bytes do.
READ_AHEAD: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a store. With the defaults a silent one fails after 210 seconds.

    Attributes:
        connect_seconds: for a connection.
        request_seconds: for one request and its answer. Two parts of 8 MiB in 90 seconds take a
            line of 1.5 Mbit/s.
        retries: how often to send a request again after 5xx, 429 or a lost connection.
        retry_seconds: no retry starts later than this after the first attempt.
        pause_seconds: before the first retry; the next ones are longer.
    """

    connect_seconds: float = 10
    request_seconds: float = 90
    retries: int = 10
    retry_seconds: float = 120
    pause_seconds: float = 0.2


PATIENCE: Final = Patience()


class Bucket:
    """The objects below a prefix in a bucket, each named by its path below the prefix.

    Every method raises `StoreError` if the store refuses, or does not answer in time.

    Args:
        prefix: taken literally; empty for the whole bucket.
        environment: see `access_to`. obstore itself asks for the credentials of a web identity, of
            a container's or an instance's role.
        patience: how long to wait.

    Raises:
        ConfigurationError: the prefix cannot be a path, or a variable cannot be used.
    """

    def __init__(
        self, name: str, prefix: str, environment: Mapping[str, str], patience: Patience
    ) -> None:
        self._access = access = access_to(name, environment)
        try:
            with _catch_panics():
                self._store = S3Store(
                    name,
                    prefix=prefix or None,
                    config=_config(access),
                    client_options=_client(access, patience),
                    retry_config={
                        "max_retries": patience.retries,
                        "retry_timeout": timedelta(seconds=patience.retry_seconds),
                        "backoff": {"init_backoff": timedelta(seconds=patience.pause_seconds)},
                    },
                    credential_provider=_credentials(access),
                )
        except (BaseError, OSError, ValueError) as error:
            unknown = "No CA certificates" in str(error)
            reason = no_authorities(environment) if unknown else reason_of(error)
            raise ConfigurationError(
                f"destination: s3://{name}/{prefix} cannot be used: {reason}"
            ) from None

    def reach(self) -> None:
        """Return if the store shows the bucket."""
        with self._store_errors("the bucket cannot be listed"):
            obstore.list_with_delimiter(self._store)

    def files(self, folder: str, witness: str) -> list[str]:
        """The paths of all objects below `folder`, sorted.

        A listing that is cut short, or a gateway's page, must not make the lake look smaller. So
        the listing is repeated from its last path until nothing follows. An empty listing counts
        only if the store lists the object `witness`, or says that it does not exist.
        """
        found: list[str] = []
        more = self._listed(folder)
        while more:
            found += more
            more = [path for path in self._listed(folder, found[-1]) if path > found[-1]]
        if not found and not self._lists(witness) and self.head(witness) is not None:
            raise StoreError(
                f"it lists nothing, but says that {witness} exists: is it an object store? Correct "
                "AWS_ENDPOINT_URL_S3, and repair the store"
            )
        return found

    def open(self, path: str) -> RemoteFile | None:
        """The object at `path`, read by ranges; None if there is none.

        After a wrong "not found" the caller would overwrite the object. So the listing must agree.
        """
        meta = self.head(path)
        if meta is None:
            if not self._lists(path):
                return None
            meta = self.head(path)  # another process may have put it there meanwhile
            if meta is None:
                raise StoreError(f"the store lists {path}, and says that it is not there")
        return RemoteFile(self, path, meta, READ_AHEAD)

    def head(self, path: str) -> "ObjectMeta | None":
        """Size and ETag of the object at `path`; None if there is none."""
        with self._store_errors(f"{path} cannot be looked up"):
            try:
                return obstore.head(self._store, path)
            except FileNotFoundError:
                return None

    def put(self, path: str, file: Path) -> None:
        """Upload a local file as `path`. Returns once the store has confirmed that it has it."""
        with self._store_errors(f"{path} cannot be uploaded"):
            sent = obstore.put(
                self._store, path, file, chunk_size=UPLOAD_BYTES, max_concurrency=UPLOADS
            )
        there = self._require_size(path, file)
        if _differ(sent["e_tag"], there["e_tag"]):
            raise StoreError(
                f"{path} has the ETag {there['e_tag']} in the store instead of {sent['e_tag']}; "
                "make sure that nothing else writes there"
            )

    def delete(self, path: str) -> None:
        """Delete the object at `path`."""
        with self._store_errors(f"{path} cannot be deleted"):
            obstore.delete(self._store, path)

    def move(self, source: str, path: str, file: Path) -> None:
        """Put the object `source` in the place of `path`, which readers see change at once.

        Args:
            source: was uploaded from `file`. It is gone afterwards, if these credentials may
                delete; if not, the next upload to it takes its place.
            path: is afterwards what `file` is, as the store shows it.
            file: a Parquet file, whose end tells it from any other one.
        """
        with self._store_errors(f"{path} cannot be replaced"):
            obstore.copy(self._store, source, path)
        self._require_size(path, file)
        end = min(END_BYTES, file.stat().st_size)
        with file.open("rb") as local:
            local.seek(-end, os.SEEK_END)
            if self.get(path, local.tell(), end) != local.read():
                raise StoreError(f"{path} has another content in the store than was uploaded")
        with suppress(StoreError):
            self.delete(source)

    def _require_size(self, path: str, file: Path) -> "ObjectMeta":
        """What the store says of `path`, which must be as long as `file`."""
        there, size = self.head(path), file.stat().st_size
        if there is None:
            raise StoreError(f"{path} was uploaded, but the store does not have it")
        if there["size"] != size:
            raise StoreError(f"{path} has {there['size']} bytes in the store instead of {size}")
        return there

    def get(self, path: str, start: int, length: int, e_tag: str | None = None) -> memoryview:
        """Bytes of the object at `path`.

        Args:
            start: where they begin.
            length: how many; all of them must be there.
            e_tag: which version of the object; None for any.
        """
        options: GetOptions = {"range": (start, start + length)}
        if e_tag is not None:
            options["if_match"] = e_tag
        with self._store_errors(f"{path} cannot be read"):
            found = memoryview(obstore.get(self._store, path, options=options).bytes())
        if len(found) != length:
            raise StoreError(f"{path} cannot be read: {len(found)} bytes came instead of {length}")
        return found

    def _lists(self, path: str) -> bool:
        """Whether the listing of its folder has the object."""
        with self._store_errors("the bucket cannot be listed"):
            folder = path.rpartition("/")[0]
            found = obstore.list_with_delimiter(self._store, folder or None)["objects"]
            return any(meta["path"] == path for meta in found)

    def _listed(self, folder: str, after: str | None = None) -> list[str]:
        """The paths of one listing, sorted; those after `after`, if the store knows how."""
        with self._store_errors("the bucket cannot be listed"):
            pages = obstore.list(self._store, folder, offset=after, chunk_size=1000)
            return sorted(meta["path"] for page in pages for meta in page)

    @contextmanager
    def _store_errors(self, what: str) -> Iterator[None]:
        """Raise errors of the client as `StoreError`, which begins with what failed."""
        try:
            with _catch_panics():
                yield
        except (BaseError, OSError) as error:
            reason = reason_of(error, self._access.proxy)
            if self._access.token:
                reason = reason.replace(self._access.token, "***")
            kind = Replaced if isinstance(error, PreconditionError) else StoreError
            raise kind(f"{what}: {reason}") from None


def _config(access: Access) -> "S3Config":
    """Where the store is. Objects are deleted one by one: not every store knows the other way."""
    config: S3Config = {
        "disable_bulk_delete": True,
        "region": access.region,
        "virtual_hosted_style_request": access.virtual,
    }
    if access.endpoint:
        config |= {"endpoint": access.endpoint, "aws_endpoint_url_s3": access.endpoint}
    return config


def _client(access: Access, patience: Patience) -> "ClientConfig":
    """How the store is asked. On this machine it is asked without a proxy."""
    client: ClientConfig = {
        "allow_http": access.endpoint.lower().startswith("http://"),
        "connect_timeout": timedelta(seconds=patience.connect_seconds),
        "timeout": timedelta(seconds=patience.request_seconds),
    }
    if access.authorities:
        client["root_certificate"] = access.authorities
    if access.on_loopback:
        client |= {"proxy_url": "http://localhost", "proxy_excludes": "*,0.0.0.0/0,::/0"}
    return client


def _credentials(access: Access) -> "Callable[[], S3Credential] | None":
    """What gives the client the keys that the user has set; None where a role does."""
    if access.keys is None:
        return None
    key, secret = access.keys
    credential: S3Credential = {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": access.token or None,
        "expires_at": None,
    }
    return lambda: credential


@contextmanager
def _catch_panics() -> Iterator[None]:
    """Raise a panic of the client as `StoreError`: it is no `Exception`, and would end the run."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StoreError(f"its client broke off ({error}): check the AWS variables") from None


def _differ(one: str | None, other: str | None) -> bool:
    """Whether two ETags name different contents; quotes and `W/` do not matter."""
    if one is None or other is None:
        return False
    return one.removeprefix("W/").strip('"') != other.removeprefix("W/").strip('"')
