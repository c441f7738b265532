from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.local.keys import Keys
from services.groups.app import build
from services.shared.contracts.groups import TOPIC
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import MAX_LEAP
from tests.fixtures.apps import Running, started

UNIT = "BR-SARAN"


def joins(count: int, unit: str = UNIT) -> list[MemberJoined]:
    return [
        MemberJoined(
            member_id=new_id(),
            unit=unit,
            gender=Gender.FEMALE,
            language="hi",
            joined_at=datetime(2026, 11, 23, tzinfo=UTC),
        )
        for _ in range(count)
    ]


async def tree(groups: Running, *codes: str) -> None:
    for code in ("BR", *codes):
        level = ("state", "district", "block", "booth")[code.count("-")]
        body = {"level": level, "name": {"en": f"Unit {code}", "hi": "इकाई"}}
        answer = await groups.http.put(f"/v1/units/{code}", json=body)
        assert answer.status_code in {200, 201}, answer.text


async def seats(groups: Running, unit: str = UNIT) -> list[tuple[int, int, str]]:
    """(ordinal, seats taken, state) of a unit's groups."""
    rows = await groups.runtime.database["groups"].find({"unit": unit}).sort("ordinal", 1).to_list(None)
    return [(row["ordinal"], row["taken"], row["state"]) for row in rows]


async def placed(groups: Running, count: int, state: str = "assigned") -> None:
    async def enough() -> bool:
        return await groups.runtime.database["placements"].count_documents({"state": state}) == count

    await groups.until(enough)


async def test_members_overflow_into_the_next_group_and_never_over_capacity(groups: Running) -> None:
    await tree(groups, UNIT)
    await groups.publish(*joins(12))
    await placed(groups, 12)
    assert await seats(groups) == [(1, 5, "full"), (2, 5, "full"), (3, 2, "open")]

    events = await groups.published(TOPIC, 2 + 3 + 12 + 2)
    kinds = Counter(e.type for e in events)
    assert kinds == {
        "unit.upserted": 2,
        "group.created": 3,
        "group.member_assigned": 12,
        "group.filled": 2,
    }
    for subject in {e.subject for e in events}:
        own = [e.sequence for e in events if e.subject == subject]
        assert own == list(range(1, len(own) + 1))


async def test_a_freed_seat_of_the_lowest_ordinal_is_taken_first(groups: Running) -> None:
    await tree(groups, UNIT)
    members = joins(7)
    await groups.publish(*members)
    await placed(groups, 7)
    first = await groups.runtime.database["placements"].find_one({"ordinal": 1})
    assert first is not None
    await groups.publish(MemberLeft(member_id=first["_id"], unit=UNIT))
    await placed(groups, 1, "left")
    assert await seats(groups) == [(1, 4, "open"), (2, 2, "open")]
    await groups.publish(*joins(1))
    await placed(groups, 7)
    assert await seats(groups) == [(1, 5, "full"), (2, 2, "open")]


async def test_a_member_waits_for_an_unknown_unit_and_is_placed_when_it_arrives(groups: Running) -> None:
    members = joins(8)
    await groups.publish(*members)
    await placed(groups, 8, "waiting_unit")
    answer = await groups.http.get(f"/v1/members/{members[0].member_id}/groups")
    assert answer.json()["items"][0]["state"] == "waiting_unit"

    await tree(groups, UNIT)
    await placed(groups, 8)
    answer = await groups.http.get(f"/v1/members/{members[0].member_id}/groups")
    (item,) = answer.json()["items"]
    assert item["state"] == "assigned"
    assert item["unit"] == UNIT
    assert await seats(groups) == [(1, 5, "full"), (2, 3, "open")]


async def test_a_move_frees_the_old_seat_and_takes_a_new_one(groups: Running) -> None:
    await tree(groups, UNIT, "BR-SIWAN")
    (member,) = joins(1)
    await groups.publish(member)
    await placed(groups, 1)
    await groups.publish(MemberMoved(member_id=member.member_id, from_unit=UNIT, unit="BR-SIWAN"))

    async def moved() -> bool:
        return await seats(groups, "BR-SIWAN") == [(1, 1, "open")]

    await groups.until(moved)
    assert await seats(groups) == [(1, 0, "open")]
    events = await groups.published(TOPIC, 8)
    own = [(e.type, e.sequence) for e in events if e.subject == member.member_id]
    assert own == [
        ("group.member_assigned", 1),
        ("group.member_removed", 2),
        ("group.member_assigned", 3),
    ]


