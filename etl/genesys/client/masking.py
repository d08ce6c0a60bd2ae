"""Secrets cut out of texts of others, in whatever form they were quoted."""

import html
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

#: A shorter secret is masked where it stands as a word of its own: it may be a part of any text.
SHORT: Final = 8
#: No more of a text is kept: a few hundred characters are shown.
LENGTH_MAX: Final = 64 * 1024
#: How often a text may be escaped, one time over the other.
_TIMES: Final = 4
_MASK: Final = "***"

#: What a text may be escaped by: percents, JSON's and Python's backslashes, HTML's entities.
_ESCAPED: Final = re.compile(
    r"(?:%[0-9a-fA-F]{2})+|(?:\\u[0-9a-fA-F]{4})+|\\x[0-9a-fA-F]{2}|\\[\"'\\/bfnrt]"
    r"|&(?:#\d{1,32}|#[xX][0-9a-fA-F]{1,32}|[A-Za-z][A-Za-z0-9]{1,31});?"
)
#: What may be put between any two characters of a text without being seen.
_BETWEEN: Final = re.compile(r"[\s\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]+")


class _Reading(NamedTuple):
    """A text as somebody may read it, and where each of its characters begins and ends."""

    text: str
    begins: Sequence[int]
    ends: Sequence[int]


def mask(text: str, secret: str) -> str:
    """`text` with `***` for each quotation of `secret`, cut after `LENGTH_MAX` characters.

    One is found plain, with blanks and invisible characters in it, in other case, in base64 or
    hexadecimal digits, and escaped several times as in URLs, JSON or HTML.
    """
    text = text[:LENGTH_MAX]
    masked, done = "", 0
    for begin, end in sorted(_quotations(text, secret)) if secret else ():
        if end > done:
            masked += text[done:begin] + (_MASK if begin >= done else "")
            done = end
    return masked + text[done:]


def _quotations(text: str, secret: str) -> Iterator[tuple[int, int]]:
    closely, loosely = _pattern(secret), _loose_pattern(secret)
    reading = _Reading(text, range(len(text)), range(1, len(text) + 1))
    for _ in range(_TIMES):
        solid = _replaced(reading, _BETWEEN, lambda _: "")
        for seen, pattern in ((reading, closely), (solid, loosely)):
            for found in pattern.finditer(seen.text):
                yield seen.begins[found.start()], seen.ends[found.end() - 1]
        inner = _replaced(reading, _ESCAPED, _meaning)
        if inner.text == reading.text:
            return
        reading = inner


def _replaced(
    reading: _Reading, pattern: re.Pattern[str], meaning: Callable[[str], str]
) -> _Reading:
    """The reading with each match's meaning in its place."""
    parts: list[str] = []
    begins: list[int] = []
    ends: list[int] = []
    done = 0
    for found in pattern.finditer(reading.text):
        begin, end = found.span()
        means = meaning(found[0])
        parts += reading.text[done:begin], means
        begins += [*reading.begins[done:begin], *[reading.begins[begin]] * len(means)]
        ends += [*reading.ends[done:begin], *[reading.ends[end - 1]] * len(means)]
        done = end
    parts.append(reading.text[done:])
    return _Reading(
        "".join(parts), [*begins, *reading.begins[done:]], [*ends, *reading.ends[done:]]
    )


def _meaning(escaped: str) -> str:
    if escaped[0] == "%":
        return unquote(escaped)
    if escaped[0] == "&":
        return html.unescape(escaped)
    if escaped[1] == "u":
        return bytes.fromhex(escaped.replace("\\u", "")).decode("utf-16-be", "replace")
    if escaped[1] == "x":
        return chr(int(escaped[2:], 16))
    return " " if escaped[1] in "bfnrt" else escaped[1]


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    quoted = "".join(map(_any_form, secret))
    return re.compile(quoted if len(secret) >= SHORT else rf"(?<!\w){quoted}(?!\w)")


@lru_cache(maxsize=64)
def _loose_pattern(secret: str) -> re.Pattern[str]:
    """Of a secret in a text without blanks."""
    value = secret.encode(errors="replace")
    forms = [f"(?i:{value.hex()})", *map(_base64_behind, [value] * 3, range(3))]
    solid = _BETWEEN.sub("", secret)
    if len(solid) >= SHORT:
        forms.append(f"(?i:{re.escape(solid)})")
    return re.compile("|".join(forms) if len(value) >= SHORT else "(?!)")


def _base64_behind(value: bytes, others: int) -> str:
    """A pattern for base64 of `value` and whatever comes after so many other bytes."""
    digits = b64encode(bytes(others) + value).decode()
    whole = digits[-(-others * 8 // 6) : (others + len(value)) * 8 // 6]
    either = re.escape(whole).replace(r"\+", "[+-]").replace("/", "[/_]")
    shared = "[A-Za-z0-9+/_-]?"
    return f"{shared if others else ''}{either}{shared}={{0,2}}"


def _any_form(character: str) -> str:
    """A pattern for every way in which a character may be written, whatever those around it."""
    utf_8 = "".join(f"%{byte:02x}" for byte in character.encode(errors="replace"))
    utf_16 = character.encode("utf-16-be", "surrogatepass").hex()
    in_json = "".join(rf"\\u{utf_16[n : n + 4]}" for n in range(0, len(utf_16), 4))
    forms = [re.escape(character), f"(?i:{utf_8})", f"(?i:{in_json})"]
    if character in '"\\/':
        forms.append(re.escape(f"\\{character}"))
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(forms)})"
