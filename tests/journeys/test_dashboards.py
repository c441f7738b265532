"""Every query of every dashboard, run on a real Prometheus that scrapes the four services while members
join."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx2
import pytest

from infra.local.binaries import find_prometheus
from infra.local.errors import LocalError
from infra.local.prometheus import Prometheus
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.dashboards import queries

TREE = """code,level,name_en,name_hi,women_target
BR,state,Bihar,बिहार,0.5
BR-DASH,district,Dash,डैश,0.5
BR-DASH-ONE,block,One,एक,0.5
"""
LONG_TREE = TREE + "".join(f"BR-DASH-{n},block,Block {n},प्रखंड,\n" for n in range(5000))
"""So many rows are a job."""
WINDOW = "2m"
"""Stands for $__rate_interval, which Grafana derives from the width of the screen: longer than this whole
test."""


@pytest.fixture(scope="module", autouse=True)
def _prometheus() -> None:
    try:
        find_prometheus()
    except LocalError as missing:
        pytest.skip(f"NOT TESTED: that the queries of the dashboards return data ({missing})")


class Life:
    """Produces figures: registers members, and sets the links of their groups as an admin."""

    def __init__(self, stack: LocalStack, http: httpx2.AsyncClient) -> None:
        self._urls, self._http, self._joined = stack.urls, http, 0
        self._member = ""

    async def trees(self) -> None:
        for tree, status in ((TREE, 200), (LONG_TREE, 202)):
            answer = await self._http.post(
                f"{self._urls['groups']}/v1/units/imports", content=tree, headers={"content-type": "text/csv"}
            )
            assert answer.status_code == status, answer.text

    async def join(self, count: int) -> None:
        for _ in range(count):
            self._joined += 1
            answer = await self._http.post(
                f"{self._urls['members']}/v1/members",
                headers={"Idempotency-Key": new_id()},
                json={
                    "name": "Asha Devi",
                    "phone": f"+91999955{self._joined:04d}",
                    "unit": "BR-DASH-ONE",
                    "gender": "female" if self._joined % 2 else "male",
                    "language": "hi",
                    "consents": [
                        {"purpose": "welcome", "channel": "whatsapp", "notice": "2026-01", "language": "hi"}
                    ],
                },
            )
            assert answer.status_code == 201, answer.text
            self._member = answer.json()["id"]

    async def erase(self) -> None:
        """Erase the last one who joined, which the other services acknowledge to members."""
        answer = await self._http.post(f"{self._urls['members']}/v1/members/{self._member}/erasure")
        assert answer.status_code == 202, answer.text

    async def roll(self) -> None:
        """Import a row, which does not become a member."""
        answer = await self._http.post(
            f"{self._urls['members']}/v1/imports",
            content=b"name,phone\nAsha,1\n",
            headers={"content-type": "text/csv"},
        )
        assert answer.status_code == 202, answer.text

    async def check(self) -> None:
        """Have placements compared with the policy, and projections with the log."""
        audit = await self._http.post(f"{self._urls['groups']}/v1/placement-policy/audits")
        drift = await self._http.post(f"{self._urls['analytics']}/v1/projections/drift", json={})
        again = {"reason": "refused"}
        resent = await self._http.post(f"{self._urls['notifications']}/v1/notifications/resends", json=again)
        assert resent.status_code == 202, resent.text
        # 409: the comparison that was asked for before has not ended.
        assert (audit.status_code, drift.status_code) in ((202, 202), (202, 409))

    async def link(self) -> int:
        """Set missing links, and return the number of groups."""
        url = f"{self._urls['groups']}/v1/groups"
        groups = (await self._http.get(url, params={"unit": "BR-DASH"})).json()["items"]
        for group in groups:
            if not group["invite_link"]:
                answer = await self._http.patch(
                    f"{url}/{group['id']}",
                    headers={"If-Match": f'"{group["version"]}"'},
                    json={"invite_link": "https://chat.whatsapp.com/ExampleInviteLink"},
                )
                assert answer.is_success, answer.text
        return len(groups)


async def until_linked(life: Life) -> None:
    for _ in range(60):
        if await life.link():
            return
        await asyncio.sleep(0.5)
    raise AssertionError("nobody was placed")


async def unanswered(prometheus: Prometheus) -> list[str]:
    """The queries without a number in their answer."""
    empty = []
    for where, expression in queries():
        found = await prometheus.query(expression.replace("$__rate_interval", WINDOW))
        if all(math.isnan(float(row["value"][1])) for row in found):
            empty.append(f"{where}: {expression}")
    return empty


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_every_query_of_every_dashboard_returns_data(stack: LocalStack, tmp_path: Path) -> None:
    targets = {process: address.removeprefix("http://") for process, address in stack.urls.items()}
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {stack.token}"}, timeout=30) as http,
        Prometheus(tmp_path, targets) as prometheus,
    ):
        await asyncio.sleep(3)  # scrape the counters before they count
        life = Life(stack, http)
        await life.trees()
        await life.join(3)
        await until_linked(life)
        for _ in range(12):  # figures are measured every 10 s
            await life.join(1)
            await life.trees()
            await life.roll()
            await life.check()
            await life.erase()
            await asyncio.sleep(5)
            empty = await unanswered(prometheus)
            if not empty:
                break
        assert set((await prometheus.targets()).values()) == {"up"}
        assert not empty, "\n".join(empty)
        # Not merely some series: the figures match the events.
        [members] = await prometheus.query('sum(max by (gender) (sangathan_members{unit="BR-DASH"}))')
        assert float(members["value"][1]) >= 3
        assert await prometheus.query('sangathan_build_info{service="groups"}')


@pytest.mark.heavy
async def test_a_query_of_an_unknown_series_is_found(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.journeys.test_dashboards.queries",
        lambda: [("made up", "sum(rate(sangathan_nothing_total[2m]))")],
    )
    async with Prometheus(tmp_path, {}) as prometheus:
        assert await unanswered(prometheus) == ["made up: sum(rate(sangathan_nothing_total[2m]))"]
