"""Somebody joins, is placed, welcomed and erased: nothing that runs knows them any more, and neither a replay
of the log nor an older dump brings them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from infra.local.demo.api import Api
from infra.local.stack import LocalStack
from services.shared.config.settings import ServiceSettings
from services.shared.contracts.catalogue import EVENTS
from tests.fixtures.rebuilding import the_log as records_of
from tests.journeys.joining import join
from tests.journeys.test_kill import settled, the_log
from tests.journeys.test_restore import PROJECTIONS, lose, restore, run, start

CROWD = 25
DATABASES = ("members", *PROJECTIONS)
PERSON = {
    "name": "Zubaida Khatunnisa",
    "phone": "+919876501234",
    "email": "zubaida.k@example.org",
    "platforms": [{"platform": "telegram", "handle": "zubi_k_77"}],
    "consents": [{"purpose": "welcome", "channel": "whatsapp", "notice": "1", "language": "hi"}],
}
WORDS = ("Zubaida", "zubaida", "Khatunnisa", "khatunnisa", "9876501234", "98765 01234", "zubi_k_77")
IDS_ALONE = {
    "analytics": {"coverage.0.facts", "members", "placements"},
    "groups": {"admin_tasks", "placements"},
    "members": {"erasures", "contact_reads"},
    "notifications": {"notifications", "recipients"},
}
"""Collections that keep the member's id, so that late events are stale and books balance."""
OF_AN_ID = {
    "analytics.members": {"joined", "left", "unit", "gender", "language", "platforms"},
    "notifications.recipients": {"channels", "language", "group_id"},
}


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    async with LocalStack(tmp_path / "stack") as stack:
        yield stack


@pytest.fixture
async def api(own_stack: LocalStack) -> AsyncIterator[Api]:
    async with Api(own_stack.urls, own_stack.token, connections=12) as api:
        yield api


def documents(stack: LocalStack, databases: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    with MongoClient[dict[str, Any]](stack.mongo) as client:
        for name in databases:
            database = client[name]
            for collection in database.list_collection_names():
                for row in database[collection].find({}):
                    yield name, collection, row


def knowing(stack: LocalStack, *words: str, databases: Sequence[str] = DATABASES) -> dict[str, set[str]]:
    """The collections, by database, with a document that contains one of the words in the clear."""
    wanted = [word.encode() for word in words]
    found: dict[str, set[str]] = {}
    for database, collection, row in documents(stack, databases):
        if any(word in bson.encode(row) for word in wanted):
            found.setdefault(database.removesuffix("2"), set()).add(collection)
    return found


async def elsewhere(stack: LocalStack) -> list[str]:
    """Logs of processes, and topics, dead letters included, that contain one of the words."""
    wanted = [word.encode() for word in WORDS]
    files = [path for path in stack.directory.rglob("*.log") if path.is_file()]
    assert files
    told = [path.name for path in files if any(word in path.read_bytes() for word in wanted)]
    settings = ServiceSettings(service="test", kafka_bootstrap=stack.kafka)
    topics = sorted({event.topic for event in EVENTS} | {f"{name}.dlq" for name in DATABASES})
    for record in await records_of(settings, topics):
        parts = (record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers))
        if any(word in part for word in wanted for part in parts):
            told.append(record.partition.topic)
    return told


async def shown(api: Api, member_id: str) -> list[str]:
    """Answers that show the member, or what was written to them."""
    own = (f"/v1/members/{member_id}", f"/v1/members/{member_id}/consents")
    told = [path for path in own if (await api.send("GET", "members", path)).status_code != 404]
    lists = ("/v1/members?q=Zubaida", "/v1/members?q=जुबैदा", "/v1/members/export")
    told += [path for path in lists if "Zubaida" in (await api.send("GET", "members", path)).text]
    resolved = await api.send("POST", "members", "/v1/members/resolve", json={"ids": [member_id]})
    return told if resolved.json() == {"items": [], "missing": [member_id]} else [*told, "resolve"]


async def books_balance(api: Api, members: int) -> None:
    lines = await settled(api, members)
    assert all(line.balances for line in lines), lines
    assert set(lines[0].figures.values()) == {members}