async def test_a_stale_event_never_undoes_a_newer_one(groups: Running) -> None:
    """The join comes after the leave, as a replayed dead letter would."""
    await tree(groups, UNIT)
    (member,) = joins(1)
    await groups.publish(groups.envelope(MemberLeft(member_id=member.member_id, unit=UNIT), 2))
    await placed(groups, 1, "left")
    await groups.publish(groups.envelope(member, 1))
    await asyncio.sleep(1)
    await placed(groups, 1, "left")
    assert await seats(groups) == []


async def test_two_instances_racing_for_the_last_seats_never_exceed_capacity(
    own_groups: Running, keys: Keys
) -> None:
    """A unit's joins lie in all partitions, so both consumers seat members in the same groups at once."""
    groups = own_groups
    await tree(groups, UNIT)
    settings = groups.runtime.settings
    async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as second:

        async def shares_the_partitions() -> bool:
            name = "sangathan_consumer_assigned_partitions"
            return bool(second.runtime.registry.get_sample_value(name))

        # Both have partitions before anybody joins, so that they race.
        await second.until(shares_the_partitions)
        for _ in range(20):
            await groups.publish(*joins(10))
            await asyncio.sleep(0.02)
        await placed(groups, 200)
        rows = await seats(groups)
        assert [row[1] for row in rows] == [5] * 40
        assert [row[0] for row in rows] == list(range(1, 41))
        counted = Counter(
            row["group_id"] for row in await groups.runtime.database["placements"].find({}).to_list(None)
        )
        assert set(counted.values()) == {5}


async def test_a_leaping_event_moves_nobody_and_freezes_nobody(groups: Running) -> None:
    await tree(groups, UNIT, "BR-GAYA")
    first, second = joins(2)
    await groups.publish(first)
    away = MemberMoved(member_id=first.member_id, from_unit=UNIT, unit="BR-GAYA")
    for sequence in (MAX_LEAP + 2, 2**31, 2**53 - 1):
        await groups.publish(groups.envelope(away, sequence))
    await groups.publish(groups.envelope(second, MAX_LEAP + 1))

    async def refused() -> bool:
        return await groups.runtime.database["dead_letters"].count_documents({"reason": "sequence_leap"}) == 4

    await groups.until(refused)
    await placed(groups, 1)
    assert await seats(groups) == [(1, 1, "open")]
    assert await seats(groups, "BR-GAYA") == []
    await groups.publish(groups.envelope(away, 2), groups.envelope(second, 1))

    async def both() -> bool:
        return await seats(groups, "BR-GAYA") == await seats(groups) == [(1, 1, "open")]

    await groups.until(both)


async def test_a_repair_forgets_how_far_a_member_is_known_and_nothing_else(groups: Running) -> None:
    await tree(groups, UNIT, "BR-GAYA")
    [member] = joins(1)
    id_ = member.member_id
    await groups.publish(member)
    await placed(groups, 1)
    away = MemberMoved(member_id=id_, from_unit=UNIT, unit="BR-GAYA")
    await groups.publish(groups.envelope(away, 500_000))
    await groups.until(lambda: _sequence_is(groups, id_, 500_000))

    async def repair(**body: object) -> list[dict[str, object]]:
        answer = await groups.http.post("/v1/ops/repairs", json={"subjects": [id_, new_id()], **body})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    known = {"subject": id_, "kind": "placements", "sequence": 500_000}
    assert await repair(dry_run=True) == [known]
    assert await repair() == [known]
    assert await repair() == [{**known, "sequence": 0}], "safe to repeat"
    assert await seats(groups, "BR-GAYA") == [(1, 1, "open")], "effects stay"
    back = MemberMoved(member_id=id_, from_unit="BR-GAYA", unit=UNIT)
    await groups.publish(groups.envelope(back, 3))
    await groups.until(lambda: _sequence_is(groups, id_, 3))
    assert await seats(groups, "BR-GAYA") == [(1, 0, "open")]
    answer = await groups.http.post(
        "/v1/ops/repairs", json={"subjects": [id_]}, headers=groups.auth("groups:* ops:read")
    )
    assert answer.status_code == 403


