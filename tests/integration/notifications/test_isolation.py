"""One notification never holds the others: whatever spoils a batch fails alone, with a reason, in the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from services.notifications.core.channel import Message
from services.notifications.core.clients import service
from services.notifications.core.domain import Notification, OutcomeClass, SendOutcome, State
from services.notifications.sending.composing import Asked, Judged
from services.shared.errors import TransientError
from services.shared.ids import new_id
from tests.integration.notifications.conftest import Bench, Replica, assigned, joined
from tests.integration.notifications.scripted import SENT, Scripted, queued
from tests.integration.notifications.stand_ins import Peers

HONEST = 20


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CALL_SECONDS", 1.0)
    monkeypatch.setattr(service, "PART_SECONDS", 0.5)


async def forged(bench: Bench, peers: Peers, id_: str) -> str:
    """A welcome to somebody with this id, as an older release stored it: the oldest of all that are due."""
    member, _ = await queued(bench, peers)
    recipient = await bench.database["recipients"].find_one_and_delete({"_id": member})
    assert recipient is not None
    await bench.database["recipients"].insert_one({**recipient, "_id": id_})
    await bench.database["notifications"].update_one({"member_id": member}, {"$set": {"member_id": id_}})
    return id_


async def batch(bench: Bench, peers: Peers) -> list[str]:
    """Honest members whose welcomes are due."""
    group, members = peers.add_group(), [peers.add_member() for _ in range(HONEST)]
    await bench.deliver(*[joined(m) for m in members], *[assigned(m, group, ready=True) for m in members])
    return members


def isolated(bench: Bench, reason: str) -> float:
    labels = {"reason": reason}
    return bench.runtime.registry.get_sample_value("sangathan_notifications_isolated_total", labels) or 0.0


async def states(bench: Bench, members: list[str]) -> set[State]:
    return {(await bench.welcome(member)).state for member in members}


async def given_up(bench: Bench, peers: Peers, member: str) -> str | None:
    """The reason with which it failed, after as many tries as there are."""
    for _ in range(bench.settings.send_tries - 1):
        assert (await bench.welcome(member)).state is State.QUEUED
        await bench.passes(timedelta(hours=1))
        await queued(bench, peers)
        await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, len(n.attempts)) == (State.FAILED, bench.settings.send_tries)
    assert [e.type for e in await bench.events(n.id)][-1] == "notification.failed"
    return n.reason


@pytest.mark.parametrize("id_", ["not-an-id", "x" * 5000, "' OR 1=1"])
async def test_a_forged_id_fails_alone(bench: Bench, peers: Peers, id_: str):
    """Members refuses the whole call with 422, as the real service does: the schema is the real one."""
    await forged(bench, peers, id_)
    honest = await batch(bench, peers)
    await bench.dispatch()
    assert await states(bench, honest) == {State.SENT}
    assert isolated(bench, "peer_refused") == 1
    for _ in range(bench.settings.send_tries - 1):
        await bench.passes(timedelta(hours=1))
        await queued(bench, peers)
        await bench.dispatch()
    n = await bench.welcome(id_)
    assert (n.state, n.reason) == (State.FAILED, "unrecordable"), "no event may carry such an id"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (400, "peer_refused"),
        (404, "peer_refused"),
        (413, "peer_refused"),
        (500, "peer_refused"),
        ("hangs", "peer_timeout"),
        ("drips", "peer_timeout"),
        ("huge", "peer_answer"),
        ("nonsense", "peer_answer"),
        ("malformed", "peer_answer"),
    ],
)
@pytest.mark.parametrize("peer", ["members", "groups"])
async def test_one_that_spoils_every_answer_fails_alone(
    bench: Bench, peers: Peers, peer: str, how: str | int, reason: str
):
    member, group = await queued(bench, peers)
    peers.spoilers = {member if peer == "members" else group: how}
    honest = await batch(bench, peers)
    await bench.dispatch()
    assert await states(bench, honest) == {State.SENT}
    n = await bench.welcome(member)
    assert [(a.sender, a.error_class) for a in n.attempts] == [(peer, reason)]
    assert isolated(bench, reason) == 1


async def test_it_is_given_up_after_as_many_tries_as_there_are(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers)
    peers.spoilers = {member: "hangs"}
    await batch(bench, peers)
    await bench.dispatch()
    assert await given_up(bench, peers, member) == "peer_timeout"


async def test_several_spoilers_at_once(bench: Bench, peers: Peers):
    bad = {(await queued(bench, peers))[0]: how for how in ("hangs", 422, "nonsense")}
    peers.spoilers = dict(bad)
    honest = await batch(bench, peers)
    await bench.dispatch()
    assert await states(bench, honest) == {State.SENT}
    assert {(await bench.welcome(m)).attempts[0].error_class for m in bad} == {
        "peer_timeout",
        "peer_refused",
        "peer_answer",
    }


async def test_alone_it_is_told_from_a_service_that_refuses_everybody(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers)
    peers.spoilers = {member: 422}
    await bench.dispatch()
    assert (await bench.welcome(member)).attempts[0].error_class == "peer_refused"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503])
async def test_a_service_that_answers_nobody_costs_no_try(bench: Bench, peers: Peers, status: int):
    honest = await batch(bench, peers)
    peers.down, peers.status = {"members"}, status
    with pytest.raises(TransientError):
        await bench.dispatch()
    assert len(peers.calls) <= 3
    assert {(await bench.welcome(m)).attempts for m in honest} == {()}


async def test_a_frozen_service_costs_no_try(bench: Bench, peers: Peers):
    honest = await batch(bench, peers)
    peers.delay = 5.0
    with pytest.raises(TransientError):
        await bench.dispatch()
    assert {(await bench.welcome(m)).attempts for m in honest} == {()}


async def test_answers_that_are_all_malformed_are_those_of_a_bad_release(bench: Bench, peers: Peers):
    honest = await batch(bench, peers)
    peers.spoilers = dict.fromkeys(honest, "malformed")
    with pytest.raises(TransientError):
        await bench.dispatch()
    assert {(await bench.welcome(m)).attempts for m in honest} == {()}


async def test_items_that_nobody_asked_for_and_repeated_ones_are_ignored(
    bench: Bench, peers: Peers, replica: Replica
):
    member, _ = await queued(bench, peers)
    item = peers.people[member].model_dump(mode="json")
    peers.extra = [
        item | {"phone": "+919000000001"},
        item | {"id": new_id(), "phone": "+919000000002"},
        {"id": 7},
        {},
    ]
    sender = Scripted()
    await replica(sender).dispatch()
    assert [message.address for message in sender.sent] == ["+919876543210"]


class Choking(Scripted):
    """Raises a bug of its own whenever it is given a message to `victim`."""

    victim = ""

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        if any(message.member_id == self.victim for message in messages):
            raise ValueError(self.victim)
        return await super().send(messages)


async def test_a_message_on_which_the_sender_chokes_fails_alone(bench: Bench, peers: Peers, replica: Replica):
    sender = Choking(SENT)
    sender.victim, _ = await queued(bench, peers)
    honest = await batch(bench, peers)
    one = replica(sender)
    await one.dispatch()
    assert await states(bench, honest) == {State.SENT}
    assert (await bench.welcome(sender.victim)).attempts[0].error_class == "sender_error"
    assert isolated(one, "sender_error") == 1


@pytest.mark.parametrize("step", ["check", "judge", "compose"])
async def test_one_that_cannot_be_judged_fails_alone(
    bench: Bench, peers: Peers, replica: Replica, monkeypatch: pytest.MonkeyPatch, step: str
):
    victim, _ = await queued(bench, peers)
    honest = await batch(bench, peers)
    one = replica(Scripted(SENT))
    composer = one.dispatcher._composer
    whole = getattr(composer, step)

    def chokes(about: Notification | Asked | Judged, *args: Any, **options: Any) -> Any:
        asked = about.asked if isinstance(about, Judged) else about
        notification = asked.notification if isinstance(asked, Asked) else asked
        if notification.member_id == victim:
            raise ValueError(victim)
        return whole(about, *args, **options)

    monkeypatch.setattr(composer, step, chokes)
    await one.dispatch()
    assert await states(bench, honest) == {State.SENT}
    attempt = (await bench.welcome(victim)).attempts[0]
    assert (attempt.sender, attempt.error_class) == ("dispatcher", "composing_error")
    assert isolated(one, "composing_error") == 1


class Odd(Scripted):
    """Answers about `victim` with an error class that is no slug."""

    victim = ""
    error_class: object = ""

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        await super().send(messages)
        odd = SendOutcome(OutcomeClass.PERMANENT, cast(str, self.error_class))
        return [odd if message.member_id == self.victim else SENT for message in messages]


@pytest.mark.parametrize("broken", ["event", "document", "size"])
async def test_a_result_that_cannot_be_recorded_is_set_aside(
    bench: Bench, peers: Peers, replica: Replica, broken: str
):
    """Put back, the message would be sent again with each claim."""
    sender = Odd()
    sender.victim, _ = await queued(bench, peers)
    sender.error_class = {"event": 7, "document": "refused", "size": "x" * 17_000_000}[broken]
    if broken == "document":
        never = {"member_id": sender.victim, "attempts.outcome": "permanent"}
        await bench.database.command("collMod", "notifications", validator={"$nor": [never]})
    honest = await batch(bench, peers)
    one = replica(sender)
    await one.dispatch()
    assert await states(bench, honest) == {State.SENT}
    n = await bench.welcome(sender.victim)
    assert (n.state, n.reason, n.due_at, n.claim) == (State.FAILED, "unrecordable", None, None)
    assert isolated(one, "unrecordable") == 1
    await bench.passes(timedelta(hours=1))
    assert await one.dispatch() == 0


async def test_one_that_cannot_be_read_keeps_no_other_waiting(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers)
    await bench.database["notifications"].update_one({"member_id": member}, {"$unset": {"cause": ""}})
    honest = await batch(bench, peers)
    await bench.dispatch()
    assert await states(bench, honest) == {State.SENT}
