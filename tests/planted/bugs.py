"""The bugs: what is replaced by what, and the tests that should notice.

Each is one that a program of this kind has had, or could have after an innocent change.
"""

from dataclasses import dataclass

HOSTILE = "tests/export/test_hostile.py"
FAULTS = "tests/destinations/test_faults.py"
ANSWERS = "tests/export/test_answers.py"
FAILING = "tests/export/test_failing_windows.py"
IDENTITY = "tests/operations/test_recognition.py"
LAKES = "tests/destinations/lake/test_binding.py"
KEPT = "tests/export/test_kept_from.py"
CRASHES = (
    "tests/export/test_crashes.py"
    "::test_dying_at_any_step_and_starting_again_ends_in_the_same_content"
)

DECLINED = "tests/test_encryption.py::test_a_server_that_declines_tls_gets_no_password"

QUESTIONS = "tests/operations/test_query.py::"

MARIADB = "tests/destinations/sql/test_mariadb_settings.py"

REFUSALS = "tests/destinations/sql/test_refusals.py"

ROLES = "tests/project/test_roles.py"


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


def _store_cell(name: str) -> str:
    test = "test_nothing_counts_that_the_store_has_not_confirmed"
    return f"tests/export/test_hostile_store.py::{test}[{name}-parquet+s3]"


