"""A whole tree compared with the present one, and applied: units, groups and seats follow."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from services.groups.recovery.snapshots import SOURCES
from services.groups.tree.redrawing import apply_job
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import TOPIC, GroupMemberAssigned, GroupMemberRemoved
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMoved,
    MemberRolesChanged,
    RoleHeld,
)
from services.shared.ids import new_id
from tests.fixtures.apps import Running
from tests.fixtures.rebuilding import republish
from tests.integration.groups.test_placement import joins, placed

HEADER = "code,level,name_en,name_hi,women_target,ac_no,ac_name_en,ac_name_hi,predecessor,successor"
LEVELS = ("state", "district", "block", "booth")
BEFORE = ["BR", "BR-S", "BR-S-M", "BR-S-M-1", "BR-S-M-2", "BR-S-M-3", "BR-S-E", "BR-S-E-9"]


def row(code: str, name: str = "", predecessor: str = "", ac: int | str = "") -> str:
    level = LEVELS[code.count("-")]
    return f"{code},{level},{name or 'Place ' + code.replace('-', ' ')},स्थान,,{ac},,,{predecessor},"


def gone(code: str, *successors: str) -> str:
    return f"{code},{LEVELS[code.count('-')]},,,,,,,,{' '.join(successors)}"


def csv(*rows: str) -> bytes:
    return "\n".join([HEADER, *rows, ""]).encode()


AFTER = csv(
    row("BR"),
    row("BR-S", "Saran renamed"),
    row("BR-S-M"),
    row("BR-S-M-11", predecessor="BR-S-M-1 BR-S-M-2", ac=117),
    row("BR-S-M-31", predecessor="BR-S-M-3", ac=117),
    row("BR-S-M-32", predecessor="BR-S-M-3", ac=118),
    row("BR-S-W", predecessor="BR-S-E"),
    row("BR-S-W-9", predecessor="BR-S-E-9"),
    row("BR-S-W-10"),
)


async def load(groups: Running, *codes: str) -> None:
    rows = [row(code).rsplit(",", 5)[0] for code in codes]
    text = "\n".join([HEADER.rsplit(",", 5)[0], *rows, ""]).encode()
    answer = await groups.http.post("/v1/units/imports", content=text, headers={"content-type": "text/csv"})
    assert answer.status_code == 200, answer.text


async def send(groups: Running, text: bytes, unit: str | None = None, **headers: str) -> Any:
    return await groups.http.post(
        "/v1/units/comparisons",
        content=text,
        params={"unit": unit} if unit else {},
        headers={"content-type": "text/csv", **headers},
    )


async def ended(groups: Running, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal job
        job = (await groups.http.get(f"/v1/jobs/{job_id}")).json()
        return job["state"] in {"succeeded", "failed", "cancelled"}

    await groups.until(has_ended)
    return job


async def compared(groups: Running, text: bytes, unit: str | None = None) -> dict[str, Any]:
    answer = await send(groups, text, unit)
    assert answer.status_code == 202, answer.text
    job = await ended(groups, answer.json()["id"])
    assert job["state"] == "succeeded", job
    shown: dict[str, Any] = (await groups.http.get(f"/v1/units/comparisons/{job['id']}?limit=500")).json()
    return shown


async def applied(groups: Running, id_: str) -> dict[str, Any]:
    answer = await groups.http.post(f"/v1/units/comparisons/{id_}/apply")
    assert answer.status_code == 202, answer.text
    job = await ended(groups, answer.json()["id"])
    assert job["state"] == "succeeded", job
    return job


async def groups_by_id(groups: Running) -> dict[str, Any]:
    return {row["_id"]: row async for row in groups.runtime.database["groups"].find()}


async def placements(groups: Running) -> dict[str, Any]:
    return {row["_id"]: row async for row in groups.runtime.database["placements"].find()}


def told(events: Sequence[Envelope[Event]], word: str) -> list[Any]:
    return [event.data for event in events if event.type == word]


def redrawn(member_id: str, before: str, after: str) -> MemberMoved:
    return MemberMoved(member_id=member_id, from_unit=before, unit=after, cause="redrawn")


async def test_a_tree_is_compared_shown_and_applied(groups: Running) -> None:
    await load(groups, *BEFORE)
    people = {
        unit: joins(n, unit) for unit, n in {"BR-S-M-1": 7, "BR-S-M-2": 3, "BR-S-M-3": 4, "BR-S-E": 2}.items()
    }
    await groups.publish(*[event for events in people.values() for event in events])
    await placed(groups, 16)
    chief = people["BR-S-E"][0].member_id
    await groups.publish(
        MemberRolesChanged(member_id=chief, unit="BR-S-E", roles=(held("coordinator", "BR-S-E"),))
    )
    officers = groups.runtime.database["officers"]
    await groups.until(lambda: has(officers, 1))
    link = "https://chat.example/abc"
    [of_three] = await groups.runtime.database["groups"].find({"unit": "BR-S-M-3"}).to_list(None)
    changed = await groups.http.patch(
        f"/v1/groups/{of_three['_id']}", json={"invite_link": link}, headers={"if-match": '"1"'}
    )
    assert changed.status_code == 200
    units_before = {r["_id"]: r async for r in groups.runtime.database["units"].find()}
    groups_before, seats_before = await groups_by_id(groups), await placements(groups)

    shown = await compared(groups, AFTER)
    kinds = {(each["kind"], each["code"]) for each in shown["items"]}
    assert kinds == {
        ("renamed", "BR-S"),
        ("formed", "BR-S-M-11"),
        ("formed", "BR-S-M-31"),
        ("formed", "BR-S-M-32"),
        ("formed", "BR-S-W"),
        ("formed", "BR-S-W-9"),
        ("added", "BR-S-W-10"),
        ("merged", "BR-S-M-1"),
        ("merged", "BR-S-M-2"),
        ("split", "BR-S-M-3"),
        ("moved", "BR-S-E"),
        ("moved", "BR-S-E-9"),
    }
    [one] = [each for each in shown["items"] if each["code"] == "BR-S-M-1"]
    assert one["held"] == {"members": 7, "groups": 2, "officers": 0}
    assert one["successors"] == ["BR-S-M-11"]
    assert shown["comparison"]["counts"] == {
        **{"unchanged": 2, "renamed": 1, "formed": 5, "added": 1, "merged": 2, "split": 1, "moved": 2},
        **{"members": 16, "groups": 5, "officers": 1, "unmapped": 4},
    }
    # Nothing has been written yet.
    assert {r["_id"]: r async for r in groups.runtime.database["units"].find()} == units_before
    assert await groups_by_id(groups) == groups_before

    job = await applied(groups, shown["comparison"]["id"])
    assert job["counts"] == {"written": 7, "retired": 5, "groups": 5, "seats": 16}

    after = await groups_by_id(groups)
    assert after.keys() == groups_before.keys()
    for id_, group in after.items():
        kept = ("capacity", "taken", "state", "kind", "sealed_link")
        assert {key: group.get(key) for key in kept} == {key: groups_before[id_].get(key) for key in kept}
    assert {(g["unit"], g["ordinal"]) for g in after.values()} == {
        ("BR-S-M-11", 1),
        ("BR-S-M-11", 2),
        ("BR-S-M-11", 3),
        ("BR-S-M-31", 1),
        ("BR-S-W", 1),
    }
    assert after[of_three["_id"]]["sealed_link"] is not None
    assert {g["name"]["en"] for g in after.values() if g["unit"] == "BR-S-W"} == {"Place BR S W group"}
    now = await placements(groups)
    assert {m: p["group_id"] for m, p in now.items()} == {m: p["group_id"] for m, p in seats_before.items()}
    assert Counter(p["unit"] for p in now.values()) == {"BR-S-M-11": 10, "BR-S-W": 2, "BR-S-M-3": 4}

    events = await groups.log(TOPIC)
    assert {(e.unit, e.successors) for e in told(events, "unit.succeeded")} == {
        ("BR-S-M-1", ("BR-S-M-11",)),
        ("BR-S-M-2", ("BR-S-M-11",)),
        ("BR-S-M-3", ("BR-S-M-31", "BR-S-M-32")),
        ("BR-S-E", ("BR-S-W",)),
        ("BR-S-E-9", ("BR-S-W-9",)),
    }
    assert len(told(events, "group.member_redrawn")) == 16
    assert not told(events, "group.member_removed")
    assert len(told(events, "group.member_assigned")) == 16, "nobody gets a seat anew"
    for subject in {event.subject for event in events}:
        numbers = [event.sequence for event in events if event.subject == subject]
        assert numbers == list(range(1, len(numbers) + 1))
    await _members_follow(groups, people, seats_before)
    await _what_is_retired_stays_so(groups, shown["comparison"]["id"])


async def _members_follow(
    groups: Running, people: dict[str, list[MemberJoined]], seats_before: dict[str, Any]
) -> None:
    """In any order; and those of the split as they are mapped."""
    moves = [
        redrawn(e.member_id, e.unit, "BR-S-M-11") for unit in ("BR-S-M-1", "BR-S-M-2") for e in people[unit]
    ]
    moves += [redrawn(e.member_id, e.unit, "BR-S-M-32") for e in people["BR-S-M-3"]]
    moves += [redrawn(e.member_id, e.unit, "BR-S-W") for e in people["BR-S-E"]]
    await groups.publish(*moves)
    heard = {"member_sequence": {"$gte": 2}}
    await groups.until(lambda: has(groups.runtime.database["placements"], 16, heard))
    now = await placements(groups)
    assert {m: p["group_id"] for m, p in now.items()} == {m: p["group_id"] for m, p in seats_before.items()}
    assert Counter(p["unit"] for p in now.values()) == {"BR-S-M-11": 10, "BR-S-W": 2, "BR-S-M-32": 4}


async def _what_is_retired_stays_so(groups: Running, id_: str) -> None:
    gone_unit = (await groups.http.get("/v1/units/BR-S-M-3")).json()
    assert gone_unit["successors"] == ["BR-S-M-31", "BR-S-M-32"]
    assert gone_unit["name"] == {"en": "Place BR S M 3", "hi": "स्थान"}, "history keeps it"
    answer = await groups.http.put(
        "/v1/units/BR-S-M-3", json={"level": "booth", "name": {"en": "x", "hi": "क"}}
    )
    assert (answer.status_code, answer.json()["type"].rsplit(":")[-1]) == (409, "unit-retired")
    assert answer.json()["successors"] == "BR-S-M-31 BR-S-M-32"
    children = (await groups.http.get("/v1/units/BR-S-M/children")).json()["items"]
    assert [each["code"] for each in children] == ["BR-S-M-11", "BR-S-M-31", "BR-S-M-32"]
    found = (await groups.http.get("/v1/units?constituency=117")).json()["items"]
    assert [(each["code"], each["constituency"]) for each in found] == [
        ("BR-S-M-11", {"number": 117, "name": None}),
        ("BR-S-M-31", {"number": 117, "name": None}),
    ]

    again = await groups.http.post(f"/v1/units/comparisons/{id_}/apply")
    assert (again.status_code, again.json()["type"].rsplit(":")[-1]) == (409, "comparison-applied")
    unchanged = await compared(
        groups,
        AFTER.replace(b",BR-S-M-1 BR-S-M-2,", b",,")
        .replace(b",BR-S-M-3,", b",,")
        .replace(b",BR-S-E,", b",,")
        .replace(b",BR-S-E-9,", b",,"),
    )
    assert unchanged["items"] == []


async def test_what_rosters_showed_follows_its_group(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those without a seat in it; a restatement of the unit names it, and so does one of a member."""
    monkeypatch.setattr(apply_job, "SEATS_A_STEP", 2)
    await load(groups, *BEFORE)
    seated, others = joins(3, "BR-S-M-1"), joins(3, "BR-S-M")  # whose own seats stay as they are
    await groups.publish(*seated, *others)
    await placed(groups, 6)
    [group] = await groups.runtime.database["groups"].find({"unit": "BR-S-M-1"}).to_list(None)
    seen = [each.member_id for each in (*seated, *others)]
    answer = await groups.http.post(
        f"/v1/groups/{group['_id']}/roster",
        params={"complete": "true", "force": "true"},
        json={"members": seen},
    )
    assert answer.status_code == 202, answer.text
    assert (await ended(groups, answer.json()["id"]))["state"] == "succeeded"
    shown = await compared(groups, AFTER)
    await applied(groups, shown["comparison"]["id"])
    rows = groups.runtime.database["observations"]
    assert {(row["member_id"], row["unit"]) async for row in rows.find()} == {
        (member_id, "BR-S-M-11") for member_id in seen
    }
    told = await republish(groups.runtime.settings, SOURCES, unit="BR-S-M-11")
    assert told["observation.snapshot"] == 6
    token = groups.auth("ops:write")
    again = await groups.http.post("/v1/ops/snapshots", json={"subjects": seen[3:5]}, headers=token)
    kinds = Counter(item["kind"] for item in again.json()["items"])
    assert kinds == {"placement.snapshot": 2, "observation.snapshot": 2}


