"""Reading what a strict, typed decoder refuses, without losing a record.

Python's own decoder takes lone surrogates, control characters, NaN and integers of any length.
Numbers keep their text, so that no digit is lost.
"""

import codecs
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

#: No single value may be larger: it bounds the memory that a hostile download can take.
VALUE_BYTES_MAX: Final = 64 * 1024 * 1024
#: The reason to keep such a record aside.
TOO_DEEP: Final = "the record is nested too deep to be read"


class Number(str):
    """A JSON number, as its own text."""

    __slots__ = ()


DECODER: Final = json.JSONDecoder(
    strict=False, parse_int=Number, parse_float=Number, parse_constant=Number
)


class _Ended(ValueError):
    """There is no more text."""


class Scanner:
    """Walks through JSON text that arrives in chunks, one value at a time.

    Every method raises ValueError if the text is not what it is asked for, is not UTF-8, or ends
    too early.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._text = ""
        self._position = 0

    def take(self, character: str) -> bool:
        """Step over `character` if it comes next; tell whether it did."""
        if self._next_character() != character:
            return False
        self._position += 1
        return True

    def expect(self, character: str) -> None:
        """Step over `character`, which must come next."""
        if not self.take(character):
            raise ValueError(f"expected {character!r} in the JSON text")

    def comes(self, character: str) -> bool:
        """Tell whether `character` comes next, without stepping over it."""
        return self._next_character() == character

    def end(self) -> None:
        """Make sure that nothing but white space follows."""
        try:
            self._next_character()
        except _Ended:
            return
        raise ValueError("the JSON text goes on after its end")

    def name(self) -> str:
        """Step over the name of a member and its colon; give the name."""
        name, _ = self.value()
        self.expect(":")
        if isinstance(name, str) and not isinstance(name, Number):
            return name
        raise ValueError("a member of the JSON object has no name")

    def value(self) -> tuple[Any, bytes]:
        """Step over the value that comes next; give it, and its text as UTF-8."""
        self._next_character()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError:
                value, end = None, len(self._text)
            except RecursionError as error:
                raise ValueError("the JSON text is nested too deep") from error
            if end < len(self._text) and not self._goes_on(value, end):
                text = self._text[self._position : end]
                self._position = end
                return value, text.encode()
            self._grow()

    def _goes_on(self, value: object, end: int) -> bool:
        """Whether a number's next digits may still be on their way: `1.` is read as 1."""
        return isinstance(value, Number) and self._text[end] in ".eE"

    def _next_character(self) -> str:
        while True:
            while self._position < len(self._text):
                character = self._text[self._position]
                if character not in " \t\r\n":
                    return character
                self._position += 1
            self._grow()

    def _grow(self) -> None:
        """Take in as much again as is held, so that no value is read over and over in small steps.

        Less if the text ends before that, but something.
        """
        held = len(self._text) - self._position
        if held > VALUE_BYTES_MAX:
            raise ValueError("the JSON text is malformed, or holds a value that is too large")
        parts = [self._text[self._position :]]
        size = 0
        for chunk in self._chunks:
            parts.append(self._decode(chunk))
            size += len(chunk)
            if size >= held:
                break
        if len(parts) == 1:
            self._decode(b"", True)
            raise _Ended("the JSON text is malformed, or ends too early")
        self._text = "".join(parts)
        self._position = 0


def read_object(text: str) -> dict[str, Any]:
    """The members of the JSON object in `text`, however odd its texts and numbers are.

    Raises:
        ValueError: it is not a JSON object; the message is a reason for the operator.
    """
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError("the record is not JSON") from error
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    if isinstance(value, dict):
        return value
    raise ValueError("the record is not a JSON object")


def clean(text: str) -> str:
    """`text` with U+FFFD in place of each NUL and lone surrogate, which databases refuse."""
    cleaned = text.replace("\x00", "\ufffd")
    try:
        cleaned.encode()
    except UnicodeEncodeError:
        cleaned = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in cleaned)
    return cleaned


def as_text(value: object) -> str | None:
    """Any JSON value as a text: itself if it is one, None if null, else its JSON."""
    if value is None:
        return None
    return clean(value if isinstance(value, str) else to_json(value))


def as_name(value: object) -> str | None:
    """A JSON text, or a number as its text; None for any other value, which names nothing."""
    return clean(value) if isinstance(value, str) else None


def to_json(value: object) -> str:
    """JSON of a value that `DECODER` gave, its numbers as they were received."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        members = (f"{json.dumps(name)}: {to_json(member)}" for name, member in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return f"[{', '.join(to_json(element) for element in value)}]"
    return json.dumps(value, ensure_ascii=False)


def as_texts(value: object) -> tuple[str | None, ...] | None:
    """Any JSON value as texts: a list's elements, else the value alone."""
    if value is None:
        return None
    return tuple(map(as_text, value if isinstance(value, list) else [value]))


def as_text_map(value: object) -> dict[str, str | None] | None:
    """A JSON object as a map of texts; None for any other value."""
    if not isinstance(value, dict):
        return None
    return {clean(key): as_text(element) for key, element in value.items()}


def as_flag(value: object) -> bool | None:
    """A JSON boolean; None for any other value."""
    return value if isinstance(value, bool) else None


def as_instant(text: str | None) -> datetime | None:
    """An ISO 8601 text as an instant, UTC where it names no offset; None if it is none.

    Digits finer than microseconds are cut off, never rounded.
    """
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        try:
            instant = datetime.fromisoformat(text.upper())  # `t` and `z` are allowed as well
        except ValueError:
            return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
