"""The placement policy on the real stores: what a preview says is what applying it publishes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.groups.core.store import PolicyVersions
from services.groups.placement.pending import PendingPlacements
from services.groups.policy import jobs, service
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    TOPIC,
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupsErasureAcknowledged,
    PolicyApplied,
)
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErasureRequested,
    MemberJoined,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUpdated,
    RoleHeld,
)
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.jobs import Effect, Job
from services.shared.messaging import UnitOfWork
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import placed, tree

BLOCK, OTHER = "BR-SARAN-EKMA", "BR-SARAN-MANJHI"
BOOTHS = [f"{BLOCK}-B{n}" for n in range(3)]
URL = "/v1/placement-policy"
JOINED = datetime(2026, 11, 23, tzinfo=UTC)
GENERAL = {"id": "general", "kind": "general"}
WOMEN = {"id": "women", "kind": "women", "at": "block", "gender": "female", "consent": "group"}
IT_CELL = {"id": "it_cell", "kind": "it_cell", "at": "district", "role": "it_cell"}
LEVELS = ["state", "district", "block", "booth"]


def policy(*rules: dict[str, Any], levels: Sequence[str] = LEVELS, **caps: tuple[int, int | None]) -> Any:
    sizes = {rule["kind"]: (5, None) for rule in rules} | caps
    kinds = [{"kind": kind, "capacity": c, "groups": n} for kind, (c, n) in sizes.items()]
    return {"levels": list(levels), "kinds": kinds, "rules": list(rules)}


EXAMPLE = policy(GENERAL, WOMEN, IT_CELL)


def woman(unit: str = BOOTHS[0], **fields: Any) -> MemberJoined:
    asked = {"gender": Gender.FEMALE, "group_consent": True} | fields
    return MemberJoined(member_id=new_id(), unit=unit, language="hi", joined_at=JOINED, **asked)


def man(unit: str = BOOTHS[0]) -> MemberJoined:
    return woman(unit, gender=Gender.MALE)


async def units(groups: Running) -> None:
    await tree(groups, "BR-SARAN", BLOCK, OTHER, *BOOTHS)


async def put(groups: Running, wanted: Any, version: int, status: int = 202) -> Any:
    answer = await groups.http.put(URL, json=wanted, headers={"if-match": f'"{version}"'})
    assert answer.status_code == status, answer.text
    return answer.json()


async def ended(groups: Running, job_id: str, state: str = "succeeded") -> Any:
    async def over() -> bool:
        job = (await groups.http.get(f"/v1/jobs/{job_id}")).json()
        assert job["state"] in {"waiting", "running", state}, job
        return bool(job["state"] == state)

    await groups.until(over)
    return (await groups.http.get(f"/v1/jobs/{job_id}")).json()


async def applied(groups: Running, wanted: Any, version: int) -> Any:
    return await ended(groups, (await put(groups, wanted, version))["job_id"])


async def previewed(groups: Running, wanted: Any) -> tuple[Any, list[Any]]:
    """The preview, complete, and all its changes."""
    answer = await groups.http.post(f"{URL}/preview", json=wanted)
    assert answer.status_code in {200, 202}, answer.text
    if answer.status_code == 202:
        await ended(groups, answer.json()["job_id"])
    preview = (await groups.http.get(f"{URL}/previews/{answer.json()['id']}")).json()
    assert preview["state"] == "done"
    changes: list[Any] = []
    cursor = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        url = f"{URL}/previews/{preview['id']}/changes"
        page = (await groups.http.get(url, params={"limit": 7, **more})).json()
        changes += page["items"]
        cursor = page["next"]
    return preview, changes


def told(events: Sequence[Envelope[Event]]) -> tuple[dict[Any, Any], dict[str, set[str]]]:
    """By (member, rule): groups left and joined, and the last reason to wait; by group: what happened."""
    members: dict[Any, Any] = {}
    changed: dict[str, set[str]] = {}
    for event in events:
        match event.data:
            case GroupMemberRemoved() as said:
                members.setdefault((said.member_id, said.rule), {})["leaves"] = said.group_id
            case GroupMemberAssigned() as said:
                members.setdefault((said.member_id, said.rule), {})["joins"] = said.group_id
                members[said.member_id, said.rule].pop("waits", None)
            case GroupMemberWaiting() as said:
                members.setdefault((said.member_id, said.rule), {})["waits"] = said.reason
            case GroupCreated() as said:
                changed.setdefault(said.group_id, set()).add("opens")
            case GroupFilled() as said:
                changed.setdefault(said.group_id, set()).add("fills")
            case GroupArchived() as said:
                changed.setdefault(said.group_id, set()).add("closes")
            case _:
                pass
    return members, changed


def foreseen(changes: Sequence[Any]) -> tuple[dict[Any, Any], dict[str, set[str]]]:
    words = ("joins", "leaves", "waits")
    members = {
        (c["member_id"], c["rule"]): {word: c[word] for word in words if c[word]}
        for c in changes
        if c["member_id"]
    }
    changed = {
        c["group_id"]: {word for word in ("opens", "fills", "closes") if c[word]}
        for c in changes
        if c["group_id"]
    }
    return members, changed


async def seats_of(groups: Running, member_id: str) -> dict[str, tuple[str, str]]:
    """State and unit by rule, without the rules by which the member has nothing."""
    items = (await groups.http.get(f"/v1/members/{member_id}/groups")).json()["items"]
    return {i["rule"]: (i["state"], i["unit"]) for i in items}


async def drift(groups: Running) -> dict[str, int]:
    answer = await groups.http.post(f"{URL}/audits")
    assert answer.status_code == 202, answer.text
    found: dict[str, int] = (await ended(groups, answer.json()["id"]))["result"]["drift"]
    return {cause: count for cause, count in found.items() if count}


async def crowd(groups: Running) -> list[MemberJoined]:
    people = [
        *[woman(BOOTHS[n % 3]) for n in range(12)],
        *[man(BOOTHS[n % 3]) for n in range(4)],
        woman(gender=Gender.UNDISCLOSED),
        woman(group_consent=False),
        woman("BR-SARAN"),
        woman("BR-SARAN-NOWHERE-B1"),
    ]
    await groups.publish(*people)
    await placed(groups, 19)
    await placed(groups, 1, "waiting_unit")
    held = RoleHeld(role="it_cell", unit=BLOCK, since=JOINED)
    await groups.publish(
        *[MemberRolesChanged(member_id=p.member_id, unit=p.unit, roles=(held,)) for p in people[:7]]
    )

    async def known() -> bool:
        return (
            await groups.runtime.database["placements"].count_documents({"facts.roles": {"$ne": None}}) == 7
        )

    await groups.until(known)
    return people


async def test_a_preview_is_what_applying_publishes_id_by_id(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seats in more groups; then booths without groups, a cap, and a rule gone; then back. Small batches, as
    a job and at once."""
    monkeypatch.setattr(service, "BATCH", 6)
    monkeypatch.setattr(jobs, "BATCH", 6)
    monkeypatch.setattr(jobs, "STRAGGLERS", timedelta(0))
    await units(groups)
    await crowd(groups)
    later = policy(GENERAL, WOMEN, levels=["state", "district", "block"], general=(7, 2))
    back = policy(GENERAL, WOMEN, IT_CELL, general=(7, None))
    for version, wanted in enumerate([EXAMPLE, later, back]):
        monkeypatch.setattr(service, "AT_ONCE", 0 if version % 2 else 1000)
        preview, changes = await previewed(groups, wanted)
        assert preview["base_version"] == version
        before = {event.id for event in await groups.log(TOPIC)}
        job = await applied(groups, wanted, version)
        events = [event for event in await groups.log(TOPIC) if event.id not in before]
        members, changed = told(sorted(events, key=lambda event: event.sequence))
        assert foreseen(changes)[0] == members
        assert foreseen(changes)[1] == changed
        assert members, "nothing has changed"
        counts = preview["counts"]
        assert counts["members"] == 20
        assert counts["moves"] == sum("joins" in m and "leaves" in m for m in members.values())
        assert counts["waits"] == sum("waits" in m for m in members.values())
        assert {w: counts[w] for w in ("opens", "fills", "closes")} == {
            w: sum(w in words for words in changed.values()) for w in ("opens", "fills", "closes")
        }
        assert job["counts"]["members"] == 20
        [said] = [event for event in events if isinstance(event.data, PolicyApplied)]
        assert said.sequence == version + 1
        assert await drift(groups) == {}
        assert (await previewed(groups, wanted))[1] == []
    log = await groups.log(TOPIC)
    for subject in {e.subject for e in log}:
        own = [e.sequence for e in log if e.subject == subject]
        assert own == list(range(1, len(own) + 1))


