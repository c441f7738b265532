"""Consents and welcomes of imports."""

from __future__ import annotations

from typing import Any

import pytest

from services.shared.contracts.members import MemberJoined
from tests.integration.members.conftest import Service
from tests.integration.members.importing import (
    IMPORTER,
    a_phone,
    outcomes,
    planned,
    reaching,
    send,
)


@pytest.fixture
async def notice(service: Service) -> None:
    """The notice that `CONSENTS` names, registered."""
    await register_notice(service)


async def register_notice(service: Service) -> None:
    headers = service.app.auth("notices:write")
    answer = await service.http.put("/v1/notices/2026-01/hi", json={"text": "We write."}, headers=headers)
    assert answer.status_code == 201


CONSENTS = "&consents=welcome:whatsapp,welcome:sms&notice=2026-01&evidence=register-17"


@pytest.mark.usefixtures("notice")
async def test_consents_need_a_right_a_notice_and_evidence(service: Service) -> None:
    content = f"name,phone,consent\nA,{a_phone()},yes\nB,{a_phone()},नहीं\nC,{a_phone()},\n"
    assert (await send(service, content, query=CONSENTS)).status_code == 403
    allowed = service.app.auth(f"{IMPORTER} consents:write")
    for wrong in (("notice=2026-01", ""), ("evidence=register-17", ""), ("2026-01", "nobody-s")):
        answer = await send(service, content, query=CONSENTS.replace(*wrong), **allowed)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["in"] == "query"
    plan = await planned(service, content, query=CONSENTS, **allowed)
    assert (plan["evidence"], plan["notice"]) == ("register-17", "2026-01")
    assert plan["plan"]["notes"] == {"consent_blank": 1}
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply")).status_code == 403
    await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=allowed)
    await reaching(service, plan["id"], "applied")
    rows = {row["name"]: row async for row in service.db["members"].find()}
    assert [len(rows[name]["consents"]) for name in "ABC"] == [2, 0, 0], "a blank cell is no answer"
    assert rows["A"]["consents"][0]["source"] == f"import:{plan['id']}"


@pytest.mark.usefixtures("notice")
async def test_a_row_that_ends_before_the_column_of_consent_is_a_no(service: Service) -> None:
    allowed = service.app.auth(f"{IMPORTER} consents:write")
    content = f"name,phone,consent\nA,{a_phone()}\nB,{a_phone()},  \nC,{a_phone()},ok\n"
    plan = await planned(service, content, query=f"{CONSENTS}&announce=welcome", **allowed)
    assert (plan["plan"]["welcomed"], plan["plan"]["notes"]) == (1, {"consent_blank": 2})


@pytest.mark.parametrize(
    "evidence", ["called Ramesh 98123 45678", "asha@example.org", "फोन ९८१२३४५६७८", "x" * 101]
)
@pytest.mark.usefixtures("notice")
async def test_evidence_is_a_reference_and_no_personal_data(service: Service, evidence: str) -> None:
    allowed = service.app.auth(f"{IMPORTER} consents:write")
    content = f"name,phone\nA,{a_phone()}\n"
    for query in (CONSENTS, "&evidence=register-17"):
        answer = await send(service, content, query=query.replace("register-17", evidence), **allowed)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/evidence")
        assert evidence not in answer.text
    assert await service.db["imports"].count_documents({}) == 0


async def test_what_is_said_of_consents_is_not_kept_without_any(service: Service) -> None:
    plan = await planned(service, f"name,phone\nA,{a_phone()}\n", query="&notice=call%20Ramesh&evidence=r-17")
    assert (plan["notice"], plan["evidence"]) == (None, None)


@pytest.mark.usefixtures("notice")
async def test_an_import_never_touches_the_consents_of_who_is_known(service: Service) -> None:
    consent = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
    asha = await service.register(name="Asha", consents=[consent])
    plan = await planned(
        service,
        f"name,phone,consent\nAsha Devi,{asha['phone']},yes\n",
        query=CONSENTS,
        **service.app.auth(f"{IMPORTER} consents:write"),
    )
    before = await service.stored(asha["id"])
    await service.http.post(
        f"/v1/imports/{plan['id']}/apply", headers=service.app.auth(f"{IMPORTER} consents:write")
    )
    await reaching(service, plan["id"], "applied")
    after = await service.stored(asha["id"])
    assert (after["name"], after["consents"], after["joined_at"]) == (
        *("Asha Devi", before["consents"]),
        before["joined_at"],
    )


@pytest.mark.usefixtures("notice")
async def test_a_withdrawal_between_plan_and_application_wins(service: Service) -> None:
    allowed = service.app.auth(f"{IMPORTER} consents:write")
    given = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
    asha = await service.register(name="Asha", consents=[given])
    phone = a_phone()
    content = f"name,phone,consent\nAsha Devi,{asha['phone']},yes\nSita,{phone},yes\n"
    plan = await planned(service, content, query=CONSENTS, **allowed)
    assert outcomes(plan) == {"changed": 1, "new": 1}

    sita = await service.register(name="Sita", phone=phone, consents=[given])
    for member in (asha, sita):
        answer = await service.http.delete(f"/v1/members/{member['id']}/consents/welcome/sms")
        assert answer.status_code == 204
    await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=allowed)
    done = await reaching(service, plan["id"], "applied")
    assert done["applied"] == {"created": 0, "updated": 0, "set_aside": 2}
    for member in (asha, sita):
        stored = await service.stored(member["id"])
        assert (stored["name"], [each["state"] for each in stored["consents"]]) == (
            *(member["name"], ["withdrawn"]),
        )


@pytest.mark.parametrize(("announce", "channels"), [("none", ()), ("welcome", ("whatsapp", "sms"))])
@pytest.mark.usefixtures("notice")
async def test_nobody_is_announced_unless_asked_for(service: Service, announce: str, channels: Any) -> None:
    allowed = service.app.auth(f"{IMPORTER} consents:write")
    query = f"{CONSENTS}&announce={announce}"
    plan = await planned(service, f"name,phone\nA,{a_phone()}\n", query=query, **allowed)
    await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=allowed)
    await reaching(service, plan["id"], "applied")
    [joined] = await service.events(1)
    assert isinstance(joined.data, MemberJoined)
    assert (joined.data.origin, joined.data.channels) == ("import", channels)
    assert joined.data.announced == bool(channels)
    resolved = await service.http.post("/v1/members/resolve", json={"ids": [joined.subject]}, headers=allowed)
    assert len(resolved.json()["items"][0]["consents"]) == len(channels)
