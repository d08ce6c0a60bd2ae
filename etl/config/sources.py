"""Where settings come from: a TOML file, and environment variables that override it.

Each source becomes a layer: what it gives, by key, and what is wrong with it. Files that `*_file`
settings name are not opened here, so that one which is overridden need not be there.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from etl.config.organizations import DEFAULT, VENDOR_VARIABLES, OrganizationSettings
from etl.config.settings import Settings
from etl.config.values import BLANKS, nearest, text_of
from etl.errors import ConfigurationError

PREFIX: Final = "AUDIT_ETL_"
CONFIG_VARIABLE: Final = "AUDIT_ETL_CONFIG"
#: What this project's own tests and benchmarks read.
_RESERVED: Final = ("AUDIT_ETL_TEST_", "AUDIT_ETL_BENCH_")

_ORGANIZATIONS: Final = "organizations"
#: Settings by the names that they had in 0.1.0.
RENAMED: Final = {"begin": "start", "behind_limit": "max_behind", "state": "ledger"}
TOP_KEYS: Final = tuple(key for key in Settings.model_fields if key != _ORGANIZATIONS)
ORGANIZATION_KEYS: Final = tuple(OrganizationSettings.model_fields)

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as its source gives it.

    Attributes:
        value: the value, or the path of the file that holds it.
        origin: how `Settings.rows` tells of it.
        variable: the variable's name; empty if it stands in the TOML file.
        in_file: whether `value` is such a path.
    """

    value: object = field(repr=False)
    origin: str
    variable: str = ""
    in_file: bool = False


@dataclass(slots=True)
class Layer:
    """What one source gives, by key, and its problems, one sentence each."""

    given: dict[Key, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, key: Key, given: Given, name: str) -> None:
        """Take a setting that the source calls `name`, unless it is empty, which is not set.

        Blanks around a text do not count: a carriage return comes with files from Windows.
        """
        if isinstance(given.value, str):
            given = replace(given, value=given.value.strip(BLANKS))
            if any("\ud800" <= character <= "\udfff" for character in str(given.value)):
                self.problems.append(f"{name}: is not UTF-8 text")
                return
        if given.value == "":
            return
        first = self.given.setdefault(key, given)
        if first is not given:
            dotted = ".".join(key)
            self.problems.append(
                f"{name}: {dotted} is set already by {first.origin}; keep one of them"
            )


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file as it was read.

    Attributes:
        name: its path, as it was given.
        tables: its content.
        lines: the line of each key and header, by dotted key, as far as a plain search finds it.
    """

    name: str
    tables: dict[str, object] = field(repr=False)
    lines: dict[str, int]

    def place(self, key: Key) -> str:
        """Where `key` stands, for a message."""
        dotted, line = ".".join(key), self.line(key)
        return f"{self.name}, line {line}: {dotted}" if line else f"{self.name}: {dotted}"

    def line(self, key: Key) -> int | None:
        """The line of `key`, of the file that holds its value, or of what it is a part of."""
        names = [".".join(key[:length]) for length in range(len(key), 0, -1)]
        candidates = [self.lines.get(name) for name in (names[0], f"{names[0]}_file", *names[1:])]
        return next((line for line in candidates if line), None)


def read_document(path: Path) -> Document:
    """The TOML file at `path`.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML; the message has the line.
    """
    try:
        text = text_of(path.read_bytes())
        tables: dict[str, object] = tomllib.loads(text.replace("\r\n", "\n"))
    except OSError as error:
        raise ConfigurationError(
            f"the configuration file {path} cannot be read: {error.strerror}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error}") from None
    return Document(str(path), tables, _line_numbers(text))


_HEADER: Final = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_SETTING: Final = re.compile(r"\s*([^=#]+?)\s*=")


def _line_numbers(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    seen: Counter[str] = Counter()
    header = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _HEADER.match(line):
            table = _bare(match[2])
            header = table
            if match[1] == "[[":
                header = f"{table}.{seen[table]}"
                seen[table] += 1
            lines.setdefault(table, number)
            lines.setdefault(header, number)
        elif match := _SETTING.match(line):
            key = _bare(match[1])
            lines.setdefault(f"{header}.{key}" if header else key, number)
    return lines


def _bare(key: str) -> str:
    """A TOML key without the quotes and the spaces around its dots."""
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def document_layer(document: Document) -> Layer:
    """What a TOML file gives; keys that do not exist are in it too, for the settings to refuse."""
    layer = Layer()
    for name, value in document.tables.items():
        if name != _ORGANIZATIONS or not isinstance(value, dict):
            _add_from_toml(layer, document, (name,), value)
            continue
        for organization, table in value.items():
            if not isinstance(table, dict):
                _add_from_toml(layer, document, (name, organization), table)
                continue
            for key, inner in table.items():
                _add_from_toml(layer, document, (name, organization, key), inner)
    return layer


def _add_from_toml(layer: Layer, document: Document, key: Key, value: object) -> None:
    if key[2:] == ("client_secret",) and value:
        layer.problems.append(
            f"{document.place(key)}: a secret does not belong in this file; set "
            f"{_variable(key)}, or client_secret_file to the path of a file that holds it"
        )
        return
    known = ORGANIZATION_KEYS if len(key) == 3 else TOP_KEYS
    base = key[-1].removesuffix("_file")
    if len(key) != 2 and base != key[-1] and base in known:
        origin = f"file named by {key[-1]} in {document.name}"
        given = Given(value, origin, in_file=True)
        layer.add((*key[:-1], base), given, document.place(key))
    else:
        layer.add(key, Given(value, document.name), document.place(key))


def organization_names(document: Document | None) -> list[str]:
    """The organisations that a TOML file names."""
    table = document.tables.get(_ORGANIZATIONS) if document else None
    return list(table) if isinstance(table, dict) else []


def environment_layer(environment: Mapping[str, str], organizations: list[str]) -> Layer:
    """What the variables that begin with AUDIT_ETL_ give.

    Args:
        organizations: the names that are known already; a variable's case does not matter.
    """
    layer = Layer()
    known = {name.lower(): name for name in organizations}
    for variable, value in environment.items():
        name = variable.upper()
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or name.startswith(_RESERVED):
            continue
        lower = name.removeprefix(PREFIX).lower()
        key, in_file = _key(lower, known), False
        if key is None and lower.endswith("_file"):
            key, in_file = _key(lower.removesuffix("_file"), known), True
        if key is None:
            layer.problems.append(f"{variable}: {_unknown(name)}")
        else:
            layer.add(key, _from_variable(variable, value, in_file=in_file), variable)
    return layer


def vendor_layer(environment: Mapping[str, str], organizations: list[str]) -> Layer:
    """What the vendor's variables give organisation `default`, if that or none is configured."""
    layer = Layer()
    known = {name.lower(): name for name in organizations}
    if known and DEFAULT not in known:
        return layer
    for variable, field_name in VENDOR_VARIABLES.items():
        key = (_ORGANIZATIONS, known.get(DEFAULT, DEFAULT), field_name)
        for name, in_file in ((variable, False), (f"{variable}_FILE", True)):
            given = _from_variable(name, environment.get(name, ""), in_file=in_file)
            layer.add(key, given, name)
    return layer