async def _sequence_is(groups: Running, member_id: str, sequence: int) -> bool:
    query = {"_id": member_id, "member_sequence": sequence}
    return await groups.runtime.database["placements"].count_documents(query) == 1


async def test_a_merge_leaves_one_seat_of_two_and_its_undoing_gives_the_seat_again(groups: Running) -> None:
    """A late event of the member who was merged changes nothing."""
    await tree(groups, UNIT)
    survivor, other = joins(2)
    await groups.publish(survivor, other)
    await placed(groups, 2)
    state = {name: getattr(other, name) for name in ("member_id", "unit", "gender", "language", "joined_at")}
    merged = MemberMerged(**state, into=survivor.member_id)
    await groups.publish(groups.envelope(merged, 3))
    await placed(groups, 1, "left")
    assert await seats(groups) == [(1, 1, "open")]
    moved = MemberMoved(member_id=other.member_id, from_unit=UNIT, unit=UNIT)
    await groups.publish(groups.envelope(moved, 2), groups.envelope(merged, 3))
    await groups.publish(*joins(1))
    await placed(groups, 2)
    assert await seats(groups) == [(1, 2, "open")]
    await groups.publish(groups.envelope(MemberUnmerged(**state, into=survivor.member_id), 4))
    await placed(groups, 3)
    assert await seats(groups) == [(1, 3, "open")]


def told(kind: type[Any], member: MemberJoined, **changes: Any) -> Any:
    """Another event of the member, with the fields that the two share."""
    shared = {k: v for k, v in member.model_dump().items() if k in kind.model_fields}
    return kind(**(shared | changes))


@pytest.mark.parametrize("unit_first", [True, False])
async def test_who_has_no_number_has_no_seat_until_there_is_one(groups: Running, unit_first: bool) -> None:
    await tree(groups, *([UNIT, "BR-GAYA"] if unit_first else []))
    without, other = joins(2)
    without = without.model_copy(update={"own_number": False})
    away = told(MemberMoved, without, from_unit=UNIT, unit="BR-GAYA")
    changed = told(MemberUpdated, without, unit="BR-GAYA")
    got = told(MemberUpdated, without, unit="BR-GAYA", own_number=True)
    await groups.publish(without, other, told(MemberUpdated, without), away)
    await groups.until(lambda: _is(groups, without, ("left", False, 3)))
    if not unit_first:
        await tree(groups, UNIT, "BR-GAYA")
    await placed(groups, 1)
    assert await seats(groups) == [(1, 1, "open")]
    assert await seats(groups, "BR-GAYA") == []

    await groups.publish(groups.envelope(got, 5))
    await groups.until(lambda: _is(groups, without, ("assigned", True, 5)))
    assert await seats(groups, "BR-GAYA") == [(1, 1, "open")]
    await groups.publish(groups.envelope(changed, 4), told(MemberUpdated, other))  # the first comes late
    await groups.publish(groups.envelope(changed, 6))  # a merge was undone
    await groups.until(lambda: _is(groups, without, ("left", False, 6)))
    assert await seats(groups, "BR-GAYA") == [(1, 0, "open")]
    assert await seats(groups) == [(1, 1, "open")]


async def test_a_snapshot_and_the_end_of_a_merge_give_no_seat_without_a_number(groups: Running) -> None:
    """Nor leave one to somebody whom an earlier release has given it."""
    await tree(groups, UNIT)
    seated, parted = joins(2)
    await groups.publish(seated, parted)
    await placed(groups, 2)
    into = {"into": seated.member_id}
    await groups.publish(told(MemberSnapshot, seated, status="active", own_number=False))
    await groups.publish(told(MemberMerged, parted, **into))
    await groups.publish(told(MemberUnmerged, parted, **into, own_number=False))
    await groups.until(lambda: _is(groups, seated, ("left", False, 2)))
    await groups.until(lambda: _is(groups, parted, ("left", False, 3)))
    assert await seats(groups) == [(1, 0, "open")]


async def _is(groups: Running, member: MemberJoined, state: tuple[str, bool, int]) -> bool:
    """Whether the placement has this state, a seat or none, and heard this sequence last."""
    row = await groups.runtime.database["placements"].find_one({"_id": member.member_id})
    return row is not None and (row["state"], row["group_id"] is not None, row["member_sequence"]) == state