async def has(collection: Any, count: int, query: dict[str, Any] | None = None) -> bool:
    return bool(await collection.count_documents(query or {}) == count)


def held(role: str, unit: str) -> RoleHeld:
    return RoleHeld(role=role, unit=unit, since=datetime(2026, 1, 1, tzinfo=UTC))


async def test_who_joins_a_retired_unit_is_placed_in_what_stands_for_it(groups: Running) -> None:
    await load(groups, *BEFORE)
    shown = await compared(groups, AFTER)
    await applied(groups, shown["comparison"]["id"])
    [early, late] = joins(1, "BR-S-M-1") + joins(1, "BR-S-M-3")
    await groups.publish(early, late)
    await placed(groups, 1)
    await placed(groups, 1, "waiting_unit")
    assert (await placements(groups))[early.member_id]["unit"] == "BR-S-M-11"
    await groups.publish(
        redrawn(early.member_id, "BR-S-M-1", "BR-S-M-11"), redrawn(late.member_id, "BR-S-M-3", "BR-S-M-31")
    )
    await placed(groups, 2)
    events = await groups.log(TOPIC)
    assert len(told(events, "group.member_assigned")) == 2
    await groups.publish(MemberLeft(member_id=late.member_id, unit="BR-S-M-31"))
    await placed(groups, 1)