async def test_a_preview_holds_where_seats_become_free_before_the_turn_of_who_waits(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve members in two batches, of whom the last two wait for two seats. In the first batch, the groups
    for which they wait become empty, and a full group that others want in the second batch. The loop that
    promotes those who wait looks before every step of the job."""
    monkeypatch.setattr(service, "BATCH", 6)
    monkeypatch.setattr(jobs, "BATCH", 6)
    monkeypatch.setattr(jobs, "STRAGGLERS", timedelta(0))
    loops: list[PendingPlacements] = []
    look, step = PendingPlacements.promote, jobs.ApplyJob.step

    async def seen(self: PendingPlacements) -> int:
        loops[:] = [self]
        return await look(self)

    async def after_a_look(self: jobs.ApplyJob, job: Job) -> Effect:
        while await look(loops[0]):
            pass
        return await step(self, job)

    monkeypatch.setattr(PendingPlacements, "promote", seen)
    await units(groups)
    youth = {"id": "youth", "kind": "it_cell", "at": "district", "role": "youth"}
    blocks = policy(
        GENERAL, WOMEN, IT_CELL, levels=["state", "district", "block"], general=(5, 2), women=(5, 1)
    )
    await applied(groups, blocks, 0)
    people = [man() if 5 <= number < 10 else woman() for number in range(12)]
    for part in (people[:10], people[10:]):  # who comes last waits
        await groups.publish(*part)
        await placed(groups, 10)
    await placed(groups, 2, "waiting_seat")
    roles = [("it_cell", people[:5]), ("youth", people[7:9])]
    await groups.publish(
        *[
            MemberRolesChanged(
                member_id=p.member_id, unit=p.unit, roles=(RoleHeld(role=role, unit=BLOCK, since=JOINED),)
            )
            for role, held in roles
            for p in held
        ]
    )

    async def known() -> bool:
        rows = groups.runtime.database["placements"]
        return loops != [] and await rows.count_documents({"facts.roles": {"$ne": None}}) == 7

    await groups.until(known)
    monkeypatch.setattr(jobs.ApplyJob, "step", after_a_look)
    booths = policy(GENERAL, {**WOMEN, "at": "district"}, youth, women=(5, 1))
    _, changes = await previewed(groups, booths)
    before = {event.id for event in await groups.log(TOPIC)}
    await applied(groups, booths, 1)
    events = [event for event in await groups.log(TOPIC) if event.id not in before]
    assert foreseen(changes) == told(sorted(events, key=lambda event: event.sequence))
    assigned = [e.data for e in events if isinstance(e.data, GroupMemberAssigned)]
    assert max(Counter((said.member_id, said.rule) for said in assigned).values()) == 1, "a seat for a moment"
    general = {said.member_id: said.ordinal for said in assigned if said.rule == "general"}
    assert [general[p.member_id] for p in people] == [1] * 5 + [2] * 5 + [3] * 2
    assert {said.ordinal for said in assigned if said.rule == "youth"} == {1}, "the group that became empty"
    assert await drift(groups) == {}


async def test_events_are_answered_by_the_rules_they_concern(groups: Running) -> None:
    await units(groups)
    await applied(groups, EXAMPLE, 0)
    someone = woman(group_consent=False)
    await groups.publish(someone)
    await placed(groups, 1)
    assert await seats_of(groups, someone.member_id) == {"general": ("assigned", BOOTHS[0])}
    shape = {"member_id": someone.member_id, "unit": someone.unit}
    held = RoleHeld(role="it_cell", unit=BLOCK, since=JOINED)
    consent = {"purpose": "group", "channel": "whatsapp"}
    for event, expected in (
        (
            MemberConsentChanged(**shape, **consent, state="given", group_consent=True),
            {"general": BOOTHS[0], "women": BLOCK},
        ),
        (
            MemberRolesChanged(**shape, roles=(held,)),
            {"general": BOOTHS[0], "women": BLOCK, "it_cell": "BR-SARAN"},
        ),
        (
            MemberMoved(member_id=someone.member_id, from_unit=someone.unit, unit=OTHER),
            {"general": OTHER, "women": OTHER, "it_cell": "BR-SARAN"},
        ),
        (
            MemberUpdated(**shape | {"unit": OTHER}, gender=Gender.UNDISCLOSED, language="hi"),
            {"general": OTHER, "it_cell": "BR-SARAN"},
        ),
        (
            MemberUpdated(**shape | {"unit": OTHER}, gender=Gender.FEMALE, language="hi"),
            {"general": OTHER, "women": OTHER, "it_cell": "BR-SARAN"},
        ),
        (
            MemberUpdated(**shape | {"unit": OTHER}, gender=Gender.FEMALE, language="hi", own_number=False),
            {},
        ),
        (
            MemberUpdated(**shape | {"unit": OTHER}, gender=Gender.FEMALE, language="hi"),
            {"general": OTHER, "women": OTHER, "it_cell": "BR-SARAN"},
        ),
    ):
        await groups.publish(event)
        wanted = {rule: ("assigned", unit) for rule, unit in expected.items()}

        async def so(wanted: dict[str, Any] = wanted) -> bool:
            found = await seats_of(groups, someone.member_id)
            return {rule: seat for rule, seat in found.items() if seat[0] != "left"} == wanted

        await groups.until(so)
    assert await drift(groups) == {}
    answer = await groups.http.get("/v1/groups", params={"kind": "women"})
    [group] = [g for g in answer.json()["items"] if g["members"]]
    assert group["name"] == {"en": f"Unit {OTHER} women's group", "hi": "इकाई महिला समूह"}
    listed = (await groups.http.get(f"/v1/groups/{group['id']}/members")).json()["items"]
    assert [(row["member_id"], row["state"]) for row in listed] == [(someone.member_id, "assigned")]
    holdings = groups.auth("holdings:read")
    held_now = (await groups.http.get(f"/v1/members/{someone.member_id}/holdings", headers=holdings)).json()
    assert {seat["rule"] for seat in held_now["seats"]} == {"women", "it_cell"}
    assert held_now["facts"]["gender"] == "female"

    request = MemberErasureRequested(**shape | {"unit": OTHER}, erasure_id=new_id())
    await groups.publish(request)
    await placed(groups, 1, "left")
    events = await groups.log(TOPIC)
    [answered] = [e.data for e in events if isinstance(e.data, GroupsErasureAcknowledged)]
    assert len(answered.group_ids) == answered.destroyed["seats"] == 3
    assert sum(g["members"] for g in (await groups.http.get("/v1/groups")).json()["items"]) == 0
    row = await groups.runtime.database["placements"].find_one({"_id": someone.member_id})
    assert row is not None
    assert row["facts"].keys() == {"at"}


async def test_a_policy_job_is_paused_resumed_cancelled_and_never_repeats_itself(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it rests, members join, change and leave; another policy is refused; a cancelled one is finished
    by asking again."""
    monkeypatch.setattr(jobs, "BATCH", 4)
    await units(groups)
    await crowd(groups)
    job_id = (await put(groups, EXAMPLE, 0))["job_id"]
    paused = await groups.http.post(f"/v1/jobs/{job_id}/pause")
    assert paused.status_code == 200, paused.text
    assert (await put(groups, policy(GENERAL), 1, 409))["type"].endswith("policy-being-applied")
    assert (await groups.http.post(f"{URL}/apply")).status_code == 409
    new = woman()
    await groups.publish(new)
    await placed(groups, 20)
    assert (await seats_of(groups, new.member_id)).keys() == {"general", "women"}, "live events go on"
    assert (await groups.http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    assert (await groups.http.get(URL)).json()["version"] == 1
    behind = (await drift(groups)).get("behind", 0)
    assert 0 < behind <= 20
    again = (await groups.http.post(f"{URL}/apply")).json()["id"]
    await groups.http.post(f"/v1/jobs/{again}/pause")
    await groups.http.post(f"/v1/jobs/{again}/resume")
    await ended(groups, again)
    assert await drift(groups) == {}
    events = await groups.log(TOPIC)
    seats = Counter(
        (e.data.member_id, e.data.group_id) for e in events if isinstance(e.data, GroupMemberAssigned)
    )
    assert set(seats.values()) == {1}, "nobody is told of a seat twice"
    assert not [e for e in events if isinstance(e.data, GroupMemberRemoved)], (
        "no seat that stays was given up"
    )
    assert (await put(groups, EXAMPLE, 1, 200))["version"] == 1, "the same policy again is no change"
    back = await applied(groups, policy(GENERAL), 1)
    assert back["counts"]["leaves"] == sum(
        key != "general" for key in [e.data.rule for e in events if isinstance(e.data, GroupMemberAssigned)]
    )


async def test_a_policy_that_cannot_be_is_refused_and_changes_nothing(groups: Running) -> None:
    await units(groups)
    await groups.publish(*[man() for _ in range(5)])
    await placed(groups, 5)
    for bad, pointer in (
        (policy(GENERAL, general=(4, None)), "/kinds/0/capacity"),
        (policy(GENERAL, general=(0, None)), "/kinds/0/capacity"),
        (policy(GENERAL, GENERAL), "/rules/1/id"),
        (policy(WOMEN), "/rules"),
        (policy(GENERAL, {**WOMEN, "gender": None}), "/rules/1/gender"),
        (policy(GENERAL, {**WOMEN, "caste": "x"}), "/rules/1/caste"),
        (policy(GENERAL, levels=["ward"]), "/levels/0"),
        (policy(GENERAL, *[{**IT_CELL, "id": f"r{n}"} for n in range(20)]), "/rules"),
    ):
        for method, url in (("PUT", URL), ("POST", f"{URL}/preview")):
            headers = {"if-match": '"0"'} if method == "PUT" else {}
            answer = await groups.http.request(method, url, json=bad, headers=headers)
            assert answer.status_code == 422, answer.text
            assert pointer in {error["pointer"] for error in answer.json()["errors"]}, answer.text
    assert (await groups.http.put(URL, json=EXAMPLE)).status_code == 428
    await put(groups, EXAMPLE, 3, 412)
    half = groups.auth("groups:*", BLOCK)
    for method, url, body in (
        ("PUT", URL, EXAMPLE),
        ("POST", f"{URL}/preview", EXAMPLE),
        ("POST", f"{URL}/apply", None),
        ("POST", f"{URL}/audits", None),
    ):
        sent = half | ({"if-match": '"0"'} if method == "PUT" else {})
        answer = await groups.http.request(method, url, json=body, headers=sent)
        assert answer.status_code == 403, answer.text
    answer = await groups.http.get(URL, headers=half)
    assert answer.headers["etag"] == '"0"'
    assert answer.json()["rules"][0]["depends"] == ["own_number", "status", "unit"]
    assert await groups.runtime.database["policies"].count_documents({}) == 0


async def test_a_policy_knows_the_levels_that_the_tree_has(groups: Running) -> None:
    words = ["nation", "zone", "ward", "lane", "house"]
    answer = await groups.http.put("/v1/units/levels", json={"levels": words})
    assert answer.status_code == 200, answer.text
    assert (await groups.http.get(URL)).json()["levels"] == words, "of the settings' policy too"
    code = "IN-BR-W-L-H"
    for depth, level in enumerate(words, 1):
        body = {"name": {"en": "x", "hi": "क"}, "level": level}
        unit = "-".join(code.split("-")[:depth])
        assert (await groups.http.put(f"/v1/units/{unit}", json=body)).status_code == 201
    await put(groups, EXAMPLE, 0, 422)
    women = {**WOMEN, "at": "ward"}
    wanted = policy(GENERAL, women, levels=["nation", "ward", "lane"])
    assert (await previewed(groups, wanted))[0]["counts"]["joins"] == 0
    await applied(groups, wanted, 0)
    member = woman(code)
    await groups.publish(member)
    await placed(groups, 1)
    answer = await groups.http.get(f"/v1/members/{member.member_id}/groups")
    seats = {each["kind"]: each["unit"] for each in answer.json()["items"]}
    assert seats == {"general": "IN-BR-W-L", "women": "IN-BR-W"}
    opening = {"unit": "IN", "level": "ward", "kind": "women"}
    answer = await groups.http.post("/v1/groups/openings", json=opening)
    assert (await ended(groups, answer.json()["id"]))["result"] == {"opened": 0}
    for level, pointer in (("block", "/level"), ("house", "/kind")):
        answer = await groups.http.post("/v1/groups/openings", json={**opening, "level": level})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    await groups.runtime.database["units"].delete_many({"level": {"$in": ["ward", "lane", "house"]}})
    moved = ["nation", "zone", "district", "ward", "lane"]
    answer = await groups.http.put("/v1/units/levels", json={"levels": moved})
    assert (answer.status_code, answer.json()["levels"]) == (409, "ward lane"), answer.text
    for reserved in ("own", "above"):
        answer = await groups.http.put("/v1/units/levels", json={"levels": ["nation", "zone", reserved]})
        assert answer.status_code == 422


async def test_levels_do_not_change_beside_a_policy_that_is_put_in_force(groups: Running) -> None:
    """Each transaction reads what the other one writes: without a conflict both would commit."""
    store = PolicyVersions(groups.runtime.database)
    other: list[asyncio.Task[Any]] = []
    was_answered: list[bool] = []

    async def a_policy(work: UnitOfWork) -> tuple[str, ...]:
        levels = await store.hold_levels(work.session)
        if not other:
            answer = groups.http.put("/v1/units/levels", json={"levels": ["nation", "ward"]})
            other.append(asyncio.create_task(answer))
            await asyncio.sleep(0.3)
            was_answered.append(other[0].done())
        return levels

    assert await groups.runtime.outbox.transact(a_policy) == tuple(LEVELS)
    answer = await other[0]
    assert (answer.status_code, answer.json()["version"]) == (200, 2), answer.text
    assert was_answered == [False]


async def test_whoever_waits_is_seated_in_the_order_of_arrival(groups: Running) -> None:
    await units(groups)
    await applied(groups, policy(GENERAL, general=(2, 1)), 0)
    people = [man() for _ in range(5)]
    for number, person in enumerate(people, 1):
        await groups.publish(person)
        await placed(groups, min(number, 2))
        await placed(groups, max(0, number - 2), "waiting_seat")
    await groups.publish(MemberMoved(member_id=people[0].member_id, from_unit=BOOTHS[0], unit=OTHER))

    async def moved(*seated: int) -> bool:
        states = [(await seats_of(groups, p.member_id))["general"] for p in people]
        return {n for n, s in enumerate(states) if s == ("assigned", BOOTHS[0])} == set(seated)

    await groups.until(lambda: moved(1, 2))
    wider = policy(GENERAL, general=(2, 2))
    preview, changes = await previewed(groups, wider)
    assert [c["member_id"] for c in changes if c["joins"]] == [p.member_id for p in people[3:]]
    assert preview["counts"]["joins"] == 2
    await applied(groups, wider, 1)
    assert await moved(1, 2, 3, 4)
    assert await groups.runtime.database["waiting"].count_documents({}) == 0
    events = await groups.log(TOPIC)
    waits = [e.data.member_id for e in events if isinstance(e.data, GroupMemberWaiting)]
    assert sorted(waits) == sorted(p.member_id for p in people[2:])


async def test_a_seat_in_a_block_that_is_not_in_the_tree_waits_for_it(groups: Running) -> None:
    await tree(groups, "BR-SARAN")
    await applied(groups, EXAMPLE, 0)
    someone = woman("BR-SARAN-NEW")
    await groups.publish(someone)
    await placed(groups, 1, "waiting_unit")
    held = await seats_of(groups, someone.member_id)
    assert held == dict.fromkeys(("general", "women"), ("waiting_unit", "BR-SARAN-NEW"))
    await tree(groups, "BR-SARAN-NEW")
    await placed(groups, 1)
    held = await seats_of(groups, someone.member_id)
    assert held == dict.fromkeys(("general", "women"), ("assigned", "BR-SARAN-NEW"))
    assert await drift(groups) == {}


async def test_an_audit_finds_what_does_not_follow_the_policy_and_applying_mends_it(
    groups: Running,
) -> None:
    await units(groups)
    await applied(groups, EXAMPLE, 0)
    people = [woman() for _ in range(4)]
    await groups.publish(*people)
    await placed(groups, 4)
    assert await drift(groups) == {}
    placements, rows = groups.runtime.database["placements"], groups.runtime.database["groups"]
    ids = sorted(p.member_id for p in people)
    # An older process knows one seat: it moves that, and leaves the others where they are.
    await placements.update_one({"_id": ids[0]}, {"$set": {"unit": OTHER}})
    await placements.update_one({"_id": ids[1]}, {"$unset": {"seats": ""}})
    await placements.update_one({"_id": ids[2]}, {"$set": {"facts.asked": None}})
    await rows.update_one({"kind": "women"}, {"$set": {"taken": 9}})
    assert await drift(groups) == {
        "missing": 1,
        "unwanted": 1,
        "elsewhere": 1,
        "miscounted": 1,
    }
    await rows.update_one({"kind": "women"}, {"$set": {"taken": 3}})
    await ended(groups, (await groups.http.post(f"{URL}/apply")).json()["id"])
    assert await drift(groups) == {}


async def test_placements_of_the_first_release_stay_and_get_more_seats_once_the_facts_are_told(
    groups: Running,
) -> None:
    """Documents as 0.1.0 wrote them; a process of it that goes on writing them; then members' snapshots."""
    await units(groups)
    placements = groups.runtime.database["placements"]
    people = [woman() for _ in range(3)]
    await groups.publish(*people)
    await placed(groups, 3)
    await placements.update_many({}, {"$unset": {"facts": ""}})
    before = {row["_id"]: row["group_id"] async for row in placements.find({})}
    await applied(groups, EXAMPLE, 0)
    assert await drift(groups) == {}, "nobody is known to have asked"
    events = [groups.envelope(snapshot(person), 1) for person in people]
    await groups.publish(*events)

    async def seated() -> bool:
        return await placements.count_documents({"seats.rule": "women"}) == 3

    await groups.until(seated)
    assert before == {row["_id"]: row["group_id"] async for row in placements.find({})}
    # 0.1.0 frees the general seat of who leaves, and knows of no other.
    gone = people[0].member_id
    left = {"state": "left", "group_id": None, "ordinal": None, "member_sequence": 2, "sequence": 3}
    await placements.update_one({"_id": gone}, {"$set": left})
    await groups.runtime.database["groups"].update_one({"_id": before[gone]}, {"$inc": {"taken": -1}})
    assert await drift(groups) == {"unwanted": 1}
    await ended(groups, (await groups.http.post(f"{URL}/apply")).json()["id"])
    assert await drift(groups) == {}


def snapshot(person: MemberJoined) -> MemberSnapshot:
    shape = person.model_dump(include=set(MemberSnapshot.model_fields) - {"roles_held", "status"})
    return MemberSnapshot(**shape, status="active", roles_held=())
