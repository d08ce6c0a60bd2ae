"""Files that hold a secret and that everybody on this machine can read."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from etl.config.sources import Document, Given, Key
from etl.database.urls import masked


def exposed(
    given: Mapping[Key, Given], values: Mapping[Key, object], document: Document | None
) -> Iterator[tuple[str, str]]:
    """The settings in force that are secret and lie open, each with the path of its file.

    Args:
        given: each setting as its source gives it.
        values: the same with the content of a file in the place of its path.
        document: the TOML file, if there is one.
    """
    for key, setting in given.items():
        path = _path(setting, document)
        if path is not None and _is_secret(key, values[key]) and _is_open(path):
            yield ".".join(key), str(path)


def _path(setting: Given, document: Document | None) -> Path | None:
    if setting.in_file:
        return Path(str(setting.value))
    return Path(document.name) if document is not None and not setting.variable else None


def _is_secret(key: Key, value: object) -> bool:
    return key[-1] == "client_secret" or (isinstance(value, str) and masked(value) != value)


def _is_open(path: Path) -> bool:
    """Whether it is a file that all may read, in folders that all may pass."""
    try:
        mode = path.stat().st_mode
        above = [folder.stat().st_mode for folder in path.resolve().parents]
    except OSError:
        return False
    reachable = all(folder & stat.S_IXOTH for folder in above)
    return stat.S_ISREG(mode) and bool(mode & stat.S_IROTH) and reachable
