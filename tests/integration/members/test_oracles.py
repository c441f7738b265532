"""Callers learn nothing of members that they may not see by registering, changing, moving and guessing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.members.settings import MembersSettings
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, a_person, serving

BURST = 5


@pytest_asyncio.fixture(loop_scope="session")
async def strict(settings: MembersSettings, keys: Keys) -> AsyncIterator[Service]:
    """Tells a caller of five taken phones, then of one in half an hour."""
    limits = {"taken_phones_burst": BURST, "taken_phones_per_hour": 2}
    async with serving(settings.model_copy(update=limits), keys) as service:
        yield service


def without_ids(answer: httpx2.Response) -> tuple[int, dict[str, Any]]:
    return answer.status_code, {k: v for k, v in answer.json().items() if k not in ("request_id", "instance")}


async def recorded(service: Service) -> list[tuple[str, list[str], str]]:
    rows = service.db["contact_reads"].find({}).sort("at", 1)
    return [(row["subject"], row["ids"], row["via"]) async for row in rows]


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
async def test_a_registration_that_cannot_succeed_tells_nothing_of_the_phone(
    service: Service, spelling: Callable[[str], str]
) -> None:
    member, inviter = await service.register(), spelling(new_id())
    known = await service.post(a_person(phone=member["phone"], inviter_id=inviter))
    unknown = await service.post(a_person(inviter_id=inviter))
    assert without_ids(known) == without_ids(unknown)
    assert known.status_code == 422
    both = await asyncio.gather(
        *(service.post(a_person(phone=member["phone"], inviter_id=inviter)) for _ in range(5)),
        service.post(a_person()),
    )
    assert [answer.status_code for answer in both] == [422] * 5 + [201]
    for body in ({"birth_year": 1800}, {"unit": ""}, {"gender": "x"}):
        answers = [
            await service.post(a_person(**body)),
            await service.post(a_person(phone=member["phone"], **body)),
        ]
        assert without_ids(answers[0]) == without_ids(answers[1])
    assert await recorded(service) == []


async def test_who_is_told_that_a_phone_is_taken_is_recorded(own_service: Service) -> None:
    service = own_service
    member, other = await service.register(), await service.register()
    clerk = service.app.auth("members:*", "BR-GAYA", sub="clerk")
    theirs = (await service.http.post("/v1/members", json=a_person(unit="BR-GAYA"), headers=clerk)).json()
    asked = await service.http.post(
        "/v1/members", json=a_person(phone=member["phone"], unit="BR-GAYA"), headers=clerk
    )
    guessed = await service.http.patch(
        f"/v1/members/{theirs['id']}", json={"phone": other["phone"]}, headers=clerk | {"if-match": '"1"'}
    )
    assert [asked.status_code, guessed.status_code] == [409, 409]
    assert member["id"] not in asked.text
    assert other["id"] not in guessed.text
    assert await recorded(service) == [
        ("clerk", [member["id"]], "phone_of_registration"),
        ("clerk", [other["id"]], "phone_of_change"),
    ]
    metrics = (await service.http.get("/metrics")).text
    assert 'sangathan_members_phones_confirmed_total{via="phone_of_registration"} 1.0' in metrics
    assert 'sangathan_members_phones_confirmed_total{via="phone_of_change"} 1.0' in metrics


async def test_a_list_of_phones_cannot_be_tried(strict: Service) -> None:
    """Once the limit is reached, taken and free phones get the same answer, and other callers their own."""
    members = [await strict.register() for _ in range(BURST)]
    clerk = strict.app.auth("members:read members:write", sub="clerk")

    async def ask(phone: str, headers: dict[str, str] = clerk) -> httpx2.Response:
        return await strict.http.post("/v1/members", json=a_person(phone=phone), headers=headers)

    assert [(await ask(member["phone"])).status_code for member in members] == [409] * BURST
    path = f"/v1/members/{members[0]['id']}"
    based = clerk | {"if-match": '"1"'}
    for answer in (
        await ask(members[0]["phone"]),
        await ask("+919800000001"),
        await strict.http.patch(path, json={"phone": members[1]["phone"]}, headers=based),
        await strict.http.patch(path, json={"phone": "+919800000002"}, headers=based),
    ):
        assert answer.status_code == 429
        assert answer.json()["type"] == "urn:sangathan:problem:too-many-taken-phones"
        assert 1700 < int(answer.headers["retry-after"]) <= 1800
    assert (await strict.http.patch(path, json={"name": "B"}, headers=based)).status_code == 200
    assert (await ask("+919800000003", strict.app.auth("members:write", sub="other"))).status_code == 201
    assert len(await recorded(strict)) == BURST
    assert "sangathan_members_phones_limited_total 4.0" in (await strict.http.get("/metrics")).text


async def test_the_limit_keeps_nobody_from_what_tells_nothing_new(strict: Service) -> None:
    """A number that is tried again and again costs one answer; a repeated request is answered as before."""
    clerk = strict.app.auth("members:read members:write", sub="clerk")
    taken = [await strict.register() for _ in range(BURST)]
    mine: dict[str, Any] = {"json": a_person(), "headers": clerk | {"idempotency-key": "mine"}}
    first = await strict.http.post("/v1/members", **mine)
    for member in [*[taken[0]] * 20, *taken[1:]]:
        answer = await strict.http.post("/v1/members", json=a_person(phone=member["phone"]), headers=clerk)
        assert answer.status_code == 409
    assert (await strict.http.post("/v1/members", json=a_person(), headers=clerk)).status_code == 429
    again = await strict.http.post("/v1/members", **mine)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    other = await strict.http.post("/v1/members", json=a_person(), headers=mine["headers"])
    assert other.json()["type"] == "urn:sangathan:problem:idempotency-key-reused"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"phone": "+919812345678"}, {"phone": "+919812345679"}),
        ({"email": "a@example.org"}, {"email": "b@example.org"}),
        (
            {"platforms": [{"platform": "x", "handle": "@asha"}]},
            {"platforms": [{"platform": "x", "handle": "@usha"}]},
        ),
    ],
)
async def test_a_change_confirms_no_guess(
    service: Service, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    contact = {"email": "a@example.org", "platforms": [{"platform": "x", "handle": "@asha"}]}
    member = await service.register(phone="+919812345678", **contact)
    path = f"/v1/members/{member['id']}"
    guesser = service.app.auth("members:read members:write")
    versions, answers = [1], []
    for guess in (right, wrong):
        based = guesser | {"if-match": f'"{versions[-1]}"'}
        answer = (await service.http.patch(path, json=guess, headers=based)).json()
        versions.append(answer.pop("version"))
        del answer["updated_at"]
        answers.append(answer)
    assert versions == [1, 2, 3]
    assert answers[0] == answers[1]
    _, second, third = await service.events(3)
    assert second.data == third.data
    reader = await service.http.patch(
        path, json=wrong, headers=service.app.auth("members:* contacts:read") | {"if-match": '"3"'}
    )
    assert reader.json()["version"] == 3, "for who sees the contact, nothing has changed"


async def test_the_right_to_write_is_no_right_to_read(service: Service) -> None:
    member = await service.register(name="Asha Devi")
    path, writer = f"/v1/members/{member['id']}", service.app.auth("members:write")
    for answer in (
        await service.http.post(f"{path}/move", json={"unit": UNIT}, headers=writer),
        await service.http.post(f"{path}/move", json={"unit": "BR-GAYA"}, headers=writer),
        await service.http.patch(path, json={}, headers=writer | {"if-match": '"1"'}),
        await service.http.patch(path, json={"name": "B"}, headers=writer | {"if-match": '"1"'}),
        await service.http.patch(path, json={"name": "B"}, headers=writer | {"if-match": '"7"'}),
    ):
        assert answer.status_code == 403
        assert "Asha" not in answer.text
        assert 'scope="members:read"' in answer.headers["www-authenticate"]
    assert (await service.stored(member["id"]))["version"] == 1
    left = await service.http.delete(path, headers=writer)
    assert (left.status_code, left.content) == (204, b"")


async def test_existence_comes_before_what_is_wrong_with_the_request(service: Service) -> None:
    member = await service.register()
    headers = service.app.auth("members:read members:write", "BR-GAYA") | {"if-match": '"9"'}
    answers = [
        await service.http.patch(f"/v1/members/{id_}", json={"birth_year": 2025}, headers=headers)
        for id_ in (member["id"], new_id())
    ]
    assert without_ids(answers[0]) == without_ids(answers[1])
    assert answers[0].status_code == 404
