"""A schedule's settings, and the schedules of whoever sets none."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from etl.config import values
from etl.config.organizations import FROZEN
from etl.config.shown import shown
from etl.model import BACKFILL, MANUAL

Duration = Annotated[timedelta, BeforeValidator(values.duration)]


class Schedule(BaseModel):
    """One line of `[[schedules]]`."""

    model_config = FROZEN

    name: Annotated[str, AfterValidator(values.name)] = Field(
        description=f"What receipts call the schedule; any name but {BACKFILL} and {MANUAL}."
    )
    cron: str = Field(
        default="",
        description="When it fires, always in UTC: minute, hour, day of the month, month, and day "
        "of the week by name.",
    )
    interval: Annotated[timedelta | None, BeforeValidator(values.interval)] = Field(
        default=None,
        validate_default=True,
        description="How often it fires, in place of cron: at whole multiples of this length since "
        "1970-01-01 UTC.",
    )
    lookback: Duration = Field(
        description="How much loaded time it asks for again, to pick up late arrivals."
    )
    early: bool = Field(
        default=False,
        description="The daemon also loads, when it fires, what the realtime query shows of time "
        "that no window has asked for yet; a window confirms it later. Into SQL only.",
    )

    @field_validator("name")
    @classmethod
    def _own_name(cls, name: str) -> str:
        if name in {BACKFILL, MANUAL}:
            raise ValueError(f"{name!r} is what other receipts are called; choose another")
        return name

    @field_validator("cron")
    @classmethod
    def _fires(cls, cron: str) -> str:
        return values.cron(cron, [schedule.cron for schedule in SCHEDULES]) if cron else cron

    @field_validator("interval")
    @classmethod
    def _one_of_the_two(cls, interval: timedelta | None, info: ValidationInfo) -> timedelta | None:
        cron = info.data.get("cron")
        if cron is not None and bool(cron) == (interval is not None):  # None is reported as wrong
            raise ValueError("must be set if cron is not, and left out if cron is set")
        return interval

    def shown(self) -> Iterator[tuple[str, str]]:
        """The lookback by its dotted key, and what else of the schedule is set."""
        for key, value in self:
            if key == "lookback" or (key != "name" and value):
                yield f"schedules.{self.name}.{key}", shown(value)


SCHEDULES: Final = (
    Schedule.model_construct(name="frequent", cron="*/15 * * * *", lookback=timedelta(hours=1)),
    Schedule.model_construct(name="settle", cron="17 3 * * *", lookback=timedelta(days=3)),
    Schedule.model_construct(name="reconcile", cron="41 4 * * sun", lookback=timedelta(days=14)),
)