async def test_a_member_heard_of_first_keeps_the_seat_all_the_same(groups: Running) -> None:
    """`member.moved` of the redrawing before the seats have followed: as while a job is at work."""
    await load(groups, *BEFORE)
    [one] = joins(1, "BR-S-M-1")
    await groups.publish(one)
    await placed(groups, 1)
    before = await placements(groups)
    await groups.publish(redrawn(one.member_id, "BR-S-M-1", "BR-S-M-11"))
    await groups.until(lambda: has(groups.runtime.database["placements"], 1, {"unit": "BR-S-M-11"}))
    shown = await compared(
        groups, csv(*[row(c) for c in BEFORE if c != "BR-S-M-1"], row("BR-S-M-11", predecessor="BR-S-M-1"))
    )
    await applied(groups, shown["comparison"]["id"])
    after = await placements(groups)
    assert after[one.member_id]["group_id"] == before[one.member_id]["group_id"]
    events = await groups.log(TOPIC)
    # The member's unit at once, and the group's when it has followed.
    assert [event.unit for event in told(events, "group.member_redrawn")] == ["BR-S-M-1", "BR-S-M-11"]
    assert not [e for e in events if isinstance(e.data, GroupMemberRemoved)]
    assert len([e for e in events if isinstance(e.data, GroupMemberAssigned)]) == 1


