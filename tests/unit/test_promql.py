"""Queries and rules use only exported labels, and their texts use only labels of the answers."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.fixtures.dashboards import dashboards, panels
from tests.fixtures.promql import UnknownLabelError, answered, documented, sayable
from tests.unit.test_rules import ALERTS, RULES

SAYABLE: Final = sayable()
RANGE: Final = "5m"
"""Stands for $__rate_interval."""
TARGETS: Final = [
    pytest.param(target, id=f"{name}: {panel['title']}: {target['refId']}")
    for name, dashboard in dashboards().items()
    for panel in panels(dashboard)
    for target in panel["targets"]
]


@pytest.fixture(scope="module")
def known() -> dict[str, frozenset[str]]:
    """Documented series plus recorded ones, in the order of recording."""
    series = documented()
    for rule in RULES:
        if "record" in rule:
            series[rule["record"]] = answered(rule["expr"], series, SAYABLE)
    return series


@pytest.mark.parametrize("target", TARGETS)
def test_a_panel_queries_existing_labels_and_its_legend_uses_labels_of_the_answer(target, known) -> None:
    labels = answered(target["expr"].replace("$__rate_interval", RANGE), known, SAYABLE)
    assert set(re.findall(r"\{\{ *(\w+) *\}\}", target["legendFormat"])) <= labels


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_queries_existing_labels_and_its_texts_use_labels_of_the_answer(name, known) -> None:
    rule = ALERTS[name]
    labels = answered(rule["expr"], known, SAYABLE)
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels


@pytest.mark.parametrize(
    "expression",
    [
        "sangathan_nothing",
        'sangathan_dead_letters_total{cause="invalid_data"}',
        'sangathan_mongo_pool_connections{state="inuse"} > 9',
        'sum(rate(sangathan_http_requests_total{route=~"/v1/members|/live"}[5m]))',
        "sum by (topics) (sangathan_consumer_lag_seconds)",
        "sum by (service, reason) (sum by (service) (sangathan_dead_letters_total)) or vector(0)",
        "histogram_quantile(0.9, sum by (service) (rate(sangathan_http_request_seconds_bucket[5m])))",
        "sum by (service) (sangathan_fuse_open) and sangathan_fuse_open",
        "sangathan_fuse_open and on (topic) sangathan_consumer_lag_seconds",
        "sangathan_fuse_open + ignoring (instance) sangathan_consumer_lag_seconds",
    ],
)
def test_queries_for_unknown_series_or_labels_are_found(expression, known) -> None:
    with pytest.raises(UnknownLabelError):
        answered(expression, known, SAYABLE)


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("time() - sangathan_build_info > 3", {"job", "service", "instance", "version", "python"}),
        ("sum without (instance, job) (sangathan_fuse_open)", {"service"}),
        ("sum(sangathan_fuse_open) or vector(0)", set()),
        (
            "sangathan_fuse_open and on (service) sangathan_consumer_lag_seconds",
            {"service", "job", "instance"},
        ),
        ("sangathan_fuse_open > on (service) sangathan_consumer_lag_seconds", {"service"}),
        (
            "sangathan_consumer_lag_seconds - ignoring (topic) sangathan_fuse_open",
            {"service", "job", "instance"},
        ),
        ('absent(up{service="members"})', {"service", "job", "instance"}),
    ],
)
def test_the_labels_of_an_answer(expression, labels, known) -> None:
    assert answered(expression, known, SAYABLE) == labels
