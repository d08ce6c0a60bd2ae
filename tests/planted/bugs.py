"""The bugs: what is replaced by what, and the tests that should notice.

Each is one that a program of this kind has had, or could have after an innocent change.
"""

from dataclasses import dataclass

HOSTILE = "tests/test_hostile.py"
FAULTS = "tests/test_destination_faults.py"
CRASHES = (
    "tests/test_crashes.py::test_dying_at_any_step_and_starting_again_ends_in_the_same_content"
)


@dataclass(frozen=True)
class Bug:
    """A bug in one file.

    Attributes:
        name: what the program does wrong with it.
        path: the file.
        edits: texts, each there exactly once, and what stands in their place.
        tests: arguments of pytest, chosen narrowly.
    """

    name: str
    path: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def _cell(name: str, place: str = "sqlite") -> str:
    test = "test_nothing_is_lost_doubled_or_claimed_falsely"
    return f"{HOSTILE}::{test}[{place}-{name}]"


BUGS = [
    Bug(
        "the receipt and the watermark come before the last rows",
        "etl/destinations/sql.py",
        (
            ("new, late = self._insert(connection, course, last)\n", "new, late = 0, Late()\n"),
            (
                "        receipt, late = _readable(finish, group)\n",
                "        receipt, late = _readable(finish, group)\n"
                "        self._write(draft, course, fence, group)\n",
            ),
        ),
        (f"{CRASHES}[sqlite]",),
    ),
    Bug(
        "the last group of a window is never written",
        "etl/destinations/sql.py",
        (("new, late = self._insert(connection, course, last)\n", "new, late = 0, Late()\n"),),
        (_cell("rows in no order"),),
    ),
    Bug(
        "audits of one time are taken for the same",
        "etl/destinations/sql.py",
        (
            (
                "by_id = {audit.id: audit for audit in reversed(group.audits)}",
                "by_time = {audit.event_date: audit for audit in group.audits}\n"
                "        by_id = {audit.id: audit for audit in by_time.values()}",
            ),
        ),
        (_cell("rows in no order"),),
    ),
    Bug(
        "an audit that is there gets its changes again",
        "etl/destinations/sql.py",
        (
            (
                "        self._inserter.insert(connection, *rows)\n",
                "        events, *_ = rows\n"
                "        _, *changes = rows_of(\n"
                "            organization, [*by_id.values()], self._now(), self._inserter.bound\n"
                "        )\n"
                "        self._inserter.insert(connection, events, *changes)\n",
            ),
        ),
        (f"{HOSTILE}::test_what_the_source_forgets_stays[sqlite]",),
    ),
    Bug(
        "children are left out of a transaction's first audit",
        "etl/destinations/rows.py",
        (
            (
                "    for audit in audits:\n"
                "        audit_id = audit.id\n"
                "        for position, change in enumerate(audit.property_changes)",
                "    for audit in audits[1:]:\n"
                "        audit_id = audit.id\n"
                "        for position, change in enumerate(audit.property_changes)",
            ),
        ),
        (_cell("pages that overlap"),),
    ),
    Bug(
        "that an audit was there all the same is forgotten",
        "etl/destinations/sql.py",
        (("            course.look_up = True\n", "            pass\n"),),
        ("tests/test_destinations.py", "-k", "looked_up and sqlite"),
    ),
    Bug(
        "what a window has brought before is not looked up when it is loaded again",
        "etl/destinations/sql.py",
        (("look_up=bool(past.loaded)", "look_up=False"),),
        ("tests/test_destinations.py", "-k", "looked_up and sqlite"),
    ),
    Bug(
        "the rows that fill no statement of SQLite's are left out",
        "etl/destinations/inserting.py",
        (("            start += number\n", "            start += 2 * number\n"),),
        (_cell("pages that overlap"),),
    ),
    Bug(
        "PostgreSQL may choose to read the whole organisation for a look-up",
        "etl/destinations/presence.py",
        ((".offset(0).lateral(", ".lateral("),),
        ("tests/test_database.py", "-k", "sought"),
    ),
    Bug(
        "the lease is not confirmed with the receipt",
        "etl/destinations/sql.py",
        ((" fence(connection)\n                receipt = ", " receipt = "),),
        ("tests/test_destinations.py", "-k", "sqlite"),
    ),
    Bug(
        "a lost lease is confirmed all the same",
        "etl/leases.py",
        (("if kept.rowcount != 1:", "if kept.rowcount > 1:"),),
        ("tests/test_leases.py", "-k", "sqlite"),
    ),
    Bug(
        "a transaction that lost against another is not tried again",
        "etl/database.py",
        (
            (
                "        except exc.IntegrityError:\n            if attempt == ATTEMPTS:\n",
                "        except exc.IntegrityError:\n            if attempt:\n",
            ),
        ),
        ("tests/test_database.py", "-k", "sqlite or postgresql"),
    ),
    Bug(
        "a transaction that the database undid for another is not tried again",
        "etl/database.py",
        (('frozenset({"40001", "40P01", 1213})', 'frozenset({"40001"})'),),
        ("tests/test_database.py", "-k", "wait_for_each_other"),
    ),
    Bug(
        "a lock that was waited for in vain is waited for again",
        "etl/database.py",
        (('"40P01", 1213})', '"40P01", 1213, 1205, "55P03"})'),),
        ("tests/test_database.py", "-k", "lock_of_another"),
    ),
    Bug(
        "a session that was ended is used again",
        "etl/database.py",
        (
            (
                '            },\n            "pool_pre_ping": True,\n        }\n',
                "            },\n        }\n",
            ),
        ),
        (f"{FAULTS}::test_sessions_that_are_ended_between_two_pages_are_replaced[postgresql]",),
    ),
    Bug(
        "a migration that died stops the next",
        "migrations/versions/0001_first_tables.py",
        (("if_not_exists=True", "if_not_exists=False"),),
        (f"{FAULTS}::test_half_of_the_tables_are_completed_by_migrating_again[postgresql]",),
    ),
    Bug(
        "a window holds its end",
        "etl/window.py",
        (("return self.start <= other < self.end", "return self.start <= other <= self.end"),),
        ("tests/test_window.py", "tests/test_records.py"),
    ),
    Bug(
        "a window does not hold its start",
        "etl/window.py",
        (("return self.start <= other < self.end", "return self.start < other < self.end"),),
        (_cell("an interval includes its end"),),
    ),
    Bug(
        "the watermark crosses a gap",
        "etl/window.py",
        (("if window.start <= watermark < window.end:", "if watermark < window.end:"),),
        ("tests/test_window.py",),
    ),
    Bug(
        "the watermark is the end of the latest receipt",
        "etl/ledger.py",
        (
            (
                "    if reached == mark.watermark:\n",
                "    covered = _covered(connection, stream, mark.watermark, None)\n"
                "    reached = max([reached, *(window.end for window in covered)])\n"
                "    if reached == mark.watermark:\n",
            ),
        ),
        ("tests/test_destinations.py", "-k", "sqlite"),
    ),
    Bug(
        "a lookback is ignored",
        "etl/window.py",
        (("max(begin, watermark - lookback), until", "max(begin, watermark), until"),),
        ("tests/test_window.py",),
    ),
    Bug(
        "the longer schedules are ignored",
        "etl/operations.py",
        (("        if missing:\n", "        if missing and lookback:\n"),),
        (f"{HOSTILE}", "-k", "week_late and sqlite"),
    ),
    Bug(
        "the lag is ignored",
        "etl/window.py",
        (
            (
                "min(clock_skew or timedelta(0), timedelta(0)) - lag)",
                "min(clock_skew or timedelta(0), timedelta(0)))",
            ),
        ),
        ("tests/test_window.py",),
    ),
    Bug(
        "a source's clock that is behind is ignored",
        "etl/window.py",
        (("min(clock_skew or timedelta(0), timedelta(0)) - lag", "timedelta(0) - lag"),),
        ("tests/test_window.py",),
    ),
    Bug(
        "halves leave a second out",
        "etl/window.py",
        (
            (
                "Window(self.start, middle), Window(middle, self.end)",
                "Window(self.start, middle), Window(middle + timedelta(seconds=1), self.end)",
            ),
        ),
        ("tests/test_window.py",),
    ),
    Bug(
        "the last piece of a span is not asked for",
        "etl/window.py",
        (
            (
                "    while start < span.end:\n        end = ",
                "    while start + step <= span.end:\n        end = ",
            ),
        ),
        ("tests/test_window.py",),
    ),
    Bug(
        "the last page is lost",
        "etl/genesys/query.py",
        (
            (
                "            yield Page(page.records, page.cursor)\n",
                "            if page.cursor is None:\n                return\n"
                "            yield Page(page.records, page.cursor)\n",
            ),
        ),
        (_cell("rows in no order"),),
    ),
    Bug(
        "an empty page ends the paging",
        "etl/genesys/query.py",
        (
            (
                "            if cursor is None:\n",
                "            if cursor is None or not page.records:\n",
            ),
        ),
        (_cell("an empty page with a cursor"),),
    ),
    Bug(
        "a cursor that repeats ends the paging quietly",
        "etl/genesys/query.py",
        (
            (
                "            if digest in seen:\n",
                "            if digest in seen:\n                return\n",
            ),
        ),
        (_cell("a cursor that repeats"),),
    ),
    Bug(
        "a query that failed or never ended is read as empty",
        "etl/genesys/query.py",
        (
            (
                "        self._wait_for(asked)\n",
                "        try:\n            self._wait_for(asked)\n"
                "        except QueryFailed:\n            return\n",
            ),
        ),
        (_cell("queries stay Running"),),
    ),
    Bug(
        "a cursor that expired ends the paging",
        "etl/genesys/query.py",
        (("raise self._failed(asked, what) from error", "return Page(()), size"),),
        (_cell("cursors expire"),),
    ),
    Bug(
        "a page that is too large is not asked for in smaller ones",
        "etl/genesys/query.py",
        (("                if not error.refusal.too_large:\n", "                if size:\n"),),
        (_cell("pages too large for the server"),),
    ),
    Bug(
        "an interval that is refused ends the run",
        "etl/genesys/query.py",
        (
            (
                "if error.refusal.status == 400 and _TOO_LONG",
                "if error.refusal.status == 0 and _TOO_LONG",
            ),
        ),
        (_cell("no interval over a day"),),
    ),
    Bug(
        "a part of a window gets a receipt when the query vanishes",
        "etl/pipeline.py",
        (
            (
                "    for page in flight.pages():\n",
                "    def whole() -> Iterator[Page]:\n        try:\n"
                "            yield from flight.pages()\n"
                "        except QueryFailed:\n            return\n\n    for page in whole():\n",
            ),
            (
                "from etl.records import Records, clip",
                "from etl.records import Page, Records, clip",
            ),
        ),
        (_cell("queries vanish after two pages"),),
    ),
    Bug(
        "an error of the thread that reads ends the pages quietly",
        "etl/ahead.py",
        (("        if self._error is not None:\n", "        if self._error is self:\n"),),
        (_cell("queries vanish after two pages"),),
    ),
    Bug(
        "what was given up passes for whole",
        "etl/ahead.py",
        (
            (
                "        except BaseException as caught:",
                "        except GivenUp:\n            pass\n"
                "        except BaseException as caught:",
            ),
        ),
        ("tests/test_ahead.py",),
    ),
    Bug(
        "a thread goes on reading what nobody waits for",
        "etl/genesys/clock.py",
        (("        require_wanted()\n        self._wait(seconds)", "        self._wait(seconds)"),),
        ("tests/test_ahead.py",),
    ),
    Bug(
        "after a death only its queries are gone on with",
        "etl/pipeline.py",
        (
            (
                "        for rest in gaps((query.window for query in left), span):\n",
                "        for rest in () if left else gaps((q.window for q in left), span):\n",
            ),
        ),
        ("tests/test_histories.py", "-k", "sqlite"),
    ),
    Bug(
        "a stream's failure is not told of",
        "etl/operations.py",
        (("            yield Failure(stream, error)\n", "            del error\n"),),
        (_cell("a permission is missing"),),
    ),
    Bug(
        "a token that died in mid-window is not renewed",
        "etl/genesys/transport.py",
        (("outcome.status == 401:", "outcome.status == 499:"),),
        (_cell("tokens die between two pages"),),
    ),
    Bug(
        "a rate limit of hours is slept through",
        "etl/genesys/patience.py",
        (("    rate_seconds: float = 180.0\n", "    rate_seconds: float = 180_000.0\n"),),
        (_cell("429 to everything for two hours"),),
    ),
    Bug(
        "a 429 without a header is not waited for as long as its text says",
        "etl/genesys/failures.py",
        (('_SECONDS_IN_MESSAGE.search(message or "")', '_SECONDS_IN_MESSAGE.search("")'),),
        ("tests/test_genesys_transport.py",),
    ),
    Bug(
        "an answer may take for ever, drop by drop",
        "etl/genesys/exchange.py",
        (
            (
                "            if clock.now() > until:\n",
                "            if clock.now() < until - timedelta(days=9):\n",
            ),
        ),
        ("tests/test_genesys_transport.py", "-k", "drop_by_drop"),
    ),
    Bug(
        "HTML or half a JSON text passes for an empty page",
        "etl/genesys/transport.py",
        (
            (
                "            reason = str(error)\n",
                '            reason = str(error)\n            if b"<html" in outcome.body:\n'
                "                return read(Answer(200, {}, b'{\"entities\": []}'))\n",
            ),
        ),
        (_cell("HTML with 200"),),
    ),
    Bug(
        "credentials are sent to the store of downloads",
        "etl/genesys/downloads.py",
        (
            (
                "auth=ANONYMOUS,",
                "auth=requests.auth.HTTPBasicAuth('client', 'secret'),",
            ),
        ),
        ("tests/test_genesys_downloads.py",),
    ),
    Bug(
        "half of a download passes for all of it",
        "etl/genesys/downloads.py",
        (
            (
                '                raise self._failed(f"the download is no',
                '                return\n                raise self._failed(f"the download is no',
            ),
        ),
        ("tests/test_genesys_downloads.py",),
    ),
    Bug(
        "records that cannot be rows are dropped",
        "etl/records/normalise.py",
        (("            rejects.append(row)\n", "            pass\n"),),
        (_cell("records without id or time"),),
    ),
    Bug(
        "a record that cannot be read behind its key is dropped",
        "etl/destinations/sql.py",
        (("        return normalise([record.raw])\n", "        return Batch(())\n"),),
        ("tests/test_destinations.py", "-k", "behind_its_key and sqlite"),
    ),
    Bug(
        "of a record that is read again the key alone is kept",
        "etl/records/normalise.py",
        (
            (
                "        row = _audit(_DECODER.decode(record.raw), record.raw)\n",
                "        wire = _WireAudit(record.id, event_date=record.event_date)\n"
                "        row = _audit(wire, record.raw)\n",
            ),
        ),
        ("tests/test_destinations.py", "-k", "came_late and sqlite"),
    ),
    Bug(
        "an id of any type is an id",
        "etl/records/normalise.py",
        (('lenient.as_name(get("id"))', 'text(get("id"))'),),
        (_cell("records without id or time", "parquet"),),
    ),
    Bug(
        "a record of an unexpected type is kept aside",
        "etl/records/normalise.py",
        (
            (
                "    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):\n"
                "        return _lenient_row(record)\n",
                "    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):\n"
                '        return Reject("odd", record.decode("utf-8", "replace"))\n',
            ),
        ),
        (_cell("members of another type"),),
    ),
    Bug(
        "NUL reaches the database",
        "etl/records/lenient.py",
        (('cleaned = text.replace("\\x00", "\\ufffd")', "cleaned = text"),),
        (_cell("NUL, lone surrogates, bidi", "postgresql"),),
    ),
    Bug(
        "a file of a lake is replaced by the window's rows alone",
        "etl/destinations/lake/destination.py",
        (
            (
                "merged([there, *(run.source() for run in runs)])",
                "merged([run.source() for run in runs])",
            ),
        ),
        (f"{HOSTILE}::test_what_the_source_forgets_stays[parquet]",),
    ),
    Bug(
        "a lake's receipt comes before its files",
        "etl/destinations/lake/destination.py",
        (
            (
                "            with translated(self._storage):\n"
                "                for partition in staging.partitions:\n"
                "                    merges.begin",
                "            early = draft.receipt(\n"
                "                events=events, new_events=0, rejects=0, loaded_at=self._now()\n"
                "            )\n"
                "            transact(self._engine, lambda connection: record(connection, early))\n"
                "            with translated(self._storage):\n"
                "                for partition in staging.partitions:\n"
                "                    merges.begin",
            ),
        ),
        (f"{CRASHES}[parquet]",),
    ),
    Bug(
        "one new audit of a partition is not worth a file",
        "etl/destinations/lake/destination.py",
        (("        if new.count:\n", "        if new.count > 1:\n"),),
        ("tests/test_destinations.py", "-k", "parquet and not s3"),
    ),
    Bug(
        "what a partition was merged without stays out of it",
        "etl/destinations/lake/destination.py",
        (("                    merges.take_back(part.partition)\n", ""),),
        ("tests/test_lake.py", "-k", "merged_before"),
    ),
    Bug(
        "an audit that a page shows twice is written twice into a lake",
        "etl/destinations/lake/destination.py",
        (
            (
                "if len(set(map(_ID_OF, audits))) < len(audits):",
                "if not audits:",
            ),
        ),
        ("tests/test_lake.py", "-k", "shows_twice"),
    ),
    Bug(
        "NUL is not looked for at the last backslash of a record",
        "etl/records/normalise.py",
        (('record.rfind(b"\\\\") + len(_NUL)', 'record.rfind(b"\\\\")'),),
        ("tests/test_records.py", "-k", "among_other_escapes"),
    ),
    Bug(
        "a run is gone on with whatever the order of what follows",
        "etl/destinations/lake/staging.py",
        (
            (
                "return part.partition == self.partition and self._last < ",
                "return part.partition == self.partition and self._last != ",
            ),
        ),
        ("tests/test_lake.py", "-k", "go_back_in_time"),
    ),
    Bug(
        "the records in a lake are cut where another column's texts begin",
        "etl/destinations/lake/columns.py",
        ((", texts, offset=offsets.offset)", ", texts)"),),
        ("tests/test_destinations.py", "-k", "parquet and not s3"),
    ),
    Bug(
        "a tail looks half as often as its share allows",
        "etl/following.py",
        (("ROUNDS_PART: Final = 0.6", "ROUNDS_PART: Final = 0.3"),),
        ("tests/test_tailing.py", "-k", "within_seconds"),
    ),
    Bug(
        "the thread that decodes opens the database too",
        "etl/pipeline.py",
        (
            (
                "    decode = decoder(job.destination, job.stream, flight.window)\n",
                "    def decode(records: Iterable[bytes]) -> Records:\n"
                "        return decoder(job.destination, job.stream, flight.window)(records)\n",
            ),
        ),
        ("tests/test_requests.py", "-k", "no_thread_but"),
    ),
    Bug(
        "connections take turns, and each fills a cache",
        "etl/database.py",
        ((', "pool_use_lifo": True}', "}"),),
        ("tests/test_database.py", "-k", "the_same_connection and sqlite"),
    ),
    Bug(
        "the environment says in which encoding PostgreSQL is given texts",
        "etl/database.py",
        (('"client_encoding": "utf8"', '"load_balance_hosts": "disable"'),),
        ("tests/test_database.py", "-k", "encoding_of_the_environment"),
    ),
    Bug(
        "keys are sorted as the server's libraries have it",
        "migrations/versions/0001_first_tables.py",
        (('BYTE_ORDER = "C"\n', "BYTE_ORDER = None\n"),),
        ("tests/test_migrations.py", "-k", "order_of_texts"),
    ),
    Bug(
        "PostgreSQL is given times since 1970",
        "etl/destinations/rows.py",
        (("_EPOCH: Final = datetime(2000, ", "_EPOCH: Final = datetime(1970, "),),
        ("tests/test_destinations.py", "-k", "reads_back and postgresql"),
    ),
    Bug(
        "a statement is longer than MariaDB's packets",
        "etl/destinations/inserting.py",
        (("    if len(value) > HEXADECIMAL_CHARACTERS:", "    if not value:"),),
        ("tests/test_destinations.py", "-k", "several_megabytes and mariadb"),
    ),
    Bug(
        "a lost connection is asked to undo, and tells of nothing but that",
        "etl/destinations/inserting.py",
        (("            connection.invalidate(error)\n", "            pass\n"),),
        ("tests/test_destination_faults.py", "-k", "in_the_server_s_words"),
    ),
    Bug(
        "a text ends where it says so itself",
        "etl/destinations/inserting.py",
        (('if "\'" not in value and', "if"),),
        ("tests/test_injection.py", "-k", "mariadb"),
    ),
    Bug(
        "a backslash means something to MariaDB",
        "etl/destinations/inserting.py",
        ((' and "\\\\" not in value', ""),),
        ("tests/test_destinations.py", "-k", "reads_back and mariadb"),
    ),
    Bug(
        "the last statement of many rows is kept back from MariaDB",
        "etl/destinations/inserting.py",
        (("    if held:\n        yield begin", "    if not rows:\n        yield begin"),),
        ("tests/test_destinations.py", "-k", "reads_back and mariadb"),
    ),
]
