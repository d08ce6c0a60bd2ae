"""The pages of one query: how large they are asked for, and whether they come to an end."""

from hashlib import blake2b
from typing import Final

#: Page sizes are halved down to here at first: the vendor's default, known to be served.
SIZE_FLOOR: Final = 25
#: So many pages in a row without anything new are the last that are read of a query.
BARREN_PAGES_MAX: Final = 100
#: No query has more: at the documented 300 requests a minute they take more than five hours.
PAGES_MAX: Final = 100_000


class PageSize:
    """How many audits a page of one query is asked for: fewer once it has to be, never more again.

    An organisation says that a page is too large; a gateway before it only fails, and so does
    everything when the organisation is down. What it is, a page of a single audit shows.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._asked = size

    def __str__(self) -> str:
        return str(self._size)

    def after(self, failures: int) -> int:
        """What to ask for after so many failures of a page that its size may explain.

        The first is taken for a blip. From the second on a single audit is asked for by turns.
        """
        probing = failures >= 2 and failures % 2 == 0
        self._asked = 1 if probing else self._size
        return self._asked

    def served(self) -> bool:
        """What was asked for last came. If only a single audit did, pages are halved from here."""
        alone = self._asked < self._size
        if alone:
            self._halve()
        return alone

    def refused(self) -> bool:
        """What was asked for last is too large; whether there is anything smaller."""
        if self._asked == 1:
            return False
        self._halve()
        return True

    def _halve(self) -> None:
        half = self._size // 2
        self._size = max(half, SIZE_FLOOR) if self._size > SIZE_FLOOR else half


class PageSequence:
    """The pages of one query so far, and whether they can come to an end."""

    def __init__(self) -> None:
        self._cursors: set[bytes] = set()
        self._contents: set[int] = set()
        self._barren = 0

    def add(self, records: tuple[bytes, ...]) -> None:
        """Note what a page holds, or a part of its download.

        Two pages with the same records are the same, in whatever order. Three traits tell that
        well enough; a digest of all records would take as long as cutting them out.
        """
        content = hash((len(records), min(records), max(records))) if records else 0
        if records and content not in self._contents:
            self._contents.add(content)
            self._barren = -1

    def flaw(self, cursor: str) -> str | None:
        """Why the query must not be followed to `cursor`; None if it may.

        A source may give a new cursor each time and still go round in circles. The pages show
        that. A few pages without anything new are normal.
        """
        digest = blake2b(cursor.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._cursors:
            return "gave the same cursor twice and would never end"
        self._cursors.add(digest)
        self._barren += 1
        if self._barren >= BARREN_PAGES_MAX:
            return f"gave {self._barren} pages in a row without anything new, and more would follow"
        if len(self._cursors) >= PAGES_MAX:
            return f"gave {PAGES_MAX} pages, and more would follow"
        return None
