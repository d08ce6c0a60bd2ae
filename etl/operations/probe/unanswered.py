"""What could not be asked for, told without the organisation's words."""

import re
from collections.abc import Collection, Iterator

from etl.errors import AuditEtlError
from etl.genesys.client.failures import Refused
from etl.operations.probe.findings import Finding, finding
from etl.operations.probe.inquiry import NoneLeft


def refusal_text(error: AuditEtlError) -> str:
    """What an organisation refused, without its words: they may quote anything."""
    cause = error if isinstance(error, Refused) else error.__cause__
    if isinstance(cause, Refused):
        code = cause.refusal.code or ""
        return f"status {cause.refusal.status}" + (f" {code}" if _is_code(code) else "")
    return type(error).__name__


def failed(about: Collection[str], error: AuditEtlError | NoneLeft) -> Iterator[Finding]:
    """Findings that could not be made."""
    why = (
        "the probe has sent as many requests as it may"
        if isinstance(error, NoneLeft)
        else f"no answer: {refusal_text(error)}"
    )
    for name in about:
        yield finding(name, None, why)


def _is_code(text: str) -> bool:
    return re.fullmatch(r"[a-z]{2,20}(\.[a-z]{2,20}){1,6}", text) is not None
