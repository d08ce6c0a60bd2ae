"""`probe` names whatever is not as expected of an organisation, and nothing of a plain one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.app import App, clock
from etl.config import load
from etl.errors import NotPermitted
from etl.genesys.client.failures import Refusal, Refused
from etl.operations.probe import EXPECTED, REQUESTS_MAX, Finding, Verdict, probe
from etl.operations.probe.inquiry import NoneLeft, inquiry_of
from etl.operations.probe.unanswered import refusal_text
from etl.simulator import CLIENT_ID, CLIENT_SECRET, AuditLog, Faults, Simulator
from etl.window import Window
from tests.support.commands import audit_etl, environment, start
from tests.support.hostile_organization import Waits
from tests.support.simulated_organization import END, NOW, START, HandClock
from tests.support.simulated_organization import audit as record

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
#: What each fault makes the probe say, as the name of the expectation that it contradicts.
DEVIATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "interval end": ({"include_interval_end": True}, "interval end"),
    "interval start": ({"exclude_interval_start": True}, "interval start"),
    "milliseconds": ({"milliseconds": True}, "whole seconds"),
    "cursor life": ({"cursor_dies_after": 600}, "life of a cursor"),
    "query life": ({"query_dies_after": 600}, "life of a query"),
    "redirect status": ({"redirect_over": 50, "redirect_status": 307}, "large results"),
    "redirect location": ({"redirect_over": 50, "redirect_location": True}, "large results"),
    "redirect 200": ({"redirect_over": 50, "redirect_status": 200}, "large results"),
    "service refused": ({"forbidden_service": "Architect"}, "services"),
    "the service shown most refused": ({"forbidden_service": "Directory"}, "services"),
    "late by hours": ({"late_every": 3, "late_hours": 2}, "lateness (A4)"),
    "a limit of queries": ({"quota": 40, "retry_after": 20}, "queries in a row"),
    "short intervals": ({"interval_days": 7}, "interval length"),
    "small pages": ({"too_large_over": 100}, "page size"),
    "pages that are cut": ({"page_max": 100}, "page size"),
    "a download that is gone": ({"redirect_over": 50, "expire_download_every": 1}, "large results"),
    "queries that fail": ({"fail_query_every": 1}, "queries"),
    "unknown members": ({"unknown_every": 5}, "members"),
    "no id or time": ({"unusable_every": 9}, "usable audits"),
    "no order": ({"shuffle": True}, "order"),
    "twins": ({"twin_every": 3}, "ids (A1)"),
    "a cursor too many": ({"last_page_with_cursor": True}, "last page"),
    "realtime by service": ({"realtime_named": True}, "realtime"),
    "a wrong clock": ({"clock_ahead": 300}, "clock"),
    "another time": ({"other_time_every": 3}, "answers (A3)"),
    "answers shrink": ({"shrink_again": True}, "realtime"),
}


@pytest.fixture(scope="module")
def log() -> Iterator[AuditLog]:
    with AuditLog.generate(seed=3, count=20_000, start=START, end=END, late_share=0) as log:
        yield log


@contextmanager
def probing(log: AuditLog, tmp_path: Path, **settings: Any) -> Iterator[tuple[App, Simulator]]:
    """An app whose organisation is simulated, both by one clock that pauses move."""
    time = HandClock()
    simulator = Simulator(log=log, clock=time, query_seconds=1, **settings)
    with simulator.serve() as url:
        env = environment(
            GENESYSCLOUD_REGION=url,
            GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
            GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
            AUDIT_ETL_DESTINATION=f"sqlite:///{tmp_path / 'a.db'}",
        )
        with App(load(None, env), stop=Waits(time), now=time, monotonic=time.monotonic) as app:
            yield app, simulator
    assert sum(simulator.requests.values()) <= REQUESTS_MAX
    assert list(tmp_path.iterdir()) == []


def verdicts(found: list[Finding], verdict: Verdict) -> set[str]:
    return {finding.about for finding in found if finding.verdict is verdict}


def test_a_plain_organisation_contradicts_nothing(log: AuditLog, tmp_path: Path) -> None:
    with probing(log, tmp_path) as (app, _):
        found = list(probe(app, HOUR))

    assert verdicts(found, Verdict.CONTRADICTED) == set()
    assert verdicts(found, Verdict.UNKNOWN) == {"large results"}
    assert sorted(finding.about for finding in found) == sorted(EXPECTED)
    assert all(not finding.remedy and not finding.measured for finding in found)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_each_deviation_is_named(log: AuditLog, tmp_path: Path, name: str) -> None:
    faults, about = DEVIATIONS[name]
    with probing(log, tmp_path, faults=Faults(**faults)) as (app, _):
        found = list(probe(app, HOUR))

    assert about in verdicts(found, Verdict.CONTRADICTED), found
    assert len(verdicts(found, Verdict.CONTRADICTED)) <= 3
    [told] = [finding for finding in found if finding.about == about]
    assert told.remedy


def texts(value: object) -> Iterator[str]:
    """Each text within decoded JSON that is no common word; names of members are left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str) and not (value.isalpha() and value.islower()):
        yield value


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    """The environment of a real process, whose organisation has audits of the last days."""
    now = clock().replace(microsecond=0)
    with AuditLog.generate(count=3000, start=now - timedelta(days=9), end=now, late_share=0) as log:
        faults = Faults(
            include_interval_end=True,
            unknown_every=7,
            forbidden_service="Architect",
            redirect_over=90,
            redirect_status=307,
            interval_days=7,
        )
        simulator = Simulator(log=log, faults=faults, allowed_per_minute=240)
        with simulator.serve() as url:
            yield environment(
                GENESYSCLOUD_REGION=url,
                GENESYSCLOUD_OAUTHCLIENT_ID=CLIENT_ID,
                GENESYSCLOUD_OAUTHCLIENT_SECRET=CLIENT_SECRET,
            ) | {"LOG": json.dumps([json.loads(log.one(n)) for n in range(0, len(log), 3)])}


