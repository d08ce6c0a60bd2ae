"""The alert rules, the dashboard and the documents speak of all metrics, and of no others."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from etl.model import RETENTION, Stream
from tests import TOP
from tests.support.counted_events import exposition_of_everything
from tests.support.external_programs import program

ALERTS = TOP / "config" / "alerts.yml"
DASHBOARD = json.loads((TOP / "config" / "dashboard.json").read_text())
STREAM = Stream("acme", "*")
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def exposition() -> str:
    return exposition_of_everything()


@pytest.fixture(scope="module")
def labels(exposition: str) -> dict[str, set[str]]:
    """The labels of each sample that a query may name."""
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def rules() -> list[dict[str, object]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, object]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    yield from (str(rule["expr"]) for rule in rules())
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["query"]


@pytest.mark.parametrize("expression", sorted(set(expressions()) - {"prometheus"}))
def test_each_expression_names_metrics_and_labels_that_exist(
    expression: str, labels: dict[str, set[str]]
) -> None:
    names = set(re.findall(r"\b(?:audit_etl|process)_\w+", expression))
    by = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    matched = re.findall(r"(\w+)(?:=~|!=|=)\"", expression)

    assert names
    assert names <= labels.keys()
    known = {"instance", "job"}.union(*(labels[name] for name in names))
    assert {label.strip() for group in by for label in group.split(",")} | set(matched) <= known


def test_each_alert_says_how_bad_it_is_what_it_is_and_what_to_do() -> None:
    names = {str(rule["alert"]).removeprefix("AuditEtl") for rule in rules()}

    assert names >= {"Behind", "NoSuccess", "Rejects", "Failures", "RetentionNearing"}
    for rule in rules():
        assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        assert annotations.keys() == {"summary", "description"}


def test_the_retention_alert_comes_a_month_before_the_source_forgets() -> None:
    [rule] = [r for r in rules() if r["alert"] == "AuditEtlRetentionNearing"]

    found = re.search(r"> (\d+) \* 86400", str(rule["expr"]))

    assert found
    assert timedelta(days=int(found[1])) == RETENTION - timedelta(days=31)


def test_promtool_finds_no_fault_in_the_rules_and_they_fire_when_they_should() -> None:
    promtool = program("promtool", "prometheus")

    checks = [
        subprocess.run([promtool, *arguments], capture_output=True, text=True, cwd=TOP / "tests")
        for arguments in (["check", "rules", ALERTS], ["test", "rules", "alerts_test.yml"])
    ]

    assert [(done.returncode, done.stderr) for done in checks] == [(0, "")] * 2
    tested = yaml.safe_load((TOP / "tests" / "alerts_test.yml").read_text())["tests"]
    for test in tested:
        assert {t["alertname"] for t in test["alert_rule_test"]} == {r["alert"] for r in rules()}


def test_promtool_finds_no_fault_in_the_metrics(exposition: str) -> None:
    promtool = program("promtool", "prometheus")

    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposition, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_each_panel_has_a_place_of_its_own_and_a_legend() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert all(target["legendFormat"] for target in panel["targets"])
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
