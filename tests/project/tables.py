"""Tables in the documents that come from code: `make docs` writes them, `make lint` checks them."""

import re
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from etl.cli import SUMMARIES
from etl.config import setting_rows
from etl.database import descriptions, schema
from etl.simulator import faults
from tests import TOP
from tests.support import fault_matrix, object_store_faults
from tests.support.counted_events import exposition_of_everything


def commands() -> str:
    """Each command and what it does."""
    rows = [f"| `audit-etl {name}` | {summary} |" for name, summary in SUMMARIES.items()]
    return _table("| command | does |", rows)


def settings() -> str:
    """Each setting, its default and its meaning."""
    rows = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in setting_rows()]
    return _table("| key | default | meaning |", rows)


def meanings() -> str:
    """Each table and what it has one row for."""
    rows = [
        f"| [`{name}`](#{name}) | {descriptions.TABLES[name]} |" for name in schema.metadata.tables
    ]
    return _table("| table | one row for each |", rows)


def columns() -> str:
    """Each table with its key, and each of its columns with its meaning."""
    parts, above = list[str](), dict[str, dict[str, str]]()
    for table in schema.metadata.tables.values():
        key = ", ".join(f"`{column.name}`" for column in table.primary_key)
        means = {column.name: descriptions.of_column(table.name, column.name) for column in table.c}
        parts.append(f"### {table.name}\n\nKey: {key}.")
        for other, known in above.items():
            same = [name for name, meaning in means.items() if known.get(name) == meaning]
            if len(same) >= 5:
                parts[-1] += f" As in [`{other}`](#{other}): `{'`, `'.join(same)}`."
                means = {name: means[name] for name in means if name not in same}
        above[table.name] = means
        rows = [f"| `{name}` | {meaning} |" for name, meaning in means.items()]
        parts.append(_table("| column | meaning |", rows))
    return "\n\n".join(parts)


def renaming() -> str:
    """The statements that rename an organisation in every table."""
    rows = [
        f"UPDATE {table.name} SET organization = 'acme' WHERE organization = 'default';"
        for table in schema.metadata.tables.values()
        if "organization" in table.c
    ]
    kinds = "kind IN ('organization', 'client')"
    rows.append(f"UPDATE identities SET name = 'acme' WHERE name = 'default' AND {kinds};")
    return "\n".join(["```sql", *rows, "```"])


def metrics() -> str:
    """Each metric, without those of the process."""
    rows = []
    for family in text_string_to_metric_families(exposition_of_everything()):
        if family.name.startswith("process"):
            continue
        total = "_total" if family.type == "counter" else ""
        known = sorted({label for s in family.samples for label in s.labels} - {"le"})
        labels = ", ".join(f"`{label}`" for label in known)
        rows.append(
            f"| `{family.name}{total}` | {family.type} | {labels} | {family.documentation} |"
        )
    return _table("| metric | kind | labels | means |", rows)


def alerts() -> str:
    """Each alert rule, its severity and what its description says."""
    [group] = yaml.safe_load((TOP / "config" / "alerts.yml").read_text())["groups"]
    return _table("| alert | severity | means |", map(_alert, group["rules"]))


def _alert(rule: dict[str, Any]) -> str:
    notes = rule["annotations"]
    told = re.sub(r"{{ \$(?:labels\.)?(\w+)[^}]*}}", lambda m: m[1].upper(), notes["summary"])
    severity = rule["labels"]["severity"]
    return f"| `{rule['alert']}` | {severity} | {told}. {notes['description']} |"


def switches() -> str:
    """Each fault of the simulator, for `audit-etl simulate --fault`."""
    found = faults.descriptions()
    rows = [f"| `{name}` | {default or 'off'} | {does} |" for name, default, does in found]
    return _table("| fault | default | does |", rows)


def hostile_source() -> str:
    """What an export comes to under each fault of the source."""
    return fault_matrix.table()


def object_store() -> str:
    """What an export comes to under each fault of an object store."""
    return object_store_faults.table()


def _table(head: str, rows: Any) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])
