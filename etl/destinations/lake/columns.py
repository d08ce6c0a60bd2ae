"""Audits as Arrow columns; the types are derived from the tables that `schema` declares.

The columns of `audit_events` without the organisation, which the folder's name tells, and with the
changes nested as lists of structs in the order of their position.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, chain, islice
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import sqlalchemy as sa
from msgspec.structs import astuple

from etl.database import schema
from etl.database.times import UtcTime
from etl.errors import SchemaBehind
from etl.records import Audit, EntityChange, PropertyChange

_TIME: Final = pa.timestamp("ms", tz="UTC")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SINCE: Final = pa.duration(_TIME.unit)
_OFFSET: Final = pa.int32()
_TEXTS: Final = pa.list_(pa.string())
_SHAPES: Final = {
    schema.TEXTS[schema.SHAPE]: _TEXTS,
    schema.TEXT_MAP[schema.SHAPE]: pa.map_(pa.string(), pa.string()),
}
#: What a child row says of its parent, which its place in the parent says already.
OF_PARENT: Final = {"organization", "event_id", "position", "event_date"}
#: The version of the columns, in each file's metadata.
VERSION_KEY: Final = b"audit_etl.columns"
VERSION: Final = 1


def _type_of(column: sa.Column[object]) -> pa.DataType:
    shape = column.info.get(schema.SHAPE)
    if shape is not None:
        return _SHAPES[shape]
    if isinstance(column.type, UtcTime):
        return _TIME
    if isinstance(column.type, sa.Boolean):
        return pa.bool_()
    return pa.string()


def _fields(table: sa.Table, without: set[str]) -> list[pa.Field]:
    return [
        pa.field(column.name, _type_of(column), nullable=bool(column.nullable))
        for column in table.c
        if column.name not in without
    ]


def _changes(table: sa.Table) -> pa.DataType:
    return pa.list_(pa.struct(_fields(table, OF_PARENT)))


PROPERTY_CHANGES: Final = "property_changes"
ENTITY_CHANGES: Final = "entity_changes"

#: The columns of every file that is written.
COLUMNS: Final = pa.schema(
    [
        *_fields(schema.audit_events, {"organization"}),
        pa.field(PROPERTY_CHANGES, _changes(schema.audit_property_changes)),
        pa.field(ENTITY_CHANGES, _changes(schema.audit_entity_changes)),
    ],
    metadata={VERSION_KEY: str(VERSION).encode()},
)
#: What orders the rows of a file, and tells two audits apart.
KEY: Final = ("event_date", "id")


def table_of(audits: Sequence[Audit], loaded_at: datetime) -> pa.Table:
    """The rows of `audits`, in their order."""
    plans = _plans(audits, _OF_AUDITS)
    arrays = _columns(plans, _made(_wanted(plans)))
    loaded = pa.repeat(pa.scalar(loaded_at, _TIME), len(audits))
    arrays.insert(COLUMNS.get_field_index(_LOADED_AT), loaded)
    return pa.Table.from_arrays(arrays, schema=COLUMNS)


class _Wanted(NamedTuple):
    """An array that a column takes."""

    kind: pa.DataType
    values: Sequence[Any]


class _Plan(NamedTuple):
    """A column to be made: the arrays that it takes, and what makes it of them."""

    wanted: Sequence[_Wanted]
    column: Callable[..., pa.Array]


class _Making(NamedTuple):
    """How a column is made of its values, and their places among all values of the objects."""

    places: slice
    kind: pa.DataType
    plan: Callable[[Sequence[Any], pa.DataType], _Plan]


def _making(field: pa.Field, of: type[msgspec.Struct]) -> _Making:
    plan = _plain
    if field.name == _RAW:
        plan = _utf8
    elif field.name in _CHILDREN:
        child = _CHILDREN[field.name]
        members = list(field.type.value_type)
        plan = partial(_lists, members, [_making(member, child) for member in members])
    elif field.type == _TIME:
        plan = _times
    elif pa.types.is_map(field.type):
        plan = _maps
    names = of.__struct_fields__
    return _Making(slice(names.index(field.name), None, len(names)), field.type, plan)


def _plans(objects: Iterable[msgspec.Struct], makings: Iterable[_Making]) -> list[_Plan]:
    """A column by each of `makings`.

    All values of one object after the other: to go through the objects again for each column takes
    twice as long.
    """
    values: list[Any] = []
    for of_one in map(astuple, objects):
        values += of_one
    return [making.plan(values[making.places], making.kind) for making in makings]


def _wanted(plans: Iterable[_Plan]) -> list[_Wanted]:
    """The arrays that all of the columns take, in their order."""
    return [wanted for plan in plans for wanted in plan.wanted]


def _made(wanted: Sequence[_Wanted]) -> Iterator[pa.Array]:
    """The arrays that are wanted, in their order.

    Those of one type are cut from one array: to make one, Python's lock is given up and taken again
    twice, and other threads wait for it.
    """
    alike: dict[pa.DataType, list[int]] = {}
    for number, (kind, _) in enumerate(wanted):
        alike.setdefault(kind, []).append(number)
    arrays: dict[int, pa.Array] = {}
    for kind, numbers in alike.items():
        values: list[Any] = []
        for number in numbers:
            values += wanted[number].values
        together = pa.array(values, kind)
        start = 0
        for number in numbers:
            size = len(wanted[number].values)
            arrays[number] = together.slice(start, size)
            start += size
    return map(arrays.__getitem__, range(len(wanted)))


def _columns(plans: Iterable[_Plan], arrays: Iterator[pa.Array]) -> list[pa.Array]:
    """The columns that are planned, of the arrays that `_wanted` tells, made."""
    return [plan.column(*islice(arrays, len(plan.wanted))) for plan in plans]


def _plain(rows: Sequence[Any], kind: pa.DataType) -> _Plan:
    """Whatever Arrow makes of the values."""
    return _Plan([_Wanted(kind, rows)], lambda array: array)


def _utf8(rows: Sequence[bytes], kind: pa.DataType) -> _Plan:  # noqa: ARG001 - it is text
    """Texts that are UTF-8 already, none of them null: Arrow would look at each byte again."""

    def column(offsets: pa.Array) -> pa.Array:
        texts = pa.py_buffer(b"".join(rows))
        _, begin = offsets.buffers()
        return pa.StringArray.from_buffers(len(rows), begin, texts, offset=offsets.offset)

    return _Plan([_offsets(rows)], column)


def _offsets(rows: Iterable[Sized]) -> _Wanted:
    """Where each of `rows` begins among what all of them hold, and where the last one ends."""
    return _Wanted(_OFFSET, list(accumulate(map(len, rows), initial=0)))


def _lists(
    members: list[pa.Field],
    makings: list[_Making],
    rows: Sequence[Sequence[msgspec.Struct]],
    kind: pa.DataType,
) -> _Plan:
    """A list of structs for each row."""
    plans = _plans(chain.from_iterable(rows), makings)

    def column(offsets: pa.Array, *arrays: pa.Array) -> pa.Array:
        values = pa.StructArray.from_arrays(_columns(plans, iter(arrays)), fields=members)
        return pa.ListArray.from_arrays(offsets, values, type=kind)

    return _Plan([_offsets(rows), *_wanted(plans)], column)


def _maps(rows: Sequence[dict[str, str | None] | None], kind: pa.DataType) -> _Plan:
    """Maps: Arrow would make a pair of each member, and look at that.

    If some are null it may: to find their places here would take as long.
    """
    maps = [row for row in rows if row is not None]
    if len(maps) < len(rows):
        return _plain(rows, kind)
    keys = _Wanted(kind.key_type, list(chain.from_iterable(maps)))
    items = _Wanted(kind.item_type, list(chain.from_iterable(map(dict.values, maps))))
    return _Plan([_offsets(maps), keys, items], partial(pa.MapArray.from_arrays, type=kind))


def _times(rows: Sequence[datetime], kind: pa.DataType) -> _Plan:
    """Times in UTC, none of them null: of each Arrow would ask its zone, and what it is there."""
    since = _Wanted(_SINCE, [row - _EPOCH for row in rows])
    return _Plan([since], lambda array: array.view(kind))


_RAW: Final = schema.audit_events.c.raw.name
_LOADED_AT: Final = schema.audit_events.c.loaded_at.name
_CHILDREN: Final[dict[str, type[msgspec.Struct]]] = {
    PROPERTY_CHANGES: PropertyChange,
    ENTITY_CHANGES: EntityChange,
}
_OF_AUDITS: Final = [_making(field, Audit) for field in COLUMNS if field.name != _LOADED_AT]


def require_known(columns: pa.Schema, path: str) -> None:
    """Make sure that nothing of a file is lost by writing its rows again.

    Raises:
        SchemaBehind: a newer program wrote it, or another one, with columns that this one does not
            know.
    """
    version = int((columns.metadata or {}).get(VERSION_KEY, b"1"))
    if version > VERSION:
        raise SchemaBehind(
            f"{path} has columns of version {version}, this program writes {VERSION}: upgrade it"
        )
    unknown = [name for name in columns.names if name not in COLUMNS.names]
    if unknown and set(KEY) <= set(columns.names):  # else it is no file of audits
        raise SchemaBehind(
            f"{path} has columns that this program does not know and would drop: "
            f"{', '.join(unknown)}; upgrade audit-etl, or move the file out of the lake"
        )


def lacking(columns: pa.Schema) -> list[str]:
    """The columns of today that a file does not have; they read as null."""
    return [name for name in COLUMNS.names if name not in columns.names]


def conformed(table: pa.Table) -> pa.Table:
    """A table of an older file with today's columns; one that it lacks is null."""
    if table.schema.equals(COLUMNS):
        return table
    arrays = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in COLUMNS
    ]
    return pa.Table.from_arrays(arrays, schema=COLUMNS)
