"""An answer's body cut into records, each as the bytes that were received.

A body that is no page must never pass for one: what is read as the last page of a query decides
that a window is complete.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from etl.records.lenient import Number, Scanner
from etl.wire import CANCELLED, FAILED, QUEUED, RUNNING

#: Members of a page of results and of its large sibling (status 302), by the vendor's contract.
_RESULTS: Final = frozenset({"id", "pageSize", "cursor", "entities", "downloadUrl"})
#: Members of a page of the realtime query.
_REALTIME: Final = frozenset({"entities", "pageSize", "pageNumber", "total", "pageCount"})
#: Members of an error body; a page has none of them.
_OF_ERRORS: Final = ("code", "message", "error", "errors")
_UNFINISHED: Final = (QUEUED, RUNNING, FAILED, CANCELLED)
#: Where the records of a page begin, if it is written as usual.
_ENTITIES: Final = re.compile(rb'"entities"\s*:\s*\[')


class Page(msgspec.Struct, frozen=True):
    """One answer of a query's results.

    Attributes:
        records: each audit's JSON, as received.
        cursor: where the next page starts; None on the last page.
        download_url: where a result that is too large for an answer lies (status 302). It holds a
            signature: show it to nobody.
        has_list: whether it had a list of records at all, be it an empty one.
    """

    records: tuple[bytes, ...]
    cursor: str | None = None
    download_url: str | None = None
    has_list: bool = True


class _Answer(NamedTuple):
    """A JSON object.

    Attributes:
        records: the elements of the list `entities`; None if there is no such list.
        members: its members by name, without that list.
    """

    records: tuple[bytes, ...] | None
    members: Mapping[str, Any]


class _WithRecords(msgspec.Struct):
    entities: list[msgspec.Raw]


_WITH_RECORDS: Final = msgspec.json.Decoder(_WithRecords)


def split(body: bytes) -> Page:
    """Cut an answer of the realtime query into its records; there is no cursor.

    Raises:
        ValueError: the body is not JSON in UTF-8, or is no page of audits. The message is a reason
            for the operator, and quotes nothing of the body.
    """
    answer = _answer(body)
    _require_no_error(answer.members)
    if answer.records is None and not _is_empty_realtime(answer.members):
        raise ValueError("a JSON object without a list of audits (`entities`)")
    return Page(answer.records or ())


def split_results(body: bytes, query_id: str, *, first: bool) -> Page:
    """Cut a page of results into its records.

    A cursor that is absent, null or empty is None: the vendor's sign for the last page.

    Args:
        query_id: whose results were asked for.
        first: whether the first page was. Only that one may lack its list, if it is a page in all
            else: an empty result may be written so.

    Raises:
        ValueError: as `split`; or it is another query's page, says a thing twice, or has no cursor
            and says that more pages follow.
    """
    answer = _answer(body)
    members = answer.members
    _require_no_error(members)
    _require_of_query(members, query_id)
    page = Page(
        answer.records or (),
        _text(members, "cursor"),
        _text(members, "downloadUrl"),
        answer.records is not None,
    )
    if not page.has_list and not page.download_url and not (first and _is_bare_page(members)):
        raise ValueError("a JSON object without a list of audits (`entities`)")
    if page.cursor is None and _says_more(members):
        raise ValueError("no cursor, although more pages are said to follow")
    return page


def _require_no_error(members: Mapping[str, Any]) -> None:
    if any(members.get(name) for name in _OF_ERRORS):
        raise ValueError("an error in the place of a page")
    status = members.get("status")
    if isinstance(status, Number) and float(status) >= 400:
        raise ValueError("an error in the place of a page")
    if members.get("state") in _UNFINISHED or status in _UNFINISHED:
        raise ValueError("the state of a query in the place of a page")


def _require_of_query(members: Mapping[str, Any], query_id: str) -> None:
    """Without an id it has to be a page of results in all else, not one of the realtime query."""
    name = _text(members, "id")
    if name is None and not members.keys() <= _RESULTS:
        raise ValueError("no id of a query, and members that no page of results has")
    if name is not None and name != query_id:
        raise ValueError("the page of another query")


def _is_bare_page(members: Mapping[str, Any]) -> bool:
    named = isinstance(members.get("id"), str) and isinstance(members.get("pageSize"), Number)
    return named and members.keys() <= _RESULTS and members.get("entities") is None


def _is_empty_realtime(members: Mapping[str, Any]) -> bool:
    known = members.keys() <= _REALTIME and isinstance(members.get("pageNumber"), Number)
    return known and members.get("entities") is None and members.get("total") in (None, "0")


def _says_more(members: Mapping[str, Any]) -> bool:
    """Whether a page says so in another way than the contract's, as other operations do."""
    if members.get("nextUri"):
        return True
    number, count = members.get("pageNumber"), members.get("pageCount")
    if not isinstance(number, Number) or not isinstance(count, Number):
        return False
    return float(number) < float(count)