def _from_variable(variable: str, value: str, *, in_file: bool) -> Given:
    origin = f"file named by {variable}" if in_file else f"environment {variable}"
    return Given(value, origin, variable, in_file)


def _key(name: str, organizations: Mapping[str, str]) -> Key | None:
    """The key that a variable names, given in lower case without its prefix."""
    if name in TOP_KEYS:
        return (name,)
    if name.startswith(f"{_ORGANIZATIONS}__"):
        rest = name.removeprefix(f"{_ORGANIZATIONS}__")
        for key in ORGANIZATION_KEYS:
            organization = rest.removesuffix(f"__{key}")
            if organization and organization != rest:
                return (_ORGANIZATIONS, organizations.get(organization, organization), key)
    return None


def _variable(key: Key) -> str:
    return PREFIX + "__".join(key).upper()


#: Variables that Kubernetes gives each pod for a Service called `audit-etl` or `audit-etl-...`.
_SERVICE_LINK: Final = re.compile(
    r"AUDIT_ETL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP)(_\w+)?)"
)


def _unknown(name: str) -> str:
    if _SERVICE_LINK.fullmatch(name):
        return (
            "no such setting; it looks like a Kubernetes service link: set "
            "enableServiceLinks: false in the pod's spec"
        )
    key, suffix = name.removeprefix(PREFIX).removesuffix("_FILE"), "_FILE"
    if key.lower() in RENAMED:
        ending = suffix if name.endswith(suffix) else ""
        return f"is called {_variable((RENAMED[key.lower()],))}{ending} since 0.2.0"
    parts = name.split("__")
    organization = parts[1] if len(parts) > 2 and parts[1] else DEFAULT.upper()
    right = {_variable((key,)): _variable((key,)) for key in TOP_KEYS}
    for key in ORGANIZATION_KEYS:
        variable = _variable((_ORGANIZATIONS, organization, key))
        right |= {variable: variable, _variable((key,)): variable}
    right |= {f"{alias}_FILE": f"{variable}_FILE" for alias, variable in right.items()}
    right[CONFIG_VARIABLE] = CONFIG_VARIABLE
    return f"no such setting; did you mean {right[nearest(name, right)]}?"
