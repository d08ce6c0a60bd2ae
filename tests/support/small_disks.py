"""Small disks of a test's own: a file system in memory, mounted where only the test sees it."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A small file system, seen by whoever enters its name space, and from outside at `seen`.

    Args:
        folder: where it is mounted.
        holder: the process that keeps it.
    """

    def __init__(self, folder: Path, holder: int) -> None:
        self._holder = holder
        self._folder = folder
        self.seen = Path(f"/proc/{holder}/root{folder}")

    def entry(self, user: str | None = None) -> list[str]:
        """What a command begins with that runs where the disk is mounted, as that user."""
        entry = ["nsenter", f"--mount=/proc/{self._holder}/ns/mnt"]
        if user is None:
            return entry
        known = pwd.getpwnam(user)
        return [*entry, f"--setuid={known.pw_uid}", f"--setgid={known.pw_gid}"]

    def fill(self, leaving: int) -> None:
        """Leave so many bytes of it free."""
        with self._ballast.open("wb") as ballast:
            while (free := self._free() - leaving) > 0:
                ballast.write(bytes(min(free, 65536)))
                ballast.flush()

    def clear(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()

    def remount(self, options: str) -> None:
        """Mount it otherwise: `ro` lets nobody write, `rw` does."""
        command = ["mount", "-o", f"remount,{options}", str(self._folder)]
        subprocess.run([*self.entry(), *command], check=True)

    @property
    def _ballast(self) -> Path:
        return self.seen / "ballast"

    def _free(self) -> int:
        known = os.statvfs(self.seen)
        return known.f_bavail * known.f_frsize


@contextmanager
def small_disk(folder: Path, size: str, owner: str | None = None) -> Iterator[Disk]:
    """A disk of that size, mounted at `folder`, which is made; gone after the block."""
    folder.mkdir()
    options = f"size={size},mode=0700" + (f",uid={pwd.getpwnam(owner).pw_uid}" if owner else "")
    script = f"mount -t tmpfs -o {options} none {folder} && echo mounted && exec cat"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "mounted\n"
        try:
            yield Disk(folder, holder.pid)
        finally:
            holder.stdin.close()


def can_be_mounted() -> bool:
    """Whether this process may mount file systems in a name space of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