def _answer(body: bytes) -> _Answer:
    """The JSON object in `body`, however odd its texts are.

    The records are cut out by the typed decoder, which is ten times as fast as the scanner. But it
    takes the last of two members of one name, and looks at no text that it steps over.
    """
    answer = _cut_fast(body) or _scanned(body)
    _require_an_object(answer.records or ())
    return answer


def _cut_fast(body: bytes) -> _Answer | None:
    """None if the body has no list of records, or is not written as usual."""
    try:
        records = tuple(map(bytes, _WITH_RECORDS.decode(body).entities))
        rest = _scanned(_without(body, records))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if rest.records != ():
        return None
    for record in records:
        if not record.isascii():
            record.decode()  # what is not UTF-8 is no page
    return _Answer(records, rest.members)


def _without(body: bytes, records: Iterable[bytes]) -> bytes:
    """The body with an empty list of records; empty if they do not stand there as usual."""
    found = _ENTITIES.search(body)
    if found is None:
        return b""
    lengths = [len(record) for record in records]
    end = found.end() + sum(lengths) + max(0, len(lengths) - 1)
    return body[: found.end()] + body[end:] if body[end : end + 1] == b"]" else b""


def _require_an_object(records: tuple[bytes, ...]) -> None:
    """A value among them that is no object is a reject; nothing but such values is no page."""
    if records and not any(record.startswith(b"{") for record in records):
        raise ValueError("none of its records is a JSON object")


def _scanned(body: bytes) -> _Answer:
    scanner = Scanner(iter((body,)))
    members: dict[str, Any] = {}
    records: tuple[bytes, ...] | None = None
    scanner.expect("{")
    while not scanner.comes("}"):
        name = scanner.name()
        if name in members or (name == "entities" and records is not None):
            raise ValueError("a JSON object that has a member twice")
        if name == "entities" and scanner.comes("["):
            records = tuple(_elements(scanner))
        else:
            members[name], _ = scanner.value()
        if not scanner.comes("}"):
            scanner.expect(",")
    scanner.expect("}")
    scanner.end()
    return _Answer(records, members)


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or (isinstance(value, str) and not isinstance(value, Number)):
        return value or None
    raise ValueError(f"`{name}` is not a text")


def split_array(chunks: Iterator[bytes], size: int) -> Iterator[Page]:
    """Cut a bulk download, one JSON array in `chunks`, into pages of `size` records.

    The last page may hold fewer; an empty array gives no page. Memory holds one page and one
    chunk, whatever the size of the file.

    Raises:
        ValueError: what the chunks hold is not one whole JSON array in UTF-8, such as a file cut
            short, or holds no objects.
    """
    scanner = Scanner(chunks)
    records: list[bytes] = []
    for record in _elements(scanner):
        records.append(record)
        if len(records) == size:
            yield _page_of(records)
            records = []
    scanner.end()
    if records:
        yield _page_of(records)


def _page_of(records: Iterable[bytes]) -> Page:
    page = Page(tuple(records))
    _require_an_object(page.records)
    return page


def _elements(scanner: Scanner) -> Iterator[bytes]:
    scanner.expect("[")
    if scanner.take("]"):
        return
    while True:
        yield scanner.value()[1]
        if scanner.take("]"):
            return
        scanner.expect(",")
