"""Rebuilt from the log, or learning from snapshots after a loss, the service welcomes nobody twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from infra.local.keys import Keys
from services.notifications.app import build
from services.notifications.recovery.rebuild_plan import plan
from services.notifications.recovery.snapshots import SOURCES
from services.notifications.settings import NotificationsSettings
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupSnapshot, PlacementSnapshot
from services.shared.contracts.members import MemberSnapshot
from services.shared.contracts.notifications import TOPIC
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Database, Document
from services.shared.messaging import decode
from tests.fixtures.apps import Running, make_topics, started
from tests.fixtures.rebuilding import Anew, begin_at_the_end, databases, quiet, republish, the_log, without
from tests.integration.notifications.conftest import (
    START,
    assigned,
    envelope,
    invite,
    joined,
    left,
    moved,
    updated,
)
from tests.integration.notifications.stand_ins import Peers

pytestmark = pytest.mark.heavy

FROM = ["sangathan.groups", "sangathan.members"]


@pytest.fixture
def connected(settings: NotificationsSettings, kafka_bootstrap: str) -> NotificationsSettings:
    return settings.model_copy(update={"kafka_bootstrap": kafka_bootstrap})


def started_on(settings: NotificationsSettings, keys: Keys) -> Any:
    return started(build, settings, keys=keys, admin_scopes=["notifications:read"])


async def welcomes(database: Database) -> dict[str, Document]:
    """By member; each has one."""
    rows = await database["notifications"].find({}).to_list(None)
    assert len(rows) == len({row["member_id"] for row in rows})
    return {row["member_id"]: row for row in rows}


async def in_states(app: Running, **wanted: int) -> None:
    async def there() -> bool:
        found = Counter(row["state"] for row in (await welcomes(app.runtime.database)).values())
        return dict(found) == wanted and await quiet(app.runtime)

    await app.until(there, 20)


async def told(settings: NotificationsSettings) -> list[Envelope[Event]]:
    return [decode(record) for record in await the_log(settings, [TOPIC])]


async def test_a_rebuild_sends_nothing_twice_and_goes_on_with_the_rest(
    connected: NotificationsSettings, keys: Keys, peers: Peers
) -> None:
    await make_topics(connected)
    anew = Anew(connected, build, plan)
    sent, dumb, held, gone, cut, new = (peers.add_member() for _ in range(6))
    ready, bare = peers.add_group(), peers.add_group(link=None)
    async with databases(connected) as named:
        before, after = named(connected.database), named(anew.settings.database)
        async with started_on(connected, keys) as app:
            await app.publish(
                invite(ready, 2), joined(sent), assigned(sent, ready), joined(dumb, channels=()), joined(held)
            )
            await app.publish(assigned(held, bare), joined(gone), updated(sent, 2, language="en"))
            await in_states(app, sent=1, suppressed=1, queued=2)
            await app.publish(left(gone, 2), moved(sent, 3))
            await in_states(app, sent=1, suppressed=2, queued=1)
            peers.down = {"members"}
            await app.publish(joined(cut), assigned(cut, ready))
            await app.until(lambda: _has(app, cut))
            await app.until(lambda: quiet(app.runtime))
            await republish(connected, SOURCES)
            await app.until(lambda: quiet(app.runtime))
        old = await welcomes(before)
        await app.publish(joined(new), assigned(new, ready))
        assert await anew.run()

        now = await welcomes(after)
        assert now.keys() == old.keys() | {new}
        kept = ("_id", "state", "reason", "unit", "held_for", "language", "sequence", "cause")
        for member in (sent, dumb, held, gone):
            fields = [field for field in kept if field in old[member]]
            assert {f: now[member].get(f) for f in fields} == {f: old[member][f] for f in fields}
        assert (now[cut]["_id"], now[cut]["state"]) == (old[cut]["_id"], "queued")
        assert [now[m].get("group_id") for m in (held, cut)] == [bare, ready]
        assert "due_at" in now[cut]
        assert now[held]["due_at"] == now[held]["waits_until"] > now[held]["created_at"], "it waits anew"
        (last,) = now[sent]["attempts"]
        assert without(last, "at") == without(old[sent]["attempts"][-1], "at")
        assert await recipients(after, but=new) == await recipients(before)
        rows = await after["outbox"].find({}).to_list(None)
        assert [row["subject"] for row in rows] == [now[new]["_id"]]

        peers.down = set()
        async with started_on(anew.settings, keys) as app:
            await in_states(app, sent=3, suppressed=2, queued=1)
        recorded = [row["member_id"] async for row in after["recorded_messages"].find({})]
        assert sorted(recorded) == sorted([cut, new])
        log = await told(connected)
        kinds = Counter((e.subject, e.type) for e in log)
        assert set(kinds.values()) == {1}
        assert sum(e.type == "notification.sent" for e in log) == 3


async def recipients(database: Database, but: str = "") -> list[Document]:
    return await database["recipients"].find({"_id": {"$ne": but}}).sort("_id", 1).to_list(None)


async def _has(app: Running, member: str) -> bool:
    return await app.runtime.database["notifications"].count_documents({"member_id": member}) == 1


async def test_after_a_loss_snapshots_teach_and_welcome_nobody(
    connected: NotificationsSettings, keys: Keys, peers: Peers
) -> None:
    await make_topics(connected)
    lost = connected.model_copy(
        update={"mongo_database": f"{connected.database}_lost", "consumer_group": "notifications-lost"}
    )
    member, other, new = (peers.add_member() for _ in range(3))
    group, later = peers.add_group(), peers.add_group()
    async with databases(connected) as named:
        async with started_on(connected, keys) as app:
            await app.publish(invite(group, 2), joined(member), joined(other), assigned(member, group))
            await in_states(app, sent=1, queued=1)
            await begin_at_the_end(lost, FROM)
            snapshots = [
                snapshot(member),
                snapshot(other),
                envelope(placement(member, group), 1),
                envelope(invited(group), 3),
            ]
            await app.publish(*snapshots)
        database = named(lost.database)
        async with started_on(lost, keys) as app:

            async def learnt() -> bool:
                known = await recipients(database)
                return [r["_id"] for r in known if r["found"]] == sorted([member, other])

            await app.until(learnt)
            await app.publish(*snapshots, updated(member, 2, language="en", contact_changed=True))
            await app.publish(moved(member, 3), assigned(other, group), assigned(member, later, 2))
            await app.publish(invite(later, 2), invite(group, 4), joined(new), assigned(new, later))
            await in_states(app, sent=1)
            assert list(await welcomes(database)) == [new]
            (known,) = [without(r, "joined") for r in await recipients(database) if r["_id"] == member]
        assert (known["language"], known["group_id"], known["channels"]) == ("en", later, ["whatsapp"])
        recorded = [row["member_id"] async for row in database["recorded_messages"].find({})]
        assert recorded == [new]
        assert sum(e.type == "notification.queued" for e in await told(connected)) == 3


async def test_snapshots_bring_a_restored_welcome_into_line(
    connected: NotificationsSettings, keys: Keys, peers: Peers
) -> None:
    """The beginning of the members' log is gone, but our own topic says what was queued: it is sent, once."""
    await make_topics(connected)
    anew = Anew(connected, build, plan)
    member, group = peers.add_member(), peers.add_group()
    async with databases(connected) as named:
        async with started_on(connected, keys) as app:
            await app.publish(joined(member), assigned(member, group))
            await in_states(app, queued=1)
        await begin_at_the_end(anew.settings, FROM)
        assert await anew.run()
        assert "let its service publish snapshots" in anew.said
        database = named(anew.settings.database)
        assert (await welcomes(database))[member]["held_for"] == "no_group"
        async with started_on(anew.settings, keys) as app:
            await app.publish(envelope(placement(member, group), 1), envelope(invited(group), 2))
            await app.publish(snapshot(member))
            await in_states(app, sent=1)


def snapshot(member: str) -> Envelope[Event]:
    event = MemberSnapshot(
        member_id=member,
        unit="BR-SARAN",
        gender=Gender.FEMALE,
        language="hi",
        joined_at=START,
        channels=("whatsapp",),
        status="active",
    )
    return envelope(event, 1)


def placement(member: str, group: str) -> PlacementSnapshot:
    return PlacementSnapshot(
        member_id=member,
        unit="BR-SARAN",
        state="assigned",
        group_id=group,
        kind="general",
        ordinal=1,
        since=START,
    )


def invited(group: str) -> GroupSnapshot:
    return GroupSnapshot(
        group_id=group, unit="BR-SARAN", kind="general", ordinal=1, capacity=9, invite_ready=True
    )