async def until(state: str, api: Api, erasure_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (erasure := await api.get("members", f"/v1/erasures/{erasure_id}"))["state"] != state:
        assert time.monotonic() < deadline, erasure
        await asyncio.sleep(0.1)
    return dict(erasure)


async def welcomed(api: Api, member_id: str) -> None:
    for _ in range(300):
        items = (await api.get("notifications", "/v1/notifications", member=member_id))["items"]
        if items and items[0]["state"] in ("sent", "suppressed"):
            assert items[0]["state"] == "sent"
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not welcomed")


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_nobody_who_was_erased_is_known_or_comes_back(
    own_stack: LocalStack, api: Api, tmp_path: Path
) -> None:
    stack = own_stack
    accepted, _ = await join(api, CROWD)
    others = len(accepted)
    unit = (await api.get("members", f"/v1/members/{accepted[0].member_id}"))["unit"]
    answer = await api.send("POST", "members", "/v1/members", json={**PERSON, "unit": unit})
    assert answer.status_code == 201, answer.text
    member_id = answer.json()["id"]
    await books_balance(api, others + 1)
    await welcomed(api, member_id)
    rows = {row["_id"]: row for _, name, row in documents(stack, ["members"]) if name == "members"}
    fingerprint = rows[member_id]["phone_index"]
    assert "recorded_messages" in knowing(stack, member_id)["notifications"]
    await run(stack, "members", "dump", str(tmp_path / "members"))

    answer = await api.send("POST", "members", f"/v1/members/{member_id}/erasure")
    assert answer.status_code == 202, answer.text
    erasure_id = answer.json()["id"]
    assert await shown(api, member_id) == [], "out of use at once"
    erasure = await until("erased", api, erasure_id)
    destroyed = erasure["certificate"]["destroyed"]
    assert destroyed["notifications"]["messages"] == destroyed["groups"]["seats"] == 1
    assert len(erasure["removals"]) == 1

    await books_balance(api, others)
    assert knowing(stack, *WORDS, fingerprint) == {}
    assert await elsewhere(stack) == []
    kept = knowing(stack, member_id)
    assert not [name for name in kept if kept[name] - IDS_ALONE[name]], kept
    for database, collection, row in documents(stack, DATABASES):
        if row["_id"] == member_id and (fields := OF_AN_ID.get(f"{database}.{collection}")):
            values = {row.get(name) for name in fields - {"joined", "left", "unit", "channels", "platforms"}}
            assert values <= {None, ""}, (database, collection)
            assert not row.get("channels")
            assert not row.get("platforms")

    await replay_all(stack)
    await books_balance(api, others)
    assert "recorded_messages" not in knowing(stack, member_id)["notifications"]
    assert knowing(stack, *WORDS, fingerprint) == {}

    await stack.processes["members"].stop()
    lose(stack, ["members"])
    await restore(stack, tmp_path, "members")
    after = ("members2", *PROJECTIONS)
    assert knowing(stack, *WORDS, fingerprint, databases=after) == {}, "before anything is started"
    await start(stack, "members")
    await books_balance(api, others)
    assert (await until("erased", api, erasure_id))["member_id"] == member_id
    assert await shown(api, member_id) == []
    events = {e.id: e for e in await the_log(stack)}.values()
    about = [e for e in events if e.subject == member_id and e.data.topic == "sangathan.members"]
    assert [e.type for e in about] == ["member.joined", "member.erasure_requested", "member.erased"]


async def replay_all(stack: LocalStack) -> None:
    """Let the others read the whole log again, as if they had never seen it."""
    await asyncio.gather(*(stack.processes[name].stop() for name in PROJECTIONS))
    with MongoClient[dict[str, Any]](stack.mongo) as client:
        for name in PROJECTIONS:
            client[name]["inbox"].delete_many({})
    for name in PROJECTIONS:
        await stack.start_again(name, {"SANGATHAN_CONSUMER_GROUP": f"{name}-again"})
    deadline = time.monotonic() + 60
    while not all(seen_again(stack, name) for name in PROJECTIONS):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


def seen_again(stack: LocalStack, name: str) -> bool:
    with MongoClient[dict[str, Any]](stack.mongo) as client:
        return client[name]["inbox"].count_documents({}) > CROWD // 2
