"""Groups states again what it holds, and learns from members' snapshots only what it does not know."""

from __future__ import annotations

from datetime import UTC, datetime

from services.groups.recovery.snapshots import SOURCES
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import TOPIC, GroupSnapshot, PlacementSnapshot
from services.shared.contracts.members import MemberSnapshot
from services.shared.contracts.vocabulary import Gender
from services.shared.messaging import decode
from tests.fixtures.apps import Running
from tests.fixtures.rebuilding import quiet, republish, the_log
from tests.integration.groups.test_placement import UNIT, joins, placed, seats, tree
from tests.integration.groups.test_rebuild import UNKNOWN, live_through


async def published(groups: Running) -> list[Envelope[Event]]:
    await groups.until(lambda: quiet(groups.runtime))
    return [decode(record) for record in await the_log(groups.runtime.settings, [TOPIC])]


def snapshot(member: str, sequence: int, unit: str = UNIT, *, left: bool = False) -> MemberSnapshot:
    return MemberSnapshot(
        member_id=member,
        unit=unit,
        gender=Gender.FEMALE,
        language="hi",
        joined_at=datetime(2026, 11, 23, tzinfo=UTC),
        status="left" if left else "active",
    )


async def test_snapshots_say_what_is_there_with_the_sequence_it_has(groups: Running) -> None:
    await live_through(groups)
    before = await published(groups)
    told = await republish(groups.runtime.settings, SOURCES, batch=4)
    log = await published(groups)
    again = [e for e in log if e not in before]
    database = groups.runtime.database
    assert told == {
        "unit.upserted": 3,
        "group.snapshot": await database["groups"].count_documents({}),
        "placement.snapshot": 15,
    }
    assert len(again) == sum(told.values())
    last = {e.subject: e.sequence for e in sorted(before, key=lambda e: e.sequence)}
    assert all(e.sequence == last[e.subject] for e in again)
    seated = {e.subject: e.data.group_id for e in again if isinstance(e.data, PlacementSnapshot)}
    assert seated == {p["_id"]: p["group_id"] async for p in database["placements"].find({})}
    ready = {e.subject for e in again if isinstance(e.data, GroupSnapshot) and e.data.invite_ready}
    assert ready == {g["_id"] async for g in database["groups"].find({"sealed_link": {"$exists": True}})}
    assert len(ready) == 1
    raw = await the_log(groups.runtime.settings, [TOPIC])
    assert not [r for r in raw if b"example.org" in (r.value or b"")]


async def test_only_a_unit_or_only_the_rest_is_told_when_asked(groups: Running) -> None:
    await live_through(groups)
    await groups.until(lambda: quiet(groups.runtime))
    told = await republish(groups.runtime.settings, SOURCES, unit="BR-SIWAN")
    assert told == {"unit.upserted": 1, "group.snapshot": 1, "placement.snapshot": 1}
    assert await republish(groups.runtime.settings, SOURCES, after="units:BR-SARAN") == {
        "unit.upserted": 1,
        "group.snapshot": 4,
        "placement.snapshot": 15,
    }
    ids = [p["_id"] async for p in groups.runtime.database["placements"].find({}).sort("_id", 1)]
    told = await republish(groups.runtime.settings, SOURCES, after=f"placements:{ids[4]}")
    assert told == {"placement.snapshot": 10}


async def test_members_snapshots_place_whom_we_have_lost_and_nobody_else(groups: Running) -> None:
    await tree(groups, UNIT)
    known, waiting, unknown, gone, stays = joins(5)
    await groups.publish(known, waiting.model_copy(update={"unit": UNKNOWN}), stays)
    await placed(groups, 2)
    await placed(groups, 1, "waiting_unit")
    before = await published(groups)
    told = [
        groups.envelope(snapshot(known.member_id, 1), 1),
        groups.envelope(snapshot(stays.member_id, 4), 4),
        groups.envelope(snapshot(waiting.member_id, 3, UNKNOWN), 3),
        groups.envelope(snapshot(unknown.member_id, 2), 2),
        groups.envelope(snapshot(gone.member_id, 2, left=True), 2),
    ]
    await groups.publish(*told, *told)
    await placed(groups, 3)
    await placed(groups, 1, "left")
    await groups.publish(
        groups.envelope(snapshot(known.member_id, 2, left=True), 2), groups.envelope(unknown, 1)
    )
    await placed(groups, 2, "left")
    log = await published(groups)
    new = [(e.subject, e.type) for e in log if e not in before]
    assert sorted(new) == sorted(
        [(unknown.member_id, "group.member_assigned"), (known.member_id, "group.member_removed")]
    )
    assert await seats(groups) == [(1, 2, "open")]
