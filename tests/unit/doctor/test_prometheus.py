"""The doctor on a real Prometheus and Alertmanager, with the rules of this release."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import httpx2
import pytest

from infra.local.alertmanager import Alertmanager
from infra.local.binaries import find_alertmanager, find_prometheus
from infra.local.errors import LocalError
from infra.local.ports import HOST, Ports
from infra.local.prometheus import Prometheus
from services.shared.operations.doctor import checks_trust as trust
from services.shared.operations.doctor import expected, over_http
from services.shared.operations.doctor.facts import Monitoring
from services.shared.operations.doctor.findings import Unseen

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "infra" / "prometheus" / "rules").glob("*.yml"))


@pytest.fixture
def there_is_one() -> None:
    try:
        find_prometheus()
        find_alertmanager()
    except LocalError as missing:
        pytest.skip(f"NOT TESTED: what the doctor sees of a real Prometheus ({missing})")


async def evaluated(url: str) -> Monitoring:
    """The result once every rule has been evaluated and every target scraped."""
    async with over_http.client() as http:
        for _ in range(100):
            seen = await over_http.watch(http, url)
            assert not isinstance(seen, Unseen)
            if seen.rules and not any(rule.fault == "unknown" for rule in seen.rules) and seen.down:
                return seen
            await asyncio.sleep(0.2)
    raise AssertionError(seen)


@pytest.mark.heavy
@pytest.mark.usefixtures("there_is_one")
async def test_rules_that_load_are_well_and_missing_ones_and_targets_are_named(tmp_path: Path) -> None:
    wanted, dead = expected.load(), f"{HOST}:{Ports().take()}"
    rules = partial(trust.rules, expected=wanted)
    async with (
        Alertmanager(tmp_path, {"route": {"receiver": "r"}, "receivers": [{"name": "r"}]}) as manager,
        Prometheus(tmp_path, {"groups": dead}, RULES, manager.address) as prometheus,
        httpx2.AsyncClient(trust_env=False) as http,
    ):
        seen = await evaluated(prometheus.url)
        assert list(rules(seen)) == list(trust.told(seen)) == []
        [fault] = trust.targets(seen)
        assert f"cannot scrape {dead}" in fault.said
        assert await over_http.alertmanager(http, f"http://{manager.address}") == ""
        assert await over_http.alertmanager(http, f"http://{dead}") == "ConnectError"

    async with Prometheus(tmp_path / "less", {"groups": dead}, RULES[1:]) as prometheus:
        seen = await evaluated(prometheus.url)
        [missing] = rules(seen)
        assert missing.said.startswith("Prometheus has not loaded: ")
        assert [fault.said for fault in trust.told(seen)] == [
            "Prometheus knows no Alertmanager: alerts fire and nobody is notified"
        ]
