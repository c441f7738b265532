"""Contacts: fetched from members with the service token, cached, and dropped when they change."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.notifications.core.domain import OutcomeClass, SendOutcome, State
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.errors import TransientError
from tests.integration.notifications.conftest import (
    Bench,
    Replica,
    updated,
)
from tests.integration.notifications.scripted import Scripted, queued
from tests.integration.notifications.stand_ins import Peers


async def test_a_contact_is_asked_for_once_kept_sealed_and_dropped_when_it_changes(
    bench: Bench, peers: Peers, clock: ManualClock, replica: Replica
):
    member, _ = await queued(bench, peers)
    sender = Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled"))
    one = replica(sender)
    for _ in range(2):
        await one.dispatch()
        clock.advance(timedelta(minutes=10))
    assert peers.asked("members") == [member]
    row = await bench.database["contacts"].find_one({"_id": member})
    assert row is not None
    assert b"9876543210" not in row["sealed"]

    peers.add_member(member, phone="+919123456780")
    await bench.deliver(updated(member, 2, contact_changed=True))
    assert await bench.database["contacts"].count_documents({"_id": member}) == 0
    await one.dispatch()
    assert sender.sent[-1].address == "+919123456780"
    clock.advance(timedelta(hours=2))
    await one.dispatch()
    assert peers.asked("members") == [member] * 3  # an hour is the longest it is used


async def test_a_contact_fetched_before_a_change_is_not_used_after_it(
    bench: Bench, peers: Peers, replica: Replica
):
    """The cache is filled after the change dropped it: the version tells."""
    member, _ = await queued(bench, peers)
    sender = Scripted(SendOutcome(OutcomeClass.TRANSIENT, "throttled"))
    sender.gate = asyncio.Event()
    one = replica(sender)
    sending = asyncio.create_task(one.dispatch())
    await sender.reached.wait()
    stale = await bench.database["contacts"].find_one({"_id": member})
    assert stale is not None
    peers.add_member(member, phone="+919123456780")
    await bench.deliver(updated(member, 2, contact_changed=True))
    await bench.database["contacts"].insert_one(stale)
    sender.gate.set()
    await sending
    bench.clock.advance(timedelta(minutes=1))
    await one.dispatch()
    assert sender.sent[-1].address == "+919123456780"


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
