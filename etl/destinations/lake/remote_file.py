"""An object of a bucket as Arrow reads a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from etl.destinations.lake.store_errors import StoreError

if TYPE_CHECKING:
    from obstore import ObjectMeta

    from etl.destinations.lake.bucket import Bucket

_NOTHING: Final = memoryview(b"")


class RemoteFile:
    """An object as Arrow reads a file: by ranges, all of one version.

    Ranges of two versions must not be mixed. If another object takes its place, reading fails.

    Args:
        bucket: where it is.
        path: its path there.
        meta: what the store says of it; asked for at the first use if None.
        ahead: the least to ask for at once, and the most to keep for the next read.
    """

    closed = False

    def __init__(
        self, bucket: Bucket, path: str, meta: ObjectMeta | None = None, ahead: int = 0
    ) -> None:
        self._bucket = bucket
        self._path = path
        self._meta = meta
        self._ahead = ahead
        self._position = 0
        self._kept_at, self._kept = 0, _NOTHING

    @property
    def meta(self) -> ObjectMeta:
        """Size and ETag, as at the first use."""
        if self._meta is None:
            self._meta = self._bucket.head(self._path)
        if self._meta is None:
            raise StoreError(f"{self._path} is no longer there")
        return self._meta

    def readable(self) -> bool:
        """True, for Arrow."""
        return True

    def seekable(self) -> bool:
        """True, for Arrow."""
        return True

    def close(self) -> None:
        """Drop what was kept; nothing is open."""
        self._kept = _NOTHING

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Begin the next read elsewhere."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self.meta["size"]
        self._position = offset
        return offset

    def read(self, size: int = -1) -> memoryview:
        """The next bytes; fewer than `size` only at the end."""
        left = max(0, self.meta["size"] - self._position)
        size = left if size < 0 else min(size, left)
        start, self._position = self._position, self._position + size
        kept = self._kept_from(start)
        if len(kept) < size:
            kept = self._fetched(start, min(left, max(size, self._ahead)), kept)
            self._kept_at, self._kept = start, kept if len(kept) <= self._ahead else _NOTHING
        return kept[:size]

    def _kept_from(self, position: int) -> memoryview:
        """What was kept and begins at `position`; empty if that is elsewhere."""
        start = position - self._kept_at
        return self._kept[start:] if 0 <= start <= len(self._kept) else _NOTHING

    def _fetched(self, start: int, size: int, kept: memoryview) -> memoryview:
        """Bytes of the object, of which `kept` are the first."""
        e_tag = _pinned(self.meta["e_tag"])
        more = self._bucket.get(self._path, start + len(kept), size - len(kept), e_tag)
        return memoryview(kept.tobytes() + more.tobytes()) if len(kept) else more


def _pinned(e_tag: str | None) -> str | None:
    """The ETag that a request may insist on: never a weak one, which matches nothing."""
    return None if e_tag is None or e_tag.startswith("W/") else e_tag
