"""POST /v1/members: who is registered, who is refused, and what is written either way."""

from __future__ import annotations

import asyncio

import pytest

from services.shared.contracts.members import MemberJoined
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, a_person

REQUEST_ID = "0190e4a2-7b1c-7d3e-8f4a-1b2c3d4e5f60"
FULL = {
    "name": "  Asha\u200b  देवी ",
    "phone": "098123 45678",
    "unit": UNIT,
    "gender": "female",
    "language": "bho",
    "email": "Asha@Example.ORG",
    "birth_year": 1990,
    "platforms": [{"platform": "x", "handle": "@asha"}, {"platform": "whatsapp", "handle": "+919812345678"}],
    "consents": [
        {"purpose": "welcome", "channel": "email", "notice": "2026-01", "language": "hi"},
        {"purpose": "welcome", "channel": "whatsapp", "notice": "2026-01", "language": "hi"},
        {"purpose": "broadcast", "channel": "sms", "notice": "2026-01", "language": "hi"},
    ],
}


async def test_the_answer_is_the_member_as_stored(service: Service) -> None:
    answer = await service.post(FULL)
    member = answer.json()
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/members/{member['id']}"
    assert member["name"] == "Asha देवी"
    assert member["phone"] == "+919812345678"
    assert member["email"] == "Asha@example.org"
    assert member["platforms"][1] == {"platform": "x", "handle": "@asha"}
    assert {c["source"] for c in member["consents"]} == {"registration"}
    assert member["consents"][0]["at"] == member["joined_at"]
    got = await service.http.get(answer.headers["location"])
    assert got.json() == member
    assert got.headers["etag"] == '"1"'


async def test_what_is_not_given(service: Service) -> None:
    member = await service.register()
    assert (member["gender"], member["language"], member["status"]) == ("undisclosed", "hi", "active")
    assert member["email"] is None
    assert member["birth_year"] is None
    assert member["platforms"] == member["roles"] == member["consents"] == []
    assert member["version"] == 1


async def test_one_event_without_personal_data(service: Service) -> None:
    inviter = await service.register()
    answer = await service.post(FULL | {"inviter_id": inviter["id"].upper()}, x_request_id=REQUEST_ID)
    member = answer.json()
    _, joined = sorted(await service.events(2), key=lambda e: e.data.subject)
    assert isinstance(joined.data, MemberJoined)
    assert joined.data.model_dump(mode="json") == {
        "member_id": member["id"],
        "unit": UNIT,
        "gender": "female",
        "language": "bho",
        "platforms": ["whatsapp", "x"],
        "roles": [],
        "joined_at": member["joined_at"],
        "inviter_id": inviter["id"],
        "channels": ["whatsapp", "email"],
        "origin": "registration",
        "announced": True,
        "adult": True,
        "own_number": True,
        "group_consent": False,
    }
    assert (joined.sequence, joined.correlation_id) == (1, REQUEST_ID)
    text = joined.data.model_dump_json()
    assert not any(secret in text for secret in ("Asha", "देवी", "98123", "example", "asha"))


async def test_a_consent_for_email_counts_without_an_address_which_may_come_later(service: Service) -> None:
    consents = [{"purpose": "welcome", "channel": "email", "notice": "1", "language": "hi"}]
    await service.register(consents=consents)
    [joined] = await service.events(1)
    assert isinstance(joined.data, MemberJoined)
    assert joined.data.channels == ("email",)


