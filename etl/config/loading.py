"""A configuration, from the TOML file and the environment to settings that have been checked."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from etl.config.exposure import exposed
from etl.config.scheduling import Schedule
from etl.config.settings import Settings
from etl.config.sources import (
    CONFIG_VARIABLE,
    ORGANIZATION_KEYS,
    RENAMED,
    TOP_KEYS,
    Document,
    Given,
    Key,
    Layer,
    document_layer,
    environment_layer,
    organization_names,
    read_document,
    vendor_layer,
)
from etl.config.values import BLANKS, nearest, text_of
from etl.errors import ConfigurationError
from etl.resources import resource_path

_LOG = logging.getLogger(__name__)

EXAMPLE: Final = "audit-etl.toml"


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The configuration: the defaults, what a TOML file says, and what variables override.

    A file with a secret in it that everybody on this machine can read is warned of.

    Args:
        path: the TOML file; None: the one that AUDIT_ETL_CONFIG names, else none at all.
        environment: the process's variables; an empty one is not set.

    Raises:
        ConfigurationError: a line for each thing that is wrong, with where it stands.
    """
    named = environment.get(CONFIG_VARIABLE, "")
    path = path or (Path(named) if named else None)
    document = read_document(path) if path else None
    layers = _layers(document, environment)
    given = {key: setting for layer in layers for key, setting in layer.given.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    values = {key: _read(setting) for key, setting in given.items()}
    problems += [
        f"{_place(key, given, document)}: {value.why}"
        for key, value in values.items()
        if isinstance(value, _Unread)
    ]
    tree = _tree(values, organization_names(document))
    origins = {".".join(key): setting.origin for key, setting in given.items()}
    try:
        settings = Settings.model_validate(tree, context=origins)
    except ValidationError as error:
        problems += [
            _problem(detail, given, document)
            for detail in error.errors(include_url=False)
            if not isinstance(detail["input"], _Unread)
        ]
        raise _refusal(problems) from None
    if problems:
        raise _refusal(problems)
    for name, file in exposed(given, values, document):
        _LOG.warning("%s: everybody on this machine can read the file %s: chmod o-r it", name, file)
    return settings


@dataclass(frozen=True)
class _Unread:
    """Stands for a value that could not be read, which has been reported."""

    why: ValueError


def _read(setting: Given) -> object:
    try:
        return _value(setting)
    except ValueError as error:
        return _Unread(error)


def example() -> str:
    """The commented example: every key with its default."""
    return (resource_path("config") / EXAMPLE).read_text(encoding="utf-8")


def _layers(document: Document | None, environment: Mapping[str, str]) -> list[Layer]:
    """The sources, each overriding those before it."""
    lowest = document_layer(document) if document else Layer()
    names = organization_names(document)
    highest = environment_layer(environment, names)
    names += [key[1] for key in highest.given if len(key) == 3]
    return [lowest, vendor_layer(environment, names), highest]


def _value(setting: Given) -> object:
    """What a setting is given as, from its file if it names one.

    Raises:
        ValueError: the file cannot be read; the message says why.
    """
    if not setting.in_file:
        return setting.value
    if not isinstance(setting.value, str):
        raise ValueError("must be the path of a file, as text")  # noqa: TRY004 - one kind to catch
    path = setting.value
    # A secret that was set where its file's path belongs must not be shown.
    shown = f"the file {path}" if "/" in path or "." in path else "the file that it names"
    try:
        text = text_of(Path(path).read_bytes()).strip(BLANKS)
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{shown} cannot be read: {error}") from None
    if not text:
        raise ValueError(f"{shown} is empty")
    return text


def _tree(values: Mapping[Key, object], organizations: Iterable[str]) -> dict[str, object]:
    """`values` nested as the settings are, with a table for each of `organizations`."""
    tables: dict[str, dict[str, object]] = {name: {} for name in organizations}
    odd: dict[str, object] = {}
    tree: dict[str, object] = {}
    for key, value in values.items():
        if len(key) == 1:
            tree[key[0]] = value
        elif len(key) == 2:
            odd[key[1]] = value
        else:
            tables.setdefault(key[1], {})[key[2]] = value
    return {"organizations": {**tables, **odd}} | tree


def _refusal(problems: list[str]) -> ConfigurationError:
    return ConfigurationError("\n".join(dict.fromkeys(problems)))


def _problem(detail: ErrorDetails, given: Mapping[Key, Given], document: Document | None) -> str:
    key = tuple(str(part) for part in detail["loc"] if part != "[key]")
    return f"{_place(key, given, document)}: {_in_words(detail, key)}"


def _place(key: Key, given: Mapping[Key, Given], document: Document | None) -> str:
    """Where `key` was given, or what it is a part of, or else a part of it."""
    dotted = ".".join(key)
    above = [given[key[:n]] for n in range(len(key), 0, -1) if key[:n] in given]
    below = [setting for inner, setting in given.items() if inner[: len(key)] == key]
    source = next(iter(above + below), None)
    if source is not None and source.variable:
        return source.variable if key in given else f"{source.variable}: {dotted}"
    if document is not None and (source is not None or key[0] in document.tables):
        return document.place(key)
    return dotted


_WORDS: Final = {
    "missing": "must be set",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table, such as [organizations.default]",
    "model_type": "must be a table, such as [organizations.default]",
    "literal_error": "must be hour, day or month",
}


def _in_words(detail: ErrorDetails, key: Key) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden" and (new := _new_name(key)):
        return new
    if kind == "extra_forbidden":
        return f"no such setting; did you mean {_nearest_key(key)}?"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    return _WORDS.get(kind, detail["msg"])


def _new_name(key: Key) -> str | None:
    """What became of a setting of 0.1.0; None if it had none of this name."""
    name, suffix = key[-1].removesuffix("_file"), "_file" if key[-1].endswith("_file") else ""
    if len(key) == 1 and name in RENAMED:
        return f"is called {RENAMED[name]}{suffix} since 0.2.0"
    if key[0] == "schedules" and name == "jitter":
        return (
            "is not a setting since 0.2.0: a daemon spreads its requests by its budget; delete it"
        )
    return None


def _nearest_key(key: Key) -> str:
    """The key that exists and is most like `key`, which does not, among those of its table."""
    organization = {field: field for field in ORGANIZATION_KEYS if field != "client_secret"}
    organization["client_secret_file"] = "client_secret_file"
    if key[0] == "schedules":
        return nearest(key[-1], Schedule.model_fields)
    if key[0] == "organizations":
        return nearest(key[-1], organization)
    right = {field: field for field in (*TOP_KEYS, "organizations")}
    right |= {field: f"organizations.default.{field}" for field in organization}
    return right[nearest(key[-1], right)]
