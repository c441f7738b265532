"""The Prometheus on PATH, scraping a test page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from infra.local.binaries import find_prometheus
from infra.local.errors import LocalError
from infra.local.ports import HOST, Ports
from infra.local.prometheus import Prometheus, configuration


@pytest.fixture
def there_is_one() -> None:
    try:
        find_prometheus()
    except LocalError as missing:
        pytest.skip(f"NOT TESTED: that the local Prometheus starts and scrapes ({missing})")


@pytest.mark.heavy
@pytest.mark.usefixtures("there_is_one")
async def test_it_scrapes_and_answers(tmp_path: Path) -> None:
    registry, port = CollectorRegistry(), Ports().take()
    Gauge("seats", "Seats.", registry=registry).set(42)
    server, thread = start_http_server(port, HOST, registry)
    try:
        async with Prometheus(tmp_path, {"groups-2": f"{HOST}:{port}"}) as prometheus:
            for _ in range(100):
                if found := await prometheus.query('seats{job="sangathan"}'):
                    break
                await asyncio.sleep(0.1)
            assert [(row["metric"]["service"], row["value"][1]) for row in found] == [("groups", "42")]
            assert await prometheus.targets() == {f"{HOST}:{port}": "up"}
            assert await prometheus.alerts() == []
            with pytest.raises(LocalError, match="parse error"):
                await prometheus.query("seats{")
    finally:
        server.shutdown()
        thread.join()


def test_configuration_names_rules_and_alertmanager(tmp_path: Path) -> None:
    config = configuration({}, [tmp_path / "rules.yml"], "127.0.0.1:9093")

    assert config["rule_files"] == [str(tmp_path / "rules.yml")]
    assert config["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["127.0.0.1:9093"]}]
