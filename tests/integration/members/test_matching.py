"""A roster's numbers become the ids of members, within a unit, and on record."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx2
import pytest

from services.members.core.phones import BlindIndex
from tests.integration.members.conftest import UNIT, Service

ELSEWHERE = "BR-GAYA"
BLOCK = "BR-SARAN-MARHAURA"


async def match(
    service: Service, *phones: object, unit: str = UNIT, headers: dict[str, str] | None = None
) -> httpx2.Response:
    headers = headers or service.app.auth("members:match", "BR-SARAN", sub="groups")
    body = {"unit": unit, "phones": phones}
    return await service.http.post("/v1/members/match", json=body, headers=headers)


def found(*answers: str | None) -> list[dict[str, str | None]]:
    """`stranger`, or a member's id."""
    problems = ("stranger", "unreadable", "several")
    return [
        {"member_id": None, "problem": each} if each in problems else {"member_id": each, "problem": None}
        for each in answers
    ]


async def reads(service: Service) -> list[tuple[str, list[str], str, str]]:
    rows = service.db["contact_reads"].find({}).sort("_id", 1)
    return [(row["subject"], row["ids"], row["via"], row["about"]) async for row in rows]


async def test_numbers_are_matched_as_people_write_them(service: Service) -> None:
    first = await service.register(phone="+919812345678")
    second = await service.register(phone="+919812345679")
    answer = await match(
        service,
        *("98123 45678", "+91 98123-45679", "tel: 09812345678", "'९८१२३४५६७८", "98123 45680"),
        *("9876500000 / 9812345679", "9812345678, 09812345678", "9812345678 या 9812345679"),
        *("", "Asha (admin)", "9.87654E+09", "\x00\x00", "9" * 500, "1 " * 100, "१" * 9),
    )
    assert answer.status_code == 200
    a, b = first["id"], second["id"]
    unreadable = ["unreadable"] * 7
    assert answer.json()["items"] == found(a, b, a, a, "stranger", b, a, "several", *unreadable)
    assert "98123" not in answer.text
    metrics = (await service.http.get("/metrics")).text
    for outcome, n in (("member", 6), ("stranger", 1), ("several", 1), ("unreadable", 7)):
        assert f'sangathan_members_phones_matched_total{{outcome="{outcome}"}} {n}.0' in metrics


async def test_only_active_members_of_the_unit_are_matched(service: Service) -> None:
    here, left = await service.register(unit=BLOCK), await service.register(unit=BLOCK)
    below, away = await service.register(), await service.register(unit=ELSEWHERE)
    assert (await service.http.delete(f"/v1/members/{left['id']}")).status_code == 204
    phones = [each["phone"] for each in (here, below, left, away)]
    answer = await match(service, *phones, unit=BLOCK)
    assert answer.json()["items"] == found(here["id"], below["id"], "stranger", "stranger")
    assert (await match(service, *phones)).json()["items"][0] == found("stranger")[0], "above the unit"
    central = service.app.auth("members:match", "*", sub="groups")
    everywhere = await match(service, *phones, unit="BR", headers=central)
    assert everywhere.json()["items"] == found(here["id"], below["id"], "stranger", away["id"])


async def test_every_match_is_on_record_also_of_nobody(service: Service) -> None:
    member = await service.register()
    await match(service, member["phone"], member["phone"], "9812345678")
    await match(service, "9812345678")
    assert await reads(service) == [
        ("groups", [member["id"]], "match", f"unit:{UNIT}"),
        ("groups", [], "match", f"unit:{UNIT}"),
    ]
    auditor = service.app.auth("reads:read", "BR-SARAN")
    shown = (await service.http.get("/v1/reads?via=match", headers=auditor)).json()["items"]
    assert [each["member_id"] for each in shown] == [None, member["id"]]


async def test_nobody_is_told_without_a_record(service: Service) -> None:
    member = await service.register()
    await service.db.command({"collMod": "contact_reads", "validator": {"never": True}})
    answer = await match(service, member["phone"])
    assert answer.status_code == 500
    assert member["id"] not in answer.text


@pytest.mark.parametrize("unit", [ELSEWHERE, "BR", "BR-SARA", "BR-SARANG"])
async def test_a_unit_that_is_not_the_callers_is_not_there(empty: Service, unit: str) -> None:
    assert (await match(empty, "9812345678", unit=unit)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"unit": UNIT, "phones": ["9812345678"] * 1001},
        {"unit": UNIT, "phones": []},
        {"unit": UNIT, "phones": [9812345678]},
        {"unit": UNIT, "phones": [None]},
        {"unit": UNIT, "phones": "9812345678"},
        {"phones": ["9812345678"]},
        {"unit": UNIT, "phones": ["9812345678"], "ids": []},
    ],
)
async def test_a_roster_that_cannot_be_one_is_refused_and_not_quoted(
    empty: Service, body: dict[str, Any]
) -> None:
    headers = empty.app.auth("members:match", "*")
    answer = await empty.http.post("/v1/members/match", json=body, headers=headers)
    assert answer.status_code == 422
    assert "98123" not in answer.text
    assert await reads(empty) == []


async def test_other_rights_do_not_match(empty: Service) -> None:
    headers = empty.app.auth("members:read members:write contacts:read", "*")
    assert (await match(empty, "9812345678", headers=headers)).status_code == 403


async def test_a_thousand_numbers_are_not_a_thousand_queries(service: Service, settings: Any) -> None:
    """Among ten thousand members; the fastest of some runs, for the machine may be busy with other things."""
    blind = BlindIndex(settings.blind_index_key)
    template = await service.stored((await service.register())["id"])
    phones = [f"+9170{secrets.randbelow(10**4):04d}{n:04d}" for n in range(10_000)]
    rows = [
        {**template, "_id": f"member-{n}", "phone_index": blind.of(phone)} for n, phone in enumerate(phones)
    ]
    await service.db["members"].insert_many(rows)
    asked = [f"{phone[:3]} {phone[3:8]} {phone[8:]}" for phone in phones[::10]]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        answer = await match(service, *asked)
        seconds.append(time.perf_counter() - began)
        assert answer.json()["items"] == found(*(f"member-{n}" for n in range(0, 10_000, 10)))
    assert min(seconds) < 1