REFUSED = [
    (csv(row("BR"), row("BR-S"), row("BR-S-N-1")), "/rows/4/code", "its parent"),
    (csv(row("BR"), row("BR")), "/rows/2/code", "appears twice"),
    (csv(row("BR"), row("BR-S").replace("district", "block")), "/rows/3", "is a district"),
    (csv(row("BR"), row("BR-S").replace("BR-S,", "br-s,")), "/rows/3/code", "capital letters"),
    (csv(row("BR"), row("BR-S").replace("BR-S,", "BR-\u0405,")), "/rows/3/code", "look like"),
    (csv(row("BR"), row("BR-S").replace("BR-S,", "\u0392R-S,")), "/rows/3/code", "look like"),
    (csv(row("BR"), row("BR-S").replace("BR-S,", "BR-\uff33,")), "/rows/3/code", "look like"),
    (csv(row("BR"), row("BR-T", predecessor="BR-X")), "/rows/3/predecessor", "is no live unit"),
    (csv(row("BR"), row("BR-T", predecessor="BR-T")), "/rows/3/predecessor", "is the unit itself"),
    (csv(row("BR"), row("BR-S"), row("BR-T", predecessor="BR-S")), "/rows/4/predecessor", "does not stay"),
    (csv(row("BR"), row("BR-S", predecessor="BR")), "/rows/3/predecessor", "there already"),
    (csv(row("BR"), gone("BR-S", "BR-S")), "/rows/3/successor", "is the unit itself"),
    (csv(row("BR"), gone("BR-S", "BR-T")), "/rows/3/successor", "is not in this file"),
    (csv(row("BR"), gone("BR-S", "BR-S-M"), gone("BR-S-M", "BR-S")), "/rows/3/successor", "goes too"),
    (csv(row("BR"), gone("BR-T", "BR-U"), row("BR-U")), "/rows/3/code", "is no live unit"),
    (csv(row("BR"), gone("BR-S", "BR-T"), row("BR-T"), row("BR-S-M")), "/rows/5/code", "its parent goes"),
    (csv(row("BR", ac=0)), "/rows/2/ac_no", "greater than or equal to 1"),
    (csv(row("BR"), "BR-S-M-1-X-Y,ward,X,स्थान,,,,,,"), "/rows/3", "no level of that depth"),
]