@contextmanager
def simulating(*arguments: str) -> Iterator[dict[str, str]]:
    """`simulate` as a process; gives the environment that it tells to export."""
    with start("simulate", *arguments, env=environment()) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            exports = [line.split()[1] for line in lines if line.startswith("export ")]
            yield dict(export.split("=", 1) for export in exports)
        finally:
            process.kill()


def test_a_report_holds_no_value_of_an_audit_and_makes_a_simulator_alike(
    served: dict[str, str], tmp_path: Path
) -> None:
    records = json.loads(served["LOG"])
    env = {name: value for name, value in served.items() if name != "LOG"}
    path = tmp_path / "report.json"

    result = audit_etl("probe", "--hold", "1s", "--output", str(path), env=env)

    assert result.returncode == 65, result.stderr
    assert "contradicted interval end" in result.stdout
    assert "leave out Architect" in result.stdout
    report = path.read_text()
    assert "futureMember" in result.stdout
    assert "futureMember" not in report
    assert path.stat().st_mode & 0o077 == 0
    assert [value for value in set(texts(records)) if len(value) > 3 and value in report] == []
    contradicted = [f for f in json.loads(report)["findings"] if f["verdict"] == "contradicted"]
    assert {f["about"] for f in contradicted} == {
        *("interval end", "members", "services", "large results", "interval length"),
        "rate limit",
    }
    with simulating("--like", str(path), "--audits", "3000", "--past", "9d") as simulator:
        again = audit_etl("probe", "--hold", "1s", "--json", env=env | simulator)
    found = json.loads(again.stdout)["findings"]
    assert {f["about"] for f in found if f["verdict"] == "contradicted"} == {
        f["about"] for f in contradicted
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        ("[]", "is no report of"),
        ('{"findings": 3}', "is no report of"),
        ("no JSON", "is no report of"),
        ('{"findings": [{"measured": {"shufle": true}}]}', "did you mean shuffle"),
        ('{"findings": [{"measured": {"rate_limit": "x"}}]}', "is no report of"),
        ('{"findings": [{"measured": {"rate_limit": null}}]}', "is no report of"),
        ('{"findings": [{"measured": {"redirect_status": 404}}]}', "takes 200 to 399"),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)

    result = audit_etl("simulate", "--like", str(path), env=environment())

    assert (result.returncode, reason in result.stderr) == (2, True), result.stderr


def test_an_organisation_that_refuses_everything_ends_the_probe(
    log: AuditLog, tmp_path: Path
) -> None:
    with (
        probing(log, tmp_path, faults=Faults(deny_permission=True)) as (app, _),
        pytest.raises(NotPermitted, match="audits:audit:view"),
    ):
        list(probe(app, HOUR))


@pytest.mark.parametrize(
    "faults",
    [
        "server_error_every=4",
        "truncate_every=4",
        "fail_query_every=4",
        "stuck_query_every=1",
        "too_large_over=1 token_dies_after=1",
        "no_page_every=1 no_page_is=values",
        "odd_type_every=1",
        "unusable_every=1",
        "empty_page_with_cursor=1",
        "page_max=40",
    ],
)
def test_what_was_not_seen_is_unknown(log: AuditLog, tmp_path: Path, faults: str) -> None:
    """Whatever the answers are, nothing fails, and nothing is confirmed that was not measured."""
    with probing(log, tmp_path, faults=Faults.parse(faults.split())) as (app, _):
        found = list(probe(app, HOUR))

    assert sorted(finding.about for finding in found) == sorted(EXPECTED)
    assert verdicts(found, Verdict.UNKNOWN) > {"large results"}


