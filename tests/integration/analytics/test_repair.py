"""Forged sequences: a leap is refused, and a frozen subject is counted right after a repair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import pytest

from services.analytics.projections.catalogue import PROJECTIONS
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupCreated,
    GroupMemberAssigned,
    GroupMemberWaiting,
    GroupSnapshot,
    ObservationSnapshot,
    PlacementSnapshot,
    SeatHeld,
    UnitUpserted,
)
from services.shared.contracts.members import MemberJoined, MemberMoved, MemberSnapshot
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import MAX_LEAP, encode
from tests.fixtures.apps import TRACEPARENT
from tests.integration.analytics.conftest import Analytics


def said(event: Event, sequence: int) -> Envelope[Event]:
    return Envelope(new_id(), sequence, SystemClock().now(), "test", TRACEPARENT, event)


def joins(member: str, unit: str = "BR-A") -> MemberJoined:
    return MemberJoined(
        member_id=member, unit=unit, gender=Gender.FEMALE, language="hi", joined_at=SystemClock().now()
    )


def moves(member: str, unit: str) -> MemberMoved:
    return MemberMoved(member_id=member, from_unit="BR-A", unit=unit)


async def members(analytics: Analytics, unit: str) -> int:
    answer = await analytics.get("/v1/overview", unit=unit)
    return int(answer.json()["members"]["total"]) if answer.status_code == 200 else 0


async def repair(analytics: Analytics, *subjects: str) -> list[dict[str, Any]]:
    token = analytics._keys.mint("ops:*", "*", iat=0, nbf=0)
    transport = httpx2.ASGITransport(analytics.service.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://analytics") as client:
        answer = await client.post(
            "/v1/ops/repairs",
            json={"subjects": list(subjects)},
            headers={"Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


@pytest.mark.parametrize("sequence", [MAX_LEAP + 2, 2**31, 2**53 - 1])
async def test_a_leap_is_not_counted(analytics: Analytics, sequence: int) -> None:
    member = new_id()
    forged = analytics._record(encode(said(moves(member, "BR-B"), sequence)))
    honest = analytics._record(encode(said(joins(member), 1)))
    await analytics.applier.apply([honest, forged])
    [letter] = await analytics.runtime.database["dead_letters"].find({}).to_list(None)
    assert letter["reason"] == "sequence_leap"
    assert (await members(analytics, "BR-A"), await members(analytics, "BR-B")) == (1, 0)


async def test_a_frozen_member_is_counted_right_after_a_repair(analytics: Analytics) -> None:
    member, other = new_id(), new_id()
    await analytics.feed(
        [said(joins(member), 1), said(joins(other), 1), said(moves(member, "BR-B"), 500_000)]
    )
    await analytics.feed([said(moves(member, "BR-C"), 2)])
    assert (await members(analytics, "BR-B"), await members(analytics, "BR-C")) == (1, 0), "frozen"
    known = await repair(analytics, member)
    kinds = ("members", "coverage")
    assert known == [{"subject": member, "kind": kind, "sequence": 500_000} for kind in kinds]
    snapshot = MemberSnapshot(**joins(member, "BR-C").model_dump(), status="active")
    await analytics.feed([said(snapshot, 2)])
    assert (await members(analytics, "BR-B"), await members(analytics, "BR-C")) == (0, 1)
    assert (await by_day(analytics, "BR-B"), await by_day(analytics, "BR-C")) == (0, 1)
    await analytics.feed([said(moves(member, "BR-D"), 3)])
    assert (await members(analytics, "BR-C"), await members(analytics, "BR-D")) == (0, 1)
    assert await members(analytics, "BR") == 2
    days = (await analytics.ok("/v1/timeseries", unit="BR", metric="members.joined"))["points"]
    assert sum(point["value"] for point in days) == 2, "nobody joined twice"


async def by_day(analytics: Analytics, unit: str) -> int:
    answer = await analytics.get("/v1/inclusion", unit=unit)
    return int(answer.json()["members"]) if answer.status_code == 200 else 0


UNIT, ID = "BR-SARAN", new_id()
SHAPE: dict[str, Any] = {"unit": UNIT, "kind": "general", "ordinal": 1}
ABOUT: dict[str, tuple[Event, Event]] = {
    "placements": (
        GroupMemberWaiting(member_id=ID, unit=UNIT, reason="waiting_unit"),
        PlacementSnapshot(member_id=ID, state="left", since=SystemClock().now(), **SHAPE),
    ),
    "groups": (
        GroupCreated(group_id=ID, capacity=5, **SHAPE),
        GroupSnapshot(group_id=ID, capacity=7, invite_ready=True, **SHAPE),
    ),
    "units": (
        UnitUpserted(unit=UNIT, level="booth"),
        UnitUpserted(unit=UNIT, level="district", women_target=0.5),
    ),
}


@pytest.mark.parametrize("kind", ABOUT)
async def test_every_kind_of_subject_is_repaired(analytics: Analytics, kind: str) -> None:
    forged, snapshot = ABOUT[kind]
    await analytics.feed([said(forged, 500_000), said(snapshot, 2)])
    known = await repair(analytics, forged.subject)
    # Coverage keeps nothing of who waits, and so knows the snapshot alone.
    of_coverage = 2 if kind == "placements" else 500_000
    assert {each["kind"]: each["sequence"] for each in known} == {kind: 500_000, "coverage": of_coverage}
    await analytics.feed([said(snapshot, 2)])
    fact = await analytics.runtime.database[kind].find_one({"_id": forged.subject})
    assert fact is not None
    stated = next(mapping for p in PROJECTIONS for e, mapping in p.mappings.items() if e is type(snapshot))
    wanted = stated.states(snapshot)
    assert (fact["upto"], fact["beyond"], {name: fact[name] for name in wanted}) == (2, [], wanted)


async def test_a_seat_whose_removal_was_lost_is_cleared_once_however_often_it_is_repaired(
    analytics: Analytics,
) -> None:
    """A woman has three seats by as many rules. That one was freed, and that a roster showed her in another,
    was lost."""
    member, now = new_id(), SystemClock().now()
    seats = {
        rule: {"member_id": member, "group_id": new_id(), "unit": "BR-A", "kind": rule}
        for rule in ("general", "women", "it_cell")
    }
    assigned = [
        GroupMemberAssigned(**seat, rule=rule, ordinal=1, invite_ready=True) for rule, seat in seats.items()
    ]
    await analytics.feed([said(joins(member), 1)])
    await analytics.feed([said(event, number) for number, event in enumerate(assigned, 1)])
    held = SeatHeld(**seats["it_cell"] | {"rule": "it_cell", "state": "assigned", "since": now, "ordinal": 1})
    snapshots = [
        said(PlacementSnapshot(**seats["general"], state="assigned", ordinal=1, since=now, seats=(held,)), 5),
        said(ObservationSnapshot(**seats["general"], state="joined", observed_at=now), 5),
    ]
    for _ in range(2):
        await repair(analytics, member)
        for snapshot in snapshots:
            await analytics.feed([replace(snapshot, id=new_id())])
        assert (await analytics.ok("/v1/overview", unit="BR"))["groups"]["taken"] == 2
        fact = await analytics.runtime.database["placements"].find_one({"_id": member})
        assert fact is not None
        assert {name for name in fact if name.startswith("seat_")} == {
            f"seat_{seats[rule]['group_id']}" for rule in ("general", "it_cell")
        }
        funnel = (await analytics.ok("/v1/inclusion", unit="BR"))["funnel"]
        assert (funnel["assigned"], funnel["joined"]) == (1, 1)
    await analytics.feed([said(PlacementSnapshot(**seats["general"], state="left", since=now), 4)])
    assert (await analytics.ok("/v1/overview", unit="BR"))["groups"]["taken"] == 2, "an old one says nothing"