@pytest.mark.parametrize(("text", "pointer", "why"), REFUSED)
async def test_a_tree_that_cannot_be_is_refused_whole(
    groups: Running, text: bytes, pointer: str, why: str
) -> None:
    await load(groups, *BEFORE)
    answer = await send(groups, text)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert any(e["pointer"] == pointer and why in e["detail"] for e in problem["errors"]), problem
    assert (await groups.http.get("/v1/units/comparisons")).json()["items"] == []


async def test_a_unit_does_not_vanish_with_members_in_it(groups: Running) -> None:
    await load(groups, *BEFORE)
    [one] = joins(1, "BR-S-M-3")
    await groups.publish(one)
    await placed(groups, 1)
    text = csv(*[row(code) for code in BEFORE if code not in {"BR-S-M-3", "BR-S-M-2"}])
    shown = await compared(groups, text)
    assert {(e["code"], e["refused"]) for e in shown["items"]} == {
        ("BR-S-M-2", None),
        ("BR-S-M-3", "holds_members"),
    }
    refused = await groups.http.post(f"/v1/units/comparisons/{shown['comparison']['id']}/apply")
    assert (refused.status_code, refused.json()["type"].rsplit(":")[-1]) == (409, "comparison-refused")
    await groups.publish(MemberLeft(member_id=one.member_id, unit="BR-S-M-3"))
    await placed(groups, 1, "left")
    shown = await compared(groups, text)
    [late] = joins(1, "BR-S-M-2")
    await groups.publish(late)
    await placed(groups, 1)
    refused = await groups.http.post(f"/v1/units/comparisons/{shown['comparison']['id']}/apply")
    assert refused.json()["type"].rsplit(":")[-1] == "comparison-refused", "somebody has joined since"
    assert (await groups.http.get("/v1/units/BR-S-M-2")).json()["successors"] is None


