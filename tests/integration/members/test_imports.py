"""Imports on a real MongoDB and a real broker: the plan, and that it is what is applied."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.importing import (
    a_phone,
    applied,
    outcomes,
    planned,
    reaching,
    refused,
    send,
)

NOBODY = "01a20901-0000-7000-8000-000000000001"


async def test_the_plan_shows_what_is_then_applied(service: Service) -> None:
    known = await service.register(name="Sunita Devi", gender="female")
    same = await service.register(name="Ram Kumar")
    rows = [
        "नाम,मोबाइल नं.,लिंग,Remarks,Unit Code",
        f"Asha Devi,{a_phone()},महिला,x,",
        f"Sunita Kumari,{known['phone']},,,BR-SARAN-MANJHI",
        f"Ram Kumar,'{same['phone'].removeprefix('+91')},,,",
        f"Again,{known['phone']},,,",
        "Nobody,9.87654E+09,,,",
        f",{a_phone()},,,",
        f"Outside,{a_phone()},,,nowhere at all",
    ]
    plan = await planned(service, "\r\n".join(rows))
    assert outcomes(plan) == {"new": 1, "changed": 1, "unchanged": 1, "duplicate": 1, "refused": 3}
    assert plan["plan"]["fields"] == {"name": 1, "unit": 1}
    assert plan["plan"]["reasons"] == {"spreadsheet_number": 1, "no_name": 1, "unit": 1}
    assert plan["plan"]["by_district"]["BR-SARAN"]["new"] == 1
    assert plan["columns"] == ["name", "phone", "gender", None, "unit"]
    assert await service.db["members"].count_documents({}) == 2

    shown = (await service.http.get(f"/v1/imports/{plan['id']}/rows")).json()["items"]
    assert [(row["line"], row["outcome"]) for row in shown] == [(2, "new"), (3, "changed")]
    assert shown[1]["changes"] == [
        {"field": "name", "before": "Sunita Devi", "after": "Sunita Kumari"},
        {"field": "unit", "before": UNIT, "after": "BR-SARAN-MANJHI"},
    ]

    done = await applied(service, plan["id"])
    assert done["applied"] == {"created": 1, "updated": 1, "set_aside": 0}
    asha = (await service.http.get(f"/v1/members/{shown[0]['id']}")).json()
    assert (asha["name"], asha["gender"], asha["unit"], asha["origin"]) == (
        "Asha Devi",
        "female",
        UNIT,
        "import",
    )
    sunita = (await service.http.get(f"/v1/members/{known['id']}")).json()
    assert (sunita["name"], sunita["unit"], sunita["gender"], sunita["version"]) == (
        *("Sunita Kumari", "BR-SARAN-MANJHI", "female"),
        3,
    )
    assert (await service.stored(same["id"]))["version"] == 1
    events = await service.events(5)
    kinds = sorted((event.type, event.sequence) for event in events)
    assert kinds == [*[("member.joined", 1)] * 3, ("member.moved", 3), ("member.updated", 2)]
    lines = {row["line"]: row["error"] for row in await refused(service, plan["id"])}
    assert lines == {"5": "same_as_line_3", "6": "spreadsheet_number", "7": "no_name", "8": "unit"}


async def test_applying_again_and_the_same_file_again_change_nothing(service: Service) -> None:
    content = f"name,phone,birth_year\nAsha Devi,{a_phone()},1988\nRam,{a_phone()},\n"
    first = await planned(service, content)
    await asyncio.gather(*(service.http.post(f"/v1/imports/{first['id']}/apply") for _ in range(3)))
    assert (await reaching(service, first["id"], "applied"))["applied"]["created"] == 2
    again = await service.http.post(f"/v1/imports/{first['id']}/apply")
    assert (again.status_code, again.json()["state"]) == (202, "applied")
    assert outcomes(await planned(service, content)) == {"unchanged": 2}
    assert await service.db["members"].count_documents({}) == 2
    assert len(await service.log()) == 2


async def test_two_imports_of_one_file_at_once_make_each_member_once(service: Service) -> None:
    content = "name,phone\n" + "".join(f"Asha {n},{a_phone()}\n" for n in range(1500))
    one, other = await asyncio.gather(planned(service, content), planned(service, content))
    done = await asyncio.gather(applied(service, one["id"]), applied(service, other["id"]))
    created = [each["applied"]["created"] for each in done]
    aside = [each["applied"]["set_aside"] for each in done]
    assert (sum(created), sum(aside)) == (1500, 1500)
    assert await service.db["members"].count_documents({"status": "active"}) == 1500
    events = await service.log()
    assert len({event.subject for event in events}) == len(events) == 1500


async def test_what_people_did_between_plan_and_application_goes_before_the_file(service: Service) -> None:
    moved, left, stays = [await service.register(name=name) for name in ("Asha", "Ram", "Sita")]
    registered, gone, free = a_phone(), a_phone(), a_phone()
    rows = [f"New {m['name']},{m['phone']},a@b.in" for m in (moved, left, stays)]
    rows += [f"Mine,{registered},", f"Gone,{gone},", f"Free,{free},"]
    plan = await planned(service, "name,phone,email\n" + "\n".join(rows))
    assert outcomes(plan) == {"changed": 3, "new": 3}

    await service.http.post(f"/v1/members/{moved['id']}/move", json={"unit": "BR-SARAN"})
    await service.http.delete(f"/v1/members/{left['id']}")
    await service.register(name="Own name", phone=registered)
    withdrew = await service.register(name="Own name", phone=gone)
    await service.http.delete(f"/v1/members/{withdrew['id']}")

    done = await applied(service, plan["id"])
    assert done["applied"] == {"created": 1, "updated": 1, "set_aside": 4}
    assert (await service.stored(moved["id"]))["name"] == "Asha"
    assert (await service.stored(left["id"]))["status"] == "left"
    assert (await service.stored(stays["id"]))["name"] == "New Sita"
    assert await service.db["members"].count_documents({"name": {"$in": ["Mine", "Gone"]}}) == 0
    shown = await refused(service, plan["id"])
    assert {row["error"] for row in shown} == {"changed_meanwhile"}
    assert [(row["line"], row["email"]) for row in shown] == [
        *(("2", "a@b.in"), ("3", "a@b.in"), ("5", ""), ("6", ""))
    ]
    again = await planned(service, "name,phone,email\n" + "\n".join(rows))
    assert again["plan"]["reasons"] == {"has_left": 2}
    assert outcomes(again) == {"changed": 2, "unchanged": 2, "refused": 2}


async def test_an_id_keeps_the_person_when_the_number_changes(service: Service) -> None:
    asha, ram = await service.register(name="Asha", email="a@b.in"), await service.register(name="Ram")
    new = a_phone()
    rows = [f"{asha['id']},Asha,{new}", f"{ram['id']},Ram,{asha['phone']}", f"{NOBODY},X,{a_phone()}"]
    plan = await planned(service, "id,name,phone\n" + "\n".join(rows))
    assert plan["plan"]["reasons"] == {"phone_taken": 1, "unknown_id": 1}
    [shown] = (await service.http.get(f"/v1/imports/{plan['id']}/rows")).json()["items"]
    assert shown["changes"] == [{"field": "phone", "before": None, "after": None}]
    await applied(service, plan["id"])
    found = (await service.http.get(f"/v1/members/{asha['id']}")).json()
    assert (found["phone"], found["email"], found["version"]) == (f"+91{new}", "a@b.in", 2)


async def test_pause_resume_and_cancel(service: Service) -> None:
    content = "name,phone\n" + "".join(f"Asha {n},{a_phone()}\n" for n in range(3000))
    plan = await planned(service, content)
    answer = await service.http.post(f"/v1/imports/{plan['id']}/apply")
    job = answer.headers["location"]
    assert (await service.http.post(f"{job}/cancel")).status_code == 200
    stopped = await reaching(service, plan["id"], "cancelled")
    so_far = await service.db["members"].count_documents({})
    assert stopped["applied"]["created"] == so_far < 3000
    done = await applied(service, plan["id"])
    assert done["applied"] == {"created": 3000, "updated": 0, "set_aside": 0}
    assert await service.db["members"].count_documents({}) == 3000
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply")).json()["state"] == "applied"


async def test_a_repeated_upload_with_a_key_is_one_import(service: Service) -> None:
    people = f"name,phone\nAsha Devi,{a_phone()}\n"
    key = {"Idempotency-Key": "roll-of-saran"}
    answers = await asyncio.gather(*[send(service, people, **key) for _ in range(3)])
    answers.append(await send(service, people, **key))
    assert {answer.status_code for answer in answers} == {202}
    [made] = {answer.json()["id"] for answer in answers}
    assert {answer.headers["location"] for answer in answers} == {f"/v1/imports/{made}"}
    other = await send(service, people + f"Ram,{a_phone()}\n", **key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:sangathan:problem:idempotency-key-reused")
    assert await service.db["imports"].count_documents({}) == 1
    await reaching(service, made, "planned")


async def test_rows_about_who_was_merged_are_refused_or_set_aside(service: Service) -> None:
    """An old list has the old number: it must not bring the second record back."""
    one, two, late = [await service.register(name=name) for name in ("Asha", "Asha D", "Aasha")]

    async def merge(other: Any) -> None:
        answer = await service.http.post(f"/v1/members/{one['id']}/merge", json={"other": other["id"]})
        assert answer.status_code == 200, answer.text

    await merge(two)
    free = a_phone()
    rows = [f",New,{two['phone']}", f"{two['id']},New,{a_phone()}", f"{late['id']},New,", f",Free,{free}"]
    plan = await planned(service, "id,name,phone\n" + "\n".join(rows))
    assert plan["plan"]["reasons"] == {"merged": 2}
    await merge(late)
    freed = await service.register(name="Free", phone=free)
    await merge(freed)
    done = await applied(service, plan["id"])
    assert done["applied"] == {"created": 0, "updated": 0, "set_aside": 2}
    assert await service.db["members"].count_documents({"status": "active"}) == 1
