"""The alerting rules against the runbook and their own tests. test_promql.py checks their expressions."""

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
def test_an_alert_has_duration_severity_texts_and_runbook_chapter(name: str) -> None:
    rule = ALERTS[name]
    assert rule["for"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert re.search(rf"^## {name}$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)


def test_the_runbook_has_a_chapter_for_each_alert_and_no_other() -> None:
    # An alert's name is one word in mixed case; other chapters have names of several words.
    chapters = re.findall(
        r"^## ((?:[A-Z][a-z0-9]+){2,})$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE
    )
    assert set(chapters) == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_cases_in_which_it_fires_and_is_silent(name: str) -> None:
    cases = [[firing(check) for check in case["promql_expr_test"]] for case in TESTS]
    assert any(any(name in at for at in times) and any(name not in at for at in times) for times in cases)


def firing(check: dict[str, Any]) -> str:
    assert check["expr"] == 'ALERTS{alertstate="firing"}'
    return " ".join(sample["labels"] for sample in check["exp_samples"] or ())


def test_prometheus_reads_the_rules_and_inhibitions_name_existing_alerts() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["rule_files"] == ["rules/*.yml"]
    assert config["alerting"]["alertmanagers"]
    routes = yaml.safe_load((ROOT / "infra/alertmanager/alertmanager.yml").read_text())
    named = re.findall(r'alertname=~?"([^"]+)"', str(routes["inhibit_rules"]))
    assert {name for names in named for name in names.split("|")} <= ALERTS.keys()
    assert {receiver["name"] for receiver in routes["receivers"]} == SEVERITIES


def test_service_absent_covers_every_scraped_service() -> None:
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
