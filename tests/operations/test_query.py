"""Questions: the same ones, the same answers, on every kind of destination; and nothing changed."""

import csv
import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from etl.app import App
from etl.config import load
from etl.database import schema
from etl.database.transactions import transact
from etl.errors import DestinationUnavailable, UsageError
from etl.operations import query
from tests import TOP
from tests.support.commands import audit_etl, environment
from tests.support.places import Place
from tests.support.roles import roles_of
from tests.support.samples import audits, batch, draft, hours, load_into, record

DOCUMENT = (TOP / "docs" / "questions.md").read_text()
QUESTIONS = re.findall(
    r"```sql\n(.*?)```", DOCUMENT.split("## Questions")[1].split("\n## ")[0], re.S
)
ENTITY, USER = "1c977cba-edc2-4d2f-8acc-00474c3a9f22", "9dbc4590-04da-465d-9b58-01ea003b40d0"
MAY_4, MAY_31 = 24 * 64 + 10, 24 * 91 + 23.5
#: Audits that the document's questions are about, and some that they are not.
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
    "SELECT * INTO copied FROM audit_events",
    "SELECT id FROM audit_events FOR UPDATE",
    "SELECT * FROM others",
    "SELECT * FROM (WITH others AS (SELECT 1) SELECT 1) a, others",
    "WITH others AS (SELECT * FROM others) SELECT * FROM others",
    "WITH a AS (SELECT * FROM others), others AS (SELECT 1) SELECT * FROM a",
    'WITH "OTHERS" AS (SELECT 1) SELECT * FROM others',
    "SELECT * FROM " + "(" * 5000,
]
#: What a superuser could do in a transaction that only reads.
ATTACKS = {
    "postgresql": [
        "SELECT lo_export(lo_from_bytea(0, 'x'), '{folder}/attack')",
        "SELECT pg_catalog.\"lo_export\"(1, '{folder}/attack')",
        "SELECT U&\"\\006Co_export\"(1, '{folder}/attack')",
        "SELECT lo_export /* /* */ */ (1, '{folder}/attack')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        "SELECT pg_terminate_backend(0)",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT * FROM pg_ls_dir('/')",
        "SELECT pg_sleep(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT nextval('counter')",
        "SELECT pg_notify('a', 'b')",
        "SELECT query_to_xml('SELECT * FROM others', true, true, '')",
        "SELECT table_to_xml('others', true, true, '')",
        "SELECT harmless_looking()",
        "SELECT e.harmless_looking FROM audit_events e",
        "SELECT $a$'$a$, lo_export(1, '{folder}/attack'), $a$'$a$",
        "SELECT E'\\'', lo_export(1, '{folder}/attack') --'",
        "COPY (SELECT 1) TO PROGRAM 'touch {folder}/attack'",
        "SELECT * FROM pg_catalog.pg_authid",
        "SELECT INTERVAL E'1'\n'\\' , ' , n FROM others -- '",
        "SELECT E'1'\n'\\' , ' , n FROM others -- '",
        "SELECT pid, query FROM pg_stat_get_activity(null)",
        "SELECT pg_stat_get_activity(null)",
        "SELECT pg_stat_get_backend_activity(1)",
        "SELECT pg_get_functiondef(1)",
        "SELECT * FROM current_setting('data_directory')",
    ],
    "mysql": [
        "SELECT 1 INTO OUTFILE '{folder}/attack'",
        "SELECT 1 LIMIT 1 INTO DUMPFILE '{folder}/attack'",
        "SELECT 1 INTO @a",
        "SELECT LOAD_FILE('/etc/hostname')",
        "SELECT SLEEP(1)",
        "SELECT `SLEEP`(1)",
        "SELECT BENCHMARK(10, 1)",
        "SELECT GET_LOCK('a', 1)",
        "SELECT NEXTVAL(counter)",
        "SELECT NEXT VALUE FOR counter",
        "SELECT sys_exec('touch {folder}/attack')",
        "SELECT 1--SLEEP(1)",
        "SELECT id FROM audit_events LOCK IN SHARE MODE",
        "SELECT * FROM mysql.user",
        "SELECT '\\'', SLEEP(1), '\\''",
    ],
    "sqlite": [
        "SELECT load_extension('{folder}/attack')",
        "SELECT writefile('{folder}/attack', 'x')",
        "SELECT 1 IN others",
        "SELECT 1 IN main.others",
        "SELECT 1 WHERE 'x' NOT IN sqlite_master",
        "SELECT * FROM pragma_table_list()",
        "SELECT * FROM pragma_table_info('others')",
        "SELECT * FROM dbstat()",
    ],
}


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
                query.answer(app, change.format(folder=tmp_path)) as reader,
            ):
                reader.read_all()

    assert filled.audits() == before == audits(sorted(SHOWN, key=lambda r: r["id"]))
    assert not (tmp_path / "copied.csv").exists()
    assert not (tmp_path / "attached.db").exists()


