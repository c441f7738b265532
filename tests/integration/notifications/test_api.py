"""The routes that read notifications: answers, pages, access by unit, and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx2
import orjson
import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.notifications.sending.held_gauges import HeldGauges
from services.notifications.settings import NotificationsSettings
from services.shared.ids import new_id
from tests.integration.notifications.conftest import Bench, assigned, invite, joined, moved
from tests.integration.notifications.stand_ins import Peers


@pytest_asyncio.fixture(loop_scope="session")
async def http(bench: Bench, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=bench.service.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        client.headers |= as_caller(keys)
        yield client


def as_caller(keys: Keys, scope: str = "notifications:read", unit: str | None = "*") -> dict[str, str]:
    # From the beginning of time: the service's clock is the test's.
    return {"authorization": f"Bearer {keys.mint(scope, unit, nbf=0, iat=0)}"}


def shown(moment: datetime) -> str:
    """As orjson writes it."""
    return str(orjson.loads(orjson.dumps(moment, option=orjson.OPT_UTC_Z)))


async def test_a_sent_welcome(http: httpx2.AsyncClient, bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group, ready=True))
    await bench.dispatch()
    n = await bench.welcome(member)
    answer = await http.get(f"/v1/notifications/{n.id}")
    assert answer.status_code == 200
    seen = answer.json()
    [decision] = seen.pop("decisions")
    assert (decision["verdict"], decision["channel"], decision["policy"]) == ("send", "whatsapp", 0)
    assert seen == {
        "id": n.id,
        "member_id": member,
        "purpose": "welcome",
        "template": "welcome",
        "language": "hi",
        "channel": "whatsapp",
        "state": "sent",
        "attempts": [
            {"at": shown(n.attempts[0].at), "sender": "recording", "outcome": "sent", "error_class": None}
        ],
        "created_at": shown(n.created_at),
        "updated_at": shown(n.updated_at),
    }
    listed = (await http.get("/v1/notifications", params={"member": member})).json()
    assert listed == {"items": [seen], "next": None}


async def test_a_held_and_a_suppressed_one_say_why(http: httpx2.AsyncClient, bench: Bench):
    held, refused = new_id(), new_id()
    await bench.deliver(joined(held), joined(refused, channels=()))
    one = (await http.get("/v1/notifications", params={"state": "queued"})).json()["items"]
    other = (await http.get("/v1/notifications", params={"state": "suppressed"})).json()["items"]
    assert [(n["member_id"], n["held_for"], "reason" in n) for n in one] == [(held, "no_group", False)]
    assert [(n["member_id"], n["reason"], "held_for" in n) for n in other] == [(refused, "no_consent", False)]


async def test_pages_hold_each_notification_once(http: httpx2.AsyncClient, bench: Bench):
    members = [new_id() for _ in range(7)]
    await bench.deliver(*[joined(m) for m in members], *[moved(m, 2) for m in members[::2]])
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/v1/notifications", params=params)).json()
        seen += [n["member_id"] for n in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(members)


async def test_callers_see_their_own_units_only(http: httpx2.AsyncClient, bench: Bench, keys: Keys):
    here, there = new_id(), new_id()
    await bench.deliver(joined(here), joined(there), moved(there, 2, unit="BR-GAYA-BODHGAYA"))
    caller = as_caller(keys, unit="BR-GAYA")
    listed = (await http.get("/v1/notifications", headers=caller)).json()["items"]
    assert [n["member_id"] for n in listed] == [there]
    theirs, ours = (await bench.welcome(there)).id, (await bench.welcome(here)).id
    assert (await http.get(f"/v1/notifications/{theirs}", headers=caller)).status_code == 200
    outside = await http.get(f"/v1/notifications/{ours}", headers=caller)
    nowhere = await http.get(f"/v1/notifications/{new_id()}", headers=caller)
    assert (outside.status_code, nowhere.status_code) == (404, 404)
    assert outside.json()["type"] == nowhere.json()["type"]
    assert (await http.get("/v1/notifications", headers=as_caller(keys, unit=None))).status_code == 404


@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/notifications/x"])
async def test_the_scope_is_required(http: httpx2.AsyncClient, keys: Keys, path: str):
    assert (await http.get(path, headers={"authorization": ""})).status_code == 401
    assert (await http.get(path, headers=as_caller(keys, "members:read"))).status_code == 403
    allowed = await http.get(path, headers=as_caller(keys, "notifications:*"))
    assert allowed.status_code in (200, 404)


@pytest.mark.parametrize(
    ("params", "status"),
    [({"state": "lost"}, 422), ({"member": "a b"}, 422), ({"limit": "0"}, 422), ({"cursor": "x"}, 400)],
)
async def test_what_makes_no_sense_is_refused(http: httpx2.AsyncClient, params: dict[str, str], status: int):
    answer = await http.get("/v1/notifications", params=params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_cursor_is_good_for_its_own_listing_only(http: httpx2.AsyncClient, bench: Bench):
    await bench.deliver(*[joined(new_id()) for _ in range(3)])
    cursor = (await http.get("/v1/notifications", params={"limit": "1"})).json()["next"]
    other = await http.get("/v1/notifications", params={"limit": "1", "cursor": cursor, "state": "queued"})
    assert other.status_code == 400


async def test_metrics_are_there(http: httpx2.AsyncClient, bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group, ready=True), joined(new_id()))
    await bench.dispatch()
    await HeldGauges(bench.core).read()
    text = (await http.get("/metrics")).text
    for line in (
        'sangathan_notifications_transitions_total{reason="",state="sent"} 1.0',
        'sangathan_notifications_held{reason="no_group"} 1.0',
        'sangathan_notifications_attempts_total{outcome="sent",sender="recording"} 1.0',
        'sangathan_notifications_isolated_total{reason="peer_refused"} 0.0',
        "sangathan_dispatch_batch_notifications_count 1.0",
    ):
        assert line in text


async def test_the_oldest_that_waits_for_a_link_is_shown_until_it_is_there(bench: Bench, peers: Peers):
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group))
    await bench.passes(timedelta(hours=3))
    later = peers.add_member()
    await bench.deliver(joined(later), assigned(later, group))

    async def age(reason: str) -> float:
        await HeldGauges(bench.core).read()
        labels = {"reason": reason}
        name = "sangathan_notifications_held_oldest_age_seconds"
        return bench.runtime.registry.get_sample_value(name, labels) or 0.0

    assert await age("no_invite") == pytest.approx(3 * 3600, abs=20)
    assert await age("nothing") == 0
    await bench.deliver(invite(group, 1))
    assert await age("no_invite") == 0
    assert await age("nothing") == pytest.approx(3 * 3600, abs=20)


async def test_when_the_service_token_expires_is_shown(
    http: httpx2.AsyncClient, settings: NotificationsSettings, keys: Keys
):
    name = "sangathan_service_token_expiry_timestamp_seconds"
    for token, shown in ((keys.mint("groups:read", exp=1_800_000_000), "1.8e+09"), ("no token", "NaN")):
        settings.service_token_file.write_text(token)
        assert f"{name} {shown}" in (await http.get("/metrics")).text
