"""The audits of a log that are visible now, as the active faults show them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from etl.simulator.faults import Faults, strikes
from etl.simulator.log import AuditLog
from etl.simulator.record_faults import any_on, twin, with_faults

_HOUR_MS: Final = timedelta(hours=1) // timedelta(milliseconds=1)
#: Late audits are late by so many different lengths.
_LATENESSES: Final = 97


class LogView:
    """A log as an organisation with `faults` shows it at one moment.

    A position below zero stands for the twin of the audit at `~position`.

    Args:
        log: what was written.
        faults: what is wrong with it.
        now_ms: the organisation's time, milliseconds since 1970.
        began_ms: when the simulator started, by the same clock.
    """

    def __init__(self, log: AuditLog, faults: Faults, now_ms: int, began_ms: int) -> None:
        self._log = log
        self._faults = faults
        self._now_ms = now_ms
        self._born_ms = began_ms + faults.new_service_after * 1000

    def has(self, service: str) -> bool:
        """Whether the organisation has that service yet."""
        return service != self._faults.new_service or self._now_ms >= self._born_ms

    def between(self, start_ms: int, end_ms: int, services: Iterable[str] | None) -> Sequence[int]:
        """Positions of what can be asked for now, in order; see `AuditLog.between`."""
        if self._faults.forget_days:
            start_ms = max(start_ms, self._now_ms - self._faults.forget_days * 24 * _HOUR_MS)
        return self.visible(self._log.between(start_ms, end_ms, services))

    def visible(self, positions: Sequence[int]) -> Sequence[int]:
        """Those of `positions` that can be asked for now."""
        log, faults = self._log, self._faults
        positions = log.visible(positions, self._now_ms)
        if faults.new_service:
            silent = set(log.between(0, self._born_ms, [faults.new_service]))
            positions = array("q", (p for p in positions if p not in silent))
        if faults.late_every:
            positions = array("q", (p for p in positions if self._in_time(p)))
        return positions

    def with_twins(self, positions: Sequence[int]) -> Sequence[int]:
        """`positions`, and after all of them the twins of those that have one."""
        if not self._faults.twin_every:
            return positions
        return array("q", [*positions, *(~p for p in positions if self._has_twin(p))])

    def forms(self, position: int) -> list[bytes]:
        """Every form in which the audit at `position` is shown: its own, and its twin's."""
        twins = [~position] if self._has_twin(position) else []
        return [self.one(p) for p in [position, *twins]]

    def one(self, position: int) -> bytes:
        """The record at `position`."""
        own = position if position >= 0 else ~position
        record = with_faults(self._faults, own + 1, self._log.one(own))
        return record if position >= 0 else twin(record)

    def text(self, positions: Sequence[int]) -> bytes:
        """The records at `positions`, with commas between them."""
        if not any_on(self._faults) and not self._faults.twin_every:
            return self._log.text(positions)
        return b",".join(map(self.one, positions))

    def _has_twin(self, position: int) -> bool:
        return strikes(self._faults, "twin_every", position + 1)

    def _in_time(self, position: int) -> bool:
        if not strikes(self._faults, "late_every", position + 1):
            return True
        longest_ms = self._faults.late_hours * _HOUR_MS
        late_ms = longest_ms * (1 + position * 31 % _LATENESSES) // _LATENESSES
        return self._now_ms >= self._log.event_ms(position) + late_ms