@pytest.mark.parametrize(
    ("faults", "about", "verdict"),
    [
        ("too_large_over=100", "life of a query", "confirmed"),
        ("too_large_over=100", "life of a cursor", "confirmed"),
        ("page_max=40", "answers (A3)", "unknown"),
        ("page_max=40", "lateness (A4)", "unknown"),
        ("no_page_every=1 no_page_is=values", "all services", "unknown"),
        ("overlap=5", "ids (A1)", "confirmed"),
        ("shrink_again", "answers (A3)", "unknown"),
        ("unusable_every=1", "order", "unknown"),
        ("unusable_every=1", "whole seconds", "unknown"),
        ("shrink_again", "interval end", "unknown"),
        ("shrink_again", "interval start", "unknown"),
    ],
)
def test_no_verdict_says_more_than_was_seen(
    log: AuditLog, tmp_path: Path, faults: str, about: str, verdict: str
) -> None:
    with probing(log, tmp_path, faults=Faults.parse(faults.split())) as (app, _):
        found = list(probe(app, HOUR))

    assert [finding.verdict for finding in found if finding.about == about] == [verdict]


@pytest.mark.parametrize("count", [0, 1])
def test_of_no_audits_nothing_is_confirmed(tmp_path: Path, count: int) -> None:
    records = [(record(n, NOW - HOUR), NOW - HOUR) for n in range(count)]
    with AuditLog.of(records) as few, probing(few, tmp_path) as (app, _):
        found = list(probe(app, HOUR))

    told = {"clock", "interval length", "queries", "rate limit", "services", "queries in a row"}
    of_one = {"members", "usable audits", "whole seconds", "ids (A1)", "realtime", "times (A2)"}
    of_one |= {"answers (A3)", "lateness (A4)", "life of a query"}
    assert verdicts(found, Verdict.CONTRADICTED) == set()
    assert verdicts(found, Verdict.CONFIRMED) <= told | (of_one if count else set())


def test_a_code_that_is_not_the_vendor_s_is_not_told() -> None:
    refusals = [Refusal("GET /x", 400, code) for code in ("jane.doe.example", "invalid.value")]

    told = [refusal_text(Refused(refusal, "default")) for refusal in refusals]

    assert told == ["status 400", "status 400 invalid.value"]


@pytest.mark.parametrize("hold", ["0s", "soon"])
def test_a_hold_of_nothing_is_refused(hold: str) -> None:
    assert audit_etl("probe", "--hold", hold, env=environment()).returncode == 2


def test_a_slow_organisation_is_asked_never_more_than_it_may_be(
    log: AuditLog, tmp_path: Path
) -> None:
    """Each query is polled so often that the requests are spent before the services are through."""
    with probing(log, tmp_path) as (app, simulator):
        simulator.query_seconds = 600
        simulator.faults = Faults(server_error_every=3)
        found = list(probe(app, HOUR))

    assert sorted(finding.about for finding in found) == sorted(EXPECTED)


@pytest.mark.parametrize(("audits", "read"), [(50, 50), (60, 60), (61, 60), (120, 60), (121, 60)])
def test_no_answer_is_read_over_more_than_six_pages(tmp_path: Path, audits: int, read: int) -> None:
    window = Window(NOW - HOUR, NOW)
    records = [(record(n, NOW - n * SECOND), NOW - HOUR) for n in range(1, audits + 1)]
    with (
        AuditLog.of(records) as many,
        probing(many, tmp_path, faults=Faults(page_max=10)) as (app, _),
        inquiry_of(app, "default") as inquiry,
    ):
        answered = inquiry.ask(window, audits=1000)

    assert len(answered.ids()) == read
    assert (answered.cursor is None) == (read == audits)


def test_the_eighty_first_request_is_not_sent(log: AuditLog, tmp_path: Path) -> None:
    with probing(log, tmp_path) as (app, simulator), inquiry_of(app, "default") as inquiry:
        for _ in range(REQUESTS_MAX - 1):  # the token takes one
            inquiry.api.service_mapping()
        assert inquiry.requests == REQUESTS_MAX
        with pytest.raises(NoneLeft):
            inquiry.api.service_mapping()

    assert sum(simulator.requests.values()) == REQUESTS_MAX
