"""The members service decides whether a message goes: it is asked each time, whatever the log says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.notifications.core.domain import OutcomeClass, SendOutcome, State
from services.notifications.settings import NotificationsSettings
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberSnapshot
from services.shared.contracts.vocabulary import Gender
from services.shared.errors import TransientError
from services.shared.messaging import UnitOfWork
from tests.integration.notifications.conftest import (
    START,
    Bench,
    Replica,
    assigned,
    consented,
    envelope,
    joined,
    left,
    moved,
)
from tests.integration.notifications.scripted import Scripted, queued
from tests.integration.notifications.stand_ins import Peers, link_of

THROTTLED = SendOutcome(OutcomeClass.TRANSIENT, "throttled")


def snapshot(member: str, sequence: int) -> Envelope[Event]:
    described = MemberSnapshot(
        member_id=member,
        unit="BR-SARAN",
        gender=Gender.FEMALE,
        language="hi",
        joined_at=START,
        channels=("whatsapp",),
        status="active",
    )
    return envelope(described, sequence)


async def test_a_forged_consent_that_comes_first_sends_nothing(bench: Bench, peers: Peers, replica: Replica):
    """15 members, 8 of them without consent, and for each a forged `member.joined` with channels."""
    group, sender = peers.add_group(), Scripted()
    members = [peers.add_member() for _ in range(15)]
    without = members[:8]
    for member in without:
        peers.consents(member)
    await bench.deliver(*[joined(m, channels=("whatsapp", "sms", "email")) for m in members])
    await bench.deliver(*[joined(m, channels=()) for m in without])
    await bench.deliver(*[assigned(m, group, ready=True) for m in members])
    await replica(sender).dispatch()
    assert sorted(message.member_id for message in sender.sent) == sorted(members[8:])
    for member in without:
        n = await bench.welcome(member)
        assert (n.state, n.reason, n.channel) == (State.SUPPRESSED, "no_consent", None)


async def test_a_forged_refusal_that_comes_first_keeps_nobody_from_a_welcome(
    bench: Bench, peers: Peers, replica: Replica
):
    """Forged joins without channels, before the genuine ones; members is asked about those who consented."""
    group, sender = peers.add_group(), Scripted()
    consented, refused = peers.add_member(), peers.add_member()
    peers.consents(refused)
    await bench.deliver(joined(consented, channels=()), joined(refused, channels=()))
    assert (await bench.welcome(consented)).state is State.SUPPRESSED
    await bench.deliver(assigned(consented, group, ready=True), assigned(refused, group, ready=True))
    await bench.deliver(joined(consented), joined(refused))
    await replica(sender).dispatch()
    assert [message.member_id for message in sender.sent] == [consented]
    n = await bench.welcome(refused)
    assert (n.state, n.reason, n.hearsay) == (State.SUPPRESSED, "no_consent", None)
    told = [event.data.event_type for event in await bench.events((await bench.welcome(consented)).id)]
    assert told == ["notification.suppressed", "notification.queued", "notification.sent"]
    # What members itself refused is not asked again, whatever comes.
    await bench.deliver(joined(refused, channels=("sms",)), moved(refused, 2, "BR-GAYA"))
    assert await bench.dispatch() == 0


async def test_a_forged_leaving_is_undone_by_the_repair(bench: Bench, peers: Peers, replica: Replica):
    group, sender = peers.add_group(), Scripted()
    forged, gone, long_ago = (peers.add_member() for _ in range(3))
    peers.add_member(gone, status="left")
    for member in (forged, gone, long_ago):
        await bench.deliver(joined(member), assigned(member, group, ready=True), left(member, 2))
        assert (await bench.welcome(member)).reason == "left"
    old = {"$set": {"created_at": START}}
    await bench.database["notifications"].update_one({"member_id": long_ago}, old)
    everyone = [forged, gone, long_ago]

    async def forget(work: UnitOfWork) -> None:
        await bench.core.recipients.forget_heard(everyone, work.session)

    await bench.runtime.outbox.transact(forget)
    await bench.deliver(*[snapshot(member, 9) for member in everyone])
    await replica(sender).dispatch()
    assert [message.member_id for message in sender.sent] == [forged]
    assert (await bench.welcome(gone)).state is State.SUPPRESSED  # members says so
    assert (await bench.welcome(long_ago)).state is State.SUPPRESSED  # nobody is welcomed days later


async def test_a_forged_withdrawal_is_undone_by_the_repair(bench: Bench, peers: Peers, replica: Replica):
    member, group, sender = peers.add_member(), peers.add_group(), Scripted()
    await bench.deliver(joined(member), assigned(member, group, ready=True), consented(member, 7))
    assert (await bench.welcome(member)).reason == "no_consent"

    async def forget(work: UnitOfWork) -> None:
        await bench.core.recipients.forget_heard([member], work.session)

    await bench.deliver(snapshot(member, 2))
    assert await replica(sender).dispatch() == 0
    await bench.runtime.outbox.transact(forget)
    await bench.deliver(snapshot(member, 2))
    await replica(sender).dispatch()
    assert [message.member_id for message in sender.sent] == [member]


async def test_the_link_of_a_foreign_unit_is_not_sent(bench: Bench, peers: Peers, replica: Replica):
    """A forged assignment names a group of another district; the genuine one follows."""
    member, own = peers.add_member(), peers.add_group()
    foreign, beside, above = (peers.add_group(unit=unit) for unit in ("BR-GAYA", "BR-SARANG", "BR"))
    sender = Scripted()
    await bench.deliver(joined(member))
    for sequence, group in enumerate((foreign, beside, own), 1):
        await bench.deliver(assigned(member, group, sequence, ready=True))
        await bench.passes(timedelta(seconds=31))
        await replica(sender).dispatch()
        assert len(sender.sent) == (group == own)
    assert link_of(own) in sender.sent[0].text
    higher = peers.add_member()
    await bench.deliver(joined(higher), assigned(higher, above, ready=True))
    await replica(sender).dispatch()
    assert link_of(above) in sender.sent[1].text


async def test_a_consent_goes_for_its_purpose_and_channel_alone(bench: Bench, peers: Peers, replica: Replica):
    """The log claims WhatsApp for all of them, once by a snapshot after an honest join."""
    group, sender = peers.add_group(), Scripted()
    by_sms, for_another_purpose, told_later = (peers.add_member() for _ in range(3))
    peers.consents(by_sms, "sms")
    peers.consents(for_another_purpose, "whatsapp", purpose="broadcast")
    peers.consents(told_later)
    await bench.deliver(joined(by_sms), joined(for_another_purpose), joined(told_later, channels=("sms",)))
    await bench.deliver(snapshot(told_later, 2))
    await bench.deliver(*[assigned(m, group, ready=True) for m in (by_sms, for_another_purpose, told_later)])
    await replica(sender).dispatch()
    assert [(m.member_id, m.channel) for m in sender.sent] == [(by_sms, "sms")]
    assert (await bench.welcome(by_sms)).channel == "sms"
    assert (await bench.welcome(for_another_purpose)).reason == "no_consent"
    assert (await bench.welcome(told_later)).reason == "no_consent"


async def test_a_members_service_that_does_not_tell_of_consents_is_waited_for(bench: Bench, peers: Peers):
    """It is of release 0.1.0, in the middle of an upgrade."""
    member, _ = await queued(bench, peers)
    peers.silent_on_consents = True
    assert await bench.dispatch() == 1
    n = await bench.welcome(member)
    assert (n.state, n.attempts) == (State.QUEUED, ())
    peers.silent_on_consents = False
    await bench.passes(timedelta(seconds=31))
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_everything_is_asked_again_at_each_try(bench: Bench, peers: Peers, replica: Replica):
    """Neither an address nor a consent is kept, so no event has to say that it changed."""
    member, _ = await queued(bench, peers)
    sender = Scripted(THROTTLED)
    one = replica(sender)
    await one.dispatch()
    peers.add_member(member, phone="+919123456780")
    await bench.passes(timedelta(minutes=2))
    await one.dispatch()
    assert [message.address for message in sender.sent] == ["+919876543210", "+919123456780"]
    peers.consents(member)
    await bench.passes(timedelta(hours=1))
    await one.dispatch()
    assert (await bench.welcome(member)).reason == "no_consent"
    assert len(sender.sent) == 2
    assert await bench.database["contacts"].count_documents({}) == 0


async def test_the_unit_is_the_one_that_members_says(bench: Bench, peers: Peers):
    """A forged move would show the message to callers of another unit."""
    sent, _ = await queued(bench, peers)
    refused, _ = await queued(bench, peers, status="left")
    await bench.deliver(moved(sent, 2, "BR-FORGED"), moved(refused, 2, "BR-FORGED"))
    await bench.dispatch()
    for member, state in ((sent, State.SENT), (refused, State.SUPPRESSED)):
        n = await bench.welcome(member)
        assert (n.state, n.unit) == (state, "BR-SARAN")
        assert (await bench.events(n.id))[-1].data.model_dump()["unit"] == "BR-SARAN"


async def test_a_member_whom_members_does_not_know_is_given_up_in_the_end(bench: Bench, peers: Peers):
    made_up, _ = await queued(bench, peers)
    del peers.people[made_up]
    for tries in range(1, bench.settings.send_tries + 1):
        await bench.dispatch()
        assert len((await bench.welcome(made_up)).attempts) == tries
        await bench.passes(timedelta(hours=1))
    n = await bench.welcome(made_up)
    assert (n.state, n.reason) == (State.FAILED, "unknown_member")
    assert await bench.dispatch() == 0


async def test_what_older_processes_still_cache_goes_within_a_minute(bench: Bench):
    """Processes of release 0.1.0 do, until the upgrade is over: a member who left is gone there too."""
    indexes = await bench.database["contacts"].index_information()
    assert indexes["at_1"]["expireAfterSeconds"] == 1


async def test_recipients_of_both_releases_are_read_and_stored(bench: Bench, peers: Peers):
    """Documents of release 0.1.0 have `contact_sequence`, which its processes go on to write."""
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member))
    recipients = bench.database["recipients"]
    assert "contact_sequence" not in (await recipients.find_one({"_id": member}) or {})
    await recipients.update_one({"_id": member}, {"$set": {"contact_sequence": 3}})
    await bench.deliver(assigned(member, group, ready=True))
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_the_service_token_is_read_again_when_it_changes(
    bench: Bench, peers: Peers, settings: NotificationsSettings
):
    await queued(bench, peers)
    await bench.dispatch()
    peers.tokens.clear()
    settings.service_token_file.write_text("another-token")
    await queued(bench, peers)
    await bench.dispatch()
    assert peers.tokens == {"Bearer another-token"}


async def test_a_token_that_cannot_be_read_is_waited_for(
    bench: Bench, peers: Peers, settings: NotificationsSettings
):
    member, _ = await queued(bench, peers)
    settings.service_token_file.unlink()
    with pytest.raises(TransientError):
        await bench.dispatch()
    settings.service_token_file.write_text("back")
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
