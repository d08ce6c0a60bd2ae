"""The kinds of destination: a URL becomes a `Place`. The only module that knows which there are.

A new kind is a folder next to this file, a line in `KINDS`, and a run of the contract suite.
"""

from importlib import import_module
from typing import Final, cast

from etl.database import urls
from etl.destinations.place import Place

#: How the URL of each kind is written, and the folder whose module `place` has its `Place`.
KINDS: Final = {
    **dict.fromkeys(urls.FORMS, "sql"),
    "parquet:///FOLDER": "lake",
    "parquet+s3://BUCKET/PREFIX": "lake",
}
_FOLDERS: Final = dict.fromkeys(urls.DRIVERS, "sql") | {
    form.partition("://")[0]: folder for form, folder in KINDS.items()
}


def kind_of(url: str) -> type[Place]:
    """The kind of destination that `url`, one of `canonical`, names."""
    folder = _FOLDERS[url.partition("://")[0]]
    return cast(type[Place], import_module(f"etl.destinations.{folder}.place").PLACE)


def canonical(text: str) -> str:
    """The URL that `text` means, if audits can go there.

    Raises:
        ValueError: they cannot; the message repeats no part that may be a secret.
    """
    scheme, rest = urls.parted(text, _FOLDERS, KINDS)
    return kind_of(f"{scheme}://").canonical(scheme, rest)
