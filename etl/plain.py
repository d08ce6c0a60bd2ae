"""Text of others made harmless to a terminal: the one home of that rule."""

import json


def plain(text: str) -> str:
    r"""`text` on one line, with JSON's escapes in place of whatever is not printable.

    Control characters, line breaks, directions of writing and lone surrogates come out as
    `\u001b`, `\n`, `\u202e` and the like. JSON stays the JSON that it was.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def plain_lines(text: str) -> str:
    """`text` of our own in several lines, each of them plain."""
    return "\n".join(map(plain, text.split("\n")))
