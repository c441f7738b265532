"""Imports on a real MongoDB and a real broker: plan, application, refused rows, rights, hostile files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.shared.contracts.members import MemberJoined
from services.shared.database import Document
from tests.integration.members.conftest import UNIT, Service

NOBODY = "01a20901-0000-7000-8000-000000000001"
CSV = {"content-type": "text/csv"}
IMPORTER = "members:write members:read contacts:read"


def a_phone() -> str:
    return f"98{secrets.randbelow(10**8):08d}"


async def send(service: Service, content: bytes | str, *, query: str = "", **headers: str) -> Any:
    body = content if isinstance(content, bytes) else content.encode()
    path = f"/v1/imports?unit={UNIT}{query}"
    return await service.http.post(path, content=body, headers=CSV | headers)


async def planned(service: Service, content: bytes | str, **how: Any) -> Document:
    """The import of the file once its plan is made."""
    answer = await send(service, content, **how)
    assert answer.status_code == 202, answer.text
    return await reaching(service, answer.json()["id"], "planned")


async def applied(service: Service, import_id: str) -> Document:
    answer = await service.http.post(f"/v1/imports/{import_id}/apply")
    assert answer.status_code == 202, answer.text
    return await reaching(service, import_id, "applied")


async def reaching(service: Service, import_id: str, state: str) -> Document:
    found: Document = {}

    async def reached() -> bool:
        nonlocal found
        found = (await service.http.get(f"/v1/imports/{import_id}")).json()
        assert found["state"] != "failed", found
        return bool(found["state"] == state)

    await service.app.until(reached, 20)
    return found


async def refused(service: Service, import_id: str) -> list[dict[str, str]]:
    answer = await service.http.get(f"/v1/imports/{import_id}/errors")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def outcomes(found: Document) -> dict[str, int]:
    words = ("new", "changed", "unchanged", "duplicate", "refused")
    return {word: found["plan"][word] for word in words if found["plan"][word]}


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
    assert len(await service.app.published("sangathan.members", 3, seconds=2)) == 2


async def test_two_imports_of_one_file_at_once_make_each_member_once(service: Service) -> None:
    content = "name,phone\n" + "".join(f"Asha {n},{a_phone()}\n" for n in range(1500))
    one, other = await asyncio.gather(planned(service, content), planned(service, content))
    done = await asyncio.gather(applied(service, one["id"]), applied(service, other["id"]))
    created = [each["applied"]["created"] for each in done]
    aside = [each["applied"]["set_aside"] for each in done]
    assert (sum(created), sum(aside)) == (1500, 1500)
    assert await service.db["members"].count_documents({"status": "active"}) == 1500
    events = await service.app.published("sangathan.members", 1501, seconds=4)
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


async def test_a_caller_imports_into_their_own_units_alone(service: Service) -> None:
    elsewhere = await service.register(name="Elsewhere", unit="BR-GAYA")
    own = await service.register(name="Own", unit="BR-SARAN")
    saran = service.app.auth(IMPORTER, "BR-SARAN")
    rows = [
        f"A,{a_phone()},BR-SARAN-MANJHI",
        f"B,{a_phone()},BR-GAYA",
        f"C,{elsewhere['phone']},BR-SARAN",
        f"Own,{own['phone']},BR-GAYA",
        f"D,{a_phone()},BR-SARANX",
    ]
    content = "name,phone,unit\n" + "\n".join(rows)
    assert (await send(service, content, **service.app.auth(IMPORTER, "BR-GAYA"))).status_code == 404
    assert (await send(service, content, **service.app.auth(IMPORTER, None))).status_code == 404
    plan = await planned(service, content, **saran)
    assert plan["plan"]["reasons"] == {"unit_outside": 3, "phone_taken": 1}
    assert set(plan["plan"]["by_district"]) == {"BR-SARAN", "none"}
    for path in ("", "/rows", "/errors"):
        answer = await service.http.get(
            f"/v1/imports/{plan['id']}{path}",
            headers=service.app.auth(IMPORTER, "BR-GAYA"),
        )
        assert answer.status_code == 404
    gaya = service.app.auth(IMPORTER, "BR-GAYA")
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=gaya)).status_code == 404
    assert (await service.http.get("/v1/imports", headers=gaya)).json()["items"] == []
    [listed] = (await service.http.get("/v1/imports", headers=saran)).json()["items"]
    assert listed["id"] == plan["id"]
    for scopes in ("members:write members:read", "members:read contacts:read"):
        lesser = service.app.auth(scopes, "BR-SARAN")
        assert (await send(service, content, **lesser)).status_code == 403
        assert (await service.http.get(f"/v1/imports/{plan['id']}/errors", headers=lesser)).status_code == 403


async def test_a_job_checks_the_rights_of_who_applies(service: Service) -> None:
    plan = await planned(service, f"name,phone,unit\nA,{a_phone()},BR-GAYA\nB,{a_phone()},BR-SARAN\n")
    await service.db["imports"].update_one({"_id": plan["id"]}, {"$set": {"unit": "BR-SARAN"}})
    saran = service.app.auth(IMPORTER, "BR-SARAN")
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=saran)).status_code == 202
    done = await reaching(service, plan["id"], "applied")
    assert done["applied"] == {"created": 1, "updated": 0, "set_aside": 1}


@pytest.fixture
async def notice(service: Service) -> None:
    """The notice that `CONSENTS` names, registered."""
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
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply")).status_code == 403
    await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=allowed)
    await reaching(service, plan["id"], "applied")
    rows = {row["name"]: row async for row in service.db["members"].find()}
    assert [len(rows[name]["consents"]) for name in "ABC"] == [2, 0, 2]
    assert rows["A"]["consents"][0]["source"] == f"import:{plan['id']}"


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


async def test_refused_rows_can_be_mended_and_sent_again(service: Service) -> None:
    mended, phone = a_phone(), a_phone()
    content = f'"Name";"Mob. No.";"Note"\n"=1+1";{phone};"@x"\n"Asha";"9,8E+09";"-"\nRam;"+91 {mended}";ok\n'
    plan = await planned(service, content)
    assert plan["plan"]["reasons"] == {"formula": 1, "spreadsheet_number": 1}
    answer = await service.http.get(f"/v1/imports/{plan['id']}/errors")
    assert "'=1+1" in answer.text
    text = answer.text.replace("'=1+1", "Sita").replace('"9,8E+09"', a_phone())
    again = await planned(service, text)
    assert outcomes(again) == {"new": 2}
    assert again["columns"] == ["name", "phone", None, None, None]


async def test_nothing_of_a_file_lies_in_the_clear(service: Service) -> None:
    phone = a_phone()
    content = f"Zubeida Khatun,{phone}\nname,phone\n" + f"Zubeida Bano,{phone}\nZubeida Bano,bad\n"
    mapping = json.dumps({"Zubeida Khatun": "name", phone: "phone"})
    plan = await planned(service, content, query=f"&mapping={mapping}")
    assert outcomes(plan) == {"new": 1, "refused": 2}
    for name in await service.db.list_collection_names():
        async for row in service.db[name].find():
            assert "Zubeida" not in str(row), name
            assert phone not in str(row), name
    raw = await service.db["job_inputs.chunks"].find().to_list(None)
    assert not any(b"Zubeida" in row["data"] for row in raw)


async def test_an_import_that_is_cut_off_leaves_nothing(service: Service) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"name,phone\n" + b"Asha,9876543210\n" * 30_000
        raise ConnectionError

    answer = await service.http.post(f"/v1/imports?unit={UNIT}", content=cut(), headers=CSV)
    assert answer.status_code == 500
    names = ("imports", "jobs", "job_inputs.files", "job_inputs.chunks")
    assert [await service.db[name].count_documents({}) for name in names] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty-file"),
        (b"PK\x03\x04" + b"\x00" * 1000, "not-text"),
        (",".join(map(str, range(5000))), "too-many-columns"),
        ("name,phone,caste\nA,1,B\n", "forbidden-column"),
        ("name,email\nA,a@b.in\n", "no-phone-column"),
        ("name,phone,mobile\nA,1,2\n", "column-twice"),
        ("uke,phone\nx,1\n", None),
        ("name,phone\njke dqekj,1\nlquhrk nsoh,2\n", "legacy-font"),
    ],
)
async def test_a_file_that_cannot_be_imported_is_refused_at_once(empty: Service, content, reason) -> None:
    answer = await send(empty, content)
    if reason is None:
        assert answer.status_code == 202
        return
    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:sangathan:problem:import-{reason}"
    assert (await send(empty, content, **{"content-type": "text/plain"})).status_code == 415


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


async def test_the_service_answers_while_it_reads_the_worst_of_files(service: Service) -> None:
    worst = b'name,phone\n"' + b"x" * 10_000_000 + b"\n" + b'"\n' * 20_000 + b"bad,bad\n" * 20_000
    answer = await send(service, worst)
    id_, slowest = answer.json()["id"], 0.0
    loop = asyncio.get_running_loop()
    state = "planning"
    while state == "planning":
        began = loop.time()
        assert (await service.http.get("/livez")).status_code == 200
        slowest = max(slowest, loop.time() - began)
        state = (await service.http.get(f"/v1/imports/{id_}")).json()["state"]
        await asyncio.sleep(0.005)
    assert slowest < 0.25
    plan = await reaching(service, id_, "planned")
    assert outcomes(plan)["refused"] > 20_000
    assert sum(plan["plan"]["reasons"].values()) == plan["plan"]["refused"]
    assert len(await refused(service, id_)) == plan["plan"]["refused"]


async def test_no_list_of_numbers_can_be_tried_against_other_units(service: Service) -> None:
    others = [await service.register(unit="BR-GAYA") for _ in range(5)]
    saran = service.app.auth(IMPORTER, "BR-SARAN", sub="curious")
    few = "name,phone\n" + "".join(f"A,{other['phone']}\n" for other in others)
    plan = await planned(service, few, **saran)
    assert plan["plan"]["reasons"] == {"phone_taken": 5}
    read = await service.db["contact_reads"].find_one({"subject": "curious"})
    assert read is not None
    assert (sorted(read["ids"]), read["via"]) == (sorted(other["id"] for other in others), "phone_of_import")

    more = await asyncio.gather(*(service.register(unit="BR-GAYA") for _ in range(100)))
    many = "name,phone\n" + "".join(f"A,{other['phone']}\n" for other in more)
    sent = (await send(service, many, **saran)).json()
    found: Document = sent

    async def ended() -> bool:
        nonlocal found
        found = (await service.http.get(f"/v1/imports/{sent['id']}")).json()
        return bool(found["state"] != "planning")

    await service.app.until(ended)
    assert (found["state"], found["reason"]) == ("failed", "too-many-taken-phones")
    assert outcomes(found) == {}


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


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_what_an_export_writes_is_imported_unchanged(service: Service, kind: str) -> None:
    for name in (
        "=HYPERLINK(1)",
        "-Asha",
        "+Ram",
        "@devi",
        "'=Om",
        "''|x",
        "=a\\|b",
        "राम, कुमार",
        'Sita "Didi"',
        "O'Brien",
    ):
        handles = [{"platform": "x", "handle": "@asha"}, {"platform": "telegram", "handle": "-1"}]
        await service.register(
            name=name, platforms=handles, email="=a@example.org", birth_year=1990, gender="female"
        )
    await service.register(name="Ram")
    answer = await service.http.get(f"/v1/members/export?format={kind}", headers=service.app.auth(IMPORTER))
    kinds = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
    plan = await planned(service, answer.content, **{"content-type": kinds[kind]})
    assert outcomes(plan) == {"unchanged": 11}, plan["plan"]


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
