"""Files for their owner alone: audits hold personal data."""

import errno
import logging
import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from etl.errors import ConfigurationError, DestinationUnavailable

_LOG = logging.getLogger(__name__)

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

#: How the names of files end that SQLite keeps beside a database's.
_BESIDE: Final = ("-wal", "-shm", "-journal")


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file, made if it is missing, and let nobody but this user read it; the descriptor.

    A file that was open to others is made private, which a warning says.

    Raises:
        DestinationUnavailable: the file, pipe or device, or the link that leads to it, is another
            user's.
        OSError: it cannot be opened.
    """
    _require_own_link(path)
    if path.exists():
        _require_own(path, path.stat())  # before opening: that would wait for a pipe's other end
    descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
        _require_own(path, found)
        if stat.S_ISREG(found.st_mode):
            _close_to_others(path, descriptor, found.st_mode)
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_private(path: Path) -> None:
    """Make an SQLite database's file if it is missing, and let nobody but this user read it.

    A file that is there is opened by SQLite alone: to close it again would drop the locks of every
    connection that this process has to it. Another process then deletes its journal, and what is
    committed afterwards is lost.

    Raises:
        ConfigurationError: there is something else than a database, which stays as it is.
        DestinationUnavailable: see `open_private`; or so is what SQLite keeps beside it.
        OSError: it cannot be made, or may not be read and written.
    """
    _require_own_link(path)
    file = path.resolve()
    for ending in _BESIDE:
        _make_private_if_there(file.with_name(file.name + ending))
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = file.stat()
        _require_own(path, found)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        if not os.access(file, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        if not _is_database(file):
            raise ConfigurationError(
                f"{path.absolute()} is no SQLite database, and stays as it is: name another file, "
                "or one that does not exist yet"
            ) from None
        _close_to_others(path, file, found.st_mode)


def _make_private_if_there(beside: Path) -> None:
    """Return if SQLite may write audits there, and believe what it finds there."""
    try:
        found = beside.lstat()
    except FileNotFoundError:
        return
    _require_own(beside, found)
    if not stat.S_ISREG(found.st_mode):
        raise DestinationUnavailable(
            f"{beside} is no file, where SQLite keeps what it has yet to write: remove it"
        )
    _close_to_others(beside, beside, found.st_mode)


def _is_database(file: Path) -> bool:
    """Whether SQLite takes it for one, an empty file too; nothing beside it is looked at."""
    if not stat.S_ISREG(file.stat().st_mode):
        return False
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            opened.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode != sqlite3.SQLITE_NOTADB
    return True


def _require_own_link(path: Path) -> None:
    if path.is_symlink():
        _require_own(path, path.lstat())


def _require_own(path: Path, found: os.stat_result) -> None:
    """Return if it is ours; what root has made is taken too, for some mounts show it so.

    This process's own output is accepted too: a pipe or a terminal may belong to another user.
    """
    if found.st_uid in {os.geteuid(), 0} or _is_output(found):
        return
    raise DestinationUnavailable(
        f"{path.absolute()} belongs to another user (uid {found.st_uid}), who may read what is "
        "written there: run as that user, remove it, or chown it to this one"
    )


def _is_output(found: os.stat_result) -> bool:
    with suppress(OSError):  # it may be closed
        return not stat.S_ISREG(found.st_mode) and os.path.samestat(found, os.fstat(1))
    return False


def _close_to_others(path: Path, file: Path | int, mode: int) -> None:
    if not mode & _OTHERS:
        return
    try:
        os.chmod(file, stat.S_IMODE(mode) & ~_OTHERS)  # noqa: PTH101 - or a descriptor
    except OSError as error:
        _LOG.warning(
            "%s is open to other users and cannot be made private (%s): move it to a folder of "
            "this user's own",
            path.absolute(),
            error.strerror,
        )
        return
    _LOG.warning("%s was open to other users: it is now for its owner only", path.absolute())
