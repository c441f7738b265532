"""Migrations run again on a database of an earlier release, whose collections and documents stay."""

from __future__ import annotations

from services.notifications.core.domain import State
from tests.integration.notifications.conftest import Bench, joined, left
from tests.integration.notifications.scripted import queued
from tests.integration.notifications.stand_ins import Peers


async def test_on_existing_collections_they_change_no_document(bench: Bench, peers: Peers):
    member, _ = await queued(bench, peers)
    before = await bench.welcome(member)
    await bench.database["migrations"].delete_many({})
    await bench.database["migrations"].insert_one({"_id": 1, "name": "of an earlier release"})
    await bench.service.migrate()
    assert await bench.welcome(member) == before
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_a_recipient_that_was_stored_before_snapshots_were_known_is_read(bench: Bench, peers: Peers):
    member = peers.add_member()
    await bench.deliver(joined(member))
    await bench.database["recipients"].update_one({"_id": member}, {"$unset": {"found": ""}})
    await bench.deliver(left(member, 2))
    assert (await bench.welcome(member)).reason == "left"
