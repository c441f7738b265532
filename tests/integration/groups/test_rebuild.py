"""Groups rebuilt from the log: decisions stand, and only what was not decided is decided."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from infra.local.keys import Keys
from services.groups.app import build
from services.groups.chat_groups.upkeep import Upkeep
from services.groups.recovery.rebuild_plan import plan
from services.groups.recovery.snapshots import SOURCES
from services.groups.settings import GroupsSettings
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import TOPIC, GroupMemberAssigned, GroupMemberRemoved
from services.shared.contracts.members import MemberLeft, MemberMoved, MemberRolesChanged, RoleHeld
from services.shared.database import Database, Document, Lease, blocking
from services.shared.ids import new_id
from services.shared.jobs import Advance, Effect, Job
from services.shared.messaging import UnitOfWork, decode
from services.shared.operations import rebuild
from services.shared.operations.rebuild import Plan, Rebuild, RebuildError
from services.shared.runtime import Runtime
from tests.fixtures.apps import GROUPS_KEYS, Running, base_settings, make_topics, started
from tests.fixtures.rebuilding import Anew, begin_at_the_end, databases, quiet, republish, the_log, without
from tests.integration.groups.test_placement import UNIT, joins, placed, seats, tree
from tests.integration.groups.test_policy import GENERAL, IT_CELL, JOINED, WOMEN, drift, policy, woman
from tests.integration.groups.test_policy import applied as in_force
from tests.integration.groups.test_policy import ended as finished
from tests.integration.groups.test_redrawing import AFTER, BEFORE, applied, compared, load, redrawn
from tests.integration.groups.test_upkeep import asked

pytestmark = pytest.mark.heavy

ELSEWHERE, UNKNOWN = "BR-SIWAN", "BR-GAYA"


@pytest.fixture
def settings(mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys) -> GroupsSettings:
    base = base_settings(mongo_uri, kafka_bootstrap, database_name, keys)
    return GroupsSettings(**base, **GROUPS_KEYS, group_capacity=5, waiting_room_seconds=0.2)


async def live_through(groups: Running) -> list[str]:
    """Joins with overflow, moves, leaves, a wait for a unit, a link, a capacity: every kind of decision."""
    await tree(groups, UNIT, ELSEWHERE)
    members, waiting = joins(12), joins(3, UNKNOWN)
    await groups.publish(*members, *waiting)
    await placed(groups, 12)
    await placed(groups, 3, "waiting_unit")
    ids = [m.member_id for m in members]
    await groups.publish(
        MemberMoved(member_id=ids[0], from_unit=UNIT, unit=ELSEWHERE),
        MemberMoved(member_id=ids[1], from_unit=UNIT, unit=UNKNOWN),
        MemberLeft(member_id=ids[2], unit=UNIT),
        MemberLeft(member_id=waiting[0].member_id, unit=UNKNOWN),
    )
    await placed(groups, 2, "left")
    await placed(groups, 3, "waiting_unit")
    group = await groups.runtime.database["groups"].find_one({"unit": UNIT, "ordinal": 1})
    assert group is not None
    change = {"invite_link": "https://example.org/join", "capacity": 8}
    answer = await groups.http.patch(
        f"/v1/groups/{group['_id']}", json=change, headers={"if-match": f'"{group["version"]}"'}
    )
    assert answer.status_code == 200, answer.text
    await groups.until(lambda: quiet(groups.runtime))
    return ids


async def content(database: Database, collection: str, *but: str) -> list[Document]:
    return [without(row, *but) async for row in database[collection].find({}).sort("_id", 1)]


async def events(settings: GroupsSettings) -> list[Envelope[Event]]:
    return [decode(record) for record in await the_log(settings, [TOPIC])]


async def test_what_was_decided_is_restored_and_only_the_rest_is_decided(
    settings: GroupsSettings, keys: Keys
) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        before, after = named(settings.database), named(anew.settings.database)
        async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as groups:
            ids = await live_through(groups)
            await republish(settings, SOURCES)
            await groups.until(lambda: quiet(groups.runtime))
            assert not await anew.run(), "the service runs, so it may still decide"
            assert await after["placements"].count_documents({}) == 15
        decided = {e.id for e in await events(settings)}
        (late,) = joins(1)
        await groups.publish(late, MemberMoved(member_id=ids[3], from_unit=UNIT, unit=ELSEWHERE))
        assert await anew.run(resume=True)

        assert "1 groups need their invite link again" in anew.said
        assert f"SANGATHAN_CONSUMER_GROUP={anew.settings.group}" in anew.said
        assert await content(after, "units") == await content(before, "units")
        touched = {late.member_id, ids[3]}
        old, new = await content(before, "placements", "since"), await content(after, "placements", "since")
        assert [p for p in new if p["_id"] not in touched] == [p for p in old if p["_id"] not in touched]
        mutable = ("created_at", "updated_at", "sealed_link", "link_lost", "taken", "state", "version")
        assert await content(after, "groups", *mutable) == await content(before, "groups", *mutable)
        seats = Counter(p["group_id"] for p in new if p["group_id"])
        assert {g["_id"]: g["taken"] for g in await content(after, "groups")} == dict(seats)
        staged = {row["subject"] for row in await content(after, "outbox")}
        assert staged == touched, "nothing is said again, and nothing is published yet"

        async with started(
            build, anew.settings, keys=keys, admin_scopes=["groups:*", "invites:read"]
        ) as groups:
            await groups.until(lambda: quiet(groups.runtime))
            answer = await groups.http.get("/v1/groups")
            assert all(group["name"]["en"] for group in answer.json()["items"])
        log = await events(settings)
        assert len(log) == len({e.id for e in log}) == len(decided) + 3
        assert [e.data.unit for e in log if e.subject == late.member_id] == [UNIT]  # type: ignore[attr-defined]
        for subject in touched:
            own = [e.sequence for e in log if e.subject == subject and "snapshot" not in e.type]
            assert own == list(range(1, len(own) + 1))


async def test_half_an_answer_in_the_log_is_completed(settings: GroupsSettings, keys: Keys) -> None:
    """The seat was given up, but the event of the new one was lost with the old database."""
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as groups:
            await tree(groups, UNIT, ELSEWHERE)
            (member,) = joins(1)
            await groups.publish(member)
            await placed(groups, 1)
            await groups.until(lambda: quiet(groups.runtime))
        assigned = next(e for e in await events(settings) if isinstance(e.data, GroupMemberAssigned))
        moved = groups.envelope(MemberMoved(member_id=member.member_id, from_unit=UNIT, unit=ELSEWHERE))
        removal = half(assigned, moved)
        await groups.publish(moved, removal)
        assert await anew.run()
        placement = await named(anew.settings.database)["placements"].find_one({"_id": member.member_id})
        assert placement is not None
        assert (placement["unit"], placement["sequence"], placement["member_sequence"]) == (ELSEWHERE, 3, 2)


def half(assigned: Envelope[Event], moved: Envelope[Event]) -> Envelope[Event]:
    seat = assigned.data.model_dump(include={"member_id", "group_id", "unit", "kind", "ordinal"})
    said = GroupMemberRemoved(**seat, reason="moved", member_sequence=moved.sequence)
    return replace(assigned, id=new_id(), sequence=2, causation_id=moved.id, data=said)


async def test_events_of_before_member_sequence_are_not_answered_again(
    settings: GroupsSettings, keys: Keys
) -> None:
    """The log of an older release: only the causes say which events have been answered."""
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as groups:
            await tree(groups, UNIT, ELSEWHERE)
            await groups.until(lambda: quiet(groups.runtime))
        (member,) = joins(1)
        joined = groups.envelope(member)
        moved = groups.envelope(MemberMoved(member_id=member.member_id, from_unit=UNIT, unit=ELSEWHERE))
        seat = GroupMemberAssigned(
            member_id=member.member_id,
            group_id=new_id(),
            unit=ELSEWHERE,
            kind="general",
            ordinal=1,
            invite_ready=False,
        )
        first = groups.envelope(seat.model_copy(update={"unit": UNIT}))
        second = groups.envelope(seat)
        await groups.publish(
            joined, moved, replace(first, causation_id=joined.id), replace(second, causation_id=moved.id)
        )
        assert await anew.run()
        placement = await named(anew.settings.database)["placements"].find_one({"_id": member.member_id})
        assert placement is not None
        assert (placement["unit"], placement["sequence"]) == (ELSEWHERE, 2)
        assert await named(anew.settings.database)["outbox"].count_documents({}) == 0


async def test_a_rebuild_refuses_what_is_in_use(settings: GroupsSettings) -> None:
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        await named(anew.settings.database)["something"].insert_one({})
        with pytest.raises(RebuildError, match="not empty"):
            await anew.run()
    with pytest.raises(RebuildError, match="uses that"):
        Rebuild(settings, build, plan, Console(), database_name=settings.database, group="other")
    with pytest.raises(RebuildError, match="uses that"):
        Rebuild(settings, build, plan, Console(), database_name="other", group="groups")


async def test_one_rebuild_at_a_time_and_none_beside_a_service(settings: GroupsSettings) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        for name, match in (("rebuild", "another rebuild"), ("relay", "a service runs")):
            other = Lease(named(anew.settings.database), name, seconds=60)
            assert await other.hold()
            with pytest.raises(RebuildError, match=match):
                await anew.run(resume=True)
            await other.release()
        assert await anew.run(resume=True)
        assert await anew.run(resume=True), "the first has given up its lease"


async def test_a_rebuild_that_was_paused_leaves_it_to_the_one_that_has_begun_since(
    settings: GroupsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "LEASE_SECONDS", 0.6)
    await make_topics(settings)

    def paused_at_the_end(runtime: Runtime) -> Plan:
        async def finish() -> None:
            time.sleep(0.8)  # noqa: ASYNC251 (nothing in this process runs, its lease is not renewed)
            leases = blocking(runtime.client)[runtime.settings.database]["leases"]
            until = SystemClock().now() + timedelta(seconds=60)
            leases.update_one({"_id": "rebuild"}, {"$set": {"holder": "another", "expires_at": until}})

        return replace(plan(runtime), finish=finish)

    anew = Anew(settings, build, paused_at_the_end)
    async with databases(settings) as named:
        with pytest.raises(RebuildError, match="another rebuild of that database began"):
            await anew.run()
        row = await named(anew.settings.database)["leases"].find_one({"_id": "rebuild"})
        assert row
        assert row["holder"] == "another", "what is not ours is not given back"


async def test_a_log_without_its_beginning_is_not_decided_on(settings: GroupsSettings, keys: Keys) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings):
        async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as groups:
            await tree(groups, UNIT)
            await groups.until(lambda: quiet(groups.runtime))
        restorer = anew.settings.model_copy(update={"consumer_group": f"{anew.settings.group}.restoring"})
        await begin_at_the_end(restorer, [TOPIC])
        with pytest.raises(RebuildError, match="not read from its first record"):
            await anew.run()
        assert await anew.run(resume=True, accept_cut_off=True)


async def test_a_redrawn_tree_is_restored_as_it_is(settings: GroupsSettings, keys: Keys) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        before, after = named(settings.database), named(anew.settings.database)
        async with started(build, settings, keys=keys, admin_scopes=["groups:*"]) as groups:
            await load(groups, *BEFORE)
            people = joins(7, "BR-S-M-1") + joins(2, "BR-S-M-3")
            await groups.publish(*people)
            await placed(groups, 9)
            shown = await compared(groups, AFTER)
            await applied(groups, shown["comparison"]["id"])
            moves = [redrawn(each.member_id, each.unit, "BR-S-M-11") for each in people[:7]]
            await groups.publish(*moves, redrawn(people[7].member_id, "BR-S-M-3", "BR-S-M-32"))

            async def heard() -> bool:
                query = {"member_sequence": 2}
                return bool(await groups.runtime.database["placements"].count_documents(query) == 8)

            await groups.until(heard)
            told = await republish(settings, SOURCES)
            assert told["unit.succeeded"] == 5
            await groups.until(lambda: quiet(groups.runtime))
        assert await anew.run()
        kept = ("retired_at", "constituency_name")
        assert await content(after, "units", *kept) == await content(before, "units", *kept)
        assert await content(after, "successions", "at") == await content(before, "successions", "at")
        old, new = await content(before, "placements", "since"), await content(after, "placements", "since")
        assert [p | {"sequence": 0} for p in new] == [p | {"sequence": 0} for p in old]
        mutable = ("created_at", "updated_at", "invite_link", "link_lost", "version")
        assert await content(after, "groups", *mutable) == await content(before, "groups", *mutable)
        assert not [row for row in await content(after, "outbox") if "assigned" in str(row)]


async def test_groups_that_are_being_closed_stay_so(
    settings: GroupsSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is being split and one merged, and their jobs were cancelled: nobody gets a seat in them, and
    asking again goes on. The split of another was taken back."""
    await make_topics(settings)
    anew = Anew(settings, build, plan)

    async def rests(self: Upkeep, job: Job) -> Effect:
        async def effect(_: UnitOfWork) -> Advance:
            return Advance(rest_until=SystemClock().now() + timedelta(hours=1))

        return effect

    async with databases(settings) as named:
        before, after = named(settings.database), named(anew.settings.database)
        with monkeypatch.context() as no_job_goes_on:
            no_job_goes_on.setattr(Upkeep, "_split_step", rests)
            no_job_goes_on.setattr(Upkeep, "_merge_step", rests)
            async with started(build, settings, keys=keys, admin_scopes=["groups:*"]) as groups:
                await tree(groups, UNIT)
                await groups.publish(*joins(12))
                await placed(groups, 12)
                ids = {row["ordinal"]: row["_id"] async for row in before["groups"].find()}
                jobs = [await asked(groups, f"{ids[2]}/split", capacity=3)]
                group = await asked(groups, f"{ids[2]}/reopen", 200)
                larger = await groups.http.patch(
                    f"/v1/groups/{ids[2]}",
                    json={"capacity": 10},
                    headers={"if-match": f'"{group["version"]}"'},
                )
                assert larger.status_code == 200, larger.text
                jobs.append(await asked(groups, f"{ids[1]}/split", capacity=4))
                jobs.append(await asked(groups, f"{ids[3]}/merge"))
                for job in jobs:  # a rebuild does not lose a job that is at work
                    assert (await groups.http.post(f"/v1/jobs/{job['id']}/cancel")).is_success
                await groups.until(lambda: quiet(groups.runtime))
        assert await anew.run()
        told = ("retired", "shrinks_to", "state", "capacity", "taken", "version")
        old, new = [
            {row["_id"]: [row.get(name) for name in told] async for row in database["groups"].find()}
            for database in (before, after)
        ]
        assert new == old
        assert [new[ids[n]][:2] for n in (1, 2, 3)] == [["closing", 4], [None, None], ["closing", None]]
        async with started(build, anew.settings, keys=keys, admin_scopes=["groups:*"]) as groups:
            await groups.publish(*joins(1))
            await placed(groups, 13)
            assert await seats(groups) == [(1, 5, "full"), (2, 6, "open"), (3, 2, "full")]
            for path, body in ((f"{ids[1]}/split", {"capacity": 4}), (f"{ids[3]}/merge", {})):
                await finished(groups, (await asked(groups, path, **body))["id"])
            assert await seats(groups) == [(1, 4, "full"), (2, 9, "open"), (3, 0, "full")]