BUGS = [
    Bug(
        "the receipt and the watermark come before the last rows",
        "etl/destinations/sql/destination.py",
        (
            ("written = self._insert(connection, state, last)\n", "written = NONE\n"),
            (
                "        receipt, written = fitting(finish, group, left_out)\n",
                "        receipt, written = fitting(finish, group, left_out)\n"
                "        self._write(state, fence, group)\n",
            ),
        ),
        (f"{CRASHES}[sqlite]",),
    ),
    Bug(
        "the last group of a window is never written",
        "etl/destinations/sql/destination.py",
        (("written = self._insert(connection, state, last)\n", "written = NONE\n"),),
        (_cell("rows in no order"),),
    ),
    Bug(
        "audits of one time are taken for the same",
        "etl/destinations/sql/destination.py",
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
        "etl/destinations/sql/destination.py",
        (
            (
                "        lateness.add(connection, history.stream,",
                "        there = [a for a in by_id.values() if a not in absent]\n"
                "        _, *changes = rows_of(organization, there, now, self._inserter.bound)\n"
                "        self._inserter.insert(connection, *changes)\n"
                "        lateness.add(connection, history.stream,",
            ),
        ),
        (f"{HOSTILE}::test_what_the_source_forgets_stays[sqlite]",),
    ),
    Bug(
        "children are left out of a transaction's first audit",
        "etl/destinations/sql/rows.py",
        (
            (
                "    for audit, event_date in timed:\n"
                "        audit_id = audit.id\n"
                "        for position, change in enumerate(audit.property_changes)",
                "    for audit, event_date in timed[1:]:\n"
                "        audit_id = audit.id\n"
                "        for position, change in enumerate(audit.property_changes)",
            ),
        ),
        (_cell("pages that overlap"),),
    ),
    Bug(
        "that an audit was there all the same is forgotten",
        "etl/destinations/sql/destination.py",
        (
            (
                "            self.look_up = True\n            raise",
                "            raise",
            ),
        ),
        ("tests/destinations/sql/test_loading.py", "-k", "looked_up and sqlite"),
    ),
    Bug(
        "what a window has brought before is not looked up when it is loaded again",
        "etl/destinations/sql/destination.py",
        (("look_up=bool(history.loads)", "look_up=False"),),
        ("tests/destinations/sql/test_loading.py", "-k", "looked_up and sqlite"),
    ),
    Bug(
        "the rows that fill no statement of SQLite's are left out",
        "etl/destinations/sql/inserter.py",
        (("            start += number\n", "            start += 2 * number\n"),),
        (_cell("pages that overlap"),),
    ),
    Bug(
        "PostgreSQL may choose to read the whole organisation for a look-up",
        "etl/destinations/sql/keys.py",
        ((".offset(0).lateral(", ".lateral("),),
        ("tests/database/test_engine.py", "-k", "sought"),
    ),
    Bug(
        "the lease is not confirmed with the receipt",
        "etl/destinations/sql/destination.py",
        (("fence(connection)\n                if left_out:", "if left_out:"),),
        ("tests/destinations/test_contract.py", "-k", "sqlite"),
    ),
    Bug(
        "a lost lease is confirmed all the same",
        "etl/ledger/leases.py",
        (("if kept.rowcount != 1:", "if kept.rowcount > 1:"),),
        ("tests/ledger/test_leases.py", "-k", "sqlite"),
    ),
    Bug(
        "a lost lease renews the new holder's",
        "etl/ledger/leases.py",
        (
            (
                "            .where(leases.c.name == lease.name, leases.c.token == lease.token)\n"
                "            .values(expires_at=ends)\n",
                "            .where(leases.c.name == lease.name)\n"
                "            .values(expires_at=ends)\n",
            ),
        ),
        ("tests/ledger/test_leases.py", "-k", "lost and sqlite"),
    ),
    Bug(
        "leases go by the clock of whoever asks",
        "etl/ledger/leases.py",
        (("return ours if query is None else read_time(", "return ours if query else read_time("),),
        ("tests/ledger/test_leases.py", "-k", "server_s_clock and postgresql"),
    ),
    Bug(
        "a clock that is set back keeps a dead process's lease",
        "etl/ledger/leases.py",
        (("        if ends < row[", "        if ends > row["),),
        ("tests/ledger/test_leases.py", "-k", "set_back"),
    ),
    Bug(
        "a process of another container is called dead",
        "etl/ledger/processes.py",
        ((" or parts[3:] != [_boot(), _pid_space()]:", ":"),),
        ("tests/ledger/test_leases.py", "-k", "not_called_dead"),
    ),
    Bug(
        "a transaction that lost against another is not tried again",
        "etl/database/transactions.py",
        (
            (
                "IntegrityError as error:\n            if attempt == ATTEMPTS:\n",
                "IntegrityError as error:\n            if attempt:\n",
            ),
        ),
        ("tests/database/test_engine.py", "-k", "sqlite or postgresql"),
    ),
    Bug(
        "a transaction that the database undid for another is not tried again",
        "etl/database/remedies.py",
        (('frozenset({"40001", "40P01", 1213})', 'frozenset({"40001"})'),),
        ("tests/database/test_engine.py", "-k", "wait_for_each_other"),
    ),
    Bug(
        "a lock that was waited for in vain is waited for again",
        "etl/database/remedies.py",
        (('"40P01", 1213})', '"40P01", 1213, 1205, "55P03"})'),),
        ("tests/database/test_engine.py", "-k", "lock_of_another"),
    ),
    Bug(
        "a session that was ended is used again",
        "etl/database/engine.py",
        (
            (
                '"pool_pre_ping": True, ',
                '"pool_pre_ping": False, ',
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
        ("tests/test_window.py", "tests/records/test_reader.py"),
    ),
    Bug(
        "a window does not hold its start",
        "etl/window.py",
        (("return self.start <= other < self.end", "return self.start < other < self.end"),),
        ("tests/test_window.py",),
    ),
    Bug(
        "the watermark crosses a gap",
        "etl/window.py",
        (("if window.start <= watermark < window.end:", "if watermark < window.end:"),),
        ("tests/test_window.py",),
    ),
    Bug(
        "the watermark is the end of the latest receipt",
        "etl/ledger/receipts.py",
        (
            (
                "    if reached == watermark.reached:\n",
                "    covered = windows_of(connection, stream, watermark.reached)\n"
                "    reached = max([reached, *(window.end for window in covered)])\n"
                "    if reached == watermark.reached:\n",
            ),
        ),
        ("tests/destinations/test_contract.py", "-k", "sqlite"),
    ),
    Bug(
        "a lookback is ignored",
        "etl/due.py",
        (("max(watermark.begins_at, last - shortest.length)", "max(watermark.begins_at, last)"),),
        ("tests/test_due.py",),
    ),
    Bug(
        "the longer schedules are ignored",
        "etl/due.py",
        (("        if missing:\n", "        if missing and not last:\n"),),
        (f"{HOSTILE}", "-k", "week_late and sqlite"),
    ),
    Bug(
        "the lag is ignored",
        "etl/due.py",
        (("else theirs) - lag)", "else theirs))"),),
        ("tests/test_due.py",),
    ),
    Bug(
        "the clock's skew stays that of the first answer",
        "etl/genesys/client/clock.py",
        ((" or not before.theirs or date > before.then(at):", " or not before.theirs:"),),
        ("tests/genesys/client/test_clock.py", "-k", "sets_it_ahead"),
    ),
    Bug(
        "the skew of before a leap of our clock is used after it",
        "etl/app.py",
        (("Clock(self.now, self.monotonic,", "Clock(self.now, lambda: self.now().timestamp(),"),),
        ("tests/export/test_clocks.py", "-k", "while_a_token_is_held"),
    ),
    Bug(
        "an answer from a cache sets the organisation's clock back",
        "etl/genesys/client/clock.py",
        (("            elif fresh and (before", "            elif (before"),),
        ("tests/genesys/client/test_clock.py", "-k", "no_cache_gave"),
    ),
    Bug(
        "a time that cannot be right is believed",
        "etl/genesys/client/clock.py",
        (("date is None or not _is_believable(date, ours)", "date is None"),),
        ("tests/export/test_clocks.py", "-k", "cannot_be_right"),
    ),
    Bug(
        "a watermark ahead of the organisation's time stays there",
        "etl/operations/due_spans.py",
        (("    elif claimed > now + TIME_TOLERANCE:\n", "    elif claimed < now:\n"),),
        ("tests/export/test_clocks.py", "-k", "taken_back_and_asked_for_again"),
    ),
    Bug(
        "a process whose clocks stood still takes back what others loaded",
        "etl/operations/due_spans.py",
        (("    now = source.ask_time()", "    now = source.now()"),),
        ("tests/export/test_clocks.py", "-k", "stood_still"),
    ),
    Bug(
        "receipts by a clock that was ahead count again later",
        "etl/ledger/claims.py",
        (("receipts.c.window_end > latest, receipts.c.started_at > latest", "sa.false()"),),
        ("tests/export/test_clocks.py", "-k", "taken_back_and_asked_for_again"),
    ),
    Bug(
        "a window that is not over earns a receipt",
        "etl/in_flight.py",
        (("if self.window.end > asked_at + TIME_TOLERANCE:", "if self.window.start > asked_at:"),),
        ("tests/export/test_clocks.py", "-k", "earns_no_receipt"),
    ),
    Bug(
        "a clock that is set back is not noticed",
        "etl/daemon/steps.py",
        (("return step if abs(step) >= STEP_MIN", "return step if step >= STEP_MIN"),),
        ("tests/daemon/test_clock.py", "-k", "noticed_once"),
    ),
    Bug(
        "schedules sleep on when the clock is set back",
        "etl/daemon/runtime.py",
        (
            (
                "                job.reschedule(schedules.trigger(schedule))\n",
                "                pass\n",
            ),
        ),
        ("tests/daemon/test_clock.py", "-k", "goes_on and back"),
    ),
    Bug(
        "a wholly refused organisation ends in 0 because another was exported",
        "etl/operations/streams.py",
        (("        if stream.organization in exported:\n", "        if exported:\n"),),
        ("tests/operations/test_refusals.py",),
    ),
    Bug(
        "windows end by our clock, not by the organisation's",
        "etl/due.py",
        (("else theirs) - lag)", "else ours) - lag)"),),
        ("tests/test_due.py",),
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
                "            if flaw := sequence.flaw(cursor):\n",
                "            if flaw := sequence.flaw(cursor):\n                return\n",
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
        (("raise self._failed(asked, what) from error", "return Page(())"),),
        (_cell("cursors expire"),),
    ),
    Bug(
        "a page that is too large is not asked for in smaller ones",
        "etl/genesys/query.py",
        (("                if not error.refusal.too_large:\n", "                if size:\n"),),
        (_cell("pages too large for the server"),),
    ),
    Bug(
        "a page that cannot pass a gateway is asked for as large for ever",
        "etl/genesys/paging.py",
        (("probing = failures >= 2 and failures % 2 == 0", "probing = False"),),
        (_cell("pages too large for a gateway: 504"),),
    ),
    Bug(
        "a page shrinks for a single blip",
        "etl/genesys/paging.py",
        (("failures >= 2 and failures % 2 == 0", "failures >= 1 and failures % 2 == 1"),),
        ("tests/genesys/test_paging.py", "-k", "blip"),
    ),
    Bug(
        "a page with a cursor that is always a new one is always gone on from",
        "etl/genesys/paging.py",
        (("if self._barren >= BARREN_PAGES_MAX:", "if self._barren < 0:"),),
        ("tests/genesys/test_paging.py", "-k", "nothing_new"),
    ),
    Bug(
        "early audits of another organisation with that id are deleted",
        "etl/destinations/sql/keys.py",
        (
            (
                "sa.delete(key.table).where(mine, key.in_(piece))",
                "sa.delete(key.table).where(key.in_(piece))",
            ),
        ),
        ("tests/destinations/sql/test_loading.py", "-k", "early_audit_of_another"),
    ),
    Bug(
        "early audits that no export shows are not counted",
        "etl/ledger/lateness.py",
        (("audit_events.c.event_date < before", "audit_events.c.event_date > before"),),
        ("tests/operations/test_early.py", "-k", "counted"),
    ),
    Bug(
        "early loading reaches before the watermark",
        "etl/operations/early.py",
        (
            (
                "max(end - EARLY_REACH, min(sure, default=end))",
                "end - EARLY_REACH",
            ),
        ),
        ("tests/operations/test_early.py", "-k", "lookbacks"),
    ),
    Bug(
        "a service that is refused keeps the others from being loaded early",
        "etl/operations/tail.py",
        (("return self._left_out is not None and len", "return False and len"),),
        ("tests/operations/test_early.py", "-k", "forbidden"),
    ),
    Bug(
        "a service that the realtime query does not know keeps others from being loaded early",
        "etl/operations/tail.py",
        (
            (
                "            elif self._left_out is None:\n",
                "            elif service:\n",
            ),
        ),
        ("tests/operations/test_early.py", "-k", "does_not_know"),
    ),
    Bug(
        "a page without a list of audits is the last one",
        "etl/records/pages.py",
        (("not (first and _is_bare_page(members))", "not _is_bare_page(members)"),),
        (_cell("a third page that is only its head"),),
    ),
    Bug(
        "an error in a 200 is the last page",
        "etl/records/pages.py",
        (
            (
                "    _require_no_error(members)\n    _require_of_query",
                "    if members.get('code'):\n        return Page(())\n    _require_of_query",
            ),
        ),
        (_cell("a third page that is an error"),),
    ),
    Bug(
        "the page of another query is taken for one's own",
        "etl/records/pages.py",
        (("    _require_of_query(members, query_id)\n", ""),),
        (_cell("a third page that is another query's"),),
    ),
    Bug(
        "the last of two lists of audits is a page's",
        "etl/records/pages.py",
        (
            ("answer = _cut_fast(body) or _scanned(body)", "answer = _scanned(body)"),
            ('if name in members or (name == "entities" and records is not None):', "if not name:"),
        ),
        ("tests/records/test_pages.py", "-k", "twice"),
    ),
    Bug(
        "an end that lost its audits once is believed",
        "etl/genesys/query.py",
        (
            (
                "            return self._answered(asked, cursor, size)\n        return page\n",
                "            return page\n        return page\n",
            ),
        ),
        ("tests/genesys/test_paging.py", "-k", "twice or once"),
    ),
    Bug(
        "a run of 429 is asked into, second by second",
        "etl/genesys/client/retries.py",
        (("        self._rate_pause *= 2\n", ""),),
        ("tests/genesys/client/test_transport.py", "-k", "growing_pauses"),
    ),
    Bug(
        "a thread that was refused for a second ends another one's minute",
        "etl/genesys/client/budget.py",
        (
            (
                "self._refused_until = max(self._refused_until or until, until)",
                "self._refused_until = until",
            ),
        ),
        ("tests/genesys/client/test_budget.py", "-k", "longer_wait"),
    ),
    Bug(
        "a rate limit that ends in 28 years is believed",
        "etl/genesys/client/failures.py",
        (
            (
                "return _RATE_MINUTE if seconds is not None and seconds > _RESET_MAX else seconds",
                "return seconds",
            ),
        ),
        (_cell("a minute that ends in 28 years"),),
    ),
    Bug(
        "a host's wait of years is believed",
        "etl/genesys/client/failures.py",
        (("wait = min(asked, _PARKED_MAX)", "wait = asked"),),
        ("tests/genesys/client/test_transport.py", "-k", "absurd_wait"),
    ),
    Bug(
        "an interval that is refused ends the run",
        "etl/genesys/query_refusals.py",
        (
            (
                "if said and error.refusal.status == 400 else None",
                "if said and error.refusal.status == 0 else None",
            ),
        ),
        (_cell("no interval over a day"),),
    ),
    Bug(
        "a part of a window gets a receipt when the query vanishes",
        "etl/pipeline.py",
        (
            (
                "    for page in in_flight.pages():\n",
                "    def whole() -> Iterator[Page]:\n        try:\n"
                "            yield from in_flight.pages()\n"
                "        except QueryFailed:\n            return\n\n    for page in whole():\n",
            ),
            (
                "from etl.records import read_records",
                "from etl.errors import QueryFailed\nfrom etl.records import Page, read_records",
            ),
        ),
        (_cell("queries vanish after two pages"),),
    ),
    Bug(
        "an error of the thread that reads ends the pages quietly",
        "etl/prefetch.py",
        (("        if self._error is not None:\n", "        if self._error is self:\n"),),
        (_cell("queries vanish after two pages"),),
    ),
    Bug(
        "what was given up passes for whole",
        "etl/prefetch.py",
        (
            (
                "        except BaseException as caught:",
                "        except Abandoned:\n            pass\n"
                "        except BaseException as caught:",
            ),
        ),
        ("tests/test_prefetch.py",),
    ),
    Bug(
        "a thread goes on reading what nobody waits for",
        "etl/genesys/client/clock.py",
        (("        require_wanted()\n        self._wait(seconds)", "        self._wait(seconds)"),),
        ("tests/test_prefetch.py",),
    ),
    Bug(
        "after a death only its queries are gone on with",
        "etl/agenda.py",
        (
            (
                "[rest for span in spans for rest in gaps(taken, span)]",
                "[rest for span in spans for rest in gaps(taken, span) if not left]",
            ),
        ),
        (ANSWERS, "-k", "nothing_can_be_added and sqlite"),
    ),
    Bug(
        "a query is resumed although more of its time became visible since",
        "etl/pipeline.py",
        (("settled = query.window.end + job.settling <= query.asked_at", "settled = True"),),
        (ANSWERS, "-k", "nothing_can_be_added and sqlite"),
    ),
    Bug(
        "a query is resumed for time that was loaded meanwhile",
        "etl/pipeline.py",
        (
            (
                "settled and not any(map(query.window.overlaps, "
                "ledger.loaded(job.stream, query.window)))",
                "settled",
            ),
        ),
        (ANSWERS, "-k", "loaded_meanwhile and sqlite"),
    ),
    Bug(
        "a resumed query counts as asked when it was resumed",
        "etl/pipeline.py",
        (("        started_at=query.asked_at,\n", "        started_at=job.source.now(),\n"),),
        (ANSWERS, "-k", "nothing_can_be_added and sqlite"),
    ),
    Bug(
        "a verification that dies leaves its query to a backfill",
        "etl/pipeline.py",
        (
            ("    if job.settling is None:\n        return lambda _: None\n", ""),
            (
                "    if job.settling is None:\n        return\n",
                "    if job.settling is None:\n"
                "        yield from queries.left_open(\n"
                "            job.destination.ledger.engine, job.stream, job.schedule,\n"
                "            job.source.now(),\n"
                "        )\n"
                "        return\n",
            ),
        ),
        (ANSWERS, "-k", "no_query_to_resume and sqlite"),
    ),
    Bug(
        "answers about another time are dropped",
        "etl/pipeline.py",
        (
            (
                "        batch = read_records(page.records)\n",
                "        batch = read_records(page.records)\n"
                "        window = in_flight.window\n"
                "        kept = tuple(a for a in batch.audits if a.event_date in window)\n"
                "        batch = type(batch)(kept, batch.rejects)\n",
            ),
        ),
        (ANSWERS, "-k", "about_another_time and sqlite"),
    ),
    Bug(
        "an audit at a window's end is left to a window that may not show it",
        "etl/pipeline.py",
        (
            (
                "        batch = read_records(page.records)\n",
                "        batch = read_records(page.records)\n"
                "        end = in_flight.window.end\n"
                "        kept = tuple(a for a in batch.audits if a.event_date != end)\n"
                "        batch = type(batch)(kept, batch.rejects)\n",
            ),
        ),
        (_cell("an interval lacks its start and includes its end"),),
    ),
    Bug(
        "an answer about another time passes at once",
        "etl/answers.py",
        (
            (
                "        if found.outside:\n            raise",
                "        if found.outside < 0:\n            raise",
            ),
        ),
        (_cell("answers about the day before"),),
    ),
    Bug(
        "a shorter answer passes at once",
        "etl/answers.py",
        (
            (
                "        if found.unshown:\n            raise",
                "        if found.unshown < 0:\n            raise",
            ),
        ),
        (ANSWERS, "-k", "a_shorter_answer and sqlite"),
    ),
    Bug(
        "verify says nothing of what is no longer shown",
        "etl/operations/verify.py",
        (("    if unshown:\n", "    if unshown < 0:\n"),),
        (ANSWERS, "-k", "verify_tells_of and sqlite"),
    ),
    Bug(
        "an answer must show what was only loaded early",
        "etl/destinations/sql/destination.py",
        (
            (
                "return int(count) - int(connection.execute(unconfirmed).scalar_one())",
                "return int(count) + 0 * int(connection.execute(unconfirmed).scalar_one())",
            ),
        ),
        (ANSWERS, "-k", "early_audits and sqlite"),
    ),
    Bug(
        "what the organisation has forgotten is no excuse",
        "etl/model.py",
        (("floor_second(now - RETENTION + FORGETTING)", "floor_second(now - 9 * RETENTION)"),),
        (ANSWERS, "-k", "retention and sqlite"),
    ),
    Bug(
        "times are rounded",
        "etl/records/lenient.py",
        (
            (
                "        instant = datetime.fromisoformat(text)\n    except",
                '        instant = __import__("msgspec").convert(text, datetime)\n    except',
            ),
        ),
        ("tests/records/test_reader.py", "-k", "never_rounded"),
    ),
    Bug(
        "a window that fails ends its stream",
        "etl/pipeline.py",
        (("            if failed.concerns_others:\n", "            if failed.window:\n"),),
        (FAILING, "-k", "costs_itself and sqlite-1d-fail"),
    ),
    Bug(
        "a window that fails is given up whole",
        "etl/pipeline.py",
        (("losses.newest_first(), HALVES_MAX)", "losses.newest_first()[:0], HALVES_MAX)"),),
        (FAILING, "-k", "costs_itself and sqlite-1d-fail"),
    ),
    Bug(
        "what failed is not asked for again",
        "etl/pipeline.py",
        (("    for region in losses.regions():\n", "    for region in losses.regions()[:0]:\n"),),
        (FAILING, "-k", "costs_itself and sqlite-1d-fail"),
    ),
    Bug(
        "a run that leaves a gap ends with 0",
        "etl/pipeline.py",
        (("    error = losses.error()\n", "    error = losses.error() and None\n"),),
        (FAILING, "-k", "costs_itself and sqlite-1d-fail"),
    ),
    Bug(
        "what was loaded beyond a gap is asked for by each run",
        "etl/due.py",
        (
            (
                "return max([watermark.reached, *(window.end for window in loaded)])",
                "return watermark.reached",
            ),
        ),
        (FAILING, "-k", "costs_itself and sqlite-1d-fail"),
    ),
    Bug(
        "an outage passes for a window that fails",
        "etl/losses.py",
        (
            (
                "return self.refused or not isinstance(self.error, SourceUnavailable)",
                "return not isinstance(self.error, SourceUnavailable)",
            ),
        ),
        (FAILING, "-k", "which_failures_concern"),
    ),
    Bug(
        "an organisation of which every query fails is asked for every window",
        "etl/losses.py",
        (("ALONE_MAX: Final = 8", "ALONE_MAX: Final = 8_000"),),
        (FAILING, "-k", "left_alone_soon and 1h"),
    ),
    Bug(
        "bad windows at the beginning pass for a bad organisation",
        "etl/pipeline.py",
        (("agenda.take(newest=losses.needs_proof)", "agenda.take(newest=False)"),),
        (FAILING, "-k", "first_windows_may_fail and 9"),
    ),
    Bug(
        "a new stream begins late where another one left off",
        "etl/operations/due_spans.py",
        (
            (
                "return min([begin, *(max(watermark, kept) for watermark in before)])",
                "return min([begin, *(max(watermark, kept) for watermark in before[:0])])",
            ),
        ),
        (FAILING, "-k", "services_may_change and sqlite"),
    ),
    Bug(
        "time that is refused is excused wherever it lies",
        "etl/due.py",
        (("excused=one.window.end <= refused)", "excused=one.refused)"),),
        (FAILING, "-k", "no_matter_of_age"),
    ),
    Bug(
        "all that is older than a minute that was refused is given up",
        "etl/agenda.py",
        (
            (
                "return self._asked is _Kind.OLDER and failed.refused and after",
                "return failed.refused or after",
            ),
        ),
        (FAILING, "-k", "amid_accepted_time"),
    ),
    Bug(
        "a stream's failure is not told of",
        "etl/operations/streams.py",
        (("            yield Failure(stream, error)\n", "            del error\n"),),
        (_cell("a permission is missing"),),
    ),
    Bug(
        "a token that died in mid-window is not renewed",
        "etl/genesys/client/transport.py",
        (("outcome.status == 401:", "outcome.status == 499:"),),
        (_cell("tokens die between two pages"),),
    ),
    Bug(
        "a rate limit of hours is slept through",
        "etl/genesys/client/retries.py",
        (("    rate_seconds: float = 180.0\n", "    rate_seconds: float = 180_000.0\n"),),
        (_cell("429 to everything for two hours"),),
    ),
    Bug(
        "a 429 without a header is not waited for as long as its text says",
        "etl/genesys/client/failures.py",
        (('_SECONDS_IN_MESSAGE.search(message or "")', '_SECONDS_IN_MESSAGE.search("")'),),
        ("tests/genesys/client/test_transport.py",),
    ),
    Bug(
        "an answer may take for ever, drop by drop",
        "etl/genesys/client/session.py",
        (("self._monotonic() > self._until", "self._monotonic() > self._until + 900_000"),),
        ("tests/genesys/client/test_transport.py", "-k", "drop_by_drop"),
    ),
    Bug(
        "HTML or half a JSON text passes for an empty page",
        "etl/genesys/client/transport.py",
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
        "etl/genesys/client/downloads.py",
        (
            (
                "auth=ANONYMOUS,",
                "auth=requests.auth.HTTPBasicAuth('client', 'secret'),",
            ),
        ),
        ("tests/genesys/client/test_downloads.py",),
    ),
    Bug(
        "half of a download passes for all of it",
        "etl/genesys/client/downloads.py",
        (
            (
                '                raise self._failed(f"the download is no',
                '                return\n                raise self._failed(f"the download is no',
            ),
        ),
        ("tests/genesys/client/test_downloads.py",),
    ),
    Bug(
        "records that cannot be rows are dropped",
        "etl/records/reader.py",
        (("            rejects.append(row)\n", "            pass\n"),),
        (_cell("records without id or time"),),
    ),
    Bug(
        "an id of any type is an id",
        "etl/records/shapes.py",
        (('as_name(get("id"))', 'as_text(get("id"))'),),
        (_cell("records without id or time", "parquet"),),
    ),
    Bug(
        "a record of an unexpected type is kept aside",
        "etl/records/reader.py",
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
        "etl/destinations/lake/parquet.py",
        (
            (
                "merged([held, *(run.source() for run in runs)])",
                "merged([run.source() for run in runs])",
            ),
        ),
        (f"{HOSTILE}::test_what_the_source_forgets_stays[parquet]",),
    ),
    Bug(
        "a lake's receipt comes before its files",
        "etl/destinations/lake/parquet.py",
        (
            (
                "        with translated(self._storage):\n"
                "            for partition in staging.partitions:\n"
                "                merges.begin",
                "        early = pending.receipt(events=1, new_events=0, rejects=0)\n"
                "        transact(self._engine, lambda connection: record(connection, early))\n"
                "        with translated(self._storage):\n"
                "            for partition in staging.partitions:\n"
                "                merges.begin",
            ),
        ),
        (f"{CRASHES}[parquet]",),
    ),
    Bug(
        "one new audit of a partition is not worth a file",
        "etl/destinations/lake/parquet.py",
        (("        if new.count:\n", "        if new.count > 1:\n"),),
        ("tests/destinations/test_contract.py", "-k", "parquet and not s3"),
    ),
    Bug(
        "what a partition was merged without stays out of it",
        "etl/destinations/lake/parquet.py",
        (("                    merges.take_back(part.partition)\n", ""),),
        ("tests/destinations/lake/test_lake.py", "-k", "merged_before"),
    ),
    Bug(
        "an audit that a page shows twice is written twice into a lake",
        "etl/destinations/lake/parquet.py",
        (
            (
                "if len(set(map(_ID_OF, audits))) < len(audits):",
                "if not audits:",
            ),
        ),
        ("tests/destinations/lake/test_lake.py", "-k", "shows_twice"),
    ),
    Bug(
        "NUL is not looked for at the last backslash of a record",
        "etl/records/reader.py",
        (('record.rfind(b"\\\\") + len(_NUL)', 'record.rfind(b"\\\\")'),),
        ("tests/records/test_reader.py", "-k", "among_other_escapes"),
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
        ("tests/destinations/lake/test_lake.py", "-k", "go_back_in_time"),
    ),
    Bug(
        "the records in a lake are cut where another column's texts begin",
        "etl/destinations/lake/columns.py",
        ((", texts, offset=offsets.offset)", ", texts)"),),
        ("tests/destinations/test_contract.py", "-k", "parquet and not s3"),
    ),
    Bug(
        "a tail looks half as often as its share allows",
        "etl/operations/tail.py",
        (("ROUNDS_PART: Final = 0.6", "ROUNDS_PART: Final = 0.3"),),
        ("tests/genesys/test_follower.py", "-k", "within_seconds"),
    ),
    Bug(
        "the thread that decodes opens the database too",
        "etl/pipeline.py",
        (
            (
                "        answer.take(batch)\n",
                "        answer.take(batch)\n"
                "        job.destination.ledger.loaded(job.stream, in_flight.window)\n",
            ),
        ),
        ("tests/export/test_requests.py", "-k", "no_thread_but"),
    ),
    Bug(
        "connections take turns, and each fills a cache",
        "etl/database/engine.py",
        (('"pool_use_lifo": True', '"pool_use_lifo": False'),),
        ("tests/database/test_engine.py", "-k", "the_same_connection and sqlite"),
    ),
    Bug(
        "the environment says in which encoding PostgreSQL is given texts",
        "etl/database/postgresql.py",
        (('"client_encoding": "utf8"', '"load_balance_hosts": "disable"'),),
        ("tests/database/test_engine.py", "-k", "encoding_of_the_environment"),
    ),
    Bug(
        "keys are sorted as the server's libraries have it",
        "migrations/versions/0001_first_tables.py",
        (('BYTE_ORDER = "C"\n', "BYTE_ORDER = None\n"),),
        ("tests/database/test_migrations.py", "-k", "order_of_texts"),
    ),
    Bug(
        "lookbacks are said to fit before one has looked back",
        "etl/ledger/lateness.py",
        (("    if not looked_back:\n", "    if looked_back < timedelta(0):\n"),),
        ("tests/ledger/test_lateness.py", "-k", "before_they_have_looked_back"),
    ),
    Bug(
        "gaps before the start of a stream are not told",
        "etl/ledger/gaps.py",
        (
            (
                "        span = Window(max(kept, min(bounds)), max(bounds))\n",
                "        first = watermark.begins_at if watermark else min(bounds)\n"
                "        span = Window(max(kept, first), max(bounds))\n",
            ),
        ),
        ("tests/ledger/test_status_truth.py", "-k", "before_the_start"),
    ),
    Bug(
        "time that is only behind is drawn as a gap",
        "etl/ledger/coverage.py",
        (("        elif _midnight(day) >= reached:\n", "        elif not day:\n"),),
        ("tests/ledger/test_status_truth.py", "-k", "behind_and_no_gap"),
    ),
    Bug(
        "a minimum of requests is above what was spent",
        "etl/ledger/figures.py",
        (("min(spent, least_requests(records))", "least_requests(records)"),),
        ("tests/ledger/test_status_truth.py", "-k", "no_minimum"),
    ),
    Bug(
        "a backfilled service is shown as a stream that never ran",
        "etl/ledger/status.py",
        (
            (
                "in _of(ledger, organizations) if ledger.watermark(stream)}",
                "in _of(ledger, organizations)}",
            ),
        ),
        ("tests/ledger/test_status_truth.py", "-k", "backfilled_service"),
    ),
    Bug(
        "a question makes the database that it is asked of",
        "etl/operations/query.py",
        (("    app.require_tables()\n", "    app.prepare()\n"),),
        ("tests/ledger/test_status_truth.py", "-k", "wrong_folder_makes_nothing and query"),
    ),
    Bug(
        "what could not be printed passes for printed",
        "etl/cli/ending.py",
        (("        sys.stdout.flush()\n", ""),),
        ("tests/cli/test_ending.py", "-k", "full_disk"),
    ),
    Bug(
        "a reader that is gone is taken for a bug",
        "etl/cli/ending.py",
        (("        return READER_GONE\n", "        return BUG\n"),),
        ("tests/cli/test_ending.py", "-k", "closes_the_pipe and sqlite"),
    ),
    Bug(
        "a cron line with two day fields fires on both days at once alone",
        "etl/schedules.py",
        (
            (
                '    if day.startswith("*") or weekday.startswith("*"):\n',
                "    if day and weekday:\n",
            ),
        ),
        ("tests/test_schedules.py", "-k", "last_fired"),
    ),
    Bug(
        "a carriage return is a part of a secret",
        "etl/config/loading.py",
        (("text_of(Path(path).read_bytes()).strip(BLANKS)", "text_of(Path(path).read_bytes())"),),
        ("tests/config/test_files.py", "-k", "without_blanks"),
    ),
    Bug(
        "a name acts on the terminal that shows it",
        "etl/plain.py",
        (("    if text.isprintable():\n", "    if text:\n"),),
        ("tests/test_plain.py", "-k", "does_not_obey"),
    ),
    Bug(
        "another program's version of its tables is taken for ours",
        "etl/database/schema.py",
        (
            (
                'VERSION_TABLE: Final = "audit_etl_version"',
                'VERSION_TABLE: Final = "alembic_version"',
            ),
        ),
        ("tests/database/test_migrations.py", "-k", "program_s_version and sqlite"),
    ),
    Bug(
        "another program's table is taken for ours",
        "etl/database/migration.py",
        (
            (
                "            if not columns <= {*table.c.keys(), *schema.DIFFERENT}:\n",
                "            if not columns:\n",
            ),
        ),
        ("tests/database/test_migrations.py", "-k", "program_s_table and sqlite"),
    ),
    Bug(
        "the first release works on tables that are newer than it",
        "etl/database/migration.py",
        (("            _lock_out_first_release(connection)\n", "            pass\n"),),
        ("tests/database/test_migrations.py", "-k", "taken_over and sqlite"),
    ),
    Bug(
        "a secret is masked only as it is set",
        "etl/genesys/client/masking.py",
        (('    quoted = "".join(map(_any_form, secret))\n', "    quoted = re.escape(secret)\n"),),
        ("tests/genesys/client/test_masking.py", "-k", "each_form"),
    ),
    Bug(
        "a part of a password passes for the host",
        "etl/database/urls.py",
        (('    elif "@" in _USER', '    elif "@@" in _USER'),),
        ("tests/genesys/client/test_masking.py", "-k", "told_from_its_host"),
    ),
    Bug(
        "audits are written into a file of another user",
        "etl/private.py",
        (("found.st_uid in {os.geteuid(), 0} or", "found.st_uid >= 0 or"),),
        ("tests/project/test_privacy.py", "-k", "another_user or other_user_s"),
    ),
    Bug(
        "strangers take every descriptor of the daemon",
        "etl/serving.py",
        (
            (
                "        if len(self.connections) > CONNECTIONS_MAX:\n",
                "        if not self.connections:\n",
            ),
        ),
        ("tests/monitoring/test_health_attacks.py", "-k", "odd_connections"),
    ),
    Bug(
        "a connection without a request lasts for ever",
        "etl/serving.py",
        (
            ('if getattr(self, "cycle", None) is None:', "if not self.order:"),
            ("            self.loop.call_later(LIFE_SECONDS, transport.abort),\n", ""),
        ),
        ("tests/monitoring/test_health_attacks.py", "-k", "ends_by_itself"),
    ),
    Bug(
        "a firewall's refusal is taken for a missing permission",
        "etl/genesys/client/transport.py",
        (("            if _is_of_a_firewall(outcome):\n", "            if not outcome:\n"),),
        ("tests/genesys/client/test_proxies.py", "-k", "firewall_s_refusal"),
    ),
    Bug(
        "a CA behind a proxy is told as a broken answer",
        "etl/genesys/client/network_errors.py",
        (
            (
                "    return inner if isinstance(inner, ssl.SSLError) else error\n",
                "    return error\n",
            ),
        ),
        ("tests/genesys/client/test_proxies.py", "-k", "nobody_knows"),
    ),
    Bug(
        "early hints pass for the answer",
        "etl/genesys/client/session.py",
        (("{HTTPStatus.PROCESSING, HTTPStatus.EARLY_HINTS}", "{0}"),),
        ("tests/genesys/client/test_proxies.py", "-k", "passed_over"),
    ),
    Bug(
        "a lake's columns change without a new version",
        "etl/destinations/lake/columns.py",
        (("nullable=bool(column.nullable))", "nullable=True)"),),
        ("tests/destinations/test_columns.py", "-k", "of_their_version"),
    ),
    Bug(
        "a column that an older program does not know is dropped by it",
        "etl/destinations/lake/columns.py",
        (
            (
                "    if unknown and set(KEY) <= set(columns.names):",
                "    if unknown and not columns:",
            ),
        ),
        ("tests/destinations/test_columns.py", "-k", "nobody_knows"),
    ),
    Bug(
        "two columns of SQL are swapped",
        "etl/destinations/sql/rows.py",
        (
            ("            audit.application,\n", "            audit.user_home_org_id_,\n"),
            ("            audit.user_home_org_id,\n", "            audit.application,\n"),
            ("            audit.user_home_org_id_,\n", "            audit.user_home_org_id,\n"),
        ),
        ("tests/destinations/test_contract.py", "-k", "reads_back and sqlite"),
    ),
    Bug(
        "two columns of a lake are swapped",
        "etl/destinations/lake/columns.py",
        (
            (
                "    return pa.Table.from_arrays(arrays, schema=COLUMNS)\n\n\nclass _Wanted",
                "    arrays[9], arrays[11] = arrays[11], arrays[9]\n"
                "    return pa.Table.from_arrays(arrays, schema=COLUMNS)\n\n\nclass _Wanted",
            ),
        ),
        ("tests/destinations/test_contract.py", "-k", "reads_back and parquet"),
    ),
    Bug(
        "columns of one name lose all values but the last",
        "etl/operations/query.py",
        (
            (
                "next(free) if name in names else name",
                "name",
            ),
        ),
        ("tests/operations/test_query.py", "-k", "of_one_name and jsonl and sqlite"),
    ),
    Bug(
        "a partition's file is held in memory while it is written",
        "etl/destinations/lake/writing.py",
        (
            (
                "return bool(most <= self._most and size <= self._size)",
                "return bool(most and size)",
            ),
        ),
        ("tests/destinations/lake/test_memory.py", "-k", "tick"),
    ),
    Bug(
        "a lake's files have no bloom filters",
        "etl/destinations/lake/writing.py",
        (("bloom_filter_options=dict.fromkeys(FILTERED, FILTER)", "bloom_filter_options=None"),),
        ("tests/destinations/lake/test_files.py", "-k", "passes_over"),
    ),
    Bug(
        "bloom filters are made for ids that nobody asks for",
        "etl/destinations/lake/writing.py",
        (('("id", "entity_id", "user_id")', '("id", "entity_id", "client_id")'),),
        ("tests/destinations/lake/test_files.py", "-k", "each_row_group"),
    ),
    Bug(
        "a lake's records are compressed as little as its other columns",
        "etl/destinations/lake/writing.py",
        (('    "raw": 3,\n', '    "raw": 1,\n'),),
        ("tests/destinations/lake/test_files.py", "-k", "300_bytes"),
    ),
    Bug(
        "a lake's columns are compressed in pages of a megabyte",
        "etl/destinations/lake/writing.py",
        (("            data_page_size=self._size,\n", ""),),
        ("tests/destinations/lake/test_files.py", "-k", "300_bytes"),
    ),
    Bug(
        "row groups end where the next piece does not fit whole",
        "etl/destinations/lake/writing.py",
        (("[piece] if fits else cut", "[piece] if fits or piece else cut"),),
        ("tests/destinations/lake/test_files.py", "-k", "nearly_full"),
    ),
    Bug(
        "Arrow is loaded before its memory pool is chosen",
        "etl/__init__.py",
        (('os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")\n', ""),),
        ("tests/destinations/lake/test_memory.py", "-k", "from_the_system"),
    ),
    Bug(
        "a question to a lake holds what Arrow reads ahead",
        "etl/destinations/lake/reading.py",
        (
            (
                "    files = _Frugal([], _SCHEMA, _PARQUET)\n"
                "    with translated(storage):\n"
                "        files.storage, files.paths, files.sizes = "
                "storage, storage.files(), sizes\n"
                "    return files\n",
                "    made = [\n"
                "        _PARQUET.make_fragment(storage.source(path))\n"
                "        for path in storage.files()\n"
                "    ]\n"
                "    return ds.FileSystemDataset(made, _SCHEMA, _PARQUET)\n",
            ),
        ),
        ("tests/destinations/lake/test_memory.py", "-k", "query"),
    ),
    Bug(
        "PostgreSQL is given times since 1970",
        "etl/destinations/sql/rows.py",
        (("_EPOCH: Final = datetime(2000, ", "_EPOCH: Final = datetime(1970, "),),
        ("tests/destinations/test_contract.py", "-k", "reads_back and postgresql"),
    ),
    Bug(
        "a statement is longer than MariaDB's packets",
        "etl/destinations/sql/inserter.py",
        (
            ("    if len(value) > hexadecimal:", "    if not value:"),
            (
                "        if length > room:\n            text",
                "        if not length:\n            text",
            ),
        ),
        ("tests/destinations/test_contract.py", "-k", "several_megabytes and mariadb"),
    ),
    Bug(
        "a lost connection is asked to undo, and tells of nothing but that",
        "etl/destinations/sql/inserter.py",
        (("            connection.invalidate(error)\n", "            pass\n"),),
        ("tests/destinations/test_faults.py", "-k", "in_the_server_s_words"),
    ),
    Bug(
        "a text ends where it says so itself",
        "etl/destinations/sql/inserter.py",
        (('if "\'" not in value and', "if"),),
        ("tests/export/test_injection.py", "-k", "mariadb"),
    ),
    Bug(
        "a backslash means something to MariaDB",
        "etl/destinations/sql/inserter.py",
        ((' and "\\\\" not in value', ""),),
        ("tests/destinations/test_contract.py", "-k", "reads_back and mariadb"),
    ),
    Bug(
        "the last statement of many rows is kept back from MariaDB",
        "etl/destinations/sql/inserter.py",
        (("    if held:\n        yield Step", "    if not rows:\n        yield Step"),),
        ("tests/destinations/test_contract.py", "-k", "reads_back and mariadb"),
    ),
    Bug(
        "a daemon that reads its configuration again gives SQLite's locks up",
        "etl/private.py",
        (
            (
                "    except FileExistsError:\n",
                "    except FileExistsError:\n        os.close(os.open(file, os.O_RDWR))\n",
            ),
        ),
        ("tests/database/test_engine.py", "-k", "opened_again"),
    ),
    Bug(
        "a damaged file of a lake is not named",
        "etl/destinations/lake/storage.py",
        (("        raise _damaged(storage, path, str(error)) from error\n", "        raise\n"),),
        ("tests/export/test_by_hand.py", "-k", "damaged and parquet and not s3"),
    ),
    Bug(
        "what lies beside a lake's files is read as its own",
        "etl/destinations/lake/layout.py",
        (
            (
                "        return path == path_of(organization_of(path), folders)\n",
                "        return path.endswith('.parquet')\n",
            ),
        ),
        ("tests/export/test_by_hand.py", "-k", "lie_beside and parquet and not s3"),
    ),
    Bug(
        "time whose last receipts were deleted is no gap",
        "etl/ledger/gaps.py",
        (
            (
                "(watermark.begins_at, watermark.reached, wanted_from)",
                "(watermark.begins_at, wanted_from)",
            ),
        ),
        ("tests/export/test_by_hand.py", "-k", "progress and sqlite"),
    ),
    Bug(
        "the last key of each list is not looked up",
        "etl/destinations/sql/keys.py",
        (("keys[start : start + self.listed]", "keys[start : start + self.listed - 1]"),),
        ("tests/export/test_edges.py", "-k", "listed and mariadb"),
    ),
    Bug(
        "a row that would make MariaDB's statement too long is dropped",
        "etl/destinations/sql/inserter.py",
        (
            (
                "            held, size = [], 0\n        held.append(text)\n",
                "            held, size = [], 0\n            continue\n        held.append(text)\n",
            ),
        ),
        ("tests/export/test_edges.py", "-k", "bytes_of_mariadb"),
    ),
    Bug(
        "a group that is just large enough is dropped",
        "etl/destinations/sql/groups.py",
        (
            (
                "        if size >= size_bytes:\n            yield",
                "        if size == size_bytes:\n            _drained(audits, rejects)\n"
                "            size = 0\n        if size >= size_bytes:\n            yield",
            ),
        ),
        ("tests/export/test_edges.py", "-k", "transactions and sqlite"),
    ),
    Bug(
        "absent_of ignores the organisation",
        "etl/destinations/sql/keys.py",
        (
            (
                "    mine = sa.and_(key.table.c.organization == scope.organization, *where)\n",
                "    mine = sa.and_(sa.true(), *where)\n",
            ),
        ),
        ("tests/destinations/test_contract.py", "-k", "one_id_in_two and sqlite"),
    ),
    Bug(
        "a repair of what was lost here counts as late",
        "etl/ledger/lateness.py",
        (("            if self._lost(load, held):\n", "            if load.events < 0:\n"),),
        ("tests/ledger/test_lateness.py", "-k", "removed_here and sqlite"),
    ),
    Bug(
        "repaired is what was missing",
        "etl/operations/verifier.py",
        (
            (
                'repaired=comparison.count("repaired"),',
                'repaired=comparison.count("missing") if self._repair else 0,',
            ),
        ),
        ("tests/operations/test_verify.py", "-k", "there_afterwards and sqlite"),
    ),
    Bug(
        "what moved in time is looked up at its new time for ever",
        "etl/destinations/sql/destination.py",
        (("            self.anywhere = self.look_up\n", ""),),
        ("tests/destinations/sql/test_loading.py", "-k", "moved_in_time and sqlite"),
    ),
    Bug(
        "look-ups of ids do not name their time",
        "etl/destinations/sql/destination.py",
        (("() if checks.anywhere else [", "() if checks.look_up else ["),),
        ("tests/destinations/sql/test_partitions.py", "-k", "partitions_of_its_time"),
    ),
    Bug(
        "changes get the time of the load",
        "etl/destinations/sql/rows.py",
        (
            (
                "    yield schema.audit_property_changes, _property_rows(organization, timed,",
                "    timed = [(audit, bound.time(loaded_at)) for audit in audits]\n"
                "    yield schema.audit_property_changes, _property_rows(organization, timed,",
            ),
        ),
        ("tests/destinations/test_contract.py", "-k", "reads_back and sqlite"),
    ),
    Bug(
        "changes of early audits stay when these give way",
        "etl/destinations/sql/keys.py",
        (("    _delete_changes(scope, sorted(times))\n", ""),),
        ("tests/destinations/sql/test_loading.py", "-k", "only_the_early and sqlite"),
    ),
    Bug(
        "changes of one audit are sought by reading the whole table",
        "etl/destinations/sql/keys.py",
        (
            (
                '            table.c.event_date == sa.bindparam("at"),\n',
                '            table.c.event_date + sa.text("0") == sa.bindparam("at"),\n',
            ),
        ),
        ("tests/destinations/sql/test_plans.py", "-k", "mariadb"),
    ),
    Bug(
        "a first load leaves PostgreSQL without statistics",
        "etl/destinations/sql/statistics.py",
        (("scalar_one() < new_events", "scalar_one() > new_events"),),
        ("tests/destinations/sql/test_statistics.py",),
    ),
    Bug(
        "changes that another program adds while migrate works are lost",
        "migrations/versions/0003_seven_years.py",
        (("IN ACCESS EXCLUSIVE MODE", "IN ACCESS SHARE MODE"),),
        ("tests/database/test_upgrade.py", "-k", "nobody_adds"),
    ),
    Bug(
        "triggers of a user see an upgrade",
        "migrations/versions/0003_seven_years.py",
        (("AND tgenabled <> 'D'", "AND tgenabled = 'D'"),),
        ("tests/database/test_upgrade.py", "-k", "triggers_of_a_user_stay"),
    ),
    Bug(
        "an upgrade drops a user's triggers and indexes of an SQLite file",
        "migrations/versions/0003_seven_years.py",
        (("    for statement in by_others:\n", "    for statement in by_others[:0]:\n"),),
        ("tests/database/test_upgrade.py", "-k", "outlive"),
    ),
    Bug(
        "statistics wait for a VACUUM in the transaction that loads",
        "etl/destinations/sql/statistics.py",
        (("ANALYZE (SKIP_LOCKED) {", "ANALYZE {"),),
        ("tests/destinations/sql/test_statistics.py", "-k", "vacuum"),
    ),
    Bug(
        "an id of a change is longer than an index takes",
        "etl/records/normalise.py",
        (("    if all(len(change.entity_id or", "    if all(len(change.entity_type or"),),
        ("tests/records/test_reader.py", "-k", "indexed_text"),
    ),
    Bug(
        "an upgrade meets an id that is longer than an index takes",
        "migrations/versions/0003_seven_years.py",
        (("    for table, column in CUT.items():\n", "    for table, column in ():\n"),),
        ("tests/database/test_upgrade.py", "-k", "longer_than_an_index"),
    ),
    Bug(
        "SQLite's statistics are gathered once and never again",
        "etl/destinations/sql/statistics.py",
        (("    return bool(2 * (", "    return bool(0 * ("),),
        ("tests/destinations/sql/test_statistics.py", "-k", "twice"),
    ),
    Bug(
        "an upgrade gives changes the time of another organisation's audit",
        "migrations/versions/0003_seven_years.py",
        (
            (
                '"ON e.organization = c.organization AND e.id = c.event_id"\n    )',
                '"ON e.organization <> c.organization AND e.id = c.event_id"\n    )',
            ),
        ),
        ("tests/database/test_upgrade.py", "-k", "changes_no_row and sqlite"),
    ),
    Bug(
        "children of no parent stay in the way",
        "etl/destinations/sql/destination.py",
        (("        if checks.replace_orphans:\n", "        if not absent:\n"),),
        ("tests/export/test_by_hand.py", "-k", "deleted_alone and sqlite"),
    ),
    Bug(
        "what a refused row holds is told",
        "etl/database/errors.py",
        (
            (
                "refuses rows: {rule};",
                "refuses rows: {rule} {error.orig};",
            ),
        ),
        ("tests/export/test_by_hand.py", "-k", "postgresql and values"),
    ),
    Bug(
        "rows that a trigger leaves out count as loaded",
        "etl/destinations/sql/inserter.py",
        (("    if inserted != given:\n", "    if inserted > given:\n"),),
        ("tests/export/test_by_hand.py", "-k", "leaves_out and sqlite"),
    ),
    Bug(
        "verify drops a row at each piece's end",
        "etl/operations/comparison.py",
        (
            (
                "list(islice(left, self._noted_rows)):",
                "[row for row, _ in zip(left, range(self._noted_rows), strict=False)]:",
            ),
        ),
        ("tests/operations/test_verify_edges.py", "-k", "sqlite"),
    ),
    Bug(
        "sessions of a server that has become read-only stay in the pool",
        "etl/database/errors.py",
        (("        if codes & DEMOTED:\n", "        if not codes:\n"),),
        (
            "tests/database/test_connections.py::test_a_session_that_has_become_read_only_is_not_used_again"
            "[postgresql]",
        ),
    ),
    Bug(
        "a machine that is gone is waited for as long as TCP does",
        "etl/database/postgresql.py",
        (
            ('        "tcp_user_timeout": timeouts.dead * 1000,\n', ""),
            ('        "keepalives": 1,\n', '        "keepalives": 0,\n'),
        ),
        (
            "tests/database/test_connections.py::"
            "test_a_machine_that_acknowledges_nothing_is_given_up_after_a_minute[postgresql]",
        ),
    ),
    Bug(
        "what the user sets for PostgreSQL's sessions is set over",
        "etl/database/postgresql.py",
        ((" if name not in chosen}", "}"),),
        (
            "tests/database/test_connections.py::"
            "test_the_options_of_the_url_and_of_the_environment_count_beside_ours[postgresql]",
        ),
    ),
    Bug(
        "an organisation that never ends holds up the others for ever",
        "etl/daemon/turns.py",
        ((" if turn.ends_at > now}", "}"),),
        ("tests/daemon/test_turns.py", "-k", "a_turn_that_lasts"),
    ),
    Bug(
        "as many connections are opened as there are threads",
        "etl/database/engine.py",
        (('"max_overflow": 0', '"max_overflow": -1'),),
        ("tests/database/test_connections.py", "-k", "many_threads and postgresql"),
    ),
    Bug(
        "work that hangs passes for alive",
        "etl/monitoring/movement.py",
        (("            if now - at > seconds:\n", "            if now - at > seconds < 0:\n"),),
        ("tests/monitoring/test_health.py", "-k", "sign_of_life"),
    ),
    Bug(
        "check writes nowhere in the tables",
        "etl/destinations/trials.py",
        (("            _try_table(connection, table, now)\n", "            table.c.keys()\n"),),
        ("tests/operations/test_check.py", "-k", "lacks_a_right and watermarks"),
    ),
    Bug(
        "check leaves a new file behind",
        "etl/destinations/trials.py",
        (("unlink()\n", "exists()\n"),),
        ("tests/operations/test_check.py", "-k", "a_new_file_is_tried and audits.db"),
    ),
    Bug(
        "a beginning in the future is as good as any",
        "etl/config/settings.py",
        (("datetime) and self.start > now:", "datetime) and self.begin is now:"),),
        ("tests/operations/test_check.py", "-k", "beginning_in_the_future and run"),
    ),
    Bug(
        "a failed upload counts as loaded",
        "etl/destinations/lake/bucket.py",
        (
            ('        if there["size"] != size:\n', '        if there["size"] > size:\n'),
            ("if self.get(path, local.tell(), end) != local.read():", "if not local.read():"),
        ),
        (_store_cell("part: keeps half of it"), _store_cell("put: keeps half of it")),
    ),
    Bug(
        "a copy that was not made passes for one",
        "etl/destinations/lake/bucket.py",
        (("if self.get(path, local.tell(), end) != local.read():", "if not local.read():"),),
        ("tests/destinations/lake/test_bucket.py", "-k", "stays_whole"),
    ),
    Bug(
        "another object of the same size is taken for what was sent",
        "etl/destinations/lake/bucket.py",
        (('if _differ(sent["e_tag"], there["e_tag"]):', 'if _differ(sent["e_tag"], None):'),),
        ("tests/destinations/lake/test_bucket.py", "-k", "not_ours"),
    ),
    Bug(
        "what is published in a bucket is written over before the upload is confirmed",
        "etl/destinations/lake/storage.py",
        (
            (
                "        self._bucket.put(aside, staged)\n",
                "        self._bucket.put(path, staged)\n",
            ),
        ),
        ("tests/destinations/lake/test_bucket.py", "-k", "stays_whole"),
    ),
    Bug(
        "a bucket's lease is confirmed before the upload",
        "etl/destinations/lake/storage.py",
        (
            (
                "        self._bucket.put(aside, staged)\n        confirm()\n",
                "        confirm()\n        self._bucket.put(aside, staged)\n",
            ),
        ),
        ("tests/destinations/lake/test_bucket.py", "-k", "uploaded_aside"),
    ),
    Bug(
        "a file is taken for absent that the store lists",
        "etl/destinations/lake/bucket.py",
        (("            if not self._lists(path):\n", "            if True:\n"),),
        (_store_cell("look: 404 for what it lists"),),
    ),
    Bug(
        "a listing that is cut short is all there is",
        "etl/destinations/lake/bucket.py",
        (("            more = [path for path in", "            more = [] and [path for path in"),),
        ("tests/destinations/lake/test_bucket.py", "-k", "cut_short"),
    ),
    Bug(
        "ranges of two versions of a file are mixed",
        "etl/destinations/lake/bucket.py",
        (('            options["if_match"] = e_tag\n', '            options["version"] = None\n'),),
        ("tests/destinations/lake/test_bucket.py", "-k", "not_mixed"),
    ),
    Bug(
        "a question about one column downloads all of each file",
        "etl/destinations/lake/storage.py",
        (
            (
                "return RemoteFile(self._bucket, path)",
                "return RemoteFile(self._bucket, path, ahead=2**30)",
            ),
        ),
        ("tests/destinations/lake/test_bucket.py", "-k", "reads_that_column"),
    ),
    Bug(
        "what follows # in a lake's URL is dropped",
        "etl/destinations/lake/storage.py",
        (
            (
                '    scheme, _, rest = url.partition("://")\n',
                '    scheme, _, rest = url.partition("#")[0].partition("://")\n',
            ),
        ),
        ("tests/destinations/lake/test_bucket.py", "-k", "literally"),
    ),
    Bug(
        "a token that a store repeats is shown",
        "etl/destinations/lake/bucket.py",
        (('reason = reason.replace(self._access.token, "***")', "reason = reason.strip()"),),
        ("tests/destinations/lake/test_bucket.py", "-k", "without_secrets"),
    ),
    Bug(
        "a lake's file is not flushed before its rename",
        "etl/destinations/lake/local_storage.py",
        (("        _flush(staged)\n        _make_folders", "        _make_folders"),),
        ("tests/destinations/lake/test_writers.py", "-k", "flushed_then"),
    ),
    Bug(
        "a lake's folder is not flushed after a rename in it",
        "etl/destinations/lake/local_storage.py",
        (("        _flush(target.parent)\n\n\n", "\n\n"),),
        ("tests/destinations/lake/test_writers.py", "-k", "flushed_then"),
    ),
    Bug(
        "a lake's lease is confirmed before its lock is taken",
        "etl/destinations/lake/local_storage.py",
        (
            (
                "        with _locked(self._root / LOCK):\n            confirm()\n",
                "        confirm()\n        with _locked(self._root / LOCK):\n",
            ),
        ),
        ("tests/destinations/lake/test_writers.py", "-k", "nobody_else"),
    ),
    Bug(
        "a losing writer of a lake clears the winner's staging",
        "etl/destinations/lake/staging.py",
        (
            (
                "    except BlockingIOError:\n        os.close(descriptor)\n        return None\n",
                "    except BlockingIOError:\n        return descriptor\n",
            ),
        ),
        ("tests/destinations/lake/test_writers.py", "-k", "leaves_the_staging"),
    ),
    Bug(
        "a folder of a lake that may not be read is passed over",
        "etl/destinations/lake/local_storage.py",
        (("os.walk(top, onerror=_raise)", "os.walk(top)"),),
        ("tests/destinations/lake/test_writers.py", "-k", "may_not_be_read"),
    ),
    Bug(
        "a lake is loaded whatever ledger and lake its file names",
        "etl/destinations/lake/binding.py",
        (
            (
                "if marker.ledger != rows.ledger or rows.lake not in {None, marker.lake}:",
                "if not marker.ledger:",
            ),
        ),
        (f"{LAKES}::test_one_lake_with_two_states_is_refused[parquet]",),
    ),
    Bug(
        "a lake without its file is taken for a new one",
        "etl/destinations/lake/binding.py",
        (
            (
                "        if rows.lake is not None:\n            self._refuse(",
                "        if rows.lake == '':\n            self._refuse(",
            ),
        ),
        (f"{LAKES}::test_a_lake_that_lost_its_file_is_refused",),
    ),
    Bug(
        "a lake from a backup passes for today's",
        "etl/destinations/lake/binding.py",
        (("marker.generation not in rows.generations", "not marker.generation"),),
        (f"{LAKES}::test_one_of_the_two_from_a_backup_is_refused_and_both_go_on",),
    ),
    Bug(
        "the ledger drops a lake's generation before the lake has the next one",
        "etl/destinations/lake/binding.py",
        (("GENERATION, BEFORE, before.generation)", "GENERATION, BEFORE, marker.generation)"),),
        (f"{CRASHES}[parquet]",),
    ),
    Bug(
        "a load goes on in a lake that another state has adopted",
        "etl/destinations/lake/parquet.py",
        (("lambda: self._binding.confirm(fence)", "lambda: transact(self._engine, fence)"),),
        (f"{LAKES}::test_another_state_that_adopts_a_lake_stops_the_load_that_is_at_work",),
    ),
    Bug(
        "a state of 0.1.0 is bound to any lake that has some files",
        "etl/destinations/lake/binding.py",
        (("if held[organization] < count:", "if not files:"),),
        (f"{LAKES}::test_receipts_without_files_are_refused[parquet]",),
    ),
    Bug(
        "adopting another lake keeps the receipts of the former one",
        "etl/ledger/claims.py",
        (
            ("    _set_aside(connection, _whose(receipts, organization), now)\n", ""),
            (
                'again = {"watermark": watermarks.c.begins_at,',
                'again = {"watermark": watermarks.c.watermark,',
            ),
        ),
        (f"{LAKES}::test_an_adopted_lake_gets_everything_since_the_beginning[parquet]",),
    ),
    Bug(
        "the progress of a lake passes for that of tables",
        "etl/destinations/sql/place.py",
        (("        identities.require_tables(engine)\n", ""),),
        (
            f"{LAKES}::test_tables_are_not_taken_for_the_lake_of_their_database_nor_the_other_way_round",
        ),
    ),
    Bug(
        "other credentials under a name are taken for the same organisation",
        "etl/operations/recognition.py",
        (("    if told == known.id if told", "    if told != known.client if told"),),
        (f"{IDENTITY}::test_other_credentials_under_a_name_are_refused[sqlite]",),
    ),
    Bug(
        "an organisation that does not say which one it is passes for any",
        "etl/operations/recognition.py",
        (("if told and known.id else same_place:", "if told and known.id else not told:"),),
        (
            f"{IDENTITY}::test_an_organisation_that_does_not_say_who_it_is_is_known_by_its_client[404]",
        ),
    ),
    Bug(
        "a new client is asked at each run which organisation it is of",
        "etl/operations/recognition.py",
        (
            (
                "identities.record(connection, CLIENT, name, now_known.client, at)",
                'identities.record(connection, CLIENT, name, "", at)',
            ),
        ),
        (
            f"{IDENTITY}::test_a_new_client_of_the_same_organisation_costs_one_question_and_nothing_else[sqlite]",
        ),
    ),
    Bug(
        "another organisation's audits are loaded early",
        "etl/operations/early.py",
        (("    recognise(app, organization)\n", ""),),
        (f"{IDENTITY}::test_a_schedule_that_loads_early_does_not_load_another_organisation",),
    ),
    Bug(
        "the first of the runs that become one is lost",
        "etl/destinations/lake/staging.py",
        (
            (
                "in merged([run.source() for run in runs]):",
                "in merged([run.source() for run in runs[1:]]):",
            ),
        ),
        ("tests/destinations/lake/test_edges.py::test_runs",),
    ),
    Bug(
        "the last rows of an answer that fill no batch are lost",
        "etl/destinations/sql/answering.py",
        (("        while rows:\n", "        while len(rows) == rows_max:\n"),),
        ("tests/destinations/lake/test_edges.py::test_answers[sqlite-5]",),
    ),
    Bug(
        "a bug's traceback quotes what the library's error quotes",
        "etl/unexpected.py",
        (("if isinstance(error, AuditEtlError) else", "if str(error) else"),),
        ("tests/test_unexpected.py::test_no_command_prints_values",),
    ),
    Bug(
        "the log quotes the values of an error that a library logs",
        "etl/telemetry/logs.py",
        (("    _without_values,\n", ""),),
        ("tests/test_unexpected.py::test_no_log_line_has_values[False]",),
    ),
    Bug(
        "a thread that dies prints its error's values",
        "etl/cli/ending.py",
        (("    hide_values_of_threads()\n", ""),),
        ("tests/test_unexpected.py::test_no_command_prints_values",),
    ),
    Bug(
        "a PostgreSQL elsewhere may decline TLS",
        "etl/encryption.py",
        (('ours["sslmode"] = "verify-full"', 'ours["sslmode"] = "prefer"'),),
        (f"{DECLINED}[postgresql]",),
    ),
    Bug(
        "a MariaDB elsewhere may decline TLS",
        "etl/encryption.py",
        (('| {"ssl_disabled": False, "ssl": _context(settings)}', '| {"ssl_disabled": False}'),),
        (f"{DECLINED}[mariadb]",),
    ),
    Bug(
        "ssl_disabled=false disables TLS",
        "etl/encryption.py",
        (("given.lower() in _YES", "bool(given)"),),
        ("tests/test_encryption.py", "-k", "mysql"),
    ),
    Bug(
        "any certificate of a CA is the database's",
        "etl/encryption.py",
        (
            (
                "context.check_hostname = all(_is_on(settings, name) for name in names)",
                "context.check_hostname = not names",
            ),
        ),
        ("tests/test_encryption.py", "-k", "mysql"),
    ),
    Bug(
        "a bucket elsewhere is spoken to in clear",
        "etl/destinations/lake/access.py",
        (("            require_https(variable, endpoint, given)\n", ""),),
        ("tests/test_encryption.py", "-k", "bucket"),
    ),
    Bug(
        "a question may call what PostgreSQL calls volatile",
        "etl/destinations/sql/answering.py",
        (("        if found is not None:", "        if False:"),),
        (f"{QUESTIONS}test_a_question_can_do_nothing_but_read[postgresql]",),
    ),
    Bug(
        "a question may call what MariaDB alone knows",
        "etl/destinations/questions.py",
        (("    if unknown:", "    if False:"),),
        (f"{QUESTIONS}test_a_question_can_do_nothing_but_read[mariadb]",),
    ),
    Bug(
        "a question's comments are sent, which MariaDB executes",
        "etl/destinations/questions.py",
        (("    return _without_comments(question, tokens)", "    return question"),),
        (f"{QUESTIONS}test_a_question_can_do_nothing_but_read[mariadb]",),
    ),
    Bug(
        "a question reads any table",
        "etl/destinations/questions.py",
        (("and _folded(table.this) in known", "and known"),),
        (f"{QUESTIONS}test_a_question_can_change_nothing[sqlite]",),
    ),
    Bug(
        "a name that WITH gives later, or elsewhere, opens any table of that name",
        "etl/destinations/questions.py",
        (
            (
                "around.expressions if around.recursive else around.expressions[:place]",
                "around.expressions",
            ),
        ),
        (f"{QUESTIONS}test_a_question_can_change_nothing[sqlite]",),
    ),
    Bug(
        "a parameter of another driver is a bug of audit-etl",
        "etl/database/mysql.py",
        (
            (
                "(AttributeError, LookupError, OSError, TypeError, ValueError)",
                "ZeroDivisionError",
            ),
        ),
        ("tests/database/test_remedies.py::test_a_bound_of_a_parameter_is_told",),
    ),
    Bug(
        "MySQL 8 without cryptography is not told what to install",
        "etl/database/mysql.py",
        (("    except RuntimeError as error:\n", "    except ZeroDivisionError as error:\n"),),
        (
            "tests/database/test_remedies.py::test_a_password_for_mysql_8_without_cryptography_says_what_to_install",
        ),
    ),
    Bug(
        "an absent database is not made by the command that is told",
        "etl/database/remedies.py",
        (("run `createdb {database}`", "run `createdb`"),),
        (
            "tests/database/test_remedies.py::test_a_database_that_is_absent_is_made_by_the_command_that_is_told",
        ),
    ),
    Bug(
        "another driver's scheme is not told which one to write",
        "etl/database/urls.py",
        (
            (
                '    near += [right for right in schemes if right == scheme.partition("+")[0]]'
                "  # another driver\n",
                "",
            ),
        ),
        ("tests/config/test_urls.py",),
    ),
    Bug(
        "times come as the role of a PostgreSQL database writes them",
        "etl/database/postgresql.py",
        (('"datestyle": "ISO", ', ""),),
        (
            "tests/database/test_connections.py::test_what_a_role_sets_on_postgresql_changes_nothing",
        ),
    ),
    Bug(
        "a statement that took longer than the role allows is told without the setting",
        "etl/database/remedies.py",
        (('{"57014", 1969, 3024}', "{1969, 3024}"),),
        ("tests/database/test_connections.py::test_a_setting_that_stops_a_run_is_named",),
    ),
    Bug(
        "PgBouncer's refusal of a parameter is told without a remedy",
        "etl/database/remedies.py",
        (('("unsupported startup parameter",)', "()"),),
        ("tests/database/test_poolers.py::test_what_pgbouncer_refuses_is_said_with_its_remedy",),
    ),
    Bug(
        "psycopg prepares statements, though a pooler gives each transaction another session",
        "etl/database/postgresql.py",
        (('"prepare_threshold": None,', '"prepare_threshold": 1,'),),
        (
            "tests/database/test_poolers.py::"
            "test_no_session_of_a_pool_is_left_with_a_setting_that_changes_answers",
        ),
    ),
    Bug(
        "what a MySQL URL sets commits each statement by itself",
        "etl/database/engine.py",
        ((', "isolation_level": "READ COMMITTED"}', "}"),),
        (
            "tests/database/test_connections.py::"
            "test_no_choice_in_a_mysql_url_garbles_rows_or_leaves_half_a_transaction",
        ),
    ),
    Bug(
        "an answer of MariaDB ends where the server's sql_select_limit says",
        "etl/database/mysql.py",
        (("sql_select_limit = 18446744073709551615", "sql_select_limit = DEFAULT"),),
        (f"{MARIADB}::test_all_commands_work_on_it",),
    ),
    Bug(
        "tables get the row format that a MariaDB server makes by default",
        "migrations/env.py",
        (('_row_format"] = "DYNAMIC"', '_row_format"] = "DEFAULT"'),),
        (f"{MARIADB}::test_all_commands_work_on_it",),
    ),
    Bug(
        "MariaDB's sql_mode turns empty texts into NULL",
        "etl/database/mysql.py",
        (("STRICT_ALL_TABLES,NO", "EMPTY_STRING_IS_NULL,NO"),),
        (f"{MARIADB}::test_all_commands_work_on_it",),
    ),
    Bug(
        "the others of a window that holds too large an audit are not loaded",
        "etl/destinations/sql/fitting.py",
        (("            left_out.append(error)\n", "            raise\n"),),
        (f"{MARIADB}::test_one_audit_too_large_for_a_packet_is_one_windows_failure",),
    ),
    Bug(
        "an audit too large for a packet stops its whole stream",
        "etl/pipeline.py",
        (("SourceBrokePromise, AuditTooLarge) as", "SourceBrokePromise) as"),),
        (f"{MARIADB}::test_one_audit_too_large_for_a_packet_is_one_windows_failure",),
    ),
    Bug(
        "a packet is counted a byte too large",
        "etl/destinations/sql/inserter.py",
        (("packet - len(begin) - 1", "packet - len(begin)"),),
        (f"{MARIADB}::test_a_statement_fills_a_packet_to_the_last_byte",),
    ),
    Bug(
        "a question to a lake fails if a file was replaced before it gave a row",
        "etl/destinations/lake/storage.py",
        (("            if given or not left:\n", "            if left:\n"),),
        ("tests/destinations/lake/test_bucket.py", "-k", "replaced"),
    ),
    Bug(
        "a file of a lake that was replaced amid its rows is read from its start",
        "etl/destinations/lake/storage.py",
        (("            if given or not left:\n", "            if not left:\n"),),
        ("tests/destinations/lake/test_bucket.py", "-k", "replaced"),
    ),
    Bug(
        "AWS_CA_BUNDLE is passed over",
        "etl/destinations/lake/access.py",
        (('given.get("AWS_CA_BUNDLE", "")', '""'),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "bundle"),
    ),
    Bug(
        "with virtual hosts the bucket's name is in neither the host nor the path",
        "etl/destinations/lake/access.py",
        (('return f"{scheme}://{name}.{place}"', "return endpoint"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "names_the_bucket"),
    ),
    Bug(
        "a machine that gives no more threads is taken for a bug",
        "etl/cli/ending.py",
        (("isinstance(error, MemoryError) or _NO_THREAD in str(error)", "False"),),
        ("tests/cli/test_boundaries.py", "-k", "sqlite and Thread"),
    ),
    Bug(
        "DuckDB that cannot be started is taken for a bug",
        "etl/destinations/lake/reading.py",
        (
            (
                "    except duckdb.Error as error:\n        raise DestinationUnavailable(\n",
                "    except ZeroDivisionError as error:\n        raise DestinationUnavailable(\n",
            ),
        ),
        ("tests/cli/test_boundaries.py", "-k", "duckdb and not s3"),
    ),
    Bug(
        "what another user left beside a database is taken for its journal",
        "etl/private.py",
        (('_BESIDE: Final = ("-wal", "-shm", "-journal")', "_BESIDE: Final = ()"),),
        ("tests/project/test_privacy.py", "-k", "beside_a_database"),
    ),
    Bug(
        "a file that is no database is made private",
        "etl/private.py",
        (("return error.sqlite_errorcode != sqlite3.SQLITE_NOTADB", "return True"),),
        ("tests/project/test_privacy.py", "-k", "no_database"),
    ),
    Bug(
        "an answer goes into another user's pipe",
        "etl/private.py",
        (
            (
                "        _require_own(path, path.stat())  #",
                "        pass  #",
            ),
            (
                "        _require_own(path, found)\n        if stat.S_ISREG(found.st_mode):\n",
                "        if stat.S_ISREG(found.st_mode):\n            _require_own(path, found)\n",
            ),
        ),
        ("tests/project/test_privacy.py", "-k", "pipe"),
    ),
    Bug(
        "a lookback that failed is forgotten once the next one does not reach it",
        "etl/due.py",
        (
            (
                "for one in failed],\n    )\n",
                "for one in failed if one.window.end > watermark.reached],\n    )\n",
            ),
        ),
        ("tests/export/test_failing_windows.py", "-k", "holds_up_no_new_time"),
    ),
    Bug(
        "folders of a lake that are links are overlooked",
        "etl/destinations/lake/local_storage.py",
        (("    if folder.is_symlink():\n", "    if not folder:\n"),),
        ("tests/export/test_by_hand.py", "-k", "linked"),
    ),
    Bug(
        "a reject too large for a lake's state takes its window's audits along",
        "etl/destinations/lake/parquet.py",
        (
            (
                "        fitting(insert, Batch((), rejects), too_large)\n",
                "        insert(Batch((), rejects))\n",
            ),
        ),
        (f"{MARIADB}", "-k", "lake_s_other_audits"),
    ),
    Bug(
        "a lookback of nothing is that of the schedule",
        "etl/operations/export.py",
        (("    if lookback is not None:\n", "    if lookback:\n"),),
        ("tests/export/test_by_hand.py", "-k", "lookback_of_nothing"),
    ),
    Bug(
        "a service that PostgreSQL does not know is taken for a bug",
        "etl/database/postgresql.py",
        (('if "target_session_attrs" not in known:', "if not asked:"),),
        ("tests/database/test_remedies.py", "-k", "service"),
    ),
    Bug(
        "a URL of MySQL without a database is taken for a bug",
        "etl/database/mysql.py",
        (("    if database is None:\n", "    if packet is None:\n"),),
        ("tests/database/test_remedies.py", "-k", "without_a_database"),
    ),
    Bug(
        "a colon without a port is taken for a bug",
        "etl/database/urls.py",
        (('(f":{port}" if port else "")', '(":" + port)'),),
        ("tests/config/test_urls.py", "-k", "a_database_is_opened"),
    ),
    Bug(
        "an argument that a driver has for programs is taken from a URL",
        "etl/database/connections.py",
        (("in names if name not in known]", "in names if name in known and False]"),),
        ("tests/database/test_remedies.py", "-k", "parameters"),
    ),
    Bug(
        "an option file of MySQL that cannot be understood is taken for a bug",
        "etl/database/mysql.py",
        (("except (configparser.Error, UnicodeDecodeError):", "except ZeroDivisionError:"),),
        ("tests/database/test_remedies.py", "-k", "option_file"),
    ),
    Bug(
        "a driver that cannot be loaded is taken for a bug",
        "etl/database/engine.py",
        (("    except ImportError as error:\n", "    except ZeroDivisionError as error:\n"),),
        ("tests/database/test_remedies.py", "-k", "loaded"),
    ),
    Bug(
        "the bound that a parameter of MySQL breaks is not told",
        "etl/database/mysql.py",
        (('and " should be " in str(error)', "and not str(error)"),),
        ("tests/database/test_remedies.py", "-k", "a_bound"),
    ),
    Bug(
        "a server that refuses each write of a run is told only when it does",
        "etl/database/limits.py",
        (('== "STATEMENT"', '== "NONE"'),),
        ("tests/destinations/sql/test_mariadb_settings.py", "-k", "before_and_when"),
    ),
    Bug(
        "`check` passes over the encoding of a database",
        "etl/operations/check.py",
        (("        limits.require_usable(connection)\n", ""),),
        ("tests/operations/test_check.py", "-k", "every_character"),
    ),
    Bug(
        "a remedy names the URL's user in place of the one that was refused",
        "etl/database/remedies.py",
        (("(found[0].groupdict() if found else {})", "{}"),),
        ("tests/database/test_remedies.py", "-k", "a_role"),
    ),
    Bug(
        "what PostgreSQL's variables ask for in vain is not named",
        "etl/database/remedies.py",
        (('            "unrecognized configuration parameter",\n', ""),),
        ("tests/database/test_remedies.py", "-k", "in_vain"),
    ),
    Bug(
        "a socket of PostgreSQL's is taken for a host",
        "etl/database/urls.py",
        (("|%2[Ff][^/?@]*", ""),),
        ("tests/database/test_connections.py", "-k", "as_libpq_writes"),
    ),
    Bug(
        "a parameter that an SQLite file has not is passed over",
        "etl/database/urls.py",
        (('if name != "timeout":', "if not name:"),),
        ("tests/config/test_urls.py", "-k", "cannot_be_is_refused"),
    ),
    Bug(
        "a text that goes on after a new line is not the one that was looked at",
        "etl/destinations/questions.py",
        (
            ("_is_text(before) and _is_text(token)", "_is_text(before) and not token"),
            ('text += " " if token.start > end else ""', "text += question[end : token.start]"),
        ),
        (QUESTIONS + "test_a_question_can_do_nothing_but_read[postgresql]",),
    ),
    Bug(
        "IN with a table's name reads any table of SQLite's",
        "etl/destinations/questions.py",
        (('if any(part.args.get("field")', 'if any(part.args.get("fields")'),),
        (QUESTIONS + "test_a_question_can_do_nothing_but_read[sqlite]",),
    ),
    Bug(
        "a question shows the statements of other sessions",
        "etl/destinations/sql/answering.py",
        (
            ("OR proname LIKE 'pg\\\\_%' \"\n", '"\n'),
            ("AND proname NOT IN ('pg_typeof', 'pg_size_pretty', 'pg_column_size')) ", ") "),
        ),
        (QUESTIONS + "test_a_question_can_do_nothing_but_read[postgresql]",),
    ),
    Bug(
        "the client of a bucket takes for yes what we take for no",
        "etl/destinations/lake/access.py",
        (('"true 1 yes on"', '"true 1"'), ('"false 0 no off"', '"false 0 no off yes on"')),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "names_the_bucket"),
    ),
    Bug(
        "a carriage return after a variable of AWS is a part of it",
        "etl/destinations/lake/access.py",
        (('_BLANKS: Final = " \\t\\r\\n"', '_BLANKS: Final = " "'),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "blanks_around"),
    ),
    Bug(
        "the client of a bucket takes an empty session token for one",
        "etl/destinations/lake/bucket.py",
        (("credential_provider=_credentials(access)", "credential_provider=None"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "blanks_around"),
    ),
    Bug(
        "a port of a bucket that no port can be ends in a panic",
        "etl/destinations/lake/access.py",
        (("        _ = urlsplit(endpoint).port\n", "        _ = urlsplit(endpoint)\n"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "stumble_over"),
    ),
    Bug(
        "a panic of the bucket's client ends the run",
        "etl/destinations/lake/bucket.py",
        (('type(error).__name__ != "PanicException"', "error is not None"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "panic"),
    ),
    Bug(
        "a bucket on this machine is asked through a proxy",
        "etl/destinations/lake/bucket.py",
        (("    if access.on_loopback:\n", "    if not access:\n"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "in_the_way"),
    ),
    Bug(
        "a proxy between us and a bucket is not named",
        "etl/destinations/lake/store_errors.py",
        (("if causes and proxy:", "if causes and not proxy:"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "in_the_way"),
    ),
    Bug(
        "certificates of the system's that are missing are not named",
        "etl/destinations/lake/bucket.py",
        (('"No CA certificates" in str(error)', "not str(error)"),),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "where_there_are_none"),
    ),
    Bug(
        "an error of a server quotes the rows' values",
        "etl/database/errors.py",
        (("if not asked and not holds_no_value(error):", "if False:"),),
        ("tests/export/test_by_hand.py", "-k", "somebody_added"),
    ),
    Bug(
        "a parameter whose name is percent-encoded is shown with its secret",
        "etl/database/urls.py",
        (("unquote_plus(name).lower() in _HARMLESS", '"password" not in name'),),
        ("tests/config/test_secrets.py", "-k", "but_for_its_secrets"),
    ),
    Bug(
        "a CA file without certificates is tried again and again",
        "etl/genesys/client/network_errors.py",
        (("root.reason == _NO_CERTIFICATE", "not root.reason"),),
        ("tests/genesys/client/test_transport.py", "-k", "told_at_once"),
    ),
    Bug(
        "a file of TLS keys that cannot be written is a failure of the network",
        "etl/genesys/client/network_errors.py",
        (("root.filename == os.getenv(_KEY_LOG)", "not root.filename"),),
        ("tests/genesys/client/test_transport.py", "-k", "told_at_once"),
    ),
    Bug(
        "a server without TLS is taken for a private CA",
        "etl/genesys/client/network_errors.py",
        (("if root.reason in _NO_TLS:", "if not root.reason:"),),
        ("tests/genesys/client/test_transport.py", "-k", "speaks_no_tls"),
    ),
    Bug(
        "a number out of range hides that days of the week go by name",
        "etl/config/values.py",
        (('"".join(text.split()[4:])', '""'),),
        ("tests/config/test_values.py", "-k", "would_not_fire"),
    ),
    Bug(
        "a range of a cron line that passes the end is told without its last part",
        "etl/config/values.py",
        (("values[: values.index(last) + 1]", "values[: values.index(last)]"),),
        ("tests/config/test_values.py", "-k", "other_crons"),
    ),
    Bug(
        "a parameter of a URL that is there twice is taken for a bug",
        "etl/database/connections.py",
        (("if not isinstance(value, str) and name", "if not value and name"),),
        ("tests/database/test_remedies.py", "-k", "twice"),
    ),
    Bug(
        "connections that do not read their answer keep probes out",
        "etl/serving.py",
        (
            ("min(open_now, key", "max(open_now, key"),
            ('[("connection", "close")] if bounded else []', "[]"),
        ),
        ("tests/monitoring/test_health_attacks.py", "-k", "read_no_answer"),
    ),
    Bug(
        "a question does not say why the lake cannot be listed",
        "etl/destinations/lake/reading.py",
        (
            (
                "    with translated(storage):\n        files.storage",
                "    with tempfile.TemporaryDirectory():\n        files.storage",
            ),
        ),
        ("tests/destinations/lake/test_bucket_surroundings.py", "-k", "says_why"),
    ),
    Bug(
        "a secret that is escaped twice or in base64 is shown",
        "etl/genesys/client/masking.py",
        (
            ("_TIMES: Final = 4", "_TIMES: Final = 1"),
            ("range(3))]", "range(0))]"),
        ),
        ("tests/genesys/client/test_masking.py", "-k", "other_spelling"),
    ),
    Bug(
        "the state of a lake is in another folder if its name has a percent",
        "etl/destinations/lake/place.py",
        (('.replace("%", "%25")', ""),),
        ("tests/config/test_urls.py", "-k", "a_local_lake"),
    ),
    Bug(
        "a service that is refused is not named by a probe",
        "etl/operations/probe/services.py",
        (("            refused.append(name)\n", "            pass\n"),),
        ("tests/operations/test_probe.py", "-k", "refused"),
    ),
    Bug(
        "what became visible late is missed by a probe",
        "etl/operations/probe/newest.py",
        (("second.keys() - first.keys()", "first.keys() - second.keys()"),),
        ("tests/operations/test_probe.py", "-k", "late"),
    ),
    Bug(
        "a probe sends more requests than it may",
        "etl/operations/probe/inquiry.py",
        (("exchange.count >= REQUESTS_MAX", "exchange.count >= 2 * REQUESTS_MAX"),),
        ("tests/operations/test_probe.py", "-k", "never_more"),
    ),
    Bug(
        "a probe's report names the services that were refused",
        "etl/cli/probe.py",
        (('"seen": found.seen,', '"seen": found.seen + found.remedy,'),),
        ("tests/operations/test_probe.py", "-k", "holds_no_value"),
    ),
    Bug(
        "a download that is offered with another status than 302 is no page",
        "etl/genesys/audits.py",
        (("frozenset(range(200, 400))", "frozenset({200, 302})"),),
        ("tests/genesys/client/test_downloads.py", "-k", "any_status"),
    ),
    Bug(
        "a name on the command line is that of no organisation, and all are exported",
        "etl/config/settings.py",
        (("        if not names:\n            return self\n", "        return self\n"),),
        ("tests/cli/test_organizations.py",),
    ),
    Bug(
        "a table that was partitioned by hand shows no descriptions",
        "etl/database/comments.py",
        (("relkind IN ('r', 'p')", "relkind IN ('r')"),),
        ("tests/database/test_comments.py", "-k", "partitioned"),
    ),
    Bug(
        "migrating waits for locks of tables that are as they should be",
        "etl/database/comments.py",
        (("            if text != table.comment:\n", "            if table.comment:\n"),),
        ("tests/database/test_comments.py", "-k", "not_locked"),
    ),
    Bug(
        "a new column has no description",
        "etl/database/descriptions.py",
        (('        "repaired": "how', '        "mended": "how'),),
        ("tests/database/test_comments.py", "-k", "left_over"),
    ),
    Bug(
        "a constraint that is violated is tried again in vain",
        "etl/database/errors.py",
        (("        if is_duplicate(error):\n", "        if error.orig:\n"),),
        (REFUSALS, "-k", "at_once and check"),
    ),
    Bug(
        "the words of a trigger's author are told",
        "etl/database/remedies.py",
        (('if "PL/" in (own.diag.context or ""):', 'if "PL/" in state:'),),
        (REFUSALS, "-k", "another and state"),
    ),
    Bug(
        "the words of a trigger's author are told if it chose a number",
        "etl/database/remedies.py",
        (("return ours and not raised_by_author(own)", "return ours"),),
        (REFUSALS, "-k", "another and number"),
    ),
    Bug(
        "a constraint is named as a trigger calls it",
        "etl/database/refusals.py",
        (("    if raised_by_author(diagnosed):\n", "    if not diagnosed:\n"),),
        (REFUSALS, "-k", "names and constraint"),
    ),
    Bug(
        "a missing partition of PostgreSQL is told as a constraint",
        "etl/database/refusals.py",
        (('== "ExecFindPartition"', '== "ExecConstraints"'),),
        (REFUSALS, "-k", "partition and organisation"),
    ),
    Bug(
        "a missing partition is told with the row's values",
        "etl/database/refusals.py",
        (('by = f" by ({key[1]})"', 'by = f" by {diagnosed.message_detail}"'),),
        (REFUSALS, "-k", "partition and time"),
    ),
    Bug(
        "a missing partition of MariaDB is told as a value",
        "etl/database/refusals.py",
        (("frozenset({1526, 1591})", "frozenset({1591})"),),
        (REFUSALS, "-k", "partition and MariaDB"),
    ),
    Bug(
        "a column without a default is not named",
        "etl/database/refusals.py",
        (("|Field '[^']+'", ""),),
        (REFUSALS, "-k", "column and MariaDB"),
    ),
    Bug(
        "the table that refuses a row is not named",
        "etl/destinations/sql/inserter.py",
        (('f"INSERT INTO {step.table.name}"', '"INSERT"'),),
        (REFUSALS, "-k", "trigger and SQLite"),
    ),
    Bug(
        "what a trigger of SQLite makes of a row is told",
        "etl/database/refusals.py",
        (("Final = (3, 47)", "Final = (4, 0)"),),
        (REFUSALS, "-k", "may_have_made"),
    ),
    Bug(
        "a writer is not told who migrates",
        "etl/database/versions.py",
        (('which owns the tables" if owner else', 'which owns the tables" if not owner else'),),
        (ROLES, "-k", "who_migrates and postgresql"),
    ),
    Bug(
        "a writer that migrates is told to ask for what it has",
        "etl/database/remedies.py",
        (('"must be owner of", "permission denied for schema", "(CREATE', '"(GRANT'),),
        (ROLES, "-k", "who_migrates"),
    ),
    Bug(
        "row-level security is told as a missing GRANT",
        "etl/database/remedies.py",
        (('        ("row-level security",),\n', '        ("row-level insecurity",),\n'),),
        (ROLES, "-k", "row_level"),
    ),
    Bug(
        "a binary log of statements is told as a fault of the server",
        "etl/database/remedies.py",
        (("    ({1665}, (), ", "    (set(), (), "),),
        ("tests/destinations/sql/test_binlog.py", "-k", "of_statements"),
    ),
    Bug(
        "a lookback asks for audits that were removed on purpose",
        "etl/operations/due_spans.py",
        (("    if watermark.begins_at < kept:\n", "    if kept < watermark.begins_at < kept:\n"),),
        (KEPT, "-k", "nothing_that_was_removed and sqlite"),
    ),
    Bug(
        "a backfill asks for audits that were removed on purpose",
        "etl/operations/selection.py",
        (("    return Window(start, span.end)\n", "    return span\n"),),
        (KEPT, "-k", "nothing_that_was_removed and sqlite"),
    ),
    Bug(
        "a second of which a part was removed is asked for",
        "etl/ledger/retention.py",
        (("microseconds=999_999", "microseconds=0"),),
        (KEPT, "-k", "part_was_removed and sqlite"),
    ),
    Bug(
        "a time in the future, from when on audits are kept, is believed",
        "etl/ledger/retention.py",
        (("    if start > now:\n", "    if start < EARLIEST:\n"),),
        (KEPT, "-k", "cannot_be_right"),
    ),
    Bug(
        "an organisation is kept by the row of another one",
        "etl/ledger/retention.py",
        (
            (
                "sa.select(retention.c.kept_from).where(retention.c.organization == organization)",
                "sa.select(retention.c.kept_from)",
            ),
        ),
        (KEPT, "-k", "own_row and sqlite"),
    ),
    Bug(
        "what comes late after a removal counts as restored",
        "etl/ledger/receipts.py",
        (("n if start >= kept else 0", "n"),),
        (KEPT, "-k", "late_and_not_restored and sqlite"),
    ),
    Bug(
        "time that is no longer kept is a gap",
        "etl/ledger/gaps.py",
        (("Window(max(kept, min(bounds)), max(bounds))", "Window(min(bounds), max(bounds))"),),
        (KEPT, "-k", "claims_of_time and sqlite"),
    ),
    Bug(
        "time that failed and is no longer kept is a gap",
        "etl/ledger/gaps.py",
        (("spanning(max(kept, one.start), one.end)", "spanning(one.start, one.end)"),),
        (KEPT, "-k", "claims_of_time and sqlite"),
    ),
    Bug(
        "time that is no longer kept counts as verified",
        "etl/ledger/verifications.py",
        (("query.where(kept)", "query"),),
        (KEPT, "-k", "claims_of_time and sqlite"),
    ),
    Bug(
        "audits of time that is no longer kept are unconfirmed",
        "etl/ledger/lateness.py",
        (("query.where(kept)", "query"),),
        (KEPT, "-k", "no_longer_unconfirmed and sqlite"),
    ),
    Bug(
        "a gap that is no longer kept raises an alarm",
        "etl/monitoring/condition.py",
        (("        earliest = max(earliest, kept)\n", "        pass\n"),),
        (KEPT, "-k", "fails_no_run"),
    ),
    Bug(
        "what failed is forgotten from where the copy is kept",
        "etl/ledger/queries.py",
        (
            (
                "    for row in rows:\n        connection.execute(_delete(stream,",
                "    for row in rows[:0]:\n        connection.execute(_delete(stream,",
            ),
        ),
        (KEPT, "-k", "keeps_its_watermark"),
    ),
    Bug(
        "a stream that begins later forgets how far it is sure",
        "etl/ledger/receipts.py",
        (("sure = max(begins_at, before.reached) if before else begins_at", "sure = begins_at"),),
        (KEPT, "-k", "keeps_its_watermark"),
    ),
    Bug(
        "days before a copy is kept are drawn",
        "etl/ledger/coverage.py",
        (("max(filter(None, (first, kept)))", "first"),),
        (KEPT, "-k", "nothing_that_was_removed and sqlite"),
    ),
    Bug(
        "a stream is complete from before its copy is kept",
        "etl/ledger/receipts.py",
        (("replace(found, begins_at=max(found.begins_at, kept))", "found"),),
        (KEPT, "-k", "status_says and sqlite"),
    ),
    Bug(
        "a backfill outside of the streams is complete from before it is kept",
        "etl/ledger/receipts.py",
        (("spanning(max(one.start, kept), one.end)", "spanning(one.start, one.end)"),),
        (KEPT, "-k", "claims_of_time and sqlite"),
    ),
    Bug(
        "a restart names time that is no longer kept",
        "etl/ledger/claims.py",
        (("max(begin, start_of(connection, name))", "begin"),),
        (KEPT, "-k", "restart_begin and sqlite"),
    ),
]
