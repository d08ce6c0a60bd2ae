"""A page is cut into records as they were received; what is no page never passes for one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.records import Page, read_records, split, split_array, split_results

#: Bodies that stand, in a 200, where a page should.
NO_PAGES: list[Any] = [
    {},
    [],
    None,
    {"message": "oops", "code": "internal.server.error", "status": 500},
    {"message": "oops", "id": "q"},
    {"id": "q", "state": "Running"},
    {"id": "q", "state": "Succeeded", "startDate": "2026-05-01T00:00:00Z"},
    {"id": "q", "entities": {}},
    {"id": "q", "entities": "none"},
    {"id": "q", "entities": [], "state": "Running"},
    {"id": "q", "entities": [{"id": "a"}], "status": "Failed"},
    {"id": "q", "entities": [], "message": "oops"},
    {"id": "q", "entities": [], "code": "internal.server.error"},
    {"id": "q", "entities": [], "status": 500},
    {"id": "q", "entities": [{"id": "a"}], "errors": [{"message": "some are missing"}]},
    {"id": "q", "entities": [None, 1, "a", []]},
    {"services": [{"name": "Quality", "entities": []}]},
    {"access_token": "a", "token_type": "bearer", "expires_in": 3600},
]
#: Bodies that are no page of the query that was asked for, although they might be of another one.
OTHERS: list[Any] = [
    {"id": "p", "pageSize": 500, "entities": [{"id": "a"}]},
    {"id": 5, "entities": []},
    {"id": {}, "entities": []},
    {"entities": [], "pageSize": 500, "pageNumber": 1, "total": 0, "pageCount": 0},
    {"id": "q", "entities": [{"id": "a"}], "cursor": 5},
    {"id": "q", "entities": [{"id": "a"}], "cursor": ["c"]},
    {"id": "q", "entities": [{"id": "a"}], "cursor": False},
    {"id": "q", "entities": [{"id": "a"}], "nextUri": "/api/v2/audits/query/q/results?page=2"},
    {"id": "q", "entities": [{"id": "a"}], "pageNumber": 1, "pageCount": 9},
]
#: A page without its list, in all the ways in which JSON may leave it out.
BARE: list[Any] = [
    {"id": "q", "pageSize": 500},
    {"id": "q", "pageSize": 500, "entities": None},
    {"id": "q", "pageSize": 500, "entities": None, "cursor": None},
]


def results(body: bytes, *, first: bool = False) -> Page:
    return split_results(body, "q", first=first)


def in_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_a_page_is_cut_into_its_records_as_received() -> None:
    page = results(b'{"entities":[{"a" : 1},{"b":2}],"cursor":"next","pageSize":2,"id":"q"}')

    assert page == Page((b'{"a" : 1}', b'{"b":2}'), "next")


@pytest.mark.parametrize(
    "body",
    [
        b'{"entities":[{"a":1},{"b":[1,2]}],"id":"q"}',
        b' { "entities" : [ {"a":1} , {"b":[1,2]} ] , "id" : "q" } \n',
        b'{"id":"q","entities":[{"a":1},\n{"b":[1,2]}]}',
        b'{"\\u0069d":"q","\\u0065ntities":[{"a":1},{"b":[1,2]}]}',
        b'{"x":{"entities":[{"n":1}]},"entities":[{"a":1},{"b":[1,2]}],"id":"q"}',
        b'{"id":"q","y":"\\"entities\\":[","entities":[{"a":1},{"b":[1,2]}],"x":["entities",[]]}',
        b'{"id":"q","x":"\\ud800","entities":[{"a":1},{"b":[1,2]}]}',
    ],
)
def test_records_are_found_wherever_they_stand_and_however_they_are_written(body: bytes) -> None:
    assert results(body).records == (b'{"a":1}', b'{"b":[1,2]}')


@pytest.mark.parametrize("cursor", ['"cursor":null,', '"cursor":"",', ""])
def test_a_cursor_that_is_absent_null_or_empty_ends_the_paging(cursor: str) -> None:
    assert results(f'{{{cursor}"entities":[]}}'.encode()).cursor is None


@pytest.mark.parametrize("page_id", ['"id":null,', '"id":"",', ""])
def test_a_page_need_not_tell_its_query(page_id: str) -> None:
    assert results(f'{{{page_id}"entities":[{{"a":1}}]}}'.encode()).records == (b'{"a":1}',)


def test_members_that_nobody_knows_yet_are_no_reason_to_refuse_a_page() -> None:
    body = {"id": "q", "entities": [{"a": 1}], "total": 5000, "pageCount": 1, "pageNumber": 1}

    assert results(in_json(body | {"errors": [], "x": {"state": "Running"}})).records


def test_a_lone_surrogate_in_one_record_costs_no_other() -> None:
    page = results(rb'{"id":"q","entities":[{"id":"\ud800"}, {"id":"b"}],"cursor":"c"}')

    assert (page.records, page.cursor) == ((rb'{"id":"\ud800"}', b'{"id":"b"}'), "c")


def test_a_value_that_is_no_object_is_kept_aside_if_others_are() -> None:
    page = results(b'{"id":"q","entities":[null,{"id":"b","eventDate":"2026-05-01T00:00:00Z"},7]}')

    batch = read_records(page.records)

    assert [audit.id for audit in batch.audits] == ["b"]
    assert [reject.raw for reject in batch.rejects] == [b"null", b"7"]


def test_a_large_result_s_answer_names_the_download() -> None:
    page = results(b'{"id":"q","pageSize":500,"cursor":"c","downloadUrl":"https://x/y?sig=1"}')

    assert (page.records, page.cursor, page.download_url) == ((), "c", "https://x/y?sig=1")


@pytest.mark.parametrize("body", BARE, ids=json.dumps)
def test_only_a_first_page_may_lack_its_list_and_says_so(body: Any) -> None:
    assert results(in_json(body), first=True) == Page((), has_list=False)
    with pytest.raises(ValueError, match="without a list"):
        results(in_json(body))


@pytest.mark.parametrize(
    "more", [{"state": "Succeeded"}, {"total": 0}, {"x": 1}, {"pageSize": None}, {"id": None}],
    ids=json.dumps,
)  # fmt: skip
def test_a_page_without_a_list_is_a_page_in_all_else(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"page|list"):
        results(in_json({"id": "q", "pageSize": 500} | more), first=True)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("body", NO_PAGES + OTHERS, ids=json.dumps)
def test_what_is_no_page_of_this_query_is_refused(body: Any, first: bool) -> None:
    for text in (in_json(body), json.dumps(body, indent=1).encode()):
        with pytest.raises(ValueError, match=r"page|list|record|JSON|text|query"):
            results(text, first=first)


@pytest.mark.parametrize("body", NO_PAGES, ids=json.dumps)
def test_what_is_no_page_is_refused_from_the_realtime_query_too(body: Any) -> None:
    with pytest.raises(ValueError, match=r"page|list|record|JSON"):
        split(in_json(body))


def test_an_empty_realtime_page_may_lack_its_list() -> None:
    page = {"pageSize": 500, "pageNumber": 1, "total": 0, "pageCount": 0}

    assert split(in_json(page)).records == ()
    assert split(in_json({"entities": [{"a": 1}]})).records == (b'{"a":1}',)
    with pytest.raises(ValueError, match="without a list"):
        split(in_json(page | {"total": 3}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"id":"q","entities":[{"id":"a"}',
        b'{"id":"q","entities":[{"id":"a"}]',
        b'{"id":"q","entities":[]}{"id":"q","entities":[{"id":"a"}]}',
        b'{"id":"q","entities":[]} x',
        b'{"id":"q","entities":[{"id":"a"}],"entities":[]}',
        b'{"id":"q","entities":[{"id":"a"}],"entities":[{"id":"b"}]}',
        b'{"id":"q","entities":[{"id":"a"}],"x":"\\ud800","entities":[]}',
        b'{"id":"q","entities":[{"id":"a"}],"entities":null}',
        b'{"id":"q","entities":[{"id":"a"}],"cursor":"c","cursor":null}',
        b'{"id":"p","id":"q","entities":[]}',
        b'{[1]:2,"entities":[]}',
        b'{5:2,"entities":[]}',
    ],
)
def test_text_that_is_not_one_json_object_or_says_a_thing_twice_is_no_page(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|twice"):
        results(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"q","entities":[{"id":"a","action":"\xff"}]}',
        b'{"id":"q","entities":[{"id":"a","action":"\xed\xa0\x80"}]}',
        b'{"id":"q", "entities": [ {"id":"a","action":"\xc3"} ] }',
        b'{"id":"q","x":"\xff","entities":[{"id":"a"}]}',
        b'{"id":"q","entities":[]}\xc3',
        '{"id":"q","entities":[]}'.encode("utf-16"),
        '{"id":"q","entities":[{"id":"ü"}]}'.encode("latin-1"),
    ],
)
def test_a_body_that_is_not_utf_8_is_no_page(body: bytes) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        results(body)
    with pytest.raises(ValueError, match="utf-8"):
        split(body)


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=20), st.integers(1, 50))
def test_a_download_is_cut_alike_however_its_bytes_arrive(
    records: list[dict[str, str]], size: int
) -> None:
    body = json.dumps(records, ensure_ascii=False).encode("utf-8", "replace")
    chunks = [body[n : n + size] for n in range(0, len(body), size)]

    pages = list(split_array(iter(chunks), 7))

    assert [len(page.records) for page in pages[:-1]] == [7] * (len(pages) - 1)
    found = [json.loads(record) for page in pages for record in page.records]
    assert found == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b'[{"a":1},', b'[{"a":1}', b'{"a":1}', b"[1 2]", b'[{"a":1}][{"b":2}]',
        b"[] []", b'[{"a":1}]x', b"[1, 2, null]", b'["a"]',
    ],
)  # fmt: skip
def test_a_download_that_is_not_one_whole_array_of_objects_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        list(split_array(iter([body]), 10))


@pytest.mark.parametrize("body", [b'[{"a":"\xff"}]', b'[{"a":1}]\xc3', b'[{"a":"\xed\xa0\x80"}]'])
def test_a_download_that_is_not_utf_8_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        list(split_array(iter([body[:6], body[6:]]), 10))
