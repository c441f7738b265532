"""Groups opened ahead of members, split, merged and archived."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.groups.chat_groups import upkeep
from services.shared.contracts.groups import TOPIC, GroupArchived, GroupMemberAssigned, GroupMemberRemoved
from services.shared.contracts.members import MemberLeft
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import UNIT, joins, placed, seats, tree
from tests.integration.groups.test_policy import (
    BLOCK,
    BOOTHS,
    GENERAL,
    WOMEN,
    applied,
    drift,
    ended,
    policy,
    units,
    woman,
)


async def asked(groups: Running, path: str, status: int = 202, **body: Any) -> Any:
    answer = await groups.http.post(f"/v1/groups/{path}", json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


async def of(groups: Running, unit: str = UNIT) -> dict[int, str]:
    """Ids by ordinal, also of archived groups."""
    rows = groups.runtime.database["groups"].find({"unit": unit})
    return {row["ordinal"]: row["_id"] async for row in rows}


async def test_groups_are_opened_ahead_in_every_booth_of_a_block(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    await units(groups)
    await groups.publish(woman(BOOTHS[1]))
    await placed(groups, 1)
    for opened in (2, 0):
        job = await asked(groups, "openings", unit=BLOCK, level="booth")
        assert (await ended(groups, job["id"]))["result"] == {"opened": opened}
    assert [await seats(groups, booth) for booth in BOOTHS] == [
        [(1, 0, "open")],
        [(1, 1, "open")],
        [(1, 0, "open")],
    ]
    await asked(groups, "openings", 422, unit=BLOCK, level="block", kind="women")
    await asked(groups, "openings", 404, unit="BR-NOWHERE", level="booth")
    await groups.publish(woman(BOOTHS[0]))
    await placed(groups, 2)
    assert await seats(groups, BOOTHS[0]) == [(1, 1, "open")]


async def test_a_group_is_split_merged_and_archived_and_everybody_keeps_a_seat(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    await tree(groups, UNIT)
    people = joins(7)
    await groups.publish(*people)
    await placed(groups, 7)
    ids = await of(groups)
    link = {"invite_link": "https://example.org/join"}
    version = (await groups.http.get(f"/v1/groups/{ids[2]}")).headers["etag"]
    assert (
        await groups.http.patch(f"/v1/groups/{ids[2]}", json=link, headers={"if-match": version})
    ).is_success

    job = await asked(groups, f"{ids[1]}/split", capacity=2)
    assert (await ended(groups, job["id"]))["result"] == {"moved": 3}
    assert await seats(groups) == [(1, 2, "full"), (2, 5, "full")]
    await asked(groups, f"{ids[1]}/split", 409, capacity=2)
    await asked(groups, f"{ids[1]}/archive", 409)
    problem = await asked(groups, f"{ids[1]}/merge", 409)
    assert (problem["needed"], problem["free"]) == (2, 0)
    await groups.publish(*joins(1))
    await placed(groups, 8)
    assert await seats(groups) == [(1, 2, "full"), (2, 5, "full"), (3, 1, "open")]

    job = await asked(groups, f"{ids[1]}/merge")
    assert (await ended(groups, job["id"]))["result"] == {"moved": 2}
    assert await seats(groups) == [(1, 0, "full"), (2, 5, "full"), (3, 3, "open")]
    for path in ("split", "merge", "archive", "reopen"):
        await asked(groups, f"{ids[1]}/{path}", 409, **({"capacity": 1} if path == "split" else {}))
    shown = (await groups.http.get("/v1/groups")).json()["items"]
    assert ids[1] not in {group["id"] for group in shown}
    archived = (await groups.http.get("/v1/groups", params={"archived": "true"})).json()["items"]
    assert [(group["id"], group["retired"]) for group in archived] == [(ids[1], "archived")]

    for person in people:
        await groups.publish(MemberLeft(member_id=person.member_id, unit=UNIT))
    await placed(groups, 7, "left")
    assert (await asked(groups, f"{ids[2]}/archive", 200))["invite_link"] is None
    assert await drift(groups) == {}
    await groups.publish(*joins(5))
    await placed(groups, 6)
    assert [row for row in await seats(groups) if row[0] > 2] == [(3, 5, "full"), (4, 1, "open")]
    log = await groups.log(TOPIC)
    assert {e.subject for e in log if isinstance(e.data, GroupArchived)} == {ids[1], ids[2]}
    assert len([e for e in log if e.type == "group.invite_changed"]) == 2
    for subject in {e.subject for e in log}:
        own = sorted(e.sequence for e in log if e.subject == subject)
        assert own == list(range(1, len(own) + 1))
    moves = [e for e in log if isinstance(e.data, GroupMemberRemoved) and e.data.reason == "moved"]
    assert len(moves) == 5
    told = Counter(e.subject for e in log if isinstance(e.data, GroupMemberAssigned))
    assert sum(told.values()) == 13 + len(moves)


async def test_a_cancelled_merge_goes_on_or_is_taken_back(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A women's group: seats by other rules move in the same way."""
    monkeypatch.setattr(upkeep, "BATCH", 1)
    await units(groups)
    await applied(groups, policy(GENERAL, WOMEN, women=(2, None)), 0)
    await groups.publish(*[woman() for _ in range(3)])
    await placed(groups, 3)
    rows = groups.runtime.database["groups"]
    ids = {row["ordinal"]: row["_id"] async for row in rows.find({"kind": "women"})}
    job = await asked(groups, f"{ids[2]}/merge", 409)
    await groups.http.patch(
        f"/v1/groups/{ids[1]}",
        json={"capacity": 5},
        headers={"if-match": (await groups.http.get(f"/v1/groups/{ids[1]}")).headers["etag"]},
    )
    job = await asked(groups, f"{ids[2]}/merge")
    await groups.http.post(f"/v1/jobs/{job['id']}/cancel")
    group = (await groups.http.get(f"/v1/groups/{ids[2]}")).json()
    if group["retired"] == "closing":
        assert (await asked(groups, f"{ids[2]}/reopen", 200))["retired"] is None
        job = await asked(groups, f"{ids[2]}/merge")
        await ended(groups, job["id"])
    women = (await groups.http.get("/v1/groups", params={"kind": "women"})).json()["items"]
    assert [(g["id"], g["members"]) for g in women] == [(ids[1], 3)]
    listed = (await groups.http.get(f"/v1/groups/{ids[1]}/members")).json()["items"]
    assert len(listed) == 3
    assert await drift(groups) == {}
