"""What must hold of a command whose destination fails, and of the next one."""

import subprocess
from collections.abc import Sequence
from datetime import datetime

from etl.app import clock
from tests.support.commands import audit_etl
from tests.support.daemons import until
from tests.support.live_organization import Copy


def fails(*arguments: str, env: dict[str, str], says: str, entry: Sequence[str] = ()) -> None:
    """Run a command that the destination fails."""
    told(audit_etl(*arguments, env=env, entry=entry), says)


def ends(process: "subprocess.Popen[str]", says: str) -> None:
    """Wait for a command that the destination fails."""
    out, err = process.communicate(timeout=120)
    told(subprocess.CompletedProcess(process.args, process.returncode, out, err), says)


def told(result: "subprocess.CompletedProcess[str]", says: str) -> None:
    """Fail unless a command ended as one does whose destination is not available.

    Beside that line, only the lease may be spoken of that could not be given back.
    """
    assert result.returncode == 69, result.stderr
    *before, line = result.stderr.splitlines()
    assert line.startswith("audit-etl: ")
    assert says in line
    assert all("is not released, it ends by itself" in other for other in before)


def claims_nothing_false(copy: Copy) -> None:
    """Fail if the destination claims what it does not hold."""
    if copy.receipts:
        copy.keeps_its_promises()


def next_run(env: dict[str, str], entry: Sequence[str] = ()) -> datetime:
    """Run the same command without the fault; give until when it must have brought everything."""
    asked_at = clock().replace(microsecond=0)
    until(lambda: (clock() - asked_at).total_seconds() > 3, "the lag has passed")
    result = audit_etl("run", env=env, entry=entry)
    assert result.returncode == 0, result.stderr
    return asked_at


def next_run_completes(copy: Copy, env: dict[str, str]) -> None:
    """Fail unless all that was claimed is held, and the next run brings the rest."""
    claims_nothing_false(copy)
    assert copy.is_complete(next_run(env))