def timeless(placement: Document) -> Document:
    """Without times; and without `member_sequence`, which is after a rebuild that of the last event answered,
    whether or not it placed the member."""
    seats = [without(seat, "since") for seat in placement["seats"]]
    return {**without(placement, "since", "member_sequence"), "seats": seats}


async def test_seats_by_several_rules_in_a_split_unit_are_restored(
    settings: GroupsSettings, keys: Keys
) -> None:
    """Three women are officers too: one is told to be in the second part, one in the first, and one in
    neither yet."""
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    rules = [GENERAL, {**WOMEN, "at": "booth"}, {**IT_CELL, "at": "booth"}]
    async with databases(settings) as named:
        before, after = named(settings.database), named(anew.settings.database)
        async with started(build, settings, keys=keys, admin_scopes=["groups:*"]) as groups:
            await load(groups, *BEFORE)
            await in_force(groups, policy(*rules), 0)
            people = [woman("BR-S-M-3") for _ in range(3)]
            role = (RoleHeld(role="it_cell", unit="BR-S-M-3", since=JOINED),)
            await groups.publish(*people)
            await groups.publish(
                *[MemberRolesChanged(member_id=p.member_id, unit=p.unit, roles=role) for p in people]
            )

            async def seated(database: Database, wanted: int) -> bool:
                assigned = {"state": "assigned", "seats.1.group_id": {"$exists": True}}
                return bool(await database["placements"].count_documents(assigned) == wanted)

            await groups.until(lambda: seated(before, 3))
            held = [row["group_id"] for row in await content(before, "placements")]
            shown = await compared(groups, AFTER)
            await applied(groups, shown["comparison"]["id"])
            for person, part in zip(people, ("BR-S-M-32", "BR-S-M-31"), strict=False):
                now = (RoleHeld(role="it_cell", unit=part, since=JOINED),)
                await groups.publish(
                    redrawn(person.member_id, "BR-S-M-3", part),
                    MemberRolesChanged(member_id=person.member_id, unit=part, roles=now),
                )

            async def heard() -> bool:
                query = {"facts.roles.unit": {"$in": ["BR-S-M-31", "BR-S-M-32"]}}
                return bool(await before["placements"].count_documents(query) == 2)

            await groups.until(heard)
            await groups.until(lambda: quiet(groups.runtime))
        assert await anew.run()
        old, new = await content(before, "placements"), await content(after, "placements")
        assert [timeless(row) for row in new] == [timeless(row) for row in old]
        assert [row["group_id"] for row in new] == held, "everybody keeps the seat"
        meant = [[seat.get("meant") for seat in row["seats"]] + [row.get("meant")] for row in new]
        assert meant == [["BR-S-M-32"] * 3, [None] * 3, ["BR-S-M-3"] * 3]
        assert await content(after, "outbox") == [], "and nothing is said again"
        async with started(build, anew.settings, keys=keys, admin_scopes=["groups:*", "ops:*"]) as groups:
            assert await drift(groups) == {}
