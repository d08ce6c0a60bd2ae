"""What processes are called as holders of leases, and which of them are dead."""

import os
import socket
from pathlib import Path
from typing import Final

#: A holder's name has so many parts; 0.1.0 wrote the first three.
_PARTS: Final = 5
#: The longest host name that is written whole: a holder's name has 255 characters at most.
_HOST_LENGTH: Final = 128


def this_process() -> str:
    """A holder's name that no other process has.

    The host's name, the process's number and when it started, and what makes these its own: the
    boot of the kernel and the space of process numbers, which each container has of its own.
    """
    pid = os.getpid()
    host = socket.gethostname().replace("/", "_")[:_HOST_LENGTH]
    return f"{host}/{pid}/{_started(pid)}/{_boot()}/{_pid_space()}"


def holder_name(holder: str) -> str:
    """A holder's name as a sentence has it."""
    parts = holder.split("/")
    return f"process {parts[1]} on {parts[0]}" if len(parts) >= 3 else holder


def is_dead(holder: str) -> bool:
    """Whether `holder` was a process whose number would be seen here, and is no more.

    Of a process of another container, whatever its host's name, of an earlier boot, or where the
    system does not tell, that is not known: its lease expires.
    """
    parts = holder.split("/")
    if len(parts) != _PARTS or not all(parts) or parts[3:] != [_boot(), _pid_space()]:
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _started(pid) not in {"", parts[2]}


def _boot() -> str:
    """Which boot of which kernel this is; empty where that is not known."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _pid_space() -> str:
    """The space that process numbers are counted in; empty where that is not known."""
    try:
        numbered = str(Path("/proc/self").readlink())
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return space if numbered == str(os.getpid()) else ""  # else /proc is another space's


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot; empty where that is not known."""
    stat = _read(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""  # field 22 of proc(5)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
