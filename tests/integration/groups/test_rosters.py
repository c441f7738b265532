"""Rosters: uploaded in any form, compared with the seats, and what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI, Request

from infra.local.keys import Keys
from infra.local.ports import Ports
from services.groups.app import build
from services.groups.rosters.store import RosterStore
from services.groups.settings import GroupsSettings
from services.shared.clock import SystemClock
from services.shared.contracts.groups import (
    TOPIC,
    GroupInviteLapsed,
    GroupMemberObserved,
    GroupsErasureAcknowledged,
)
from services.shared.contracts.members import MemberLeft, MemberMoved
from services.shared.contracts.notifications import NotificationSent
from services.shared.http.app import ServiceApp
from services.shared.ids import new_id
from tests.fixtures.apps import GROUPS_KEYS, Running, lent_settings, make_topics, started
from tests.fixtures.databases import release, shape_of
from tests.integration.groups.test_erasure import acknowledged, request
from tests.integration.groups.test_placement import UNIT, joins, tree
from tests.integration.test_clients import serving

LINK = "https://chat.whatsapp.com/Example"
ELSEWHERE = "BR-SIWAN"


class Members:
    """Stands in for the members service: whose the numbers are."""

    def __init__(self) -> None:
        self.by_number: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.failing = 0
        self.app = FastAPI()
        self.app.post("/v1/members/match")(self.match)

    async def match(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        self.asked.append(body)
        if self.failing:
            self.failing -= 1
            raise RuntimeError
        return {"items": [self._item(phone) for phone in body["phones"]]}

    def _item(self, phone: str) -> dict[str, str | None]:
        digits = "".join(char for char in phone if char.isdigit())[-10:]
        id_ = self.by_number.get(digits)
        return {"member_id": id_, "problem": None if id_ else "stranger"}


@pytest.fixture
async def members() -> Members:
    return Members()


@pytest.fixture
async def settings(
    mongo_uri: str, kafka_bootstrap: str, keys: Keys, ports: Ports, members: Members, tmp_path: Path
) -> AsyncIterator[GroupsSettings]:
    token = tmp_path / "service_token"
    token.write_text(keys.mint("members:match", "*"))
    async with serving(cast(ServiceApp, members.app), ports.take()) as url:
        made = GroupsSettings(
            **lent_settings(mongo_uri, kafka_bootstrap, "groups", keys),
            **GROUPS_KEYS,
            group_capacity=1024,
            waiting_room_seconds=0.5,
            members_url=url,
            service_token_file=token,
            reinvite_days=1,
        )
        await make_topics(made)
        yield made


@pytest.fixture
async def groups(settings: GroupsSettings, keys: Keys) -> AsyncIterator[Running]:
    scopes = ["groups:*", "invites:read", "ops:*"]
    async with started(build, settings, keys=keys, admin_scopes=scopes) as app:
        shape = await shape_of(app.runtime.client, settings.database)
        yield app
    await release(settings, shape)


async def a_group(groups: Running, count: int, unit: str = UNIT) -> tuple[str, list[str]]:
    """The id of a group with so many members, and theirs."""
    await tree(groups, unit)
    events = joins(count, unit)
    await groups.publish(*events)
    database = groups.runtime.database

    async def all_there() -> bool:
        query = {"unit": unit, "group_id": {"$type": "string"}}
        return await database["placements"].count_documents(query) >= count

    await groups.until(all_there)
    [group] = (await groups.http.get(f"/v1/groups?unit={unit}")).json()["items"]
    return group["id"], sorted(event.member_id for event in events)


async def reconciled(groups: Running, answer: Any, state: str = "succeeded") -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update((await groups.http.get(answer.headers["location"])).json())
        return found["state"] in ("succeeded", "failed")

    await groups.until(ended)
    assert found["state"] == state, found
    return found


async def upload(groups: Running, group_id: str, ids: Sequence[str], **query: object) -> dict[str, Any]:
    params: dict[str, Any] = {"complete": "true"} | query
    answer = await groups.http.post(
        f"/v1/groups/{group_id}/roster", params=params, json={"members": list(ids)}
    )
    return await reconciled(groups, answer)


async def drift(groups: Running, group_id: str, query: str = "") -> Any:
    answer = await groups.http.get(f"/v1/groups/{group_id}/drift{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def set_link(groups: Running, group_id: str, link: str | None = LINK) -> None:
    group = await groups.http.get(f"/v1/groups/{group_id}")
    headers = {"if-match": group.headers["etag"]}
    answer = await groups.http.patch(f"/v1/groups/{group_id}", json={"invite_link": link}, headers=headers)
    assert answer.status_code == 200, answer.text


async def lapsed(groups: Running, count: int) -> list[GroupInviteLapsed]:
    """The invites that were to be sent again, of which there are so many."""
    rows = groups.runtime.database["observations"]

    async def none_due() -> bool:
        now = groups.runtime.server_clock.now()
        due = await rows.count_documents({"due_at": {"$lte": now}})
        jobs = await groups.runtime.jobs.rows.count_documents({"state": {"$in": ["waiting", "running"]}})
        return due == jobs == 0

    await groups.until(none_due)
    events = [e.data for e in await groups.log(TOPIC) if isinstance(e.data, GroupInviteLapsed)]
    assert len(events) == count, events
    return events


def counts(**some: int) -> dict[str, int]:
    names = ("joined", "never_came", "left", "two_groups", "no_seat", "strangers")
    return dict.fromkeys(names, 0) | some


async def test_numbers_of_a_contact_list_become_members_and_strangers_stay_numbers_of_nobody(
    groups: Running, members: Members
) -> None:
    group_id, ids = await a_group(groups, 4)
    members.by_number = {f"987654321{n}": id_ for n, id_ in enumerate(ids)}
    csv = "\n".join(
        ["नाम,Phone", "Asha,+91 98765 43210", "Bina,098765-43211", "?,+91 99999 00000", "no number here"]
    )
    path = f"/v1/groups/{group_id}/roster?complete=true"
    headers = {"content-type": "text/csv; charset=utf-8", "idempotency-key": "once"}
    answer = await groups.http.post(path, content=csv.encode(), headers=headers)
    job = await reconciled(groups, answer)
    assert job["result"] == {
        "group_id": group_id,
        "complete": True,
        "entries": 3,
        "unreadable": 1,
        "strangers": 1,
        "here": 2,
        "elsewhere": 0,
        "joined": 2,
        "left": 0,
    }
    assert [body["unit"] for body in members.asked] == ["BR"]
    found = await drift(groups, group_id)
    assert found["counts"] == counts(joined=2, never_came=2, strangers=1)
    assert [each["member_id"] for each in found["items"]] == ids[2:]
    assert {each["cause"] for each in found["items"]} == {"never_came"}

    again = await groups.http.post(path, content=csv.encode(), headers=headers)
    assert again.json()["id"] == job["id"], "the same request is the same job"
    other = await groups.http.post(path, content=b"9876543213", headers=headers)
    assert other.status_code == 422

    events = [e.data for e in await groups.log(TOPIC) if isinstance(e.data, GroupMemberObserved)]
    assert sorted((e.member_id, e.state) for e in events) == [(id_, "joined") for id_ in ids[:2]]
    database = groups.runtime.database
    assert await database["roster_seen"].count_documents({}) == 0
    assert await database["job_inputs.chunks"].count_documents({}) == 0
    for name in await database.list_collection_names():
        async for row in database[name].find({}):
            assert not {"43210", "43211", "99999"} & set(str(row).split()), name
            assert "9999900000" not in str(row).replace(" ", ""), name


async def test_states_of_members_and_drift_of_a_subtree(groups: Running) -> None:
    here, ids = await a_group(groups, 3)
    there, others = await a_group(groups, 2, ELSEWHERE)
    await upload(groups, here, [*ids[:2], others[0]])
    await upload(groups, here, [ids[0], others[0]], complete="false")
    path = f"/v1/groups/{here}/members"

    async def in_state(state: str) -> list[str]:
        items = (await groups.http.get(f"{path}?state={state}")).json()["items"]
        assert {each["state"] for each in items} <= {state}
        return [each["member_id"] for each in items]

    assert [await in_state(state) for state in ("joined", "left", "assigned")] == [ids[:2], [], ids[2:]]
    await upload(groups, here, [ids[0], others[0]])
    assert [await in_state(state) for state in ("joined", "left", "assigned")] == [
        [ids[0]],
        [ids[1]],
        ids[2:],
    ]
    items = (await groups.http.get(path)).json()["items"]
    assert [each["state"] for each in items] == ["joined", "left", "assigned"]
    placement = (await groups.http.get(f"/v1/members/{ids[1]}/groups")).json()["items"]
    assert [each["state"] for each in placement] == ["left"]

    await upload(groups, there, others)
    causes = {each["member_id"]: each["cause"] for each in (await drift(groups, here))["items"]}
    assert causes == {ids[1]: "left", ids[2]: "never_came", others[0]: "two_groups"}
    one = await drift(groups, here, "?cause=left&limit=1")
    assert ([each["member_id"] for each in one["items"]], one["next"]) == ([ids[1]], None)
    [whole] = (await groups.http.get("/v1/drift?unit=BR")).json()["items"]
    assert (whole["kind"], whole["groups"], whole["seats"]) == ("general", 2, 5)
    assert whole["counts"] == counts(joined=3, left=1, never_came=1, two_groups=1)
    [part] = (await groups.http.get(f"/v1/drift?unit={ELSEWHERE}")).json()["items"]
    assert part["counts"] == counts(joined=2)
    outside = groups.auth("groups:read", ELSEWHERE)
    assert (await groups.http.get(f"/v1/groups/{here}/drift", headers=outside)).status_code == 404
    assert (await groups.http.get("/v1/drift?unit=BR", headers=outside)).status_code == 404

    # Whoever moves to the group in which they are is where they should be.
    await groups.publish(MemberMoved(member_id=others[0], from_unit=ELSEWHERE, unit=UNIT))

    async def moved() -> bool:
        return bool((await drift(groups, here))["counts"]["two_groups"] == 0)

    await groups.until(moved)
    assert (await drift(groups, here))["counts"] == counts(joined=2, left=1, never_came=1)
    assert (await drift(groups, there))["counts"] == counts(joined=1, two_groups=1)
    await groups.publish(MemberLeft(member_id=others[0], unit=UNIT))

    async def left() -> bool:
        return bool((await drift(groups, here))["counts"]["no_seat"] == 1)

    await groups.until(left)
    assert (await drift(groups, there))["counts"] == counts(joined=1, no_seat=1)


async def test_bad_rosters_are_refused_with_a_reason_and_change_nothing(
    groups: Running, members: Members
) -> None:
    here, _ = await a_group(groups, 5)
    _, others = await a_group(groups, 6, ELSEWHERE)
    path = f"/v1/groups/{here}/roster"

    async def refused(content: bytes, kind: str = "text/plain", query: str = "?complete=true") -> Any:
        answer = await groups.http.post(path + query, content=content, headers={"content-type": kind})
        return answer.status_code, answer.json()["type"].rpartition(":")[2]

    assert await refused(b"9876543210", query="") == (422, "invalid-fields"), "complete must be said"
    assert await refused(b"Group info\nExit group\n") == (422, "roster-without-entries")
    assert await refused(b"\xff\x00\xff9876543210") == (422, "roster-not-text")
    assert await refused(b"%PDF-1.4", "application/pdf") == (415, "unsupported-media-type")
    assert await refused(b'{"members": ["x y"]}', "application/json") == (422, "invalid-fields")
    short, long = (b"\n".join(form % n for n in range(100_000)) for form in (b"98%06d", b"98765%05d"))
    assert await refused(short) == (422, "roster-too-long")
    assert await refused(long) == (413, "content-too-large")
    ahead = "?complete=true&taken_at=2999-01-01T00:00:00Z"
    assert await refused(b"9876543210", query=ahead) == (422, "invalid-fields")
    assert members.asked == []
    for name in ("jobs", "job_inputs.files", "roster_seen"):
        assert await groups.runtime.database[name].count_documents({}) == 0, "nothing was done"

    answer = await groups.http.post(f"{path}?complete=true", json={"members": others})
    job = await reconciled(groups, answer, "failed")
    assert job["reason"] == "roster_of_another_group"
    assert (await drift(groups, here))["counts"] == counts()
    assert await groups.runtime.database["observations"].count_documents({}) == 0
    await upload(groups, here, others, force="true")
    assert (await drift(groups, here))["counts"] == counts(never_came=5, two_groups=6)


async def test_a_roster_of_many_lines_is_reconciled_in_steps(groups: Running, members: Members) -> None:
    group_id, ids = await a_group(groups, 700)
    members.by_number = {f"98765{n:05}": id_ for n, id_ in enumerate(ids[:600])}
    members.failing = 1
    text = "\n".join(f"+91 98765{n:05}" for n in range(2000))
    answer = await groups.http.post(
        f"/v1/groups/{group_id}/roster?complete=true",
        content=text.encode(),
        headers={"content-type": "text/plain"},
    )
    job = await reconciled(groups, answer)
    assert (job["result"]["joined"], job["result"]["strangers"]) == (600, 1400)
    assert max(len(body["phones"]) for body in members.asked) <= 1000
    assert (await drift(groups, group_id))["counts"] == counts(joined=600, never_came=100, strangers=1400)
    sequences = [e.sequence for e in await groups.log(TOPIC) if isinstance(e.data, GroupMemberObserved)]
    assert sequences == [2] * 600


async def test_without_the_members_service_a_roster_has_ids(keys: Keys, settings: GroupsSettings) -> None:
    alone = settings.model_copy(update={"members_url": None})
    async with started(build, alone, keys=keys, admin_scopes=["groups:*"]) as groups:
        shape = await shape_of(groups.runtime.client, settings.database)
        group_id, ids = await a_group(groups, 1)
        path = f"/v1/groups/{group_id}/roster?complete=true"
        answer = await groups.http.post(path, content=b"9876543210", headers={"content-type": "text/plain"})
        assert answer.status_code == 503
        await upload(groups, group_id, ids)
    await release(settings, shape)


def sent(group_id: str, member_id: str) -> NotificationSent:
    return NotificationSent(
        notification_id=new_id(),
        member_id=member_id,
        unit=UNIT,
        purpose="welcome",
        template="welcome",
        language="hi",
        channel="sms",
        group_id=group_id,
        sender="recording",
        attempts=1,
    )


async def make_due(groups: Running) -> None:
    """As if the time to take the invites were over."""
    past = groups.runtime.server_clock.now() - timedelta(seconds=1)
    await groups.runtime.database["observations"].update_many(
        {"due_at": {"$type": "date"}}, {"$set": {"due_at": past}}
    )


async def test_whoever_did_not_take_an_invite_is_invited_again_twice_at_most(
    groups: Running, keys: Keys, settings: GroupsSettings
) -> None:
    group_id, ids = await a_group(groups, 3)
    await set_link(groups, group_id)
    await groups.publish(*(sent(group_id, id_) for id_ in ids))
    path = f"/v1/groups/{group_id}/members?state=invited"

    async def all_invited() -> bool:
        return len((await groups.http.get(path)).json()["items"]) == 3

    await groups.until(all_invited)
    async with AsyncExitStack() as replicas:
        second = settings.model_copy(update={"instance": "groups-2"})
        await replicas.enter_async_context(started(build, second, keys=keys, admin_scopes=["groups:*"]))
        await upload(groups, group_id, ids[:1])
        await lapsed(groups, 0)
        await make_due(groups)
        first = await lapsed(groups, 2)
        assert {(e.member_id, e.attempt, e.cause) for e in first} == {
            (id_, 1, "never_came") for id_ in ids[1:]
        }
        await make_due(groups)
        await lapsed(groups, 2)
        await upload(groups, group_id, ids[:1])
        await make_due(groups)
        await lapsed(groups, 4)
        await upload(groups, group_id, ids[:1])
        await make_due(groups)
        await lapsed(groups, 4)
    events = await groups.log(TOPIC)
    for id_ in ids:
        own = [e.sequence for e in events if e.subject == id_]
        assert own == list(range(1, len(own) + 1)), "one sequence for seats, rosters and invites"


async def test_a_link_that_was_reset_invites_those_who_are_not_yet_in(groups: Running) -> None:
    group_id, ids = await a_group(groups, 3)
    await set_link(groups, group_id)
    await lapsed(groups, 0)
    await upload(groups, group_id, ids[:1], complete="false")
    await set_link(groups, group_id, LINK + "Reset")
    events = await lapsed(groups, 2)
    assert {(e.member_id, e.cause) for e in events} == {(id_, "link_reset") for id_ in ids[1:]}
    await set_link(groups, group_id, None)
    await lapsed(groups, 2)
    await set_link(groups, group_id, LINK)
    assert {e.attempt for e in await lapsed(groups, 4)} == {1, 2}


async def test_links_are_sealed_shown_to_few_and_those_of_older_processes_are_sealed_later(
    groups: Running,
) -> None:
    group_id, _ = await a_group(groups, 1)
    await set_link(groups, group_id)
    rows = groups.runtime.database["groups"]
    row = await rows.find_one({"_id": group_id})
    assert row is not None
    assert row["invite_link"] is None
    assert b"whatsapp" not in bytes(row["sealed_link"])
    path, reader = f"/v1/groups/{group_id}", groups.auth("groups:*")
    shown = (await groups.http.get(path)).json()
    hidden = (await groups.http.get(path, headers=reader)).json()
    assert (shown["invite_link"], hidden["invite_link"], hidden["invite_ready"]) == (LINK, None, True)
    resolve = {"json": {"ids": [group_id]}}
    for headers, link in (({}, LINK), (reader, None)):
        answer = await groups.http.post("/v1/groups/resolve", headers=headers, **resolve)  # type: ignore[arg-type]
        assert [each["invite_link"] for each in answer.json()["items"]] == [link]
        items = (await groups.http.get("/v1/groups", headers=headers)).json()["items"]
        assert [each["invite_link"] for each in items] == [link]

    # A process of release 0.1.0 writes another link beside the sealed one, which it does not see.
    await rows.update_one({"_id": group_id}, {"$set": {"invite_link": LINK + "Older"}})
    assert (await groups.http.get(path)).json()["invite_link"] == LINK + "Older"

    async def sealed() -> bool:
        found = await rows.find_one({"_id": group_id})
        return found is not None and found["invite_link"] is None

    await groups.until(sealed)
    assert (await groups.http.get(path)).json()["invite_link"] == LINK + "Older"


async def test_an_erased_member_is_forgotten(groups: Running) -> None:
    group_id, ids = await a_group(groups, 2)
    await upload(groups, group_id, ids)
    await groups.publish(groups.envelope(request(ids[0]), 9))
    [answer] = [
        e.data for e in await acknowledged(groups, 1) if isinstance(e.data, GroupsErasureAcknowledged)
    ]
    assert answer.destroyed["observations"] == 1
    assert (await drift(groups, group_id))["counts"] == counts(joined=1)
    assert await groups.runtime.database["observations"].count_documents({"member_id": ids[0]}) == 0


async def test_drift_of_a_subtree_reads_the_groups_that_were_observed_by_an_index(groups: Running) -> None:
    for unit in (UNIT, ELSEWHERE):
        group_id, ids = await a_group(groups, 1, unit)
        await upload(groups, group_id, ids)
    await a_group(groups, 1, "BR-GAYA")
    database = groups.runtime.database
    await RosterStore(database).drift("BR")
    match = {"unit": {"$gte": "BR", "$lt": "BR."}, "observed.at": {"$type": "date"}}
    plan = await database.command(
        {"explain": {"find": "groups", "filter": match}, "verbosity": "executionStats"}
    )
    stats = plan["executionStats"]
    assert (stats["nReturned"], stats["totalDocsExamined"]) == (2, 2), plan


def at(seconds: float) -> datetime:
    return SystemClock().now() - timedelta(seconds=seconds)


async def test_two_processes_reconcile_one_roster_once(
    groups: Running, keys: Keys, settings: GroupsSettings
) -> None:
    group_id, ids = await a_group(groups, 30)
    second = settings.model_copy(update={"instance": "groups-2"})
    async with started(build, second, keys=keys, admin_scopes=["groups:*"]):
        await asyncio.gather(
            *(
                upload(groups, group_id, ids[:n], taken_at=at(60 - n).strftime("%Y-%m-%dT%H:%M:%SZ"))
                for n in (10, 20, 30)
            )
        )
    assert (await drift(groups, group_id))["counts"] == counts(joined=30)
    await groups.until(lambda: nothing_left(groups))
    seen = [e for e in await groups.log(TOPIC) if isinstance(e.data, GroupMemberObserved)]
    assert {e.subject for e in seen} == set(ids)


async def nothing_left(groups: Running) -> bool:
    return await groups.runtime.database["roster_seen"].count_documents({}) == 0
