"""Notifications answers an erasure: what was written goes, and nothing is written any more."""

from __future__ import annotations

import pytest

from services.notifications.core.domain import State
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberErasureRequested
from services.shared.contracts.notifications import NotificationsErasureAcknowledged
from services.shared.ids import new_id
from tests.integration.notifications.conftest import Bench, assigned, envelope, invite, joined, updated
from tests.integration.notifications.stand_ins import Peers


def request(member_id: str, sequence: int = 5) -> Envelope[Event]:
    event = MemberErasureRequested(member_id=member_id, unit="BR-SARAN", erasure_id=new_id())
    return envelope(event, sequence)


async def answer_to(bench: Bench, asked: Envelope[Event]) -> NotificationsErasureAcknowledged:
    assert isinstance(asked.data, MemberErasureRequested)
    [event] = await bench.events(asked.data.erasure_id)
    assert isinstance(event.data, NotificationsErasureAcknowledged)
    return event.data


async def a_sent_welcome(bench: Bench, peers: Peers) -> str:
    member_id, group_id = peers.add_member(), peers.add_group()
    await bench.deliver(invite(group_id, 1), joined(member_id), assigned(member_id, group_id))
    await bench.dispatch()
    sent = await bench.welcome(member_id)
    assert sent.state is State.SENT
    assert await bench.recorded(sent.id) is not None
    return member_id


async def test_what_was_written_is_destroyed_for_one_alone(bench: Bench, peers: Peers) -> None:
    erased, other = await a_sent_welcome(bench, peers), await a_sent_welcome(bench, peers)
    asked = request(erased)
    await bench.deliver(asked)
    of_webhooks = {"deliveries": 0, "identities": 0, "inbound": 0}
    assert (await answer_to(bench, asked)).destroyed == {"messages": 1, **of_webhooks, "dead_letters": 0}
    kept = [row["member_id"] async for row in bench.database["recorded_messages"].find({})]
    assert kept == [other]


async def test_what_is_queued_is_never_sent(bench: Bench) -> None:
    member_id, group_id = new_id(), new_id()
    await bench.deliver(joined(member_id), request(member_id, 2))
    assert (await bench.welcome(member_id)).state is State.SUPPRESSED
    late = [updated(member_id, 1, language="ur"), assigned(member_id, group_id), invite(group_id, 1)]
    await bench.deliver(*late)
    await bench.dispatch()
    assert (await bench.welcome(member_id)).state is State.SUPPRESSED
    row = await bench.database["recipients"].find_one({"_id": member_id})
    assert row is not None
    assert (row["active"], row["language"], row["channels"]) == (False, "", [])


async def test_one_who_joins_late_is_not_welcomed(bench: Bench) -> None:
    member_id = new_id()
    await bench.deliver(request(member_id, 2))
    await bench.deliver(joined(member_id, 1))
    row = await bench.database["recipients"].find_one({"_id": member_id})
    assert row is not None
    assert (row["active"], row["language"], row["channels"]) == (False, "", [])
    notifications = bench.database["notifications"].find({"member_id": member_id})
    assert {each["state"] async for each in notifications} <= {"suppressed"}


async def test_it_waits_for_a_message_that_is_being_sent(
    bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    member_id = await a_sent_welcome(bench, peers)
    notifications = bench.database["notifications"]
    await notifications.update_one({"member_id": member_id}, {"$set": {"state": "sending"}})
    paused = 0

    async def concluded(_: float) -> None:
        nonlocal paused
        paused += 1
        assert await bench.database["recorded_messages"].count_documents({}) == 1
        await notifications.update_one({"member_id": member_id}, {"$set": {"state": "sent"}})

    assert bench.service.consumer is not None
    monkeypatch.setattr(bench.service.consumer.applier, "_pause", concluded)
    asked = request(member_id)
    await bench.deliver(asked)
    assert paused == 1
    assert (await answer_to(bench, asked)).destroyed["messages"] == 1
