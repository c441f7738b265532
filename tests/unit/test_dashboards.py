"""Checks of the dashboards without a Prometheus.

test_promql.py reads the queries, tests/journeys/test_dashboards.py runs them.
"""

from __future__ import annotations

import re
from itertools import combinations

import yaml

from infra.grafana.__main__ import stale
from tests.fixtures.dashboards import GRAFANA, dashboards, panels, queries


def test_the_files_are_up_to_date():
    assert stale() == [], "run `make docs`"


def test_dashboards_are_overview_services_and_business():
    services = ["analytics", "groups", "members", "notifications"]
    assert sorted(dashboards()) == sorted(f"sangathan-{name}" for name in ["business", "overview", *services])
    assert all(dashboard["uid"] == name for name, dashboard in dashboards().items())


def test_every_metric_of_ours_is_on_a_dashboard():
    shown = " ".join(query for _, query in queries())
    exported = re.findall(
        r"^\| `(sangathan_\w+)`", (GRAFANA.parents[1] / "docs" / "metrics.md").read_text(), re.M
    )
    missing = {name for name in exported if name not in shown}
    # Batch sizes are for those who tune them.
    assert missing == {"sangathan_relay_batch_records"}


def test_every_panel_has_title_unit_and_legend():
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            assert panel["title"], name
            assert panel["fieldConfig"]["defaults"]["unit"], f"{name}: {panel['title']}"
            assert all(target["legendFormat"] for target in panel["targets"]), f"{name}: {panel['title']}"


def test_ids_are_unique_and_panels_do_not_lie_on_one_another():
    for name, dashboard in dashboards().items():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids), name
        for one, other in combinations([panel["gridPos"] for panel in dashboard["panels"]], 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or below, f"{name}: {one} and {other}"


def test_every_panel_uses_the_provisioned_source():
    provisioned = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    uids = {source["uid"] for source in provisioned}
    for dashboard in dashboards().values():
        for panel in panels(dashboard):
            assert panel["datasource"]["uid"] in uids
            assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