async def test_a_stale_comparison_and_a_second_one_are_refused(groups: Running) -> None:
    await load(groups, *BEFORE)
    one, other = await compared(groups, AFTER), await compared(groups, AFTER)
    await load(groups, *BEFORE)  # changes nothing, so nothing is stale
    jobs = await asyncio.gather(
        *(
            groups.http.post(f"/v1/units/comparisons/{each['comparison']['id']}/apply")
            for each in (one, other)
        )
    )
    assert sorted(answer.status_code for answer in jobs) == [202, 409]
    [won] = [answer.json() for answer in jobs if answer.status_code == 202]
    [lost] = [answer.json() for answer in jobs if answer.status_code == 409]
    assert lost["type"].rsplit(":")[-1] in {"redrawing-in-progress", "comparison-stale"}
    assert (await ended(groups, won["id"]))["state"] == "succeeded"
    for each in (one, other):
        answer = await groups.http.post(f"/v1/units/comparisons/{each['comparison']['id']}/apply")
        assert answer.json()["type"].rsplit(":")[-1] in {"comparison-applied", "comparison-stale"}
    succeeded = told(await groups.log(TOPIC), "unit.succeeded")
    assert len(succeeded) == 5


async def test_only_the_subtree_is_compared_and_only_by_who_may(groups: Running) -> None:
    await load(groups, *BEFORE)
    text = csv(row("BR-S-M"), row("BR-S-M-1", "Another name"), row("BR-S-M-2"), row("BR-S-M-3"))
    shown = await compared(groups, text, "BR-S-M")
    assert [(e["kind"], e["code"]) for e in shown["items"]] == [("renamed", "BR-S-M-1")]
    id_ = shown["comparison"]["id"]
    stranger = groups.auth("groups:*", "BR-S-E")
    assert (await groups.http.get(f"/v1/units/comparisons/{id_}", headers=stranger)).status_code == 404
    assert (await groups.http.post(f"/v1/units/comparisons/{id_}/apply", headers=stranger)).status_code == 404
    outside = await groups.http.post(
        "/v1/units/comparisons", content=text, headers=stranger | {"content-type": "text/csv"}
    )
    assert outside.status_code == 422
    assert {e["detail"] for e in outside.json()["errors"]} == {"is outside your units"}


async def test_a_job_that_was_cancelled_is_taken_up_where_it_ended(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.groups.tree.redrawing.apply_job.UNITS_A_STEP", 1)
    await load(groups, *BEFORE)
    shown = await compared(groups, AFTER)
    id_ = shown["comparison"]["id"]
    begun = await groups.http.post(f"/v1/units/comparisons/{id_}/apply")
    await groups.http.post(f"/v1/jobs/{begun.json()['id']}/cancel")
    job = await ended(groups, begun.json()["id"])
    if job["state"] == "cancelled":
        await applied(groups, id_)
    succeeded = told(await groups.log(TOPIC), "unit.succeeded")
    assert len(succeeded) == 5
    assert (await groups.http.get(f"/v1/units/comparisons/{id_}")).json()["comparison"]["state"] == "applied"


async def test_the_same_file_sent_again_is_the_same_comparison(groups: Running) -> None:
    await load(groups, *BEFORE)
    key = {"idempotency-key": new_id()}
    first, second = await send(groups, AFTER, **key), await send(groups, AFTER, **key)
    assert first.json()["id"] == second.json()["id"]
    assert (await send(groups, csv(row("BR")), **key)).status_code == 422
