"""A welcome waits for a day at most; then it goes without a link, and one invite with the link follows."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.notifications.core.domain import WELCOME, Notification, State
from services.notifications.core.store import notification_of
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupMemberObserved
from services.shared.contracts.notifications import PROMISED
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from tests.integration.notifications.conftest import (
    START,
    Bench,
    assigned,
    envelope,
    invite,
    joined,
    left,
    merged,
    moved,
    removed,
)
from tests.integration.notifications.stand_ins import Peers, link_of
from tests.integration.notifications.test_invites import lapsed

A_DAY = timedelta(hours=24, minutes=1)


async def of(bench: Bench, member_id: str, template: str = WELCOME) -> Notification:
    """The member's only notification with this text."""
    rows = bench.database["notifications"].find({"member_id": member_id, "template": template})
    [found] = [notification_of(row) async for row in rows]
    return found


async def text(bench: Bench, notification: Notification) -> str:
    message = await bench.recorded(notification.id)
    assert message is not None
    return str(message["text"])


async def promised_to(bench: Bench, peers: Peers, *, seat: bool = True) -> tuple[str, str]:
    """A member and group; the welcome has gone without a link."""
    member, group = peers.add_member(), peers.add_group(link=None)
    await bench.deliver(joined(member), *([assigned(member, group)] if seat else []))
    await bench.passes(A_DAY)
    assert await bench.dispatch() == 1
    return member, group


def now_ready(peers: Peers, group: str, unit: str = "BR-SARAN") -> Envelope[Event]:
    peers.add_group(group, unit=unit)
    return invite(group, 5)


@pytest.mark.parametrize("seat", [True, False], ids=["no_invite", "no_group"])
async def test_a_welcome_goes_without_a_link_after_a_day_and_the_link_follows_once(
    bench: Bench, peers: Peers, seat: bool
) -> None:
    member, group = peers.add_member(), peers.add_group(link=None)
    await bench.deliver(joined(member), *([assigned(member, group)] if seat else []))
    lacking = "no_invite" if seat else "no_group"
    await bench.passes(timedelta(hours=23))
    assert await bench.dispatch() == 0
    assert (await of(bench, member)).held_for == lacking
    await bench.passes(timedelta(hours=1, minutes=1))
    assert await bench.dispatch() == 1
    welcome = await of(bench, member)
    assert (welcome.state, welcome.without, welcome.group_id) == (State.SENT, lacking, None)
    said = await text(bench, welcome)
    assert ("निमंत्रण" in said, "सारण समूह" in said, "chat.whatsapp" in said) == (True, seat, False)
    told = (await bench.events(welcome.id))[-1].data.model_dump()
    assert (told["without"], told["group_id"], told["template"]) == (lacking, None, "welcome")
    promised = await of(bench, member, PROMISED)
    assert (promised.state, promised.held_for, promised.purpose) == (State.QUEUED, lacking, WELCOME)

    assert await bench.dispatch() == 0
    await bench.deliver(now_ready(peers, group), assigned(member, group, 2, ready=True))
    await bench.dispatch()
    promised = await of(bench, member, PROMISED)
    assert (promised.state, promised.group_id) == (State.SENT, group)
    assert link_of(group) in await text(bench, promised)
    events = await bench.events(promised.id)
    assert [e.type for e in events] == ["notification.queued", "notification.sent"]
    await bench.deliver(invite(group, 6, ready=False), moved(member, 2), removed(member, group, 3))
    await bench.deliver(invite(group, 7), assigned(member, group, 4, ready=True))
    await bench.passes(A_DAY)
    assert await bench.dispatch() == 0, "the welcome and the invite have both gone"
    assert await bench.database["notifications"].count_documents({"member_id": member}) == 2


async def test_a_promised_invite_is_to_the_group_of_the_seat_that_the_member_has_by_then(
    bench: Bench, peers: Peers
) -> None:
    member, group = await promised_to(bench, peers)
    new = peers.add_group(unit="BR-GAYA")
    await bench.deliver(moved(member, 2), removed(member, group, 2))
    assert (await of(bench, member, PROMISED)).held_for == "no_group"
    peers.add_member(member, unit="BR-GAYA")
    await bench.deliver(assigned(member, new, 3), now_ready(peers, group))
    assert await bench.dispatch() == 0, "the other group's link is of no use"
    await bench.deliver(now_ready(peers, new, "BR-GAYA"))
    await bench.dispatch()
    promised = await of(bench, member, PROMISED)
    assert (promised.state, promised.group_id) == (State.SENT, new)


@pytest.mark.parametrize("ending", ["left", "joined", "no_consent", "expired"])
async def test_a_promised_invite_without_a_reason_does_not_go(
    bench: Bench, peers: Peers, ending: str
) -> None:
    member, group = await promised_to(bench, peers)
    seen = GroupMemberObserved(
        member_id=member, group_id=group, unit="BR-SARAN", kind="general", state="joined", observed_at=START
    )
    match ending:
        case "left":
            await bench.deliver(left(member, 2))
        case "joined":
            await bench.deliver(envelope(seen, 2))
        case "no_consent":
            peers.consents(member)
        case "expired":
            past = [{"$set": {"expires_at": {"$subtract": ["$expires_at", 31 * 86_400_000]}}}]
            await bench.database["notifications"].update_many({"template": PROMISED}, past)
    await bench.deliver(now_ready(peers, group))
    await bench.dispatch()
    promised = await of(bench, member, PROMISED)
    assert (promised.state, promised.reason) == (State.SUPPRESSED, ending)