def test_a_question_can_do_nothing_but_read(
    engine: sa.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = engine.dialect.name
    tmp_path.chmod(0o777)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE others (n INTEGER)")
        if kind == "postgresql":
            connection.exec_driver_sql("CREATE SEQUENCE counter")
            connection.exec_driver_sql(HARMLESS_LOOKING.format("harmless_looking()"))
            connection.exec_driver_sql(HARMLESS_LOOKING.format("harmless_looking(audit_events)"))
    url = engine.url.render_as_string(hide_password=False)

    with App(load(None, {"AUDIT_ETL_DESTINATION": url}), stop=threading.Event()) as app:
        for attack in ATTACKS[kind]:
            with (
                pytest.raises(UsageError, match=r"\A[^\n]+\Z"),
                query.answer(app, attack.replace("{folder}", str(tmp_path))) as reader,
            ):
                reader.read_all()
        with query.answer(app, f"SELECT 1 /*! INTO OUTFILE '{tmp_path}/attack' */") as reader:
            assert reader.read_all().num_rows == 1

    assert not (tmp_path / "attack").exists()
    assert ("give `query` a reader's" in caplog.text) == (kind != "sqlite")


#: A function that has an effect in a transaction that only reads.
HARMLESS_LOOKING = "CREATE FUNCTION {} RETURNS integer LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(3)'"


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_reader_s_role_asks_and_can_do_no_more(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with roles_of(engine.url.render_as_string(hide_password=False)) as roles:
        roles.make()
        settings = load(None, {"AUDIT_ETL_DESTINATION": roles.url("reader")})
        with App(settings, stop=threading.Event()) as app:
            for question in [*QUESTIONS, "SELECT * FROM receipts"]:
                with query.answer(app, question) as answer:
                    answer.read_all()
            with pytest.raises(DestinationUnavailable):
                transact(
                    app.engine, lambda to: to.exec_driver_sql("DELETE FROM audit_events").rowcount
                )
    assert "a reader's" not in caplog.text


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
    assert audit_etl("migrate", env=env).returncode == 0
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
    assert audit_etl("migrate", env=env).returncode == 0
    hidden = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from etl.cli import main; main()"

    result = subprocess.run(
        [sys.executable, "-c", hidden, "query", "SELECT 1"],
        env=env | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 78
    assert "pip install '.[duckdb]'" in result.stderr


def test_columns_are_the_same_everywhere(filled: Place) -> None:
    for relation in ("audit_events", "audit_property_changes", "audit_entity_changes"):
        result = asked(filled, f"SELECT * FROM {relation}")

        header, *rows = csv.reader(io.StringIO(result.stdout))
        assert header == [column.name for column in schema.metadata.tables[relation].c]
        assert len(rows) >= len(SHOWN)


@pytest.mark.parametrize("form", ["csv", "jsonl", "table", "parquet"])
def test_columns_of_one_name_keep_all_their_values(
    filled: Place, form: str, tmp_path: Path
) -> None:
    question = (
        "SELECT a.id, c.event_id AS id, a.action, c.property AS id_2, c.position AS id "
        "FROM audit_events a JOIN audit_property_changes c ON c.event_id = a.id "
        "WHERE a.id = 'q1' ORDER BY c.position"
    )
    path = tmp_path / "answer"

    done = asked(filled, question, "--format", form, "--output", str(path))

    assert done.returncode == 0, done.stderr
    if form == "parquet":
        found = pq.read_table(path)
        names, rows = found.column_names, [list(row.values()) for row in found.to_pylist()]
    elif form == "jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        names, rows = list(lines[0]), [list(line.values()) for line in lines]
    elif form == "csv":
        names, *rows = csv.reader(io.StringIO(path.read_text()))
    else:
        names, _, *rows = [line.split() for line in path.read_text().splitlines()]
    assert names == ["id", "id_3", "action", "id_2", "id_4"]
    assert [list(map(str, row)) for row in rows] == [
        ["q1", "q1", "Update", "name", "0"],
        ["q1", "q1", "Update", "size", "1"],
    ]


@given(st.lists(st.sampled_from(["id", "id_2", "id_3", "x", ""]), max_size=8))
def test_each_column_of_an_answer_has_a_name_of_its_own(names: list[str]) -> None:
    schema = pa.schema([pa.field(name, pa.int64()) for name in names])
    batch = pa.RecordBatch.from_arrays([pa.array([n]) for n in range(len(names))], schema=schema)

    found = query._with_distinct_names(pa.RecordBatchReader.from_batches(schema, [batch]))

    assert len(set(found.schema.names)) == len(names)
    first = {name: n for n, name in reversed(list(enumerate(names)))}
    assert all(found.schema.names[n] == name for name, n in first.items())
    assert [c[0].as_py() for c in found.read_all().columns] == list(range(len(names)))
