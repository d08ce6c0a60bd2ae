"""Audits as Arrow columns; the types are derived from the tables that `schema` declares.

The columns of `audit_events` without the organisation, which the folder's name tells, and with the
changes nested as lists of structs in the order of their position.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import sqlalchemy as sa
from msgspec.structs import astuple

from etl import schema
from etl.errors import SchemaBehind
from etl.records import Audit, EntityChange, PropertyChange

_TIME: Final = pa.timestamp("ms", tz="UTC")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_TEXTS: Final = pa.list_(pa.string())
_SHAPES: Final = {
    schema.TEXTS[schema.SHAPE]: _TEXTS,
    schema.TEXT_MAP[schema.SHAPE]: pa.map_(pa.string(), pa.string()),
}
#: What a child row says of its parent, which its place in the parent says already.
_OF_PARENT: Final = {"organization", "event_id", "position"}
#: The version of the columns, in each file's metadata.
VERSION_KEY: Final = b"audit_etl.columns"
VERSION: Final = 1


def _type_of(column: sa.Column[object]) -> pa.DataType:
    shape = column.info.get(schema.SHAPE)
    if shape is not None:
        return _SHAPES[shape]
    if isinstance(column.type, schema.UtcTime):
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
    return pa.list_(pa.struct(_fields(table, _OF_PARENT)))


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
    arrays = _arrays(audits, _OF_AUDITS)
    loaded = pa.repeat(pa.scalar(loaded_at, _TIME), len(audits))
    arrays.insert(COLUMNS.get_field_index(_LOADED_AT), loaded)
    return pa.Table.from_arrays(arrays, schema=COLUMNS)


class _Making(NamedTuple):
    """How a column is made of objects that have a value for it each; looked up once.

    Attributes:
        places: of its values among all values of the objects.
        array: makes the column of all values and the type.
    """

    places: slice
    kind: pa.DataType
    array: Callable[[Sequence[Any], pa.DataType], pa.Array]


def _making(field: pa.Field, of: type[msgspec.Struct]) -> _Making:
    array = pa.array
    if field.name == _RAW:
        array = _utf8
    elif field.name in _CHILDREN:
        child = _CHILDREN[field.name]
        members = list(field.type.value_type)
        array = partial(_lists, members, [_making(member, child) for member in members])
    elif field.type == _TIME:
        array = _times
    elif pa.types.is_map(field.type):
        array = _maps
    names = of.__struct_fields__
    return _Making(slice(names.index(field.name), None, len(names)), field.type, array)


def _arrays(objects: Iterable[msgspec.Struct], makings: Iterable[_Making]) -> list[pa.Array]:
    """A column by each of `makings`.

    All values of one object after the other: to go through the objects again for each column takes
    twice as long.
    """
    values = list(chain.from_iterable(map(astuple, objects)))
    return [made.array(values[made.places], made.kind) for made in makings]


def _utf8(rows: Sequence[bytes], kind: pa.DataType) -> pa.Array:  # noqa: ARG001 - it is text
    """Texts that are UTF-8 already, none of them null: Arrow would look at each byte again."""
    _, offsets = _offsets(rows).buffers()
    return pa.StringArray.from_buffers(len(rows), offsets, pa.py_buffer(b"".join(rows)))


def _offsets(rows: Iterable[Sized]) -> pa.Array:
    """Where each of `rows` begins among what all of them hold, and where the last one ends."""
    return pa.array(accumulate(map(len, rows), initial=0), pa.int32())


def _lists(
    members: list[pa.Field],
    makings: list[_Making],
    rows: Sequence[Sequence[msgspec.Struct]],
    kind: pa.DataType,
) -> pa.Array:
    """A list of structs for each row."""
    arrays = _arrays(chain.from_iterable(rows), makings)
    values = pa.StructArray.from_arrays(arrays, fields=members)
    return pa.ListArray.from_arrays(_offsets(rows), values, type=kind)


def _maps(rows: Sequence[dict[str, str | None] | None], kind: pa.DataType) -> pa.Array:
    """Maps: Arrow would make a pair of each member, and look at that.

    If some are null it may: to find their places here would take as long.
    """
    maps = [row for row in rows if row is not None]
    if len(maps) < len(rows):
        return pa.array(rows, kind)
    keys = pa.array(list(chain.from_iterable(maps)), kind.key_type)
    items = pa.array(list(chain.from_iterable(map(dict.values, maps))), kind.item_type)
    return pa.MapArray.from_arrays(_offsets(maps), keys, items, kind)


def _times(rows: Sequence[datetime], kind: pa.DataType) -> pa.Array:
    """Times in UTC, none of them null: of each Arrow would ask its zone, and what it is there."""
    since = pa.array([row - _EPOCH for row in rows], pa.duration(_TIME.unit))
    return since.view(kind)


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
        SchemaBehind: a newer program wrote it, with columns that this one does not know.
    """
    version = int((columns.metadata or {}).get(VERSION_KEY, b"1"))
    if version > VERSION:
        raise SchemaBehind(
            f"{path} has columns of version {version}, this program writes {VERSION}: upgrade it"
        )


def lacking(columns: pa.Schema) -> list[str]:
    """The columns of today that a file does not have; they read as null."""
    return [name for name in COLUMNS.names if name not in columns.names]


def conformed(table: pa.Table) -> pa.Table:
    """A table of an older file with today's columns.

    A column that it lacks is null, one that is no longer declared is left out.
    """
    if table.schema.equals(COLUMNS):
        return table
    arrays = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in COLUMNS
    ]
    return pa.Table.from_arrays(arrays, schema=COLUMNS)
