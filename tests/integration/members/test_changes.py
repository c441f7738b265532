"""PATCH, move and leave: versions, events, and who may."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx2
import pytest

from services.shared.contracts.members import MemberLeft, MemberMoved, MemberUpdated
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, a_person

ELSEWHERE = "BR-SARAN-AMNOUR-7"


async def patch(service: Service, member_id: str, version: int, body: object) -> httpx2.Response:
    headers = {"if-match": f'"{version}"'}
    return await service.http.patch(f"/v1/members/{member_id}", json=body, headers=headers)


async def test_patch_changes_what_it_names(service: Service) -> None:
    member = await service.register(email="a@example.org", birth_year=1990, gender="female")
    answer = await patch(service, member["id"], 1, {"name": "Asha Kumari", "birth_year": 1991, "email": None})
    changed = answer.json()
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert datetime.fromisoformat(changed["updated_at"]) >= datetime.fromisoformat(member["updated_at"])
    same = {"name": "Asha Kumari", "birth_year": 1991, "email": None, "version": 2}
    assert changed == member | same | {"updated_at": changed["updated_at"]}
    assert (await service.http.get(f"/v1/members/{member['id']}")).json() == changed
    assert (await service.stored(member["id"]))["words"] == ["asha", "kumari"]


async def test_null_removes_what_is_optional(service: Service) -> None:
    handles = [{"platform": "x", "handle": "a"}]
    member = await service.register(birth_year=1990, gender="female", language="mai", platforms=handles)
    body = {"birth_year": None, "gender": None, "language": None, "platforms": None}
    changed = (await patch(service, member["id"], 1, body)).json()
    assert (changed["birth_year"], changed["platforms"]) == (None, [])
    assert (changed["gender"], changed["language"]) == ("undisclosed", "hi")
    assert "birth_year" not in await service.stored(member["id"])


@pytest.mark.parametrize(
    ("body", "contact_changed"),
    [
        ({"name": "B"}, True),
        ({"phone": "+919999900000"}, True),
        ({"email": "b@example.org"}, True),
        ({"gender": "other"}, False),
        ({"platforms": [{"platform": "x", "handle": "b"}]}, False),
    ],
)
async def test_the_event_tells_whether_a_cached_contact_is_stale(
    service: Service, body: dict[str, Any], contact_changed: bool
) -> None:
    member = await service.register()
    assert (await patch(service, member["id"], 1, body)).status_code == 200
    _, updated = await service.events(2)
    assert isinstance(updated.data, MemberUpdated)
    assert updated.sequence == 2
    assert updated.data.contact_changed is contact_changed
    assert updated.data.platforms == tuple(each["platform"] for each in body.get("platforms", []))
    assert updated.data.gender == body.get("gender", "undisclosed")


async def test_a_patch_that_changes_nothing_is_no_change(service: Service) -> None:
    member = await service.register()
    for body in ({}, {"name": "Asha  Devi"}, {"gender": None}, {"email": None}):
        answer = await patch(service, member["id"], 1, body)
        assert answer.status_code == 200, body
        assert answer.json() == member, body
    await patch(service, member["id"], 1, {"language": "en"})
    assert [event.sequence for event in await service.events(2)] == [1, 2]


async def test_if_match_is_required_and_checked(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}"
    assert (await service.http.patch(path, json={"name": "B"})).status_code == 428
    assert (await patch(service, member["id"], 2, {"name": "B"})).status_code == 412
    answers = await asyncio.gather(*(patch(service, member["id"], 1, {"name": f"B{n}"}) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    assert (await service.stored(member["id"]))["version"] == 2


IMPATCHABLE = [
    {"unit": ELSEWHERE},
    {"status": "left"},
    {"consents": []},
    {"inviter_id": None},
    {"name": None},
    {"phone": None},
    {"phone": "123"},
    {"birth_year": 2090},
    [],
]


async def test_what_cannot_be_patched(service: Service) -> None:
    member = await service.register()
    for body in IMPATCHABLE:
        assert (await patch(service, member["id"], 1, body)).status_code == 422, body
    assert (await service.stored(member["id"]))["version"] == 1


async def test_a_phone_cannot_be_taken_over(service: Service) -> None:
    holder, member = await service.register(), await service.register()
    answer = await patch(service, member["id"], 1, {"phone": holder["phone"]})
    assert answer.status_code == 409
    assert answer.json()["member_id"] == holder["id"]
    assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member


async def test_a_changed_phone_is_free_for_others(service: Service) -> None:
    member = await service.register()
    assert (await patch(service, member["id"], 1, {"phone": "+919999900000"})).status_code == 200
    await service.register(phone=member["phone"])
    assert (await service.post(a_person(phone="99999 00000"))).status_code == 409


async def test_move(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}/move"
    answer = await service.http.post(path, json={"unit": ELSEWHERE})
    assert answer.status_code == 200
    assert (answer.json()["unit"], answer.headers["etag"]) == (ELSEWHERE, '"2"')
    again = await service.http.post(path, json={"unit": ELSEWHERE})
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    stale = await service.http.post(path, json={"unit": UNIT}, headers={"if-match": '"1"'})
    assert stale.status_code == 412
    back = await service.http.post(path, json={"unit": UNIT}, headers={"if-match": '"2"'})
    assert back.headers["etag"] == '"3"'
    _, there, here = await service.events(3)
    assert there.data == MemberMoved(member_id=member["id"], from_unit=UNIT, unit=ELSEWHERE)
    assert here.data == MemberMoved(member_id=member["id"], from_unit=ELSEWHERE, unit=UNIT)
    assert (there.sequence, here.sequence) == (2, 3)


async def test_many_moves_at_once_lose_none(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}/move"
    units = [f"BR-SARAN-AMNOUR-{n}" for n in range(4)]
    answers = await asyncio.gather(*(service.http.post(path, json={"unit": unit}) for unit in units))
    assert [answer.status_code for answer in answers] == [200] * 4
    events = await service.events(5)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    moves = [event.data for event in events if isinstance(event.data, MemberMoved)]
    assert [move.from_unit for move in moves[1:]] == [move.unit for move in moves[:-1]]


async def test_both_units_of_a_move_must_be_the_callers(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}/move"
    for root, unit in (("BR-SARAN-MARHAURA", ELSEWHERE), ("BR-SARAN-AMNOUR", ELSEWHERE)):
        headers = service.app.auth("members:*", root)
        answer = await service.http.post(path, json={"unit": unit}, headers=headers)
        assert answer.status_code == 404
    assert (await service.stored(member["id"]))["unit"] == UNIT


async def test_leaving(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}"
    assert [(await service.http.delete(path)).status_code for _ in range(2)] == [204, 204]
    left = (await service.http.get(path)).json()
    assert (left["status"], left["version"], left["phone"]) == ("left", 2, member["phone"])
    _, event = await service.events(2)
    assert (event.data, event.sequence) == (MemberLeft(member_id=member["id"], unit=UNIT), 2)
    again = await service.register(phone=member["phone"])
    assert again["id"] != member["id"]
    assert (await patch(service, member["id"], 2, {"name": "B"})).status_code == 409
    moved = await service.http.post(f"{path}/move", json={"unit": ELSEWHERE})
    assert moved.status_code == 409


async def test_who_may_change(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id']}"
    for headers, status in (
        (service.app.auth("members:read"), 403),
        (service.app.auth("members:read members:write", "BR-GAYA"), 404),
    ):
        based = headers | {"if-match": '"1"'}
        answers = [
            await service.http.patch(path, json={"name": "B"}, headers=based),
            await service.http.post(f"{path}/move", json={"unit": "BR-GAYA"}, headers=headers),
            await service.http.delete(path, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [status] * 3
    assert (await service.http.delete(f"/v1/members/{new_id()}")).status_code == 404
    assert (await service.stored(member["id"]))["version"] == 1


async def test_leaving_and_moving_honour_the_version_that_is_sent(service: Service) -> None:
    member = await service.register()
    path = f"/v1/members/{member['id'].upper()}"
    for tag, status in (('"99"', 412), ('W/"1"', 412), ("99", 400), ("*", 428)):
        left = await service.http.delete(path, headers={"if-match": tag})
        moved = await service.http.post(f"{path}/move", json={"unit": ELSEWHERE}, headers={"if-match": tag})
        assert (left.status_code, moved.status_code) == (status, status)
    assert (await service.http.delete(path, headers={"if-none-match": '"1"'})).status_code == 422
    assert (await service.stored(member["id"]))["version"] == 1
    assert (await service.http.delete(path, headers={"if-match": '"1"'})).status_code == 204