async def test_two_idempotency_keys_are_none(service: Service) -> None:
    headers = [*service.app.auth("members:write").items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await service.http.post("/v1/members", json=a_person(), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["detail"] == "is sent more than once"


async def test_contacts_are_sealed_at_rest(service: Service) -> None:
    answer = await service.post(FULL, idempotency_key="k")
    raw = repr(await service.stored(answer.json()["id"]))
    raw += repr(await service.db["idempotency"].find_one({}))
    raw += repr([row async for row in service.db["outbox"].find({})])
    assert "देवी" in raw  # the name is searchable, so it is in the clear
    assert not any(secret in raw for secret in ("9812345678", "xample", "@asha"))
    # The same number sealed twice looks different; only the keyed index is equal.
    assert (await service.http.delete(answer.headers["location"])).status_code == 204
    again = (await service.post(FULL)).json()
    first, second = await service.stored(answer.json()["id"]), await service.stored(again["id"])
    assert first["contact"] != second["contact"]
    assert first["phone_index"] == second["phone_index"]


async def test_a_phone_belongs_to_one_active_member(service: Service) -> None:
    member = await service.register(phone="98123 45678")
    answer = await service.post(a_person(phone="+91-98123-45678"))
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:sangathan:problem:phone-already-registered"
    assert problem["member_id"] == member["id"]
    assert "98123" not in answer.text
    assert await service.db["members"].count_documents({}) == 1


@pytest.mark.parametrize("scopes", ["members:write", "members:*"])
async def test_the_holder_of_a_phone_is_named_only_to_those_who_may_see_them(
    service: Service, scopes: str
) -> None:
    member = await service.register()
    elsewhere = "BR-GAYA" if scopes == "members:*" else "BR"
    answer = await service.http.post(
        "/v1/members",
        json=a_person(phone=member["phone"], unit="BR-GAYA-X"),
        headers=service.app.auth(scopes, elsewhere),
    )
    assert answer.status_code == 409
    assert member["id"] not in answer.text


async def test_of_many_at_once_with_one_phone_one_wins(service: Service) -> None:
    people = [a_person(phone=f"+91981234567{n % 5}") for n in range(100)]
    answers = await asyncio.gather(*(service.post(person) for person in people))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 5 + [409] * 95
    assert await service.db["members"].count_documents({}) == 5
    assert len(await service.events(5)) == 5


async def test_the_same_key_and_body_is_answered_as_before(service: Service) -> None:
    body = a_person(email="a@example.org")
    first = await service.post(body, idempotency_key="abc")
    etag = first.headers["etag"]
    await service.http.patch(first.headers["location"], json={"name": "Other"}, headers={"if-match": etag})
    again = await service.post(body, idempotency_key="abc")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == etag
    assert again.headers["idempotent-replayed"] == "true"
    assert await service.db["members"].count_documents({}) == 1


async def test_the_same_key_with_another_body_is_refused(service: Service) -> None:
    await service.post(a_person(), idempotency_key="abc")
    answer = await service.post(a_person(), idempotency_key="abc")
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:sangathan:problem:idempotency-key-reused"
    assert await service.db["members"].count_documents({}) == 1


async def test_a_key_is_its_callers_own(service: Service) -> None:
    body = a_person()
    await service.post(body, idempotency_key="abc")
    other = service.app.auth("members:*", "*", sub="another") | {"idempotency-key": "abc"}
    assert (await service.http.post("/v1/members", json=body, headers=other)).status_code == 409


async def test_one_key_many_times_at_once(service: Service) -> None:
    body = a_person()
    answers = await asyncio.gather(*(service.post(body, idempotency_key="abc") for _ in range(50)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert await service.db["members"].count_documents({}) == 1
    assert await service.db["idempotency"].count_documents({}) == 1


async def test_a_refused_request_may_be_corrected_under_its_key(service: Service) -> None:
    member = await service.register()
    body = a_person(phone=member["phone"])
    assert (await service.post(body, idempotency_key="abc")).status_code == 409
    await service.http.delete(f"/v1/members/{member['id']}")
    assert (await service.post(body, idempotency_key="abc")).status_code == 201


async def test_what_was_answered_is_answered_again_though_it_would_be_refused_today(service: Service) -> None:
    inviter = await service.register()
    body = a_person(inviter_id=inviter["id"])
    first = await service.post(body, idempotency_key="abc")
    await service.db["members"].delete_one({"_id": inviter["id"]})
    again = await service.post(body, idempotency_key="abc")
    assert (again.status_code, again.content) == (201, first.content)


async def test_an_inviter_must_be_a_member(service: Service) -> None:
    answer = await service.post(a_person(inviter_id=new_id()))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/inviter_id"
    assert await service.nothing_written()


@pytest.mark.parametrize("unit", ["BR-GAYA", "BR", "BR-SARANX"])
async def test_a_unit_outside_the_subtree_is_not_found(service: Service, unit: str) -> None:
    headers = service.app.auth("members:write", "BR-SARAN")
    answer = await service.http.post("/v1/members", json=a_person(unit=unit), headers=headers)
    assert answer.status_code == 404
    assert await service.nothing_written()
    inside = await service.http.post("/v1/members", json=a_person(), headers=headers)
    assert inside.status_code == 201


async def test_who_may_register(service: Service) -> None:
    for headers, status in (
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer x"}, 401),
        (service.app.auth("members:read"), 403),
        (service.app.auth("members:write", None), 404),
        (service.app.auth("members:write"), 201),
    ):
        answer = await service.http.post("/v1/members", json=a_person(), headers=headers)
        assert answer.status_code == status


async def test_registrations_are_counted_by_outcome(own_service: Service) -> None:
    member = await own_service.register()
    await own_service.post(a_person(phone=member["phone"]))
    metrics = (await own_service.http.get("/metrics")).text
    assert 'sangathan_members_registrations_total{outcome="registered"} 1.0' in metrics
    assert 'sangathan_members_registrations_total{outcome="phone_taken"} 1.0' in metrics
