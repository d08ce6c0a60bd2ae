"""Questions: the same ones, the same answers, on every kind of destination; and nothing changed."""

import csv
import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from etl import querying, schema
from etl.app import App
from etl.config import load
from etl.errors import UsageError
from tests.commands import audit_etl, environment
from tests.conftest import Place
from tests.samples import audits, batch, draft, hours, load_into, record

README = (Path(__file__).parent.parent / "README.md").read_text()
QUESTIONS = re.findall(r"```sql\n(.*?)```", README.split("## Questions")[1].split("\n## ")[0], re.S)
ENTITY, USER = "1c977cba-edc2-4d2f-8acc-00474c3a9f22", "9dbc4590-04da-465d-9b58-01ea003b40d0"
MAY_4, MAY_31 = 24 * 64 + 10, 24 * 91 + 23.5
#: Audits that the README's questions are about, and some that they are not.
SHOWN = [
    record("q1", 1, entity={"id": ENTITY, "name": "Sales"}, user={"id": USER, "name": "Ada"}),
    record("q2", 0.5, entity={"id": ENTITY}, action="Create", user={"id": "u2"}),
    record("u1", 2, user={"id": USER, "name": "Ada"}, propertyChanges=None),
    record("s1", MAY_4, serviceName="PeoplePermissions", entityType="Role", action="MemberAdd"),
    record("s2", MAY_4 + 1, serviceName="PeoplePermissions", entityType="Role", action="MemberAdd"),
    record("s3", MAY_31, serviceName="PeoplePermissions", entityType="Role", action="Update"),
    record("s4", MAY_31 + 1, serviceName="PeoplePermissions"),
    record("o1", MAY_4),
]
ANSWERS = [
    [
        ["event_date", "user_name", "action", "status", "service_name"],
        ["2026-03-01 00:30:00.000", "", "Create", "SUCCESS", "ContactCenter"],
        ["2026-03-01 01:00:00.000", "Ada", "Update", "SUCCESS", "ContactCenter"],
    ],
    [
        [
            "event_date",
            "action",
            "entity_type",
            "entity_name",
            "property",
            "old_values",
            "new_values",
        ],
        [
            *("2026-03-01 01:00:00.000", "Update", "Queue", "Sales"),
            *("name", r'["Old\tone\n"]', r'["New \\N \\. one"]'),
        ],
        ["2026-03-01 01:00:00.000", "Update", "Queue", "Sales", "size", "[]", ""],
        ["2026-03-01 02:00:00.000", "Update", "Queue", "Wartezimmer ☎", "", "", ""],
    ],
    [
        ["day", "entity_type", "action", "audits"],
        ["2026-05-04", "Role", "MemberAdd", "2"],
        ["2026-05-31", "Role", "Update", "1"],
    ],
]
CHANGES = [
    "DELETE FROM audit_events",
    "DROP TABLE audit_events",
    "UPDATE audit_events SET status = 'SUCCESS'",
    "WITH gone AS (DELETE FROM audit_events RETURNING id) SELECT * FROM gone",
    "SELECT 1; DELETE FROM audit_events",
    "SELECT 1; COMMIT; DELETE FROM audit_events",
    "COPY (SELECT 1) TO '{folder}/copied.csv'",
    "ATTACH DATABASE '{folder}/attached.db' AS other",
    "SELECT * FROM read_csv('/etc/hostname')",
    "SELEC",
    "",
]


@pytest.fixture
def filled(place: Place) -> Place:
    load_into(place.destination, draft(hours(0, 24 * 93)), [batch(*SHOWN)], lambda _: None)
    return place


def asked(place: Place, question: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return audit_etl("query", question, *options, env=environment(**place.variables))


def test_the_readme_s_questions_are_answered_alike_on_every_destination(filled: Place) -> None:
    assert len(QUESTIONS) == len(ANSWERS)
    for question, expected in zip(QUESTIONS, ANSWERS, strict=True):
        result = asked(filled, question)

        assert result.returncode == 0, result.stderr
        assert list(csv.reader(io.StringIO(result.stdout))) == expected


def test_a_question_can_change_nothing(filled: Place, tmp_path: Path) -> None:
    before = filled.audits()

    with App(load(None, filled.variables), stop=threading.Event()) as app:
        for change in CHANGES:
            with (
                pytest.raises(UsageError, match=r"\A[^\n]+\Z"),
                querying.answer(app, change.format(folder=tmp_path)) as reader,
            ):
                reader.read_all()

    assert filled.audits() == before == audits(sorted(SHOWN, key=lambda r: r["id"]))
    assert not (tmp_path / "copied.csv").exists()
    assert not (tmp_path / "attached.db").exists()


def test_an_answer_comes_as_json_lines_a_table_or_parquet(filled: Place, tmp_path: Path) -> None:
    question = "SELECT id, event_date FROM audit_events WHERE id LIKE 's%' ORDER BY id -- 'five'"
    path = tmp_path / "answer.parquet"

    lines = asked(filled, question, "--json")
    table = asked(filled, question, "--format", "table")
    parquet = asked(filled, question, "--format", "parquet", "--output", str(path))

    ids = ["s1", "s2", "s3", "s4"]
    assert [json.loads(line)["id"] for line in lines.stdout.splitlines()] == ids
    assert json.loads(lines.stdout.splitlines()[0])["event_date"] == "2026-05-04 10:00:00.000"
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["id", "--", *ids]
    assert (parquet.returncode, parquet.stdout) == (0, "")
    assert pq.read_table(path)["id"].to_pylist() == ids


def test_an_answer_larger_than_a_batch_is_whole(filled: Place) -> None:
    eighty = "(SELECT 0 AS n " + " ".join(f"UNION ALL SELECT {n}" for n in range(1, 80)) + ")"
    question = f"SELECT a.n + 100 * b.n AS number FROM {eighty} a CROSS JOIN {eighty} b"

    result = asked(filled, question)

    numbers = [int(line) for line in result.stdout.splitlines()[1:]]
    assert sorted(numbers) == sorted(a + 100 * b for a in range(80) for b in range(80))


def test_a_reader_who_has_seen_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    env = environment(AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}")
    hundred = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(100))
    question = f"WITH h AS ({hundred}) SELECT a.n FROM h a, h b, h c"
    command = f"{sys.executable} -m etl query '{question}' | head -2"

    result = subprocess.run(
        command,
        shell=True,
        env=env | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )

    assert result.stdout == "n\n0\n"
    assert result.stderr == ""


def test_what_a_lake_s_query_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "duckdb.py").write_text("raise ModuleNotFoundError('duckdb')")
    env = environment(AUDIT_ETL_DESTINATION=f"parquet://{tmp_path / 'lake'}")
    hidden = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from etl.cli import main; main()"

    result = subprocess.run(
        [sys.executable, "-c", hidden, "query", "SELECT 1"],
        env=env | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 78
    assert "pip install 'audit-etl[duckdb]'" in result.stderr


def test_columns_are_the_same_everywhere(filled: Place) -> None:
    for relation in ("audit_events", "audit_property_changes", "audit_entity_changes"):
        result = asked(filled, f"SELECT * FROM {relation}")

        header, *rows = csv.reader(io.StringIO(result.stdout))
        assert header == [column.name for column in schema.metadata.tables[relation].c]
        assert len(rows) >= len(SHOWN)
