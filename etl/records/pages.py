"""An answer's body cut into records, each as the bytes that were received."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from etl.records.lenient import Number, Scanner

#: The contract's members of a results answer, and of its large sibling (status 302).
_MEMBERS: Final = frozenset({"id", "pageSize", "cursor", "entities", "downloadUrl"})


class Page(msgspec.Struct, frozen=True):
    """One answer of a query's results.

    Attributes:
        records: each audit's JSON, as received.
        cursor: where the next page starts; None on the last page.
        download_url: where a result that is too large for an answer lies (status 302). It holds a
            signature: show it to nobody.
    """

    records: tuple[bytes, ...]
    cursor: str | None = None
    download_url: str | None = None


class _Envelope(msgspec.Struct):
    entities: list[msgspec.Raw] | None
    cursor: str | None = None
    downloadUrl: str | None = None  # noqa: N815 - the vendor's name


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def split(body: bytes) -> Page:
    """Cut a results answer into its records.

    A cursor that is absent, null or empty is None: the vendor's sign for the last page.

    Raises:
        ValueError: the body is not JSON, or not a page: no object, `entities` no list, or none of
            the contract's members in it. An error body or `{}` never passes for an empty page.
    """
    try:
        envelope = _ENVELOPE.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return _split_leniently(body)
    records = tuple(map(bytes, envelope.entities or ()))
    return Page(records, envelope.cursor or None, envelope.downloadUrl or None)


def _split_leniently(body: bytes) -> Page:
    """`split` for a body that the typed decoder refuses: no `entities`, a lone surrogate."""
    scanner = Scanner(iter((body,)))
    members: dict[str, Any] = {}
    records: tuple[bytes, ...] = ()
    scanner.expect("{")
    while not scanner.comes("}"):
        name, _ = scanner.value()
        scanner.expect(":")
        if name == "entities" and scanner.comes("["):
            records = tuple(_elements(scanner))
            members[name] = None
        else:
            members[name], _ = scanner.value()
        if not scanner.comes("}"):
            scanner.expect(",")
    if not members.keys() & _MEMBERS or members.get("entities") is not None:
        raise ValueError("a JSON object, but not a page of results")
    return Page(records, _text(members, "cursor"), _text(members, "downloadUrl"))


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or (isinstance(value, str) and not isinstance(value, Number)):
        return value or None
    raise ValueError(f"`{name}` is not a text")


def split_array(chunks: Iterator[bytes], size: int) -> Iterator[Page]:
    """Cut a bulk download, one JSON array in `chunks`, into pages of `size` records.

    The last page may hold fewer; an empty array gives no page. Memory holds one page and one
    chunk, whatever the size of the file.

    Raises:
        ValueError: what the chunks hold is not one whole JSON array, such as a file cut short.
    """
    records: list[bytes] = []
    for record in _elements(Scanner(chunks)):
        records.append(record)
        if len(records) == size:
            yield Page(tuple(records))
            records = []
    if records:
        yield Page(tuple(records))


def _elements(scanner: Scanner) -> Iterator[bytes]:
    scanner.expect("[")
    if scanner.take("]"):
        return
    while True:
        yield scanner.value()[1]
        if scanner.take("]"):
            return
        scanner.expect(",")
