"""A replayed old event never overwrites a newer state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from tests.fixtures.apps import Running
from tests.fixtures.letters import live_through, subsets

AT = datetime(2026, 11, 23, tzinfo=UTC)
UNITS = "code,level,name_en,name_hi\nBR,state,Bihar,बिहार\nBR-A,district,A,अ\nBR-B,district,B,ब\n"


def history(groups: Running, stays: bool) -> list[Envelope[Any]]:
    member = new_id()
    events = [
        MemberJoined(member_id=member, unit="BR-A", gender=Gender.FEMALE, language="hi", joined_at=AT),
        MemberMoved(member_id=member, from_unit="BR-A", unit="BR-B"),
        MemberMoved(member_id=member, from_unit="BR-B", unit="BR-NOWHERE"),
        MemberMoved(member_id=member, from_unit="BR-NOWHERE", unit="BR-A"),
        MemberLeft(member_id=member, unit="BR-A"),
    ]
    return [groups.envelope(event) for event in events[: 4 if stays else 5]]


async def state(groups: Running, member: str) -> tuple[Any, ...]:
    """Where the member is, and how many seats are taken in all."""
    database = groups.runtime.database
    placement = await database["placements"].find_one({"_id": member})
    assert placement is not None
    where = [placement[name] for name in ("unit", "group_id", "ordinal", "state", "member_sequence")]
    taken = sorted([(g["unit"], g["taken"]) async for g in database["groups"].find({"taken": {"$gt": 0}})])
    return (*where, *taken)


@pytest.mark.parametrize("stays", [True, False])
async def test_a_member_is_where_the_newest_event_says(groups: Running, stays: bool) -> None:
    csv = {"content-type": "text/csv"}
    assert (await groups.http.post("/v1/units/imports", content=UNITS.encode(), headers=csv)).is_success
    first = history(groups, stays)
    await live_through(groups.service, first)
    expected = await state(groups, first[0].subject)
    await groups.runtime.database["placements"].delete_many({})
    await groups.runtime.database["groups"].update_many({}, {"$set": {"taken": 0, "state": "open"}})
    for dead in subsets(len(first)):
        again = history(groups, stays)
        await live_through(groups.service, again, dead)
        assert await state(groups, again[0].subject) == expected, dead
        await groups.runtime.database["placements"].delete_many({})
        await groups.runtime.database["groups"].update_many({}, {"$set": {"taken": 0, "state": "open"}})


async def test_gaps_in_the_sequence_are_applied_and_repeats_of_a_sequence_are_not(groups: Running) -> None:
    csv = {"content-type": "text/csv"}
    assert (await groups.http.post("/v1/units/imports", content=UNITS.encode(), headers=csv)).is_success
    events = [replace(e, sequence=e.sequence * 3) for e in history(groups, stays=True)]
    await live_through(groups.service, events)
    settled = await state(groups, events[0].subject)
    assert settled[0] == "BR-A"
    elsewhere = MemberMoved(member_id=events[0].subject, from_unit="BR-A", unit="BR-B")
    await live_through(groups.service, [groups.envelope(elsewhere, e.sequence) for e in events])
    assert await state(groups, events[0].subject) == settled
