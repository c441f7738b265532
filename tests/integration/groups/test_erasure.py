"""Groups answers an erasure: the seat is free, its group is named, and no late event takes a seat again."""

from __future__ import annotations

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import TOPIC, GroupMemberRemoved, GroupsErasureAcknowledged
from services.shared.contracts.members import MemberErasureRequested, MemberLeft, MemberMoved
from services.shared.ids import new_id
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import UNIT, joins, placed, seats, tree

NOTHING = dict.fromkeys(("seats", "observations", "appointments", "dead_letters"), 0)


async def acknowledged(groups: Running, count: int) -> list[Envelope[Event]]:
    """The published events, with `count` acknowledgements."""
    for _ in range(100):
        events = await groups.log(TOPIC)
        if sum(isinstance(e.data, GroupsErasureAcknowledged) for e in events) >= count:
            return events
    raise AssertionError("not acknowledged")


def request(member_id: str, attempt: int = 1) -> MemberErasureRequested:
    return MemberErasureRequested(member_id=member_id, unit=UNIT, erasure_id=new_id(), attempt=attempt)


async def test_the_seat_is_free_and_late_events_take_none(groups: Running) -> None:
    await tree(groups, UNIT)
    seated, gone, unheard = joins(3)
    await groups.publish(seated, gone)
    await placed(groups, 2)
    await groups.publish(MemberLeft(member_id=gone.member_id, unit=UNIT))
    await placed(groups, 1)
    letters = groups.runtime.database["dead_letters"]
    await letters.insert_many([letter(seated.member_id, "1"), letter(new_id(), "2")])
    asked = [request(each.member_id) for each in (seated, gone, unheard)]
    first, *others = (groups.envelope(each, 7) for each in asked)
    again = groups.envelope(asked[0].model_copy(update={"attempt": 2}), 8)
    await groups.publish(first, first, *others, again)
    events = await acknowledged(groups, 4)
    answers = {
        (e.data.member_id, e.sequence): e.data
        for e in events
        if isinstance(e.data, GroupsErasureAcknowledged)
    }
    [group_id] = answers[seated.member_id, 1].group_ids
    assert await groups.runtime.database["groups"].find_one({"_id": group_id}) is not None
    assert answers[seated.member_id, 1].destroyed == NOTHING | {"seats": 1, "dead_letters": 1}
    assert answers[seated.member_id, 2].group_ids == answers[gone.member_id, 1].group_ids == ()
    assert answers[unheard.member_id, 1].destroyed == NOTHING
    removed = [e for e in events if isinstance(e.data, GroupMemberRemoved)]
    assert sorted(e.subject for e in removed) == sorted((seated.member_id, gone.member_id))
    states = {row["_id"]: (row["state"], row["value"]) async for row in letters.find({})}
    assert states == {"1": ("discarded", None), "2": ("dead", b"{}")}

    late = MemberMoved(member_id=seated.member_id, from_unit=UNIT, unit=UNIT)
    marker = joins(1)
    await groups.publish(groups.envelope(unheard, 1), groups.envelope(late, 3), *marker)
    await placed(groups, 1)
    assert await seats(groups) == [(1, 1, "open")]


def letter(subject: str, id_: str) -> dict[str, object]:
    row = {"_id": id_, "type": "member.moved", "reason": "x", "state": "dead", "key": b"k", "value": b"{}"}
    place = {"topic": "sangathan.members", "partition": 0, "offset": int(id_), "timestamp": 0}
    return row | place | {"headers": {"ce_subject": subject}}
