"""Records, answers and bytes as no vendor should send them, made by chance for the fuzz tests."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st

from tests.support.samples import DOWNLOADED, record

#: For tests that write or send: to make a failure smaller, they would do so for minutes.
ROUGH = tuple(phase for phase in Phase if phase is not Phase.shrink)

Path = tuple[str | int, ...]

#: An audit as the API shows it, and as the bulk download does.
SHAPES: tuple[dict[str, Any], ...] = (
    record("an-id"),
    DOWNLOADED | {"id": "an-id", "eventTime": "2026-03-01T00:00:00.000Z"},
)

#: Any code point, lone surrogates and NUL among them.
texts = st.text(st.characters(), max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def nested(depth: int) -> str:
    """JSON of lists in lists, and of objects in objects, so many deep."""
    return "[" * depth + '{"a":' * depth + "1" + "}" * depth + "]" * depth


def _written(value: Any, *, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only)


#: JSON that decoders disagree on, or that a database might refuse.
CURIOSITIES = [
    "NaN",
    "-Infinity",
    "1e999999",
    "-0.0",
    "9" * 5000,
    "0." + "3" * 400,
    '"\\u0000"',
    '"\x00"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\x01\x1f\x7f\x85"',
    '"\\/\\b\\f"',
    '"\\N\\."',
    '"\ufeff\u202e\u2066\ufffe\U0010ffff"',
    '{"a": 1, "a": [2], "": null}',
    '{"\\u0000": "\\u0000", "\\ud800": {}}',
    *(f'"{instant}"' for instant in (
        "0001-01-01T00:00:00+23:59",
        "0999-12-31T23:59:59.999Z",
        "1000-01-01T00:00:00+14:00",
        "1001-01-01T00:00:00+23:59",
        "9998-12-31T23:59:59.999999-23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-02-30T00:00:00Z",
        "2026-03-01T23:59:60Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T00:00:00.1234567890123Z",
        "2026-03-01T00:00:00+05:30:15.5",
        "2026-W10-1",
        "20260301T000000",
        "-2026-03-01T00:00:00Z",
        "+12026-03-01T00:00:00Z",
    )),
    *(f'"{"é" * size}"' for size in (255, 256, 513, 3000, 70_000)),
    *map(nested, (50, 200, 400, 3000)),
]  # fmt: skip

#: One JSON value as text, now and then text that is none.
fragments = st.one_of(
    st.builds(_written, values, ascii_only=st.booleans()),
    st.sampled_from(CURIOSITIES),
    st.sampled_from(["", "{", "]", '"', "nul", "01", "'a'"]),
)
valid_fragments = st.one_of(
    st.builds(_written, values, ascii_only=st.booleans()), st.sampled_from(CURIOSITIES[:-1])
)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of each member and element below `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


def written(value: Any, instead: Mapping[Path, str], path: Path = ()) -> str:
    """JSON of `value`, with the texts of `instead` in the place of what lies at their paths."""
    if path in instead:
        return instead[path]
    if isinstance(value, dict):
        inner = (f"{json.dumps(k)}: {written(v, instead, (*path, k))}" for k, v in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return f"[{', '.join(written(v, instead, (*path, n)) for n, v in enumerate(value))}]"
    return json.dumps(value, ensure_ascii=False)


@st.composite
def mutated(
    draw: st.DrawFn, shapes: tuple[Any, ...], fragments: st.SearchStrategy[str] = fragments
) -> str:
    """JSON of one of `shapes` in which some members, however deep, are something else."""
    shape = draw(st.sampled_from(shapes))
    places = st.sampled_from(list(paths(shape)))
    text = written(shape, draw(st.dictionaries(places, fragments, max_size=4)))
    if draw(st.booleans()):
        return text
    member = st.tuples(st.sampled_from(list(shape)) | texts, fragments)
    more = (f"{json.dumps(name)}: {value}, " for name, value in draw(st.lists(member, max_size=2)))
    return "{" + "".join(more) + text[1:]


@st.composite
def renamed(draw: st.DrawFn) -> str:
    """A mutated record with an id of its own, odd at times."""
    odd = st.sampled_from(["A", "a", "á", "a\x01", "a ", "é" * 255])
    names = st.one_of(texts, st.uuids().map(str), odd)
    shapes = tuple(shape | {"id": draw(names)} for shape in SHAPES)
    return draw(mutated(shapes, valid_fragments))


def in_bytes(text: str) -> bytes:
    """UTF-8 of it, with what UTF-8 does not allow where the text has a lone surrogate."""
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """The text as bytes, a few of them others, cut out or doubled."""
    body = in_bytes(text)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 9)))
        body = body[:start] + draw(st.binary(max_size=4)) + body[end:]
    return body


records = mutated(SHAPES).flatmap(damaged)
