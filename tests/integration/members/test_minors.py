"""Minors are refused, unless the organisation takes them with a guardian's consent on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.members.ages import telling
from services.members.ages.store import AgeStore, untold_queries
from services.members.core.core import Core
from services.members.recovery.snapshots import member as snapshot_of
from services.members.settings import MembersSettings
from services.shared.runtime import Runtime
from tests.integration.members.conftest import UNIT, Service, a_person, serving

YEAR = datetime.now(UTC).year
MINOR, ADULT, CHILD = YEAR - 18, YEAR - 19, YEAR - 13
"""Somebody born 18 years ago may still be 17; somebody born 13 years ago may still be 12."""
NOTICE = {"notice": "g1", "language": "hi"}
CONSENTS = [{"purpose": purpose, "channel": "sms", **NOTICE} for purpose in ("membership", "welcome")]
GUARDED: dict[str, Any] = {"consents": CONSENTS, "guardian_evidence": "form 77"}


@pytest_asyncio.fixture(loop_scope="session")
async def allowing(settings: MembersSettings, keys: Keys) -> AsyncIterator[Service]:
    async with serving(settings.model_copy(update={"minors_allowed": True}), keys) as service:
        headers = service.app.auth("notices:write", "*")
        path = "/v1/notices/g1/hi"
        assert (
            await service.http.put(path, json={"text": "For guardians"}, headers=headers)
        ).status_code == 201
        yield service


async def refused(service: Service, **person: Any) -> str:
    answer = await service.post(a_person() | person)
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    pointer: str = error["pointer"]
    return pointer


async def test_minors_are_refused(service: Service) -> None:
    assert await refused(service, birth_year=MINOR) == "/birth_year"
    assert await refused(service, birth_year=MINOR, **GUARDED) == "/birth_year"
    adult = await service.register(birth_year=ADULT)
    headers = {"If-Match": '"1"'}
    path = f"/v1/members/{adult['id']}"
    assert (await service.http.patch(path, json={"birth_year": MINOR}, headers=headers)).status_code == 422
    assert await service.db["members"].count_documents({}) == 1


async def test_a_guardian_s_consent_is_on_record_with_its_proof(allowing: Service) -> None:
    minor = await allowing.register(birth_year=MINOR, **GUARDED)
    assert {consent["source"] for consent in minor["consents"]} == {"guardian"}
    answer = await allowing.http.get(f"/v1/members/{minor['id']}/consents")
    items = answer.json()["items"]
    assert [item["purpose"] for item in items] == ["membership", "welcome"]
    for item in items:
        assert (item["sequence"], item["evidence"], item["source"]) == (1, "form 77", "guardian")
        assert item["actor"]
        assert len(item["notice_sha256"]) == 64
    path = f"/v1/members/{minor['id']}"
    younger = await allowing.http.patch(path, json={"birth_year": MINOR + 1}, headers={"If-Match": '"1"'})
    assert younger.status_code == 200
    withdrawn = await allowing.http.delete(f"{path}/consents/membership/sms")
    assert withdrawn.status_code == 204
    headers = {"If-Match": '"3"'}
    assert (await allowing.http.patch(path, json={"birth_year": MINOR}, headers=headers)).status_code == 422
    assert (await allowing.http.patch(path, json={"name": "Mina"}, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("person", "pointer"),
    [
        ({"birth_year": MINOR, "consents": CONSENTS}, "/birth_year"),
        ({"birth_year": MINOR, "guardian_evidence": "form 77"}, "/birth_year"),
        ({"birth_year": MINOR, **GUARDED, "consents": CONSENTS[1:]}, "/birth_year"),
        ({"birth_year": CHILD, **GUARDED}, "/birth_year"),
        ({"birth_year": ADULT, **GUARDED}, "/guardian_evidence"),
        (GUARDED, "/guardian_evidence"),
        ({"birth_year": MINOR, **GUARDED, "guardian_evidence": "call +91 98765 01234"}, "/guardian_evidence"),
        (
            {"birth_year": MINOR, **GUARDED, "consents": [CONSENTS[0], CONSENTS[1] | {"notice": "g2"}]},
            "/consents/1/notice",
        ),
    ],
)
async def test_what_is_no_guardian_s_consent(allowing: Service, person: dict[str, Any], pointer: str) -> None:
    assert await refused(allowing, **person) == pointer
    assert await allowing.db["members"].count_documents({}) == 0


async def test_an_import_makes_no_minor_and_changes_none(allowing: Service) -> None:
    minor = await allowing.register(birth_year=MINOR, **GUARDED)
    rows = "id,name,phone,birth_year\n"
    rows += f"{minor['id']},Mina,,{MINOR}\n,Usha,9876512345,{MINOR}\n,Rita,9876512346,{ADULT}\n"
    headers = allowing.app.auth("members:* contacts:read") | {"content-type": "text/csv"}
    sent = await allowing.http.post(f"/v1/imports?unit={UNIT}", content=rows.encode(), headers=headers)
    path = f"/v1/imports/{sent.json()['id']}"
    found: dict[str, Any] = {}

    async def planned() -> bool:
        found.update((await allowing.http.get(path, headers=headers)).json())
        return bool(found["state"] == "planned")

    await allowing.app.until(planned)
    plan = found["plan"]
    assert (plan["new"], plan["changed"], plan["reasons"]) == (1, 1, {"minor": 1})


async def told(service: Service, member_id: str) -> list[tuple[str, bool | None]]:
    """Whether each event about a member says that they are an adult; none says when they were born."""
    mine = [event for event in await service.log() if event.subject == member_id]
    assert not any(str(YEAR - 18) in event.data.model_dump_json() for event in mine)
    return [(event.type, getattr(event.data, "adult", None)) for event in mine]


async def test_events_tell_who_may_be_a_minor_and_nothing_else_of_an_age(allowing: Service) -> None:
    minor = await allowing.register(birth_year=MINOR, **GUARDED)
    adult = await allowing.register(birth_year=ADULT)
    someone = await allowing.register()
    assert "minor" not in minor
    path = f"/v1/members/{minor['id']}"
    forgotten = await allowing.http.patch(path, json={"birth_year": None}, headers={"If-Match": '"1"'})
    assert forgotten.status_code == 200
    assert (await allowing.stored(minor["id"]))["minor"], "who was one is not taken for an adult"
    grown = await allowing.http.patch(path, json={"birth_year": ADULT}, headers={"If-Match": '"2"'})
    assert grown.status_code == 200
    assert "minor" not in await allowing.stored(minor["id"])
    updated = [("member.updated", False), ("member.updated", True)]
    assert await told(allowing, minor["id"]) == [("member.joined", False), *updated]
    assert await told(allowing, adult["id"]) == [("member.joined", True)]
    assert await told(allowing, someone["id"]) == [("member.joined", None)]
    rows = [row async for row in allowing.db["members"].find({})]
    assert sorted(str(snapshot_of(row)[0].adult) for row in rows) == ["None", "True", "True"]


async def test_it_is_told_when_somebody_comes_of_age_and_of_minors_of_earlier_releases(
    allowing: Service, settings: MembersSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "BATCH", 2)
    core = Core(Runtime(settings), settings)
    await core.runtime.server_clock.read()
    teller = telling.AgeTeller(core, AgeStore(core.runtime.database))
    grown, unheard, left, forgotten, young = [
        (await allowing.register(birth_year=MINOR, **GUARDED))["id"] for _ in range(5)
    ]
    assert (await allowing.http.delete(f"/v1/members/{left}")).status_code == 204
    members = allowing.db["members"]
    await members.update_many({"_id": {"$in": [grown, left]}}, {"$set": {"birth_year": ADULT}})
    await members.update_one({"_id": unheard}, {"$unset": {"minor": ""}})
    await members.update_one({"_id": forgotten}, {"$set": {"birth_year": 2001}})
    while await teller.tell_batch():
        pass
    core.runtime.close()
    assert (await told(allowing, grown))[1:] == [("member.updated", True)]
    assert (await told(allowing, forgotten))[1:] == [("member.updated", True)]
    assert (await told(allowing, unheard))[1:] == [("member.updated", False)]
    assert (await told(allowing, left))[1:] == [("member.left", None)]
    assert (await told(allowing, young))[1:] == []
    assert (await allowing.stored(grown))["version"] == 2
    assert {row["_id"] async for row in members.find({"minor": True})} == {unheard, left, young}


async def test_whom_to_tell_of_is_read_from_the_index(service: Service) -> None:
    for query in untold_queries(datetime.now(UTC)):
        plan = await service.db["members"].find(query).explain()
        assert "minor_1_status_1_birth_year_1" in str(plan["queryPlanner"]["winningPlan"]), query
