"""Minors are refused, unless the organisation takes them with a guardian's consent on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.members.settings import MembersSettings
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
