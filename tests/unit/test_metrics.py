"""Names, units and labels of the four services' metrics, and the traces that samples point at."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from infra.composed import composed_services
from services.shared.messaging import MessagingMetrics
from services.shared.observability import metrics, tracing
from tests.fixtures.metrics import BOUNDS

GENERATOR = Path(__file__).parents[2] / "docs" / "generate.py"
UNITS = ("seconds", "bytes", "ratio", "records", "writes", "notifications", "info")
NOT_BASE = re.compile(r"_(ms|milliseconds|micros|minutes|hours|days|kb|mb|percent|count)(_|$)")


@pytest.fixture(scope="module")
def registries() -> dict[str, CollectorRegistry]:
    """Registries of the real applications, not started."""
    found: dict[str, CollectorRegistry] = runpy.run_path(str(GENERATOR))["_registries"]()
    return found


def test_every_service_that_seals_exports_the_age_of_its_key(registries):
    sealing = {
        name
        for name, service in composed_services().items()
        if "master_keys" in vars(service.runtime.settings)
    }
    told = {
        name
        for name, registry in registries.items()
        if "sangathan_vault_key_created_timestamp_seconds" in {metric.name for metric in registry.collect()}
    }
    assert told == sealing == {"members", "groups", "notifications"}


def test_names_follow_the_conventions(registries):
    wrong = []
    for registry in registries.values():
        for metric in registry.collect():
            unit = metric.name.rpartition("_")[2]
            if not metric.name.startswith(("sangathan_", "process_", "python_")) or NOT_BASE.search(
                metric.name
            ):
                wrong.append(metric.name)
            # A counter's name lacks its `_total` here; anything else must not look like a counter.
            if metric.type != "counter" and metric.name.endswith("_total"):
                wrong.append(f"{metric.name} is no counter")
            if metric.type == "histogram" and unit not in UNITS:
                wrong.append(f"{metric.name} does not name its unit")
            if "timestamp" in metric.name and not metric.name.endswith("_timestamp_seconds"):
                wrong.append(f"{metric.name} is a time in what unit?")
            if not metric.documentation:
                wrong.append(f"{metric.name} has no description")
    assert not wrong


def test_every_label_is_on_the_closed_list(registries):
    labels = {
        label
        for registry in registries.values()
        for collector in registry._collector_to_names
        for label in getattr(collector, "_labelnames", ())
    }
    assert labels <= BOUNDS.keys()
    assert not labels & {"id", "path", "member", "member_id", "instance", "phone"}


def test_a_name_means_one_thing_everywhere(registries):
    meanings: dict[str, set[tuple[str, str]]] = {}
    for registry in registries.values():
        for metric in registry.collect():
            meanings.setdefault(metric.name, set()).add((metric.type, metric.documentation))
    assert not [name for name, meaning in meanings.items() if len(meaning) > 1]


def test_build_and_process_metrics_are_exported(registries):
    for service, registry in registries.items():
        exposition = generate_latest(registry).decode()
        assert re.search(
            rf'sangathan_build_info{{.*service="{service}",version="\d+\.\d+\.\d+".*}} 1.0', exposition
        )
        assert "process_resident_memory_bytes" in exposition
        assert "python_gc_objects_collected_total" in exposition


def test_promtool_finds_no_fault(registries):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED: promtool check metrics (Debian: apt-get install prometheus)")
    for registry in registries.values():
        exposition = generate_latest(registry)
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=exposition, capture_output=True, check=False
        )
        complaints = (checked.stdout + checked.stderr).decode().splitlines()
        assert not [line for line in complaints if line.startswith("sangathan_")], complaints


def test_a_sample_names_its_trace_where_there_is_one(monkeypatch):
    registry = CollectorRegistry()
    messaging = MessagingMetrics(registry)

    messaging.consumer.batch_seconds.observe(0.2, metrics.exemplar())
    assert "trace_id" not in generate_openmetrics(registry).decode()

    monkeypatch.setattr(tracing, "current_trace_id", lambda: "ab" * 16)
    messaging.consumer.batch_seconds.observe(0.2, metrics.exemplar())
    assert f'sangathan_consumer_batch_seconds_bucket{{le="0.25"}} 2.0 # {{trace_id="{"ab" * 16}"}} 0.2' in (
        generate_openmetrics(registry).decode()
    )


def test_buckets_are_fine_enough_for_the_percentiles_of_alerts(registries):
    """Percentiles are interpolated within a bucket: between 1 ms and 10 s each bound is at most 2.5 times the
    last."""
    for registry in registries.values():
        for collector in registry._collector_to_names:
            if isinstance(collector, Histogram) and collector._name in (
                "sangathan_http_request_seconds",
                "sangathan_consumer_batch_seconds",
            ):
                bounds = [bound for bound in collector._upper_bounds if bound <= 10]
                assert bounds[0] <= 0.001
                assert bounds[-1] == 10
                assert all(b <= 2.51 * a for a, b in pairwise(bounds))