async def test_a_welcome_that_nobody_can_address_is_not_looked_at_again_and_again(
    bench: Bench, peers: Peers
) -> None:
    by_mail = [{"purpose": "welcome", "channel": "email"}]
    member, group = peers.add_member(email=None, consents=by_mail), peers.add_group(link=None)
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group))
    await bench.passes(A_DAY)
    assert await bench.dispatch() == 1
    assert (await of(bench, member)).held_for == "no_address"
    assert await bench.dispatch() == 0
    peers.add_member(member)
    await bench.passes(timedelta(hours=1))
    await bench.dispatch()
    assert (await of(bench, member)).without == "no_invite"


@pytest.mark.parametrize("what", ["link", "seat"])
async def test_what_comes_while_the_promise_is_made_is_not_missed(
    bench: Bench, peers: Peers, what: str
) -> None:
    """The transactions overlap; under snapshot isolation each would miss the other without a conflict."""
    member, group = peers.add_member(), peers.add_group()
    if what == "seat":
        await bench.deliver(joined(member), invite(group, 1))
    else:
        await bench.deliver(joined(member), assigned(member, group))
    welcome = await of(bench, member)
    handlers = bench.service.consumer.applier._handlers  # type: ignore[union-attr]
    comes: Any = invite(group, 5) if what == "link" else assigned(member, group, 2, ready=True)
    rows = bench.database["notifications"]
    retried: dict[str, Any] = {"$set": {"state": "sending"}, "$unset": {"held_for": ""}}
    await rows.update_one({"_id": welcome.id}, retried)
    sent = {"state": "sent", "without": welcome.held_for}
    gone = dict.fromkeys(("due_at", "open"), "")
    other: list[asyncio.Task[None]] = []

    async def heard(work: UnitOfWork) -> None:
        await handlers[type(comes.data)]([comes], work)

    async def record(work: UnitOfWork) -> None:
        await rows.update_one({"_id": welcome.id}, {"$set": sent, "$unset": gone}, session=work.session)
        await bench.core.promises.keep({member: welcome.cause}, work)
        if not other:
            other.append(asyncio.create_task(bench.runtime.outbox.transact(heard)))
            await asyncio.sleep(0.3)

    await bench.runtime.outbox.transact(record)
    await other[0]
    assert (await of(bench, member, PROMISED)).held_for is None


async def test_who_stands_for_somebody_with_a_promise_gets_the_link(bench: Bench, peers: Peers) -> None:
    member, group = await promised_to(bench, peers)
    heir, other = peers.add_member(), peers.add_member()
    await bench.deliver(joined(heir), assigned(heir, group), merged(member, 2, heir))
    assert (await of(bench, member, PROMISED)).reason == "merged"
    assert (await of(bench, heir)).reason == "welcomed_already"
    await bench.deliver(now_ready(peers, group))
    await bench.dispatch()
    assert (await of(bench, heir, PROMISED)).state is State.SENT
    await bench.deliver(merged(heir, 2, other))
    rows = bench.database["notifications"].find({"member_id": other})
    assert [row["template"] async for row in rows] == [], "they have had the link"


async def test_welcomes_that_an_earlier_release_holds_go_a_day_after_the_upgrade(
    bench: Bench, peers: Peers
) -> None:
    held, unplaced = peers.add_member(), peers.add_member()
    await bench.deliver(joined(held), assigned(held, peers.add_group(link=None)), joined(unplaced))
    rows = bench.database["notifications"]
    ago = [{"$set": {"created_at": {"$subtract": ["$created_at", 60 * 86_400_000]}}}]
    old = {"$unset": dict.fromkeys(("waits_until", "expires_at", "due_at"), "")}
    await rows.update_many({}, ago)
    await rows.update_many({}, old)
    await rows.drop_index("member_id_1_template_1")
    await rows.create_index([("member_id", 1), ("purpose", 1)], unique=True)
    await bench.database["migrations"].delete_one({"_id": "core-0003"})
    await bench.service.migrate()
    assert await bench.dispatch() == 0
    await bench.passes(A_DAY)
    assert await bench.dispatch() == 2
    assert [(await of(bench, m)).without for m in (held, unplaced)] == ["no_invite", "no_group"]
    assert (await of(bench, held, PROMISED)).held_for == "no_invite"


async def test_no_invite_is_sent_again_while_the_promised_one_is_on_its_way(
    bench: Bench, peers: Peers
) -> None:
    member, group = await promised_to(bench, peers)
    other = new_id()
    await bench.deliver(lapsed(member, group), lapsed(member, other, 6))
    rows = bench.database["notifications"].find({"member_id": member, "template": "invite"})
    assert {row["group_id"]: row.get("reason") async for row in rows} == {
        group: "welcome_pending",
        other: None,
    }
