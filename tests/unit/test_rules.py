"""The alerting rules against what they speak of: the runbook, their own tests. Of what they ask, see test_promql.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.services import SERVICES
from tests.fixtures import scaled

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "infra" / "prometheus"
SEVERITIES = {"page", "ticket"}

FILES = {path.name: yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))}
RULES = [rule for file in FILES.values() for group in file["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = [
    case
    for path in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for case in yaml.safe_load(path.read_text())["tests"]
]


def test_every_recorded_series_of_an_alert_is_recorded() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    used = set().union(*(re.findall(r"\b\w+:\w+:\w+\b", rule["expr"]) for rule in ALERTS.values()))
    assert used == recorded


def test_no_two_alerts_share_a_name() -> None:
    assert len(ALERTS) == sum("alert" in rule for rule in RULES)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_when_how_urgent_what_and_where_to_look(name: str) -> None:
    rule = ALERTS[name]
    assert rule["for"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert re.search(rf"^## {name}$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)


def test_the_runbook_speaks_of_no_alert_that_is_gone() -> None:
    # An alert's name is one word in capitals and small letters; other chapters have names of several words.
    chapters = re.findall(
        r"^## ((?:[A-Z][a-z0-9]+){2,})$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE
    )
    assert set(chapters) == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_shown_to_fire_and_to_be_silent(name: str) -> None:
    cases = [[firing(check) for check in case["promql_expr_test"]] for case in TESTS]
    assert any(any(name in at for at in times) and any(name not in at for at in times) for times in cases)


def firing(check: dict[str, Any]) -> str:
    assert check["expr"] == 'ALERTS{alertstate="firing"}'
    return " ".join(sample["labels"] for sample in check["exp_samples"] or ())


def test_prometheus_reads_the_rules_and_inhibitions_are_of_alerts_that_there_are() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["rule_files"] == ["rules/*.yml"]
    assert config["alerting"]["alertmanagers"]
    routes = yaml.safe_load((ROOT / "infra/alertmanager/alertmanager.yml").read_text())
    named = re.findall(r'alertname=~?"([^"]+)"', str(routes["inhibit_rules"]))
    assert {name for names in named for name in names.split("|")} <= ALERTS.keys()
    assert {receiver["name"] for receiver in routes["receivers"]} == SEVERITIES


def test_no_service_can_be_absent_unseen() -> None:
    named = re.findall(r'absent\(up\{job="(\w+)", service="(\w+)"\}\)', ALERTS["ServiceAbsent"]["expr"])
    [scrape] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    scraped = [(scrape["job_name"], target["labels"]["service"]) for target in scrape["static_configs"]]
    assert sorted(named) == sorted(scraped) == sorted(("sangathan", name) for name in SERVICES)


@pytest.mark.parametrize(
    ("committed", "short"),
    [
        ("max(a) > 24 * 3600", "max(a) > 24"),
        ("rate(a[1d]) > 14.4 * 0.001", "rate(a[24000ms]) > 14.4 * 0.001"),
        ("deriv(a[10m]) > 2 * 60", "deriv(a[10000ms]) > 2"),
        ("a > 90", "a > 90"),
    ],
)
def test_times_shrink_and_nothing_else(committed: str, short: str) -> None:
    assert scaled.expression(committed) == short


def test_a_shortened_rule_differs_in_its_times_alone() -> None:
    digits = re.compile(r"\[[^]]+\]|\b\d+ \* (?:60|3600|86400)\b|\b\d[\d.]*\b")
    for file in FILES.values():
        short = [rule for group in scaled.rules(file)["groups"] for rule in group["rules"]]
        whole = [rule for group in file["groups"] for rule in group["rules"]]
        for before, after in zip(whole, short, strict=True):
            assert digits.sub("N", before["expr"]) == digits.sub("N", after["expr"])
            times = {"expr", "for"}
            assert {k: v for k, v in before.items() if k not in times} == {
                k: v for k, v in after.items() if k not in times
            }
