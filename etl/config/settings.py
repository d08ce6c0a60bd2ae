"""What can be set, what it means and what it is if nobody sets it.

Each meaning is written once, here: the table in docs/settings.md, the example and the help are
made of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from etl.config import values
from etl.config.organizations import (
    DEFAULT,
    FROZEN,
    OrganizationSettings,
    Otherwise,
    require_credentials,
)
from etl.config.scheduling import SCHEDULES, Duration, Schedule
from etl.config.shown import shown
from etl.database import urls
from etl.destinations.kinds import KINDS, canonical, kind_of
from etl.errors import ConfigurationError, UsageError
from etl.window import WINDOW_MAX, WINDOW_MIN, floor_second, iso_utc

#: Where a value comes from that no source gave, and of a setting that has none.
BY_DEFAULT: Final = "default"
NOT_SET: Final = "not set"


class Settings(BaseModel):
    """The configuration in force; what it holds has been checked, but nothing was opened."""

    model_config = FROZEN

    destination: Annotated[str, AfterValidator(canonical)] = Field(
        default="sqlite:///audits.db",
        description=f"Where audits go, a URL: {', '.join(KINDS)}.",
    )
    ledger: Annotated[
        str,
        Otherwise(
            "the destination if it is SQL, sqlite:///<lake>/_state.db for a local lake, required "
            "for a remote one"
        ),
    ] = Field(
        default="",
        validate_default=True,
        description="Where watermarks, receipts and leases live: an SQLAlchemy URL.",
    )
    organizations: dict[Annotated[str, AfterValidator(values.name)], OrganizationSettings] = Field(
        default={}, description="The organisations, by name."
    )
    start: Annotated[datetime | timedelta, BeforeValidator(values.start)] = Field(
        default=timedelta(days=30),
        description="Where a new stream starts: a time (ISO 8601, in UTC unless it says "
        "otherwise), or a length of time before the first run. It starts earlier where a stream "
        "left off that had its services, such as `*`.",
    )
    lag: Duration = Field(
        default=timedelta(minutes=10),
        description="How close to now a window may end, since an audit cannot be queried at once.",
    )
    max_window: Duration = Field(
        default=WINDOW_MAX,
        description="The longest span of time that one query asks for, from 1m to 30d.",
    )
    schedules: Annotated[tuple[Schedule, ...], BeforeValidator(values.from_json)] = Field(
        default=SCHEDULES, description="What the daemon runs."
    )
    expand_user: bool = Field(
        default=True, description="Ask for the names of users; user_name stays empty without."
    )
    allow_redirect: bool = Field(
        default=False,
        description="Accept the bulk download that the organisation may offer for large results.",
    )
    partition: Literal["hour", "day", "month"] = Field(
        default="day", description="What one file of a lake holds: an hour, a day or a month."
    )
    concurrency: Annotated[int, BeforeValidator(values.concurrency)] = Field(
        default=8,
        description="How many organisations the daemon exports at once; the others wait for their "
        "turn. It opens at most 4 connections to the database, and 2 for each.",
    )
    max_behind: Duration = Field(
        default=timedelta(hours=6),
        description="A stream whose watermark is further behind is not ready, and alerted about.",
    )
    health_address: Annotated[str, AfterValidator(values.address)] = Field(
        default="127.0.0.1:9464",
        description="Where the daemon answers /healthz, /readyz and /metrics: HOST:PORT, or off.",
    )

    _given: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: object, /) -> None:
        """Keep the validation's context, which tells where each value came from."""
        if isinstance(context, Mapping):
            self._given = {str(key): str(origin) for key, origin in context.items()}

    @field_validator("ledger")
    @classmethod
    def _beside_the_destination(cls, ledger: str, info: ValidationInfo) -> str:
        destination = info.data.get("destination")
        if destination is None:  # it is wrong, and reported as such
            return ledger
        if not ledger:
            return kind_of(destination).default_ledger(destination)
        ledger = urls.ledger_url(ledger)
        if kind_of(destination).holds_ledger and ledger != destination:
            raise ValueError(
                "must be left out or equal the destination if that is SQL: audits and watermark "
                "are committed together"
            )
        return ledger

    @field_validator("organizations")
    @classmethod
    def _told_apart(
        cls, organizations: dict[str, OrganizationSettings]
    ) -> dict[str, OrganizationSettings]:
        if len({name.lower() for name in organizations}) < len(organizations):
            raise ValueError("has two names that differ in nothing but case")
        return organizations

    @field_validator("max_window")
    @classmethod
    def _within_limits(cls, max_window: timedelta) -> timedelta:
        if not WINDOW_MIN <= max_window <= WINDOW_MAX:
            raise ValueError("must be from 1m to 30d")
        return max_window

    @field_validator("schedules")
    @classmethod
    def _some_and_distinct(
        cls, schedules: tuple[Schedule, ...], info: ValidationInfo
    ) -> tuple[Schedule, ...]:
        if not schedules:
            raise ValueError("must hold a schedule; leave it out to have the default ones")
        if len({schedule.name for schedule in schedules}) < len(schedules):
            raise ValueError("has two schedules of one name")
        destination = info.data.get("destination", "")
        no_early = kind_of(destination).no_early if destination else ""
        for schedule in schedules if no_early else ():
            if schedule.early:
                raise ValueError(
                    f"{schedule.name}: early = true is not for this destination, since {no_early}; "
                    "leave it out"
                )
        return schedules

    def organization(self, name: str) -> OrganizationSettings:
        """The organisation `name`, with a region and credentials.

        Raises:
            ConfigurationError: there is no such organisation, or it cannot be asked yet.
        """
        if name not in self.organizations:
            self.require_credentials()
            names = ", ".join(self.organizations)
            raise ConfigurationError(f"there is no organisation {name!r}; there are: {names}")
        require_credentials({name: self.organizations[name]})
        return self.organizations[name]

    def of_organizations(self, names: Collection[str]) -> Self:
        """These settings with the named organisations alone; with all of them if none is named.

        Raises:
            UsageError: there is no such organisation.
        """
        for name in names:
            if name not in self.organizations:
                known = ", ".join(self.organizations) or "none, see `audit-etl check`"
                nearest = get_close_matches(name, self.organizations, n=1)
                hint = f"did you mean {nearest[0]}? Or one of: " if nearest else "there are: "
                raise UsageError(
                    f"--organization: there is no organisation {name!r} in the configuration; "
                    f"{hint}{known}"
                )
        if not names:
            return self
        chosen = {name: found for name, found in self.organizations.items() if name in names}
        return self.model_copy(update={"organizations": chosen})

    def require_credentials(self) -> None:
        """Return if there is an organisation, and each has a region and credentials.

        Raises:
            ConfigurationError: it says which variables or keys to set, one organisation a line.
        """
        require_credentials(self.organizations or {DEFAULT: OrganizationSettings()})

    def starts_at(self, now: datetime) -> datetime:
        """Where a stream starts that is new at `now`: a whole second, UTC."""
        start = self.start
        return floor_second(now - start if isinstance(start, timedelta) else start)

    def require_started(self, now: datetime) -> None:
        """Return if `start` is not later than `now`.

        Raises:
            ConfigurationError: it is, so there would be nothing to export, and all would look well.
        """
        if isinstance(self.start, datetime) and self.start > now:
            raise ConfigurationError(
                f"start: {iso_utc(self.start)} lies in the future, it is {iso_utc(now)} now: "
                "until then nothing would be exported. Set start (AUDIT_ETL_START) to an "
                "earlier time, or to a length of time (30d)"
            )

    @property
    def connections(self) -> int:
        """How many connections to the database are opened at most.

        Two for each organisation at work: one that loads, one that renews its lease. The others
        are for the daemon's own leases, for the health server and for one that hangs.
        """
        return 4 + 2 * self.concurrency

    @property
    def health_endpoint(self) -> tuple[str, int] | None:
        """The host and the port of `health_address`; None if it is off."""
        off = self.health_address == values.OFF
        return None if off else values.host_and_port(self.health_address)

    def rows(self) -> list[tuple[str, str, str]]:
        """Each dotted key with its value, secrets masked, and where that came from."""
        return [(key, text, self._origin(key, text)) for key, text in self._shown()]

    def __repr_args__(self) -> Iterable[tuple[str | None, str]]:
        return self._shown()

    def _origin(self, key: str, text: str) -> str:
        given = "schedules" if key.startswith("schedules.") else key
        return self._given.get(given, BY_DEFAULT if text else NOT_SET)

    def _shown(self) -> Iterator[tuple[str, str]]:
        for field in type(self).model_fields:
            if field == "organizations":
                yield from self._shown_organizations()
            elif field == "schedules":
                for schedule in self.schedules:
                    yield from schedule.shown()
            else:
                yield field, shown(dict(self)[field])

    def _shown_organizations(self) -> Iterator[tuple[str, str]]:
        if not self.organizations:
            yield "organizations", ""
        for name, organization in self.organizations.items():
            for key, value in organization:
                yield f"organizations.{name}.{key}", shown(value)


def setting_rows() -> list[tuple[str, str, str]]:
    """Each key that can be set, its default as text and its meaning, in the contract's order."""
    rows = []
    for key, field in Settings.model_fields.items():
        if key == "organizations":
            prefix = "organizations.NAME."
            rows += _described(prefix, OrganizationSettings.model_fields)
        elif key == "schedules":
            for part, inner in Schedule.model_fields.items():
                texts = [shown(dict(schedule)[part]) for schedule in SCHEDULES]
                default = ", ".join(dict.fromkeys(texts)) or NOT_SET
                rows.append((f"schedules.{part}", default, inner.description or ""))
        else:
            rows += _described("", {key: field})
    return rows


def _described(prefix: str, fields: Mapping[str, FieldInfo]) -> list[tuple[str, str, str]]:
    return [
        (prefix + key, _default_text(field), field.description or "")
        for key, field in fields.items()
    ]


def _default_text(field: FieldInfo) -> str:
    said = [marker.text for marker in field.metadata if isinstance(marker, Otherwise)]
    return said[0] if said else shown(field.default)
