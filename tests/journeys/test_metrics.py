"""The number of series does not grow with made-up input: ids, paths, methods, units, phones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import httpx2
import pytest

from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.metrics import BOUNDS, Series, over_bound, series_of

PATHS = {
    "members": ("/v1/members/{id}", "/v1/members?unit=BR-{id}", "/v1/{id}/{id}", "/{id}"),
    "groups": ("/v1/units/BR-{id}", "/v1/members/{id}/groups", "/v1/groups/{id}", "/{id}"),
    "notifications": ("/v1/notifications/{id}", "/v1/notifications?member={id}", "/{id}/{id}"),
    "analytics": ("/v1/overview?unit=BR-{id}", "/v1/coverage?unit={id}", "/{id}"),
}


async def call(http: httpx2.AsyncClient, stack: LocalStack, number: int) -> None:
    """Request new ids and paths from every service, and register one member in an unknown unit."""
    for service, paths in PATHS.items():
        for path in paths:
            await http.get(stack.urls[service] + path.replace("{id}", new_id()))
        await http.request(f"METHOD{number}", f"{stack.urls[service]}/v1/{new_id()}")
    joined = await http.post(
        f"{stack.urls['members']}/v1/members",
        headers={"Idempotency-Key": new_id()},
        json={
            "name": f"Asha {number}",
            "phone": f"+9198{number % 10_000:04d}77{number % 97:02d}",
            "unit": f"MADE-UP-{number}",
            "gender": "female",
            "language": "hi",
            "consents": [
                {"purpose": "welcome", "channel": "whatsapp", "notice": "2026-01", "language": "hi"}
            ],
        },
    )
    assert joined.status_code in (201, 409), joined.text


async def scrape(http: httpx2.AsyncClient, stack: LocalStack) -> Mapping[str, str]:
    return {service: (await http.get(f"{stack.urls[service]}/metrics")).text for service in PATHS}


async def settled(http: httpx2.AsyncClient, stack: LocalStack) -> Mapping[str, str]:
    """All metrics, once analytics has measured its units and no new series has come for twelve seconds.
    Figures are measured every ten."""
    texts, still_since, deadline = await scrape(http, stack), time.monotonic(), time.monotonic() + 120
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        latest = await scrape(http, stack)
        if any(series_of(latest[service]) - series_of(texts[service]) for service in latest):
            still_since = time.monotonic()
        texts = latest
        measured = any(name == "sangathan_groups" for name, _ in series_of(latest["analytics"]))
        if measured and time.monotonic() - still_since > 12:
            return latest
    raise TimeoutError("the series did not settle within 120 s")


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_series_do_not_grow_with_what_callers_make_up(stack: LocalStack) -> None:
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {stack.token}"}, timeout=30) as http:
        for number in range(1, 4):
            await call(http, stack, number)
        before = await settled(http, stack)
        for number in range(100, 140):
            await call(http, stack, number)
        after = await settled(http, stack)

    for service, text in after.items():
        grown: set[Series] = series_of(text) - series_of(before[service])
        assert not grown, f"{service} has new series"
        assert not over_bound(text), f"{service} is over a bound"
        assert f'service="{service}"' in text
    assert "MADE-UP" not in "".join(after.values())


def test_broken_bounds_are_found() -> None:
    """A label with too many values and an unlisted label are both found."""
    many = "\n".join(f'x{{status="{n}"}} 1' for n in range(BOUNDS["status"] + 1))
    assert over_bound(many + "\n") == [f"x: status has {BOUNDS['status'] + 1} values"]
    assert over_bound('x{member_id="1"} 1\n') == ["x: member_id has 1 values"]
